"""Muon: momentum whose matrix updates are made orthogonal by a Newton-Schulz iteration; equal shapes go together."""
import torch


def orthogonal(g, rounds=5):
    """g [n, rows, cols] -> nearly orthogonal matrices (singular values near 1)."""
    flip = g.shape[1] > g.shape[2]
    x = (g.transpose(1, 2) if flip else g)
    x = x.bfloat16() if x.is_cuda else x.float()        # CPUs are slow with the former
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(rounds):
        s = x @ x.transpose(1, 2)
        x = torch.baddbmm(x, torch.baddbmm(s, s, s, beta=-4.7750, alpha=2.0315), x, beta=3.4445)
    return x.transpose(1, 2) if flip else x


class Muon(torch.optim.Optimizer):
    """lr may be a tensor, so that a recorded step follows it. Weights decay by lr * weight_decay per step."""

    def __init__(self, params, lr=0.02, momentum=0.95, weight_decay=0.0):
        by_shape = {}
        for p in params:
            by_shape.setdefault(tuple(p.shape), []).append(p)
        super().__init__([{"params": ps} for ps in by_shape.values()],
                         {"lr": lr, "peak": float(lr), "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            ps = group["params"]
            grads = torch.stack([p.grad for p in ps])
            state = self.state[ps[0]]
            if not state:
                state["average"] = torch.zeros_like(grads)
            average = state["average"].lerp_(grads, 1 - group["momentum"])
            update = orthogonal(grads.lerp(average, group["momentum"])).float()
            update = update * max(1.0, ps[0].shape[0] / ps[0].shape[1]) ** 0.5
            update = (update + group["weight_decay"] * torch.stack(ps)) * -group["lr"]
            torch._foreach_add_(ps, list(update.unbind(0)))

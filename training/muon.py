"""Muon: momentum whose matrix updates are made orthogonal by a Newton-Schulz iteration; equal shapes go together."""
import torch


def orthogonal(g, rounds=5):
    """g [n, rows, cols] -> nearly orthogonal matrices (singular values near 1)."""
    flip = g.shape[1] > g.shape[2]
    x = (g.transpose(1, 2) if flip else g).bfloat16()
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(rounds):
        s = x @ x.transpose(1, 2)
        x = 3.4445 * x + (-4.7750 * s + 2.0315 * s @ s) @ x
    return x.transpose(1, 2) if flip else x


class Muon(torch.optim.Optimizer):
    def __init__(self, params, lr=0.02, momentum=0.95, weight_decay=0.0):
        by_shape = {}
        for p in params:
            by_shape.setdefault(tuple(p.shape), []).append(p)
        super().__init__([{"params": ps} for ps in by_shape.values()],
                         {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            ps = group["params"]
            grads = torch.stack([p.grad for p in ps])
            state = self.state[ps[0]]
            if not state:
                state["average"] = torch.zeros_like(grads)
            average = state["average"].lerp_(grads, 1 - group["momentum"])
            update = orthogonal(grads.lerp(average, group["momentum"]))
            scale = group["lr"] * max(1.0, ps[0].shape[0] / ps[0].shape[1]) ** 0.5
            for p, u in zip(ps, update):
                p.mul_(1 - group["lr"] * group["weight_decay"]).add_(u.type_as(p), alpha=-scale)

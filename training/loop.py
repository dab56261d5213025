"""What the trainings share: recording of functions, the clock, optimisers, checkpoints, the log."""
import os
import time

import torch


class Part(torch.nn.Module):
    """A function of some modules, in mixed precision; on the GPU it is recorded once and replayed."""

    def __init__(self, function, *modules):
        super().__init__()
        self.function, self.modules_ = function, torch.nn.ModuleList(modules)

    def forward(self, *x):
        with torch.autocast(x[0].device.type, torch.bfloat16, enabled=x[0].is_cuda, cache_enabled=False):
            return self.function(*x)


def record(group, parts, inputs):
    """The parts, recorded for inputs of these shapes where there is a GPU."""
    return torch.cuda.make_graphed_callables(tuple(parts), tuple(inputs)) if group.on_gpu else tuple(parts)


def replayed(group, function):
    """`function`, which takes nothing and works on tensors that stay where they are, as one launch where there is a
    GPU. It runs a few times before it is recorded; what cannot be recorded runs as it is."""
    if not group.on_gpu:
        return function
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            function()
    torch.cuda.current_stream().wait_stream(stream)
    try:
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            function()
        return graph.replay
    except RuntimeError as e:
        print("warning: %s is not recorded: %s" % (function.__name__, str(e)[:500]), flush=True)
        torch.cuda.synchronize()
        return function


def fuse(holder, name, **options):
    """Compile the function `name` of a class or module; where that fails it stays as it is."""
    plain = getattr(holder, name)
    compiled = torch.compile(plain, **options)

    def function(*x):
        try:
            return compiled(*x)
        except Exception as e:                      # whatever the compiler may throw: training goes on without it
            print("warning: %s is not compiled: %s" % (name, str(e)[:500]), flush=True)
            setattr(holder, name, staticmethod(plain) if isinstance(holder, type) else plain)
            return plain(*x)

    torch._dynamo.config.recompile_limit = 64
    setattr(holder, name, staticmethod(function) if isinstance(holder, type) else function)


class Clock:
    """Steps until the minutes are over (or the steps done); the learning rate rises for `rise` steps and falls over
    the last `fall` of the time to a hundredth."""

    def __init__(self, group, minutes, steps, fall=0.8, rise=200):
        self.group, self.seconds, self.steps, self.fall, self.rise = group, max(1, minutes * 60), steps, fall, rise
        self.start, self.part, self.step, self.saved = time.time(), 0.0, 0, time.time()

    def running(self):
        if self.step % 10 == 0:
            if self.group.on_gpu:                   # or the clock would run before what it measures
                torch.cuda.synchronize()
            self.part = self.group.agree((time.time() - self.start) / self.seconds)
        self.step += 1
        return self.part < 1 and self.step <= self.steps

    def set_rate(self, *optimizers):
        share = min(1, self.step / self.rise) * max(0.01, min(1, (1 - self.part) / self.fall))
        for optimizer in optimizers:
            for settings in optimizer.param_groups:
                if torch.is_tensor(settings["lr"]):
                    settings["lr"].fill_(settings["peak"] * share)
                else:
                    settings["lr"] = settings["peak"] * share

    def time_to_save(self, seconds=45):
        """Whether the first process should write a checkpoint now."""
        if self.group.rank or time.time() - self.saved < seconds:
            return False
        self.saved = time.time()
        return True


def save(state, path):
    """Write a checkpoint so that the file is whole at any time."""
    torch.save(state, str(path) + ".part")
    os.replace(str(path) + ".part", path)


def adamw(group, parameters, lr, betas=(0.8, 0.99), decay=0.01, recorded=False):
    """recorded: its step will be part of a recorded function."""
    options = {"fused": True} if group.on_gpu else {}
    if group.on_gpu and recorded:
        options["capturable"] = True
    first = torch.tensor(lr, device=group.device) if options.get("capturable") else lr
    return torch.optim.AdamW([{"params": list(parameters), "peak": lr}], first, betas=betas, weight_decay=decay,
                             **options)


def forget(optimizer):
    """Its moments and counts, in place."""
    for state in optimizer.state.values():
        for value in state.values():
            if torch.is_tensor(value):
                value.zero_()


class Gradients:
    """Gradients of some parameters at places that stay, for functions that are recorded apart."""

    def __init__(self, parameters):
        self.parameters = list(parameters)
        for p in self.parameters:
            p.grad = torch.zeros_like(p)

    def take(self, outputs, weights=None, **options):
        """d outputs / d parameters."""
        new = torch.autograd.grad(outputs, self.parameters, weights, **options)
        old = [p.grad for p in self.parameters]
        if hasattr(torch, "_foreach_copy_"):
            torch._foreach_copy_(old, new)
        else:
            for a, b in zip(old, new):
                a.copy_(b)


class Average:
    """The running mean of parameters, which is what gets shipped."""

    def __init__(self, parameters, decay=0.999):
        self.parameters, self.decay = list(parameters), decay
        self.mean = [p.detach().clone() for p in self.parameters]

    def restart(self):
        """From the parameters as they are."""
        for mean, p in zip(self.mean, self.parameters):
            mean.copy_(p.detach())

    @torch.no_grad()
    def update(self):
        torch._foreach_mul_(self.mean, self.decay)
        torch._foreach_add_(self.mean, self.parameters, alpha=1 - self.decay)

    def state(self, module):
        """module.state_dict() with the means in place."""
        means = {id(p): m for p, m in zip(self.parameters, self.mean)}
        named = {name: means[id(p)] for name, p in module.named_parameters() if id(p) in means}
        return {name: named.get(name, t).clone() for name, t in module.state_dict().items()}


class Log:
    """Running means of named values, printed now and then by the first process."""

    def __init__(self, group, clock, name):
        self.group, self.clock, self.name, self.mean = group, clock, name, None

    def add(self, **values):
        new = torch.stack([torch.as_tensor(v, device=self.group.device).detach().float() for v in values.values()])
        self.mean = new if self.mean is None else self.mean * 0.98 + new * 0.02
        step = self.clock.step
        if step % 200 == 0 or step in (20, 50, 100):
            text = ", ".join("%s %.4f" % item for item in zip(values, self.mean.tolist()))
            self.group.say("%s step %d, %.0f s, %s" % (self.name, step, time.time() - self.clock.start, text))

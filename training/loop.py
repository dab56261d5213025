"""What the two trainings of the codec share: recording of functions, the clock, the log."""
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


class Clock:
    """Steps until the minutes are over (or the steps done); the learning rate rises for 200 steps and falls over the
    last `fall` of the time to a hundredth."""

    def __init__(self, group, minutes, steps, fall=0.8):
        self.group, self.seconds, self.steps, self.fall = group, minutes * 60, steps, fall
        self.start, self.part, self.step = time.time(), 0.0, 0

    def running(self):
        if self.step % 10 == 0:
            self.part = self.group.agree((time.time() - self.start) / self.seconds)
        self.step += 1
        return self.part < 1 and self.step <= self.steps

    def set_rate(self, *optimizers):
        share = min(1, self.step / 200) * max(0.01, min(1, (1 - self.part) / self.fall))
        for optimizer in optimizers:
            for settings in optimizer.param_groups:
                settings["lr"] = settings["peak"] * share


def adamw(group, parameters, lr):
    options = {"fused": True} if group.on_gpu else {}
    return torch.optim.AdamW([{"params": list(parameters), "peak": lr}], lr, betas=(0.8, 0.99), weight_decay=0.01,
                             **options)


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

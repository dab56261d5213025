"""The processes that train one network, one on each accelerator. With a single process nothing here costs anything.

`together` in common.sh starts several."""
import os

import torch
import torch.distributed as dist


class Group:
    def __init__(self):
        self.rank, self.size = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
        self.device = "cuda" if torch.cuda.is_available() else "cpu"     # each process sees one GPU
        self.on_gpu = self.device != "cpu"
        if self.size > 1:
            dist.init_process_group("nccl" if self.on_gpu else "gloo")

    def sum(self, x):
        """x, summed over the processes in place."""
        if self.size > 1:
            dist.all_reduce(x)
        return x

    def average_gradients(self, parameters):
        if self.size == 1:
            return
        grads = [p.grad for p in parameters if p.grad is not None]
        flat = self.sum(torch.cat([g.reshape(-1) for g in grads])) / self.size
        at = 0
        for g in grads:
            g.copy_(flat[at:at + g.numel()].view_as(g))
            at += g.numel()

    def copy_first(self, tensors):
        """The first process's values, everywhere."""
        if self.size > 1:
            for t in tensors:
                dist.broadcast(t, 0)

    def agree(self, value):
        """The first process's float, everywhere."""
        if self.size == 1:
            return value
        t = torch.tensor([value], dtype=torch.float64, device=self.device)
        dist.broadcast(t, 0)
        return float(t)

    def say(self, *text):
        if self.rank == 0:
            print(*text, flush=True)

    def close(self):
        if self.size > 1:
            dist.barrier()
            dist.destroy_process_group()

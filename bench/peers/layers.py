"""A stack of decoder layers with a static key-value cache, and a sampler that never asks the host.

Both models are made of these. Letters: T rows at once, L positions of the cache, H heads, K heads
of keys and values, D size of a head.
"""
import torch
from torch import nn
from torch.nn import functional as F


def weight(*shape):
    return nn.Parameter(torch.empty(*shape), requires_grad=False)


def randomise(model):
    """Products keep the size of what goes into them, norms are near 1."""
    for p in model.parameters():
        if p.dim() > 1:
            p.data.normal_(0, p.shape[-1] ** -0.5)
        else:
            p.data.normal_(1, 0.05)


def rms_norm(x, w, eps):
    y = x.float()
    y = y * torch.rsqrt(y.square().mean(-1, keepdim=True) + eps)
    return y.to(x.dtype) * w


class Joint(nn.Module):
    """Products of one input. Joined, they are one matrix; otherwise one for each, as many as the
    checkpoint has."""

    def __init__(self, cols, sizes, joined):
        super().__init__()
        self.sizes = list(sizes)
        rows = [sum(sizes)] if joined else sizes
        self.w = nn.ParameterList([weight(n, cols) for n in rows])

    def forward(self, x):
        if len(self.w) == 1:
            return F.linear(x, self.w[0]).split(self.sizes, -1)
        return [F.linear(x, w) for w in self.w]


def turn_pairs(x, cos, sin):
    a, b = x.unflatten(-1, (-1, 2)).unbind(-1)
    return torch.stack((a * cos - b * sin, b * cos + a * sin), -1).flatten(-2)


def turn_halves(x, cos, sin):
    a, b = x.chunk(2, -1)
    return torch.cat((a * cos - b * sin, b * cos + a * sin), -1)


class Layer(nn.Module):
    def __init__(self, c, length, joined):
        super().__init__()
        d = c["head_dim"]
        self.c = c
        self.attention_norm = weight(c["dim"])
        self.qkv = Joint(c["dim"], (c["heads"] * d, c["kv_heads"] * d, c["kv_heads"] * d),
                         joined or c["qkv_is_one"])
        self.wo = weight(c["dim"], c["heads"] * d)
        if c["qk_norm"]:
            self.q_norm = weight(d)
            self.k_norm = weight(d)
        self.ffn_norm = weight(c["dim"])
        self.gate_up = Joint(c["dim"], (c["ffn"], c["ffn"]), joined)
        self.down = weight(c["dim"], c["ffn"])
        self.register_buffer("keys", torch.zeros(c["kv_heads"], length, d))
        self.register_buffer("values", torch.zeros(c["kv_heads"], length, d))

    def attend(self, q, seen):
        """q [T, H, D], seen [T, L] -> [T, H * D]"""
        k, v = self.keys, self.values
        share = self.c["heads"] // self.c["kv_heads"]
        if self.c["attention"] == "sdpa":
            k, v = (z.repeat_interleave(share, 0)[None] for z in (k, v))
            y = F.scaled_dot_product_attention(q.transpose(0, 1)[None], k, v, seen[None, None])
            return y[0].transpose(0, 1).flatten(1)
        q = q.unflatten(1, (-1, share)).permute(1, 2, 0, 3)  # [K, share, T, D]
        s = q.flatten(1, 2) @ k.transpose(1, 2) * q.shape[-1] ** -0.5
        s = s.unflatten(1, (share, -1)).masked_fill(~seen, float("-inf"))
        y = torch.softmax(s.float(), -1).to(v.dtype).flatten(1, 2) @ v
        return y.unflatten(1, (share, -1)).permute(2, 0, 1, 3).flatten(1)

    def forward(self, x, position, cos, sin, seen):
        c = self.c
        q, k, v = self.qkv(rms_norm(x, self.attention_norm, c["eps"]))
        q, k, v = (z.unflatten(-1, (-1, c["head_dim"])) for z in (q, k, v))
        if c["qk_norm"]:
            q, k = rms_norm(q, self.q_norm, c["eps"]), rms_norm(k, self.k_norm, c["eps"])
        turn = turn_pairs if c["pairs"] else turn_halves
        q, k = turn(q, cos, sin), turn(k, cos, sin)
        self.keys[:, position] = k.transpose(0, 1)
        self.values[:, position] = v.transpose(0, 1)
        x = x + F.linear(self.attend(q, seen), self.wo)
        gate, up = self.gate_up(rms_norm(x, self.ffn_norm, c["eps"]))
        return x + F.linear(F.silu(gate) * up, self.down)


class Stack(nn.Module):
    """c: dim, layers, heads, kv_heads, head_dim, ffn, eps, rope_base; qk_norm: norms of q and k;
    pairs: rotary positions turn neighbours, by a table rounded to bf16, not halves; qkv_is_one: the
    checkpoint has q, k and v in one matrix; attention: "math" or "sdpa"."""

    def __init__(self, c, length, joined):
        super().__init__()
        self.c = c
        self.layers = nn.ModuleList([Layer(c, length, joined) for _ in range(c["layers"])])
        self.norm = weight(c["dim"])
        i = torch.arange(0, c["head_dim"], 2, dtype=torch.float32)
        p = torch.arange(length, dtype=torch.float32)
        angle = torch.outer(p, 1 / c["rope_base"] ** (i / c["head_dim"]))
        cos, sin = angle.cos(), angle.sin()
        if c["pairs"]:
            cos, sin = cos.bfloat16(), sin.bfloat16()
        self.register_buffer("cos", cos.to(torch.get_default_dtype()))
        self.register_buffer("sin", sin.to(torch.get_default_dtype()))
        self.register_buffer("seen", torch.ones(length, length, dtype=torch.bool).tril())

    def forward(self, x, position):
        """x [T, dim] at position [T] -> the same rows before and after the last norm"""
        cos, sin = self.cos[position][:, None], self.sin[position][:, None]
        seen = self.seen[position]
        for layer in self.layers:
            x = layer(x, position, cos, sin, seen)
        return x, rms_norm(x, self.norm, self.c["eps"])


def noise_like(p):
    return torch.empty_like(p).exponential_(1.0)


def draw(p, order):
    """One of order [n] by its probability p [n]: the largest p / Exp(1) is a sample."""
    return order[(p / noise_like(p)).argmax(-1, keepdim=True)]

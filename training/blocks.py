"""The transformer block that the language model and the codec share, in the names and the maths of S1-mini."""
import torch
import torch.nn as nn
import torch.nn.functional as F


class RMSNorm(nn.Module):
    """x / rms(x) * weight over the last dimension; statistics in float32."""

    def __init__(self, dim, eps):
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(dim))

    def forward(self, x):
        y = x.float()
        y = y * torch.rsqrt(y.pow(2).mean(-1, keepdim=True) + self.eps)
        return y.type_as(x) * self.weight.type_as(x)


def rope_table(positions, head_dim, base):
    """cos and sin, rounded to bf16, kept in float32: [positions, head_dim/2, 2]."""
    freq = 1.0 / (float(base) ** (torch.arange(0, head_dim, 2).float() / head_dim))
    angle = torch.outer(torch.arange(positions).float(), freq)
    return torch.stack((angle.cos(), angle.sin()), -1).bfloat16().float()


def rotate(x, table):
    """x [B, T, H, D], pairs (2i, 2i+1) turned by table [T, D/2, 2]."""
    pair = x.float().unflatten(-1, (-1, 2))
    cos, sin = table[:, None, :, 0], table[:, None, :, 1]
    y = torch.stack((pair[..., 0] * cos - pair[..., 1] * sin, pair[..., 1] * cos + pair[..., 0] * sin), -1)
    return y.flatten(-2).type_as(x)


def attend(q, k, v, mask, causal):
    """softmax(q k^T / sqrt(D)) v over [B, H, T, D]; mask [T, t] bool or None."""
    if hasattr(F, "scaled_dot_product_attention"):
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=causal)
    if causal:
        mask = torch.ones(q.shape[2], k.shape[2], dtype=torch.bool).tril()
    score = q @ k.transpose(2, 3) / q.shape[-1] ** 0.5
    return (score if mask is None else score.masked_fill(~mask, -1e30)).softmax(-1) @ v


class Attention(nn.Module):
    def __init__(self, dim, n_head, n_kv, head_dim, qk_norm, eps):
        super().__init__()
        self.n_head, self.n_kv, self.head_dim = n_head, n_kv, head_dim
        self.wqkv = nn.Linear(dim, (n_head + 2 * n_kv) * head_dim, bias=False)
        self.wo = nn.Linear(n_head * head_dim, dim, bias=False)
        if qk_norm:
            self.q_norm, self.k_norm = RMSNorm(head_dim, eps), RMSNorm(head_dim, eps)
        self.qk_norm = qk_norm

    def forward(self, x, table, mask=None, cache=None):
        """x [B, T, dim]; mask [T, T] bool or None for causal; cache: dict of earlier "k", "v" [B, H, t, D]."""
        B, T, _ = x.shape
        q, k, v = self.wqkv(x).split([n * self.head_dim for n in (self.n_head, self.n_kv, self.n_kv)], -1)
        q, k, v = (t.unflatten(-1, (-1, self.head_dim)) for t in (q, k, v))
        if self.qk_norm:
            q, k = self.q_norm(q), self.k_norm(k)
        q, k, v = rotate(q, table).transpose(1, 2), rotate(k, table).transpose(1, 2), v.transpose(1, 2)
        past = 0
        if cache is not None:
            if cache:
                past = cache["k"].shape[2]
                k, v = torch.cat((cache["k"], k), 2), torch.cat((cache["v"], v), 2)
            cache["k"], cache["v"] = k, v
        r = self.n_head // self.n_kv
        k, v = k.repeat_interleave(r, 1), v.repeat_interleave(r, 1)
        if mask is None and past and T > 1:
            mask = torch.ones(T, past + T, dtype=torch.bool, device=x.device).tril(past)
        y = attend(q, k, v, mask, mask is None and T > 1)
        return self.wo(y.transpose(1, 2).reshape(B, T, -1))


class FeedForward(nn.Module):
    def __init__(self, dim, hidden):
        super().__init__()
        self.w1 = nn.Linear(dim, hidden, bias=False)
        self.w3 = nn.Linear(dim, hidden, bias=False)
        self.w2 = nn.Linear(hidden, dim, bias=False)

    def forward(self, x):
        return self.w2(F.silu(self.w1(x)) * self.w3(x))


class LayerScale(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.gamma = nn.Parameter(torch.full((dim,), 0.1))

    def forward(self, x):
        return x * self.gamma


class Block(nn.Module):
    """Pre-norm attention and SwiGLU; layer_scale only in the codec."""

    def __init__(self, dim, n_head, n_kv, head_dim, hidden, eps, qk_norm=False, layer_scale=False):
        super().__init__()
        self.attention = Attention(dim, n_head, n_kv, head_dim, qk_norm, eps)
        self.feed_forward = FeedForward(dim, hidden)
        self.attention_norm, self.ffn_norm = RMSNorm(dim, eps), RMSNorm(dim, eps)
        if layer_scale:
            self.attention_layer_scale, self.ffn_layer_scale = LayerScale(dim), LayerScale(dim)
        self.layer_scale, self.dropout = layer_scale, 0.0

    def forward(self, x, table, mask=None, cache=None):
        y = self.attention(self.attention_norm(x), table, mask, cache)
        x = x + F.dropout(self.attention_layer_scale(y) if self.layer_scale else y, self.dropout, self.training)
        y = self.feed_forward(self.ffn_norm(x))
        return x + F.dropout(self.ffn_layer_scale(y) if self.layer_scale else y, self.dropout, self.training)

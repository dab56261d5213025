"""S1-mini: one frame of the DualAR model. The slow transformer makes a token, the fast one codes
from it, all are sampled as the reference implementation samples, and the column that comes out is
the next input. Nothing returns to the host, so the frame can be captured or compiled whole.
"""
import torch
from torch import nn
from torch.nn import functional as F

from layers import Stack, draw, weight

# As published. whole_head: score the whole vocabulary as the reference does, otherwise only ids
# that can become audio, and stop. fast_codes: the ids that the fast transformer chooses from.
FULL = dict(
    vocab=155776, codebook_size=4096, codebooks=10, semantic_begin=151658, stop=151647,
    fast_codes=1024, whole_head=False, temperature=0.8, top_p=0.8, penalty=1.1,
    slow=dict(dim=1024, layers=28, heads=16, kv_heads=8, head_dim=128, ffn=3072, eps=1e-6,
              rope_base=1e6, qk_norm=True, pairs=True, qkv_is_one=True, attention="math"),
    fast=dict(dim=1024, layers=4, heads=16, kv_heads=8, head_dim=64, ffn=3072, eps=1e-6,
              rope_base=1e6, qk_norm=False, pairs=True, qkv_is_one=True, attention="math"))

WINDOW = 16  # frames that the repetition penalty looks back on


class DualAR(nn.Module):
    PARTS = ("slow_step", "first_code", "next_code")  # nearly all of a frame
    FRAME_MS = 2048 / 44.1

    def __init__(self, c, length, joined):
        super().__init__()
        self.c = c
        dim, n = c["slow"]["dim"], c["codebooks"]
        self.embeddings = weight(c["vocab"], dim)
        self.codebook_embeddings = weight(n * c["codebook_size"], dim)
        self.slow = Stack(c["slow"], length, joined)
        self.output = weight(c["vocab"] if c["whole_head"] else c["codebook_size"] + 1, dim)
        self.fast = Stack(c["fast"], n, joined)
        self.fast_embeddings = weight(c["codebook_size"], dim)
        self.fast_output = weight(c["fast_codes"], dim)
        ids = list(range(c["semantic_begin"], c["semantic_begin"] + c["codebook_size"]))
        self.register_buffer("head_ids", torch.tensor(ids + [c["stop"]]))
        self.register_buffer("offsets", torch.arange(n) * c["codebook_size"])
        self.register_buffer("place", torch.arange(n)[:, None].repeat(1, 2))  # rows of 16 bytes
        self.register_buffer("span", torch.arange(WINDOW))
        self.register_buffer("history", torch.zeros(n + 1, length + WINDOW, dtype=torch.long))
        self.register_buffer("column", torch.zeros(n + 1, dtype=torch.long))
        self.register_buffer("position", torch.zeros(1, dtype=torch.long))
        self.register_buffer("step", torch.zeros(1, dtype=torch.long))

    def start(self, position):
        """The next frame is the first after a prompt of `position` columns."""
        self.position.fill_(position)
        self.step.zero_()
        self.history.zero_()
        self.column.fill_(1)
        self.column[0] = self.c["semantic_begin"] + 1

    def embed(self, columns):
        """columns [C + 1, T] -> [T, dim]"""
        c = self.c
        x = self.embeddings[columns[0]]
        codes = self.codebook_embeddings[columns[1:] + self.offsets[:, None]].sum(0)
        last = c["semantic_begin"] + c["codebook_size"] - 1
        semantic = (columns[0] >= c["semantic_begin"]) & (columns[0] <= last)
        scaled = (x + codes) * (c["codebooks"] + 1) ** -0.5
        return torch.where(semantic[:, None], scaled, x)

    def sample(self, logits, seen, penalty):
        """logits [n]; ids seen [m] or None are made less likely by penalty, a number or
        [m]"""
        logits = logits.float()
        if seen is not None:
            old = logits[seen]
            logits = logits.index_put((seen,), torch.where(old < 0, old * penalty, old / penalty))
        logits, order = logits.sort(descending=True)
        drop = logits.softmax(-1).cumsum(-1) > self.c["top_p"]
        drop = drop & (torch.arange(drop.shape[0], device=drop.device) > 0)
        p = (logits.masked_fill(drop, float("-inf")) / self.c["temperature"]).softmax(-1)
        return draw(p, order)

    def choose_token(self, normed, window):
        """normed [1, dim], window [C + 1, 16] or None -> id [1]"""
        c = self.c
        logits = F.linear(normed, self.output)[0]
        if c["whole_head"]:
            seen = None if window is None else window[:, 0]
            return self.sample(logits, seen, c["penalty"])
        # rows of the head: semantic ids, then stop; a code taken for an id is none of them
        row = window[:1, 0] - c["semantic_begin"]
        penalty = (row >= 0).float() * (c["penalty"] - 1) + 1
        return self.head_ids[self.sample(logits, row.clamp(min=0), penalty)]

    def choose_code(self, normed, seen):
        logits = F.linear(normed, self.fast_output)[0]
        return self.sample(logits, seen, self.c["penalty"])

    def slow_step(self, columns, position, window):
        """columns [C + 1, T] -> the last of them before the last norm, [1, dim], and its token"""
        hidden, normed = self.slow(self.embed(columns), position)
        return hidden[-1:], self.choose_token(normed[-1:], window)

    def first_code(self, hidden, code, seen):
        """The hidden state and the code of the token are known together: two rows at once."""
        rows = torch.cat((hidden, self.fast_embeddings[code]))
        return self.choose_code(self.fast(rows, self.place[:2, 0])[1][1:], seen)

    def next_code(self, code, position, seen):
        return self.choose_code(self.fast(self.fast_embeddings[code], position)[1], seen)

    def column_of(self, hidden, token, window):
        """The token and all codes, [C + 1]"""
        seen = [None if window is None else window[k + 1] for k in range(self.c["codebooks"])]
        code = (token - self.c["semantic_begin"]).clamp(min=0)
        column = [token, code, self.first_code(hidden, code, seen[1])]
        for k in range(2, self.c["codebooks"]):
            column.append(self.next_code(column[-1], self.place[k, :1], seen[k]))
        return torch.cat(column)

    def prefill(self, columns):
        """The prompt [C + 1, T] -> frame 0, which knows no penalty."""
        n = columns.shape[1]
        hidden, token = self.slow_step(columns, torch.arange(n), None)
        self.start(n)
        self.column.copy_(self.column_of(hidden, token, None))
        return self.column.clone()

    def frame(self):
        window = self.history[:, (self.step - WINDOW).clamp(min=0) + self.span]
        hidden, token = self.slow_step(self.column[:, None], self.position, window)
        column = self.column_of(hidden, token, window)
        self.column.copy_(column)
        self.history[:, self.step] = column[:, None]
        self.position.add_(1)
        self.step.add_(1)
        return column.clone()

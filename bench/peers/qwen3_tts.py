"""Qwen3-TTS, 12 Hz: one frame of talker and code predictor. The talker's state gives the first code
group, the predictor the other fifteen, all are sampled, and the sum of their embeddings and of the
text's pad vector is the next input. The text side of the prompt is not here: no frame reads it.
"""
import torch
from torch import nn
from torch.nn import functional as F

from layers import Stack, draw, weight

PREDICTOR = dict(dim=1024, layers=5, heads=16, kv_heads=8, head_dim=128, ffn=3072, eps=1e-6,
                 rope_base=1e6, qk_norm=True, pairs=False, qkv_is_one=False, attention="math")
# Only ids that the reference does not suppress are scored: the codes, and the end.
SMALL = dict(codes=2048, ids=3072, stop=2150, groups=16, temperature=0.9, top_k=50, penalty=1.05,
             talker=dict(PREDICTOR, layers=28), predictor=PREDICTOR)
LARGE = dict(SMALL, talker=dict(SMALL["talker"], dim=2048, ffn=6144))


class TalkerAndPredictor(nn.Module):
    PARTS = ("talker_step", "first_code", "next_code", "embed")  # nearly all of a frame
    FRAME_MS = 80.0

    def __init__(self, c, length, joined):
        super().__init__()
        self.c = c
        dim, small, n = c["talker"]["dim"], c["predictor"]["dim"], c["groups"]
        self.codec_embedding = weight(c["ids"], dim)
        self.talker = Stack(c["talker"], length, joined)
        self.codec_head = weight(c["codes"] + 1, dim)  # the codes, then the end
        self.group_embedding = weight(n - 1, c["codes"], dim)
        self.projects = dim != small
        if self.projects:
            self.projection = weight(small, dim)
            self.projection_bias = weight(small)
        self.predictor = Stack(c["predictor"], n, joined)
        self.lm_head = weight(n - 1, c["codes"], small)
        self.pad = weight(dim)
        self.register_buffer("group", torch.arange(n - 1))
        self.register_buffer("place", torch.arange(n)[:, None].repeat(1, 2))  # rows of 16 bytes
        self.register_buffer("picked", torch.zeros(c["codes"] + 1, dtype=torch.bool))
        self.register_buffer("input", torch.zeros(1, dim))
        self.register_buffer("position", torch.zeros(1, dtype=torch.long))

    def start(self, position):
        self.position.fill_(position)
        self.picked.zero_()
        self.input.copy_(self.pad[None])

    def to_predictor(self, x):
        return F.linear(x, self.projection, self.projection_bias) if self.projects else x

    def sample(self, logits):
        if self.c["top_k"] == 1:
            return logits.argmax(-1, keepdim=True)
        values, order = (logits.float() / self.c["temperature"]).topk(self.c["top_k"])
        return draw(values.softmax(-1), order)

    def choose_first(self, hidden, picked):
        logits = F.linear(hidden, self.codec_head)[0].float()
        p = self.c["penalty"]
        logits = torch.where(picked, torch.where(logits > 0, logits / p, logits * p), logits)
        return self.sample(logits[:-1])  # the end is ignored here

    def choose_code(self, y, head):
        return self.sample(F.linear(y, head)[0])

    def embed(self, codes):
        """codes [G] -> [1, dim], what stands for the frame in the next position"""
        rest = self.group_embedding[self.group, codes[1:]]
        return self.codec_embedding[codes[:1]] + rest.sum(0) + self.pad

    def talker_step(self, x, position):
        """x [T, dim] -> the last row after the last norm, [1, dim], and its code"""
        hidden = self.talker(x, position)[1][-1:]
        return hidden, self.choose_first(hidden, self.picked)

    def first_code(self, hidden, code):
        """The talker's state and the first code are known together: two rows at once."""
        rows = self.to_predictor(torch.cat((hidden, self.codec_embedding[code])))
        return self.choose_code(self.predictor(rows, self.place[:2, 0])[1][1:], self.lm_head[0])

    def next_code(self, table, code, position, head):
        """table [codes, dim] has the code's embedding, head [codes, small] scores the next"""
        row = self.to_predictor(table[code])
        return self.choose_code(self.predictor(row, position)[1], head)

    def codes_of(self, hidden, first):
        """All codes, [G]"""
        codes = [first, self.first_code(hidden, first)]
        for g in range(2, self.c["groups"]):
            codes.append(self.next_code(self.group_embedding[g - 2], codes[-1],
                                        self.place[g, :1], self.lm_head[g - 1]))
        return torch.cat(codes)

    def step(self, x, position):
        """One frame from the vectors x [T, dim] of its positions; the next one's input is kept."""
        hidden, first = self.talker_step(x, position)
        self.picked.index_fill_(0, first, True)
        codes = self.codes_of(hidden, first)
        self.input.copy_(self.embed(codes))
        return codes.clone()

    def prefill(self, rows):
        """The prompt's vectors [T, dim] -> frame 0"""
        n = rows.shape[0]
        self.start(n)
        return self.step(rows, torch.arange(n))

    def frame(self):
        codes = self.step(self.input, self.position)
        self.position.add_(1)
        return codes

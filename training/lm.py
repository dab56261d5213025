"""The dual autoregressive language model (text and codes -> codes) in the names and the maths of S1-mini.

A column is Q+1 integers: token id, then the Q codes (zeros in text columns). tokens [B, Q+1, T]."""
import torch
import torch.nn as nn
import torch.nn.functional as F

from blocks import Block, RMSNorm, rope_table

TOGETHER = 8                    # frames that share a row of the fast layers in training: their Q positions are few


class DualAR(nn.Module):
    def __init__(self, c, semantic_begin):
        super().__init__()
        self.c, self.begin = c, semantic_begin
        self.dropout, self.stream = 0.0, torch.float32      # stream: what the layers add to, in training
        dim, fast_dim, eps, size = c["dim"], c["fast_dim"], c["norm_eps"], c["codebook_size"]
        assert dim == fast_dim, "no fast_project_in here"
        self.end, self.codebooks, self.size = semantic_begin + size - 1, c["num_codebooks"], size
        self.embeddings = nn.Embedding(c["vocab_size"], dim)
        self.codebook_embeddings = nn.Embedding(self.codebooks * size, dim)
        self.layers = nn.ModuleList(Block(dim, c["n_head"], c["n_local_heads"], c["head_dim"], c["intermediate_size"],
                                          eps, c["attention_qk_norm"]) for _ in range(c["n_layer"]))
        self.norm = RMSNorm(dim, eps)
        self.output = nn.Linear(dim, c["vocab_size"], bias=False)
        self.fast_embeddings = nn.Embedding(size, fast_dim)
        self.fast_layers = nn.ModuleList(
            Block(fast_dim, c["fast_n_head"], c["fast_n_local_heads"], c["fast_head_dim"],
                  c["fast_intermediate_size"], eps, c["fast_attention_qk_norm"]) for _ in range(c["n_fast_layer"]))
        self.fast_norm = RMSNorm(fast_dim, eps)
        self.fast_output = nn.Linear(fast_dim, size, bias=False)
        self.register_buffer("table", rope_table(c["max_seq_len"], c["head_dim"], c["rope_base"]), persistent=False)
        fast_table = rope_table(self.codebooks, c["fast_head_dim"], c["rope_base"])
        self.register_buffer("fast_table", fast_table, persistent=False)
        self.register_buffer("fast_tables", fast_table.repeat(TOGETHER, 1, 1), persistent=False)
        own = torch.block_diag(*[torch.ones(self.codebooks, self.codebooks)] * TOGETHER) > 0
        self.register_buffer("fast_mask", own.tril(), persistent=False)
        self.register_buffer("shift", torch.arange(self.codebooks)[:, None] * size, persistent=False)
        for name, p in self.named_parameters():
            if p.dim() == 2:
                nn.init.normal_(p, std=p.shape[-1] ** -0.5 * (0.3 if name.endswith(("wo.weight", "w2.weight")) else 1))
        nn.init.normal_(self.embeddings.weight, std=0.5)
        nn.init.normal_(self.codebook_embeddings.weight, std=0.5)
        nn.init.normal_(self.fast_embeddings.weight, std=0.5)

    def embed(self, tokens):
        """tokens [B, Q+1, T] -> [B, T, dim]."""
        ids = tokens[:, 0]
        voice = ((ids >= self.begin) & (ids <= self.end)).unsqueeze(-1)
        codes = self.codebook_embeddings(tokens[:, 1:] + self.shift).sum(1)
        x = self.embeddings(ids)
        return torch.where(voice, (x + codes) / (self.codebooks + 1) ** 0.5, x)

    def slow(self, tokens, caches=None, start=0):
        """-> (hidden before the final norm [B, T, dim], logits [B, T, vocab])."""
        x = self.embed(tokens)
        table = self.table[start:start + x.shape[1]]
        for i, layer in enumerate(self.layers):
            x = layer(x, table, None, caches[i] if caches is not None else None)
        return x, self.output(self.norm(x))

    def fast_step(self, x, position, caches):
        """x [N, dim] at one position -> logits [N, size]."""
        x = x[:, None]
        for layer, cache in zip(self.fast_layers, caches):
            x = layer(x, self.fast_table[position:position + 1], None, cache)
        return self.fast_output(self.fast_norm(x[:, 0]))

    def start(self, tokens):
        """What the layers get in training: embeddings with dropout."""
        return F.dropout(self.embed(tokens), self.dropout, self.training).to(self.stream)

    def slow_loss(self, x, target):
        """-> loss, share of right next ids."""
        target, logits = target.reshape(-1), self.output(self.norm(x)).flatten(0, 1).float()
        loss = F.cross_entropy(logits, target, ignore_index=-100)
        return loss, ((logits.argmax(-1) == target) & (target >= 0)).sum() / (target >= 0).sum()

    def fast_start(self, x, frames, codes):
        """-> input of the fast layers [N / TOGETHER, TOGETHER * Q, dim]."""
        hidden = x.flatten(0, 1).float().index_select(0, frames)[:, None]
        y = torch.cat((hidden, self.fast_embeddings(codes[:, :-1]).type_as(hidden)), 1)
        return y.to(self.stream).reshape(-1, TOGETHER * self.codebooks, y.shape[-1])

    def fast_loss(self, y, codes):
        y = y.reshape(-1, self.codebooks, y.shape[-1])[:, 1:]
        logits = self.fast_output(self.fast_norm(y)).flatten(0, 1).float()
        return F.cross_entropy(logits, codes[:, 1:].reshape(-1))

    def losses(self, tokens, target, frames, codes):
        """tokens [B, Q+1, T]; target [B, T]: next id, or -100; frames [N]: flat positions that are followed by a
        frame, N a multiple of TOGETHER; codes [N, Q]: that frame. -> (slow loss, fast loss, share of right next ids)."""
        x = self.start(tokens)
        table = self.table[:x.shape[1]]
        for layer in self.layers:
            x = layer(x, table)
        slow, right = self.slow_loss(x, target)
        y = self.fast_start(x, frames, codes)
        for layer in self.fast_layers:
            y = layer(y, self.fast_tables, self.fast_mask)
        return slow, self.fast_loss(y, codes), right

    def set_dropout(self, share):
        self.dropout = share
        for block in [*self.layers, *self.fast_layers]:
            block.dropout = share

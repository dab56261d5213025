"""The dual autoregressive language model (text and codes -> codes) in the names and the maths of S1-mini.

A column is Q+1 integers: token id, then the Q codes (zeros in text columns). tokens [B, Q+1, T]."""
import torch
import torch.nn as nn
import torch.nn.functional as F

from blocks import Block, RMSNorm, rope_table


class DualAR(nn.Module):
    def __init__(self, c, semantic_begin):
        super().__init__()
        self.c, self.begin = c, semantic_begin
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
        self.register_buffer("fast_table", rope_table(self.codebooks, c["fast_head_dim"], c["rope_base"]),
                             persistent=False)
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

    def fast(self, hidden, codes):
        """hidden [N, dim], codes [N, Q-1] (all but the last) -> logits of codebooks 1.. [N, Q-1, size]."""
        x = torch.cat((hidden[:, None], self.fast_embeddings(codes)), 1)
        for layer in self.fast_layers:
            x = layer(x, self.fast_table)
        return self.fast_output(self.fast_norm(x[:, 1:]))

    def fast_step(self, x, position, caches):
        """x [N, dim] at one position -> logits [N, size]."""
        x = x[:, None]
        for layer, cache in zip(self.fast_layers, caches):
            x = layer(x, self.fast_table[position:position + 1], None, cache)
        return self.fast_output(self.fast_norm(x[:, 0]))

    def losses(self, tokens, target, frames, codes):
        """tokens [B, Q+1, T]; target [B, T]: next id, or -100; frames [N]: flat positions that are followed by a
        frame; codes [N, Q]: that frame. -> (slow loss, fast loss, share of right next ids)."""
        hidden, logits = self.slow(tokens)
        flat, logits = target.reshape(-1), logits.reshape(-1, logits.shape[-1])
        slow = F.cross_entropy(logits.float(), flat, ignore_index=-100)
        right = ((logits.argmax(-1) == flat) & (flat >= 0)).sum() / (flat >= 0).sum()
        logits = self.fast(hidden.reshape(-1, hidden.shape[-1])[frames], codes[:, :-1])
        fast = F.cross_entropy(logits.reshape(-1, self.size).float(), codes[:, 1:].reshape(-1))
        return slow, fast, right

#!/usr/bin/env python3
"""Train the language model on the code shards, taking in new shards as they appear.

A training row is one prompt: <|interleave|>, then utterances of one speaker, each "<|speaker:0|>" text codes <|im_end|>,
until the row is full. Every utterance is thus learnt with the ones before it as references (the first with none).
The loss counts frames and <|im_end|>, not text. Some codes of the input are replaced at random, so that the model
recovers from its own slips. The learning rate follows the clock: it falls linearly over the second part of --minutes.
Runs on one accelerator, or on several (group.py), each with its own part of the speech.

usage: train_lm.py TEXTS.txt CODES_DIR OUT.pt --minutes M [--init X.pt]"""
import argparse
import json
import os
import pathlib
import queue
import random
import threading
import time

import numpy as np
import torch

from group import Group
from lm import DualAR
from muon import Muon
from store import shards
from tokens import Tokenizer, vary

HERE = pathlib.Path(__file__).resolve().parent
MOST_AT_ONCE = 40           # shards taken in at once; more would hold up the training


class Utterances:
    """Columns of all utterances in one int16 tensor [total, Q+1] on the device, and where each one lies."""

    def __init__(self, texts, folder, share, tokenizer, device, seed):
        self.texts, self.folder, self.share, self.tokenizer, self.device = texts, folder, share, tokenizer, device
        self.random, self.files, self.columns = random.Random(seed), [], None
        self.first, self.length, self.voice = (np.zeros(0, np.int64) for _ in range(3))
        self.held_out = (None, None)

    def read(self, path):
        """-> columns [n, Q+1] int16, lengths, voices of one shard."""
        shard, tok = np.load(path), self.tokenizer
        codes, cuts, parts = shard["codes"], shard["offsets"], []
        for k, line in enumerate(shard["index"]):
            ids = tok.mark + tok.text(vary(self.texts[line], self.random))
            frame = codes[:, cuts[k]:cuts[k + 1]].T
            part = np.zeros((len(ids) + len(frame) + 1, 1 + len(codes)), np.int16)
            part[:len(ids), 0] = ids
            part[len(ids):-1, 0] = tok.begin + frame[:, 0]
            part[len(ids):-1, 1:] = frame
            part[-1, 0] = tok.im_end
            parts.append(part)
        return np.concatenate(parts), np.array([len(p) for p in parts]), shard["voice"]

    def refresh(self):
        """Take in new shards. The very first one is kept for validation."""
        new = sorted(set(shards(self.folder, "codes", self.share)) - set(self.files))[:MOST_AT_ONCE]
        columns, lengths, voices = [], [self.length], [self.voice]
        for path in new:
            part, length, voice = self.read(path)
            if not self.files and path == new[0]:
                self.held_out = (part, length, voice)
                continue
            columns.append(torch.from_numpy(part).to(self.device))
            lengths.append(length)
            voices.append(voice)
        self.files += new
        if columns:
            self.columns = torch.cat(([self.columns] if self.columns is not None else []) + columns)
        self.length, self.voice = np.concatenate(lengths), np.concatenate(voices)
        self.first = np.cumsum(self.length) - self.length
        return len(new)


def fill_rows(rows, width, first, length, by_voice, r):
    """Positions of the columns of each row [rows, width]: -2 is <|interleave|>, -1 padding."""
    index = np.full((rows, width), -1, np.int64)
    index[:, 0] = -2
    for row in range(rows):
        mine, at, misses = by_voice[r.integers(len(by_voice))], 1, 0
        while misses < 6 and at < width - 40:
            pick = mine[r.integers(len(mine))]
            n = length[pick]
            if at + n > width:
                misses += 1
                continue
            index[row, at:at + n] = np.arange(first[pick], first[pick] + n)
            at += n
    return index


class Batches:
    """Makes batches in a thread."""

    def __init__(self, data, shapes, seed):
        self.data, self.shapes, self.r = data, shapes, np.random.default_rng(seed)
        self.queue, self.lock = queue.Queue(12), threading.Lock()
        self.update()
        threading.Thread(target=self.work, daemon=True).start()

    def update(self):
        with self.lock:
            d = self.data
            self.view = (d.first, d.length, [np.flatnonzero(d.voice == v) for v in np.unique(d.voice)])

    def work(self):
        while True:
            with self.lock:
                view = self.view
            rows, width = self.shapes[self.r.integers(len(self.shapes))]
            self.queue.put(fill_rows(rows, width, *view, self.r))


def batch_on(device, index, columns, tok, spoil, codebook_size):
    """-> tokens [B, Q+1, T], target [B, T], frames [N], codes [N, Q]."""
    index = torch.from_numpy(index).to(device)
    cols = columns[index.clamp(min=0)].long()
    cols[index == -1] = 0
    cols[index == -2] = 0
    cols[..., 0][index == -2] = tok.interleave
    ids = cols[..., 0]
    frame = ids >= tok.begin
    counts = frame | (ids == tok.im_end)
    target = torch.full_like(ids, -100)
    target[:, :-1] = torch.where(counts[:, 1:], ids[:, 1:], -100)
    follow = torch.zeros_like(frame)
    follow[:, :-1] = frame[:, 1:]
    frames = follow.reshape(-1).nonzero()[:, 0]
    n = int(ids.numel() * 0.4)
    frames = frames[torch.randint(len(frames), (n,), device=device)]
    codes = cols.reshape(-1, cols.shape[-1])[frames + 1][:, 1:]
    given = cols.clone()
    if spoil:
        rate = torch.rand(len(ids), 1, device=device) * spoil
        hit = frame & (torch.rand(ids.shape, device=device) < rate)
        level = torch.randint(codes.shape[1], ids.shape, device=device)
        wrong = hit[..., None] & (torch.arange(codes.shape[1], device=device) >= level[..., None])
        noise = torch.randint(codebook_size, wrong.shape, device=device)
        given[..., 1:] = torch.where(wrong, noise, given[..., 1:])
        given[..., 0] = torch.where(wrong[..., 0], given[..., 1] + tok.begin, ids)
    return given.transpose(1, 2).contiguous(), target, frames, codes


def parse():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("texts")
    ap.add_argument("codes")
    ap.add_argument("out")
    ap.add_argument("--minutes", type=float, default=15)
    ap.add_argument("--steps", type=int, default=10 ** 9)
    ap.add_argument("--init", help="model to start from")
    ap.add_argument("--tokens", type=int, default=32768, help="columns per step and accelerator")
    ap.add_argument("--widths", default="512,1024", help="row lengths")
    ap.add_argument("--lr", type=float, default=0.02, help="of the matrices (Muon)")
    ap.add_argument("--lr-rest", type=float, default=0.003, help="of embeddings, heads and norms (AdamW)")
    ap.add_argument("--hold", type=float, default=0.35, help="share of the time before the learning rate falls")
    ap.add_argument("--spoil", type=float, default=0.1, help="largest share of spoilt input frames in a row")
    ap.add_argument("--look", type=float, default=5, help="seconds between looks for new shards")
    ap.add_argument("--seed", type=int, default=1)
    return ap.parse_args()


def main():
    args = parse()
    torch.manual_seed(args.seed)
    group = Group()
    device = group.device
    torch.backends.cuda.matmul.allow_tf32 = True
    c = json.loads((HERE / "config.json").read_text())["lm"]
    tok = Tokenizer(c["codebook_size"])
    model = DualAR(dict(c, vocab_size=tok.vocab_size), tok.begin).to(device)
    if args.init:
        model.load_state_dict(torch.load(args.init, map_location=device))
    shapes = [(max(1, args.tokens // int(w)), int(w)) for w in args.widths.split(",")]
    amp = lambda: torch.autocast(device, torch.bfloat16, enabled=group.on_gpu)
    torch.manual_seed(args.seed + 1 + group.rank)
    if group.on_gpu:
        torch._dynamo.config.recompile_limit = 64
        for block in [*model.layers, *model.fast_layers]:
            block.compile(dynamic=False)
        for rows, width in shapes:                  # compile while the codes are being made
            tokens = torch.zeros(rows, model.codebooks + 1, width, dtype=torch.int64, device=device)
            n = int(rows * width * 0.4)
            with amp():
                slow, fast, _ = model.losses(tokens, tokens[:, 0], tokens.new_zeros(n),
                                             tokens.new_zeros(n, model.codebooks))
            (slow + fast).backward()
        model.zero_grad(set_to_none=True)
        group.say("compiled")
    texts = pathlib.Path(args.texts).read_text().splitlines()
    data = Utterances(texts, args.codes, (group.rank, group.size), tok, device, args.seed + group.rank)
    while data.refresh() == 0 or data.columns is None:
        time.sleep(2)
    batches = Batches(data, shapes, args.seed + group.rank)
    part, length, voice = data.held_out
    held_columns = torch.from_numpy(part).to(device)
    held_rows = fill_rows(*shapes[0], np.cumsum(length) - length, length,
                          [np.flatnonzero(voice == v) for v in np.unique(voice)], np.random.default_rng(0))
    matrices = [p for n, p in model.named_parameters() if p.dim() == 2 and "layers." in n]
    rest = [p for n, p in model.named_parameters() if not (p.dim() == 2 and "layers." in n)]
    everything = matrices + rest
    opts = [Muon(matrices, args.lr), torch.optim.AdamW(rest, args.lr_rest, betas=(0.9, 0.98), weight_decay=0.0)]
    peaks = (args.lr, args.lr_rest)
    group.agree(0.0)                                # all have data: the clock starts
    start, log, step, last_look = time.time(), None, 0, time.time()
    while step < args.steps:
        if step % 10 == 0:
            part = group.agree((time.time() - start) / (args.minutes * 60))
        if part >= 1:
            break
        if time.time() - last_look > args.look:
            if data.refresh():
                batches.update()
            last_look = time.time()
        rate = min(1, (step + 1) / 200) * max(0.01, min(1, (1 - part) / (1 - args.hold)))
        for opt, peak in zip(opts, peaks):
            for settings in opt.param_groups:
                settings["lr"] = peak * rate
        tokens, target, frames, codes = batch_on(device, batches.queue.get(), data.columns, tok, args.spoil, model.size)
        with amp():
            slow, fast, right = model.losses(tokens, target, frames, codes)
        (slow + 3 * fast).backward()
        group.average_gradients(everything)
        torch.nn.utils.clip_grad_norm_(rest, 1.0)
        for opt in opts:
            opt.step()
            opt.zero_grad(set_to_none=True)
        step += 1
        values = torch.stack((slow.detach(), fast.detach(), right.float()))
        log = values if log is None else log * 0.98 + values * 0.02
        if step % 500 == 0:
            group.copy_first([p.data for p in everything])      # rounding must not drive them apart
        if group.rank == 0 and (step % 250 == 0 or step == 20):
            with torch.no_grad(), amp():
                held = model.losses(*batch_on(device, held_rows, held_columns, tok, 0, model.size))
            print("lm step %d, %.0f s, slow %.4f, fast %.4f, right %.3f; held out: slow %.4f, fast %.4f, right %.3f; "
                  "%d x %d utterances" % (step, time.time() - start, *log.tolist(), *[float(h) for h in held],
                                          group.size, len(data.length)), flush=True)
        if group.rank == 0 and step % 1000 == 0:
            torch.save(model.state_dict(), args.out + ".part")
            os.replace(args.out + ".part", args.out)
    if group.rank == 0:
        torch.save(model.state_dict(), args.out)
    group.say("lm: %d steps of %d columns in %.1f min" % (step, group.size * args.tokens, (time.time() - start) / 60))
    group.close()


if __name__ == "__main__":
    main()

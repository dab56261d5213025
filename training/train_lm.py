#!/usr/bin/env python3
"""Train the language model on the code shards, taking in new shards as they appear.

A training row is one prompt: <|interleave|>, then utterances of one speaker, each "<|speaker:0|>" text codes <|im_end|>,
until the row is full; the last one is cut. Every utterance is thus learnt with the ones before it as references (the
first with none). The loss counts frames and <|im_end|>, not text. Some codes of the input are replaced at random, so
that the model recovers from its own slips; dropout and weight decay keep it from learning little speech by heart.
The learning rate follows the clock: it falls linearly over the last --fall of the time. The checkpoint holds the running
mean of the weights; it is written every 15 s. The first shards are kept out of training and judge that mean.

On a GPU, drawing a batch, the network, and the optimisers are compiled and recorded; what cannot be is done without,
with a warning. --speed prints what each of the three is worth, then trains.
Runs on one accelerator, or on several (group.py), each with its own part of the speech.

usage: train_lm.py TEXTS.txt CODES_DIR OUT.pt --minutes M [--init EARLIER_OUT.pt]"""
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
from lm import TOGETHER, DualAR
from loop import Average, Clock, Gradients, Log, adamw, fuse, replayed, save
from muon import Muon
from store import shards
from tokens import Tokenizer, vary

HERE = pathlib.Path(__file__).resolve().parent
HELD_OUT = 240              # utterances, at least
PER_ROW = 32                # utterances drawn for a row; the mean one has 150 columns
COLUMNS_PER_LINE = 160      # room per sentence


class Reader:
    """Reads shards in a thread, as they appear: batches() gives those that are new, as (columns [n, Q+1] int16,
    lengths, voices)."""

    def __init__(self, texts, folder, share, tokenizer, seed):
        self.texts, self.folder, self.share, self.tokenizer = texts, folder, share, tokenizer
        self.random, self.queue = random.Random(seed), queue.Queue(64)
        threading.Thread(target=self.work, daemon=True).start()

    def read(self, path):
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
        return np.concatenate(parts), np.array([len(p) for p in parts]), shard["voice"].astype(np.int64)

    def work(self):
        seen = set()
        while True:
            for path in sorted(set(shards(self.folder, "codes", self.share)) - seen):
                seen.add(path)
                try:
                    self.queue.put(self.read(path))
                except Exception as e:              # one bad file must not end the training
                    print("warning: %s is left out: %s" % (path, e), flush=True)
            time.sleep(2)

    def batches(self, most=50):
        while most and not self.queue.empty():
            most -= 1
            yield self.queue.get()


class Utterances:
    """Columns of utterances, on the device, at places that stay: there is room for `most` utterances."""

    def __init__(self, most, tokenizer, codebooks, device):
        self.device, self.size, self.used = device, 0, 0
        whole = dict(dtype=torch.int64, device=device)
        self.columns = torch.empty(most * COLUMNS_PER_LINE, 1 + codebooks, dtype=torch.int16, device=device)
        self.opening = torch.tensor([tokenizer.interleave] + [0] * codebooks, device=device)
        self.first, self.length, self.voice, self.member = torch.zeros(4, most, **whole)
        self.begin, self.count = torch.zeros(2, 128, **whole)       # of each voice in `member`
        self.voices, self.present = torch.zeros(128, **whole), torch.zeros(1, **whole)

    def add(self, columns, lengths, voices):
        """-> whether there was room."""
        a, b = self.size, self.size + len(lengths)
        if b > len(self.first) or self.used + len(columns) > len(self.columns):
            return False
        put = lambda place, x: place.copy_(torch.from_numpy(np.ascontiguousarray(x)))
        put(self.columns[self.used:self.used + len(columns)], columns)
        put(self.first[a:b], self.used + np.cumsum(lengths) - lengths)
        put(self.length[a:b], lengths)
        put(self.voice[a:b], voices)
        self.size, self.used = b, self.used + len(columns)
        return True

    def sort(self):
        """After add: group the utterances by voice."""
        self.member[:self.size] = torch.argsort(self.voice[:self.size])
        self.count.copy_(torch.bincount(self.voice[:self.size], minlength=len(self.count)))
        self.begin.copy_(self.count.cumsum(0) - self.count)
        there = self.count.nonzero()[:, 0]
        self.voices[:len(there)] = there
        self.present.fill_(len(there))

    def rows(self, rows, width):
        """-> columns [rows, width, Q+1] of one voice per row, all voices alike; made without waiting for the device."""
        draw = lambda count, *shape: (torch.rand(*shape, device=self.device) * count).long().minimum(count - 1)
        voice = self.voices[draw(self.present, rows, 1)]
        pick = self.member[self.begin[voice] + draw(self.count[voice], rows, PER_ROW)]
        length = self.length[pick]
        ends = 1 + length.cumsum(1)
        at = torch.arange(width, device=self.device).expand(rows, -1).contiguous()
        which = torch.searchsorted(ends, at, right=True).clamp(max=PER_ROW - 1)
        index = (self.first[pick] - (ends - length)).gather(1, which) + at
        cols = self.columns[index.clamp(0, len(self.columns) - 1)].long()
        cols = torch.where((at == 0)[..., None], self.opening, cols)
        return torch.where((at >= ends[:, -1:])[..., None], torch.zeros_like(self.opening), cols)


def batch(cols, tok, spoil, size, count):
    """cols [B, T, Q+1] -> tokens [B, Q+1, T], target [B, T], frames [count], codes [count, Q]: what DualAR.losses
    takes. Nothing here depends on values, so that it can be recorded."""
    ids, device = cols[..., 0], cols.device
    frame = ids >= tok.begin
    counts = frame | (ids == tok.im_end)
    target = torch.full_like(ids, -100)
    target[:, :-1] = torch.where(counts[:, 1:], ids[:, 1:], target[:, 1:])
    follow = torch.zeros_like(ids)
    follow[:, :-1] = frame[:, 1:]
    sums = follow.reshape(-1).cumsum(0)             # frames at even distances, from a random start
    wanted = (torch.arange(count, device=device) + torch.rand(1, device=device)) / count * sums[-1]
    frames = torch.searchsorted(sums, wanted.long() + 1).clamp(max=len(sums) - 2)
    codes = cols.flatten(0, 1)[frames + 1][:, 1:]
    given = cols[..., 1:]
    if spoil:
        rate = torch.rand(len(ids), 1, device=device) * spoil
        hit = frame & (torch.rand(ids.shape, device=device) < rate)
        level = torch.randint(given.shape[2], ids.shape, device=device)
        wrong = hit[..., None] & (torch.arange(given.shape[2], device=device) >= level[..., None])
        given = torch.where(wrong, torch.randint(size, wrong.shape, device=device), given)
        ids = torch.where(wrong[..., 0], given[..., 0] + tok.begin, ids)
    # text has no codes; different ones, as their gradients (zeros) would all be added up at one place
    blank = torch.arange(ids.shape[1], device=device) % size
    given = torch.where(frame[..., None], given, blank[:, None])
    return torch.cat((ids[..., None], given), 2).transpose(1, 2).contiguous(), target, frames, codes


def parse():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("texts")
    ap.add_argument("codes")
    ap.add_argument("out")
    ap.add_argument("--minutes", type=float, default=6)
    ap.add_argument("--by", type=float, help="end then at the latest (seconds since 1970)")
    ap.add_argument("--after", help="start the clock when this file exists; compile before")
    ap.add_argument("--steps", type=int, default=10 ** 9)
    ap.add_argument("--init", help="checkpoint to go on from")
    ap.add_argument("--rows", type=int, default=48, help="rows per step and accelerator")
    ap.add_argument("--width", type=int, default=768, help="columns of a row")
    ap.add_argument("--frames", type=float, default=0.25, help="frames per step whose inner codes are learnt, per column")
    ap.add_argument("--lr", type=float, default=0.02, help="of the matrices (Muon)")
    ap.add_argument("--lr-rest", type=float, default=0.003, help="of embeddings, heads and norms (AdamW)")
    ap.add_argument("--decay", type=float, default=0.03, help="weight decay of the matrices, times --lr")
    ap.add_argument("--dropout", type=float, default=0.1)
    ap.add_argument("--average", type=float, default=0.999, help="what the running mean keeps at a step")
    ap.add_argument("--fall", type=float, default=0.65, help="share of the time in which the learning rate falls")
    ap.add_argument("--spoil", type=float, default=0.1, help="largest share of spoilt input frames in a row")
    ap.add_argument("--mode", choices=("eager", "compiled", "recorded"), default="recorded", help="on a GPU")
    ap.add_argument("--speed", action="store_true", help="measure the modes first")
    ap.add_argument("--seed", type=int, default=1)
    return ap.parse_args()


def take_in(reader, held, data):
    """New shards: the first ones are held out. -> whether there is anything to learn from."""
    new = False
    for shard in reader.batches():
        if held.size < HELD_OUT:
            held.add(*shard)
            held.sort()
        elif data.add(*shard):
            new = True
    if new:
        data.sort()
    return data.size > 0


def measure(group, name, columns, steps, *functions):
    for k in range(steps + 3):
        if k == 3:                                  # the first ones compile
            if group.on_gpu:
                torch.cuda.synchronize()
            start = time.time()
        for function in functions:
            function()
    if group.on_gpu:
        torch.cuda.synchronize()
    each = (time.time() - start) / steps
    group.say("speed: %s: %.2f ms per step, %.0f columns per second" % (name, each * 1e3, columns / each))


def main():
    args = parse()
    torch.manual_seed(args.seed)
    group = Group()
    device = group.device
    torch.backends.cuda.matmul.allow_tf32 = True
    if hasattr(torch.backends.cuda, "enable_cudnn_sdp"):
        torch.backends.cuda.enable_cudnn_sdp(False)     # flash attention records well
    c = json.loads((HERE / "config.json").read_text())["lm"]
    tok = Tokenizer(c["codebook_size"])
    make = lambda: DualAR(dict(c, vocab_size=tok.vocab_size), tok.begin).to(device)
    model, judge = make(), make().eval()            # judge: the running mean, for the held-out sentences
    if args.init:
        model.load_state_dict(torch.load(args.init, map_location=device))
    if group.on_gpu:
        model.stream = judge.stream = torch.bfloat16
    model.set_dropout(args.dropout)
    texts = pathlib.Path(args.texts).read_text().splitlines()
    reader = Reader(texts, args.codes, (group.rank, group.size), tok, args.seed + group.rank)
    data, held = (Utterances(n, tok, model.codebooks, device) for n in (len(texts) // group.size + 1000, 1000))
    while not take_in(reader, held, data):
        time.sleep(1)

    matrices = [p for n, p in model.named_parameters() if p.dim() == 2 and "layers." in n]
    rest = [p for n, p in model.named_parameters() if not (p.dim() == 2 and "layers." in n)]
    rate = torch.tensor(args.lr, device=device) if group.on_gpu else args.lr
    muon = Muon(matrices, rate, weight_decay=args.decay)
    adam = adamw(group, rest, args.lr_rest, (0.9, 0.98), 0.0, recorded=True)
    gradients, average = Gradients(matrices + rest), Average(matrices + rest, args.average)
    count = max(1, round(args.rows * args.width * args.frames / TOGETHER)) * TOGETHER
    values = torch.zeros(3, device=device)

    def losses(network, rows, spoil):
        with torch.autocast(device, torch.bfloat16, enabled=group.on_gpu, cache_enabled=False):
            return network.losses(*batch(rows, tok, spoil, network.size, count))

    def learn():
        slow, fast, right = losses(model, data.rows(args.rows, args.width), args.spoil)
        gradients.take(slow + 3 * fast)
        values.copy_(torch.stack((slow.detach(), fast.detach(), right)))

    def improve():
        torch.nn.utils.clip_grad_norm_(rest, 1.0)
        muon.step()
        adam.step()
        average.update()

    torch.manual_seed(args.seed)
    held_rows = held.rows(args.rows, args.width)
    torch.manual_seed(args.seed + 1 + group.rank)
    clock = Clock(group, args.minutes, args.steps, args.fall)
    clock.set_rate(muon, adam)                      # zero while the functions are recorded
    columns = args.rows * args.width
    if args.speed:
        measure(group, "eager", columns, 10, learn, improve)
    if group.on_gpu and args.mode != "eager":
        start = time.time()
        for name in ("start", "slow_loss", "fast_start", "fast_loss"):
            fuse(model, name, dynamic=False)
        for block in [*model.layers, *model.fast_layers]:
            fuse(block, "forward", dynamic=False)
        learn()
        group.say("compiled in %.0f s" % (time.time() - start))
        if args.speed:
            measure(group, "compiled", columns, 30, learn, improve)
        if args.mode == "recorded":
            learn, improve = replayed(group, learn), replayed(group, improve)
            group.say("recorded after %.0f s" % (time.time() - start))
        if args.speed:
            measure(group, "recorded", columns, 100, learn, improve)
            measure(group, "recorded, of which optimisers", columns, 100, improve)
    while args.after and not os.path.exists(args.after):
        take_in(reader, held, data)
        time.sleep(0.5)
    group.agree(0.0)                                # all are ready: the clock starts
    minutes = min(args.minutes, (args.by - time.time()) / 60) if args.by else args.minutes
    clock = Clock(group, minutes, args.steps, args.fall)
    log, looked, judged = Log(group, clock, "lm"), time.time(), time.time()
    while clock.running():
        clock.set_rate(muon, adam)
        learn()
        group.average_gradients(gradients.parameters)
        improve()
        log.add(**dict(zip(("slow", "fast", "right"), values)))
        if time.time() - looked > 3:
            looked = time.time()
            take_in(reader, held, data)
        if clock.step % 500 == 0:
            group.copy_first([p.data for p in gradients.parameters])    # rounding must not drive them apart
        if group.rank == 0 and (clock.step in (20, 200) or time.time() - judged > 15):
            judged = time.time()
            judge.load_state_dict(average.state(model))
            with torch.no_grad():
                held_out = losses(judge, held_rows, 0)
            group.say("lm step %d, %.0f s, held out: slow %.4f, fast %.4f, right %.4f; %d x %d utterances" % (
                clock.step, time.time() - clock.start, *[float(x) for x in held_out], group.size, data.size))
        if clock.time_to_save(15):                  # a fault of the GPU ends the process: little may be lost
            save(average.state(model), args.out)
    if group.rank == 0:
        save(average.state(model), args.out)
    group.say("lm: %d steps of %d columns in %.1f min" % (clock.step - 1, group.size * columns,
                                                          (time.time() - clock.start) / 60))
    group.close()


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""Train the decoder, all that follows the quantiser, on the codes of a trained encoder (train_codes.py, encode.py):
spectral distance and, after a while, discriminators, each with its share of the gradient. Arithmetic is in 32 bits
(TF32 in products); with less the decoder would be blamed for rounding noise. The checkpoint holds the running mean of
the weights; OUT.critics beside it the discriminators, for a later --init OUT.pt.

It can start before the encoder is trained: steps on noise are recorded first, which takes half a minute on a GPU, and
forgotten; then it waits for CODES.pt and the first codes, and the clock starts. On a GPU the discriminators run side by
side, if that gives the same gradients, and is faster, than one after the other.
Runs on one accelerator, or on several (group.py).

usage: train_decoder.py AUDIO_DIR CODES_DIR CODES.pt OUT.pt --minutes M [--init EARLIER_OUT.pt]"""
import argparse
import json
import os
import pathlib
import time

import torch

import codec as networks
from codec import Codec
from discriminators import Discriminators, Distance, judge
from group import Group
from loop import Average, Clock, Gradients, Log, adamw, forget, fuse, replayed, save
from store import Frames, wait_for_shards

HERE = pathlib.Path(__file__).resolve().parent
NAMES = ("mel", "distance", "critic", "fool", "feature")


def parse():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("audio")
    ap.add_argument("codes")
    ap.add_argument("encoder", help="checkpoint of train_codes.py")
    ap.add_argument("out")
    ap.add_argument("--init", help="checkpoint of this program to go on from, on the same codes")
    ap.add_argument("--minutes", type=float, default=8)
    ap.add_argument("--by", type=float, help="end then at the latest (seconds since 1970)")
    ap.add_argument("--steps", type=int, default=10 ** 9)
    ap.add_argument("--batch", type=int, default=16, help="crops per step and accelerator")
    ap.add_argument("--frames", type=int, default=36, help="frames of a crop, which the transformer sees")
    ap.add_argument("--decoded", type=int, default=16, help="frames of it that become sound")
    ap.add_argument("--heard", type=int, default=12, help="last frames of these that the discriminators hear")
    ap.add_argument("--shards", type=int, default=200, help="shards of speech to learn from, over all accelerators")
    ap.add_argument("--lr", type=float, default=6e-4)
    ap.add_argument("--critics-lr", type=float, default=2e-4)
    ap.add_argument("--critics-every", type=int, default=2, help="steps of the decoder to one of the discriminators")
    ap.add_argument("--critics-from", type=float, default=0.2, help="share of the time before discriminators join")
    ap.add_argument("--fool", type=float, default=0.2, help="share of the gradient that is for fooling them")
    ap.add_argument("--feature", type=float, default=0.25, help="share that is for the distance of their maps")
    ap.add_argument("--mode", choices=("eager", "recorded", "apart"), default="apart", help="on a GPU; apart: recorded, "
                    "with the discriminators side by side")
    ap.add_argument("--seed", type=int, default=1)
    return ap.parse_args()


class Shares:
    """Adds gradients so that each has its share of the length of the sum, whatever its scale."""

    def __init__(self, shares, device):
        self.shares, self.length = shares, torch.zeros(len(shares), device=device)

    def add(self, gradients):
        new = torch.stack([g.norm() for g in gradients])
        self.length.copy_(torch.maximum(new, 0.99 * self.length + 0.01 * new))
        return sum(share / (length + 1e-12) * g for share, length, g in zip(self.shares, self.length, gradients))


def faster(group, row, apart, outcome):
    """Of two recordings of one step the faster, if they agree. outcome: runs one -> vectors of its gradients."""
    want = outcome(row)
    error = max(float((g - w).norm() / w.norm()) for _ in range(5) for g, w in zip(outcome(apart), want))
    times = {row: 0.0, apart: 0.0}
    for _ in range(10):                             # by turns: others may use the device
        for step in times:
            torch.cuda.synchronize()
            start = time.time()
            for _ in range(3):
                step()
            torch.cuda.synchronize()
            times[step] += (time.time() - start) / 30
    good = error < 0.03 and times[apart] < times[row]
    group.say("decoder: a step with discriminators one after the other %.1f ms, side by side %.1f ms, difference %.4f: %s"
              % (times[row] * 1e3, times[apart] * 1e3, error, "side by side" if good else "one after the other"))
    return good


def main():
    args = parse()
    torch.manual_seed(args.seed)
    group = Group()
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    torch.backends.cudnn.benchmark = True
    c = json.loads((HERE / "config.json").read_text())["codec"]
    codec = Codec(c).to(group.device)
    critics = Discriminators().to(group.device).to(memory_format=torch.channels_last)
    at_first = {name: t.clone() for name, t in critics.state_dict().items()}
    distance = Distance(c["sample_rate"]).to(group.device)
    codec.eval()                                    # the code books stay as they are
    quantizer, hop = codec.quantizer, codec.hop
    torch.manual_seed(args.seed + 1 + group.rank)
    record = group.on_gpu and args.mode != "eager"
    if record:
        fuse(networks.Snake, "function", dynamic=True)

    learn = [p for m in (quantizer.post_module, quantizer.upsample, codec.decoder) for p in m.parameters()]
    gradients, judging = Gradients(learn), Gradients(critics.parameters())
    opt_g = adamw(group, learn, args.lr, recorded=True)
    opt_d = adamw(group, critics.parameters(), args.critics_lr, recorded=True)
    average = Average(learn)
    alone, shares = (Shares(s, group.device)
                     for s in ((1.0,), (1 - args.fool - args.feature, args.fool, args.feature)))
    codes = torch.randint(c["codebook_size"], (args.batch, c["num_codebooks"], args.frames), device=group.device)
    at = torch.full((args.batch,), args.frames - args.decoded, device=group.device)
    wav = 0.05 * torch.randn(args.batch, 1, args.decoded * hop, device=group.device)
    values, heard, streams = torch.zeros(len(NAMES), device=group.device), args.heard * hop, []

    def decode():
        with torch.no_grad():
            z = codec.dequantize(codes)
        features = quantizer.after(z)
        rows = features.shape[-1] // args.frames
        index = (rows * at)[:, None] + torch.arange(rows * args.decoded, device=group.device)
        return codec.decoder(features.gather(2, index[:, None].expand(-1, features.shape[1], -1)))

    def draw():
        fake = decode()
        far, mel = distance(wav, fake)
        gradients.take(fake, alone.add(torch.autograd.grad(far, fake)))
        values[:2].copy_(torch.stack((mel, far.detach())))

    def duel(learning):
        fake = decode()
        judged = judge(critics, wav[..., -heard:], fake[..., -heard:], streams)
        far, mel = distance(wav, fake)
        pull = torch.autograd.grad(far, fake)
        critic, fool, feature = judged()
        if learning:
            judging.take(critic, retain_graph=True)
        pull += torch.autograd.grad(fool, fake, retain_graph=True) + torch.autograd.grad(feature, fake)
        gradients.take(fake, shares.add(pull))
        values.copy_(torch.stack((mel, far, critic, fool, feature)).detach())

    def contest():
        duel(learning=True)

    def follow():
        duel(learning=False)

    def improve():
        opt_g.step()
        average.update()

    def sharpen():
        opt_d.step()

    def outcome(step):
        shares.length.zero_()
        step()
        return [torch.cat([p.grad.flatten() for p in parameters]) for parameters in (learn, judging.parameters)]

    if record:
        start = time.time()
        Clock(group, 1, 1).set_rate(opt_g, opt_d)   # to zero
        contest()                                   # the choice of convolutions is not for several streams at once
        group.say("decoder: first step after %.0f s" % (time.time() - start))
        draw, improve, sharpen = (replayed(group, f) for f in (draw, improve, sharpen))
        functions = contest, follow
        contest, follow = (replayed(group, f) for f in functions)
        if args.mode == "apart" and contest not in functions:
            streams += [torch.cuda.Stream() for _ in critics.parts]
            apart = [replayed(group, f) for f in functions]
            if apart[0] not in functions and apart[1] not in functions and faster(group, contest, apart[0], outcome):
                contest, follow = apart
        group.say("decoder: recorded after %.0f s" % (time.time() - start))
    group.say("decoder: ready")
    while not os.path.exists(args.init or args.encoder):
        time.sleep(0.3)
    share = (group.rank, group.size)
    wait_for_shards(args.audio, -(-12 // group.size), share, args.codes)
    codec.load_state_dict(torch.load(args.init or args.encoder, map_location=group.device)["codec"])
    critics.load_state_dict(at_first)
    if args.init and os.path.exists(args.init + ".critics"):
        critics.load_state_dict(torch.load(args.init + ".critics", map_location=group.device))
        args.critics_from = 0
    for optimizer in (opt_g, opt_d):
        forget(optimizer)
    for each in (alone, shares):
        each.length.zero_()
    average.restart()
    data = Frames(args.audio, args.codes, hop, group.device, share, -(-args.shards // group.size))
    clock = Clock(group, min(args.minutes, (args.by - time.time()) / 60) if args.by else args.minutes, args.steps)
    log = Log(group, clock, "decoder")
    while clock.running():
        clock.set_rate(opt_g, opt_d)
        for old, new in zip((codes, at, wav), data.crops(args.batch, args.frames, args.decoded)):
            old.copy_(new)
        if clock.part < args.critics_from:
            draw()
        elif clock.step % args.critics_every:
            follow()
        else:
            contest()
            group.average_gradients(judging.parameters)
            sharpen()
        group.average_gradients(learn)
        improve()
        log.add(**dict(zip(NAMES, values)))
        if clock.step % 300 == 0:
            data.refresh()
        if clock.time_to_save():
            save({"codec": average.state(codec)}, args.out)
    if group.rank == 0:
        save(critics.state_dict(), args.out + ".critics")
        save({"codec": average.state(codec)}, args.out)
    group.say("decoder: %d steps of %d crops" % (clock.step - 1, group.size * args.batch))
    group.close()


if __name__ == "__main__":
    main()

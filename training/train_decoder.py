#!/usr/bin/env python3
"""Train the decoder, all that follows the quantiser, on the codes of a trained encoder (train_codes.py): mel distance
and, almost from the start, discriminators. Runs on one accelerator, or on several (group.py).

usage: train_decoder.py AUDIO_DIR CODES.pt OUT.pt --minutes M"""
import argparse
import json
import os
import pathlib

import torch

from codec import Codec, Snake
from discriminators import Discriminators, MelDistance, judge
from group import Group
from loop import Clock, Log, Part, adamw, record
from store import Audio, wait_for_shards

HERE = pathlib.Path(__file__).resolve().parent
MEL_WEIGHT, FEATURE_WEIGHT = 30.0, 2.0              # against 1 for fooling the discriminators


def parse():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("audio")
    ap.add_argument("codes")
    ap.add_argument("out")
    ap.add_argument("--minutes", type=float, default=8)
    ap.add_argument("--steps", type=int, default=10 ** 9)
    ap.add_argument("--batch", type=int, default=16, help="crops per step and accelerator")
    ap.add_argument("--frames", type=int, default=26, help="length of a crop in frames")
    ap.add_argument("--heard", type=int, default=12, help="frames of it that the discriminators hear")
    ap.add_argument("--shards", type=int, default=400, help="shards of speech to learn from, over all accelerators")
    ap.add_argument("--lr", type=float, default=4e-4)
    ap.add_argument("--critics-from", type=float, default=0.03, help="share of the time before discriminators join")
    ap.add_argument("--seed", type=int, default=1)
    return ap.parse_args()


def main():
    args = parse()
    torch.manual_seed(args.seed)
    group = Group()
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    c = json.loads((HERE / "config.json").read_text())["codec"]
    share = (group.rank, group.size)
    wait_for_shards(args.audio, -(-15 // group.size), share)
    audio = Audio(args.audio, group.device, share, -(-args.shards // group.size))
    codec, critics = Codec(c).to(group.device), Discriminators().to(group.device)
    mel = MelDistance(c["sample_rate"]).to(group.device)
    state = torch.load(args.codes, map_location=group.device)
    codec.load_state_dict(state["codec"])
    codec.eval()                                    # the code books stay as they are
    if "critics" in state:
        critics.load_state_dict(state["critics"])
        args.critics_from = 0
    quantizer, latent = codec.quantizer, c["encoder_channels"][-1]
    samples, heard = args.frames * codec.hop, args.heard * codec.hop
    torch.manual_seed(args.seed + 1 + group.rank)

    def decode(z, wav):
        fake = codec.decoder(quantizer.after(z))
        with torch.autocast(z.device.type, enabled=False):
            return fake, mel(wav, fake)

    if group.on_gpu:
        torch._dynamo.config.recompile_limit = 64
        Snake.function = staticmethod(torch.compile(Snake.function, dynamic=True))
    wav = audio.crops(args.batch, samples)
    piece = wav[..., :heard].contiguous()
    z = torch.zeros(args.batch, latent, args.frames, device=group.device)
    back, trial = record(group, (
        Part(decode, quantizer.post_module, quantizer.upsample, codec.decoder),
        Part(lambda wav, fake: judge(critics, wav, fake), critics)),
        ((z, wav), (piece, piece.clone().requires_grad_())))
    front = Part(lambda wav: quantizer.before(codec.encoder(wav)).float(), codec.encoder)
    learn = [p for p in back.parameters() if p.requires_grad]
    opt_g, opt_d = adamw(group, learn, args.lr), adamw(group, critics.parameters(), args.lr)
    clock = Clock(group, args.minutes, args.steps)
    log = Log(group, clock, "decoder")
    while clock.running():
        clock.set_rate(opt_g, opt_d)
        wav = audio.crops(args.batch, samples)
        with torch.no_grad():
            z, _ = quantizer.quantize(front(wav), drop=0.1)
        fake, distance = back(z, wav)
        loss, fool, feature = MEL_WEIGHT * distance, torch.zeros(()), torch.zeros(())
        if clock.part >= args.critics_from:
            at = int(torch.randint(samples - heard + 1, ()))
            piece, guess = wav[..., at:at + heard].contiguous(), fake[..., at:at + heard].contiguous()
            critic, _, _ = trial(piece, guess.detach().requires_grad_())
            opt_d.zero_grad(set_to_none=True)
            critic.backward()
            group.average_gradients(critics.parameters())
            torch.nn.utils.clip_grad_norm_(critics.parameters(), 10.0)
            opt_d.step()
            _, fool, feature = trial(piece, guess)
            loss = loss + fool + FEATURE_WEIGHT * feature
        opt_g.zero_grad(set_to_none=True)
        loss.backward()
        group.average_gradients(learn)
        norm = torch.nn.utils.clip_grad_norm_(learn, 5.0)
        opt_g.step()
        log.add(mel=distance, fool=fool, feature=feature, gradient=norm)
        if clock.step % 500 == 0:
            audio.refresh()
    if group.rank == 0:
        torch.save({"codec": codec.state_dict(), "critics": critics.state_dict()}, args.out + ".part")
        os.replace(args.out + ".part", args.out)
    group.say("decoder: %d steps of %d crops" % (clock.step - 1, group.size * args.batch))
    group.close()


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""Train the codec: mel distance, adversarial, feature and commitment losses on random crops.

With --decoder-only the encoder and the quantiser stay as they are and only the part after the codebooks learns.
The learning rate follows the clock: it falls to a twentieth over --minutes.

usage: train_codec.py AUDIO_DIR OUT.pt --minutes M [--init X.pt] [--decoder-only]"""
import argparse
import json
import os
import pathlib
import time

import torch

from codec import Codec, Snake
from discriminators import Discriminators, MelDistance, judge
from store import Audio, wait_for_shards

HERE = pathlib.Path(__file__).resolve().parent


def parse():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("audio")
    ap.add_argument("out")
    ap.add_argument("--minutes", type=float, default=10)
    ap.add_argument("--steps", type=int, default=10 ** 9)
    ap.add_argument("--init", help="codec and discriminators to start from")
    ap.add_argument("--decoder-only", action="store_true")
    ap.add_argument("--batch", type=int, default=32)
    ap.add_argument("--frames", type=int, default=26, help="length of a crop in frames")
    ap.add_argument("--heard", type=int, default=12, help="frames of it that the discriminators hear")
    ap.add_argument("--lr", type=float, default=4e-4)
    ap.add_argument("--raw-steps", type=int, default=500, help="steps with noise in place of the quantiser")
    ap.add_argument("--critics-from", type=float, default=0.4, help="share of the time before discriminators join")
    ap.add_argument("--seed", type=int, default=1)
    return ap.parse_args()


def save(path, codec, critics):
    torch.save({"codec": codec.state_dict(), "critics": critics.state_dict()}, path + ".part")
    os.replace(path + ".part", path)


class Part(torch.nn.Module):
    """A function of some modules, in mixed precision; on the GPU it is recorded once and replayed."""

    def __init__(self, function, *modules):
        super().__init__()
        self.function, self.modules_ = function, torch.nn.ModuleList(modules)

    def forward(self, *x):
        with torch.autocast(x[0].device.type, torch.bfloat16, enabled=x[0].is_cuda, cache_enabled=False):
            return self.function(*x)


def main():
    args = parse()
    torch.manual_seed(args.seed)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    c = json.loads((HERE / "config.json").read_text())["codec"]
    wait_for_shards(args.audio, 15)
    audio = Audio(args.audio, device)
    codec, critics = Codec(c).to(device), Discriminators().to(device)
    mel = MelDistance(c["sample_rate"]).to(device)
    if args.init:
        state = torch.load(args.init, map_location=device)
        codec.load_state_dict(state["codec"])
        critics.load_state_dict(state["critics"])
        for stage in codec.quantizer.stages():
            stage.remember(args.batch * args.frames)
        args.raw_steps = args.critics_from = 0
    quantizer = codec.quantizer

    def decode(z, wav):
        fake = codec.decoder(quantizer.after(z))
        with torch.autocast(z.device.type, enabled=False):
            return fake, mel(wav, fake)

    front = Part(lambda wav: quantizer.before(codec.encoder(wav)).float(), codec.encoder, quantizer.downsample,
                 quantizer.pre_module)
    back = Part(decode, quantizer.post_module, quantizer.upsample, codec.decoder)
    trial = Part(lambda wav, fake: judge(critics, wav, fake), critics)
    samples, heard = args.frames * codec.hop, args.heard * codec.hop
    if device == "cuda":
        torch._dynamo.config.recompile_limit = 64
        Snake.function = staticmethod(torch.compile(Snake.function, dynamic=True))
        wav = audio.crops(args.batch, samples)
        z = torch.zeros(args.batch, c["encoder_channels"][-1], args.frames, device=device,
                        requires_grad=not args.decoder_only)
        piece = wav[..., :heard].contiguous()
        inputs = [(z, wav), (piece, piece.clone().requires_grad_())]
        if args.decoder_only:
            back, trial = torch.cuda.make_graphed_callables((back, trial), tuple(inputs))
        else:
            front, back, trial = torch.cuda.make_graphed_callables((front, back, trial), ((wav,), *inputs))
    learn = [p for p in (back if args.decoder_only else codec).parameters() if p.requires_grad]
    options = {"betas": (0.8, 0.99), "weight_decay": 0.01, **({"fused": True} if device == "cuda" else {})}
    opt_g = torch.optim.AdamW(learn, args.lr, **options)
    opt_d = torch.optim.AdamW(critics.parameters(), args.lr, **options)
    start, log, step = time.time(), None, 0
    while step < args.steps:
        part = (time.time() - start) / (args.minutes * 60)
        if part >= 1:
            break
        rate = args.lr * min(1, (step + 1) / 200) * max(0.05, min(1, 1.25 * (1 - part)))
        for group in opt_g.param_groups + opt_d.param_groups:
            group["lr"] = rate
        wav = audio.crops(args.batch, samples)
        commit = torch.zeros((), device=device)
        if args.decoder_only:
            codec.eval()
            with torch.no_grad():
                z, _ = quantizer.quantize(front(wav))
        else:
            r = front(wav)
            if step == args.raw_steps:
                quantizer.start(torch.cat([front(audio.crops(args.batch, samples)).detach().clone()
                                           for _ in range(8)]))
                r = front(wav)
            if step < args.raw_steps:
                z = r + 0.5 * torch.randn_like(r)
            else:
                z, commit = quantizer.quantize(r, drop=0.15)
        fake, distance = back(z, wav)
        loss = 15 * distance / 6 + commit
        fool = feature = torch.zeros(())
        if part >= args.critics_from and step >= args.raw_steps:
            at = int(torch.randint(samples - heard + 1, ()))
            piece, guess = wav[..., at:at + heard].contiguous(), fake[..., at:at + heard].contiguous()
            critic, _, _ = trial(piece, guess.detach().requires_grad_())
            opt_d.zero_grad(set_to_none=True)
            critic.backward()
            torch.nn.utils.clip_grad_norm_(critics.parameters(), 10.0)
            opt_d.step()
            _, fool, feature = trial(piece, guess)
            loss = loss + fool + 2 * feature / 3
        opt_g.zero_grad(set_to_none=True)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(learn, 5.0)
        opt_g.step()
        step += 1
        values = torch.stack([torch.as_tensor(v, device=device).detach().float()
                              for v in (distance, fool, feature, commit, norm)])
        log = values if log is None else log * 0.98 + values * 0.02
        if step % 200 == 0 or step in (20, 50, 100):
            print("codec step %d, %.0f s, mel %.4f, fool %.3f, feature %.3f, commitment %.4f, gradient %.2f, lr %.1e"
                  % (step, time.time() - start, *log.tolist(), rate), flush=True)
        if step % 500 == 0:
            audio.refresh()
            save(args.out + ".last", codec, critics)
    save(args.out, codec, critics)
    print("codec: %d steps in %.1f min" % (step, (time.time() - start) / 60), flush=True)


if __name__ == "__main__":
    main()

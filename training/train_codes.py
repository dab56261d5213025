#!/usr/bin/env python3
"""Train the encoder and the quantiser: what the codes say must give the spectrogram.

A linear head on the features behind the quantiser draws log mel spectrograms at three window lengths; the waveform
decoder takes no part and learns afterwards (train_decoder.py), so that the codes are final early. For the first steps
noise stands in the place of the quantiser. Runs on one accelerator, or on several (group.py).

usage: train_codes.py AUDIO_DIR OUT.pt --minutes M"""
import argparse
import json
import pathlib

import torch
import torch.nn as nn
import torch.nn.functional as F

import codec as networks
from codec import Codebook, Codec
from discriminators import mel_filters
from group import Group
from loop import Clock, Log, Part, adamw, fuse, record, save
from store import Audio, wait_for_shards

HERE = pathlib.Path(__file__).resolve().parent


class Sketch(nn.Module):
    """Log mel spectrograms, one column for every HOP samples, and the head that draws them from features."""
    SIZES = ((256, 40), (512, 60), (1024, 100))

    def __init__(self, latent, rate, hop):
        super().__init__()
        self.hop, self.head = hop, nn.Linear(latent, sum(n for _, n in self.SIZES))
        for n_fft, n_mels in self.SIZES:
            self.register_buffer("mel%d" % n_fft, mel_filters(rate, n_fft, n_mels), persistent=False)
            self.register_buffer("window%d" % n_fft, torch.hann_window(n_fft), persistent=False)

    def columns(self, wav):
        """wav [B, 1, n] -> [B, n / hop, all mels]; column t is centred on sample (t + 1/2) hop."""
        out = []
        for n_fft, _ in self.SIZES:
            window = getattr(self, "window%d" % n_fft)
            left = (n_fft - self.hop) // 2
            x = F.pad(wav[:, 0], (left, n_fft - self.hop - left)).unfold(-1, n_fft, self.hop)
            s = torch.view_as_real(torch.fft.rfft(x * window)).pow(2).sum(-1)
            out.append(((s / window.pow(2).sum()).clamp(min=1e-8).sqrt() @ getattr(self, "mel%d" % n_fft)
                        + 3e-3).log10())
        return torch.cat(out, -1)

    def forward(self, features, wav):
        """features [B, latent, n / hop] -> mean distance."""
        drawn = self.head(features.transpose(1, 2).float())
        return (drawn - self.columns(wav)).abs().mean()


def parse():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("audio")
    ap.add_argument("out")
    ap.add_argument("--minutes", type=float, default=3)
    ap.add_argument("--steps", type=int, default=10 ** 9)
    ap.add_argument("--batch", type=int, default=32, help="crops per step and accelerator")
    ap.add_argument("--frames", type=int, default=26, help="length of a crop in frames")
    ap.add_argument("--shards", type=int, default=400, help="shards of speech to learn from, over all accelerators")
    ap.add_argument("--lr", type=float, default=1e-3)
    ap.add_argument("--raw", type=float, default=0.15, help="share of the time with noise in place of the quantiser")
    ap.add_argument("--seed", type=int, default=1)
    return ap.parse_args()


def main():
    args = parse()
    torch.manual_seed(args.seed)
    group = Codebook.group = Group()
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    c = json.loads((HERE / "config.json").read_text())["codec"]
    share = (group.rank, group.size)
    wait_for_shards(args.audio, -(-15 // group.size), share)
    audio = Audio(args.audio, group.device, share, -(-args.shards // group.size))
    codec = Codec(c).to(group.device)
    quantizer, latent = codec.quantizer, c["encoder_channels"][-1]
    sketch = Sketch(latent, c["sample_rate"], codec.hop // 4).to(group.device)
    torch.manual_seed(args.seed + 1 + group.rank)

    def draw(z, wav):
        features = quantizer.after(z)
        with torch.autocast(z.device.type, enabled=False):
            return sketch(features, wav)

    samples = args.frames * codec.hop
    if group.on_gpu:
        fuse(networks.Snake, "function", dynamic=True)
    wav = audio.crops(args.batch, samples)
    z = torch.zeros(args.batch, latent, args.frames, device=group.device, requires_grad=True)
    front, back = record(group, (
        Part(lambda wav: quantizer.before(codec.encoder(wav)).float(), codec.encoder, quantizer.downsample,
             quantizer.pre_module),
        Part(draw, quantizer.post_module, quantizer.upsample, sketch)), ((wav,), (z, wav)))
    learn = [p for m in (codec.encoder, quantizer, sketch) for p in m.parameters() if p.requires_grad]
    optimizer = adamw(group, learn, args.lr)
    clock, started = Clock(group, args.minutes, args.steps), False
    log = Log(group, clock, "codes")
    while clock.running():
        clock.set_rate(optimizer)
        wav, commit = audio.crops(args.batch, samples), torch.zeros((), device=group.device)
        if not started and clock.part >= args.raw:
            started = True
            quantizer.start(torch.cat([front(audio.crops(args.batch, samples)).detach().clone() for _ in range(8)]))
            group.copy_first([*quantizer.parameters(), *quantizer.buffers()])
        r = front(wav)
        if started:
            z, commit = quantizer.quantize(r, drop=0.15)
        else:
            z = r + 0.5 * torch.randn_like(r)
        distance = back(z, wav)
        optimizer.zero_grad(set_to_none=True)
        (10 * distance + commit).backward()
        group.average_gradients(learn)
        norm = torch.nn.utils.clip_grad_norm_(learn, 5.0)
        optimizer.step()
        log.add(distance=distance, commitment=commit, gradient=norm)
        if clock.step % 200 == 0:
            audio.refresh()
    if group.rank == 0:
        save({"codec": codec.state_dict()}, args.out)
    group.say("codes: %d steps of %d crops" % (clock.step - 1, group.size * args.batch))
    group.close()


if __name__ == "__main__":
    main()

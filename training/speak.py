#!/usr/bin/env python3
"""Speak with an exported checkpoint, in PyTorch: an independent check of the engine, and slow.

usage: speak.py MODEL_DIR VOICE OUT.wav TEXT [--seed N]"""
import argparse
import json
import pathlib
import wave

import numpy as np
import torch

from codec import Codec
from lm import DualAR
from tokens import Tokenizer


def read_codec(path, c):
    """The codec module from codec.pth; the sizes come from the tensors, the rest from "utter"."""
    t = {k: v.float() for k, v in torch.load(path, map_location="cpu").items()}
    blocks = range(1, sum(k.startswith("encoder.block") and k.endswith(".block.4.conv.bias") for k in t) + 1)
    last = len(blocks)
    count = lambda prefix: sum(k.startswith(prefix) and k.endswith("attention.wo.weight") for k in t)
    deep = "encoder.block.%d.block.5" % last
    sizes = {
        "strides": [t["encoder.block.%d.block.4.conv.weight" % b].shape[2] // 2 for b in blocks],
        "dilations": c["dilations"],
        "encoder_channels": [len(t["encoder.block.0.conv.bias"])] +
                            [len(t["encoder.block.%d.block.4.conv.bias" % b]) for b in blocks],
        "decoder_channels": [len(t["decoder.model.0.conv.bias"])] +
                            [len(t["decoder.model.%d.block.1.conv.bias" % b]) for b in blocks],
        "num_codebooks": sum(k.endswith("codebook.weight") for k in t),
        "codebook_size": len(t["quantizer.semantic_quantizer.quantizers.0.codebook.weight"]),
        "codebook_dim": t["quantizer.semantic_quantizer.quantizers.0.codebook.weight"].shape[1],
        "head_dim": t["quantizer.post_module.freqs_cis"].shape[1] * 2,
        "intermediate_size": len(t["quantizer.post_module.layers.0.feed_forward.w1.weight"]),
        "encoder_intermediate_size": len(t[deep + ".layers.0.feed_forward.w1.weight"]),
        "encoder_layers": count(deep), "pre_layers": count("quantizer.pre_module"),
        "post_layers": count("quantizer.post_module"), "encoder_window": c["encoder_window"], "window": c["window"],
        "norm_eps": c["codec_norm_eps"], "rope_base": c["codec_rope_base"], "rope_rows": 0,
    }
    codec = Codec(sizes).eval()
    codec.load_state_dict({k: v for k, v in t.items() if not k.endswith("freqs_cis")})
    return codec


class Speaker:
    """A loaded checkpoint."""

    def __init__(self, folder):
        folder = pathlib.Path(folder)
        self.folder, self.config = folder, json.loads((folder / "config.json").read_text())
        self.utter = self.config["utter"]
        self.tok = Tokenizer(self.config["codebook_size"])
        self.lm = DualAR(self.config, self.tok.begin).eval()
        self.lm.load_state_dict({k: v.float() for k, v in torch.load(folder / "model.pth").items()})
        self.codec = read_codec(folder / "codec.pth", self.utter)

    def prompt(self, text, references):
        """references: (text, codes [Q, T]) pairs -> columns [Q+1, T]."""
        ids, codes, blank = [self.tok.interleave], [[0] * self.lm.codebooks], [0] * self.lm.codebooks
        for said, spoken in references:
            mark = self.tok.mark + self.tok.text(said)
            ids += mark + [self.tok.begin + c for c in spoken[0]] + [self.tok.im_end]
            codes += [blank] * len(mark) + [list(f) for f in zip(*spoken)] + [blank]
        mark = self.tok.mark + self.tok.text(text)
        return torch.tensor([ids + mark] + list(zip(*(codes + [blank] * len(mark)))))

    def pick(self, logits, noise):
        """Top-p on the plain logits (the crossing entry goes), then temperature."""
        p, order = logits.softmax(-1).sort(descending=True)
        keep = p.cumsum(-1) <= self.utter["top_p"]
        keep[0] = True
        p = (logits[order[keep]] / max(self.utter["temperature"], 1e-5)).softmax(-1)
        return int(order[keep][torch.argmax(p / torch.empty(len(p)).exponential_(generator=noise))])

    @torch.no_grad()
    def codes(self, text, voice, seed=1):
        """-> (codes [Q, T], whether it ended by itself)."""
        noise = torch.Generator().manual_seed(seed)
        v = json.loads((self.folder / "voices" / (voice + ".json")).read_text())
        column = self.prompt(text, [(v["text"], v["codes"])])[None]
        limit = 20 + int(self.utter["frames_per_char_limit"] * len(text))
        caches, at, frames = [{} for _ in self.lm.layers], 0, []
        while len(frames) < limit:
            hidden, logits = self.lm.slow(column, caches, at)
            at += column.shape[2]
            token = self.pick(logits[0, -1], noise)
            if token == self.tok.im_end:
                return torch.tensor(frames).T.reshape(self.lm.codebooks, -1), True
            frame, fast = [max(token - self.tok.begin, 0)], [{} for _ in self.lm.fast_layers]
            self.lm.fast_step(hidden[:, -1], 0, fast)
            for k in range(1, self.lm.codebooks):
                logits = self.lm.fast_step(self.lm.fast_embeddings(torch.tensor(frame[-1:])), k, fast)
                frame.append(self.pick(logits[0], noise))
            frames.append(frame)
            column = torch.tensor([token] + frame)[None, :, None]
        return torch.tensor(frames).T, False

    @torch.no_grad()
    def copy(self, wav):
        """wav [n] -> the codec's copy of it."""
        wav = np.pad(wav, (0, -len(wav) % self.codec.hop)).astype(np.float32)
        return self.codec.decode(self.codec.encode(torch.from_numpy(wav)[None, None]))[0, 0].numpy()

    @torch.no_grad()
    def wav(self, codes):
        return self.codec.decode(codes[None])[0, 0].numpy() if codes.shape[1] else np.zeros(0, np.float32)


def write_wav(path, wav, rate):
    with wave.open(str(path), "wb") as w:
        w.setnchannels(1)
        w.setsampwidth(2)
        w.setframerate(rate)
        w.writeframes((np.clip(wav, -1, 32767 / 32768) * 32768).astype("<i2").tobytes())


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("model", "voice", "out", "text"):
        ap.add_argument(name)
    ap.add_argument("--seed", type=int, default=1)
    args = ap.parse_args()
    speaker = Speaker(args.model)
    codes, ended = speaker.codes(args.text, args.voice, args.seed)
    write_wav(args.out, speaker.wav(codes), speaker.utter["sample_rate"])
    print("%d frames, %s" % (codes.shape[1], "ended by itself" if ended else "cut"))


if __name__ == "__main__":
    main()

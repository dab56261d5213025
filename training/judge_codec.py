#!/usr/bin/python3
"""Word error rates of the teachers and of a codec checkpoint's copies of them, before anything is exported; and a
picture of the spectrogram of one sentence per voice, the teacher above the copy. Runs on a CPU.

usage: training/judge_codec.py CODEC.pt [--count 30] [--picture OUT.png] [--keep DIR]"""
import argparse
import collections
import json
import os
import pathlib
import struct
import tempfile
import zlib

import numpy as np
import torch

from codec import Codec
from synthesise import RATE, TEACHERS, speak

HERE = pathlib.Path(__file__).resolve().parent
PICTURED = 3.0                  # seconds


def load_tools():
    """What `evaluate`, a program without a suffix, has already."""
    import importlib.machinery
    import importlib.util
    loader = importlib.machinery.SourceFileLoader("evaluate", str(HERE / "evaluate"))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("evaluate", loader))
    loader.exec_module(module)
    return module


def spectrogram(x):
    """uint8 [bins, columns] of log amplitudes from 20 to -80 dB of a full-scale sine's, high frequencies first."""
    x = np.pad(x, (0, max(0, int(PICTURED * RATE) - len(x))))[:int(PICTURED * RATE)]
    frames = np.lib.stride_tricks.sliding_window_view(x, 640)[::64] * np.hanning(640)
    level = 20 * np.log10(np.abs(np.fft.rfft(frames, 768)) / 160 + 1e-6)
    return (np.clip((level + 80) / 80, 0, 1) * 255).astype(np.uint8).T[::-1]


def write_png(path, grey):
    """grey uint8 [rows, columns]."""
    chunk = lambda kind, data: (struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)))
    rows = np.pad(grey, ((0, 0), (1, 0))).tobytes()
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", *grey.shape[::-1], 8, 0, 0, 0, 0)) +
                     chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("codec")
    ap.add_argument("--count", type=int, default=30)
    ap.add_argument("--picture", type=pathlib.Path)
    ap.add_argument("--keep", help="folder for the copies as WAV files")
    args = ap.parse_args()
    tools = load_tools()
    codec = Codec(json.loads((HERE / "config.json").read_text())["codec"]).eval()
    codec.load_state_dict(torch.load(args.codec, map_location="cpu")["codec"])
    wrong, total, pictures = collections.Counter(), collections.Counter(), []
    with tempfile.TemporaryDirectory() as folder:
        for i, text in enumerate((HERE / "heldout.txt").read_text().splitlines()[:args.count]):
            voice = TEACHERS[i % len(TEACHERS)]
            said = speak(voice, [text], folder)[0]
            padded = np.pad(said, (0, -len(said) % codec.hop)).astype(np.float32)
            with torch.no_grad():
                copy = codec.decode(codec.encode(torch.from_numpy(padded)[None, None]))[0, 0].numpy()[:len(said)]
            if i < len(TEACHERS):
                pictures += [spectrogram(said), spectrogram(copy)]
            for column, wav in (("teacher", said), ("copy", copy)):
                path = os.path.join(args.keep or folder, "%02d-%s-%s.wav" % (i, voice, column))
                tools.write_wav(path, wav)
                heard = tools.recognise(path)
                for key in (voice, "all"):
                    wrong[column, key] += tools.errors(tools.words(text), heard)
                    total[column, key] += len(tools.words(text))
    if args.picture:
        write_png(args.picture, np.concatenate([np.pad(p, ((0, 6), (0, 0)), constant_values=255) for p in pictures]))
    print("word error rate, %% of %d words" % total["copy", "all"])
    for key in TEACHERS + ("all",):
        print("%-10s teacher %5.1f copy %5.1f" % (key, *(100 * wrong[c, key] / max(1, total[c, key])
                                                         for c in ("teacher", "copy"))))


if __name__ == "__main__":
    main()

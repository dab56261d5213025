#!/usr/bin/env python3
"""Turn the audio shards into code shards with a trained encoder, following the synthesis until it is done.

codes-NNNN.npz holds: codes int16 [Q, frames], offsets int64 [n+1] (frames), index int32 [n], voice int8 [n].
With K N it does every N-th shard from the K-th on, so that several can work side by side. Shards that have codes
already are left alone.

usage: encode.py AUDIO_DIR CODEC.pt OUT_DIR [K N]"""
import itertools
import json
import os
import pathlib
import sys
import time

import numpy as np
import torch

import codec as networks
from codec import Codec
from loop import fuse
from store import pairs, shards

HERE = pathlib.Path(__file__).resolve().parent
RATE = 16000
BATCH_SAMPLES = RATE * 200
MEMORY = 0.2                    # most of the device's: batches of all lengths would fill it, and trainings run beside
TOGETHER = 12                   # shards encoded at once: utterances of like length go together


@torch.no_grad()
def encode_all(codec, waves, device):
    """waves: list of int16 arrays -> list of int16 [Q, T]; utterances of like length go together. In 32 bits: in 16,
    a tenth of the codes would be others."""
    out, order = [None] * len(waves), np.argsort([len(w) for w in waves])
    at = 0
    while at < len(order):
        size = max(1, BATCH_SAMPLES // (len(waves[order[min(at + 60, len(order) - 1)]]) + codec.hop))
        pick = order[at:at + size]
        longest = -(-max(len(waves[i]) for i in pick) // codec.hop) * codec.hop
        batch = torch.zeros(len(pick), 1, longest)
        for row, i in enumerate(pick):
            batch[row, 0, :len(waves[i])] = torch.from_numpy(waves[i].astype(np.float32) / 32768)
        codes = codec.encode(batch.to(device)).short().cpu().numpy()
        for row, i in enumerate(pick):
            out[i] = codes[row, :, :-(-len(waves[i]) // codec.hop)]
        at += size
    return out


def write(path, codes, shard):
    np.savez(path + ".part.npz", codes=np.concatenate(codes, 1), index=shard["index"],
             offsets=np.cumsum([0] + [c.shape[1] for c in codes]), voice=shard["voice"])
    os.replace(path + ".part.npz", path)


def load_codec(path, device):
    c = json.loads((HERE / "config.json").read_text())["codec"]
    codec = Codec(c).to(device).eval()
    codec.load_state_dict(torch.load(path, map_location=device)["codec"])
    return codec


def main():
    audio, codec_path, out, *share = sys.argv[1:]
    share = tuple(map(int, share)) or (0, 1)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda":                            # compile and warm up while the codec is in training
        fuse(networks.Snake, "function", dynamic=True)
        codec = Codec(json.loads((HERE / "config.json").read_text())["codec"]).to(device).eval()
        torch.cuda.set_per_process_memory_fraction(MEMORY)
        for seconds in (3, 4):
            encode_all(codec, [np.zeros(RATE * seconds, np.int16)] * 100, device)
    while not os.path.exists(codec_path):
        time.sleep(0.5)
    codec = load_codec(codec_path, device)
    os.makedirs(out, exist_ok=True)
    done, hours, start = {path for path, _ in pairs(audio, out, share)}, 0.0, time.time()
    while True:
        finished = os.path.exists(os.path.join(audio, "done"))
        new = sorted(set(shards(audio, "shard", share)) - done)
        for at in range(0, len(new), TOGETHER):
            group = [dict(np.load(path)) for path in new[at:at + TOGETHER]]
            codes = iter(encode_all(codec, [shard["pcm"][a:b] for shard in group
                                            for a, b in zip(shard["offsets"], shard["offsets"][1:])], device))
            for path, shard in zip(new[at:], group):
                write(os.path.join(out, os.path.basename(path).replace("shard", "codes")),
                      list(itertools.islice(codes, len(shard["index"]))), shard)
                done.add(path)
                hours += shard["offsets"][-1] / RATE / 3600
        if new:
            print("encoded %d shards, %.1f h, %.0f s" % (len(done), hours, time.time() - start), flush=True)
        if finished:
            break
        time.sleep(1)


if __name__ == "__main__":
    main()

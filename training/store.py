"""The synthesised audio and its codes, held on the training device."""
import glob
import os
import time

import numpy as np
import torch

REFRESH = 15            # shards taken in at once; more would hold up the training


class Audio:
    """Utterances of the shards in a folder, as one int16 tensor on the device. refresh() takes in new shards.

    share: (k, n) for every n-th shard from the k-th on; most: shards to hold in the end."""

    def __init__(self, folder, device, share=(0, 1), most=10 ** 9):
        self.folder, self.device, self.share, self.most, self.files = folder, device, share, most, []
        self.pcm = torch.zeros(0, dtype=torch.int16, device=device)
        self.offsets = torch.zeros(1, dtype=torch.int64, device=device)
        self.refresh()

    def refresh(self):
        new = sorted(set(shards(self.folder, "shard", self.share)) - set(self.files))
        new = new[:min(REFRESH, self.most - len(self.files))]
        if not new:
            return
        pcm, offsets, base = [self.pcm], [self.offsets], len(self.pcm)
        for path in new:
            shard = np.load(path)
            pcm.append(torch.from_numpy(shard["pcm"]).to(self.device))
            offsets.append(torch.from_numpy(shard["offsets"][1:]).to(self.device) + base)
            base += len(shard["pcm"])
        self.pcm, self.offsets = torch.cat(pcm), torch.cat(offsets)
        self.files += new

    def crops(self, count, samples):
        """Random crops [count, 1, samples]; a fifth of them begin where the utterance begins."""
        at = torch.randint(len(self.pcm), (count,), device=self.device)
        item = torch.searchsorted(self.offsets, at, right=True) - 1
        first, last = self.offsets[item], self.offsets[item + 1]
        start = torch.minimum(at, torch.maximum(last - samples, first))
        start = torch.where(torch.rand(count, device=self.device) < 0.2, first, start)
        index = start[:, None] + torch.arange(samples, device=self.device)
        wav = self.pcm[index.clamp(max=len(self.pcm) - 1)].float() / 32768
        return torch.where(index < last[:, None], wav, torch.zeros((), device=self.device))[:, None]


class Frames:
    """Frames of the utterances that have been encoded, on the device: pcm int16 [n, hop], codes int16 [n, Q].

    hop: samples per frame; share and most as above."""

    def __init__(self, audio, codes, hop, device, share=(0, 1), most=10 ** 9):
        self.audio, self.folder, self.hop, self.device = audio, codes, hop, device
        self.share, self.most, self.files, self.starts = share, most, [], None
        self.refresh()

    def refresh(self):
        """Take in new shards. The audio of an utterance is padded to whole frames."""
        new = sorted(set(pairs(self.audio, self.folder, self.share)) - set(self.files))
        for path, code_path in new[:min(REFRESH, self.most - len(self.files))]:
            self.files.append((path, code_path))
            shard, coded = np.load(path), np.load(code_path)
            audio, frames, cuts = shard["pcm"], coded["offsets"], shard["offsets"]
            pcm = np.zeros((frames[-1], self.hop), np.int16)
            for a, b, at in zip(cuts, cuts[1:], frames):
                pcm.reshape(-1)[at * self.hop:at * self.hop + b - a] = audio[a:b]
            pcm, codes, starts = (torch.from_numpy(np.ascontiguousarray(x)).to(self.device)
                                  for x in (pcm, coded["codes"].T, frames[:-1].astype(np.int64)))
            if self.starts is None:
                self.pcm, self.codes, self.starts = pcm, codes, starts
            else:
                self.starts = torch.cat((self.starts, starts + len(self.pcm)))
                self.pcm, self.codes = torch.cat((self.pcm, pcm)), torch.cat((self.codes, codes))

    def crops(self, count, frames, heard):
        """Random stretches of frames, one utterance after the other -> codes [count, Q, frames], at [count],
        wav [count, 1, heard * hop]: the audio of the frames at.. of each stretch. These are the last ones, or in a
        fifth of the stretches the first ones of an utterance."""
        last = len(self.pcm) - frames
        first = torch.rand(count, device=self.device) < 0.2
        begin = self.starts[torch.randint(len(self.starts), (count,), device=self.device)]
        begin = torch.where(first, begin, torch.randint(last, (count,), device=self.device)).clamp(max=last)
        at = torch.where(first, 0, frames - heard)
        index = begin[:, None] + torch.arange(frames, device=self.device)
        wav = self.pcm[(begin + at)[:, None] + torch.arange(heard, device=self.device)]
        return (self.codes[index].long().transpose(1, 2), at,
                wav.reshape(count, 1, heard * self.hop).float() / 32768)


def shards(folder, name, share=(0, 1)):
    """The files NAME-NNNN.npz there whose number is share[0] modulo share[1]."""
    paths = glob.glob(os.path.join(folder, name + "-????.npz"))
    return [p for p in paths if int(p[-8:-4]) % share[1] == share[0]]


def pairs(audio, codes, share=(0, 1)):
    """Audio and codes of the shards that have both."""
    both = [(path, os.path.join(codes, os.path.basename(path).replace("shard", "codes")))
            for path in shards(audio, "shard", share)]
    return [pair for pair in both if os.path.exists(pair[1])]


def wait_for_shards(audio, count, share=(0, 1), codes=None):
    """Until that many shards are there (with codes, where a folder of codes is given), or all of them."""
    while True:
        done, there = os.path.exists(os.path.join(audio, "done")), shards(audio, "shard", share)
        ready = len(pairs(audio, codes, share) if codes else there)
        if ready >= count or (done and ready == len(there)):
            return
        time.sleep(1)

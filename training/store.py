"""The synthesised audio and the codes, held on the training device."""
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


def shards(folder, name, share=(0, 1)):
    """The files NAME-NNNN.npz there whose number is share[0] modulo share[1]."""
    paths = glob.glob(os.path.join(folder, name + "-????.npz"))
    return [p for p in paths if int(p[-8:-4]) % share[1] == share[0]]


def wait_for_shards(folder, count, share=(0, 1)):
    """Until that many shards are there, or all of them."""
    while len(shards(folder, "shard", share)) < count and not os.path.exists(os.path.join(folder, "done")):
        time.sleep(2)

"""The synthesised audio and the codes, held on the training device."""
import glob
import os
import time

import numpy as np
import torch


class Audio:
    """All utterances of the shards in a folder, as one int16 tensor on the device. refresh() takes in new shards."""

    def __init__(self, folder, device, limit=None):
        self.folder, self.device, self.limit, self.files = folder, device, limit, []
        self.pcm = torch.zeros(0, dtype=torch.int16, device=device)
        self.offsets = torch.zeros(1, dtype=torch.int64, device=device)
        self.refresh()

    def refresh(self):
        new = sorted(set(glob.glob(os.path.join(self.folder, "shard-????.npz"))) - set(self.files))[:self.limit]
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


def wait_for_shards(folder, count):
    """Until that many shards are there, or all of them."""
    while len(glob.glob(os.path.join(folder, "shard-????.npz"))) < count and \
            not os.path.exists(os.path.join(folder, "done")):
        time.sleep(2)

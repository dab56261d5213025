"""What the decoder is trained against: discriminators and the spectral distance. None of this is shipped."""
import torch
import torch.nn as nn
import torch.nn.functional as F


class Period(nn.Module):
    """Looks at every p-th sample: wav [B, 1, n] folded to [B, 1, n/p, p]."""
    compares = False        # its maps depend on where a period begins, which the codes do not say

    def __init__(self, period, width=32):
        super().__init__()
        self.period = period
        sizes = [1, width, width * 2, width * 4, width * 8]
        self.convs = nn.ModuleList([nn.Conv2d(a, b, (5, 1), (3, 1), (2, 0)) for a, b in zip(sizes, sizes[1:])] +
                                   [nn.Conv2d(sizes[-1], sizes[-1], (5, 1), 1, (2, 0))])
        self.last = nn.Conv2d(sizes[-1], 1, (3, 1), 1, (1, 0))

    def forward(self, x):
        x = F.pad(8 * x, (0, -x.shape[-1] % self.period)).unflatten(-1, (-1, self.period))
        maps = []
        for conv in self.convs:
            x = F.leaky_relu(conv(x), 0.1)
            maps.append(x)
        return maps + [self.last(x)]


class Spectral(nn.Module):
    """Looks at the amplitudes of the spectrum, under a square root so that what is faint counts too: [B, 1, bins,
    frames]. Not at phases: the codes do not hold them."""
    compares = True         # its maps of the true sound are a goal for the decoder's

    def __init__(self, n_fft, width=32):
        super().__init__()
        self.n_fft = n_fft
        self.register_buffer("window", torch.hann_window(n_fft), persistent=False)
        self.convs = nn.ModuleList([nn.Conv2d(1, width, (9, 3), (2, 1), (4, 1))] +
                                   [nn.Conv2d(width, width, (9, 3), (2, 1), (4, d), (1, d)) for d in (1, 2, 4)] +
                                   [nn.Conv2d(width, width, 3, padding=1)])
        self.last = nn.Conv2d(width, 1, 3, padding=1)

    def forward(self, x):
        with torch.autocast(x.device.type, enabled=False):
            s = torch.stft(x[:, 0].float(), self.n_fft, self.n_fft // 4, window=self.window, return_complex=True)
            power = torch.view_as_real(s).pow(2).sum(-1) / self.window.pow(2).sum()
            x = (2 * (power + 1e-6) ** 0.25)[:, None]
        maps = []
        for conv in self.convs:
            x = F.leaky_relu(conv(x), 0.1)
            maps.append(x)
        return maps + [self.last(x)]


class Discriminators(nn.Module):
    def __init__(self):
        super().__init__()
        self.parts = nn.ModuleList([Period(p) for p in (2, 5, 11)] + [Spectral(n) for n in (2048, 1024, 512)])
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, 0.1)
                nn.init.zeros_(module.bias)


def judge(critics, wav, fake, streams=()):
    """wav, fake [B, 1, n] -> a function that gives the losses: of the critics (least squares, real towards 1, fake
    towards 0), of the decoder for being found out, and of the decoder for the distance between feature maps.

    The discriminators know nothing of each other and none of them fills a GPU: with a stream for each they run side by
    side, backward too, from this call to that of the function."""
    both = torch.cat((wav, fake))
    here = torch.cuda.current_stream() if streams else None
    parts = []

    def one(part, x):
        with torch.autocast(x.device.type, torch.bfloat16, enabled=x.is_cuda, cache_enabled=False):
            maps = part(x)
        real, guess = zip(*(m.chunk(2) for m in maps))
        critic = (1 - real[-1].float()).pow(2).mean() + guess[-1].float().pow(2).mean()
        fool = (1 - guess[-1].float()).pow(2).mean()
        feature = 0.0
        if part.compares:
            feature = sum(F.l1_loss(b, a.detach()).float() for a, b in zip(real[:-1], guess[:-1]))
        parts.append((critic, fool, feature))

    for k, part in enumerate(critics.parts):
        if streams:
            streams[k].wait_stream(here)
            with torch.cuda.stream(streams[k]):
                one(part, both.clone())             # what backward needs belongs to the stream that uses it
        else:
            one(part, both)

    def losses(_=both):                             # which lives until all streams have read it
        for stream in streams:
            here.wait_stream(stream)
        return tuple(sum(values) for values in zip(*parts))

    return losses


def mel_filters(rate, n_fft, n_mels):
    """Triangles on the mel scale: [n_fft/2 + 1, n_mels]."""
    mel = lambda hz: 2595 * torch.log10(1 + torch.as_tensor(hz) / 700)
    edges = 700 * (10 ** (torch.linspace(0, float(mel(rate / 2.0)), n_mels + 2) / 2595) - 1)
    hz = torch.linspace(0, rate / 2, n_fft // 2 + 1)[:, None]
    up, down = (hz - edges[:-2]) / (edges[1:-1] - edges[:-2]), (edges[2:] - hz) / (edges[2:] - edges[1:-1])
    return torch.minimum(up, down).clamp(min=0)


class Distance(nn.Module):
    """Between log spectra at several resolutions, summed: mel bands, and single bins, in which the gaps between
    harmonics show. Small distances count little (smooth L1), or silence would outweigh speech.

    No window is shorter than a few periods of a voice: the codes do not say where in time a period begins, and shorter
    windows would reward a sound without periods for never being wrong about it."""

    def __init__(self, rate):
        super().__init__()
        self.sizes = ((512, 60), (1024, 100), (2048, 160))
        for n_fft, n_mels in self.sizes:
            self.register_buffer("mel%d" % n_fft, mel_filters(rate, n_fft, n_mels), persistent=False)
            self.register_buffer("win%d" % n_fft, torch.hann_window(n_fft), persistent=False)

    def forward(self, x, y):
        """x, y [B, 1, n] float32 -> (distance to train with, mean distance of the mel bands in log10)."""
        both, total, mels = torch.cat((x, y))[:, 0], 0.0, 0.0
        for n_fft, _ in self.sizes:
            window = getattr(self, "win%d" % n_fft)
            s = torch.view_as_real(torch.stft(both, n_fft, n_fft // 4, window=window, return_complex=True))
            s = (s.pow(2).sum(-1) / window.pow(2).sum()).clamp(min=1e-8).sqrt().transpose(1, 2)
            mel = s @ getattr(self, "mel%d" % n_fft)
            for weight, bands in ((0.5, s), (1.0, mel)):
                a, b = (bands + 3e-3).log10().chunk(2)
                total = total + weight * F.smooth_l1_loss(b, a, beta=0.1)
            mels = mels + (a - b).detach().abs().mean() / len(self.sizes)
        return total, mels

"""What the decoder is trained against: discriminators and the spectral distance. None of this is shipped."""
import torch
import torch.nn as nn
import torch.nn.functional as F


class Period(nn.Module):
    """Looks at every p-th sample: wav [B, 1, n] folded to [B, 1, n/p, p]."""

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
    """Looks at the complex spectrum, its amplitudes under a square root so that what is faint counts too:
    [B, 2, frames, bins]."""

    def __init__(self, n_fft, width=32):
        super().__init__()
        self.n_fft = n_fft
        self.register_buffer("window", torch.hann_window(n_fft), persistent=False)
        self.convs = nn.ModuleList([nn.Conv2d(2, width, (3, 9), (1, 2), (1, 4))] +
                                   [nn.Conv2d(width, width, (3, 9), (1, 2), (d, 4), (d, 1)) for d in (1, 2, 4)] +
                                   [nn.Conv2d(width, width, 3, padding=1)])
        self.last = nn.Conv2d(width, 1, 3, padding=1)

    def forward(self, x):
        with torch.autocast(x.device.type, enabled=False):
            s = torch.stft(x[:, 0].float(), self.n_fft, self.n_fft // 4, window=self.window, return_complex=True)
            s = torch.view_as_real(s) / self.window.pow(2).sum().sqrt()
            s = s * (s.pow(2).sum(-1, keepdim=True) + 1e-6) ** -0.25
            x = s.permute(0, 3, 2, 1).contiguous()
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

    def forward(self, x):
        """-> one list of feature maps (the last is the verdict) for each discriminator."""
        return [part(x) for part in self.parts]


def judge(critics, wav, fake):
    """wav, fake [B, 1, n] -> losses: of the critics (least squares, real towards 1, fake towards 0), of the decoder
    for being found out, and of the decoder for the distance between feature maps."""
    critic = fool = feature = 0.0
    with torch.autocast(wav.device.type, torch.bfloat16, enabled=wav.is_cuda, cache_enabled=False):
        judged = critics(torch.cat((wav, fake)))
    for maps in judged:
        real, guess = zip(*(m.chunk(2) for m in maps))
        critic = critic + (1 - real[-1].float()).pow(2).mean() + guess[-1].float().pow(2).mean()
        fool = fool + (1 - guess[-1].float()).pow(2).mean()
        feature = feature + sum(F.l1_loss(b, a.detach()).float() for a, b in zip(real[:-1], guess[:-1]))
    return critic, fool, feature


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

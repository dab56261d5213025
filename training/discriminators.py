"""What the codec is trained against: discriminators and the mel distance. None of this is shipped."""
import torch
import torch.nn as nn
import torch.nn.functional as F

try:
    from torch.nn.utils.parametrizations import weight_norm
except ImportError:
    from torch.nn.utils import weight_norm


class Period(nn.Module):
    """Looks at every p-th sample: wav [B, 1, n] folded to [B, 1, n/p, p]."""

    def __init__(self, period, width=32):
        super().__init__()
        self.period = period
        sizes = [1, width, width * 2, width * 4, width * 8]
        self.convs = nn.ModuleList([weight_norm(nn.Conv2d(a, b, (5, 1), (3, 1), (2, 0)))
                                    for a, b in zip(sizes, sizes[1:])] +
                                   [weight_norm(nn.Conv2d(sizes[-1], sizes[-1], (5, 1), 1, (2, 0)))])
        self.last = weight_norm(nn.Conv2d(sizes[-1], 1, (3, 1), 1, (1, 0)))

    def forward(self, x):
        x = F.pad(x, (0, -x.shape[-1] % self.period)).unflatten(-1, (-1, self.period))
        maps = []
        for conv in self.convs:
            x = F.leaky_relu(conv(x), 0.1)
            maps.append(x)
        return maps + [self.last(x)]


class Spectral(nn.Module):
    """Looks at the complex spectrum: [B, 2, frames, bins]."""

    def __init__(self, n_fft, width=16):
        super().__init__()
        self.n_fft = n_fft
        self.register_buffer("window", torch.hann_window(n_fft), persistent=False)
        self.convs = nn.ModuleList([weight_norm(nn.Conv2d(2, width, (3, 9), padding=(1, 4)))] +
                                   [weight_norm(nn.Conv2d(width, width, (3, 9), (1, 2), (d, 4), (d, 1)))
                                    for d in (1, 2, 4)] + [weight_norm(nn.Conv2d(width, width, 3, padding=1))])
        self.last = weight_norm(nn.Conv2d(width, 1, 3, padding=1))

    def forward(self, x):
        with torch.autocast(x.device.type, enabled=False):
            s = torch.stft(x[:, 0].float(), self.n_fft, self.n_fft // 4, window=self.window, return_complex=True)
            s = torch.view_as_real(s) / self.n_fft ** 0.5
            x = s.permute(0, 3, 2, 1).contiguous()
        maps = []
        for conv in self.convs:
            x = F.leaky_relu(conv(x), 0.1)
            maps.append(x)
        return maps + [self.last(x)]


class Discriminators(nn.Module):
    def __init__(self):
        super().__init__()
        self.parts = nn.ModuleList([Period(p) for p in (2, 3, 5, 7, 11)] + [Spectral(n) for n in (1024, 512, 256)])

    def forward(self, x):
        """-> one list of feature maps (the last is the verdict) for each discriminator."""
        return [part(x) for part in self.parts]


def judge(critics, wav, fake):
    """wav, fake [B, 1, n] -> losses: of the critics (least squares, real towards 1, fake towards 0), of the codec for
    being found out, and of the codec for the distance between feature maps."""
    critic = fool = feature = 0.0
    for maps in critics(torch.cat((wav, fake))):
        real, guess = zip(*(m.float().chunk(2) for m in maps))
        critic = critic + (1 - real[-1]).pow(2).mean() + guess[-1].pow(2).mean()
        fool = fool + (1 - guess[-1]).pow(2).mean()
        feature = feature + sum((a.detach() - b).abs().mean() for a, b in zip(real[:-1], guess[:-1]))
    return critic, fool, feature


def mel_filters(rate, n_fft, n_mels):
    """Triangles on the mel scale: [n_fft/2 + 1, n_mels]."""
    mel = lambda hz: 2595 * torch.log10(1 + torch.as_tensor(hz) / 700)
    edges = 700 * (10 ** (torch.linspace(0, float(mel(rate / 2.0)), n_mels + 2) / 2595) - 1)
    hz = torch.linspace(0, rate / 2, n_fft // 2 + 1)[:, None]
    up, down = (hz - edges[:-2]) / (edges[1:-1] - edges[:-2]), (edges[2:] - hz) / (edges[2:] - edges[1:-1])
    return torch.minimum(up, down).clamp(min=0)


class MelDistance(nn.Module):
    """L1 between log mel spectra at several resolutions, summed.

    No window is shorter than a few periods of a voice: the codes do not say where in time a period begins, and shorter
    windows would reward a sound without periods for never being wrong about it."""

    def __init__(self, rate):
        super().__init__()
        self.sizes = ((512, 60), (1024, 100), (2048, 160))
        for n_fft, n_mels in self.sizes:
            self.register_buffer("mel%d" % n_fft, mel_filters(rate, n_fft, n_mels), persistent=False)
            self.register_buffer("win%d" % n_fft, torch.hann_window(n_fft), persistent=False)

    def log_mel(self, x, n_fft):
        window = getattr(self, "win%d" % n_fft)
        s = torch.view_as_real(torch.stft(x, n_fft, n_fft // 4, window=window, return_complex=True))
        power = (s.pow(2).sum(-1) / window.pow(2).sum()).clamp(min=1e-8).sqrt()
        return (power.transpose(1, 2) @ getattr(self, "mel%d" % n_fft) + 3e-3).log10()

    def forward(self, x, y):
        """x, y [B, 1, n] float32."""
        return sum((self.log_mel(x[:, 0], n) - self.log_mel(y[:, 0], n)).abs().mean() for n, _ in self.sizes)

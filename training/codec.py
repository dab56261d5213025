"""The codec (modified DAC): causal encoder, residual vector quantiser, causal decoder. Tensor names are the official ones.

Layouts: audio [B, 1, n], features [B, C, T], codes [B, Q, T]. All convolutions are causal, so that decoding frame by
frame equals decoding at once. The sizes are in config.json under "codec"."""
import torch
import torch.nn as nn
import torch.nn.functional as F

from blocks import Block, RMSNorm, rope_table


def snake(x, a):
    """x [B, C, T], a [1, C, 1]."""
    return (x + (a * x).sin().pow(2) / (a + 1e-9)).type_as(x)


class Snake(nn.Module):
    function = staticmethod(snake)      # training puts a compiled version here

    def __init__(self, channels):
        super().__init__()
        self.alpha = nn.Parameter(torch.ones(1, channels, 1))

    def forward(self, x):
        return Snake.function(x, self.alpha.type_as(x) * 1)


class Conv(nn.Module):
    """Causal convolution; the input length is a multiple of the stride."""

    def __init__(self, c_in, c_out, kernel, stride=1, dilation=1, groups=1):
        super().__init__()
        self.conv = nn.Conv1d(c_in, c_out, kernel, stride, dilation=dilation, groups=groups)
        self.left = (kernel - 1) * dilation + 1 - stride
        nn.init.trunc_normal_(self.conv.weight, std=(c_in // groups * kernel) ** -0.5)
        nn.init.zeros_(self.conv.bias)

    def forward(self, x):
        return self.conv(F.pad(x, (self.left, 0)))


class ConvT(nn.Module):
    """Causal transposed convolution: n inputs give n * stride outputs."""

    def __init__(self, c_in, c_out, kernel, stride):
        super().__init__()
        self.conv = nn.ConvTranspose1d(c_in, c_out, kernel, stride)
        self.stride = stride
        nn.init.trunc_normal_(self.conv.weight, std=(c_in * kernel / stride) ** -0.5)
        nn.init.zeros_(self.conv.bias)

    def forward(self, x):
        return self.conv(x)[..., :x.shape[-1] * self.stride]


class ResidualUnit(nn.Module):
    def __init__(self, channels, dilation):
        super().__init__()
        self.block = nn.Sequential(Snake(channels), Conv(channels, channels, 7, dilation=dilation),
                                   Snake(channels), Conv(channels, channels, 1))
        with torch.no_grad():
            self.block[3].conv.weight.mul_(0.3)

    def forward(self, x):
        return x + self.block(x)


class ConvNeXt(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.dwconv = Conv(channels, channels, 7, groups=channels)
        self.norm = nn.LayerNorm(channels, eps=1e-6)
        self.pwconv1 = nn.Linear(channels, 4 * channels)
        self.pwconv2 = nn.Linear(4 * channels, channels)
        self.gamma = nn.Parameter(torch.full((channels,), 0.1))

    def forward(self, x):
        y = self.norm(self.dwconv(x).transpose(1, 2))
        y = self.gamma * self.pwconv2(F.gelu(self.pwconv1(y)))
        return x + y.transpose(1, 2).type_as(x)


class Transformer(nn.Module):
    """Windowed causal transformer over [B, C, T]."""

    def __init__(self, dim, layers, head_dim, hidden, window, eps, base, rows):
        super().__init__()
        self.layers = nn.ModuleList(Block(dim, dim // head_dim, dim // head_dim, head_dim, hidden, eps,
                                          layer_scale=True) for _ in range(layers))
        self.norm = RMSNorm(dim, eps)
        self.window, self.head_dim, self.base, self.rows = window, head_dim, base, rows
        self.register_buffer("table", rope_table(4096, head_dim, base), persistent=False)

    def forward(self, x):
        T = x.shape[-1]
        x = x.transpose(1, 2)
        at = torch.arange(T, device=x.device)
        mask = (at[None] <= at[:, None]) & (at[None] > at[:, None] - self.window)
        for layer in self.layers:
            x = layer(x, self.table[:T], mask)
        return self.norm(x).transpose(1, 2)


class EncoderBlock(nn.Module):
    def __init__(self, c_in, c_out, stride, dilations, transformer=None):
        super().__init__()
        parts = [ResidualUnit(c_in, d) for d in dilations]
        parts += [Snake(c_in), Conv(c_in, c_out, 2 * stride, stride)]
        self.block = nn.Sequential(*parts, *([transformer] if transformer else []))

    def forward(self, x):
        return self.block(x)


class Encoder(nn.Module):
    def __init__(self, channels, strides, dilations, transformer):
        super().__init__()
        blocks = [Conv(1, channels[0], 7)]
        for i, stride in enumerate(strides):
            last = i == len(strides) - 1
            blocks.append(EncoderBlock(channels[i], channels[i + 1], stride, dilations, transformer if last else None))
        latent = channels[-1]
        self.block = nn.Sequential(*blocks, Snake(latent), Conv(latent, latent, 3))

    def forward(self, x):
        return self.block(x)


class DecoderBlock(nn.Module):
    def __init__(self, c_in, c_out, stride, dilations):
        super().__init__()
        self.block = nn.Sequential(Snake(c_in), ConvT(c_in, c_out, 2 * stride, stride),
                                   *[ResidualUnit(c_out, d) for d in dilations])

    def forward(self, x):
        return self.block(x)


class Decoder(nn.Module):
    def __init__(self, latent, channels, strides, dilations):
        super().__init__()
        parts = [Conv(latent, channels[0], 7)]
        parts += [DecoderBlock(a, b, s, dilations) for a, b, s in zip(channels, channels[1:], strides)]
        self.model = nn.Sequential(*parts, Snake(channels[-1]), Conv(channels[-1], 1, 7))
        with torch.no_grad():                       # start quiet, or tanh saturates
            self.model[-1].conv.weight.mul_(0.1)

    def forward(self, x):
        return torch.tanh(self.model(x).float())


class Codebook(nn.Module):
    """One stage: project to a few dimensions, take the nearest row by cosine, project back.

    The rows follow the running mean of the vectors that chose them; rows that nobody chooses restart at random ones.
    `group` (group.Group, set in training) lets several processes keep the same rows."""
    group = None

    def __init__(self, latent, entries, dim):
        super().__init__()
        self.in_proj, self.out_proj = nn.Conv1d(latent, dim, 1), nn.Conv1d(dim, latent, 1)
        self.codebook = nn.Embedding(entries, dim)
        self.codebook.weight.requires_grad_(False)
        self.register_buffer("count", torch.ones(entries), persistent=False)
        self.register_buffer("total", torch.zeros(entries, dim), persistent=False)

    def lookup(self, codes):
        """codes [B, T] -> [B, latent, T]."""
        return self.out_proj(self.codebook(codes).transpose(1, 2))

    def nearest(self, e):
        """e [B, dim, T] -> codes [B, T]."""
        rows = F.normalize(self.codebook.weight, dim=1)
        return torch.einsum("bdt,kd->btk", F.normalize(e, dim=1, eps=1e-12), rows).argmax(-1)

    def tally(self, flat, codes):
        """-> how many vectors chose each row, and their sum."""
        hits = torch.zeros_like(self.count).index_add_(0, codes, torch.ones_like(codes, dtype=torch.float32))
        return hits, torch.zeros_like(self.total).index_add_(0, codes, flat)

    @torch.no_grad()
    def update(self, flat, codes, decay=0.98):
        """flat [N, dim] float32, codes [N]."""
        hits, sums = self.tally(flat, codes)
        fresh = flat[torch.randint(len(flat), self.count.shape, device=flat.device)]
        size = self.group.size if self.group else 1
        if size > 1:                                # each process offers its share of the fresh rows
            mine = torch.arange(len(fresh), device=fresh.device) % size == self.group.rank
            both = self.group.sum(torch.cat((hits[:, None], sums, fresh * mine[:, None]), 1))
            hits, sums, fresh = both[:, 0], both[:, 1:1 + sums.shape[1]], both[:, 1 + sums.shape[1]:]
        share = size * len(flat) / len(self.count)
        self.count.mul_(decay).add_(hits, alpha=1 - decay)
        self.total.mul_(decay).add_(sums, alpha=1 - decay)
        dead = self.count < 0.03 * share
        self.total.copy_(torch.where(dead[:, None], fresh * share * 0.3, self.total))
        self.count.copy_(torch.where(dead, torch.full_like(self.count, share * 0.3), self.count))
        self.codebook.weight.copy_(self.total / self.count[:, None])

    @torch.no_grad()
    def start(self, r):
        """From a first batch r [N, latent]: projections on the principal axes, rows by k-means with cosines."""
        mean = r.mean(0)
        axes = torch.linalg.eigh((r - mean).T @ (r - mean))[1][:, -self.in_proj.out_channels:]
        self.in_proj.weight.copy_(axes.T[..., None])
        self.in_proj.bias.copy_(-axes.T @ mean)
        self.out_proj.weight.copy_(axes[..., None])
        self.out_proj.bias.copy_(mean)
        flat, entries = (r - mean) @ axes, len(self.count)
        pick = torch.randperm(len(flat), device=flat.device).repeat(1 + entries // len(flat))[:entries]
        self.codebook.weight.copy_(flat[pick])
        for _ in range(10):
            hits, sums = self.tally(flat, self.nearest(flat.T[None])[0])
            self.codebook.weight.copy_(torch.where(hits[:, None] > 0, sums / hits[:, None].clamp(min=1),
                                                   flat[pick.roll(7)]))
        self.remember(len(flat))

    def remember(self, n):
        """Let the running means begin at the rows as they are."""
        self.count.fill_(n / len(self.count))
        self.total.copy_(self.codebook.weight * self.count[:, None])

    def forward(self, r):
        """r [B, latent, T] float32 -> (its approximation, codes, distance of the projection to its row)."""
        e = self.in_proj(r)
        codes = self.nearest(e)
        rows = self.codebook(codes).transpose(1, 2)
        if self.training:
            self.update(e.detach().transpose(1, 2).reshape(-1, e.shape[1]), codes.reshape(-1))
        return self.out_proj(e + (rows - e).detach()), codes, (e - rows.detach()).pow(2).mean()


class Stages(nn.Module):
    def __init__(self, count, latent, entries, dim):
        super().__init__()
        self.quantizers = nn.ModuleList(Codebook(latent, entries, dim) for _ in range(count))


class Quantizer(nn.Module):
    def __init__(self, c):
        super().__init__()
        latent = c["encoder_channels"][-1]
        make = lambda layers: Transformer(latent, layers, c["head_dim"], c["intermediate_size"], c["window"],
                                          c["norm_eps"], c["rope_base"], c["rope_rows"])
        self.downsample = nn.ModuleList(nn.Sequential(Conv(latent, latent, 2, 2), ConvNeXt(latent)) for _ in "01")
        self.pre_module, self.post_module = make(c["pre_layers"]), make(c["post_layers"])
        self.semantic_quantizer = Stages(1, latent, c["codebook_size"], c["codebook_dim"])
        self.quantizer = Stages(c["num_codebooks"] - 1, latent, c["codebook_size"], c["codebook_dim"])
        self.upsample = nn.ModuleList(nn.Sequential(ConvT(latent, latent, 2, 2), ConvNeXt(latent)) for _ in "01")

    def stages(self):
        return [self.semantic_quantizer.quantizers[0], *self.quantizer.quantizers]

    def before(self, z):
        for down in self.downsample:
            z = down(z)
        return self.pre_module(z)

    def after(self, z):
        z = self.post_module(z)
        for up in self.upsample:
            z = up(z)
        return z

    @torch.no_grad()
    def start(self, r):
        """First projections and rows of every stage from r [B, latent, T]."""
        rest = r.float().transpose(1, 2).reshape(-1, r.shape[1])
        for stage in self.stages():
            stage.start(rest)
            codes = stage.nearest(stage.in_proj(rest.T[None]))
            rest = rest - stage.lookup(codes)[0].T

    def quantize(self, r, drop=0.0):
        """r [B, latent, T] -> (sum of the choices, loss). The gradient of the sum goes straight to r; the stages learn
        to approximate r, each with the ones before it. drop: share of the rows that use fewer codebooks."""
        r = r.float()
        goal, stages = r.detach(), self.stages()
        kept = torch.full((len(r),), len(stages), device=r.device)
        if drop:
            fewer = torch.randint(1, len(stages) + 1, kept.shape, device=r.device)
            kept = torch.where(torch.rand(len(r), device=r.device) < drop, fewer, kept)
        total, used, loss = torch.zeros_like(r), torch.zeros_like(r), 0.0
        for i, stage in enumerate(stages):
            choice, _, distance = stage((goal - total).detach())
            total = total.detach() + choice
            loss = loss + (goal - total).pow(2).mean() + 0.25 * distance
            used = used + choice.detach() * (i < kept).float()[:, None, None]
        return r + (used - goal), loss + 0.25 * (r - total.detach()).pow(2).mean()


class Codec(nn.Module):
    def __init__(self, c):
        super().__init__()
        strides, channels = c["strides"], c["encoder_channels"]
        first = Transformer(channels[-1], c["encoder_layers"], c["head_dim"], c["encoder_intermediate_size"],
                            c["encoder_window"], c["norm_eps"], c["rope_base"], c["rope_rows"])
        self.encoder = Encoder(channels, strides, c["dilations"], first)
        self.quantizer = Quantizer(c)
        self.decoder = Decoder(channels[-1], c["decoder_channels"], strides[::-1], c["dilations"])
        self.hop = 4
        for stride in strides:
            self.hop *= stride

    def encode(self, wav):
        """wav [B, 1, n], n a multiple of hop -> codes [B, Q, n / hop]."""
        r = self.quantizer.before(self.encoder(wav)).float()
        codes = []
        for stage in self.quantizer.stages():
            code = stage.nearest(stage.in_proj(r))
            r = r - stage.lookup(code)
            codes.append(code)
        return torch.stack(codes, 1)

    def dequantize(self, codes):
        """codes [B, Q, T] -> [B, latent, T]."""
        return sum(stage.lookup(codes[:, i]) for i, stage in enumerate(self.quantizer.stages()))

    def decode(self, codes):
        """codes [B, Q, T] -> wav [B, 1, T * hop]."""
        return self.decoder(self.quantizer.after(self.dequantize(codes)))

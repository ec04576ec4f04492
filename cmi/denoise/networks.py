"""Networks to train: LocalDenoiser, whose reach is exactly its radius, and GlobalDenoiser, a small U-Net.

Both add what they learn to the best prediction of every pixel from itself alone that is linear,

    x0_hat = m + alpha s^2 / d^2 (xt - alpha m) + sigma s / d F((xt - alpha m) / d, t)

with d^2 = alpha^2 s^2 + sigma^2, m and s the mean and the standard deviation of each clean pixel.  F is asked for a
target of order one at every t, from no noise (where F does not count) to nothing but noise (Karras et al. 2022,
section 5, pixel by pixel); a pixel that never changes is predicted exactly.  Normalisation is over the channels of
a pixel only: over an image it would make every network global.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from cmi.checks import whole_number
from cmi.denoise.denoiser import Denoiser, precision
from cmi.noise import Noise

__all__ = ["GlobalDenoiser", "LocalDenoiser", "Preconditioned"]

_FREQUENCIES = 8  # of ln(alpha / sigma), which the network is told
_MOST = 5.0  # of its absolute value: beyond, at t below 0.007 and above 0.993, little depends on it


class Preconditioned(Denoiser):
    """A denoiser that corrects the linear prediction of every pixel from itself.

    Parameters
    ----------
    shape, noise, radius
        As in `Denoiser`.
    mean, std : tensors that broadcast to the shape, optional
        Of every clean pixel. Default 0 and 1; `fit_moments` takes them from images.
    """

    mean: Tensor
    std: Tensor
    options: dict[str, Any]  # with which it is made again
    # of learning; of local networks twice that, by the held-out loss of MNIST after minutes of training
    rate = 4e-3

    def __init__(
        self,
        shape: Sequence[int],
        noise: str | Noise,
        radius: int | None,
        mean: Tensor | float = 0.0,
        std: Tensor | float = 1.0,
    ) -> None:
        super().__init__(shape, noise, radius)
        for name, value in (("mean", mean), ("std", std)):
            given = torch.as_tensor(value, dtype=torch.float32, device="cpu")
            if not bool(torch.isfinite(given).all()) or (name == "std" and bool((given < 0.0).any())):
                raise ValueError(f"the {name} of pixels must be finite{' and not negative' * (name == 'std')}")
            full = torch.empty(self.shape)
            self.register_buffer(name, full if full.is_meta else full.copy_(given))

    def fit_moments(self, x0: Tensor) -> None:
        """Take mean and standard deviation of every pixel from clean images."""
        self.mean.copy_(x0.mean(dim=0))
        self.std.copy_(x0.std(dim=0, correction=0))

    def correction(self, u: Tensor, told: Tensor) -> Tensor:
        """Return F of scaled noisy images (n, channels, rows, columns), and of what is told of t, (n, numbers)."""
        raise NotImplementedError

    def denoised(self, xt: Tensor, t: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:  # noqa: ARG002
        """The linear prediction, and the correction."""
        mean, std = self.mean.to(xt.dtype), self.std.to(xt.dtype)
        spread = torch.sqrt((alpha * std) ** 2 + sigma**2)
        inverse = torch.where(spread > 0.0, 1.0 / spread, 0.0)  # of a constant pixel without noise
        u = (xt - alpha * mean) * inverse
        linear = mean + alpha * std**2 * inverse * u
        own = precision(self, xt.dtype)
        found = self.correction(u.to(own), told_level(alpha, sigma).to(own)).to(xt.dtype)
        clean = linear + sigma * std * inverse * found
        return torch.where(sigma > 0.0, clean, xt / torch.where(sigma > 0.0, 1.0, alpha))

    def scale(self, alpha: Tensor, sigma: Tensor) -> Tensor:
        """Mean over pixels of the squared factor of F, (n,): what a loss is to be divided by."""
        spread = (alpha * self.std) ** 2 + sigma**2
        return ((sigma * self.std) ** 2 / spread.clamp_min(1e-30)).mean(dim=(1, 2, 3))


def told_level(alpha: Tensor, sigma: Tensor) -> Tensor:
    """Sines and cosines of ln(alpha / sigma), (n, 16)."""
    level = (torch.log(alpha.flatten()) - torch.log(sigma.flatten())).clamp(-_MOST, _MOST)
    angle = level[:, None] * 2.0 ** torch.linspace(-3.0, 2.0, _FREQUENCIES, device=level.device, dtype=level.dtype)
    return torch.cat([angle.sin(), angle.cos()], dim=1)


class _Told(nn.Module):
    """What is told of t, as so many numbers for all blocks."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(2 * _FREQUENCIES, width), nn.Linear(width, width)

    def forward(self, told: Tensor) -> Tensor:
        found: Tensor = functional.silu(self.second(functional.silu(self.first(told))))
        return found


class _Block(nn.Module):
    """h + W SiLU(conv(scale norm(h) + shift)): the norm over channels, scale and shift by t, reach 0 or more.

    Channels stand last.
    """

    def __init__(self, channels: int, reach: int, told: int, dilation: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 2 * reach + 1, padding=reach * dilation, dilation=dilation)
        self.level = nn.Linear(told, 2 * channels)
        self.mix = nn.Linear(channels, channels)
        nn.init.zeros_(self.level.weight)
        nn.init.zeros_(self.level.bias)

    def forward(self, h: Tensor, told: Tensor) -> Tensor:
        scale, shift = self.level(told)[:, None, None].chunk(2, dim=-1)
        u = functional.layer_norm(h, h.shape[-1:]) * (1.0 + scale) + shift
        found: Tensor = h + self.mix(functional.silu(_convolved(self.conv, u)))
        return found


class LocalDenoiser(Preconditioned):
    """A network that sees the square of side 2 radius + 1 around each pixel, exactly, and is told the place.

    The reach is spread over blocks of 3 x 3 kernels, dilated so that what they see grows from block to block
    without gaps (1, 1, 2, 4 at radius 8): depth, width and number of activations are the same at every radius, and
    so, from radius 4 to 15 at the default depth, are weights and operations.

    Parameters
    ----------
    shape : (int, int, int)
        Channels, rows, columns.
    radius : int
        From 0, where every pixel is denoised by itself, to the longer side less 1.
    noise : str or Noise
    width : int
        Channels of the blocks.
    depth : int
        Blocks.
    mean, std
        As in `Preconditioned`.

    Raises
    ------
    TypeError, ValueError
        For sizes that are no whole numbers, and a radius larger than the image.

    Examples
    --------
    >>> import torch
    >>> net = LocalDenoiser((1, 8, 8), radius=2, width=8, depth=2)
    >>> net(torch.zeros(3, 1, 8, 8), 0.5).shape
    torch.Size([3, 1, 8, 8])
    """

    rate = 8e-3

    def __init__(
        self,
        shape: Sequence[int],
        radius: int,
        noise: str | Noise = "interpolation",
        *,
        width: int = 32,
        depth: int = 4,
        mean: Tensor | float = 0.0,
        std: Tensor | float = 1.0,
    ) -> None:
        radius = whole_number(radius, "radius", least=0)
        width, depth = whole_number(width, "width", least=1), whole_number(depth, "depth", least=1)
        super().__init__(shape, noise, radius, mean, std)
        channels, rows, columns = self.shape
        if radius >= max(rows, columns):
            raise ValueError(
                f"radius {radius} is beyond images of {rows} x {columns}: take {max(rows, columns) - 1} at most"
            )
        self.options = {"radius": radius, "width": width, "depth": depth}
        self.told = _Told(2 * width)
        self.first = nn.Linear(channels, width)
        self.place = nn.Parameter(torch.zeros(rows, columns, width))
        kernels = _kernels(radius, depth)
        self.blocks = nn.ModuleList(_Block(width, reach, 2 * width, dilation) for reach, dilation in kernels)
        self.last = _last(width, channels)

    def correction(self, u: Tensor, told: Tensor) -> Tensor:
        """Blocks one after the other."""
        level = self.told(told)
        h = self.first(u.permute(0, 2, 3, 1)) + self.place
        for block in self.blocks:
            h = block(h, level)
        found: Tensor = self.last(functional.layer_norm(h, h.shape[-1:])).permute(0, 3, 1, 2)
        return found


class GlobalDenoiser(Preconditioned):
    """A U-Net of three scales with attention at the coarsest: every pixel sees everything.

    Parameters
    ----------
    shape : (int, int, int)
        Channels, rows, columns.
    noise : str or Noise
    width : int
        Channels at the finest scale, twice and four times as many at the others.
    depth : int
        Blocks at each scale, on the way down and up.
    heads : int
        Of the attention.
    mean, std
        As in `Preconditioned`.

    Examples
    --------
    >>> import torch
    >>> net = GlobalDenoiser((1, 9, 7), width=8)
    >>> net(torch.zeros(3, 1, 9, 7), torch.tensor([0.0, 0.5, 1.0])).shape
    torch.Size([3, 1, 9, 7])
    """

    def __init__(
        self,
        shape: Sequence[int],
        noise: str | Noise = "interpolation",
        *,
        width: int = 32,
        depth: int = 2,
        heads: int = 4,
        mean: Tensor | float = 0.0,
        std: Tensor | float = 1.0,
    ) -> None:
        width, depth = whole_number(width, "width", least=1), whole_number(depth, "depth", least=1)
        heads = whole_number(heads, "heads", least=1)
        if 4 * width % heads:
            raise ValueError(f"{heads} heads do not share {4 * width} channels, 4 of width {width}, evenly")
        super().__init__(shape, noise, None, mean, std)
        channels, rows, columns = self.shape
        self.options = {"width": width, "depth": depth, "heads": heads}
        told = 2 * width
        wide = [width, 2 * width, 4 * width]
        self.told = _Told(told)
        self.first = nn.Linear(channels, width)
        self.place = nn.Parameter(torch.zeros(rows, columns, width))
        self.down = nn.ModuleList(nn.ModuleList(_Block(w, 1, told) for _ in range(depth)) for w in wide)
        self.shrink = nn.ModuleList(nn.Conv2d(w, 2 * w, 3, 2, 1) for w in wide[:2])
        self.attention = _Attention(wide[2], heads, -(-rows // 4), -(-columns // 4))
        self.middle = nn.ModuleList(_Block(wide[2], 1, told) for _ in range(depth))
        self.grow = nn.ModuleList(nn.Linear(2 * w, w) for w in wide[:2])
        self.up = nn.ModuleList(nn.ModuleList(_Block(w, 1, told) for _ in range(depth)) for w in wide[:2])
        self.last = _last(width, channels)

    def correction(self, u: Tensor, told: Tensor) -> Tensor:
        """Down, attention, and up, adding what was there on the way down."""
        level = self.told(told)
        h = self.first(u.permute(0, 2, 3, 1)) + self.place
        kept = []
        for scale, blocks in enumerate(self.down):
            for block in _each(blocks):
                h = block(h, level)
            if scale < len(self.shrink):
                kept.append(h)
                h = _convolved(self.shrink[scale], h)
        h = self.attention(h)
        for block in self.middle:
            h = block(h, level)
        for scale in reversed(range(len(kept))):
            fine = kept[scale]
            h = functional.interpolate(self.grow[scale](h).permute(0, 3, 1, 2), size=fine.shape[1:3])
            h = h.permute(0, 2, 3, 1) + fine
            for block in _each(self.up[scale]):
                h = block(h, level)
        found: Tensor = self.last(functional.layer_norm(h, h.shape[-1:])).permute(0, 3, 1, 2)
        return found


class _Attention(nn.Module):
    """Every place of the coarsest scale looks at every other."""

    def __init__(self, channels: int, heads: int, rows: int, columns: int) -> None:
        super().__init__()
        self.heads = heads
        self.place = nn.Parameter(torch.zeros(rows * columns, channels))
        nn.init.normal_(self.place, std=0.1)
        self.ask = nn.Linear(channels, 3 * channels)
        self.mix = nn.Linear(channels, channels)

    def forward(self, h: Tensor) -> Tensor:
        n, rows, columns, channels = h.shape
        flat = h.reshape(n, rows * columns, channels)
        asked = self.ask(functional.layer_norm(flat, flat.shape[-1:]) + self.place)
        query, key, value = asked.reshape(n, rows * columns, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        seen = functional.scaled_dot_product_attention(query, key, value)
        found: Tensor = h + self.mix(seen.transpose(1, 2).reshape(n, rows, columns, channels))
        return found


def _kernels(radius: int, depth: int) -> list[tuple[int, int]]:
    """Reach and dilation of so many kernels that see every pixel up to a radius, together.

    From the last one to the second each takes half of what is left, or so much that the others have one each: a
    step of d leaves no gaps if (d - 1) / 2 pixels are seen before it.
    """
    left, found = radius, []
    for before in range(depth - 1, 0, -1):
        dilation = max(min((left + 1) // 2, left - before), 0)
        found.append((1, dilation) if dilation else (0, 1))
        left -= dilation
    return [(left, 1), *found[::-1]]


def _each(blocks: nn.Module) -> Iterator[nn.Module]:
    """The blocks of a list of them."""
    return iter(blocks.children())


def _convolved(conv: nn.Module, h: Tensor) -> Tensor:
    """Convolution with channels last."""
    found: Tensor = conv(h.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
    return found


def _last(width: int, channels: int) -> nn.Linear:
    """To the channels of the image: small at first, but not 0, so that what a pixel depends on can be measured."""
    layer = nn.Linear(width, channels)
    nn.init.normal_(layer.weight, std=0.1 / math.sqrt(width))
    nn.init.zeros_(layer.bias)
    return layer

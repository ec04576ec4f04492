"""The receptive field: which pixels of a noisy image enter a denoised pixel, measured, not claimed.

In double precision, where the model computes in it, in two ways that must agree.  Gradient: where
d x0_hat_i / d xt_j is not 0.  Perturbation: all pixels that have no gradient are changed at once, and no digit of
x0_hat_i may move; if one does, or if there is no gradient to be had, pixels are changed one by one.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cmi.denoise.denoiser import Denoiser

__all__ = ["ReceptiveField", "receptive_field"]

_TIMES = (0.1, 0.5, 0.9)
_CHUNK = 64  # noisy images at once
_SEED = 0


@dataclass(frozen=True, eq=False)
class ReceptiveField:
    """What enters the values of some pixels.

    Parameters
    ----------
    pixels : tuple of (row, column)
        Where it was measured.
    seen : (pixels, rows, columns) array of bool
        Which pixels enter, in any channel.
    """

    pixels: tuple[tuple[int, int], ...]
    seen: NDArray[np.bool_]

    @property
    def radius(self) -> int:
        """Farthest pixel that enters, in rows or in columns; 0 where nothing does."""
        far = 0
        for (row, column), seen in zip(self.pixels, self.seen, strict=True):
            at = np.argwhere(seen)
            if len(at):
                far = max(far, int(np.abs(at - (row, column)).max()))
        return far

    @property
    def side(self) -> int:
        """2 radius + 1."""
        return 2 * self.radius + 1

    @property
    def full(self) -> bool:
        """Whether every pixel of the square of that radius that lies in the image enters."""
        rows, columns = np.indices(self.seen.shape[1:])
        for (row, column), seen in zip(self.pixels, self.seen, strict=True):
            inside = np.maximum(np.abs(rows - row), np.abs(columns - column)) <= self.radius
            if not seen[inside].all():
                return False
        return True


def receptive_field(
    denoiser: Denoiser,
    *,
    times: Iterable[float] = _TIMES,
    pixels: Iterable[tuple[int, int]] | None = None,
    device: torch.device | str = "cpu",
) -> ReceptiveField:
    """Measure what enters the values of a denoiser.

    Parameters
    ----------
    denoiser : Denoiser
        Is not changed: a copy in double precision is measured.
    times : iterable of float
        Noise levels; default 0.1, 0.5 and 0.9.
    pixels : iterable of (row, column), optional
        Default: the one in the middle, a corner, and the middle of a side.
    device : torch.device or str
        Where a model computes that is no part of the denoiser, as one that a function calls. Others are measured on
        the CPU.

    Raises
    ------
    ValueError
        For a pixel outside the image.

    Examples
    --------
    >>> from cmi.denoise import LocalDenoiser
    >>> found = receptive_field(LocalDenoiser((1, 9, 9), radius=3, width=4, depth=2))
    >>> found.radius, found.side, found.full
    (3, 7, True)
    """
    channels, rows, columns = denoiser.shape
    at = [(rows // 2, columns // 2), (0, 0), (0, columns // 2)] if pixels is None else list(pixels)
    at = list(dict.fromkeys(at))
    for row, column in at:
        if not (0 <= row < rows and 0 <= column < columns):
            raise ValueError(f"the pixel {(row, column)} lies outside images of {rows} x {columns}")
    net, precision, place = _measurable(denoiser, torch.device(device))
    seen = np.zeros((len(at), rows, columns), dtype=bool)
    generator = torch.Generator().manual_seed(_SEED)
    for t in times:
        xt, other = torch.randn(2, 1, channels, rows, columns, generator=generator, dtype=precision).to(place)
        for which, pixel in enumerate(at):
            seen[which] |= _by_gradient(net, xt, t, pixel)
            if _moved(net, xt, t, pixel, torch.as_tensor(~seen[which], device=place), other):
                seen[which] |= _one_by_one(net, xt, t, pixel)
    return ReceptiveField(tuple(at), seen)


def _measurable(denoiser: Denoiser, device: torch.device) -> tuple[Denoiser, torch.dtype, torch.device]:
    """A copy without dropout, in double precision on the CPU, or as it is if what it calls stays what it is."""
    double = copy.deepcopy(denoiser).cpu().double().eval()
    try:
        with torch.no_grad():
            double(torch.zeros(1, *denoiser.shape, dtype=torch.float64), 0.5)
    except (RuntimeError, TypeError):
        # a network inside a function is no part of the module, and not brought to another precision or device
        place = next((p.device for p in (*denoiser.parameters(), *denoiser.buffers())), device)
        return copy.deepcopy(denoiser).eval(), torch.float32, place
    return double, torch.float64, torch.device("cpu")


def _by_gradient(net: Denoiser, xt: Tensor, t: float, place: tuple[int, int]) -> NDArray[np.bool_]:
    asked = xt.clone().requires_grad_()
    value = net(asked, t)[0, :, place[0], place[1]]
    found = torch.zeros(xt.shape[2:], dtype=torch.bool, device=xt.device)
    if value.requires_grad:
        for channel in value:
            (slope,) = torch.autograd.grad(channel, asked, retain_graph=True, allow_unused=True)
            if slope is not None:
                found |= (slope[0] != 0.0).any(dim=0)
    return np.asarray(found.cpu().numpy())


@torch.no_grad()
def _moved(net: Denoiser, xt: Tensor, t: float, place: tuple[int, int], outside: Tensor, other: Tensor) -> bool:
    """Whether other values of all pixels outside move any digit of the one in that place."""
    if not bool(outside.any()):
        return False
    before, after = (net(x, t)[0, :, place[0], place[1]] for x in (xt, torch.where(outside, other, xt)))
    return bool((before != after).any())


@torch.no_grad()
def _one_by_one(net: Denoiser, xt: Tensor, t: float, place: tuple[int, int]) -> NDArray[np.bool_]:
    """Which pixels move it, each changed alone; in batches of one size, on which rounding may depend."""
    channels, rows, columns = xt.shape[1:]
    changed = torch.zeros(rows * columns, dtype=torch.bool)
    before = net(xt.expand(_CHUNK, -1, -1, -1), t)[..., place[0], place[1]]
    for begin in range(0, rows * columns, _CHUNK):
        which = torch.arange(begin, min(begin + _CHUNK, rows * columns))
        each = xt.expand(_CHUNK, -1, -1, -1).clone().view(_CHUNK, channels, -1)
        each[torch.arange(len(which)), :, which] += 1.0
        after = net(each.view(_CHUNK, channels, rows, columns), t)[..., place[0], place[1]]
        changed[which] = (after != before).any(dim=1)[: len(which)].cpu()
    return np.asarray(changed.view(rows, columns).numpy())

"""Denoisers that need no training: exact for Gaussian data, and the empirical Bayes rule of a data set.

GaussianDenoiser.  Of a Gaussian with mean m and covariance S, E[x0_i | xt on a square P around i] is linear,

    x0_hat_i = m_i + alpha S_iP (alpha^2 S_PP + sigma^2)^-1 (xt_P - alpha m_P),

the Wiener filter; with P the whole image it is the global one.  Of other data it is the best linear denoiser.

EmpiricalDenoiser.  Of N equally likely images x_n, the mean of those that xt may have been,

    x0_hat_i = sum_n w_n(i) x_n,i,    w_n(i) ~ exp(-|xt_P - alpha x_n,P|^2 / 2 sigma^2),

with P the whole image, or a square around i: the local score machine of Kamb and Ganguli (arXiv:2412.20292).  It
remembers the images of the set itself: how well it denoises is to be read on others.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor
from torch.nn import functional

from cmi.checks import whole_number
from cmi.denoise.denoiser import Denoiser, precise
from cmi.denoise.signature import image_signatures
from cmi.noise import Noise

__all__ = ["EmpiricalDenoiser", "GaussianDenoiser"]

_BLOCK = 2**25  # bytes that a block of numbers may take
_KEPT = 64  # levels whose filters are remembered
_LEAST = 1e-13  # of the largest variance, as noise in a square
_ROUNDING = 1e-12  # of the largest eigenvalue: below, a direction does not vary


class GaussianDenoiser(Denoiser):
    """E[x0 | xt] for Gaussian data, of each pixel from the square around it, or from all.

    Parameters
    ----------
    covariance : (d, d) array
        Of clean images, flattened in the order channels, rows, columns; symmetric, no eigenvalue below 0.
    mean : array of d numbers, or one, optional
    shape : (int, int, int)
    noise : str or Noise
    radius : int, optional
        Of the square; default: the whole image.

    Raises
    ------
    ValueError
        If covariance, mean and shape do not go together, or it is none.

    Examples
    --------
    >>> import numpy as np, torch
    >>> exact = GaussianDenoiser([[1.0, 0.5], [0.5, 1.0]], shape=(1, 1, 2))
    >>> local = GaussianDenoiser([[1.0, 0.5], [0.5, 1.0]], shape=(1, 1, 2), radius=0)
    >>> xt = torch.tensor([[[[1.0, 0.0]]]], dtype=torch.float64)
    >>> local(xt, 0.5).flatten().numpy().round(4), exact(xt, 0.5).flatten().numpy().round(4)
    (array([1., 0.]), array([0.9333, 0.2667]))
    """

    def __init__(
        self,
        covariance: ArrayLike,
        mean: ArrayLike = 0.0,
        *,
        shape: Sequence[int],
        noise: str | Noise = "interpolation",
        radius: int | None = None,
    ) -> None:
        super().__init__(shape, noise, None if radius is None else whole_number(radius, "radius", least=0))
        d = int(np.prod(self.shape))
        s = np.asarray(covariance, dtype=np.float64)
        if s.shape != (d, d) or not np.isfinite(s).all() or not np.allclose(s, s.T, atol=1e-9 * np.abs(s).max()):
            raise ValueError(f"the covariance of images of {d} values is symmetric, ({d}, {d}), got {s.shape}")
        values, vectors = np.linalg.eigh(s)
        if not np.isfinite(np.asarray(mean, dtype=np.float64)).all():
            raise ValueError("the mean holds values that are not finite")
        if values[0] < -1e-8 * max(values[-1], 1e-300):
            raise ValueError(f"the covariance has the eigenvalue {values[0]:.3g}: none may lie below 0")
        self.covariance = s
        self.mean = np.broadcast_to(np.asarray(mean, dtype=np.float64), (d,)).copy()
        self._spectrum = np.where(values > _ROUNDING * values[-1], values, 0.0), vectors
        self._filters: dict[float, NDArray[np.float64]] = {}

    def denoised(self, xt: Tensor, t: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:  # noqa: ARG002
        """The linear filter of every level."""
        found = torch.empty_like(xt)
        for level in torch.unique(t).tolist():
            rows = t == level
            at = float(self.noise.alpha(level))
            if float(self.noise.sigma(level)) == 0.0:
                found[rows] = xt[rows] / at
                continue
            kind = precise(xt.device)
            flat = xt[rows].flatten(1).to(kind)
            weights = torch.as_tensor(self.filter(level)).to(xt.device, kind)
            mean = torch.as_tensor(self.mean).to(xt.device, kind)
            found[rows] = (mean + (flat - at * mean) @ weights.T).to(xt.dtype).reshape(-1, *self.shape)
        return found

    def filter(self, t: float) -> NDArray[np.float64]:
        """Weights (d, d) of xt - alpha m: a row per pixel, 0 outside its square; with noise on the images."""
        snr, alpha = float(self.noise.snr(t)), float(self.noise.alpha(t))
        if t not in self._filters:
            if len(self._filters) >= _KEPT:
                self._filters.pop(next(iter(self._filters)))
            if alpha == 0.0:
                found = np.zeros_like(self.covariance)
            elif self.radius is None:
                values, vectors = self._spectrum
                found = (vectors * (values / (values + 1.0 / snr))) @ vectors.T / alpha
            else:
                found = self._local(1.0 / snr, self.radius) / alpha
            self._filters[t] = found
        return self._filters[t]

    def mmse(self, t: float) -> NDArray[np.float64]:
        """E |x0_i - x0_hat_i|^2 of each value (channels, rows, columns), exact if the data are Gaussian."""
        if float(self.noise.sigma(t)) == 0.0:
            return np.zeros(self.shape)
        gain = float(self.noise.alpha(t)) * self.filter(t)
        left = np.diagonal(self.covariance) - (gain * self.covariance).sum(axis=1)
        return np.asarray(left.reshape(self.shape))

    def _local(self, variance: float, radius: int) -> NDArray[np.float64]:
        """S_iP (S_PP + v)^-1 of every value i, in blocks of squares filled up to one size."""
        channels, rows, columns = self.shape
        d = len(self.covariance)
        number = np.full((channels, rows + 2 * radius, columns + 2 * radius), -1)
        number[:, radius : radius + rows, radius : radius + columns] = np.arange(d).reshape(self.shape)
        side = 2 * radius + 1
        windows = np.lib.stride_tricks.sliding_window_view(number, (side, side), axis=(1, 2))
        patches = windows.transpose(1, 2, 0, 3, 4).reshape(rows * columns, -1)  # of all channels around a pixel
        found = np.zeros((d, d))
        several = max(1, _BLOCK // (8 * patches.shape[1] ** 2))
        for begin in range(0, rows * columns, several):
            which = patches[begin : begin + several]
            inside = which >= 0
            both = inside[:, :, None] & inside[:, None, :]
            noisy = np.where(both, self.covariance[which[:, :, None], which[:, None, :]], 0.0)
            # never singular: pixels that say the same are told apart by no noise below rounding
            noisy += max(variance, _LEAST * float(np.diagonal(self.covariance).max())) * np.eye(patches.shape[1])
            own = np.arange(begin, begin + len(which))[:, None] + rows * columns * np.arange(channels)
            cross = np.where(inside[:, :, None], self.covariance[which[:, :, None], own[:, None, :]], 0.0)
            weights = np.linalg.solve(noisy, cross)  # (pixels, patch, channels)
            pixel, entry = np.nonzero(inside)
            for channel in range(channels):
                found[own[pixel, channel], which[pixel, entry]] = weights[pixel, entry, channel]
        return found


class EmpiricalDenoiser(Denoiser):
    """The mean of the images of a data set that xt may have been, by all of it or by the square around a pixel.

    Parameters
    ----------
    images : (N, channels, rows, columns) tensor or array
        Clean.
    noise : str or Noise
    radius : int, optional
        Of the square; default: the whole image.

    Raises
    ------
    TypeError, ValueError
        For images of another shape, none, or values that are not finite or whole numbers.

    Examples
    --------
    >>> import torch
    >>> two = EmpiricalDenoiser(torch.tensor([0.0, 1.0]).reshape(2, 1, 1, 1))
    >>> round(two(torch.full((1, 1, 1, 1), 0.25), 0.5).item(), 6)  # half-way between 0 and alpha
    0.5
    """

    images: Tensor

    def __init__(
        self, images: Tensor | ArrayLike, noise: str | Noise = "interpolation", *, radius: int | None = None
    ) -> None:
        clean = torch.as_tensor(np.asarray(images) if not isinstance(images, Tensor) else images)
        if clean.dim() != 4 or len(clean) == 0:
            raise ValueError(f"images have shape (N, channels, rows, columns), got {tuple(clean.shape)}")
        if not clean.is_floating_point():
            raise TypeError(
                f"images are floating point, got {clean.dtype}: images_of scales whole numbers as scores do"
            )
        if not bool(torch.isfinite(clean).all()):
            raise ValueError("images hold values that are not finite")
        channels, rows, columns = clean.shape[1:]
        radius = None if radius is None else whole_number(radius, "radius", least=0)
        super().__init__((channels, rows, columns), noise, radius)
        self.register_buffer("images", clean.clone(), persistent=False)
        self.trained_on = image_signatures(clean)

    def denoised(self, xt: Tensor, t: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:  # noqa: ARG002
        """Weights in double precision, the largest kept aside while they are summed."""
        kind = precise(xt.device)
        found = [
            x / a if float(s) == 0.0 else self._mean(x.to(kind), a.to(kind), s.to(kind))
            for x, a, s in zip(xt, alpha, sigma, strict=True)
        ]
        return torch.stack(found).to(xt.dtype)

    def _mean(self, x: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        places = (1, 1) if self.radius is None else self.shape[1:]
        top = x.new_full(places, -torch.inf)
        total, mean = x.new_zeros(places), torch.zeros_like(x)
        several = max(1, _BLOCK // (32 * x.numel()))
        for begin in range(0, len(self.images), several):
            some = self.images[begin : begin + several].to(x.dtype)
            square = ((x - alpha * some) ** 2).sum(dim=1)  # over channels
            log = -0.5 * self._summed(square) / sigma[0] ** 2
            most = torch.maximum(top, log.amax(dim=0))
            weights = torch.exp(log - most)
            keep = torch.exp(top - most)
            total = total * keep + weights.sum(dim=0)
            mean = mean * keep + torch.einsum("nij,ncij->cij", weights.expand(-1, *self.shape[1:]), some)
            top = most
        return mean / total

    def _summed(self, square: Tensor) -> Tensor:
        """Sums over the image, or over the square around every pixel: exactly of what lies in it."""
        if self.radius is None:
            return square.sum(dim=(1, 2), keepdim=True)
        r, side = self.radius, 2 * self.radius + 1
        columns = functional.avg_pool2d(square[:, None], (1, side), 1, (0, r), divisor_override=1)
        return functional.avg_pool2d(columns, (side, 1), 1, (r, 0), divisor_override=1)[:, 0]

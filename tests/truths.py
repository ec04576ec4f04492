"""Gaussian models with known CMI, and samples of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from naive import gaussian_cmi
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Gaussian:
    """A centred Gaussian, columns in the order A, S_1, ..., S_m."""

    covariance: FloatArray
    sizes: tuple[int, ...]

    def sample(self, n: int, seed: int) -> FloatArray:
        rng = np.random.default_rng(seed)
        return np.asarray(rng.standard_normal((n, len(self.covariance))) @ np.linalg.cholesky(self.covariance).T)

    def cmi(self, snr: float = np.inf) -> FloatArray:
        noisy = self.covariance + np.eye(len(self.covariance)) / snr
        return np.array([gaussian_cmi(noisy, self.sizes, cut) for cut in range(1, len(self.sizes) - 1)])


def chain(radius: int, rings: Sequence[int], a: float = 0.9) -> Gaussian:
    """AR(1) chain, A its centre, the shells rings on both sides: ``rings`` are their outer distances."""
    places = np.arange(-radius, radius + 1)
    order = [0]
    sizes = [1]
    low = 0
    for high in [*rings, radius]:
        ring = [int(p) for p in places if low < abs(p) <= high]
        order += ring
        sizes.append(len(ring))
        low = high
    position = np.array(order)
    return Gaussian(a ** np.abs(position[:, None] - position[None, :]), tuple(sizes))


def random_gaussian(dims: int, sizes: tuple[int, ...], seed: int) -> Gaussian:
    """Covariance W W^T/dims + 0.1 with W standard normal, in mixed units."""
    rng = np.random.default_rng(seed)
    w = rng.standard_normal((dims, dims))
    return Gaussian(w @ w.T / dims + 0.1 * np.eye(dims), sizes)

"""Gaussian data and their exact denoisers, with all that is known of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from unittest.mock import patch

import numpy as np

from cmi.denoise import Denoiser, GaussianDenoiser, sample
from cmi.exact import GaussianField

FIELD = GaussianField(L=6, kappa=0.15)
SHAPE = (1, 6, 6)
IMAGES = FIELD.sample(2000, 1)
EXACT: dict[str, Denoiser] = {
    "global": GaussianDenoiser(FIELD.covariance, shape=SHAPE),
    "r0": GaussianDenoiser(FIELD.covariance, shape=SHAPE, radius=0),
    "r1": GaussianDenoiser(FIELD.covariance, shape=SHAPE, radius=1),
}


def exact_gaps(name: str, times: Sequence[float]) -> np.ndarray:
    """Sum over pixels of mmse_local - mmse_global at each time, in closed form."""
    one, whole = EXACT[name], EXACT["global"]
    assert isinstance(one, GaussianDenoiser)
    assert isinstance(whole, GaussianDenoiser)
    return np.array([one.mmse(t).sum() - whole.mmse(t).sum() for t in times])


def exact_certificate(names: Sequence[str], times: Sequence[float]) -> float:
    """1/2 sum dgamma gap, in closed form, of the steps that end above t = 0."""
    snr = FIELD.schedule().snr(np.asarray(times))
    weights = np.diff(snr)
    return sum(
        0.5 * float(weights[k]) * float(exact_gaps(name, [times[k]])[0])
        for k, name in enumerate(names)
        if np.isfinite(weights[k])
    )


class OneOfMany:
    """In place of a generator: image j has the j-th of all random numbers 1, the others 0."""

    def __init__(self, seed: np.random.SeedSequence) -> None:
        self.left: int = seed.spawn_key[-1]

    def standard_normal(self, shape: tuple[int, ...], dtype: type) -> np.ndarray:
        drawn: np.ndarray = np.zeros(shape, dtype)
        if 0 <= self.left < drawn.size:
            drawn.flat[self.left] = 1.0
        self.left -= drawn.size
        return drawn


def sampled_covariance(denoiser: Denoiser, times: Sequence[float] | np.ndarray, **options: Any) -> np.ndarray:
    """Of what a sampler draws with a linear denoiser, which is linear in its random numbers: without sampling."""
    pixels = int(np.prod(denoiser.shape))
    with patch.object(np.random, "default_rng", OneOfMany):
        found = sample(denoiser, pixels * len(times), times=np.asarray(times), batch=10_000, **options)
    linear = found.numpy().reshape(-1, pixels).astype(np.float64)
    return np.asarray(linear.T @ linear)


def gaussian_kl(true: np.ndarray, drawn: np.ndarray) -> float:
    """KL(N(0, true) || N(0, drawn)), nats."""
    ratio = np.linalg.solve(drawn, true)
    return 0.5 * float(np.trace(ratio) - len(true) - np.linalg.slogdet(ratio)[1])

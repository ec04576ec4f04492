"""Gaussian data and their exact denoisers, with all that is known of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cmi.denoise import Denoiser, GaussianDenoiser
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

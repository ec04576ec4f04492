"""Known noise on clean samples: Gaussian of an SNR, or flips of bits; independent on every column."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from estimators.profile import FloatArray

__all__ = ["KnownNoise", "bits"]

_LEAST, _MOST = 1e-6, 1e9  # of the data: what single precision tells from none, and from nothing but noise


@dataclass(frozen=True, slots=True)
class KnownNoise:
    """Noise of one level.

    Parameters
    ----------
    sigma : float
        Standard deviation of Gaussian noise, in units of the data; 0 for flips, infinite for an SNR of 0.
    flip : float
        Probability of a flip; 0 for Gaussian noise.
    key : (int, int)
        What the random numbers of this level are drawn by: it does not depend on other levels.

    Examples
    --------
    >>> KnownNoise.of(4.0, None).sigma, KnownNoise.of(None, 0.5).nothing_left
    (0.5, True)
    """

    sigma: float
    flip: float
    key: tuple[int, int]

    @classmethod
    def of(cls, snr: float | None, flip: float | None) -> KnownNoise:
        """Take an SNR in [0, infinity] or a probability in [0, 1/2].

        Raises
        ------
        ValueError
            If not exactly one is given, or it is out of range.
        """
        if (snr is None) == (flip is None):
            raise ValueError("this method is for clean samples with known noise: give either snr or flip")
        level = float(snr if flip is None else flip)  # type: ignore[arg-type]
        bits_of_it = int(np.float64(level + 0.0).view(np.uint64))
        key = (bits_of_it >> 32, bits_of_it & 0xFFFFFFFF)
        if flip is None:
            if not level >= 0.0:
                raise ValueError(f"snr must lie in [0, inf], got {snr}")
            with np.errstate(divide="ignore"):
                return cls(float(np.float64(level) ** -0.5), 0.0, key)
        if not 0.0 <= level <= 0.5:
            raise ValueError(f"the probability of a flip lies in [0, 1/2], got {flip}")
        return cls(0.0, level, key)

    @property
    def nothing_left(self) -> bool:
        """Whether what is seen does not depend on the clean sample."""
        return self.sigma == np.inf or self.flip == 0.5

    def scaled(self, unit: float) -> KnownNoise:
        """Return the same noise on data that were divided by a unit; but for none, from 1e-6 of it to 1e9."""
        sigma = self.sigma / unit
        return KnownNoise(min(max(sigma, _LEAST), _MOST) if 0.0 < sigma < np.inf else sigma, self.flip, self.key)

    def applied(self, clean: FloatArray, seed: int, stream: Sequence[int] = ()) -> FloatArray:
        """Return noisy samples, of the same shape; bits are 0 and 1."""
        rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(*stream, *self.key)))
        if self.flip:
            return np.where(rng.random(clean.shape) < self.flip, 1.0 - clean, clean)
        return clean + self.sigma * rng.standard_normal(clean.shape) if self.sigma else clean


def bits(x: FloatArray) -> FloatArray:
    """Return 0 for the lower of two values, 1 for the higher.

    Raises
    ------
    ValueError
        If there are more.

    Examples
    --------
    >>> bits(np.array([-1.0, 1.0, -1.0])).tolist()
    [0.0, 1.0, 0.0]
    """
    low, high = float(x.min()), float(x.max())
    if not ((x == low) | (x == high)).all():
        raise ValueError("flips exchange the two values of data that have two: these have more")
    return np.asarray((x - low) / (high - low) if high > low else x - low)

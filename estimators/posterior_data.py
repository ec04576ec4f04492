"""What a posterior network is given and asked: clean values of A, levels of noise, and where its answers begin."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

from estimators.gaussian_start import LEAST, gaussian_start
from estimators.known_noise import KnownNoise
from estimators.posterior_loss import padded
from estimators.profile import FloatArray
from estimators.value_bins import clean_values, crowded_width

__all__ = ["BINS", "Start", "Values", "column_sizes", "gaussian_posteriors", "hats"]

BINS = 256  # clean values that are told apart, where the data have more
_KNOTS = 32  # of the correction to their logits
_FAR = 4.0  # sizes of a column that its largest value lies from the mean, at most
_CONSTANT = 1e-9  # of the unit; a column that does not vary more is one that does not vary


def hats(values: FloatArray, share: FloatArray) -> FloatArray:
    """Return (knots, values) hat functions that sum to 1: dense where values are frequent, and nowhere far apart.

    Parameters
    ----------
    values : (k,) array
        Rising.
    share : (k,) array
        How often each is seen.

    Examples
    --------
    >>> hats(np.array([0.0, 1.0]), np.array([0.5, 0.5])).tolist()
    [[1.0, 0.0], [0.0, 1.0]]
    """
    count = min(_KNOTS, len(values))
    if len(values) == 1:
        return np.ones((1, 1))
    middle = np.cumsum(share) - 0.5 * share
    place = 0.5 * (middle - middle[0]) / max(middle[-1] - middle[0], 1e-300)
    place += 0.5 * (values - values[0]) / (values[-1] - values[0])
    if count == len(values):
        place = np.linspace(0.0, 1.0, count)
    grid = np.linspace(0.0, 1.0, count)
    return np.stack([np.interp(place, grid, np.eye(count)[knot]) for knot in range(count)])


@dataclass(frozen=True, eq=False)
class Values:
    """Clean values of one column of A, how often each is seen, and the hat functions of a correction.

    Parameters
    ----------
    known : (k,) array
        The values, rising.
    share : (k,) array
        Sums to 1; half a sample more for each value than were seen.
    every : bool
        Whether these are all, or middles of bins.
    mean, variance : float
        Of the column; the variance is above 0.
    hats : (knots, k) array
    crowded : float
        As in `crowded_width`.
    """

    known: FloatArray
    share: FloatArray
    every: bool
    mean: float
    variance: float
    hats: FloatArray
    crowded: float = 0.0

    @classmethod
    def of(cls, column: FloatArray) -> Values:
        """Take those of samples."""
        known, every = clean_values(column, BINS)
        edges = np.concatenate([[-np.inf], (known[1:] + known[:-1]) / 2.0, [np.inf]])
        share = np.histogram(column, edges)[0] + 0.5
        share /= share.sum()
        variance = max(float(column.var()), 1e-12)
        crowded = crowded_width(column, BINS)
        return cls(known, share, every, float(column.mean()), variance, hats(known, share), crowded)

    @property
    def range(self) -> float:
        """From the lowest value to the highest."""
        return float(self.known[-1] - self.known[0])

    @property
    def bin_variance(self) -> float:
        """How far values lie from what stands for them; 0 where each stands for itself."""
        return 0.0 if self.every else float((self.known[1] - self.known[0]) ** 2 / 12.0)

    def place(self, clean: FloatArray) -> NDArray[np.int64]:
        """Which of the values is nearest to each clean one."""
        middles = (self.known[1:] + self.known[:-1]) / 2.0
        return np.searchsorted(middles, clean)

    def arrays(self, knots: int) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
        """Values, logarithms of their shares, and so many hats, as `corrected_loss` takes them."""
        hats = np.pad(self.hats, ((0, knots - len(self.hats)), (0, 0)))
        return padded(self.known), padded(np.log(self.share), -np.inf), padded(hats)


@dataclass(frozen=True, slots=True, eq=False)
class Start:
    """One level of noise: where answers begin, in units in which clean data have mean 0 and a variance near 1.

    Parameters
    ----------
    noise : KnownNoise
        In these units.
    mean : (targets, d) array
        Of the noisy columns: 0 but for flips.
    place : float
        The level as the network is told it, in [0, 1]: sigma / (sigma + 1), or twice the flip.
    weights : (targets, groups, d) array
        Linear predictions of the columns of A from noisy ones less `mean`: of those before it, and the shells.
    variance : (targets, groups) array
        Of each clean column of A, given what is seen.
    size : (targets, d) array
        Of the clean columns, by which the network's inputs are scaled; as `column_sizes` tells it.
    """

    noise: KnownNoise
    mean: FloatArray
    place: float
    weights: FloatArray
    variance: FloatArray
    size: FloatArray


def column_sizes(clean: FloatArray) -> FloatArray:
    """How large the columns of samples (n, d) are about their means, (d,): 1 where they do not vary.

    The standard deviation, or a quarter of the largest value if that is more: of a pixel that is rarely inked the
    ink would be far out.

    Examples
    --------
    >>> rare = np.zeros(10_000)
    >>> rare[0] = 1.0
    >>> column_sizes(np.stack([rare, np.ones(10_000), np.tile([-2.0, 2.0], 5000)], axis=1)).round(3).tolist()
    [0.25, 1.0, 2.0]
    """
    mean = clean.mean(axis=0)
    largest = np.maximum(clean.max(axis=0) - mean, mean - clean.min(axis=0))
    found = np.maximum(clean.std(axis=0), largest / _FAR)
    return np.asarray(np.where(largest > _CONSTANT, found, 1.0))


def gaussian_posteriors(
    covariance: FloatArray,
    mean: FloatArray,
    sizes: Sequence[int],
    noise: KnownNoise,
    n: float = np.inf,
    least: float = LEAST,
    size: FloatArray | None = None,
) -> Start:
    """Return the linear predictions of A at one level: of every column from those of A before it, and from B_g.

    Parameters
    ----------
    covariance : (d, d) array
        Of clean data.
    mean : (d,) array
        Of clean data; 0 but for flips, where they are bits.
    sizes : sequence of int
        (|A|, |S_1|, ..., |S_m|).
    noise : KnownNoise
    n : float
        Samples that the covariance is of.
    least : float
        As in `gaussian_start`.
    size : (d,) array, optional
        Of the columns. Default: 1 of each.
    """
    a, d = sizes[0], len(covariance)
    keep = 1.0 - 2.0 * noise.flip  # a flip pulls a bit towards the middle, and adds noise
    extra = noise.sigma**2 + noise.flip * (1.0 - noise.flip) / keep**2
    ends = [*accumulate(sizes[1:], initial=0)]
    weights, variance = np.zeros((a, len(ends), d)), np.zeros((a, len(ends)))
    for target in range(a):
        inputs = [*range(target), *range(a, d)]
        start = gaussian_start(covariance, target, inputs, [target + end for end in ends], extra, n, least)
        weights[target][:, inputs], variance[target] = start.weights / keep, start.variance
    place = 2.0 * noise.flip if noise.flip else noise.sigma / (noise.sigma + 1.0)
    noisy_mean = noise.flip + keep * mean if noise.flip else mean
    size = np.ones(d) if size is None else size
    return Start(noise, np.tile(noisy_mean, (a, 1)), place, weights, variance, np.tile(size, (a, 1)))

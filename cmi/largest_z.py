"""The largest of many z-scores, and how large it gets by chance where the cells share samples.

Of m independent cells the largest |z| exceeds the threshold z_p with 1 - (1 - p)^m, which Bonferroni bounds by m p.
Cells that share samples are alike, and their largest is smaller: its quantile is taken from draws that have their
correlations.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

FloatArray = NDArray[np.float64]

__all__ = ["largest_by_chance", "z_scores"]

_DRAWS = 20_000  # where the threshold is passed once in 400 times, 50 of them tell it
_NUMBERS = 4_000_000  # that are held at a time
_ROUNDING = 1e-12  # nats: what is left of hundreds of logarithms that cancel


def z_scores(value: FloatArray, stderr: FloatArray) -> FloatArray:
    """Return value / stderr; a value that is no more than rounding has none, and one without error a huge one.

    Parameters
    ----------
    value, stderr : arrays of one shape, in nats

    Examples
    --------
    >>> z_scores(np.array([0.02, 0.0, 1e-16, 0.01]), np.array([0.01, 0.0, 0.0, 0.0])).round(6).tolist()
    [2.0, 0.0, 0.0001, 10000000000.0]
    """
    error = np.hypot(np.nan_to_num(stderr), _ROUNDING)
    return np.where(np.isinf(value), value, value / error)


def largest_by_chance(
    draw: Callable[[int, int], FloatArray],
    cells: int,
    rate: float,
    *,
    two_sided: bool,
    seed: int | Sequence[int] = 0,
) -> float:
    """Return what the largest of some z-scores of mean 0 or less exceeds at the given rate.

    Parameters
    ----------
    draw : callable
        ``draw(count, seed)`` -> (count, cells) deviations as chance might have made them, in any unit; a cell that
        does not vary is never the largest.
    cells : int
        How many of them Bonferroni counts.
    rate : float
        Between 0 and 1.
    two_sided : bool
        Whether |z| counts, or z.
    seed : int or sequence of int

    Returns
    -------
    float
        Between the threshold of a single normal z and Bonferroni's for all cells.

    Examples
    --------
    One cell, a hundred that are all the same, a hundred independent ones:

    >>> def draw(kinds, cells):
    ...     def of(count, seed):
    ...         z = np.random.default_rng(seed).standard_normal((count, kinds))
    ...         return z[:, np.arange(cells) % kinds]
    ...     return of
    >>> for kinds, cells in ((1, 1), (1, 100), (100, 100)):
    ...     print(round(largest_by_chance(draw(kinds, cells), cells, 0.01, two_sided=True), 1))
    2.6
    2.6
    3.9
    """
    tail = rate / 2.0 if two_sided else rate
    alone, bonferroni = float(norm.isf(tail)), float(norm.isf(tail / cells))
    if cells == 1:
        return alone
    size = max(min(_NUMBERS // draw(1, 0).size, _DRAWS), 1)
    seeds = np.random.SeedSequence(seed).generate_state(-(-_DRAWS // size)).tolist()
    # twice, as the draws of many cells are too many to be kept
    square = np.sum([np.square(draw(size, each)).sum(axis=0) for each in seeds], axis=0)
    spread = np.sqrt(square / (size * len(seeds)))
    unit = np.where(spread > 0.0, spread, np.inf)
    size_of = np.abs if two_sided else np.asarray
    largest = np.concatenate([size_of(draw(size, each) / unit).max(axis=1) for each in seeds])
    return min(max(alone, float(np.quantile(largest, 1.0 - rate))), bonferroni)

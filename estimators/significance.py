"""Significance: what is read on local permutations, whether data read more, and whether that can be trusted.

The p-value of an estimate is (1 + permutations that reach it) / (1 + permutations).  It is right if permuted data
read what data without any CMI do.  They read less where neighbours in B are far apart (`local_permutation`), and
how much less is measured on Gaussian surrogates in which A and C depend on each other through B only,

    gap = < estimate - mean over its own local permutations >,

several data sets with a few permutations each.  Where the gap is above 0 an estimate has to exceed permutations by
that much more.  It knows of linear dependence on B only: p-values of strongly non-linear dependence stay too small.
"""

from __future__ import annotations

import numpy as np

from estimators.local_permutation import LocalPermutations
from estimators.profile import FloatArray, IntArray, Null
from estimators.seeds import Stream, generator
from estimators.surrogates import GaussianSurrogate, Summands

__all__ = ["local_null"]

_NULLS, _EACH = 5, 3  # surrogates without CMI at every cut, and permutations of each


def local_null(
    x: FloatArray,
    offsets: IntArray,
    summands: Summands,
    value: FloatArray,
    model: GaussianSurrogate | None,
    *,
    count: int,
    neighbours: int,
    seed: int,
    threads: int | None = None,
) -> Null:
    """Estimate on local permutations, at every cut.

    Parameters
    ----------
    x : (n, d) array
        Columns in the order A, S_1, ..., S_m.
    offsets : (m + 2,) int array
        Columns of A, S_1, ..., S_m.
    summands : callable
        ``summands(samples, offsets)`` -> (K, cuts, q): what the estimator averages.
    value : (cuts,) array
        The estimates.
    model : GaussianSurrogate or None
        On which the gap is measured; None: it is not.
    count : int
        Permutations.
    neighbours : int
        Samples among which C is exchanged.
    seed : int
        Every permutation has a generator of its own.
    threads : int, optional
        Default: all cores; the result does not depend on it.

    Returns
    -------
    Null

    Examples
    --------
    >>> import numpy as np
    >>> x = np.random.default_rng(0).standard_normal((100, 3))
    >>> product = lambda points, offsets: (points[:, 0] * points[:, 2])[None, None]
    >>> null = local_null(x, np.array([0, 1, 2, 3]), product, np.array([9.0]), None, count=19, neighbours=3, seed=0)
    >>> null.p_value.tolist()
    [0.05]
    """
    cuts = len(offsets) - 3
    if model is not None and model.determined:
        model = None
    values, read, gaps = np.empty((cuts, count)), np.empty((cuts, _NULLS)), np.empty((cuts, _NULLS))
    for cut in range(cuts):
        layout = np.array([0, offsets[1], offsets[cut + 2], x.shape[1]])
        permuted = _Permuted(summands, layout, neighbours, seed, threads)
        values[cut] = permuted(x, count, Stream.PERMUTATIONS, cut)
        if model is not None:
            without = model.without_link(cut)
            for i in range(_NULLS):
                points, _ = without.sample(len(x), generator(seed, Stream.NULLS, cut, i))
                read[cut, i] = summands(points, layout).mean()
                gaps[cut, i] = read[cut, i] - permuted(points, _EACH, Stream.NULLS, cut, i).mean()
    gap = np.zeros(cuts) if model is None else gaps.mean(axis=1)
    # equal estimates may differ in their last bits
    least = value - np.maximum(gap, 0.0) - 1e-12 * (1.0 + np.abs(value))
    p_value = (1.0 + (values >= least[:, None]).sum(axis=1)) / (1.0 + count)
    if model is None:
        return Null(values, p_value)
    gap_error, error = (each.std(axis=1, ddof=1) / np.sqrt(_NULLS) for each in (gaps, read))
    return Null(values, p_value, gap, gap_error, read.mean(axis=1), error)


class _Permuted:
    """Estimates on permutations of given samples."""

    def __init__(
        self, summands: Summands, layout: IntArray, neighbours: int, seed: int, threads: int | None
    ) -> None:
        self._summands, self._layout = summands, layout
        self._neighbours, self._seed, self._threads = neighbours, seed, threads

    def __call__(self, x: FloatArray, count: int, stream: Stream, *which: int) -> FloatArray:
        _, start, stop, _ = self._layout
        exchange = LocalPermutations(x[:, start:stop], neighbours=self._neighbours, threads=self._threads)
        other, found = x.copy(), np.empty(count)
        for i in range(count):
            source = exchange.draw(generator(self._seed, stream, *which, i))
            other[:, stop:] = x[source, stop:]
            found[i] = self._summands(other, self._layout).mean()
        return found

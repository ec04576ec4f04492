"""Local permutations: what an estimate reads when A and C depend on each other through B only.

C is exchanged between samples whose B is nearly the same (Runge 2018, algorithm 1): each sample takes C from one of
its nearest neighbours in B that has not given its C away yet.  That leaves (A, B) and nearly (B, C) as they are and
destroys what A and C share beyond B, so the estimates on such data are those of the null hypothesis: their mean is
the floor of the estimator, and the share of them that reach the estimate on the data is its p-value.  Samples with
exactly the same B are as good as each other: where there are several of them, C is exchanged freely among all.

It is as good as neighbours are near.  Where A or C hang closely on B, or B has many columns, exchanging C among
neighbours also destroys what A and C share through B: the floor is too low, and p-values are too small.  Fewer
neighbours help, but let more samples keep their own C, so that less is destroyed of what was to be: of 3, the
default, 38 % keep it; of Runge's 5, 22 %.  `significance` allows for it, and `benchmarks/p_values.py` measures it.

References
----------
Runge, AISTATS 2018, PMLR 84, 938.
"""

from __future__ import annotations

import numba
import numpy as np

from estimators.columns import tied_share
from estimators.kd_order import kd_tiles, queries_among
from estimators.neighbours import nearest_others
from estimators.profile import FloatArray, IntArray

__all__ = ["LocalPermutations"]

_JITTER = 1e-9  # of a column's range: tells apart what is at the same distance, and moves nothing else


class LocalPermutations:
    """Permutations of samples among neighbours in B.

    Parameters
    ----------
    b : (n, d) array
        The condition; without columns every permutation is as likely.
    neighbours : int
        Samples among which C is exchanged, the sample itself included; at most n.
    threads : int, optional
        Default: all cores; the result does not depend on it.

    Examples
    --------
    >>> import numpy as np
    >>> b = np.repeat([0.0, 5.0], 4)[:, None]
    >>> source = LocalPermutations(b).draw(np.random.default_rng(0))
    >>> sorted(source[:4].tolist()), bool((source[4:] >= 4).all())
    ([0, 1, 2, 3], True)
    """

    def __init__(self, b: FloatArray, *, neighbours: int = 3, threads: int | None = None) -> None:
        self._n = len(b)
        kinds = _kinds(b)
        size = np.bincount(kinds, minlength=1)[kinds]
        self._equal = np.flatnonzero(size >= neighbours)
        self._equal = self._equal[np.argsort(kinds[self._equal], kind="stable")]
        self._kind = kinds[self._equal]
        self._other = np.flatnonzero(size < neighbours)
        self._near = np.arange(len(self._other))[:, None]
        some = min(neighbours, len(self._other)) - 1
        if some > 0:
            points = _told_apart(b[self._other])
            tiles = kd_tiles(points, threads=threads)
            others = nearest_others(tiles, queries_among(tiles, points, None), some, threads=threads)
            self._near = np.column_stack([self._near, others])

    def draw(self, rng: np.random.Generator) -> IntArray:
        """Return for every sample the one whose C it takes; shape (n,)."""
        source = np.arange(self._n)
        source[self._equal] = self._equal[np.lexsort((rng.random(len(self._equal)), self._kind))]
        if len(self._other):
            order = rng.permutation(len(self._other))
            source[self._other] = self._other[_exchange(rng.permuted(self._near, axis=1), order)]
        return source


def _kinds(b: FloatArray) -> IntArray:
    """Number the rows so that equal rows, and only those, have the same number."""
    if b.shape[1] == 0:
        return np.zeros(len(b), dtype=np.int64)
    if tied_share(b).min() == 0.0:  # of that column no two values are equal
        return np.arange(len(b))
    rows = np.ascontiguousarray(b + 0.0)  # -0 is 0
    return np.asarray(np.unique(rows.view(f"V{rows.itemsize * rows.shape[1]}"), return_inverse=True)[1].ravel())


def _told_apart(b: FloatArray) -> FloatArray:
    """The points; where values repeat, moved a little, so that which of several equally near is taken is random."""
    if tied_share(b).max() == 0.0:
        return np.ascontiguousarray(b)
    rng = np.random.default_rng(0)  # the draws decide what becomes of it
    low, high = b.min(axis=0), b.max(axis=0)
    return np.asarray((b - low) + _JITTER * (high - low) * rng.random(b.shape))


@numba.njit(nogil=True, cache=True)
def _exchange(near: IntArray, order: IntArray) -> IntArray:  # pragma: no cover
    """Give each sample, in the given order, its first neighbour that is still free; the last if none is."""
    n, k = near.shape
    source = np.empty(n, dtype=np.int64)
    used = np.zeros(n, dtype=np.bool_)
    for i in order:
        chosen = near[i, k - 1]
        for j in range(k):
            if not used[near[i, j]]:
                chosen = near[i, j]
                break
        source[i] = chosen
        used[chosen] = True
    return source

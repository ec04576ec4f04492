"""Local permutations: what an estimate reads when A and C depend on each other through B only.

C is exchanged between samples whose B is nearly the same (Runge 2018, algorithm 1): each sample takes C from one of
its nearest neighbours in B that has not given its C away yet.  That leaves (A, B) and nearly (B, C) as they are and
destroys what A and C share beyond B, so the estimates on such data are those of the null hypothesis: their mean is
the floor of the estimator, and the share of them that reach the estimate on the data is its p-value.  It is as good
as neighbours are near: in many columns they are far, and exchanging C among them destroys dependence through B too,
which lowers the floor.
"""

from __future__ import annotations

import numba
import numpy as np

from estimators.kd_order import kd_tiles, queries_among
from estimators.neighbours import nearest_others
from estimators.profile import FloatArray, IntArray

__all__ = ["LocalPermutations"]


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
    >>> source = LocalPermutations(b, neighbours=4).draw(np.random.default_rng(0))
    >>> sorted(source[:4].tolist()), bool((source[4:] >= 4).all())
    ([0, 1, 2, 3], True)
    """

    def __init__(self, b: FloatArray, *, neighbours: int = 5, threads: int | None = None) -> None:
        self._n = len(b)
        self._near: IntArray | None = None
        if b.shape[1] and neighbours < self._n:
            tiles = kd_tiles(b)
            others = nearest_others(tiles, queries_among(tiles, b, None), neighbours - 1, threads=threads)
            self._near = np.column_stack([np.arange(self._n), others])

    def draw(self, rng: np.random.Generator) -> IntArray:
        """Return for every sample the one whose C it takes; shape (n,)."""
        order = rng.permutation(self._n)
        if self._near is None:
            return order
        return np.asarray(_exchange(rng.permuted(self._near, axis=1), order))


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

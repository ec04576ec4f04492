"""Sums over the even subgraphs of a planar grid: Z = sum over E, even at every vertex, of prod_{e in E} w_e.

With any weights this is the partition function of a planar Ising model, and a free-fermion problem.  The grid is
read vertex by vertex.  What has been read sends bits across the cut to what has not; the weight of a set S of
ones among them is psi(S), and it stays a Pfaffian,

    psi(S) = N Pf(G_S),    G antisymmetric,    psi(S) = 0 for odd |S|,

because a vertex that passes on parity keeps this form.  Let it take in two neighbouring bits with columns a and b
of G and entry g between them.  They become one bit, their parity:

    N -> N (1 + g),    G -> G + (b a^T - a b^T) / (1 + g),    its column (a + b) / (1 + g),

as Pf is linear along a perturbation of rank two and a + b adds nothing to the span of a and b.  One bit with column
a that goes out on several edges becomes bits with columns w_k a and entries w_j w_k between them.  For a grid of
W x W that is O(W^4) operations, where a transfer matrix needs O(W^2 2^W).

Kasteleyn, J. Math. Phys. 4, 287 (1963), for Pfaffians; the same sums decode the surface code in Bravyi, Suchara and
Vargo, Phys. Rev. A 90, 032326 (2014), who evolve a covariance matrix.
"""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

__all__ = ["log_even_subgraphs"]


def log_even_subgraphs(
    right: FloatArray, down: FloatArray, hole: tuple[int, int, int, int] | None = None
) -> FloatArray:
    """Return ln Z of grids of rows x columns vertices, one for every set of weights.

    Parameters
    ----------
    right : (n, rows, columns + 1) array
        Weights along the rows, at least 0: `right[:, i, j]` leads to vertex (i, j) from its left; the first and the
        last lead outside. All that is outside is one vertex, of even degree too.
    down : (n, rows + 1, columns) array
        Weights along the columns, likewise.
    hole : (top, bottom, left, right), optional
        First and last row and column of vertices that count as one, as if they were a hole; the weights between
        them are not looked at.

    Returns
    -------
    (n,) array

    Raises
    ------
    ValueError
        If shapes do not belong together, the hole does not lie inside the grid, or rounding has left nothing of
        a sum, which is at least 1. Weights below 1, and few above, keep 11 digits on 101 x 101 vertices; many far
        above 1 lose them: with half the edges at 19, the rest at 1/19, 4 are left on 10 x 10.

    Examples
    --------
    A square of four vertices has two even subgraphs, the empty one and the whole.

    >>> inner = np.array([0.0, 0.5, 0.0])
    >>> right, down = np.array([[inner, inner]]), np.array([np.stack([inner, inner], axis=1)])
    >>> np.exp(log_even_subgraphs(right, down)).round(12).tolist()
    [1.0625]
    """
    right, down = np.ascontiguousarray(right, dtype=np.float64), np.ascontiguousarray(down, dtype=np.float64)
    n, rows, columns = right.shape[0], right.shape[1], down.shape[2]
    if right.shape != (n, rows, columns + 1) or down.shape != (n, rows + 1, columns):
        raise ValueError(f"weights of shapes {right.shape} and {down.shape} belong to no grid")
    top, bottom, first, last = (-1, -1, -1, -1) if hole is None else hole
    if hole is not None and not (0 <= top <= bottom < rows and 0 <= first <= last < columns):
        raise ValueError(f"the hole {hole} does not lie inside {rows} x {columns} vertices")
    result = np.empty(n)
    _sums(right, down, np.array([top, bottom, first, last]), result)
    if not (result > -1e-6).all():  # the empty set counts 1
        raise ValueError("rounding has left nothing of these sums: too many weights lie far above 1")
    return result


@numba.njit(nogil=True, cache=True)
def _sums(right: FloatArray, down: FloatArray, hole: IntArray, result: FloatArray) -> None:  # pragma: no cover
    rows, columns = right.shape[1], down.shape[2]
    outside, run = columns, columns + 2  # slots: columns, what is outside on the left and right, the row's own bit
    g = np.empty((columns + 3, columns + 3))
    weight = np.empty(columns + 3)
    a, b = np.empty(columns + 3), np.empty(columns + 3)
    for n in range(len(result)):
        g.fill(0.0)
        for j in range(columns):
            weight[j] = down[n, 0, j]
        weight[outside] = weight[outside + 1] = 1.0
        for j in range(columns):
            g[outside, j], g[j, outside] = weight[j], -weight[j]
            g[j, outside + 1], g[outside + 1, j] = weight[j], -weight[j]
            for k in range(j + 1, columns):
                g[j, k], g[k, j] = weight[j] * weight[k], -weight[j] * weight[k]
        g[outside, outside + 1], g[outside + 1, outside] = 1.0, -1.0
        total = 0.0
        for i in range(rows):
            norm = 1.0
            _send(g, outside, 1.0, run, right[n, i, 0])
            j = 0
            while j < columns:
                if hole[0] <= i <= hole[1] and j == hole[2]:
                    stop = hole[3] if i == hole[0] else j  # below its first row the hole has one bit
                    for k in range(j, stop + 1):
                        norm *= _join(g, run, k, run, a, b)
                    if i < hole[1]:
                        _send(g, run, right[n, i, hole[3] + 1], j, 1.0)
                        _swap_sign(g, run, j)
                    else:
                        _send_all(g, run, j, hole[3], down[n, i + 1], right[n, i, hole[3] + 1], a)
                    j = hole[3] + 1
                    continue
                norm *= _join(g, run, j, run, a, b)
                _send(g, run, right[n, i, j + 1], j, down[n, i + 1, j])
                _swap_sign(g, run, j)  # the bit below comes before the row's own
                j += 1
            norm *= _join(g, run, outside + 1, outside + 1, a, b)
            total += np.log(norm)
        for j in range(columns):
            total += np.log(_join(g, outside, j, outside, a, b))
        # what is outside went around the grid on either side: a loop that is none, counted in and out
        result[n] = total + np.log(0.5 * _join(g, outside, outside + 1, outside, a, b))


@numba.njit(nogil=True, cache=True)
def _join(
    g: FloatArray, first: int, second: int, into: int, a: FloatArray, b: FloatArray
) -> float:  # pragma: no cover
    """Two neighbouring bits, in that order, become their parity; return 1 + g."""
    size = len(g)
    norm = 1.0 + g[first, second]
    for x in range(size):
        a[x], b[x] = g[x, first], g[x, second]
    a[first] = a[second] = b[first] = b[second] = 0.0
    for x in range(size):
        p, q = b[x] / norm, a[x] / norm
        if p != 0.0 or q != 0.0:
            for z in range(size):
                g[x, z] += p * a[z] - q * b[z]
    for x in range(size):
        g[x, first] = g[first, x] = g[x, second] = g[second, x] = 0.0
    for x in range(size):
        value = (a[x] + b[x]) / norm
        g[x, into], g[into, x] = value, -value
    g[into, into] = 0.0
    return float(norm)


@numba.njit(nogil=True, cache=True)
def _send(g: FloatArray, source: int, weight: float, other: int, its_weight: float) -> None:  # pragma: no cover
    """A bit goes out twice, on `source` with a weight and behind it on `other`, which was empty."""
    for x in range(len(g)):
        value = g[x, source]
        g[x, other], g[other, x] = its_weight * value, -its_weight * value
    for x in range(len(g)):
        g[x, source] *= weight
        g[source, x] *= weight
    g[source, other], g[other, source] = weight * its_weight, -weight * its_weight
    g[other, other] = 0.0


@numba.njit(nogil=True, cache=True)
def _swap_sign(g: FloatArray, one: int, other: int) -> None:  # pragma: no cover
    """Two neighbouring bits change places."""
    g[one, other], g[other, one] = -g[one, other], -g[other, one]


@numba.njit(nogil=True, cache=True)
def _send_all(
    g: FloatArray, source: int, start: int, stop: int, weights: FloatArray, weight: float, a: FloatArray
) -> None:  # pragma: no cover
    """A bit goes out on the columns start..stop, which were empty, and behind them on `source`."""
    for x in range(len(g)):
        a[x] = g[x, source]
    for k in range(start, stop + 1):
        for x in range(len(g)):
            g[x, k], g[k, x] = weights[k] * a[x], -weights[k] * a[x]
    for x in range(len(g)):
        g[x, source], g[source, x] = weight * a[x], -weight * a[x]
    for k in range(start, stop + 1):
        for m in range(k + 1, stop + 1):
            g[k, m], g[m, k] = weights[k] * weights[m], -weights[k] * weights[m]
        g[k, source], g[source, k] = weights[k] * weight, -weights[k] * weight
        g[k, k] = 0.0
    g[source, source] = 0.0

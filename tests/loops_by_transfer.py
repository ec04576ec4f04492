"""The oracle of closed loops: probabilities of syndromes by transfer matrix, any shape of region, up to 16 columns.

Vertices are added in rows; the state is the row of vertical edges below, the horizontal edge to the right and, with
a hole, the parity of its check.
"""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]
Bits = NDArray[np.uint8]

_FREE, _CHECKED, _HOLE = 0, 1, 2  # what is known of a vertex: nothing, its parity, that it belongs to the hole


@dataclass(frozen=True, eq=False)
class Region:
    """Edges of an L x L lattice of vertices, and the checks that they see.

    Parameters
    ----------
    right, down : (L, L) bool arrays
        Whether the edge from vertex (i, j) to (i, j + 1), and to (i + 1, j), belongs to it.
    vertex : (L, L) uint8 array
        0: some of its edges lie outside; 1: all lie inside, its parity is seen; 2: it lies at the hole.
    """

    right: BoolArray
    down: BoolArray
    vertex: Bits

    @classmethod
    def of(cls, right: BoolArray, down: BoolArray, hole: BoolArray | None = None) -> Region:
        """Make a region of its edges; `hole` are the vertices on the rim of a hole, or inside it.

        The rim's edges of the region have even degree together. Vertices without edges see nothing.
        """
        lattice_right, lattice_down = np.ones_like(right), np.ones_like(down)
        lattice_right[:, -1] = lattice_down[-1] = False
        inside, all_of = _degree(right, down), _degree(lattice_right, lattice_down)
        vertex = np.where((inside == all_of) & (inside > 0), _CHECKED, _FREE).astype(np.uint8)
        if hole is not None:
            vertex[hole] = _HOLE
        return cls(right, down, vertex)

    @property
    def edges(self) -> int:
        """How many edges it has."""
        return int(self.right.sum() + self.down.sum())

    @property
    def has_hole(self) -> bool:
        """Whether it has the check of a hole."""
        return bool((self.vertex == _HOLE).any())


def _degree(right: Bits | BoolArray, down: Bits | BoolArray) -> NDArray[np.int64]:
    """Edges at every vertex; of flips in place of edges, their number."""
    degree = right.astype(np.int64) + down.astype(np.int64)
    degree[:, 1:] += right[:, :-1].astype(np.int64)
    degree[1:] += down[:-1].astype(np.int64)
    return degree


def log_probability(region: Region, right: Bits, down: Bits, p: float) -> FloatArray:
    """Return ln P(s) of the syndromes of some flips, exact by transfer matrix.

    Parameters
    ----------
    region : Region
    right, down : (n, L, L) uint8 arrays
        Flips of the edges, 0 or 1; those outside the region are not looked at.
    p : float
        Probability of a flip, in (0, 1/2].

    Returns
    -------
    (n,) array

    Examples
    --------
    Two vertices joined by one edge, both seen: the syndrome is the edge.

    >>> edge = np.array([[True, False], [False, False]])
    >>> region = Region(edge, np.zeros((2, 2), dtype=bool), np.array([[1, 1], [0, 0]], dtype=np.uint8))
    >>> flips = np.array([[[0, 0], [0, 0]], [[1, 0], [0, 0]]], dtype=np.uint8)
    >>> np.exp(log_probability(region, flips, np.zeros_like(flips), 0.1)).round(12).tolist()
    [0.9, 0.1]
    """
    if not 0.0 < p <= 0.5:
        raise ValueError(f"the flip probability lies between 0 and 1/2, got {p}")
    right, down = right * region.right.astype(np.uint8), down * region.down.astype(np.uint8)
    parity = np.array([_degree(r, d) for r, d in zip(right, down, strict=True)]) % 2
    hole = (parity * (region.vertex == _HOLE)).sum(axis=(1, 2)) % 2
    result = np.empty(len(right))
    _transfer(
        region.right,
        region.down,
        region.vertex,
        parity.astype(np.uint8),
        hole.astype(np.int64),
        region.has_hole,
        p / (1.0 - p),
        result,
    )
    return np.asarray(result + region.edges * np.log1p(-p))


@numba.njit(nogil=True)
def _transfer(
    right: BoolArray,
    down: BoolArray,
    vertex: Bits,
    parity: Bits,
    hole: NDArray[np.int64],
    has_hole: bool,
    weight: float,
    result: FloatArray,
) -> None:  # pragma: no cover
    """Log of the weight of all flips with the syndromes of each sample."""
    size = right.shape[1]
    half = 1 << size
    sides = 2 if has_hole else 1
    state = np.empty((2, 2, half))  # parity at the hole, edge to the right, edges down
    for n in range(len(parity)):
        state[:] = 0.0
        state[0, 0, 0] = 1.0
        scale = 0.0
        for i in range(right.shape[0]):
            for j in range(size):
                low = 1 << j
                r = weight if right[i, j] else 0.0
                d = weight if down[i, j] else 0.0
                kind, odd = vertex[i, j], parity[n, i, j]
                if kind == 2:
                    _at_hole(state, low, half, r, d)
                else:
                    for side in range(sides):
                        _add_vertex(state[side, 0], state[side, 1], low, half, r, d, kind == 1, odd)
            top = state.max()
            if top > 0.0:
                state /= top
                scale += np.log(top)
        result[n] = np.log(state[hole[n], 0, 0]) + scale


@numba.njit(nogil=True)
def _add_vertex(
    left0: FloatArray, left1: FloatArray, low: int, half: int, r: float, d: float, checked: bool, odd: int
) -> None:  # pragma: no cover
    """From the edges above and to the left of a vertex to those below and to the right of it."""
    for start in range(0, half, 2 * low):
        for a in range(start, start + low):
            b = a + low
            even, uneven = left0[a] + left1[b], left0[b] + left1[a]
            if not checked:
                even = uneven = even + uneven
            elif odd:
                even, uneven = uneven, even
            left0[a] = even
            left0[b] = d * uneven
            left1[a] = r * uneven
            left1[b] = r * d * even


@numba.njit(nogil=True)
def _at_hole(state: FloatArray, low: int, half: int, r: float, d: float) -> None:  # pragma: no cover
    """A vertex at the rim: any parity, which is added to that of the hole."""
    for start in range(0, half, 2 * low):
        for a in range(start, start + low):
            b = a + low
            even0, odd0 = state[0, 0, a] + state[0, 1, b], state[0, 0, b] + state[0, 1, a]
            even1, odd1 = state[1, 0, a] + state[1, 1, b], state[1, 0, b] + state[1, 1, a]
            same0, same1 = even0 + odd1, even1 + odd0  # what comes in leaves the hole at 0, at 1
            for side in range(2):
                same, other = (same0, same1) if side == 0 else (same1, same0)
                state[side, 0, a] = same
                state[side, 0, b] = d * other
                state[side, 1, a] = r * other
                state[side, 1, b] = r * d * same

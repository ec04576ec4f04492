"""Closed loops: sets of edges of even degree, edges flipped; the model with a transition at finite noise.

X is uniform over the sets of edges of a square lattice of L x L vertices (open ends) that meet every vertex an
even number of times; Y = X + E, every edge flipped with probability p.  These are the syndromes of the toric
code, and at p_c = 0.10919(7) the random-bond Ising model on the Nishimori line orders, with nu = 1.53(3)
(Hasenbusch, Toldin, Pelissetto and Vicari, Phys. Rev. E 77, 051115, 2008; Dennis, Kitaev, Landahl and
Preskill, J. Math. Phys.  43, 4452, 2002).

The reduction.  Restricted to a region R, X_R is uniform over a linear code: the x that satisfy every parity
check that R can see.  These are the vertices all of whose edges lie in R, and one more for every hole of R: the
edges outside R that hang together in the hole have even degree altogether, so that the edges of R that end on
them do, too.  Y_R is then uniform within each class of the same syndrome s, the parities of E at those checks,
and

    H(Y_R) = H(s_R) + (|R| - rank_R) ln 2.

|R| and the ranks cancel in H(AB) + H(BC) - H(B) - H(ABC).  (An annulus B has the check of its hole; BC has it
too, but there it follows from the others, as no edge leaves the whole lattice; and the checks of ABC are one
too many.) Left is

    I(A:C|B) = < -ln P_AB(s) - ln P_BC(s) + ln P_B(s) + ln P_ABC(s) >,

a mean over flips E that four regions see.  P_R(s) = (1-p)^|R| sum (p/(1-p))^|E'| over the E' with these
syndromes is the partition function of the random-bond Ising model on the Nishimori line, exact by transfer
matrix: vertices are added in rows, the state is the row of vertical edges below, the horizontal edge to the
right and, with a hole, the parity of its check.
"""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

import numba
import numpy as np
from numpy.typing import NDArray

from cmi.checks import whole_number
from cmi.exact.model import Exact, ExactModel
from cmi.regions import Partition

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]
Bits = NDArray[np.uint8]

__all__ = ["CRITICAL_FLIP", "ClosedLoops", "Region", "log_probability"]

CRITICAL_FLIP = 0.10919  # +- 0.00007, Hasenbusch, Toldin, Pelissetto and Vicari 2008
_FREE, _CHECKED, _HOLE = 0, 1, 2  # what is known of a vertex: nothing, its parity, that it belongs to the hole
_WIDEST = 16


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


@numba.njit(nogil=True, cache=True)
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
            top = state[:sides].max()
            if top > 0.0:
                state[:sides] /= top
                scale += np.log(top)
        result[n] = np.log(state[hole[n], 0, 0]) + scale


@numba.njit(nogil=True, cache=True)
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


@numba.njit(nogil=True, cache=True)
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


@dataclass(frozen=True, eq=False)
class ClosedLoops(ExactModel):
    """Sets of edges of even degree on L x L vertices, edges flipped with probability p = t / 2.

    A is the edges of a square of `side` edges in the middle, B the edges around it that are at most r farther out,
    C the rest. The CMI is a mean over sampled flips of exact terms, with its standard error; flips of different
    levels and widths are the same but for the edges that only one of them flips, so that differences are known
    better.

    Parameters
    ----------
    L : int
        Vertices along each axis, up to 16; side + 1 + 2 (r + rest), so L - side must be odd.
    side : int
        Edges along a side of A.
    samples : int
        Flips drawn.
    seed : int
        Of the flips.

    Examples
    --------
    >>> loops = ClosedLoops(L=6, side=1, samples=200)
    >>> noisy, clean = loops.cmi(2 * 0.11, 1), loops.cmi(2 * 0.001, 1)
    >>> bool(0.0 < noisy.value < np.log(2.0)), bool(abs(clean.value) < 0.05)
    (True, True)
    """

    name: ClassVar[str] = "loops"
    noise: ClassVar[str] = "flip"
    L: int = 10
    side: int = 1
    samples: int = 1000
    seed: int = 0

    def __post_init__(self) -> None:
        whole_number(self.L, "L", least=4)
        whole_number(self.side, "side", least=1)
        whole_number(self.samples, "samples", least=2)
        whole_number(self.seed, "seed", least=0)
        if self.L > _WIDEST:
            raise ValueError(
                f"the transfer matrix holds 2^(L + 2) numbers: L can be at most {_WIDEST}, got {self.L}"
            )
        if (self.L - self.side) % 2 == 0 or self.L - self.side < 5:
            raise ValueError(
                f"A of side {self.side} does not lie in the middle of {self.L} vertices with room for B and C: "
                "L - side must be odd and at least 5"
            )

    @property
    def shape(self) -> tuple[int, ...]:
        """(2, L, L): edges to the right and down from every vertex; at the far ends they do not exist."""
        return (2, self.L, self.L)

    @property
    def critical_level(self) -> float | None:
        """Twice p_c = 0.10919(7)."""
        return 2.0 * CRITICAL_FLIP

    def sample(self, n: int, seed: int) -> FloatArray:
        """Draw n clean samples, (n, 2, L, L): the borders of random sets of faces."""
        rng = np.random.default_rng(seed)
        faces = np.zeros((whole_number(n, "n", least=1), self.L + 1, self.L + 1), dtype=np.uint8)
        faces[:, 1:-1, 1:-1] = rng.integers(0, 2, (n, self.L - 1, self.L - 1))
        right, down = faces[:, 1:, 1:] ^ faces[:, :-1, 1:], faces[:, 1:, 1:] ^ faces[:, 1:, :-1]
        return np.stack([right, down], axis=1).astype(np.float64)

    def partition(self, widths: Iterable[int] | None = None) -> Partition:
        """Return A, and what the buffer gains from width to width; edges that do not exist belong to no region."""
        reach = self._ring.max()
        labels = list(range(1, int(reach))) if widths is None else sorted(widths)
        ring = self._edge_rings().reshape(-1)
        edges = [0, *labels, int(reach)]
        shells = [np.flatnonzero((ring > low) & (ring <= high)) for low, high in pairwise(edges)]
        return Partition(np.flatnonzero(ring == 0), shells, labels)

    def cmi(self, level: float, r: int) -> Exact:
        """I(A:C|B_r) in nats, with its standard error."""
        local = self.local(level, r)
        return Exact(float(local.mean()), float(local.std(ddof=1) / np.sqrt(len(local))))

    def local(self, level: float, r: int) -> FloatArray:
        """The terms of every sampled flip, whose mean is the CMI; (samples,)."""
        self.schedule().alpha(level)  # raises outside [0, 1]
        whole_number(r, "r", least=1)
        if r >= self._ring.max():
            raise ValueError(f"a buffer of width {r} leaves nothing for C: widths go up to {self._ring.max() - 1}")
        p = 0.5 * float(level)
        if p == 0.0:
            return np.zeros(self.samples)
        ring, rim = self._edge_rings(), self._ring == 0
        near, far, whole = (ring >= 0) & (ring <= r), ring > 0, ring >= 0
        jobs = [
            (-1.0, Region.of(near[0], near[1])),  # AB
            (-1.0, Region.of(far[0], far[1], rim)),  # BC
            (1.0, Region.of(near[0] & far[0], near[1] & far[1], rim)),  # B
            (1.0, Region.of(whole[0], whole[1])),  # ABC
        ]
        flips = (np.random.default_rng(self.seed).random((self.samples, *self.shape)) < p).astype(np.uint8)
        with ThreadPoolExecutor() as pool:
            parts = pool.map(lambda job: job[0] * log_probability(job[1], flips[:, 0], flips[:, 1], p), jobs)
            return np.asarray(sum(parts))

    def markov_length(self, level: float) -> float:
        """Not known in closed form; it diverges at `critical_level` as |t - t_c|^-1.53."""
        raise NotImplementedError(
            "the Markov length of closed loops is not known in closed form: fit it to the CMI"
        )

    @property
    def _ring(self) -> NDArray[np.int64]:
        """How far each vertex is from A, (L, L)."""
        first = (self.L - 1 - self.side) // 2
        along = np.maximum(np.maximum(first - np.arange(self.L), np.arange(self.L) - first - self.side), 0)
        return np.maximum(along[:, None], along[None, :])

    def _edge_rings(self) -> NDArray[np.int64]:
        """How far each edge is from A, (2, L, L): as its farther end; -1 of edges that do not exist."""
        ring = self._ring
        far = np.full((2, self.L, self.L), -1)
        far[0, :, :-1] = np.maximum(ring[:, :-1], ring[:, 1:])
        far[1, :-1] = np.maximum(ring[:-1], ring[1:])
        return far

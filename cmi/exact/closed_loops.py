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

a mean over flips E that four regions see. P_R(s) = (1-p)^|R| sum (p/(1-p))^|E'| over the E' with these
syndromes is the partition function of the random-bond Ising model on the Nishimori line. E itself is one of
them, and the others differ from it by even subgraphs of R in which all vertices that are not checked are one, and
those around a hole another: a planar graph, so that `log_even_subgraphs` sums them in O(L^4), with weights
p / (1-p) on edges that E leaves alone and (1-p) / p on those it flips.
"""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from cmi.checks import whole_number
from cmi.exact.even_subgraphs import log_even_subgraphs
from cmi.exact.model import Exact, ExactModel
from cmi.regions import Partition

FloatArray = NDArray[np.float64]
Bits = NDArray[np.uint8]
Hole = tuple[int, int, int, int]

__all__ = ["CRITICAL_FLIP", "ClosedLoops", "log_probability"]

CRITICAL_FLIP = 0.10919  # +- 0.00007, Hasenbusch, Toldin, Pelissetto and Vicari 2008
_WIDEST = 101
_LEAST_HALF = 50  # flips that tell c
_TAIL = 3.0  # variance of rho at which a quarter of the flips is left in effect
_CHUNK = 128  # flips that are drawn and looked at together


def log_probability(right: Bits, down: Bits, p: float, low: int, high: int, hole: Hole | None = None) -> FloatArray:
    """Return ln P(s) of the syndromes that flips cause on the vertices from `low` to `high` in rows and columns.

    Parameters
    ----------
    right, down : (n, L, L) uint8 arrays
        Flips of the edges from (i, j) to (i, j + 1), and to (i + 1, j), 0 or 1. The last ones do not exist. As
        likely ones, that is few: others of the same syndromes, as flipped samples, have the same P(s), but lose
        digits below p = 0.2 (`log_even_subgraphs`).
    p : float
        Probability of a flip, in (0, 1/2].
    low, high : int
        First and last row and column of the vertices that are checked.
    hole : (top, bottom, left, right), optional
        Vertices of which only the parity together is checked, and the edges between them unknown.

    Returns
    -------
    (n,) array

    Examples
    --------
    On a square of four edges two sets have no syndrome: none of them, and all.

    >>> none = np.zeros((1, 2, 2), dtype=np.uint8)
    >>> np.exp(log_probability(none, none, 0.1, 0, 1)).round(12).tolist()
    [0.6562]
    """
    if not 0.0 < p <= 0.5:
        raise ValueError(f"the flip probability lies between 0 and 1/2, got {p}")
    size, checked = right.shape[1], slice(low, high + 1)
    edges_right, edges_down = np.zeros((size, size + 1), dtype=np.bool_), np.zeros((size + 1, size), dtype=np.bool_)
    edges_right[checked, max(low, 1) : min(high + 2, size)] = True
    edges_down[max(low, 1) : min(high + 2, size), checked] = True
    if hole is not None:
        top, bottom, left, end = hole
        edges_right[top : bottom + 1, left + 1 : end + 1] = False
        edges_down[top + 1 : bottom + 1, left : end + 1] = False
    odds = p / (1.0 - p)
    weights, count = [], np.zeros(len(right))
    for flips, edges, axis in ((right, edges_right, 2), (down, edges_down, 1)):
        shifted = np.insert(flips, 0, 0, axis=axis) * edges
        count += shifted.sum(axis=(1, 2))
        weights.append(np.where(shifted == 1, 1.0 / odds, odds) * edges)
    within = None if hole is None else (hole[0] - low, hole[1] - low, hole[2] - low, hole[3] - low)
    sums = log_even_subgraphs(
        weights[0][:, checked, low : high + 2], weights[1][:, low : high + 2, checked], within
    )
    total = int(edges_right.sum() + edges_down.sum())
    return np.asarray(sums + count * np.log(odds) + total * np.log1p(-p))


def _controlled(local: FloatArray) -> FloatArray:
    """Add c (rho - 1), of mean 0, to -ln rho, with c from the other half.

    Not where few flips make up most of rho, as of little noise: those that are missing would be missed unseen.
    """
    excess, half = np.expm1(-local), len(local) // 2
    result = local.copy()
    variance = float(excess.var())
    if half < _LEAST_HALF or variance > _TAIL or abs(excess.mean()) > 3.0 * np.sqrt(variance / len(local)):
        return result
    for own, other in ((slice(half), slice(half, None)), (slice(half, None), slice(half))):
        spread = float(excess[other].var())
        if spread > 0.0:
            together = float(np.mean((local[other] - local[other].mean()) * (excess[other] - excess[other].mean())))
            result[own] -= together / spread * excess[own]
    return result


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
        Vertices along each axis, up to 101; side + 1 + 2 (r + rest), so L - side must be odd.
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
    rounding: ClassVar[float] = 1e-11
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
            raise ValueError(f"L can be at most {_WIDEST}, beyond which sums lose digits, got {self.L}")
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
    def reach(self) -> int:
        """How far the farthest edges are from A."""
        return (self.L - 1 - self.side) // 2

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
        """The terms of every sampled flip, whose mean is the CMI; (samples,).

        With rho = P_AB P_BC / (P_B P_ABC) the mean of -ln rho is the CMI, and that of rho is 1, as sums over A and
        C show. So c (rho - 1) is added, with the c that makes the spread least, measured on the other half of the
        flips: a half to a third of the variance is left above the transition.
        """
        self.schedule().alpha(level)  # raises outside [0, 1]
        whole_number(r, "r", least=1)
        if r >= self._ring.max():
            raise ValueError(f"a buffer of width {r} leaves nothing for C: widths go up to {self._ring.max() - 1}")
        p = 0.5 * float(level)
        if p == 0.0:
            return np.zeros(self.samples)
        first = (self.L - 1 - self.side) // 2
        last, hole = first + self.side, (first, first + self.side, first, first + self.side)
        jobs: list[tuple[float, int, int, Hole | None]] = [
            (-1.0, first - r + 1, last + r - 1, None),  # AB
            (-1.0, 0, self.L - 1, hole),  # BC
            (1.0, first - r + 1, last + r - 1, hole),  # B
            (1.0, 0, self.L - 1, None),  # ABC
        ]

        def chunk(start: int) -> FloatArray:
            rng = np.random.default_rng(np.random.SeedSequence(self.seed, spawn_key=(start,)))
            flips = (rng.random((_CHUNK, *self.shape)) < p).astype(np.uint8)[: self.samples - start]
            parts = [
                sign * log_probability(flips[:, 0], flips[:, 1], p, low, high, around)
                for sign, low, high, around in jobs
            ]
            return np.asarray(sum(parts))

        with ThreadPoolExecutor() as pool:
            return _controlled(np.concatenate(list(pool.map(chunk, range(0, self.samples, _CHUNK)))))

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

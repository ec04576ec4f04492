"""Closed loops: sums over even subgraphs by enumeration and transfer matrix, the CMI by enumeration."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from loops_by_transfer import Region
from loops_by_transfer import log_probability as by_transfer
from naive import marginal, table_entropy
from numpy.typing import NDArray

from cmi.exact import ClosedLoops, closed_loops
from cmi.exact.closed_loops import log_probability
from cmi.exact.even_subgraphs import log_even_subgraphs

FloatArray = NDArray[np.float64]


def sum_by_enumeration(right: FloatArray, down: FloatArray, hole: tuple[int, int, int, int] | None) -> float:
    """Sum over all sets of edges that are even at every vertex, edge by edge."""
    rows, columns = len(right), down.shape[1]

    def vertex(i: int, j: int) -> int:
        if not (0 <= i < rows and 0 <= j < columns):
            return 0
        if hole is not None and hole[0] <= i <= hole[1] and hole[2] <= j <= hole[3]:
            return 1
        return int(2 + i * columns + j)

    edges = [(vertex(i, j - 1), vertex(i, j), right[i, j]) for i, j in product(range(rows), range(columns + 1))]
    edges += [(vertex(i - 1, j), vertex(i, j), down[i, j]) for i, j in product(range(rows + 1), range(columns))]
    sums = {0: 1.0}  # by the set of odd vertices
    for one, other, weight in edges:
        if one != other:
            odd = (1 << one) ^ (1 << other)
            sums = {
                state: sums.get(state, 0.0) + weight * sums.get(state ^ odd, 0.0)
                for state in {*sums, *(state ^ odd for state in sums)}
            }
    return sums[0]


@pytest.mark.parametrize("kind", ["all edges", "nothing outside", "some edges", "heavy and light"])
@pytest.mark.parametrize(
    ("rows", "columns", "hole"),
    [
        (1, 1, None),
        (1, 4, None),
        (4, 1, None),
        (3, 3, None),
        (2, 4, None),
        (3, 3, (1, 1, 1, 1)),
        (4, 4, (1, 2, 1, 2)),
        (3, 4, (1, 1, 1, 2)),
        (4, 3, (1, 2, 1, 1)),
        (3, 3, (0, 1, 0, 1)),
        (3, 3, (0, 2, 1, 2)),
        (2, 3, (0, 1, 0, 2)),
    ],
)
def test_even_subgraphs_by_enumeration(
    rows: int, columns: int, hole: tuple[int, int, int, int] | None, kind: str
) -> None:
    rng = np.random.default_rng(rows * 10 + columns)
    right, down = rng.exponential(size=(2, rows, columns + 1)), rng.exponential(size=(2, rows + 1, columns))
    if kind == "nothing outside":
        right[:, :, [0, -1]] = down[:, [0, -1]] = 0.0
    elif kind == "some edges":
        right[rng.random(right.shape) < 0.3] = 0.0
    elif kind == "heavy and light":
        right, down = np.where(right > 2.0, 1e3, 1e-3), np.where(down > 2.0, 1e3, 1e-3)
    expected = [np.log(sum_by_enumeration(r, d, hole)) for r, d in zip(right, down, strict=True)]
    np.testing.assert_allclose(log_even_subgraphs(right, down, hole), expected, rtol=0, atol=1e-11)


def test_bad_grids() -> None:
    right, down = np.ones((1, 3, 4)), np.ones((1, 4, 3))
    with pytest.raises(ValueError, match="belong to no grid"):
        log_even_subgraphs(right, right)
    for hole in ((0, 3, 0, 1), (2, 1, 0, 1), (-1, 1, 0, 1)):
        with pytest.raises(ValueError, match="does not lie inside 3 x 3 vertices"):
            log_even_subgraphs(right, down, hole)
    dense = np.random.default_rng(0).integers(0, 2, (5, 21, 21)).astype(np.uint8)
    with pytest.raises(ValueError, match="rounding has left nothing of these sums"):
        log_probability(dense, dense, 0.001, 0, 20)
    with pytest.raises(ValueError, match="lies between 0 and 1/2"):
        log_probability(np.zeros((1, 3, 3), np.uint8), np.zeros((1, 3, 3), np.uint8), 0.0, 0, 2)


# Closed loops on 3 x 4 vertices: 17 edges, of which all 2^17 sets are looked at.

ROWS, COLUMNS = 3, 4
EDGES = [(0, i, j) for i in range(ROWS) for j in range(COLUMNS - 1)] + [
    (1, i, j) for i in range(ROWS - 1) for j in range(COLUMNS)
]


def ends(edge: tuple[int, int, int]) -> tuple[tuple[int, int], tuple[int, int]]:
    kind, i, j = edge
    return (i, j), (i, j + 1) if kind == 0 else (i + 1, j)


def region(edges: list[int], hole: list[tuple[int, int]] | None = None) -> Region:
    """A region by the numbers of its edges."""
    masks = np.zeros((2, ROWS, COLUMNS), dtype=np.bool_)
    for number in edges:
        masks[EDGES[number]] = True
    rim = None
    if hole is not None:
        rim = np.zeros((ROWS, COLUMNS), dtype=np.bool_)
        for vertex in hole:
            rim[vertex] = True
    return Region.of(masks[0], masks[1], rim)


def loops_by_enumeration(p: float) -> tuple[NDArray[np.int64], FloatArray]:
    """All sets of edges as integers, and how likely each is after the flips."""
    codes = np.arange(1 << len(EDGES))
    faces = []
    for i, j in product(range(ROWS - 1), range(COLUMNS - 1)):
        around = [(0, i, j), (0, i + 1, j), (1, i, j), (1, i, j + 1)]
        faces.append(sum(1 << EDGES.index(edge) for edge in around))
    cycles = [0]
    for face in faces:
        cycles += [cycle ^ face for cycle in cycles]
    weight = np.array([bin(code).count("1") for code in codes])
    flips = p**weight * (1.0 - p) ** (len(EDGES) - weight)
    probability = np.zeros(len(codes))
    for cycle in cycles:
        probability += flips[codes ^ cycle]
    return codes, probability / len(cycles)


def syndrome_entropy(part: Region, edges: list[int], p: float) -> float:
    """H(s) by the transfer matrix, over all flips of the region's edges: it sees no others."""
    codes = np.arange(1 << len(edges))
    flips = np.zeros((len(codes), 2, ROWS, COLUMNS), dtype=np.uint8)
    for bit, number in enumerate(edges):
        flips[(slice(None), *EDGES[number])] = (codes >> bit) & 1
    weight = flips.sum(axis=(1, 2, 3))
    likely = p**weight * (1.0 - p) ** (len(edges) - weight)
    return float(-(likely * by_transfer(part, flips[:, 0], flips[:, 1], p)).sum())


MIDDLE = EDGES.index((0, 1, 1))  # between the two inner vertices
AROUND = [n for n, edge in enumerate(EDGES) if n != MIDDLE and {(1, 1), (1, 2)} & set(ends(edge))]
OUTSIDE = [n for n in range(len(EDGES)) if n != MIDDLE and n not in AROUND]
HOLE = [(1, 1), (1, 2)]


@pytest.mark.parametrize("p", [0.02, 0.11, 0.4, 0.5])
def test_entropies_of_loops_are_those_of_syndromes(p: float) -> None:
    """H(Y_R) = H(s_R) + (|R| - rank_R) ln 2: with a hole, without, in one piece, of everything.

    And so the CMI of the middle edge A, those that touch it, B, and the rest is that of the syndromes.
    """
    codes, probability = loops_by_enumeration(p)
    assert probability.sum() == pytest.approx(1.0)
    left = []
    for edges, hole, rank in (
        ([MIDDLE, *AROUND], None, 2),
        (AROUND, HOLE, 1),
        ([*AROUND, *OUTSIDE], HOLE, 10),
        (list(range(len(EDGES))), None, 11),
        ([n for n, edge in enumerate(EDGES) if max(v[1] for v in ends(edge)) <= 2], None, 6),
        (OUTSIDE, [*HOLE, (0, 1), (0, 2), (1, 0), (1, 3), (2, 1), (2, 2)], 4),
    ):
        direct = table_entropy(marginal(codes, edges, probability))
        of_syndromes = syndrome_entropy(region(edges, hole), edges, p)
        assert of_syndromes + (len(edges) - rank) * np.log(2.0) == pytest.approx(direct, abs=1e-9), (edges, hole)
        left.append((direct, of_syndromes))
    (ab, s_ab), (b, s_b), (bc, s_bc), (abc, s_abc) = left[:4]
    assert s_ab + s_bc - s_b - s_abc == pytest.approx(ab + bc - b - abc, abs=1e-9)
    assert (ab + bc - b - abc > 1e-6) == (p < 0.5)


def test_loops_are_closed_and_seen_by_their_partition() -> None:
    model = ClosedLoops(L=8, side=1)
    x = model.sample(50, 0).astype(np.int64)
    degree = x[:, 0] + x[:, 1]
    degree[:, :, 1:] += x[:, 0, :, :-1]
    degree[:, 1:] += x[:, 1, :-1]
    assert (degree % 2 == 0).all()
    assert not x[:, 0, :, -1].any()
    assert not x[:, 1, -1].any()
    assert x.mean() == pytest.approx(0.5 * 2 * 8 * 7 / 128, abs=0.02)
    regions = model.partition()
    assert len(regions.A) == 4
    assert regions.widths == (1, 2)
    assert sum(regions.sizes) == 2 * 8 * 7


def test_loops_know_nothing_at_the_ends() -> None:
    """Without flips loops outside tell nothing beyond the buffer; nor with all flipped at random."""
    model = ClosedLoops(L=6, samples=2000)
    assert model.cmi(0.0, 1).value == 0.0
    assert abs(model.cmi(1e-4, 1).value) < 1e-3
    np.testing.assert_allclose(model.local(1.0, 1), 0.0, atol=1e-9)
    assert model.cmi(0.16, 1).value > 5.0 * model.cmi(0.16, 1).stderr


def test_the_flips_of_levels_go_along() -> None:
    """The same random numbers at every level: a difference of near levels is known far better than either."""
    model = ClosedLoops(L=6, samples=400)
    one, other = model.local(0.2, 1), model.local(0.202, 1)
    assert (one - other).std() < 0.4 * one.std()
    np.testing.assert_array_equal(one, ClosedLoops(L=6, samples=400).local(0.2, 1))


def flips_of(size: int, p: float, n: int) -> NDArray[np.uint8]:
    flips = (np.random.default_rng(size).random((n, 2, size, size)) < p).astype(np.uint8)
    flips[:, 0, :, -1] = flips[:, 1, -1] = 0
    return flips


@pytest.mark.parametrize("p", [0.01, 0.11, 0.4])
@pytest.mark.parametrize(("size", "side", "r"), [(6, 1, 1), (8, 1, 2), (8, 3, 1), (11, 2, 2)])
def test_pfaffians_are_transfer_matrices(size: int, side: int, r: int, p: float) -> None:
    """All four regions of the CMI: the two routes share nothing but the lattice."""
    model = ClosedLoops(L=size, side=side)
    flips = flips_of(size, p, 10)
    ring, rim = model._edge_rings(), model._ring == 0
    near, far, whole = (ring >= 0) & (ring <= r), ring > 0, ring >= 0
    first = (size - 1 - side) // 2
    low, high, hole = first - r + 1, first + side + r - 1, (first, first + side, first, first + side)
    for edges, box, around in (
        (near, (low, high), False),
        (near & far, (low, high), True),
        (far, (0, size - 1), True),
        (whole, (0, size - 1), False),
    ):
        oracle = by_transfer(Region.of(edges[0], edges[1], rim if around else None), flips[:, 0], flips[:, 1], p)
        got = log_probability(flips[:, 0], flips[:, 1], p, *box, hole if around else None)
        np.testing.assert_allclose(got, oracle, rtol=0, atol=1e-10)


@pytest.mark.parametrize("p", [0.001, 0.11, 0.5])
def test_large_lattices_keep_their_digits(p: float) -> None:
    """Read by rows, by columns and from the other end: three orders of rounding."""
    flips = flips_of(61, p, 4)
    right, down = flips[:, 0], flips[:, 1]
    by_rows = log_probability(right, down, p, 0, 60)
    by_columns = log_probability(down.transpose(0, 2, 1), right.transpose(0, 2, 1), p, 0, 60)
    np.testing.assert_allclose(by_columns, by_rows, rtol=0, atol=1e-9)
    back_right, back_down = np.zeros_like(right), np.zeros_like(down)
    back_right[:, :, :-1], back_down[:, :-1] = right[:, ::-1, -2::-1], down[:, -2::-1, ::-1]
    np.testing.assert_allclose(log_probability(back_right, back_down, p, 0, 60), by_rows, rtol=0, atol=1e-9)


def test_control_variates_keep_the_mean(monkeypatch: pytest.MonkeyPatch) -> None:
    """Adding c (rho - 1) changes the mean within its error and lowers that; not where rho has a tail."""
    model = ClosedLoops(L=11, side=2, samples=6000)
    for p, lower in ((0.13, 0.65), (0.11, 0.92), (0.03, 1.0)):
        with monkeypatch.context() as patch:
            patch.setattr(closed_loops, "_controlled", lambda local: local)
            plain = model.local(2 * p, 2)
        controlled = model.local(2 * p, 2)
        error = (controlled - plain).std(ddof=1) / np.sqrt(len(plain))
        assert abs(controlled.mean() - plain.mean()) < 3.5 * error + 1e-12
        assert controlled.std() <= lower * plain.std()

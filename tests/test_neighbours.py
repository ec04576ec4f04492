"""The kernels of the neighbour estimator are exact: every path, any data, any number of threads."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from naive import distances
from naive import near_counts as naive_counts
from numpy.typing import NDArray

from estimators.kd_order import kd_tiles, queries_among
from estimators.near_counts import near_counts
from estimators.neighbours import kth_distances, nearest_others
from estimators.rectangles import count_near

FloatArray = NDArray[np.float64]

KINDS = (
    "continuous",
    "rounded",
    "bits",
    "zeros",
    "heavy tails",
    "far from 0",
    "tiny",
    "huge",
    "mixed units",
    "two clouds",
)


def draw(kind: str, n: int, d: int, seed: int = 0) -> FloatArray:
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, d)) @ (np.eye(d) + 0.5)
    match kind:
        case "rounded":
            return np.round(x)
        case "bits":
            return np.asarray(rng.integers(0, 2, (n, d)), dtype=np.float64)
        case "zeros":
            return np.maximum(x - 0.8, 0.0)
        case "heavy tails":
            return x**9
        case "far from 0":  # neighbouring floats are 1e-4 apart here
            return 1e-3 * x + 1e12
        case "tiny":
            return 1e-12 * x
        case "huge":
            return 1e12 * x
        case "mixed units":
            return np.asarray(x * 10.0 ** rng.integers(-6, 6, d))
        case "two clouds":
            return np.asarray(x * 1e-3 + 1e6 * rng.integers(0, 2, (n, 1)))
    return x


def check(kind: str, n: int, sizes: tuple[int, ...], ks: list[int], *, every: int) -> None:
    x = draw(kind, n, sum(sizes), seed=n + sum(sizes))
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    apart = np.sort(distances(x) + np.diag(np.full(n, np.inf)), axis=1)
    tiles = kd_tiles(x)
    for samples in (None, np.random.default_rng(n).permutation(n)[: max(1, n // every)]):
        chosen = np.arange(n) if samples is None else samples
        radius, within = kth_distances(tiles, queries_among(tiles, x, samples), np.array(ks))
        np.testing.assert_array_equal(radius, apart[chosen][:, np.array(ks) - 1])
        np.testing.assert_array_equal(within, (apart[chosen, :, None] <= radius[:, None, :]).sum(axis=1))
        counts = near_counts(x, offsets, radius, tiles, samples)
        expected = naive_counts(x, offsets.tolist(), radius, chosen.tolist())
        # not filled: no shells, and A with all shells, which is what `within` says
        np.testing.assert_array_equal(counts[..., ::2, 1:], expected[..., ::2, 1:])
        np.testing.assert_array_equal(counts[..., 1::2, 1:-1], expected[..., 1::2, 1:-1])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("sizes", [(1, 0, 1), (1, 1, 1), (2, 1, 1), (1, 2, 2, 2), (3, 0, 1, 4), (1, 4, 16)])
def test_exact(kind: str, sizes: tuple[int, ...]) -> None:
    check(kind, 200, sizes, [1, 3, 10], every=3)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "sizes", [(1, 1, 2), (5, 0, 1), (1, 20, 3, 0, 9), (1, 1, 1, 1, 1, 1), (2, 0, 70), (1, 300, 1)]
)
def test_exact_in_more_shapes(kind: str, sizes: tuple[int, ...]) -> None:
    check(kind, 330, sizes, [5], every=2)


@pytest.mark.slow
@pytest.mark.parametrize("sizes", [(1, 1, 1), (1, 2, 2), (1, 8, 1), (1, 3, 3, 12)])
def test_exact_where_most_tiles_are_ruled_out(sizes: tuple[int, ...]) -> None:
    check("continuous", 1500, sizes, [2, 70], every=20)
    check("two clouds", 1025, sizes, [5], every=20)


@settings(max_examples=40, deadline=None)
@given(
    n=st.integers(3, 140),
    sizes=st.lists(st.integers(0, 4), min_size=1, max_size=4),
    kind=st.sampled_from(KINDS),
    data=st.data(),
)
def test_exact_on_any_shape(n: int, sizes: list[int], kind: str, data: st.DataObject) -> None:
    ks = data.draw(st.lists(st.integers(1, n - 1), min_size=1, max_size=3, unique=True).map(sorted))
    check(kind, n, (1, *sizes, 1), ks, every=2)


def test_threads_change_nothing() -> None:
    x = draw("continuous", 3000, 12)
    offsets = np.array([0, 1, 4, 9, 12])
    tiles = kd_tiles(x)
    results = []
    for threads in (1, 2, 7):
        radius, within = kth_distances(tiles, queries_among(tiles, x, None), np.array([4]), threads=threads)
        counts = near_counts(x, offsets, radius, tiles, threads=threads)
        results.append((radius.tobytes(), within.tobytes(), counts.tobytes()))
    assert results[0] == results[1] == results[2]


@pytest.mark.parametrize("d", [0, 1, 3, 12])
@pytest.mark.parametrize("kind", ["continuous", "rounded"])
def test_nearest_others(d: int, kind: str) -> None:
    x = draw(kind, 300, d)
    apart = distances(x) if d else np.zeros((300, 300))
    tiles = kd_tiles(x)
    others = nearest_others(tiles, queries_among(tiles, x, None), 4)
    for i, near in enumerate(others):
        assert i not in near
        assert len(set(near.tolist())) == 4
        np.testing.assert_array_equal(apart[i, near], np.sort(np.delete(apart[i], i))[:4])


@settings(max_examples=50, deadline=None)
@given(n=st.integers(2, 130), rounded=st.booleans(), seed=st.integers(0, 1000))
def test_rectangles(n: int, rounded: bool, seed: int) -> None:
    """Radii of any size, 0 and beyond the data included; values at the very edge."""
    rng = np.random.default_rng(seed)
    x, radius = rng.standard_normal((n, 2)), 2.0 * rng.random((n, 2))
    if rounded:
        x, radius = np.round(2 * x) / 2, np.round(2 * radius) / 2
    radius[:, 1] = np.abs(x[:, 0] - x[rng.permutation(n), 0])  # some point is at exactly this distance
    found = count_near(x, [(), (0,), (1,), (0, 1), (1, 0)], np.arange(n), radius)
    for columns, counts in zip([[], [0], [1], [0, 1], [1, 0]], found, strict=True):
        apart = distances(x[:, columns]) + np.diag(np.full(n, np.inf))
        np.testing.assert_array_equal(counts[0], (apart[:, :, None] < radius[:, None, :]).sum(axis=1))
        np.testing.assert_array_equal(counts[1], (apart[:, :, None] <= radius[:, None, :]).sum(axis=1))


def test_tiles_hold_every_point_once() -> None:
    for n in (1, 63, 64, 65, 1000):
        x = draw("continuous", n, 3)
        tiles = kd_tiles(x)
        assert sorted(tiles.order.tolist()) == list(range(n))
        points = tiles.points.reshape(-1, 3, 64).transpose(0, 2, 1).reshape(-1, 3)
        np.testing.assert_array_equal(points[:n], x[tiles.order])
        assert np.isinf(points[n:]).all()

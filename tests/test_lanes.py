"""Vector instructions against what their twins in NumPy say they compute."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from estimators import lanes, vectors
from estimators.lanes import LANES, TALLY

pytestmark = pytest.mark.skipif(bool(getattr(numba.config, "DISABLE_JIT", 0)), reason="there is nothing to compile")


def compiled(operation: Any) -> Any:
    """An intrinsic can only be called from compiled code."""

    @numba.njit
    def call(*arguments: Any) -> Any:
        return operation(*arguments)

    return call


CALL = {
    name: compiled(getattr(vectors, name))
    for name in (
        "within_u8",
        "widen_f64",
        "widen_i16",
        "walk_i16",
        "at_most_f64",
        "below_f64",
        "at_most_i16",
        "below_i16",
        "box_within",
        "least_of_8",
        "least_of_16",
        "round_i16",
        "round_u8",
        "popcount",
        "recut_i16",
        "tally",
        "lowest",
        "drop_lane",
        "drop_lowest",
    )
}
seeds = st.integers(0, 2**32 - 1)


@settings(max_examples=60, deadline=None)
@given(seed=seeds, columns=st.sampled_from([4, 8, 20]), limit=st.integers(0, 255))
def test_bytes(seed: int, columns: int, limit: int) -> None:
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, 256, (columns + 2) * LANES).astype(np.uint8)
    low = rng.integers(0, 256, columns + 3).astype(np.uint8)
    arguments = (codes, LANES, low, 3, columns, limit)
    assert CALL["within_u8"](*arguments) == lanes._within_u8(*arguments)


@settings(max_examples=60, deadline=None)
@given(seed=seeds, columns=st.integers(0, 9))
def test_distances(seed: int, columns: int) -> None:
    rng = np.random.default_rng(seed)
    points, own = rng.standard_normal(12 * LANES), rng.standard_normal(12)
    points[-5:] = np.inf  # lanes without a point
    far, twin = np.zeros(LANES), np.zeros(LANES)
    CALL["widen_f64"](points, 2 * LANES, own, 2, columns, far)
    lanes._widen(points, 2 * LANES, own, 2, columns, twin)
    np.testing.assert_array_equal(far, twin)
    for limit in (*far[:4].tolist(), 0.0, np.inf):
        assert CALL["at_most_f64"](far, 0, limit) == lanes._at_most(far, 0, limit)
        assert CALL["below_f64"](far, 0, limit) == lanes._below(far, 0, limit)
    for parts in (8, 16):
        least, twin = np.empty(parts), np.empty(parts)
        CALL[f"least_of_{parts}"](far, least)
        lanes._least_of(far, twin)
        np.testing.assert_array_equal(least, twin)


@settings(max_examples=60, deadline=None)
@given(seed=seeds, shrink=st.sampled_from([1, 4, 4096]))
def test_steps(seed: int, shrink: int) -> None:
    """Sixteen bits: differences beyond the range are held at its end, and masks follow each shell."""
    rng = np.random.default_rng(seed)
    codes = (rng.integers(-32768, 32768, 12 * LANES) // shrink).astype(np.int16)
    own = (rng.integers(-32768, 32768, 14) // shrink).astype(np.int16)
    far, twin = np.zeros(LANES, dtype=np.uint16), np.zeros(LANES, dtype=np.uint16)
    CALL["widen_i16"](codes, LANES, own, 2, 7, far)
    lanes._widen_i16(codes, LANES, own, 2, 7, twin)
    np.testing.assert_array_equal(far, twin)
    for limit in (*far[:4].tolist(), 0, 65535):
        assert CALL["at_most_i16"](far, 0, limit) == lanes._at_most(far, 0, limit)
        assert CALL["below_i16"](far, 0, limit) == lanes._below(far, 0, limit)
    stops = np.array([1, 1, 3, 4, 11])
    inner, outer, less, more = sorted(rng.integers(0, 60000 // shrink, 4).tolist())
    keep, also = rng.integers(-(2**63), 2**63 - 1, 2).tolist()
    results: list[list[Any]] = []
    for walk, recut, tally in (
        (CALL["walk_i16"], CALL["recut_i16"], CALL["tally"]),
        (lanes._walk, lanes._recut, lanes._tally),
    ):
        gaps = np.zeros(len(stops) * LANES, dtype=np.uint16)
        near, counts = np.full(2 * TALLY, -1), np.arange(4 * TALLY)
        done, unsure = walk(codes, own, 1, 1, stops, inner, outer, gaps, near)
        results.append([done, unsure, gaps.tolist(), near.tolist()])
        tally(near, done, keep, also, counts, 3, 20)
        results[-1] += [counts.tolist(), recut(gaps, done, less, more, near), near.tolist()]
    assert results[0] == results[1]


@settings(max_examples=60, deadline=None)
@given(seed=seeds, rows=st.integers(0, 2 * TALLY))
def test_tally(seed: int, rows: int) -> None:
    """Lanes are counted of as many masks as there are, not of all in the last vector."""
    near = np.random.default_rng(seed).integers(-(2**63), 2**63 - 1, 2 * TALLY)
    counts, expected = np.arange(5 * TALLY), np.arange(5 * TALLY)
    CALL["tally"](near, rows, -1, 1, counts, TALLY, 3 * TALLY)
    for j in range(rows):
        expected[TALLY + j] += lanes._bits(int(near[j])).bit_count()
        expected[3 * TALLY + j] += near[j] & 1
    np.testing.assert_array_equal(counts, expected)


@settings(max_examples=60, deadline=None)
@given(seed=seeds, scale=st.sampled_from([1e-9, 1.0, 1e5, 1e9]))
def test_rounding(seed: int, scale: float) -> None:
    rng = np.random.default_rng(seed)
    points = scale * rng.standard_normal(2 * LANES)
    points[-3:] = np.inf
    kinds: list[tuple[str, Any, Any]] = [
        ("round_u8", lanes._round_u8, np.uint8),
        ("round_i16", lanes._round_i16, np.int16),
    ]
    for name, twin, kind in kinds:
        for inverse in (0.0, 64.0, 1e4):
            codes, expected = np.zeros(2 * LANES, dtype=kind), np.zeros(2 * LANES, dtype=kind)
            CALL[name](points, LANES, 0.3, inverse, codes, LANES)
            twin(points, LANES, 0.3, inverse, expected, LANES)
            np.testing.assert_array_equal(codes, expected)


@settings(max_examples=60, deadline=None)
@given(seed=seeds, columns=st.integers(0, 3))
def test_boxes(seed: int, columns: int) -> None:
    """Queries without a point have a limit that is not a number, and are near no box."""
    rng = np.random.default_rng(seed)
    points, limit = rng.standard_normal(6 * LANES), rng.random(LANES)
    limit[-7:] = np.nan
    boxes = np.sort(rng.standard_normal((5, 2)), axis=1).ravel()
    which = rng.choice(5, columns, replace=False)
    arguments = (points, LANES, which, boxes, 2, limit)
    mask = CALL["box_within"](*arguments)
    assert mask == lanes._box_within(*arguments)
    assert lanes._bits(mask) >> (LANES - 7) == 0


@settings(max_examples=100, deadline=None)
@given(mask=st.integers(-(2**63), 2**63 - 1), lane=st.integers(0, 63))
def test_masks(mask: int, lane: int) -> None:
    assert CALL["popcount"](mask) == lanes._popcount(mask)
    assert CALL["drop_lane"](mask, lane) == lanes._drop_lane(mask, lane)
    if mask:
        assert CALL["lowest"](mask) == lanes._lowest(mask)
        assert CALL["drop_lowest"](mask) == lanes._drop_lowest(mask)

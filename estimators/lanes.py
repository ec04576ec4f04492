"""Lanes: what the neighbour kernels do to 64 points at a time.

A *tile* holds 64 points column by column, so that one vector holds one column of many points.  Which lanes
satisfy a condition is a *mask*: a 64-bit integer with bit j for lane j.  The functions here say in NumPy what each
operation computes; under numba their twins in vector instructions (`vectors`) take their place, and the tests
compare the two.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from estimators import vectors
from estimators.profile import FloatArray, IntArray
from estimators.vectors import GROUP, LANES, MIDDLE, ORIGIN, STEPS, TALLY, TOP

__all__ = [
    "GROUP",
    "LANES",
    "MIDDLE",
    "ORIGIN",
    "STEPS",
    "TALLY",
    "TOP",
    "at_most_f64",
    "at_most_i16",
    "below_f64",
    "below_i16",
    "box_within",
    "drop_lane",
    "drop_lowest",
    "least_of_8",
    "least_of_16",
    "lowest",
    "popcount",
    "recut_i16",
    "round_i16",
    "round_u8",
    "tally",
    "walk_i16",
    "widen_f64",
    "widen_i16",
    "within_u8",
]

_Array = NDArray[Any]
_Int8 = NDArray[np.uint8]
_Int16 = NDArray[np.int16]
_UInt16 = NDArray[np.uint16]


def _mask(lanes: NDArray[np.bool_]) -> int:
    return int(np.packbits(lanes, bitorder="little").view(np.int64)[0])


def _columns(flat: _Array, base: int, columns: int) -> _Array:
    return flat[base : base + columns * LANES].reshape(columns, LANES)


def _within_u8(codes: _Int8, base: int, low: _Int8, low_base: int, columns: int, limit: int) -> int:
    lanes = np.ones(LANES, dtype=np.bool_)
    for c in range(0, columns, GROUP):
        gap = _columns(codes, base + c * LANES, GROUP) - low[low_base + c : low_base + c + GROUP, None]
        lanes &= (gap <= limit).all(axis=0)
        if not lanes.any():
            break
    return _mask(lanes)


def _widen(points: _Array, base: int, own: _Array, own_base: int, columns: int, far: _Array) -> None:
    for c in range(columns):
        np.maximum(far, np.abs(points[base + c * LANES : base + (c + 1) * LANES] - own[own_base + c]), out=far)


def _widen_i16(codes: _Int16, base: int, own: _Int16, own_base: int, columns: int, far: _UInt16) -> None:
    for c in range(columns):
        gap = codes[base + c * LANES : base + (c + 1) * LANES].astype(np.int32) - own[own_base + c]
        np.maximum(far, np.abs(np.clip(gap, -MIDDLE, MIDDLE - 1)).astype(np.uint16), out=far)


def _walk(
    codes: _Int16,
    own: _Int16,
    own_base: int,
    first: int,
    stops: IntArray,
    inner: int,
    outer: int,
    far: _UInt16,
    near: IntArray,
) -> tuple[int, int]:
    gap = np.zeros(LANES, dtype=np.uint16)
    unsure = 0
    for j, stop in enumerate(stops):
        _widen_i16(codes, first * LANES, own, own_base + first, int(stop) - first, gap)
        first = int(stop)
        far[j * LANES : (j + 1) * LANES] = gap
        near[j] = _mask(gap <= outer)
        unsure |= _mask((gap >= inner) & (gap <= outer))
        if near[j] == 0:
            return j + 1, unsure
    return len(stops), unsure


def _recut(far: _UInt16, rows: int, inner: int, outer: int, near: IntArray) -> tuple[int, int]:
    unsure = 0
    for j, gap in enumerate(far.reshape(-1, LANES)[:rows]):
        near[j] = _mask(gap <= outer)
        unsure |= _mask((gap >= inner) & (gap <= outer))
        if near[j] == 0:
            return j + 1, unsure
    return rows, unsure


def _tally(near: IntArray, rows: int, keep: int, also: int, to: IntArray, at: int, at_also: int) -> None:
    for j in range(rows):  # in vectors, so that the arrays go on to a multiple of TALLY
        to[at + j] += _popcount(int(near[j]) & keep)
        to[at_also + j] += _popcount(int(near[j]) & keep & also)


def _at_most(far: _Array, at: int, limit: float) -> int:
    return _mask(far[at : at + LANES] <= limit)


def _below(far: _Array, at: int, limit: float) -> int:
    return _mask(far[at : at + LANES] < limit)


def _least_of(far: FloatArray, least: FloatArray) -> None:
    least[:] = far.reshape(-1, len(least)).min(axis=0)


def _box_within(
    points: FloatArray, base: int, which: IntArray, boxes: FloatArray, box: int, limit: FloatArray
) -> int:
    gap = np.full(LANES, -np.inf)
    for c, column in enumerate(which):
        x = points[base + column * LANES : base + (column + 1) * LANES]
        np.maximum(gap, np.maximum(boxes[box + 2 * c] - x, x - boxes[box + 2 * c + 1]), out=gap)
    return _mask(gap <= limit)


def _steps(
    points: FloatArray, at: int, base: float, inverse: float, origin: float, top: float
) -> NDArray[np.int32]:
    with np.errstate(invalid="ignore"):
        steps = (points[at : at + LANES] - base) * inverse + origin
    steps = np.where(steps < top, steps, top)
    return np.where(steps > 0.0, steps, 0.0).astype(np.int32)


def _round_u8(points: FloatArray, at: int, base: float, inverse: float, codes: _Int8, to: int) -> None:
    codes[to : to + LANES] = _steps(points, at, base, inverse, ORIGIN, TOP).astype(np.uint8)


def _round_i16(points: FloatArray, at: int, base: float, inverse: float, codes: _Int16, to: int) -> None:
    codes[to : to + LANES] = _steps(points, at, base, inverse, 0.0, STEPS) - MIDDLE


def _bits(mask: int) -> int:
    return int(mask) & 0xFFFFFFFFFFFFFFFF


def _popcount(mask: int) -> int:
    return _bits(mask).bit_count()


def _lowest(mask: int) -> int:
    return (_bits(mask) & -_bits(mask)).bit_length() - 1


def _drop_lowest(mask: int) -> int:
    return _signed(_bits(mask) & (_bits(mask) - 1))


def _drop_lane(mask: int, lane: int) -> int:
    return _signed(_bits(mask) & ~(1 << int(lane)))


def _signed(mask: int) -> int:
    return mask - (1 << 64) if mask >> 63 else mask


_SWITCHED_OFF = bool(getattr(numba.config, "DISABLE_JIT", 0))


def _compiled(twin: Any, vector: Any) -> Any:
    return twin if _SWITCHED_OFF else vector


within_u8 = _compiled(_within_u8, vectors.within_u8)
widen_f64 = _compiled(_widen, vectors.widen_f64)
widen_i16 = _compiled(_widen_i16, vectors.widen_i16)
walk_i16 = _compiled(_walk, vectors.walk_i16)
recut_i16 = _compiled(_recut, vectors.recut_i16)
tally = _compiled(_tally, vectors.tally)
at_most_f64 = _compiled(_at_most, vectors.at_most_f64)
at_most_i16 = _compiled(_at_most, vectors.at_most_i16)
below_f64 = _compiled(_below, vectors.below_f64)
below_i16 = _compiled(_below, vectors.below_i16)
box_within = _compiled(_box_within, vectors.box_within)
least_of_8 = _compiled(_least_of, vectors.least_of_8)
least_of_16 = _compiled(_least_of, vectors.least_of_16)
round_i16 = _compiled(_round_i16, vectors.round_i16)
round_u8 = _compiled(_round_u8, vectors.round_u8)
popcount = _compiled(_popcount, vectors.popcount)
lowest = _compiled(_lowest, vectors.lowest)
drop_lane = _compiled(_drop_lane, vectors.drop_lane)
drop_lowest = _compiled(_drop_lowest, vectors.drop_lowest)

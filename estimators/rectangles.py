"""Rectangles: how many points lie near a query in one or two columns, exactly, in O(log n) each.

In one column the points near a query are a range of the sorted values, found by a table and bisection.  In two
they are a range of the points sorted by the first column whose ranks in the second lie in another range: a
*wavelet matrix* (Claude, Navarro and Ordonez 2015) answers that in one step per bit of the rank.  It is a table of
bits: level by level the ranks are split by their next bit, in a stable order, so that counting ones before a place
follows a range of points from one level to the next.
"""

from __future__ import annotations

from collections.abc import Sequence

import numba
import numpy as np

from estimators.lanes import popcount
from estimators.profile import FloatArray, IntArray
from estimators.threads import for_ranges

__all__ = ["count_near"]

_QUERIES = 2048  # per task
_BESIDE = 16  # points at the radius that are looked at one by one
_STEPS = 8  # values looked at one by one before bisecting


def count_near(
    x: FloatArray,
    sets: Sequence[Sequence[int]],
    queries: IntArray,
    radius: FloatArray,
    *,
    threads: int | None = None,
) -> list[IntArray]:
    """Count the points near each query in several sets of columns, in the maximum norm.

    Parameters
    ----------
    x : (n, d) array
    sets : sequence of sequences of int
        Each of at most two columns; without columns everything is nearer than any radius.
    queries : (q,) int array
        Points around which is counted; faster where neighbours follow each other.
    radius : (q, K) array
        Not negative.
    threads : int, optional
        Default: all cores; the result does not depend on it.

    Returns
    -------
    list of (2, q, K) int arrays
        For each set: other points nearer than the radius, and not farther.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.array([[0.0, 3.0], [1.0, 0.0], [1.5, 3.0]])
    >>> one, both = count_near(x, [(0,), (0, 1)], np.array([0]), np.array([[1.0]]))
    >>> one.ravel().tolist(), both.ravel().tolist()
    ([0, 1], [0, 0])
    """
    n = len(x)
    columns = sorted({c for columns in sets for c in columns})
    values: dict[int, FloatArray] = {}
    order: dict[int, IntArray] = {}
    tables: dict[int, tuple[IntArray, float]] = {}

    def sort(start: int, stop: int) -> None:
        for c in columns[start:stop]:
            column = np.ascontiguousarray(x[:, c])
            order[c] = np.argsort(column).astype(np.int64, copy=False)
            values[c] = column[order[c]]
            tables[c] = _buckets(values[c])

    for_ranges(sort, len(columns), chunk=1, threads=threads)
    ranges = {c: np.empty((*radius.shape, 4), dtype=np.int64) for c in columns}

    def find(start: int, stop: int) -> None:
        for c in columns:
            _find_ranges(values[c], *tables[c], x, c, queries, radius, start, stop, ranges[c])

    for_ranges(find, len(queries), chunk=_QUERIES, threads=threads)
    pairs = [tuple(columns) for columns in sets if len(columns) == 2]
    matrices: dict[tuple[int, ...], tuple[IntArray, IntArray, IntArray, IntArray]] = {}

    def build(start: int, stop: int) -> None:
        for pair in pairs[start:stop]:
            rank = _inverse(order[pair[1]])[order[pair[0]]]
            matrices[pair] = (*_wavelet_matrix(rank), rank, _inverse(rank))

    for_ranges(build, len(pairs), chunk=1, threads=threads)
    counts = [np.empty((2, *radius.shape), dtype=np.int64) for _ in sets]

    def count(start: int, stop: int) -> None:
        for found, columns in zip(counts, sets, strict=True):
            if len(columns) == 0:
                found[:, start:stop] = n - 1
            elif len(columns) == 1:
                r = ranges[columns[0]][start:stop]
                found[0, start:stop] = np.maximum(r[:, :, 3] - r[:, :, 2] - 1, 0)  # nothing is nearer than 0
                found[1, start:stop] = r[:, :, 1] - r[:, :, 0] - 1
            else:
                across, up = ranges[columns[0]], ranges[columns[1]]
                _count_rectangles(*matrices[tuple(columns)], across, up, start, stop, found)

    for_ranges(count, len(queries), chunk=_QUERIES, threads=threads)
    return counts


@numba.njit(nogil=True, cache=True)
def _buckets(values: FloatArray) -> tuple[IntArray, float]:  # pragma: no cover
    """Where each of n / 2 equal parts of the range of the sorted values begins, and parts per unit."""
    n = len(values)
    parts = n // 2 + 1
    scale = parts / (values[-1] - values[0]) if values[-1] > values[0] else 0.0
    scale = scale if scale < 1e300 else 0.0
    starts = np.empty(parts + 1, dtype=np.int64)
    bucket = 0
    for i in range(n):
        part = _part(values[i], values[0], scale, parts)
        while bucket <= part:
            starts[bucket] = i
            bucket += 1
    starts[bucket:] = n
    return starts, scale


@numba.njit(nogil=True, cache=True)
def _part(x: float, least: float, scale: float, parts: int) -> int:  # pragma: no cover
    return int(min(max((x - least) * scale, 0.0), parts - 1.0))


@numba.njit(nogil=True, cache=True)
def _first_near(
    values: FloatArray, starts: IntArray, scale: float, x: float, radius: float
) -> int:  # pragma: no cover
    """Place of the first sorted value that is not below x by more than the radius, as computed."""
    n = len(values)
    low = int(starts[_part(x - radius, values[0], scale, len(starts) - 1)])
    high = n
    if low > 0 and x - values[low - 1] <= radius:  # rounding, or a part of many values
        low, high = 0, low
    else:
        for _ in range(_STEPS):
            if low == n or x - values[low] <= radius:
                return low
            low += 1
    while low < high:
        middle = (low + high) // 2
        if x - values[middle] > radius:
            low = middle + 1
        else:
            high = middle
    return low


@numba.njit(nogil=True, cache=True)
def _after_near(
    values: FloatArray, starts: IntArray, scale: float, x: float, radius: float
) -> int:  # pragma: no cover
    """Place of the first sorted value that is above x by more than the radius, as computed."""
    n = len(values)
    low = int(starts[_part(x + radius, values[0], scale, len(starts) - 1)])
    high = n
    if low > 0 and values[low - 1] - x > radius:
        low, high = 0, low
    else:
        for _ in range(_STEPS):
            if low == n or values[low] - x > radius:
                return low
            low += 1
    while low < high:
        middle = (low + high) // 2
        if values[middle] - x > radius:
            high = middle
        else:
            low = middle + 1
    return low


@numba.njit(nogil=True, cache=True)
def _inner(
    values: FloatArray, x: float, radius: float, first: int, last: int
) -> tuple[int, int]:  # pragma: no cover
    """The part of the range whose distance is below the radius, which is positive: x itself is in it."""
    if x - values[first] == radius:
        low, high = first + 1, last
        while low < high:
            middle = (low + high) // 2
            if x - values[middle] == radius:
                low = middle + 1
            else:
                high = middle
        first = low
    if values[last - 1] - x == radius:
        low, high = first, last - 1
        while low < high:
            middle = (low + high) // 2
            if values[middle] - x == radius:
                high = middle
            else:
                low = middle + 1
        last = low
    return first, last


@numba.njit(nogil=True, cache=True)
def _find_ranges(
    values: FloatArray,
    starts: IntArray,
    scale: float,
    points: FloatArray,
    column: int,
    queries: IntArray,
    radius: FloatArray,
    start: int,
    stop: int,
    ranges: IntArray,
) -> None:  # pragma: no cover
    """Ranges of sorted values not farther than the radius, and nearer: first, last, first, last."""
    for i in range(start, stop):
        x = points[queries[i], column]
        for k in range(radius.shape[1]):
            r = radius[i, k]
            first = _first_near(values, starts, scale, x, r)
            last = _after_near(values, starts, scale, x, r)
            ranges[i, k, 0], ranges[i, k, 1] = first, last
            if r > 0.0:
                first, last = _inner(values, x, r, first, last)
            else:
                last = first
            ranges[i, k, 2], ranges[i, k, 3] = first, last


@numba.njit(nogil=True, cache=True)
def _wavelet_matrix(rank: IntArray) -> tuple[IntArray, IntArray]:  # pragma: no cover
    """Return the bits of the ranks, the highest level first, and the zeros of each level.

    A word holds 32 bits in its lower half, and in its upper half how many ones come before them.
    """
    n = len(rank)
    levels = 1
    while (1 << levels) < n:
        levels += 1
    table = np.zeros((levels, n // 32 + 1), dtype=np.int64)
    zeros = np.zeros(levels, dtype=np.int64)
    current, following = rank.copy(), np.empty(n, dtype=np.int64)
    for level in range(levels):
        shift = levels - 1 - level
        count = 0
        for i in range(n):
            count += 1 - ((current[i] >> shift) & 1)
        zeros[level] = count
        left, right = 0, count
        for block in range(table.shape[1]):
            word = (right - count) << 32
            for i in range(block * 32, min(n, block * 32 + 32)):
                value = current[i]
                if (value >> shift) & 1:
                    word |= 1 << (i & 31)
                    following[right] = value
                    right += 1
                else:
                    following[left] = value
                    left += 1
            table[level, block] = word
        current, following = following, current
    return table, zeros


@numba.njit(nogil=True, cache=True)
def _ones_before(table: IntArray, level: int, i: int) -> int:  # pragma: no cover
    word = table[level, i >> 5]
    return int(word >> 32) + int(popcount(word & ((1 << (i & 31)) - 1)))


@numba.njit(nogil=True, cache=True)
def _between(
    table: IntArray, zeros: IntArray, first: int, last: int, low: int, high: int
) -> int:  # pragma: no cover
    """Points first..last with ranks from low to below high: those below high less those below low, side by side."""
    levels = len(zeros)
    start, stop = first, last  # those that share the leading bits of high
    count = 0
    if high >= 1 << levels:
        count = last - first
        start = stop
    for level in range(levels):
        shift = levels - 1 - level
        if first < last:
            left, right = _ones_before(table, level, first), _ones_before(table, level, last)
            if (low >> shift) & 1:
                count -= (last - first) - (right - left)
                first, last = zeros[level] + left, zeros[level] + right
            else:
                first, last = first - left, last - right
        if start < stop:
            left, right = _ones_before(table, level, start), _ones_before(table, level, stop)
            if (high >> shift) & 1:
                count += (stop - start) - (right - left)
                start, stop = zeros[level] + left, zeros[level] + right
            else:
                start, stop = start - left, stop - right
    return count


def _inverse(permutation: IntArray) -> IntArray:
    inverse = np.empty_like(permutation)
    inverse[permutation] = np.arange(len(permutation))
    return inverse


@numba.njit(nogil=True, cache=True)
def _among(of: IntArray, first: int, last: int, low: int, high: int) -> int:  # pragma: no cover
    """How many of the entries first..last lie from low to below high, one by one."""
    count = 0
    for i in range(first, last):
        count += low <= of[i] < high
    return count


@numba.njit(nogil=True, cache=True)
def _count_rectangles(
    table: IntArray,
    zeros: IntArray,
    rank: IntArray,
    place: IntArray,
    across: IntArray,
    up: IntArray,
    start: int,
    stop: int,
    counts: IntArray,
) -> None:  # pragma: no cover
    for i in range(start, stop):
        for k in range(across.shape[1]):
            first, last, low, high = across[i, k, 0], across[i, k, 1], up[i, k, 0], up[i, k, 1]
            count = _between(table, zeros, first, last, low, high)
            counts[1, i, k] = count - 1
            # the points at the radius are few, mostly one
            first_s, last_s, low_s, high_s = across[i, k, 2], across[i, k, 3], up[i, k, 2], up[i, k, 3]
            beside = first_s - first + last - last_s + low_s - low + high - high_s
            if beside > _BESIDE:
                count = _between(table, zeros, first_s, last_s, low_s, high_s)
            elif beside > 0:
                count -= _among(rank, first, first_s, low, high) + _among(rank, last_s, last, low, high)
                count -= _among(place, low, low_s, first_s, last_s) + _among(place, high_s, high, first_s, last_s)
            counts[0, i, k] = max(count - 1, 0)  # nothing is nearer than 0

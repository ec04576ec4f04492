"""Points in k-d order: cut at medians, in tiles of 64 neighbours with bounding boxes.

The order is that of the leaves of a k-d tree whose cuts are at multiples of `LANES`, so that all tiles but the
last are full.  Tiles that stand close in the order are close in space, and a box that is too far from a query
rules out 64 points at once.  There is no tree: boxes are few enough to be looked through in order.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numba
import numpy as np

from estimators.lanes import LANES
from estimators.profile import FloatArray, IntArray
from estimators.threads import for_ranges

__all__ = [
    "TOGETHER",
    "Queries",
    "Tiles",
    "apart",
    "kd_tiles",
    "largest_value",
    "queries_among",
    "rows_of",
    "surround",
    "telling_order",
]

TOGETHER = 4  # query tiles, neighbours of each other, that share one rounding of the points

_CANDIDATES = 16  # columns among which the widest is cut: in more dimensions than that boxes rule out little
_RANGES = 4  # so many ranges, about, are cut on by threads: a start costs a tenth of a millisecond
_PAIRS = 4096  # of points, by which columns are put in order


@dataclass(frozen=True, slots=True, eq=False)
class Tiles:
    """Points in tiles.

    Parameters
    ----------
    points : (tiles * d * LANES,) array
        Tile after tile, in each column after column; lanes without a point hold infinity.
    order : (n,) int array
        ``order[i]`` is the sample in lane ``i % LANES`` of tile ``i // LANES``.
    cuts : (c,) int array
        Columns that the order cut, most often cut first.
    boxes : (tiles * c * 2,) array
        Least and largest value of each of these columns in each tile.
    d : int
        Columns.
    """

    points: FloatArray
    order: IntArray
    cuts: IntArray
    boxes: FloatArray
    d: int

    def looking_at(self, first: int, last: int) -> Tiles:
        """Return the same tiles with the boxes of the columns first..last only."""
        kept = (self.cuts >= first) & (self.cuts < last)
        boxes = self.boxes.reshape(-1, len(self.cuts), 2)[:, kept].reshape(-1) if kept.any() else np.zeros(0)
        return replace(self, cuts=self.cuts[kept], boxes=boxes)


@dataclass(frozen=True, slots=True, eq=False)
class Queries:
    """Some of the points of `Tiles`, in their order, in tiles of their own.

    Parameters
    ----------
    points : array
        As in `Tiles`.
    place : (q,) int array
        Place of each query in the order of all points, ascending.
    row : (q,) int array
        Where the answer for each query goes.
    """

    points: FloatArray
    place: IntArray
    row: IntArray


def queries_among(tiles: Tiles, x: FloatArray, samples: IntArray | None) -> Queries:
    """Return the given samples (None: all) as queries; answers come in the order in which they are given."""
    if samples is None:
        return Queries(tiles.points, np.arange(len(tiles.order)), tiles.order)
    place_of = np.empty(len(tiles.order), dtype=np.int64)
    place_of[tiles.order] = np.arange(len(tiles.order))
    row = np.argsort(place_of[samples], kind="stable")
    return Queries(_gather_tiles(x, samples[row]), place_of[samples][row], row)


def kd_tiles(x: FloatArray, cut_among: IntArray | None = None, *, threads: int | None = None) -> Tiles:
    """Put the points (n, d) in k-d order, cutting columns of `cut_among` (default: all) only.

    The order does not depend on the threads (default: all cores).
    """
    n, d = x.shape
    among = np.arange(d) if cut_among is None else cut_among
    spread = x[:: max(1, n // 4096), among].std(axis=0) if len(among) else np.zeros(0)
    candidates = among[np.sort(np.argsort(-spread, kind="stable")[:_CANDIDATES])].astype(np.int64)
    order, times_cut = np.arange(n), np.zeros(d, dtype=np.int64)
    if len(candidates):
        order, times_cut[candidates] = _in_order(np.ascontiguousarray(x[:, candidates]), threads)
    cuts = np.argsort(-times_cut, kind="stable")[: np.count_nonzero(times_cut)]
    points = _gather_tiles(x, order)
    return Tiles(points, order, cuts, _boxes(points, d, n, cuts), d)


def _gather_tiles(x: FloatArray, order: IntArray) -> FloatArray:
    """Return the points `order` of x as tiles (flat)."""
    tiles = -(-len(order) // LANES)
    points = np.full(tiles * x.shape[1] * LANES, np.inf)
    _gather(x, order, points)
    return points


@numba.njit(nogil=True, cache=True)
def _gather(x: FloatArray, order: IntArray, points: FloatArray) -> None:  # pragma: no cover
    d = x.shape[1]
    for i in range(len(order)):
        base = (i // LANES) * d * LANES + i % LANES
        for c in range(d):
            points[base + c * LANES] = x[order[i], c]


@numba.njit(nogil=True, cache=True)
def _boxes(points: FloatArray, d: int, n: int, cuts: IntArray) -> FloatArray:  # pragma: no cover
    tiles = -(-n // LANES)
    boxes = np.empty(tiles * len(cuts) * 2)
    for t in range(tiles):
        members = min(LANES, n - t * LANES)
        for c in range(len(cuts)):
            base = (t * d + cuts[c]) * LANES
            low = high = points[base]
            for j in range(1, members):
                low = min(low, points[base + j])
                high = max(high, points[base + j])
            boxes[(t * len(cuts) + c) * 2] = low
            boxes[(t * len(cuts) + c) * 2 + 1] = high
    return boxes


def _in_order(x: FloatArray, threads: int | None) -> tuple[IntArray, IntArray]:
    """Order of the points, and how often each of the columns was cut: some large ranges first, those in threads."""
    n = len(x)
    order, keys = np.arange(n), np.empty(n)
    times_cut = np.zeros((_RANGES + 1, x.shape[1]), dtype=np.int64)
    whole = np.array([[0, -(-n // LANES)]], dtype=np.int64)
    ranges = _cut(x, order, keys, whole, max(2, -(-n // LANES) // _RANGES), times_cut[0])

    def cut(start: int, stop: int) -> None:
        for i in range(start, stop):
            _cut(x, order, keys, ranges[i : i + 1], 1, times_cut[1 + i % _RANGES])

    for_ranges(cut, len(ranges), chunk=1, threads=threads)
    return order, times_cut.sum(axis=0)


@numba.njit(nogil=True, cache=True)
def _cut(
    x: FloatArray, order: IntArray, keys: FloatArray, ranges: IntArray, least: int, times_cut: IntArray
) -> IntArray:  # pragma: no cover
    """Cut ranges of tiles in two, the column of the largest variance at its median, and return what is left.

    That are ranges of at most `least` tiles, or of points that are all the same.
    """
    n, d = x.shape
    stack = [(first, last) for first, last in ranges]
    left = np.empty((-(-n // LANES), 2), dtype=np.int64)
    found = 0
    while len(stack) > 0:
        first, last = stack.pop()
        if last - first <= least:
            left[found, 0], left[found, 1] = first, last  # (a row at once takes a second to compile)
            found += 1
            continue
        middle = (first + last) // 2
        start, stop, cut = first * LANES, min(last * LANES, n), middle * LANES
        widest, at = 0.0, -1
        step = max(1, (stop - start) // 512)  # the variance of some points is enough to choose by
        for c in range(d):
            total = square = 0.0
            origin = x[order[start], c]
            count = 0
            for i in range(start, stop, step):
                v = x[order[i], c] - origin
                total += v
                square += v * v
                count += 1
            variance = square / count - (total / count) ** 2
            if variance > widest:
                widest, at = variance, c
        if at < 0:  # all the same
            continue
        times_cut[at] += 1
        for i in range(start, stop):
            keys[i] = x[order[i], at]
        _select(keys, order, start, stop - 1, cut)
        stack.append((first, middle))
        stack.append((middle, last))
    return left[:found]


@numba.njit(nogil=True, cache=True)
def _select(keys: FloatArray, order: IntArray, left: int, right: int, cut: int) -> None:  # pragma: no cover
    """Quickselect (Hoare): afterwards keys left..cut-1 are at most keys cut..right, and order moved along."""
    while left < right:
        middle = (left + right) // 2
        pivot = max(min(keys[left], keys[middle]), min(max(keys[left], keys[middle]), keys[right]))
        i, j = left, right
        while i <= j:
            while keys[i] < pivot:
                i += 1
            while keys[j] > pivot:
                j -= 1
            if i <= j:
                keys[i], keys[j] = keys[j], keys[i]
                order[i], order[j] = order[j], order[i]
                i += 1
                j -= 1
        if cut <= j:
            right = j
        elif cut >= i:
            left = i
        else:
            return


def telling_order(points: FloatArray, d: int, n: int) -> IntArray:
    """Return the columns in an order in which few of them rule out most far pairs of points.

    Greedy on a sample of pairs: next comes the column in which most of the pairs not yet ruled out are farther
    apart than the radius within which one pair in a thousand lies.
    """
    rng = np.random.default_rng(0)  # changes the order of work, never a result
    pairs = rng.integers(0, n, size=(2, _PAIRS))
    base = (pairs // LANES) * (d * LANES) + pairs % LANES
    at = base[:, :, None] + np.arange(d) * LANES
    gaps = np.abs(points[at[0]] - points[at[1]])
    radius = np.partition(gaps.max(axis=1), _PAIRS // 1000)[_PAIRS // 1000]
    near = gaps <= radius
    left = np.arange(d)
    chosen: list[int] = []
    while len(left) and len(near):
        best = int(np.argmin(near[:, left].sum(axis=0)))
        near = near[near[:, left[best]]]
        chosen.append(int(left[best]))
        left = np.delete(left, best)
        if len(near) <= _PAIRS // 500:
            break
    return np.array(chosen + left.tolist(), dtype=np.int64)


@numba.njit(nogil=True, cache=True)
def largest_value(points: FloatArray, d: int, n: int) -> float:  # pragma: no cover
    """Largest absolute value of the points."""
    largest = 0.0
    for i in range(n):
        base = (i // LANES) * d * LANES + i % LANES
        for c in range(d):
            largest = max(largest, abs(points[base + c * LANES]))
    return largest


@numba.njit(nogil=True, cache=True)
def apart(walls: FloatArray, boxes: FloatArray, box: int) -> float:  # pragma: no cover
    """Distance between two boxes: no two of their points are nearer."""
    gap = 0.0
    for c in range(0, len(walls), 2):
        gap = max(gap, boxes[box + c] - walls[c + 1], walls[c] - boxes[box + c + 1])
    return gap


@numba.njit(nogil=True, cache=True)
def surround(
    points: FloatArray, d: int, start: int, stop: int, cuts: IntArray, walls: FloatArray
) -> None:  # pragma: no cover
    """Box of the points start..stop in the columns cut."""
    for c in range(len(cuts)):
        low, high = np.inf, -np.inf
        for i in range(start, stop):
            x = points[((i // LANES) * d + cuts[c]) * LANES + i % LANES]
            low = min(low, x)
            high = max(high, x)
        walls[2 * c] = low
        walls[2 * c + 1] = high


@numba.njit(nogil=True, cache=True)
def rows_of(points: FloatArray, d: int, start: int, stop: int, own: FloatArray) -> None:  # pragma: no cover
    """The points start..stop as rows."""
    for i in range(start, stop):
        for c in range(d):
            own[i - start, c] = points[((i // LANES) * d + c) * LANES + i % LANES]

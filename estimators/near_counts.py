"""Near counts: how many other points lie within the radius of a query, in nested sets of columns, exactly.

Columns stand in the order A, S_1, ..., S_m.  Counted are the points near in B_i = S_1..S_i and in A with B_i, for
all i at once: the distance in B_i is a running maximum over the shells, and a point that has become too far is
left.  Sets of one or two columns are counted by bisection (`rectangles`).  For the others points come in tiles, and
distances are computed in steps of 16-bit integers, chosen anew for every 256 queries: a step is some thousandth of
the radius, and the few points whose distance is within about a step of it are measured exactly.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numba
import numpy as np

from estimators.kd_order import (
    TOGETHER,
    Queries,
    Tiles,
    apart,
    kd_tiles,
    largest_value,
    queries_among,
    rows_of,
    surround,
    telling_order,
)
from estimators.lanes import (
    LANES,
    MIDDLE,
    STEPS,
    TALLY,
    at_most_i16,
    below_i16,
    box_within,
    drop_lane,
    drop_lowest,
    lowest,
    recut_i16,
    round_i16,
    tally,
    walk_i16,
    widen_i16,
)
from estimators.profile import BoolArray, FloatArray, IntArray
from estimators.rectangles import count_near
from estimators.threads import for_ranges

__all__ = ["STRICT", "WITHIN", "near_counts"]

STRICT, WITHIN = 0, 2  # forms of counts; one more: in A as well
_BLOCK = 8  # columns between two looks at whether any point is left
_BOXES_HELP = 16  # columns above which an order of their own rules out no more tiles than the joint one


def near_counts(
    x: FloatArray,
    offsets: IntArray,
    radius: FloatArray,
    tiles: Tiles,
    samples: IntArray | None = None,
    *,
    threads: int | None = None,
) -> IntArray:
    """Count the others near each query in B_i and in A with B_i, i = 1..m.

    Parameters
    ----------
    x : (n, d) array
    offsets : (m + 2,) int array
        ``offsets[j]:offsets[j + 1]`` are the columns of A (j = 0) and of S_j.
    radius : (q, K) array
        Of each query; ascending in each row.
    tiles : Tiles
        The points x in some order.
    samples : (q,) int array, optional
        The queries; default: all points.
    threads : int, optional
        Default: all cores; counts do not depend on it.

    Returns
    -------
    (q, K, 4, m + 1) int array
        ``[..., STRICT, i]`` nearer than the radius in B_i, ``[..., STRICT + 1, i]`` in A as well; with `WITHIN`
        those at the radius are included.  The columns 0, and m of those with A, are not filled.
    """
    shells = len(offsets) - 2
    in_b = offsets[1:] - offsets[1]
    counts = np.zeros((*radius.shape, 4, shells + 1), dtype=np.int64)
    queries = queries_among(tiles, x, samples)
    wanted = np.zeros(shells + 1, dtype=np.bool_)
    flat: dict[tuple[int, int], Sequence[int]] = {}  # with A or not, shell: columns
    for i in range(1, shells + 1):
        sets: dict[tuple[int, int], Sequence[int]] = {(0, i): range(offsets[1], offsets[i + 1])}
        if i < shells:
            sets[1, i] = range(offsets[i + 1])
        wanted[i] = in_b[i] > 0 and max(map(len, sets.values())) > 2
        if wanted[i]:
            continue
        if len(sets.get((1, i), ())) > 2:  # A alone
            part = np.ascontiguousarray(x[:, sets.pop((1, i))])
            alone = np.array([0, 0, part.shape[1]])
            found = near_counts(part, alone, radius, kd_tiles(part, threads=threads), samples, threads=threads)
            counts[:, :, 1::2, i] = found[:, :, ::2, 1]
        flat |= sets
    places = tiles.order[queries.place]
    near = count_near(x, list(flat.values()), places, radius[queries.row], threads=threads)
    for (with_a, i), found in zip(flat, near, strict=True):
        _scatter(found, queries.row, with_a, i, counts)
    if wanted.any():
        first = int(np.argmax(wanted))
        if in_b[first] < min(_BOXES_HELP, x.shape[1]):
            tiles = kd_tiles(x, np.arange(offsets[1], offsets[first + 1]), threads=threads)
            queries = queries_among(tiles, x, samples)
        else:
            tiles = tiles.looking_at(offsets[1], offsets[first + 1])
        _count_in_tiles(tiles, queries, offsets, wanted, radius, counts, threads)
    return counts


def _count_in_tiles(
    tiles: Tiles,
    queries: Queries,
    offsets: IntArray,
    wanted: BoolArray,
    radius: FloatArray,
    counts: IntArray,
    threads: int | None,
) -> None:
    d, n = tiles.d, len(tiles.order)
    blocks = -(-len(queries.place) // LANES)
    flat = counts.reshape(*radius.shape, -1)
    common = (tiles.points, d, n, tiles.cuts, tiles.boxes, queries.points, queries.place, queries.row)
    rank = np.argsort(telling_order(tiles.points, d, n))
    columns = np.concatenate([a + np.argsort(rank[a:b]) for a, b in pairwise(offsets)]).astype(np.int64)
    largest = largest_value(tiles.points, d, n)
    whole = _whole_numbers(tiles.points)

    def job(start: int, stop: int) -> None:
        _count_by_steps(*common, offsets, wanted, radius, columns, largest, whole, start, stop, flat)

    for_ranges(job, blocks, chunk=TOGETHER, threads=threads)
    for i in np.flatnonzero(wanted):  # so far those at the radius only
        counts[:, :, WITHIN : WITHIN + 2, i] += counts[:, :, STRICT : STRICT + 2, i]


@numba.njit(nogil=True, cache=True)
def _scatter(found: IntArray, row: IntArray, with_a: int, shell: int, counts: IntArray) -> None:  # pragma: no cover
    for q in range(len(row)):
        for k in range(counts.shape[1]):
            counts[row[q], k, STRICT + with_a, shell] = found[0, q, k]
            counts[row[q], k, WITHIN + with_a, shell] = found[1, q, k]


@numba.njit(nogil=True, cache=True)
def _whole_numbers(points: FloatArray) -> bool:  # pragma: no cover
    """Whether all points have whole coordinates."""
    for x in points:  # noqa: SIM110 - numba compiles the loop
        if x != np.floor(x):
            return False
    return True


@numba.njit(nogil=True, cache=True)
def _members(tile: int, n: int) -> int:  # pragma: no cover
    """Mask of the lanes that hold a point."""
    left = n - tile * LANES
    return -1 if left >= LANES else (1 << left) - 1


@numba.njit(nogil=True, cache=True)
def _follow(
    points: FloatArray,
    lane: int,
    own: FloatArray,
    q: int,
    offsets: IntArray,
    columns: IntArray,
    wanted: BoolArray,
    since: int,
    radius: FloatArray,
    to: int,
    counts: IntArray,
) -> None:  # pragma: no cover
    """Count one point by exact distances; `since` is where the columns of the first wanted shell end."""
    shells = len(offsets) - 2
    several = radius.shape[1]
    far = radius[to, several - 1]
    gap = -1.0  # without columns everything is near
    for s in range(offsets[1], since):
        gap = max(gap, abs(points[lane + columns[s] * LANES] - own[q, columns[s]]))
    gap_a = -1.0
    for s in range(offsets[1]):
        gap_a = max(gap_a, abs(points[lane + s * LANES] - own[q, s]))
    for i in range(1, shells + 1):
        for s in range(since, offsets[i + 1]):
            gap = max(gap, abs(points[lane + columns[s] * LANES] - own[q, columns[s]]))
            if gap > far:
                return
        since = max(since, offsets[i + 1])
        if gap > far:
            return
        if not wanted[i]:
            continue
        both = max(gap, gap_a)
        for k in range(several):
            r = radius[to, k]
            counts[to, k, i] += gap < r
            counts[to, k, shells + 1 + i] += both < r
            counts[to, k, 2 * (shells + 1) + i] += gap == r
            counts[to, k, 3 * (shells + 1) + i] += both == r


@numba.njit(nogil=True, cache=True)
def _stops(offsets: IntArray, wanted: BoolArray) -> tuple[IntArray, IntArray]:  # pragma: no cover
    """Columns after which to see who is left: every few, and the end of each shell; the shell, if it is wanted."""
    shells = len(offsets) - 2
    ends = np.empty(offsets[-1] + shells, dtype=np.int64)
    within = np.empty(offsets[-1] + shells, dtype=np.int64)
    count = 0
    for i in range(1, shells + 1):
        s = offsets[i]
        while True:
            s = min(s + _BLOCK, offsets[i + 1])
            ends[count] = s
            within[count] = i if s == offsets[i + 1] and wanted[i] else -1
            count += 1
            if s == offsets[i + 1]:
                break
    return ends[:count], within[:count]


@numba.njit(nogil=True, cache=True)
def _count_by_steps(
    points: FloatArray,
    d: int,
    n: int,
    cuts: IntArray,
    boxes: FloatArray,
    qpoints: FloatArray,
    place: IntArray,
    row: IntArray,
    offsets: IntArray,
    wanted: BoolArray,
    radius: FloatArray,
    columns: IntArray,
    largest: float,
    whole: bool,
    first: int,
    last: int,
    counts: IntArray,
) -> None:  # pragma: no cover
    """Query tiles first..last, distances in 16-bit steps, those near the radius exactly.

    Steps of whole numbers (`whole`) can be 1 where they span few of them: then they are the distances.
    """
    tiles = -(-n // LANES)
    shells = len(offsets) - 2
    several = radius.shape[1]
    start, stop = first * LANES, min(last * LANES, len(place))
    asked = stop - start
    walls = np.empty(2 * len(cuts))
    own = np.empty((asked, d))
    rows_of(qpoints, d, start, stop, own)
    surround(qpoints, d, start, stop, cuts, walls)
    far = np.full((last - first) * LANES, np.nan)  # near no box
    farthest = 0.0
    for q in range(asked):
        far[q] = radius[row[start + q], several - 1]
        farthest = max(farthest, far[q])
    # from `farthest` below the least query to `farthest` above the largest fit into 16 bits; what lies beyond is
    # too far from every query, and stays so when it is moved to the ends
    base = np.empty(d)
    span = 0.0
    for c in range(d):
        low, high = own[0, c], own[0, c]
        for q in range(1, asked):
            low, high = min(low, own[q, c]), max(high, own[q, c])
        base[c] = low - farthest
        span = max(span, high - low + 2.0 * farthest)
    inverse = (STEPS - 100.0) / span if span > 0.0 else 0.0
    if not inverse < 1e300:
        inverse = 0.0
    exact = whole and span + 2.0 < STEPS and largest < 1e9
    if exact:
        inverse = 1.0
        base -= 1.0  # what is moved to the ends stays too far
    # rounding errors of positions, in steps: (x - base) inverse
    error = 4e-16 * (largest + farthest) * inverse + 1e-9
    code = np.empty((asked, d), dtype=np.int16)
    mine = code.reshape(-1)
    # limits, the widest first: surely nearer than the radius below `inner` steps, surely farther beyond `outer`;
    # where steps are the distances, one for what is at most the radius, and one for what is nearer
    limits = several * (1 + exact)
    inner, outer = np.empty((asked, limits), dtype=np.int64), np.empty((asked, limits), dtype=np.int64)
    for q in range(asked):
        for s in range(d):
            c = columns[s]
            code[q, s] = int(min(max((own[q, c] - base[c]) * inverse, 0.0), STEPS)) - MIDDLE
        for k in range(several):
            steps = radius[row[start + q], several - 1 - k] * inverse
            if exact:
                outer[q, 2 * k], inner[q, 2 * k] = int(steps), int(steps) + 1
                outer[q, 2 * k + 1], inner[q, 2 * k + 1] = int(steps) - 1, int(steps)
            else:
                outer[q, k] = int(min(steps * (1.0 + 1e-9) + 1.0 + 2.0 * error, STEPS))
                inner[q, k] = int(max(steps * (1.0 - 1e-9) - 2.0 * error, 0.0))
    codes = np.empty(d * LANES, dtype=np.int16)
    gap_a = np.empty(LANES, dtype=np.uint16)
    ends, shell_at = _stops(offsets, wanted)
    head = 0
    while shell_at[head] < 0:
        head += 1
    padded = -(-len(ends) // TALLY) * TALLY
    gaps = np.empty(len(ends) * LANES, dtype=np.uint16)
    near_b = np.zeros((limits, padded), dtype=np.int64)
    near_a, rows = np.zeros(limits, dtype=np.int64), np.zeros(limits, dtype=np.int64)
    found = np.zeros((asked, limits, 2, padded), dtype=np.int64)  # in B, in A as well, up to each stop
    sums = found.reshape(-1)
    for tile in range(tiles):
        if apart(walls, boxes, tile * len(cuts) * 2) > farthest:
            continue
        points_at = tile * d * LANES
        for s in range(d):
            round_i16(points, points_at + columns[s] * LANES, base[columns[s]], inverse, codes, s * LANES)
        for block in range(last - first):
            near = box_within(
                qpoints,
                (first + block) * d * LANES,
                cuts,
                boxes,
                tile * len(cuts) * 2,
                far[block * LANES : (block + 1) * LANES],
            )
            while near != 0:
                q = block * LANES + lowest(near)
                near = drop_lowest(near)
                left = _members(tile, n)
                if place[start + q] // LANES == tile:
                    left = drop_lane(left, place[start + q] % LANES)
                done, unsure = walk_i16(
                    codes, mine, q * d, offsets[1], ends, inner[q, 0], outer[q, 0], gaps, near_b[0]
                )
                if done <= head:
                    continue
                left &= near_b[0, head]
                if left == 0:
                    continue
                gap_a[:] = 0
                widen_i16(codes, 0, mine, q * d, offsets[1], gap_a)
                for i in range(limits):
                    rows[i] = done
                    if outer[q, i] < 0:  # nothing is nearer than 0
                        rows[i] = 0
                        continue
                    if i > 0:
                        rows[i], between = recut_i16(gaps, done, inner[q, i], outer[q, i], near_b[i])
                        unsure |= between
                    near_a[i] = at_most_i16(gap_a, 0, outer[q, i])
                    unsure |= near_a[i] & ~below_i16(gap_a, 0, inner[q, i])
                single = left & unsure
                left &= ~unsure
                for i in range(limits):
                    at = (q * limits + i) * 2 * padded
                    tally(near_b[i], rows[i], left, near_a[i], sums, at, at + padded)
                while single != 0:  # too near the radius to tell
                    lane = points_at + lowest(single)
                    single = drop_lowest(single)
                    _follow(
                        points, lane, own, q, offsets, columns, wanted, ends[head], radius, row[start + q], counts
                    )
    for q in range(asked):
        for k in range(several):
            to = row[start + q]
            for j in range(len(ends)):
                i = shell_at[j]
                if i < 0:
                    continue
                for with_a in range(2):
                    if exact:
                        near, strict = found[q, 2 * k, with_a, j], found[q, 2 * k + 1, with_a, j]
                        counts[to, several - 1 - k, (2 + with_a) * (shells + 1) + i] += near - strict
                    else:
                        strict = found[q, k, with_a, j]
                    counts[to, several - 1 - k, with_a * (shells + 1) + i] += strict

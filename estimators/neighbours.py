"""Neighbours: the exact distance to the k-th nearest other point, in the maximum norm.

Points come in tiles (`kd_order`).  In few columns distances to 64 points at a time are computed as they are, in
the tiles whose box is near enough.  In many columns boxes rule out nothing and all pairs have to be looked at,
but almost all of them are far in some column, and a byte per value is enough to see that: values are rounded to
steps of about 1/64 of the radius, modulo 256, which can only bring points nearer, so that whoever is too far in
steps is too far.  The few that are left are measured exactly.  Steps are chosen anew for every 256 queries, which
are neighbours of each other and have radii alike.
"""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

from estimators.kd_order import (
    TOGETHER,
    Queries,
    Tiles,
    apart,
    largest_value,
    rows_of,
    surround,
    telling_order,
)
from estimators.lanes import (
    GROUP,
    LANES,
    ORIGIN,
    TOP,
    at_most_f64,
    below_f64,
    box_within,
    drop_lane,
    drop_lowest,
    least_of_8,
    least_of_16,
    lowest,
    popcount,
    round_u8,
    widen_f64,
    within_u8,
)
from estimators.profile import FloatArray, IntArray
from estimators.threads import for_ranges

__all__ = ["kth_distances", "nearest_others"]

_FEW_COLUMNS = 10  # up to here boxes rule out enough for exact distances to be as fast as bytes

_Bytes = NDArray[np.uint8]


def kth_distances(
    tiles: Tiles, queries: Queries, ks: IntArray, *, threads: int | None = None
) -> tuple[FloatArray, IntArray]:
    """Return how far the k-th nearest other point of each query is, and how many others lie no farther.

    Parameters
    ----------
    tiles : Tiles
        All points.
    queries : Queries
        Those whose neighbours are sought.
    ks : (K,) int array
        Ascending; all are found in one pass.
    threads : int, optional
        Default: all cores. The result does not depend on it: the distances are exact.

    Returns
    -------
    radius : (q, K) array
        Zero where k others are the same point.
    within : (q, K) int array
        Others at a distance of at most radius: k, or more where several lie at exactly that distance.
    """
    radius, within, _ = _search(tiles, queries, ks, False, threads)
    return radius, within


def nearest_others(tiles: Tiles, queries: Queries, k: int, *, threads: int | None = None) -> IntArray:
    """Return the k other samples nearest to each query, the nearest first; shape (q, k).

    Of several at the same distance as the last, some are returned; which ones does not depend on the threads.
    """
    return tiles.order[_search(tiles, queries, np.array([k]), True, threads)[2]]


def _search(
    tiles: Tiles, queries: Queries, ks: IntArray, who: bool, threads: int | None
) -> tuple[FloatArray, IntArray, IntArray]:
    d, n = tiles.d, len(tiles.order)
    radius = np.empty((len(queries.place), len(ks)))
    within = np.empty((len(queries.place), len(ks)), dtype=np.int64)
    nearest = np.empty((len(queries.place) if who else 0, ks[-1]), dtype=np.int64)
    blocks = -(-len(queries.place) // LANES)
    common = (tiles.points, d, n, tiles.cuts, tiles.boxes, queries.points, queries.place, queries.row, ks)
    if d <= _FEW_COLUMNS:

        def job(start: int, stop: int) -> None:
            _nearest_exact(*common, start, stop, radius, within, nearest)

    else:
        columns = telling_order(tiles.points, d, n)
        largest = largest_value(tiles.points, d, n)

        def job(start: int, stop: int) -> None:
            _nearest_by_bytes(*common, columns, largest, start, stop, radius, within, nearest)

    for_ranges(job, blocks, chunk=TOGETHER, threads=threads)
    return radius, within, nearest


@numba.njit(nogil=True, cache=True)
def _insert(
    best: FloatArray, who: IntArray, q: int, distance: float, place: int, extra: IntArray
) -> None:  # pragma: no cover
    """Keep the k smallest distances, whose they are, and how many others were as far as the last of them."""
    last = best.shape[1] - 1
    if distance == best[q, last]:
        extra[q] += distance < np.inf
    elif distance < best[q, last]:
        dropped = best[q, last]
        slot = last
        while slot > 0 and best[q, slot - 1] > distance:
            best[q, slot] = best[q, slot - 1]
            who[q, slot] = who[q, slot - 1]
            slot -= 1
        best[q, slot] = distance
        who[q, slot] = place
        if best[q, last] == dropped:
            extra[q] += dropped < np.inf
        else:
            extra[q] = 0


@numba.njit(nogil=True, cache=True)
def _take(
    best: FloatArray,
    who: IntArray,
    q: int,
    gap: FloatArray,
    candidates: int,
    limit: float,
    tile: int,
    extra: IntArray,
) -> None:  # pragma: no cover
    """Take in the candidates among 64 points; `limit` cuts off none that is a neighbour."""
    last = best.shape[1] - 1
    far = best[q, last]
    found = candidates & (below_f64(gap, 0, far) if limit >= far else at_most_f64(gap, 0, limit))
    while found != 0:
        _insert(best, who, q, gap[lowest(found)], tile * LANES + lowest(found), extra)
        found = drop_lowest(found)
    if best[q, last] == far < np.inf:  # of many at the same distance it is enough to know how many
        extra[q] += popcount(candidates & at_most_f64(gap, 0, far) & ~below_f64(gap, 0, far))


@numba.njit(nogil=True, cache=True)
def _limit(gap: FloatArray, k: int, far: float, least: FloatArray) -> float:  # pragma: no cover
    """Upper bound of the k-th smallest distance to others: where none is known, from 64 (one may be to itself)."""
    parts = len(least)  # k + 1 of the least distances in each part of the 64
    if far < np.inf or k >= parts:
        return far
    if parts == 8:
        least_of_8(gap, least)
    else:
        least_of_16(gap, least)
    for i in range(k + 1):  # the k + 1 smallest come first
        for j in range(i + 1, parts):
            a, b = least[i], least[j]
            least[i], least[j] = min(a, b), max(a, b)
    return float(least[k])


@numba.njit(nogil=True, cache=True)
def _parts(k: int) -> int:  # pragma: no cover
    """Parts of 64 points among which a limit is sought: more than k, but beyond 16 it costs what it saves."""
    return 8 if k < 8 else 16


@numba.njit(nogil=True, cache=True)
def _measure(
    points: FloatArray,
    tile: int,
    d: int,
    place: int,
    own: FloatArray,
    q: int,
    gap: FloatArray,
    least: FloatArray,
    best: FloatArray,
    who: IntArray,
    extra: IntArray,
    far: FloatArray,
) -> None:  # pragma: no cover
    """Take in the points of a tile by their exact distance to query q, which is the point at `place`."""
    gap[:] = 0.0
    widen_f64(points, tile * d * LANES, own, q * d, d, gap)
    candidates = -1
    if place // LANES == tile:
        candidates = drop_lane(candidates, place % LANES)
    _take(best, who, q, gap, candidates, _limit(gap, best.shape[1], far[q], least), tile, extra)
    far[q] = best[q, -1]


@numba.njit(nogil=True, cache=True)
def _write(
    best: FloatArray,
    who: IntArray,
    q: int,
    extra: int,
    ks: IntArray,
    row: int,
    radius: FloatArray,
    within: IntArray,
    nearest: IntArray,
) -> None:  # pragma: no cover
    last = best.shape[1] - 1
    if len(nearest) > 0:
        for i in range(nearest.shape[1]):  # (a row at once takes a second to compile)
            nearest[row, i] = who[q, i]
    for i in range(len(ks)):
        far = best[q, ks[i] - 1]
        radius[row, i] = far
        count = ks[i]
        while count <= last and best[q, count] == far:
            count += 1
        within[row, i] = count + (extra if best[q, last] == far else 0)


@numba.njit(nogil=True, cache=True)
def _nearest_exact(
    points: FloatArray,
    d: int,
    n: int,
    cuts: IntArray,
    boxes: FloatArray,
    qpoints: FloatArray,
    place: IntArray,
    row: IntArray,
    ks: IntArray,
    first: int,
    last: int,
    radius: FloatArray,
    within: IntArray,
    nearest: IntArray,
) -> None:  # pragma: no cover
    """Query tiles first..last: exact distances in every tile whose box is near enough, the nearest tiles first."""
    tiles = -(-n // LANES)
    walls = np.empty(2 * len(cuts))
    own = np.empty((LANES, d))
    flat = own.reshape(-1)
    best = np.empty((LANES, ks[-1]))
    who = np.zeros((LANES, ks[-1]), dtype=np.int64)
    extra = np.empty(LANES, dtype=np.int64)
    far = np.empty(LANES)  # of each query, as far as known
    gap, least = np.empty(LANES), np.empty(_parts(ks[-1]))
    for block in range(first, last):
        start = block * LANES
        members = min(LANES, len(place) - start)
        rows_of(qpoints, d, start, start + members, own)
        surround(qpoints, d, start, start + members, cuts, walls)
        best[:] = np.inf
        extra[:] = 0
        far[:members] = np.inf
        far[members:] = np.nan  # no box is near
        farthest = np.inf
        home = place[start + members // 2] // LANES
        for step in range(2 * tiles):
            tile = home + (step + 1) // 2 if step % 2 == 1 else home - step // 2
            if tile < 0 or tile >= tiles or apart(walls, boxes, tile * len(cuts) * 2) > farthest:
                continue
            near = box_within(qpoints, block * d * LANES, cuts, boxes, tile * len(cuts) * 2, far)
            while near != 0:
                q = lowest(near)
                near = drop_lowest(near)
                _measure(points, tile, d, place[start + q], flat, q, gap, least, best, who, extra, far)
            farthest = far[:members].max()
        for q in range(members):
            _write(best, who, q, extra[q], ks, row[start + q], radius, within, nearest)


@numba.njit(nogil=True, cache=True)
def _nearest_by_bytes(
    points: FloatArray,
    d: int,
    n: int,
    cuts: IntArray,
    boxes: FloatArray,
    qpoints: FloatArray,
    place: IntArray,
    row: IntArray,
    ks: IntArray,
    columns: IntArray,
    largest: float,
    first: int,
    last: int,
    radius: FloatArray,
    within: IntArray,
    nearest: IntArray,
) -> None:  # pragma: no cover
    """Query tiles first..last: bytes rule pairs out, what they leave is measured."""
    tiles = -(-n // LANES)
    start, stop = first * LANES, min(last * LANES, len(place))
    asked = stop - start
    padded = -(-d // GROUP) * GROUP
    walls = np.empty(2 * len(cuts))
    own = np.empty((asked, d))
    flat = own.reshape(-1)
    rows_of(qpoints, d, start, stop, own)
    surround(qpoints, d, start, stop, cuts, walls)
    best = np.full((asked, ks[-1]), np.inf)
    who = np.zeros((asked, ks[-1]), dtype=np.int64)
    extra = np.zeros(asked, dtype=np.int64)
    far = np.full((last - first) * LANES, np.nan)  # near no box
    far[:asked] = np.inf
    gap, least = np.empty(LANES), np.empty(_parts(ks[-1]))
    # exact distances in a few tiles around each query tile, for a first radius
    span = 1 + -(-ks[-1] // LANES)  # the last tile may hold one point only
    home = np.empty((last - first, 2), dtype=np.int64)
    for block in range(last - first):
        middle = place[start + min(block * LANES + LANES // 2, asked - 1)] // LANES
        home[block, 0] = max(0, min(middle - span // 2, tiles - span))
        home[block, 1] = min(tiles, home[block, 0] + span)
        for q in range(block * LANES, min((block + 1) * LANES, asked)):
            for tile in range(home[block, 0], home[block, 1]):
                _measure(points, tile, d, place[start + q], flat, q, gap, least, best, who, extra, far)
    codes = np.zeros(padded * LANES, dtype=np.uint8)
    code = np.zeros((asked, padded), dtype=np.uint8)
    low = np.zeros((asked, padded), dtype=np.uint8)
    lows = low.reshape(-1)
    reach = np.empty(asked, dtype=np.int64)
    base = own[0].copy()
    farthest = far[:asked].max()
    scaled_for = np.inf
    inverse = 0.0
    centre = (home[0, 0] + home[last - first - 1, 1]) // 2
    for step in range(2 * tiles):
        tile = centre + (step + 1) // 2 if step % 2 == 1 else centre - step // 2
        if tile < 0 or tile >= tiles or apart(walls, boxes, tile * len(cuts) * 2) > farthest:
            continue
        if farthest < 0.8 * scaled_for:  # radii have shrunk: finer steps
            scaled_for = farthest
            inverse = 64.0 / farthest if farthest > 0.0 else 0.0
            if not largest * inverse < 1e9:
                inverse = 0.0
            for q in range(asked):
                for c in range(d):
                    code[q, c] = _byte(own[q, columns[c]], base[columns[c]], inverse)
                reach[q] = -1
                _aim(code, low, reach, q, far[q], inverse, largest)
        for c in range(d):
            round_u8(points, (tile * d + columns[c]) * LANES, base[columns[c]], inverse, codes, c * LANES)
        for block in range(last - first):
            if home[block, 0] <= tile < home[block, 1]:
                continue
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
                found = within_u8(codes, 0, lows, q * padded, padded, min(255, 2 * reach[q]))
                if place[start + q] // LANES == tile:
                    found = drop_lane(found, place[start + q] % LANES)
                if found == 0:
                    continue
                if popcount(found) > 16:
                    gap[:] = 0.0
                    widen_f64(points, tile * d * LANES, flat, q * d, d, gap)
                    _take(best, who, q, gap, found, far[q], tile, extra)
                else:
                    while found != 0:
                        place_found = tile * LANES + lowest(found)
                        lane = tile * d * LANES + lowest(found)
                        found = drop_lowest(found)
                        limit = best[q, -1]
                        distance = 0.0
                        for c in range(d - 1, -1, -1):  # the last columns first: bytes have seen the others
                            distance = max(distance, abs(points[lane + columns[c] * LANES] - own[q, columns[c]]))
                            if distance > limit:
                                break
                        if distance <= limit:
                            _insert(best, who, q, distance, place_found, extra)
                if best[q, -1] < far[q]:
                    far[q] = best[q, -1]
                    _aim(code, low, reach, q, far[q], inverse, largest)
        farthest = far[:asked].max()
    for q in range(asked):
        _write(best, who, q, extra[q], ks, row[start + q], radius, within, nearest)


@numba.njit(nogil=True, cache=True)
def _byte(x: float, base: float, inverse: float) -> int:  # pragma: no cover
    steps = (x - base) * inverse + ORIGIN
    steps = steps if steps < TOP else TOP
    return int(np.int32(steps if steps > 0.0 else 0.0)) & 255


@numba.njit(nogil=True, cache=True)
def _aim(
    code: _Bytes, low: _Bytes, reach: IntArray, q: int, far: float, inverse: float, largest: float
) -> None:  # pragma: no cover
    """Lower ends of the byte range in which the neighbours of query q may lie, and half its length."""
    # one step for rounding down, the rest for rounding errors
    steps = far * inverse * (1.0 + 1e-9) + 1.0 + 1e-5 + 1e-15 * largest * inverse
    half = min(int(min(steps, 1e9)), 128)
    if half != reach[q]:
        reach[q] = half
        for c in range(code.shape[1]):
            low[q, c] = code[q, c] - np.uint8(half)

"""The mixture over the samples to train on, as one more prediction of the clean A: see `mixture` for its formula.

It needs no training and believes in no form, and where noise blurs many samples into one another it says what no
network has learnt yet.  Where single samples hold the weight it is worthless, and left out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numba
import numpy as np
from numpy.typing import NDArray

from estimators.known_noise import KnownNoise
from estimators.posterior_data import Values
from estimators.posterior_loss import fast_exp
from estimators.profile import FloatArray, IntArray
from estimators.threads import for_ranges, one_blas_thread

__all__ = ["NearSamples"]

Float32 = NDArray[np.float32]

_ROWS, _TILE = 128, 2048  # queries and samples whose weights are held together: what fits beside a core
_SUMMED = 128  # weights that are added in single precision
_NOTHING = np.float32(-41.0)  # ln of the least weight: of smaller ones the squares would be denormal, and slow


class NearSamples:
    """Samples with known noise of one level, ready to say which of them a noisy one may be.

    Parameters
    ----------
    clean : (n, d) array
        Columns in the order A, S_1, ..., S_m.
    values : sequence of Values
        Of every column of A.
    sizes : sequence of int
        (|A|, |S_1|, ..., |S_m|).
    noise : KnownNoise
        Not without noise, and not of nothing but noise.
    units : callable, optional
        Brings some columns, which a slice names as well, to the units of noise and values: as `Part.units`.
        Default: they are in these.
    """

    def __init__(
        self,
        clean: NDArray[np.floating],
        values: Sequence[Values],
        sizes: Sequence[int],
        noise: KnownNoise,
        units: Callable[[NDArray[np.floating], slice], FloatArray] | None = None,
    ) -> None:
        def columns(begin: int, end: int) -> FloatArray:
            some = clean[:, begin:end]
            return some.astype(np.float64) if units is None else units(some, slice(begin, end))

        # ln w = (y x - x^2 / 2) / s^2 and what is the same for every x; of flips with 1/s^2 = 2 ln[(1 - f)/f]
        self.snr = 1.0 / noise.sigma**2 if not noise.flip else 2.0 * np.log(1.0 / noise.flip - 1.0)
        own = [columns(column, column + 1) for column in range(sizes[0])]
        places = [each.place(column[:, 0]) for each, column in zip(values, own, strict=True)]
        by_value = np.argsort(places[0], kind="stable")  # samples of one value stand in a row
        self.columns = [_Columns.of(column[by_value], begin) for begin, column in enumerate(own)]
        self.shells = [
            _Columns.of(columns(begin, end)[by_value], begin) for begin, end in pairwise(np.cumsum(sizes).tolist())
        ]
        self.known = [len(each.known) for each in values]
        self.rows = [_in_tiles(place[by_value]) for place in places]

    @property
    def groups(self) -> int:
        """Of shells, the one without any among them."""
        return len(self.shells) + 1

    def blurred(self, noisy: FloatArray, least: float) -> int:
        """Return how many groups from the narrowest on leave so many effective neighbours (median over samples)."""
        effective = np.median(self.posterior(noisy, 0, self.groups)[1], axis=0)
        return int(np.argmin(np.append(effective, 0.0) >= least))

    def posterior(self, noisy: FloatArray, target: int, until: int) -> tuple[FloatArray, FloatArray]:
        """Posterior (q, until, values) of a column of A given those before it and B_g; neighbours (q, until).

        Parameters
        ----------
        noisy : (q, d) array
        target : int
        until : int
            Groups from the narrowest on; wider ones are left out.
        """
        order, place = self.rows[target]
        known, n = self.known[target], len(order)
        found = np.empty((len(noisy), until, known))
        neighbours = np.empty((len(noisy), until))
        parts = [*self.columns[:target], *self.shells[: until - 1]]
        seen = [(self.snr * noisy[:, part.which]).astype(np.float32) for part in parts]

        def job(start: int, stop: int) -> None:
            # a row for every sample, queries beside one another: all loops are over these
            rows = [np.ascontiguousarray(each[start:stop].T) for each in seen]
            weights, gain = np.empty((2, min(_TILE, n), stop - start), dtype=np.float32)
            posterior = np.zeros((until, known, stop - start))
            total, squares = np.zeros((2, until, stop - start))
            most = np.full((until, stop - start), -np.inf, dtype=np.float32)  # of the tiles so far
            for begin in range(0, n, _TILE):
                tile = slice(begin, min(begin + _TILE, n))
                w, more = weights[: tile.stop - begin], gain[: tile.stop - begin]
                w[:] = 0.0
                top = np.zeros(stop - start, dtype=np.float32)
                for number in range(len(parts) + 1):
                    if number and len(rows[number - 1]):
                        part = parts[number - 1]
                        np.matmul(part.clean[tile], rows[number - 1], out=more)
                        _narrow(w, more, part.half_square[tile], np.float32(self.snr), top)
                    group = number - target
                    if group >= 0:
                        sums = most[group], total[group], squares[group], posterior[group]
                        _by_value(w, top, order[tile], place[tile], *sums)
            found[start:stop] = (posterior / total[:, None]).transpose(2, 0, 1)
            neighbours[start:stop] = (total**2 / squares).T

        with one_blas_thread():
            for_ranges(job, len(noisy), chunk=_ROWS)
        return found, neighbours


@dataclass(frozen=True, slots=True, eq=False)
class _Columns:
    """Clean columns (n, k) of single precision, which they are, and half their squared length (n,).

    Those that are the same in all samples say nothing.
    """

    clean: Float32
    which: IntArray
    half_square: Float32

    @classmethod
    def of(cls, clean: FloatArray, begin: int) -> _Columns:
        vary = np.flatnonzero((clean != clean[:1]).any(axis=0))
        some = np.ascontiguousarray(clean[:, vary])
        half = 0.5 * np.einsum("nk,nk->n", some, some)
        return cls(some.astype(np.float32), vary + begin, half.astype(np.float32))


def _in_tiles(place: IntArray) -> tuple[IntArray, IntArray]:
    """Rows of every tile, counted from its first, by the value they have; and these values."""
    begins = range(0, len(place), _TILE)
    order = np.concatenate([np.argsort(place[begin : begin + _TILE], kind="stable") for begin in begins])
    return order, place[order + np.repeat(np.arange(len(begins)) * _TILE, _TILE)[: len(place)]]


@numba.njit(nogil=True, cache=True, fastmath={"reassoc", "contract", "nsz", "arcp"}, error_model="numpy")
def _narrow(
    log_weights: Float32, gain: Float32, half_square: Float32, snr: np.float32, top: Float32
) -> None:  # pragma: no cover
    """Add to ln w (samples, queries) what more columns say, and tell the largest of every query."""
    top[:] = -np.inf
    for j in range(len(log_weights)):
        row, more, less = log_weights[j], gain[j], snr * half_square[j]
        for q in range(len(row)):
            value = row[q] + (more[q] - less)
            row[q] = value
            top[q] = value if value > top[q] else top[q]


@numba.njit(nogil=True, cache=True, fastmath={"reassoc", "contract", "nsz", "arcp"}, error_model="numpy")
def _by_value(
    log_weights: Float32,
    top: Float32,
    order: IntArray,
    place: IntArray,
    most: Float32,
    total: FloatArray,
    squares: FloatArray,
    posterior: FloatArray,
) -> None:  # pragma: no cover
    """Add weights of a tile to those of the tiles before, all as parts of the largest of every query.

    Sums over the samples of each value (values, queries), of all w, and of all w^2.
    """
    many = len(most)
    for q in range(many):
        if top[q] > most[q]:
            less = np.exp(np.float64(most[q]) - np.float64(top[q]))
            total[q] *= less
            squares[q] *= less * less
            for v in range(len(posterior)):
                posterior[v, q] *= less
            most[q] = top[q]
    one, two = np.empty(many, dtype=np.float32), np.empty(many, dtype=np.float32)
    begin = 0
    while begin < len(order):
        v, end = place[begin], begin
        one[:] = 0.0
        two[:] = 0.0
        while end < len(order) and place[end] == v and end - begin < _SUMMED:
            row = log_weights[order[end]]
            for q in range(many):
                w = fast_exp(max(row[q] - most[q], _NOTHING))
                one[q] += w
                two[q] += w * w
            end += 1
        for q in range(many):
            posterior[v, q] += one[q]
            total[q] += one[q]
            squares[q] += two[q]
        begin = end

"""The mixture over the samples to train on, as one more prediction of the clean A: see `mixture` for its formula.

It needs no training and believes in no form, and where noise blurs many samples into one another it says what no
network has learnt yet.  Where single samples hold the weight it is worthless, and left out.
"""

from __future__ import annotations

from collections.abc import Sequence
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

_ROWS = 128  # queries whose weights one thread holds together: 256 n numbers of single precision
_SUMMED = 128  # weights that are added in single precision
_NOTHING = np.float32(-41.0)  # ln of the least weight: of smaller ones the squares would be denormal, and slow


class NearSamples:
    """Samples with known noise of one level, ready to say which of them a noisy one may be.

    Parameters
    ----------
    clean : (n, d) array
        Columns in the order A, S_1, ..., S_m, any scale.
    values : sequence of Values
        Of every column of A.
    sizes : sequence of int
        (|A|, |S_1|, ..., |S_m|).
    noise : KnownNoise
        Not without noise, and not of nothing but noise.
    """

    def __init__(
        self, clean: FloatArray, values: Sequence[Values], sizes: Sequence[int], noise: KnownNoise
    ) -> None:
        a = sizes[0]
        ends = np.cumsum(sizes)
        # ln w = y x / s^2 - x^2 / 2 s^2 and what is the same for every x; of flips with 1/s^2 = 2 ln[(1 - f)/f]
        self.scale = float(1.0 / noise.sigma if not noise.flip else np.sqrt(2.0 * np.log(1.0 / noise.flip - 1.0)))
        by_value = np.argsort(values[0].place(clean[:, 0]), kind="stable")  # samples of one value stand in a row
        scaled = self.scale * clean[by_value]
        self.columns = [_Columns.of(scaled[:, [column]]) for column in range(a)]
        self.shells = [_Columns.of(scaled[:, begin:end]) for begin, end in pairwise(ends)]
        self.orders: list[IntArray] = []
        self.segments: list[IntArray] = []
        for column, each in enumerate(values):
            place = each.place(clean[by_value, column])
            self.orders.append(np.argsort(place, kind="stable") if column else np.zeros(0, dtype=np.int64))
            self.segments.append(np.searchsorted(np.sort(place), np.arange(len(each.known) + 1)))

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
        scaled = (self.scale * noisy).astype(np.float32)
        order, segments = self.orders[target], self.segments[target]
        found = np.empty((len(noisy), until, len(segments) - 1))
        neighbours = np.empty((len(noisy), until))
        parts = [*self.columns[:target], *self.shells[: until - 1]]
        begins = [*range(target), *np.cumsum([len(self.columns), *(len(each.clean.T) for each in self.shells)])]

        def job(start: int, stop: int) -> None:
            # a row for every sample, queries beside one another: all loops are over these
            weights, gain = np.zeros((2, len(self.shells[0].clean), stop - start), dtype=np.float32)
            most = np.zeros(stop - start, dtype=np.float32)
            rows, seen = slice(start, stop), np.ascontiguousarray(scaled[start:stop].T)
            for number, (begin, part) in enumerate(zip(begins, [*parts, None], strict=False)):
                group = number - target
                if group >= 0:
                    _by_value(weights, most, order, segments, found[rows, group], neighbours[rows, group])
                if part is not None and part.clean.shape[1]:
                    np.matmul(part.clean, seen[begin : begin + part.clean.shape[1]], out=gain)
                    _narrow(weights, gain, part.half_square, most)

        with one_blas_thread():
            for_ranges(job, len(noisy), chunk=_ROWS)
        return found, neighbours


@dataclass(frozen=True, slots=True, eq=False)
class _Columns:
    """Scaled clean columns (n, k) of single precision, and half their squared length (n,)."""

    clean: Float32
    half_square: Float32

    @classmethod
    def of(cls, scaled: FloatArray) -> _Columns:
        half = 0.5 * (scaled**2).sum(axis=1)
        return cls(np.ascontiguousarray(scaled, dtype=np.float32), half.astype(np.float32))


@numba.njit(nogil=True, cache=True, fastmath={"reassoc", "contract", "nsz", "arcp"}, error_model="numpy")
def _narrow(log_weights: Float32, gain: Float32, half_square: Float32, most: Float32) -> None:  # pragma: no cover
    """Add to ln w (samples, queries) what more columns say, and tell the largest of every query."""
    most[:] = -np.inf
    for j in range(len(log_weights)):
        row, more, less = log_weights[j], gain[j], half_square[j]
        for q in range(len(row)):
            value = row[q] + (more[q] - less)
            row[q] = value
            most[q] = value if value > most[q] else most[q]


@numba.njit(nogil=True, cache=True, fastmath={"reassoc", "contract", "nsz", "arcp"}, error_model="numpy")
def _by_value(
    log_weights: Float32,
    most: Float32,
    order: IntArray,
    segments: IntArray,
    posterior: FloatArray,
    neighbours: FloatArray,
) -> None:  # pragma: no cover
    """Weights of every query, summed over the samples of each value; (sum w)^2 / sum w^2."""
    many = len(most)
    one, two = np.empty(many, dtype=np.float32), np.empty(many, dtype=np.float32)
    total, squares = np.zeros(many), np.zeros(many)
    posterior[:] = 0.0
    for v in range(len(segments) - 1):
        for begin in range(segments[v], segments[v + 1], _SUMMED):
            one[:] = 0.0
            two[:] = 0.0
            for j in range(begin, min(begin + _SUMMED, segments[v + 1])):
                row = log_weights[order[j] if len(order) else j]
                for q in range(many):
                    w = fast_exp(max(row[q] - most[q], _NOTHING))
                    one[q] += w
                    two[q] += w * w
            for q in range(many):
                posterior[q, v] += one[q]
                total[q] += one[q]
                squares[q] += two[q]
    for q in range(many):
        neighbours[q] = total[q] * total[q] / squares[q]
        for v in range(len(segments) - 1):
            posterior[q, v] /= total[q]

"""Cross-entropies of a noisy value under posteriors of the clean one: the known noise, integrated exactly.

A posterior p over clean values v of A gives the noisy Y = x + z / sqrt(snr), z standard normal, the density

    p(y) = sum_v p(v) sqrt(snr / 2 pi) exp(-snr (y - v)^2 / 2),

and the expectation of -ln p(Y) over z is taken by Gauss and Hermite, not by drawing z.  A bit that is flipped with
probability f has p(1) (1 - f) + p(0) f, and the expectation is a sum of two terms.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Self

import numba
import numpy as np
from numpy.typing import NDArray

from estimators.profile import FloatArray
from estimators.threads import for_ranges

__all__ = ["Blur", "cross_entropy", "flipped_cross_entropy"]

# how far apart values are, in units of the noise, and nodes of the quadrature: they err by 1e-9, 2e-8, and 64 by
# 7e-7 on average over what a posterior of two values says; of single samples, 8 sigma off and given 1e-11, by 5e-4
_NODES = ((1.0, 16), (2.0, 32), (np.inf, 64))
_FINE = 0.0625  # of the noise: values that lie closer share their weight between points so far apart
_CHUNK = 64


def cross_entropy(
    posterior: FloatArray, values: FloatArray, clean: FloatArray, snr: float, squares: FloatArray | None = None
) -> tuple[FloatArray, FloatArray]:
    """Return E_z[-ln p(x + z / sqrt(snr))] of every sample x, in nats, and what having few samples adds to it.

    A posterior that is a weighted mean over samples, p(v) = sum of w_j over the samples of value v, sum w_j = 1,
    has a cross-entropy above that of endless samples by

        1/2 sum_j w_j^2 [(N_j(y) / p(y))^2 - 1]

    to first order in sum w_j^2, N_j the density of y given sample j; a mean over y, like the cross-entropy.

    Parameters
    ----------
    posterior : (q, k) array
        Probabilities of the clean values, one row per sample; each row sums to 1.
    values : (k,) array
        The clean values, rising.
    clean : (q,) array
        x.
    snr : float
        Above 0, finite.
    squares : (q, k) array, optional
        sum of w_j^2 over the samples of each value.

    Returns
    -------
    entropy, excess : (q,) arrays
        Differences of its means are good to 1e-5; the excess is 0 without `squares`.

    Examples
    --------
    Of a value that is known only the noise is left, 1/2 ln(2 pi e / snr).

    >>> import numpy as np
    >>> known, _ = cross_entropy(np.array([[0.0, 1.0]]), np.array([-1.0, 1.0]), np.array([1.0]), 4.0)
    >>> bool(abs(known[0] - 0.5 * np.log(2 * np.pi * np.e / 4.0)) < 1e-12)
    True
    """
    return Blur.of(values, snr).entropies(posterior, clean, squares)


@dataclass(frozen=True, slots=True, eq=False)
class Blur:
    """Clean values with known noise, under which points between them stand for several.

    Parameters
    ----------
    points : (c,) array
        In units of the noise.
    share : (k, c + 1) array
        Of every value in the points, and the variance that sharing adds to it.
    evenly : bool
        Whether points are not the values themselves.
    snr : float
    """

    points: FloatArray
    share: FloatArray
    evenly: bool
    snr: float

    @classmethod
    def of(cls, values: FloatArray, snr: float) -> Self:
        """Of values that rise."""
        points, share, spread = _coarser(values * float(np.sqrt(snr)))
        evenly = len(points) > 2 and len(points) < len(values)
        return cls(points, np.concatenate([share, spread[:, None]], axis=1), evenly, snr)

    def coarse(self, posterior: FloatArray) -> FloatArray:
        """Bring (..., k) probabilities of the values to (..., c + 1), of which pools are those of posteriors."""
        return np.asarray(posterior @ self.share)

    def entropies(
        self, posterior: FloatArray, clean: FloatArray, squares: FloatArray | None = None
    ) -> tuple[FloatArray, FloatArray]:
        """As `cross_entropy`, of (q, k) posteriors."""
        second = np.zeros((len(posterior), 0)) if squares is None else squares @ self.share[:, :-1]
        return self.coarse_entropies(self.coarse(posterior), clean, np.ascontiguousarray(second))

    def coarse_entropies(
        self, coarse: FloatArray, clean: FloatArray, second: FloatArray | None = None
    ) -> tuple[FloatArray, FloatArray]:
        """As `cross_entropy`, of (q, c + 1) coarse posteriors and (q, c) squares."""
        second = np.zeros((len(coarse), 0)) if second is None else second
        nodes, weights = _quadrature(next(count for far, count in _NODES if np.ptp(self.points) <= far))
        merged = np.ascontiguousarray(coarse[:, :-1])
        narrower = 1.0 / (1.0 - coarse[:, -1])  # the noise that is left beside what sharing blurs
        x = clean * float(np.sqrt(self.snr))
        entropy, excess = np.empty((2, len(coarse)))

        def job(start: int, stop: int) -> None:
            fixed = self.points, self.evenly, narrower, x, nodes, weights
            _entropies(merged, second, *fixed, start, stop, entropy, excess)

        for_ranges(job, len(coarse), chunk=_CHUNK)
        return entropy + 0.5 * np.log(2.0 * np.pi / self.snr), excess


def flipped_cross_entropy(
    posterior: FloatArray, clean: NDArray[np.integer], flip: float, squares: FloatArray | None = None
) -> tuple[FloatArray, FloatArray]:
    """Return the mean of -ln p(y) over y, the clean value or with probability `flip` the other one, and the excess.

    Parameters
    ----------
    posterior : (q, 2) array
        Probabilities of the two clean values.
    clean : (q,) array
        Which of the two, 0 or 1.
    flip : float
        In [0, 1/2].
    squares : (q, 2) array, optional
        As in `cross_entropy`.

    Returns
    -------
    entropy, excess : (q,) arrays

    Examples
    --------
    >>> import numpy as np
    >>> coin, _ = flipped_cross_entropy(np.array([[0.0, 1.0]]), np.array([1]), 0.1)
    >>> round(float(coin[0]), 4)  # that of one coin
    0.3251
    """
    kept = np.array([flip, 1.0 - flip])
    entropy, excess = np.zeros((2, len(posterior)))
    for right in (1, 0):
        if kept[right] == 0.0:
            continue
        y = clean if right else 1 - clean
        given = np.where(y[:, None] == np.arange(2), 1.0 - flip, flip)  # p(y | clean value)
        p = (posterior * given).sum(axis=1)
        with np.errstate(divide="ignore"):
            entropy -= kept[right] * np.log(p)
        if squares is not None:
            excess += kept[right] * 0.5 * (squares * ((given / p[:, None]) ** 2 - 1.0)).sum(axis=1)
    return entropy, excess


@functools.cache
def _quadrature(count: int) -> tuple[FloatArray, FloatArray]:
    """Nodes and weights of the mean over z."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(count)
    return nodes, weights / weights.sum()


def _coarser(values: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Points no closer than the noise can tell, the share (values, points) of each value, and what it blurs.

    A value between two points is split so that the mean stays, and the variance that this adds returned; in units
    of the noise.
    """
    span = float(values[-1] - values[0])
    count = int(np.ceil(span / _FINE)) + 1
    if count >= len(values):
        return values, np.eye(len(values)), np.zeros(len(values))
    points = np.linspace(values[0], values[-1], count)
    place = (values - values[0]) / span * (count - 1) if count > 1 else np.zeros(len(values))
    low = np.minimum(place.astype(np.int64), max(count - 2, 0))
    share = np.zeros((len(values), count))
    share[np.arange(len(values)), low] = 1.0 - (place - low)
    if count > 1:
        share[np.arange(len(values)), low + 1] += place - low
    step = span / max(count - 1, 1)
    return points, share, (place - low) * (1.0 - (place - low)) * step**2


@numba.njit(nogil=True, cache=True, fastmath={"reassoc", "contract", "nsz", "arcp"}, error_model="numpy")
def _entropies(
    posterior: FloatArray,
    squares: FloatArray,
    values: FloatArray,
    evenly: bool,
    narrower: FloatArray,
    clean: FloatArray,
    nodes: FloatArray,
    weights: FloatArray,
    start: int,
    stop: int,
    entropy: FloatArray,
    excess: FloatArray,
) -> None:  # pragma: no cover
    """-sum of weights ln sum_v p(v) exp(-(x + z - v)^2 / 2), all in units of the noise, `narrower` per row."""
    k = len(values)
    several = squares.shape[1] > 0
    for i in range(start, stop):
        sharp = narrower[i]
        total, more = 0.0, 0.0
        for node in range(len(nodes)):
            y = clean[i] + nodes[node]
            p, second, log_p = 0.0, 0.0, 0.0
            if evenly:
                # outwards from the point next to y, each exponential from the last: the ratio falls by a factor
                step = values[1] - values[0]
                nearest = min(max(int(np.rint((y - values[0]) / step)), 0), k - 1)
                fall = np.exp(-sharp * step * step)
                for way in (1, -1):
                    off = y - values[nearest]
                    g = np.exp(-0.5 * sharp * off * off)
                    ratio = np.exp(sharp * step * (way * off - 0.5 * step))
                    v = nearest
                    if way == -1:
                        g, v = g * ratio, nearest - 1
                        ratio *= fall
                    while 0 <= v < k and g > 1e-150:
                        p += posterior[i, v] * g
                        if several:
                            second += squares[i, v] * g * g
                        g *= ratio
                        ratio *= fall
                        v += way
            if p > 1e-100:
                log_p = np.log(p)
                second /= p * p
            else:  # few values, or all of them far away
                most = -np.inf
                for v in range(k):
                    if posterior[i, v] > 0.0:
                        most = max(most, np.log(posterior[i, v]) - 0.5 * sharp * (y - values[v]) ** 2)
                p, second = 0.0, 0.0
                for v in range(k):
                    if posterior[i, v] > 0.0:
                        p += posterior[i, v] * np.exp(-0.5 * sharp * (y - values[v]) ** 2 - most)
                log_p = most + np.log(p)
                if several:
                    for v in range(k):
                        if squares[i, v] > 0.0:
                            second += squares[i, v] * np.exp(-sharp * (y - values[v]) ** 2 - 2.0 * log_p)
            total -= weights[node] * (log_p + 0.5 * np.log(sharp))
            if several:
                more += 0.5 * weights[node] * (second - squares[i].sum())
        entropy[i], excess[i] = total, more

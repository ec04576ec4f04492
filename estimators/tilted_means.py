"""Means of clean values whose marginal distribution is known, tilted by a Gaussian guess and seen once more.

A has values v of share s_v, mean mu and variance w.  Its surroundings say, were all of it Gaussian, that it is
normal of mean m and variance V, and A itself is seen as y with noise of variance 1/g.  Then

    p(v) ~ s_v exp{ (v - mu)^2 / 2 w - (v - m)^2 / 2 V - g (y - v)^2 / 2 },

which is exact where all is Gaussian, where nothing is known of A (V = w, m = mu), and where y leaves one value.
Of values that stand for bins of width b, x - v is normal of variance b^2 / 12.
"""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

from estimators.posterior_loss import fast_exp, padded
from estimators.threads import for_ranges

__all__ = ["tilted_means"]

Float32 = NDArray[np.float32]
_ROWS = 16
_NONE = np.float32(-1e30)  # logarithm of the share of what only pads


def tilted_means(
    guess: NDArray[np.floating],
    precision: NDArray[np.floating],
    g: NDArray[np.floating],
    y: NDArray[np.floating],
    values: NDArray[np.floating],
    share: NDArray[np.floating],
    *,
    mean: float,
    variance: float,
    bin_variance: float = 0.0,
) -> tuple[Float32, Float32]:
    """Return mean and standard deviation of x under p, (n, groups, k).

    Parameters
    ----------
    guess : (n, groups) array
        m.
    precision : (groups,) array
        1 / V.
    g, y : (n, k) arrays
    values, share : (V,) arrays
        v and s_v.
    mean, variance : float
        mu and w.
    bin_variance : float
        b^2 / 12; 0 where every value stands for itself.

    Examples
    --------
    A bit that is 1 in one of two cases, of which nothing else is known, seen half way, and as 1 + 1/2 with g = 2.

    >>> import numpy as np
    >>> found, spread = tilted_means(
    ...     np.array([[0.5]]), np.array([4.0]), np.array([[2.0, 2.0]]), np.array([[0.5, 1.5]]),
    ...     np.array([0.0, 1.0]), np.array([0.5, 0.5]), mean=0.5, variance=0.25,
    ... )
    >>> [round(float(x), 4) for x in found[0, 0]]  # 1 / (1 + e^-2)
    [0.5, 0.8808]
    """
    n, groups = guess.shape
    points = padded(values)
    lacks = len(points) - len(values)
    prior = np.log(share) + 0.5 * (values - mean) ** 2 / variance
    log_share = np.concatenate([prior - prior.max(), np.full(lacks, _NONE)]).astype(np.float32)
    found, spread = np.empty((2, n, groups, g.shape[1]), dtype=np.float32)
    plain = [np.ascontiguousarray(each, dtype=np.float32) for each in (guess, precision, g, y)]
    most = len(values)

    def job(start: int, stop: int) -> None:
        own, precise, snr, seen = plain
        _means(
            own[start:stop],
            precise,
            snr[start:stop],
            seen[start:stop],
            points,
            log_share,
            np.array([bin_variance], dtype=np.float32),
            most,
            found[start:stop],
            spread[start:stop],
        )

    for_ranges(job, n, chunk=_ROWS)
    return found, spread


@numba.njit(nogil=True, cache=True, fastmath={"reassoc", "contract", "nsz", "arcp"}, error_model="numpy")
def _means(
    guess: Float32,
    precision: Float32,
    g: Float32,
    y: Float32,
    values: Float32,
    log_share: Float32,
    bin_variances: Float32,
    most: int,
    found: Float32,
    spread: Float32,
) -> None:  # pragma: no cover
    n, groups = guess.shape
    k = len(values)
    half, one, bin_variance = np.float32(0.5), np.float32(1.0), bin_variances[0]
    tilt, logits = np.empty((2, k), dtype=np.float32)
    for row in range(n):
        for group in range(groups):
            m, h = guess[row, group], precision[group]
            for v in range(k):
                tilt[v] = log_share[v] - half * h * (values[v] - m) * (values[v] - m)
            for j in range(g.shape[1]):
                snr = g[row, j] / (one + g[row, j] * bin_variance)
                seen = y[row, j]
                for v in range(k):
                    logits[v] = tilt[v] - half * snr * (seen - values[v]) * (seen - values[v])
                top, at = logits[0], 0
                for v in range(1, most):
                    if logits[v] > top:
                        top, at = logits[v], v
                middle = values[at]
                total, first, second = np.float32(0.0), np.float32(0.0), np.float32(0.0)
                for v in range(k):
                    p = fast_exp(max(logits[v] - top, np.float32(-87.0)))
                    off = values[v] - middle
                    total += p
                    first += p * off
                    second += p * off * off
                first /= total
                within = bin_variance / (one + g[row, j] * bin_variance)  # of x given its value, and y
                gain = g[row, j] * within
                center = middle + first
                found[row, group, j] = center + gain * (seen - center)
                left = one - gain
                spread[row, group, j] = np.sqrt(max(left * left * (second / total - first * first), 0.0) + within)

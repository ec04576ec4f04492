"""Stacking: how much of each of several predictions to believe, by what samples that were held out say."""

from __future__ import annotations

import numba
import numpy as np
from scipy.optimize import nnls

from estimators.profile import FloatArray

__all__ = ["stacking_weights"]

_TINY = 1e-12
_RIDGE = 1e-10  # of the curvature: predictions may be the same
_NEAR = 1e-11  # nats that are still to be gained
_STEPS, _SHORTEST, _ENOUGH = 100, 1e-6, 0.1
_LEFT, _GONE = 1e-3, 1e-6  # of a weight, after one step; a weight that is none, if less of it is better


def stacking_weights(density: FloatArray) -> FloatArray:
    """Return the weights w of the linear pool sum_k w_k p_k of highest likelihood.

    The mean of ln sum_k w_k p_k is concave in w, of which expectation and maximisation creeps along wherever the
    predictions are alike. With sum w as a penalty the constraint of sum 1 is kept by itself, and what is left is a
    sequence of quadratic problems in w >= 0, of which steps of Newton are made (Kim, Carbonetto, Stephens and
    Anitescu 2020).

    Parameters
    ----------
    density : (n, predictions) array
        Of what was held out, under each; at least 0, on any scale per row.

    Returns
    -------
    (predictions,) array
        At least 0, of sum 1.

    Examples
    --------
    >>> import numpy as np
    >>> right, wrong = np.full(1000, 0.4), np.full(1000, 0.05)
    >>> bool(stacking_weights(np.stack([right, wrong], axis=1))[0] > 0.99)
    True

    References
    ----------
    Wolpert, Neural Networks 5, 241 (1992); Yao, Vehtari, Simpson and Gelman, Bayesian Analysis 13, 917 (2018);
    Kim, Carbonetto, Stephens and Anitescu, J. Comput. Graph. Stat. 29, 261 (2020).
    """
    count = density.shape[1]
    weights = np.full(count, 1.0 / count)
    p = _scaled(np.ascontiguousarray(density, dtype=np.float64))
    if len(p) == 0:
        return weights
    value, slope, bend = _looked(p, weights)
    for _ in range(_STEPS):
        factor = np.linalg.cholesky(bend + _RIDGE * (np.trace(bend) / count) * np.eye(count))
        aim = nnls(factor.T, np.linalg.solve(factor, bend @ weights - slope))[0]
        step = np.maximum(aim, _LEFT * weights) - weights  # what one sample hangs on is not lost at once
        gain, length = -float(slope @ step), 1.0
        if gain < _NEAR:
            break
        found = _looked(p, weights + step)
        while found[0] > value - _ENOUGH * length * gain and length > _SHORTEST:
            length *= 0.5
            found = _looked(p, weights + length * step)
        if not found[0] < value:
            break
        weights = weights + length * step
        value, slope, bend = found
    weights = np.where((weights < _GONE) & (slope > 0.0), 0.0, weights)
    return np.asarray(weights / weights.sum())


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _scaled(density: FloatArray) -> FloatArray:  # pragma: no cover
    """Rows over their largest; without those that are 0, or no numbers, throughout."""
    found, count = np.empty_like(density), 0
    for row in density:
        most = 0.0
        for p in row:
            if p > most and np.isfinite(p):
                most = p
        if most > 0.0:
            for k in range(len(row)):
                found[count, k] = row[k] / most if np.isfinite(row[k]) else 0.0
            count += 1
    return found[:count]


@numba.njit(nogil=True, cache=True, fastmath={"reassoc", "contract", "nsz", "arcp"}, error_model="numpy")
def _looked(p: FloatArray, weights: FloatArray) -> tuple[float, FloatArray, FloatArray]:  # pragma: no cover
    """Sum of the weights less the mean of ln p w, its gradient and its second derivatives."""
    n, count = p.shape
    loss, product, slope, bend = 0.0, 1.0, np.zeros(count), np.zeros((count, count))
    for i in range(n):
        pool = _TINY
        for k in range(count):
            pool += p[i, k] * weights[k]
        product *= pool  # of 16 pools, none below 1e-12, one logarithm
        if i % 16 == 15:
            loss, product = loss + np.log(product), 1.0
        inverse = 1.0 / pool
        for k in range(count):
            ratio = p[i, k] * inverse
            slope[k] += ratio
            for other in range(k + 1):
                bend[k, other] += ratio * (p[i, other] * inverse)
    loss += np.log(product)
    for k in range(count):
        for other in range(k):
            bend[other, k] = bend[k, other]
    return weights.sum() - loss / n, 1.0 - slope / n, bend / n

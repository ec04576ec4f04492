"""The Gaussian posterior of a clean column of A given noisy neighbours: where a network begins.

With covariance S of the clean data and noise of variance s^2 on every column, A given the noisy y_B is normal with

    mean  mu_A + S_AB (S_BB + s^2)^-1 (y_B - mu_B),    variance  S_AA - S_AB (S_BB + s^2)^-1 S_BA.

One Cholesky factor L of S + s^2 in the order of the shells serves all nested B_g: with u = L^-1 S_BA the variance
falls by the squares of u, and the weights are L_g^-T u_g, of the leading block.

Of n samples a shell explains some variance by chance alone, the variance that is left to A times the degrees of
freedom of the shell over n (noise of known variance has none: d = |S| - s^2 |L^-1_S|^2).  So the u of every shell
are shrunk by the share of their squares that is more than chance (James and Stein 1961); a shell that tells nothing
then costs nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from scipy.linalg import cholesky, solve_triangular

from estimators.profile import FloatArray

__all__ = ["LEAST", "GaussianStart", "gaussian_start"]

LEAST = 1e-3  # steeper than that a start would be hard to correct
_JITTER = 1e-6  # of the variance of each: without noise columns may be functions of one another


@dataclass(frozen=True, slots=True, eq=False)
class GaussianStart:
    """Linear predictions of one column at one noise level, for every group of inputs that is seen.

    Parameters
    ----------
    weights : (groups, inputs) array
        Of the noisy inputs less their means; 0 for those not seen.
    variance : (groups,) array
        Of the clean column, given what is seen.
    """

    weights: FloatArray
    variance: FloatArray


def gaussian_start(
    covariance: FloatArray,
    target: int,
    inputs: Sequence[int],
    ends: Sequence[int],
    noise: float,
    n: float = np.inf,
    least: float = LEAST,
) -> GaussianStart:
    """Predict a column from the first `ends` of the inputs, each with that variance of noise.

    Parameters
    ----------
    covariance : (d, d) array
        Of clean data.
    target : int
        The column.
    inputs : sequence of int
        Columns that are seen.
    ends : sequence of int
        Rising.
    noise : float
        Variance of that on each.
    n : float
        Samples that the covariance is of; infinite: it is exact.
    least : float
        Share of its variance that is left to the column in any case.

    Examples
    --------
    >>> covariance = np.array([[1.0, 0.8], [0.8, 1.0]])
    >>> start = gaussian_start(covariance, 0, [1], [0, 1], 1.0)
    >>> start.weights.round(6).tolist(), start.variance.round(6).tolist()
    ([[0.0], [0.4]], [1.0, 0.68])
    """
    seen = np.asarray(inputs, dtype=np.int64)
    prior = float(covariance[target, target])
    weights, variance = np.zeros((len(ends), len(seen))), np.full(len(ends), prior)
    if len(seen):
        block = covariance[np.ix_(seen, seen)].copy()
        own = np.diagonal(block)
        # columns differ in size; one that does not vary has that of all
        block[np.diag_indices_from(block)] += noise + _JITTER * np.where(own > 0.0, own, _mean_variance(covariance))
        factor = cholesky(block, lower=True)
        inverse = solve_triangular(factor, np.eye(len(seen)), lower=True)
        u = inverse @ covariance[seen, target]
        known = noise * (inverse**2).sum(axis=1)  # the share of each u's variance that is noise
        steps = [0, *ends]
        left = prior
        for group, (start, end) in enumerate(pairwise(steps)):
            share = float(u[start:end] @ u[start:end])
            if share > 0.0:
                chance = max(left - share, 0.0) * float((1.0 - known[start:end]).sum()) / n
                kept = max(1.0 - chance / share, 0.0)
                u[start:end] *= kept
                left -= kept**2 * share
            variance[group] = left
            weights[group, :end] = inverse[:end, :end].T @ u[:end]
    return GaussianStart(weights, np.maximum(variance, least * prior + 1e-12))


def _mean_variance(covariance: FloatArray) -> float:
    return float(np.trace(covariance)) / len(covariance) or 1.0

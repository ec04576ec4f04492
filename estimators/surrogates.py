"""Surrogates: what an estimator reads on Gaussian data whose CMI is known, and so its bias.

Samples are drawn from a Gaussian with the covariance of the data, as many and of as many columns, and given to the
estimator.  With B_r the buffer and V_r = Var(A|B_r), V = Var(A|BC),

    I(A:C|B_r) = 1/2 log det V_r / det V = < i_r >,   i_r = log p(a|b,c) - log p(a|b_r)

exactly, and the mean of i_r over the very samples that the estimator sees fluctuates as the estimate does.  The
bias is therefore taken as the mean of (estimator's summand - i_r), sample by sample: its error is that of the
difference, several times smaller than that of the estimate.

It is the bias on *Gaussian* data.  On others of like covariance it is a warning, and an approximate correction.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from scipy.linalg import cholesky, eigvalsh, solve_triangular

from estimators.columns import standardized
from estimators.profile import FloatArray, IntArray
from estimators.seeds import Stream, generator
from estimators.threads import one_blas_thread

__all__ = ["GaussianSurrogate", "surrogate_differences"]

Summands = Callable[[FloatArray, IntArray], FloatArray]

_OWN = 1e-9  # of a column's variance
_DETERMINED = 1e-7  # of the variance of A: if less is left of it, it is a function of the shells but for rounding


@dataclass(frozen=True, slots=True, eq=False)
class GaussianSurrogate:
    """A Gaussian with the covariance of some samples, columns in the order A, S_1, ..., S_m.

    Matrices are in units of each column's standard deviation, which no CMI minds.

    Parameters
    ----------
    spread : (d,) array
        Standard deviations of the columns; the largest counts as 1, lest the samples overflow.
    target : (a, a) array
        Var(A|S_1..S_m).
    factor : (s, s) array
        Lower Cholesky factor L of the covariance of the shells.
    weights : (s, a) array
        L^-1 Cov(shells, A): how A depends on the whitened shells.
    steps : (cuts,) int array
        Columns of B_1, B_2, ...
    determined : bool
        Whether A, or a combination of its columns, is a linear function of the shells.
    """

    spread: FloatArray
    target: FloatArray
    factor: FloatArray
    weights: FloatArray
    steps: IntArray
    determined: bool

    @classmethod
    def of(cls, x: FloatArray, offsets: IntArray) -> GaussianSurrogate:
        """Take the covariance of x; of fewer than two samples per column, shrunk (Ledoit and Wolf 2004).

        With more samples it is left as it is: shrinkage is tuned to the covariance as a whole, and where most
        columns are independent it takes away most of what the few others share.  Only what n samples make A seem to
        hang on each shell by chance, |S| Var(A|..S) / n of its variance on average, is taken off, and the variance
        that is left to A is raised by n / (n - s).
        """
        n = len(x)
        few = n < 2 * x.shape[1]
        with one_blas_thread():
            scaled = standardized(x)
            if few:
                from sklearn.covariance import ledoit_wolf  # takes a second to import

                correlation = ledoit_wolf(scaled)[0]
            else:
                correlation = scaled.T @ scaled / n
            # columns that are functions of each other, or constant, get some variance of their own
            correlation[np.diag_indices_from(correlation)] += _OWN
            a = offsets[1]
            factor = cholesky(correlation[a:, a:], lower=True)
            weights = solve_triangular(factor, correlation[a:, :a], lower=True)
            target = correlation[:a, :a] - weights.T @ weights
            left_of_it = eigvalsh(target, correlation[:a, :a], subset_by_index=(0, 0))[0]
        if not few:
            left = np.diagonal(target) + (weights**2).sum(axis=0)
            for start, stop in pairwise(offsets[1:] - a):
                share = (weights[start:stop] ** 2).sum(axis=0)
                left = left - share
                chance = (stop - start) / (n - stop) * left
                weights[start:stop] *= np.sqrt(np.clip(1.0 - chance / np.fmax(share, 1e-300), 0.0, 1.0))
            target = target * n / (n - len(weights))
        return cls(_spread(x), target, factor, weights, offsets[2:-1] - a, bool(left_of_it < _DETERMINED))

    @property
    def cmi(self) -> FloatArray:
        """I(A:C|B) at every cut."""
        given = self._given
        return np.array([0.5 * (_log_det(v) - _log_det(given[-1])) for v in given[:-1]])

    @property
    def _given(self) -> list[FloatArray]:
        """Var(A|B_1), ..., Var(A|BC)."""
        later = [self.weights[step:].T @ self.weights[step:] for step in (*self.steps, len(self.weights))]
        return [self.target + rest for rest in later]

    def without_link(self, cut: int) -> GaussianSurrogate:
        """Return the Gaussian in which A and C depend on each other through B of that cut only: the CMI is 0."""
        step = self.steps[cut]
        weights = np.concatenate([self.weights[:step], np.zeros_like(self.weights[step:])])
        return replace(self, target=self._given[cut], weights=weights, steps=self.steps[[cut]])

    def sample(self, n: int, rng: np.random.Generator) -> tuple[FloatArray, FloatArray]:
        """Draw n samples; return them and their i_r, shape (cuts, n)."""
        # column by column, so that models of as many samples and other columns go along
        own = rng.standard_normal((len(self.target), n)).T
        white = rng.standard_normal((len(self.factor), n)).T
        with one_blas_thread():
            noise = own @ cholesky(self.target, lower=True).T
            shells = white @ self.factor.T
            information = -_log_density(noise, self.target)
            local = np.empty((len(self.steps), n))
            for cut, step in enumerate(self.steps):
                residual = noise + white[:, step:] @ self.weights[step:]
                local[cut] = -information - _log_density(residual, self._given[cut])
            return np.hstack([noise + white @ self.weights, shells]) * self.spread, local


def surrogate_differences(
    model: GaussianSurrogate,
    n: int,
    offsets: IntArray,
    summands: Summands,
    chosen: IntArray | None,
    replicates: int,
    seed: int,
) -> FloatArray:
    """Run an estimator on surrogates: its summands less i_r, whose mean is the bias.

    Parameters
    ----------
    model : GaussianSurrogate
    n : int
        Samples in each data set.
    offsets : (m + 2,) int array
        Columns of A, S_1, ..., S_m.
    summands : callable
        ``summands(samples, offsets)`` -> (K, cuts, q): what the estimator averages, for K variants.
    chosen : (q,) int array or None
        The samples that it averages over; None: all.
    replicates : int
        Data sets drawn.
    seed : int
        Each has a generator of its own.

    Returns
    -------
    (K, cuts, replicates * q) array
        In nats.
    """
    differences = []
    for replicate in range(replicates):
        samples, local = model.sample(n, generator(seed, Stream.SURROGATES, replicate))
        if chosen is not None:
            local = local[:, chosen]
        differences.append(summands(samples, offsets) - local)
    return np.concatenate(differences, axis=2)


def _spread(x: FloatArray) -> FloatArray:
    """Standard deviations over the largest of them, from values small enough to be squared."""
    largest = np.abs(x).max(axis=0)
    largest[largest == 0.0] = 1.0
    spread = (x / largest).std(axis=0) * (largest / largest.max())
    return np.asarray(spread / spread.max()) if spread.any() else spread


def _log_det(matrix: FloatArray) -> float:
    return float(np.linalg.slogdet(matrix)[1])


def _log_density(residual: FloatArray, variance: FloatArray) -> FloatArray:
    """Log of the Gaussian density of rows, less the constant."""
    factor = cholesky(variance, lower=True)
    scaled = solve_triangular(factor, residual.T, lower=True)
    return np.asarray(-np.log(np.diagonal(factor)).sum() - 0.5 * (scaled**2).sum(axis=0))

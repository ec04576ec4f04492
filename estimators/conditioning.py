"""Var(A|B_i) for nested buffers B_1, B_2, ..., from one Cholesky factor of the shells."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.linalg import cholesky, eigh, eigvalsh, solve_triangular

from estimators.cholesky import DETERMINED, ordered_cholesky
from estimators.profile import BoolArray, FloatArray, IntArray

__all__ = ["Conditioning"]


@dataclass(frozen=True, slots=True, eq=False)
class Conditioning:
    """Conditional variances of A and the regressions behind them, one per buffer and one for all of BC.

    Parameters
    ----------
    targets : array of int
        Columns of A that are not linear functions of one another.
    dropped_targets, dropped_shells : int
        How many columns of A, and of the shells, are functions of earlier ones.
    kept : array of int
        Shell columns that are not.
    n_columns : int
    factor : (kept, kept) array
        Cholesky factor L of the kept shell columns.
    rows : (targets, kept) array
        W = Cov(A, shells) L^-T.
    steps : (cuts + 1,) array of int
        ``steps[i]`` kept columns lie in B_{i+1}; the last: in BC.
    prior, last : (targets, targets) arrays
        Var(A) and Var(A|BC).
    gone, basis : array of bool and (targets, targets) array
        Directions of A, orthonormal under Var(A), and which of them BC determines.
    """

    targets: IntArray
    dropped_targets: int
    kept: IntArray
    dropped_shells: int
    n_columns: int
    factor: FloatArray
    rows: FloatArray
    steps: IntArray
    prior: FloatArray
    last: FloatArray
    gone: BoolArray
    basis: FloatArray

    @classmethod
    def of(cls, covariance: FloatArray, ends: IntArray, ridge: float, *, exact: bool) -> Conditioning:
        """Condition A on the shells.

        Parameters
        ----------
        covariance : (d, d) array
            Columns in the order A, S_1, ..., S_m.
        ends : (m + 2,) array of int
            Offsets of A and the shells.
        ridge : float
            Variance of the noise on every column, 1/SNR.
        exact : bool
            Columns may be exact functions of others (no noise): leave those out, and say where A is one.
        """
        first = int(ends[1])
        matrix = covariance.copy()
        matrix[np.diag_indices_from(matrix)] += ridge
        tolerance = DETERMINED if exact else 0.0
        _, independent = ordered_cholesky(matrix[:first, :first], determined=tolerance)
        targets = np.flatnonzero(independent)
        factor, kept = ordered_cholesky(matrix[first:, first:], determined=tolerance)
        columns = first + np.flatnonzero(kept)
        rows = solve_triangular(factor, matrix[np.ix_(columns, targets)], lower=True, check_finite=False).T
        prior = matrix[np.ix_(targets, targets)]
        steps = np.concatenate([[0], np.cumsum(kept)])[ends[2:] - first]
        last = prior - rows @ rows.T
        if exact:
            gone, basis = _determined(last, prior)
        else:
            # noise leaves A at least the noise: what rounding has taken below it is given back
            values, vectors = eigh(last)
            if values[0] < ridge:
                last = (vectors * np.maximum(values, ridge)) @ vectors.T
            gone, basis = np.zeros(len(targets), dtype=np.bool_), np.eye(len(targets))
        return cls(
            targets,
            first - len(targets),
            columns,
            int(np.count_nonzero(~kept)),
            len(matrix),
            factor,
            rows,
            steps,
            prior,
            last,
            gone,
            basis,
        )

    def evaluate(self) -> tuple[FloatArray, FloatArray, IntArray]:
        """Plug-in CMI (cuts,), weights (cuts + 1, columns, targets) of whitened residuals, free directions (cuts,).

        The directions of A that B determines are left out of both determinants; the others are free. Where BC
        determines a direction that B does not, the CMI is infinite.
        """
        cuts = len(self.steps) - 1
        value = np.zeros(cuts)
        free = np.zeros(cuts, dtype=np.int64)
        weights = np.zeros((cuts + 1, self.n_columns, len(self.targets)))
        for i, k in enumerate(self.steps[:-1]):
            tail = self.rows[:, k:]
            variance = self.last + tail @ tail.T
            basis = self.basis
            if self.gone.any():
                gone, basis = _determined(variance, self.prior)
                if gone.sum() < self.gone.sum():
                    value[i] = np.inf
                    continue
                basis = basis[:, ~gone]
            free[i] = basis.shape[1]
            if free[i] == 0:
                continue
            half = cholesky(basis.T @ self.last @ basis, lower=True)
            gain = solve_triangular(half, basis.T @ tail, lower=True)
            value[i] = 0.5 * np.log1p(np.maximum(eigvalsh(gain @ gain.T), 0.0)).sum()
            self._residual_weights(weights[i], k, variance, basis)
        if not self.gone.all():
            self._residual_weights(weights[-1], self.steps[-1], self.last, self.basis[:, ~self.gone])
        return value, weights, free

    def _residual_weights(self, out: FloatArray, k: int, variance: FloatArray, basis: FloatArray) -> None:
        """Weights that turn a centred sample into whitened residuals of A given the first k kept shell columns."""
        half = cholesky(basis.T @ variance @ basis, lower=True)
        whiten = solve_triangular(half, basis.T, lower=True).T  # (targets, directions)
        slopes = solve_triangular(
            self.factor[:k, :k], self.rows[:, :k].T, lower=True, trans="T", check_finite=False
        )
        directions = np.arange(basis.shape[1])
        out[np.ix_(self.targets, directions)] = whiten
        out[np.ix_(self.kept[:k], directions)] = -slopes @ whiten


def _determined(variance: FloatArray, prior: FloatArray) -> tuple[BoolArray, FloatArray]:
    """Directions of A, orthonormal under Var(A), and which of them this conditional variance leaves at 0."""
    shares, directions = eigh(variance, prior)
    return shares < DETERMINED, directions

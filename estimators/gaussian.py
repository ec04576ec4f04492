"""Gaussian estimate of the conditional mutual information, the noise added analytically.

For Gaussian data I(A:C|B) = 1/2 log det Var(A|B) - 1/2 log det Var(A|BC).  Noise of SNR gamma turns the
covariance S into S + I/gamma (in units of the clean data), with no sampling of the noise.  One Cholesky factor
L of the shells S_1, ..., S_m serves all buffers: with W = S_A,shells L^-T,

    Var(A|B_i) = Var(A|BC) + sum over the columns j of W outside B_i of W_j W_j^T,

a sum of positive terms, so that even a CMI of 1e-12 keeps its digits.

On data that are not Gaussian the result is the CMI of the Gaussian with the same covariance, which can lie on
either side of the true one: it sees linear dependence only.  Finite-sample bias is removed
(`estimators.log_determinant`).  The local values are the log-density ratios averaged over the noise, which are
also the first-order influence of each sample: their spread is the error of the estimate, Gaussian data or not.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cholesky, eigh, eigvalsh, solve_triangular

from estimators.cholesky import DETERMINED, ordered_cholesky
from estimators.log_determinant import digamma_bias, log_det_bias
from estimators.profile import BoolArray, FloatArray, IntArray, Profile, check_layout, constant_columns

__all__ = ["GaussianMoments", "Shrinkage", "fit_gaussian", "gaussian_profile"]

Shrinkage = Literal["ledoit-wolf", "oas"] | float | None

_BLOCK = 4096  # rows per matrix product: bounds the memory and fixes the order of the sums


def gaussian_profile(
    x: NDArray[np.floating],
    sizes: Sequence[int],
    *,
    snr: float = np.inf,
    shrinkage: Shrinkage = None,
    correct_bias: bool = True,
) -> Profile:
    """CMI of the Gaussian with the covariance of the data, at every cut.

    Parameters
    ----------
    x : (n, d) float array
        Columns in the order A, S_1, ..., S_m.
    sizes : sequence of int
        (|A|, |S_1|, ..., |S_m|).
    snr
        As in `GaussianMoments.profile`.
    shrinkage, correct_bias
        As in `fit_gaussian`.

    Returns
    -------
    Profile
        Where A is a linear function of B and C but not of B the CMI is infinite; without noise and with fewer
        samples than columns nothing can be said, which is NaN.  Both are named in the notes.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> a, e = rng.standard_normal((2, 100_000))
    >>> x = np.stack([a, a + e], axis=1)                        # I(A:C) = 1/2 log 2
    >>> bool(abs(gaussian_profile(x, (1, 0, 1)).value[0] - 0.5 * np.log(2)) < 0.01)
    True
    """
    return fit_gaussian(x, sizes, shrinkage=shrinkage, correct_bias=correct_bias).profile(x, snr=snr)


def fit_gaussian(
    x: NDArray[np.floating], sizes: Sequence[int], *, shrinkage: Shrinkage = None, correct_bias: bool = True
) -> GaussianMoments:
    """Measure mean and covariance once, for any number of noise levels.

    Parameters
    ----------
    x : (n, d) float array
        Columns in the order A, S_1, ..., S_m.
    sizes : sequence of int
        (|A|, |S_1|, ..., |S_m|).
    shrinkage : {None, "ledoit-wolf", "oas"} or float in [0, 1]
        Replace S by (1 - a) S + a mean(diag S) I, with a given or chosen by scikit-learn.  Lowers the variance
        where samples are few and pulls the CMI towards 0; then no bias correction is made, since the digamma
        form and its noisy extension hold for S itself.
    correct_bias : bool
        Subtract the finite-sample bias (default).  Off, the value is the plain determinant formula.

    Raises
    ------
    ValueError
        For fewer than three samples, a bad layout or an unknown shrinkage.
    """
    offsets = check_layout(x, sizes)
    n = len(x)
    if n < 3:
        raise ValueError(f"a covariance needs at least 3 samples, got {n}")
    active = ~constant_columns(x)
    # Over all columns: choosing the active ones in every block would cost more than the few that are constant.
    mean = sum((block.sum(axis=0) for block in _blocks(x)), np.zeros(x.shape[1])) / n
    covariance = np.zeros((len(mean), len(mean)))
    for block in _blocks(x):
        block -= mean
        covariance += block.T @ block
    covariance = covariance[np.ix_(active, active)] / (n - 1)
    amount = _shrinkage_amount(x, active, shrinkage)
    if amount > 0.0:
        level = float(np.trace(covariance)) / len(covariance)
        covariance *= 1.0 - amount
        covariance[np.diag_indices_from(covariance)] += amount * level
    per_part = [int(active[i:j].sum()) for i, j in pairwise(offsets)]
    return GaussianMoments(n, active, np.cumsum([0, *per_part]), mean, covariance, amount, correct_bias)


@dataclass(frozen=True, eq=False)
class GaussianMoments:
    """Mean and covariance of samples, from which the CMI at every noise level follows; made by `fit_gaussian`.

    Constant columns are left out (`active` says which stay): they tell nothing about A at any noise level.

    Parameters
    ----------
    n : int
        Number of samples.
    active : (d,) bool array
    ends : (m + 2,) int array
        Offsets of A and the shells among the active columns.
    mean : (d,) array
    covariance : (active, active) array
        Divisor n - 1; shrunk where asked for.
    shrinkage : float
        The amount that was applied, 0 for none.
    correct_bias : bool
    """

    n: int
    active: BoolArray
    ends: IntArray
    mean: FloatArray
    covariance: FloatArray
    shrinkage: float
    correct_bias: bool

    @cached_property
    def spectra(self) -> list[tuple[FloatArray, FloatArray]]:
        """Eigenvalues of the covariance of (B_i, AB_i), i = 1..m: they give the bias at every noise level."""
        first = self.ends[1]

        def spectrum(start: int, end: int) -> FloatArray:
            return np.asarray(eigvalsh(self.covariance[start:end, start:end]), dtype=np.float64)

        return [(spectrum(first, end), spectrum(0, end)) for end in self.ends[2:]]

    def profile(self, x: NDArray[np.floating], *, snr: float = np.inf) -> Profile:
        """CMI at every cut, with independent noise of the given SNR on all columns.

        Parameters
        ----------
        x : (n, d) float array
            The samples that were fitted; they give the local values.
        snr : float
            alpha^2/sigma^2 in [0, inf]; inf (default) is the clean data, 0 is pure noise.

        Raises
        ------
        ValueError
            If snr is negative or NaN, or x does not have the shape of the samples that were fitted.
        """
        if not snr >= 0.0:
            raise ValueError(f"snr must lie in [0, inf], got {snr}")
        if x.shape != (self.n, len(self.active)):
            raise ValueError(f"the moments belong to samples of shape {(self.n, len(self.active))}, got {x.shape}")
        cuts = len(self.ends) - 3
        nothing = Profile(np.zeros(cuts), np.zeros((cuts, self.n)), np.zeros(cuts))
        if snr == 0.0 or self.ends[1] == 0 or self.ends[1] == self.ends[-1]:
            return nothing  # pure noise, a constant A, or nothing but constants around it
        ridge = 1.0 / snr
        if not np.isfinite(ridge):
            return nothing  # an SNR below the smallest normal number
        chain = _Conditioning.of(self, ridge)
        notes: list[str] = []
        if self.shrinkage > 0.0:
            notes.append(
                f"the covariance was shrunk by {self.shrinkage:.3g}: the CMI is pulled towards 0, and no finite-"
                "sample bias is subtracted"
            )
        if ridge == 0.0 and self.shrinkage == 0.0 and chain.steps[-1] + len(chain.targets) > self.n - 1:
            notes.append(
                f"without noise {self.n} samples cannot determine a covariance of "
                f"{chain.steps[-1] + len(chain.targets)} or more independent columns: NaN; give more samples, "
                "fewer columns, noise or shrinkage"
            )
            nan = np.full(cuts, np.nan)
            return Profile(nan, np.full((cuts, self.n), np.nan), nan.copy(), tuple(notes))
        notes += chain.notes(clean=ridge == 0.0)
        value, weights, free = chain.evaluate()
        bias = np.zeros(cuts)
        if self.correct_bias and self.shrinkage == 0.0:
            bias = self._bias(snr, chain.steps, free)
            if np.isnan(bias).any():
                notes.append(
                    f"at SNR {snr:.3g} the noise is too weak for {self.n} samples to determine the covariance of "
                    f"{len(self.covariance)} columns: NaN; give more samples, fewer columns or shrinkage"
                )
        return Profile(value - bias, self._local(x, weights, value - bias), bias, tuple(notes))

    def _bias(self, snr: float, steps: IntArray, free: IntArray) -> FloatArray:
        """Bias of 1/2 log det Var(A|B) - 1/2 log det Var(A|BC), from the numbers of columns or the spectra."""
        nu = self.n - 1
        if np.isinf(snr):
            pairs = zip(free, steps[:-1], strict=True)
            return 0.5 * np.array([digamma_bias(q, k, nu) - digamma_bias(q, steps[-1], nu) for q, k in pairs])
        of_log_det = np.array(
            [log_det_bias(joint, snr, nu) - log_det_bias(given, snr, nu) for given, joint in self.spectra]
        )
        return np.asarray(0.5 * (of_log_det[:-1] - of_log_det[-1]))

    def _local(self, x: NDArray[np.floating], weights: FloatArray, value: FloatArray) -> FloatArray:
        """Log-density ratios up to a constant per cut, shifted so that their mean is the value.

        ``weights`` (cuts + 1, active, |A|) turn a centred sample into whitened residuals of A given B_1, ..., BC;
        1/2 |residual given B|^2 - 1/2 |residual given BC|^2 is what varies from sample to sample, the noise's
        share of it being the same for all.
        """
        n_weights, n_active, n_targets = weights.shape
        flat = np.zeros((len(self.active), n_weights * n_targets))
        flat[self.active] = weights.transpose(1, 0, 2).reshape(n_active, -1)
        squares = np.empty((n_weights, self.n))
        start = 0
        for block in _blocks(x):
            block -= self.mean
            residual = (block @ flat).reshape(len(block), n_weights, n_targets)
            squares[:, start : start + len(block)] = np.square(residual).sum(axis=2).T
            start += len(block)
        local: FloatArray = 0.5 * (squares[:-1] - squares[-1])
        local += (value - local.mean(axis=1))[:, None]
        return local


@dataclass(frozen=True, slots=True, eq=False)
class _Conditioning:
    """Var(A|B_i) for all i, as a factor of the shells and the rows that A adds to it.

    factor L of the kept shell columns, rows W = Cov(A, shells) L^-T, ``steps[i]`` kept columns in B_{i+1} (the
    last: in BC), prior = Var(A), last = Var(A|BC).
    """

    targets: IntArray  # the columns of A that are not linear functions of one another
    n_targets: int  # with those that are
    kept: IntArray  # the shell columns that are not linear functions of earlier ones
    n_shells: int  # with those that are
    n_active: int
    factor: FloatArray
    rows: FloatArray
    steps: IntArray
    prior: FloatArray
    last: FloatArray

    @classmethod
    def of(cls, moments: GaussianMoments, ridge: float) -> _Conditioning:
        first, n_active = int(moments.ends[1]), len(moments.covariance)
        matrix = moments.covariance.copy()
        matrix[np.diag_indices_from(matrix)] += ridge
        _, independent = ordered_cholesky(matrix[:first, :first])
        targets = np.flatnonzero(independent)
        factor, kept = ordered_cholesky(matrix[first:, first:])
        columns = first + np.flatnonzero(kept)
        rows = solve_triangular(factor, matrix[np.ix_(columns, targets)], lower=True, check_finite=False).T
        prior = matrix[np.ix_(targets, targets)]
        steps = np.concatenate([[0], np.cumsum(kept)])[moments.ends[2:] - first]
        last = prior - rows @ rows.T
        return cls(targets, first, columns, len(kept), n_active, factor, rows, steps, prior, last)

    def notes(self, *, clean: bool) -> list[str]:
        notes = []
        if len(self.targets) < self.n_targets:
            dropped = self.n_targets - len(self.targets)
            notes.append(f"{dropped} of {self.n_targets} columns of A are linear functions of the others: left out")
        if len(self.kept) < self.n_shells and clean:
            dropped = self.n_shells - len(self.kept)
            notes.append(
                f"{dropped} of {self.n_shells} columns around A are linear functions of columns nearer to A: they "
                "add nothing and were left out"
            )
        if self._determined(self.last)[0].any():
            notes.append(
                "A (or a combination of its columns) is a linear function of B and C: the CMI is infinite for "
                "buffers that do not determine it alone"
            )
        return notes

    def _determined(self, variance: FloatArray) -> tuple[BoolArray, FloatArray]:
        """Directions of A, orthonormal under Var(A), and which of them this conditional variance leaves at 0."""
        shares, directions = eigh(variance, self.prior)
        return shares < DETERMINED, directions

    def evaluate(self) -> tuple[FloatArray, FloatArray, IntArray]:
        """Plug-in CMI (cuts,), weights (cuts + 1, active, |A|) of the whitened residuals, free directions (cuts,).

        The directions of A that B determines are left out of both determinants; the others are free.
        """
        n_targets = len(self.targets)
        value = np.zeros(len(self.steps) - 1)
        free = np.zeros(len(self.steps) - 1, dtype=np.int64)
        weights = np.zeros((len(self.steps), self.n_active, n_targets))
        gone_last, basis_last = self._determined(self.last)
        for i, k in enumerate(self.steps):
            tail = self.rows[:, k:]
            variance = self.last + tail @ tail.T
            basis = np.eye(n_targets)
            if gone_last.any():
                gone, basis = self._determined(variance) if i < len(value) else (gone_last, basis_last)
                if i < len(value) and gone.sum() < gone_last.sum():
                    value[i] = np.inf
                    continue
                basis = basis[:, ~gone]
            if basis.shape[1] == 0:
                continue
            if i < len(value):
                free[i] = basis.shape[1]
                half = cholesky(basis.T @ self.last @ basis, lower=True)
                gain = solve_triangular(half, basis.T @ tail, lower=True)
                value[i] = 0.5 * np.log1p(np.maximum(eigvalsh(gain @ gain.T), 0.0)).sum()
            half = cholesky(basis.T @ variance @ basis, lower=True)
            directions = np.arange(basis.shape[1])
            whiten = solve_triangular(half, basis.T, lower=True).T  # (|A|, directions)
            slopes = solve_triangular(
                self.factor[:k, :k], self.rows[:, :k].T, lower=True, trans="T", check_finite=False
            )
            weights[i][np.ix_(self.targets, directions)] = whiten
            weights[i][np.ix_(self.kept[:k], directions)] = -slopes @ whiten
        return value, weights, free


def _blocks(x: NDArray[np.floating]) -> Iterator[FloatArray]:
    """Rows in float64, a bounded number at a time, each block a fresh array."""
    for start in range(0, len(x), _BLOCK):
        yield x[start : start + _BLOCK].astype(np.float64, order="C")


def _shrinkage_amount(x: NDArray[np.floating], active: BoolArray, shrinkage: Shrinkage) -> float:
    if shrinkage is None:
        return 0.0
    if isinstance(shrinkage, str):
        if shrinkage not in ("ledoit-wolf", "oas"):
            raise ValueError(f'unknown shrinkage {shrinkage!r}: give "ledoit-wolf", "oas" or a number in [0, 1]')
        from sklearn.covariance import ledoit_wolf_shrinkage, oas

        data = np.asarray(x[:, active], dtype=np.float64)
        if data.shape[1] == 0:
            return 0.0
        return float(ledoit_wolf_shrinkage(data) if shrinkage == "ledoit-wolf" else oas(data)[1])
    if isinstance(shrinkage, bool) or not 0.0 <= shrinkage <= 1.0:
        raise ValueError(f"shrinkage must lie in [0, 1], got {shrinkage}")
    return float(shrinkage)

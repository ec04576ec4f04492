"""Gaussian estimate of the conditional mutual information, the noise added analytically.

For Gaussian data I(A:C|B) = 1/2 log det Var(A|B) - 1/2 log det Var(A|BC).  Noise of SNR gamma turns the
covariance S into S + 1/gamma (in units of the clean data), with no sampling of the noise.  One Cholesky factor
L of the shells S_1, ..., S_m serves all buffers: with W = S_A,shells L^-T,

    Var(A|B_i) = Var(A|BC) + sum over the columns j of W outside B_i of W_j W_j^T,

a sum of positive terms, so that even a CMI of 1e-12 keeps its digits.

On data that are not Gaussian the result is the CMI of the Gaussian with the same covariance, which can lie on
either side of the true one: it sees linear dependence only.  Its finite-sample bias depends on the fourth
moments of the data, and is removed for such data too (`estimators.log_determinant`).

The local values are the log-density ratios averaged over the noise, which are also the first-order influence of
each sample: their spread is the error of the estimate, Gaussian data or not.  Two things are added to it.
Fitting k columns leaves residuals that are too small, by sqrt(1 - k/n) for Gaussian data: they are scaled back.
And at a CMI of 0 the first order vanishes, so the variance has a floor, that of the second order.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from estimators.columns import constant_columns
from estimators.conditioning import Conditioning
from estimators.log_determinant import LogDetBias, Spectrum, digamma_bias
from estimators.profile import BoolArray, FloatArray, IntArray, Profile, check_layout
from estimators.threads import for_ranges

__all__ = ["GaussianMoments", "Shrinkage", "fit_gaussian", "gaussian_profile"]

Shrinkage = Literal["ledoit-wolf", "oas"] | float | None

_BLOCK = 4096  # rows per matrix product: bounds the memory and fixes the order of the sums
_PLENTY = 0.5  # share of the samples that must be left after fitting for leverages to help more than they add noise
_LEVERAGES = 4096  # samples whose leverage is computed; the bias is then known to a few per cent


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
    x: NDArray[np.floating],
    sizes: Sequence[int],
    *,
    snrs: Iterable[float] = (),
    shrinkage: Shrinkage = None,
    correct_bias: bool = True,
) -> GaussianMoments:
    """Measure mean and covariance once, for any number of noise levels.

    Parameters
    ----------
    x : (n, d) float array
        Columns in the order A, S_1, ..., S_m.
    sizes : sequence of int
        (|A|, |S_1|, ..., |S_m|).
    snrs : iterable of float
        SNRs that will be asked for; what their biases share is then computed once.
    shrinkage : {None, "ledoit-wolf", "oas"} or float in [0, 1]
        Replace S by (1 - a) S + a mean(diag S), with a given or chosen by scikit-learn.  Lowers the variance where
        samples are few, and biases the CMI: shrinkage acts like noise on every column, which lowers the CMI if it
        blurs A or C and can raise it if it blurs B.  No bias correction is made then.
    correct_bias : bool
        Subtract the finite-sample bias (default).  Off, the value is the plain determinant formula.

    Raises
    ------
    ValueError
        For fewer than three samples, a bad layout, an unknown shrinkage, or values whose squares overflow.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.random.default_rng(0).standard_normal((1000, 4))
    >>> moments = fit_gaussian(x, (1, 1, 2), snrs=[1.0, 4.0])
    >>> [bool(abs(moments.profile(x, snr=snr).value[0]) < 0.02) for snr in (1.0, 4.0)]
    [True, True]
    """
    offsets = check_layout(x, sizes)
    n = len(x)
    if n < 3:
        raise ValueError(f"a covariance needs at least 3 samples, got {n}")
    if not isinstance(correct_bias, (bool, np.bool_)):
        raise TypeError(f"correct_bias must be True or False, got {correct_bias!r}")
    active = ~constant_columns(x)
    # Over all columns: choosing the active ones in every block would cost more than the few that are constant.
    mean = sum((block.sum(axis=0) for block in _blocks(x)), np.zeros(x.shape[1])) / n
    covariance = np.zeros((len(mean), len(mean)))
    with np.errstate(over="ignore", invalid="ignore"):
        for block in _blocks(x):
            block -= mean
            covariance += block.T @ block
    covariance = covariance[np.ix_(active, active)] / (n - 1)
    if not (np.isfinite(covariance).all() and (np.diagonal(covariance) > 0.0).all()):
        raise ValueError("the variance of some column over- or underflows: scale the samples to the order of 1")
    amount = _shrinkage_amount(x, active, shrinkage)
    if amount > 0.0 and active.any():
        level = float(np.trace(covariance)) / len(covariance)
        covariance *= 1.0 - amount
        covariance[np.diag_indices_from(covariance)] += amount * level
    ends = np.cumsum([0, *(int(active[i:j].sum()) for i, j in pairwise(offsets))])
    moments = GaussianMoments(n, active, ends, mean, covariance, amount, bool(correct_bias))
    moments.overfit.update(moments.measure_overfit(x, snrs))
    return moments


@dataclass(frozen=True, slots=True, eq=False)
class _Overfit:
    """What fitting to a finite sample does at one SNR.

    ``bias`` (cuts,) of the plug-in CMI (without noise: beyond the digamma form), ``f`` (cuts + 1,) share of the
    samples left after fitting B_1, ..., BC, ``inverse_count`` (cuts,) one over the number of chi-squares whose sum
    the estimate is where the CMI is 0.
    """

    bias: FloatArray
    f: FloatArray
    inverse_count: FloatArray


@dataclass(frozen=True, slots=True, eq=False)
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
    overfit : dict
        By SNR, what was measured of the bias so far.
    """

    n: int
    active: BoolArray
    ends: IntArray
    mean: FloatArray
    covariance: FloatArray
    shrinkage: float
    correct_bias: bool
    overfit: dict[float, _Overfit] = field(default_factory=dict)

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
        ridge = 1.0 / snr if snr > 0.0 else np.inf
        if not np.isfinite(ridge) or self.ends[1] == 0 or self.ends[1] == self.ends[-1]:
            # pure noise, a constant A, or nothing but constants around it
            return Profile(np.zeros(cuts), np.zeros((cuts, self.n)), np.zeros(cuts))
        exact = ridge == 0.0 and self.shrinkage == 0.0
        chain = Conditioning.of(self.covariance, self.ends, ridge, exact=exact)
        if exact:
            distinct = _distinct_rows(x) if chain.gone.any() else self.n
            wanted = int(chain.steps[-1]) + max(int(np.count_nonzero(~chain.gone)), 1)
            if wanted > distinct - 1:
                return self._unknown(
                    f"without noise {distinct} different samples cannot determine a covariance of {wanted} or more "
                    "independent columns: NaN; give more samples, fewer columns, noise or shrinkage"
                )
        value, weights, free = chain.evaluate()
        notes = self._notes(chain, value)
        if self.shrinkage > 0.0:
            local = self._local(x, weights, value, np.ones(cuts + 1), share=1.0 - self.shrinkage)
            return Profile(value, local, np.zeros(cuts), notes)
        if snr not in self.overfit:
            self.overfit.update(self.measure_overfit(x, [snr]))
        overfit = self.overfit[snr]
        bias = overfit.bias
        if np.isinf(snr):
            digamma = [digamma_bias(q, k, self.n - 1) for q, k in zip(free, chain.steps[:-1], strict=True)]
            digamma_last = [digamma_bias(q, int(chain.steps[-1]), self.n - 1) for q in free]
            bias = np.where(free > 0, bias, 0.0) + 0.5 * (np.array(digamma) - np.array(digamma_last))
        if np.isnan(bias).any():
            return self._unknown(
                f"at SNR {snr:.3g} the noise is too weak for {self.n} samples to determine the covariance of "
                f"{len(self.covariance)} columns: NaN; give more samples, fewer columns or shrinkage"
            )
        if overfit.f.min() < _PLENTY:
            notes += (
                f"fitting leaves {overfit.f.min():.0%} of the {self.n} samples: the bias correction is that of "
                "Gaussian data, and the error may be too small by up to a third",
            )
        least = np.where(
            free > 0, 2.0 * bias**2 * overfit.inverse_count, 0.0
        )  # of a sum of chi-squares, by its mean
        if not self.correct_bias:
            bias = np.zeros(cuts)
        local = self._local(x, weights, value - bias, overfit.f, share=1.0)
        return Profile(value - bias, local, bias, notes, least_variance=least)

    def measure_overfit(self, x: NDArray[np.floating], snrs: Iterable[float]) -> dict[float, _Overfit]:
        """Bias, effective samples and variance floor at some SNRs; without noise the bias beyond the digamma form.

        The spectra of B_1, AB_1, ..., BC, ABC are computed once for all SNRs, one at a time: they are large.
        """
        wanted = [snr for snr in dict.fromkeys(float(s) for s in snrs) if np.isfinite(1.0 / max(snr, 1e-320))]
        first, nu = int(self.ends[1]), self.n - 1
        if not wanted or self.shrinkage > 0.0 or first == 0 or first == self.ends[-1]:
            return {}
        rows = x[:: -(-self.n // _LEVERAGES)][:, self.active].astype(np.float64) - self.mean[self.active]
        ends = self.ends[2:]
        scale = float(np.trace(self.covariance)) / len(self.covariance)
        everything = Spectrum.of(self.covariance, rows, nu, scale)
        plenty = [everything.bias(snr, by_leverage=False).f >= _PLENTY for snr in wanted]
        found: list[list[LogDetBias]] = [[] for _ in range(2 * len(ends))]

        def measure(start: int, stop: int) -> None:
            for i in range(start, stop):
                part = slice(first if i % 2 == 0 else 0, int(ends[i // 2]))
                last = i == len(found) - 1
                spectrum = (
                    everything if last else Spectrum.of(self.covariance[part, part], rows[:, part], nu, scale)
                )
                found[i] = [spectrum.bias(snr, by_leverage=by) for snr, by in zip(wanted, plenty, strict=True)]

        # threads pay where a spectrum takes milliseconds
        for_ranges(measure, len(found), chunk=1, threads=None if rows.size > 200_000 else 1)
        return {snr: self._overfit([row[j] for row in found]) for j, snr in enumerate(wanted)}

    def _overfit(self, parts: list[LogDetBias]) -> _Overfit:
        """Put together what the log-determinants of B_1, AB_1, ..., BC, ABC tell."""
        given, joint = parts[0::2], parts[1::2]
        of_a = np.array([j.bias - g.bias for g, j in zip(given, joint, strict=True)])
        bias = 0.5 * (of_a[:-1] - of_a[-1])
        f, df, df2 = (np.array([getattr(g, name) for g in given]) for name in ("f", "df", "df2"))
        more, more2 = df[-1] - df[:-1], df2[-1] - df2[:-1]
        with np.errstate(divide="ignore", invalid="ignore"):
            inverse_count = np.where(more > 0.0, more2 / more**2 / self.ends[1], 0.0)
            # few samples left per column: the variance of a log chi-square grows faster than its squared mean
            growth = (1.0 / f[-1] - 1.0 / f[:-1]) * more / (self.n - 1) / np.log(f[-1] / f[:-1]) ** 2
        inverse_count *= np.where(growth > 1.0, growth, 1.0)
        return _Overfit(bias, f, inverse_count)

    def _unknown(self, why: str) -> Profile:
        nan = np.full(len(self.ends) - 3, np.nan)
        return Profile(nan, np.full((len(nan), self.n), np.nan), nan.copy(), (why,))

    def _notes(self, chain: Conditioning, value: FloatArray) -> tuple[str, ...]:
        notes = []
        if self.shrinkage > 0.0:
            notes.append(
                f"the covariance was shrunk by {self.shrinkage:.3g}, which biases the CMI in either direction; no "
                "bias is subtracted"
            )
        if chain.dropped_targets:
            total = chain.dropped_targets + len(chain.targets)
            notes.append(f"{chain.dropped_targets} of {total} columns of A are linear functions of the others")
        if chain.dropped_shells:
            total = chain.dropped_shells + len(chain.kept)
            notes.append(
                f"{chain.dropped_shells} of {total} columns around A are linear functions of columns nearer to A "
                "and add nothing"
            )
        if np.isinf(value).any():
            notes.append(
                "A (or a combination of its columns) is a linear function of B and C, to one part in 1e10 of its "
                "variance, but not of B: the CMI is infinite"
            )
        return tuple(notes)

    def _local(
        self, x: NDArray[np.floating], weights: FloatArray, value: FloatArray, f: FloatArray, *, share: float
    ) -> FloatArray:
        """Log-density ratios up to a constant per cut, shifted so that their mean is the value.

        ``weights`` (cuts + 1, active, |A|) turn a centred sample into whitened residuals of A given B_1, ..., BC;
        1/2 |residual given B|^2 - 1/2 |residual given BC|^2 is what varies from sample to sample, the noise's
        share of it being the same for all. A residual after fitting is too small by sqrt(f), its square by f:
        half of that is in the variance it is whitened with. ``share`` is the weight of the samples in a shrunk
        covariance.
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
        squares /= np.sqrt(f)[:, None]
        local: FloatArray = 0.5 * share * (squares[:-1] - squares[-1])
        local += (value - local.mean(axis=1))[:, None]
        return local


def _blocks(x: NDArray[np.floating]) -> Iterator[FloatArray]:
    """Rows in float64, a bounded number at a time, each block a fresh array."""
    for start in range(0, len(x), _BLOCK):
        yield x[start : start + _BLOCK].astype(np.float64, order="C")


def _distinct_rows(x: NDArray[np.floating]) -> int:
    return len({(row + 0.0).tobytes() for row in x})  # + 0.0: -0.0 and 0.0 are one value


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

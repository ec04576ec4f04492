"""The log-determinant of a covariance matrix plus noise, without its finite-sample bias.

The sample covariance S of n samples (nu = n - 1 degrees of freedom) overfits, so log det(1 + gamma S), gamma the
SNR, lies below the log det(1 + gamma Sigma) that is wanted.  Removing one sample at a time tells by how much.  With

    l_i = x_i^T (S + lambda)^-1 x_i / nu           (the leverage of sample i; their mean is df/nu),
    f   = mean(l) / mean(l/(1 - l)),               lambda such that lambda gamma = f,

the estimate is, up to O(1/nu) and for any ratio of columns to samples at which lambda exists,

    sum_j log(1 + s_j/lambda) + nu mean[log(1 - l) + l] + c(p2/nu),     c(x) = -1/2 log(1 - x) - x/(1 - x),

s_j the eigenvalues of S and p2 = tr[gamma Sigma (1 + gamma Sigma)^-1]^2.  Where all leverages are equal this is
Girko's G-estimator (1990; for mutual information Vallet and Loubaton 2009, Kammoun et al. 2012) with the mean
that Bai and Silverstein (2004, theorem 1.1) give for real Gaussian data.  The leverages carry it over to data
with heavy tails: for x_i = sqrt(tau_i) Sigma^1/2 z_i it is the deterministic equivalent of Hachem, Loubaton and
Najim (2007), with tau_i read off the data; at second order it is the bias of any distribution,
-(E m^2 - tr P^2)/(2 nu), m the squared noised Mahalanobis norm.  Images need this: pixels that are mostly black
have large fourth moments.

Without noise and for Gaussian data the bias is a Wishart closed form, `digamma_bias`,

    E log det S = log det Sigma + sum_{i=0}^{d-1} [ psi((nu - i)/2) - log(nu/2) ].
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.linalg import eigh
from scipy.special import digamma

from estimators.profile import FloatArray

__all__ = ["LogDetBias", "Spectrum", "digamma_bias"]

_RANK_TOLERANCE = 1e-12  # eigenvalues below this share of the largest are rounding, not signal
_TAME = 1e3  # SNR, for columns of variance `scale`, above which single samples may own a pixel (leverage 1)


@dataclass(frozen=True, slots=True)
class LogDetBias:
    """Bias of the plug-in log det(1 + snr S), to be subtracted from it, and what else the fixed point tells.

    Parameters
    ----------
    bias : float
        Nats; negative, since overfitting lowers a log-determinant. NaN where the samples are too few to tell.
    f : float
        Share of the samples that is left after fitting: 1 - d/n for Gaussian data without noise.
    df, df2 : float
        sum_j p_j and sum_j p_j^2, p_j = s_j/(s_j + lambda): the number of columns that stand above the noise.
    """

    bias: float
    f: float
    df: float
    df2: float


@dataclass(frozen=True, slots=True, eq=False)
class Spectrum:
    """Eigenvalues of a sample covariance, and the squared coordinates of some samples in its eigenbasis.

    Parameters
    ----------
    values : (rank,) array
        Eigenvalues s_j that are not rounding.
    squares : (rows, rank) array
        Squared projections of centred samples on the eigenvectors.
    nu : int
        Degrees of freedom of the covariance.
    scale : float
        Variance that counts as 1 when an SNR is called high. Where biases of several spectra are subtracted from
        each other it has to be the same for all: most of each is common.
    """

    values: FloatArray
    squares: FloatArray
    nu: int
    scale: float

    @classmethod
    def of(cls, covariance: FloatArray, rows: FloatArray, nu: int, scale: float = 1.0) -> Spectrum:
        """Diagonalize the covariance of some columns; ``rows`` are centred samples of them, all or some."""
        if len(covariance) == 0:
            return cls(np.zeros(0), np.zeros((len(rows), 0)), nu, scale)
        values, vectors = eigh(covariance, check_finite=False)
        real = values > _RANK_TOLERANCE * max(float(values[-1]), 0.0)
        squares = np.square(rows @ vectors[:, real])
        return cls(values[real], squares, nu, scale)

    def bias(self, snr: float, *, by_leverage: bool = True) -> LogDetBias:
        """Bias at an SNR > 0; at infinite SNR only the bias beyond that of Gaussian data, to add to `digamma_bias`.

        Without `by_leverage` all samples count alike, which is right for Gaussian data and less noisy where the
        columns are more than half as many as the samples.

        Examples
        --------
        >>> import numpy as np
        >>> x = np.random.default_rng(0).standard_normal((2000, 10))
        >>> x -= x.mean(axis=0)
        >>> spectrum = Spectrum.of(x.T @ x / 1999, x, 1999)
        >>> bool(abs(spectrum.bias(1e3).bias - digamma_bias(10, 0, 1999)) < 1e-3)
        True
        """
        if len(self.values) == 0:
            return LogDetBias(0.0, 1.0, 0.0, 0.0)
        tame = _TAME / self.scale
        if snr <= tame:
            return self._bias(snr, by_leverage=by_leverage)
        if np.isinf(snr):
            rank = len(self.values)
            left = 1.0 - rank / self.nu if rank < self.nu else float("nan")
            gaussian = LogDetBias(0.0, left, float(rank), float(rank))
        else:
            gaussian = self._bias(snr, by_leverage=False)
        if not by_leverage:
            return gaussian
        # Hardly any noise: a pixel that is bright in one sample only gives this sample leverage 1, which says
        # nothing of the others.  The Gaussian form is good there; what leverage adds to it is taken where it is
        # tame, and therefore depends a little on the units of the columns.
        leveraged = self._bias(tame, by_leverage=True)
        excess = leveraged.bias - self._bias(tame, by_leverage=False).bias
        return LogDetBias(gaussian.bias + excess, min(leveraged.f, gaussian.f), gaussian.df, gaussian.df2)

    def _bias(self, snr: float, *, by_leverage: bool) -> LogDetBias:
        ridge = self._ridge(snr, by_leverage=by_leverage)
        nan = float("nan")
        if np.isnan(ridge):
            return LogDetBias(nan, nan, nan, nan)
        s, nu = self.values, self.nu
        shares = s / (s + ridge)
        df, df2 = float(shares.sum()), float(np.square(shares).sum())
        leverage = self._leverage(ridge, by_leverage=by_leverage)
        lost = _lost(leverage)  # 1 - f
        f = 1.0 - lost
        q = df - df2
        x = min((df2 - q * q / (nu - df - q)) / nu if nu > df + q else 1.0, 0.95)
        correction = -0.5 * np.log1p(-x) - (x / (1.0 - x) if by_leverage else 0.0)
        # sum log(1 + snr s) - sum log(1 + s/ridge), with ridge snr = f, without their cancellation at low SNR
        gain = np.log1p(snr * s * (lost / f) / (1.0 + snr * s)).sum()
        bias = -(gain + nu * float(np.mean(_log1m_plus(leverage))) + correction)
        return LogDetBias(float(bias), f, df, df2)

    def _leverage(self, ridge: float, *, by_leverage: bool) -> FloatArray:
        weights = 1.0 / (self.values + ridge) / self.nu
        if by_leverage:
            # leaving a sample out takes its deviation from the mean with it: n/(n - 1)
            return np.asarray(self.squares @ weights) * (self.nu + 1) / self.nu
        return np.array([float(self.values @ weights)])

    def _ridge(self, snr: float, *, by_leverage: bool) -> float:
        """Solve log(ridge snr) = log f(ridge) by Newton steps inside a shrinking bracket; NaN without a root."""
        high = -np.log(snr)  # f < 1
        low = np.log(self.values[-1]) - 40.0
        u = high
        for _ in range(100):
            ridge = float(np.exp(u))
            leverage = self._leverage(ridge, by_leverage=by_leverage)
            if leverage.max() >= 1.0:
                value, slope = np.inf, 1.0
            else:
                value = u + np.log(snr) - np.log1p(-_lost(leverage))
                slope = 1.0 - self._slope(ridge, leverage, by_leverage=by_leverage)
            if value > 0.0:
                high = u
            else:
                low = u
            if abs(value) < 1e-11:
                return ridge
            step = u - value / slope if np.isfinite(value) and slope > 0.0 else -np.inf
            u = step if low < step < high else 0.5 * (low + high)
            if high - low < 1e-12 * max(1.0, abs(high)):
                break
        return float(np.exp(u)) if u > np.log(self.values[-1]) - 39.0 else float("nan")

    def _slope(self, ridge: float, leverage: FloatArray, *, by_leverage: bool) -> float:
        """Return d log f / d log ridge."""
        weights = ridge / np.square(self.values + ridge) / self.nu
        if by_leverage:
            change = -np.asarray(self.squares @ weights) * (self.nu + 1) / self.nu
        else:
            change = -np.array([float(self.values @ weights)])
        odds = leverage / (1.0 - leverage)
        return float(change.mean() / leverage.mean() - np.mean(change / (1.0 - leverage) ** 2) / odds.mean())


def digamma_bias(n_targets: int, n_given: int, nu: int) -> float:
    """Exact bias of log det Var(A|B) estimated from Gaussian samples, without noise.

    ``sum_{i < n_targets} [psi((nu - n_given - i)/2) - log(nu/2)]``: the log-determinant of a Wishart matrix of
    `n_targets` variables with nu - n_given degrees of freedom (Anderson, An Introduction to Multivariate
    Statistical Analysis, section 7.5).  Negative: regressing on more variables overfits more.

    Examples
    --------
    >>> round(digamma_bias(1, 10, 1000), 6)
    -0.011061
    """
    i = np.arange(n_targets)
    return float(np.sum(digamma((nu - n_given - i) / 2.0) - np.log(nu / 2.0)))


def _lost(leverage: FloatArray) -> float:
    """1 - f = mean(l^2/(1 - l)) / mean(l/(1 - l)), without the cancellation of 1 - f."""
    odds = leverage / (1.0 - leverage)
    return float(np.mean(odds * leverage) / np.mean(odds))


def _log1m_plus(x: FloatArray) -> FloatArray:
    """log(1 - x) + x, by its series where the two would cancel."""
    small = x < 1e-3
    series = -(x**2) * (1 / 2 + x * (1 / 3 + x * (1 / 4 + x * (1 / 5 + x / 6))))
    return np.where(small, series, np.log1p(-np.where(small, 0.0, x)) + x)

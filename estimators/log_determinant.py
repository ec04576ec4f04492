"""The log-determinant of a covariance matrix plus noise, without its finite-sample bias.

The sample covariance S of n samples (nu = n - 1 degrees of freedom) overfits: log det of it is too low.  With
noise of known strength the matrix of interest is I + gamma Sigma (gamma: the SNR), and the plug-in
log det(I + gamma S) is biased by an amount that shrinks with the noise but is no Wishart closed form.  Random
matrix theory gives it all the same.  With s_j the eigenvalues of S, let l solve

    (1/nu) [ (nu - rank S)/l + sum_j 1/(s_j + l) ] = gamma,        df = sum_j s_j/(s_j + l).

Then, up to O(1/nu) and for any ratio d/n at which l exists (d > n included),

    log det(I + gamma Sigma) = sum_j log(1 + s_j/l) + nu log(l gamma) + df - 1/2 log(1 - p2/nu),

where p2 = tr[gamma Sigma (I + gamma Sigma)^-1]^2 follows from the same l.  The first three terms are Girko's
G-estimator (Girko 1990; for mutual information Vallet and Loubaton 2009 and Kammoun et al. 2012), the last is
the mean of real Gaussian data in the central limit theorem of Bai and Silverstein (2004, theorem 1.1).
Without noise (gamma to infinity) they turn into the exact digamma form of a Wishart determinant,

    E log det S = log det Sigma + sum_{i=0}^{d-1} [ psi((nu - i)/2) - log(nu/2) ],

up to O(d/nu^2); `digamma_bias` is that form, for the difference that a conditional entropy needs.
"""

from __future__ import annotations

import numpy as np
from scipy.special import digamma

from estimators.profile import FloatArray

__all__ = ["digamma_bias", "log_det_bias"]

_RANK_TOLERANCE = 1e-12  # eigenvalues below this share of the largest are rounding, not signal


def log_det_bias(eigenvalues: FloatArray, snr: float, nu: int) -> float:
    """Bias of the plug-in log det(I + snr S), to be subtracted from it.

    Parameters
    ----------
    eigenvalues : (d,) array
        Eigenvalues of the sample covariance with divisor nu.
    snr : float
        gamma = alpha^2/sigma^2 > 0, finite.
    nu : int
        Degrees of freedom, the number of samples less one.

    Returns
    -------
    float
        In nats; negative (overfitting lowers a log-determinant), NaN where the samples are too few to tell: the
        sample covariance is singular and the noise too weak to make up for it.

    Examples
    --------
    >>> import numpy as np
    >>> round(log_det_bias(np.ones(10), snr=1e9, nu=1000), 4)  # -d(d + 1)/(2 nu) to leading order
    -0.0552
    """
    top = float(eigenvalues.max(initial=0.0))
    if top <= 0.0:
        return 0.0
    s = eigenvalues[eigenvalues > _RANK_TOLERANCE * top]
    ridge = _effective_ridge(s, snr, nu)
    if np.isnan(ridge):
        return float("nan")
    shares = s / (s + ridge)
    df = float(shares.sum())
    q = df - float(np.square(shares).sum())
    p2 = df - q / (1.0 - q / (nu - df))  # derivative of df along the fixed point
    corrected = np.log1p(s / ridge).sum() + nu * np.log(ridge * snr) + df - 0.5 * np.log1p(-p2 / nu)
    return float(np.log1p(snr * s).sum() - corrected)


def _effective_ridge(s: FloatArray, snr: float, nu: int) -> float:
    """Solve the fixed point for l: the ridge at which the *sample* spectrum shows what `snr` shows of the true one.

    The left side falls with l and is convex, so Newton steps from below climb to the root without overshooting.
    """
    spare = max(nu - len(s), 0)
    if spare == 0 and np.sum(1.0 / s) <= nu * snr:
        return float("nan")
    ridge = spare / (nu * snr)
    for _ in range(200):
        if ridge == 0.0:
            level, slope = np.sum(1.0 / s), np.sum(1.0 / s**2)
        else:
            level = spare / ridge + np.sum(1.0 / (s + ridge))
            slope = spare / ridge**2 + np.sum(1.0 / (s + ridge) ** 2)
        step = (level - nu * snr) / slope
        ridge += step
        if step <= 1e-13 * ridge:
            break
    return float(ridge)


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

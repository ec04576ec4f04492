"""Fidelity: what a denoiser loses that sees only A's own noise and a buffer B around A.

Noise on A alone, X_A -> Y_A, is undone by the local Bayes rule R = P(X_A | Y_A, X_B).  Then (Hu, Liu, Zhang and
Gao, arXiv:2508.06614)

    KL(P || R(E(P))) <= I(X_A:C|Y_A B) = I(X_A:C|B) - I(Y_A:C|B) <= I(X_A:C|B),

total variation <= sqrt(KL / 2) (Pinsker), fidelity sum sqrt(p q) >= exp(-KL / 2).  Over regions that are noised
one after the other the KLs add, each with its buffer at the noise level that it has by then; finite steps of all
regions at once are not covered.  In continuous time they are, for the reverse SDE (Girsanov):

    KL(P_0 || Q_local) <= KL(P_T || prior) + 1/2 int sum_A [mmse_A^local - mmse_A^global] dsnr,

and by I-MMSE (Guo, Shamai and Verdu 2005) such integrals are the CMI itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.integrate import quad
from scipy.interpolate import PchipInterpolator

FloatArray = NDArray[np.float64]

__all__ = [
    "Bound",
    "Integral",
    "Recovery",
    "diffusion_bound",
    "exact_recovery",
    "exact_recovery_gaussian",
    "i_mmse_cmi",
    "mmse_gap_bound",
    "recovery_bound",
    "sequence_bound",
]


@dataclass(frozen=True)
class Bound:
    """An upper bound of a Kullback-Leibler divergence, and what follows from it.

    Parameters
    ----------
    kl : float
        In nats; never clipped: from estimates it may come out negative.
    stderr : float
        Standard error of `kl`; 0 if it is exact.
    quadrature_error : float
        What the integration over few points may have added, in nats.
    """

    kl: float
    stderr: float = 0.0
    quadrature_error: float = 0.0

    @property
    def total_variation(self) -> float:
        """Upper bound of the total variation, sqrt(kl / 2); 0 where an estimate of kl is negative."""
        return float(np.sqrt(max(self.kl, 0.0) / 2.0))

    @property
    def fidelity(self) -> float:
        """Lower bound of the fidelity sum sqrt(p q), exp(-kl / 2); 1 where an estimate of kl is negative."""
        return float(np.exp(-max(self.kl, 0.0) / 2.0))


def _value(x: object) -> tuple[float, float]:
    """Value and standard error of a number, or of an estimate that has both."""
    if hasattr(x, "value"):
        return float(x.value), float(getattr(x, "stderr", 0.0))
    return float(x), 0.0  # type: ignore[arg-type]


def recovery_bound(cmi_before: object, cmi_after: object = 0.0) -> Bound:
    """KL(P || R(E(P))) <= I(X_A:C|B) - I(Y_A:C|B), for noise on A and the local Bayes denoiser.

    Parameters
    ----------
    cmi_before, cmi_after : float, CMIEstimate or Exact
        I(X_A:C|B) without and I(Y_A:C|B) with the noise on A, in nats; 0 (default) for a weaker bound. Errors of
        estimates count as independent.

    Examples
    --------
    >>> bound = recovery_bound(0.05, 0.03)
    >>> round(bound.kl, 6), round(bound.total_variation, 3), round(bound.fidelity, 3)
    (0.02, 0.1, 0.99)
    """
    (before, before_error), (after, after_error) = _value(cmi_before), _value(cmi_after)
    if not np.isfinite([before, after]).all():
        raise ValueError(f"the CMI before and after the noise must be finite, got {before} and {after}")
    return Bound(before - after, float(np.hypot(before_error, after_error)))


def sequence_bound(bounds: Iterable[Bound]) -> Bound:
    """Bound of many steps, one region after the other: the KLs add, by the chain rule over the path.

    Every step's bound must be that of its own buffer as it is by then: noised where noise has been there before.
    Errors count as independent.

    Examples
    --------
    >>> sequence_bound([recovery_bound(0.01), recovery_bound(0.02)]).kl
    0.03
    """
    steps = list(bounds)
    return Bound(
        float(sum(step.kl for step in steps)),
        float(np.sqrt(sum(step.stderr**2 for step in steps))),
        float(sum(step.quadrature_error for step in steps)),
    )


@dataclass(frozen=True)
class Integral:
    """Half an integral over the SNR, in nats, with its standard error and what the quadrature may be off by."""

    value: float
    stderr: float = 0.0
    quadrature_error: float = 0.0


def _half_integral(snr: ArrayLike, gap: FloatArray, covariance: ArrayLike | None) -> Integral:
    """By a monotone cubic through the points, its difference from the trapezoid as the error."""
    at = np.asarray(snr, dtype=np.float64)
    if at.ndim != 1 or len(at) < 2 or gap.shape != at.shape:
        raise ValueError(f"need losses at two SNRs or more, got SNRs {at.shape} and losses {gap.shape}")
    if not (np.isfinite(at).all() and np.isfinite(gap).all()):
        raise ValueError("SNRs and losses must be finite")
    if (np.diff(at) <= 0.0).any() or at[0] < 0.0:
        raise ValueError("SNRs must rise, and not be negative")
    # halves of the intervals on either side: how the trapezoid weighs each point
    steps = np.diff(at)
    weights = 0.25 * (np.concatenate([steps, [0.0]]) + np.concatenate([[0.0], steps]))
    smooth = 0.5 * float(PchipInterpolator(at, gap).integrate(at[0], at[-1]))
    error = 0.0
    if covariance is not None:
        matrix = np.asarray(covariance, dtype=np.float64)
        if matrix.shape != (len(at), len(at)):
            raise ValueError(f"the covariance must be ({len(at)}, {len(at)}), got {matrix.shape}")
        error = float(np.sqrt(max(weights @ matrix @ weights, 0.0)))
    return Integral(smooth, error, abs(smooth - float(weights @ gap)))


def diffusion_bound(
    snr: ArrayLike,
    mmse_local: ArrayLike,
    mmse_global: ArrayLike,
    *,
    covariance: ArrayLike | None = None,
    prior: float = 0.0,
) -> Bound:
    """KL(P_0 || Q_local) of the reverse SDE with local denoisers, from denoising losses (Girsanov).

    Parameters
    ----------
    snr : (k,) array
        alpha^2 / sigma^2, rising. The integral runs from the first to the last: what lies beyond is not in it.
    mmse_local, mmse_global : (k,) arrays
        Squared errors at each SNR in units of the data, summed over pixels. For a trained network put its own loss
        in place of mmse_local: the bound then holds for it. A loss above the optimum in place of mmse_global makes
        the bound too small, by half the integral of what it is above.
    covariance : (k, k) array, optional
        Of the errors of mmse_local - mmse_global.
    prior : float
        KL(P_T || prior), of the noised data from what sampling starts with.

    Examples
    --------
    >>> snr = np.geomspace(0.01, 10.0, 30)
    >>> bound = diffusion_bound(snr, 1.1 / (1.0 + snr), 1.0 / (1.0 + snr))
    >>> bool(abs(bound.kl - 0.05 * np.log(11.0 / 1.01)) < 1e-3)
    True
    """
    gap = np.asarray(mmse_local, dtype=np.float64) - np.asarray(mmse_global, dtype=np.float64)
    integral = _half_integral(snr, gap, covariance)
    return Bound(integral.value + float(prior), integral.stderr, integral.quadrature_error)


def mmse_gap_bound(mmse_local: ArrayLike, cmi: ArrayLike, *, largest: float) -> FloatArray:
    """mmse_local - mmse_global <= min(mmse_local, 2 M^2 I(X_A:Y_C|Y_A Y_B)) for |X_A| <= M.

    For pixels in [0, 1] shift them by 1/2: M = 1/2 and the constant is 1/2.

    Parameters
    ----------
    mmse_local, cmi : arrays of one shape
        The local loss of A, and the CMI in nats.
    largest : float
        M.

    Examples
    --------
    >>> mmse_gap_bound(0.2, 0.1, largest=0.5).item()
    0.05
    """
    if not largest > 0.0:
        raise ValueError(f"the largest absolute value must be positive, got {largest}")
    return np.minimum(
        np.asarray(mmse_local, dtype=np.float64), 2.0 * largest**2 * np.asarray(cmi, dtype=np.float64)
    )


def i_mmse_cmi(
    snr: ArrayLike | float,
    local: ArrayLike | Callable[[float], float],
    wide: ArrayLike | Callable[[float], float],
    *,
    covariance: ArrayLike | None = None,
) -> Integral:
    """I(X_A + noise : C | B) = 1/2 int_0^snr (local - wide) dg: the CMI from denoising losses (I-MMSE).

    Two choices of losses are exact:

    - two SNRs: local = mmse(X_A | Y_A at SNR g, Y_B at snr) and wide = mmse(X_A | Y_A at g, Y_B and Y_C at snr), a
      difference that is never negative: the better one with numbers that have errors;
    - four terms: local = mmse_AB + mmse_BC and wide = mmse_B + mmse_ABC, each the sum over the pixels of its region
      with all of it at SNR g.

    Parameters
    ----------
    snr : (k,) array, or float
        The g at which the losses are known, rising from 0 to the SNR of the data; or that SNR, if they are
        functions.
    local, wide : (k,) arrays, or functions of g
    covariance : (k, k) array, optional
        Of the errors of local - wide.

    Examples
    --------
    A standard normal that C shows as it is, and B not at all: mmse(X_A | Y_A) = 1 / (1 + g), and 0 with C.

    >>> round(i_mmse_cmi(3.0, lambda g: 1.0 / (1.0 + g), lambda g: 0.0).value, 10)  # log(4) / 2
    0.6931471806
    """
    if callable(local) and callable(wide):
        top = float(snr)  # type: ignore[arg-type]
        if not (np.isfinite(top) and top >= 0.0):
            raise ValueError(f"the SNR must be finite and not negative, got {top}")
        # in log(1 + g), in which losses of all scales are smooth
        value, error = quad(
            lambda u: 0.5 * (local(float(np.expm1(u))) - wide(float(np.expm1(u)))) * np.exp(u),
            0.0,
            np.log1p(top),
            epsabs=1e-12,
            epsrel=1e-10,
            limit=200,
        )
        return Integral(float(value), 0.0, float(error))
    if callable(local) or callable(wide):
        raise TypeError("local and wide are both arrays, or both functions")
    gap = np.asarray(local, dtype=np.float64) - np.asarray(wide, dtype=np.float64)
    at = np.asarray(snr, dtype=np.float64)
    if at.size and at.reshape(-1)[0] != 0.0:
        raise ValueError(f"the integral begins at an SNR of 0, the losses at {at.reshape(-1)[0]:g}")
    return _half_integral(at, gap, covariance)


@dataclass(frozen=True)
class Recovery:
    """What the local Bayes denoiser really loses, and its bounds, in nats.

    Parameters
    ----------
    kl : float
        KL(P || R(E(P))).
    total_variation : float
        1/2 sum |p - q|; NaN for Gaussians, where it has no closed form.
    fidelity : float
        Sum (integral) of sqrt(p q).
    cmi_before, cmi_after : float
        I(X_A:C|B) and I(Y_A:C|B); their difference bounds `kl`.
    """

    kl: float
    total_variation: float
    fidelity: float
    cmi_before: float
    cmi_after: float

    @property
    def bound(self) -> Bound:
        """KL <= I(X_A:C|B) - I(Y_A:C|B)."""
        return Bound(self.cmi_before - self.cmi_after)


def exact_recovery(p_abc: ArrayLike, channel: ArrayLike, denoiser: ArrayLike | None = None) -> Recovery:
    """Return what is lost when noise on A is undone from Y_A and B alone, for a table of probabilities.

    Parameters
    ----------
    p_abc : (a, b, c) array
        P(A, B, C).
    channel : (y, a) array
        P(Y_A = y | X_A = x): columns add up to 1.
    denoiser : (a, y, b) array, optional
        R(x | y, b), to be used in place of the Bayes rule P(X_A | Y_A, B).

    Raises
    ------
    ValueError
        If these are no probabilities, or of shapes that do not go together.

    Examples
    --------
    Three equal bits, A erased: nothing is lost, as B knows. With B constant all that C tells is lost.

    >>> bits = np.zeros((2, 2, 2)); bits[0, 0, 0] = bits[1, 1, 1] = 0.5
    >>> erase = np.full((1, 2), 1.0)
    >>> exact_recovery(bits, erase).kl
    0.0
    >>> round(exact_recovery(bits.sum(axis=1)[:, None, :], erase).kl, 6)
    0.693147
    """
    p, w = _distribution(p_abc, 3, None, "p_abc"), _distribution(channel, 2, 0, "the channel")
    if w.shape[1] != p.shape[0]:
        raise ValueError(f"the channel takes {w.shape[1]} letters of A, p_abc has {p.shape[0]}")
    joint = np.einsum("ya,abc->yabc", w, p)
    seen = joint.sum(axis=3)  # y, a, b
    if denoiser is None:
        total = seen.sum(axis=1, keepdims=True)
        # what never occurs may be recovered as anything
        rule = np.where(total > 0.0, seen / np.where(total > 0.0, total, 1.0), 1.0 / p.shape[0]).transpose(1, 0, 2)
    else:
        rule = _distribution(denoiser, 3, 0, "the denoiser")
        if rule.shape != (p.shape[0], w.shape[0], p.shape[1]):
            raise ValueError(
                f"the denoiser must have shape (a, y, b) = {(p.shape[0], w.shape[0], p.shape[1])}, got {rule.shape}"
            )
    q = np.einsum("ayb,ybc->abc", rule, joint.sum(axis=1))
    return Recovery(
        _kl(p, q),
        float(0.5 * np.abs(p - q).sum()),
        float(np.sqrt(p * q).sum()),
        _table_cmi(p),
        _table_cmi(joint.sum(axis=1)),
    )


def _distribution(values: ArrayLike, axes: int, summed: int | None, name: str) -> FloatArray:
    table = np.asarray(values, dtype=np.float64)
    if table.ndim != axes or table.size == 0:
        raise ValueError(f"{name} must have {axes} axes, got shape {table.shape}")
    if not (np.isfinite(table).all() and (table >= 0.0).all()):
        raise ValueError(f"{name} must hold probabilities, none negative")
    if not np.allclose(table.sum(axis=summed), 1.0, atol=1e-9):
        raise ValueError(f"{name} must add up to 1" + ("" if summed is None else " over its first axis"))
    return table


def _kl(p: FloatArray, q: FloatArray) -> float:
    inside = p > 0.0
    with np.errstate(divide="ignore"):
        return float((p[inside] * (np.log(p[inside]) - np.log(q[inside]))).sum())


def _entropy(p: FloatArray) -> float:
    positive = p[p > 0.0]
    return float(-(positive * np.log(positive)).sum())


def _table_cmi(p: FloatArray) -> float:
    return _entropy(p.sum(axis=2)) + _entropy(p.sum(axis=0)) - _entropy(p.sum(axis=(0, 2))) - _entropy(p)


def exact_recovery_gaussian(covariance: ArrayLike, sizes: tuple[int, int, int], noise: float) -> Recovery:
    """Return the same for a centred Gaussian and Y_A = X_A + noise of that variance, in closed form.

    Parameters
    ----------
    covariance : (d, d) array
        Columns in the order A, B, C; positive definite.
    sizes : (int, int, int)
        Numbers of columns of A, B and C.
    noise : float
        Variance of the noise on every column of A, positive.

    Examples
    --------
    >>> r = exact_recovery_gaussian([[1.0, 0.5, 0.4], [0.5, 1.0, 0.5], [0.4, 0.5, 1.0]], (1, 1, 1), 1.0)
    >>> 0.0 <= r.kl <= r.bound.kl <= r.cmi_before, r.fidelity >= r.bound.fidelity
    (True, True)
    """
    s = np.asarray(covariance, dtype=np.float64)
    a, b, c = sizes
    if s.shape != (a + b + c, a + b + c) or a < 1 or b < 0 or c < 1:
        raise ValueError(f"sizes {tuple(sizes)} do not go with a covariance of shape {s.shape}")
    if not noise > 0.0:
        raise ValueError(f"the variance of the noise must be positive, got {noise}")
    noisy = s.copy()
    noisy[:a, :a] += noise * np.eye(a)
    kept = slice(a + b)
    # the local rule draws X_A from its Gaussian given (Y_A, B)
    gain = np.linalg.solve(noisy[kept, kept], s[kept, :a]).T
    left = s[:a, :a] - gain @ s[kept, :a]
    q = s.copy()
    q[:a, :a] = gain @ noisy[kept, kept] @ gain.T + left
    q[:a, a:] = gain @ noisy[kept, a:]
    q[a:, :a] = q[:a, a:].T

    def log_det(matrix: FloatArray) -> float:
        return float(np.linalg.slogdet(matrix)[1]) if len(matrix) else 0.0

    def cmi(matrix: FloatArray) -> float:
        ab, bc, middle = matrix[: a + b, : a + b], matrix[a:, a:], matrix[a : a + b, a : a + b]
        return 0.5 * (log_det(ab) + log_det(bc) - log_det(middle) - log_det(matrix))

    kl = 0.5 * (float(np.trace(np.linalg.solve(q, s))) - len(s) + log_det(q) - log_det(s))
    fidelity = float(np.exp(0.25 * log_det(s) + 0.25 * log_det(q) - 0.5 * log_det(0.5 * (s + q))))
    return Recovery(kl, float("nan"), fidelity, cmi(s), cmi(noisy))

"""Property tests of the fidelity bound for distributions and denoisers of your own (needs `hypothesis`).

Strategies draw random tables, channels and Gaussians; checkers assert what must hold for each of them, with a
message that names the numbers.

    @given(tables(), channels())
    def test_bound(p_abc, channel_of):
        check_recovery(p_abc, channel_of(len(p_abc)))
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

try:
    from hypothesis import strategies as st
except ImportError:  # pragma: no cover - as where the extra is not installed
    raise ImportError("cmi.testing needs hypothesis: pip install hypothesis") from None

from cmi.fidelity import Recovery, exact_recovery, exact_recovery_gaussian

FloatArray = NDArray[np.float64]

__all__ = ["channels", "check_denoiser", "check_gaussian_recovery", "check_recovery", "gaussians", "tables"]

_SLACK = 1e-9  # of rounding, in nats


def _sparse(rng: np.random.Generator, shape: tuple[int, ...]) -> FloatArray:
    """Weights from nearly equal to nearly one-hot, some of them 0."""
    weights = rng.gamma(10.0 ** rng.uniform(-1.5, 1.0), size=shape)
    return np.asarray(weights * (rng.random(shape) < rng.choice([0.5, 0.9, 1.0])))


@st.composite
def tables(draw: st.DrawFn, most: int = 4) -> FloatArray:
    """Random P(A, B, C), (a, b, c), of 2 to `most` letters each: dense, sparse, some nearly deterministic."""
    shape = tuple(draw(st.integers(2, most)) for _ in range(3))
    weights = _sparse(np.random.default_rng(draw(st.integers(0, 2**32 - 1))), shape)
    if weights.sum() <= 0.0:
        weights[0, 0, 0] = 1.0
    return np.asarray(weights / weights.sum())


@st.composite
def channels(draw: st.DrawFn, most: int = 4) -> Callable[[int], FloatArray]:
    """A random channel for any number of letters: ``channel_of(a)`` -> P(Y|X), (y, a)."""
    letters, seed = draw(st.integers(1, most)), draw(st.integers(0, 2**32 - 1))

    def channel_of(a: int) -> FloatArray:
        weights = _sparse(np.random.default_rng(seed), (letters, a))
        weights[0] += weights.sum(axis=0) <= 0.0
        return np.asarray(weights / weights.sum(axis=0))

    return channel_of


@st.composite
def gaussians(draw: st.DrawFn, most: int = 12) -> tuple[FloatArray, tuple[int, int, int], float]:
    """A random covariance of up to `most` columns, the sizes of A, B (maybe 0) and C, and a variance of noise."""
    a, c = draw(st.integers(1, max(1, most // 3))), draw(st.integers(1, max(1, most // 3)))
    b = draw(st.integers(0, most - a - c))
    d = a + b + c
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    root = rng.standard_normal((d, d)) / np.sqrt(d)
    covariance = root @ root.T + 10.0 ** rng.uniform(-3.0, 0.0) * np.eye(d)
    return covariance, (a, b, c), float(10.0 ** draw(st.floats(-3.0, 3.0)))


def _require(true: bool, what: str, recovery: Recovery) -> None:
    if not true:
        raise AssertionError(f"{what}, got {recovery} with the bound {recovery.bound}")


def _check(recovery: Recovery) -> Recovery:
    before, after, bound = recovery.cmi_before, recovery.cmi_after, recovery.bound
    _require(min(before, after) >= -_SLACK, "a CMI must not be negative", recovery)
    _require(after <= before + _SLACK, "noise on A must not raise the CMI", recovery)
    _require(-_SLACK <= recovery.kl <= bound.kl + _SLACK, "KL must lie between 0 and its bound", recovery)
    _require(recovery.fidelity >= bound.fidelity - _SLACK, "the fidelity must not be below its bound", recovery)
    _require(recovery.fidelity <= 1.0 + _SLACK, "a fidelity must not exceed 1", recovery)
    if np.isfinite(recovery.total_variation):
        slack = np.sqrt(_SLACK)  # the root of a rounding error
        _require(
            recovery.total_variation <= bound.total_variation + slack,
            "the total variation must not exceed its bound",
            recovery,
        )
    return recovery


def check_recovery(p_abc: FloatArray, channel: FloatArray) -> Recovery:
    """Assert 0 <= KL <= I(X_A:C|B) - I(Y_A:C|B) <= I(X_A:C|B) and what follows, for the local Bayes denoiser.

    Raises
    ------
    AssertionError
        With the numbers, if one does not hold.

    Examples
    --------
    >>> p = np.random.default_rng(0).dirichlet(np.ones(8)).reshape(2, 2, 2)
    >>> check_recovery(p, np.array([[0.9, 0.2], [0.1, 0.8]])).kl > 0.0
    True
    """
    return _check(exact_recovery(p_abc, channel))


def check_gaussian_recovery(covariance: FloatArray, sizes: tuple[int, int, int], noise: float) -> Recovery:
    """Assert the same for a Gaussian and Gaussian noise on A.

    Examples
    --------
    >>> check_gaussian_recovery(np.eye(3) + 0.5, (1, 1, 1), 1.0).kl > 0.0
    True
    """
    return _check(exact_recovery_gaussian(covariance, sizes, noise))


def check_denoiser(p_abc: FloatArray, channel: FloatArray, denoiser: FloatArray) -> Recovery:
    """Assert KL <= I(X_A:C|Y_A B) + < KL(P(X_A|Y_A B) || R(X_A|Y_A B)) > for a local denoiser R of your own.

    Parameters
    ----------
    denoiser : (a, y, b) array
        R(x | y, b): columns over x add up to 1.

    Examples
    --------
    >>> p = np.random.default_rng(0).dirichlet(np.ones(8)).reshape(2, 2, 2)
    >>> channel = np.array([[0.9, 0.2], [0.1, 0.8]])
    >>> check_denoiser(p, channel, np.full((2, 2, 2), 0.5)).kl > check_recovery(p, channel).kl
    True
    """
    recovery = exact_recovery(p_abc, channel, denoiser)
    seen = np.einsum("ya,abc->yab", channel, p_abc)
    given = seen / np.where(seen.sum(axis=1, keepdims=True) > 0.0, seen.sum(axis=1, keepdims=True), 1.0)
    inside = seen > 0.0
    with np.errstate(divide="ignore"):
        ratio = np.log(given[inside]) - np.log(denoiser.transpose(1, 0, 2)[inside])
    worse = float((seen[inside] * ratio).sum())
    _require(worse >= -_SLACK, "no denoiser is better than the Bayes rule", recovery)
    _require(
        -_SLACK <= recovery.kl <= recovery.bound.kl + worse + _SLACK,
        f"KL must lie between 0 and the bound and {worse:.6g} by which the denoiser is off the Bayes rule",
        recovery,
    )
    return recovery

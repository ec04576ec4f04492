"""Two states: what noisy looks at one hidden fair sign leave unknown of it.

If every site shows the same sign, k sites tell I(X:Y_k) = ln 2 - D(k) of it, and D, which falls to 0 fast, is all
that the CMI needs:

    I(A:C|B) = D(n_B) + D(n_A + n_B + n_C) - D(n_A + n_B) - D(n_B + n_C).

D is computed by itself, never as ln 2 less something near it, so that the CMI keeps its digits where it is 1e-30.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln, log1p, logsumexp

from cmi.checks import whole_number
from cmi.exact.model import Exact, ExactModel

FloatArray = NDArray[np.float64]

__all__ = ["Cat", "RepetitionCode", "unknown_sign", "unknown_sign_flipped"]


def unknown_sign(snr: float) -> float:
    """Return D = H(X|Y), in nats, of a fair sign X seen as Y = X + z / sqrt(snr), z standard normal.

    D = e^(-x/2) int e^y log(1 + e^(-2y)) N(y; 0, x) dy with x the SNR: the integrand falls as e^-|y| on either
    side, so that equidistant points give all digits. (The information is ln 2 - D = x - E ln cosh(x + sqrt(x) z).)

    Examples
    --------
    >>> round(unknown_sign(0.0), 6), round(unknown_sign(1.0), 6), unknown_sign(200.0) < 1e-42
    (0.693147, 0.356316, True)
    """
    if snr < 0.0:
        raise ValueError(f"the SNR must be at least 0, got {snr}")
    if snr == 0.0:
        return float(np.log(2.0))
    if not np.isfinite(snr):
        return 0.0
    # the density is a Gaussian of width sqrt(snr), or the fall of the integrand, whichever is narrower
    reach = min(45.0, 12.0 * np.sqrt(snr) + snr)
    y = np.linspace(-reach, reach, 4001)
    log_f = y + np.log(np.logaddexp(0.0, -2.0 * y)) - 0.5 * y**2 / snr - 0.5 * np.log(2.0 * np.pi * snr) - 0.5 * snr
    return float(np.exp(logsumexp(log_f)) * (y[1] - y[0]))


def unknown_sign_flipped(k: int, p: float) -> float:
    """Return D = H(X|Y), in nats, of a fair bit X seen k times, each time flipped with probability p.

    D = sum_j binom(k, j) p^j (1-p)^(k-j) ln(1 + (p / (1-p))^(k - 2j)), exact but for rounding.

    Examples
    --------
    >>> round(unknown_sign_flipped(1, 0.1), 6), round(unknown_sign_flipped(0, 0.1), 6)
    (0.325083, 0.693147)
    """
    if not 0.0 <= p <= 0.5:
        raise ValueError(f"the flip probability lies between 0 and 1/2, got {p}")
    if p == 0.0:
        return float(np.log(2.0)) if k == 0 else 0.0
    j = np.arange(k + 1)
    log_choose = gammaln(k + 1) - gammaln(j + 1) - gammaln(k - j + 1)
    log_p, log_q = np.log(p), log1p(-p)
    log_term = log_choose + j * log_p + (k - j) * log_q
    missing = np.logaddexp(0.0, (k - 2 * j) * (log_p - log_q))
    with np.errstate(divide="ignore"):
        return float(np.exp(logsumexp(log_term + np.log(missing))))


class _Unknown(Protocol):
    def __call__(self, sites: int) -> float: ...


def _cmi(unknown: _Unknown, a: int, b: int, c: int) -> float:
    # in pairs, of which each is positive
    return (unknown(b) - unknown(a + b)) - (unknown(b + c) - unknown(a + b + c))


@dataclass(frozen=True, eq=False)
class Cat(ExactModel):
    """All sites +1 or all -1, with Gaussian noise: the cat.

    On a line the CMI falls as exp(-s r) (s the SNR; n_B = 2 r), xi = 1 / s, with a power in front; on the square as
    exp(-s (2r+1)^2 / 2), which is *not* exponential in r: no Markov length describes it. Only at s -> 0, the end of
    the noise, does the decay stop; at finite noise there is no transition.

    Parameters
    ----------
    L : int
        Sites along each axis.
    dims : {1, 2}

    Examples
    --------
    >>> cat = Cat(L=9, dims=2)
    >>> [f"{cat.cmi(0.5, r).value:.1e}" for r in (1, 2)]
    ['2.8e-03', '5.9e-07']
    """

    name: ClassVar[str] = "cat"
    L: int = 17
    dims: int = 2

    def __post_init__(self) -> None:
        whole_number(self.L, "L", least=3)
        if self.dims not in (1, 2):
            raise ValueError(f"a cat has 1 or 2 dimensions, got {self.dims}")

    @property
    def shape(self) -> tuple[int, ...]:
        """(L,) or (L, L)."""
        return self.dims * (self.L,)

    @property
    def critical_level(self) -> float | None:
        """None at any finite noise; the decay stops only where no signal is left, at t = 1."""
        return None

    def sample(self, n: int, seed: int) -> FloatArray:
        """Draw n clean samples, (n, *shape), of +1 or -1 throughout."""
        sign = np.random.default_rng(seed).choice([-1.0, 1.0], size=(whole_number(n, "n", least=1), 1))
        return np.repeat(sign, self.L**self.dims, axis=1).reshape(n, *self.shape)

    def cmi(self, level: float, r: int) -> Exact:
        """I(A:C|B_r) in nats, to rounding."""
        snr = float(self.schedule().snr(level))
        regions = self.partition([r])
        sizes = (len(regions.A), len(regions.B(r)), len(regions.C(r)))
        return Exact(_cmi(lambda sites: unknown_sign(snr * sites) if sites else float(np.log(2.0)), *sizes))

    def markov_length(self, level: float) -> float:
        """Return xi = 1 / s on a line; 0 on the square, where the CMI falls faster than any exponential."""
        snr = float(self.schedule().snr(level))
        if self.dims == 2:
            return 0.0
        return float(np.inf) if snr == 0.0 else 1.0 / snr


@dataclass(frozen=True, eq=False)
class RepetitionCode(ExactModel):
    """L equal bits on a line, each flipped with probability p = t / 2: the classical code.

    With a buffer of width r on both sides (n_B = 2 r), xi = -1 / ln(4 p (1-p)); a factor 1 / sqrt(n_B) lets slopes
    at finite r lie below. It diverges only at p = 1/2, where nothing is left.

    Parameters
    ----------
    L : int
        Bits.

    Examples
    --------
    >>> code = RepetitionCode(L=21)
    >>> round(code.markov_length(0.2), 3), code.critical_level
    (0.979, 1.0)
    """

    name: ClassVar[str] = "repetition"
    noise: ClassVar[str] = "flip"
    L: int = 33

    def __post_init__(self) -> None:
        whole_number(self.L, "L", least=3)

    @property
    def shape(self) -> tuple[int, ...]:
        """(L,)."""
        return (self.L,)

    @property
    def critical_level(self) -> float | None:
        """The end of the noise, t = 1, p = 1/2."""
        return 1.0

    def sample(self, n: int, seed: int) -> FloatArray:
        """Draw n clean samples, (n, L), of 0 or 1 throughout."""
        bit = np.random.default_rng(seed).integers(0, 2, size=(whole_number(n, "n", least=1), 1))
        return np.repeat(bit, self.L, axis=1).astype(np.float64)

    def cmi(self, level: float, r: int) -> Exact:
        """I(A:C|B_r) in nats, to rounding."""
        self.schedule().alpha(level)  # raises outside [0, 1]
        regions = self.partition([r])
        sizes = (len(regions.A), len(regions.B(r)), len(regions.C(r)))
        return Exact(_cmi(lambda sites: unknown_sign_flipped(sites, 0.5 * level), *sizes))

    def markov_length(self, level: float) -> float:
        """Return xi = -1 / ln(4 p (1-p)), exact for an infinite line."""
        p = 0.5 * float(level)
        if p == 0.0:
            return 0.0
        return float(np.inf) if p >= 0.5 else float(-1.0 / np.log(4.0 * p * (1.0 - p)))

"""Gaussian models: a chain and a field whose every entropy is a determinant. Neither has a transition.

Noise of variance v = sigma^2 / alpha^2 = 1 / SNR (in units of the data) leaves them Gaussian, so that

    I(A:C|B) = 1/2 [log det S_AB + log det S_BC - log det S_B - log det S_ABC],   S = Cov(X) + v.

In an infinite system the noised precision has a factor e^{-q} per site with cosh q as below, and the CMI, which is
quadratic in it, decays as e^{-2 q r}: xi = 1 / (2 q).
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from cmi.checks import whole_number
from cmi.exact.model import Exact, ExactModel

FloatArray = NDArray[np.float64]

__all__ = ["GaussianChain", "GaussianField", "GaussianModel"]


class GaussianModel(ExactModel):
    """What Gaussian models share: they have a covariance and no transition."""

    rounding: ClassVar[float] = 1e-15

    @property
    @abstractmethod
    def covariance(self) -> FloatArray:
        """Of one flattened clean sample, (d, d)."""

    @property
    def critical_level(self) -> float | None:
        """None: the Markov length is finite at every noise level."""
        return None

    @cached_property
    def _root(self) -> FloatArray:
        return np.asarray(np.linalg.cholesky(self.covariance), dtype=np.float64)

    def sample(self, n: int, seed: int) -> FloatArray:
        """Draw n clean samples, (n, *shape)."""
        white = np.random.default_rng(seed).standard_normal((whole_number(n, "n", least=1), len(self.covariance)))
        return (white @ self._root.T).reshape(n, *self.shape)

    def cmi(self, level: float, r: int) -> Exact:
        """I(A:C|B_r) in nats, exact: by Cholesky factors of the noised covariance."""
        variance = 1.0 / float(self.schedule().snr(level)) if level < 1.0 else np.inf
        if not np.isfinite(variance):
            return Exact(0.0)
        regions = self.partition([r])
        a, b, c = regions.A, regions.B(r), regions.C(r)
        noisy = self.covariance + variance * np.eye(len(self.covariance))
        # half log det Var(A|B) - half log det Var(A|BC): two small determinants, no difference of large ones
        return Exact(0.5 * (_log_det_given(noisy, a, b) - _log_det_given(noisy, a, np.concatenate([b, c]))))


def _log_det_given(covariance: FloatArray, a: NDArray[np.int64], b: NDArray[np.int64]) -> float:
    own = covariance[np.ix_(a, a)]
    if len(b):
        factor = np.linalg.cholesky(covariance[np.ix_(b, b)])
        weights = np.linalg.solve(factor, covariance[np.ix_(b, a)])
        own = own - weights.T @ weights
    return float(np.linalg.slogdet(own)[1])


@dataclass(frozen=True, eq=False)
class GaussianChain(GaussianModel):
    """AR(1) chain of unit variance, Cov(X_i, X_j) = a^|i - j|, seen through white noise of variance v.

    Its Markov length follows from the noised spectrum: with lambda + 1/lambda = (1 + a^2 + (1 - a^2) / v) / a and
    |lambda| < 1, xi = -1 / (2 ln lambda). It grows with noise up to -1 / (2 ln a) and never diverges.

    Parameters
    ----------
    L : int
        Sites.
    a : float
        Correlation of neighbours, in (0, 1).

    Examples
    --------
    >>> chain = GaussianChain(a=0.9)
    >>> [round(chain.markov_length(float(chain.schedule().time(1.0 / v))), 3) for v in (0.1, 1, 10, 100)]
    [0.37, 1.07, 2.789, 4.351]
    """

    name: ClassVar[str] = "chain"
    L: int = 33
    a: float = 0.9

    def __post_init__(self) -> None:
        whole_number(self.L, "L", least=3)
        if not 0.0 < self.a < 1.0:
            raise ValueError(f"the correlation a of a chain lies between 0 and 1, got {self.a}")

    @property
    def shape(self) -> tuple[int, ...]:
        """(L,)."""
        return (self.L,)

    @cached_property
    def covariance(self) -> FloatArray:
        """a^|i - j|, (L, L)."""
        i = np.arange(self.L)
        return np.asarray(self.a ** np.abs(i[:, None] - i[None, :]))

    def markov_length(self, level: float) -> float:
        """The xi in sites, exact for an infinite chain."""
        snr = float(self.schedule().snr(level))
        if not np.isfinite(snr):
            return 0.0  # without noise the chain is Markov: one site cuts it
        trace = (1.0 + self.a**2 + (1.0 - self.a**2) * snr) / self.a
        return float(0.5 / np.arccosh(0.5 * trace))


@dataclass(frozen=True, eq=False)
class GaussianField(GaussianModel):
    """Window of a field on the square lattice, precision kappa^2 - Laplacian, seen through noise of variance v.

    It is cut out of a torus of four times its side, so that nothing reaches around.

    2 (cosh q - 1) = kappa^2 + 1/v and xi = 1 / (2 q) along an axis: for kappa > 0 it is finite at every noise
    level, and grows with noise up to that of the field itself.

    Parameters
    ----------
    L : int
        Side of the window.
    kappa : float
        Inverse correlation length of the clean field, in inverse pixels.

    Examples
    --------
    >>> field = GaussianField(L=7, kappa=0.5)
    >>> round(field.cmi(0.3, 1).value, 6) > 0, round(field.markov_length(0.3), 3)
    (True, 0.247)
    """

    name: ClassVar[str] = "field"
    L: int = 17
    kappa: float = 0.3

    def __post_init__(self) -> None:
        whole_number(self.L, "L", least=3)
        if not self.kappa > 0.0:
            raise ValueError(f"kappa must be positive, got {self.kappa}: at 0 the field has no finite variance")

    @property
    def shape(self) -> tuple[int, ...]:
        """(L, L)."""
        return (self.L, self.L)

    @cached_property
    def covariance(self) -> FloatArray:
        """Inverse of the precision, (L^2, L^2), from its eigenvalues on the torus."""
        around = 4 * self.L
        wave = 2.0 - 2.0 * np.cos(2.0 * np.pi * np.arange(around) / around)
        row = np.fft.ifft2(1.0 / (self.kappa**2 + wave[:, None] + wave[None, :])).real
        i, j = np.divmod(np.arange(self.L**2), self.L)
        return np.asarray(row[np.abs(i[:, None] - i[None, :]), np.abs(j[:, None] - j[None, :])])

    def markov_length(self, level: float) -> float:
        """The xi in pixels, exact for an infinite lattice, along an axis."""
        snr = float(self.schedule().snr(level))
        if not np.isfinite(snr):
            return 0.0  # without noise the field is Markov: one ring cuts it
        return float(0.5 / np.arccosh(1.0 + 0.5 * (self.kappa**2 + snr)))

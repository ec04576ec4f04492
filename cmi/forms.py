"""The forms in which I(A:C|B_r) falls with the buffer's width r, and how small widths bend the exponential.

Three forms are compared, with l = r + radius + 1/2, half the side of the square that A and B fill:

    exponential    a exp(-r / xi)         the theory's, away from a transition
    gaussian       a exp(-(l / xi)^2)     data that are globally ordered, in two dimensions
    power          a l^(-eta)             no length: xi is infinite, as at a transition

Each is a line in log I, so that all of them are fitted and compared in the same way.

The exponential is what is left at large r. At the widths that an image has, two things bend it, and xi is read off
with both of them unknown but for their size:

    I_r = a l^(-p) exp(-r / xi) [1 + b exp(-r / xi)]

b: the next exponential, which in a chain decays twice as fast. Of order one: b = 0 +- 1/2.
p: correlations of a finite length fall as |x|^(-(d-1)/2) exp(-|x|/2xi) in d dimensions (Ornstein and Zernike).
The CMI sums their squares, |x|^(-(d-1)) exp(-|x|/xi), over the flat faces of the buffer, of which a stretch of
sqrt(r xi) counts in each of their d-1 directions. So p = (d-1)/2 at large r, which is reached slowly (in the
Gaussian field with xi = 0.9, d = 2, p is 0.13 between r = 1 and 2, 0.35 between 5 and 6), and p = 0 in a chain:
anything in between is as likely.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.float64]

__all__ = ["FORMS", "Corrections", "corrections", "decay", "fallen"]

FORMS = ("exponential", "gaussian", "power")
_BEND = 0.5  # standard deviation of b


def decay(form: str, r: ArrayLike, radius: int = 0) -> FloatArray:
    """Return g(r) of a form a exp(-c g(r)): r, l^2 or ln l, with l = r + radius + 1/2.

    Examples
    --------
    >>> decay("exponential", [1, 2]).tolist(), decay("gaussian", [1, 2]).tolist()
    ([1.0, 2.0], [2.25, 6.25])
    """
    if form not in FORMS:
        raise ValueError(f"there is no form {form!r}: choose from {', '.join(FORMS)}")
    width = np.asarray(r, dtype=np.float64)
    half = width + radius + 0.5
    return width if form == "exponential" else half**2 if form == "gaussian" else np.log(half)


def fallen(c: float, g: FloatArray, end: float) -> tuple[FloatArray, FloatArray]:
    """Return log[(e^(-c g) - e^(-c G)) / c] and its derivative in c; -c g and -g where the reach G is infinite."""
    if not np.isfinite(end):
        return -c * g, -g
    gap = end - g
    x = c * gap
    small = np.abs(x) < 1e-4
    safe = np.where(small, 1.0, x)
    # log((1 - e^-x) / x) and its derivative in x
    log_part = np.where(small, -x / 2.0, np.log(-np.expm1(-safe) / safe))
    with np.errstate(over="ignore"):
        slope = np.where(small, -0.5 + x / 12.0, 1.0 / np.expm1(safe) - 1.0 / safe)
    return -c * g + np.log(gap) + log_part, -g + gap * slope


@dataclass(frozen=True, eq=False)
class Corrections:
    """What bends log I away from its form: basis @ (b, p), with what is known of b and p beforehand.

    Parameters
    ----------
    basis : (w, 2) array
        exp(-r/xi) and -ln l at each width.
    mean, sd : (2,) arrays
        Of b and p; both 0 for the forms that are taken as they are.
    """

    basis: FloatArray
    mean: FloatArray
    sd: FloatArray

    @property
    def offset(self) -> FloatArray:
        """What is expected of log I, (w,)."""
        return np.asarray(self.basis @ self.mean)

    @property
    def covariance(self) -> FloatArray:
        """How uncertain that is, (w, w)."""
        part = self.basis * self.sd
        return np.asarray(part @ part.T)

    def likely(self, residual: FloatArray, covariance: FloatArray) -> FloatArray:
        """(b, p) given what of log I departs from the form and `offset`, and the covariance of that."""
        return np.asarray(self.mean + (self.basis * self.sd**2).T @ np.linalg.solve(covariance, residual))


def corrections(form: str, c: float, r: ArrayLike, radius: int = 0, dims: int = 1) -> Corrections:
    """Return how widths r bend a form of rate c, in as many dimensions; see the head of this module.

    Examples
    --------
    >>> corrections("exponential", 0.5, [1, 2], dims=2).mean.tolist()
    [0.0, 0.25]
    """
    width = np.asarray(r, dtype=np.float64)
    basis = np.stack([np.exp(-max(c, 0.0) * width), -np.log(width + radius + 0.5)], axis=1)
    if form != "exponential":
        return Corrections(basis, np.zeros(2), np.zeros(2))
    most = (dims - 1) / 2.0
    return Corrections(basis, np.array([0.0, most / 2.0]), np.array([_BEND, most / np.sqrt(12.0)]))

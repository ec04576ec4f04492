"""The forms in which I(A:C|B_r) falls with the buffer's width r, and how small widths bend the exponential.

Three forms are compared, with l = r + radius + 1/2, half the side of the square that A and B fill:

    exponential    a exp(-r / xi)         the theory's, away from a transition
    gaussian       a exp(-(l / xi)^2)     data that are globally ordered, in two dimensions
    power          a l^(-eta)             no length: xi is infinite, as at a transition

Each is a line in log I, so that all of them are fitted and compared in the same way.

The exponential is what is left at large r. At the widths that an image has, two things bend it, and xi is read off
with both of them unknown but for their size:

    I_r = a (r + 1/2)^(-p) exp(-r / xi) [1 + b exp(-r / xi)]

b: the next exponential, which in a chain decays twice as fast. Of order one: b = 0 +- 1/2.
p: correlations of a finite length fall as |x|^(-(d-1)/2) exp(-|x|/2xi) in d dimensions (Ornstein and Zernike).
The CMI sums their squares, |x|^(-(d-1)) exp(-|x|/xi), over the flat faces of the buffer, of which a stretch of
sqrt(r xi) counts in each of their d-1 directions. So p = (d-1)/2 at large r, which is reached slowly (in the
Gaussian field with xi = 0.9, d = 2, p is 0.13 between r = 1 and 2, 0.35 between 5 and 6), and p = 0 in a chain:
anything in between is as likely. It is the distance between the faces of A and C that counts, whatever A's size.
Data of global order in one dimension (one bit seen again and again) have p = 1/2: the CMI is a mean over strings of
what is left to be known, which is governed by the rare ones that leave nothing decided, as a random walk that comes
back to 0.  Where order is lost over a length that exceeds the sample, p lies between, as likely anywhere: so it is
taken where A is almost as much correlated with the farthest sites as with the nearest ones (`order_across`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.float64]
_Samples = NDArray[np.floating]

__all__ = ["FORMS", "Corrections", "corrections", "decay", "fallen", "order_across", "power_in_front"]

FORMS = ("exponential", "gaussian", "power")
_BEND = 0.5  # standard deviation of b
_LEAST, _MOST = np.array([-0.45, 0.0]), np.array([3.0, 2.0])  # of b and p, so that no logarithm is of 0
_SLOWEST = 0.2  # c R
_ORDERED = 0.75  # of the correlation with the nearest sites, with the farthest: data of global order


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
    """What bends log I away from a form of rate c, to first order about some (b, p) and that c.

    Parameters
    ----------
    c : float
    value, slope : (w,) arrays
        Of log I at (b, p), and its derivative in c.
    basis : (w, 2) array
        Derivatives in b and p.
    at, mean, sd : (2,) arrays
        That (b, p), and what is known of them beforehand; mean and sd are 0 for forms that are taken as they are.
    """

    c: float
    value: FloatArray
    slope: FloatArray
    basis: FloatArray
    at: FloatArray
    mean: FloatArray
    sd: FloatArray

    @classmethod
    def none(cls, widths: int) -> Corrections:
        """Return those of a form that is taken as it is, at so many widths."""
        zero, both = np.zeros(widths), np.zeros(2)
        return cls(0.0, zero, zero, np.zeros((widths, 2)), both, both, both)

    @property
    def offset(self) -> FloatArray:
        """What is expected of log I, (w,)."""
        return np.asarray(self.value + self.basis @ (self.mean - self.at))

    @property
    def covariance(self) -> FloatArray:
        """How uncertain that is, (w, w)."""
        part = self.basis * self.sd
        return np.asarray(part @ part.T)

    def likely(self, residual: FloatArray, covariance: FloatArray) -> FloatArray:
        """(b, p) given what of log I departs from the form and `offset`, and the covariance of that."""
        return np.asarray(self.mean + (self.basis * self.sd**2).T @ np.linalg.solve(covariance, residual))


def power_in_front(dims: int, order: float = 0.0) -> tuple[float, float]:
    """Return mean and standard deviation of the power p in front: uniform from 0 to (d-1)/2 in d dimensions.

    On a line p is 0, but for data of global order, which have 1/2 or anything between.

    Parameters
    ----------
    dims : int
    order : float
        Of the clean data, as `order_across`; from 3/4 on it is global.

    Examples
    --------
    >>> power_in_front(1), [round(each, 3) for each in power_in_front(2)]
    ((0.0, 0.0), [0.25, 0.144])
    >>> power_in_front(1, order=0.9) == power_in_front(2)
    True
    """
    most = 0.5 if dims == 1 and order >= _ORDERED else (dims - 1) / 2.0
    return most / 2.0, float(most / np.sqrt(12.0))


def order_across(a: _Samples, nearest: _Samples, farthest: _Samples) -> float:
    """Return how order lasts: the largest |correlation| of A with the farthest sites over that with the nearest.

    Rounded to three digits; 0 if A is correlated with neither.

    Parameters
    ----------
    a, nearest, farthest : (n, columns) arrays
        Clean samples.

    Examples
    --------
    >>> spins = np.random.default_rng(0).choice([-1.0, 1.0], (500, 1))
    >>> order_across(spins, spins, spins), order_across(spins, spins, np.zeros((500, 1)))
    (1.0, 0.0)
    """
    near, far = (_largest_correlation(a, other) for other in (nearest, farthest))
    return round(far / near, 3) if near > 0.0 else 0.0


def _largest_correlation(a: _Samples, b: _Samples) -> float:
    if a.shape[1] == 0 or b.shape[1] == 0:
        return 0.0
    parts = []
    for x in (a, b):
        centred = x - x.mean(axis=0, dtype=np.float64)
        length = np.sqrt((centred**2).sum(axis=0))
        parts.append(centred / np.where(length > 0.0, length, 1.0))
    return float(np.abs(parts[0].T @ parts[1]).max())


def corrections(
    form: str,
    c: float,
    r: ArrayLike,
    reach: float = np.inf,
    power: tuple[float, float] = (0.0, 0.0),
    at: ArrayLike | None = None,
) -> Corrections:
    """Return how widths r bend a form of rate c, with mean and sd of the power p; see the head of this module.

    With l = r + 1/2, l' = R + 1/2, e = exp(-c r) and e' = exp(-c R) that of the reach,

        I_r - I_R = a (e - e') l^(-p) {1 + b (e + e') + [1 - (l/l')^p] (1 + b e') e' / (e - e')},

    of which `fallen` has the logarithm of (e - e') / c, and this the rest.

    Examples
    --------
    >>> corrections("exponential", 0.5, [1, 2], power=(0.25, 0.1)).mean.tolist()
    [0.0, 0.25]
    """
    width = np.asarray(r, dtype=np.float64)
    if form != "exponential":
        return Corrections.none(len(width))
    mean, sd = np.array([0.0, power[0]]), np.array([_BEND, power[1]])
    b, p = mean if at is None else np.clip(at, _LEAST, _MOST)
    value, by_b, by_p = _bent(c, b, p, width, reach)
    step = 1e-4 * max(abs(c), 1e-3)
    slope = (_bent(c + step, b, p, width, reach)[0] - _bent(c - step, b, p, width, reach)[0]) / (2.0 * step)
    return Corrections(c, value, slope, np.stack([by_b, by_p], axis=1), np.array([b, p]), mean, sd)


def _bent(c: float, b: float, p: float, r: FloatArray, reach: float) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Log of what multiplies the exponential, and its derivatives in b and p."""
    log_l = np.log(r + 0.5)
    e = np.exp(-max(c, 0.0) * r)
    if not np.isfinite(reach):
        brace = 1.0 + b * e
        return np.log(brace) - p * log_l, e / brace, -log_l
    end = np.exp(-max(c, 0.0) * reach)
    # a decay over the sample that no curve tells from none: below it p would rule, and no first order hold
    with np.errstate(over="ignore"):
        rest = 1.0 / np.expm1(np.maximum(c, _SLOWEST / reach) * (reach - r))
    apart = log_l - np.log(reach + 0.5)
    lost = -np.expm1(p * apart)
    brace = 1.0 + b * (e + end) + lost * (1.0 + b * end) * rest
    by_b = (e + end + lost * end * rest) / brace
    by_p = -log_l - apart * np.exp(p * apart) * (1.0 + b * end) * rest / brace
    return np.log(brace) - p * log_l, by_b, by_p

"""One form of decay fitted to one curve: least squares over its widths, their scatter, the error of its rate."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm
from scipy.stats import t as student_t

from cmi.forms import Corrections, corrections, decay, fallen

FloatArray = NDArray[np.float64]

__all__ = ["MIN_WIDTHS", "TWO_SIDED", "Curve", "Decay", "lengths_above"]

MIN_WIDTHS = 4  # two more than a form has parameters: fewer cannot show that the curve is no exponential
_OWN = 1e-3  # of log I: exact curves of solvable models are so far from any form with few parameters
_DRAWS = 400  # of the bootstrap: its error is 4 % of the standard error
TWO_SIDED = float(norm.ppf(0.975))
_SETTLED = 5  # passes in which the rate and what it says of the bend agree


@dataclass(frozen=True, eq=False)
class _Range:
    """One form fitted to the widths from `start` on: log I = level + f(c) + corrections, noise and a misfit."""

    start: int
    level: float
    c: float
    misfit: float
    scatter: float  # misfit, and what no curve shows
    bent: Corrections
    both: FloatArray  # the likeliest (b, p) of these
    offset: FloatArray  # what they are expected to add at c
    jacobian: FloatArray  # of log I in (level, c)
    gain: FloatArray  # rows that turn deviations of log I into those of (level, c)
    chi2: float


@dataclass(frozen=True, eq=False)
class Decay:
    """A form fitted to a curve, averaged over the ranges of widths it can be fitted to.

    Parameters
    ----------
    ranges : tuple of ranges, from each first width on
    weights : (ranges,) array
    amplitude : float
        a of the form, in the unit of the curve.
    bend, prefactor : float
        The likeliest b and p of `cmi.forms`.
    held_out : (w,) array
        Log-likelihood of each width given the others, of the form as it is.
    """

    form: str
    ranges: tuple[_Range, ...]
    weights: FloatArray
    amplitude: float
    bend: float
    prefactor: float
    held_out: FloatArray

    @cached_property
    def coefficient(self) -> float:
        """1/xi, 1/xi^2 or eta."""
        return float(self.weights @ np.array([each.c for each in self.ranges]))

    @cached_property
    def start(self) -> int:
        """Index of the first width of the fits that hold half the weight."""
        return self.ranges[int(np.searchsorted(np.cumsum(self.weights), 0.5))].start

    @cached_property
    def misfit(self) -> float:
        """Relative scatter of the curve around the form, beyond its errors."""
        return float(self.weights @ np.array([each.misfit for each in self.ranges]))


@dataclass(frozen=True, eq=False)
class Curve:
    """The widths, the estimates, their errors, what they have to exceed, the geometry, and the power in front."""

    r: FloatArray
    y: FloatArray
    sd: FloatArray
    bar: FloatArray
    errors: FloatArray
    radius: int
    reach: float
    power: tuple[float, float]

    def as_it_is(self, form: str, n: int) -> Decay:
        """Fit two parameters to the first n widths, as forms are compared."""
        g, end, z, noise = self._seen(form, n)
        whole = _fit(0, g, end, z, noise, Corrections.none(n), None)
        amplitude = _amplitude(whole.level, whole.c, end)
        held_out = _held_out(whole, z, noise, g, end)
        return Decay(form, (whole,), np.ones(1), amplitude, 0.0, 0.0, held_out)

    def averaged(self, plain: Decay, n: int) -> Decay:
        """Fit the form with its corrections to the first n widths, from every width on that leaves four."""
        form = plain.form
        g, end, z, noise = self._seen(form, n)
        ranges: list[_Range] = []
        c, both = plain.ranges[0].c, None
        for start in range(n - MIN_WIDTHS + 1):
            part = slice(start, n)
            for _ in range(_SETTLED):  # the bend goes along with the rate
                found = _fit(start, g[part], end, z[part], noise[part, part], self._bent(form, c, part, both), c)
                settled = abs(found.c - c) <= 1e-6 * abs(c)
                c, both = found.c, found.both
                if settled:
                    break
            ranges.append(found)
            c, both = ranges[0].c, ranges[0].both
        weights = _weights(np.array([[each.chi2 for each in ranges]]))[0]
        c = float(weights @ np.array([each.c for each in ranges]))
        both = weights @ np.array([each.both for each in ranges])
        # each width with its noise and misfit, as often as the ranges that hold it count
        held = np.cumsum(np.bincount([each.start for each in ranges], weights, minlength=n))
        spread = np.diagonal(noise) + float(weights @ np.array([each.misfit for each in ranges])) ** 2
        bend = self._bent(form, c, slice(0, n), both).value
        level = float(np.average(z - fallen(c, g, end)[0] - bend, weights=held / spread))
        amplitude = _amplitude(level, c, end)
        return Decay(form, tuple(ranges), weights, amplitude, float(both[0]), float(both[1]), plain.held_out)

    def error(self, found: Decay, n: int) -> float:
        """Standard error of the coefficient: of drawn curves, over the widths that these have above the bar."""
        rng = np.random.default_rng(0)
        eigenvalues, vectors = np.linalg.eigh(np.nan_to_num(self.errors, posinf=0.0))
        root = vectors * np.sqrt(np.maximum(eigenvalues, 0.0))
        drawn = self._centre(found, n) + rng.standard_normal((_DRAWS, len(self.y))) @ root.T
        lengths = lengths_above(drawn, self.sd, self.bar)
        values = []
        for length in np.unique(lengths[lengths >= MIN_WIDTHS]):
            z, noise = self._logs(drawn[lengths == length, :length]), self._noise(length)
            some = [each for each in found.ranges if length - each.start >= MIN_WIDTHS]
            c, chi2 = np.empty((2, len(z), len(some)))
            for k, each in enumerate(some):
                part = slice(each.start, length)
                g, end = self._along(found.form, part)
                bent = self._bent(found.form, each.c, part, each.both)
                errors = _with_bend(noise[part, part], bent)
                shape, slope = fallen(each.c, g, end)
                jacobian = np.stack([np.ones(length - each.start), slope + bent.slope], axis=1)
                residual = z[:, part] - each.level - shape - bent.offset
                change = residual @ _gain(jacobian, errors, each.scatter).T
                c[:, k] = each.c + change[:, 1]
                chi2[:, k] = _chi2(residual - change @ jacobian.T, errors) + 2.0 * each.start
            values.append((_weights(chi2) * c).sum(axis=1))
        varied = np.concatenate([*values, np.empty(0)])
        if len(varied) < 3:
            return float("inf")
        own = []
        for each in found.ranges:
            few = float(student_t.ppf(0.975, n - each.start - 2)) / TWO_SIDED
            gain = each.gain[1]
            own.append(
                ((few * each.misfit) ** 2 + _OWN**2) * (gain @ gain)
                + (((gain @ each.bent.basis) * each.bent.sd) ** 2).sum()
            )
        return float(np.sqrt(varied.var(ddof=1) + found.weights @ np.array(own)))

    def _centre(self, found: Decay, n: int) -> FloatArray:
        """The curve without its noise: the fit to all widths, and what misfit and bend explain of the residuals."""
        whole, noise = found.ranges[0], self._noise(n)
        g, end = self._along(found.form, slice(0, n))
        fit = whole.level + fallen(whole.c, g, end)[0] + whole.offset
        both = _with_bend(noise, whole.bent) + whole.scatter**2 * np.eye(n)
        curve = self.y.copy()
        curve[:n] = np.exp(fit + (both - noise) @ np.linalg.solve(both, self._logs(self.y[:n]) - fit))
        return curve

    def _bent(self, form: str, c: float, part: slice, both: FloatArray | None) -> Corrections:
        """What bends these widths at a rate, about the (b, p) found so far."""
        return corrections(form, c, self.r[part], self.reach, self.power, both)

    def _along(self, form: str, part: slice) -> tuple[FloatArray, float]:
        """G of these widths, and of the reach."""
        return decay(form, self.r[part], self.radius), float(decay(form, self.reach, self.radius))

    def _seen(self, form: str, n: int) -> tuple[FloatArray, float, FloatArray, FloatArray]:
        """G of the first n widths and of the reach, log I, and the covariance of its errors."""
        return *self._along(form, slice(0, n)), self._logs(self.y[:n]), self._noise(n)

    def _noise(self, n: int) -> FloatArray:
        """Covariance of the errors of log I."""
        mean = np.abs(self.y[:n])
        relative = self.errors[:n, :n] / mean / mean[:, None]
        floor = np.maximum((self.sd[:n] / mean) ** 2 - np.diagonal(relative), 0.0)
        # widths whose errors are one and the same make it singular, rounding worse than that
        noise = relative + np.diag(floor)
        eigenvalues, vectors = np.linalg.eigh(noise)
        least = max(1e-9 * np.diagonal(noise).min(), 1e-12 * eigenvalues[-1])
        if eigenvalues[0] < least:
            noise = (vectors * np.maximum(eigenvalues, least)) @ vectors.T
        return np.asarray(noise)

    def _logs(self, curves: FloatArray) -> FloatArray:
        """E log(y + error) = log y - (sd/y)^2/2 to second order; this adds it again."""
        return np.asarray(np.log(curves) + 0.5 * (self.sd[: curves.shape[-1]] / curves) ** 2)


def _amplitude(level: float, c: float, end: float) -> float:
    """A of the form: `fallen` leaves 1/c to the level, so that c = 0 is a value like any other."""
    with np.errstate(over="ignore"):
        return float(np.exp(level)) / c if np.isfinite(end) and c > 0.0 else float(np.exp(level))


def _fit(
    start: int, g: FloatArray, end: float, z: FloatArray, noise: FloatArray, bent: Corrections, c: float | None
) -> _Range:
    """Generalised least squares by Gauss and Newton, with the scatter that brings chi^2 down to its dof."""
    z = z - bent.offset
    errors = _with_bend(noise, bent)
    linear = bent.c  # from where the bend is taken along
    if c is None:
        c = float((g - g.mean()) @ (z - z.mean()) / ((g - g.mean()) ** 2).sum()) * -0.8
    eigenvalues, vectors = np.linalg.eigh(errors)  # what the scatter adds to is diagonal here
    eigenvalues = np.maximum(eigenvalues, 1e-30)
    level, misfit, scatter, span = 0.0, 0.0, _OWN, g[-1] - g[0]
    # a curve that is flat up to the reach, or rises, has no length, and c no lower end: the fit must not run away
    lowest = max(-3.0 / (end - g[0]) if np.isfinite(end) else -np.inf, -20.0 / span)
    c = max(c, lowest)
    for _ in range(50):
        shape, slope = fallen(c, g, end)
        shape, slope = shape + bent.slope * (c - linear), slope + bent.slope
        values, ones, slopes = (z - shape) @ vectors, vectors.sum(axis=0), slope @ vectors
        misfit = _misfit(values, ones, slopes, eigenvalues, misfit)
        scatter = float(np.hypot(misfit, _OWN))
        level, change = _solve(values, ones, slopes, 1.0 / (eigenvalues + scatter**2))
        change = min(max(change, -2.0 / span), 2.0 / span)  # in a step the curve changes by e^2 at most
        before, c = c, max(c + change, lowest)
        if abs(c - before) * span < 1e-9:
            break
    shape, slope = fallen(c, g, end)
    along = bent.slope * (c - linear)
    shape, slope = shape + along, slope + bent.slope
    # at the lower end of c the last step was cut off, and the level is not yet that of this c
    weights = 1.0 / (eigenvalues + scatter**2)
    ones = vectors.sum(axis=0)
    level = float((weights * ones) @ ((z - shape) @ vectors) / (weights @ ones**2))
    jacobian = np.stack([np.ones_like(g), slope], axis=1)
    chi2 = float(_chi2((z - shape - level)[None], errors)[0]) + 2.0 * start
    both = bent.likely(z - shape - level, errors + scatter**2 * np.eye(len(z)))
    gain = _gain(jacobian, errors, scatter)
    return _Range(start, level, c, misfit, scatter, bent, both, bent.offset + along, jacobian, gain, chi2)


def _with_bend(noise: FloatArray, bent: Corrections) -> FloatArray:
    """Covariance of all that is not the form; of exact curves hardly more than the bend, so it needs a floor."""
    errors = noise + bent.covariance
    return np.asarray(errors + 1e-12 * np.trace(bent.covariance) * np.eye(len(errors)))


def _solve(z: FloatArray, ones: FloatArray, slopes: FloatArray, weights: FloatArray) -> tuple[float, float]:
    """(level, change) of the weighted least squares of z to level ones + change slopes."""
    a, b, d = weights @ (ones * ones), weights @ (ones * slopes), weights @ (slopes * slopes)
    u, v = weights @ (ones * z), weights @ (slopes * z)
    mean, slope = u / a, d - b * b / a
    if slope <= 1e-13 * d:
        return float(mean), 0.0  # over these widths the form is flat whatever its coefficient
    change = (v - b * mean) / slope
    return float(mean - change * b / a), float(change)


def _misfit(
    values: FloatArray, ones: FloatArray, slopes: FloatArray, eigenvalues: FloatArray, guess: float = 0.0
) -> float:
    """Scatter tau beyond the noise at which chi^2 of the best line is its degrees of freedom; 0 if it is less.

    Newton's method on 1/chi^2, which grows almost like a line in tau^2: a few steps from any guess.
    """
    dof, tau2 = len(values) - 2, guess**2
    if dof == 0:
        return 0.0
    for _ in range(100):
        weights = 1.0 / (eigenvalues + tau2)
        level, change = _solve(values, ones, slopes, weights)
        left = weights * (values - level * ones - change * slopes) ** 2
        chi2, fall = float(left.sum()), float(weights @ left)
        if chi2 == 0.0 or (tau2 == 0.0 and chi2 <= dof):
            return 0.0
        before, tau2 = tau2, max(tau2 + (chi2 - dof) * chi2 / (dof * fall), 0.0)
        if abs(tau2 - before) <= 1e-7 * tau2:
            break
    return float(np.sqrt(tau2))


def _weights(chi2: FloatArray) -> FloatArray:
    """Akaike weights of the ranges, (curves, ranges): chi^2 + twice the widths that are cut off."""
    weights = np.exp(-0.5 * (chi2 - chi2.min(axis=1, keepdims=True)))
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))


def _chi2(residuals: FloatArray, noise: FloatArray) -> FloatArray:
    """Chi^2 of each row."""
    return np.asarray((np.linalg.solve(np.linalg.cholesky(noise), residuals.T) ** 2).sum(axis=0))


def _held_out(fit: _Range, z: FloatArray, noise: FloatArray, g: FloatArray, end: float) -> FloatArray:
    """Log-likelihood of every width given the others: their prediction errs by (P z)_j / P_jj."""
    precision = np.linalg.inv(noise + fit.scatter**2 * np.eye(len(z)))
    projected = precision - precision @ fit.jacobian @ fit.gain
    variance = 1.0 / np.maximum(np.diagonal(projected), 1e-12 * np.diagonal(precision))
    missed = (projected @ (z - fallen(fit.c, g, end)[0])) * variance
    return np.asarray(-0.5 * (missed**2 / variance + np.log(2.0 * np.pi * variance)))


def _gain(jacobian: FloatArray, noise: FloatArray, scatter: float) -> FloatArray:
    """Rows that turn values into (level, change of c): generalised least squares."""
    root = np.linalg.cholesky(noise + scatter**2 * np.eye(len(noise)))
    whitening = np.linalg.solve(root, np.eye(len(noise)))
    return np.asarray(np.linalg.pinv(whitening @ jacobian) @ whitening)


def lengths_above(curves: FloatArray, sd: FloatArray, bar: FloatArray) -> NDArray[np.int64]:
    """How many widths from the first on each curve stands above the bar."""
    if curves.shape[1] == 0:
        return np.zeros(len(curves), dtype=np.int64)
    with np.errstate(invalid="ignore"):
        above = np.isfinite(curves) & np.isfinite(sd) & (curves > 0.0) & (curves > bar)
    return np.asarray(np.where(above.all(axis=1), above.shape[1], np.argmin(above, axis=1)))

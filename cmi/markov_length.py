"""The Markov length xi: how fast, and in which form, I(A:C|B_r) falls with the buffer's width r.

Three forms are compared, with l = r + radius + 1/2, half the side of the square that A and B fill:

    exponential    a exp(-r / xi)         the theory's, away from a transition
    gaussian       a exp(-(l / xi)^2)     data that are globally ordered, in two dimensions
    power          a l^(-eta)             no length: xi is infinite, as at a transition

Each is a line in log I, so that all of them are fitted and compared in the same way.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq
from scipy.stats import norm
from scipy.stats import t as student_t

FloatArray = NDArray[np.float64]

__all__ = ["FORMS", "MIN_WIDTHS", "MarkovLength", "decay", "fit_markov_length"]

MIN_WIDTHS = 4  # two more than parameters: fewer cannot show that the curve is no exponential
FORMS = ("exponential", "gaussian", "power")
_RESOLVED = 2.0  # standard errors by which the decay rate must exceed 0
_NOISE_FLOOR = 3.0  # a width counts where its CMI is this many standard errors above 0
_FITS = 0.25  # relative scatter around the best form beyond which none fits
_BETTER = 2.0  # nats of held-out likelihood that tell two forms apart
_LEAST_MISFIT = 0.01  # of the errors: so far solvable models are from their form at small r, seen or not
_DRAWS = 400  # of the bootstrap: its error is 4 % of the standard error
_TWO_SIDED = float(norm.ppf(0.975))


@dataclass(frozen=True)
class MarkovLength:
    """The Markov length at one noise level, or why there is none.

    Parameters
    ----------
    value, stderr : float
        xi in units of r (pixels), and its error; NaN where unresolved. Of the form "gaussian" it is the xi of
        exp(-(l/xi)^2); of "power" it is infinite, and the error NaN.
    interval : (float, float)
        Of xi, 95 %. Known too where xi is not: then it is a bound, from 0 where the curve is too short for a fit;
        (NaN, NaN) where there is no CMI above its error.
    form : {"exponential", "gaussian", "power", ""}
        "" where unresolved.
    success : bool
        False: the data do not resolve a length; `message` says why.
    message : str
    widths_used : tuple of int
    floor : tuple of float
        What the CMI had to exceed at each width of the curve to be used, in nats.
    rate, rate_stderr : float
        Slope -d ln I / dr of the exponential, whatever the form, and its error. Known too where it is too close
        to 0 for xi to be; NaN where too few widths remain.
    amplitude, coefficient : float
        a of the form, in nats, and its 1/xi, 1/xi^2 or eta.
    misfit : float
        Relative scatter of the curve around the form beyond its errors; these contain it.
    evidence : dict of str to float
        Held-out log-likelihood of each form less that of the best, in nats.
    """

    value: float
    stderr: float
    interval: tuple[float, float]
    form: str
    success: bool
    message: str
    widths_used: tuple[int, ...] = ()
    floor: tuple[float, ...] = ()
    rate: float = float("nan")
    rate_stderr: float = float("nan")
    amplitude: float = float("nan")
    coefficient: float = float("nan")
    misfit: float = float("nan")
    evidence: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def unresolved(
        cls,
        message: str,
        widths_used: tuple[int, ...] = (),
        rate: float = float("nan"),
        rate_stderr: float = float("nan"),
        interval: tuple[float, float] = (float("nan"), float("nan")),
        floor: tuple[float, ...] = (),
        evidence: Mapping[str, float] | None = None,
    ) -> MarkovLength:
        """Make a result without a length, for the reason given."""
        nan = float("nan")
        return cls(
            nan, nan, interval, "", False, message, widths_used, floor, rate, rate_stderr, evidence=evidence or {}
        )

    @property
    def upper(self) -> float:
        """Upper end of the interval; infinite where the curve may not decay at all, NaN where there is none."""
        return self.interval[1]

    def __str__(self) -> str:
        if not self.success:
            return f"unresolved ({self.message})"
        if not np.isfinite(self.value):
            return f"infinite ({self.form} with exponent {self.coefficient:.2f})"
        return f"{self.value:.2f} +- {self.stderr:.2f}" + (f" ({self.form})" if self.form != "exponential" else "")


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


def fit_markov_length(
    widths: ArrayLike,
    cmi: ArrayLike,
    covariance: ArrayLike,
    *,
    reach: int | None = None,
    radius: int = 0,
    floor: ArrayLike = 0.0,
    floor_stderr: ArrayLike = 0.0,
) -> MarkovLength:
    """Fit the three forms to the curve over the widths above the noise floor, and choose one.

    Used are the widths from the smallest one (0, no buffer at all, is left out) up to the first whose CMI is not
    3 standard errors above 0 and above what the method reads without any CMI (`floor`).

    C ends at the reach R, and by the chain rule I(A:C|B_r) = I_r - I_R, where I_r is that of an endless C. So each
    form stands for I_r, and what is fitted is

        a [e^(-c g(r)) - e^(-c g(R))],    g(r) = r, l^2 or ln l,

    which goes to 0 at the reach by itself. The fit is one of generalised least squares to log I: with the full
    covariance of the widths, which share samples, and a scatter of their own around the form, the misfit, such that
    chi^2 equals its degrees of freedom (Paule and Mandel 1982), 0 if it is below them already. Small widths bend
    the curve, so that c is an average over fits from the first, second, ... width on, with Akaike weights: chi^2
    plus twice the number of widths that are cut off (Jay and Neil 2021).

    The forms are compared by the likelihood of each width when it is held out (Dubrule 1983). The exponential
    stands unless another form is better by more than 2 nats and 2 standard errors, with at most half the misfit.
    If even the best is off by more than 25 %, as in images with an empty frame, which the farthest widths reach,
    only the widths up to half the reach are used; if that does not help, none fits.

    The interval is that of a bootstrap: 400 curves are drawn around the fit, and what the misfit explains of the
    residuals, with the covariance, which is that of the means of one local value per sample; widths are selected
    and weighted anew for each. To its variance is added that of the misfit, at least 1 %, widened by the ratio of
    Student's t to the normal quantile, as few widths tell it; and both are taken n/(n-2) times for n widths,
    as which one is the last depends on its noise. How often it covers the length that the exact curve
    shows, and the length of r to infinity: `benchmarks/markov_lengths.py`. The latter is longer where the decay has
    a power in front, as in `cmi.exact.RepetitionCode`.

    Parameters
    ----------
    widths : (w,) array of int
        Rising.
    cmi : (w,) array
        nats; NaN or infinite widths end the range.
    covariance : (w, w) array
        Of the errors.
    reach : int, optional
        Largest distance of C from A; default: no limit.
    radius : int
        A has a side of 2 radius + 1.
    floor, floor_stderr : float or (w,) arrays
        What the method reads where there is no CMI, and its error; below 0 it counts as 0.

    Returns
    -------
    MarkovLength
        ``success=False`` where fewer than four widths stand above the floor, no form fits, or the decay rate
        cannot be told from 0.

    Examples
    --------
    >>> import numpy as np
    >>> r = np.arange(1, 7)
    >>> xi = fit_markov_length(r, 0.3 * np.exp(-r / 1.5), np.diag(np.full(6, 1e-12)))
    >>> round(xi.value, 6), xi.form, xi.success
    (1.5, 'exponential', True)

    References
    ----------
    Paule and Mandel, J. Res. Natl. Bur. Stand. 87, 377 (1982); Dubrule, Math. Geol. 15, 687 (1983); Jay and Neil,
    Phys. Rev. D 103, 114502 (2021).
    """
    r = np.asarray(widths, dtype=np.float64)
    y = np.asarray(cmi, dtype=np.float64)
    errors = np.asarray(covariance, dtype=np.float64)
    if y.shape != r.shape or errors.shape != (len(r), len(r)):
        raise ValueError(f"widths {r.shape}, cmi {y.shape} and covariance {errors.shape} do not belong together")
    if len(r) > 1 and not np.all(np.diff(r) > 0):
        raise ValueError(f"widths must rise, got {r.tolist()}")
    if radius < 0:
        raise ValueError(f"radius must be at least 0, got {radius}")
    unit = _unit(y)  # squares of very small or large numbers are none
    if unit != 1.0:
        found = fit_markov_length(
            r,
            y / unit,
            errors / unit / unit,
            reach=reach,
            radius=radius,
            floor=np.asarray(floor) / unit,
            floor_stderr=np.asarray(floor_stderr) / unit,
        )
        return replace(
            found, amplitude=found.amplitude * unit, floor=tuple(float(each * unit) for each in found.floor)
        )
    known = np.isfinite(errors).all(axis=1) & (np.diagonal(errors) >= 0.0)
    y, errors = np.where(known, y, np.nan), np.where(known[:, None] & known, errors, 0.0)
    # exact curves have no errors: then everything above 0 counts
    sd = np.sqrt(np.maximum(np.diagonal(errors), (1e-12 * y) ** 2))
    least = np.fmax(np.broadcast_to(np.asarray(floor, dtype=np.float64), r.shape), 0.0)
    spread = np.nan_to_num(np.broadcast_to(np.asarray(floor_stderr, dtype=np.float64), r.shape), posinf=np.inf)
    bar = np.where(least > 0.0, least + _NOISE_FLOOR * np.hypot(sd, spread), _NOISE_FLOOR * sd)
    needed = tuple(bar.tolist())
    fits = (r > 0) & (r < (np.inf if reach is None else reach))
    r, y, sd, bar, errors = r[fits], y[fits], sd[fits], bar[fits], errors[np.ix_(fits, fits)]
    n = int(_lengths_above(y[None], sd, bar)[0])
    used = tuple(int(w) for w in r[:n])
    if n < MIN_WIDTHS:
        stand = f"{n} of {len(r)} widths stand" if n else "no width stands"
        bound = _short_bound(r, y, sd, n)
        return MarkovLength.unresolved(
            f"{stand} above the noise floor, {MIN_WIDTHS} are needed",
            used,
            interval=(0.0, bound) if n else (float("nan"), float("nan")),
            floor=needed,
        )
    curve = _Curve(r, y, sd, bar, errors, radius, np.inf if reach is None else float(reach))
    near = n if reach is None else min(n, max(int((r <= np.ceil(reach / 2.0)).sum()), MIN_WIDTHS))
    far = n
    for n in dict.fromkeys((far, near)):
        used = tuple(int(w) for w in r[:n])
        decays = {form: curve.fitted(form, n, starts=form == "exponential") for form in FORMS}
        form = _choose(decays)
        decays[form] = curve.fitted(form, n)
        best = max(each.held_out.sum() for each in decays.values())
        evidence = {name: float(each.held_out.sum() - best) for name, each in decays.items()}
        closest = min(decays, key=lambda name: decays[name].ranges[0].misfit)
        misfit = decays[closest].ranges[0].misfit
        if misfit <= _FITS:
            break
    else:
        why = f"no form fits: the closest, {closest}, is off by {misfit:.0%}"
        return MarkovLength.unresolved(why, used, floor=needed, evidence=evidence)
    rate, rate_error = decays["exponential"].coefficient, curve.error(decays["exponential"], n)
    low, high = rate - _TWO_SIDED * rate_error, rate + _TWO_SIDED * rate_error
    interval = (1.0 / high if high > 0.0 else float("inf"), 1.0 / low if low > 0.0 else float("inf"))
    if rate < _RESOLVED * rate_error:
        why = f"the decay rate {rate:.2g} +- {rate_error:.2g} per pixel cannot be told from 0"
        return MarkovLength.unresolved(why, used, rate, rate_error, interval, needed, evidence)
    chosen = decays[form]
    value, stderr = 1.0 / rate, rate_error / rate**2
    if form == "gaussian":
        c, its_error = chosen.coefficient, curve.error(chosen, n)
        if c < _RESOLVED * its_error:
            why = f"the decay {c:.2g} +- {its_error:.2g} per pixel^2 cannot be told from 0"
            return MarkovLength.unresolved(why, used, rate, rate_error, interval, needed, evidence)
        value, stderr = c**-0.5, 0.5 * its_error * c**-1.5
        low, high = c - _TWO_SIDED * its_error, c + _TWO_SIDED * its_error
        interval = (high**-0.5, low**-0.5 if low > 0.0 else float("inf"))
    elif form == "power":
        value, stderr, interval = float("inf"), float("nan"), (interval[0], float("inf"))
    others = [name for name in FORMS if name != form and evidence[form] - evidence[name] < _BETTER]
    message = f"{form}, r = {used[0]}..{used[-1]}"
    message += f", off by {chosen.misfit:.0%}" if chosen.misfit > 0.005 else ""
    message += f"; {' and '.join(others)} not ruled out" if others else ""
    message += f"; no form fits up to r = {int(r[far - 1])}" if n < far else ""
    return MarkovLength(
        value,
        stderr,
        interval,
        form,
        True,
        message,
        used,
        needed,
        rate,
        rate_error,
        chosen.amplitude,
        chosen.coefficient,
        chosen.misfit,
        evidence,
    )


@dataclass(frozen=True, eq=False)
class _Range:
    """One form fitted to the widths from `start` on: log I = level + f(c) with noise and a misfit."""

    start: int
    level: float
    c: float
    misfit: float
    jacobian: FloatArray  # of log I in (level, c)
    gain: FloatArray  # rows that turn deviations of log I into those of (level, c)
    chi2: float


@dataclass(frozen=True, eq=False)
class _Decay:
    """A form over all its ranges, averaged; `held_out` are the log-likelihoods of each width that is left out."""

    form: str
    ranges: tuple[_Range, ...]
    weights: FloatArray
    held_out: FloatArray
    amplitude: float

    @property
    def coefficient(self) -> float:
        return float(self.weights @ np.array([each.c for each in self.ranges]))

    @property
    def misfit(self) -> float:
        return float(self.weights @ np.array([each.misfit for each in self.ranges]))


@dataclass(frozen=True, eq=False)
class _Curve:
    """The widths, the estimates, their errors and what they have to exceed."""

    r: FloatArray
    y: FloatArray
    sd: FloatArray
    bar: FloatArray
    errors: FloatArray
    radius: int
    reach: float

    def fitted(self, form: str, n: int, *, starts: bool = True) -> _Decay:
        """Fit a form to the first n widths, and from every later start that leaves four."""
        noise, z = self.noise(n), self.logs(self.y[:n])
        g, end = decay(form, self.r[:n], self.radius), float(decay(form, self.reach, self.radius))
        ranges, c = [], None
        for start in range(n - MIN_WIDTHS + 1 if starts else 1):
            ranges.append(_fit(start, g[start:], end, z[start:], noise[start:, start:], c))
            c = ranges[0].c
        whole = ranges[0]
        held_out = _held_out(whole, z, noise, g, end)
        weights = _weights(np.array([[each.chi2 for each in ranges]]))[0]
        c = float(weights @ np.array([each.c for each in ranges]))
        # each width with its noise and misfit, as often as the ranges that hold it count
        held = np.cumsum(np.bincount([each.start for each in ranges], weights, minlength=n))
        spread = np.diagonal(noise) + float(weights @ np.array([each.misfit for each in ranges])) ** 2
        level = float(np.average(z - _shape(c, g, end)[0], weights=held / spread))
        # _shape leaves 1/c to the amplitude, so that c = 0 is a value like any other
        with np.errstate(over="ignore"):
            amplitude = float(np.exp(level)) / c if np.isfinite(end) and c > 0.0 else float(np.exp(level))
        return _Decay(form, tuple(ranges), weights, held_out, amplitude)

    def error(self, found: _Decay, n: int) -> float:
        """Standard error of the coefficient: of drawn curves, over the widths that these have above the bar."""
        rng = np.random.default_rng(0)
        eigenvalues, vectors = np.linalg.eigh(np.nan_to_num(self.errors, posinf=0.0))
        root = vectors * np.sqrt(np.maximum(eigenvalues, 0.0))
        drawn = self.centre(found, n) + rng.standard_normal((_DRAWS, len(self.y))) @ root.T
        lengths = _lengths_above(drawn, self.sd, self.bar)
        g, end = (decay(found.form, r, self.radius) for r in (self.r, self.reach))
        values = []
        for length in np.unique(lengths[lengths >= MIN_WIDTHS]):
            z, noise = self.logs(drawn[lengths == length, :length]), self.noise(length)
            some = [each for each in found.ranges if length - each.start >= MIN_WIDTHS]
            c, chi2 = np.empty((2, len(z), len(some)))
            for k, each in enumerate(some):
                part = slice(each.start, length)
                shape, slope = _shape(each.c, g[part], float(end))
                jacobian = np.stack([np.ones(length - each.start), slope], axis=1)
                gain = _gain(jacobian, noise[part, part], each.misfit)
                residual = z[:, part] - each.level - shape
                change = residual @ gain.T
                c[:, k] = each.c + change[:, 1]
                chi2[:, k] = _chi2(residual - change @ jacobian.T, noise[part, part]) + 2.0 * each.start
            values.append((_weights(chi2) * c).sum(axis=1))
        varied = np.concatenate([*values, np.empty(0)])
        if len(varied) < 3:
            return float("inf")
        own = []
        for each in found.ranges:
            few = float(student_t.ppf(0.975, n - each.start - 2)) / _TWO_SIDED
            own.append(max(few * each.misfit, _LEAST_MISFIT) ** 2 * (each.gain[1] ** 2).sum())
        # which width is the last one goes along with where it fell: of few widths that makes intervals too narrow
        few = n / (n - 2.0)
        return float(np.sqrt(few * (varied.var(ddof=1) + found.weights @ np.array(own))))

    def centre(self, found: _Decay, n: int) -> FloatArray:
        """The curve without its noise: the fit to all widths, and what the misfit explains of the residuals."""
        whole, noise = found.ranges[0], self.noise(n)
        g, end = (decay(found.form, r, self.radius) for r in (self.r[:n], self.reach))
        fit = whole.level + _shape(whole.c, g, float(end))[0]
        residual = np.linalg.solve(noise + whole.misfit**2 * np.eye(n), self.logs(self.y[:n]) - fit)
        curve = self.y.copy()
        curve[:n] = np.exp(fit + whole.misfit**2 * residual)
        return curve

    def noise(self, n: int) -> FloatArray:
        """Covariance of the errors of log I."""
        mean = np.abs(self.y[:n])
        relative = self.errors[:n, :n] / mean / mean[:, None]
        floor = np.maximum((self.sd[:n] / mean) ** 2 - np.diagonal(relative), 0.0)
        # widths whose errors are one and the same make it singular, rounding worse than that
        noise = relative + np.diag(floor)
        eigenvalues, vectors = np.linalg.eigh(noise)
        least = 1e-9 * np.diagonal(noise).min()
        if eigenvalues[0] < least:
            noise = (vectors * np.maximum(eigenvalues, least)) @ vectors.T
        return np.asarray(noise)

    def logs(self, curves: FloatArray) -> FloatArray:
        """E log(y + error) = log y - (sd/y)^2/2 to second order; this adds it again."""
        return np.asarray(np.log(curves) + 0.5 * (self.sd[: curves.shape[-1]] / curves) ** 2)


def _shape(c: float, g: FloatArray, end: float) -> tuple[FloatArray, FloatArray]:
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


def _fit(start: int, g: FloatArray, end: float, z: FloatArray, noise: FloatArray, c: float | None) -> _Range:
    """Generalised least squares by Gauss and Newton, with the scatter that brings chi^2 down to its dof."""
    if c is None:
        c = float((g - g.mean()) @ (z - z.mean()) / ((g - g.mean()) ** 2).sum()) * -0.8
    eigenvalues, vectors = np.linalg.eigh(noise)  # what the scatter adds to is diagonal here
    eigenvalues = np.maximum(eigenvalues, 1e-30)
    level, misfit, span = 0.0, 0.0, g[-1] - g[0]
    # a curve that is flat up to the reach, or rises, has no length, and c no lower end: the fit must not run away
    lowest = max(-3.0 / (end - g[0]) if np.isfinite(end) else -np.inf, -20.0 / span)
    c = max(c, lowest)
    for _ in range(50):
        shape, slope = _shape(c, g, end)
        values, ones, slopes = (z - shape) @ vectors, vectors.sum(axis=0), slope @ vectors
        misfit = _misfit(values, ones, slopes, eigenvalues)
        level, change = _solve(values, ones, slopes, 1.0 / (eigenvalues + misfit**2))
        change = min(max(change, -2.0 / span), 2.0 / span)  # in a step the curve changes by e^2 at most
        before, c = c, max(c + change, lowest)
        if abs(c - before) * span < 1e-9:
            break
    shape, slope = _shape(c, g, end)
    jacobian = np.stack([np.ones_like(g), slope], axis=1)
    chi2 = float(_chi2((z - shape - level)[None], noise)[0]) + 2.0 * start
    return _Range(start, level, c, misfit, jacobian, _gain(jacobian, noise, misfit), chi2)


def _solve(z: FloatArray, ones: FloatArray, slopes: FloatArray, weights: FloatArray) -> tuple[float, float]:
    """(level, change) of the weighted least squares of z to level ones + change slopes."""
    a, b, d = weights @ (ones * ones), weights @ (ones * slopes), weights @ (slopes * slopes)
    u, v = weights @ (ones * z), weights @ (slopes * z)
    mean, slope = u / a, d - b * b / a
    if slope <= 1e-13 * d:
        return float(mean), 0.0  # over these widths the form is flat whatever its coefficient
    change = (v - b * mean) / slope
    return float(mean - change * b / a), float(change)


def _misfit(values: FloatArray, ones: FloatArray, slopes: FloatArray, eigenvalues: FloatArray) -> float:
    """Scatter tau beyond the noise at which chi^2 of the best line is its degrees of freedom; 0 if it is less."""
    dof = len(values) - 2

    def excess(tau2: float) -> float:
        weights = 1.0 / (eigenvalues + tau2)
        level, change = _solve(values, ones, slopes, weights)
        return float(weights @ (values - level * ones - change * slopes) ** 2 - dof)

    if excess(0.0) <= 0.0:
        return 0.0
    level, change = _solve(values, ones, slopes, np.ones_like(values))
    # with equal weights chi^2 is least at this scatter: the root lies below
    ceiling = float(((values - level * ones - change * slopes) ** 2).sum()) / dof
    if ceiling == 0.0:
        return 0.0
    return (
        float(np.sqrt(brentq(excess, 0.0, ceiling, rtol=1e-6)))
        if excess(ceiling) < 0.0
        else float(np.sqrt(ceiling))
    )


def _weights(chi2: FloatArray) -> FloatArray:
    """Akaike weights of the ranges, (curves, ranges): chi^2 + twice the widths that are cut off."""
    weights = np.exp(-0.5 * (chi2 - chi2.min(axis=1, keepdims=True)))
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))


def _chi2(residuals: FloatArray, noise: FloatArray) -> FloatArray:
    """Chi^2 of each row."""
    return np.asarray((np.linalg.solve(np.linalg.cholesky(noise), residuals.T) ** 2).sum(axis=0))


def _held_out(fit: _Range, z: FloatArray, noise: FloatArray, g: FloatArray, end: float) -> FloatArray:
    """Log-likelihood of every width given the others: their prediction errs by (P z)_j / P_jj."""
    precision = np.linalg.inv(noise + fit.misfit**2 * np.eye(len(z)))
    projected = precision - precision @ fit.jacobian @ fit.gain
    variance = 1.0 / np.maximum(np.diagonal(projected), 1e-12 * np.diagonal(precision))
    missed = (projected @ (z - _shape(fit.c, g, end)[0])) * variance
    return np.asarray(-0.5 * (missed**2 / variance + np.log(2.0 * np.pi * variance)))


def _gain(jacobian: FloatArray, noise: FloatArray, misfit: float) -> FloatArray:
    """Rows that turn values into (level, change of c): generalised least squares."""
    root = np.linalg.cholesky(noise + misfit**2 * np.eye(len(noise)))
    whitening = np.linalg.solve(root, np.eye(len(noise)))
    return np.asarray(np.linalg.pinv(whitening @ jacobian) @ whitening)


def _choose(decays: Mapping[str, _Decay]) -> str:
    """The exponential, or the form that is clearly better."""
    chosen, most = "exponential", _BETTER
    plain = decays["exponential"]
    for form, found in decays.items():
        gain = found.held_out - plain.held_out
        error = np.sqrt(len(gain)) * gain.std(ddof=1)
        if gain.sum() > max(most, 2.0 * error) and found.ranges[0].misfit <= 0.5 * plain.ranges[0].misfit:
            chosen, most = form, float(gain.sum())
    return chosen


def _unit(y: FloatArray) -> float:
    """A power of two near the largest value, where that is far from 1."""
    largest = float(np.abs(y[np.isfinite(y)]).max(initial=0.0))
    return 1.0 if largest == 0.0 or 1e-60 < largest < 1e60 else float(2.0 ** np.floor(np.log2(largest)))


def _lengths_above(curves: FloatArray, sd: FloatArray, bar: FloatArray) -> NDArray[np.int64]:
    """How many widths from the first on each curve stands above the bar."""
    if curves.shape[1] == 0:
        return np.zeros(len(curves), dtype=np.int64)
    with np.errstate(invalid="ignore"):
        above = np.isfinite(curves) & np.isfinite(sd) & (curves > 0.0) & (curves > bar)
    return np.asarray(np.where(above.all(axis=1), above.shape[1], np.argmin(above, axis=1)))


def _short_bound(r: FloatArray, y: FloatArray, sd: FloatArray, n: int) -> float:
    """Bound xi by the fall from the first width to the first that is lost in the noise (or to the last)."""
    if n == 0:
        return float("nan")
    last = min(n, len(r) - 1)
    if not np.isfinite([y[last], sd[last]]).all():
        return float("inf")
    lowest_start, highest_end = y[0] - 2.0 * sd[0], y[last] + 2.0 * sd[last]
    if last == 0 or not 0.0 < highest_end < lowest_start:
        return float("inf")
    return float((r[last] - r[0]) / np.log(lowest_start / highest_end))

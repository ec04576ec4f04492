"""The Markov length xi: how fast, and in which form, I(A:C|B_r) falls with the buffer's width r."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq

from cmi.decay_fit import MIN_WIDTHS, TWO_SIDED, Curve, Decay, lengths_above
from cmi.forms import FORMS, corrections, decay, fallen, power_in_front

FloatArray = NDArray[np.float64]

__all__ = ["MarkovLength", "fit_markov_length"]

_RESOLVED = 2.0  # standard errors by which the decay rate must exceed 0
_NOISE_FLOOR = 3.0  # a width counts where its CMI is this many standard errors above 0
_FITS = 0.25  # relative scatter around the best form beyond which none fits
_BETTER = 2.0  # nats of held-out likelihood that tell two forms apart


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
    bend, prefactor : float
        b and p of the exponential, the likeliest: how small widths depart from it, see `cmi.forms`.
    reach, radius : float and int
        Where C ends, and the half side of A, as the fit was given them.
    first_width : int
        The fits that hold half the weight start here or before; narrower widths bend the curve too much.
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
    bend: float = 0.0
    prefactor: float = 0.0
    reach: float = float("inf")
    radius: int = 0
    first_width: int = 0

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

    def at(self, r: ArrayLike) -> FloatArray:
        """Return the fitted curve at widths r, in nats; NaN where unresolved.

        Examples
        --------
        >>> import numpy as np
        >>> r = np.arange(1, 7)
        >>> xi = fit_markov_length(r, 0.3 * np.exp(-r / 1.5), np.diag(np.full(6, 1e-12)))
        >>> np.round(xi.at([1, 7]), 4).tolist()
        [0.154, 0.0028]
        """
        width = np.asarray(r, dtype=np.float64)
        if not self.success:
            return np.full(width.shape, np.nan)
        flat = width.ravel()
        g, end = (decay(self.form, each, self.radius) for each in (flat, self.reach))
        bent = corrections(self.form, self.coefficient, flat, self.reach, at=[self.bend, self.prefactor]).value
        curve = self.amplitude * np.exp(bent) * (np.exp(-self.coefficient * g) - np.exp(-self.coefficient * end))
        return np.asarray(curve.reshape(width.shape))

    def __str__(self) -> str:
        if not self.success:
            return f"unresolved ({self.message})"
        if not np.isfinite(self.value):
            return f"infinite ({self.form} with exponent {self.coefficient:.2f})"
        return f"{self.value:.2f} +- {self.stderr:.2f}" + (f" ({self.form})" if self.form != "exponential" else "")


def fit_markov_length(
    widths: ArrayLike,
    cmi: ArrayLike,
    covariance: ArrayLike,
    *,
    reach: int | None = None,
    radius: int = 0,
    floor: ArrayLike = 0.0,
    floor_stderr: ArrayLike = 0.0,
    dims: int = 1,
    prefactor: tuple[float, float] | None = None,
) -> MarkovLength:
    """Fit the three forms to the curve over the widths above the noise floor, and choose one.

    Used are the widths from the smallest one (0, no buffer at all, is left out) up to the first whose CMI is not
    3 standard errors above 0 and above what the method reads without any CMI (`floor`).

    C ends at the reach R, and by the chain rule I(A:C|B_r) = I_r - I_R, where I_r is that of an endless C. So each
    form stands for I_r, and what is fitted is

        a [e^(-c g(r)) - e^(-c g(R))],    g(r) = r, l^2 or ln l,

    which goes to 0 at the reach by itself. The fit is one of generalised least squares to log I: with the full
    covariance of the widths, which share samples, and a scatter of their own around the form, the misfit, such that
    chi^2 equals its degrees of freedom (Paule and Mandel 1982), 0 if it is below them already.

    The forms are compared by the likelihood of each width when it is held out (Dubrule 1983). The exponential
    stands unless another form is better by more than 2 nats and 2 standard errors, with at most half the misfit.
    If even the best is off by more than 25 %, as in images with an empty frame, which the farthest widths reach,
    only the widths up to half the reach are used; if that does not help, none fits.

    The xi of the exponential is that of large r. Small widths bend it, by a second exponential and in d dimensions
    by a power in front; both are fitted along, with what is known of their size beforehand (`cmi.forms`; fits
    constrained in this way: Lepage et al. 2002). What bends the curve more than that is left out: c is an average
    over fits from the first, second, ... width on, with Akaike weights: chi^2 plus twice the number of widths that
    are cut off (Jay and Neil 2021).

    The interval is that of a bootstrap: 400 curves are drawn around the fit, and what misfit and bend explain of
    the residuals, with the covariance, which is that of the means of one local value per sample; widths are
    selected and weighted anew for each. To its variance are added that of the bend, and that of the misfit, widened
    by the ratio of Student's t to the normal quantile, as few widths tell it. How often it covers the length of r
    to infinity: `benchmarks/markov_lengths.py`.

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
    dims : int
        Of space: 1 for a chain, 2 for an image.
    prefactor : (float, float), optional
        Mean and standard deviation of the power p in front, where theory says it: (1/2, 0) for global order in one
        dimension. Default: 0 on a line, uniform between 0 and 1/2 in an image; a scan on a line looks whether its
        data are ordered (`cmi.forms.power_in_front`).

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
    Paule and Mandel, J. Res. Natl. Bur. Stand. 87, 377 (1982); Dubrule, Math. Geol. 15, 687 (1983); Lepage et al.,
    Nucl. Phys. B Proc. Suppl. 106, 12 (2002); Jay and Neil, Phys. Rev. D 103, 114502 (2021).
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
    if dims < 1:
        raise ValueError(f"dims must be at least 1, got {dims}")
    power = power_in_front(dims) if prefactor is None else prefactor
    if np.shape(power) != (2,) or not np.isfinite(power).all() or power[1] < 0.0:
        raise ValueError(f"prefactor must be a mean and a standard deviation of at least 0, got {power}")
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
            dims=dims,
            prefactor=prefactor,
        )
        return replace(
            found, amplitude=found.amplitude * unit, floor=tuple(float(each * unit) for each in found.floor)
        )
    known = np.isfinite(np.diagonal(errors)) & (np.diagonal(errors) >= 0.0)
    known &= np.isfinite(np.where(known[:, None] & known, errors, 0.0)).all(axis=1)
    y, errors = np.where(known, y, np.nan), np.where(known[:, None] & known, errors, 0.0)
    # exact curves have no errors: then everything above 0 counts
    sd = np.sqrt(np.maximum(np.diagonal(errors), (1e-12 * y) ** 2))
    least = np.fmax(np.broadcast_to(np.asarray(floor, dtype=np.float64), r.shape), 0.0)
    spread = np.nan_to_num(np.broadcast_to(np.asarray(floor_stderr, dtype=np.float64), r.shape), posinf=np.inf)
    bar = np.where(least > 0.0, least + _NOISE_FLOOR * np.hypot(sd, spread), _NOISE_FLOOR * sd)
    needed = tuple(bar.tolist())
    fits = (r > 0) & (r < (np.inf if reach is None else reach))
    r, y, sd, bar, errors = r[fits], y[fits], sd[fits], bar[fits], errors[np.ix_(fits, fits)]
    n = int(lengths_above(y[None], sd, bar)[0])
    used = tuple(int(w) for w in r[:n])
    if n < MIN_WIDTHS:
        stand = f"{n} of {len(r)} widths stand" if n else "no width stands"
        bound = _short_bound(r, y, sd, n, np.inf if reach is None else float(reach), power)
        return MarkovLength.unresolved(
            f"{stand} above the noise floor, {MIN_WIDTHS} are needed",
            used,
            interval=(0.0, bound) if n else (float("nan"), float("nan")),
            floor=needed,
        )
    curve = Curve(r, y, sd, bar, errors, radius, np.inf if reach is None else float(reach), power)
    near = n if reach is None else min(n, max(int((r <= np.ceil(reach / 2.0)).sum()), MIN_WIDTHS))
    far = n
    for n in dict.fromkeys((far, near)):
        used = tuple(int(w) for w in r[:n])
        decays = {form: curve.as_it_is(form, n) for form in FORMS}
        form = _choose(decays)
        for each in {"exponential", form}:
            decays[each] = curve.averaged(decays[each], n)
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
    low, high = rate - TWO_SIDED * rate_error, rate + TWO_SIDED * rate_error
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
        low, high = c - TWO_SIDED * its_error, c + TWO_SIDED * its_error
        interval = (high**-0.5, low**-0.5 if low > 0.0 else float("inf"))
    elif form == "power" and chosen.coefficient <= 0.0:
        why = f"the curve does not fall with r: a power of exponent {chosen.coefficient:.2g} is closest"
        return MarkovLength.unresolved(why, used, rate, rate_error, interval, needed, evidence)
    elif form == "power":
        value, stderr, interval = float("inf"), float("nan"), (interval[0], float("inf"))
    others = [name for name in FORMS if name != form and evidence[form] - evidence[name] < _BETTER]
    message = f"{form}, r = {used[0]}..{used[-1]}"
    message += f", mostly from {used[chosen.start]} on" if chosen.start else ""
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
        chosen.bend,
        chosen.prefactor,
        curve.reach,
        radius,
        used[chosen.start],
    )


def _choose(decays: Mapping[str, Decay]) -> str:
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


def _short_bound(
    r: FloatArray, y: FloatArray, sd: FloatArray, n: int, reach: float, power: tuple[float, float]
) -> float:
    """Bound xi by the fall from the first width to the first that is lost in the noise (or to the last)."""
    if n == 0:
        return float("nan")
    last = min(n, len(r) - 1)
    if not np.isfinite([y[last], sd[last]]).all():
        return float("inf")
    lowest_start, highest_end = y[0] - 2.0 * sd[0], y[last] + 2.0 * sd[last]
    if last == 0 or not 0.0 < highest_end < lowest_start:
        return float("inf")
    ends = np.array([r[0], r[last]])
    # as much of the fall as a power in front may make is not the exponential's
    most = power[0] + np.sqrt(3.0) * power[1]  # the upper end of the uniform distribution that these are of
    fall = np.log(lowest_start / highest_end) - most * np.log((ends[1] + 0.5) / (ends[0] + 0.5))

    def excess(c: float) -> float:
        start, end = fallen(c, ends, reach)[0]
        return float(start - end - fall)

    if excess(0.0) >= 0.0:
        return float("inf")
    highest = 1.0
    while excess(highest) < 0.0:
        highest *= 2.0
    return 1.0 / float(brentq(excess, 0.0, highest))

"""The Markov length xi: how fast I(A:C|B_r) falls with the buffer's width, I ~ a exp(-r/xi)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq
from scipy.stats import norm
from scipy.stats import t as student_t

FloatArray = NDArray[np.float64]

__all__ = ["MIN_WIDTHS", "MarkovLength", "fit_markov_length"]

MIN_WIDTHS = 4  # two more than parameters: fewer cannot show that the curve is no exponential
_RESOLVED = 2.0  # standard errors by which the decay rate must exceed 0
_NOISE_FLOOR = 3.0  # a width counts where its CMI is this many standard errors above 0


@dataclass(frozen=True)
class MarkovLength:
    """The Markov length at one noise level, or why there is none.

    Parameters
    ----------
    value, stderr : float
        xi in units of r (pixels), and its error; NaN where unresolved.
    rate, rate_stderr : float
        1/xi and its error. Known too where it is too close to 0 for xi to be; NaN where too few widths remain.
    success : bool
        False: the data do not resolve a length; `message` says why.
    message : str
    widths_used : tuple of int
    amplitude : float
        a in a exp(-r/xi), nats.
    misfit : float
        Relative scatter of the curve around the exponential beyond its errors; these contain it.
    upper : float
        Bound on xi (two errors), which a curve too short for a fit may give as well; infinite where the curve may
        not decay at all, NaN where there is no CMI above its error.
    """

    value: float
    stderr: float
    rate: float
    rate_stderr: float
    success: bool
    message: str
    widths_used: tuple[int, ...] = ()
    amplitude: float = float("nan")
    misfit: float = float("nan")
    upper: float = float("nan")

    @classmethod
    def unresolved(
        cls,
        message: str,
        widths_used: tuple[int, ...] = (),
        rate: float = float("nan"),
        rate_stderr: float = float("nan"),
        upper: float = float("nan"),
    ) -> MarkovLength:
        """Make a result without a length, for the reason given."""
        nan = float("nan")
        return cls(nan, nan, rate, rate_stderr, False, message, widths_used, upper=upper)

    def __str__(self) -> str:
        return f"{self.value:.2f} +- {self.stderr:.2f}" if self.success else f"unresolved ({self.message})"


def fit_markov_length(
    widths: ArrayLike,
    cmi: ArrayLike,
    covariance: ArrayLike,
    *,
    reach: int | None = None,
    floor: ArrayLike = 0.0,
    floor_stderr: ArrayLike = 0.0,
) -> MarkovLength:
    """Fit a exp(-r/xi) to the curve by weighted least squares over the widths above the noise floor.

    Used are the widths from the smallest one (0, no buffer at all, is left out) up to the first whose CMI is not
    3 standard errors above 0 and above what the method reads without any CMI (`floor`), and none beyond half the
    reach, rounded up (but at least four): there C is a shrinking frame of the sample, and the curve falls because
    of that.

    The fit is of a line to log I, each point weighted by 1/(relative error^2 + misfit^2).  The misfit is the
    scatter around an exponential that brings chi^2 down to its degrees of freedom (Paule and Mandel 1982), 0 if
    chi^2 is below them already: a curve that is no exponential gives the length of its average slope, with an
    error that says so.  The error of xi comes from the full covariance of the widths and the misfit; where the
    misfit was estimated from few widths it is widened by the ratio of Student's t to the normal quantile, so that
    two errors are about 95 % there too.

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
    floor, floor_stderr : float or (w,) arrays
        What the method reads where there is no CMI, and its error; below 0 it counts as 0.

    Returns
    -------
    MarkovLength
        ``success=False`` where fewer than four widths stand above the floor or the decay rate cannot be told
        from 0.

    Examples
    --------
    >>> import numpy as np
    >>> r = np.arange(1, 7)
    >>> xi = fit_markov_length(r, 0.3 * np.exp(-r / 1.5), np.diag(np.full(6, 1e-12)))
    >>> round(xi.value, 6), xi.success
    (1.5, True)
    """
    r = np.asarray(widths, dtype=np.float64)
    y = np.asarray(cmi, dtype=np.float64)
    errors = np.asarray(covariance, dtype=np.float64)
    if y.shape != r.shape or errors.shape != (len(r), len(r)):
        raise ValueError(f"widths {r.shape}, cmi {y.shape} and covariance {errors.shape} do not belong together")
    if len(r) > 1 and not np.all(np.diff(r) > 0):
        raise ValueError(f"widths must rise, got {r.tolist()}")
    fits = r > 0
    if reach is not None:
        fits &= r <= max(np.ceil(reach / 2.0), np.sort(r[r > 0])[:MIN_WIDTHS].max(initial=0.0))
    r, y, errors = r[fits], y[fits], errors[np.ix_(fits, fits)]
    # exact curves have no errors: then everything above 0 counts
    sd = np.sqrt(np.maximum(np.diagonal(errors), (1e-12 * y) ** 2))
    with np.errstate(invalid="ignore"):
        above = np.isfinite(y) & np.isfinite(sd) & (y > 0.0) & (y > _NOISE_FLOOR * sd)
        least = np.fmax(np.broadcast_to(np.asarray(floor, dtype=np.float64), fits.shape)[fits], 0.0)
        spread = np.hypot(sd, np.nan_to_num(np.broadcast_to(np.asarray(floor_stderr), fits.shape)[fits]))
        above &= (least == 0.0) | (y > least + _NOISE_FLOOR * spread)
    n = len(above) if above.all() else int(np.argmin(above))
    used = tuple(int(w) for w in r[:n])
    if n < MIN_WIDTHS:
        stand = f"{n} of {len(r)} widths stand" if n else "no width stands"
        return MarkovLength.unresolved(
            f"{stand} above the noise floor, {MIN_WIDTHS} are needed", used, upper=_short_bound(r, y, sd, n)
        )
    r, y, sd, errors = r[:n], y[:n], sd[:n], errors[:n, :n]
    relative = sd / y
    # E log(y + error) = log y - (sd/y)^2/2 to second order
    log_amplitude, rate, misfit = _fit_line(r, np.log(y) + 0.5 * relative**2, relative)
    gain = _regression(r, 1.0 / (relative**2 + misfit**2))[1]
    rate_error = float(np.sqrt(max(gain @ (errors / np.outer(y, y) + misfit**2 * np.eye(n)) @ gain, 0.0)))
    if misfit > 0.0:
        rate_error *= float(student_t.ppf(0.975, n - 2) / norm.ppf(0.975))
    lowest = rate - 2.0 * rate_error
    upper = 1.0 / lowest if lowest > 0.0 else float("inf")
    if rate < _RESOLVED * rate_error:
        why = f"the decay rate {rate:.2g} +- {rate_error:.2g} per pixel cannot be told from 0"
        return MarkovLength.unresolved(why, used, rate, rate_error, upper)
    xi = 1.0 / rate
    message = f"fitted to r = {used[0]}..{used[-1]}" + (f", off by {misfit:.0%}" if misfit > 0.005 else "")
    amplitude = float(np.exp(log_amplitude))
    return MarkovLength(
        xi, rate_error * xi**2, rate, rate_error, True, message, used, amplitude, misfit=misfit, upper=upper
    )


def _short_bound(r: FloatArray, y: FloatArray, sd: FloatArray, n: int) -> float:
    """Bound xi by the fall from the first width to the first that is lost in the noise (or to the last)."""
    if n == 0:
        return float("nan")
    last = min(n, len(r) - 1)
    lowest_start, highest_end = y[0] - 2.0 * sd[0], y[last] + 2.0 * sd[last]
    if last == 0 or not 0.0 < highest_end < lowest_start:
        return float("inf")
    return float((r[last] - r[0]) / np.log(lowest_start / highest_end))


def _regression(r: FloatArray, weights: FloatArray) -> FloatArray:
    """Rows that turn values z into the parameters (c, b) of the weighted line z = c - b r."""
    design = np.stack([np.ones_like(r), -r], axis=1)
    root = np.sqrt(weights)
    return np.asarray(np.linalg.pinv(design * root[:, None]) * root)


def _fit_line(r: FloatArray, z: FloatArray, sd: FloatArray) -> tuple[float, float, float]:
    """Return (c, b, tau) of z = c - b r with independent scatter tau beyond the errors sd (Paule and Mandel 1982).

    tau solves chi^2(tau) = dof; chi^2 falls with tau, and at the residual scatter of the unweighted line it is at
    most dof, so that the root is bracketed.
    """
    dof = len(r) - 2

    def excess(tau2: float) -> float:
        weights = 1.0 / (sd**2 + tau2)
        c, b = _regression(r, weights) @ z
        return float(np.sum(weights * (z - c + b * r) ** 2) - dof)

    c, b = _regression(r, np.ones_like(r)) @ z
    ceiling = float(np.sum((z - c + b * r) ** 2)) / dof
    tau2 = 0.0
    if excess(0.0) > 0.0:
        tau2 = float(brentq(excess, 0.0, ceiling)) if excess(ceiling) < 0.0 else ceiling
    c, b = _regression(r, 1.0 / (sd**2 + tau2)) @ z
    return float(c), float(b), float(np.sqrt(tau2))

"""Transitions: whether the Markov length diverges at some noise level, as far as one scan can tell.

At a transition xi diverges between the trivial phase (noise) and the data phase.  In one finite sample it can
only peak, and a peak may as well be a crossover: one size alone never establishes a transition.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from scipy.stats import norm

if TYPE_CHECKING:
    from cmi.result import PhaseScan

__all__ = ["Transition", "Verdict", "locate_transition"]

Verdict = Literal["transition", "crossover", "none", "unresolved"]

_MIN_LEVELS = 3
_FALSE_POSITIVES = 0.025  # allowed per side and scan, over all pairs of levels that are compared


@dataclass(frozen=True)
class Transition:
    """Where the Markov length peaks, and what that means.

    Parameters
    ----------
    verdict : {"transition", "crossover", "none", "unresolved"}
        "crossover": xi peaks inside the scanned range; "none": it is bounded at every level that has CMI above its
        error, small against the sample, and does not peak; "unresolved": the data cannot tell. One size never gives
        "transition".
    level : float
        Noise level of the peak; NaN without one.
    interval : (float, float)
        The neighbouring levels that were resolved; NaN without a peak.
    message : str
        One sentence with the numbers.
    """

    verdict: Verdict
    level: float
    interval: tuple[float, float]
    message: str

    def __str__(self) -> str:
        return f"{self.verdict}: {self.message}"


def locate_transition(scan: PhaseScan) -> Transition:
    """Judge from one scan whether the Markov length peaks between the data and the noise.

    A level i is a peak where its decay rate 1/xi lies below the rates of some resolved level on its left and of
    one on its right by more than their joint error, at a level of significance that all comparisons share
    (Bonferroni).  Rates, not lengths, are compared: their errors are nearly normal, and a rate of 0 is a value
    like any other.  Errors of different levels are taken as independent; those of a scan of one set of samples
    tend to be alike, which makes the comparison cautious.

    Parameters
    ----------
    scan : PhaseScan

    Returns
    -------
    Transition

    Examples
    --------
    >>> from cmi import locate_transition, open_dataset, phase_scan
    >>> scan = phase_scan(open_dataset("digits"), levels=[0.2, 0.4, 0.6, 0.8], center=(1, 3))
    >>> locate_transition(scan).verdict  # xi is 2 to 4 pixels, too long for images of 8 x 8
    'unresolved'
    """
    levels = scan.dataset.t.values
    lengths = scan.markov_length
    known = np.flatnonzero([np.isfinite(m.rate) for m in lengths])
    if len(known) < _MIN_LEVELS:
        return _no_level(
            "unresolved",
            f"the decay with r is resolved at {len(known)} of {len(levels)} noise levels, {_MIN_LEVELS} are needed",
        )
    t = levels[known]
    rate = np.array([lengths[i].rate for i in known])
    error = np.array([lengths[i].rate_stderr for i in known])
    peak, edges = _dip(rate, error)
    if peak is not None:
        left, right = float(t[max(peak - 1, 0)]), float(t[min(peak + 1, len(t) - 1)])
        size = f"{1.0 / rate[peak]:.2g} pixels" if rate[peak] > 0.0 else "more than the sample shows"
        return Transition(
            "crossover",
            float(t[peak]),
            (left, right),
            f"xi peaks at t = {t[peak]:g} (between {left:g} and {right:g}) at {size}, above {1.0 / edges[0]:.2g} "
            f"and {1.0 / edges[1]:.2g} on its sides; one sample size cannot tell a divergence from a crossover",
        )
    limit = float(scan.reach)
    alive = np.flatnonzero(scan.dataset.finished.values == 1)
    bounds = np.array([lengths[i].upper for i in alive])
    seen = np.isfinite(bounds) | np.isinf(bounds)
    longest = int(alive[seen][np.argmax(bounds[seen])])
    upper = lengths[longest].upper
    if upper >= limit:
        size = f"up to {upper:.2g} pixels" if np.isfinite(upper) else "of any size"
        return _no_level(
            "unresolved",
            f"at t = {levels[longest]:g} xi may be {size} (two errors), beyond the {scan.reach} pixels "
            "around A: larger samples or more of them are needed",
        )
    covered = levels[alive[seen]]
    blank = [i for i in alive[~seen] if covered[0] < levels[i] < covered[-1]]
    if blank:
        return _no_level(
            "unresolved",
            f"no CMI stands above its error at t = {', '.join(f'{levels[i]:g}' for i in blank[:4])}, between "
            "levels where some does",
        )
    return _no_level(
        "none",
        f"xi is below {upper:.2g} pixels (two errors) wherever there is CMI above its error, t = "
        f"{covered[0]:g} to {covered[-1]:g}, and no level stands out",
    )


def _dip(
    rate: np.ndarray[tuple[int], np.dtype[np.float64]], error: np.ndarray[tuple[int], np.dtype[np.float64]]
) -> tuple[int | None, tuple[float, float]]:
    """Index of the lowest rate that lies significantly below a level on either side, and those two rates."""
    n = len(rate)
    z = float(norm.isf(_FALSE_POSITIVES / max(n * (n - 1) / 2, 1)))
    best, sides = None, (np.nan, np.nan)
    for i in range(1, n - 1):
        excess = (rate - rate[i]) / np.hypot(error, error[i])
        j, k = int(np.argmax(excess[:i])), i + 1 + int(np.argmax(excess[i + 1 :]))
        falls = min(rate[j] - 2.0 * error[j], rate[k] - 2.0 * error[k]) > 0.0  # a rising curve is no short length
        if falls and min(excess[j], excess[k]) > z and (best is None or rate[i] < rate[best]):
            best, sides = i, (float(rate[j]), float(rate[k]))
    return best, sides


def _no_level(verdict: Verdict, message: str) -> Transition:
    nan = float("nan")
    return Transition(verdict, nan, (nan, nan), message)

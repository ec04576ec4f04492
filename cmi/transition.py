"""Transitions: whether the Markov length diverges at some noise level, as far as scans can tell.

At a transition xi diverges between the trivial phase (noise) and the data phase.  In one finite sample it can
only peak, and a peak may as well be a crossover: one size alone never establishes a transition.  With three
sizes and more it shows in what is scale-free: at noise levels above it the larger sizes have the smaller CMI (of
regions that all grow with the sample), just below it the larger, and all curves fall on one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from numbers import Real
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from cmi.checks import whole_number
from cmi.finite_size import Crossing, collapse, crossings

if TYPE_CHECKING:
    from cmi.result import PhaseScan

FloatArray = NDArray[np.float64]

__all__ = ["Transition", "Verdict", "locate_transition", "refine_levels", "scale_free"]

Verdict = Literal["transition", "crossover", "none", "unresolved"]
Quantity = Literal["cmi", "length"]

_MIN_LEVELS = 3
_MIN_SIZES = 3
_FALSE_POSITIVES = 0.025  # allowed per side and scan, over all pairs of levels that are compared
_DRAWS = 200  # of the bootstrap over samples: the ends of a 95 % interval are those of five draws on either side
_RESOLVED = 2.5  # standard errors by which curves of two sizes differ
_ALIKE = 1.4  # ratios of lengths that count as the same


@dataclass(frozen=True)
class Transition:
    """Where the Markov length peaks or diverges, and what that means.

    Parameters
    ----------
    verdict : {"transition", "crossover", "none", "unresolved"}
        "transition": curves of three sizes or more cross, and collapse, at a level inside the scan; "crossover": xi
        peaks inside the scanned range, or curves cross without falling on one; "none": xi is bounded at every level
        that has CMI above its error, small against the sample, and does not peak, or the larger of the sizes has
        the smaller scale-free CMI everywhere; "unresolved": the data cannot tell. One size never gives
        "transition".
    level : float
        Noise level of the transition or peak; NaN without one.
    interval : (float, float)
        Of one size the neighbouring levels that were resolved, of several 95 %; NaN without a level.
    message : str
        One sentence with the numbers.
    nu, nu_interval : float and (float, float)
        Exponent of xi ~ |t - level|^-nu, of three sizes or more.
    crossings : tuple of Crossing
        Of the curves of every two sizes.
    sizes : tuple of float
    quantity : {"cmi", "length", ""}
        What sizes are compared by: "cmi" of regions that grow with the sample, or "length", -L/xi; "" of one size.
    """

    verdict: Verdict
    level: float
    interval: tuple[float, float]
    message: str
    nu: float = float("nan")
    nu_interval: tuple[float, float] = (float("nan"), float("nan"))
    crossings: tuple[Crossing, ...] = ()
    sizes: tuple[float, ...] = ()
    quantity: Quantity | Literal[""] = ""

    def __str__(self) -> str:
        return f"{self.verdict}: {self.message}"


def locate_transition(scan: PhaseScan | Mapping[float, PhaseScan]) -> Transition:
    """Judge whether the Markov length diverges, or peaks, between the data and the noise.

    One scan. A level i is a peak where its decay rate 1/xi lies below the rates of some resolved level on its left
    and of one on its right by more than their joint error, at a level of significance that all comparisons share
    (Bonferroni).  Rates, not lengths, are compared: their errors are nearly normal, and a rate of 0 is a value
    like any other.  Errors of different levels are taken as independent; those of a scan of one set of samples
    tend to be alike, which makes the comparison cautious.

    Several sizes. Curves of a scale-free quantity (`scale_free`) are compared by `cmi.finite_size`: a transition
    needs three sizes whose curves cross such that above it the larger size has less, which fall on one curve of
    (t - t_c) L^(1/nu), and with t_c inside the scanned levels. That more CMI is left at the larger size up to the
    end of the noise (as of data in two global states, whose decay stops only there) is no transition. The closed
    loops of `cmi.exact` have one: `benchmarks/closed_loops.py`.

    Parameters
    ----------
    scan : PhaseScan, or dict of size to PhaseScan
        Sizes in pixels; scans over the same noise levels.

    Returns
    -------
    Transition

    Raises
    ------
    TypeError
        If it is neither a scan nor scans by size.
    ValueError
        If sizes are not positive, or their scans differ in noise or method.

    Examples
    --------
    >>> from cmi import locate_transition, open_dataset, phase_scan
    >>> scan = phase_scan(open_dataset("digits"), levels=[0.2, 0.4, 0.6, 0.8], center=(1, 3))
    >>> locate_transition(scan).verdict  # xi is 2 to 4 pixels, too long for images of 8 x 8
    'unresolved'

    References
    ----------
    Hu, Liu, Zhang, Gao, arXiv:2508.06614. Scaling and its corrections: Hasenbusch, Toldin, Pelissetto and Vicari,
    Phys. Rev. E 77, 051115 (2008).
    """
    _check(scan)
    if isinstance(scan, Mapping):
        return _of_sizes(scan)
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
        size = f"{1.0 / rate[peak]:.2g} {scan.unit}" if rate[peak] > 0.0 else "more than the sample shows"
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
        size = f"up to {upper:.2g} {scan.unit}" if np.isfinite(upper) else "of any size"
        return _no_level(
            "unresolved",
            f"at t = {levels[longest]:g} xi may be {size} (two errors), beyond the {scan.reach} {scan.unit} "
            "around A: larger samples or more of them are needed",
        )
    covered = levels[alive[seen]]
    blank = [i for i in alive[~seen] if covered[0] < levels[i] < covered[-1]]
    if blank:
        what = "no form fits the decay" if lengths[blank[0]].widths_used else "no CMI stands above its error"
        return _no_level(
            "unresolved",
            f"{what} at t = {', '.join(f'{levels[i]:g}' for i in blank[:4])}, between levels where some does",
        )
    return _no_level(
        "none",
        f"xi is below {upper:.2g} {scan.unit} (two errors) wherever there is CMI above its error, t = "
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


def scale_free(scans: Mapping[float, PhaseScan]) -> tuple[FloatArray, dict[float, FloatArray], Quantity]:
    """Return the levels that scans of several sizes share, and at each size what can be compared between sizes.

    Where A grows with the sample, or is as many pixels of a coarser grid: the CMI at the width that is the same
    fraction of the size. Where A is the same at all sizes that would not cross; there it is -L/xi, the decay over
    the sample.

    Parameters
    ----------
    scans : dict of size to PhaseScan

    Returns
    -------
    levels : (t,) array
    curves : dict of size to (draws, t) array
        The estimate first, then bootstrap draws over samples, at all levels of a size together.
    quantity : {"cmi", "length"}

    Raises
    ------
    ValueError
        If sizes are not positive, or their scans differ in noise or method.
    """
    _check(scans)
    sizes = sorted(scans)
    if not sizes or not all(np.isfinite(size) and size > 0 for size in sizes):
        raise ValueError(f"sizes must be positive lengths in pixels, got {sizes}")
    first = scans[sizes[0]]
    for size in sizes[1:]:
        for part in ("noise", "method"):
            if scans[size].config[part] != first.config[part]:
                raise ValueError(
                    f"scans of several sizes must agree in {part}: size {size:g} has {scans[size].config[part]}, "
                    f"size {sizes[0]:g} has {first.config[part]}"
                )
    levels = [
        t
        for t in first.dataset.t.values
        if all(t in each.dataset.t.values and bool(each.dataset.finished.sel(t=t) == 1) for each in scans.values())
    ]
    shared = {size: scan.dataset.t.to_index().get_indexer(levels) for size, scan in scans.items()}
    ratio = sizes[-1] / sizes[0]
    a, reach = (
        _ratio([np.sqrt(float(scans[size].dataset.n_A)) for size in sizes]),
        _ratio([float(scans[size].reach) for size in sizes]),
    )
    coarser = a < _ALIKE and reach < _ALIKE < ratio
    curves: dict[float, FloatArray] = {}
    if coarser or a > _ALIKE or ratio <= _ALIKE:
        narrowest = float(first.dataset.r.values[0])
        for seed, size in enumerate(sizes):
            widths = scans[size].dataset.r.values
            wanted = narrowest * (1.0 if coarser else size / sizes[0])
            width = int(np.argmin(np.abs(widths - wanted)))
            cmi = scans[size].dataset.cmi.values[None]
            drawn = np.concatenate([cmi, scans[size].draws(_DRAWS, seed)])
            curves[size] = drawn[:, shared[size], width]
        quantity: Quantity = "cmi"
    else:
        quantity = "length"
        # small sizes are ordered from end to end where the largest is not: one power for all, or curves would cross
        order = scans[sizes[-1]].order
        for seed, size in enumerate(sizes):
            every = scans[size].lengths_given(order)
            lengths = [every[i] for i in shared[size]]
            rate = np.array([each.rate for each in lengths])
            error = np.array([each.rate_stderr for each in lengths])
            rate = np.where(np.isfinite(error), rate, np.nan)
            noise = np.random.default_rng(seed).standard_normal((_DRAWS + 1, len(rate)))
            noise[0] = 0.0
            curves[size] = -size * (rate + error * noise)
    seen = np.all([np.isfinite(curve).all(axis=0) for curve in curves.values()], axis=0)
    return np.array(levels)[seen], {size: curve[:, seen] for size, curve in curves.items()}, quantity


def refine_levels(scan: PhaseScan | Mapping[float, PhaseScan], count: int) -> list[float]:
    """Return levels to be added: between those around which xi is largest, or where the curves of sizes cross.

    Parameters
    ----------
    scan : PhaseScan, or dict of size to PhaseScan
    count : int
        How many; the wider of the two gaps around the place is halved first, and so on.

    Returns
    -------
    list of float
        New levels, rising; empty where nothing stands out, or levels lie closer than a millionth.

    Examples
    --------
    >>> from cmi import exact_scan
    >>> from cmi.exact import Cat
    >>> refine_levels(exact_scan(Cat(L=17, dims=1), [0.4, 0.6, 0.8]), 2)  # the longest is that of the most noise
    [0.7, 0.75]
    """
    _check(scan)
    count = whole_number(count, "count", least=0)
    if isinstance(scan, Mapping):
        levels, curves, _ = scale_free(scan)
        found = crossings(levels, curves)
        place = float(np.median([c.level for c in found if c.falling] or [c.level for c in found] or [np.nan]))
        if not found and len(levels):
            place = float(levels[int(np.argmax(curves[max(curves)][0]))])
    else:
        levels = scan.dataset.t.values[scan.dataset.finished.values == 1]
        lengths = [m for m, done in zip(scan.markov_length, scan.dataset.finished.values, strict=True) if done]
        known = [i for i, m in enumerate(lengths) if np.isfinite(m.rate)]
        place = float(levels[min(known, key=lambda i: lengths[i].rate)]) if known else np.nan
    if not np.isfinite(place):
        return []
    grid, added = sorted(levels.tolist()), []
    for _ in range(count):
        i = int(np.searchsorted(grid, place))
        gaps = [(grid[k + 1] - grid[k], k) for k in range(max(i - 1, 0), min(i + 1, len(grid) - 1))]
        if not gaps or max(gaps)[0] < 1e-6:
            break
        _, k = max(gaps)
        middle = float(f"{(grid[k] + grid[k + 1]) / 2.0:.12g}")
        grid.insert(k + 1, middle)
        added.append(middle)
    return sorted(added)


def _check(scans: object) -> None:
    """Refuse what is neither a scan nor a dict of size to scan."""
    every = scans.values() if isinstance(scans, Mapping) else [scans]
    for scan in every:
        if not hasattr(type(scan), "markov_length"):  # of the scan itself it would be computed
            raise TypeError(f"this takes a PhaseScan, or a dict of size to PhaseScan, got {type(scan).__name__}")
    for size in scans if isinstance(scans, Mapping) else ():
        if not isinstance(size, Real):
            raise TypeError(f"sizes are lengths in pixels, got {size!r}")


def _ratio(values: list[float]) -> float:
    return max(values) / max(min(values), 1e-300)


def _of_sizes(scans: Mapping[float, PhaseScan]) -> Transition:
    """The verdict of several sizes."""
    if len(scans) == 1:
        return locate_transition(next(iter(scans.values())))
    levels, curves, quantity = scale_free(scans)
    sizes = tuple(sorted(curves))
    what = "CMI of regions that grow with the sample" if quantity == "cmi" else "decay over the sample, L/xi,"
    if len(levels) < _MIN_LEVELS:
        return _no_level(
            "unresolved", f"{len(levels)} noise levels are resolved at all sizes, {_MIN_LEVELS} are needed", sizes
        )
    found = crossings(levels, curves)
    # above a transition the larger size has less up to the end of the noise
    falling = [
        each
        for each in found
        if each.falling
        and not any((c.small, c.large) == (each.small, each.large) and c.level > each.level for c in found)
    ]
    if not falling:
        return _uncrossed(levels, curves, quantity, found, what)
    where = f"{min(c.level for c in falling):.3g} to {max(c.level for c in falling):.3g}"
    middle = float(np.median([c.level for c in falling]))
    spread = (
        float(min(c.level - 2.0 * c.stderr for c in falling)),
        float(max(c.level + 2.0 * c.stderr for c in falling)),
    )

    def crossover(why: str) -> Transition:
        return Transition(
            "crossover",
            middle,
            spread,
            f"the curves of sizes {_list(sizes)} cross at t = {where}, but {why}",
            crossings=found,
            sizes=sizes,
            quantity=quantity,
        )

    if len(sizes) < _MIN_SIZES:
        return crossover("a transition takes three sizes to be told from a crossover")
    pairs = {(c.small, c.large) for c in falling}
    if len(pairs) < 2:
        return crossover("those of two sizes only: more samples or levels are needed")
    fitted = collapse(levels, curves, [c.level for c in falling])
    if fitted is None:
        return crossover("there are too few levels to see whether they fall on one curve")
    if not fitted.likely:
        return crossover(f"they do not fall on one (chi^2 of {fitted.chi2:.0f} with {fitted.dof} dof)")
    low, high = fitted.interval
    if not levels[0] < low <= high < levels[-1]:
        return crossover(
            f"their collapse puts the transition at {low:.3g} to {high:.3g}, which the levels {levels[0]:g} to "
            f"{levels[-1]:g} do not hold"
        )
    return Transition(
        "transition",
        fitted.level,
        fitted.interval,
        f"the {what} of sizes {_list(sizes)} crosses and falls on one curve around t = {fitted.level:.4g} "
        f"({low:.4g} to {high:.4g}), with nu = {fitted.nu:.2f} ({fitted.nu_interval[0]:.2f} to "
        f"{fitted.nu_interval[1]:.2f})",
        fitted.nu,
        fitted.nu_interval,
        found,
        sizes,
        quantity,
    )


def _uncrossed(
    levels: FloatArray,
    curves: Mapping[float, FloatArray],
    quantity: Quantity,
    found: tuple[Crossing, ...],
    what: str,
) -> Transition:
    """No curve falls below that of a smaller size as noise grows."""
    sizes = tuple(sorted(curves))
    higher = []
    for small, large in pairwise(sizes):
        difference = curves[large] - curves[small]
        error = np.maximum(difference[1:].std(axis=0, ddof=1), 1e-300)
        higher.append(difference[0] > _RESOLVED * error)
    more = np.array(higher)
    if more.any():
        most = levels[np.flatnonzero(more.any(axis=0))[-1]]
        why = f"at t = {most:g} the larger sizes still have more of the {what.rstrip(',')}: no size is large enough"
        if quantity == "length":
            why = f"at t = {most:g} the decay over the sample is no faster in the larger one"
        return _no_level("unresolved", why, sizes, found, quantity)
    whole = curves[sizes[-1]] - curves[sizes[0]]
    less = whole[0] < -_RESOLVED * np.maximum(whole[1:].std(axis=0, ddof=1), 1e-300)
    if less.any():
        covered = levels[less]
        return _no_level(
            "none",
            f"the {what} falls with the size from {sizes[0]:g} to {sizes[-1]:g} pixels, at t = {covered[0]:g} to "
            f"{covered[-1]:g}, and nowhere grows",
            sizes,
            found,
            quantity,
        )
    return _no_level("unresolved", f"the {what} of the sizes cannot be told apart", sizes, found, quantity)


def _list(sizes: tuple[float, ...]) -> str:
    return ", ".join(f"{size:g}" for size in sizes)


def _no_level(
    verdict: Verdict,
    message: str,
    sizes: tuple[float, ...] = (),
    found: tuple[Crossing, ...] = (),
    quantity: Quantity | Literal[""] = "",
) -> Transition:
    nan = float("nan")
    return Transition(verdict, nan, (nan, nan), message, crossings=found, sizes=sizes, quantity=quantity)

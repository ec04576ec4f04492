"""Finite-size scaling: where scale-free curves of different sizes cross, and on what they collapse.

Let Q_L(t) be scale-free: the CMI of regions that all grow with L.  Near a transition at t_c with xi ~ |t - t_c|^-nu

    Q_L(t) = F(x) + (g + h x) L^-w + ...,    x = (t - t_c) L^(1/nu),

so that curves of large sizes cross at t_c, and fall on one curve F over x.  Without a transition xi is finite
everywhere, and the larger size has the smaller Q.  The correction moves crossings of small sizes (g) and changes
their slope (h); nobody knows w beforehand, so that w = 1 and 2 are fitted, with h and without, and all count.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.stats import chi2 as chi_square

FloatArray = NDArray[np.float64]

__all__ = ["Collapse", "Crossing", "collapse", "crossings"]

_DEGREE = 4  # of F, a polynomial in x
_CORRECTIONS = ((1.0, 0), (2.0, 0), (1.0, 1), (2.0, 1))  # w, degree in x
_SIGNIFICANT = 2.5  # standard errors by which curves have to differ on either side of a crossing
_LEAST_NU, _LARGEST_NU = 0.3, 8.0
_LIKELY = 0.01  # chi^2 of a collapse that is taken


@dataclass(frozen=True)
class Crossing:
    """Two sizes whose curves cross: where, its standard error, and whether the larger one is higher before it."""

    small: float
    large: float
    level: float
    stderr: float
    falling: bool


@dataclass(frozen=True)
class Collapse:
    """Scaling of the curves of several sizes around one level.

    Parameters
    ----------
    level, interval : float and (float, float)
        t_c, the median over fits with all corrections, to all sizes used and (of four and more) without the
        smallest; and 95 % of their bootstrap draws together, so that the spread between fits is part of it.
    nu, nu_interval : float and (float, float)
        Likewise.
    sizes : tuple of float
        Those that scale together; smaller ones are left out until they do.
    chi2, dof : float and int
        Of the best of the fits, over the errors of the points.
    """

    level: float
    interval: tuple[float, float]
    nu: float
    nu_interval: tuple[float, float]
    sizes: tuple[float, ...]
    chi2: float
    dof: int

    @property
    def likely(self) -> bool:
        """Whether the curves fall on one within their errors."""
        return bool(chi_square.sf(self.chi2, self.dof) > _LIKELY)


def crossings(levels: FloatArray, curves: Mapping[float, FloatArray]) -> tuple[Crossing, ...]:
    """Find where curves of two sizes cross, each clearly above the other on its side.

    Parameters
    ----------
    levels : (t,) array
        Rising.
    curves : dict of size to (draws, t) array
        Each row a curve as it could have come out; the first is the estimate.

    Returns
    -------
    tuple of Crossing
        Of every pair of sizes, possibly several, by size and level.

    Examples
    --------
    >>> t = np.linspace(0.0, 1.0, 11)
    >>> noise = 0.01 * np.random.default_rng(0).standard_normal((2, 100, 11))
    >>> found = crossings(t, {1.0: 0.5 - t + noise[0], 2.0: 0.8 - 2.0 * t + noise[1]})
    >>> [(c.small, c.large, round(c.level, 1)) for c in found]
    [(1.0, 2.0, 0.3)]
    """
    found = []
    for small, large in combinations(sorted(curves), 2):
        difference = curves[large] - curves[small]
        error = np.maximum(difference[1:].std(axis=0, ddof=1), 1e-300)
        sign = np.sign(difference[0]) * (np.abs(difference[0]) > _SIGNIFICANT * error)
        clear = np.flatnonzero(sign)
        for i, j in pairwise(clear):
            if sign[i] == sign[j]:
                continue
            part = slice(i, j + 1)
            weights = 1.0 / np.maximum(error[part], 1e-6 * error[part].max())
            design = np.stack([np.ones(j + 1 - i), levels[part]], axis=1)
            line = np.linalg.pinv(design * weights[:, None]) * weights @ difference[:, part].T
            with np.errstate(divide="ignore", invalid="ignore"):
                roots = np.clip(-line[0] / line[1], levels[i], levels[j])
            spread = float(np.diff(np.nanquantile(roots[1:], [0.16, 0.84]))[0]) / 2.0
            found.append(Crossing(small, large, float(roots[0]), spread, bool(sign[i] > 0)))
    return tuple(found)


def collapse(levels: FloatArray, curves: Mapping[float, FloatArray], around: Sequence[float]) -> Collapse | None:
    """Fit one curve to all sizes, in x = (t - t_c) L^(1/nu), with a correction to scaling.

    Parameters
    ----------
    levels : (t,) array
        Rising.
    curves : dict of size to (draws, t) array
        As for `crossings`; at least three sizes.
    around : sequence of float
        Levels to start from: where curves cross.

    Returns
    -------
    Collapse or None
        None where there are too few levels for a fit.

    Raises
    ------
    ValueError
        For fewer than three sizes.

    Examples
    --------
    >>> t = np.linspace(0.3, 0.5, 9)
    >>> rng = np.random.default_rng(0)
    >>> curves = {L: np.tanh((0.4 - t) * L) + 0.01 * rng.standard_normal((50, 9)) for L in (2.0, 4.0, 8.0)}
    >>> found = collapse(t, curves, [0.41])
    >>> round(found.level, 2), round(found.nu, 1), found.likely
    (0.4, 1.0, True)
    """
    sizes = sorted(curves)
    if len(sizes) < 3:
        raise ValueError(f"a collapse takes at least three sizes, got {len(sizes)}")
    best: tuple[list[_Fit], tuple[float, ...]]
    for first in range(len(sizes) - 2):
        some = tuple(sizes[first:])
        if len(some) * len(levels) < _DEGREE + 8:
            return None
        fits = [_Fit.best(levels, {size: curves[size] for size in some}, around, each) for each in _CORRECTIONS]
        best = fits, some
        if max(chi_square.sf(fit.chi2, fit.dof) for fit in fits) > _LIKELY:
            break
    fits, some = best
    others = list(fits)
    if len(some) > 3:
        start = [fits[0].level, *around]
        rest = {size: curves[size] for size in some[1:]}
        others += [_Fit.best(levels, rest, start, each) for each in _CORRECTIONS]
    level, nu = np.median([[fit.level, fit.nu] for fit in others], axis=0).tolist()
    (low, least_nu), (high, most_nu) = np.quantile(
        np.concatenate([fit.drawn() for fit in others]), [0.025, 0.975], axis=0
    ).tolist()
    better = min(fits, key=lambda fit: fit.chi2)
    return Collapse(
        level,
        (low, high),
        nu,
        (least_nu, most_nu),
        some,
        better.chi2,
        better.dof,
    )


@dataclass(frozen=True, eq=False)
class _Fit:
    """One collapse: points, their errors, and the least chi^2."""

    t: FloatArray
    size: FloatArray
    draws: FloatArray
    error: FloatArray
    correction: tuple[float, int]
    level: float
    nu: float
    chi2: float

    @property
    def dof(self) -> int:
        return len(self.t) - _DEGREE - 4 - self.correction[1]

    @classmethod
    def best(
        cls,
        levels: FloatArray,
        curves: Mapping[float, FloatArray],
        around: Sequence[float],
        correction: tuple[float, int],
    ) -> _Fit:
        t, size = np.tile(levels, len(curves)), np.repeat(np.array(list(curves)), len(levels))
        draws = np.concatenate(list(curves.values()), axis=1)
        error = draws[1:].std(axis=0, ddof=1)
        error = np.maximum(error, 1e-3 * np.abs(draws[0]).max())  # what is exact is no scaling curve to all digits
        starts = [(level, nu) for level in sorted(set(around)) for nu in (0.7, 1.2, 2.0)]
        found = [_least(t, size, draws[0], error, correction, *start) for start in starts]
        level, nu, chi2 = min(found, key=lambda each: each[2])
        return cls(t, size, draws, error, correction, level, nu, chi2)

    def drawn(self) -> FloatArray:
        """(draws, 2): t_c and nu of the other curves."""
        fixed = (self.error, self.correction, self.level, self.nu)
        return np.array([_least(self.t, self.size, each, *fixed)[:2] for each in self.draws[1:]])


def _least(
    t: FloatArray,
    size: FloatArray,
    q: FloatArray,
    error: FloatArray,
    correction: tuple[float, int],
    level: float,
    nu: float,
) -> tuple[float, float, float]:
    """Return (t_c, nu, chi^2) at the least chi^2 near a start; the polynomials are linear, and solved for."""
    span, middle = float(np.ptp(t)), float(t.min() + t.max()) / 2.0
    largest, goal = size.max(), q / error
    w, degree = correction
    small = (size / size.min()) ** -w / error

    def chi2(parameters: FloatArray) -> float:
        t_c, exponent = parameters[0] * span + level, np.exp(parameters[1]) / nu
        if abs(t_c - middle) > span or not 1.0 / _LARGEST_NU < exponent < 1.0 / _LEAST_NU:
            return 1e12
        x = 2.0 * (t - t_c) / span * (size / largest) ** exponent
        design = np.empty((len(t), _DEGREE + 2 + degree))
        design[:, 0] = 1.0 / error
        for power in range(_DEGREE):
            design[:, power + 1] = design[:, power] * x
        design[:, _DEGREE + 1] = small
        if degree:
            design[:, _DEGREE + 2] = small * x
        fitted, _, _, _ = np.linalg.lstsq(design, goal, rcond=None)
        return float(((goal - design @ fitted) ** 2).sum())

    simplex = np.array([[0.0, 0.0], [0.1, 0.0], [0.0, 0.3]])
    found = minimize(
        chi2,
        simplex[0],
        method="Nelder-Mead",
        options={"initial_simplex": simplex, "xatol": 1e-3, "fatol": 1e-2, "maxfev": 300},
    )
    return float(found.x[0] * span + level), float(nu / np.exp(found.x[1])), float(found.fun)

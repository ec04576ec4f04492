"""Plan: for every step of a sampler the cheapest denoiser, so that the certificate stays within a budget.

Costs and gaps add over steps, and each step takes one of the denoisers: a linear programme in whole numbers,

    minimise  sum_k flops(d_k)   subject to  1/2 sum_k dgamma_k gap_k(d_k) <= budget,

or the other way round, which is solved exactly (HiGHS).  Gaps are measured, and the least of several noisy numbers
is too low: half of the scored images plan, and the other half certify what was planned.

Nats count what little noise hides: at t near 0 they are mostly of pixels that differ by a grey level or two.  With
`until` the budget is for images with that much noise on them, and one denoiser takes the steps that begin below.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy.optimize import Bounds, LinearConstraint, milp

from cmi.denoise.certificate import (
    OTHER_HALF,
    PLANNED_HALF,
    ROUNDING,
    Certificate,
    certify,
    check_fields,
    step_costs,
)
from cmi.denoise.schedule import Schedule

__all__ = ["Plan", "plan_schedule"]

FloatArray = NDArray[np.float64]
_TRIES = 20  # plans that are over the budget by less than the solver sees
_SEEN = 1e-5  # of the budget: what it does see
_WITHIN = 1e-9  # of the optimum, and of the budget


@dataclass(frozen=True, eq=False)
class Plan:
    """A schedule that is as cheap as a budget allows.

    Parameters
    ----------
    schedule : Schedule
    certificate : Certificate
        By images that the plan was not made by.
    planned, planned_stderr : float
        The same sum by those that it was made by: within the budget, and too low by the choice.
    whole : Certificate
        By the same images, of all steps that can be covered: with those below `until` that begin at scored levels.
    flops, reference_flops : float
        Of all steps for one image: of the plan, and with the reference in every step.
    window : list of (float, float)
        Noise levels at which the reference is used.
    """

    schedule: Schedule
    certificate: Certificate
    planned: float
    planned_stderr: float
    whole: Certificate
    flops: float
    reference_flops: float
    window: list[tuple[float, float]]

    @property
    def share(self) -> float:
        """Of the operations of the reference in every step."""
        return self.flops / self.reference_flops


def plan_schedule(
    scores: xr.Dataset,
    times: Iterable[float] | None = None,
    *,
    budget_nats: float | None = None,
    budget_flops: float | None = None,
    until: float = 0.0,
    below: str | None = None,
) -> Plan:
    """Choose a denoiser for every step.

    Parameters
    ----------
    scores : xarray.Dataset
        Of `score_denoisers`.
    times : iterable of float, optional
        Falling noise levels of the sampler, as `time_grid` gives them. Default: the levels of the scores, and 0.
    budget_nats : float, optional
        The most that the certificate may be; of the plans within it the cheapest is taken.
    budget_flops : float, optional
        In its place: the most operations per image; of the plans within it that of the smallest certificate.
    until : float
        The certificate ends at this noise level. Default 0: at the last level above t = 0.
    below : str, optional
        The denoiser of all steps that begin there or below, or end at t = 0. Default: the reference.

    Raises
    ------
    ValueError
        Without one of the budgets, with both, with one that no plan keeps; for a `below` that was not scored; for a
        reference of no operations; and as `certify`.

    Examples
    --------
    >>> from cmi.denoise import GaussianDenoiser, score_denoisers, time_grid
    >>> from cmi.exact import GaussianField
    >>> field, times = GaussianField(L=5), time_grid(20)
    >>> whole, local = (GaussianDenoiser(field.covariance, shape=(1, 5, 5), radius=r) for r in (None, 1))
    >>> scores = score_denoisers({"g": whole, "l": local}, field.sample(500, 0), times[:-1])
    >>> scores = scores.assign_coords(flops=("denoiser", [100, 10]))
    >>> plan_schedule(scores, times, budget_nats=10.0).share  # the global one for the last step alone
    0.145
    >>> 0.145 < plan_schedule(scores, times, budget_nats=0.05).share < 1.0
    True
    """
    if (budget_nats is None) == (budget_flops is None):
        raise ValueError("give one budget: budget_nats, or budget_flops")
    budget = float(budget_nats if budget_nats is not None else budget_flops)  # type: ignore[arg-type]
    if not 0.0 <= budget < np.inf:
        raise ValueError(f"a budget is at least 0 and finite, got {budget}")
    scores = scores.sortby("t")
    names = scores.denoiser.values.tolist()
    at = tuple(float(t) for t in ([*scores.t.values[::-1], 0.0] if times is None else times))
    check_fields([*names, *([] if below is None else [below])], scores)
    gaps, _, weights = step_costs(at, scores, until, PLANNED_HALF)
    covered = np.isfinite(weights)
    nats = np.where(covered, 0.5 * np.where(covered, weights, 0.0) * gaps.mean(axis=2), 0.0)
    reference = names.index(scores.attrs["reference"])
    flops = np.repeat(scores.flops.values.astype(np.float64)[:, None], len(at) - 1, axis=1)
    most = float(flops[reference].sum())
    if not most > 0.0:
        raise ValueError(
            f"the operations of {names[reference]!r} were not counted, as of a model that does not compute with "
            "torch: put them into the flops of the scores"
        )
    rest = reference if below is None else names.index(below)
    flops[:, ~covered] = np.where(np.arange(len(names)) == rest, flops[rest, 0], np.inf)[:, None]
    allowed = np.isfinite(flops)  # what no certificate covers is left to one
    goal, limit = (flops, nats) if budget_nats is not None else (nats, flops)
    cheapest = float(np.where(allowed, limit, np.inf).min(axis=0).sum())
    if budget < cheapest:
        unit = "nats" if budget_nats is not None else f"operations, {cheapest / most:.1%} of the reference's"
        raise ValueError(
            f"no plan keeps a budget of {budget:.3g}: the least that one takes is {cheapest:.3g} {unit}"
        )
    chosen = _choose(goal, limit, allowed, budget)
    made_by = scores.image.values[PLANNED_HALF].tolist() if "image" in scores.coords else []
    schedule = Schedule(at, [names[k] for k in chosen], made_by, until)
    own = certify(schedule, scores, samples=PLANNED_HALF)
    steps = np.arange(len(at) - 1)
    return Plan(
        schedule,
        certify(schedule, scores, until=until, samples=OTHER_HALF),
        own.kl,
        own.stderr,
        certify(schedule, scores, until=_lowest(at, scores), samples=OTHER_HALF),
        float(flops[chosen, steps].sum()),
        most,
        schedule.windows(names[reference]),
    )


def _lowest(times: tuple[float, ...], scores: xr.Dataset) -> float:
    """Where the last step ends that begins at a level not below the scored ones."""
    return min(end for begin, end in pairwise(times) if begin >= float(scores.t.min()) - ROUNDING)


def _choose(goal: FloatArray, limit: FloatArray, allowed: NDArray[np.bool_], budget: float) -> NDArray[np.int64]:
    """One row per column, so that the goals add to the least while the limits add to at most the budget.

    The solver is exact to about 1e-6 of the largest number it is given. So it is given what is above the least of
    every column, without the choices that no plan within the budget, or as good as one that is known, can contain.
    """
    columns = np.arange(goal.shape[1])
    more = np.where(allowed, limit, np.inf)
    least = more.min(axis=0)
    left = budget * (1.0 + _WITHIN) - float(least.sum())
    more = more - least
    allowed = allowed & (more <= left)
    best = np.where(allowed, more, np.inf).argmin(axis=0)  # within the budget
    while True:
        over = np.where(allowed, goal, np.inf)
        over = over - over.min(axis=0)
        value = float(over[best, columns].sum())
        fewer = allowed & (over <= value)
        found = _solved(over, more, fewer, left)
        if found is not None and float(over[found, columns].sum()) < value:
            best, allowed = found, fewer
        elif (fewer == allowed).all() or found is None:
            return np.asarray(best)
        else:
            allowed = fewer


def _solved(
    goal: FloatArray, limit: FloatArray, allowed: NDArray[np.bool_], most: float
) -> NDArray[np.int64] | None:
    """The best choice whose limits add to at most so much, as the solver finds it; None if it finds none."""
    rows, columns = goal.shape
    finite, bound = (np.where(allowed, each, 0.0) for each in (goal, limit))
    scale, size = (float(each.max()) or 1.0 for each in (finite, bound))
    constraints = [
        LinearConstraint(np.tile(np.eye(columns), rows), 1.0, 1.0),
        LinearConstraint((bound / size).reshape(1, -1), -np.inf, most / size),
    ]
    for tried in range(_TRIES + 1):
        if tried == _TRIES:  # many are over by rounding alone, as where costs are alike: leave all of them out
            constraints.append(
                LinearConstraint((bound / size).reshape(1, -1), -np.inf, most * (1.0 - _SEEN) / size)
            )
        found = milp(
            (finite / scale).ravel(),
            integrality=np.ones(rows * columns),
            bounds=Bounds(0.0, allowed.ravel().astype(np.float64)),
            constraints=constraints,
            options={"mip_rel_gap": _WITHIN},
        )
        if found.x is None:
            return None
        chosen = np.asarray(found.x.reshape(rows, columns).argmax(axis=0))
        if float(bound[chosen, np.arange(columns)].sum()) <= most:
            return chosen
        taken = (np.arange(rows)[:, None] == chosen).astype(np.float64)
        constraints.append(LinearConstraint(taken.reshape(1, -1), -np.inf, columns - 1.0))  # by rounding alone
    return None

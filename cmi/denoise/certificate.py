"""Certificate: what denoisers other than the reference cost at most, in nats, when images are sampled with them.

In the time gamma = SNR noisy images are Y_gamma = gamma x0 + W_gamma, a signal in Brownian noise; given what was
seen, dY = m(Y, gamma) dgamma + dW with m the posterior mean.  The SDE sampler (of order one) with K steps draws

    Y_{k+1} = Y_k + dgamma_k D_k(Y_k) + W,    dgamma_k = gamma_{k+1} - gamma_k:

the same equation, a D_k that stands still for a step in place of m.  So (Girsanov), with l_k the loss
E |x0 - D_k|^2 at the beginning of step k,

    KL(data at gamma_K || sampler) <= KL(gamma_0) + 1/2 sum_k dgamma_k l_k - 1/2 int mmse dgamma,

for the steps as they are, none of them small.  The last term depends on no denoiser; relative to a sampler that
uses the reference g in every step the bound is worse by

    1/2 sum_k dgamma_k (l_k - l_k,g),

which needs losses only.  It is a statement about the SDE of order one, and of order two in the limit of many steps,
not about the ODE.  It ends at the last level above t = 0, where the SNR is infinite, or before: the sum down to any
level bounds the KL at that level, of images with that noise, whatever denoises the rest.  The sampler of order one
passes through every level of a step with the D_k of its beginning, so a step that goes beyond counts by the part
before it.

Steps that begin between two scored levels are interpolated: gamma gap, which is small at both ends, linearly in
ln gamma, and the gap in gamma itself beside gamma = 0.  How far off that may be is measured by leaving out every
second level.  After Hu, Liu, Zhang and Gao (arXiv:2508.06614); Girsanov's theorem for samplers: Chen et al.
(arXiv:2209.11215).
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from cmi.denoise.schedule import Schedule
from cmi.denoise.scores import check_finite, noise_of
from cmi.denoise.signature import not_among
from cmi.noise import Noise

__all__ = [
    "OTHER_HALF",
    "PLANNED_HALF",
    "ROUNDING",
    "Certificate",
    "certify",
    "check_fields",
    "mean_and_error",
    "step_costs",
]

FloatArray = NDArray[np.float64]
ROUNDING = 1e-9  # of noise levels
_APART = 100.0  # most that the SNR of neighbouring levels may differ by, for steps between them
_KNOWN = 0.5  # of the loss at SNR 0 that must be left at the level beside it, for the same
PLANNED_HALF, OTHER_HALF = slice(0, None, 2), slice(1, None, 2)  # of the scored images


@dataclass(frozen=True, eq=False)
class Certificate:
    """How much larger the bound on KL(data || sampler) is than with the reference in every step.

    Parameters
    ----------
    kl, stderr : float
        1/2 sum_k dgamma_k gap_k, in nats, and its error from held-out images.
    distance, distance_stderr : float
        With E |x0_hat_g - x0_hat|^2 in place of the gap: the same, if the reference is the posterior mean.
    nats : (steps, images) array
        1/2 dgamma_k gap_k of every step and image, of whose sums over steps kl is the mean: of a step that goes
        beyond `until` the part before it, NaN for steps that begin there, and for one that ends at t = 0.
    schedule : Schedule
    until : float
        The noise level at which it ends.
    reference : str
    interpolation : float
        How far off kl may be since steps begin between scored levels, nats: how much those steps change with every
        second level left out. 0 if every step begins at a scored level.
    left_out, trained_on : int
        Scored images that were left out since the plan was made by them; and those that a denoiser was trained on:
        with any, gaps are too low.
    not_known : tuple of str
        Denoisers of which it is not known which images they were trained on.
    """

    kl: float
    stderr: float
    distance: float
    distance_stderr: float
    nats: FloatArray
    schedule: Schedule
    until: float
    reference: str
    interpolation: float
    left_out: int
    trained_on: int
    not_known: tuple[str, ...]

    @property
    def images(self) -> int:
        """By how many."""
        return int(self.nats.shape[1])

    @property
    def by_step(self) -> FloatArray:
        """Of every step, (steps,): the mean of `nats`."""
        return np.asarray(self.nats.mean(axis=1))

    def of_steps(self, first: int, last: int) -> tuple[float, float]:
        """Nats of the steps from first to before last, and their error; those that are not covered are 0."""
        return mean_and_error(np.nansum(self.nats[first:last], axis=0))

    @property
    def residual(self) -> float:
        """Kl - distance: 0 if the reference is the posterior mean."""
        return self.kl - self.distance


def mean_and_error(values: FloatArray) -> tuple[float, float]:
    """Of independent numbers."""
    return float(values.mean()), float(values.std(ddof=1) / np.sqrt(len(values)))


def certify(
    schedule: Schedule, scores: xr.Dataset, *, until: float | None = None, samples: Any = None
) -> Certificate:
    """Bound what a schedule costs, relative to one that uses the reference of the scores in every step.

    Parameters
    ----------
    schedule : Schedule
        Its denoisers are those of the scores, by name.
    scores : xarray.Dataset
        Of `score_denoisers`, best of the levels at which steps begin. Between its levels gaps are interpolated;
        beyond them nothing is said.
    until : float
        The noise level at which to stop: what is bounded is the KL of images with that noise. Default: that of the
        plan, if it is one, or else 0, the last level above t = 0.
    samples : slice or indices, optional
        Which of the scored images. Default: all but those that the schedule was planned by.

    Raises
    ------
    ValueError
        For denoisers or levels that were not scored, for steps between levels that are far apart, or fewer than
        three, for fewer than two images that it was not planned by, for a denoiser that sees farther than it
        claims, or was not measured, and if no step begins above `until`.

    Examples
    --------
    >>> from cmi.denoise import GaussianDenoiser, Schedule, score_denoisers, time_grid
    >>> from cmi.exact import GaussianField
    >>> field, times = GaussianField(L=5), time_grid(20)
    >>> whole, local = (GaussianDenoiser(field.covariance, shape=(1, 5, 5), radius=r) for r in (None, 1))
    >>> scores = score_denoisers({"g": whole, "l": local}, field.sample(500, 0), times[:-1])
    >>> found = certify(Schedule.of_one("l", times), scores)
    >>> 0.0 < found.distance < 1.0, certify(Schedule.of_one("g", times), scores).kl
    (True, 0.0)
    """
    check_fields(schedule.denoisers, scores)
    scores = scores.sortby("t")
    until = schedule.until if until is None else until
    kept = np.arange(scores.sizes["sample"])
    if samples is not None:
        kept = np.atleast_1d(kept[samples])
    elif schedule.planned_by and "image" in scores.coords:
        made_by = np.array(schedule.planned_by)
        # of data of few states signatures do not tell images apart, but the scores that made it are known
        same = np.array_equal(scores.image.values[PLANNED_HALF], made_by)
        kept = kept[OTHER_HALF] if same else kept[not_among(scores.image.values, made_by)]
    if len(kept) < 2:
        raise ValueError(
            f"{len(kept)} of {scores.sizes['sample']} scored images are left to certify by"
            + ", since the plan was made by the others: score other images" * bool(samples is None)
        )
    names = scores.denoiser.values.tolist()
    which = [names.index(name) for name in schedule.denoisers]
    gaps, distances, weights = step_costs(schedule.times, scores, until, kept)
    chosen = np.arange(len(which))
    half = 0.5 * weights[:, None]
    nats, far = half * gaps[which, chosen], half * distances[which, chosen]  # (steps, images)
    (kl, stderr), (distance, distance_stderr) = (mean_and_error(np.nansum(each, axis=0)) for each in (nats, far))
    covered = np.flatnonzero(np.isfinite(weights))
    return Certificate(
        kl=kl,
        stderr=stderr,
        distance=distance,
        distance_stderr=distance_stderr,
        nats=nats,
        schedule=schedule,
        until=max(until, schedule.times[int(covered.max()) + 1]),
        reference=str(scores.attrs["reference"]),
        interpolation=_by_fewer_levels(
            np.array(schedule.times)[covered], scores, kept, [which[k] for k in covered], half[covered, 0]
        ),
        left_out=0 if samples is not None else scores.sizes["sample"] - len(kept),
        trained_on=int(scores.attrs.get("trained_on", 0)),
        not_known=tuple(json.loads(scores.attrs.get("not_known", "[]"))),
    )


def step_costs(
    times: tuple[float, ...], scores: xr.Dataset, until: float = 0.0, samples: Any = slice(None)
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Gaps and distances at the beginning of every step, (denoisers, steps, samples), and dgamma, (steps,).

    Dgamma is that down to `until`. All are NaN of steps that begin there or below, and of one that ends at t = 0,
    for which dgamma is infinite.

    Raises
    ------
    ValueError
        If `until` is no level, or nothing is left; for steps that begin where nothing was scored, or between
        levels that are far apart.
    """
    check_finite(scores)
    if not 0.0 <= until < 1.0:
        raise ValueError(f"until is a noise level, from 0 to below 1, got {until}")
    noise, levels = noise_of(scores), scores.t.values
    begins, snr = np.asarray(times[:-1]), np.asarray(noise.snr(np.asarray(times)))
    last = np.inf if until == 0.0 else float(noise.snr(until))
    weights = np.minimum(snr[1:], last) - snr[:-1]
    covered = np.isfinite(weights) & (begins > until + ROUNDING)
    if not covered.any():
        raise ValueError(
            f"no step from t = {times[0]:g} "
            + (f"begins above t = {until:g}: take a lower level" if until else "ends above t = 0: take more steps")
        )
    onto = _interpolation(levels, begins[covered], noise)
    _check_distances(onto, scores)
    gaps, distances = np.full((2, scores.sizes["denoiser"], len(begins), _gaps(scores, samples).shape[2]), np.nan)
    gaps[:, covered] = np.einsum("kl,dls->dks", onto, _gaps(scores, samples))
    distances[:, covered] = np.einsum("kl,dls->dks", onto, scores.distance.values[..., samples])
    return gaps, distances, np.where(covered, weights, np.nan)


def _gaps(scores: xr.Dataset, samples: Any) -> FloatArray:
    """Losses less those of the reference, (denoisers, levels, samples)."""
    loss = scores.loss.values[..., samples]
    return np.asarray(loss - loss[scores.denoiser.values.tolist().index(scores.attrs["reference"])])


def _by_fewer_levels(
    begins: FloatArray, scores: xr.Dataset, samples: Any, which: list[int], nats: FloatArray
) -> float:
    """How much the steps between levels move with every second level left out, added up; the larger of two ways."""
    noise, levels = noise_of(scores), scores.t.values
    onto = _interpolation(levels, begins, noise)
    between = (onto > 0.0).sum(axis=1) > 1
    if not between.any():
        return 0.0
    if len(levels) < 3:
        raise ValueError(
            f"steps begin between the {len(levels)} scored levels, too few to interpolate: score the levels of the "
            "steps"
        )
    gaps = _gaps(scores, samples).mean(axis=2)[which]  # (steps, levels)
    moved = []
    for first in (1, 2):
        kept = np.unique([0, *range(first, len(levels), 2), len(levels) - 1])
        fewer = np.zeros_like(onto)
        fewer[:, kept] = _interpolation(levels[kept], begins, noise)
        moved.append(float(nats[between] @ np.abs(((fewer - onto) * gaps).sum(axis=1))[between]))
    return max(moved)


def _interpolation(levels: FloatArray, times: FloatArray, noise: Noise) -> FloatArray:
    """Weights (times, levels) of gaps between neighbouring levels, which rise; one level where they agree.

    SNR x gap is linear in ln SNR. Gaps fall to their value at SNR 0 in proportion to SNR, as those of any posterior
    means do.
    """
    weights = np.zeros((len(times), len(levels)))
    place, at = (np.asarray(noise.snr(each), dtype=np.float64) for each in (levels, times))
    for row, t in enumerate(times):
        near = int(np.abs(levels - t).argmin())
        if abs(levels[near] - t) < ROUNDING:
            weights[row, near] = 1.0
            continue
        above = int(np.searchsorted(levels, t))
        if above in (0, len(levels)):
            raise ValueError(
                f"a step begins at t = {t:g}, scores are of {levels[0]:g} to {levels[-1]:g}: score that level"
            )
        low, high = place[above - 1], place[above]  # SNR falls with t
        if high == 0.0:
            share = at[row] / low
            weights[row, above - 1], weights[row, above] = share, 1.0 - share
            continue
        share = np.log(at[row] / high) / np.log(low / high)
        weights[row, above - 1], weights[row, above] = share * low / at[row], (1.0 - share) * high / at[row]
    return weights


def _check_distances(onto: FloatArray, scores: xr.Dataset) -> None:
    """Raise a ValueError for steps between levels so far apart that what lies between may be anything.

    Apart by a factor of the SNR; beside SNR 0 by what is known of the image at the other level.
    """
    levels, snr = scores.t.values, np.asarray(noise_of(scores).snr(scores.t.values))
    loss = scores.loss.sel(denoiser=scores.attrs["reference"]).mean("sample").values
    for low in sorted({int(np.flatnonzero(row)[0]) for row in onto if np.count_nonzero(row) > 1}):
        high = low + 1
        far = loss[low] < _KNOWN * loss[high] if snr[high] == 0.0 else snr[low] > _APART * snr[high]
        if far:
            raise ValueError(
                f"steps begin between the scored levels t = {levels[low]:.3g} and {levels[high]:.3g}, which are "
                "too far apart to interpolate: score the levels at which steps begin"
            )


def check_fields(used: Iterable[str], scores: xr.Dataset) -> None:
    """Raise a ValueError for a denoiser that was not scored, or is not known to be as local as it claims."""
    names = scores.denoiser.values.tolist()
    for name in dict.fromkeys(used):
        if name not in names:
            raise ValueError(f"the denoiser {name!r} was not scored: scores are of {', '.join(names)}")
        radius, field = (int(scores[key].values[names.index(name)]) for key in ("radius", "field"))
        if radius >= 0 and field < 0:
            raise ValueError(
                f"the denoiser {name!r} claims a radius of {radius}, which was not measured: score it with fields"
            )
        if field > radius >= 0:
            raise ValueError(
                f"the denoiser {name!r} claims a radius of {radius} and sees {field} pixels far: it is not as "
                "local as claimed, and nothing is certified"
            )

"""Certificate: what denoisers other than the reference cost at most, in nats, when images are sampled with them.

In the time gamma = SNR noisy images are Y_gamma = gamma x0 + W_gamma, a signal in Brownian noise; given what was
seen, dY = m(Y, gamma) dgamma + dW with m the posterior mean.  The SDE sampler with K steps draws

    Y_{k+1} = Y_k + dgamma_k D_k(Y_k) + W,    dgamma_k = gamma_{k+1} - gamma_k:

the same equation, a D_k that stands still for a step in place of m.  So (Girsanov), with l_k the loss
E |x0 - D_k|^2 at the beginning of step k,

    KL(data at gamma_K || sampler) <= KL(gamma_0) + 1/2 sum_k dgamma_k l_k - 1/2 int mmse dgamma,

for the steps as they are, none of them small.  The last term depends on no denoiser; relative to a sampler that
uses the reference g in every step the bound is worse by

    1/2 sum_k dgamma_k (l_k - l_k,g),

which needs losses only.  It is a statement about the SDE, not the ODE, and ends at the last level above t = 0,
where the SNR is infinite, or before: the sum over the steps down to any level bounds the KL at that level, of
images with that noise, whatever denoises the rest.

Steps that begin between two scored levels are interpolated: gamma gap, which is small at both ends, linearly in
ln gamma, and the gap in gamma itself beside gamma = 0.  How much that may be off is measured by every other level.
After Hu, Liu, Zhang and Gao (arXiv:2508.06614); Girsanov's
theorem for samplers: Chen et al. (arXiv:2209.11215).
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
from cmi.noise import Noise, noise_schedule

__all__ = ["Certificate", "certify", "check_fields", "step_costs", "until_level"]

FloatArray = NDArray[np.float64]
_ROUNDING = 1e-9  # of noise levels
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
    by_step, by_step_stderr : (steps,) arrays
        Of every step, nats; NaN for one that ends at t = 0, or below `until`.
    schedule : Schedule
    until : float
        The noise level at which it ends.
    reference : str
    interpolation : float
        How much larger or smaller kl would be by every other scored level, nats: about how far the steps between
        levels may be off. 0 if every step begins at a scored level.
    images, trained_on : int
        By how many images, and how many of the scored ones a denoiser was trained on: with any, gaps are too low.
    other_half : bool
        Whether images were left out since the plan was made by them.
    """

    kl: float
    stderr: float
    distance: float
    distance_stderr: float
    by_step: FloatArray
    by_step_stderr: FloatArray
    schedule: Schedule
    until: float
    reference: str
    interpolation: float
    images: int
    trained_on: int
    other_half: bool

    @property
    def residual(self) -> float:
        """Kl - distance: 0 if the reference is the posterior mean."""
        return self.kl - self.distance


def certify(schedule: Schedule, scores: xr.Dataset, *, until: float = 0.0, samples: Any = None) -> Certificate:
    """Bound what a schedule costs, relative to one that uses the reference of the scores in every step.

    Parameters
    ----------
    schedule : Schedule
        Its denoisers are those of the scores, by name.
    scores : xarray.Dataset
        Of `score_denoisers`, best of the levels at which steps begin. Between its levels gaps are interpolated;
        beyond them nothing is said.
    until : float
        The noise level at which to stop: what is bounded is the KL of images with that noise. Default 0: the last
        level above t = 0.
    samples : slice or index, optional
        Which of the scored images. Default: all; of a plan that was made by one half of these images the other.

    Raises
    ------
    ValueError
        For denoisers or levels that were not scored, for steps between levels that are far apart, or fewer than
        three, for fewer than two images, for a denoiser that sees farther than it claims, or was not measured, and
        if no step ends at or above `until`.

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
    other = samples is None and schedule.planned_by != "" and schedule.planned_by == images_of_scores(scores)
    if samples is None:
        samples = OTHER_HALF if other else slice(None)
    names = scores.denoiser.values.tolist()
    which = [names.index(name) for name in schedule.denoisers]
    gaps, distances, weights = step_costs(schedule.times, scores, samples)
    weights = until_level(weights, schedule.times, until)
    chosen = np.arange(len(which))
    gap, distance = gaps[which, chosen], distances[which, chosen]  # (steps, samples)
    covered = np.isfinite(weights)
    total, far = (0.5 * weights[covered] @ each[covered] for each in (gap, distance))
    many = gap.shape[1]
    if many < 2:
        raise ValueError(f"an error takes at least two scored images, got {many}")
    step = np.where(covered, 0.5 * weights, np.nan)
    return Certificate(
        kl=float(total.mean()),
        stderr=float(total.std(ddof=1) / np.sqrt(many)),
        distance=float(far.mean()),
        distance_stderr=float(far.std(ddof=1) / np.sqrt(many)),
        by_step=step * gap.mean(axis=1),
        by_step_stderr=step * gap.std(axis=1, ddof=1) / np.sqrt(many),
        schedule=schedule,
        until=schedule.times[int(np.flatnonzero(covered).max()) + 1] if covered.any() else schedule.times[0],
        reference=str(scores.attrs["reference"]),
        interpolation=_by_fewer_levels(
            schedule.times, scores, samples, which, np.where(covered, 0.5 * weights, 0.0)
        ),
        images=many,
        trained_on=int(scores.attrs.get("trained_on", 0)),
        other_half=other,
    )


def step_costs(
    times: tuple[float, ...], scores: xr.Dataset, samples: Any = slice(None)
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Gaps and distances at the beginning of every step, (denoisers, steps, samples), and dgamma, (steps,).

    dgamma is infinite, and NaN is returned, where a step ends at t = 0.
    """
    noise, levels = noise_of(scores), scores.t.values
    distance = scores.distance.values[..., samples]
    onto = _interpolation(levels, np.asarray(times[:-1]), noise)
    _check_distances(onto, scores)
    gaps = np.einsum("kl,dls->dks", onto, _gaps(scores, samples))
    distances = np.einsum("kl,dls->dks", onto, distance)
    snr = np.asarray(noise.snr(np.asarray(times)))
    with np.errstate(invalid="ignore"):
        weights = np.diff(snr)
    return gaps, distances, np.where(np.isfinite(weights), weights, np.nan)


def _gaps(scores: xr.Dataset, samples: Any) -> FloatArray:
    """Losses less those of the reference, (denoisers, levels, samples)."""
    loss = scores.loss.values[..., samples]
    return np.asarray(loss - loss[scores.denoiser.values.tolist().index(scores.attrs["reference"])])


def _by_fewer_levels(
    times: tuple[float, ...], scores: xr.Dataset, samples: Any, which: list[int], nats: FloatArray
) -> float:
    """How much sum_k nats_k gap_k moves, of the steps between levels, by every other level: the larger of two."""
    noise, levels, begins = noise_of(scores), scores.t.values, np.asarray(times[:-1])
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
        moved.append(float(nats[between] @ ((fewer - onto) * gaps).sum(axis=1)[between]))
    return float(np.abs(moved).max())


def until_level(weights: FloatArray, times: tuple[float, ...], until: float) -> FloatArray:
    """Leave out, as NaN, the steps that end below a noise level.

    Raises
    ------
    ValueError
        If the level is none, or no step is left.
    """
    if not 0.0 <= until < 1.0:
        raise ValueError(f"until is a noise level, from 0 to below 1, got {until}")
    kept = np.where(np.asarray(times[1:]) >= until - _ROUNDING, weights, np.nan)
    if not np.isfinite(kept).any():
        raise ValueError(
            f"no step from t = {times[0]:g} ends at t = {until:g} or above: take more steps, or a lower one"
        )
    return kept


def images_of_scores(scores: xr.Dataset) -> str:
    """A hash of the images that were scored; empty where none was kept."""
    return str(scores.attrs.get("images", ""))


def noise_of(scores: xr.Dataset) -> Noise:
    """The schedule of the noise that scores are of."""
    about = json.loads(scores.attrs["noise"])
    if not isinstance(about, dict) or not isinstance(about.get("name"), str):
        raise ValueError("its noise is no schedule")
    schedule = noise_schedule(about.pop("name"), **about)
    if not schedule.gaussian:
        raise ValueError(f"its noise, {schedule.name}, is not Gaussian")
    return schedule


def _interpolation(levels: FloatArray, times: FloatArray, noise: Noise) -> FloatArray:
    """Weights (times, levels) of gaps between neighbouring levels, which rise; one level where they agree.

    SNR x gap is linear in ln SNR. Gaps fall to their value at SNR 0 in proportion to SNR, as those of any posterior
    means do.
    """
    weights = np.zeros((len(times), len(levels)))
    place, at = (np.asarray(noise.snr(each), dtype=np.float64) for each in (levels, times))
    for row, t in enumerate(times):
        near = int(np.abs(levels - t).argmin())
        if abs(levels[near] - t) < _ROUNDING:
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

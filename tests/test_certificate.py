"""Certificates and plans, where everything is known: Gaussian data and exact denoisers."""

from __future__ import annotations

from dataclasses import replace
from io import StringIO
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from exact_denoisers import (
    EXACT,
    FIELD,
    IMAGES,
    SHAPE,
    exact_certificate,
    exact_gaps,
    gaussian_kl,
    sampled_covariance,
)
from rich.console import Console
from torch import Tensor

from cmi.denoise import (
    GaussianDenoiser,
    HybridDenoiser,
    Schedule,
    certify,
    load_schedule,
    load_scores,
    plan_schedule,
    save_schedule,
    save_scores,
    score_denoisers,
    time_grid,
)
from cmi.denoise.plan import _choose
from cmi.denoise.report import certificate_report


def text(printed: Any) -> str:
    """As a terminal shows it."""
    console = Console(width=200, record=True, file=StringIO())
    console.print(printed)
    return console.export_text()


@pytest.fixture(scope="module")
def scores() -> xr.Dataset:
    return score_denoisers(EXACT, IMAGES, time_grid(20)[:-1])


# Certificate


def test_the_certificate_is_the_closed_form(scores: xr.Dataset) -> None:
    times = time_grid(20)
    for names in (["r0"] * 20, ["r1"] * 20, ["r0"] * 10 + ["global"] * 5 + ["r1"] * 5):
        found = certify(Schedule(times, names), scores)
        wanted = exact_certificate(names, times.tolist())
        assert found.kl == pytest.approx(wanted, abs=4.0 * found.stderr)
        assert found.distance == pytest.approx(wanted, rel=0.05)
        assert abs(found.distance - wanted) < 4.0 * found.distance_stderr + 1e-12
        assert found.until == pytest.approx(0.05)
        assert np.isnan(found.by_step[-1])
        assert np.nansum(found.by_step) == pytest.approx(found.kl)
        assert abs(found.residual) < 4.0 * found.stderr
    assert certify(Schedule.of_one("global", times), scores).kl == 0.0


def test_with_many_steps_it_is_the_integral_of_girsanov() -> None:
    """1/2 int (mmse_local - mmse_global) dSNR up to t = 0.1, to 5 %: by quadrature of the closed form."""
    snr = np.geomspace(1e-3, 81.0, 150)
    times = FIELD.schedule().time(snr)
    gaps = exact_gaps("r1", times.tolist())
    integral = 0.5 * float(np.trapezoid(gaps, snr))
    scores = score_denoisers({"global": EXACT["global"], "r1": EXACT["r1"]}, IMAGES[:300], times)
    found = certify(Schedule.of_one("r1", times), scores)
    assert found.distance == pytest.approx(integral, rel=0.05)
    assert found.until == pytest.approx(0.1)


def test_it_bounds_what_the_sampler_really_loses() -> None:
    """Samples of the SDE with a local denoiser are Gaussian, their covariance follows from the steps: exact KL."""
    snr = np.concatenate([[0.0], np.geomspace(1e-3, 81.0, 200)])
    times = np.concatenate([[1.0], FIELD.schedule().time(snr[1:])])
    for name in ("r0", "r1"):
        local = EXACT[name]
        assert isinstance(local, GaussianDenoiser)
        y = np.zeros((36, 36))  # covariance of Y_gamma
        for k in range(len(times) - 1):
            gain = snr[k + 1] - snr[k]
            t, alpha, sigma = (float(v) for v in (times[k], 1.0 - times[k], times[k]))
            # x_t = sigma^2 / alpha Y; at t = 1 nothing is known
            rule = local.filter(t) * (sigma**2 / alpha) if alpha > 0.0 else np.zeros((36, 36))
            step = np.eye(36) + gain * rule
            y = step @ y @ step.T + gain * np.eye(36)
        true = snr[-1] ** 2 * FIELD.covariance + snr[-1] * np.eye(36)
        kl = gaussian_kl(true, y)
        # the bound itself: 1/2 sum dgamma l - 1/2 int mmse
        weights = np.diff(snr)
        losses = np.array([local.mmse(float(t)).sum() for t in times[:-1]])
        information = 0.5 * np.linalg.slogdet(np.eye(36) + snr[-1] * FIELD.covariance)[1]
        bound = 0.5 * float(weights @ losses) - information
        assert 0.0 < kl <= bound
        if name == "r1":
            assert bound < 10.0 * kl  # and says something


@pytest.mark.parametrize("steps", [10, 20, 40])
def test_it_bounds_what_a_plan_adds_in_either_order(steps: int) -> None:
    """Exact KL of the images that are drawn down to t = 0.2, of a plan and of the global denoiser in every step."""
    times = np.concatenate([[1.0], time_grid(steps, 0.99, 0.2)])
    wanted = 0.64 * FIELD.covariance + 0.04 * np.eye(36)
    mixed = Schedule.switched(["r0", "global", "r1"], [0.7, 0.4], times)
    bound = exact_certificate(mixed.denoisers, times.tolist())

    def lost(schedule: Schedule, order: int) -> float:
        return gaussian_kl(wanted, sampled_covariance(HybridDenoiser(schedule, EXACT), times, order=order))

    whole = [lost(Schedule.of_one("global", times), order) for order in (1, 2)]
    for order in (1, 2):
        assert 0.2 * bound < lost(mixed, order) - whole[order - 1] < bound
    assert whole[1] < 0.01 * whole[0]  # what the steps themselves cost


def test_levels_between_are_interpolated_and_others_refused(scores: xr.Dataset) -> None:
    between = certify(Schedule([0.82, 0.48, 0.22], ["r1", "r0"]), scores)
    assert between.distance == pytest.approx(exact_certificate(["r1", "r0"], [0.82, 0.48, 0.22]), rel=0.1)
    with pytest.raises(ValueError, match=r"a step begins at t = 0.04, scores are of 0.05 to 1"):
        certify(Schedule([0.5, 0.04, 0.02], ["r1", "r1"]), scores)
    with pytest.raises(ValueError, match="'r7' was not scored: scores are of global, r0, r1"):
        certify(Schedule([0.5, 0.4], ["r7"]), scores)


@pytest.mark.parametrize(("levels", "off"), [(50, 0.003), (25, 0.015), (12, 0.07)])
def test_how_far_steps_between_levels_may_be_off_is_told(levels: int, off: float) -> None:
    """Of 98 steps, with the exact gap at every scored level."""
    times, scored = np.linspace(1.0, 0.02, 99), np.linspace(0.02, 1.0, levels)
    for name in ("r0", "r1"):
        wanted = exact_certificate([name] * 98, times.tolist())
        scores = score_denoisers({key: EXACT[key] for key in ("global", name)}, IMAGES[:10], scored)
        scores.loss.loc[{"denoiser": name}] = (
            scores.loss.sel(denoiser="global") + exact_gaps(name, scored.tolist())[:, None]
        )
        found = certify(Schedule.of_one(name, times), scores)
        error = abs(found.kl - wanted)
        assert error < off * wanted
        assert error < found.interpolation
        said = " ".join(text(certificate_report(found)).split())
        assert f"+- {found.stderr:.2g}, and {found.interpolation:.2g} for steps between levels, nats above" in said
        far = found.interpolation > max(0.1 * found.kl, 3.0 * found.stderr)
        assert ("Too far: score the levels at which they begin" in said) == far
        for first in range(0, 98, 14):  # and of part of the steps
            window = times[first : first + 15]
            wanted = exact_certificate([name] * 14, window.tolist())
            found = certify(Schedule.of_one(name, window), scores)
            assert abs(found.kl - wanted) < 1.5 * found.interpolation, (levels, name, window[0])


@pytest.mark.parametrize(
    ("kl", "stderr", "off", "far"),
    [
        (1.0, 0.001, 0.09, False),
        (1.0, 0.001, 0.11, True),  # a tenth of the certificate
        (-1.0, 0.001, 0.09, False),
        (1.0, 0.1, 0.29, False),
        (1.0, 0.1, 0.31, True),  # three errors
        (0.0, 0.1, 0.29, False),
    ],
)
def test_levels_are_too_far_apart_if_that_tells(
    scores: xr.Dataset, kl: float, stderr: float, off: float, far: bool
) -> None:
    found = certify(Schedule.of_one("r1", time_grid(20)), scores)
    said = text(certificate_report(replace(found, kl=kl, stderr=stderr, interpolation=off)))
    assert ("Too far: score the levels at which they begin" in said) == far


@pytest.mark.parametrize(
    ("levels", "between"),
    [
        ((0.02, 0.5, 1.0), "0.02 and 0.5"),
        ((0.02, 0.04, 1.0), "0.04 and 1"),
        ((0.02, 0.03, 0.04, 0.85, 0.9, 0.95, 1.0), "0.04 and 0.85"),  # what is largest lies where no level is
        ((0.02, 0.1, 0.3, 1.0), "0.3 and 1"),
    ],
)
def test_levels_far_apart_are_not_interpolated(levels: tuple[float, ...], between: str) -> None:
    """Neither by a certificate nor by a plan, while steps at the levels themselves are as before."""
    scores = score_denoisers({name: EXACT[name] for name in ("global", "r1")}, IMAGES[:100], levels)
    times = np.linspace(1.0, 0.02, 99)
    for call in (
        lambda: certify(Schedule.of_one("r1", times), scores),
        lambda: plan_schedule(scores, times, budget_nats=1.0),
    ):
        with pytest.raises(ValueError, match=f"between the scored levels t = {between}, which are too far apart"):
            call()
    assert certify(Schedule.of_one("r1", [*levels[::-1], 0.0]), scores).interpolation == 0.0


def test_scores_that_are_not_finite_certify_nothing(scores: xr.Dataset, tmp_path: Path) -> None:
    """In a sum over steps they would count for nothing."""
    for name in ("loss", "distance"):
        spoiled = scores.copy(deep=True)
        spoiled[name].values[1, 3, 7] = np.nan
        bad = f"the {name} of {str(scores.denoiser.values[1])!r} at t = {float(scores.t[3]):g} is not finite"
        first = str(scores.denoiser.values[0])
        with pytest.raises(ValueError, match=bad):
            certify(Schedule.of_one(first, scores.t.values[::-1]), spoiled)
        with pytest.raises(ValueError, match=bad):
            plan_schedule(costed(spoiled), budget_nats=1.0)
        save_scores(spoiled, tmp_path / f"{name}.nc")
        with pytest.raises(ValueError, match=bad):
            load_scores(tmp_path / f"{name}.nc")


def test_levels_in_any_order_are_the_same(scores: xr.Dataset) -> None:
    schedule = Schedule([0.82, 0.48, 0.22], ["r1", "r0"])
    rng = np.random.default_rng(0)
    mixed = scores.isel(t=rng.permutation(scores.sizes["t"]))
    one, other = certify(schedule, scores), certify(schedule, mixed)
    assert (one.kl, one.interpolation) == (other.kl, other.interpolation)
    assert one.interpolation > 0.0
    plans = [plan_schedule(costed(each), time_grid(20), budget_nats=0.3) for each in (scores, mixed)]
    assert plans[0].schedule == plans[1].schedule
    assert certify(Schedule.of_one("r1", time_grid(20)), scores).interpolation == 0.0


def test_two_levels_are_too_few_to_interpolate(scores: xr.Dataset) -> None:
    with pytest.raises(ValueError, match="begin between the 2 scored levels, too few to interpolate"):
        certify(Schedule.of_one("r0", [0.5, 0.45, 0.4]), scores.sel(t=[0.4, 0.5], method="nearest"))


def test_what_is_not_local_is_not_certified() -> None:
    class Averaged(GaussianDenoiser):
        """Claims a radius, and takes an average over the image, as a group norm does."""

        def denoised(self, xt: Tensor, t: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
            return super().denoised(xt, t, alpha, sigma) * (1.0 + 1e-9 * xt.mean())

    cheat = Averaged(FIELD.covariance, shape=SHAPE, radius=1)
    scores = score_denoisers({"global": EXACT["global"], "cheat": cheat}, IMAGES[:50], [0.5, 0.6])
    with pytest.raises(ValueError, match="'cheat' claims a radius of 1 and sees 5 pixels far"):
        certify(Schedule([0.6, 0.5], ["cheat"]), scores)


def test_a_radius_that_was_not_measured_is_not_believed() -> None:
    unknown = score_denoisers(EXACT, IMAGES[:20], [0.5, 0.6], fields=False)
    for call in (
        lambda: certify(Schedule([0.6, 0.5], ["r1"]), unknown),
        lambda: plan_schedule(unknown, [0.6, 0.5], budget_nats=1.0),
    ):
        with pytest.raises(ValueError, match=r"claims a radius of [01], which was not measured: score it with"):
            call()
    assert certify(Schedule([0.6, 0.5], ["global"]), unknown).kl == 0.0


# Plan


def costed(scores: xr.Dataset) -> xr.Dataset:
    return scores.assign_coords(flops=("denoiser", [100, 10, 30]))


def test_the_plan_is_the_best_of_all(scores: xr.Dataset) -> None:
    """Every schedule of five steps tried."""
    scores, times = costed(scores), np.array([1.0, 0.8, 0.6, 0.45, 0.3, 0.2])
    names = scores.denoiser.values.tolist()
    flops = dict(zip(names, scores.flops.values.tolist(), strict=True))
    every = []
    for chosen in product(names, repeat=5):
        kl = certify(Schedule(times, chosen), scores, samples=slice(0, None, 2)).kl
        every.append((kl, sum(flops[name] for name in chosen)))
    for budget in (0.0, 0.02, 0.1, 1.0):
        plan = plan_schedule(scores, times, budget_nats=budget)
        assert plan.planned <= budget + 1e-9
        assert plan.flops == min(cost for kl, cost in every if kl <= budget)
    for budget in (60.0, 200.0, 350.0):
        plan = plan_schedule(scores, times, budget_flops=budget)
        assert plan.flops <= budget
        assert plan.planned == pytest.approx(min(kl for kl, cost in every if cost <= budget))


@pytest.mark.parametrize("kind", ["operations", "signed", "both"])
def test_plans_of_costs_of_many_sizes(kind: str) -> None:
    """Costs from 1e-6 to 400 nats, every choice tried: the budget is kept, and nothing cheaper keeps it."""
    rng = np.random.default_rng(0)
    rows, columns = 3, 6
    for _ in range(40):
        limit = np.exp(rng.uniform(-14.0, 6.0, (rows, columns)))
        goal = np.repeat(np.exp(rng.uniform(0.0, 7.0, (rows, 1))), columns, axis=1)
        if kind == "signed":
            limit *= rng.choice([-1.0, 1.0], limit.shape, p=[0.2, 0.8])
        if kind == "both":
            goal = np.exp(rng.uniform(-14.0, 6.0, (rows, columns)))
        every = np.array(list(product(range(rows), repeat=columns)))
        limits, goals = (each[every, np.arange(columns)].sum(axis=1) for each in (limit, goal))
        budget = float(np.quantile(limits, rng.uniform(0.0, 0.6))) + 1e-9
        found = _choose(goal, limit, np.ones((rows, columns), bool), budget)
        assert limit[found, np.arange(columns)].sum() <= budget + 1e-12
        assert goal[found, np.arange(columns)].sum() <= goals[limits <= budget].min() * (1.0 + 1e-6)


def test_a_plan_is_certified_by_other_images(scores: xr.Dataset) -> None:
    times = time_grid(20)
    plan = plan_schedule(costed(scores), times, budget_nats=0.2)
    assert plan.certificate.kl == certify(plan.schedule, scores, samples=slice(1, None, 2)).kl
    assert plan.certificate.kl != plan.planned
    assert plan.planned <= 0.2 + 1e-9
    assert plan.schedule.denoisers[-1] == "global"  # ends at t = 0, which no certificate covers
    assert plan.window == plan.schedule.windows("global")
    whole = plan_schedule(costed(scores), budget_nats=0.2)  # the levels of the scores
    assert whole.schedule.times == (*scores.t.values[::-1].tolist(), 0.0)
    assert whole.schedule.denoisers == plan.schedule.denoisers
    assert 0.1 < plan.share < 1.0
    assert plan_schedule(costed(scores), times, budget_nats=5.0).flops < plan.flops
    wrong: dict[str, Any]
    for wrong, message in (
        ({}, "give one budget"),
        ({"budget_nats": 1.0, "budget_flops": 1.0}, "give one budget"),
        ({"budget_nats": -1.0}, "at least 0 and finite"),
        ({"budget_flops": 10.0}, "no plan keeps a budget of 10"),
    ):
        with pytest.raises(ValueError, match=message):
            plan_schedule(costed(scores), times, **wrong)  # type: ignore[arg-type]


def test_a_saved_plan_is_certified_by_the_images_that_did_not_make_it(scores: xr.Dataset, tmp_path: Path) -> None:
    made = plan_schedule(costed(scores), time_grid(20), budget_nats=0.3, until=0.1)
    save_schedule(made.schedule, tmp_path / "plan.json")
    again = load_schedule(tmp_path / "plan.json")
    assert again == made.schedule
    assert "planned by 1000 images down to t = 0.1" in repr(again)
    found = certify(again, scores)
    assert (found.kl, found.stderr, found.until) == (
        made.certificate.kl,
        made.certificate.stderr,
        made.certificate.until,
    )
    assert (found.images, found.left_out) == (1000, 1000)
    assert "By 1000 images; the plan was made by 1000 others." in text(certificate_report(found))
    assert certify(again, scores, samples=slice(None)).images == 2000  # as asked for
    # however they are chosen: images are known by what they are
    rng = np.random.default_rng(0)
    for part in (slice(1, None), slice(0, 700), rng.permutation(2000), np.arange(1, 2000, 2)):
        some = certify(again, scores.isel(sample=part))
        wanted = np.isin(np.arange(2000)[part], np.arange(1, 2000, 2))
        assert (some.images, some.left_out) == (wanted.sum(), (~wanted).sum())
    assert certify(again, score_denoisers(EXACT, IMAGES[300:500], time_grid(20)[:-1], seed=4)).left_out == 100
    others = score_denoisers(EXACT, FIELD.sample(500, 7), time_grid(20)[:-1])
    assert certify(again, others).images == 500
    with pytest.raises(
        ValueError, match="0 of 1000 scored images are left to certify by, since the plan was made by"
    ):
        certify(again, scores.isel(sample=slice(0, None, 2)))
    free = Schedule(again.times, again.denoisers)  # chosen by nobody
    assert free != again
    assert certify(free, scores).images == 2000
    with pytest.raises(ValueError, match=r"1 of 2000 scored images are left to certify by$"):
        certify(free, scores, samples=3)


def test_a_budget_that_rounding_leaves_just_below_a_sum_is_kept(scores: xr.Dataset) -> None:
    """Of equal steps, so that many plans cost the same."""
    two = scores.sel(denoiser=["global", "r1"]).assign_coords(flops=("denoiser", [100, 50]))
    for budget, wanted in ((np.nextafter(1350.0, 0.0), 7), (1350.0 - 1e-5, 6)):
        plan = plan_schedule(two, time_grid(20), budget_flops=budget)
        assert plan.schedule.denoisers.count("global") == wanted
        assert plan.flops <= budget * (1.0 + 1e-9)


def test_of_few_states_the_half_that_planned_is_left_out_too() -> None:
    images = np.repeat(np.array([-1.0, 1.0])[np.random.default_rng(0).integers(0, 2, 200)], 36).reshape(200, 6, 6)
    scores, times = score_denoisers(EXACT, images, time_grid(20)[:-1]), time_grid(20)
    made = plan_schedule(costed(scores), times, budget_nats=100.0)
    again = certify(made.schedule, scores)
    assert (again.kl, again.stderr, again.left_out) == (made.certificate.kl, made.certificate.stderr, 100)


def test_operations_that_were_not_counted_plan_nothing(scores: xr.Dataset) -> None:
    unknown = scores.assign_coords(flops=("denoiser", [0, 0, 0]))
    with pytest.raises(ValueError, match="the operations of 'global' were not counted"):
        plan_schedule(unknown, time_grid(20), budget_nats=1.0)


def test_a_plan_for_images_with_some_noise_left(scores: xr.Dataset) -> None:
    """The budget is for what is above a level, as if the sampler stopped there; one denoiser does the rest."""
    times = time_grid(20)
    plan = plan_schedule(costed(scores), times, budget_nats=0.1, until=0.3, below="r1")
    stopped = plan_schedule(costed(scores), times[times > 0.299], budget_nats=0.1)
    assert plan.schedule.denoisers[:14] == stopped.schedule.denoisers
    assert plan.schedule.denoisers[14:] == ("r1",) * 6
    assert plan.certificate.until == pytest.approx(0.3)
    assert plan.certificate.kl == pytest.approx(stopped.certificate.kl)
    assert plan.certificate.kl == certify(plan.schedule, scores, until=0.3, samples=slice(1, None, 2)).kl
    assert np.isnan(plan.certificate.by_step[14:]).all()
    assert plan.whole.until == pytest.approx(0.05)
    assert plan.whole.kl > plan.certificate.kl + 0.05
    assert plan.share == plan.flops / 2000.0
    assert plan.whole.kl == pytest.approx(np.nansum(plan.whole.by_step))
    assert (
        plan.flops < plan_schedule(costed(scores), times, budget_nats=0.1, until=0.3).flops
    )  # the reference below
    # by operations: what is below counts as well
    cheap = plan_schedule(costed(scores), times, budget_flops=plan.flops, until=0.3, below="r1")
    assert cheap.flops <= plan.flops
    assert cheap.planned <= plan.planned + 1e-9
    wrong: Any
    for wrong, message in (
        ({"until": 1.0}, "from 0 to below 1, got 1"),
        ({"until": -0.1}, "from 0 to below 1, got -0.1"),
        ({"until": 0.6, "times": [0.5, 0.25, 0.0]}, "no step from t = 0.5 begins above t = 0.6"),
        ({"times": [1.0, 0.0]}, "no step from t = 1 ends above t = 0: take more steps"),
        ({"below": "r = 9"}, "'r = 9' was not scored"),
    ):
        with pytest.raises(ValueError, match=message):
            plan_schedule(scores, **{"times": times, "budget_nats": 1.0} | wrong)


def test_a_step_that_goes_beyond_counts_by_its_part(scores: xr.Dataset) -> None:
    """The sampler of order one passes the level within the step, as if the step ended there."""
    beyond, ended = (Schedule([1.0, 0.7, 0.5, end, 0.0], ["r0", "r1", "r0", "r1"]) for end in (0.15, 0.3))
    found, wanted = (certify(each, scores, until=0.3) for each in (beyond, ended))
    assert found.until == wanted.until == 0.3
    assert found.kl == pytest.approx(wanted.kl, rel=1e-12)
    assert found.stderr == pytest.approx(wanted.stderr, rel=1e-12)
    assert np.isnan(found.by_step[3])
    assert found.by_step[2] > 0.5 * found.kl
    assert found.kl < certify(beyond, scores, until=0.15).kl
    assert certify(Schedule([1.0, 0.5], ["r1"]), scores, until=0.3).until == 0.5  # where the schedule ends
    # a plan pays for it, so that it is the global one, and below takes only what begins there
    plan = plan_schedule(costed(scores), [1.0, 0.7, 0.5, 0.15, 0.0], budget_nats=0.02, until=0.3, below="r0")
    assert plan.schedule.denoisers[2:] == ("global", "r0")
    assert plan.certificate.until == 0.3


def test_levels_that_do_not_count_need_no_scores(scores: xr.Dataset) -> None:
    some, times = scores.isel(t=scores.t.values > 0.29), time_grid(20)
    schedule = Schedule.of_one("r1", times)
    assert certify(schedule, some, until=0.3).kl == certify(schedule, scores, until=0.3).kl
    plan = plan_schedule(costed(some), times, budget_nats=0.1, until=0.3)
    assert plan.certificate.until == pytest.approx(0.3)
    assert plan.whole.until == pytest.approx(0.25)
    with pytest.raises(ValueError, match=r"a step begins at t = 0.25, scores are of 0.3 to 1: score that level"):
        certify(schedule, some)

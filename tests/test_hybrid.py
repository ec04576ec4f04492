"""Scores, certificates, plans and samplers, where everything is known: Gaussian data and exact denoisers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
from torch import Tensor

from cmi.denoise import (
    Denoiser,
    GaussianDenoiser,
    HybridDenoiser,
    LocalDenoiser,
    OnSchedule,
    Schedule,
    certify,
    flops_of,
    load_scores,
    plan_schedule,
    sample,
    save_scores,
    score_denoisers,
    time_grid,
)
from cmi.denoise.plan import _choose
from cmi.exact import GaussianField

FIELD = GaussianField(L=6, kappa=0.15)
SHAPE = (1, 6, 6)
IMAGES = FIELD.sample(2000, 1)
EXACT: dict[str, Denoiser] = {
    "global": GaussianDenoiser(FIELD.covariance, shape=SHAPE),
    "r0": GaussianDenoiser(FIELD.covariance, shape=SHAPE, radius=0),
    "r1": GaussianDenoiser(FIELD.covariance, shape=SHAPE, radius=1),
}


def exact_gaps(name: str, times: Sequence[float]) -> np.ndarray:
    """Sum over pixels of mmse_local - mmse_global at each time, in closed form."""
    one, whole = EXACT[name], EXACT["global"]
    assert isinstance(one, GaussianDenoiser)
    assert isinstance(whole, GaussianDenoiser)
    return np.array([one.mmse(t).sum() - whole.mmse(t).sum() for t in times])


def exact_certificate(names: Sequence[str], times: Sequence[float]) -> float:
    """1/2 sum dgamma gap, in closed form, of the steps that end above t = 0."""
    snr = FIELD.schedule().snr(np.asarray(times))
    weights = np.diff(snr)
    return sum(
        0.5 * float(weights[k]) * float(exact_gaps(name, [times[k]])[0])
        for k, name in enumerate(names)
        if np.isfinite(weights[k])
    )


@pytest.fixture(scope="module")
def scores() -> xr.Dataset:
    return score_denoisers(EXACT, IMAGES, time_grid(20)[:-1])


# Scores


def test_losses_are_those_of_the_closed_form(scores: xr.Dataset) -> None:
    for name, denoiser in EXACT.items():
        assert isinstance(denoiser, GaussianDenoiser)
        found = scores.loss.sel(denoiser=name)
        error = found.std("sample", ddof=1) / np.sqrt(2000)
        wanted = np.array([denoiser.mmse(t).sum() for t in scores.t.values])
        z = (found.mean("sample") - wanted) / error
        assert (np.abs(z.values) < 4.0).all()
        by_pixel = np.stack([denoiser.mmse(t)[0] for t in scores.t.values])
        z = (scores.mse.sel(denoiser=name) - by_pixel) / scores.mse_stderr.sel(denoiser=name)
        assert np.abs(z.values).max() < 5.5  # of 2,160
        low = z.sel(t=slice(0.0, 0.3)).values  # where the noise, not the image, is what varies
        assert np.sqrt((low**2).mean()) == pytest.approx(1.0, abs=0.2)
    np.testing.assert_allclose(scores.mse.sum(("y", "x")), scores.loss.mean("sample"), rtol=1e-9)


def test_gaps_are_paired_and_told_in_two_ways(scores: xr.Dataset) -> None:
    gap = scores.loss - scores.loss.sel(denoiser="global")
    for name in ("r0", "r1"):
        wanted = exact_gaps(name, scores.t.values)
        one = gap.sel(denoiser=name)
        error = one.std("sample", ddof=1) / np.sqrt(2000) + 1e-12  # at t = 1 both know nothing
        assert (np.abs((one.mean("sample") - wanted) / error).values < 4.0).all()
        separate = scores.loss.sel(denoiser=name).std("sample", ddof=1) / np.sqrt(1000)
        assert (error < separate).all()
        far = scores.distance.sel(denoiser=name)
        np.testing.assert_allclose(far.mean("sample"), wanted, rtol=0.1)
        residual = one - far
        z = residual.mean("sample") / (residual.std("sample", ddof=1) / np.sqrt(2000) + 1e-12)
        assert (np.abs(z.values) < 4.0).all()
    assert not gap.sel(denoiser="global").any()
    assert not scores.distance.sel(denoiser="global").any()
    np.testing.assert_allclose(scores.gap.sum(("y", "x")), gap.mean("sample"), rtol=1e-6, atol=1e-9)


def test_a_reference_that_is_not_optimal_leaves_a_residual() -> None:
    """The local one as reference: a better denoiser has a negative gap, and the distance cannot say so."""
    found = score_denoisers(EXACT, IMAGES, [0.6], reference="r0")
    gap = found.loss.sel(denoiser="global") - found.loss.sel(denoiser="r0")
    assert float(gap.mean()) < 0.0 < float(found.distance.sel(denoiser="global").mean())


def test_scores_do_not_depend_on_batches_or_other_levels() -> None:
    whole = score_denoisers(EXACT, IMAGES[:50], [0.3, 0.7])
    other = score_denoisers(EXACT, IMAGES[:50], [0.7], batch=7)
    np.testing.assert_allclose(whole.loss.sel(t=0.7), other.loss.sel(t=0.7), rtol=1e-12)
    assert (whole.loss != score_denoisers(EXACT, IMAGES[:50], [0.3, 0.7], seed=1).loss).all()
    assert whole.attrs["reference"] == "global"
    assert whole.field.values.tolist() == [-1, 0, 1]
    assert whole.radius.values.tolist() == [-1, 0, 1]


def test_what_cannot_be_scored() -> None:
    images = IMAGES[:20]

    class Broken(GaussianDenoiser):
        def denoised(self, xt: Tensor, t: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
            return xt * torch.nan

    wrong: list[tuple[Callable[[], object], type[Exception], str]] = [
        (lambda: score_denoisers({}, images, [0.5]), ValueError, "there is no denoiser"),
        (lambda: score_denoisers({"a": EXACT["r0"]}, images, [0.5]), ValueError, "name the reference: 0 of the"),
        (lambda: score_denoisers(EXACT, images, [0.5], reference="b"), ValueError, "'b' is none of global, r0, r1"),
        (lambda: score_denoisers(EXACT, images, [0.0, 0.5]), ValueError, "without noise nothing is lost"),
        (
            lambda: score_denoisers(EXACT, images[:, :5], [0.5]),
            ValueError,
            r"takes images of \(1, 6, 6\), got \(1, 5",
        ),
        (lambda: score_denoisers(EXACT, images[:5], [0.5]), ValueError, "at least 10 images, got 5"),
        (lambda: score_denoisers({"f": print}, images, [0.5]), TypeError, "'f' is no Denoiser"),  # type: ignore[dict-item]
        (
            lambda: score_denoisers({"b": Broken(FIELD.covariance, shape=SHAPE)}, images, [0.5]),
            ValueError,
            "'b' gives values that are not finite at t = 0.5",
        ),
        (
            lambda: score_denoisers({**EXACT, "v": OnSchedule(EXACT["r0"], "vp-cosine")}, images, [0.5]),
            ValueError,
            "scored on one schedule",
        ),
    ]
    for call, kind, message in wrong:
        with pytest.raises(kind, match=message):
            call()


def test_scores_are_kept(scores: xr.Dataset, tmp_path: Path) -> None:
    save_scores(scores, tmp_path / "s.nc")
    assert load_scores(tmp_path / "s.nc").identical(scores)
    with pytest.raises(FileExistsError):
        save_scores(scores, tmp_path / "s.nc")
    scores.drop_vars("distance").to_netcdf(tmp_path / "other.nc", engine="h5netcdf")
    with pytest.raises(ValueError, match=r"other\.nc is no score, or is damaged: .*it has no distance"):
        load_scores(tmp_path / "other.nc")
    with pytest.raises(FileNotFoundError, match="there is no score file"):
        load_scores(tmp_path / "none.nc")


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
        ratio = np.linalg.solve(y, true)
        kl = 0.5 * (np.trace(ratio) - 36 - np.linalg.slogdet(ratio)[1])
        # the bound itself: 1/2 sum dgamma l - 1/2 int mmse
        weights = np.diff(snr)
        losses = np.array([local.mmse(float(t)).sum() for t in times[:-1]])
        information = 0.5 * np.linalg.slogdet(np.eye(36) + snr[-1] * FIELD.covariance)[1]
        bound = 0.5 * float(weights @ losses) - information
        assert 0.0 < kl <= bound
        if name == "r1":
            assert bound < 10.0 * kl  # and says something


def test_levels_between_are_interpolated_and_others_refused(scores: xr.Dataset) -> None:
    between = certify(Schedule([0.82, 0.48, 0.22], ["r1", "r0"]), scores)
    assert between.distance == pytest.approx(exact_certificate(["r1", "r0"], [0.82, 0.48, 0.22]), rel=0.1)
    with pytest.raises(ValueError, match=r"a step begins at t = 0.04, scores are of 0.05 to 1"):
        certify(Schedule([0.5, 0.04, 0.02], ["r1", "r1"]), scores)
    with pytest.raises(ValueError, match="'r7' was not scored: scores are of global, r0, r1"):
        certify(Schedule([0.5, 0.4], ["r7"]), scores)


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
    wrong: dict[str, Any]
    for wrong, message in (
        ({"until": 1.0}, "from 0 to below 1, got 1"),
        ({"until": -0.1}, "from 0 to below 1, got -0.1"),
        ({"until": 0.99}, "no step from t = 1 ends at t = 0.99 or above"),
        ({"below": "r = 9"}, "'r = 9' was not scored"),
    ):
        with pytest.raises(ValueError, match=message):
            plan_schedule(scores, times, budget_nats=1.0, **wrong)


def test_schedules() -> None:
    published = Schedule.switched(["local", "global", "local"], [0.5, 0.2], time_grid(10))
    np.testing.assert_allclose(published.windows("global"), [(0.2, 0.5)])
    np.testing.assert_allclose(published.windows("local"), [(0.5, 1.0), (0.0, 0.2)], atol=1e-12)
    for make, message in (
        (lambda: Schedule([0.5, 0.6], ["a"]), "fall from step to step"),
        (lambda: Schedule([1.5, 0.6], ["a"]), r"lie in \[0, 1\]"),
        (lambda: Schedule([1.0, 0.5], ["a", "b"]), "2 times make 1 steps, got 2 names"),
        (lambda: Schedule.switched(["a", "b"], [], [1.0, 0.0]), "need 1 switches, got 0"),
        (lambda: Schedule.switched(["a", "b", "c"], [0.2, 0.5], [1.0, 0.0]), "switches fall"),
        (lambda: time_grid(4, 0.2, 0.5), "need 0 <= end < start <= 1"),
    ):
        with pytest.raises(ValueError, match=message):
            make()


def test_operations_are_counted() -> None:
    """By hand: the first and last layers, t, and one block of reach 1."""
    net = LocalDenoiser((1, 5, 4), 1, width=8, depth=1)
    pixels = 20
    by_hand = 2 * pixels * (1 * 8 + 8 * 8 * 9 + 8 * 8 + 8 * 1)
    told = 2 * (16 * 16 + 16 * 16 + 16 * 16)
    assert flops_of(net) == by_hand + told


# Sampling


def covariance_off(drawn: Tensor, wanted: np.ndarray) -> float:
    x = drawn.numpy().reshape(len(drawn), -1)
    return float(np.abs(x.T @ x / len(x) - wanted).max())


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "heun"), [("sde", False), ("ode", False), ("ode", True)])
def test_samples_have_the_covariance(kind: str, heun: bool) -> None:
    drawn = sample(EXACT["global"], 20_000, times=time_grid(80), kind=kind, heun=heun, seed=3)  # type: ignore[arg-type]
    chance = 4.5 * np.sqrt(2.0 / 20_000) * FIELD.covariance[0, 0]
    small = {"sde": 0.03, "ode": 0.03}[kind] if not heun else 0.005
    assert covariance_off(drawn, FIELD.covariance) < chance + small
    assert abs(float(drawn.mean())) < 0.02


def linear_flow(times: np.ndarray, heun: bool) -> np.ndarray:
    """The map from noise to image that the sampler is for a Gaussian: its covariance without sampling."""
    start = torch.eye(36).reshape(36, 1, 6, 6)
    found = sample(EXACT["global"], 36, times=times, kind="ode", heun=heun, start=start)
    linear = found.numpy().reshape(36, 36).astype(np.float64)
    return np.asarray(linear.T @ linear)


def test_the_error_of_the_ode_falls_with_its_order() -> None:
    """Down to t = 0.1, where the exact covariance is alpha^2 S + sigma^2: order one of Euler, two of Heun."""
    wanted = 0.81 * FIELD.covariance + 0.01 * np.eye(36)
    for heun, order in ((False, 1), (True, 2)):
        off = []
        for steps in (20, 40, 80):
            found = linear_flow(np.concatenate([[1.0], time_grid(steps, 0.99, 0.1)]), heun)
            off.append(np.abs(found - wanted).max())
        rates = np.log2(np.array(off[:-1]) / off[1:])
        assert (np.abs(rates - order) < 0.35).all(), (heun, off)


def test_samples_repeat_and_do_not_depend_on_batches() -> None:
    whole = sample(EXACT["r1"], 10, steps=5, seed=1)
    assert torch.equal(whole, sample(EXACT["r1"], 10, steps=5, seed=1))
    assert torch.allclose(whole[:4], sample(EXACT["r1"], 4, steps=5, seed=1, batch=3), atol=1e-6)
    assert not torch.equal(whole, sample(EXACT["r1"], 10, steps=5, seed=2))
    told: list[tuple[int, int]] = []
    sample(EXACT["r1"], 5, steps=4, kind="ode", batch=3, progress=lambda done, total: told.append((done, total)))
    assert told == [(k, 14) for k in range(1, 15)]  # two calls a step, one in the last, two batches


def test_a_hybrid_is_each_in_its_window() -> None:
    schedule = Schedule.switched(["r0", "global", "r1"], [0.6, 0.3], time_grid(10))
    hybrid = HybridDenoiser(schedule, EXACT)
    assert hybrid.radius is None
    assert HybridDenoiser(Schedule([1.0, 0.5, 0.0], ["r0", "r1"]), EXACT).radius == 1
    xt = torch.randn(4, *SHAPE, generator=torch.Generator().manual_seed(0))
    for t, name in (
        (1.0, "r0"),
        (0.7, "r0"),
        (0.65, "r0"),
        (0.6, "global"),
        (0.35, "global"),
        (0.3, "r1"),
        (0.0, "r1"),
    ):
        assert torch.equal(hybrid(xt, t), EXACT[name](xt, t)), t
    mixed = hybrid(xt, torch.tensor([0.9, 0.5, 0.1, 0.6]))
    assert torch.allclose(mixed[1], EXACT["global"](xt[1:2], 0.5)[0])
    by_hand = sample(EXACT["r0"], 3, times=time_grid(10)[:5], kind="ode", heun=False, seed=5)
    goes_on = sample(EXACT["global"], 3, times=time_grid(10)[4:8], kind="ode", heun=False, start=by_hand)
    ends = sample(EXACT["r1"], 3, times=time_grid(10)[7:], kind="ode", heun=False, start=goes_on)
    assert torch.allclose(sample(hybrid, 3, kind="ode", heun=False, seed=5), ends, atol=1e-5)
    with pytest.raises(ValueError, match=r"the schedule begins at t = 0\.5, not at 0\.7"):
        HybridDenoiser(Schedule([0.5, 0.2], ["r0"]), EXACT)(xt, 0.7)
    with pytest.raises(ValueError, match="the schedule names 'x', denoisers are global, r0, r1"):
        HybridDenoiser(Schedule([0.5, 0.2], ["x"]), EXACT)
    other = {"a": EXACT["r0"], "b": OnSchedule(EXACT["r0"], "vp-cosine")}
    with pytest.raises(ValueError, match="of one shape and for one schedule of noise"):
        HybridDenoiser(Schedule([0.5, 0.4, 0.3], ["a", "b"]), other)


def test_what_cannot_be_sampled() -> None:
    for options, message in (
        ({"times": np.array([0.2, 0.5])}, "fall from step to step"),
        ({"kind": "pde"}, "kind is sde or ode, got 'pde'"),
        ({"start": torch.zeros(3, 1, 6, 6)}, r"start must have shape \(2, 1, 6, 6\)"),
        ({"steps": 0}, "steps"),
    ):
        with pytest.raises(ValueError, match=message):
            sample(EXACT["r0"], 2, **options)

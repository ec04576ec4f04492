"""Scores, schedules and samplers, where everything is known: Gaussian data and exact denoisers."""

from __future__ import annotations

import json
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
from exact_denoisers import EXACT, FIELD, IMAGES, SHAPE, exact_gaps, sampled_covariance
from rich.console import Console
from torch import Tensor

from cmi.denoise import (
    Denoiser,
    GaussianDenoiser,
    GlobalDenoiser,
    HybridDenoiser,
    LocalDenoiser,
    OnSchedule,
    Schedule,
    flops_of,
    from_clean,
    load_scores,
    sample,
    sampling_flops,
    save_scores,
    score_denoisers,
    time_grid,
)
from cmi.denoise.report import scores_report
from cmi.noise import VarianceExploding


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
    about = {"name": "flip"}
    few = scores.isel(t=slice(0, 3), sample=slice(0, 3))
    wrong: list[tuple[xr.Dataset, str]] = [
        (few.isel(sample=slice(0, 1)), "it is of fewer than two images"),
        (few.transpose("t", "denoiser", ...), "its loss is not by denoiser, t, sample"),
        (few.assign_coords(denoiser=["a", "a", "global"]), "two of its denoisers have one name"),
        (few.assign_coords(t=[0.1, 0.1, 0.2]), "levels repeat 0.1"),
        (few.assign_attrs(noise=json.dumps(about)), "its noise, flip, is not Gaussian"),
        (few.assign_attrs(noise="3"), "its noise is no schedule"),
        (few.assign_attrs(noise="{}"), "its noise is no schedule"),
        (few.assign_attrs(noise="{"), "is damaged"),
        (few.assign_attrs(reference="x"), "its reference was not scored"),
    ]
    for number, (each, message) in enumerate(wrong):
        each.to_netcdf(tmp_path / f"{number}.nc", engine="h5netcdf")
        with pytest.raises(ValueError, match=rf"{number}\.nc is no score, or is damaged: .*{message}|{message}"):
            load_scores(tmp_path / f"{number}.nc")
    with pytest.raises(FileNotFoundError, match="there is no score file"):
        load_scores(tmp_path / "none.nc")


# Schedules


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


def test_operations_of_attention_are_counted() -> None:
    class Attending(Denoiser):
        def denoised(self, xt: Tensor, t: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
            x = xt.flatten(2)
            return torch.nn.functional.scaled_dot_product_attention(x, x, x).reshape(xt.shape)

    assert flops_of(Attending((3, 5, 4))) == 2 * 2 * 3 * 3 * 20


# Sampling


def covariance_off(drawn: Tensor, wanted: np.ndarray) -> float:
    x = drawn.numpy().reshape(len(drawn), -1)
    return float(np.abs(x.T @ x / len(x) - wanted).max())


@pytest.mark.parametrize("kind", ["sde", "ode"])
@pytest.mark.parametrize(("order", "small"), [(1, 0.08), (2, 0.015)])
def test_samples_have_the_covariance(kind: Any, order: Any, small: float) -> None:
    """That of 40 steps, without any chance, is the field's; what is drawn has that of its steps, within chance."""
    of_steps = sampled_covariance(EXACT["global"], time_grid(40), kind=kind, order=order)
    assert np.abs(of_steps - FIELD.covariance).max() < small
    times, many = time_grid(20), 4000
    drawn = sample(EXACT["global"], many, times=times, kind=kind, order=order, seed=3)
    wanted = sampled_covariance(EXACT["global"], times, kind=kind, order=order)
    assert covariance_off(drawn, wanted) < 4.5 * np.sqrt(2.0 / many) * wanted.max()
    assert abs(float(drawn.mean())) < 4.5 * np.sqrt(wanted.mean() / many)


@pytest.mark.parametrize("kind", ["sde", "ode"])
@pytest.mark.parametrize("order", [1, 2])
def test_errors_of_samplers_fall_with_their_order(kind: Any, order: Any) -> None:
    """Down to t = 0.1, where the exact covariance is alpha^2 S + sigma^2."""
    wanted = 0.81 * FIELD.covariance + 0.01 * np.eye(36)
    off = []
    for steps in (20, 40, 80):
        times = np.concatenate([[1.0], time_grid(steps, 0.99, 0.1)])
        off.append(np.abs(sampled_covariance(EXACT["global"], times, kind=kind, order=order) - wanted).max())
    rates = np.log2(np.array(off[:-1]) / off[1:])
    assert (np.abs(rates - order) < 0.35).all(), off


@pytest.mark.parametrize("kind", ["sde", "ode"])
@pytest.mark.parametrize("names", [("r1", "global", "r0"), ("global", "r0", "global")])
def test_going_over_to_another_denoiser_keeps_the_order(kind: Any, names: tuple[str, ...]) -> None:
    """Of a hybrid too errors fall with the square of the steps' length: by 4 from 20 to 40."""

    def drawn(steps: int) -> np.ndarray:
        times = time_grid(steps)[: 9 * steps // 10 + 1]  # down to t = 0.1
        made = Schedule(times, [names[int(t <= 0.7001) + int(t <= 0.3001)] for t in times[:-1]])
        return sampled_covariance(HybridDenoiser(made, EXACT), times, kind=kind)

    wanted = drawn(160)
    coarse, fine = (np.abs(drawn(steps) - wanted).max() for steps in (20, 40))
    assert fine < 0.008
    assert coarse / fine > 3.3


def test_where_a_hybrid_goes_over_the_narrower_one_is_asked_once_more() -> None:
    """Both at the image before or after the step between: never one image of each."""
    asked: list[tuple[str, float, Tensor]] = []

    class Told(GaussianDenoiser):
        def __init__(self, name: str, radius: int | None) -> None:
            super().__init__(FIELD.covariance, shape=SHAPE, radius=radius)
            self.name = name

        def denoised(self, xt: Tensor, t: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
            asked.append((self.name, round(float(t[0]), 3), xt.clone()))
            return super().denoised(xt, t, alpha, sigma)

    nets = {"local": Told("local", 1), "global": Told("global", None)}
    times = [1.0, 0.9, 0.8, 0.6, 0.4, 0.2, 0.0]
    hybrid = HybridDenoiser(Schedule(times, ["local"] * 2 + ["global"] * 2 + ["local"] * 2), nets)
    told: list[tuple[int, int]] = []
    sample(hybrid, 2, progress=lambda done, total: told.append((done, total)))
    wanted = [("local", 1.0), ("local", 0.9), ("global", 0.8), ("local", 0.8), ("global", 0.6), ("local", 0.4)]
    wanted += [("local", 0.6), ("local", 0.2)]
    assert [(name, t) for name, t, _ in asked] == wanted
    assert torch.equal(asked[2][2], asked[3][2])
    assert torch.equal(asked[4][2], asked[6][2])
    assert told == [(k, 8) for k in range(1, 9)]
    asked.clear()
    sample(hybrid, 2, order=1)
    assert len(asked) == 6
    # from SNR 0 nothing is extrapolated, and nobody asked
    asked.clear()
    sample(HybridDenoiser(Schedule([1.0, 0.6, 0.3], ["local", "global"]), nets), 2)
    assert len(asked) == 2


def test_operations_of_a_sampler_are_of_all_its_calls() -> None:
    nets = {"local": LocalDenoiser(SHAPE, 1, width=8), "global": GlobalDenoiser(SHAPE, width=8)}
    local, whole = (flops_of(net) for net in nets.values())
    hybrid = HybridDenoiser(Schedule([1.0, 0.8, 0.6, 0.4, 0.0], ["local", "local", "global", "global"]), nets)
    assert sampling_flops(hybrid, order=1) == 2 * local + 2 * whole
    assert sampling_flops(hybrid) == 3 * local + 2 * whole
    assert sampling_flops(hybrid, kind="ode") == 4 * local + 3 * whole
    assert sampling_flops(nets["global"], steps=7) == 7 * whole


@pytest.mark.parametrize("seed", range(4))
def test_order_two_gains_from_uneven_steps_too(seed: int) -> None:
    """And loses nothing where a long step follows one that is next to nothing."""
    uneven = [0.9, 0.7, 0.6999, 0.5, 0.4999, 0.3, 0.2999]
    if seed > 0:
        uneven = sorted(np.random.default_rng(seed).uniform(0.1, 1.0, 18), reverse=True)
    wanted = 0.81 * FIELD.covariance + 0.01 * np.eye(36)
    one, two = (
        np.abs(sampled_covariance(EXACT["global"], [1.0, *uneven, 0.1], order=order) - wanted).max()
        for order in (1, 2)
    )
    assert two < (one if seed == 0 else 0.5 * one)


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
    by_hand = sample(EXACT["r0"], 3, times=time_grid(10)[:5], kind="ode", order=1, seed=5)
    goes_on = sample(EXACT["global"], 3, times=time_grid(10)[4:8], kind="ode", order=1, start=by_hand)
    ends = sample(EXACT["r1"], 3, times=time_grid(10)[7:], kind="ode", order=1, start=goes_on)
    assert torch.allclose(sample(hybrid, 3, kind="ode", order=1, seed=5), ends, atol=1e-5)
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
        ({"order": 3}, "order must be at most 2, got 3"),
        ({"kind": "pde"}, "kind is sde or ode, got 'pde'"),
        ({"start": torch.zeros(3, 1, 6, 6)}, r"start must have shape \(2, 1, 6, 6\)"),
        ({"steps": 0}, "steps"),
        (
            {"times": np.array([0.5, 0.2])},
            "begins at t = 0.5, where noisy images are not yet noise",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            sample(EXACT["r0"], 2, **options)


def test_a_start_may_be_an_array_and_times_may_begin_where_little_is_left() -> None:
    start = np.random.default_rng(0).standard_normal((2, *SHAPE))
    drawn = sample(EXACT["r0"], 2, times=np.array([0.5, 0.2]), start=start)
    assert torch.equal(drawn, sample(EXACT["r0"], 2, times=np.array([0.5, 0.2]), start=torch.as_tensor(start)))
    assert sample(EXACT["r0"], 2, times=np.array([0.975, 0.5, 0.0])).shape == (2, *SHAPE)
    for value in (np.nan, np.inf):
        start[1, 0, 2, 2] = value
        with pytest.raises(ValueError, match="the start holds values that are not finite"):
            sample(EXACT["r0"], 2, times=np.array([0.5, 0.2]), start=start)


def test_sampling_may_begin_at_the_noisiest_level_of_any_schedule() -> None:
    """A schedule that ends at little noise begins from that, as its makers do: the images are wider by it."""
    white = GaussianDenoiser(np.eye(1), shape=(1, 1, 1), noise=VarianceExploding(sigma_max=3.0))
    # x0 given x1 is N(x1 / 10, 0.9), and x1 has variance 9 in place of 10
    assert sampled_covariance(white, time_grid(100))[0, 0] == pytest.approx(1.0 - 0.01, abs=0.004)
    with pytest.raises(ValueError, match=r"begins at t = 0\.9, where"):
        sample(white, 2, times=time_grid(4, start=0.9))


def test_how_far_off_variances_are_that_even_steps_draw() -> None:
    """The figures of docs/denoisers.md: one pixel, of variance 0.1, in 10, 20, 40 and 80 even steps, per cent."""
    pixel = GaussianDenoiser(0.1 * np.eye(1), shape=(1, 1, 1))
    for end, order, wanted in (
        (0.2, 2, (-5.0, -1.2, -0.3, -0.1)),
        (0.0, 2, (-9.1, 10.5, 7.3, 2.8)),
        (0.2, 1, (-21.0, -11.5, -6.0, -3.1)),
        (0.0, 1, (-46.0, -30.1, -18.0, -10.1)),
    ):
        full = 0.1 * (1.0 - end) ** 2 + end**2
        found = [
            100.0 * (sampled_covariance(pixel, time_grid(steps, end=end), order=order).item() / full - 1.0)
            for steps in (10, 20, 40, 80)
        ]
        assert found == pytest.approx(wanted, abs=0.06)


@pytest.mark.parametrize("kind", ["sde", "ode"])
def test_no_noise_is_left_where_a_schedule_ends_with_some(kind: Any) -> None:
    """Of data that are always 0; `ve` ends with sigma = 0.01."""
    always = GaussianDenoiser(np.zeros((1, 1)), shape=(1, 1, 1), noise="ve")
    one = Schedule.of_one("a", time_grid(10))
    for denoiser in (always, HybridDenoiser(one, {"a": always})):
        assert float(sample(denoiser, 20, times=time_grid(10), kind=kind).abs().max()) < 1e-6
    left = sample(always, 200, times=time_grid(10, end=0.1), kind=kind)  # images with noise on them, as asked for
    assert left.std() == pytest.approx(float(always.noise.sigma(0.1)), rel=0.3)
    net = LocalDenoiser(SHAPE, 1, noise="ve", width=4, depth=1)
    assert sampling_flops(net, steps=10, order=1) == 11 * flops_of(net)


def test_models_in_functions_are_called_where_they_compute() -> None:
    """Of a function it is not known where; on another device it would fail."""
    places: list[str] = []

    def model(x: Tensor, t: Tensor) -> Tensor:
        places.append(x.device.type)
        return x @ torch.ones(SHAPE[2], SHAPE[2], device="meta")  # computes there only

    assert flops_of(from_clean(model, SHAPE), device="meta") > 0
    assert places == ["meta"]


def test_few_images_do_not_call_an_exact_reference_wrong() -> None:
    """Of 12 sets of ten images and ten levels: errors of few images are wide-tailed."""
    for seed in range(12):
        found = score_denoisers(EXACT, FIELD.sample(10, seed), time_grid(10)[:-1])
        console = Console(width=300, record=True, file=StringIO())
        console.print(scores_report(found))
        assert "no sign that the reference is not optimal" in console.export_text()


def test_who_calls_keeps_the_mode_of_a_network() -> None:
    """Dropout is off while it is scored and while it draws, and as it was afterwards."""
    net = LocalDenoiser(SHAPE, 1, width=4, depth=1)
    net.train()
    net.last.training = False
    modes: list[bool] = []
    net.register_forward_hook(lambda module, *_: modes.append(module.training))
    score_denoisers({"net": net}, IMAGES[:20], [0.5], reference="net", fields=False)
    sample(net, 2, steps=2)
    assert len(modes) >= 3
    assert not any(modes)
    assert net.training
    assert not net.last.training

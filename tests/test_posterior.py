"""The posterior network: its loss, its nestedness, its truths, what it refuses, and that training goes on."""

from __future__ import annotations

import multiprocessing
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from commands import call
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import logsumexp
from typer.testing import Result

import estimators.posterior_stack as posterior_stack
from cmi import estimate_cmi, phase_scan
from cmi.exact import Cat, GaussianChain, GaussianField, HiddenMarkovChain
from estimators.gaussian_start import gaussian_start
from estimators.known_noise import KnownNoise, bits
from estimators.noised_posterior import cross_entropy
from estimators.posterior import fit_posterior, posterior_profile
from estimators.posterior_data import Values, hats
from estimators.posterior_loss import corrected_loss, padded
from estimators.posterior_network import fast_matmul
from estimators.posterior_part import splits
from estimators.shell_network import ShellNetwork, root_mean_square_normalised
from estimators.trainer import Look


def columns(
    model: Any, n: int, seed: int = 0, widths: Sequence[int] | None = None
) -> tuple[np.ndarray, tuple[int, ...], Any]:
    """Samples with their columns in the order A, S_1, ..., S_m."""
    regions = model.partition(widths)
    x = model.sample(n, seed).reshape(n, -1)
    return np.ascontiguousarray(x[:, regions.columns]), regions.sizes, regions


def test_the_loss_and_its_gradients_are_those_of_the_formula() -> None:
    rng = np.random.default_rng(0)
    n, groups, knots, known = 70, 3, 6, 45
    values = np.sort(rng.standard_normal(known))
    share = rng.uniform(0.1, 1.0, known)
    hat = hats(values, share / share.sum())[:knots]
    c, quadratic = rng.standard_normal((n, groups, len(hat))), -rng.uniform(0, 5, (n, groups))
    linear = rng.standard_normal((n, groups))
    seen = np.exp(-((rng.standard_normal(n)[:, None] - values) ** 2) / 0.1)
    one, two, three = (np.ascontiguousarray(each, dtype=np.float32) for each in (c, quadratic, linear))
    arrays = padded(values), padded(np.log(share), -np.inf), padded(hat)
    loss, by_c, by_quadratic, by_linear = corrected_loss(one, two, three, padded(seen), arrays)
    logits = np.log(share) + quadratic[..., None] * values**2 + linear[..., None] * values + c @ hat
    with_seen = logits + np.log(seen)[:, None]
    p = np.exp(logits - logsumexp(logits, axis=-1, keepdims=True))
    q = np.exp(with_seen - logsumexp(with_seen, axis=-1, keepdims=True))
    np.testing.assert_allclose(loss, logsumexp(logits, axis=-1) - logsumexp(with_seen, axis=-1), atol=3e-5)
    np.testing.assert_allclose(by_c, (p - q) @ hat.T, atol=1e-5)
    np.testing.assert_allclose(by_quadratic, ((p - q) * values**2).sum(axis=-1), atol=3e-5)
    np.testing.assert_allclose(by_linear, ((p - q) * values).sum(axis=-1), atol=3e-5)


def test_no_width_sees_farther_than_its_buffer() -> None:
    """Exactly: not a bit of the answers of B_g changes with what lies outside, nor is there any gradient."""
    torch.manual_seed(0)
    sizes = [4, 3, 0, 5, 2]
    network = ShellNetwork(sizes, 7, hidden=6, layers=2)
    with torch.no_grad():
        for p in network.parameters():
            p.add_(0.1 * torch.randn_like(p) * (p != 0) if p.dim() == 2 else 0.1 * torch.randn_like(p))
    x, level = torch.randn(2, 9, sum(sizes)), torch.tensor([0.2, 0.7])
    ends = np.cumsum(sizes)
    before, _ = network(x, level)
    for group, end in enumerate(ends):
        other = x.clone()
        other[..., end:] = torch.randn_like(other[..., end:])
        after, _ = network(other, level)
        assert torch.equal(after[:, :, : group + 1], before[:, :, : group + 1])
        if end < sum(sizes):
            assert not torch.equal(after[:, :, group + 1 :], before[:, :, group + 1 :])
        x.requires_grad_()
        (gradient,) = torch.autograd.grad(network(x, level)[0][:, :, group].square().sum(), x)
        x = x.detach()
        assert not gradient[..., end:].any()


@pytest.mark.parametrize(("matmul", "off"), [(torch.float32, 1e-5), (torch.bfloat16, 2e-2)])
def test_products_and_norms_have_the_gradients_of_plain_ones(matmul: torch.dtype, off: float) -> None:
    """Against a masked matrix and torch's own norm; what is masked stays 0 over steps of AdamW."""
    torch.manual_seed(0)
    sizes = [4, 3, 0, 5, 2, 1]
    network = ShellNetwork(sizes, 7, hidden=6, layers=1, matmul=matmul)
    optimiser = torch.optim.AdamW(network.parameters(), lr=0.1, weight_decay=0.1)
    for _ in range(3):
        optimiser.zero_grad()
        network(torch.randn(1, 9, sum(sizes)), torch.tensor([0.3]))[0].square().sum().backward()
        optimiser.step()
    linears: list[Any] = [network.entry, *network.layers[0].children()][:3]
    ends = ShellNetwork([4, 3, 5, 2, 0, 0], 7, hidden=6, layers=1, matmul=matmul).entry  # the last shells are empty
    for linear in [*linears, ends]:
        assert not linear.weight[linear.mask == 0.0].any()
        assert linear.weight[linear.mask == 1.0].all()
        x = torch.randn(20, linear.weight.shape[1]).to(matmul).requires_grad_()
        above = torch.randn(20, len(linear.weight)).to(matmul)
        own = linear(x), *torch.autograd.grad(linear(x), (x, linear.weight, linear.bias), above)
        plain = x.float() @ (linear.weight * linear.mask).T + linear.bias
        twin = plain, *torch.autograd.grad(plain, (x, linear.weight, linear.bias), above.float())
        for one, other in zip(own, twin, strict=True):
            assert one.shape == other.shape
            assert (one - other).abs().max() < off * other.abs().max()
    blocks = torch.randn(3, 5, 4, 6, dtype=torch.float64, requires_grad=True)
    plain = torch.nn.functional.rms_norm(blocks, (6,), eps=1e-5)
    torch.testing.assert_close(root_mean_square_normalised(blocks), plain)
    assert torch.autograd.gradcheck(root_mean_square_normalised, [blocks])


@pytest.mark.parametrize(
    ("told", "fast"), [({"avx512_bf16": True}, True), ({"avx512_bf16": False}, False), ({}, False)]
)
def test_precision_is_of_the_processor(told: dict[str, bool], fast: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not of the clock: in another process, beside other work, the same samples have the same network."""
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: told, raising=False)
    assert (fast_matmul(torch.device("cpu")) == torch.bfloat16) == fast
    assert fast_matmul(torch.device("mps")) == torch.float32


def test_principal_components_are_where_units_begin() -> None:
    torch.manual_seed(0)
    network = ShellNetwork([0, 6, 3], 4, hidden=4, layers=1)
    directions = torch.eye(6)[:, :2]
    network.begin_at([directions, torch.zeros(9, 1)], 0)
    first = network.entry.weight[4:6, :6].detach()
    np.testing.assert_allclose(first[:, 2:], 0.0)
    np.testing.assert_allclose(first @ first.T, np.eye(2), atol=1e-6)


@given(st.integers(0, 2**32 - 1), st.integers(1, 9), st.floats(0.0, 3.0))
def test_the_start_is_the_gaussian_posterior(seed: int, shell: int, noise: float) -> None:
    rng = np.random.default_rng(seed)
    root = rng.standard_normal((shell + 3, shell + 5))
    covariance = root @ root.T / shell + 0.1 * np.eye(shell + 3)
    ends = [0, 1, 1 + shell]
    inputs = [0, *range(2, shell + 3)]
    start = gaussian_start(covariance, 1, inputs, ends, noise)
    for group, end in enumerate(ends):
        seen = inputs[:end]
        block = covariance[np.ix_(seen, seen)] + noise * np.eye(end)
        weights = np.linalg.solve(block, covariance[seen, 1]) if end else np.zeros(0)
        np.testing.assert_allclose(start.weights[group, :end], weights, rtol=1e-2, atol=2e-3)
        assert not start.weights[group, end:].any()
        left = covariance[1, 1] - covariance[1, seen] @ weights
        assert start.variance[group] == pytest.approx(max(left, 1e-3 * covariance[1, 1]), rel=1e-2)


def test_a_shell_that_tells_nothing_costs_nothing() -> None:
    """With as many samples as six times the columns: the excess over what the near shell tells, shrunk and not."""
    rng = np.random.default_rng(0)
    excess: dict[float, list[float]] = {600.0: [], np.inf: []}
    for _ in range(20):
        x = rng.standard_normal((600, 102))
        x[:, 0] += x[:, 1]
        covariance = x.T @ x / len(x)
        for n, found in excess.items():
            start = gaussian_start(covariance, 0, list(range(1, 102)), [1, 101], 0.0, n)
            w = start.weights[1]
            risk = 1.0 + (1.0 - w[0]) ** 2 + w[1:] @ w[1:]  # of A on fresh samples
            found.append(0.5 * (np.log(start.variance[1]) + risk / start.variance[1] - 1.0))
    assert np.mean(excess[np.inf]) > 0.08
    assert np.mean(excess[600.0]) < 0.01


def test_hats_are_a_partition_of_one() -> None:
    rng = np.random.default_rng(0)
    for known in (1, 2, 5, 32, 33, 256):
        values = np.sort(rng.standard_normal(known))
        share = rng.uniform(0.0, 1.0, known)
        h = hats(values, share / share.sum())
        np.testing.assert_allclose(h.sum(axis=0), 1.0, atol=1e-12)
        assert len(h) == min(known, 32)
        assert (h >= 0.0).all()


def test_values_of_a_column() -> None:
    rng = np.random.default_rng(0)
    few = Values.of(np.array([3.0, 1.0, 1.0, 1.0]))
    assert few.known.tolist() == [1.0, 3.0]
    np.testing.assert_allclose(few.share, [0.7, 0.3])
    assert few.every
    assert few.place(np.array([1.0, 3.0, 1.2])).tolist() == [0, 1, 0]
    many = Values.of(rng.standard_normal(5000))
    assert not many.every
    assert len(many.known) == 256
    assert many.bin_variance == pytest.approx((many.range / 255) ** 2 / 12)


def test_known_noise() -> None:
    clean = np.zeros((4000, 2))
    noisy = KnownNoise.of(4.0, None).applied(clean, 0)
    assert noisy.std() == pytest.approx(0.5, rel=0.05)
    assert (noisy == KnownNoise.of(4.0, None).applied(clean, 0)).all()
    assert not (noisy == 2.0 * KnownNoise.of(16.0, None).applied(clean, 0)).any()  # other levels, other draws
    assert KnownNoise.of(None, 0.1).applied(clean, 0).mean() == pytest.approx(0.1, abs=0.02)
    assert KnownNoise.of(np.inf, None).applied(clean, 0) is clean
    for snr, flip, why in ((None, None, "give either"), (1.0, 0.1, "give either"), (-1.0, None, "snr must lie")):
        with pytest.raises(ValueError, match=why):
            KnownNoise.of(snr, flip)
    with pytest.raises(ValueError, match="lies in"):
        KnownNoise.of(None, 0.6)
    with pytest.raises(ValueError, match="have more"):
        bits(np.arange(3.0))


@pytest.mark.parametrize(
    ("model", "levels", "steps"),
    [
        (GaussianField(L=7, kappa=0.3), (0.1, 0.6), 60),
        (GaussianChain(L=9, a=0.9), (0.3, 0.6), 60),
        (Cat(L=7), (0.7, 0.85), 100),
        (HiddenMarkovChain(L=9, flip=0.1), (0.1, 0.3), 120),
    ],
    ids=lambda each: type(each).__name__ if not isinstance(each, tuple | int) else None,
)
def test_exact_models(model: Any, levels: tuple[float, ...], steps: int) -> None:
    """Within 0.005 nats or 10 %, beyond three standard errors, of the truth at every level and width.

    Width 0 is I(A:BC), which nothing near 0 passes for.
    """
    x, sizes, regions = columns(model, 12_000, widths=range(3))
    noises = [model.schedule().level(t) for t in levels]
    fit = fit_posterior(
        x,
        sizes,
        snrs=[noise["snr"] for noise in noises if "snr" in noise],
        flips=[noise["flip"] for noise in noises if "flip" in noise],
        steps=steps,
    )
    for t, noise in zip(levels, noises, strict=True):
        found = fit.profile(x, **noise)
        truth = np.array([model.cmi(t, r).value for r in regions.widths])
        error = np.sqrt(np.diagonal(found.covariance()))
        off = np.abs(found.value - truth) - 3.0 * error
        assert (off < np.maximum(0.005, 0.1 * truth)).all(), (t, found.value, truth, error)
        assert found.value[0] > 0.7 * truth[0]
        assert found.value[0] > 5.0 * error[0]


def test_several_columns_of_a() -> None:
    """By the chain rule; the order of its columns changes nothing but the fit."""
    rng = np.random.default_rng(0)
    common = rng.standard_normal((12_000, 1))
    x = common + rng.standard_normal((12_000, 5)) * np.array([0.5, 1.0, 1.0, 1.0, 0.7])
    covariance = np.ones((5, 5)) + np.diag(np.array([0.5, 1.0, 1.0, 1.0, 0.7]) ** 2 + 0.5)

    def half_log_det(*which: int) -> float:
        return 0.5 * float(np.linalg.slogdet(covariance[np.ix_(which, which)])[1])

    truth = half_log_det(0, 1, 2) + half_log_det(2, 3, 4) - half_log_det(2) - half_log_det(0, 1, 2, 3, 4)
    found = posterior_profile(x, (2, 1, 2), snr=2.0, steps=60)
    error = float(np.sqrt(found.covariance()[0, 0]))
    assert abs(found.value[0] - truth) < 0.005 + 4.0 * error
    assert error < 0.01


def test_without_noise_it_is_the_cmi_of_the_values() -> None:
    """A = B xor C: ln 2, which no covariance shows."""
    rng = np.random.default_rng(0)
    b, c = rng.integers(0, 2, (2, 6000)).astype(float)
    found = posterior_profile(np.stack([(b + c) % 2, b, c], axis=1), (1, 1, 1), snr=np.inf, steps=120)
    assert found.value[0] == pytest.approx(np.log(2.0), abs=0.02)


def test_nothing_where_nothing_is() -> None:
    x, sizes, _ = columns(GaussianField(L=7), 1000)
    fit = fit_posterior(x, sizes, snrs=[0.0], steps=5)
    assert not fit.profile(x, snr=0.0).value.any()
    x[:, 0] = 0.3
    constant = posterior_profile(x, sizes, snr=1.0, steps=5)
    assert not constant.value.any()
    assert np.isfinite(constant.covariance()).all()


def test_the_unit_of_the_data_does_not_matter() -> None:
    x, sizes, _ = columns(GaussianChain(L=9), 2000)
    one = posterior_profile(x, sizes, snr=1.0, steps=20)
    for unit, origin in ((1e6, 1e7), (1e-6, 1e-6)):
        other = posterior_profile(unit * x + origin, sizes, snr=unit**-2, steps=20)
        # of another SNR other noise is drawn
        error = np.sqrt(np.diagonal(one.covariance() + other.covariance()))
        assert (np.abs(other.value - one.value) < 4.0 * error).all()
        assert error.max() < 0.03


def test_samples_are_held_out() -> None:
    """Of what is averaged over nothing was trained on or chosen by; folds hold every sample out once."""
    for n, folds, queries in ((200, None, None), (600, None, 300), (120_000, None, None), (500, 4, None)):
        every = list(splits(n, folds, 0, queries))
        for parts in every:
            assert sum(len(part) for part in parts) == n
            assert len(np.unique(np.concatenate(parts))) == n
            assert all(len(part) for part in parts)
        tests = np.concatenate([test for *_, test in every])
        assert len(tests) == (n if folds else queries or min(round(n / 6), 10_000))
        assert len(np.unique(tests)) == len(tests)
    x, sizes, _ = columns(GaussianChain(L=9), 900)
    fit = fit_posterior(x, sizes, snrs=[1.0], steps=10, folds=3)
    found = fit.profile(x, snr=1.0)
    assert found.local.shape == (len(sizes) - 2, 900)
    assert "averaged over 900 of the 900 samples, held out" in found.notes
    few = fit_posterior(x, sizes, snrs=[1.0], steps=10, queries=400).profile(x, snr=1.0)
    assert few.local.shape == (len(sizes) - 2, 400)
    assert "averaged over 400 of the 900 samples, held out" in few.notes


def test_labels_without_meaning_are_not_learnt_by_heart() -> None:
    """300 samples, A drawn apart from the rest: a network that is read on what it was trained on would see CMI."""
    rng = np.random.default_rng(0)
    x = rng.integers(0, 2, (300, 12)).astype(float)
    found = posterior_profile(x, (1, 5, 6), snr=50.0, steps=400)
    assert abs(found.value[0]) < 0.05 + 4.0 * np.sqrt(found.covariance()[0, 0])


@pytest.mark.parametrize("snr", [1e-300, 1e-30, 1e30, 1e300])
def test_noise_far_below_and_above_the_data(snr: float) -> None:
    a, e = np.random.default_rng(0).standard_normal((2, 1200))
    x = np.stack([a, 0.8 * a + 0.6 * e, e], axis=1)
    fit = fit_posterior(x, (1, 1, 1), snrs=[snr, 1.0], steps=10, hidden=2)
    assert len(fit.notes) == 1
    found = fit.profile(x, snr=snr)
    assert np.isfinite(found.local).all()
    if snr < 1.0:
        assert abs(found.value[0]) < 1e-6


def test_bad_input(monkeypatch: pytest.MonkeyPatch) -> None:
    x, sizes, _ = columns(GaussianField(L=5), 300)
    with pytest.raises(ValueError, match="at least 200 samples, got 150"):
        fit_posterior(x[:150], sizes, snrs=[1.0])
    with pytest.raises(ValueError, match="give either snr or flip"):
        posterior_profile(x, sizes)
    with pytest.raises(ValueError, match="Gaussian noise or for flips"):
        fit_posterior(np.sign(x), sizes, snrs=[1.0], flips=[0.1])
    with pytest.raises(ValueError, match="have more"):
        fit_posterior(x, sizes, flips=[0.1])
    with pytest.raises(ValueError, match="train_minutes must be above 0 and finite, got -1"):
        fit_posterior(x, sizes, snrs=[1.0], train_minutes=-1)
    wrong: Any
    for wrong, kind in (("a", TypeError), (True, TypeError), (float("nan"), ValueError), (np.inf, ValueError)):
        with pytest.raises(kind, match="train_minutes must be"):
            fit_posterior(x, sizes, snrs=[1.0], train_minutes=wrong)
    value: Any
    for option, value in (("seed", "x"), ("seed", -1), ("hidden", True), ("layers", 0), ("network", 3)):
        with pytest.raises((TypeError, ValueError), match=f"{option} must be"):
            fit_posterior(x, sizes, snrs=[1.0], **{option: value})
    with pytest.raises(ValueError, match="there is no device None here"):
        fit_posterior(x, sizes, snrs=[1.0], device=None)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=f"queries must be at most half of the {len(x)} samples"):
        fit_posterior(x, sizes, snrs=[1.0], queries=len(x) // 2 + 1)
    with pytest.raises(ValueError, match="queries or folds, not both"):
        fit_posterior(x, sizes, snrs=[1.0], queries=100, folds=2)
    with pytest.raises(ValueError, match="folds must be at least 2"):
        fit_posterior(x, sizes, snrs=[1.0], folds=1)
    with pytest.raises(TypeError, match="steps must be an integer"):
        fit_posterior(x, sizes, snrs=[1.0], steps=1.5)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="there is no device 'warp' here"):
        fit_posterior(x, sizes, snrs=[1.0], device="warp")
    fit = fit_posterior(x, sizes, snrs=[1.0], steps=2, hidden=4)
    with pytest.raises(ValueError, match="belong to 300 samples of 25 columns"):
        fit.profile(x[:-1], snr=1.0)
    monkeypatch.setitem(sys.modules, "estimators.posterior_network", None)
    with pytest.raises(ImportError, match=r'needs torch: pip install "phase-scan\[torch\]"'):
        fit_posterior(x, sizes, snrs=[1.0])


def test_it_is_a_method_like_the_others(tmp_path: Path) -> None:
    """Scans with it, from it, with levels added, in other processes; estimates of single regions."""
    field = GaussianField(L=7)
    x = field.sample(1000, 0)
    file = tmp_path / "net.pt"
    options: dict[str, Any] = {"method": "posterior", "steps": 20, "hidden": 6}
    looks: list[Look] = []
    scan = phase_scan(x, levels=[0.3, 0.5], network=file, training=looks.append, **options)
    assert looks
    assert np.isfinite(scan.dataset.cmi.values).all()
    assert (scan.dataset.stderr.values > 0.0).all()
    assert any("held out" in each for each in scan.warnings)
    assert "network" not in scan.config["options"]
    looks.clear()
    more = phase_scan(x, levels=[0.3, 0.4, 0.5], network=file, training=looks.append, resume=scan, **options)
    assert not looks
    assert (more.dataset.sel(t=0.5).cmi.values == scan.dataset.sel(t=0.5).cmi.values).all()
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as executor:
        there = phase_scan(x, levels=[0.3, 0.5], executor=executor, **options)
    assert (there.dataset.cmi.values == scan.dataset.cmi.values).all()
    one = estimate_cmi(x, A=24, B=[23, 25], method="posterior", snr=1.0, steps=20, hidden=6)
    assert one.n_samples == 1000
    assert one.dims == (1, 2, 46)


def test_colour_images_and_wide_regions() -> None:
    rng = np.random.default_rng(0)
    x = rng.uniform(size=(400, 6, 6, 3))
    x[..., 1] = 0.5 * (x[..., 0] + x[..., 2])
    scan = phase_scan(
        x, levels=[0.2, 1.0], radius=1, channel_axis=-1, method="posterior", steps=20, hidden=4, widths=[1]
    )
    assert scan.config["radius"] == 1
    assert np.isfinite(scan.dataset.cmi.values).all()
    assert scan.dataset.sel(t=1.0).cmi.values[0] == 0.0


def test_bins_of_continuous_values_are_part_of_the_noise() -> None:
    """With noise far below a bin the posterior of a value known exactly is that of its bin."""
    values = Values.of(np.random.default_rng(0).uniform(size=20_000))
    known = np.zeros((1, 256))
    known[0, values.place(np.array([0.5]))[0]] = 1.0
    found, _ = cross_entropy(known, values.known, np.array([0.5]), 1.0 / (1e-8 + values.bin_variance))
    width = values.range / 255
    assert found[0] == pytest.approx(0.5 * np.log(2.0 * np.pi * np.e * width**2 / 12.0), abs=1.6)


def test_the_bias_on_gaussian_data_is_measured() -> None:
    """Paired with the truth, so that its error is small; of Gaussian data it is what the estimate itself misses."""
    model = GaussianField(L=7, kappa=0.3)
    x, sizes, regions = columns(model, 4000)
    levels = (0.2, 0.6)
    noises = [model.schedule().level(t) for t in levels]
    fit = fit_posterior(x, sizes, snrs=[noise["snr"] for noise in noises], steps=40, surrogates=1)
    for t, noise in zip(levels, noises, strict=True):
        found = fit.profile(x, **noise)
        truth = np.array([model.cmi(t, r).value for r in regions.widths])
        assert found.surrogate is not None
        np.testing.assert_allclose(found.surrogate.cmi, truth, rtol=0.15, atol=48 / 4000 / 2)  # more by chance
        assert (found.surrogate.stderr < 3e-3).all()
        assert (np.abs(found.surrogate.value) < 0.005 + 3.0 * found.surrogate.stderr).all()
    pure = fit.profile(x, snr=0.0).surrogate
    assert pure is not None
    assert not pure.value.any()
    with pytest.raises(ValueError, match="surrogates are Gaussian"):
        fit_posterior(np.sign(x), sizes, flips=[0.1], surrogates=1)


def test_an_exact_posterior_has_no_bias_on_surrogates(monkeypatch: pytest.MonkeyPatch) -> None:
    """The Gaussian start of the exact covariance in place of the stack: differences of rounding only."""
    x, sizes, _ = columns(GaussianChain(L=9), 3000)
    fit = fit_posterior(x, sizes, snrs=[1.0], steps=2, hidden=4, surrogates=1)
    surrogate = fit.surrogates[0]
    monkeypatch.setattr(posterior_stack, "stacking_weights", lambda w: np.eye(w.shape[1])[1])
    off, _ = surrogate.differences(KnownNoise.of(1.0, None), sizes, 0)
    assert np.abs(off.mean(axis=1)).max() < 2e-3
    assert off.std() < 0.05


def test_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> Result:
        return call("run", "digits", "--levels", "0.3,0.6", *arguments)

    first = run("--method", "posterior", "--train-minutes", "0.02", "--out", "map.nc")
    assert first.exit_code == 0, first.stderr
    assert "averaged over 300 of the 1797 samples, held out" in first.stdout
    assert (tmp_path / "map.network.pt").exists()
    again = run("--method", "posterior", "--train-minutes", "0.02", "--network", "map.network.pt")
    assert again.stdout.split("Nothing was saved")[0] == first.stdout.split("Wrote")[0]
    other = run("--method", "posterior", "--train-minutes", "0.03", "--network", "map.network.pt")
    assert other.exit_code == 1
    why = "the network in map.network.pt is of other samples or options: name another file, or remove it"
    assert other.stderr == f"Error: {why}\n"
    before = (tmp_path / "map.network.pt").read_bytes()
    typo = run("--method", "posterior", "--levels", "0.3,1.6", "--out", "map.nc", "--overwrite")
    assert typo.exit_code == 1
    assert (tmp_path / "map.network.pt").read_bytes() == before  # a network takes minutes: no typo costs it
    wrong = run("--train-minutes", "1")
    assert wrong.stderr == "Error: --train-minutes is for --method posterior and mmse, not gaussian\n"

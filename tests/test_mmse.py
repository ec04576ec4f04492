"""The CMI from denoising losses: its integral, its starts, its truths, and what it refuses."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import call

torch = pytest.importorskip("torch")

from hypothesis import given  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from scipy.integrate import quad  # noqa: E402
from scipy.optimize import minimize  # noqa: E402
from scipy.special import xlogy  # noqa: E402

from cmi import estimate_cmi, phase_scan  # noqa: E402
from cmi.exact import Cat, GaussianField  # noqa: E402
from estimators import fit_mmse, fit_posterior, mmse_profile  # noqa: E402
from estimators.known_noise import KnownNoise  # noqa: E402
from estimators.mean_answers import Means  # noqa: E402
from estimators.mean_stack import blend_weights, snr_nodes  # noqa: E402
from estimators.posterior_answers import Levels  # noqa: E402
from estimators.posterior_network import make_answers  # noqa: E402
from estimators.posterior_part import Part  # noqa: E402
from estimators.profile import FloatArray  # noqa: E402
from estimators.tilted_means import tilted_means  # noqa: E402


def columns(model: Any, n: int, seed: int = 0) -> tuple[np.ndarray, tuple[int, ...], Any]:
    """Samples with their columns in the order A, S_1, ..., S_m."""
    regions = model.partition()
    x = model.sample(n, seed).reshape(n, -1)
    return np.ascontiguousarray(x[:, regions.columns]), regions.sizes, regions


# --- the integral over the SNR of A


@pytest.mark.parametrize("snr", [1e-6, 0.3, 4.0, 100.0, 1e4])
@pytest.mark.parametrize("scale", [0.2, 1.0])
def test_the_nodes_integrate_known_losses(snr: float, scale: float) -> None:
    """Of a Gaussian ln(1 + snr) / 2, and of a sign that mutual information which its density has."""
    g, w = snr_nodes(snr, scale**2)
    assert w.min() > 0.0
    assert g.max() < snr
    assert w.sum() == pytest.approx(snr, rel=1e-9)
    assert 0.5 * w @ (scale**2 / (1.0 + g * scale**2)) == pytest.approx(0.5 * np.log1p(snr * scale**2), rel=1e-9)

    def sign_loss(rate: float) -> float:
        root = np.sqrt(rate)
        inner = lambda z: np.exp(-0.5 * z**2) * np.tanh(rate - root * z) / np.sqrt(2 * np.pi)  # noqa: E731
        return float(1.0 - quad(inner, -9.0, 9.0, epsabs=1e-12, limit=200)[0])

    def density(y: float) -> float:
        both = sum(np.exp(-0.5 * snr * (y - x) ** 2) for x in (-scale, scale))
        return float(0.5 * np.sqrt(snr / (2 * np.pi)) * both)

    far = scale + 12.0 / np.sqrt(snr)
    entropy = quad(lambda y: -xlogy(density(y), density(y)), -far, far, limit=400, points=(-scale, scale))[0]
    information = entropy - 0.5 * np.log(2 * np.pi * np.e / snr)
    found = 0.5 * w @ [scale**2 * sign_loss(rate * scale**2) for rate in g]
    assert found == pytest.approx(information, abs=2e-5)


@given(st.integers(0, 10_000), st.integers(1, 4), st.floats(0.0, 3.0))
def test_the_blend_is_the_best_there_is(seed: int, count: int, off: float) -> None:
    rng = np.random.default_rng(seed)
    truth, weight = rng.standard_normal(40), rng.uniform(0.1, 2.0, 40)
    predictions = truth[:, None] + rng.standard_normal((40, count)) + off * rng.standard_normal(count)

    def best(predictions: FloatArray) -> FloatArray:
        errors = predictions - truth[:, None]
        return blend_weights(errors.T @ (weight[:, None] * errors))

    found = best(predictions)

    def loss(weights: np.ndarray) -> float:
        return float(weight @ (predictions @ weights - truth) ** 2)

    assert found.min() >= 0.0
    assert found.sum() == pytest.approx(1.0)
    other = minimize(  # type: ignore[call-overload]
        loss,
        np.full(count, 1.0 / count),
        bounds=[(0.0, 1.0)] * count,
        constraints={"type": "eq", "fun": lambda w: w.sum() - 1.0},
    )
    assert loss(found) <= other.fun * (1.0 + 1e-6)
    alike = np.repeat(predictions[:, :1], 3, axis=1)
    np.testing.assert_allclose(alike @ best(alike), predictions[:, 0])
    right = best(np.stack([truth, predictions[:, 0]], axis=1))
    np.testing.assert_allclose(right, [1.0, 0.0], atol=1e-6)


# --- where answers begin


def _slow_means(
    guess: float, precision: float, g: float, y: float, values: np.ndarray, share: np.ndarray, bins: float
) -> tuple[float, float]:
    """Mean and spread by quadrature over x itself, each value a narrow normal distribution."""
    mean = share @ values
    variance = share @ (values - mean) ** 2
    logits = np.log(share) + (values - mean) ** 2 / (2 * variance) - 0.5 * precision * (values - guess) ** 2
    width = np.sqrt(bins)
    z, w = np.polynomial.hermite_e.hermegauss(40) if bins else (np.zeros(1), np.ones(1))
    x = values[:, None] + width * z
    p = np.exp(logits - logits.max())[:, None] * w * np.exp(-0.5 * g * (y - x) ** 2)
    p /= p.sum()
    first = (p * x).sum()
    return float(first), float(np.sqrt((p * (x - first) ** 2).sum()))


@given(
    st.integers(0, 10_000),
    st.integers(2, 40),
    st.sampled_from([0.0, 1e-3, 0.02]),
    st.floats(0.0, 60.0),
    st.floats(-1.0, 2.0),
)
def test_tilted_means_are_those_of_the_formula(seed: int, many: int, bins: float, g: float, y: float) -> None:
    rng = np.random.default_rng(seed)
    values = np.sort(rng.choice(np.linspace(0.0, 1.0, 101), many, replace=False))
    share = rng.uniform(0.1, 1.0, many)
    share /= share.sum()
    mean = float(share @ values)
    variance = float(share @ (values - mean) ** 2)
    guess = rng.uniform(0.0, 1.0, (3, 2))
    precision = (1.0 + rng.uniform(0.0, 4.0, 2)) / variance
    found, spread = tilted_means(
        guess,
        precision,
        np.full((3, 1), g),
        np.full((3, 1), y),
        values,
        share,
        mean=mean,
        variance=variance,
        bin_variance=bins,
    )
    for row in range(3):
        for group in range(2):
            slow = _slow_means(guess[row, group], precision[group], g, y, values, share, bins)
            assert found[row, group, 0] == pytest.approx(slow[0], abs=3e-5)
            assert spread[row, group, 0] == pytest.approx(slow[1], abs=3e-3 if slow[1] < 0.02 else 2e-4)


def test_tilted_means_do_not_depend_on_the_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    given_ = (
        rng.uniform(0, 1, (50, 3)),
        rng.uniform(20, 30, 3),
        rng.uniform(0, 9, (50, 4)),
        rng.uniform(0, 1, (50, 4)),
    )
    values, share = np.linspace(0, 1, 20), np.full(20, 0.05)
    found = []
    for threads in (1, 3):
        monkeypatch.setattr("estimators.threads.available_threads", lambda n=threads: n)
        found.append(np.stack(tilted_means(*given_, values, share, mean=0.5, variance=0.09)))
    assert (found[0] == found[1]).all()


def _untrained(x: np.ndarray, sizes: tuple[int, ...], snr: float) -> tuple[Means, Levels, Part]:
    rows = np.arange(len(x))
    part = Part.of(x, sizes, rows, rows, rows, False)
    answers = make_answers(
        sizes,
        part.values,
        part.covariance,
        hidden=4,
        layers=1,
        seed=0,
        device=torch.device("cpu"),
        matmul=torch.float32,
        means=True,
    )
    assert isinstance(answers, Means)
    return answers, Levels.of([part.start(KnownNoise.of(snr, None), sizes)], answers.device), part


def test_no_width_sees_farther_than_its_buffer_nor_A_itself() -> None:  # noqa: N802
    """Exactly, and A at the SNR of its surroundings is not looked at: only y is."""
    x, sizes, _ = columns(GaussianField(L=5), 300)
    answers, levels, part = _untrained(x, sizes, 2.0)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in answers.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator) * (parameter.dim() != 2))
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator) * (parameter == 0.0))
        noisy = torch.randn(1, 9, x.shape[1], generator=generator)
        g, y = torch.rand(1, 9, 3, generator=generator), torch.randn(1, 9, 3, generator=generator)
        before = answers.means(noisy, [0], levels, g, y)
        for group, end in enumerate(np.cumsum([0, *sizes[1:]]) + 1):
            other = noisy.clone()
            other[..., end:] = 5.0
            other[..., 0] = -3.0
            after = answers.means(other, [0], levels, g, y)
            for one, two in zip(before, after, strict=True):
                assert torch.equal(one[:, :, : group + 1], two[:, :, : group + 1])
                assert end == x.shape[1] or not torch.equal(one[:, :, group + 1 :], two[:, :, group + 1 :])
        assert not torch.equal(before[0], answers.means(noisy, [0], levels, g, y + 0.1)[0])
        assert not torch.allclose(before[0], before[1])
    assert part.test is not None


def test_it_begins_at_the_gaussian_posterior_of_gaussian_data() -> None:
    """Network, start and Gaussian are one before training; on Gaussian data the first knows the shares of its A."""
    x, sizes, _ = columns(GaussianField(L=5), 40_000)
    answers, levels, part = _untrained(x, sizes, 2.0)
    clean = part.units(x[:50])
    rng = np.random.default_rng(1)
    noisy = clean + float(levels.sigma[0]) * rng.standard_normal(clean.shape)
    g = rng.uniform(0.0, 2.0, (50, 3))
    y = clean[:, :1] + rng.standard_normal((50, 3)) / np.sqrt(g)
    with torch.no_grad():
        seen, at, own = (torch.as_tensor(each[None], dtype=torch.float32) for each in (noisy, g, y))
        found = answers.means(seen, [0], levels, at, own)
    network, start, gaussian = (each[0].numpy() for each in found)
    assert (network == start).all()
    np.testing.assert_allclose(start, gaussian, atol=0.06)
    s = part.covariance
    for group, end in enumerate(np.cumsum([0, *sizes[1:]]) + 1):
        inner = s[1:end, 1:end] + float(levels.sigma[0]) ** 2 * np.eye(end - 1)
        mean = s[0, 1:end] @ np.linalg.solve(inner, noisy[:, 1:end].T) if end > 1 else np.zeros(50)
        variance = s[0, 0] - s[0, 1:end] @ np.linalg.solve(inner, s[1:end, 0])
        gain = g * variance / (1.0 + g * variance)
        exact = mean[:, None] + gain * (y - mean[:, None])
        np.testing.assert_allclose(gaussian[:, group], exact, atol=0.02)  # shrunk by what is chance


# --- truths


def test_it_finds_what_there_is_and_nothing_where_there_is_nothing() -> None:
    """A cat state, of two values; a field, where A is Gaussian: within the errors, and 0.003 nats for training."""
    for model, levels in ((Cat(L=8), (0.7, 0.85)), (GaussianField(L=7, kappa=0.3), (0.3, 0.7))):
        x, sizes, regions = columns(model, 8000)
        snrs = [model.schedule().level(t)["snr"] for t in levels]
        fit = fit_mmse(x, sizes, snrs=snrs, steps=80)
        seen = 0.0
        for t, snr in zip(levels, snrs, strict=True):
            found = fit.profile(x, snr=snr)
            truth = np.array([model.cmi(t, r).value for r in regions.widths])
            allowed = 4.0 * np.sqrt(np.diagonal(found.covariance())) + 0.003
            assert (np.abs(found.value - truth) < allowed).all(), (t, found.value, truth, allowed)
            seen = max(seen, float((truth / allowed).max()))
        assert seen > 2.0 or isinstance(model, GaussianField)  # nothing at all would not pass


def test_two_bits_at_any_snr() -> None:
    """I(A:C) of bits that agree in nine of ten, from noise that hides them to noise that hides nothing."""
    rng = np.random.default_rng(0)
    a = rng.integers(0, 2, 4000)
    x = np.stack([a, a ^ (rng.random(4000) < 0.1)], axis=1).astype(float)
    agree = np.mean(x[:, 0] == x[:, 1])
    clean = np.log(2.0) + agree * np.log(agree) + (1 - agree) * np.log1p(-agree)
    assert mmse_profile(x, (1, 0, 1), snr=1e4, steps=100).value[0] == pytest.approx(clean, abs=0.02)
    assert abs(mmse_profile(x, (1, 0, 1), snr=1e-6, steps=20).value[0]) < 1e-4
    independent = np.stack([a, rng.permutation(a)], axis=1).astype(float)
    none = mmse_profile(independent, (1, 0, 1), snr=4.0, steps=50)
    assert abs(none.value[0]) < 0.003 + 4.0 * np.sqrt(none.covariance()[0, 0])


def test_several_columns_of_A() -> None:  # noqa: N802
    """By the chain rule, each given the noisy ones before it: of Gaussian data the known sum."""
    rng = np.random.default_rng(0)
    mixing = np.array([[1.0, 0.5, 0.4, 0.0], [0.0, 1.0, 0.3, 0.5], [0.0, 0.0, 1.0, 0.6], [0.0, 0.0, 0.0, 1.0]])
    x = rng.standard_normal((6000, 4)) @ mixing.T
    noisy = mixing @ mixing.T + np.eye(4) / 2.0

    def entropy(*which: int) -> float:
        return 0.5 * float(np.linalg.slogdet(noisy[np.ix_(which, which)])[1])

    truth = entropy(0, 1, 2) + entropy(2, 3) - entropy(2) - entropy(0, 1, 2, 3)
    found = mmse_profile(x, (2, 1, 1), snr=2.0, steps=80)
    assert truth > 0.02
    assert found.value[0] == pytest.approx(truth, abs=4.0 * np.sqrt(found.covariance()[0, 0]) + 0.003)


def test_units_and_places_of_the_data_do_not_matter() -> None:
    x, sizes, _ = columns(GaussianField(L=5), 2000)
    one = mmse_profile(x, sizes, snr=1.0, steps=20)
    other = mmse_profile(100.0 * x + 7.0, sizes, snr=1e-4, steps=20)
    error = np.sqrt(np.diagonal(one.covariance() + other.covariance()))  # of another SNR other noise is drawn
    assert (np.abs(other.value - one.value) < 4.0 * error).all()


# --- as a method


def test_it_is_a_method_like_the_others(tmp_path: Path) -> None:
    field = GaussianField(L=7)
    images = field.sample(1500, 0).reshape(-1, 7, 7)
    file = tmp_path / "net.pt"
    options: dict[str, Any] = {"method": "mmse", "steps": 40, "hidden": 4, "network": file}
    scan = phase_scan(images, levels=[0.0, 0.3, 0.6, 1.0], widths=[1, 2], **options)
    assert np.isnan(scan.dataset.cmi.values[0]).all()
    assert (scan.dataset.cmi.values[3] == 0.0).all()
    assert np.isfinite(scan.dataset.cmi.values[1:]).all()
    assert (scan.dataset.stderr.values[1:3] > 0.0).all()
    again = phase_scan(images, levels=[0.3, 0.6, 1.0, 0.4], widths=[1, 2], **options)
    assert (again.dataset.cmi.sel(t=0.3) == scan.dataset.cmi.sel(t=0.3)).all()
    assert np.isfinite(again.dataset.cmi.sel(t=0.4)).all()
    one = estimate_cmi(images, A=24, B=[23, 25], C=[22, 26], method="mmse", snr=2.0, steps=20, hidden=4)
    assert abs(one.value) < 0.1
    with pytest.raises(ValueError, match="of other samples or options"):
        phase_scan(images, levels=[0.3], widths=[1, 2], **{**options, "method": "posterior"})


def test_the_command_line(tmp_path: Path) -> None:
    """The network is kept beside the scan and spares the training; what it cannot do it says."""
    out = tmp_path / "map.nc"
    command = ["run", "digits", "--method", "mmse", "--levels", "0,0.3", "--train-minutes", "0.02"]
    first = call(*command, "--out", out)
    assert first.exit_code == 0, first.output
    assert "averaged over 300 of the 1797 samples, held out" in first.stdout
    assert "leave out t = 0" in first.stdout
    network = tmp_path / "map.network.pt"
    again = call(*command, "--network", network)
    assert again.stdout.split("Nothing was saved")[0] == first.stdout.split("Wrote")[0]
    everywhere = call(*command, "--position", "all")
    assert everywhere.exit_code == 1
    assert "trains a network per position, and has none for all: map with posterior" in everywhere.stderr
    surrogates = call(*command, "--surrogates", "1")
    assert surrogates.stderr == "Error: --surrogates is for --method ksg and posterior, not mmse\n"


def test_the_same_seed_gives_the_same_and_folds_hold_every_sample_out() -> None:
    x, sizes, _ = columns(GaussianField(L=5), 600)
    options: dict[str, Any] = {"snrs": [1.0], "steps": 20, "hidden": 4}
    one, two = (fit_mmse(x, sizes, **options).profile(x, snr=1.0) for _ in range(2))
    assert (one.local == two.local).all()
    assert (fit_mmse(x, sizes, **options, seed=1).profile(x, snr=1.0).value != one.value).all()
    folds = fit_mmse(x, sizes, **options, folds=2).profile(x, snr=1.0)
    assert folds.local.shape == (len(sizes) - 2, 600)
    few = fit_mmse(x, sizes, **options, queries=50).profile(x, snr=1.0)
    assert few.local.shape == (len(sizes) - 2, 50)


def test_bad_input(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    x, sizes, _ = columns(GaussianField(L=5), 300)
    with pytest.raises(ValueError, match="not for flips: give snr"):
        mmse_profile(np.sign(x), sizes)
    with pytest.raises(ValueError, match="not for flips: give snr"):
        phase_scan(np.sign(x[:, :9]), noise="flip", levels=[0.2], method="mmse", steps=2)
    with pytest.raises(ValueError, match="at least 200 samples, got 150"):
        fit_mmse(x[:150], sizes, snrs=[1.0])
    with pytest.raises(ValueError, match=r"snr must lie in \[0, inf\], got -1"):
        mmse_profile(x, sizes, snr=-1.0)
    with pytest.raises(ValueError, match="queries or folds, not both"):
        fit_mmse(x, sizes, snrs=[1.0], queries=100, folds=2)
    constant = x.copy()
    constant[:, 0] = 3.0
    assert (fit_mmse(constant, sizes, snrs=[1.0], steps=2).profile(constant, snr=1.0).value == 0.0).all()
    file = tmp_path / "net.pt"
    fit = fit_mmse(x, sizes, snrs=[1.0], steps=2, hidden=4, network=file)
    with pytest.raises(ValueError, match="of other samples or options"):
        fit_posterior(x, sizes, snrs=[1.0], steps=2, hidden=4, network=file)
    with pytest.raises(ValueError, match="belong to 300 samples of 25 columns"):
        fit.profile(x[:-1], snr=1.0)
    nothing = fit.profile(x, snr=np.inf)
    assert np.isnan(nothing.value).all()
    assert "leave out t = 0" in nothing.notes[0]
    monkeypatch.setitem(sys.modules, "estimators.posterior_network", None)
    with pytest.raises(ImportError, match=r'the method "mmse" needs torch: pip install "phase-scan\[torch\]"'):
        fit_mmse(x, sizes, snrs=[1.0])

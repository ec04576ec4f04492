"""Denoisers: what they see, exactly; oracles against their definitions; foreign models; what is refused."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad
from torch import Tensor, nn

from cmi.denoise import (
    Denoiser,
    EmpiricalDenoiser,
    GaussianDenoiser,
    GlobalDenoiser,
    LocalDenoiser,
    OnSchedule,
    from_clean,
    from_epsilon,
    from_score,
    from_velocity,
    receptive_field,
)
from cmi.exact import GaussianField
from cmi.noise import Flip, noise_schedule

TIMES = torch.tensor([0.05, 0.4, 0.95], dtype=torch.float64)


def covariance(d: int, seed: int = 0) -> np.ndarray:
    root = np.random.default_rng(seed).standard_normal((d, d))
    return np.asarray(root @ root.T / d + 0.1 * np.eye(d))


def noisy(shape: tuple[int, ...], n: int = 3, seed: int = 0) -> Tensor:
    return torch.randn(n, *shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# What they see


@pytest.mark.parametrize("radius", range(13))
def test_a_local_network_sees_its_square_and_nothing_else(radius: int) -> None:
    torch.manual_seed(radius)
    found = receptive_field(LocalDenoiser((1, 25, 26), radius, width=4, depth=3), times=(0.3, 0.8))
    assert found.side == 2 * radius + 1
    assert found.full


def test_what_sees_farther_costs_no_more() -> None:
    """From as many pixels as blocks on, until the first kernel grows."""
    sizes = [
        sum(p.numel() for p in LocalDenoiser((1, 20, 20), radius, width=4).parameters()) for radius in range(3, 17)
    ]
    assert sizes[0] < sizes[1] < sizes[-1]
    assert len(set(sizes[1:-1])) == 1


def test_channels_and_lines() -> None:
    """All channels of a square enter, and a line has one row."""
    colour = receptive_field(LocalDenoiser((3, 7, 7), 2, width=6, depth=3))
    assert colour.radius == 2
    assert colour.full
    line = receptive_field(LocalDenoiser((1, 1, 12), 4, width=6, depth=3))
    assert line.seen.shape[1:] == (1, 12)
    assert line.radius == 4
    assert line.full


def test_a_global_network_sees_everything() -> None:
    torch.manual_seed(0)
    found = receptive_field(GlobalDenoiser((1, 13, 10), width=4, heads=2))
    assert found.seen.all()


def test_what_no_gradient_shows_is_found() -> None:
    """A step has no slope, and its values change all the same; dependence on an average is found by no claim."""

    class Step(Denoiser):
        def denoised(self, xt: Tensor, t: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
            return xt + torch.sign(torch.roll(xt, 2, dims=3))

    class Averaged(LocalDenoiser):
        def denoised(self, xt: Tensor, t: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
            return super().denoised(xt, t, alpha, sigma) / (1.0 + xt.std(dim=(1, 2, 3), keepdim=True))

    found = receptive_field(Step((1, 5, 9), radius=0), pixels=[(2, 4)])
    at = {(int(row), int(column)) for row, column in np.argwhere(found.seen[0])}
    assert (2, 4) in at
    assert at <= {(2, 4), (2, 2)}  # the sign changes where the value is less than the step from 0
    assert receptive_field(Averaged((1, 9, 9), 1, width=4, depth=2)).radius == 8
    # a group norm, as the published local networks have, sees the whole image
    normed = LocalDenoiser((1, 9, 9), 1, width=4, depth=2)
    normed.first = nn.Sequential(_GroupNormLast(), normed.first)  # type: ignore[assignment]
    assert receptive_field(normed).radius == 8


class _GroupNormLast(nn.Module):
    def forward(self, h: Tensor) -> Tensor:
        found: Tensor = nn.functional.group_norm(h.permute(0, 3, 1, 2), 1).permute(0, 2, 3, 1)
        return found


def test_oracles_are_as_local_as_they_claim() -> None:
    local = GaussianDenoiser(covariance(63), shape=(1, 7, 9), radius=2)
    assert receptive_field(local).radius == 2
    few = EmpiricalDenoiser(noisy((1, 7, 9), 20), radius=1)
    found = receptive_field(few)
    assert found.radius == 1
    assert found.full


def test_a_network_inside_a_function_is_measured_as_it_is() -> None:
    """It stays in single precision, while a module becomes part of the denoiser and is brought to double."""
    inner = LocalDenoiser((1, 7, 9), 2, width=4, depth=2)
    found = receptive_field(from_clean(lambda x, t: inner(x, t), (1, 7, 9), radius=2))  # noqa: PLW0108
    assert (found.radius, found.full) == (2, True)
    wide = nn.Conv2d(1, 1, 5, padding=2)
    assert receptive_field(from_clean(lambda x, t: wide(x), (1, 7, 9), radius=1)).radius == 2


# Networks


@pytest.mark.parametrize("precision", [torch.float64, torch.bfloat16])
def test_networks_compute_in_the_precision_that_they_have(precision: torch.dtype) -> None:
    x = noisy((1, 6, 6)).float()
    for net in (LocalDenoiser((1, 6, 6), 2, width=4, depth=2), GlobalDenoiser((1, 6, 6), width=4)):
        single, exact = net(x, 0.4), net.to(precision)(x, 0.4)
        assert exact.dtype == torch.float32
        assert torch.allclose(exact, single, atol=1e-5 if precision == torch.float64 else 0.1)
    seen = []

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gain = nn.Parameter(torch.ones(1, dtype=precision))

        def forward(self, x: Tensor, t: Tensor) -> Tensor:
            seen.append((x.dtype, t.dtype))
            return self.gain * x

    assert from_clean(Model(), (1, 6, 6))(x, 0.4).dtype == torch.float32
    assert seen == [(precision, precision)]


def test_networks_are_exact_without_noise_and_finite_everywhere() -> None:
    for net in (LocalDenoiser((2, 6, 5), 2, width=4, depth=2), GlobalDenoiser((2, 6, 5), width=4, heads=2)):
        x = noisy((2, 6, 5)).float()
        assert torch.equal(net(x, 0.0), x)
        for t in (1e-6, 0.5, 1.0):
            assert torch.isfinite(net(x, t)).all()
        assert torch.allclose(net(x, torch.tensor([0.2, 0.5, 1.0]))[1], net(x[1:2], 0.5)[0], atol=1e-5)


def test_pixels_that_never_change_are_predicted_exactly() -> None:
    x0 = noisy((1, 6, 6), 50).float()
    x0[:, :, 0] = 0.25
    net = LocalDenoiser((1, 6, 6), 2, width=4, depth=2)
    net.fit_moments(x0)
    assert torch.equal(net(noisy((1, 6, 6)).float(), 0.7)[:, :, 0], torch.full((3, 1, 6), 0.25))


def test_before_training_a_network_is_near_the_linear_prediction_of_each_pixel() -> None:
    field = GaussianField(L=6)
    x0 = torch.as_tensor(field.sample(4000, 0)).reshape(-1, 1, 6, 6).float()
    net = GlobalDenoiser((1, 6, 6), width=8)
    net.fit_moments(x0)
    alone = GaussianDenoiser(np.diag(np.diag(field.covariance)), shape=(1, 6, 6), radius=0)
    xt = noisy((1, 6, 6)).float()
    assert (net(xt, 0.5) - alone(xt, 0.5)).abs().max() < 0.2


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LocalDenoiser((1, 8, 8), 8), "radius 8 is beyond images of 8 x 8: take 7 at most"),
        (lambda: LocalDenoiser((1, 8, 8), -1), "radius"),
        (lambda: LocalDenoiser((8, 8), 1), "shape of an image is"),
        (
            lambda: LocalDenoiser((1, 8, 8), 1, "flip"),
            "denoisers are for Gaussian noise, got 'flip': choose from interpolation, vp-linear, vp-cosine, ve$",
        ),
        (lambda: LocalDenoiser((1, 8, 8), 1, Flip()), "denoisers are for Gaussian noise, which flip is not"),
        (lambda: LocalDenoiser((1, 8, 8), 1, std=-1.0), "std of pixels must be finite and not negative"),
        (lambda: GlobalDenoiser((1, 8, 8), width=3, heads=5), "5 heads do not share 12 channels"),
        (lambda: GaussianDenoiser(np.eye(3), shape=(1, 2, 2)), "covariance of images of 4 values"),
        (lambda: GaussianDenoiser(-np.eye(4), shape=(1, 2, 2)), "eigenvalue -1"),
        (lambda: EmpiricalDenoiser(np.zeros((2, 3, 3))), "images have shape"),
        (lambda: EmpiricalDenoiser(np.full((1, 1, 2, 2), np.nan)), "not finite"),
        (lambda: GaussianDenoiser(np.eye(4), np.nan, shape=(1, 2, 2)), "the mean holds values that are not finite"),
        (lambda: from_velocity(lambda x, t: x, (1, 2, 2), "ve"), "a velocity is known of"),
        (lambda: receptive_field(LocalDenoiser((1, 4, 4), 1), pixels=[(4, 0)]), "lies outside images of 4 x 4"),
    ],
)
def test_what_cannot_be_made(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_whole_numbers_are_no_images_of_the_empirical_oracle() -> None:
    with pytest.raises(TypeError, match="images_of scales whole numbers"):
        EmpiricalDenoiser(np.zeros((3, 1, 2, 2), dtype=np.uint8))


def test_pixels_that_say_the_same_have_a_local_filter_at_any_noise() -> None:
    """A covariance of rank one: nothing is singular, and without noise the pixel is what it shows."""
    same = GaussianDenoiser(np.ones((9, 9)), shape=(1, 3, 3), radius=1)
    xt = torch.full((1, 1, 3, 3), 0.7, dtype=torch.float64)
    for t in (1e-12, 1e-9, 1e-6, 1e-3):
        assert torch.allclose(same(xt, t), xt, atol=2e-3)


def test_what_cannot_be_denoised() -> None:
    net = LocalDenoiser((1, 4, 4), 1, width=4, depth=1)
    x = torch.zeros(2, 1, 4, 4)
    with pytest.raises(ValueError, match=r"must have shape \(n, 1, 4, 4\), got \(2, 4, 4\)"):
        net(x[:, 0], 0.5)
    with pytest.raises(TypeError, match="floating point"):
        net(x.long(), 0.5)
    for t in (-0.1, 1.5, float("nan")):
        with pytest.raises(ValueError, match=r"lie in \[0, 1\]"):
            net(x, t)
    with pytest.raises(ValueError, match="one for each of the 2 images"):
        net(x, torch.zeros(3))
    with pytest.raises(
        ValueError, match=r"the model gives shape \(2, 1, 4, 1\) for images of shape \(2, 1, 4, 4\)"
    ):
        from_epsilon(lambda x, t: x[..., :1], (1, 4, 4), "interpolation")(x, 0.5)


# Oracles


@given(
    st.integers(0, 3),
    st.integers(0, 10_000),
    st.sampled_from(["interpolation", "vp-cosine", "ve"]),
    st.integers(1, 2),
)
def test_the_gaussian_oracle_is_conditioning(radius: int, seed: int, noise: str, channels: int) -> None:
    """Pixel by pixel, from the definition of a conditional mean and variance."""
    rows, columns = 3, 4
    d = channels * rows * columns
    s, mean = covariance(d, seed), np.random.default_rng(seed).standard_normal(d)
    shape = (channels, rows, columns)
    schedule = noise_schedule(noise)
    local = GaussianDenoiser(s, mean, shape=shape, noise=noise, radius=radius)
    xt = noisy(shape, 2, seed)
    at = np.stack(np.unravel_index(np.arange(d), shape), axis=1)
    for t in (0.2, 0.9):
        alpha, sigma = float(schedule.alpha(t)), float(schedule.sigma(t))
        found, mmse = local(xt, t).numpy().reshape(2, d), local.mmse(t).reshape(d)
        for i in range(d):
            p = np.flatnonzero(np.abs(at[:, 1:] - at[i, 1:]).max(axis=1) <= radius)
            seen = alpha**2 * s[np.ix_(p, p)] + sigma**2 * np.eye(len(p))
            gain = np.linalg.solve(seen, alpha * s[p, i])
            wanted = mean[i] + (xt.numpy().reshape(2, d)[:, p] - alpha * mean[p]) @ gain
            np.testing.assert_allclose(found[:, i], wanted, rtol=1e-9, atol=1e-9)
            assert mmse[i] == pytest.approx(s[i, i] - alpha * gain @ s[p, i], abs=1e-9)


def test_a_radius_that_reaches_everything_is_global() -> None:
    field = GaussianField(L=5)
    whole = GaussianDenoiser(field.covariance, shape=(1, 5, 5))
    local = GaussianDenoiser(field.covariance, shape=(1, 5, 5), radius=4)
    xt = noisy((1, 5, 5))
    assert (whole(xt, TIMES) - local(xt, TIMES)).abs().max() < 1e-12
    images = noisy((1, 5, 5), 40)
    one, other = EmpiricalDenoiser(images), EmpiricalDenoiser(images, radius=4)
    assert (one(xt, TIMES) - other(xt, TIMES)).abs().max() < 1e-12


def test_the_gaussian_oracle_at_both_ends_and_with_an_empty_direction() -> None:
    s = np.ones((4, 4))  # one number, four times
    exact = GaussianDenoiser(s, 0.5, shape=(1, 2, 2))
    x = torch.tensor([0.3, 0.3, 0.3, 0.3], dtype=torch.float64).reshape(1, 1, 2, 2)
    assert torch.equal(exact(x, 0.0), x)
    assert torch.equal(exact(x, 1.0), torch.full_like(x, 0.5))
    assert not exact.mmse(0.0).any()
    np.testing.assert_allclose(exact.mmse(1.0), 1.0)
    np.testing.assert_allclose(exact.mmse(0.5), 1.0 / 5.0)  # four looks at SNR 1


def test_the_losses_of_the_exact_denoiser_integrate_to_the_information() -> None:
    """I(X : Y) = 1/2 int mmse dSNR = 1/2 ln det(1 + SNR S); what is local loses more at every level."""
    field = GaussianField(L=4)
    schedule = noise_schedule("interpolation")
    whole = GaussianDenoiser(field.covariance, shape=(1, 4, 4))
    found, _ = quad(lambda g: 0.5 * whole.mmse(float(schedule.time(g))).sum(), 0.0, 3.0)
    assert found == pytest.approx(0.5 * np.linalg.slogdet(np.eye(16) + 3.0 * field.covariance)[1], rel=1e-6)
    local = GaussianDenoiser(field.covariance, shape=(1, 4, 4), radius=1)
    for t in (0.1, 0.5, 0.9):
        assert (local.mmse(t) >= whole.mmse(t) - 1e-12).all()
        assert local.mmse(t).sum() > whole.mmse(t).sum()


@given(st.integers(0, 2), st.integers(0, 10_000), st.integers(1, 2))
def test_the_empirical_oracle_is_the_mean_over_the_set(radius: int, seed: int, channels: int) -> None:
    shape = (channels, 3, 4)
    images, xt = noisy(shape, 15, seed).numpy(), noisy(shape, 1, seed + 1)
    alpha, sigma = 0.6, 0.4
    found = EmpiricalDenoiser(images, radius=radius)(xt, 0.4).numpy()[0]
    off = (xt.numpy()[0] - alpha * images) ** 2
    for row in range(3):
        for column in range(4):
            square = np.s_[
                :, :, max(0, row - radius) : row + radius + 1, max(0, column - radius) : column + radius + 1
            ]
            weights = np.exp(-off[square].sum(axis=(1, 2, 3)) / (2.0 * sigma**2))
            wanted = weights @ images[:, :, row, column] / weights.sum()
            np.testing.assert_allclose(found[:, row, column], wanted, rtol=1e-9, atol=1e-12)


def test_the_empirical_oracle_remembers_and_survives_the_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    images = noisy((1, 4, 4), 30)
    for radius in (None, 1):
        known = EmpiricalDenoiser(images, radius=radius)
        assert (known(images[:2] * 0.999, 0.001) - images[:2]).abs().max() < 1e-3
        assert torch.equal(known(images[:2], 0.0), images[:2])
        assert (known(images[:2], 1.0) - images.mean(dim=0)).abs().max() < 1e-12
        whole = known(images[:5] * 0.5, 0.5)
        monkeypatch.setattr("cmi.denoise.oracles._BLOCK", 1)  # image by image
        assert (known(images[:5] * 0.5, 0.5) - whole).abs().max() < 1e-12
        monkeypatch.undo()


# Foreign models


@pytest.mark.parametrize("noise", ["interpolation", "vp-linear", "vp-cosine", "ve"])
def test_what_foreign_models_predict_is_the_same_denoiser(noise: str) -> None:
    s = covariance(6)
    exact = GaussianDenoiser(s, shape=(1, 2, 3), noise=noise)
    schedule = noise_schedule(noise)

    def parts(t: Tensor) -> list[Tensor]:
        return [torch.as_tensor(f(t.numpy()))[:, None, None, None] for f in (schedule.alpha, schedule.sigma)]

    def epsilon(xt: Tensor, t: Tensor) -> Tensor:
        alpha, sigma = parts(t)
        clean: Tensor = exact(xt, t)
        return (xt - alpha * clean) / sigma

    def score(xt: Tensor, t: Tensor) -> Tensor:
        return -epsilon(xt, t) / parts(t)[1]

    def velocity(xt: Tensor, t: Tensor) -> Tensor:
        alpha, sigma = parts(t)
        clean: Tensor = exact(xt, t)
        return epsilon(xt, t) - clean if noise == "interpolation" else alpha * epsilon(xt, t) - sigma * clean

    xt = noisy((1, 2, 3))
    made = [from_epsilon(epsilon, (1, 2, 3), noise), from_score(score, (1, 2, 3), noise)]
    made += [from_velocity(velocity, (1, 2, 3), noise)] if noise != "ve" else []
    for foreign in made:
        assert (foreign(xt, TIMES) - exact(xt, TIMES)).abs().max() < 1e-9
        assert foreign.label == "global"
    if noise in ("interpolation", "vp-cosine"):
        for foreign in made[:2]:
            with pytest.raises(ValueError, match="says nothing of the image where alpha = 0"):
                foreign(xt, 1.0)


def test_a_module_stays_one() -> None:
    model = nn.Conv2d(1, 1, 1)

    class Wrapped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = model

        def forward(self, xt: Tensor, t: Tensor) -> Tensor:
            found: Tensor = self.conv(xt)
            return found

    assert len(list(from_epsilon(Wrapped(), (1, 2, 2)).parameters())) == 2


@pytest.mark.parametrize("own", ["vp-cosine", "vp-linear", "ve"])
def test_another_schedule_has_the_same_snr(own: str) -> None:
    s = covariance(6)
    there = OnSchedule(GaussianDenoiser(s, 0.3, shape=(1, 2, 3), noise=own), "interpolation")
    here = GaussianDenoiser(s, 0.3, shape=(1, 2, 3))
    xt = noisy((1, 2, 3))
    assert (there(xt, TIMES) - here(xt, TIMES)).abs().max() < 1e-9
    if own == "vp-cosine":
        for t in (0.0, 1.0):
            assert (there(xt, t) - here(xt, t)).abs().max() < 1e-12
    else:
        with pytest.raises(ValueError, match="reaches SNRs from"):
            there(xt, 1.0)

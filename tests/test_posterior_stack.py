"""Stacking: the best pool of predictions, and the mixture over samples that is one of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import estimators.posterior_mixture as posterior_mixture
from cmi.exact import GaussianField
from estimators.held_out import HeldOut, in_turn
from estimators.known_noise import KnownNoise
from estimators.mean_stack import held_out_informations
from estimators.mixture import mixture_profile
from estimators.mmse import fit_mmse
from estimators.posterior import fit_posterior
from estimators.posterior_data import Values
from estimators.posterior_mixture import NearSamples
from estimators.posterior_part import Part
from estimators.posterior_stack import Stack, held_out_entropies
from estimators.profile import FloatArray
from estimators.stacking import stacking_weights

NOISE = KnownNoise.of(1.0, None)
Fitted = tuple[FloatArray, Part, Callable[[Part, FloatArray], HeldOut]]


@given(st.integers(0, 2**32 - 1), st.integers(2, 5))
def test_stacking_finds_the_best_pool(seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    density = rng.gamma(0.5, size=(300, count)) + 1e-9
    weights = stacking_weights(density)
    assert weights.min() >= 0.0
    assert weights.sum() == pytest.approx(1.0)
    best = np.log(density @ weights).mean()
    for other in rng.dirichlet(np.ones(count), 200):
        assert np.log(density @ other).mean() <= best + 1e-6


@given(st.integers(0, 2**32 - 1), st.integers(1, 5), st.sampled_from([1e-6, 1e-2, 1.0, 30.0]))
def test_stacking_is_optimal(seed: int, count: int, apart: float) -> None:
    """The conditions of Karush, Kuhn and Tucker: no prediction is worth more than the pool, which is worth 1.

    Whether predictions are nearly the same, or rule out what the others say.
    """
    rng = np.random.default_rng(seed)
    density = rng.exponential(size=(rng.integers(1, 200), 1)) ** 3 * np.exp(rng.normal(0.0, apart, (1, count)))
    density = density * np.exp(rng.normal(0.0, apart, (len(density), count)))
    density[rng.random(density.shape) < 0.1] = 0.0
    weights = stacking_weights(density)
    some = density[density.max(axis=1) > 0.0]
    pool = np.maximum(some @ weights, 1e-12 * some.max(axis=1))
    worth = (some / pool[:, None]).mean(axis=0) if len(some) else np.ones(count)
    assert (worth <= 1.0 + 1e-3).all()
    assert abs(weights @ worth - 1.0) < 1e-3


def test_stacking_of_predictions_that_fail() -> None:
    dead = np.stack([np.full(50, np.nan), np.full(50, 0.3)], axis=1)
    assert stacking_weights(dead)[1] > 0.999
    np.testing.assert_allclose(stacking_weights(np.zeros((10, 3))), 1.0 / 3.0)


@pytest.mark.parametrize("tile", [64, 2048])
@pytest.mark.parametrize("noise", [KnownNoise.of(2.0, None), KnownNoise.of(0.05, None), KnownNoise.of(None, 0.2)])
def test_the_mixture_is_that_of_its_formula(noise: KnownNoise, tile: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two columns of A, the second given the noisy first; sums over samples written out, one column constant."""
    monkeypatch.setattr(posterior_mixture, "_TILE", tile)
    rng = np.random.default_rng(0)
    sizes, d = (2, 3, 0, 4), 9
    clean = rng.integers(0, 2, (300, d)).astype(float)
    if not noise.flip:
        clean[:, 2:] += rng.standard_normal((300, d - 2))
        clean[:, :2] += rng.integers(0, 3, (300, 2))
    clean[:, 3] = 1.0
    values = tuple(Values.of(clean[:, column]) for column in range(2))
    near = NearSamples(clean, values, sizes, noise)
    noisy = noise.applied(clean[:5] + 0.0, 1)
    for target in range(2):
        posterior, neighbours = near.posterior(noisy, target, near.groups)
        for group, end in enumerate((2, 5, 5, 9)):
            columns = [*range(target), *range(2, end)]
            square = ((noisy[:, None, columns] - clean[None][..., columns]) ** 2).sum(axis=2)
            log_w = -0.5 * square / noise.sigma**2 if not noise.flip else square * np.log(0.2 / 0.8)
            w = np.exp(log_w)
            w /= w.sum(axis=1, keepdims=True)
            expected = np.stack([w[:, clean[:, target] == v].sum(axis=1) for v in values[target].known], axis=1)
            np.testing.assert_allclose(posterior[:, group], expected, atol=2e-5)
            np.testing.assert_allclose(neighbours[:, group], 1.0 / (w**2).sum(axis=1), rtol=1e-3)
    assert near.posterior(noisy, 0, 2)[0].shape == (5, 2, len(values[0].known))


def test_the_mixture_is_asked_as_far_as_it_has_neighbours() -> None:
    rng = np.random.default_rng(0)
    clean = rng.standard_normal((2000, 40))
    sizes = (1, 1, 2, 4, 8, 24)
    values = (Values.of(clean[:, 0]),)
    untils = []
    for snr in (1e-4, 1.0, 100.0):
        noise = KnownNoise.of(snr, None)
        untils.append(NearSamples(clean, values, sizes, noise).blurred(noise.applied(clean[:100], 0), 3.0))
    assert untils[0] == 6
    assert 2 <= untils[2] < untils[1] < 6


def test_what_predicts_best_is_believed_most() -> None:
    """A is the product of two others: a line is blind for it, and a network that has learnt nothing."""
    factors = np.random.default_rng(0).choice([-1.0, 0.0, 1.0], (6000, 2))
    x, sizes = np.concatenate([factors.prod(axis=1, keepdims=True), factors], axis=1), (1, 1, 1)
    fit = fit_posterior(x, sizes, snrs=[4.0], steps=1, hidden=2)
    part = fit.parts[0]
    start = part.start(KnownNoise.of(4.0, None), sizes)
    stack = Stack(part, start, 0, NearSamples(part.units(x[part.train]), part.values, sizes, start.noise))
    stack.weigh(part.units(x[part.validation]))
    assert stack.weights[0][0][2, 3] > 0.9
    assert stack.until == 3
    found, other = fit.profile(x, snr=4.0), mixture_profile(x, sizes, snr=4.0)
    error = np.hypot(found.covariance()[0, 0] ** 0.5, other.covariance()[0, 0] ** 0.5)
    assert abs(found.value[0] - other.value[0]) < 3.0 * error
    assert found.value[0] > 0.1


def test_where_it_tells_nothing_the_mixture_is_not_believed() -> None:
    field = GaussianField(L=5)
    regions = field.partition()
    weights = []
    for seed in range(4):  # a weight of 500 samples varies
        x = np.ascontiguousarray(field.sample(6000, seed).reshape(6000, -1)[:, regions.columns])
        fit = fit_posterior(x, regions.sizes, snrs=[1.0], steps=1, hidden=2)
        part = fit.parts[0]
        start = part.start(KnownNoise.of(1.0, None), regions.sizes)
        near = NearSamples(part.units(x[part.train]), part.values, regions.sizes, start.noise)
        stack = Stack(part, start, seed, near)
        stack.weigh(part.units(x[part.validation]))
        weights.append(stack.weights[0][0][2, 3])
    assert np.mean(weights) < 0.2


@pytest.fixture(scope="module", params=["posterior", "mmse"])
def fitted(request: pytest.FixtureRequest) -> Fitted:
    field = GaussianField(L=7)
    regions = field.partition()
    x = np.ascontiguousarray(field.sample(6000, 0).reshape(6000, -1)[:, regions.columns])
    if request.param == "mmse":
        means = fit_mmse(x, regions.sizes, snrs=[1.0], steps=100, hidden=4).parts[0]
        return x, means, lambda part, x: held_out_informations(part, x, NOISE, regions.sizes, 0)
    own = fit_posterior(x, regions.sizes, snrs=[1.0], steps=100, hidden=4).parts[0]
    return x, own, lambda part, x: held_out_entropies(part, x, NOISE, regions.sizes, 0, mixture=False)


def test_errors_hold_what_choosing_weights_adds(fitted: Fitted) -> None:
    """Other samples to choose by, the same to be averaged over: what is read varies by as much as it says."""
    x, own, read = fitted
    parts = [replace(own, validation=each, test=own.test[:200]) for each in np.array_split(own.train, 20)]
    found = [read(part, x) for part in parts]
    spread = np.std([each.local.mean(axis=1) for each in found], axis=0)
    moved = np.concatenate([each.moved[:, 1:-1] - each.moved[:, [-1]] for each in found])
    said = np.sqrt(np.mean(moved**2, axis=0))
    assert (spread < 2.0 * said).all()
    assert (said < 4.0 * spread).all()


def test_weights_are_chosen_without_what_they_are_for(fitted: Fitted) -> None:
    """Other samples in the last turn: the losses of all before them stay as they are."""
    x, own, read = fitted
    last = in_turn(len(own.test))[-1]
    other = x.copy()
    other[own.test[last]] = 3.0 * x[own.test[last]] + 1.0
    before, after = read(own, x).losses, read(own, other).losses
    same = np.setdiff1d(np.arange(len(own.test)), last)
    np.testing.assert_array_equal(before[:, same], after[:, same])
    assert (before[:, last] != after[:, last]).all()

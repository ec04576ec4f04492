"""The bias that ksg measures on itself: the surrogate's truth, the bias, its error, and what calibrating leaves."""

from __future__ import annotations

import numpy as np
import pytest
from truths import Gaussian, chain, random_gaussian

from estimators import ksg_profile
from estimators.surrogates import GaussianSurrogate, surrogate_differences


def strong(b: int, c: int, cmi: float = 1.0) -> Gaussian:
    """A depends on one column of C, by `cmi` nats, and on one of B; all others are noise."""
    d = 1 + b + c
    rho = np.sqrt(1.0 - np.exp(-2.0 * cmi))
    mixing = np.eye(d)
    mixing[0, 0] = np.sqrt(1.0 - rho**2)
    mixing[0, 1 + b] = rho
    mixing[0, 1] += 1.0 if b else 0.0
    return Gaussian(mixing @ mixing.T, (1, b, c))


def offsets(model: Gaussian) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    return np.concatenate([[0], np.cumsum(model.sizes)]).astype(np.int64)


@pytest.mark.parametrize("model", [chain(4, (1, 2, 3)), random_gaussian(7, (2, 2, 2, 1), 1), strong(3, 2)])
def test_a_surrogate_has_the_covariance_and_knows_its_cmi(model: Gaussian) -> None:
    surrogate = GaussianSurrogate.of(model.sample(50_000, 0), offsets(model))
    samples, local = surrogate.sample(50_000, np.random.default_rng(1))
    np.testing.assert_allclose(surrogate.cmi, model.cmi(), rtol=0.05, atol=1e-3)
    expected = model.covariance / model.covariance.diagonal().max()  # the largest variance counts as 1
    np.testing.assert_allclose(np.cov(samples.T), expected, atol=0.03)
    # local information: its mean is the CMI, within its error
    error = local.std(axis=1) / np.sqrt(local.shape[1])
    assert (np.abs(local.mean(axis=1) - surrogate.cmi) < 4.0 * error + 1e-12).all()


def test_local_information_is_the_log_ratio_of_densities() -> None:
    model = strong(1, 1)
    surrogate = GaussianSurrogate.of(model.sample(20_000, 0), offsets(model))
    x, local = surrogate.sample(5, np.random.default_rng(0))
    factor = np.block(
        [[surrogate.factor, np.zeros((2, 1))], [surrogate.weights.T, np.linalg.cholesky(surrogate.target)]]
    )
    sigma = (factor @ factor.T)[np.ix_([2, 0, 1], [2, 0, 1])]  # in the order A, B, C

    def log_density(part: list[int], row: np.ndarray[tuple[int], np.dtype[np.float64]]) -> float:
        s = sigma[np.ix_(part, part)]
        return float(-0.5 * (row[part] @ np.linalg.solve(s, row[part]) + np.linalg.slogdet(2 * np.pi * s)[1]))

    for row, value in zip(x / surrogate.spread, local[0], strict=True):
        expected = log_density([0, 1, 2], row) - log_density([1, 2], row)
        expected += log_density([1], row) - log_density([0, 1], row)
        assert value == pytest.approx(expected, abs=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("model", [strong(0, 1), strong(3, 1), strong(8, 4), chain(4, (1, 2))])
def test_the_bias_is_the_true_one_and_its_error_is_right(model: Gaussian) -> None:
    """Against estimates of many data sets of the model itself; and the error against the spread of the bias."""
    results = [ksg_profile(model.sample(500, seed), model.sizes, seed=seed) for seed in range(60)]
    estimates = np.array([r.value for r in results])
    biases = np.array([r.surrogate.value for r in results if r.surrogate is not None])
    errors = np.array([r.surrogate.stderr for r in results if r.surrogate is not None])
    true_bias = estimates.mean(axis=0) - model.cmi()
    uncertainty = np.sqrt((estimates.var(axis=0) + biases.var(axis=0)) / 60)
    assert (np.abs(biases.mean(axis=0) - true_bias) < 4.0 * uncertainty + 0.03 * np.abs(true_bias)).all()
    ratio = np.sqrt((errors**2).mean(axis=0)) / biases.std(axis=0, ddof=1)
    assert ((ratio > 0.7) & (ratio < 1.4)).all()


@pytest.mark.slow
def test_calibrated_estimates_hit_the_truth_and_know_their_error() -> None:
    model = strong(8, 1)
    truth = float(model.cmi()[0])
    results = [ksg_profile(model.sample(1000, seed), model.sizes, calibrate=True, seed=seed) for seed in range(60)]
    values = np.array([r.value[0] for r in results])
    errors = np.array([np.sqrt(r.covariance()[0, 0]) for r in results])
    plain = np.mean([r.local.mean() + r.bias[0] for r in results])
    assert plain < truth - 0.5  # what it reads uncalibrated
    assert abs(values.mean() - truth) < 0.02
    assert all(r.calibrated and r.local.mean() == pytest.approx(r.value[0]) for r in results)
    assert 0.65 < np.sqrt((errors**2).mean()) / values.std(ddof=1) < 1.35


def test_a_serious_bias_is_said_and_a_small_one_is_not() -> None:
    far = ksg_profile(strong(8, 1).sample(1000, 0), (1, 8, 1))
    assert far.surrogate is not None
    assert far.surrogate.serious.all()
    assert any("off by more than 0.02 nats and 20 %" in note for note in far.notes)
    calibrated = ksg_profile(strong(8, 1).sample(1000, 0), (1, 8, 1), calibrate=True)
    assert any("this has been subtracted" in note for note in calibrated.notes)
    near = ksg_profile(strong(0, 1).sample(1000, 0), (1, 0, 1))
    assert near.surrogate is not None
    assert not near.surrogate.serious.any()
    assert not near.notes


def test_the_flag_is_seldom_raised_without_bias() -> None:
    """In one column each the bias is far below 0.02 nats: noise must not raise the flag."""
    raised = 0
    for seed in range(40):
        x = np.random.default_rng(seed).standard_normal((300, 3))
        surrogate = ksg_profile(x, (1, 1, 1), seed=seed).surrogate
        assert surrogate is not None
        raised += int(surrogate.serious[0])
    assert raised <= 5


def test_any_data_have_a_surrogate() -> None:
    """Fewer samples than columns, columns that repeat, constants, tiny and huge units, several columns in A."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((20, 40))
    x[:, 5] = x[:, 6] = x[:, 7]
    x[:, 8] = 3.0
    x[:, 9:13] *= [1e-12, 1e12, 1.0, 1e300]
    result = ksg_profile(x, (2, 18, 20))
    assert result.surrogate is not None
    assert np.isfinite(result.surrogate.value).all()
    assert np.isfinite(result.surrogate.cmi).all()
    copy = ksg_profile(np.column_stack([x[:, 0], x[:, 1], x[:, 0]]), (1, 1, 1))  # C is A
    assert copy.surrogate is not None
    assert np.isnan(copy.surrogate.value).all()  # of an infinite CMI
    assert any("is a linear function" in note and "infinite" in note for note in copy.notes)
    calibrated = ksg_profile(np.column_stack([x[:, 0], x[:, 1], x[:, 0]]), (1, 1, 1), calibrate=True)
    np.testing.assert_array_equal(calibrated.value, copy.value)  # nothing is known that could be subtracted
    assert np.isfinite(calibrated.covariance()).all()
    constant = ksg_profile(np.ones((20, 3)), (1, 1, 1)).surrogate
    assert constant is not None
    assert constant.value.tolist() == constant.stderr.tolist() == [0.0]  # of an estimate that is 0
    assert ksg_profile(x, (2, 18, 20), surrogates=0).surrogate is None


def test_replicates_lower_the_error_and_seeds_decide() -> None:
    x = chain(3, (1,)).sample(400, 0)
    one, same, other = (ksg_profile(x, (1, 2, 4), seed=seed).surrogate for seed in (1, 1, 2))
    four = ksg_profile(x, (1, 2, 4), seed=1, surrogates=4).surrogate
    assert one is not None
    assert same is not None
    assert other is not None
    assert four is not None
    assert one.value[0] == same.value[0] != other.value[0]
    assert four.stderr[0] == pytest.approx(one.stderr[0] / 2.0, rel=0.2)


def test_differences_of_an_exact_estimator_are_its_noise() -> None:
    """An 'estimator' that returns the local information itself has no bias and no error."""
    model = strong(2, 1)
    layout = offsets(model)
    x = model.sample(1000, 0)
    surrogate = GaussianSurrogate.of(x, layout)
    samples, local = surrogate.sample(1000, np.random.default_rng(np.random.SeedSequence(7, spawn_key=(2, 0))))

    def exact(points: object, offsets: object) -> np.ndarray[tuple[int, int, int], np.dtype[np.float64]]:
        np.testing.assert_array_equal(points, samples)
        return local[None]

    assert (surrogate_differences(surrogate, 1000, layout, exact, None, 1, 7) == 0.0).all()

"""Local permutations: what is exchanged, and that p-values are those of the null hypothesis."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import kstest

from estimators import ksg_profile
from estimators.local_permutation import LocalPermutations


def test_each_sample_takes_from_its_neighbours() -> None:
    rng = np.random.default_rng(0)
    b = rng.standard_normal((300, 2))
    apart = np.abs(b[:, None] - b[None]).max(axis=2)
    exchange = LocalPermutations(b, neighbours=6)
    draws = np.array([exchange.draw(np.random.default_rng(seed)) for seed in range(20)])
    rank = np.argsort(np.argsort(apart, axis=1), axis=1)
    assert rank[np.arange(300), draws].max() == 5
    # nearly all take from a sample that nobody else takes from, and nearly all move
    assert np.mean([len(set(draw.tolist())) / 300 for draw in draws]) > 0.88
    assert np.mean(draws == np.arange(300)) < 0.25
    np.testing.assert_array_equal(exchange.draw(np.random.default_rng(3)), draws[3])


def test_without_a_condition_it_is_a_permutation() -> None:
    draw = LocalPermutations(np.zeros((50, 0))).draw(np.random.default_rng(0))
    assert sorted(draw.tolist()) == list(range(50))


def test_equal_conditions_are_exchanged_among_themselves() -> None:
    """Freely: of m samples with the same B each takes from any other, and one in m from itself."""
    b = np.repeat([0.0, 1.0, 7.0], 30)[:, None]
    exchange = LocalPermutations(b)
    draws = np.array([exchange.draw(np.random.default_rng(i)) for i in range(200)])
    np.testing.assert_array_equal(b[draws], np.broadcast_to(b, (200, 90, 1)))
    assert (np.sort(draws, axis=1) == np.arange(90)).all()
    assert np.mean(draws == np.arange(90)) == pytest.approx(1 / 30, rel=0.15)
    assert (np.abs(np.array([np.mean(draws[:, 0] == i) for i in range(30)]) - 1 / 30) < 0.05).all()


@pytest.mark.parametrize("kind", ["binary", "ten levels", "half black", "grid in two columns", "rare"])
def test_ties_in_the_condition_do_not_stop_the_exchange(kind: str) -> None:
    """Whatever the ties, no more keep their own C than of continuous data (38 %), and near ones are taken."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((1000, 1))
    b = {
        "binary": np.sign(x),
        "ten levels": np.round(2.0 * x),
        "half black": np.maximum(np.round(100.0 * x), 0.0),
        "grid in two columns": np.round(10.0 * rng.standard_normal((1000, 2))),
        "rare": (x > 2.5).astype(np.float64) + np.where(x > 2.9, x, 0.0),
    }[kind]
    exchange = LocalPermutations(b)
    draws = np.array([exchange.draw(np.random.default_rng(i)) for i in range(20)])
    assert np.mean(draws == np.arange(1000)) < 0.42
    moved = np.abs(b[draws] - b).max(axis=2)
    assert np.median(moved) <= (3.0 if kind == "grid in two columns" else 0.0)


def test_the_order_of_the_samples_does_not_matter_with_ties() -> None:
    rng = np.random.default_rng(0)
    b = rng.integers(0, 2, 600)
    a = b + rng.standard_normal(600)
    x = np.column_stack([a, b, 0.6 * a + rng.standard_normal(600)])
    floors = []
    for order in (np.arange(600), np.argsort(a), np.argsort(x[:, 2])):
        null = ksg_profile(x[order], (1, 1, 1), surrogates=0, n_permutations=19).null
        assert null is not None
        assert null.p_value[0] == pytest.approx(0.05)
        floors.append(null.mean[0])
    assert (np.abs(floors) < 0.015).all()  # of an estimate of 0.16


def test_permutations_that_change_nothing_are_no_evidence() -> None:
    """C is a function of B, so that each permutation leaves the data as they are."""
    rng = np.random.default_rng(157)
    b = np.repeat([0.0, 1.0, 2.0], 20)
    x = np.stack([rng.standard_normal(60), b, b**2, b**3], axis=1)
    null = ksg_profile(x, (1, 1, 1, 1), k=[3, 5, 10], n_permutations=99).null
    assert null is not None
    assert null.p_value.tolist() == [1.0, 1.0]


def test_more_neighbours_exchange_more() -> None:
    """The fewer neighbours, the more samples keep their own C, and with it what it shares with A."""
    x = common_cause(400, 0, link=1.0)
    means = []
    for neighbours in (2, 5, 40):
        null = ksg_profile(x, (1, 1, 1), surrogates=0, n_permutations=10, permutation_neighbours=neighbours).null
        assert null is not None
        means.append(null.mean[0])
    assert means[0] > means[1] > means[2] + 0.02


@pytest.mark.slow
def test_p_values_allow_for_neighbours_that_are_far() -> None:
    """Eight columns of B tell nearly all of A and C: permutations alone would call most data sets dependent."""
    textbook, allowed, said = [], [], []
    for seed in range(24):
        rng = np.random.default_rng(seed)
        b = rng.standard_normal((200, 8))
        common = b.sum(axis=1) / np.sqrt(8.0)
        x = np.column_stack([common, b, common])
        x[:, [0, -1]] += 0.3 * rng.standard_normal((200, 2))
        result = ksg_profile(x, (1, 8, 1), n_permutations=19, seed=seed)
        assert result.null is not None
        assert result.null.gap is not None
        textbook.append((result.null.values[0] >= result.value[0]).sum() == 0)
        allowed.append(result.null.p_value[0] <= 0.05)
        said.append(any("lies above local permutations" in note for note in result.notes))
        assert said[-1] == result.null.too_low[0]
    assert np.mean(textbook) > 0.6
    assert np.mean(allowed) < 0.2
    assert np.mean(said) > 0.6


def test_the_gap_is_zero_where_neighbours_are_near() -> None:
    null = ksg_profile(common_cause(500, 0), (1, 1, 1), n_permutations=9).null
    assert null is not None
    assert null.gap is not None
    assert null.gap_stderr is not None
    assert abs(null.gap[0]) < 4.0 * null.gap_stderr[0] < 0.05
    assert not null.too_low[0]
    assert ksg_profile(common_cause(100, 0), (1, 1, 1), n_permutations=2, surrogates=0).null.gap is None  # type: ignore[union-attr]


def test_a_calibrated_floor_is_what_is_read_beyond_gaussian_data_without_cmi() -> None:
    """The bias at a CMI of 0 is subtracted from it, not that at the CMI of the data; p-values stay as they are."""
    rng = np.random.default_rng(0)
    b = rng.standard_normal((600, 5))
    a = b.sum(axis=1) + rng.standard_normal(600)
    x = np.column_stack([a, b, 1.5 * (a - b.sum(axis=1)) + rng.standard_normal(600)])  # a CMI of 0.59
    plain, calibrated = (ksg_profile(x, (1, 5, 1), n_permutations=19, calibrate=c) for c in (False, True))
    assert plain.null is not None
    assert calibrated.null is not None
    assert plain.null.at_zero is not None
    np.testing.assert_allclose(calibrated.null.mean, plain.null.mean - plain.null.at_zero)
    assert calibrated.null.stderr[0] > plain.null.stderr[0]
    assert calibrated.null.p_value[0] == plain.null.p_value[0] == pytest.approx(0.05)
    assert calibrated.value[0] == pytest.approx(0.59, abs=0.15)
    assert abs(calibrated.null.mean[0]) < 0.05


def common_cause(n: int, seed: int, link: float = 0.0) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    """A and C are functions of B with noise of their own; `link` adds a direct one."""
    rng = np.random.default_rng(seed)
    b, e, f = rng.standard_normal((3, n))
    a = np.tanh(b) + 0.5 * e
    return np.column_stack([a, b, np.sin(2.0 * b) + 0.5 * f + link * e])


@pytest.mark.slow
def test_p_values_are_uniform_under_the_null() -> None:
    """A and C are strongly dependent, through B only: one in twenty p-values is below 0.05, and so on."""
    p = []
    for seed in range(150):
        null = ksg_profile(common_cause(200, seed), (1, 1, 1), surrogates=0, n_permutations=19, seed=seed).null
        assert null is not None
        p.append(null.p_value[0])
    smooth = np.array(p) - np.random.default_rng(0).random(len(p)) / 20.0  # p-values are multiples of 1/20
    assert kstest(smooth, "uniform").pvalue > 0.01
    assert np.mean(np.array(p) <= 0.05) < 0.11


def test_a_direct_link_is_found() -> None:
    result = ksg_profile(common_cause(500, 0, link=0.5), (1, 1, 1), n_permutations=19)
    assert result.null is not None
    assert result.null.p_value[0] == pytest.approx(1 / 20)
    assert result.value[0] > result.null.values.max()


@pytest.mark.slow
def test_the_floor_is_what_is_read_where_nothing_is() -> None:
    """Mean over data sets of the estimate at CMI 0, against the floor measured on each."""
    results = [
        ksg_profile(common_cause(300, seed), (1, 1, 1), surrogates=0, n_permutations=10) for seed in range(60)
    ]
    values = np.array([r.value[0] for r in results])
    floors = np.array([r.null.mean[0] for r in results if r.null is not None])
    error = np.sqrt((values.var() + floors.var()) / 60)
    assert abs(values.mean() - floors.mean()) < 4.0 * error
    null = results[0].null
    assert null is not None
    assert null.stderr[0] == pytest.approx(null.values[0].std(ddof=1) / np.sqrt(10))


def test_every_width_has_its_own_and_the_seed_decides() -> None:
    x = np.random.default_rng(0).standard_normal((120, 6))
    first, again, other = (
        ksg_profile(x, (1, 1, 2, 2), n_permutations=3, surrogates=0, seed=seed).null for seed in (5, 5, 6)
    )
    assert first is not None
    assert again is not None
    assert other is not None
    assert first.values.shape == (2, 3)
    np.testing.assert_array_equal(first.values, again.values)
    assert (first.values != other.values).all()
    # the same numbers with any number of threads
    threaded = ksg_profile(x, (1, 1, 2, 2), n_permutations=3, surrogates=0, seed=5, threads=3).null
    assert threaded is not None
    np.testing.assert_array_equal(first.values, threaded.values)


def test_one_permutation_has_no_error() -> None:
    null = ksg_profile(common_cause(60, 0), (1, 1, 1), n_permutations=1).null
    assert null is not None
    assert np.isnan(null.stderr).all()

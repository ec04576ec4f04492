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
    b = np.repeat([0.0, 1.0, 7.0], 30)[:, None]
    draw = LocalPermutations(b, neighbours=8).draw(np.random.default_rng(0))
    np.testing.assert_array_equal(b[draw], b)


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
        null = ksg_profile(common_cause(200, seed), (1, 1, 1), surrogates=0, n_permutations=39, seed=seed).null
        assert null is not None
        p.append(null.p_value[0])
    smooth = np.array(p) - np.random.default_rng(0).random(len(p)) / 40.0  # p-values are multiples of 1/40
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

"""The estimator for discrete data: its twin, closed forms, identities, bias and its sign, errors, bad input."""

from __future__ import annotations

import os
import subprocess
import sys
from itertools import permutations, product
from typing import Any, get_args

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT
from hypothesis import given, settings
from hypothesis import strategies as st
from naive import discrete as naive_discrete
from sklearn.metrics.cluster import contingency_matrix, expected_mutual_information
from truths import Discrete, letters, xor

from cmi import Partition, cmi_profile, estimate_cmi, phase_scan
from estimators import discrete_profile
from estimators.discrete import Correction

CORRECTIONS: tuple[Correction, ...] = get_args(Correction)
LAYOUTS = [(1, 0, 1), (1, 1, 1), (2, 3, 1), (1, 2, 0, 2), (3, 0, 1, 4), (1, 1, 1, 1, 1, 1)]


def over_seeds(
    model: Discrete, n: int, runs: int, correction: Correction = "shuffle-jackknife"
) -> tuple[np.ndarray, np.ndarray]:
    """Values and claimed standard errors, both (runs, cuts)."""
    profiles = [discrete_profile(model.sample(n, s), model.sizes, correction=correction) for s in range(runs)]
    return (
        np.array([p.value for p in profiles]),
        np.array([np.sqrt(np.diagonal(p.covariance())) for p in profiles]),
    )


# The twin


@pytest.mark.parametrize("correction", CORRECTIONS)
@pytest.mark.parametrize("sizes", LAYOUTS)
@pytest.mark.parametrize("q", [1, 2, 5])
def test_equals_the_naive_twin(q: int, sizes: tuple[int, ...], correction: Correction) -> None:
    rng = np.random.default_rng(sum(sizes) * 10 + q)
    x = rng.integers(0, q, (30, sum(sizes))).astype(np.float64)
    x[:, -1] = np.where(rng.random(30) < 0.6, x[:, 0], x[:, -1])
    profile = discrete_profile(x, sizes, correction=correction)
    plain = naive_discrete(x, sizes, "none")
    np.testing.assert_allclose(profile.value, naive_discrete(x, sizes, correction), rtol=0, atol=1e-11)
    np.testing.assert_allclose(profile.value + profile.bias, plain, rtol=0, atol=1e-12)
    assert not np.isnan(plain).any() or "tell nothing" in profile.notes[0]
    np.testing.assert_allclose(profile.local.mean(axis=1), profile.value, rtol=0, atol=1e-12)
    assert profile.local.shape == (len(sizes) - 2, 30)


@settings(max_examples=40)
@given(
    seed=st.integers(0, 10_000),
    sizes=st.lists(st.integers(1, 3), min_size=3, max_size=5).map(tuple),
    q=st.integers(2, 6),
    n=st.integers(2, 16),
    correction=st.sampled_from(CORRECTIONS),
)
def test_equals_the_naive_twin_on_any_shape(
    seed: int, sizes: tuple[int, ...], q: int, n: int, correction: Correction
) -> None:
    x = np.floor(q * np.random.default_rng(seed).random((n, sum(sizes))) ** 2)
    value = discrete_profile(x, sizes, correction=correction).value
    np.testing.assert_allclose(value, naive_discrete(x, sizes, correction), rtol=0, atol=1e-11)


@pytest.mark.parametrize("correction", ["jackknife", "shuffle-jackknife"])
def test_local_values_are_the_pseudo_values(correction: Correction) -> None:
    x = letters(3, (1, 1, 2), stay=0.6).sample(60, 0)
    profile = discrete_profile(x, (1, 1, 2), correction=correction)
    before: Correction = "none" if correction == "jackknife" else "shuffle"

    def estimate(x: np.ndarray) -> float:
        return float(discrete_profile(x, (1, 1, 2), correction=before).value[0])

    pseudo = [60 * estimate(x) - 59 * estimate(np.delete(x, i, axis=0)) for i in range(60)]
    np.testing.assert_allclose(profile.local[0], pseudo, rtol=0, atol=1e-11)


def test_shuffle_is_the_mean_over_all_permutations() -> None:
    """Every permutation of C among the samples of equal B, one by one: 120 x 24 of them."""
    rng = np.random.default_rng(3)
    b = np.repeat([0.0, 1.0], [5, 4])
    x = np.column_stack([rng.integers(0, 3, 9), b, rng.integers(0, 2, (9, 2))]).astype(float)
    values = []
    for first, second in product(permutations(range(5)), permutations(range(5, 9))):
        y = x.copy()
        y[:, 2:] = x[[*first, *second], 2:]
        values.append(discrete_profile(y, (1, 1, 2), correction="none").value[0])
    bias = discrete_profile(x, (1, 1, 2), correction="shuffle").bias[0]
    assert bias == pytest.approx(np.mean(values), abs=1e-13)


@pytest.mark.parametrize(("n", "q"), [(20, 5), (500, 20), (5000, 3), (20_000, 150)])
def test_shuffle_without_b_is_the_expected_mutual_information(n: int, q: int) -> None:
    x = np.floor(q * np.random.default_rng(n).random((n, 2)) ** 1.5)
    bias = discrete_profile(x, (1, 0, 1), correction="shuffle").bias[0]
    expected = expected_mutual_information(contingency_matrix(x[:, 0], x[:, 1], sparse=True), n)
    assert bias == pytest.approx(expected, rel=1e-9)


def test_floor_of_the_variance_is_that_of_chi_square_over_permutations() -> None:
    """A quarter of the variance of Pearson's chi-square over all permutations, where that is below 2 dof."""
    for a, c in (([0, 0, 0, 1, 1, 1, 2], [0, 0, 1, 1, 1, 2, 2]), ([0, 1, 2, 3, 3], [0, 0, 1, 1, 2])):
        n = len(a)
        e = np.outer(np.bincount(a), np.bincount(c)) / n
        chi_square = []
        for order in permutations(range(n)):
            table = np.zeros(e.shape)
            for i, j in zip(a, order, strict=True):
                table[i, c[j]] += 1
            chi_square.append(((table - e) ** 2 / e).sum())
        variance = np.var(chi_square)
        assert variance < 2 * (e.shape[0] - 1) * (e.shape[1] - 1)
        x = np.column_stack([a, c]).astype(float)
        least = discrete_profile(x, (1, 0, 1)).least_variance
        assert least is not None
        assert least[0] == pytest.approx(variance / 4 / n**2, rel=1e-12)
    independent = np.random.default_rng(0).integers(0, 4, (50_000, 3)).astype(float)
    least = discrete_profile(independent, (1, 1, 1)).least_variance
    assert least is not None
    assert least[0] == pytest.approx(36 / 2 / 50_000**2, rel=1e-3)  # (4 - 1) (4 - 1) 4 degrees of freedom


# Closed forms and identities


def test_closed_forms_of_exact_proportions() -> None:
    bits = np.array(list(product((0.0, 1.0), repeat=2)))
    b, c = np.repeat(bits, 25, axis=0).T
    plain: dict[str, Any] = {"correction": "none"}
    parity = np.column_stack([b != c, b, c]).astype(float)
    assert discrete_profile(parity, (1, 1, 1), **plain).value[0] == pytest.approx(np.log(2), abs=1e-15)
    assert discrete_profile(parity[:, [0, 2]], (1, 0, 1), **plain).value[0] == pytest.approx(0.0, abs=1e-15)
    equal = np.column_stack([b, b, b])
    assert discrete_profile(equal, (1, 1, 1), **plain).value[0] == 0.0
    assert discrete_profile(equal, (1, 0, 2), **plain).value[0] == pytest.approx(np.log(2), abs=1e-15)
    model = letters(2, (1, 1, 1), stay=0.75)  # probabilities in 32nds
    counts = np.round(model.probability * 3200).astype(int)
    x = np.repeat(model.states, counts, axis=0)
    np.testing.assert_allclose(discrete_profile(x, (1, 1, 1), **plain).value, model.cmi(), atol=1e-14)
    x = np.repeat(letters(2, (1, 0, 1), stay=0.75).states, [3, 1, 1, 3], axis=0)
    information = discrete_profile(x, (1, 0, 1), **plain).value[0]
    assert information == pytest.approx(np.log(2) + 0.75 * np.log(0.75) + 0.25 * np.log(0.25), abs=1e-15)


@settings(max_examples=25)
@given(seed=st.integers(0, 10_000), q=st.integers(2, 5))
def test_chain_rule(seed: int, q: int) -> None:
    """I(A:CD|B) = I(A:C|B) + I(A:D|BC) for all corrections that correct entropies."""
    x = np.floor(q * np.random.default_rng(seed).random((50, 4)) ** 2)
    for correction in CORRECTIONS[:3]:
        both, second = discrete_profile(x, (1, 1, 1, 1), correction=correction).value
        first = discrete_profile(x[:, :3], (1, 1, 1), correction=correction).value[0]
        assert both == pytest.approx(first + second, abs=1e-12)


@settings(max_examples=25)
@given(seed=st.integers(0, 10_000))
def test_invariances(seed: int) -> None:
    rng = np.random.default_rng(seed)
    sizes = (2, 2, 1, 2)
    x = np.floor(3 * rng.random((80, 7)) ** 2)
    order = rng.permutation(80)
    labels = rng.permutation(np.array([-0.3, 1e-9, 4e5]))
    columns = [1, 0, 3, 2, 4, 6, 5]
    swapped = [5, 6, 3, 2, 4, 1, 0]
    for correction in CORRECTIONS:
        profile = discrete_profile(x, sizes, correction=correction)
        shuffled = discrete_profile(x[order], sizes, correction=correction)
        np.testing.assert_array_equal(shuffled.value, profile.value)
        np.testing.assert_array_equal(shuffled.bias, profile.bias)
        np.testing.assert_array_equal(shuffled.local, profile.local[:, order])
        np.testing.assert_array_equal(shuffled.least_variance, profile.least_variance)
        for other in (labels[x.astype(int)], x[:, columns]):
            again = discrete_profile(other, sizes, correction=correction)
            np.testing.assert_allclose(again.value, profile.value, atol=1e-12)
            np.testing.assert_allclose(again.local, profile.local, atol=1e-11)
            np.testing.assert_allclose(again.covariance(), profile.covariance(), atol=1e-12)
        one = discrete_profile(x, (2, 3, 2), correction=correction)  # the wider cut by itself
        np.testing.assert_array_equal(one.value[0], profile.value[1])
        np.testing.assert_array_equal(one.local[0], profile.local[1])
        back = discrete_profile(x[:, swapped], (2, 3, 2), correction=correction)
        np.testing.assert_allclose(back.local, one.local, atol=1e-11)


def test_the_order_of_samples_of_large_data_plays_no_part() -> None:
    rng = np.random.default_rng(0)
    x = rng.integers(0, 3, (20_000, 12)).astype(np.float32)
    order = rng.permutation(len(x))
    profile = discrete_profile(x, (1, 3, 3, 5))
    shuffled = discrete_profile(x[order], (1, 3, 3, 5))
    np.testing.assert_array_equal(shuffled.value, profile.value)
    np.testing.assert_array_equal(shuffled.local, profile.local[:, order])


# Bias and errors against the truth


@pytest.mark.parametrize("model", [letters(3, (1, 1, 1), stay=1 / 3), letters(2, (1, 2, 3), stay=0.9)])
def test_where_the_cmi_is_zero(model: Discrete) -> None:
    """At n = 60 plug-in, Miller-Madow and jackknife read too much, and what is shuffled nothing over 120 seeds."""
    for correction in CORRECTIONS:
        value = over_seeds(model, 60, 120, correction)[0][:, 0]
        mean, error = value.mean(), value.std(ddof=1) / np.sqrt(120)
        if correction.startswith("shuffle"):
            assert abs(mean) < 3.0 * error
            assert 0.3 < np.mean(value < 0.0) < 0.75
        elif correction == "none":
            assert mean > 10.0 * error
            assert value.min() > -1e-15
        elif model.sizes == (1, 2, 3):
            assert mean > 5.0 * error


def test_shuffles_leave_no_bias_however_few_the_samples_are() -> None:
    """Four columns of four letters, 40 samples: nearly every state is there once, and the CMI is 0."""
    model = letters(4, (1, 1, 2), stay=0.25)
    for correction in ("shuffle", "shuffle-jackknife"):
        value = over_seeds(model, 40, 300, correction)[0][:, 0]
        assert abs(value.mean()) < 3.0 * value.std(ddof=1) / np.sqrt(300)
    assert over_seeds(model, 40, 20, "jackknife")[0].mean() > 0.5
    assert "40 samples are too many to be counted well" in discrete_profile(model.sample(40, 0), (1, 1, 2)).notes[0]


@pytest.mark.parametrize(
    ("model", "n"),
    [
        (letters(2, (1, 2, 3), stay=0.9, noise=0.2), 1000),
        (letters(4, (1, 1, 2), stay=0.8, noise=0.2), 2000),
        (letters(2, (1, 1, 1, 3), stay=0.95, noise=0.2), 3000),
        (letters(8, (1, 0, 1), stay=0.9), 1000),
        (xor(0.1), 200),
    ],
)
def test_bias_and_errors_where_the_cmi_is_not_zero(model: Discrete, n: int) -> None:
    """Over 300 seeds: mean within 4 errors, claimed errors right within a fifth, 95 % intervals hold 90 to 99 %."""
    value, error = over_seeds(model, n, 300)
    truth = model.cmi()
    spread = value.std(axis=0, ddof=1)
    assert (np.abs(value.mean(axis=0) - truth) < 4.0 * spread / np.sqrt(300)).all()
    ratio = np.sqrt(np.mean(error**2, axis=0)) / spread
    assert ((ratio > 0.85) & (ratio < 1.25)).all()
    cover = np.mean(np.abs(value - truth) < 1.96 * error, axis=0)
    assert ((cover >= 0.90) & (cover <= 0.99)).all()


def test_errors_at_zero_and_of_differences() -> None:
    """At a CMI of 0 errors are too large, by no more than 1.7, never too small; those of differences are paired."""
    model = letters(2, (1, 1, 1, 1), stay=0.7)
    value, error = over_seeds(model, 500, 300)
    ratio = np.sqrt(np.mean(error**2, axis=0)) / value.std(axis=0, ddof=1)
    assert ((ratio > 1.0) & (ratio < 1.7)).all()
    assert (np.mean(np.abs(value) < 1.96 * error, axis=0) > 0.94).all()
    noisy = letters(2, (1, 1, 1, 1), stay=0.9, noise=0.3)
    profiles = [discrete_profile(noisy.sample(1000, seed), noisy.sizes) for seed in range(300)]
    claimed = np.mean([np.array([1, -1]) @ p.covariance() @ np.array([1, -1]) for p in profiles])
    spread = np.std([p.value[0] - p.value[1] for p in profiles], ddof=1)
    assert 0.85 < np.sqrt(claimed) / spread < 1.3


def test_a_function_of_b_and_c() -> None:
    """The shuffle reads too little there, and says so; the jackknives do not."""
    for model in (xor(0.0), letters(6, (1, 0, 1), stay=1.0)):
        truth = model.cmi()[0]
        for correction in CORRECTIONS:
            value = over_seeds(model, 400, 50, correction)[0][:, 0]
            notes = discrete_profile(model.sample(400, 0), model.sizes, correction=correction).notes
            if correction == "shuffle":
                bias = discrete_profile(model.sample(400, 0), model.sizes, correction=correction).bias[0]
                assert -2.5 * bias < value.mean() - truth < -bias
                assert "A is a function of B and C" in notes[0]
            else:
                assert len(notes) == (correction == "none")
                if correction.endswith("jackknife"):
                    assert abs(value.mean() - truth) < 0.003
    # where B alone decides, nothing is subtracted
    x = np.repeat(np.random.default_rng(0).integers(0, 2, (200, 2)), 2, axis=1)[:, [0, 1, 2]].astype(float)
    assert discrete_profile(x, (1, 1, 1), correction="shuffle").notes == ()


def test_notes_about_too_many_states() -> None:
    x = np.arange(100.0)[:, None] // [25, 10, 4]  # 4 x 10 x 25 values, 34 joint states
    for correction in CORRECTIONS:
        notes = discrete_profile(x[:, [0, 1, 1]], (1, 1, 1), correction=correction).notes
        dense = discrete_profile(np.tile(x[:, [0, 1, 1]], (10, 1)), (1, 1, 1), correction=correction).notes
        assert len(dense) == (correction == "none")
        assert notes[0].startswith("12 different joint states among 100 samples are too many")


# Shapes, kinds, and bad input


def test_memory_layouts_and_types() -> None:
    x = letters(3, (1, 1, 2), stay=0.6).sample(200, 0)
    expected = discrete_profile(x, (1, 1, 2)).local
    frozen = x.copy()
    frozen.setflags(write=False)
    signed = np.where((x == 0.0) & (np.arange(200) % 2 == 0)[:, None], -0.0, x)  # -0.0 and 0.0 are one value
    wide = np.repeat(x, 2, axis=1)[:, ::2]
    variants = (x.astype(np.float32), x.astype(np.float16), np.asfortranarray(x), frozen, wide, signed)
    for variant in (*variants, x[::-1][::-1], x.astype(np.longdouble)):
        np.testing.assert_array_equal(discrete_profile(variant, (1, 1, 2)).local, expected)
    assert frozen.tolist() == x.tolist()


def test_constants_and_small_samples() -> None:
    x = letters(2, (1, 1, 1), stay=0.7).sample(50, 0)
    for correction in CORRECTIONS:
        expected = discrete_profile(x, (1, 1, 1), correction=correction)
        padded = discrete_profile(np.insert(x, [0, 1, 3], 0.1, axis=1), (2, 2, 0, 2), correction=correction)
        for cut in range(2):
            np.testing.assert_array_equal(padded.local[cut], expected.local[0])
        for part in (0, 2):
            blank = x.copy()
            blank[:, part] = 7.0
            for some in (blank, blank[:, [0, 2, 1]], np.ones((50, 3))):
                sizes = (1, 0, 2) if some[0, 0] == 7.0 else (1, 1, 1)
                profile = discrete_profile(some, sizes, correction=correction)
                if (some[:, 0] == some[0, 0]).all() or (some is blank and part == 2):
                    assert profile.value[0] == 0.0
                    assert not profile.local.any()
        pairs = np.array([[0.0, 0.0, 0.0], [0.0, 0.0, 0.0], [1.0, 1.0, 0.0], [1.0, 0.0, 1.0]])
        for n in (2, 3, 4):
            few = discrete_profile(pairs[:n], (1, 1, 1), correction=correction)
            assert np.isfinite(few.value).all()
            assert np.isfinite(few.covariance()).all()


def test_samples_that_tell_nothing() -> None:
    """No number where none of the samples with equal B could show a dependence, or its absence."""
    a, c = np.random.default_rng(0).integers(0, 2, (2, 16)).astype(float)
    alone = np.arange(16.0)
    for correction in CORRECTIONS:
        for x, sizes in (
            (np.column_stack([a, alone, c]), (1, 1, 1)),
            (np.column_stack([a, alone]), (1, 0, 1)),
            (np.column_stack([a, a // 2, alone]), (1, 1, 1)),
            (np.array([[0.0, 0.0, 1.0], [1.0, 0.0, 0.0]]), (1, 1, 1)),
            (np.array([[0.0, 0.0, 1.0], [1.0, 0.0, 0.0], [1.0, 1.0, 0.0], [1.0, 1.0, 1.0]]), (1, 1, 1)),
        ):
            profile = discrete_profile(x, sizes, correction=correction)
            assert np.isnan(profile.value).all()
            assert np.isnan(profile.local).all()
            assert np.isnan(profile.covariance()).all()
            assert "they tell nothing: NaN" in profile.notes[0]
        # the first cut tells something, the second nothing
        partly = discrete_profile(np.column_stack([a, c, alone, c]), (1, 1, 1, 1), correction=correction)
        assert np.isnan(partly.value).all()
        partly = discrete_profile(np.column_stack([a, c, alone // 2, c]), (1, 1, 1, 1), correction=correction)
        assert np.isfinite(partly.value).all()
        assert (
            discrete_profile(np.column_stack([a * 0, alone, c]), (1, 1, 1), correction=correction).value[0] == 0.0
        )
        assert (
            discrete_profile(np.column_stack([a, alone, c * 0]), (1, 1, 1), correction=correction).value[0] == 0.0
        )


def test_bad_input() -> None:
    rng = np.random.default_rng(0)
    x = rng.integers(0, 2, (300, 3)).astype(float)
    for correction in ("bayes", None, 1, True, ["none"], np.array(["none"])):
        with pytest.raises(ValueError, match='correction must be one of "none", "miller-madow", "jackknife"'):
            discrete_profile(x, (1, 1, 1), correction=correction)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        discrete_profile(x, (1, 1, 1), seed=0)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="samples must be a floating-point array, got object"):
        discrete_profile(x.astype(object), (1, 1, 1))
    with pytest.raises(TypeError, match="samples must be a floating-point array, got int64"):
        discrete_profile(x.astype(int), (1, 1, 1))
    with pytest.raises(TypeError, match="got list"):
        discrete_profile(x.tolist(), (1, 1, 1))
    for bad in (np.nan, np.inf, -np.inf):
        spoiled = x.copy()
        spoiled[5, 1] = bad
        with pytest.raises(ValueError, match="NaN or infinity"):
            discrete_profile(spoiled, (1, 1, 1))
    for n in (0, 1):
        with pytest.raises(ValueError, match=f"at least 2 samples, got {n}"):
            discrete_profile(x[:n], (1, 1, 1))
    for sizes in ((1, 1, 2), (0, 2, 1), (1, 2, 0), (1, 2), (1, 3, -1)):
        with pytest.raises(ValueError, match="sizes"):
            discrete_profile(x, sizes)
    with pytest.raises(ValueError, match="shape"):
        discrete_profile(x[:, 0], (1, 1, 1))


def test_continuous_columns_are_an_error() -> None:
    """More than 256 values, or more than 16 of which fewer than two samples share one on average."""
    rng = np.random.default_rng(0)
    for part in range(3):
        for n, values in ((5000, 257), (60, 31), (17, 17)):
            x = rng.integers(0, 2, (n, 3)).astype(float)
            x[:, part] = rng.permutation(np.arange(n) % values)
            with pytest.raises(ValueError, match=f"has {values} different values in {n} samples.*ksg"):
                discrete_profile(x, (1, 1, 1))
        for n, values in ((5000, 256), (60, 30), (24, 16)):
            x = rng.integers(0, 2, (n, 3)).astype(float)
            x[:, part] = np.arange(n) % values
            assert discrete_profile(x, (1, 1, 1)).value.shape == (1,)


# Through the public calls


def test_public_calls() -> None:
    model = letters(3, (1, 2, 2), stay=0.6)
    x = model.sample(400, 0)
    expected = discrete_profile(x, model.sizes)
    frame = pd.DataFrame(x.astype(int), columns=list("abcde"))
    for samples in (x, x.astype(np.uint8), x.tolist(), frame, frame.astype("Int64")):
        e = estimate_cmi(samples, 0, [1, 2], method="discrete")
        assert e.value == expected.value[0]
        assert e.bias == expected.bias[0]
        assert e.stderr == pytest.approx(np.sqrt(expected.covariance()[0, 0]))
    assert estimate_cmi(x > 0, 0, [1, 2], method="discrete").value != expected.value[0]
    plain = estimate_cmi(x, 0, [1, 2], method="discrete", correction="none", units="bits")
    assert plain.value == pytest.approx((expected.value + expected.bias)[0] / np.log(2))
    assert plain.bias == 0.0
    with pytest.raises(ValueError, match="correction must be one of"):
        estimate_cmi(x, 0, 1, 2, method="discrete", correction="bayes")
    with pytest.raises(TypeError, match="the method 'discrete' has no option 'k': it takes correction"):
        estimate_cmi(x, 0, 1, 2, method="discrete", k=3)
    with pytest.raises(ValueError, match="a column has 400 different values in 400 samples"):
        estimate_cmi(np.random.default_rng(0).random((400, 3)), 0, 1, 2, method="discrete")


def test_scans_take_clean_levels_only() -> None:
    x = letters(2, (1, 3, 3), stay=0.8).sample(300, 0)
    for levels, noise in (([0.5], "interpolation"), ([0.0, 0.1], "interpolation"), ([0.0], "ve")):
        with pytest.raises(ValueError, match="'discrete' counts values, which noise makes all different"):
            phase_scan(x, levels=levels, method="discrete", noise=noise)
    scan = phase_scan(x, levels=[0.0], method="discrete", widths=[1, 2])
    profile = cmi_profile(x, Partition.centered((7,), widths=[1, 2]), method="discrete")
    np.testing.assert_array_equal(scan.dataset.cmi[0], profile.value)
    assert scan.config["options"] == {"correction": "shuffle-jackknife"}


@pytest.mark.slow
def test_without_compilation() -> None:
    """The kernels are plain Python underneath: with numba's compiler off they still equal the twin."""
    code = (
        "import numpy as np; from naive import discrete; from estimators import discrete_profile\n"
        "x = np.random.default_rng(0).integers(0, 3, (25, 5)).astype(float)\n"
        "for correction in ('shuffle', 'shuffle-jackknife'):\n"
        "    got = discrete_profile(x, (1, 2, 1, 1), correction=correction).value\n"
        "    np.testing.assert_allclose(got, discrete(x, (1, 2, 1, 1), correction), atol=1e-12)\n"
    )
    environment = {**os.environ, "NUMBA_DISABLE_JIT": "1", "PYTHONPATH": str(ROOT / "tests")}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment, cwd=ROOT / "tests")

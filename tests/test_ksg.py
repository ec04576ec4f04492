"""The k-nearest-neighbour estimator: its twin, independence, ties, degenerate data."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
from conftest import ROOT
from hypothesis import given, settings
from hypothesis import strategies as st
from naive import ksg as naive_ksg
from scipy.special import digamma
from truths import chain

from estimators import ksg_profile
from estimators.columns import tied_share
from estimators.ksg import Ties

LAYOUTS = [(1, 0, 1), (1, 1, 1), (2, 3, 1), (1, 2, 2, 2), (3, 0, 1, 4), (1, 4, 16), (1, 1, 1, 1, 1, 1)]


@pytest.mark.parametrize("k", [1, 3, 5])
@pytest.mark.parametrize("sizes", LAYOUTS)
@pytest.mark.parametrize("kind", ["continuous", "rounded", "zeros"])
def test_equals_the_naive_twin(kind: str, sizes: tuple[int, ...], k: int) -> None:
    rng = np.random.default_rng(sum(sizes) * 10 + k)
    x = rng.standard_normal((70, sum(sizes))) @ (np.eye(sum(sizes)) + 0.5)
    if kind == "rounded":
        x = np.round(2 * x) / 2
    elif kind == "zeros":
        x = np.maximum(x - 0.8, 0.0)
    forms: tuple[Ties, ...] = ("auto", "continuous", "mixed")
    for ties in forms:
        got = ksg_profile(x, sizes, k=k, ties=ties, surrogates=0)
        expected = naive_ksg(x, sizes, k, ties=ties)
        np.testing.assert_allclose(got.local, expected, rtol=0, atol=1e-12)
        np.testing.assert_allclose(got.value, expected.mean(axis=1), rtol=0, atol=1e-12)
    if kind == "continuous":
        plain = ksg_profile(x, sizes, k=k, ties="continuous", surrogates=0)
        np.testing.assert_array_equal(ksg_profile(x, sizes, k=k, surrogates=0).local, plain.local)


@settings(max_examples=30)
@given(
    seed=st.integers(0, 10_000),
    sizes=st.lists(st.integers(1, 4), min_size=3, max_size=5).map(tuple),
    k=st.integers(1, 6),
    n=st.integers(8, 40),
)
def test_equals_the_naive_twin_on_any_shape(seed: int, sizes: tuple[int, ...], k: int, n: int) -> None:
    x = np.random.default_rng(seed).standard_normal((n, sum(sizes)))
    np.testing.assert_allclose(
        ksg_profile(x, sizes, k=k, surrogates=0).local,
        naive_ksg(x, sizes, k, ties="continuous"),
        rtol=0,
        atol=1e-12,
    )


@pytest.mark.slow
@pytest.mark.parametrize("sizes", [(1, 0, 1), (1, 1, 1), (1, 4, 4)])
def test_independent_data_average_to_zero(sizes: tuple[int, ...]) -> None:
    """Mean over 200 seeds within 3 standard errors of 0: what clipping at zero would spoil."""
    values = np.array(
        [
            ksg_profile(np.random.default_rng(seed).standard_normal((300, sum(sizes))), sizes, surrogates=0).value[
                0
            ]
            for seed in range(200)
        ]
    )
    assert abs(values.mean()) < 3.0 * values.std(ddof=1) / np.sqrt(len(values))
    assert 0.3 < np.mean(values < 0.0) < 0.7


def test_gaussian_truth_in_low_dimension() -> None:
    for rho in (0.3, 0.6, 0.9):
        truth = -0.5 * np.log(1 - rho**2)
        rng = np.random.default_rng(0)
        a, e = rng.standard_normal((2, 4000))
        x = np.stack([a, rho * a + np.sqrt(1 - rho**2) * e], axis=1)
        result = ksg_profile(x, (1, 0, 1))
        error = float(np.sqrt(result.covariance()[0, 0]))
        assert error < 0.03
        assert abs(result.value[0] - truth) < 4.0 * error


@pytest.mark.slow
def test_standard_error_is_the_spread_over_seeds() -> None:
    """The summands share neighbours; the claimed error allows for it."""
    for sizes, model in (((1, 0, 2), chain(1, ())), ((1, 2, 4), chain(3, (1,), a=0.5))):
        results = [ksg_profile(model.sample(500, seed), sizes, surrogates=0) for seed in range(200)]
        spread = np.std([r.value[0] for r in results], ddof=1)
        claimed = np.sqrt(np.mean([r.covariance()[0, 0] for r in results]))
        assert 0.85 < claimed / spread < 1.2


def test_bias_in_many_dimensions_is_named() -> None:
    """True CMI 0.8 nats, B of 8 columns: the estimate is far too low, and the notes say so."""
    rng = np.random.default_rng(0)
    c = rng.standard_normal(2000)
    b = rng.standard_normal((2000, 8))
    a = 2.0 * c + rng.standard_normal(2000)
    result = ksg_profile(np.column_stack([a, b, c]), (1, 8, 1))
    assert 0.1 < result.value[0] < 0.5 < 0.5 * np.log(5.0)
    assert any("the estimate is off by more than 0.02 nats and 20 %" in note for note in result.notes)
    unmeasured = ksg_profile(np.column_stack([a, b, c]), (1, 8, 1), surrogates=0)
    assert "far towards 0 where the CMI is large" in unmeasured.notes[0]


def test_ties_break_the_plain_form_and_are_detected() -> None:
    """80 % exact zeros: the plain form returns psi(k) - psi(1) for most points; the mixed one is near the truth."""
    rng = np.random.default_rng(1)
    x = rng.standard_normal((1000, 3)) * (rng.random((1000, 1)) < 0.2)  # I(A:C|B) is small: one shared mask
    plain = ksg_profile(x, (1, 1, 1), ties="continuous")
    assert np.mean(np.isclose(plain.local[0], digamma(5) - digamma(1))) > 0.75
    assert plain.value[0] > 1.5
    auto = ksg_profile(x, (1, 1, 1))
    assert abs(auto.value[0]) < 0.1
    assert "after Mesner and Shalizi" in auto.notes[0]
    assert ksg_profile(rng.standard_normal((200, 3)), (1, 1, 1)).notes == ()


def test_mixed_form_on_discrete_truth() -> None:
    """A fair bit seen through a channel that flips 10 % of the bits: ln 2 - H(0.1)."""
    rng = np.random.default_rng(2)
    bit = rng.integers(0, 2, 4000)
    seen = bit ^ (rng.random(4000) < 0.1)
    truth = np.log(2) + 0.1 * np.log(0.1) + 0.9 * np.log(0.9)
    result = ksg_profile(np.stack([bit, seen], axis=1).astype(float), (1, 0, 1))
    assert abs(result.value[0] - truth) < 0.03


@pytest.mark.slow
def test_independent_data_with_ties_average_to_zero() -> None:
    """Where some columns have atoms the default is far less biased than either pure form."""
    for kind in ("some zeros", "all rectified"):
        means = {}
        forms: tuple[Ties, ...] = ("auto", "continuous", "mixed")
        for ties in forms:
            values = []
            for seed in range(60):
                x = np.random.default_rng(seed).standard_normal((1000, 5))
                first = np.where(x[:, :1] < -1.28, 0.0, x[:, :1])
                x = np.maximum(x, 0.0) if kind == "all rectified" else np.hstack([first, x[:, 1:]])
                values.append(ksg_profile(x, (1, 2, 2), ties=ties, surrogates=0).value[0])
            means[ties] = np.mean(values)
        assert abs(means["auto"]) < 0.006
        assert means["mixed"] > 0.01
        assert means["continuous"] > 0.1 or kind == "some zeros"


def test_tied_share() -> None:
    x = np.array([[0.0, 1.0, 5.0], [0.0, 2.0, 5.0], [0.0, 3.0, 5.0], [1.0, 3.0, 5.0]])
    assert tied_share(x).tolist() == [0.75, 0.5, 1.0]


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_any_number_of_threads_gives_the_same_bits(threads: int) -> None:
    x = chain(4, (1, 2)).sample(600, 3)
    expected = ksg_profile(x, (1, 2, 2, 4), threads=1)
    np.testing.assert_array_equal(ksg_profile(x, (1, 2, 2, 4), threads=threads).local, expected.local)


@given(seed=st.integers(0, 1000), scale=st.sampled_from([1e-12, 1e-3, 7.0, 1e12]))
@settings(max_examples=20)
def test_scale_shift_and_order_change_nothing(seed: int, scale: float) -> None:
    """Powers of two keep the bits; other scales keep the neighbours. There is no absolute epsilon to trip over."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((60, 5))
    sizes = (1, 2, 2)
    value = ksg_profile(x, sizes).value
    np.testing.assert_allclose(ksg_profile(scale * x, sizes).value, value, atol=1e-12)
    np.testing.assert_allclose(ksg_profile(rng.permutation(x), sizes).value, value, atol=1e-12)
    np.testing.assert_allclose(ksg_profile(x[:, [0, 2, 1, 4, 3]], sizes).value, value, atol=1e-12)
    np.testing.assert_allclose(ksg_profile(-x, sizes).value, value, atol=1e-12)
    mixed_units = x * np.array([1.0, 1e3, 1e-3, 1e6, 1.0])
    np.testing.assert_allclose(
        ksg_profile(mixed_units, sizes, standardize=True).value,
        ksg_profile(x, sizes, standardize=True).value,
        atol=1e-12,
    )


def test_symmetry_in_a_and_c() -> None:
    x = np.random.default_rng(0).standard_normal((200, 6))
    there = ksg_profile(x, (2, 3, 1)).local
    back = ksg_profile(x[:, [5, 2, 3, 4, 0, 1]], (1, 3, 2)).local
    np.testing.assert_allclose(there, back, atol=1e-13)


def test_memory_layouts_and_types() -> None:
    x = np.random.default_rng(0).standard_normal((100, 3)).astype(np.float32)
    expected = ksg_profile(x.astype(np.float64), (1, 1, 1)).local
    frozen = x.copy()
    frozen.setflags(write=False)
    wide = np.repeat(x, 2, axis=1)[:, ::2]
    for variant in (x, np.asfortranarray(x), frozen, wide):
        np.testing.assert_array_equal(ksg_profile(variant, (1, 1, 1)).local, expected)


def test_smallest_sample_and_constant_columns() -> None:
    x = np.random.default_rng(0).standard_normal((7, 3))
    assert np.isfinite(ksg_profile(x, (1, 1, 1), k=5).value).all()
    padded = np.insert(x, 1, 3.0, axis=1)
    np.testing.assert_array_equal(ksg_profile(padded, (1, 2, 1)).local, ksg_profile(x, (1, 1, 1)).local)
    assert not ksg_profile(
        np.insert(x, 1, 0.1, axis=1), (1, 2, 1), surrogates=0
    ).notes  # 0.1 has a spread of 1e-17 in floats
    for part in range(3):
        some = x.copy()
        some[:, part] = 0.1
        if part != 1:
            assert (ksg_profile(some, (1, 1, 1), k=2).local == 0.0).all()
    assert (ksg_profile(np.ones((20, 3)), (1, 1, 1)).local == 0.0).all()


def test_several_k_are_one_pass() -> None:
    """Each k to the last bit what it is alone, in any order; the profile is the mean."""
    x = chain(4, (1, 2)).sample(500, 0)
    sizes = (1, 2, 2, 4)
    together = ksg_profile(x, sizes, k=[10, 3, 5])
    assert list(together.by_k) == [3, 5, 10]
    for k, profile in together.by_k.items():
        alone = ksg_profile(x, sizes, k=k)
        np.testing.assert_array_equal(profile.local, alone.local)
        np.testing.assert_array_equal(profile.covariance(), alone.covariance())
        assert profile.surrogate is not None
        assert alone.surrogate is not None
        np.testing.assert_allclose(profile.surrogate.value, alone.surrogate.value, atol=1e-15)
    np.testing.assert_allclose(together.value, np.mean([p.value for p in together.by_k.values()], axis=0))
    np.testing.assert_allclose(together.local.mean(axis=1), together.value)
    assert together.notes[0] == "mean over k = 3, 5, 10"
    assert not ksg_profile(x, sizes, k=[4]).by_k


def test_queries_are_a_sample_of_the_summands() -> None:
    x = chain(4, (1, 2)).sample(400, 0)
    sizes = (1, 2, 2, 4)
    every = ksg_profile(x, sizes, surrogates=0)
    some = ksg_profile(x, sizes, queries=50, seed=1, surrogates=0)
    assert some.local.shape == (2, 50)
    assert set(some.local[0].tolist()) <= set(every.local[0].tolist())
    assert "averaged over 50 of the 400 samples" in some.notes
    np.testing.assert_array_equal(some.local, ksg_profile(x, sizes, queries=50, seed=1, surrogates=0).local)
    assert (some.local != ksg_profile(x, sizes, queries=50, seed=2, surrogates=0).local).any()
    for enough in (400, 10**9):
        np.testing.assert_array_equal(ksg_profile(x, sizes, queries=enough, surrogates=0).local, every.local)


@pytest.mark.slow
@pytest.mark.parametrize("queries", [50, 300, 800])
def test_the_error_says_what_queries_cost(queries: int) -> None:
    model = chain(3, (1,), a=0.5)
    results = [
        ksg_profile(model.sample(1000, seed), (1, 2, 4), queries=queries, seed=seed, surrogates=0)
        for seed in range(200)
    ]
    spread = np.std([r.value[0] for r in results], ddof=1)
    claimed = np.sqrt(np.mean([r.covariance()[0, 0] for r in results]))
    assert 0.85 < claimed / spread < 1.2


def test_bad_input() -> None:
    x = np.random.default_rng(0).standard_normal((6, 3))
    with pytest.raises(ValueError, match="5 neighbours need at least 7 samples, got 6"):
        ksg_profile(x, (1, 1, 1))
    with pytest.raises(ValueError, match="k must be at least 1, got 0"):
        ksg_profile(x, (1, 1, 1), k=0)
    for k in (2.5, "3", True, None):
        with pytest.raises(TypeError, match="k must be an integer"):
            ksg_profile(x, (1, 1, 1), k=k)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="k is empty"):
        ksg_profile(x, (1, 1, 1), k=[])
    with pytest.raises(ValueError, match=r"k repeats a number of neighbours: \[2, 2\]"):
        ksg_profile(x, (1, 1, 1), k=[2, 2])
    with pytest.raises(ValueError, match="9 neighbours need at least 11 samples, got 6"):
        ksg_profile(x, (1, 1, 1), k=[2, 9])
    for name, least in (
        ("queries", 2),
        ("surrogates", 0),
        ("n_permutations", 0),
        ("permutation_neighbours", 2),
        ("seed", 0),
    ):
        with pytest.raises(ValueError, match=f"{name} must be at least {least}, got {least - 1}"):
            ksg_profile(x, (1, 1, 1), k=2, **{name: least - 1})  # type: ignore[arg-type]
        for bad in (2.5, "3", True, np.nan, [3]):
            with pytest.raises(TypeError, match=f"{name} must be an integer"):
                ksg_profile(x, (1, 1, 1), k=2, **{name: bad})  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="calibrate subtracts the bias measured on surrogates"):
        ksg_profile(x, (1, 1, 1), k=2, calibrate=True, surrogates=0)
    with pytest.raises(ValueError, match="calibrate needs two samples for each column: 6 samples"):
        ksg_profile(np.hstack([x, x]), (1, 1, 4), k=2, calibrate=True)
    for name in ("calibrate", "standardize"):
        for no_switch in ("no", 1, None, [True]):
            with pytest.raises(TypeError, match=f"{name} must be True or False"):
                ksg_profile(x, (1, 1, 1), k=2, **{name: no_switch})  # type: ignore[arg-type]
    for folds in ("x", None, 5.0):
        with pytest.raises(TypeError, match="folds must be an integer"):
            ksg_profile(x, (1, 1, 1), k=2, folds=folds)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="permutation_neighbours can be at most the 6 samples, got 7"):
        ksg_profile(x, (1, 1, 1), k=2, n_permutations=1, permutation_neighbours=7)
    with pytest.raises(ValueError, match="too far apart"):
        ksg_profile(np.where(x == x.max(), 1.7e308, -1e308 * (x == x.min())), (1, 1, 1), k=2)
    with pytest.raises(ValueError, match="threads must be at least 1, got 0"):
        ksg_profile(x, (1, 1, 1), k=2, threads=0)
    with pytest.raises(ValueError, match='ties must be "auto", "continuous" or "mixed"'):
        ksg_profile(x, (1, 1, 1), k=2, ties="none")  # type: ignore[arg-type]


@pytest.mark.slow
def test_without_compilation() -> None:
    """The kernels are plain Python underneath: with numba's compiler off they still equal the twin."""
    code = (
        "import numpy as np; from naive import ksg; from estimators import ksg_profile\n"
        "x = np.random.default_rng(0).standard_normal((25, 5))\n"
        "for ties in ('auto', 'continuous', 'mixed'):\n"
        "    got = ksg_profile(x, (1, 2, 1, 1), k=3, ties=ties).local\n"
        "    np.testing.assert_allclose(got, ksg(x, (1, 2, 1, 1), 3, ties=ties), atol=1e-12)\n"
        "from test_neighbours import check\n"
        "for kind in ('continuous', 'rounded', 'far from 0'):\n"
        "    check(kind, 70, (1, 1, 1), [1, 9], every=3)\n"
        "    check(kind, 66, (1, 2, 3, 4), [2, 5], every=3)\n"
        "result = ksg_profile(x, (1, 2, 1, 1), k=3, n_permutations=2)\n"
        "assert result.surrogate is not None and np.isfinite(result.null.values).all()\n"
    )
    environment = {**os.environ, "NUMBA_DISABLE_JIT": "1", "PYTHONPATH": str(ROOT / "tests")}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment, cwd=ROOT / "tests")

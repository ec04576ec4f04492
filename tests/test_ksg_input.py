"""Every option of ksg on awkward input: layouts keep the bits, units the values, the rest is named."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from naive import ksg as naive_ksg
from numpy.typing import NDArray
from truths import chain

from cmi import estimate_cmi
from estimators import ksg_profile
from estimators.profile import Profile

OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {"surrogates": 0},
    "surrogates": {"surrogates": 2},
    "queries": {"queries": 60, "surrogates": 1},
    "several k": {"k": [1, 3, 4]},
    "permutations": {"n_permutations": 5, "surrogates": 0},
    "calibrate": {"calibrate": True},
    "mixed": {"ties": "mixed", "surrogates": 0},
    "regression": {"features": "regression", "surrogates": 0},
    "pca": {"features": "pca", "surrogates": 1},
    "all at once": {
        "queries": 70,
        "k": [3, 5],
        "n_permutations": 3,
        "calibrate": True,
        "features": "regression",
        "standardize": True,
    },
}
SIZES: tuple[int, ...] = (2, 2, 3, 4)


def numbers(result: Profile) -> NDArray[np.float64]:
    """Everything that a result says in numbers."""
    said = [result.local.ravel(), result.value, result.covariance().ravel()]
    if result.surrogate is not None:
        said += [result.surrogate.value, result.surrogate.stderr]
    if result.null is not None:
        said += [result.null.values.ravel(), result.null.p_value]
    return np.concatenate(said)


def samples() -> NDArray[np.float32]:
    """What float32 holds exactly, so that types change no bit."""
    return chain(5, (2, 2)).sample(120, 0).astype(np.float32)


def frozen(x: NDArray[Any]) -> NDArray[Any]:
    x = x.copy()
    x.setflags(write=False)
    return x


LAYOUTS: dict[str, Callable[[NDArray[Any]], NDArray[Any]]] = {
    "float32": lambda x: x.astype(np.float32),
    "Fortran": np.asfortranarray,
    "view": lambda x: np.repeat(x, 2, axis=1)[:, ::2],
    "backwards": lambda x: x[::-1, ::-1].copy()[::-1, ::-1],
    "read-only": frozen,
    "big-endian": lambda x: x.astype(">f8"),
}


@pytest.mark.parametrize("option", OPTIONS)
def test_layouts_and_types_change_no_bit(option: str) -> None:
    x = samples().astype(np.float64)
    before = x.copy()
    expected = numbers(ksg_profile(x, SIZES, seed=1, **OPTIONS[option]))
    np.testing.assert_array_equal(x, before)
    for layout in LAYOUTS.values():
        got = numbers(ksg_profile(layout(x), SIZES, seed=1, **OPTIONS[option]))
        np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("option", OPTIONS)
def test_integers_are_the_same_numbers(option: str) -> None:
    """Through the public call, which takes integers: tied and small as they are."""
    x = np.round(3.0 * samples().astype(np.float64)) + 100.0
    a, b, c = [0, 1], [2, 3, 4, 5, 6], [7, 8, 9, 10]
    expected = estimate_cmi(x, a, b, c, method="ksg", seed=1, **OPTIONS[option])
    for kind in (np.int64, np.uint8, np.float16, np.longdouble):
        got = estimate_cmi(x.astype(kind), a, b, c, method="ksg", seed=1, **OPTIONS[option])
        assert (got.value, got.stderr, got.bias) == (expected.value, expected.stderr, expected.bias)


@pytest.mark.parametrize("scale", [2.0**-40, 2.0**40, 1e-12, 1e12])
@pytest.mark.parametrize("option", OPTIONS)
def test_units_change_nothing(option: str, scale: float) -> None:
    x = samples().astype(np.float64)
    expected = numbers(ksg_profile(x, SIZES, seed=1, **OPTIONS[option]))
    got = numbers(ksg_profile(scale * x, SIZES, seed=1, **OPTIONS[option]))
    np.testing.assert_allclose(got, expected, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("option", OPTIONS)
def test_a_buffer_of_300_columns(option: str) -> None:
    """Fewer samples than columns: counts as defined, and no calibration by a bias that is not known."""
    x = np.random.default_rng(0).standard_normal((90, 303))
    x[:, 0] += x[:, 1] + x[:, -1]
    sizes, options = (1, 300, 2), OPTIONS[option]
    if options.get("calibrate"):
        alone = {name: value for name, value in options.items() if name != "features"}
        with pytest.raises(ValueError, match="calibrate needs two samples for each column: 90 samples"):
            ksg_profile(x, sizes, **alone)
        if "features" not in options:
            return
    result = ksg_profile(x, sizes, seed=1, **options)
    assert np.isfinite(numbers(result)).all()
    if option in ("plain", "mixed"):
        twin = naive_ksg(x, sizes, 5, ties=options.get("ties", "continuous"))
        np.testing.assert_allclose(result.local, twin, rtol=0, atol=1e-12)


@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize(
    "kind",
    [
        "ties",
        "constant columns",
        "a constant A",
        "a constant C",
        "copies",
        "a column twice",
        "no B",
        "one column each",
    ],
)
def test_degenerate_samples_have_finite_numbers(kind: str, option: str) -> None:
    x, sizes = samples().astype(np.float64), SIZES
    if kind == "ties":
        x = np.maximum(x, 0.0)
    elif kind == "constant columns":
        x[:, [1, 3, 10]] = 0.1
    elif kind == "a constant A":
        x[:, :2] = 0.1
    elif kind == "a constant C":
        x[:, 7:] = 0.1
    elif kind == "copies":
        x = np.repeat(x[:40], 3, axis=0)
    elif kind == "a column twice":
        x[:, 5] = x[:, 4]
    elif kind == "no B":
        sizes = (2, 0, 9)
    else:
        x, sizes = x[:, [0, 2, 7]], (1, 1, 1)
    result = ksg_profile(x, sizes, seed=1, **OPTIONS[option])
    assert np.isfinite(numbers(result)).all()
    if kind in ("a constant A", "a constant C") and "features" not in OPTIONS[option]:
        np.testing.assert_allclose(result.value[-1], 0.0, atol=1e-12)


@pytest.mark.parametrize("option", OPTIONS)
def test_two_samples_more_than_neighbours(option: str) -> None:
    """Two more than k: a number, or a refusal that says how many samples it takes."""
    k = np.max(OPTIONS[option].get("k", 5))
    x = np.random.default_rng(0).standard_normal((int(k) + 2, 3))
    options = {**OPTIONS[option], "queries": 2} if "queries" in OPTIONS[option] else OPTIONS[option]
    if "features" in options:
        with pytest.raises(ValueError, match="samples"):
            ksg_profile(x, (1, 1, 1), seed=1, **{**options, "features": "regression"})
        return
    assert np.isfinite(numbers(ksg_profile(x, (1, 1, 1), seed=1, **options))).all()

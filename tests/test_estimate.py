"""The public calls on arrays: regions by mask, index and name, units, errors, bad input."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from truths import chain

from cmi import Partition, cmi_profile, estimate_cmi
from estimators import gaussian_profile, ksg_profile

METHODS = ["ksg", "gaussian", "copula"]


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return chain(4, ()).sample(300, 0).reshape(300, 3, 3)


def test_ksg_says_what_it_knows_of_itself() -> None:
    """In the units asked for; every width its own; several k in one result."""
    x = np.random.default_rng(0).standard_normal((200, 6))
    x[:, 0] += x[:, 5]
    estimate = estimate_cmi(x, 0, [1, 2], [4, 5], k=[3, 6], n_permutations=4, seed=2)
    again = estimate_cmi(x, 0, [1, 2], [4, 5], k=[3, 6], n_permutations=4, seed=2, units="bits")
    for name in ("value", "stderr", "surrogate_bias", "surrogate_stderr", "null_mean", "null_stderr"):
        assert getattr(again, name) == pytest.approx(getattr(estimate, name) / np.log(2.0))
    assert again.p_value == estimate.p_value == pytest.approx(0.2)
    assert estimate.value == pytest.approx(np.mean([one.value for one in estimate.by_k.values()]))
    assert list(estimate.by_k) == [3, 6]
    assert estimate.by_k[3].value == pytest.approx(estimate_cmi(x, 0, [1, 2], [4, 5], k=3).value)
    assert "surrogate_bias=" in repr(estimate)
    assert "p_value=0.2" in repr(estimate)
    other = estimate_cmi(x, 0, [1, 2], [4, 5], k=[3, 6], n_permutations=4, seed=3)
    assert other.value == estimate.value
    assert other.surrogate_bias != estimate.surrogate_bias
    few = estimate_cmi(x, 0, [1, 2], queries=50)
    assert few.local.shape == (50,)
    assert few.n_samples == 200
    bare = estimate_cmi(x, 0, [1, 2], method="gaussian")
    assert bare.surrogate_bias is bare.p_value is bare.null_mean is None
    assert not bare.by_k


def test_each_k_has_its_own_notes() -> None:
    x = np.random.default_rng(0).standard_normal((200, 3))
    estimate = estimate_cmi(x, 0, 1, 2, k=[3, 100])
    assert "mean over k = 3, 100" in estimate.warnings
    assert not any("mean over" in note for one in estimate.by_k.values() for note in one.warnings)


def test_samples_that_are_copies_are_named() -> None:
    """Of continuous data; not the coincidences of discrete or mostly blank data."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((200, 3))
    twice = np.concatenate([x, x[:50]])
    assert any("50 of 250 samples are exact copies" in note for note in estimate_cmi(twice, 0, 1, 2).warnings)
    twice[:, 1] = np.sign(twice[:, 1])
    assert any("50 of 250" in note for note in estimate_cmi(twice, 0, 1, 2, method="gaussian").warnings)
    for clean in (x, np.sign(x), np.sign(x[:, [0, 0, 0]]), np.maximum(x - 1.0, 0.0), np.round(x)):
        assert not any("copies" in note for note in estimate_cmi(clean, 0, 1, 2).warnings)


def test_few_values_and_many_neighbours_are_named() -> None:
    """A fair coin seen through noise: with 20 neighbours of 300 samples other values are among them."""
    rng = np.random.default_rng(0)
    x = rng.integers(0, 2, (300, 3)).astype(np.float64)
    x[:, 2] = np.where(rng.random(300) < 0.8, x[:, 0], x[:, 2])
    rounded = np.round(rng.standard_normal((300, 3)), 1)
    for samples, k, named in ((x, 30, True), (x, 5, False), (rounded, 5, False)):
        notes = estimate_cmi(samples, 0, 1, 2, k=k).warnings
        assert any("another value in a column of few values" in note for note in notes) == named


@pytest.mark.parametrize("scale", [1e-310, 1e-300, 1e-170, 1e-150, 1e150, 1e160, 1e300, 1.6e307])
def test_units_without_bounds(scale: float) -> None:
    """Near the ends of floating point: estimate, bias and floor are those of ordinary units."""
    x = np.random.default_rng(0).random((60, 4)) - 0.5
    x[:, 3] += x[:, 0]
    x *= 2.0 ** np.round(np.log2(scale)) / scale  # so that scaling is exact but for the smallest
    options: dict[str, Any] = {"n_permutations": 2, "k": 3}
    expected, got = (estimate_cmi(y, 0, [1, 2], 3, **options) for y in (x, scale * x))
    for name in ("value", "surrogate_bias", "null_mean"):
        assert getattr(got, name) == pytest.approx(getattr(expected, name), abs=1e-6)
    expected, got = (estimate_cmi(y, 0, [1, 2], 3, standardize=True) for y in (x, scale * x))
    assert got.value == pytest.approx(expected.value, abs=1e-6)


def test_a_constant_at_the_end_of_floating_point() -> None:
    x = np.column_stack([np.full(200, -1.7e308), np.random.default_rng(0).random((200, 2)) * 1.7e308])
    for columns in ([0, 1, 2], [1, 0, 2], [1, 2, 0]):
        value = estimate_cmi(x[:, columns], 0, 1, 2).value
        assert value == (0.0 if columns[1] != 0 else pytest.approx(0.0, abs=0.1))


def test_a_frame_with_a_column_called_samples() -> None:
    x = np.random.default_rng(0).standard_normal((60, 3))
    frame = pd.DataFrame(x, columns=["a", "samples", "c"])
    assert estimate_cmi(frame, "a", "samples", "c").value == estimate_cmi(x, 0, 1, 2).value


def test_regions_by_mask_index_and_name(images: np.ndarray) -> None:
    flat = images.reshape(300, 9)
    expected = ksg_profile(flat[:, [4, 1, 3, 0, 8]], (1, 2, 2))
    mask_a, mask_b, mask_c = np.zeros((3, 3, 3), dtype=bool)
    mask_a[1, 1] = mask_b[0, 1] = mask_b[1, 0] = mask_c[0, 0] = mask_c[2, 2] = True
    frame = pd.DataFrame(flat, columns=list("abcdefghi"))
    frame_mask = np.zeros(9, dtype=bool)
    frame_mask[4] = True
    for estimate in (
        estimate_cmi(images, mask_a, mask_b, mask_c),
        estimate_cmi(images, 4, [1, 3], (0, 8)),
        estimate_cmi(images, np.array([[4]]), np.array([1, 3]), [0, 8]),
        estimate_cmi(frame, "e", ["b", "d"], ["a", "i"]),
        estimate_cmi(frame, frame_mask, [1, 3], pd.Index(["a", "i"])),
        estimate_cmi(frame.astype("Float64"), 4, [1, 3], [0, 8]),
    ):
        assert estimate.value == expected.value[0]
        np.testing.assert_array_equal(estimate.local, expected.local[0])
        assert estimate.dims == (1, 2, 2)
        assert estimate.n_samples == 300
        assert estimate.method == "ksg"


def test_c_is_all_the_rest_and_b_may_be_empty(images: np.ndarray) -> None:
    rest = estimate_cmi(images, 4, [1, 3], method="gaussian")
    assert rest.dims == (1, 2, 6)
    empties: list[Any] = [None, [], np.zeros((3, 3), dtype=bool)]
    for empty in empties:
        mutual = estimate_cmi(images, 4, empty, 0, method="gaussian")
        assert mutual.dims == (1, 0, 1)
        flat = images.reshape(300, 9)
        rho = np.corrcoef(flat[:, 4], flat[:, 0])[0, 1]
        assert mutual.value + mutual.bias == pytest.approx(-0.5 * np.log1p(-(rho**2)))


def test_torch_tensors(images: np.ndarray) -> None:
    torch = pytest.importorskip("torch")
    tensor = torch.tensor(images, requires_grad=True)
    expected = estimate_cmi(images, 4, [1], [0], method="gaussian").value
    assert estimate_cmi(tensor, 4, [1], [0], method="gaussian").value == expected
    half = estimate_cmi(tensor.to(torch.bfloat16), 4, [1], [0], method="gaussian").value
    assert half == pytest.approx(expected, abs=0.05)


@pytest.mark.parametrize("method", METHODS)
def test_result(images: np.ndarray, method: str) -> None:
    e = estimate_cmi(images, 4, [1, 3], method=method)
    assert float(e) == e.value
    assert e.local.mean() == pytest.approx(e.value, abs=1e-12)
    assert e.stderr > 0
    low, high = e.interval(0.95)
    assert (low + high) / 2 == pytest.approx(e.value)
    assert high - low == pytest.approx(2 * 1.959964 * e.stderr)
    assert e.interval(0.5)[0] > low
    assert f"method={method!r}" in repr(e)
    bits = estimate_cmi(images, 4, [1, 3], method=method, units="bits")
    for field in ("value", "stderr", "bias"):
        assert getattr(bits, field) * np.log(2) == pytest.approx(getattr(e, field))
    np.testing.assert_allclose(bits.local * np.log(2), e.local)
    with pytest.raises(ValueError, match="level must lie between 0 and 1"):
        e.interval(95)


def test_intervals_cover_the_truth() -> None:
    """95 % intervals of the Gaussian estimate on a chain at n = 400: 90 to 98 % over 400 data sets."""
    model = chain(3, (1,), a=0.6)
    mutual = (1, 0, 6)
    truth = type(model)(model.covariance, mutual).cmi()[0]
    hits = 0
    for seed in range(400):
        low, high = estimate_cmi(model.sample(400, seed), 0, [], method="gaussian").interval()
        hits += low < truth < high
    assert 0.90 <= hits / 400 <= 0.98


@pytest.mark.parametrize("method", METHODS)
def test_profile_is_the_estimates_of_its_widths(method: str) -> None:
    x = chain(4, ()).sample(200, 1)[:, np.argsort([0, -1, 1, -2, 2, -3, 3, -4, 4])]
    partition = Partition.centered((9,), widths=range(4))
    profile = cmi_profile(x, partition, method=method)
    assert profile.widths.tolist() == [0, 1, 2, 3]
    for i, width in enumerate(profile.widths.tolist()):
        one = estimate_cmi(x, partition.A, partition.B(width), partition.C(width), method=method)
        assert profile.value[i] == pytest.approx(one.value, abs=1e-12)
        assert profile.stderr[i] == pytest.approx(one.stderr, rel=1e-9)
        assert profile.at(width).value == profile.value[i]
        assert profile.at(width).dims == profile.dims[i] == one.dims
        np.testing.assert_allclose(profile.local[i], one.local, atol=1e-10)
    difference, error = profile.difference(1, 3)
    assert difference == pytest.approx(profile.value[1] - profile.value[3])
    paired = np.std(profile.local[1] - profile.local[3], ddof=1) / np.sqrt(200)
    inflation = profile.stderr[1] / (np.std(profile.local[1], ddof=1) / np.sqrt(200))
    assert error == pytest.approx(paired * inflation, rel=1e-6)
    assert error < profile.stderr[1] + profile.stderr[3]
    table = profile.to_dataframe()
    own = ["surrogate_bias", "surrogate_stderr"] if method == "ksg" else []
    assert table.columns.tolist() == ["r", "cmi", "stderr", "bias", *own]
    assert table.cmi.tolist() == profile.value.tolist()
    assert "CMIProfile(widths=[0, 1, 2, 3]" in repr(profile)
    with pytest.raises(ValueError, match="width 9 is not in this profile"):
        profile.at(9)


@settings(max_examples=10)
@given(seed=st.integers(0, 10_000))
def test_invariances_through_the_public_call(seed: int) -> None:
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((60, 6)) @ rng.standard_normal((6, 6))
    order = rng.permutation(6)
    a, b, c = order[:1], order[1:3], order[3:]
    for method in METHODS:
        value = estimate_cmi(x, a, b, c, method=method).value
        there_and_back = estimate_cmi(x, c, b[::-1], a, method=method).value
        assert there_and_back == pytest.approx(value, rel=1e-6, abs=1e-9)
        shuffled = rng.permutation(x)
        assert estimate_cmi(shuffled, a, b, c, method=method).value == pytest.approx(value, rel=1e-6, abs=1e-9)
        columns = rng.permutation(6)
        places = np.argsort(columns)
        moved = estimate_cmi(x[:, columns], places[a], places[b], places[c], method=method).value
        assert moved == pytest.approx(value, rel=1e-6, abs=1e-9)


def test_estimates_are_never_clipped() -> None:
    x = np.random.default_rng(0).standard_normal((40, 60, 3))
    for method in METHODS:
        assert min(estimate_cmi(x[:, i], 0, 1, 2, method=method).value for i in range(20) if x.shape) < 0.0


def test_warnings_name_constant_and_repeated_columns() -> None:
    x = chain(3, ()).sample(100, 0)
    x[:, 3] = 1.5
    x[:, 5] = x[:, 1]
    for method in METHODS:
        e = estimate_cmi(x, 0, [1, 2], method=method)
        assert "1 of 6 columns of the regions around A are constant and tell nothing: 3" in e.warnings
        assert "1 column repeats another one exactly: 5 = 1" in e.warnings
        assert np.isfinite(e.value)
    frame = pd.DataFrame(x, columns=list("abcdefg"))
    assert "f = b" in estimate_cmi(frame, "a", ["b"], method="gaussian").warnings[1]
    x[:, 0] = 2.0
    for method in METHODS:
        e = estimate_cmi(x, 0, [1, 2], method=method)
        assert e.warnings[0].startswith("A is constant: the CMI is 0")
        assert e.value == pytest.approx(0.0, abs=1e-12)
    assert "3 warnings" in repr(estimate_cmi(x, 0, [1, 2], method="gaussian"))


def test_memory_layouts_and_types() -> None:
    x = np.round(chain(2, ()).sample(80, 0) * 8).astype(np.int8)
    expected = estimate_cmi(x.astype(float), 0, 1, 2, method="gaussian").value
    frozen = x.astype(np.float32)
    frozen.setflags(write=False)
    for variant in (
        x,
        x.astype(np.uint16) * 0 + x,
        np.asfortranarray(x.astype(float)),
        frozen,
        x.astype(np.float16),
    ):
        assert estimate_cmi(variant, 0, 1, 2, method="gaussian").value == pytest.approx(expected, abs=1e-9)
    assert estimate_cmi(x.tolist(), 0, 1, 2, method="gaussian").value == pytest.approx(expected, abs=1e-9)
    wide = np.repeat(x.astype(float), 2, axis=1)[:, ::2]
    assert estimate_cmi(wide, 0, 1, 2, method="gaussian").value == pytest.approx(expected, abs=1e-9)


GOOD = np.random.default_rng(0).standard_normal((50, 2, 3))


def spoiled(*values: float) -> np.ndarray:
    x = GOOD.copy()
    for i, value in enumerate(values):
        x[7 + i, 1, 2] = value
    return x


@pytest.mark.parametrize(
    ("samples", "error", "message"),
    [
        (spoiled(np.nan), ValueError, r"1 NaN values, the first in sample 7 at index \(1, 2\)"),
        (spoiled(np.nan, np.inf, -np.inf), ValueError, "1 NaN and 2 infinite values"),
        (np.zeros((0, 2, 3)), ValueError, "samples are empty"),
        (np.zeros((5, 0)), ValueError, "samples are empty"),
        (np.float64(3.0), ValueError, "need"),
        (np.zeros(5), ValueError, "at least two values"),
        (np.zeros((5, 1)), ValueError, "at least two values"),
        (GOOD.astype(object), TypeError, "object values"),
        (GOOD.astype(str), TypeError, "string values"),
        (GOOD.astype(complex), TypeError, "complex values"),
        (np.zeros((5, 4), dtype="datetime64[s]"), TypeError, "date values"),
        ([[1, 2], [3]], TypeError, "rectangular"),
        (None, TypeError, "object values"),
        ("file.npy", TypeError, "string values"),
        (pd.DataFrame({"a": [1.0, 2.0], "b": ["x", "y"]}), TypeError, "column 'b' holds"),
        (np.full((9, 3), 2**60), ValueError, "integers beyond 2\\^53, which lose digits"),
        (np.ma.masked_less(np.eye(9), 0.5), TypeError, "masked array"),
    ],
)
def test_bad_samples(samples: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        estimate_cmi(samples, 0, 1, 2)


@pytest.mark.parametrize(
    ("a", "b", "c", "error", "message"),
    [
        ([], 1, 2, ValueError, "A is empty"),
        (0, 1, [], ValueError, "C is empty"),
        (0, [1, 2, 3, 4, 5], None, ValueError, "C is empty"),
        (0, [0, 1], 2, ValueError, r"B overlaps A in \(0, 0\)"),
        (0, 1, [1, 2], ValueError, r"C overlaps B in \(0, 1\)"),
        ([0, 0], 1, 2, ValueError, "A repeats"),
        (6, 1, 2, ValueError, "A holds the index 6, but one sample has 6 values: indices run from 0 to 5"),
        (-1, 1, 2, ValueError, "A holds the index -1"),
        (np.zeros((3, 2), dtype=bool), 1, 2, ValueError, r"the mask A has shape \(3, 2\)"),
        (np.zeros(6, dtype=bool), 1, 2, ValueError, r"the mask A has shape \(6,\)"),
        (0.5, 1, 2, TypeError, "A must be a boolean mask, integer indices or column names"),
        ("x", 1, 2, TypeError, "the samples are not a DataFrame"),
        (0, {"a": 1}, 2, TypeError, "B must be"),
        ([True, 0], 1, 2, TypeError, "A mixes True and False with indices"),
    ],
)
def test_bad_regions(a: Any, b: Any, c: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        estimate_cmi(GOOD, a, b, c)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"method": "mine"}, ValueError, "unknown method 'mine': choose from gaussian, copula, ksg"),
        ({"neighbours": 3}, TypeError, "the method 'ksg' has no option 'neighbours': it takes k, ties"),
        ({"method": "gaussian", "k": 3}, TypeError, "the method 'gaussian' has no option 'k'"),
        ({"method": "gaussian", "flip": 0.1}, TypeError, "no option 'flip': it takes shrinkage, correct_bias, snr"),
        ({"k": 0}, ValueError, "k must be at least 1"),
        ({"k": 49}, ValueError, "49 neighbours need at least 51 samples, got 50"),
        ({"k": 2.0}, TypeError, "k must be an integer"),
        ({"units": "bans"}, ValueError, 'units must be "nats" or "bits"'),
        ({"seed": -1}, ValueError, "seed must be at least 0"),
        ({"seed": "x"}, TypeError, "seed must be a whole number"),
        ({"k": [3, [5]]}, TypeError, "k must be an integer"),
        ({"calibrate": "no"}, TypeError, "calibrate must be True or False"),
        ({"features": lambda v, name: v[:, :0] if name == "C" else v}, ValueError, "features of C must have shape"),
        ({"features": lambda _v, _name: np.array([[1.0], [1.0, 2.0]])}, ValueError, "features of A failed"),
    ],
)
def test_bad_options(options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        estimate_cmi(GOOD, 0, 1, 2, **options)


def test_names_of_a_frame() -> None:
    frame = pd.DataFrame(GOOD.reshape(50, 6), columns=list("abcdef"))
    with pytest.raises(ValueError, match="A names the column 'z'; there are a, b, c"):
        estimate_cmi(frame, "z", "b", "c")
    frame.columns = pd.Index(list("aacdef"))
    with pytest.raises(ValueError, match="columns of the same name"):
        estimate_cmi(frame, "a", "c", "d")


def test_partition_beyond_the_samples() -> None:
    with pytest.raises(ValueError, match="reaches index 8, but one sample has 6 values"):
        cmi_profile(GOOD, Partition.centered((9,)))


def test_positional_arguments_end_after_c() -> None:
    with pytest.raises(TypeError):
        estimate_cmi(GOOD, 0, 1, 2, "gaussian")  # type: ignore[call-arg]


def test_gaussian_through_the_public_call_equals_the_estimator() -> None:
    x = GOOD.reshape(50, 6)
    e = estimate_cmi(GOOD, 0, [1, 2], method="gaussian", correct_bias=False)
    assert e.value == gaussian_profile(x, (1, 2, 3), correct_bias=False).value[0]

"""Features for the k-nearest-neighbour estimator: truths in many columns, leakage, degenerate data, bad input."""

from __future__ import annotations

import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from truths import Cat, Gaussian, chain, two_states

from cmi import Partition, PhaseScan, cmi_profile, estimate_cmi, phase_scan
from estimators import Profile, ksg_profile
from estimators.features import compress
from estimators.seeds import Stream, generator

FloatArray = NDArray[np.float64]


def regression(x: FloatArray, sizes: tuple[int, ...], **options: Any) -> Profile:
    return ksg_profile(x, sizes, **{"features": "regression", "k": 20, **options})


def error(profile: Profile, cut: int = 0) -> float:
    return float(np.sqrt(profile.covariance()[cut, cut]))


def noisy(model: Gaussian, n: int, seed: int, snr: float) -> FloatArray:
    x = model.sample(n, seed)
    x += np.random.default_rng([seed, 1]).standard_normal(x.shape) / np.sqrt(snr)
    return x


def first(values: FloatArray, name: str) -> FloatArray:
    return values[:, :1]


def test_gaussian_truth_in_many_columns() -> None:
    """0.22 and 0.76 nats in 25 columns: within four errors, where the columns themselves lose four tenths."""
    for snr, sizes in ((1.0, (0, 2)), (10.0, (0, 1))):
        model = chain(12, sizes)
        x = noisy(model, 3000, 0, snr)
        truth = model.cmi(snr)
        profile = regression(x, model.sizes)
        assert (abs(profile.value - truth) < 4.0 * np.sqrt(np.diagonal(profile.covariance()))).all()
        assert error(profile) < 0.02
        assert ksg_profile(x, model.sizes).value[0] < 0.65 * truth[0]


def test_truth_of_two_states() -> None:
    """A sign seen by 81 pixels, each through noise: what they say of it is not linear."""
    model = Cat((1, 8, 72), 0.1)
    assert two_states(1e-3) == pytest.approx(5e-4, rel=2e-3)
    assert two_states(200.0) == pytest.approx(np.log(2.0), abs=1e-9)
    truth = model.cmi()[0]
    assert truth > 0.015
    profile = regression(model.sample(6000, 0), model.sizes)
    assert error(profile) < 0.3 * truth
    assert abs(profile.value[0] - truth) < 3.0 * error(profile)


def test_product_that_no_linear_feature_sees() -> None:
    """A is the product of two signs plus noise: linearly they tell nothing. Twenty more columns hide them."""
    rng = np.random.default_rng(0)
    signs = rng.choice([-1.0, 1.0], size=(3000, 2))
    a = np.prod(signs, axis=1, keepdims=True) + rng.standard_normal((3000, 1))
    x = np.hstack([a, signs + 0.1 * rng.standard_normal((3000, 2)), rng.standard_normal((3000, 20))])
    truth = np.array([two_states(1.0), 0.0])
    profile = regression(x, (1, 0, 2, 20))
    assert (abs(profile.value - truth) < 4.0 * np.sqrt(np.diagonal(profile.covariance()))).all()
    assert error(profile) < 0.015
    assert ksg_profile(x, (1, 0, 2, 20)).value[0] < 0.6 * truth[0]


def test_spread_that_no_mean_sees() -> None:
    """C scales A, whose mean is always 0: half the samples have sd 1, half 3."""
    rng = np.random.default_rng(0)
    scale = rng.choice([1.0, 3.0], size=(4000, 1))
    x = np.hstack([scale * rng.standard_normal((4000, 1)), rng.standard_normal((4000, 6)), scale])
    grid = np.linspace(-30.0, 30.0, 60_001)
    density = sum(np.exp(-0.5 * (grid / s) ** 2) / (s * np.sqrt(8.0 * np.pi)) for s in (1.0, 3.0))
    mixture = -float(np.sum(density * np.log(density))) * (grid[1] - grid[0])
    truth = mixture - 0.5 * np.log(2.0 * np.pi * np.e) - 0.5 * np.log(3.0)
    profile = regression(x, (1, 6, 1))
    assert truth > 0.1
    assert abs(profile.value[0] - truth) < 4.0 * error(profile)


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "n", "runs"), [("independent", 300, 16), ("through B", 1500, 8)])
def test_no_cmi_averages_to_zero(kind: str, n: int, runs: int) -> None:
    """Mean over seeds within three errors of 0, and the claimed error is the spread; also where B tells a lot."""
    model = Gaussian(np.eye(41), (1, 8, 32)) if kind == "independent" else chain(8, (2, 4))
    profiles = [regression(model.sample(n, seed), model.sizes, seed=seed) for seed in range(runs)]
    values = np.array([p.value[0] for p in profiles])
    spread = values.std(ddof=1)
    assert abs(values.mean()) < 3.0 * spread / np.sqrt(runs)
    assert 0.65 < np.sqrt(np.mean([error(p) ** 2 for p in profiles])) / spread < 1.5
    assert values.min() < 0.0


def test_more_columns_than_samples_are_not_learnt_by_heart() -> None:
    """Pure noise, 300 columns, 200 samples: any model fitted to its own samples would know A from them."""
    x = np.random.default_rng(0).standard_normal((200, 301))
    profile = regression(x, (1, 100, 200))
    assert abs(profile.value[0]) < 3.0 * error(profile)
    assert all(float(number) < 0.05 for number in re.findall(r"-?\d\.\d+", profile.notes[1]))


def test_predictions_do_not_see_the_a_of_their_fold() -> None:
    """Change A of one sample: its own fold's predictions stay, others follow."""
    x = chain(6, (1, 3)).sample(200, 0)
    moved = x.copy()
    moved[17, 0] += 3.0
    for before, after in zip(*(compress(y, (1, 2, 4, 6), "regression")[0] for y in (x, moved)), strict=True):
        change = abs(before.x[:, 1:] - after.x[:, 1:]).max(axis=1)
        assert change[17] < 1e-6
        assert np.sum(change < 1e-6) == 40
        assert np.median(change) > 1e-3


def test_same_bits_for_any_number_of_threads() -> None:
    x = chain(6, (1, 2)).sample(150, 1)
    sizes = (1, 2, 2, 8)
    expected = regression(x, sizes, threads=1).local
    for threads in (2, 5):
        np.testing.assert_array_equal(regression(x, sizes, threads=threads).local, expected)
    with ThreadPoolExecutor(3) as pool:
        for got in pool.map(lambda _: regression(x, sizes).local, range(4)):
            np.testing.assert_array_equal(got, expected)
    assert (regression(x, sizes, seed=1).local != expected).any()


def test_order_scale_and_shift_of_the_data() -> None:
    """Units change nothing but rounding, of a CMI of 0.29 nats."""
    x = chain(4, (1,)).sample(300, 1)[:, [0, 3, 4, 1, 2, 5, 6, 7, 8]]  # B is farther from A than C
    value = regression(x, (1, 2, 6)).value
    assert value.min() > 0.15
    for scale in (1e-300, 1e-150, 8.0, 1e150, 1e300):
        np.testing.assert_allclose(regression(scale * (x + 2.0), (1, 2, 6)).value, value, atol=2e-3)
    units = x * np.logspace(-6, 6, 9)
    scaled = regression(units, (1, 2, 6), standardize=True).value
    np.testing.assert_allclose(scaled, regression(x, (1, 2, 6), standardize=True).value, atol=2e-3)
    pca = ksg_profile(x, (1, 2, 6), features="pca").value
    for scale in (1e-300, 1e-170, 1e170, 1e300):
        np.testing.assert_allclose(ksg_profile(scale * x, (1, 2, 6), features="pca").value, pca, atol=2e-3)
    low = x.astype(np.float32)
    low.setflags(write=False)
    np.testing.assert_array_equal(
        ksg_profile(low, (1, 2, 6), features="regression").local,
        ksg_profile(np.asfortranarray(low, dtype=np.float64), (1, 2, 6), features="regression").local,
    )


def test_columns_that_vary_in_one_fold_only() -> None:
    """Sparse binaries, and values far from all others: what the other folds hold of such a column is rounding."""
    for seed in range(4):
        rng = np.random.default_rng(seed)
        sparse = (rng.random((100, 3)) < 0.02).astype(np.float64)
        assert np.isfinite(regression(sparse, (1, 1, 1), surrogates=0).value).all()
        heavy = rng.standard_cauchy((200, 5)) ** 3
        assert np.isfinite(regression(heavy, (1, 2, 2), surrogates=0).value).all()
        x = rng.standard_normal((100, 4))
        x[7, 2] = 1e10
        assert np.isfinite(regression(x, (1, 1, 2), surrogates=0).value).all()
    x = chain(3, (1,)).sample(400, 0)
    expected = regression(x, (1, 2, 4), surrogates=0).value[0]
    rare = np.insert(x, 3, np.where(np.arange(400) == 5, 1.0, 0.0), axis=1)  # one sample has another value
    assert regression(rare, (1, 3, 4), surrogates=0).value[0] == pytest.approx(expected, abs=0.02)


def test_every_draw_depends_on_the_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = []

    def record(seed: int, stream: Stream, *which: int) -> np.random.Generator:
        drawn.append((seed, stream))
        return generator(seed, stream, *which)

    monkeypatch.setattr("estimators.features.generator", record)
    compress(chain(3, (1,)).sample(100, 0), (1, 2, 4), "regression", seed=12)
    assert set(drawn) == {(12, Stream.FOLDS), (12, Stream.LANDMARKS), (12, Stream.BENDS)}


def test_columns_for_c_are_not_linear_in_those_for_b() -> None:
    """In every fold; what they share would be seen through a neighbourhood of finite size."""
    x = chain(4, (1, 2)).sample(500, 0)
    for cut in compress(x, (1, 2, 2, 4), "regression", folds=5)[0]:
        shared = np.asarray(np.corrcoef(cut.x[:, 1:].T))[:2, 2:]
        assert np.abs(shared).max() < 1e-6


def test_a_cut_without_columns_around_is_calibrated_with_the_others() -> None:
    """Its C is constant: nothing is subtracted there, and the errors of the others keep their part."""
    x = np.random.default_rng(0).standard_normal((100, 7))
    x[:, [1, 3]] = 0.1
    partition = Partition([0], [[1], [2], [3]])
    both = cmi_profile(x, partition, features=first, calibrate=True)
    alone = cmi_profile(x, Partition([0], [[1], [2, 3]]), features=first, calibrate=True)
    assert both.value[0] == alone.value[0]
    assert both.stderr[0] == pytest.approx(alone.stderr[0])
    np.testing.assert_array_equal(both.diagnostics["surrogate_bias"][0], alone.diagnostics["surrogate_bias"][0])


def test_surrogate_errors_of_widths_are_paired() -> None:
    """The widths see the same draws: a difference of calibrated values is known better than either."""
    x = chain(5, (1, 2, 3)).sample(300, 0)
    x += 0.5 * np.random.default_rng(1).standard_normal(x.shape)
    profile = regression(x, (1, 2, 2, 2, 4), calibrate=True)
    assert profile.surrogate is not None
    covariance = profile.surrogate.covariance
    correlation = covariance / np.sqrt(np.outer(np.diagonal(covariance), np.diagonal(covariance)))
    assert correlation.min() > 0.3


@pytest.mark.parametrize("features", ["regression", "pca", first])
def test_options_work_together(features: Any) -> None:
    """Two columns of A, an empty B, several k, queries, ties: one profile over the same samples."""
    x = np.round(chain(5, (0, 1)).sample(200, 0), 1)
    sizes = (2, 0, 3, 6)
    profile = ksg_profile(x, sizes, k=[3, 10], queries=60, seed=4, features=features)
    assert profile.local.shape == (2, 60)
    assert sorted(profile.by_k) == [3, 10]
    mean = np.mean([p.value for p in profile.by_k.values()], axis=0)
    np.testing.assert_allclose(profile.value, mean, atol=1e-12)
    one = ksg_profile(x, sizes, k=10, queries=60, seed=4, features=features)
    np.testing.assert_array_equal(one.local, profile.by_k[10].local)
    assert any(note.startswith("mean over k = 3, 10") for note in profile.notes)
    assert sum(note.startswith("features: ") for note in profile.notes) == 1
    assert np.isfinite(np.diagonal(profile.covariance())).all()
    tested = ksg_profile(x, sizes, k=10, queries=60, features=features, calibrate=True, n_permutations=3)
    assert tested.calibrated
    assert tested.surrogate is not None
    assert tested.null is not None
    assert tested.null.values.shape == (2, 3)
    np.testing.assert_array_equal(tested.bias, tested.surrogate.value)
    assert tested.surrogate.covariance.shape == tested.covariance().shape == (2, 2)


def test_degenerate_columns() -> None:
    x = chain(3, (1,)).sample(100, 0)
    padded = np.insert(x, 1, 0.1, axis=1)
    value = regression(x, (1, 2, 4)).value
    np.testing.assert_allclose(regression(padded, (1, 3, 4)).value, value, atol=1e-12)
    for part in (slice(0, 1), slice(1, 3), slice(3, 7)):
        some = x.copy()
        some[:, part] = 0.3
        profile = regression(some, (1, 2, 4))
        assert np.isfinite(profile.value).all()
        if part.start != 1:
            assert abs(profile.value[0]) < 3.0 * error(profile) + 1e-12
    assert (regression(np.ones((60, 4)), (1, 1, 2)).value == 0.0).all()
    copied = np.hstack([x[:, :1], x])  # B holds A itself: nothing is left for C
    nothing = regression(copied, (1, 3, 4))
    assert abs(nothing.value[0]) < 3.0 * error(nothing) < 0.2


def test_repeated_values_of_a_are_kept() -> None:
    """A blank in two of three samples, known from B up to noise; C knows no more. Residuals hide blanks."""
    rng = np.random.default_rng(0)
    b = rng.standard_normal((3000, 1))
    a = np.maximum(b - 0.5 + 0.3 * rng.standard_normal((3000, 1)), 0.0)
    x = np.hstack([a, b + 0.1 * rng.standard_normal((3000, 8)), b + rng.standard_normal((3000, 8))])
    (cut,), _ = compress(x, (1, 8, 8), "regression")
    assert len(np.unique(cut.x[:, 0])) == len(np.unique(a))
    profile = regression(x, (1, 8, 8))
    assert abs(profile.value[0]) < 0.02
    assert error(profile) < 0.01


def test_a_function_as_features() -> None:
    """The identity gives the estimate on standardized columns; names, cuts and regions are those of the layout."""
    x = chain(3, (1,)).sample(150, 0)
    sizes = (1, 2, 2, 2)
    seen = []

    def identity(values: FloatArray, name: str) -> FloatArray:
        seen.append((name, values.shape))
        return values

    plain = ksg_profile(x, sizes, standardize=True)
    np.testing.assert_allclose(ksg_profile(x, sizes, features=identity).value, plain.value, atol=1e-12)
    assert seen == [("A", (150, 1)), ("B", (150, 2)), ("C", (150, 4)), ("B", (150, 4)), ("C", (150, 2))]
    picked = ksg_profile(x, sizes, features=first)
    assert "features: first, 3 columns in place of 6 columns around A" in picked.notes
    expected = ksg_profile(x[:, [0, 1, 3]], (1, 1, 1), standardize=True)
    np.testing.assert_allclose(picked.value[0], expected.value[0], atol=1e-12)


def test_principal_components() -> None:
    """With two columns on either side the components are the columns turned; with more, the leading ones."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((400, 31))
    x[:, 1:16] += 5.0 * x[:, :1]
    x[:, 16:] += 5.0 * rng.standard_normal((400, 1))
    (cut,), notes = compress(x, (1, 15, 15), "pca")
    assert cut.sizes == (1, 2, 2)
    assert abs(np.corrcoef(cut.x[:, 1], x[:, 0])[0, 1]) > 0.99
    assert "2 leading principal components" in notes[0]
    np.testing.assert_allclose(np.corrcoef(cut.x[:, 1:3].T), np.eye(2), atol=1e-10)
    assert abs(ksg_profile(x, (1, 15, 15), features="pca", k=20).value[0]) < 0.05


@pytest.mark.parametrize(
    ("function", "problem", "message"),
    [
        (lambda v, _: v[:5], ValueError, r"features of A must have shape \(60, columns\), got \(5, 1\)"),
        (lambda v, _: v[:, 0], ValueError, r"features of A must have shape \(60, columns\), got \(60,\)"),
        (lambda v, _: v[:, :0], ValueError, r"features of A must have shape \(60, columns\), got \(60, 0\)"),
        (lambda v, _: v > 0, TypeError, "features of A must be floating-point numbers, got bool"),
        (lambda v, name: v / (name != "B"), ValueError, "features of B contain NaN or infinity"),
    ],
)
@pytest.mark.filterwarnings("ignore:divide by zero")
def test_bad_functions(function: Callable[..., Any], problem: type[Exception], message: str) -> None:
    x = np.random.default_rng(0).standard_normal((60, 3))
    with pytest.raises(problem, match=message):
        ksg_profile(x, (1, 1, 1), features=function)


def test_bad_options() -> None:
    x = np.random.default_rng(0).standard_normal((49, 3))
    with pytest.raises(ValueError, match="in 5 folds need at least 50 samples, got 49"):
        regression(x, (1, 1, 1))
    with pytest.raises(ValueError, match="folds must be at least 3, got 2"):
        regression(x, (1, 1, 1), folds=2)
    with pytest.raises(TypeError, match="folds must be an integer"):
        regression(x, (1, 1, 1), folds=2.5)
    for bad in ("mean", 3, ["pca"]):
        with pytest.raises(ValueError, match='features must be "regression", "pca" or a function'):
            regression(x, (1, 1, 1), features=bad)
    assert np.isfinite(regression(x, (1, 1, 1), folds=4).value).all()


@pytest.mark.parametrize("features", ["regression", first])
def test_scans(features: Any, tmp_path: Any) -> None:
    """A scan is the same in a pool, and keeps what the features were."""
    x = chain(5, ()).sample(120, 0)
    arguments: dict[str, Any] = {"levels": [0.2, 0.5], "widths": [1, 3], "method": "ksg", "features": features}
    scan = phase_scan(x, **arguments)
    with ThreadPoolExecutor(2) as pool:
        np.testing.assert_array_equal(phase_scan(x, executor=pool, **arguments).dataset.cmi, scan.dataset.cmi)
    scan.save(tmp_path / "scan.nc")
    kept = PhaseScan.load(tmp_path / "scan.nc")
    assert kept.config["options"]["features"] == (features if isinstance(features, str) else f"{__name__}.first")
    assert phase_scan(x, resume=kept, **arguments).dataset.finished.all()
    assert any("features: " in warning for warning in scan.warnings)
    assert estimate_cmi(x, 5, [4, 6], features=features).warnings

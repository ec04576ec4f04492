"""Measures of quality: closed forms, what equal sets read, and the claimed errors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from cmi import open_dataset
from cmi.denoise import compare_images, images_of, train_features
from cmi.denoise.quality import _frechet, _jackknife, _mmd, _told_apart, _wasserstein


def normal(n: int, d: int = 4, seed: int = 0, scale: float = 1.0, mean: float = 0.0) -> np.ndarray:
    return np.asarray(mean + scale * np.random.default_rng(seed).standard_normal((n, d)))


def apart(found: pd.DataFrame) -> np.ndarray:
    """How many errors above the floor."""
    return np.asarray((found.value - found.floor) / np.hypot(found.stderr, found.floor_stderr))


def test_sliced_wasserstein_of_gaussians() -> None:
    """W_2 of N(0, 1) and N(m, s^2) is (m^2 + (s - 1)^2)^1/2; projections of a shift have m^2 / d on average."""
    wide, _ = _wasserstein(normal(4000, scale=1.5), normal(4000, seed=1), 0)
    assert wide == pytest.approx(0.5, rel=0.1)
    moved, error = _wasserstein(normal(4000, mean=0.5), normal(4000, seed=1), 0)
    assert moved == pytest.approx(0.5, rel=0.15)  # 4 columns moved by 0.5: |m| = 1, m^2 / d = 1 / 4
    assert 0.0 < error < 0.05


def test_frechet_of_gaussians() -> None:
    found, error = _frechet(normal(5000, scale=1.5, mean=0.3), normal(5000, seed=1), 0)
    assert found == pytest.approx(4 * 0.3**2 + 4 * 0.5**2, rel=0.08)
    assert found == pytest.approx(1.36, abs=4.0 * error)


def test_mmd_is_unbiased_and_its_error_right() -> None:
    """Equal sets read 0 on average; the spread over seeds is what is claimed, equal or not."""
    for scale in (1.0, 1.2):
        found = np.array(
            [_mmd(normal(150, seed=2 * k, scale=scale), normal(150, seed=2 * k + 1)) for k in range(150)]
        )
        value, error = found.T
        assert np.sqrt((error**2).mean()) == pytest.approx(value.std(ddof=1), rel=0.25)
        if scale == 1.0:
            assert abs(value.mean()) < 3.5 * value.std() / np.sqrt(150)
            assert (value < 0.0).any()  # not clipped
        else:
            assert value.mean() > 5.0 * value.std() / np.sqrt(150)


@pytest.mark.parametrize("scale", [1.0, 1.2])
def test_errors_of_distances_are_their_spread(scale: float) -> None:
    """Over sets of other images, equal to those they are compared with or not: a bootstrap reads half more."""
    reference = normal(600, d=8, seed=10_000)
    for measure in (_wasserstein, _frechet):
        found = np.array([measure(normal(120, d=8, seed=k, scale=scale), reference, k) for k in range(60)])
        value, error = found.T
        assert np.sqrt((error**2).mean()) == pytest.approx(value.std(ddof=1), rel=0.25)  # 0.09 is an error


def test_jackknife_of_squares_and_of_a_mean() -> None:
    """Of sum_j mean_j^2 over d columns about 0 the variance is 2 d / n^2; a jackknife alone reads twice as much."""
    n, d, found = 200, 30, []
    for k in range(60):
        x = normal(n, d, seed=k)

        def squares(rows: np.ndarray, x: np.ndarray = x) -> float:
            return float((x[rows].mean(axis=0) ** 2).sum())

        def first(rows: np.ndarray, x: np.ndarray = x) -> float:
            return float(x[rows, 0].mean())

        square, mean = _jackknife(squares, n, k), _jackknife(first, n, k)
        assert mean[0] == x[:, 0].mean()
        found.append((square[1] ** 2, mean[1] ** 2))
    of_square, of_mean = np.mean(found, axis=0)
    assert of_mean == pytest.approx(1.0 / n, rel=0.2)
    assert 1.0 < of_square / (2.0 * d / n**2) < 1.4  # above it: max(J - 2 Q, 0) is never below 0


def test_real_digits_and_spoiled_ones() -> None:
    digits = open_dataset("digits").samples
    order = np.random.default_rng(0).permutation(len(digits))
    digits = digits[order]
    labels = np.arange(1797)[order] % 2  # of nothing: features need not be good to tell blurred ones
    network, accuracy = train_features(digits[:600], labels[:600])
    assert 0.3 < accuracy < 0.7
    real, other = digits[600:1500], digits[1500:]
    same = compare_images(other, real, features=network.features)
    assert same.index.tolist() == ["wasserstein", "mmd", "classifier", "frechet"]
    assert (np.abs(apart(same)) < 4.0).all()
    blurred = 0.5 * (other + np.roll(other, 1, axis=1))
    worse = compare_images(blurred, real, features=network.features, floor=same)
    assert (apart(worse) > 3.5).all(), worse
    assert worse.floor.equals(same.floor)
    again = compare_images(blurred, real, features=network.features)
    assert again.equals(worse)
    with pytest.raises(ValueError, match=r"the floor is of wasserstein, mmd, classifier, wanted are .*, frechet"):
        compare_images(blurred, real, features=network.features, floor=same[:3])


def test_the_classifier_minds_neither_order_nor_units() -> None:
    digits = images_of(open_dataset("digits"))
    digits = digits[torch.from_numpy(np.random.default_rng(0).permutation(len(digits)))]
    ink = digits[:300][digits[:300].mean(dim=(1, 2, 3)).argsort()]  # real images, from thin to thick
    found, error = _told_apart(ink, digits[300:600], 0)
    assert abs(found - 0.5) < 3.0 * error
    blurred = 0.5 * (ink + torch.roll(ink, 1, dims=2))
    seen = [_told_apart(unit * blurred, unit * digits[300:600], 0)[0] for unit in (1e-3, 1.0, 255.0)]
    assert min(seen) > 0.65
    assert max(seen) - min(seen) < 0.02


def test_the_error_of_the_classifier_is_its_spread() -> None:
    """Over other images, which train other networks."""

    def images(k: int, scale: float) -> torch.Tensor:
        return torch.from_numpy(normal(100, 16, k, scale)).float().reshape(-1, 1, 4, 4)

    found = np.array([_told_apart(images(2 * k, 1.5), images(2 * k + 1, 1.0), k) for k in range(20)])
    value, error = found.T
    assert value.mean() > 0.55
    assert 0.6 < np.sqrt((error**2).mean()) / value.std(ddof=1) < 2.2  # 0.16 is an error


def test_what_is_said_of_features() -> None:
    x = normal(200, 16).reshape(200, 4, 4)
    for features in (lambda a: a.mean(dim=(1, 2, 3)), lambda a: a, lambda a: a.mean(dim=(2, 3))):
        with pytest.raises(ValueError, match="features are two numbers or more of every image"):
            compare_images(x[:60], x[60:], features=features)


def test_mmd_is_the_same_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = normal(70), normal(70, seed=1, scale=1.2)
    whole = _mmd(x, y)
    monkeypatch.setattr("cmi.denoise.quality._BLOCK", 8 * 70 * 9)
    assert _mmd(x, y) == pytest.approx(whole, rel=1e-9)


def test_what_cannot_be_compared() -> None:
    x = np.zeros((60, 4, 4))
    wrong: list[tuple[Any, Any, str]] = [
        (x[:, :3], x, r"drawn images have shape \(1, 3, 4\), real ones \(1, 4, 4\)"),
        (x[:20], x, "at least 50 images, got 20"),
        (x, x, "60 drawn images are compared with at least 120 real ones, got 60"),
        (torch.full((60, 1, 4, 4), torch.nan), x, "not finite"),
    ]
    for drawn, real, message in wrong:
        with pytest.raises(ValueError, match=message):
            compare_images(drawn, real)
    for labels, message in (
        (np.zeros(59, dtype=int), "one number per image"),
        (np.zeros(60, dtype=int), "of two kinds"),
    ):
        with pytest.raises(ValueError, match=message):
            train_features(x, labels)

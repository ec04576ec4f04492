"""Trained networks used again: for other levels, by scans that go on, and on data in any order."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from cmi import phase_scan  # noqa: E402
from cmi.exact import Cat, GaussianChain  # noqa: E402
from estimators.mixture import mixture_profile  # noqa: E402
from estimators.mmse import fit_mmse  # noqa: E402
from estimators.posterior import fit_posterior, posterior_profile  # noqa: E402
from estimators.posterior_options import training_notes  # noqa: E402
from estimators.posterior_places import fit_posterior_places  # noqa: E402
from estimators.trainer import Training  # noqa: E402


def chain(n: int, length: int = 9) -> tuple[np.ndarray, tuple[int, ...]]:
    """Samples in the order A, shells, and the sizes of these."""
    model = GaussianChain(L=length, a=0.9)
    regions = model.partition()
    return np.ascontiguousarray(model.sample(n, 0)[:, regions.columns]), regions.sizes


@pytest.mark.parametrize("method", ["posterior", "mmse"])
def test_a_finished_scan_is_refined_as_a_fresh_one_is(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a network for all the levels that were asked for, not for none of them."""
    added = [0.5, 0.7]  # wherever they are added
    monkeypatch.setattr(
        "cmi.scan.refine_levels", lambda scan, count: [] if scan.dataset.sizes["t"] == 5 else added[:count]
    )
    x = Cat(L=9, dims=1).sample(1500, 0)
    options: dict[str, Any] = {"levels": [0.4, 0.6, 0.8], "widths": [1], "method": method, "steps": 25}
    finished = phase_scan(x, **options)
    fresh, on = phase_scan(x, refine=2, **options), phase_scan(x, refine=2, resume=finished, **options)
    assert fresh.dataset.sizes["t"] == 5
    np.testing.assert_array_equal(on.dataset.cmi, fresh.dataset.cmi)
    assert (on.dataset.cmi.sel(r=1) > 0.005).all()
    # and half of one goes on with a network for both levels
    few: dict[str, Any] = {"widths": [1], "method": method, "steps": 3}
    half = phase_scan(x, levels=[0.8], **few)
    whole = phase_scan(x, levels=[0.6, 0.8], resume=half, **few)
    both = phase_scan(x, levels=[0.6, 0.8], **few)
    np.testing.assert_array_equal(whole.dataset.cmi.sel(t=0.6), both.dataset.cmi.sel(t=0.6))


def test_levels_that_nothing_was_trained_for() -> None:
    x, sizes = chain(600)
    with pytest.raises(ValueError, match="no network was trained: fit it with the levels that it is to answer for"):
        fit_posterior(x, sizes).profile(x, snr=1.0)
    with pytest.raises(ValueError, match="no network was trained"):
        fit_mmse(x, sizes).profile(x, snr=1.0)
    fit = fit_posterior(x, sizes, snrs=[1.0, 4.0], steps=2)
    assert not fit.profile(x, snr=0.0).value.any()  # of pure noise it is known
    assert not any("trained for noise" in note for note in fit.profile(x, snr=2.0).notes)
    assert "the network was trained for noise from 0.5 to 1, not for 0.25" in fit.profile(x, snr=16.0).notes
    bits = (x > 0.0).astype(float)
    by_snr, by_flip = (
        fit_posterior(bits, sizes, snrs=[1.0], steps=2),
        fit_posterior(bits, sizes, flips=[0.1], steps=2),
    )
    with pytest.raises(ValueError, match="trained for Gaussian noise, and knows nothing of flips"):
        by_snr.profile(bits, flip=0.1)
    with pytest.raises(ValueError, match="trained for flips, and knows nothing of Gaussian noise"):
        by_flip.profile(bits, snr=1.0)


@pytest.mark.parametrize("method", ["posterior", "mmse"])
def test_noise_of_folds_is_independent(method: str) -> None:
    """Samples in one place of two folds were seen through the same noise: errors were half too small."""
    x, sizes = chain(3000)
    fitting: Any = fit_posterior if method == "posterior" else fit_mmse
    fit = fitting(x, sizes, snrs=[2.0], steps=3, folds=3)
    local: np.ndarray = fit.profile(x, snr=2.0).local
    for row in local[:2]:
        folds = row.reshape(3, 1000)
        together = np.mean([np.corrcoef(folds[a], folds[b])[0, 1] for a, b in combinations(range(3), 2)])
        assert abs(together) < 0.08  # 0.018 is an error; 0.2 to 0.3 was


def test_data_in_order_are_read_from_end_to_end() -> None:
    """The last column repeats A in the second half of the data only: a few queries are of both halves."""
    rng = np.random.default_rng(0)
    x = rng.integers(0, 2, (6000, 3)).astype(float)
    x[3000:, 2] = x[3000:, 0]
    fit = fit_posterior_places(x, np.array([[0, 1, 2]]), (1, 1, 1), flips=[0.05], steps=60, queries=300)
    seen = fit.parts[0].test
    assert len(seen) == 300
    assert abs((seen >= 3000).mean() - 0.5) < 0.1
    profile = fit.profile(x, 0, flip=0.05)
    # A and C agree in 3 of 4; both flipped, they agree in 1/2 + (0.9)^2 / 4
    agree = 0.5 + 0.9**2 / 4.0
    truth = np.log(2.0) + agree * np.log(agree) + (1.0 - agree) * np.log(1.0 - agree)
    assert abs(profile.value[0] - truth) < 3.0 * profile.covariance()[0, 0] ** 0.5 < truth


def test_a_value_far_from_all_others_is_told() -> None:
    x, sizes = chain(1500)
    spoiled = x.copy()
    spoiled[::300, 0] = 1e4
    read: list[Any] = [
        lambda data: mixture_profile(data, sizes, snr=1.0),
        lambda data: posterior_profile(data, sizes, snr=1.0, steps=2),
    ]
    for profile in read:
        assert not any("far from all others" in note for note in profile(x).notes)
        assert any("far from all others" in note for note in profile(spoiled).notes)


def test_levels_that_a_file_left_out_are_named_by_its_own(tmp_path: Path) -> None:
    assert training_notes(Training(left_out=[2]), [0.5, 1.0, 3.2])[1].startswith(
        "the network is not trained at noise 3.2"
    )
    x, sizes = chain(600)
    file = tmp_path / "network.pt"
    fit_posterior(x, sizes, snrs=[4.0, 1.0, 0.1], steps=2, network=file)
    content = torch.load(file, weights_only=True)
    content["parts"]["0"]["training"]["left_out"] = [2]
    torch.save(content, file)
    fit = fit_posterior(x, sizes, snrs=[1.0], steps=2, network=file)
    assert any("not trained at noise 3.16" in note for note in fit.notes)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["network.pt"]

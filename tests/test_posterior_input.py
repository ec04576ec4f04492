"""What posterior networks are given: columns of any size, rare values, one kind of noise, windows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")

from estimators.mean_stack import snr_nodes
from estimators.posterior import fit_posterior
from estimators.posterior_data import column_sizes
from estimators.posterior_part import splits
from estimators.posterior_places import fit_posterior_places


@pytest.mark.parametrize("scale", [1.0, 1e-3])
def test_small_columns_are_seen_as_well_as_large_ones(scale: float) -> None:
    """A is the sign of c^2 - 1/2, one in ten turned: no covariance tells of it, and no unit matters."""
    rng = np.random.default_rng(0)
    b, c, junk = rng.standard_normal((3, 3000))
    a = np.where(rng.random(3000) < 0.1, -1.0, 1.0) * np.sign(c * c - 0.5)
    x = np.stack([a, b, scale * c, junk], axis=1)
    found = fit_posterior(x, (1, 1, 2), snrs=[np.inf], steps=120, hidden=8, layers=1).profile(x, snr=np.inf)
    assert found.value[0] > 0.08
    assert found.value[0] > 5.0 * np.sqrt(found.covariance()[0, 0])


def test_the_start_sees_small_columns() -> None:
    """A linear function of one that is a ten-thousandth of the others: known before any training."""
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((2, 3000))
    x = np.stack([a, b, 1e-4 * (0.8 * a + 0.6 * rng.standard_normal(3000))], axis=1)
    found = fit_posterior(x, (1, 1, 1), snrs=[1e12], steps=1, hidden=4, layers=1).profile(x, snr=1e12)
    assert found.value[0] == pytest.approx(-0.5 * np.log(1.0 - 0.8**2), abs=0.06)


def test_sizes_of_columns() -> None:
    """None is beyond four of its sizes, in any unit; what never changes has that of the unit."""
    rng = np.random.default_rng(0)
    heavy = rng.standard_t(2, 5000)
    x = np.stack([heavy, rng.standard_normal(5000), np.full(5000, 7.0), rng.random(5000) < 1e-3], axis=1)
    found = column_sizes(x)
    assert (np.abs(x - x.mean(axis=0)) <= 4.0 * found + 1e-12).all()
    assert found[1] == pytest.approx(1.0, abs=0.1)
    assert found[2] == 1.0
    np.testing.assert_allclose(column_sizes(1e-3 * x)[[0, 1, 3]], 1e-3 * found[[0, 1, 3]])


def test_what_all_predictions_rule_out_is_still_possible() -> None:
    """One held-out sample whose B is far from its A had an infinite loss, and the CMI was no number."""
    a = np.random.default_rng(0).integers(0, 101, 400).astype(float)
    x = np.stack([a, a, np.random.default_rng(1).standard_normal(400)], axis=1)
    far = next(iter(splits(400, None, 0)))[2][0]
    x[far, :2] = 100.0, 0.0
    fit = fit_posterior(x, (1, 1, 1), snrs=[np.inf], steps=20, hidden=4, layers=1)
    found = fit.profile(x, snr=np.inf)
    assert np.isfinite(found.local).all()
    assert abs(found.value[0]) < 0.05


def test_networks_of_flips_and_of_gaussian_noise_are_told_apart(tmp_path: Path) -> None:
    """Their levels stand on one axis, and those of one lie within those of the other."""
    coins = np.random.default_rng(0).integers(0, 2, (300, 3)).astype(float)
    options = {"steps": 2, "hidden": 4, "layers": 1}
    flips, snrs = {"flips": [0.02, 0.45]}, {"snrs": [11.0, 5.0]}
    for number, (first, then) in enumerate(((flips, snrs), ({"snrs": [1e4, 4.0]}, {"flips": [0.1, 0.3]}))):
        file = tmp_path / f"{number}.pt"
        fit_posterior(coins, (1, 1, 1), **first, **options, network=file)  # type: ignore[arg-type]
        before = file.read_bytes()
        with pytest.raises(ValueError, match="of other samples or options"):
            fit_posterior(coins, (1, 1, 1), **then, **options, network=file)  # type: ignore[arg-type]
        assert file.read_bytes() == before


def test_the_information_of_rare_values_is_integrated() -> None:
    """1/2 int mmse dg up to an SNR that tells two values apart is their entropy, however rare one of them is."""
    z = np.linspace(-12.0, 12.0, 4001)
    weight = np.exp(-0.5 * z**2) / np.exp(-0.5 * z**2).sum()
    for p in (0.5, 1e-2, 1e-4):
        g, dg = snr_nodes(1e4, max(p * (1.0 - p), 0.25))
        loss = np.zeros(len(g))
        for x, share in ((0.0, 1.0 - p), (1.0, p)):
            y = x + z / np.sqrt(g)[:, None]
            mean = 1.0 / (1.0 + np.exp(-np.clip(np.log(p / (1.0 - p)) + g[:, None] * (y - 0.5), -700.0, 700.0)))
            loss += share * ((x - mean) ** 2 @ weight)
        entropy = -p * np.log(p) - (1.0 - p) * np.log1p(-p)
        assert 0.5 * float(dg @ loss) == pytest.approx(entropy, abs=2e-6)


def test_places_share_one_covariance() -> None:
    """A map of many places would not fit into memory otherwise."""
    x = np.random.default_rng(0).standard_normal((300, 6))
    windows = np.array([[0, 1, 2], [3, 4, -1], [5, 4, 3]])
    fit = fit_posterior_places(x, windows, (1, 1, 1), snrs=[1.0], steps=2, hidden=4, layers=1)
    assert len({id(part.covariance) for part in fit.parts}) == 1
    spins = np.where(x > 0.0, 3.0, -2.0)  # 0, of what lies outside, is neither of the two values
    flipped = fit_posterior_places(spins, windows, (1, 1, 1), flips=[0.1], steps=2, hidden=4, layers=1)
    for place in range(3):
        for found in (fit.profile(x, place, snr=1.0), flipped.profile(spins, place, flip=0.1)):
            assert np.isfinite(found.value).all()

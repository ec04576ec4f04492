"""Noise schedules: values, the SNR and its inverse, the ends."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cmi.noise import SCHEDULES, VarianceExploding, VariancePreservingLinear, noise_schedule

ALL = sorted(SCHEDULES)


@pytest.mark.parametrize("name", ALL)
def test_the_snr_falls_and_is_the_ratio(name: str) -> None:
    schedule = noise_schedule(name)
    t = np.linspace(0, 1, 201)
    snr = schedule.snr(t)
    assert (np.diff(snr[1:]) < 0).all()
    inside = t[1:]
    np.testing.assert_allclose(snr[1:], (schedule.alpha(inside) / schedule.sigma(inside)) ** 2)


@pytest.mark.parametrize("name", ["vp-linear", "vp-cosine"])
def test_variance_preserving(name: str) -> None:
    t = np.linspace(0, 1, 101)
    schedule = noise_schedule(name)
    np.testing.assert_allclose(schedule.alpha(t) ** 2 + schedule.sigma(t) ** 2, 1.0, atol=1e-14)


def test_known_values() -> None:
    assert float(noise_schedule("interpolation").snr(0.25)) == pytest.approx(9.0)
    linear = noise_schedule("vp-linear")
    assert float(linear.alpha(1.0)) == pytest.approx(np.exp(-0.25 * 19.9 - 0.05))
    assert float(noise_schedule("vp-cosine").alpha(0.5)) == pytest.approx(
        np.cos(np.pi / 2 * 0.508 / 1.008) / np.cos(np.pi / 2 * 0.008 / 1.008)
    )
    exploding = noise_schedule("ve")
    assert float(exploding.sigma(0.0)) == pytest.approx(0.01)
    assert float(exploding.sigma(0.5)) == pytest.approx(np.sqrt(0.5))
    assert float(exploding.sigma(1.0)) == pytest.approx(50.0)


def test_the_ends() -> None:
    """No noise at t = 0 and no signal at t = 1, exactly, where the schedule has such ends."""
    for name in ("interpolation", "vp-cosine", "vp-linear", "flip"):
        assert float(noise_schedule(name).snr(0.0)) == np.inf
        assert float(noise_schedule(name).time(np.inf)) == pytest.approx(0.0, abs=1e-9)
    for name in ("interpolation", "vp-cosine", "flip"):
        assert float(noise_schedule(name).snr(1.0)) == 0.0
        assert float(noise_schedule(name).time(0.0)) == pytest.approx(1.0)


@pytest.mark.parametrize("name", ALL)
@given(t=st.floats(1e-4, 0.9999))
def test_time_is_the_inverse_of_the_snr(name: str, t: float) -> None:
    schedule = noise_schedule(name)
    assert float(schedule.time(schedule.snr(t))) == pytest.approx(t, abs=1e-6)


def test_schedules_share_an_snr_axis() -> None:
    snr = np.geomspace(1e-3, 1e3, 13)
    for name in ALL:
        schedule = noise_schedule(name)
        np.testing.assert_allclose(schedule.snr(schedule.time(snr)), snr, rtol=1e-9)


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("t", [-0.1, 1.1, np.nan, np.inf])
def test_times_outside_are_errors(name: str, t: float) -> None:
    for function in ("alpha", "sigma", "snr"):
        with pytest.raises(ValueError, match=r"lie in \[0, 1\]"):
            getattr(noise_schedule(name), function)([0.5, t])


def test_snr_out_of_reach() -> None:
    with pytest.raises(ValueError, match=r"reaches SNRs from 0\.0004 to 1e"):
        noise_schedule("ve").time(1e9)
    for bad in (-1.0, np.nan):
        with pytest.raises(ValueError, match="reaches SNRs"):
            noise_schedule("interpolation").time(bad)


def test_names_and_parameters() -> None:
    assert noise_schedule("ve", sigma_max=10.0) == VarianceExploding(sigma_max=10.0)
    assert noise_schedule(VariancePreservingLinear(0.2, 5.0)).to_dict() == {
        "name": "vp-linear",
        "beta_min": 0.2,
        "beta_max": 5.0,
    }
    with pytest.raises(ValueError, match="unknown noise 'cosine': choose from interpolation"):
        noise_schedule("cosine")
    for bad in ({"sigma_min": 0.0}, {"sigma_min": 60.0}, {"sigma_max": np.inf}):
        with pytest.raises(ValueError, match="sigma_min < sigma_max"):
            noise_schedule("ve", **bad)
    for bad in ({"beta_min": 30.0}, {"beta_min": 0.0}, {"beta_max": 5000.0}):
        with pytest.raises(ValueError, match="beta_min < beta_max"):
            noise_schedule("vp-linear", **bad)
    with pytest.raises(ValueError, match="s must be at least 0"):
        noise_schedule("vp-cosine", s=-1.0)


def test_forward_draws_the_stated_process() -> None:
    x0 = np.full((200_000, 1), 3.0)
    y = noise_schedule("interpolation").forward(x0, 0.4, np.random.default_rng(0))
    assert y.mean() == pytest.approx(1.8, abs=0.005)
    assert y.std() == pytest.approx(0.4, abs=0.005)


def test_flips_exchange_two_values() -> None:
    """With the stated probability, mean and variance; other data are refused."""
    flip = noise_schedule("flip")
    bits = np.random.default_rng(0).integers(0, 2, (200_000, 1)) * 3.0 - 1.0  # -1 and 2
    y = flip.forward(bits, 0.3, np.random.default_rng(1))
    assert set(y.ravel().tolist()) == {-1.0, 2.0}
    assert np.mean(y != bits) == pytest.approx(0.15, abs=0.004)
    assert y[bits == 2.0].var() == pytest.approx(9.0 * float(flip.sigma(0.3)) ** 2, rel=0.01)
    np.testing.assert_array_equal(flip.forward(bits, 0.0, np.random.default_rng(1)), bits)
    assert np.mean(flip.forward(bits, 1.0, np.random.default_rng(1)) != bits) == pytest.approx(0.5, abs=0.004)
    with pytest.raises(ValueError, match="of data that have two: these have more"):
        flip.forward(np.array([[0.0, 1.0, 2.0]]), 0.1, np.random.default_rng(0))


def test_extremes() -> None:
    """Tiny times and SNRs overflow nowhere, keep their digits, and leave the caller's array alone."""
    for name in ("interpolation", "vp-linear", "vp-cosine", "flip"):
        schedule = noise_schedule(name)
        for t in (1e-6, 1e-9):
            assert float(schedule.time(schedule.snr(t))) == pytest.approx(t, rel=1e-3)
        assert float(schedule.snr(1e-200)) > 1e100
    for name in ("interpolation", "vp-cosine"):
        assert float(noise_schedule(name).time(5e-324)) == pytest.approx(1.0)
    assert float(noise_schedule("vp-cosine", s=0.0).time(noise_schedule("vp-cosine", s=0.0).snr(1e-8))) > 0.9e-8
    times = np.array([0.2, 0.4])
    sigma = noise_schedule("interpolation").sigma(times)
    sigma += 1.0
    assert times.tolist() == [0.2, 0.4]

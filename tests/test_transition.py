"""Verdicts from one scan: peaks that are there, and the rate of those that are not."""

from __future__ import annotations

import numpy as np
import pytest
from test_scan import chain_in_space

from cmi import PhaseScan, locate_transition, phase_scan
from cmi.noise import noise_schedule
from cmi.regions import Partition


def scan_with_lengths(xi: list[float], relative: float = 0.02, seed: int = 0, size: int = 41) -> PhaseScan:
    """A scan whose curves are a exp(-r/xi) with independent relative errors; xi 0: no CMI, inf: no decay."""
    levels = np.linspace(0.1, 0.9, len(xi))
    partition = Partition.centered((size,), widths=range(1, 9))
    config = {
        "data": {"name": "made", "shape": [size], "n_samples": 1000},
        "center": None,
        "radius": 0,
        "reach": None,
        "channel_axis": None,
        "method": "gaussian",
    }
    scan = PhaseScan.empty(levels, noise_schedule("interpolation"), partition, config)
    rng = np.random.default_rng(seed)
    r = np.arange(1, 9)
    for i, length in enumerate(xi):
        reach = size // 2
        y = np.zeros(8)  # xi = 0: nothing; infinite: a straight line to the reach
        if length > 0:
            y = (
                0.1 * (np.exp(-r / length) - np.exp(-reach / length))
                if np.isfinite(length)
                else 0.1 * (1 - r / reach)
            )
        error = relative * y + 1e-9
        scan.dataset.cmi.values[i] = y + error * rng.standard_normal(8)
        scan.dataset.covariance.values[i] = np.diag(error**2)
        scan.dataset.finished.values[i] = 1
    return scan


def test_a_peak_is_a_crossover_at_most() -> None:
    found = locate_transition(scan_with_lengths([1.0, 1.5, 4.0, 1.5, 1.0]))
    assert found.verdict == "crossover"
    assert found.level == pytest.approx(0.5)
    assert found.interval == pytest.approx((0.3, 0.7))
    assert "one sample size cannot tell" in found.message
    assert str(found).startswith("crossover: xi peaks at t = 0.5")


def test_a_divergence_is_a_peak_too() -> None:
    """Where the curve does not decay at all there is no length, but a rate of zero."""
    found = locate_transition(scan_with_lengths([1.0, 2.0, np.inf, 2.0, 1.0]))
    assert found.verdict == "crossover"
    assert found.level == pytest.approx(0.5)
    assert "more than the sample shows" in found.message


def test_monotonic_and_flat_lengths_are_no_peak() -> None:
    for xi in ([1.0, 1.2, 1.5, 2.0, 2.5], [2.5, 2.0, 1.5, 1.2, 1.0], [1.5] * 5, [2.0, 1.0, 0.7, 1.0, 2.0]):
        found = locate_transition(scan_with_lengths(xi))
        assert found.verdict == "none"
        assert np.isnan(found.level)


def test_what_cannot_be_told() -> None:
    few = locate_transition(scan_with_lengths([0, 1.0, 0, 1.0, 0]))
    assert (few.verdict, "resolved at 2 of 5" in few.message) == ("unresolved", True)
    gap = locate_transition(scan_with_lengths([1.0, 1.0, 0, 1.0, 1.0]))
    assert (gap.verdict, "between levels where some does" in gap.message) == ("unresolved", True)
    long = locate_transition(scan_with_lengths([1.0, 2.0, 4.0, 6.0, 8.0], size=19))
    assert (long.verdict, "beyond the 9 pixels" in long.message) == ("unresolved", True)
    flat = locate_transition(scan_with_lengths([1.0, 1.5, 2.0, 5.0, np.inf]))
    assert (flat.verdict, "of any size" in flat.message) == ("unresolved", True)


def test_rising_curves_are_no_flanks() -> None:
    """A CMI that rises with r is misuse, not a short length on the side of a peak."""
    scan = scan_with_lengths([1.0, 1.0, 1.0])
    r = np.arange(1, 9)
    for i, rate in enumerate((-0.1, -0.5, -0.1)):
        scan.dataset.cmi.values[i] = 0.001 * np.exp(-rate * r)
        scan.dataset.covariance.values[i] = np.diag((1e-5 * scan.dataset.cmi.values[i]) ** 2)
    assert locate_transition(scan).verdict == "unresolved"


@pytest.mark.parametrize("widths", [4, 8])
@pytest.mark.parametrize("claimed", [1.0, 0.05])
def test_false_positive_rate_from_errors_alone(widths: int, claimed: float) -> None:
    """40 scans of seven equal lengths, scattered by 10 %, known or not: a crossover in at most 5 %."""
    verdicts = []
    for seed in range(40):
        scan = scan_with_lengths([1.5] * 7, 0.1, seed)
        scan.dataset.covariance.values *= claimed**2
        scan.dataset.cmi.values[:, widths:] = np.nan
        verdicts.append(locate_transition(scan).verdict)
    assert verdicts.count("crossover") <= 2


@pytest.mark.slow
@pytest.mark.parametrize("n", [500, 5000])
def test_false_positive_rate_from_samples(n: int) -> None:
    """Gaussian chains have no transition: of 24 data sets at most one may be called a crossover."""
    verdicts = [
        locate_transition(phase_scan(chain_in_space(n, 21, 0.9, seed), levels=np.linspace(0.1, 0.9, 9))).verdict
        for seed in range(24)
    ]
    assert verdicts.count("crossover") <= 1
    assert verdicts.count("transition") == 0
    assert verdicts.count("none") > 12

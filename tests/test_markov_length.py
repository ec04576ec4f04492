"""The Markov length: known decays, errors that are honest, and no length where there is none."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cmi import exact_scan, fit_markov_length, phase_scan
from cmi.decay_fit import _misfit
from cmi.exact import GaussianChain, GaussianField, RepetitionCode
from cmi.exact.gaussian import GaussianModel
from cmi.forms import decay
from cmi.regions import Partition
from cmi.transition import scale_free

R = np.arange(1, 9)


@given(xi=st.floats(0.2, 20.0), log_amplitude=st.floats(-10.0, 2.0))
def test_an_exact_exponential(xi: float, log_amplitude: float) -> None:
    y = np.exp(log_amplitude - R / xi)
    fit = fit_markov_length(R, y, np.diag((1e-6 * y) ** 2))
    assert fit.success
    assert fit.value == pytest.approx(xi, rel=1e-4)
    assert fit.amplitude == pytest.approx(np.exp(log_amplitude), rel=1e-4)
    assert fit.rate == pytest.approx(1 / xi, rel=1e-4)
    assert fit.misfit < 1e-5
    assert fit.widths_used == tuple(range(1, 9))


def simulate(xi: float, relative: float, seed: int, correlation: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    y = np.exp(-R / xi)
    shared = correlation + (1 - correlation) * np.eye(len(R))
    covariance = np.outer(relative * y, relative * y) * shared
    noise = np.random.default_rng(seed).multivariate_normal(np.zeros(len(R)), covariance)
    return y + noise, covariance


@pytest.mark.parametrize("correlation", [0.0, 0.8])
def test_the_error_is_the_spread(correlation: float) -> None:
    fits = [fit_markov_length(R, *simulate(2.0, 0.1, seed, correlation)) for seed in range(400)]
    assert all(fit.success for fit in fits)
    values = np.array([fit.value for fit in fits])
    errors = np.array([fit.stderr for fit in fits])
    assert abs(values.mean() - 2.0) < 4 * values.std() / 20
    inside = np.mean(np.abs(values - 2.0) < 1.96 * errors)
    assert 0.90 <= inside <= 0.995


def test_constant_noise_ends_the_range_at_the_floor() -> None:
    """Widths are used up to the first that is not 3 errors above 0; a floor of positive noise is not fitted."""
    y = np.exp(-R / 1.0) + 1e-3 * np.random.default_rng(0).standard_normal(8)
    fit = fit_markov_length(R, y, 1e-6 * np.eye(8))
    assert fit.success
    assert fit.widths_used[-1] < 8
    assert fit.value == pytest.approx(1.0, abs=4 * fit.stderr)


@pytest.mark.parametrize(
    ("form", "curve"),
    [
        ("exponential", np.exp(-R / 2.0)),
        ("gaussian", np.exp(-(((R + 0.5) / 3.0) ** 2))),
        ("power", (R + 0.5) ** -1.5),
    ],
)
def test_forms_are_told_apart(form: str, curve: np.ndarray) -> None:
    """From curves with errors of 3 %; and what is chosen falls as it should."""
    chosen = []
    for seed in range(50):
        noise = np.random.default_rng(seed).standard_normal(8)
        fit = fit_markov_length(R, curve * (1 + 0.03 * noise), np.diag((0.03 * curve) ** 2))
        chosen.append(fit.form)
        assert fit.evidence[fit.form] == max(fit.evidence.values()) or fit.form == "exponential"
    assert chosen.count(form) >= 45, chosen
    exact = fit_markov_length(R, curve, np.diag((1e-6 * curve) ** 2))
    assert exact.form == form
    assert exact.coefficient == pytest.approx({"exponential": 0.5, "gaussian": 1 / 9, "power": 1.5}[form], rel=1e-4)
    assert exact.value == pytest.approx({"exponential": 2.0, "gaussian": 3.0, "power": np.inf}[form], rel=1e-4)
    assert ("infinite" in str(exact)) == (form == "power")
    drawn = exact.amplitude * np.exp(-exact.coefficient * decay(form, R))
    np.testing.assert_allclose(drawn, curve, rtol=1e-4)


def test_curves_that_fit_no_form_are_unresolved() -> None:
    y = np.exp(-R / 2.0) * np.where(R % 2, 2.0, 0.5)
    fit = fit_markov_length(R, y, np.diag((1e-4 * y) ** 2))
    assert not fit.success
    assert "no form fits" in fit.message
    wavy = fit_markov_length(R, np.exp(-R / 2.0) * (1 + 0.1 * (-1.0) ** R), np.diag((1e-4 * y) ** 2))
    assert wavy.success
    assert "off by 1" in wavy.message
    assert wavy.stderr > 0.02


@pytest.mark.parametrize("form", ["exponential", "gaussian", "power"])
@pytest.mark.parametrize("coefficient", [0.05, 0.5])
def test_the_end_of_c_is_part_of_the_form(form: str, coefficient: float) -> None:
    """I(A:C|B_r) = I_r - I_R: a curve that ends at the reach R has the coefficient of the endless one."""
    r = np.arange(0, 13)
    g, end = decay(form, r), decay(form, 13)
    y = 0.2 * (np.exp(-coefficient * g) - np.exp(-coefficient * end))
    fit = fit_markov_length(r, y, np.diag((1e-5 * y) ** 2), reach=13)
    assert fit.widths_used[0] == 1  # no buffer at all is another matter
    if form == "gaussian" and coefficient == 0.05:
        assert fit.widths_used == tuple(range(1, 13))
    assert fit.form == form or coefficient == 0.05
    if fit.form == form:
        assert fit.coefficient == pytest.approx(coefficient, rel=1e-3)
        assert fit.amplitude == pytest.approx(0.2, rel=1e-2)


def test_a_curve_without_decay_has_a_rate_of_zero() -> None:
    """What falls in a straight line to the reach is all correlated: c = 0, and no length."""
    r = np.arange(1, 13)
    y = 0.1 * (13 - r) / 13
    fit = fit_markov_length(r, y, np.diag((0.02 * y) ** 2), reach=13)
    assert not fit.success or fit.form == "power"
    assert abs(fit.rate) < 2 * fit.rate_stderr + 1e-6
    assert fit.upper == np.inf


def test_exact_curves_have_no_errors() -> None:
    fit = fit_markov_length(R, np.exp(-R / 3.0), np.zeros((8, 8)))
    assert fit.value == pytest.approx(3.0)


def test_bounds_where_there_is_no_fit() -> None:
    """A curve that is lost in the noise after two widths is short; one that never falls may be of any length."""
    lost = fit_markov_length(R, [1.0, 0.1, 0, 0, 0, 0, 0, 0], 1e-4 * np.eye(8))
    assert not lost.success
    assert 0.3 < lost.upper < 0.6
    assert fit_markov_length(R, np.full(8, 0.5), 1e-4 * np.eye(8)).upper == np.inf
    assert np.isnan(fit_markov_length(R, np.zeros(8), 1e-4 * np.eye(8)).upper)
    assert fit_markov_length([1, 2], [0.5, 0.5], 1e-4 * np.eye(2)).upper == np.inf
    clear = fit_markov_length(R, np.exp(-R / 2.0), 1e-8 * np.eye(8))
    assert clear.upper > clear.value
    assert clear.upper == pytest.approx(2.0, rel=0.04)


@pytest.mark.parametrize(
    ("model", "levels", "off"),
    [
        (GaussianChain(L=25), [0.35, 0.5, 0.65, 0.8], 0.002),
        (GaussianChain(L=33, a=0.97), [0.35, 0.5, 0.65], 0.005),
        (GaussianField(L=13), [0.5, 0.65, 0.8], 0.03),
        (GaussianField(L=15, kappa=0.2), [0.6, 0.7, 0.8], 0.03),
        (GaussianField(L=15, kappa=1.0), [0.5, 0.8], 0.03),
    ],
)
def test_the_length_of_an_endless_system(model: GaussianModel, levels: list[float], off: float) -> None:
    """What small widths add to the exponential does not shift xi: exact curves without noise, up to the edge."""
    scan = exact_scan(model, levels)
    for t, found in zip(levels, scan.markov_length, strict=True):
        truth = model.markov_length(t)
        assert found.success, (t, found.message)
        assert found.value == pytest.approx(truth, rel=off), t
        r = [each for each in found.widths_used if each >= found.first_width]
        np.testing.assert_allclose(found.at(r), scan.dataset.cmi.sel(t=t, r=r).values, rtol=0.005)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "samples", "level", "runs", "least"),
    [
        (GaussianChain(L=25), 2000, 0.65, 60, 51),
        (GaussianChain(L=25), 20000, 0.5, 60, 51),
        (GaussianField(L=11), 20000, 0.8, 30, 23),
    ],
)
def test_the_interval_holds_the_length_of_an_endless_system(
    model: GaussianModel, samples: int, level: float, runs: int, least: int
) -> None:
    """As often as it says: 95 % would fall below the least in one of 1,000 runs; and it is no wider than needed."""
    found = [
        phase_scan(model.sample(samples, seed), levels=[level], seed=seed).markov_length[0] for seed in range(runs)
    ]
    truth = model.markov_length(level)
    assert sum(each.interval[0] <= truth <= each.interval[1] for each in found) >= least
    spread = np.std([each.rate for each in found], ddof=1)
    assert np.median([each.rate_stderr for each in found]) < (1.5 if len(model.shape) == 1 else 2.5) * spread


@pytest.mark.parametrize(
    ("dims", "xi", "p", "b", "widths", "reach", "error"),
    [
        (1, 2.0, 0.0, 0.5, 4, None, 0.003),
        (1, 2.0, 0.0, -0.5, 6, None, 0.01),
        (1, 3.0, 0.0, 0.3, 6, 7, 0.01),
        (2, 3.0, 0.25, 0.0, 5, 6, 0.003),
        (2, 6.0, 0.5, 0.0, 11, 12, 0.003),
        (2, 2.0, 0.25, 0.3, 8, 12, 0.03),
    ],
)
def test_the_bent_exponential(
    dims: int, xi: float, p: float, b: float, widths: int, reach: int | None, error: float
) -> None:
    """I_r = l^-p e^(-r/xi) (1 + b e^(-r/xi)), less that of the reach: as documented, and covered."""

    def endless(r: np.ndarray) -> np.ndarray:
        return np.asarray((r + 0.5) ** -p * np.exp(-r / xi) * (1.0 + b * np.exp(-r / xi)))

    r = np.arange(1.0, widths + 1.0)
    y = endless(r) - (0.0 if reach is None else endless(np.array([float(reach)])))
    held = 0
    for seed in range(60):
        noisy = y * (1.0 + error * np.random.default_rng(seed).standard_normal(widths))
        found = fit_markov_length(r, noisy, np.diag((error * y) ** 2), reach=reach, dims=dims)
        held += found.interval[0] <= xi <= found.interval[1]
        if found.success and found.form == "exponential":
            late = r[r >= found.first_width]
            np.testing.assert_allclose(found.at(late), y[r >= found.first_width], rtol=0.1)
    assert held >= 51  # 95 % would fall below in one of 1,000 runs


@given(st.integers(0, 2**32 - 1), st.integers(3, 12), st.floats(-4.0, 4.0))
def test_the_scatter_of_a_fit(seed: int, widths: int, noise: float) -> None:
    """With it chi^2 is its degrees of freedom; it is 0 where chi^2 is below them already."""
    rng = np.random.default_rng(seed)
    z, slopes = rng.standard_normal(widths), np.arange(widths) + rng.uniform(-0.3, 0.3, widths)
    variances = 10.0 ** (noise + rng.uniform(-2.0, 2.0, widths))
    found = _misfit(z, np.ones(widths), slopes, variances)
    weights = 1.0 / (variances + found**2)
    root = np.sqrt(weights)
    line = np.stack([np.ones(widths), slopes], axis=1)
    left = root * z - (root[:, None] * line) @ np.linalg.lstsq(root[:, None] * line, root * z, rcond=None)[0]
    if found > 0.0:
        assert left @ left == pytest.approx(widths - 2, rel=1e-5)
    else:
        assert left @ left <= widths - 2


def test_a_power_in_front_that_theory_says() -> None:
    """Of global order in one dimension; told of it, the fit gives the length that is lost without."""
    r = np.arange(1, 9)
    y = (r + 0.5) ** -0.5 * np.exp(-r / 2.0)
    covariance = np.diag((0.01 * y) ** 2)
    told = fit_markov_length(r, y, covariance, prefactor=(0.5, 0.0))
    assert told.value == pytest.approx(2.0, rel=1e-3)
    assert told.prefactor == 0.5
    np.testing.assert_allclose(told.at(r), y, rtol=1e-3)
    tiny = fit_markov_length(r, 1e-80 * y, 1e-160 * covariance, prefactor=(0.5, 0.0))
    assert tiny.value == pytest.approx(told.value, rel=1e-6)
    assert fit_markov_length(r, y, covariance).interval[1] < 2.0
    for wrong in ((0.5, -1.0), (np.nan, 0.0), 0.5):
        with pytest.raises(ValueError, match="prefactor must be a mean and a standard deviation"):
            fit_markov_length(r, y, covariance, prefactor=wrong)  # type: ignore[arg-type]


def test_order_across_the_sample_leaves_the_power_open() -> None:
    """A repetition code has the power 1/2; taken for a chain, its intervals miss the truth half of the time."""
    code = RepetitionCode(L=13)
    missed = 0
    for seed in range(12):
        scan = phase_scan(code.sample(20_000, seed), levels=[0.4], method="discrete", noise="flip")
        assert scan.config["order"] == 1.0
        low, high = scan.markov_length[0].interval
        missed += not low <= code.markov_length(0.4) <= high
    assert missed <= 1
    chain = GaussianChain(L=25)
    scan = phase_scan(chain.sample(2000, 0), levels=[0.5])
    assert scan.config["order"] == pytest.approx(0.9**11, abs=0.15)
    again = fit_markov_length(scan.dataset.r.values, scan.dataset.cmi[0], scan.dataset.covariance[0], reach=12)
    assert scan.markov_length[0].interval == pytest.approx(again.interval)
    assert exact_scan(code, [0.3]).config["order"] == 1.0
    assert "order" not in phase_scan(np.random.default_rng(0).normal(size=(300, 5, 5)), levels=[0.5]).config


def test_sizes_share_one_power_in_front() -> None:
    """A short chain is ordered from end to end, a long one of the same is not: curves must not cross by that."""
    levels = [0.5, 0.6, 0.7]
    scans = {float(L): exact_scan(GaussianChain(L=L, a=0.97), levels) for L in (13, 21, 33)}
    assert scans[13.0].order > 0.75 > scans[33.0].order
    _, curves, quantity = scale_free(scans)
    assert quantity == "length"
    for size, scan in scans.items():
        rates = [each.rate for each in scan.lengths_given(scans[33.0].order)]
        np.testing.assert_allclose(curves[size][0], -size * np.array(rates))
    assert abs(scans[13.0].markov_length[1].rate + curves[13.0][0, 1] / 13.0) > 1e-3


def test_the_size_of_a_does_not_bend_the_curve() -> None:
    """It is the distance from the face of A that the power in front counts."""
    field = GaussianField(L=31, kappa=0.3)
    level = 0.65
    noisy = field.covariance + np.eye(31**2) / float(field.schedule().snr(level))
    regions = Partition.centered((31, 31), radius=5, widths=range(1, 7))

    def half_log_det(*parts: np.ndarray) -> float:
        columns = np.concatenate(parts)
        return 0.5 * float(np.linalg.slogdet(noisy[np.ix_(columns, columns)])[1])

    y = []
    for r in range(1, 7):
        a, b, c = regions.A, regions.B(r), regions.C(r)
        y.append(half_log_det(a, b) + half_log_det(b, c) - half_log_det(b) - half_log_det(a, b, c))
    held = 0
    for seed in range(40):
        noise = np.random.default_rng(seed).standard_normal(6)
        found = fit_markov_length(
            range(1, 7), y * (1.0 + 0.02 * noise), np.diag((0.02 * np.array(y)) ** 2), reach=10, radius=5, dims=2
        )
        held += found.interval[0] <= field.markov_length(level) <= found.interval[1]
    assert held >= 32


def test_a_short_curve_up_to_the_reach_is_bounded_above_its_length() -> None:
    """Where C ends the curve falls to 0 by itself: that is no sign of a short length."""
    r = np.arange(1, 4)
    y = np.exp(-r / 2.0) - np.exp(-4.0 / 2.0)
    assert fit_markov_length(r, y, np.diag((1e-3 * y) ** 2), reach=4).upper > 2.0
    assert fit_markov_length(r, (4.0 - r) / 4.0, 1e-6 * np.eye(3), reach=4).upper == np.inf


def test_a_width_without_a_number_ends_the_range() -> None:
    y = np.exp(-R / 2.0)
    covariance = np.diag((0.01 * y) ** 2)
    covariance[7], covariance[:, 7] = np.nan, np.nan
    assert fit_markov_length(R, y, covariance).widths_used == tuple(range(1, 8))


def test_a_steep_first_pixel_is_left_out() -> None:
    """Where one width departs by more than any bend, most of the fit starts after it, and says so."""
    y = np.exp(-R / 3.0) * np.where(R == 1, 2.0, 1.0)
    fit = fit_markov_length(R, y, np.diag((0.02 * y) ** 2))
    assert fit.first_width == 2
    assert f"mostly from {fit.first_width} on" in fit.message
    assert fit.interval[0] < 3.0 < fit.interval[1]
    assert np.isnan(fit_markov_length(R, np.zeros(8), np.eye(8)).at([1, 2])).all()


def test_the_prefactor_of_two_dimensions() -> None:
    """A power in front is found within its bounds, widens the interval, and is none in a chain."""
    for p in (0.0, 0.25, 0.5):
        y = (R + 0.5) ** -p * np.exp(-R / 2.0)
        flat = fit_markov_length(R, y, np.diag((0.01 * y) ** 2), dims=2)
        chain = fit_markov_length(R, y, np.diag((0.01 * y) ** 2))
        assert flat.interval[0] < 2.0 < flat.interval[1]
        assert chain.prefactor == 0.0
        assert flat.stderr > 1.5 * chain.stderr
        assert flat.value > chain.value
    assert not chain.interval[0] < 2.0 < chain.interval[1]


def test_few_widths_do_not_fake_a_length() -> None:
    """Flat curves with scatter of their own: a decay is claimed in about 2.5 %, with four widths as with eight."""
    for n in (4, 8):
        rng = np.random.default_rng(n)
        curves = np.exp(0.1 * rng.standard_normal((200, n)))
        claimed = [fit_markov_length(R[:n], y, np.diag((0.001 * y) ** 2)).success for y in curves]
        assert np.mean(claimed) < 0.05


@pytest.mark.parametrize(
    ("cmi", "message"),
    [
        (np.zeros(8), "no width stands above the noise floor"),
        (-np.ones(8), "no width stands above the noise floor"),
        ([1.0, 0.5, 0, 0, 0, 0, 0, 0], "2 of 8 widths stand above the noise floor, 4 are needed"),
        (np.full(8, np.nan), "no width"),
        ([np.inf, *np.exp(-R[1:])], "no width"),
        ([1.0, 0.6, np.nan, 0.2, 0.1, 0.1, 0.1, 0.1], "2 of 8 widths"),
        (np.full(8, 0.5), "cannot be told from 0"),
        (0.1 * R, "cannot be told from 0"),
    ],
)
def test_unresolved(cmi: Any, message: str) -> None:
    fit = fit_markov_length(R, cmi, 1e-4 * np.eye(8))
    assert not fit.success
    assert np.isnan(fit.value)
    assert message in fit.message
    assert "unresolved" in str(fit)
    assert np.isfinite(fit.rate) == ("told from 0" in message)


def test_no_length_from_independent_data() -> None:
    """False positives: 100 data sets without any dependence, at 3 noise levels each, give a length in 1 %."""
    found = 0
    for seed in range(100):
        x = np.random.default_rng(seed).standard_normal((300, 15))
        found += sum(m.success for m in phase_scan(x, levels=[0.1, 0.4, 0.7]).markov_length)
    assert found <= 3


def test_bad_input() -> None:
    with pytest.raises(ValueError, match="do not belong together"):
        fit_markov_length(R, np.ones(7), np.eye(8))
    with pytest.raises(ValueError, match="widths must rise"):
        fit_markov_length(R[::-1], np.ones(8), np.eye(8))


def test_widths_below_the_floor_are_not_used() -> None:
    """A curve that is as high as what the method reads without any CMI has no length, however small its errors."""
    y = 0.3 * np.exp(-R / 2.0)
    covariance = np.diag((0.01 * y) ** 2)
    assert fit_markov_length(R, y, covariance, floor=-0.1).widths_used == tuple(R)
    assert fit_markov_length(R, y, covariance, floor=0.02).widths_used == tuple(R[y > 0.0206])
    assert not fit_markov_length(R, y, covariance, floor=y, floor_stderr=0.01 * y).success
    assert fit_markov_length(R, y, covariance, floor=0.5 * y, floor_stderr=0.3 * y).widths_used == ()
    assert fit_markov_length(R, y, covariance, floor=0.5 * y, floor_stderr=0.1 * y).success


def test_a_curve_that_is_all_bias_has_no_length() -> None:
    """Clean images in which A is the mean of its ring but for noise: ksg reads 0.1 nats where the CMI is 0."""
    rng = np.random.default_rng(0)
    ring = rng.standard_normal((1000, 8))
    x = np.sqrt(8.0) * ring.mean(axis=1)[:, None] + 0.3 * rng.standard_normal((1000, 121))
    near = np.abs(np.arange(121) // 11 - 5) <= 1
    near &= np.abs(np.arange(121) % 11 - 5) <= 1
    near[60] = False
    x[:, near] = ring
    scan = phase_scan(x.reshape(-1, 11, 11), levels=[0.0], method="ksg", widths=range(1, 5))
    assert scan.dataset.cmi.values[0, 0] > 10.0 * scan.dataset.stderr.values[0, 0]  # what it reads
    assert not scan.markov_length[0].success
    assert "above the noise floor" in scan.markov_length[0].message


@pytest.mark.parametrize("scale", [1e-300, 1e-170, 1e-12, 1e12, 1e155, 1e300])
def test_units_of_the_curve_do_not_matter(scale: float) -> None:
    curve = np.exp(-R / 2.0)
    exact = fit_markov_length(R, scale * curve, np.zeros((8, 8)))
    assert exact.value == pytest.approx(2.0, rel=1e-6)
    assert exact.amplitude == pytest.approx(scale, rel=1e-6)
    if 1e-150 < scale < 1e150:
        plain = fit_markov_length(R, curve, np.diag((0.02 * curve) ** 2))
        scaled = fit_markov_length(R, scale * curve, np.diag((0.02 * scale * curve) ** 2))
        assert scaled.interval == pytest.approx(plain.interval, rel=1e-6)


@pytest.mark.parametrize(
    ("widths", "curve", "covariance", "options"),
    [
        ([0], [0.1], [[1e-6]], {}),
        ([], [], np.zeros((0, 0)), {}),
        (R[:4], [0.01, 0.03, 0.09, 0.27], 1e-6 * np.eye(4), {"reach": 300}),
        (R, 0.01 * 1.5**R, np.diag((1e-3 * 0.01 * 1.5**R) ** 2), {"reach": 40}),
        (R[:4], np.exp(-10.0 * (R[:4] - 1)), np.diag((1e-3 * np.exp(-10.0 * (R[:4] - 1))) ** 2), {"radius": 30}),
        (R[:4], 0.1 * np.exp(-R[:4]), 1e-8 * np.eye(4) + np.nan * (np.eye(4)[::-1]), {}),
        (R[:4], 0.3 * np.exp(-R[:4] / 3), 1e-6 * np.eye(4) - 0.9e-6, {}),
        (R[:4], 0.3 * np.exp(-R[:4] / 3), 1e-8 * np.ones((4, 4)), {}),
        ([1, 2], [1.0, -np.inf], 1e-6 * np.eye(2), {}),
        (R, np.exp(-R / 2.0), 1e-6 * np.eye(8), {"floor": 0.01, "floor_stderr": np.inf}),
        (R[:4], np.exp(-R[:4] / 2.0), np.diag([0.0, 1e-20, 1e-20, 1e-20]), {}),
        (R, np.exp(-R / 2.0), -np.eye(8), {}),
    ],
)
def test_any_curve_has_an_answer(widths: Any, curve: Any, covariance: Any, options: dict[str, Any]) -> None:
    """Without an error or a warning, and what is claimed is finite and holds its own value."""
    fit = fit_markov_length(widths, curve, covariance, **options)
    if fit.success and fit.form != "power":
        assert np.isfinite([fit.value, fit.stderr]).all()
        assert fit.interval[0] <= fit.value <= fit.interval[1]
    else:
        assert fit.message


def test_scans_without_a_buffer_have_no_length() -> None:
    x = np.random.default_rng(0).standard_normal((200, 9))
    scan = phase_scan(x, levels=[0.3, 0.5], widths=[0])
    assert [m.success for m in scan.markov_length] == [False, False]


def test_geometry_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="radius must be at least 0, got -2"):
        fit_markov_length(R, np.ones(8), np.eye(8), radius=-2)
    with pytest.raises(ValueError, match="dims must be at least 1, got 0"):
        fit_markov_length(R, np.ones(8), np.eye(8), dims=0)


def test_what_pure_noise_reads_is_a_floor() -> None:
    """Where a method reads CMI of pure noise no lower CMI counts; within its error it changes nothing."""
    scan = phase_scan(GaussianChain(L=25).sample(30000, 0), levels=[0.5, 0.6, 1.0], method="copula", seed=1)
    assert not scan.floor[0].any()
    before = [length.widths_used for length in scan.markov_length]
    assert len(before[0]) >= 4
    pure, stderr = scan.dataset.cmi.values[2], scan.dataset.stderr.values[2]
    pure[:] = 2.0 * stderr
    assert not scan.floor[0].any()
    pure[:] = scan.dataset.cmi.values[0, 1] + 4.0 * stderr
    assert (scan.floor[0] == pure).all()
    assert [len(length.widths_used) for length in scan.markov_length] == [1, 1, 0]
    assert "above the noise floor" in scan.markov_length[0].message
    scan.dataset.finished.values[2] = 0
    assert [length.widths_used for length in scan.markov_length][:2] == before[:2]

"""Several sizes: crossings and collapse of curves that are known, verdicts, and how often they are wrong."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from cmi import PhaseScan, exact_scan, locate_transition, open_dataset, phase_scan, scan_sizes
from cmi.data.sample_set import SampleSet
from cmi.exact import Cat, ClosedLoops, ExactModel, GaussianChain, GaussianField
from cmi.exact.closed_loops import CRITICAL_FLIP
from cmi.finite_size import collapse, crossings
from cmi.sizes import sized
from cmi.transition import refine_levels, scale_free

FloatArray = NDArray[np.float64]
LEVELS = np.linspace(0.1, 0.9, 9)


def scaling_curves(
    t: FloatArray,
    sizes: tuple[float, ...],
    seed: int,
    *,
    correction: float = 0.0,
    error: float = 0.005,
    draws: int = 60,
) -> dict[float, FloatArray]:
    """A peak that falls through t_c = 0.4 with nu = 1.3, with independent noise, and draws of it."""
    rng = np.random.default_rng(seed)
    curves = {}
    for size in sizes:
        x = (t - 0.4) * size ** (1 / 1.3)
        true = 0.3 / (1.0 + np.exp(x)) + 0.05 * np.exp(-((x + 1) ** 2)) + correction / size
        once = true + error * rng.standard_normal(len(t))
        curves[size] = np.concatenate([once[None], once + error * rng.standard_normal((draws, len(t)))])
    return curves


@pytest.mark.parametrize("correction", [0.0, 0.2])
def test_crossing_and_collapse_of_known_curves(correction: float) -> None:
    """Over 4 data sets: t_c and nu lie in their intervals, also where corrections move the crossings."""
    t = np.linspace(0.3, 0.5, 11)
    inside, nus, moved = 0, 0, []
    for seed in range(4):
        curves = scaling_curves(t, (5.0, 10.0, 20.0, 40.0), seed, correction=correction, draws=30)
        found = crossings(t, curves)
        assert found
        assert all(each.falling for each in found)
        moved += [each.level for each in found if each.small == 5.0]
        fit = collapse(t, curves, [each.level for each in found])
        assert fit is not None
        assert fit.likely
        inside += fit.interval[0] < 0.4 < fit.interval[1]
        nus += fit.nu_interval[0] < 1.3 < fit.nu_interval[1]
        assert fit.interval[1] - fit.interval[0] < 0.1
    assert inside >= 3
    assert nus >= 3
    if correction:
        assert np.mean(moved) < 0.38  # crossings alone would put it there


def test_curves_that_scale_differently_do_not_collapse() -> None:
    t = np.linspace(0.3, 0.5, 11)
    curves = scaling_curves(t, (5.0, 10.0, 20.0), 0, error=0.001)
    curves[20.0] = curves[20.0] + 0.05 * np.sin(60 * t)
    found = collapse(t, curves, [0.4])
    assert found is not None
    assert not found.likely


def test_parallel_and_noisy_curves_do_not_cross() -> None:
    rng = np.random.default_rng(0)
    flat = {size: 0.01 * rng.standard_normal((60, 9)) for size in (1.0, 2.0, 3.0)}
    assert crossings(LEVELS, flat) == ()
    shifted = {size: 0.01 * rng.standard_normal((60, 9)) + size for size in (1.0, 2.0)}
    assert crossings(LEVELS, shifted) == ()
    assert collapse(LEVELS[:2], flat, [0.4]) is None


def loops(sides: tuple[int, ...], samples: tuple[int, ...], levels: list[float]) -> dict[float, PhaseScan]:
    models = {
        5.0 * s: ClosedLoops(L=5 * s + 1, side=s, samples=n, seed=s) for s, n in zip(sides, samples, strict=True)
    }
    return {size: exact_scan(model, levels, widths=[model.side]) for size, model in models.items()}


@pytest.mark.slow
def test_closed_loops_have_their_transition() -> None:
    """Three sizes in seconds; five, and p_c within 0.005, in `benchmarks/closed_loops.py`."""
    scans = loops((1, 2, 4), (6_000, 3_000, 1_000), [0.16, 0.19, 0.205, 0.22, 0.235, 0.25, 0.28])
    found = locate_transition(scans)
    assert found.verdict == "transition", found.message
    assert found.interval[0] < 2 * CRITICAL_FLIP < found.interval[1]
    assert found.interval[1] - found.interval[0] < 0.08
    assert found.nu_interval[0] < 1.53 < found.nu_interval[1]
    assert found.quantity == "cmi"
    two = locate_transition({size: scans[size] for size in (10.0, 20.0)})
    assert two.verdict == "crossover"
    assert "three sizes" in two.message
    one = locate_transition({10.0: scans[10.0]})
    assert one.verdict == "unresolved"  # a single width


def test_scans_of_exact_models_know_their_errors() -> None:
    model = ClosedLoops(L=10, side=1, samples=500)
    scan = exact_scan(model, [0.2, 0.24])
    local = model.local(0.24, 2)
    assert scan.dataset.cmi.sel(t=0.24, r=2) == pytest.approx(local.mean())
    assert scan.dataset.stderr.sel(t=0.24, r=2) == pytest.approx(local.std(ddof=1) / np.sqrt(500))
    assert scan.reach == 4
    drawn = scan.draws(400, 0)
    np.testing.assert_allclose(drawn.std(axis=0), scan.dataset.stderr.values, rtol=0.2)
    levels_together = np.corrcoef(drawn[:, 0, 0], drawn[:, 1, 0])[0, 1]
    assert levels_together > 0.5  # the same flips
    chain = exact_scan(GaussianChain(L=25), [0.5])
    assert chain.dataset.stderr.values.max() < 1e-14
    assert chain.markov_length[0].value == pytest.approx(1.07, abs=0.01)


def rates(
    model: ExactModel, n: int, sizes: tuple[int, ...], runs: int, levels: FloatArray = LEVELS
) -> Counter[str]:
    found: Counter[str] = Counter()
    for seed in range(runs):
        samples = SampleSet(model.sample(n, seed), model.name, "array", n)
        found[locate_transition(scan_sizes(samples, sizes, levels=levels)).verdict] += 1
    return found


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "n", "sizes"),
    [
        (GaussianChain(L=25, a=0.5), 4000, (5, 15, 25)),
        (GaussianChain(L=25, a=0.9), 1000, (5, 15, 25)),
        (GaussianField(L=15, kappa=0.3), 2000, (5, 9, 15)),
        (Cat(L=25, dims=1), 1000, (5, 15, 25)),
        (Cat(L=15, dims=2), 1000, (5, 9, 15)),
    ],
    ids=["short chain", "chain", "field", "cat on a line", "cat"],
)
def test_no_transition_where_there_is_none(model: ExactModel, n: int, sizes: tuple[int, ...]) -> None:
    """10 data sets each; 200 of them in `benchmarks/verdicts.py`."""
    found = rates(model, n, sizes, 10)
    assert found["transition"] == 0
    assert found["none"] + found["unresolved"] >= 9, found


def test_the_short_chain_has_no_transition() -> None:
    """Where sizes are many times xi the verdict is none, not just unresolved."""
    found = rates(GaussianChain(L=25, a=0.5), 20_000, (5, 15, 25), 5)
    assert found == {"none": 5}


def test_the_same_a_at_all_sizes_is_compared_by_its_decay() -> None:
    x = GaussianChain(L=41, a=0.8).sample(5000, 0)
    scans = {
        float(size): phase_scan(x[:, 20 - size // 2 : 21 + size // 2], levels=[0.4, 0.5, 0.6, 0.7, 0.8])
        for size in (17, 29, 41)
    }
    levels, curves, quantity = scale_free(scans)
    assert quantity == "length"
    rate = scans[41.0].markov_length[2].rate
    assert curves[41.0][0, list(levels).index(0.6)] == pytest.approx(-41 * rate)
    found = locate_transition(scans)
    assert found.verdict in ("none", "unresolved")
    assert found.quantity == "length"


def test_crops_and_block_means() -> None:
    x = np.arange(2 * 12 * 12 * 3.0).reshape(2, 12, 12, 3)
    samples = SampleSet(x, "x", "array", 2, channel_axis=2)
    crop = sized(samples, 5, center=(6, 5))
    np.testing.assert_array_equal(crop.samples, x[:, 4:9, 3:8])
    assert (crop.size, crop.crop) == (5, "5 around 6,5")
    block = sized(samples, 10, how="block", blocks=5)
    assert block.shape == (5, 5, 3)
    np.testing.assert_allclose(block.samples[0, 0, 0], 2.0 * x[0, 1:3, 1:3].mean(axis=(0, 1)))
    for bad, message in (
        (lambda: sized(samples, 13), "a window of 13 pixels around pixel 6 does not fit into the 12 of an axis"),
        (lambda: sized(samples, 7, how="block", blocks=5), "must be multiples of the smallest, 5, got 7"),
        (lambda: sized(samples, 5, center=(1, 2, 3)), "needs one number for each of 2 axes"),
        (lambda: scan_sizes(samples, [5], levels=[0.5], widths=[1]), "widths follows from the sizes"),
        (lambda: scan_sizes(samples, [], levels=[0.5]), "sizes are empty"),
        (lambda: scan_sizes(samples, [3], levels=[0.5]), "every size must be at least 5"),
        (lambda: scan_sizes(samples, [5], levels=[0.5], how="zoom"), "made by"),  # type: ignore[arg-type]
        (lambda: scan_sizes(samples, [5], levels=[0.5], how="block", noise="flip"), "for Gaussian noise"),
    ):
        with pytest.raises(ValueError, match=message):
            bad()


def test_means_of_noised_blocks_are_noised_means() -> None:
    """Block means times b, noised like pixels, have the covariance of the means of noised pixels, times b."""
    x = GaussianField(L=10, kappa=0.5).sample(40_000, 0)
    t, rng = 0.4, np.random.default_rng(1)
    noised = (1 - t) * x + t * rng.standard_normal(x.shape)
    means = 2.0 * noised.reshape(-1, 5, 2, 5, 2).mean(axis=(2, 4))
    block = sized(SampleSet(x, "x", "array", len(x)), 10, how="block", blocks=5).samples
    again = (1 - t) * block + t * rng.standard_normal(block.shape)
    for these in (means, again):
        assert np.cov(these[:, 2, 2], these[:, 2, 3])[0, 1] == pytest.approx(
            (1 - t) ** 2 * np.cov(block[:, 2, 2], block[:, 2, 3])[0, 1], abs=0.03
        )
        assert these[:, 2, 2].var() == pytest.approx((1 - t) ** 2 * block[:, 2, 2].var() + t**2, rel=0.03)


def test_refining_adds_levels_at_the_peak_and_keeps_the_others() -> None:
    data = open_dataset("exact:chain?L=15&n=1000")
    coarse = phase_scan(data, levels=[0.3, 0.5, 0.7], seed=3)
    fine = phase_scan(data, levels=[0.3, 0.5, 0.7], seed=3, refine=3)
    assert fine.complete
    assert fine.dataset.sizes["t"] == 6
    assert set(coarse.dataset.t.values) < set(fine.dataset.t.values)
    same = fine.dataset.sel(t=coarse.dataset.t)
    np.testing.assert_array_equal(same.cmi.values, coarse.dataset.cmi.values)
    np.testing.assert_array_equal(same.blocks.values, coarse.dataset.blocks.values)
    assert refine_levels(coarse, 1) == [0.6]  # the longest is at the most noise
    done = []
    phase_scan(data, levels=[0.3, 0.7], refine=2, progress=lambda *state: done.append(state))
    assert done == [(1, 4), (2, 4), (3, 4), (4, 4)]
    with pytest.raises(ValueError, match="refine must be at least 0"):
        phase_scan(data, levels=[0.3], refine=-1)
    assert phase_scan(data, levels=[0.5], refine=2).dataset.sizes["t"] == 1  # nothing to halve


def test_scans_that_do_not_belong_together() -> None:
    data = open_dataset("exact:chain?L=15&n=300")
    one, other = (phase_scan(data, levels=[0.3, 0.5], noise=noise) for noise in ("interpolation", "ve"))
    with pytest.raises(ValueError, match="must agree in noise"):
        locate_transition({5.0: one, 15.0: other})
    with pytest.raises(ValueError, match="sizes must be positive"):
        locate_transition({-1.0: one, 15.0: one})
    apart = phase_scan(data, levels=[0.4, 0.6])
    found = locate_transition({5.0: one, 15.0: apart})
    assert (found.verdict, "0 noise levels" in found.message) == ("unresolved", True)


def test_draws_without_blocks_come_from_the_covariance() -> None:
    scan = phase_scan(open_dataset("exact:chain?L=15&n=1000"), levels=[0.4, 0.6])
    both = scan.draws(2000, 0)
    np.testing.assert_allclose(both.std(axis=0), scan.dataset.stderr.values, rtol=0.1)
    bare = PhaseScan(scan.dataset.drop_vars("blocks"))
    drawn = bare.draws(2000, 0)
    np.testing.assert_allclose(drawn.std(axis=0), scan.dataset.stderr.values, rtol=0.1)
    np.testing.assert_allclose(
        np.corrcoef(drawn[:, 0].T), np.corrcoef(both[:, 0].T), atol=0.3
    )  # widths go together in both
    assert abs(np.corrcoef(drawn[:, 0, 0], drawn[:, 1, 0])[0, 1]) < 0.1  # levels do not
    with pytest.raises(ValueError, match="blocks does not hold numbers"):
        PhaseScan(scan.dataset.assign(blocks=("t", [0.0, 1.0])))


def test_levels_without_blocks_have_their_own_errors() -> None:
    """Resumed from a file that has none: these levels are not exact."""
    x = GaussianChain(L=9).sample(400, 0)
    old = PhaseScan(phase_scan(x, levels=[0.3, 0.5]).dataset.drop_vars("blocks"))
    scan = phase_scan(x, levels=[0.3, 0.5, 0.7], resume=old)
    np.testing.assert_allclose(scan.draws(2000, 0).std(axis=0), scan.dataset.stderr.values, rtol=0.15)


def test_rounding_is_no_cmi() -> None:
    """At t = 1 of closed loops nothing is left but rounding, which must not decide anything."""
    levels = [0.18, 0.22, 0.26, 0.3]
    small, with_end = (loops((1, 2, 3), (600, 600, 600), each) for each in (levels, [*levels, 1.0]))
    assert locate_transition(with_end).verdict == locate_transition(small).verdict
    assert max(c.level for c in crossings(*scale_free(with_end)[:2])) < 0.3
    assert not with_end[15.0].markov_length[-1].success


def test_a_crossing_beside_a_level_without_error() -> None:
    rng = np.random.default_rng(0)
    difference = np.tile([-0.01, 1e-3], (100, 1))
    difference[1:, 0] += 1e-3 * rng.standard_normal(99)
    found = crossings(np.array([0.3, 1.0]), {1.0: np.zeros((100, 2)), 2.0: difference})
    assert found[0].level == pytest.approx(0.3 + 0.7 * 10 / 11, abs=1e-3)
    with pytest.raises(ValueError, match="at least three sizes, got 2"):
        collapse(LEVELS, {1.0: np.zeros((3, 9)), 2.0: np.zeros((3, 9))}, [0.5])


def test_channels_first_by_a_negative_axis() -> None:
    x = np.random.default_rng(0).random((60, 3, 16, 16))
    for axis in (0, -3):
        scans = scan_sizes(SampleSet(x, "x", "array", 60, channel_axis=axis), [5, 15], levels=[0.5])
        assert [scan.config["radius"] for scan in scans.values()] == [0, 1]
    with pytest.raises(ValueError, match="has no channel axis 7 beside space"):
        sized(SampleSet(x, "x", "array", 60, channel_axis=7), 5)
    with pytest.raises(ValueError, match="levels are empty"):
        exact_scan(GaussianChain(), [])
    assert exact_scan(GaussianChain(), [0.3, 0.3]).complete


# What no type checker would let through.
locate: Any = locate_transition
compare: Any = scale_free
refined: Any = refine_levels
window: Any = sized


@pytest.mark.parametrize(
    ("message", "call"),
    [
        ("or a dict of size to PhaseScan, got list", lambda scan: locate([scan])),
        ("or a dict of size to PhaseScan, got NoneType", lambda _: locate(None)),
        ("or a dict of size to PhaseScan, got str", lambda _: locate({5: "a.nc"})),
        ("sizes are lengths in pixels, got 'small'", lambda scan: compare({"small": scan})),
        ("count must be a whole number, got 2.5", lambda scan: refined(scan, 2.5)),
        ("count must be at least 0, got -1", lambda scan: refined(scan, -1)),
        ("centre must be a whole number", lambda _: window(open_dataset("digits"), 5, center=[3, 2.5])),
        ("centre must be a whole number", lambda _: window(open_dataset("digits"), 5, center="ab")),
        ("levels and widths of a scan rise", lambda scan: PhaseScan(scan.dataset.isel(t=[1, 0]))),
    ],
)
def test_what_is_no_scan_and_no_size(message: str, call: Callable[[PhaseScan], object]) -> None:
    scan = phase_scan(np.random.default_rng(0).standard_normal((100, 9)), levels=[0.3, 0.6])
    with pytest.raises((TypeError, ValueError), match=message):
        call(scan)

"""The mixture over samples: against a slow twin, against exact models, and where it has nothing to say."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from commands import call, fails
from scipy.integrate import quad

from cmi import PhaseScan, cmi_profile, estimate_cmi, open_dataset, phase_scan
from cmi.exact import Cat, ExactModel, GaussianChain, GaussianField, HiddenMarkovChain, RepetitionCode
from cmi.regions import Partition
from estimators.mixture import fit_mixture, mixture_profile
from estimators.noised_posterior import cross_entropy, flipped_cross_entropy
from estimators.threads import serial


def naive(x: np.ndarray, sizes: tuple[int, ...], snr: float, noisy: np.ndarray, seed: int) -> np.ndarray:
    """Local CMI (cuts, n) by the formulas as they stand: the first-order excess, the jackknife of two halves."""
    n, a = len(x), sizes[0]
    order = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(2,))).permutation(n)
    halves = [(-0.5, order[: n // 2]), (-0.5, order[n // 2 :]), (2.0, np.arange(n))]
    ends = np.cumsum(sizes)
    nodes, weights = np.polynomial.hermite_e.hermegauss(100)
    weights = weights / weights.sum()
    entropy = np.zeros((len(sizes) - 1, n))
    for i, (sign, among) in product(range(n), halves):
        others = among[among != i]
        for region in range(len(sizes) - 1):
            for column in range(a):
                seen = [*range(column), *range(a, ends[region + 1])]
                log_w = -0.5 * snr * ((noisy[i, seen] - x[others][:, seen]) ** 2).sum(axis=1)
                w = np.exp(log_w - log_w.max())
                w /= w.sum()
                for z, weight in zip(nodes, weights, strict=True):
                    y = x[i, column] + z / np.sqrt(snr)
                    kernel = np.exp(-0.5 * snr * (y - x[others, column]) ** 2) * np.sqrt(snr / (2 * np.pi))
                    p = float((w * kernel).sum())
                    entropy[region, i] += (
                        sign * weight * (-np.log(p) - 0.5 * (w**2 * ((kernel / p) ** 2 - 1)).sum())
                    )
    return np.asarray(entropy[:-1] - entropy[-1])


@pytest.mark.parametrize("sizes", [(1, 2, 1, 2), (2, 0, 2), (3, 1, 1)])
@pytest.mark.parametrize("snr", [0.3, 3.0])
def test_against_the_formulas(sizes: tuple[int, ...], snr: float) -> None:
    rng = np.random.default_rng(0)
    x = (rng.standard_normal((30, 1)) + rng.standard_normal((30, sum(sizes)))).round(1)
    found = mixture_profile(x, sizes, snr=snr, seed=3)
    key = int(np.float64(snr).view(np.uint64))
    words = np.random.SeedSequence(3, spawn_key=(1, key >> 32, key & 0xFFFFFFFF))
    noisy = x + np.random.default_rng(words).standard_normal(x.shape) / np.sqrt(snr)
    slow = naive(x, sizes, snr, noisy, 3)
    assert np.abs(found.local - slow).max() < 1e-3  # of outliers the quadratures differ
    assert np.abs(np.median(found.local - slow)) < 1e-6
    assert np.allclose(found.local.mean(axis=1), found.value)


def test_flips_against_the_formulas() -> None:
    """All 2 x n cross-entropies of a bit, by sums over the other samples."""
    rng = np.random.default_rng(1)
    x = rng.integers(0, 2, (40, 4)).astype(np.float64)
    x[:, 1] = np.where(rng.random(40) < 0.2, 1 - x[:, 0], x[:, 0])
    f, sizes = 0.15, (1, 1, 2)
    found = mixture_profile(x, sizes, flip=f, seed=5)
    key = int(np.float64(f).view(np.uint64))
    words = np.random.SeedSequence(5, spawn_key=(1, key >> 32, key & 0xFFFFFFFF))
    noisy = np.where(np.random.default_rng(words).random(x.shape) < f, 1 - x, x)
    order = np.random.default_rng(np.random.SeedSequence(5, spawn_key=(2,))).permutation(40)
    halves = [(-0.5, order[:20]), (-0.5, order[20:]), (2.0, np.arange(40))]
    for i in range(40):
        entropy = np.zeros(2)
        for (sign, among), (region, end) in product(halves, enumerate((2, 4))):
            others = among[among != i]
            w = np.prod(np.where(noisy[i, 1:end] == x[others, 1:end], 1 - f, f), axis=1)
            w /= w.sum()
            total = 0.0
            for y, chance in ((x[i, 0], 1 - f), (1 - x[i, 0], f)):
                given = np.where(x[others, 0] == y, 1 - f, f)
                p = (w * given).sum()
                total += chance * (-np.log(p) - 0.5 * (w**2 * ((given / p) ** 2 - 1)).sum())
            entropy[region] += sign * total
        assert found.local[0, i] == pytest.approx(entropy[0] - entropy[1], abs=1e-12)
    spins = mixture_profile(2 * x - 1, sizes, flip=f, seed=5)
    assert np.allclose(spins.local, found.local, rtol=0, atol=1e-12)


@pytest.mark.parametrize("snr", [0.1, 2.0, 50.0, 1000.0])
def test_the_noise_is_integrated(snr: float) -> None:
    rng = np.random.default_rng(2)
    values = np.sort(rng.random(50))
    posterior = rng.dirichlet(np.full(50, 0.2), size=5)
    clean = values[[0, 10, 25, 40, 49]]
    found, none = cross_entropy(posterior, values, clean, snr)
    sigma = snr**-0.5

    def loss(z: float, i: int) -> float:
        kernel = np.exp(-0.5 * ((clean[i] - values) / sigma + z) ** 2) / (sigma * np.sqrt(2 * np.pi))
        return float(-np.log((posterior[i] * kernel).sum()) * np.exp(-0.5 * z * z) / np.sqrt(2 * np.pi))

    truth = [quad(loss, -9, 9, args=(i,), limit=400, epsabs=1e-10)[0] for i in range(5)]
    assert np.abs(found - truth).max() < 3e-5
    assert not none.any()


@pytest.mark.parametrize(("apart", "off"), [(0.99, 1e-8), (1.99, 1e-7), (2.5, 1e-8), (5.0, 3e-5)])
@pytest.mark.parametrize("rare", [0.5, 1e-3, 1e-9])
def test_nodes_are_as_many_as_values_are_apart(apart: float, rare: float, off: float) -> None:
    """Of two values, which nothing stands for, whether likely or not."""
    values, posterior = np.array([0.0, apart]), np.array([[1.0 - rare, rare]] * 2)
    found, _ = cross_entropy(posterior, values, values, 1.0)
    for x, own in zip(values, found, strict=True):

        def loss(z: float, x: float = float(x)) -> float:
            kernel = np.exp(-0.5 * (x + z - values) ** 2) / np.sqrt(2.0 * np.pi)
            return float(-np.log(posterior[0] @ kernel) * np.exp(-0.5 * z * z) / np.sqrt(2.0 * np.pi))

        assert own == pytest.approx(quad(loss, -12, 12, limit=400, epsabs=1e-12)[0], abs=off)


def test_a_bit_without_noise_or_with_nothing_else() -> None:
    known, _ = flipped_cross_entropy(np.array([[0.25, 0.75]]), np.array([1]), 0.0)
    assert known[0] == pytest.approx(-np.log(0.75))
    coin, _ = flipped_cross_entropy(np.array([[0.25, 0.75]]), np.array([1]), 0.5)
    assert coin[0] == pytest.approx(np.log(2))


MODELS: list[tuple[ExactModel, float]] = [
    (GaussianChain(L=9, a=0.9), 0.45),
    (GaussianChain(L=9, a=0.9), 0.7),
    (GaussianField(L=7, kappa=0.5), 0.75),
    (Cat(L=9, dims=1), 0.5),
    (HiddenMarkovChain(L=9), 0.15),
    (HiddenMarkovChain(L=9), 0.4),
    (RepetitionCode(L=9), 0.3),
]


@pytest.mark.slow
@pytest.mark.parametrize(("model", "t"), MODELS)
def test_exact_models(model: ExactModel, t: float) -> None:
    """Over 12 data sets: right on average, with errors that say how much one of them scatters."""
    widths = [1, 2]
    n = 1200 if t > 0.2 else 2000  # with fewer, the mixture would repeat single samples
    truth = np.array([model.cmi(t, r).value for r in widths])
    found = [
        phase_scan(model.sample(n, seed), levels=[t], widths=widths, method="mixture", noise=model.noise, seed=seed)
        for seed in range(12)
    ]
    z = np.array([(scan.dataset.cmi.values[0] - truth) / scan.dataset.stderr.values[0] for scan in found])
    assert (np.abs(z.mean(axis=0)) < 3.3 / np.sqrt(12)).all(), z.mean(axis=0)
    assert not any("repeats single samples" in text for scan in found for text in scan.warnings)
    assert (z.std(axis=0, ddof=1) < 1.6).all()
    assert (z.std(axis=0, ddof=1) > 0.5).all()


def test_the_excess_of_few_samples_is_subtracted() -> None:
    """Without it the estimate is far too low; `bias` says by how much."""
    model = GaussianChain(L=9, a=0.9)
    truth = np.array([model.cmi(0.4, r).value for r in (1, 2)])
    found = [
        phase_scan(model.sample(500, seed), levels=[0.4], widths=[1, 2], method="mixture", seed=seed).dataset
        for seed in range(12)
    ]
    bias = np.mean([each.bias.values[0] for each in found], axis=0)
    value = np.mean([each.cmi.values[0] for each in found], axis=0)
    error = np.std([each.cmi.values[0] for each in found], axis=0) / np.sqrt(12)
    assert (bias < -0.008).all()
    assert (np.abs(value - truth) < np.abs(bias) / 4.0 + 3.0 * error).all()


def test_memorised_samples_are_flagged() -> None:
    model = GaussianField(L=15, kappa=0.3)
    data = model.sample(500, 0)
    little = phase_scan(data, levels=[0.2], method="mixture")
    assert any("repeats single samples" in text for text in little.warnings)
    assert little.dataset.neighbours.values[0, -1] < 2.0
    much = phase_scan(data, levels=[0.95], method="mixture")
    assert not much.warnings
    assert much.dataset.neighbours.values[0, -1] > 100.0
    assert (np.diff(little.dataset.neighbours.values[0]) <= 0.0).all()


def test_the_ends_of_the_noise() -> None:
    scan = phase_scan(open_dataset("digits", limit=200), levels=[0.0, 0.5, 1.0], method="mixture")
    assert np.isnan(scan.dataset.cmi.values[0]).all()
    assert any("without noise the mixture knows equal samples only" in text for text in scan.warnings)
    assert np.isfinite(scan.dataset.cmi.values[1]).all()
    assert (scan.dataset.cmi.values[2] == 0.0).all()
    bits = (open_dataset("digits", limit=200).samples > 0.5).astype(float)
    flips = phase_scan(bits, levels=[0.0, 0.3, 1.0], method="mixture", noise="flip")
    assert np.isnan(flips.dataset.cmi.values[0]).all()
    assert np.isfinite(flips.dataset.cmi.values[1:]).all()
    assert np.abs(flips.dataset.cmi.values[2]).max() < 1e-12


def test_one_pair_of_regions() -> None:
    rng = np.random.default_rng(0)
    b = rng.standard_normal(3000)
    x = np.stack([b + rng.standard_normal(3000), b, b + rng.standard_normal(3000)], axis=1)
    covariance = np.array([[2.0, 1.0, 1.0], [1.0, 1.0, 1.0], [1.0, 1.0, 2.0]]) + np.eye(3)

    def log_det(*columns: int) -> float:
        return float(np.linalg.slogdet(covariance[np.ix_(columns, columns)])[1])

    exact = 0.5 * (log_det(0, 1) + log_det(1, 2) - log_det(1) - log_det(0, 1, 2))
    found = estimate_cmi(x, A=0, B=1, C=2, method="mixture", snr=1.0)
    assert abs(found.value - exact) < 4.0 * found.stderr + 0.001
    assert found.neighbours is not None
    assert found.neighbours > 100.0
    assert estimate_cmi(x, A=0, B=1, C=2, method="gaussian", snr=1.0).value == pytest.approx(exact, abs=0.02)


def test_the_same_for_any_threads_queries_and_workers() -> None:
    data = open_dataset("digits", limit=300)
    whole = phase_scan(data, levels=[0.3, 0.6], method="mixture")
    with serial():
        assert phase_scan(data, levels=[0.6], method="mixture").dataset.cmi.values[0].tolist() == (
            whole.dataset.cmi.values[1].tolist()
        )
    some = phase_scan(data, levels=[0.6], method="mixture", queries=100)
    assert "averaged over 100 of the 300 samples" in some.warnings
    assert some.dataset.stderr.values[0, 0] > whole.dataset.stderr.values[1, 0]
    other = phase_scan(data, levels=[0.6], method="mixture", seed=1)
    assert other.dataset.cmi.values[0, 0] != whole.dataset.cmi.values[1, 0]


def test_many_values_stand_in_bins() -> None:
    x = GaussianChain(L=5, a=0.9).sample(3000, 0)
    sizes = (1, 2, 2)
    x = np.ascontiguousarray(x[:, [2, 1, 3, 0, 4]])
    fine = mixture_profile(x, sizes, snr=4.0, queries=None)
    coarse = mixture_profile(x.round(2), sizes, snr=4.0, queries=None)
    assert len(fit_mixture(x, sizes).values[0]) == 1024
    assert abs(fine.value[0] - coarse.value[0]) < 1e-3


def test_far_from_zero() -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((300, 1)) + rng.standard_normal((300, 5))
    near, far = mixture_profile(x, (2, 1, 2), snr=1.0), mixture_profile(x + 1e7, (2, 1, 2), snr=1.0)
    assert np.abs(near.local - far.local).max() < 1e-5


def test_the_fewest_neighbours_of_all_columns_count() -> None:
    """The second column of A is given the noisy first one, and has fewer."""
    x = np.random.default_rng(0).standard_normal((400, 6))
    one, three = mixture_profile(x, (1, 0, 3, 2), snr=20.0), mixture_profile(x, (3, 0, 3), snr=20.0)
    assert one.neighbours is not None
    assert three.neighbours is not None
    assert one.neighbours[0] == 399.0  # nothing is seen
    assert three.neighbours[0] < 100.0


def test_constant_columns() -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((200, 4))
    x[:, 2] = 1.0
    assert np.isfinite(mixture_profile(x, (1, 1, 1, 1), snr=1.0).value).all()
    x[:, 0] = 3.0
    assert np.abs(mixture_profile(x, (1, 1, 1, 1), snr=1.0).value).max() < 1e-12
    bits = (x > 0.5).astype(float)
    bits[:, 0] = 0.0
    assert (mixture_profile(bits, (1, 1, 2), flip=0.1).value == 0.0).all()


def test_wrong_input() -> None:
    x = np.random.default_rng(0).standard_normal((20, 3))
    with pytest.raises(ValueError, match="give either snr or flip"):
        estimate_cmi(x, 0, 1, 2, method="mixture")
    with pytest.raises(ValueError, match="give either snr or flip"):
        mixture_profile(x, (1, 1, 1), snr=1.0, flip=0.1)
    with pytest.raises(ValueError, match=r"snr must lie in \[0, inf\], got -1"):
        mixture_profile(x, (1, 1, 1), snr=-1.0)
    with pytest.raises(ValueError, match="flips exchange the two values of data that have two"):
        mixture_profile(x, (1, 1, 1), flip=0.1)
    with pytest.raises(ValueError, match=r"probability of a flip lies in \[0, 1/2\], got 0.7"):
        mixture_profile((x > 0).astype(float), (1, 1, 1), flip=0.7)
    with pytest.raises(ValueError, match="at least 4 samples, got 3"):
        mixture_profile(x[:3], (1, 1, 1), snr=1.0)
    with pytest.raises(ValueError, match="queries must be at least 3"):
        mixture_profile(x, (1, 1, 1), snr=1.0, queries=1)
    with pytest.raises(ValueError, match="the mixture belongs to 20 samples of 3 columns"):
        fit_mixture(x, (1, 1, 1)).profile(x[:5], snr=1.0)
    with pytest.raises(TypeError, match="snr follows from the levels: leave it out"):
        phase_scan(x, levels=[0.5], method="mixture", snr=1.0)
    with pytest.raises(TypeError, match="has no option 'k'"):
        cmi_profile(x, Partition([0], [[1], [2]]), method="mixture", k=3, snr=1.0)
    with pytest.raises(TypeError, match="'ksg' has no option 'snr'"):
        estimate_cmi(x, 0, 1, 2, method="ksg", snr=1.0)


def test_on_the_command_line(tmp_path: object) -> None:
    out = f"{tmp_path}/m.nc"
    done = call("run", "digits", "--limit", "300", "--levels", "0.3,0.6", "--method", "mixture", "--out", out)
    assert done.exit_code == 0, done.output
    assert "Effective number of samples that the mixture averages over" in done.stdout
    assert "neighbours" in PhaseScan.load(out).dataset
    fails("--k is for --method ksg, not mixture", "run", "digits", "--method", "mixture", "--k", "3")

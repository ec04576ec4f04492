"""The self-check: it passes what is right, at the stated rate, and finds what is planted."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import call, fails
from scipy.stats import binom

import cmi.largest_z
from cmi import PhaseScan, ScanCheck, check_scan, open_dataset, phase_scan
from cmi.exact import GaussianChain
from cmi.largest_z import largest_by_chance
from cmi.noise import VarianceExploding
from cmi.scan_check import CHECKS
from estimators.gaussian import GaussianMoments
from estimators.profile import Profile

LEVELS = [0.0, 0.3, 0.6, 0.9]


@pytest.fixture(autouse=True)
def few_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    """Thresholds to a few per cent are enough here."""
    monkeypatch.setattr(cmi.largest_z, "_DRAWS", 2000)


def chain(n: int = 2000, seed: int = 0, length: int = 9) -> np.ndarray:
    return GaussianChain(L=length).sample(n, seed)


@pytest.fixture(scope="module")
def x() -> np.ndarray:
    return chain()


@pytest.fixture(scope="module")
def scan(x: np.ndarray) -> PhaseScan:
    return phase_scan(x, levels=LEVELS)


def changed(scan: PhaseScan, name: str, place: tuple[int, int], by: float) -> PhaseScan:
    """The scan with one number altered."""
    data = scan.dataset.copy(deep=True)
    data[name].values[place] += by
    return PhaseScan(data)


# The threshold


@pytest.mark.parametrize("alike", [0.0, 0.5, 0.98])
def test_the_largest_of_correlated_cells_is_rarely_beyond(alike: float) -> None:
    """Normal cells of any correlation: at the stated rate, and of cells that are alike below Bonferroni."""
    cells, rate, seen = 60, 0.05, 2000

    def draw(count: int, seed: int) -> np.ndarray:
        rng = np.random.default_rng(seed)
        own, common = rng.standard_normal((count, cells)), rng.standard_normal((count, 1))
        return np.asarray(np.sqrt(1.0 - alike) * own + np.sqrt(alike) * common)

    limit = largest_by_chance(draw, cells, rate, two_sided=True)
    beyond = int((np.abs(draw(seen, 2**31)).max(axis=1) > limit).sum())
    assert binom.ppf(0.001, seen, 0.7 * rate) <= beyond <= binom.ppf(0.999, seen, 1.3 * rate)
    assert limit < (3.35 if alike < 0.9 else 2.7)  # Bonferroni's is 3.34
    assert largest_by_chance(draw, cells, rate, two_sided=False) < limit


# What is right passes


def test_a_right_scan_passes(scan: PhaseScan, x: np.ndarray) -> None:
    before = scan.dataset.copy(deep=True)
    done: list[tuple[int, int]] = []
    found = check_scan(scan, x, progress=lambda *step: done.append(step))
    assert found.passed
    assert not found.failed
    assert found.message == "4 of 4 checks passed"
    assert not found.skipped
    assert scan.dataset.identical(before)
    assert done[-2] == (8, 8)  # and pure noise, which the scan has not
    widths = scan.dataset.r.values.tolist()
    assert {row.width for row in found.of("permuted C")} == {r for r in widths if r >= found.width}
    assert len(found.of("wider buffers")) == len(LEVELS) * len(widths) * (len(widths) - 1) // 2
    assert {row.level for row in found.of("pure noise")} == {1.0}
    assert min(found.seen.values()) > found.of("permuted C")[0].threshold
    for row in found.rows:
        assert row.passed
        if row.stderr > 0.0:
            np.testing.assert_allclose(row.z, row.value / row.stderr, rtol=1e-6)
    table = found.to_dataframe()
    assert table.passed.all()
    assert len(table) == len(found.rows)
    again = check_scan(scan, x)
    assert again.rows == found.rows
    other = check_scan(scan, x, seed=1)
    assert other.of("permuted C") != found.of("permuted C")
    assert "passed: 4 of 4" in repr(found)


@pytest.mark.parametrize(
    ("method", "options", "noise"),
    [
        ("copula", {}, "interpolation"),
        ("ksg", {"k": [3, 5], "n_permutations": 3}, "interpolation"),
        ("ksg", {"calibrate": True}, "vp-cosine"),
        ("ksg", {"features": "regression", "k": 20, "surrogates": 0}, "interpolation"),
        ("discrete", {}, "flip"),
        ("mixture", {"queries": 300}, "flip"),
        ("mixture", {"queries": 300}, "interpolation"),
        ("posterior", {"steps": 20, "hidden": 8}, "interpolation"),
    ],
)
def test_every_method(method: str, options: dict[str, Any], noise: str) -> None:
    """All can be checked, blank columns too; whether a method that is biased passes is its own affair."""
    if method == "posterior":
        pytest.importorskip("torch")
    data = chain(600, length=5)
    if noise == "flip":
        data = np.sign(data)
    scan = phase_scan(data, levels=[0.4, 0.7], widths=[0, 1], method=method, noise=noise, **options)
    found = check_scan(scan, data)
    assert not found.skipped
    assert [len(found.of(check)) for check in CHECKS][2:] == [2, 2]
    assert np.isfinite([row.z for row in found.rows]).all()
    if method != "posterior":
        assert found.passed, found.message


def test_errors_of_zero() -> None:
    """Exact zeros pass; a value without error does not, however small."""
    x = chain(300, length=5)
    scan = phase_scan(x, levels=[0.3, 1.0])
    found = check_scan(scan, x)
    assert {(row.value, row.stderr, row.passed) for row in found.of("pure noise")} == {(0.0, 0.0, True)}
    wrong = check_scan(changed(scan, "cmi", (1, 0), 1e-9), x)
    assert wrong.failed == ("pure noise",)
    assert not wrong.passed


@pytest.mark.slow
def test_false_positives(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 60 chains no more fail than are stated, at any check."""
    monkeypatch.setattr(cmi.largest_z, "_DRAWS", 1000)
    failed = 0
    for seed in range(60):
        data = chain(300, seed, length=7)
        failed += not check_scan(phase_scan(data, levels=[0.0, 0.5], seed=seed), data, seed=seed).passed
    assert failed <= binom.ppf(0.99, 60, 0.01)


# What is wrong is found


def adds(amount: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the Gaussian estimator read too much."""
    right = GaussianMoments.profile

    def wrong(self: GaussianMoments, x: np.ndarray, *, snr: float = np.inf) -> Profile:
        profile = right(self, x, snr=snr)
        return replace(profile, value=profile.value + amount, local=profile.local + amount)

    monkeypatch.setattr(GaussianMoments, "profile", wrong)


@pytest.mark.parametrize("amount", [0.01, -0.01])
def test_a_biased_estimator_is_found(amount: float, monkeypatch: pytest.MonkeyPatch) -> None:
    adds(amount, monkeypatch)
    for seed in range(5):
        data = chain(2000, seed)
        found = check_scan(phase_scan(data, levels=LEVELS), data, seed=seed)
        assert found.failed == ("permuted C", "blank C", "pure noise")
    assert "3 of 4 checks failed: permuted C, " + f"{amount}" in found.message


def test_c_that_is_not_permuted_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cmi.self_check._other_samples", lambda n, _: np.arange(n))
    for seed in range(5):
        data = chain(2000, seed)
        found = check_scan(phase_scan(data, levels=LEVELS), data, levels=[0.3])
        assert found.failed == ("permuted C",)
        worst = found.worst("permuted C")
        assert worst is not None
        np.testing.assert_allclose(worst.size, found.seen["permuted C"])


def test_a_wider_buffer_with_more_cmi_is_found(scan: PhaseScan) -> None:
    """Where the difference is well known and where it is next to nothing; without any data."""
    for level in range(len(LEVELS)):
        found = check_scan(changed(scan, "cmi", (level, 2), 0.02))
        assert found.failed == ("wider buffers",)
        worst = found.worst("wider buffers")
        assert worst is not None
        assert (worst.level, worst.width) == (LEVELS[level], 3)
    assert check_scan(scan).passed
    assert set(check_scan(scan).skipped) == {"permuted C", "blank C", "pure noise"}
    # less is never wrong, but that makes the next width more
    less = check_scan(changed(scan, "cmi", (1, 1), -0.5))
    assert {(row.level, row.width, row.narrower) for row in less.rows if not row.passed} == {(0.3, 3, 2)}


def test_errors_that_are_too_small_are_found(
    scan: PhaseScan, x: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = Profile.covariance
    monkeypatch.setattr(Profile, "covariance", lambda self: right(self) / 100.0)
    assert "permuted C" in check_scan(scan, x).failed


def test_the_seed_of_the_permutation_is_none_of_the_data() -> None:
    """Data drawn by the same seed as the permutation are no special case."""
    data = np.random.default_rng(0).standard_normal((400, 7))
    assert check_scan(phase_scan(data, levels=[0.0, 0.5]), data, seed=0).passed


# What cannot be checked


def test_what_is_skipped_says_why(tmp_path: Path) -> None:
    x = chain(300, length=7)
    ve = check_scan(phase_scan(x, levels=[0.3], noise="ve"), x)
    assert ve.skipped == {"pure noise": "the schedule ve ends at an SNR of 0.0004, not at pure noise"}
    own = check_scan(phase_scan(x, levels=[0.3], noise=VarianceExploding(0.1, 10.0)), x)
    assert "SNR of 0.01" in own.skipped["pure noise"]
    one = check_scan(phase_scan(x, levels=[0.3], widths=[1]), x)
    assert one.passed
    assert one.skipped == {"wider buffers": "the scan has one width only, and none to compare it with"}
    assert "3 of 3 checks passed, 1 skipped" in one.message
    clean = check_scan(phase_scan(np.sign(x), levels=[0.0], widths=[0, 1], method="discrete"), np.sign(x))
    assert clean.skipped == {"pure noise": "the method discrete takes no noise"}
    # fewer samples than columns: without noise there is no number
    few = check_scan(phase_scan(x[:6], levels=[0.0]), x[:6])
    assert few.skipped["permuted C"] == "the method gives no number for any of its 2 cells"
    nothing = check_scan(phase_scan(x, levels=[0.3], widths=[1]))
    assert not nothing.passed
    assert nothing.message == "nothing could be checked"
    noise = check_scan(phase_scan(x, levels=[1.0]), x)
    assert noise.skipped == {"wider buffers": "no level but pure noise is finished"}


def test_a_method_that_takes_no_constants(monkeypatch: pytest.MonkeyPatch, scan: PhaseScan, x: np.ndarray) -> None:
    right = GaussianMoments.profile

    def refuse(self: GaussianMoments, x: np.ndarray, *, snr: float = np.inf) -> Profile:
        if not self.active.all():
            raise ValueError("a column is constant")
        return right(self, x, snr=snr)

    monkeypatch.setattr(GaussianMoments, "profile", refuse)
    found = check_scan(scan, x)
    assert found.skipped == {"blank C": "the method does not take these constant columns: a column is constant"}
    assert found.passed


def half(values: np.ndarray, name: str) -> np.ndarray:
    return values[:, : -(-values.shape[1] // 2)]


def test_a_function_has_to_be_given_again() -> None:
    x = chain(200, length=5)
    scan = phase_scan(x, levels=[0.5], method="ksg", features=half, surrogates=0)
    found = check_scan(scan, x)
    assert found.skipped["permuted C"] == "features was a function, which a file does not hold: give it again"
    assert not check_scan(scan, x, features=half).skipped.keys() - {"wider buffers"}


def test_a_part_of_a_scan(scan: PhaseScan, x: np.ndarray) -> None:
    data = scan.dataset.copy(deep=True)
    for name in ("cmi", "stderr", "covariance", "bias"):
        data[name].values[2:] = np.nan
    data["finished"].values[2:] = 0
    found = check_scan(PhaseScan(data), x)
    assert found.passed
    assert {row.level for row in found.rows} == {0.0, 0.3, 1.0}
    assert found.notes == ("2 of 4 levels of the scan are not computed, and not checked",)
    data["finished"].values[:] = 0
    with pytest.raises(ValueError, match="no level of the scan is finished: resume it first"):
        check_scan(PhaseScan(data), x)


def test_wrong_arguments(scan: PhaseScan, x: np.ndarray) -> None:
    for message, error, arguments in (
        ("t = 0.4 is no finished level of the scan: choose from 0, 0.3", ValueError, {"levels": [0.4]}),
        ("levels are empty", ValueError, {"levels": []}),
        ("the scan has no width 9: choose from 1, 2, 3", ValueError, {"width": 9}),
        ("width must be a whole number", TypeError, {"width": 1.5}),
        ("seed must be at least 0", ValueError, {"seed": -1}),
        ("has no option 'steps'", TypeError, {"steps": 3}),
        ("keeps none: leave network out", ValueError, {"network": "x.pt"}),
    ):
        with pytest.raises(error, match=message):
            check_scan(scan, x, **arguments)
    with pytest.raises(ValueError, match="the scan differs in the number of samples: 2000 there, 1999 here"):
        check_scan(scan, x[1:])
    with pytest.raises(ValueError, match=r"the scan differs in the shape of a sample: \[9\] there, \[8\] here"):
        check_scan(scan, x[:, 1:])
    with pytest.raises(ValueError, match="the scan is of other data, though of the same number and shape"):
        check_scan(scan, x + 1.0)
    with pytest.raises(TypeError, match="scan must be a PhaseScan, got str"):
        check_scan("s.nc", x)  # type: ignore[arg-type]
    assert isinstance(check_scan(scan, x, levels=[0.3], width=2), ScanCheck)


# The command


def plain(text: str) -> str:
    return re.sub(r"\s+", " ", text)


def test_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert call("run", "digits", "--center", "1,3", "--levels", "0.2,0.6", "--out", "s.nc").exit_code == 0
    before = Path("s.nc").read_bytes()
    done = call("check", "s.nc")
    assert done.exit_code == 0, done.output
    for text in (
        "digits: 1,797 samples, method gaussian",
        "permuted C",
        "passed, 0 exactly",
        "C beyond r = 1, where the scan's CMI is most errors above 0, at t = 0.2,",
        "fail by chance at most once in 100 times",
        "Verdict: passed - 4 of 4 checks passed.",
    ):
        assert text in plain(done.stdout)
    assert call("check", "s.nc", "digits", "--levels", "0.2", "--width", "2", "--workers", "2").exit_code == 0
    assert [path.name for path in tmp_path.iterdir()] == ["s.nc"]
    assert Path("s.nc").read_bytes() == before

    adds(0.01, monkeypatch)
    bad = call("check", "s.nc")
    assert bad.exit_code == 1
    assert "failed: reads CMI where there is none" in plain(bad.stdout)
    assert "Verdict: failed - 3 of 4 checks failed: permuted C, 0.01 nats at" in plain(bad.stdout)
    assert bad.stderr == ""


def test_command_opens_the_data_as_they_were(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Crop, limit, size, channels and place are those of the scan; of an archive the key is not."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    images = np.random.default_rng(0).random((80, 12, 11, 3))
    np.savez("data/x.npz", a=images, b=images[:, :, :, 0])
    base = ["--levels", "0.5", "--limit", "60"]
    for arguments in (
        ["data/x.npz", "--key", "a", "--crop", "1:,1:", "--out", "data/s.nc", "--widths", "1:2"],
        ["data/x.npz", "--key", "b", "--crop", "1:,:", "--sizes", "5,7", "--center", "4,5", "--out", "data/s.nc"],
        ["data/x.npz", "--key", "b", "--sizes", "block:5,10", "--out", "data/b.nc"],
    ):
        assert call("run", *arguments, *base).exit_code == 0
    for name, key in (("s", "a"), ("s.L5", "b"), ("s.L7", "b"), ("b.L5", "b"), ("b.L10", "b")):
        done = call("check", f"data/{name}.nc", "--key", key)
        assert done.exit_code == 0, done.output
    fails("differs in the shape of a sample", "check", "data/s.nc", "--key", "b")
    fails("holds arrays by name: give a key, one of a, b", "check", "data/s.nc")
    (tmp_path / "data" / "s.nc").rename(tmp_path / "s.nc")
    fails("s.nc is the scan of 'x.npz', which is neither here nor beside it: give DATA", "check", "s.nc")
    assert call("check", "s.nc", "data/x.npz", "--key", "a").exit_code == 0


def test_command_errors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    phase_scan(open_dataset("digits", limit=100).samples, levels=[0.5]).save("array.nc")
    phase_scan(open_dataset("digits", limit=100), levels=[0.5]).save("s.nc")
    np.save("x.npy", np.zeros((5, 3)))
    fails("there is no scan file 'none.nc'", "check", "none.nc")
    fails("cannot be read as a scan", "check", "x.npy")
    fails("array.nc is the scan of an array in memory: give DATA", "check", "array.nc")
    fails("the scan differs in the number of samples: 100 there, 1797 here", "check", "array.nc", "digits")
    fails("the scan differs in the number of samples: 100 there, 5 here", "check", "s.nc", "x.npy")
    fails("there is no file 'none.npy'", "check", "s.nc", "none.npy")
    fails("t = 0.4 is no finished level of the scan: choose from 0.5", "check", "s.nc", "--levels", "0.4")
    fails("--levels takes start:stop:count", "check", "s.nc", "--levels", "a")
    fails("the scan has no width 9", "check", "s.nc", "--width", "9")
    fails("--workers must be at least 1", "check", "s.nc", "--workers", "0")
    fails("takes no key", "check", "s.nc", "--key", "a")
    fails("Invalid value for '--width'", "check", "s.nc", "--width", "wide", code=2)

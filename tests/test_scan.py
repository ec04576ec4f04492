"""Scans: values against closed forms, reproducibility, executors, resuming, interrupting, files."""

from __future__ import annotations

import json
import multiprocessing
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from naive import gaussian_cmi
from truths import chain

from cmi import PhaseScan, ScanInterrupted, cmi_profile, open_dataset, phase_scan
from cmi.noise import VarianceExploding, noise_schedule
from cmi.regions import Partition

LEVELS = [0.0, 0.2, 0.5, 0.9, 1.0]


def chain_in_space(n: int, length: int = 11, a: float = 0.9, seed: int = 0) -> np.ndarray:
    i = np.arange(length)
    covariance = a ** np.abs(i[:, None] - i[None, :])
    rng = np.random.default_rng(seed)
    return np.asarray(rng.standard_normal((n, length)) @ np.linalg.cholesky(covariance).T)


@pytest.fixture(scope="module")
def digits_scan() -> PhaseScan:
    return phase_scan(open_dataset("digits"), levels=LEVELS, widths=[1, 2, 3], center=(3, 3))


def test_dataset(digits_scan: PhaseScan) -> None:
    data = digits_scan.dataset
    assert data.cmi.dims == data.stderr.dims == ("t", "r")
    assert data.covariance.dims == ("t", "r", "r2")
    assert data.t.values.tolist() == LEVELS
    assert data.r.values.tolist() == [1, 2, 3]
    np.testing.assert_allclose(data.alpha, 1 - np.array(LEVELS))
    np.testing.assert_allclose(data.sigma, LEVELS)
    np.testing.assert_allclose(data.snr[1:], ((1 - data.t) / data.t)[1:] ** 2)
    assert data.snr[0] == np.inf
    assert int(data.n_A) == 1
    assert data.n_B.values.tolist() == [8, 24, 48]
    assert data.n_C.values.tolist() == [55, 39, 15]
    assert data.cmi.attrs["units"] == "nats"
    np.testing.assert_allclose(np.sqrt(np.einsum("trr->tr", data.covariance.values)), data.stderr)
    config = digits_scan.config
    assert config["noise"] == {"name": "interpolation"}
    assert config["data"]["name"] == "digits"
    assert config["data"]["n_samples"] == 1797
    assert len(config["data"]["sha256"]) == 64
    assert config["center"] == [3, 3]
    assert config["options"] == {"shrinkage": None, "correct_bias": True}
    assert digits_scan.complete
    assert digits_scan.reach == 4
    assert "PhaseScan('digits', 5 levels x 3 widths, method='gaussian')" in repr(digits_scan)


def test_pure_noise_is_zero(digits_scan: PhaseScan) -> None:
    assert (digits_scan.dataset.cmi.sel(t=1.0) == 0).all()
    assert (digits_scan.dataset.stderr.sel(t=1.0) == 0).all()


def test_warnings_say_what_was_done(digits_scan: PhaseScan) -> None:
    assert digits_scan.warnings[0] == "grey levels 0..16 were divided by 16, to lie in [0, 1]"
    assert "3 of 63 columns of the image around A are constant" in digits_scan.warnings[1]


@pytest.mark.parametrize("noise", ["interpolation", "vp-linear", "vp-cosine", "ve"])
def test_gaussian_scan_is_the_determinant_formula(noise: str) -> None:
    x = chain_in_space(300)
    scan = phase_scan(x, levels=[0.1, 0.4, 0.8], widths=[0, 1, 3], noise=noise, correct_bias=False)
    schedule = noise_schedule(noise)
    partition = Partition.centered((11,), widths=[0, 1, 3])
    sample = np.cov(x[:, partition.columns].T)
    for i, t in enumerate([0.1, 0.4, 0.8]):
        noisy = schedule.alpha(t) ** 2 * sample + schedule.sigma(t) ** 2 * np.eye(11)
        direct = [gaussian_cmi(noisy, partition.sizes, cut) for cut in (1, 2, 3)]
        np.testing.assert_allclose(scan.dataset.cmi[i], direct, atol=1e-11)


def test_gaussian_scan_finds_the_truth() -> None:
    """A chain of known covariance at every level and width within 4 standard errors, most within 2."""
    i = np.arange(11)
    truth = 0.9 ** np.abs(i[:, None] - i[None, :])
    partition = Partition.centered((11,))
    scan = phase_scan(chain_in_space(20_000), levels=np.linspace(0.1, 0.9, 9))
    z = []
    for j, t in enumerate(scan.dataset.t.values):
        noisy = (1 - t) ** 2 * truth + t**2 * np.eye(11)
        noisy = noisy[np.ix_(partition.columns, partition.columns)]
        exact = [gaussian_cmi(noisy, partition.sizes, cut) for cut in range(1, 5)]
        z.append((scan.dataset.cmi.values[j] - exact) / scan.dataset.stderr.values[j])
    assert np.abs(z).max() < 4.0
    assert np.mean(np.abs(z) < 2.0) > 0.8


@pytest.mark.parametrize("method", ["ksg", "copula"])
def test_sampled_noise_agrees_with_the_analytic_one(method: str) -> None:
    x = chain_in_space(2000, length=5)
    exact = phase_scan(x, levels=[0.3, 0.6], widths=[0, 1]).dataset
    sampled = phase_scan(x, levels=[0.3, 0.6], widths=[0, 1], method=method).dataset
    # ksg is biased at width 1 (five columns): 0.03 nats on top of its error
    slack = 0.03 if method == "ksg" else 0.0
    assert (np.abs(sampled.cmi - exact.cmi) < slack + 4.0 * np.hypot(sampled.stderr, exact.stderr)).all()


@pytest.mark.parametrize("method", ["ksg", "copula"])
def test_a_level_does_not_depend_on_the_others(method: str) -> None:
    x = chain_in_space(200, length=7)
    many = phase_scan(x, levels=[0.1, 0.3, 0.6], method=method, seed=3)
    one = phase_scan(x, levels=[0.3], method=method, seed=3)
    np.testing.assert_array_equal(one.dataset.cmi[0], many.dataset.cmi[1])
    other = phase_scan(x, levels=[0.3], method=method, seed=4)
    assert not np.array_equal(one.dataset.cmi, other.dataset.cmi)


def test_a_scan_cell_is_the_profile_of_noised_samples() -> None:
    x = chain_in_space(150, length=7)
    scan = phase_scan(x, levels=[0.0], method="ksg", k=3)
    profile = cmi_profile(x, Partition.centered((7,)), method="ksg", k=3)
    np.testing.assert_array_equal(scan.dataset.cmi[0], profile.value)
    np.testing.assert_array_equal(scan.dataset.covariance[0], profile.covariance)


class Backwards(Executor):
    """Runs the tasks in reverse order, when the last one has been submitted and a result is asked for."""

    def __init__(self, expected: int) -> None:
        self.expected = expected
        self.tasks: list[tuple[Future[Any], Any]] = []

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        self.tasks.append((future, lambda: fn(*args, **kwargs)))
        if len(self.tasks) == self.expected:
            for waiting, task in reversed(self.tasks):
                waiting.set_result(task())
        return future


@pytest.mark.parametrize("method", ["gaussian", "ksg"])
def test_any_executor_gives_the_same_file(method: str, tmp_path: Path) -> None:
    x = chain_in_space(200, length=7)
    arguments: dict[str, Any] = {"levels": [0.0, 0.3, 0.7, 1.0], "method": method}
    phase_scan(x, **arguments).save(tmp_path / "alone.nc")
    expected = (tmp_path / "alone.nc").read_bytes()
    spawn = multiprocessing.get_context("spawn")
    executors: list[Executor] = [
        ThreadPoolExecutor(2),
        ProcessPoolExecutor(2, mp_context=spawn),
        Backwards(4),
    ]
    for i, executor in enumerate(executors):
        with executor:
            phase_scan(x, executor=executor, **arguments).save(tmp_path / f"{i}.nc")
        assert (tmp_path / f"{i}.nc").read_bytes() == expected


def test_errors_in_workers_reach_the_caller() -> None:
    with ThreadPoolExecutor(2) as executor, pytest.raises(ValueError, match="at least 62 samples"):
        phase_scan(chain_in_space(50), levels=[0.1, 0.2], method="ksg", k=60, executor=executor)


def half(values: np.ndarray, name: str) -> np.ndarray:
    return values[:, : -(-values.shape[1] // 2)]


class Half:
    def __call__(self, values: np.ndarray, name: str) -> np.ndarray:
        return half(values, name)


def test_options_of_any_type_are_kept_as_json() -> None:
    x = chain_in_space(80, 7)
    options: dict[str, Any] = {"levels": [0.5], "method": "ksg", "widths": [1], "surrogates": 0}
    expected = phase_scan(x, k=[3, 5], **options)
    for k in (np.array([3, 5]), range(3, 6, 2), (3, 5)):
        scan = phase_scan(x, k=k, resume=expected, **options)
        assert scan.config["options"]["k"] == [3, 5]
        assert scan.dataset.cmi.values[0, 0] == expected.dataset.cmi.values[0, 0]
    for function in (half, partial(half), Half(), lambda values, _name: values[:, :1]):
        scan = phase_scan(x, features=function, **options)
        assert scan.config["options"]["features"].split(".")[-1] in ("half", "partial", "Half", "<lambda>")


def test_functions_without_a_name_are_not_taken_for_each_other() -> None:
    """Two lambdas have one name: a scan with one must not go on with the other, nor be sent to other processes."""
    x = chain_in_space(80, 7)
    options: dict[str, Any] = {"method": "ksg", "widths": [1], "surrogates": 0}
    done = phase_scan(x, levels=[0.2], features=half, **options)
    assert phase_scan(x, levels=[0.2, 0.5], features=half, resume=done, **options).complete
    first = phase_scan(x, levels=[0.2], features=lambda v, _name: v[:, :1], **options)
    for function in (lambda v, _name: v[:, -1:], partial(half), Half()):
        with pytest.raises(ValueError, match="features is a function without a name of its own cannot be resumed"):
            phase_scan(x, levels=[0.2, 0.5], features=function, resume=first, **options)
        with ProcessPoolExecutor(1) as executor, pytest.raises(TypeError, match="other processes cannot find"):
            phase_scan(x, levels=[0.2], features=function, executor=executor, **options)


def test_what_the_method_knows_of_itself_is_stored(tmp_path: Path) -> None:
    """Bias, floor and p-values: level by level, the same with workers, resumed, saved and loaded."""
    x = chain_in_space(150, 7)
    options: dict[str, Any] = {"method": "ksg", "widths": [1, 2], "n_permutations": 3, "queries": 60, "seed": 5}
    scan = phase_scan(x, levels=[0.2, 0.6], **options)
    data = scan.dataset
    for name in ("surrogate_bias", "surrogate_stderr", "null_mean", "null_stderr", "p_value"):
        assert data[name].dims == ("t", "r")
        assert np.isfinite(data[name].values).all()
        assert data[name].attrs["long_name"]
    assert (np.abs(data.surrogate_bias.values) > 0.0).all()
    assert len(set(data.surrogate_bias.values.ravel().tolist())) == 4
    assert set((4 * data.p_value.values).ravel().tolist()) <= {1.0, 2.0, 3.0, 4.0}
    assert "queries" in scan.config["options"]
    assert "seed" not in scan.config["options"]
    first = phase_scan(x, levels=[0.6], **options)
    with ThreadPoolExecutor(2) as executor:
        whole = phase_scan(x, levels=[0.2, 0.6], resume=first, executor=executor, **options)
    assert whole.dataset.drop_attrs().identical(data.drop_attrs())
    scan.save(tmp_path / "s.nc")
    loaded = PhaseScan.load(tmp_path / "s.nc")
    assert loaded.dataset.identical(data)
    table = loaded.to_dataframe()
    assert table.surrogate_bias.tolist() == data.surrogate_bias.values.ravel().tolist()
    assert table.p_value.tolist() == data.p_value.values.ravel().tolist()
    damaged = data.copy()
    damaged["p_value"] = data.p_value.transpose("r", "t")
    with pytest.raises(ValueError, match="p_value does not hold numbers over"):
        PhaseScan(damaged)


def test_the_seed_of_a_level_is_its_own() -> None:
    """Surrogates of two levels are independent draws, and another seed draws others."""
    x = chain_in_space(100, 5)
    one, other = (
        phase_scan(
            x, levels=[0.999, 1.0], widths=[1], method="ksg", seed=seed
        ).dataset.surrogate_bias.values.ravel()
        for seed in (0, 1)
    )
    assert len({*one.tolist(), *other.tolist()}) == 4


def test_calibrated_scans_say_so() -> None:
    x = chain_in_space(200, 7)
    plain = phase_scan(x, levels=[0.1], widths=[1, 2], method="ksg").dataset
    calibrated = phase_scan(x, levels=[0.1], widths=[1, 2], method="ksg", calibrate=True).dataset
    np.testing.assert_allclose(calibrated.cmi, plain.cmi - plain.surrogate_bias)
    np.testing.assert_array_equal(calibrated.bias, plain.surrogate_bias)
    np.testing.assert_allclose(calibrated.stderr**2, plain.stderr**2 + plain.surrogate_stderr**2)
    assert (plain.bias == 0.0).all()
    without = phase_scan(x, levels=[0.1], widths=[1, 2], method="ksg", surrogates=0).dataset
    assert "surrogate_bias" not in without
    np.testing.assert_array_equal(without.cmi, plain.cmi)


def test_progress() -> None:
    seen: list[tuple[int, int]] = []
    phase_scan(chain_in_space(50), levels=[0.1, 0.2, 0.3], progress=lambda done, total: seen.append((done, total)))
    assert seen == [(1, 3), (2, 3), (3, 3)]


def test_interrupting_keeps_what_is_finished_and_resume_goes_on(tmp_path: Path) -> None:
    x = chain_in_space(100, length=7)
    arguments: dict[str, Any] = {"levels": [0.0, 0.2, 0.4, 0.6], "method": "ksg", "seed": 5}

    def interrupt(done: int, total: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(ScanInterrupted) as caught:
        phase_scan(x, progress=interrupt, **arguments)
    partial = caught.value.partial
    assert partial.dataset.finished.values.tolist() == [1, 1, 0, 0]
    assert np.isnan(partial.dataset.cmi[2:]).all()
    assert not partial.complete
    assert "2 levels finished" in repr(partial)
    assert [m.message for m in partial.markov_length][2:] == ["not computed"] * 2
    partial.save(tmp_path / "partial.nc")

    seen: list[int] = []
    resumed = phase_scan(
        x,
        resume=PhaseScan.load(tmp_path / "partial.nc"),
        progress=lambda done, _: seen.append(done),
        **arguments,
    )
    assert seen == [3, 4]
    whole = phase_scan(x, **arguments)
    xr.testing.assert_identical(resumed.dataset, whole.dataset)
    for name, value in (("seed", 6), ("k", 4), ("radius", 1)):
        with pytest.raises(ValueError, match="the scan to resume differs in"):
            phase_scan(x, resume=partial, **{**arguments, name: value})
    with pytest.raises(ValueError, match="is of other data"):
        phase_scan(x + 1.0, resume=partial, **arguments)


def test_resume_may_refine_the_levels() -> None:
    x = chain_in_space(100, length=7)
    coarse = phase_scan(x, levels=[0.2, 0.6])
    seen: list[tuple[int, int]] = []
    fine = phase_scan(
        x, levels=[0.2, 0.4, 0.6], resume=coarse, progress=lambda done, total: seen.append((done, total))
    )
    assert seen == [(3, 3)]
    np.testing.assert_array_equal(fine.dataset.cmi[[0, 2]], coarse.dataset.cmi)


def test_save_and_load(digits_scan: PhaseScan, tmp_path: Path) -> None:
    path = tmp_path / "scan.nc"
    digits_scan.save(path)
    loaded = PhaseScan.load(path)
    xr.testing.assert_identical(loaded.dataset, digits_scan.dataset)
    assert loaded.config == digits_scan.config
    assert loaded.warnings == digits_scan.warnings
    assert loaded.markov_length == digits_scan.markov_length or str(loaded.markov_length) == str(
        digits_scan.markov_length
    )
    before = path.read_bytes()
    with pytest.raises(FileExistsError, match="exists: choose another name"):
        digits_scan.save(path)
    assert path.read_bytes() == before
    digits_scan.save(path, overwrite=True)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["scan.nc"]


def test_a_failing_save_leaves_nothing_behind(
    digits_scan: PhaseScan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "scan.nc"
    digits_scan.save(path)
    before = path.read_bytes()

    def fail(*_: Any, **__: Any) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(xr.Dataset, "to_netcdf", fail)
    with pytest.raises(OSError, match="no space left"):
        digits_scan.save(path, overwrite=True)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["scan.nc"]


def test_foreign_and_damaged_files(digits_scan: PhaseScan, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="there is no scan file"):
        PhaseScan.load(tmp_path / "none.nc")
    text = tmp_path / "text.nc"
    text.write_text("not a scan")
    with pytest.raises(ValueError, match="cannot be read as a scan"):
        PhaseScan.load(text)
    good = tmp_path / "good.nc"
    digits_scan.save(good)
    cut = tmp_path / "cut.nc"
    cut.write_bytes(good.read_bytes()[:-2000])
    with pytest.raises(ValueError, match=r"cannot be read as a scan|is damaged"):
        PhaseScan.load(cut)
    xr.Dataset({"a": ("x", [1.0])}).to_netcdf(tmp_path / "other.nc", engine="h5netcdf")
    with pytest.raises(ValueError, match="is no scan, or is damaged: this is no phase scan: it lacks cmi"):
        PhaseScan.load(tmp_path / "other.nc")
    newer = digits_scan.dataset.copy()
    newer.attrs["format"] = 99
    newer.to_netcdf(tmp_path / "newer.nc", engine="h5netcdf")
    with pytest.raises(ValueError, match="newer version of phase-scan"):
        PhaseScan.load(tmp_path / "newer.nc")


def test_to_dataframe(digits_scan: PhaseScan) -> None:
    table = digits_scan.to_dataframe()
    assert isinstance(table, pd.DataFrame)
    assert len(table) == 15
    row = table[(table.t == 0.5) & (table.r == 2)].iloc[0]
    assert row.cmi == float(digits_scan.dataset.cmi.sel(t=0.5, r=2))
    np.testing.assert_array_equal(row.xi, digits_scan.markov_length[2].value)
    assert row.n_B == 24


def test_integers_are_scaled_and_it_is_said() -> None:
    images = (np.abs(chain_in_space(100, length=9)).reshape(100, 3, 3) * 60).astype(np.uint8)
    scan = phase_scan(images, levels=[0.3])
    assert "divided by 255" in scan.warnings[0]
    np.testing.assert_allclose(scan.dataset.cmi, phase_scan(images / 255, levels=[0.3]).dataset.cmi, rtol=1e-4)
    spins = np.sign(chain_in_space(100, length=9)).astype(np.int8)
    assert "kept as they are" in phase_scan(spins, levels=[0.3]).warnings[0]


def test_colour_images_and_frames_and_tensors() -> None:
    torch = pytest.importorskip("torch")
    x = chain_in_space(60, length=75)
    last, first = x.reshape(60, 5, 5, 3), np.moveaxis(x.reshape(60, 5, 5, 3), 3, 1)
    a = phase_scan(last, levels=[0.5], channel_axis=2).dataset
    b = phase_scan(torch.tensor(first.copy()), levels=[0.5], channel_axis=0).dataset
    np.testing.assert_allclose(a.cmi, b.cmi, rtol=1e-9)
    assert int(a.n_A) == 3
    frame = pd.DataFrame(x[:, :7])
    assert phase_scan(frame, levels=[0.5]).dataset.r.values.tolist() == [1, 2]


def test_schedules_as_objects() -> None:
    x = chain_in_space(100, length=7)
    scan = phase_scan(x, levels=[0.0, 1.0], noise=VarianceExploding(0.1, 10.0))
    assert scan.config["noise"] == {"name": "ve", "sigma_min": 0.1, "sigma_max": 10.0}
    assert scan.dataset.sigma.values.tolist() == pytest.approx([0.1, 10.0])


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"levels": []}, ValueError, "levels are empty"),
        (
            {"levels": [0.1, 1.2]},
            ValueError,
            r"noise levels of the interpolation schedule lie in \[0, 1\], got 1.2",
        ),
        ({"levels": [np.nan]}, ValueError, "got nan"),
        ({"levels": [0.1, 0.1]}, ValueError, "levels repeat 0.1"),
        ({"widths": [7]}, ValueError, "width 7 leaves nothing for C"),
        ({"center": 11}, ValueError, "lies outside"),
        ({"noise": "cosine"}, ValueError, "unknown noise"),
        ({"method": "mine"}, ValueError, "unknown method"),
        ({"shrink": 3}, TypeError, "no option 'shrink'"),
        ({"seed": -3}, ValueError, "seed must be at least 0"),
        ({"seed": 0.5}, TypeError, "seed must be a whole number"),
    ],
)
def test_bad_arguments(arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        phase_scan(chain_in_space(50), **{"levels": [0.5], **arguments})


def test_bad_samples() -> None:
    x = chain_in_space(50)
    x[3, 4] = np.nan
    with pytest.raises(ValueError, match=r"1 NaN values, the first in sample 3 at index \(4\)"):
        phase_scan(x, levels=[0.5])
    with pytest.raises(ValueError, match="at least 3 samples"):
        phase_scan(chain_in_space(2), levels=[0.5])


def test_too_few_samples_for_the_clean_level_only(tmp_path: Path) -> None:
    """30 samples of 41 pixels: no answer without noise, a good one with it; the scan says which."""
    scan = phase_scan(chain_in_space(30, length=41), levels=[0.0, 0.5])
    assert np.isnan(scan.dataset.cmi[0]).all()
    assert np.isfinite(scan.dataset.cmi[1]).all()
    assert "30 different samples cannot determine" in scan.warnings[-1]
    assert scan.warnings[-1].endswith("(t = 0)")
    scan.save(tmp_path / "s.nc")
    assert PhaseScan.load(tmp_path / "s.nc").warnings == scan.warnings


def test_configuration_is_json(digits_scan: PhaseScan) -> None:
    assert json.loads(digits_scan.dataset.attrs["config"])["seed"] == 0
    assert digits_scan.config["center"] == [3, 3]


def test_no_scan_from_a_foreign_dataset() -> None:
    with pytest.raises(ValueError, match="this is no phase scan"):
        PhaseScan(xr.Dataset())


def test_the_models_of_the_tests_are_what_they_say() -> None:
    model = chain(2, (1,))
    assert model.sizes == (1, 2, 2)
    np.testing.assert_allclose(model.cmi(), 0.0, atol=1e-12)  # a chain is Markov: C adds nothing to B

"""The command line: as a process for the main paths, in-process for every option and error."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
from commands import FAST, call, fails, program
from typer.testing import CliRunner, Result

from cmi import PhaseScan, open_dataset, phase_scan
from cmi.cli import app
from cmi.report import with_error

# As a process


def test_the_main_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = program("run", "digits", "--center", "3,3", "--out", "s.nc", "--plot", "s.png", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for text in (
        "digits: 1,797 samples of shape 8x8",
        "I(A:C|B_r)",
        "Markov length xi",
        "Verdict: ",
        "Wrote s.png",
    ):
        assert text in done.stdout
    scan = PhaseScan.load(tmp_path / "s.nc")
    direct = phase_scan(
        open_dataset("digits"), levels=scan.dataset.t.values, widths=[1, 2, 3], center=(3, 3)
    ).dataset
    np.testing.assert_array_equal(scan.dataset.cmi, direct.cmi)
    assert scan.dataset.t.values.tolist() == [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0]
    assert (tmp_path / "s.png").read_bytes().startswith(b"\x89PNG")

    monkeypatch.chdir(tmp_path)
    shown = call("show", "s.nc")
    assert shown.exit_code == 0
    table = done.stdout.split("Wrote")[0]
    assert shown.stdout == table


def test_help_answers_at_once() -> None:
    """No heavy import stands between the user and the help; the time itself is no test."""
    code = (
        "import sys; sys.argv = ['phase-scan', {}]\n"
        "try:\n    from cmi.cli import main; main()\nexcept SystemExit: pass\n"
    )
    for arguments in ("'--help'", "'run', '--help'", "'run', '--levels'"):
        script = code.format(arguments) + (
            "heavy = {'numpy', 'numba', 'scipy', 'pandas', 'xarray', 'matplotlib', 'torch'} & set(sys.modules)\n"
            "assert not heavy, heavy"
        )
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


def test_errors_of_the_process(tmp_path: Path) -> None:
    done = program("run", "nowhere.npy", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("Error: there is no file 'nowhere.npy'")
    assert done.stderr.count("\n") == 1
    assert "Traceback" not in done.stderr
    debug = program("run", "nowhere.npy", "--debug", cwd=tmp_path)
    assert debug.returncode == 1
    assert "Traceback" in debug.stderr
    unknown = program("run", "--what")
    assert unknown.returncode == 2
    assert "No such option" in unknown.stderr
    assert program("explode").returncode == 2
    assert program().returncode == 2


@pytest.mark.parametrize("method", ["gaussian", "ksg", "ksg --features regression"])
def test_one_or_two_workers_write_the_same_file(method: str, tmp_path: Path) -> None:
    for workers in ("1", "2"):
        out = tmp_path / f"{workers}.nc"
        done = call("run", "digits", *FAST, "--method", *method.split(), "--workers", workers, "--out", out)
        assert done.exit_code == 0, done.stderr
    assert (tmp_path / "1.nc").read_bytes() == (tmp_path / "2.nc").read_bytes()


# Every option


def config(*arguments: str | Path) -> tuple[PhaseScan, Result]:
    """Run with these options and load what was written."""
    with tempfile.TemporaryDirectory() as folder:
        result = call("run", *arguments, "--out", Path(folder) / "s.nc")
        assert result.exit_code == 0, result.stderr
        return PhaseScan.load(Path(folder) / "s.nc"), result


def test_run_options() -> None:
    regions = ["--widths", "1:2", "--center", "3,4", "--radius", "1", "--reach", "3", "--crop", "1:,:"]
    rest = ["--noise", "vp-cosine", "--method", "ksg", "--k", "3", "--seed", "7"]
    scan, result = config("digits", *FAST, *regions, *rest)
    c = scan.config
    assert scan.dataset.t.values.tolist() == [0.3, 0.6, 0.9]
    assert scan.dataset.r.values.tolist() == [1, 2]
    assert c["noise"]["name"] == "vp-cosine"
    assert (c["center"], c["radius"], c["reach"], c["seed"]) == ([3, 4], 1, 3, 7)
    assert c["data"]["shape"] == [7, 8]
    assert c["data"]["crop"] == "1:,:"
    assert c["data"]["n_samples"] == 300
    assert c["data"]["total"] == 1797
    assert c["method"] == "ksg"
    assert c["options"]["k"] == 3
    assert c["options"]["features"] is None
    assert "cropped 1:,:" in result.stdout
    assert "where the CMI is 0" not in result.stdout  # t = 1 was not scanned, and that is said
    assert "add t = 1" in result.stdout.replace("\n", " ")


def test_levels_and_widths_as_lists_and_singles() -> None:
    scan, _ = config("digits", "--limit", "200", "--levels", "0.1,0.7", "--widths", "2")
    assert scan.dataset.t.values.tolist() == [0.1, 0.7]
    assert scan.dataset.r.values.tolist() == [2]
    assert config("--limit", "100", "--levels", "0.5")[0].config["data"]["name"] == "digits"


def test_key_and_channel_axis(tmp_path: Path) -> None:
    x = np.random.default_rng(0).random((50, 3, 5, 5))
    np.savez(tmp_path / "x.npz", a=x, b=x[:, 0])
    scan, result = config(tmp_path / "x.npz", "--key", "a", "--levels", "0.5")
    assert scan.config["channel_axis"] == 0
    assert "was taken for the channels" in result.stdout.replace("\n", " ")
    assert config(tmp_path / "x.npz", "--key", "b", "--levels", "0.5")[0].config["channel_axis"] is None
    assert (
        config(tmp_path / "x.npz", "--key", "a", "--channel-axis", "1", "--levels", "0.5")[0].config["channel_axis"]
        == 1
    )


def test_shrinkage_and_no_channels(tmp_path: Path) -> None:
    scan, _ = config("digits", *FAST, "--shrinkage", "0.2")
    assert scan.config["options"]["shrinkage"] == 0.2
    assert config("digits", *FAST, "--shrinkage", "oas")[0].config["options"]["shrinkage"] == "oas"
    np.save(tmp_path / "x.npy", np.random.default_rng(0).random((40, 4, 5, 5)))
    assert config(tmp_path / "x.npy", "--levels", "0.5")[0].config["channel_axis"] == 0
    assert config(tmp_path / "x.npy", "--levels", "0.5", "--channel-axis", "none")[0].config["channel_axis"] is None


def test_version() -> None:
    assert call("--version").stdout.startswith("phase-scan 0.")


def test_markup_in_names_is_text(tmp_path: Path) -> None:
    (tmp_path / "[bold]").mkdir()
    np.save(tmp_path / "[bold]" / "[red]:smile:.npy", np.random.default_rng(0).random((40, 5, 5)))
    path = tmp_path / "[bold]" / "[red]:smile:.npy"
    result = call("run", path, "--levels", "0.5", "--out", tmp_path / "[bold]" / "s[x].nc")
    assert "[red]:smile:.npy: 40 samples" in result.stdout
    assert "[bold]/s[x].nc" in result.stdout.replace("\n", "")
    assert "[red]:smile:.npy" in call("info", path).stdout
    (tmp_path / "t.csv").write_text("[/x],b\n1,2\n3,4\n5,7\n")
    assert "[/x], b" in call("info", tmp_path / "t.csv").stdout


def test_without_out_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = call("run", "digits", *FAST)
    assert result.exit_code == 0
    assert "Nothing was saved: give --out FILE.nc" in result.stdout
    assert list(tmp_path.iterdir()) == []


def test_narrow_terminals_split_the_map() -> None:
    result = CliRunner(env={"COLUMNS": "50", "FORCE_COLOR": "1", "TERM": "xterm"}).invoke(
        app, ["run", "digits", *FAST, "--widths", "0:3"]
    )
    plain = re.sub(r"\x1b\[[0-9;]*m", "", result.stdout)
    assert plain.count("SNR") >= 2
    for r in range(4):
        assert f"r={r}" in plain


def test_plot_command(tmp_path: Path) -> None:
    scan = phase_scan(open_dataset("digits", limit=200), levels=[0.3, 0.6], widths=[1, 2])
    scan.save(tmp_path / "s.nc")
    assert "s.png" in call("plot", tmp_path / "s.nc").stdout.replace("\n", "")
    assert (tmp_path / "s.png").is_file()
    fails(r"s\.png' exists: choose another name, or overwrite it \(--overwrite\)", "plot", tmp_path / "s.nc")
    assert call("plot", tmp_path / "s.nc", "--overwrite").exit_code == 0
    assert call("plot", tmp_path / "s.nc", "--out", tmp_path / "t.pdf").exit_code == 0
    assert (tmp_path / "t.pdf").read_bytes().startswith(b"%PDF")
    fails("no suffix of a picture", "plot", tmp_path / "s.nc", "--out", tmp_path / "t.xyz")
    fails("there is no scan file", "plot", tmp_path / "none.nc")


def test_info(tmp_path: Path) -> None:
    result = call("info", "digits", "--limit", "500", "--crop", ":,1:-1")
    assert result.exit_code == 0
    text = " ".join(result.stdout.split())
    for part in (
        "500 (of 1,797 in the file)",
        "8x6 = 48 values",
        "range 0 to 1",
        "pixels hold one value only",
        "Suggested: --method gaussian",
    ):
        assert part in text
    np.save(tmp_path / "x.npy", np.random.default_rng(0).random((400, 4)))
    assert "Suggested: --method ksg" in call("info", tmp_path / "x.npy").stdout
    np.savez(tmp_path / "x.npz", images=np.zeros((5, 3, 3)))
    assert call("info", tmp_path / "x.npz", "--key", "images").exit_code == 0
    fails("give a key, one of images", "info", tmp_path / "x.npz")


# Every error


@pytest.mark.parametrize(
    ("message", "arguments"),
    [
        ("unknown method 'mine': choose from gaussian, copula, ksg", ["--method", "mine"]),
        ("--levels takes start:stop:count, as in 0:1:11", ["--levels", "0:1"]),
        ("--levels takes start:stop:count", ["--levels", "a"]),
        ("--levels takes start:stop:count", ["--levels", "0:1:0"]),
        ("--levels takes start:stop:count", ["--levels", ""]),
        (r"noise levels of the interpolation schedule lie in \[0, 1\], got 1.5", ["--levels", "0:1.5:4"]),
        ("levels repeat 0.5", ["--levels", "0.5,0.5"]),
        ("--widths takes first:last, as in 1:12", ["--widths", "a:b"]),
        ("--widths takes first:last", ["--widths", "1:2:3"]),
        ("first <= last", ["--widths", "3:1"]),
        ("width 4 leaves nothing for C", ["--widths", "1:4"]),
        ("width must be at least 0, got -1", ["--widths=-1:2"]),
        ("unknown noise 'cosine'", ["--noise", "cosine"]),
        ("--center takes whole numbers from 0", ["--center", "a,b"]),
        (r"the centre \(8, 0\) lies outside", ["--center", "8,0"]),
        ("the centre needs 2 coordinates", ["--center", "3"]),
        ("sticks out", ["--radius", "4"]),
        ("radius must be at least 0", ["--radius=-1"]),
        ("reach must be at least 1", ["--reach", "0"]),
        ("start:stop per axis", ["--crop", "1"]),
        ("leaves nothing of an axis", ["--crop", "9:,:"]),
        ("has 3 parts", ["--crop", ":,:,:"]),
        ("channel_axis 5 is not an axis", ["--channel-axis", "5"]),
        ("--channel-axis takes a whole number or none, got 'many'", ["--channel-axis", "many"]),
        ("takes no key", ["--key", "x"]),
        ("--shrinkage is for --method gaussian and copula", ["--method", "ksg", "--shrinkage", "0.1"]),
        ("--shrinkage is for --method gaussian and copula", ["--method", "discrete", "--shrinkage", "0.1"]),
        ("'discrete' counts values, which noise makes all different", ["--method", "discrete"]),
        ("unknown shrinkage 'much'", ["--shrinkage", "much"]),
        ("ending in .nc, got 's.png'", ["--out", "s.png"]),
        ("--levels takes start:stop:count", ["--levels", "0:inf:3"]),
        ("--levels takes start:stop:count", ["--levels", "0:1:99999999"]),
        ("the file name .* is too long", ["--out", "x" * 240 + ".nc"]),
        ("limit must be at least 1", ["--limit", "0"]),
        ("at least 3 samples, got 2", ["--limit", "2"]),
        ("--workers must be at least 1", ["--workers", "0"]),
        ("seed must be at least 0", ["--seed=-1"]),
        ("--k is for --method ksg, not gaussian", ["--k", "3"]),
        ("k must be at least 1, got 0", ["--method", "ksg", "--k", "0"]),
        ("--features is for --method ksg, not gaussian", ["--features", "pca"]),
        ("--features takes regression or pca", ["--method", "ksg", "--features", "mean"]),
        ("5 neighbours need at least 7 samples, got 6", ["--method", "ksg", "--limit", "6"]),
        ("there is no scan file", ["--resume", "none.nc"]),
        ("the folder 'no' for s.nc does not exist: make it first", ["--out", "no/s.nc"]),
        ("is a folder: name a file", ["--out", "."]),
        ("no suffix of a picture", ["--plot", "s.xyz"]),
    ],
)
def test_run_errors(message: str, arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    fails(message, "run", "digits", *arguments)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("option", ["--radius", "--limit", "--seed", "--workers", "--k", "--reach"])
def test_options_that_are_no_numbers(option: str) -> None:
    fails(f"Invalid value for '{option}'", "run", "digits", option, "many", code=2)


def test_existing_outputs_stay(tmp_path: Path) -> None:
    for option, name in (("--out", "s.nc"), ("--plot", "s.png")):
        path = tmp_path / name
        path.write_text("mine")
        fails(
            r"exists: choose another name, or overwrite it \(--overwrite\)",
            "run",
            "digits",
            *FAST,
            option,
            path,
        )
        assert path.read_text() == "mine"
        assert call("run", "digits", *FAST, option, path, "--overwrite").exit_code == 0
        assert path.read_bytes() != b"mine"


def test_outputs_are_checked_before_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import cmi.scan

    monkeypatch.setattr(cmi.scan, "phase_scan", lambda *_, **__: pytest.fail("the scan was started"))
    (tmp_path / "s.nc").write_text("mine")
    fails("exists", "run", "digits", "--out", tmp_path / "s.nc")

    # not with a locked folder: whoever runs the tests as root may write anywhere
    monkeypatch.setattr(os, "access", lambda *_: False)
    fails("the folder .* cannot be written to", "run", "digits", "--out", tmp_path / "new.nc")


@pytest.mark.parametrize("command", ["run", "info"])
def test_data_errors(command: str, tmp_path: Path) -> None:
    np.save(tmp_path / "pickle.npy", np.array([{}], dtype=object), allow_pickle=True)
    np.save(tmp_path / "labels.npy", np.zeros(9))
    np.save(tmp_path / "complex.npy", np.zeros((9, 3), dtype=complex))
    (tmp_path / "cut-idx3-ubyte.gz").write_bytes(b"\x1f\x8b\x08")
    (tmp_path / "a.xyz").write_text("")
    (tmp_path / "folder").mkdir()
    for name, message in (
        ("none.npy", "there is no file"),
        ("pickle.npy", "pickled Python objects, which are never loaded"),
        ("labels.npy", "are these the labels"),
        ("complex.npy", "complex values"),
        ("cut-idx3-ubyte.gz", "truncated or corrupt"),
        ("a.xyz", "no suffix that tells its format"),
        ("folder", "holds no images"),
    ):
        fails(message, command, tmp_path / name)


def test_samples_with_nan(tmp_path: Path) -> None:
    x = np.zeros((50, 4, 4))
    x[3, 1, 2] = np.nan
    np.save(tmp_path / "x.npy", x)
    fails(r"1 NaN values, the first in sample 3 at index \(1, 2\)", "run", tmp_path / "x.npy")


def test_show_errors(tmp_path: Path) -> None:
    fails("there is no scan file", "show", tmp_path / "s.nc")
    (tmp_path / "s.nc").write_text("x")
    fails("cannot be read as a scan", "show", tmp_path / "s.nc")


def test_bugs_are_called_bugs(monkeypatch: pytest.MonkeyPatch) -> None:
    import cmi.data

    def broken(*_: object, **__: object) -> None:
        raise AssertionError("the impossible")

    monkeypatch.setattr(cmi.data, "open_dataset", broken)
    result = call("info", "digits")
    assert result.exit_code == 1
    assert result.stderr.startswith("Unexpected AssertionError: the impossible\nThis is a bug in phase-scan")


@pytest.mark.parametrize(
    ("value", "error", "text"),
    [
        (0.01234, 0.00041, "0.0123(4)"),
        (0.01234, 0.00016, "0.01234(16)"),
        (76.3, 1.7, "76.3(1.7)"),
        (-0.2, 1.3, "-0.2(1.3)"),
        (123.4, 12.0, "123(12)"),
        (0.5, 0.0, "0.5"),
        (float("nan"), 1.0, "-"),
        (float("inf"), float("nan"), "inf"),
        (0.0096, 0.00096, "0.0096(10)"),
        (1.0, 0.96, "1.0(1.0)"),
    ],
)
def test_errors_in_the_last_digits(value: float, error: float, text: str) -> None:
    assert with_error(value, error) == text


def test_what_ksg_knows_of_itself_is_printed_and_kept(tmp_path: Path) -> None:
    """Bias on surrogates by default; floor and p-values, calibrated, with queries, if asked for."""
    base = ["run", "digits", *FAST, "--method", "ksg", "--center", "1,3", "--reach", "3"]
    plain = call(*base)
    assert plain.exit_code == 0, plain.output
    assert "Bias on Gaussian data of the same covariance, in 10^-3 nats\n" in plain.stdout
    assert "p-values" not in plain.stdout
    assert "Bias on" not in call(*base, "--surrogates", "0").stdout
    out = tmp_path / "s.nc"
    full = call(*base, "--calibrate", "--permutations", "3", "--queries", "100", "--out", out)
    assert full.exit_code == 0, full.output
    assert "in 10^-3 nats, subtracted above" in full.stdout
    assert "mean over local permutations of C" in full.stdout
    assert "p-values" in full.stdout
    assert "averaged over 100 of the 300 samples" in full.stdout
    assert "method ksg (k = 5, queries = 100" not in full.stdout  # what was left at its default is not named
    assert "method ksg (calibrate, n_permutations = 3, queries = 100)" in full.stdout
    assert call("show", out).stdout == full.stdout.replace(f"Wrote {out}\n", "")
    assert set((4 * PhaseScan.load(out).dataset.p_value.values).ravel().tolist()) <= {1.0, 2.0, 3.0, 4.0}


def test_wrong_options_of_ksg() -> None:
    base = ["run", "digits", "--method"]
    for option in ("--queries", "--surrogates", "--permutations", "--k"):
        fails(f"{option} is for --method ksg.*, not gaussian", *base, "gaussian", option, "3")
        fails("must be at least", *base, "ksg", "--center", "1,3", "--reach", "3", option, "-1")
        assert call(*base, "ksg", option, "x").exit_code == 2
    fails("--permutations must be at least 0", *base, "ksg", "--center", "1,3", "--permutations", "-1")
    fails("--features takes regression or pca, got 'mine'", *base, "ksg", "--features", "mine")
    fails("--calibrate is for --method ksg, not copula", *base, "copula", "--calibrate")
    fails("calibrate subtracts the bias", *base, "ksg", "--reach", "3", "--calibrate", "--surrogates", "0")
    fails("--shrinkage is for --method gaussian and copula, not ksg", *base, "ksg", "--shrinkage", "oas")

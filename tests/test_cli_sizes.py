"""The command line over several sizes, refined levels, and pictures of the decay."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from commands import FAST, call, fails, program

from cmi import PhaseScan, open_dataset, scan_sizes


def test_several_sizes(tmp_path: Path) -> None:
    """The whole way as a process: scans, picture, verdict; then again from the files."""
    data = ["exact:chain?L=25&a=0.5&n=3000", "--levels", "0.3:0.9:4"]
    done = program("run", *data, "--sizes", "5,15,25", "--out", "s.nc", "--plot", "s.png", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "regions scaled with L" in done.stdout
    assert "Verdict: none - the CMI of regions that grow with the sample falls with the size" in done.stdout
    files = [tmp_path / f"s.L{size}.nc" for size in (5, 15, 25)]
    assert all(file.is_file() for file in files)
    assert (tmp_path / "s.png").read_bytes().startswith(b"\x89PNG")
    again = call("transition", *files)
    assert again.exit_code == 0
    assert again.stdout.splitlines()[-2:] == [line for line in done.stdout.splitlines() if "Wrote" not in line][-2:]
    drawn = call("plot", *files, "--out", tmp_path / "again.svg")
    assert drawn.exit_code == 0, drawn.output
    assert (tmp_path / "again.svg").is_file()
    before = files[0].read_bytes()
    fails(r"s\.L5\.nc' exists", "run", *data, "--sizes", "5,15", "--out", tmp_path / "s.nc")
    assert files[0].read_bytes() == before
    blocks = call("run", "digits", "--limit", "300", "--levels", "0.5,0.7,0.9", "--sizes", "block:5")
    assert blocks.exit_code == 0, blocks.output


@pytest.mark.parametrize(
    ("message", "arguments"),
    [
        ("--sizes takes sides in pixels, as 5,15,25", ["--sizes", "5,x"]),
        ("--sizes takes sides in pixels", ["--sizes", "zoom:5,10"]),
        ("every size must be at least 5, got 3", ["--sizes", "3,5"]),
        ("a window of 15 pixels around pixel 4 does not fit into the 8", ["--sizes", "5,15"]),
        ("multiples of the smallest, 5, got 7", ["--sizes", "block:5,7"]),
        ("--widths follows from --sizes", ["--sizes", "5,7", "--widths", "1:2"]),
        ("--radius follows from --sizes", ["--sizes", "5,7", "--radius", "1"]),
        ("refine must be at least 0, got -1", ["--refine", "-1"]),
        ("refine must be at least 0, got -1", ["--sizes", "5,7", "--refine", "-1"]),
    ],
)
def test_wrong_sizes(message: str, arguments: list[str]) -> None:
    fails(message, "run", "digits", *FAST, *arguments)


def test_files_that_are_no_sizes(tmp_path: Path) -> None:
    assert call("run", "digits", *FAST, "--out", tmp_path / "one.nc").exit_code == 0
    fails("one.nc is no scan of one of several sizes", "transition", tmp_path / "one.nc")
    fails("there is no scan file", "transition", tmp_path / "none.nc")
    fails("--kind takes map, decay, bias or sizes", "plot", tmp_path / "one.nc", "--kind", "pie")
    fails(
        "--kind sizes draws the scans of several sizes, got 1 file$", "plot", tmp_path / "one.nc", "--kind", "sizes"
    )
    assert call("run", "digits", *FAST, "--sizes", "5,7", "--out", tmp_path / "s.nc").exit_code == 0
    five, seven = tmp_path / "s.L5.nc", tmp_path / "s.L7.nc"
    fails("has the same size as another file, 5", "transition", five, five)
    fails("--kind decay draws one scan, got 2 files", "plot", five, seven, "--kind", "decay")
    assert call("plot", five, seven).exit_code == 0
    assert (tmp_path / "s.sizes.png").is_file()
    for name, value in {
        "number of samples, 200 and 300": ["--limit", "200", "--sizes", "5"],
        "making, means of blocks and crops": ["--sizes", "block:5"],
    }.items():
        assert call("run", "digits", *FAST, *value, "--overwrite", "--out", tmp_path / "o.nc").exit_code == 0
        fails(f"not sizes of one data set: they differ in their {name}", "transition", tmp_path / "o.L5.nc", seven)


def test_refine_and_decay(tmp_path: Path) -> None:
    done = call(
        "run", "exact:chain?L=21&n=2000", "--levels", "0.4,0.6,0.8", "--refine", "2", "--out", tmp_path / "a.nc"
    )
    assert done.exit_code == 0, done.output
    assert PhaseScan.load(tmp_path / "a.nc").dataset.t.values.tolist() == [0.4, 0.6, 0.7, 0.75, 0.8]
    drawn = call("plot", tmp_path / "a.nc", "--kind", "decay", "--out", tmp_path / "decay.pdf")
    assert drawn.exit_code == 0, drawn.output
    assert (tmp_path / "decay.pdf").is_file()


def test_means_of_blocks_are_labelled_as_such(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.random.default_rng(0).standard_normal((300, 12, 12)))
    done = call(
        "run", tmp_path / "x.npy", "--levels", "0.3,0.6", "--sizes", "block:5,10", "--out", tmp_path / "b.nc"
    )
    assert done.exit_code == 0, done.output
    assert "Markov length xi in blocks of 2 pixels" in call("show", tmp_path / "b.L10.nc").stdout
    assert "Markov length xi in pixels" in call("show", tmp_path / "b.L5.nc").stdout
    scan = PhaseScan.load(tmp_path / "b.L10.nc")
    assert scan.unit == scan.dataset.r.attrs["units"] == "blocks of 2 pixels"


def test_the_bar_of_several_sizes_only_rises() -> None:
    seen: list[tuple[int, int]] = []
    data = open_dataset("exact:chain?L=15&a=0.8&n=500")
    scan_sizes(data, [5, 15], levels=[0.3, 0.5, 0.8], refine=2, progress=lambda *counts: seen.append(counts))
    assert [done for done, _ in seen] == sorted({done for done, _ in seen})
    assert seen[-1] == (10, 10)

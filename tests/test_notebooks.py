"""Notebooks: every cell runs, on small data, and the paired files hold the same cells."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.py"))
TOLD = {"paper_map": ("passed", "failed")}  # what a notebook says at the end, where it is no xi


def cells(script: Path) -> list[tuple[str, str]]:
    """Kind and text of the cells of a script in the percent format."""
    found = []
    for part in script.read_text().split("\n# %%")[1:]:
        head, _, body = part.partition("\n")
        text = body.strip("\n")
        if "[markdown]" in head:
            text = "\n".join(line[2:] for line in text.splitlines())
        found.append(("markdown" if "[markdown]" in head else "code", text))
    return found


@pytest.mark.slow
@pytest.mark.parametrize("script", NOTEBOOKS, ids=lambda path: path.stem)
def test_every_cell_runs(script: Path, tmp_path: Path) -> None:
    """Those that read real images where there are some, else the stand-in."""
    folder = os.environ.get("PHASE_SCAN_DATA", str(ROOT.parent / "shared" / "data"))
    environment = {**os.environ, "PHASE_SCAN_SMALL": "1", "PHASE_SCAN_DATA": folder}
    done = subprocess.run(
        [sys.executable, "-W", "error", script],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert any(word in done.stdout for word in TOLD.get(script.stem, ("xi = ", "unresolved")))


@pytest.mark.parametrize("script", NOTEBOOKS, ids=lambda path: path.stem)
def test_pairs_hold_the_same_cells(script: Path) -> None:
    notebook = json.loads(script.with_suffix(".ipynb").read_text())
    paired = [(cell["cell_type"], "".join(cell["source"])) for cell in notebook["cells"]]
    assert paired == cells(script), "run: jupytext --to ipynb --execute notebooks/*.py"
    outputs = [output for cell in notebook["cells"] for output in cell.get("outputs", [])]
    assert any("image/png" in output.get("data", {}) for output in outputs)
    # warnings carry the paths of the machine that ran the cells
    assert not any(output["output_type"] == "error" or output.get("name") == "stderr" for output in outputs)

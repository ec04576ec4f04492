"""The comparison with other packages, alone and with stand-ins for every way a peer can end; ablations."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from conftest import ROOT

sys.path.insert(0, str(ROOT / "benchmarks"))
import ablations
import knn as knn_benchmark
import numpy as np
import two_seeds

from cmi import open_dataset
from estimators.posterior_part import splits

if TYPE_CHECKING:
    from torch import Tensor

STAND_INS = {
    "pycit/estimators/ksg_cmi.py": "def ksg_cmi(*_, k): return 0.5",
    "npeet_plus/estimators.py": "def mi(*_, k, base): return float('nan')",
    "infomeasure/__init__.py": "def cmi(*_, **options): raise ValueError('too [many] columns')",
    "dit/inference/knn_estimators.py": "import os\ndef total_correlation_ksg(*_, **options): os._exit(3)",
    "tigramite/independence_tests/cmiknn.py": """
import time
class CMIknn:
    calls = 0
    def __init__(self, **options): pass
    def get_dependence_measure(self, rows, which):
        CMIknn.calls += 1
        time.sleep(60 * (CMIknn.calls > 1))
        return 0.5
""",
}


def knn(*arguments: str | Path, path: str = "") -> subprocess.CompletedProcess[str]:
    """Run the benchmark on 300 samples of three columns."""
    return subprocess.run(
        [sys.executable, ROOT / "benchmarks" / "knn.py", "--n", "300", "--dims", "1,1,1", *arguments],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        env=os.environ | ({"PYTHONPATH": path} if path else {}),
        check=False,
        timeout=240,
    )


def rows(file: Path) -> dict[str, dict[str, str]]:
    with file.open(newline="") as lines:
        return {row["peer"]: row for row in csv.DictReader(lines)}


def test_alone_with_a_missing_peer(tmp_path: Path) -> None:
    file, picture = tmp_path / "knn.csv", tmp_path / "knn.png"
    done = knn("--peers", "JIDT", "--csv", file, "--plot", picture)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "JIDT: missing: no" in done.stdout
    found = rows(file)
    assert list(found) == ["phase-scan", "JIDT"]
    assert found["JIDT"]["status"].startswith("missing: no")
    assert found["JIDT"]["seconds"] == "nan"
    ours = found["phase-scan"]
    assert {"a", "b", "c", "n", "k", "cores", "limit", "true_cmi", "version", "uses", "calls"} <= set(ours)
    assert (ours["status"], ours["agrees"], ours["n"], ours["ratio"]) == ("ok", "yes", "300", "1.0")
    assert 0.0 < float(ours["seconds"]) < 120.0
    assert float(ours["peak_mib"]) > float(ours["added_mib"]) >= 0.0
    assert abs(float(ours["value"]) - float(ours["true_cmi"])) < 0.2
    assert abs(float(ours["off_definition"])) <= 1e-10
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_how_a_peer_can_end(tmp_path: Path) -> None:
    """Stand-ins, found before what is installed, that are wrong, fail, die, or never come back."""
    for name, source in STAND_INS.items():
        module = tmp_path / name
        module.parent.mkdir(parents=True)
        for package in (module.parent, module.parent.parent):
            if package != tmp_path:
                (package / "__init__.py").touch()
        module.write_text(source)
    file = tmp_path / "knn.csv"
    names = ["pycit", "npeet-plus", "infomeasure", "dit", "tigramite"]
    done = knn("--peers", *names, "--csv", file, "--limit", "1", path=str(tmp_path))
    assert done.returncode == 1, done.stdout + done.stderr
    found = rows(file)
    assert found["phase-scan"]["agrees"] == "yes"
    ends = {name: (found[name]["status"], found[name]["agrees"]) for name in names}
    assert ends == {
        "pycit": ("ok", "NO"),
        "npeet-plus": ("ok", "NO"),
        "infomeasure": ("failed: ValueError: too [many] columns", "not compared"),
        "dit": ("failed: exit status 3, nothing said", "not compared"),
        "tigramite": ("over 1 s", "NO"),
    }
    for name in ("infomeasure", "dit", "tigramite"):
        assert f"{name}: {ends[name][0]}" in done.stdout
    for name in ("pycit", "npeet-plus", "tigramite"):
        assert f"{name} disagrees" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["--dims", "1,0,1"], "needs a column"), (["--csv", "{here}"], "exists"), (["--jidt", "no.jar"], "no.jar")],
)
def test_refused_before_any_work(
    tmp_path: Path,
    arguments: list[str],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    here = tmp_path / "knn.csv"
    here.write_text("kept")
    monkeypatch.setattr(sys, "argv", ["knn.py", *(argument.format(here=here) for argument in arguments)])
    with pytest.raises(SystemExit, match="2"):
        knn_benchmark.main()
    assert message in capsys.readouterr().err.splitlines()[-1]
    assert here.read_text() == "kept"


@pytest.fixture
def small_field(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two levels of ten and widths of thirteen, of a field of 9 x 9."""
    pytest.importorskip("torch")
    for name in ("LEVELS", "SHOWN"):
        monkeypatch.setattr(ablations, name, (0.1, 0.6))
    monkeypatch.setattr(ablations, "WIDTHS", (0, 2))
    monkeypatch.setattr(ablations, "SIDE", 9)


@pytest.mark.slow
@pytest.mark.usefixtures("small_field")
def test_ablations_on_the_field(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A network that begins as a Gaussian is ahead of one that begins as nothing, and is not trained twice.

    In one process: every row of the table is read, and those of networks once more as they were kept.
    """

    def table(networks: str) -> list[str]:
        command = ["ablations.py", "--model", "--samples", "600", "--steps", "8", "--out", str(tmp_path)]
        monkeypatch.setattr(sys, "argv", [*command, "--networks", networks])
        ablations.main()
        return capsys.readouterr().out.split("cross-entropy")[-1].splitlines()[1:]

    rows = table("as it is,no start")
    names = ["as it is", "no Gaussian", "no mixture", "no narrower", "network alone", "no start"]
    assert [row[:16].strip() for row in rows] == names
    found = {row[:16].strip(): row[16:].split("(")[0].strip() for row in rows}
    assert found["as it is"] == "0.00"
    assert float(found["no start"]) > 10.0
    files = {file: file.stat().st_mtime_ns for file in tmp_path.iterdir()}
    assert len(files) == 2
    monkeypatch.setattr(ablations, "STACKS", {})
    assert table("as it is,no start") == [rows[0], rows[5]]
    assert {file: file.stat().st_mtime_ns for file in tmp_path.iterdir()} == files
    with pytest.raises(SystemExit, match="2"):
        table("no brain")
    assert "networks are of as it is, no start, no others, half, wide, " in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.usefixtures("small_field")
def test_ablations_of_size_and_draws_of_noise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is said to be larger is, and noise that is said to be drawn four times is drawn four times."""
    from estimators.posterior_training import PosteriorTrainer

    task = ablations.of_field(600, seed=0)
    batches: list[int] = []
    asked: list[tuple[int, int, int, int]] = []
    losses, noise_of = PosteriorTrainer.losses, ablations._noise_of

    def watched_losses(run: PosteriorTrainer) -> Tensor:
        batches.append(run.settings.batch)
        return losses(run)

    def watched_noise(*what: int) -> Tensor:
        level, image, draw, columns = what
        asked.append((level, image, draw, columns))
        return noise_of(*what)

    def hidden(name: str) -> int:
        answers = ablations.trained(task, name, 2, tmp_path, 0).parts[0].answers
        assert answers is not None
        return answers.network.hidden

    monkeypatch.setattr(PosteriorTrainer, "losses", watched_losses)
    monkeypatch.setattr(ablations, "_noise_of", watched_noise)
    wide, narrow, batch, plain = (hidden(name) for name in ("wide", "narrow", "batch", "as it is"))
    assert (wide, narrow, batch) == (2 * plain, plain // 2, plain)
    assert batches == [512, 512, 512, 512, 2048, 2048, 512, 512]
    assert not asked

    assert [hidden(name) for name in ("one draw", "four draws x 2")] == [plain, plain]
    once = 2 * 512  # steps, images and levels
    assert len(asked) == once + 4 * 512
    assert [{draw for _, _, draw, _ in part} for part in (asked[:once], asked[once:])] == [{0}, {0, 1, 2, 3}]
    assert {level for level, *_ in asked} == {0, 1}
    drawn = {what: tuple(noise_of(*what).tolist()) for what in asked}
    assert len(set(drawn.values())) == len(drawn) < len(asked)
    assert all(drawn[what] == tuple(noise_of(*what).tolist()) for what in asked[:50])
    assert len(batches) == 8  # losses were those of noise that was kept


@pytest.mark.usefixtures("small_field")
def test_noise_that_is_kept_is_what_is_trained_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With another noise the same images are seen, and are farther off by sigma times the difference."""
    torch = pytest.importorskip("torch")
    from estimators.posterior_answers import Answers, Levels

    task, loss = ablations.of_field(600, seed=0), Answers.loss
    seen: list[tuple[Tensor, Tensor]] = []

    def watched(answers: Answers, noisy: Tensor, targets: list[int], levels: Levels, own: list[Tensor]) -> Tensor:
        if torch.is_grad_enabled():  # a step, not a look at what is held out
            seen.append((noisy.clone(), levels.sigma[:, None, None]))
        return loss(answers, noisy, targets, levels, own)

    monkeypatch.setattr(Answers, "loss", watched)
    for value in (0.0, 3.0):
        monkeypatch.setattr(ablations, "_noise_of", lambda *what, value=value: torch.full((what[-1],), value))
        folder = tmp_path / str(value)
        folder.mkdir()
        ablations.trained(task, "one draw", 1, folder, 0)
    (clean, sigma), (moved, _) = seen[0], seen[-1]
    assert len(seen) == 2
    torch.testing.assert_close(moved - clean, (3.0 * sigma).expand_as(clean), rtol=0, atol=1e-4)


def test_two_seeds_differ_by_what_was_learnt_and_by_what_was_held_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    levels, widths = (0.0, 0.6), (0, 1, 2)
    monkeypatch.setattr(two_seeds, "LEVELS", levels)
    monkeypatch.setattr(two_seeds, "WIDTHS", widths)
    monkeypatch.setattr(two_seeds, "images", lambda _: open_dataset("digits"))
    folders = [str(tmp_path / name) for name in ("first", "second")]
    asked = ["two_seeds.py", "--data", ".", "--minutes", "0.01", "--out", *folders]
    monkeypatch.setattr(sys, "argv", asked)
    two_seeds.main()
    table = capsys.readouterr().out
    data = open_dataset("digits")
    held_out = [next(iter(splits(len(data.samples), None, seed)))[2] for seed in (0, 1)]
    common = len(np.intersect1d(held_out[0], held_out[1]))
    assert 0 < common < len(held_out[0])
    assert f"on {common} images that neither has seen" in table
    assert "of 4 cells" in table
    assert "of 6 cells" in table
    at = two_seeds.unseen_by_both(
        data, [Path(folder) for folder in folders], (0, 1), levels=levels, widths=widths, minutes=0.01
    )
    assert [each.shape for each in at] == [(5, common)] * 2
    assert all(np.isfinite(each).all() and np.abs(each[-1]).max() > 1e-3 for each in at)
    # a network and itself: nothing differs
    same = two_seeds.unseen_by_both(
        data, [Path(folders[0])] * 2, (0, 0), levels=levels, widths=widths, minutes=0.01
    )
    assert not np.concatenate(same).any()

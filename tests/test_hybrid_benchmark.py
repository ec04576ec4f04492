"""The benchmark of hybrids end to end, on small images: schedules, trade-off, and what is kept."""

from __future__ import annotations

import re
import struct
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT

torch = pytest.importorskip("torch")

sys.path.insert(0, str(ROOT / "benchmarks"))
import hybrid  # noqa: E402

from cmi import open_dataset  # noqa: E402
from cmi.denoise import (  # noqa: E402
    GaussianDenoiser,
    Schedule,
    plan_schedule,
    score_denoisers,
    time_grid,
    train_denoiser,
)
from cmi.denoise.networks import Preconditioned  # noqa: E402
from cmi.exact import GaussianField  # noqa: E402

SMALL = hybrid.Settings(0.01, 0.02, width=8, global_width=8, scored=120, drawn=50, steps=12, radii=(0, 1, 3))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four IDX files of the digits."""
    into = tmp_path_factory.mktemp("idx")
    x = np.round(np.asarray(open_dataset("digits").samples) * 255 / np.max(open_dataset("digits").samples))
    labels = (x.reshape(len(x), -1).mean(axis=1) > 76).astype(np.uint8)
    for name, part in (("train", slice(0, 1300)), ("t10k", slice(1300, None))):
        images = x[part].astype(np.uint8)
        head = struct.pack(">IIII", 0x803, *images.shape)
        (into / f"{name}-images-idx3-ubyte").write_bytes(head + images.tobytes())
        (into / f"{name}-labels-idx1-ubyte").write_bytes(
            struct.pack(">II", 0x801, len(images)) + labels[part].tobytes()
        )
    return into


def by_steps(net: Preconditioned, images: Any, *, minutes: float, **options: Any) -> Any:
    """As many steps as the minutes of no machine in particular: plans do not depend on how busy this one is."""
    return train_denoiser(net, images, steps=round(6000 * minutes), **options)


@pytest.mark.slow
def test_it_runs_and_does_not_train_twice(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(hybrid, "QUICK", SMALL)
    monkeypatch.setattr(hybrid, "train_denoiser", by_steps)
    monkeypatch.setattr(hybrid, "BUDGETS", (0.05, 5.0))
    monkeypatch.setattr(hybrid, "SHORT", (0.5,))
    command = ["hybrid.py", "--data", str(folder), "--quick", "--out", str(tmp_path), "--budget", "0.05"]
    monkeypatch.setattr(sys, "argv", command)
    hybrid.main()
    first = capsys.readouterr().out
    assert "plan: " in first
    for label in (
        "global",
        "local",
        "planned",
        "planned to 0",
        "equal cost",
        "real images",
        "plan 5",
        "6 planned",
        "few for 6",
    ):
        assert re.search(rf"^ *{label} +[\d(]", first, re.MULTILINE), label
    curve = pd.read_csv(tmp_path / "trade_off.csv")
    once = ["order 1", "order 1"]
    assert curve.kind.tolist() == ["global", "local", "plan", "plan", "few", "short", "few", *once, "real"]
    real, curve = curve.iloc[-1], curve.iloc[:-1]
    assert real[["wasserstein", "wasserstein error", "mmd", "frechet", "frechet error"]].notna().all()
    assert curve.steps.tolist()[:3] == [12, 12, 12]
    assert curve.steps[5] == curve.steps[7] == 6
    assert curve.frechet[5] != curve.frechet[7]  # (two steps are alike in both orders)
    whole = curve.GFLOP[0]
    assert (whole + 1e-12 >= curve.GFLOP).all()
    assert curve.GFLOP[3] <= curve.GFLOP[2]  # more nats, fewer operations
    assert curve["nats"][0] == 0.0
    assert curve.filter(like="error").notna().all().all()
    assert {file.name for file in tmp_path.iterdir()} > {"gaps.png", "plan.png", "trade_off.png", "scores.nc"}
    kept = {file: file.stat().st_mtime_ns for file in tmp_path.glob("*.pt")}
    assert len(kept) == 4

    def enough(*arguments: object) -> None:
        raise StopIteration

    monkeypatch.setattr(hybrid, "schedules", enough)  # what is drawn again is drawn the same
    with pytest.raises(StopIteration):
        hybrid.main()
    assert {file: file.stat().st_mtime_ns for file in tmp_path.glob("*.pt")} == kept
    again = capsys.readouterr().out.split("plan: ")[1]
    assert again
    assert first.split("plan: ")[1].startswith(again)


def test_what_a_plan_is_compared_with() -> None:
    """Of exact denoisers of a Gaussian field: as many steps of the global one, or operations, as the plan's."""
    model, times = GaussianField(L=6, kappa=0.1), time_grid(20)
    nets = {
        hybrid.GLOBAL: GaussianDenoiser(model.covariance, shape=(1, 6, 6)),
        "r = 1": GaussianDenoiser(model.covariance, shape=(1, 6, 6), radius=1),
    }
    scores = score_denoisers(nets, model.sample(2000, 0), times[:-1])
    scores = scores.assign_coords(flops=("denoiser", [100, 10]))
    plan = plan_schedule(scores, times, budget_nats=0.05, until=0.2, below="r = 1")
    made = hybrid.schedules(plan, plan_schedule(scores, times, budget_nats=0.05), scores, plan.share)
    window = [k for k, name in enumerate(plan.schedule.denoisers) if name == hybrid.GLOBAL]
    assert 3 < len(window) < 16
    assert window == list(range(window[0], window[-1] + 1))
    for label, shift in (("earlier", -min(5, window[0])), ("later", min(5, 19 - window[-1]))):
        found = [k for k, name in enumerate(made[label].denoisers) if name == hybrid.GLOBAL]
        assert found == [k + shift for k in window]
        assert shift
    for one, two in zip(made["planned"].denoisers, made["swapped"].denoisers, strict=True):
        assert (one == hybrid.GLOBAL) != (two == hybrid.GLOBAL)
    assert made["local"] == Schedule.of_one("r = 1", times)
    assert len(made["equal steps"].denoisers) == len(window)
    assert len(made["equal cost"].denoisers) == round(plan.share * 20)
    assert set(made["equal cost"].denoisers) == {hybrid.GLOBAL}
    assert made["planned to 0"].denoisers[-1] == hybrid.GLOBAL


def test_a_folder_without_the_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["hybrid.py", "--data", str(tmp_path), "--out", str(tmp_path / "out")])
    with pytest.raises(SystemExit, match="holds no train-images-idx3-ubyte, gzipped or not"):
        hybrid.main()

"""Training of the posterior network: cut short, killed, diverging; and files of networks."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from commands import call

import estimators.posterior_options as posterior_options
from cmi.exact import GaussianField
from estimators.posterior import fit_posterior
from estimators.posterior_answers import Levels
from estimators.trainer import Look, Trainer


def columns(model: Any, n: int, seed: int = 0) -> tuple[np.ndarray, tuple[int, ...], Any]:
    """Samples with their columns in the order A, S_1, ..., S_m."""
    regions = model.partition()
    x = model.sample(n, seed).reshape(n, -1)
    return np.ascontiguousarray(x[:, regions.columns]), regions.sizes, regions


def stopped_at(look: int) -> Any:
    """A progress that is interrupted at one of the looks."""
    seen: list[Look] = []

    def progress(one: Look) -> None:
        seen.append(one)
        if len(seen) == look:
            raise KeyboardInterrupt

    return progress


def test_training_goes_on_where_it_was_interrupted(tmp_path: Path) -> None:
    x, sizes, _ = columns(GaussianField(L=5), 1500)
    options: dict[str, Any] = {"snrs": [1.0, 4.0], "steps": 60, "hidden": 6}
    whole = fit_posterior(x, sizes, **options)
    file = tmp_path / "net.pt"
    for look in (1, 5):
        with pytest.raises(KeyboardInterrupt):
            fit_posterior(x, sizes, **options, network=file, progress=stopped_at(look))
    assert file.exists()
    resumed = fit_posterior(x, sizes, **options, network=file)
    seen: list[Look] = []
    again = fit_posterior(x, sizes, **options, network=file, progress=seen.append)
    assert not seen  # what is done is not done again
    for snr in (1.0, 4.0):
        expected = whole.profile(x, snr=snr)
        for fit in (resumed, again):
            assert (fit.profile(x, snr=snr).local == expected.local).all()
    # a network answers for levels between its own
    between = fit_posterior(x, sizes, **{**options, "snrs": [2.0]}, network=file)
    assert np.isfinite(between.profile(x, snr=2.0).value).all()
    assert [each.name for each in tmp_path.iterdir()] == ["net.pt"]


class _Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return (Path("evil").touch, ())


def test_files_of_other_networks_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    x, sizes, _ = columns(GaussianField(L=5), 400)
    file = tmp_path / "net.pt"
    options: dict[str, Any] = {"snrs": [1.0, 4.0], "steps": 5, "hidden": 4}
    fit_posterior(x, sizes, **options, network=file)
    kept = file.read_bytes()
    with pytest.raises(ValueError, match="other samples or options: name another file"):
        fit_posterior(x + 1.0, sizes, **options, network=file)
    with pytest.raises(ValueError, match="other samples or options"):
        fit_posterior(x, sizes, **{**options, "hidden": 6}, network=file)
    with pytest.raises(ValueError, match="trained for other levels"):
        fit_posterior(x, sizes, **{**options, "snrs": [0.1]}, network=file)
    assert file.read_bytes() == kept
    content = torch.load(file, weights_only=True)
    for weight in content["parts"]["0"]["kept"]:
        weight.add_(0.1)
    torch.save(content, file)
    with pytest.raises(ValueError, match="damaged: narrow buffers see beyond themselves; name another file"):
        fit_posterior(x, sizes, **options, network=file)
    torch.save({**torch.load(file, weights_only=True), "phase-scan": 1}, file)
    with pytest.raises(ValueError, match="of another version of phase-scan: name another file"):
        fit_posterior(x, sizes, **options, network=file)
    file.write_bytes(pickle.dumps(_Evil()))
    with pytest.raises(ValueError, match="holds no posterior network"):
        fit_posterior(x, sizes, **options, network=file)
    torch.save({"phase-scan": 1, "fingerprint": _Evil(), "parts": {}}, file)
    with pytest.raises(ValueError, match="holds no posterior network"):
        fit_posterior(x, sizes, **options, network=file)
    assert not Path("evil").exists()
    with pytest.raises(FileNotFoundError, match="does not exist: make it first"):
        fit_posterior(x, sizes, **options, network=tmp_path / "missing" / "net.pt")
    with pytest.raises(IsADirectoryError, match="is a folder: name a file"):
        fit_posterior(x, sizes, **options, network=tmp_path)
    monkeypatch.setattr("os.access", lambda *_: False)
    with pytest.raises(PermissionError, match="cannot be written to: name another"):
        fit_posterior(x, sizes, **options, network=tmp_path / "new.pt")


def test_one_of_several_networks_is_not_all_of_them(tmp_path: Path) -> None:
    """Interrupted in the second fold, a file does not pass for one that is done, whose levels may be others."""
    x, sizes, _ = columns(GaussianField(L=5), 400)
    options: dict[str, Any] = {"steps": 20, "hidden": 4, "folds": 2, "network": tmp_path / "net.pt"}
    steps = [0]

    def second(look: Look) -> None:
        if look.step < steps[-1]:
            raise KeyboardInterrupt
        steps.append(look.step)

    with pytest.raises(KeyboardInterrupt):
        fit_posterior(x, sizes, snrs=[1.0, 4.0], **options, progress=second)
    with pytest.raises(ValueError, match="is being trained for other levels: name another file, or remove it"):
        fit_posterior(x, sizes, snrs=[2.0], **options)
    assert fit_posterior(x, sizes, snrs=[1.0, 4.0], **options).profile(x, snr=1.0).local.shape[1] == 400
    fit_posterior(x, sizes, snrs=[2.0], **options)


def test_training_goes_on_at_another_device(tmp_path: Path) -> None:
    """The random numbers of another device cannot be taken over, nor does that stop it."""
    x, sizes, _ = columns(GaussianField(L=5), 400)
    file = tmp_path / "net.pt"
    options: dict[str, Any] = {"snrs": [1.0], "steps": 40, "hidden": 4, "network": file}
    with pytest.raises(KeyboardInterrupt):
        fit_posterior(x, sizes, **options, progress=stopped_at(5))
    content = torch.load(file, weights_only=True)
    state = content["parts"]["0"]
    state["device"], state["generator"] = "cuda", torch.zeros(16, dtype=torch.uint8)
    torch.save(content, file)
    fit = fit_posterior(x, sizes, **options)
    assert fit.parts[0].training is not None
    assert fit.parts[0].training.done


def test_training_that_diverges(monkeypatch: pytest.MonkeyPatch) -> None:
    x, sizes, _ = columns(GaussianField(L=5), 400)
    monkeypatch.setattr(posterior_options, "_RATE", 1e30)
    with pytest.raises(RuntimeError, match="training diverged"):
        fit_posterior(x, sizes, snrs=[1.0], steps=1000, hidden=4)


def test_a_level_without_a_finite_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is left out and told, the others are trained, and the answers there are those of the rest of the stack."""
    x, sizes, _ = columns(GaussianField(L=5), 1500)
    noisy = Levels.noisy

    def broken(self: Levels, clean: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        y = noisy(self, clean, generator)
        return torch.where(self.sigma[:, None, None] > 5.0, torch.nan, y)

    monkeypatch.setattr(Levels, "noisy", broken)
    fit = fit_posterior(x, sizes, snrs=[4.0, 1.0, 1e-3], steps=60, hidden=4)
    assert "not trained at noise 31.6, where its loss was not finite" in fit.notes[1]
    assert fit.parts[0].training is not None
    assert fit.parts[0].training.left_out == [2]
    for snr in (4.0, 1e-3):
        assert np.isfinite(fit.profile(x, snr=snr).value).all()


def test_a_killed_run_goes_on_from_its_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By SIGKILL, which leaves no time to save: what was kept last counts, and the numbers are the same."""
    x, sizes, _ = columns(GaussianField(L=5), 600)
    np.save(tmp_path / "x.npy", x)
    options: dict[str, Any] = {"sizes": tuple(map(int, sizes)), "snrs": [1.0, 4.0], "steps": 60, "hidden": 6}
    script = f"""
import os, signal
import numpy as np
from estimators import trainer as training
from estimators.posterior import fit_posterior
training.SAVED = 0.0
step = training.Trainer.step
def killed(self):
    if self.training.step == 25:
        os.kill(os.getpid(), signal.SIGKILL)
    step(self)
training.Trainer.step = killed
fit_posterior(np.load("x.npy"), **{options}, network="net.pt")
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, check=False)
    assert done.returncode == -9, done.stderr
    file = tmp_path / "net.pt"
    kept = torch.load(file, weights_only=True)["parts"]["0"]["training"]
    assert kept["step"] == 25
    assert not kept["done"]
    whole = fit_posterior(x, **options)
    steps: list[int] = []
    begin = Trainer.step

    def counted(self: Trainer) -> None:
        steps.append(self.training.step)
        begin(self)

    monkeypatch.setattr(Trainer, "step", counted)
    resumed = fit_posterior(x, **options, network=file)
    assert steps == list(range(25, 60))
    for snr in (1.0, 4.0):
        assert (resumed.profile(x, snr=snr).local == whole.profile(x, snr=snr).local).all()


def test_interrupted_training_goes_on_by_the_same_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "d.nc"
    command = ["run", "digits", "--method", "posterior", "--levels", "0.3,0.6", "--train-minutes", "0.05"]
    begin, steps = Trainer.step, []

    def cut(self: Trainer) -> None:
        steps.append(self.training.step)
        if len(steps) == 3:
            raise KeyboardInterrupt
        begin(self)

    monkeypatch.setattr(Trainer, "step", cut)
    stopped = call(*command, "--out", out)
    assert stopped.exit_code == 130, stopped.output
    assert "Interrupted with 0 of 2 levels finished" in stopped.stderr
    assert f"The training is kept in {out.with_suffix('.network.pt')}, where the same command" in stopped.stdout
    again = call(*command, "--out", out)
    assert again.exit_code == 0, again.output
    assert steps[:4] == [0, 1, 2, 2]  # where it was cut
    assert f"{steps[-1] + 1} steps to a held-out loss" in again.stdout

"""The commands of phase-scan denoise: one after the other, and what is typed wrong."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import call, fails

from cmi import open_dataset, phase_scan
from cmi.denoise import (
    certify,
    describe_denoiser,
    images_of,
    load_denoiser,
    load_schedule,
    load_scores,
    sample,
    set_aside,
)
from estimators.trainer import Trainer

SHORT = ["--steps", "60", "--width", "8"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two networks and their scores."""
    here = tmp_path_factory.mktemp("denoise")
    for name, radius in (("local", ["--radius", "1"]), ("global", [])):
        done = call("denoise", "train", "digits", *radius, *SHORT, "--out", here / f"{name}.pt")
        assert done.exit_code == 0, done.output
        assert "60 steps on 1497 images" in done.stdout
        assert "300 images are set aside" in done.stdout
    nets = [here / "local.pt", here / "global.pt"]
    done = call("denoise", "score", "digits", *nets, "--levels", "0.1:1:10", "--out", here / "scores.nc")
    assert done.exit_code == 0, done.output
    assert "300 images; reference global. Gap and distance differ by" in done.stdout
    assert "r = 1" in done.stdout
    assert "everything" in done.stdout
    return here


def test_scores_are_of_images_that_were_set_aside(folder: Path) -> None:
    scores = load_scores(folder / "scores.nc")
    assert scores.denoiser.values.tolist() == ["local", "global"]
    assert scores.sizes["sample"] == 300
    assert (scores.field.values == [1, -1]).all()
    images = images_of(open_dataset("digits"))
    rest, aside = set_aside(images, 0)
    every = {tuple(x.flatten().tolist()) for x in images}
    own = {tuple(x.flatten().tolist()) for x in aside}
    assert len(rest) + len(aside) == 1797
    assert {tuple(x.flatten().tolist()) for x in rest} | own == every
    assert describe_denoiser(folder / "local.pt")["about"]["data"] == "digits"


def test_scores_are_of_as_many_images_as_asked_for(folder: Path, tmp_path: Path) -> None:
    nets, out = [folder / "local.pt", folder / "global.pt"], tmp_path / "some.nc"
    some: list[str | Path] = [
        "denoise",
        "score",
        "digits",
        *nets,
        "--levels",
        "0.5",
        "--out",
        out,
        "--overwrite",
        "--images",
    ]
    done = call(*some, "40")
    assert done.exit_code == 0, done.output
    assert (
        "Scored by 40 at random of those there are: 300 of 1797 images; the others were seen in training."
        in done.stdout
    )
    first = load_scores(out)
    assert first.sizes["sample"] == 40
    every = load_scores(folder / "scores.nc").image.values
    where = [int(np.flatnonzero((every == each).all(axis=1))[0]) for each in first.image.values]
    assert where == sorted(where)
    assert max(where) > 200  # not the first ones
    call(*some, "40", "--seed", "1")
    assert (load_scores(out).image.values != first.image.values).any()
    fails("scores need at least 10 images, got 3", *some, "3")


def test_certified_planned_and_drawn(folder: Path, tmp_path: Path) -> None:
    certified = call(
        "denoise", "certify", folder / "scores.nc", "--schedule", "local,global", "--switch", "0.5", "--steps", "10"
    )
    assert certified.exit_code == 0, certified.output
    assert "nats above the bound with global in every step, down to t = 0.1" in certified.stdout
    switched = ["--schedule", "local,global", "--switch", "0.5", "--steps", "10"]
    stopped = call("denoise", "certify", folder / "scores.nc", *switched, "--until", "0.4")
    assert "in every step, down to t = 0.4" in stopped.stdout
    assert "not covered" in call("denoise", "certify", folder / "scores.nc", *switched, "--until", "0.5").stdout
    some = ["--nats", "5", "--steps", "10", "--until", "0.3", "--below", "local"]
    until = call("denoise", "plan", folder / "scores.nc", *some)
    assert until.exit_code == 0, until.output
    assert "What is used below adds" in until.stdout
    assert "down to t = 0.3" in until.stdout
    unknown = call("denoise", "plan", folder / "scores.nc", *some[:-1], "narrow")
    assert unknown.exit_code == 1
    assert "'narrow' was not scored: scores are of" in unknown.stderr
    scan = phase_scan(open_dataset("digits"), levels=[0.3, 0.5, 0.7], center=(1, 3))
    scan.save(tmp_path / "scan.nc")
    out, picture = tmp_path / "plan.json", tmp_path / "plan.png"
    planned = call(
        "denoise",
        "plan",
        folder / "scores.nc",
        "--nats",
        "5",
        "--steps",
        "10",
        "--out",
        out,
        "--plot",
        picture,
        "--scan",
        tmp_path / "scan.nc",
    )
    assert planned.exit_code == 0, planned.output
    assert "Planned by one half of the images" in planned.stdout
    assert picture.read_bytes().startswith(b"\x89PNG")
    schedule = load_schedule(out)
    assert len(schedule.denoisers) == 10
    again = call("denoise", "certify", folder / "scores.nc", "--plan", out, "--until", "0.3")
    assert again.exit_code == 0, again.output
    bound = certify(schedule, load_scores(folder / "scores.nc"), until=0.3)
    assert f"at most {bound.kl:.4g} +- {bound.stderr:.2g} nats above" in " ".join(again.stdout.split())
    nets = [folder / "local.pt", folder / "global.pt"]
    drawn = tmp_path / "drawn.npy"
    done = call("denoise", "sample", *nets, "--plan", out, "--count", "60", "--out", drawn, "--compare", "digits")
    assert done.exit_code == 0, done.output
    assert np.load(drawn).shape == (60, 1, 8, 8)
    assert "classifier" in done.stdout
    grid = tmp_path / "drawn.png"
    published = ["--schedule", "local,global,local", "--switch", "0.5,0.2", "--steps", "6"]
    done = call("denoise", "sample", *nets, *published, "--count", "4", "--plot", grid, "--ode")
    assert done.exit_code == 0, done.output
    assert grid.read_bytes().startswith(b"\x89PNG")
    again = call("denoise", "sample", *nets, *published, "--count", "4", "--plot", grid)
    assert again.exit_code == 1
    assert "exists: choose another name" in again.stderr
    orders: list[np.ndarray] = []
    for order in ("1", "2"):
        few = ["--count", "3", "--steps", "4", "--order", order, "--out", tmp_path / f"{order}.npy"]
        assert call("denoise", "sample", folder / "global.pt", *few).exit_code == 0
        orders.append(np.load(tmp_path / f"{order}.npy"))
    assert not np.allclose(orders[0], orders[1])
    two = sample(load_denoiser(folder / "global.pt"), 3, steps=4)
    assert np.allclose(orders[1], two.numpy(), atol=1e-5)
    done = call("denoise", "sample", folder / "global.pt", "--count", "2", "--steps", "3")
    assert "Nothing was saved" in done.stdout


def test_what_is_typed_wrong(folder: Path, tmp_path: Path) -> None:
    scores, local, whole = folder / "scores.nc", folder / "local.pt", folder / "global.pt"
    new = tmp_path / "new"
    wrong: list[tuple[str, list[str | Path]]] = [
        ("radius 9 is beyond images of 8 x 8", ["train", "digits", "--radius", "9", "--out", new]),
        ("minutes must be above 0", ["train", "digits", "--minutes", "-1", "--out", new]),
        ("holds a denoiser of other radius: name", ["train", "digits", *SHORT, "--radius", "2", "--out", local]),
        (
            "holds a denoiser of other steps: name",
            ["train", "digits", "--radius", "1", "--steps", "70", "--width", "8", "--out", local],
        ),
        ("a plan has steps of its own", ["certify", scores, "--plan", scores, "--steps", "10"]),
        ("--out takes the name of a .nc file", ["score", "digits", whole, "--out", tmp_path / "s.txt"]),
        ("name the reference: 0 of the denoisers", ["score", "digits", local, "--out", new.with_suffix(".nc")]),
        ("two networks are named local", ["score", "digits", local, local, "--out", new.with_suffix(".nc")]),
        ("plan.json' exists|exists: choose", ["score", "digits", local, whole, "--out", scores]),
        ("there is no file", ["score", "digits", tmp_path / "none.pt", "--out", new.with_suffix(".nc")]),
        ("holds no denoiser", ["score", "digits", scores, "--out", new.with_suffix(".nc")]),
        (
            "without noise nothing is lost",
            ["score", "digits", whole, "--levels", "0:1:3", "--out", new.with_suffix(".nc")],
        ),
        ("there is no score file", ["certify", tmp_path / "none.nc", "--schedule", "local"]),
        ("is no score, or is damaged|cannot be read", ["certify", local, "--schedule", "local"]),
        ("give --plan, or --schedule", ["certify", scores]),
        ("--switch says when the denoisers of --schedule", ["certify", scores, "--switch", "0.5"]),
        ("give --plan or --schedule, not both", ["certify", scores, "--plan", scores, "--switch", "0.5"]),
        ("holds no schedule", ["certify", scores, "--plan", scores]),
        ("'far' was not scored", ["certify", scores, "--schedule", "far", "--steps", "10"]),
        ("need 1 switches, got 0", ["certify", scores, "--schedule", "local,global"]),
        ("--switch takes numbers", ["certify", scores, "--schedule", "local,global", "--switch", "half"]),
        ("score that level", ["certify", scores, "--schedule", "local", "--steps", "50"]),
        ("give one budget", ["plan", scores]),
        (
            r"no plan keeps a budget of .*: the least that one takes is .* operations, .*% of the reference's",
            ["plan", scores, "--share", "0.01", "--steps", "10"],
        ),
        ("--share is a share of the operations, above 0", ["plan", scores, "--share", "-1"]),
        ("--scan is drawn into the picture", ["plan", scores, "--nats", "5", "--steps", "10", "--scan", scores]),
        ("--share is a share of the operations, above 0", ["plan", scores, "--share", "nan"]),
        (
            "--key, --limit, --crop and --channel-axis are for the data set of --compare",
            ["sample", whole, "--limit", "100"],
        ),
        ("there is no device 'meta'", ["sample", whole, "--device", "meta"]),
        (r"drawn images have shape \(1, 8, 8\), real", ["sample", whole, "--compare", "digits", "--crop", "1:,1:"]),
        ("was not scored|denoisers are local", ["sample", local, "--schedule", "far"]),
        ("no suffix of a picture", ["plan", scores, "--nats", "1", "--steps", "10", "--plot", tmp_path / "p.doc"]),
        ("of several networks say which", ["sample", local, whole, "--out", tmp_path / "x.npy"]),
        ("--out takes the name of a .npy", ["sample", whole, "--out", tmp_path / "x.npz"]),
        ("give --plan or --schedule", ["sample", whole, "--plan", scores, "--schedule", "global"]),
        ("holds no schedule", ["sample", whole, "--plan", scores]),
        ("at least 50 images, got 5", ["sample", whole, "--count", "5", "--steps", "2", "--compare", "digits"]),
    ]
    for message, arguments in wrong:
        fails(message, "denoise", *arguments)
    assert not new.exists()
    assert not new.with_suffix(".nc").exists()


def test_nothing_that_is_read_is_replaced(folder: Path, tmp_path: Path) -> None:
    scores, local, whole = folder / "scores.nc", folder / "local.pt", folder / "global.pt"
    same, copy = tmp_path / "same.png", tmp_path / "copy.nc"
    copy.symlink_to(scores)
    before = {each: each.read_bytes() for each in (scores, local, whole)}
    written = "is to be written twice: give each output a name of its own"
    lost = "is an input too, and would be lost: name another file"
    wrong: list[tuple[str, list[str | Path]]] = [
        (written, ["score", "digits", whole, "--out", same, "--plot", same]),
        (
            written,
            ["plan", scores, "--nats", "5", "--steps", "10", "--out", same, "--plot", tmp_path / "." / "same.png"],
        ),
        (lost, ["score", "digits", whole, "--out", whole]),
        (lost, ["plan", scores, "--nats", "5", "--steps", "10", "--out", scores]),
        (lost, ["plan", copy, "--nats", "5", "--steps", "10", "--out", scores]),
    ]
    for message, arguments in wrong:
        fails(message, "denoise", *arguments, "--overwrite")
    values = tmp_path / "data.npy"
    np.save(values, np.zeros((200, 8, 8)))
    fails(lost, "denoise", "sample", whole, "--count", "50", "--compare", values, "--out", values, "--overwrite")
    scan = tmp_path / "scan.nc"
    phase_scan(open_dataset("digits"), levels=[0.5], center=(1, 3)).save(scan)
    fails(lost, "run", scan, "--out", scan, "--overwrite")
    assert {each: each.read_bytes() for each in before} == before
    assert not same.exists()


def test_channels_are_said_or_asked_for(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    np.save(tmp_path / "first.npy", rng.integers(0, 256, (90, 3, 6, 4), dtype=np.uint8))  # read as 6 x 3 of 4
    np.save(tmp_path / "two.npy", rng.uniform(size=(90, 2, 6, 6)))
    some = ["--steps", "2", "--width", "4", "--radius", "1"]
    done = call("denoise", "train", tmp_path / "first.npy", *some, "--out", tmp_path / "guess.pt")
    assert done.exit_code == 0, done.output
    assert "first.npy: integer values were divided by 255, to lie in [0, 1]." in done.stdout
    assert "axis 2 of a sample, of size 4, was taken for the channels." in " ".join(done.stdout.split())
    assert describe_denoiser(tmp_path / "guess.pt")["made"]["shape"] == [4, 3, 6]
    told = call(
        "denoise",
        "train",
        tmp_path / "first.npy",
        *some,
        "--channel-axis",
        "0",
        "--out",
        tmp_path / "told.pt",
    )
    assert told.exit_code == 0, told.output
    assert "was taken for the channels" not in told.stdout
    assert describe_denoiser(tmp_path / "told.pt")["made"]["shape"] == [3, 6, 4]
    two: list[str | Path] = ["denoise", "train", tmp_path / "two.npy", *some, "--out", tmp_path / "two.pt"]
    fails(r"are neither: say which axis holds channels .*--channel-axis 0\)", *two)
    fails("have no axis 3 of channels", *two, "--channel-axis", "3")
    assert call(*two, "--channel-axis", "0").exit_code == 0
    drawn = tmp_path / "drawn.npy"
    assert (
        call("denoise", "sample", tmp_path / "told.pt", "--steps", "2", "--count", "3", "--out", drawn).exit_code
        == 0
    )
    assert np.load(drawn).shape == (3, 3, 6, 4)


def test_what_no_memory_holds(tmp_path: Path) -> None:
    fails("not enough memory", "denoise", "train", "digits", "--width", "1000000", "--out", tmp_path / "n.pt")
    assert not (tmp_path / "n.pt").exists()


def test_a_scan_of_other_noise_is_drawn_at_its_snr(folder: Path, tmp_path: Path) -> None:
    scan = tmp_path / "scan.nc"
    options: dict[str, Any] = {"levels": [0.4, 0.6], "center": (1, 3)}
    some: list[str | Path] = ["--nats", "5", "--steps", "10", "--scan", scan, "--plot"]
    for noise in ("ve", "flip"):
        data = open_dataset("digits") if noise == "ve" else open_dataset("exact:cat?n=500")
        phase_scan(data, noise=noise, **options).save(scan, overwrite=True)
        picture = tmp_path / f"{noise}.png"
        if noise == "flip":
            fails("of noise that is not Gaussian, flip", "denoise", "plan", folder / "scores.nc", *some, picture)
            continue
        done = call("denoise", "plan", folder / "scores.nc", *some, picture)
        assert done.exit_code == 0, done.output
        assert picture.exists()


def test_networks_of_two_seeds_are_scored_by_what_neither_saw(folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.pt"
    assert call("denoise", "train", "digits", *SHORT, "--seed", "1", "--out", other).exit_code == 0
    images = images_of(open_dataset("digits"))
    one, two = ({tuple(x.flatten().tolist()) for x in set_aside(images, seed)[1]} for seed in (0, 1))
    done = call("denoise", "score", "digits", other, folder / "local.pt", "--out", tmp_path / "s.nc")
    assert done.exit_code == 0, done.output
    assert f"Scored by {len(one & two)} of 1797 images; the others were seen in training." in done.stdout


def test_an_interrupted_training_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begin, steps = Trainer.step, []

    def cut(self: Trainer) -> None:
        steps.append(self.training.step)
        if len(steps) == 10:
            raise KeyboardInterrupt
        begin(self)

    monkeypatch.setattr(Trainer, "step", cut)
    command = ["denoise", "train", "digits", "--radius", "1", *SHORT, "--out", str(tmp_path / "n.pt")]
    stopped = call(*command)
    assert stopped.exit_code == 130
    assert "The training is kept in" in stopped.stdout
    fails("was interrupted: run it again", "denoise", "sample", tmp_path / "n.pt")
    assert call(*command).exit_code == 0
    assert steps[:12] == [*range(10), 9, 10]


def test_schedules_are_read_as_data(tmp_path: Path) -> None:
    good: dict[str, Any] = {"phase-scan schedule": 1, "times": [1.0, 0.5], "denoisers": ["a"]}
    wrong = [
        {**good, "times": [1, 2]},
        {**good, "times": {"1": 2}},
        {**good, "times": [True, 0.5]},
        {**good, "times": ["1", "0.5"]},
        {**good, "times": [0.5, 1e-300]},
        {**good, "times": [10**400, 0.5]},
        {**good, "denoisers": "a"},
        {**good, "denoisers": [3]},
        {**good, "phase-scan schedule": 2},
        {},
    ]
    for content in (
        "",
        "[]",
        "[" * 10**6,
        "\x00",
        '{"phase-scan schedule": 1, "times": [NaN, 0]}',
        *map(json.dumps, wrong),
    ):
        (tmp_path / "plan.json").write_text(content)
        with pytest.raises(ValueError, match=r"plan\.json holds no schedule"):
            load_schedule(tmp_path / "plan.json")


def test_help_answers_before_torch_is_imported() -> None:
    script = """
import sys
from typer.testing import CliRunner
from cmi.cli import app
done = CliRunner().invoke(app, ["denoise", "plan", "--help"])
assert done.exit_code == 0 and "--nats" in done.output
assert not {"torch", "numpy", "xarray"} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", script], check=True)


def test_without_torch_it_says_what_to_install() -> None:
    script = """
import sys
from typer.testing import CliRunner
from cmi.cli import app
sys.modules["torch"] = None
for command in (["train", "digits"], ["score", "digits", "a.pt"]):
    done = CliRunner().invoke(app, ["denoise", *command, "--out", "x"])
    assert done.exit_code == 1, done.output
    assert done.stderr == 'Error: cmi.denoise needs torch: pip install "phase-scan[torch]"\\n', done.stderr
"""
    subprocess.run([sys.executable, "-c", script], check=True)


def test_seeds_are_those_that_torch_takes(tmp_path: Path) -> None:
    for seed in ("-1", str(2**64)):
        done = call("denoise", "train", "digits", "--seed", seed, "--out", tmp_path / "n.pt")
        assert done.exit_code == 2
        assert "Invalid value for '--seed'" in done.stderr

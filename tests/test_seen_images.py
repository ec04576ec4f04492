"""Which images a network was trained on: known by their values, in memory and in files, however they are chosen."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from commands import call, fails
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from rich.console import Console

from cmi import open_dataset
from cmi.denoise import (
    EmpiricalDenoiser,
    GaussianDenoiser,
    GlobalDenoiser,
    HybridDenoiser,
    LocalDenoiser,
    OnSchedule,
    Schedule,
    certify,
    from_clean,
    images_of,
    load_denoiser,
    save_denoiser,
    score_denoisers,
    set_aside,
    train_denoiser,
    unseen_images,
)
from cmi.denoise.report import certificate_report, scores_report
from cmi.denoise.signature import image_signatures, not_among

OPTIONS: dict[str, Any] = {"steps": 3, "batch": 8, "device": "cpu"}


def small(radius: int | None = 1, shape: tuple[int, int, int] = (1, 5, 5)) -> LocalDenoiser | GlobalDenoiser:
    return GlobalDenoiser(shape, width=4) if radius is None else LocalDenoiser(shape, radius, width=4, depth=2)


def images(n: int, seed: int = 0) -> torch.Tensor:
    return images_of(np.random.default_rng(seed).uniform(size=(n, 5, 5)))


def text(printed: Any) -> str:
    console = Console(width=200, record=True, file=StringIO())
    console.print(printed)
    return " ".join(console.export_text().split())


def known(some: torch.Tensor, others: torch.Tensor) -> np.ndarray:
    """Which of some images are among others."""
    found: np.ndarray = ~not_among(image_signatures(some).numpy(), image_signatures(others).numpy())
    return found


def test_images_are_known_however_they_were_scaled() -> None:
    grey = np.random.default_rng(0).integers(0, 256, (3000, 6, 6), dtype=np.uint8)
    one = images_of(grey)
    assert known(images_of(grey / 255.0), one).all()
    single = (grey.astype(np.float32) - np.float32(33.3)) / np.float32(77.7)
    x, y = images_of((grey - 33.3) / 77.7), images_of(single)
    assert (x != y).any()  # they differ by rounding
    assert known(x, y).all()
    # each scaled to a size of 1, where the power of two jumps
    whole = images_of(grey)
    size = whole.double().square().mean(dim=(1, 2, 3), keepdim=True).sqrt()
    assert known((whole.double() / size).float(), whole / size.float()).all()
    assert known(y, x).all()
    moved = one.clone()
    moved[:, 0, 3, 3] = 1.0 - moved[:, 0, 3, 3]
    assert known(moved, one).mean() < 0.06  # pixels of the middle grey
    assert not known(2.0 * one, one).any()
    blank = torch.zeros(1, 1, 2, 2)
    assert known(blank, -blank).all()
    assert not known(blank + 1.0, blank).any()


@pytest.mark.parametrize(
    "rounded",
    [
        lambda x: x.half().float(),
        lambda x: x.bfloat16().float(),
        lambda x: (x * 255.0).round() / 255.0,
        lambda x: (x * 1000.0).round() / 1000.0,
    ],
    ids=["half", "bfloat16", "8 bits", "3 decimals"],
)
@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 5, 4), (1, 28, 28)])
def test_images_are_known_after_rounding(
    rounded: Callable[[torch.Tensor], torch.Tensor], shape: tuple[int, int, int]
) -> None:
    x = torch.rand(4000, *shape, generator=torch.Generator().manual_seed(0))
    sparse = x * (x > 0.8)
    for each in (x, sparse):
        assert known(rounded(each), each).all()
        assert not known(rounded(each[:2000]), each[2000:]).any()


def test_other_images_are_not_taken_for_these() -> None:
    digits = images_of(open_dataset("digits"))
    assert not known(digits[:900], digits[900:]).any()
    few = torch.randn(20_000, 1, 1, 2, generator=torch.Generator().manual_seed(0))  # of few values, near each other
    assert known(few[:10_000], few[10_000:]).mean() < 0.01
    assert known(few.double().float(), few).all()
    field = 1000.0 + torch.randn(2000, 1, 8, 8, generator=torch.Generator().manual_seed(0))  # of little variation
    assert not known(field[:1000], field[1000:]).any()


def test_blank_images_are_not_all_taken_for_those_that_were_seen() -> None:
    """Blank images that were set aside are held out, though a network has seen others."""
    x = images(1000)
    x[torch.randperm(1000, generator=torch.Generator().manual_seed(0))[:80]] = 0.0
    rest, aside = set_aside(x, 0)
    blank = int((aside.amax(dim=(1, 2, 3)) == 0.0).sum())
    assert 5 < blank < 30
    assert not known(aside, rest).any()
    kept = x[~known(x, rest)]  # the whole set: those of the rest are left out
    assert len(kept) == len(aside)
    assert int((kept.amax(dim=(1, 2, 3)) == 0.0).sum()) == blank
    half = torch.cat([rest[::2], aside])
    kept = half[~known(half, rest)]
    assert abs(int((kept.amax(dim=(1, 2, 3)) == 0.0).sum()) - blank) < 12  # within chance of the half


def test_copies_of_what_was_seen_were_seen() -> None:
    x = images(300)
    assert known(torch.cat([x, x]), x).all()
    assert known(x, torch.cat([x, images(10, seed=1)])).all()


@given(
    hnp.arrays(np.int8, st.tuples(st.integers(1, 30), st.just(1)), elements=st.integers(0, 9)),
    hnp.arrays(np.int8, st.tuples(st.integers(1, 30), st.just(1)), elements=st.integers(0, 9)),
)
def test_of_few_states_as_many_are_left_out_as_were_seen(some: np.ndarray, others: np.ndarray) -> None:
    x, y = (torch.from_numpy(each.astype(np.float32))[:, None, None, :] for each in (some, others))
    kept = some[~known(x, y)].ravel()
    single = [value for value in range(10) if (others == value).sum() == 1]
    share = np.mean([value in some for value in single]) if len(single) == 10 else 1.0
    for value in range(10):
        mine, seen = (some == value).sum(), (others == value).sum()
        left_out = mine if seen == 1 else math.ceil(share * seen)
        assert (kept == value).sum() == max(mine - left_out, 0)


def test_a_network_remembers_in_memory_in_files_and_inside_others(tmp_path: Path) -> None:
    x = images(120)
    net = small()
    assert len(unseen_images(x, [net])) == 120
    train_denoiser(net, x[:80], **OPTIONS, file=tmp_path / "net.pt")
    save_denoiser(net, tmp_path / "copy.pt")
    inside = [
        net,
        load_denoiser(tmp_path / "net.pt"),
        load_denoiser(tmp_path / "copy.pt"),
        OnSchedule(net, "ve"),
        HybridDenoiser(Schedule.of_one("a", [1.0, 0.0]), {"a": net}),
        from_clean(net, (1, 5, 5)),
        copy.deepcopy(net),
    ]
    for each in inside:
        assert torch.equal(unseen_images(x[60:], [each]), x[80:])
        assert torch.equal(unseen_images(x[60:], each), x[80:])
        assert torch.equal(unseen_images(x[60:], {"a": each}), x[80:])
    resumed = small()  # the training is done: it is read
    train_denoiser(resumed, x[:80], **OPTIONS, file=tmp_path / "net.pt")
    assert len(unseen_images(x, [resumed])) == 40
    assert len(unseen_images(x, [net, EmpiricalDenoiser(x[100:])])) == 20


def test_training_on_more_images_remembers_both(tmp_path: Path) -> None:
    x = images(160)
    net = small()
    train_denoiser(net, x[:60], **OPTIONS)
    train_denoiser(net, x[60:120], **OPTIONS, file=tmp_path / "net.pt")
    for each in (net, load_denoiser(tmp_path / "net.pt")):
        assert torch.equal(unseen_images(x, [each]), x[120:])


def test_scores_and_certificates_say_if_they_are_not_held_out() -> None:
    x = images(120)
    net = small()
    train_denoiser(net, x[:80], **OPTIONS)
    exact = GaussianDenoiser(np.eye(25), shape=(1, 5, 5))
    schedule = Schedule.of_one("net", [0.5, 0.3])
    for shown, known in ((x[80:], 0), (x[60:], 20)):
        scores = score_denoisers({"exact": exact, "net": net}, shown, [0.3, 0.5])
        assert scores.attrs["trained_on"] == known
        found = certify(schedule, scores)
        assert found.trained_on == known
        for report in (scores_report(scores), certificate_report(found)):
            said = f"a denoiser was trained on {known} of the scored images" in text(report)
            assert said == (known > 0)
            assert "Which images exact learnt from is not known." in text(report)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    here = tmp_path_factory.mktemp("seen") / "net.pt"
    assert call("denoise", "train", "digits", "--steps", "5", "--width", "4", "--out", here).exit_code == 0
    return here


@pytest.mark.parametrize("limit", [1797, 1000])
def test_part_of_the_set_is_recognised(trained: Path, tmp_path: Path, limit: int) -> None:
    _, aside = set_aside(images_of(open_dataset("digits")), 0)
    first = images_of(open_dataset("digits", limit=limit))
    own = {tuple(x.flatten().tolist()) for x in aside}
    count = sum(tuple(x.flatten().tolist()) in own for x in first)
    done = call(
        "denoise",
        "score",
        "digits",
        trained,
        "--levels",
        "0.3,0.5",
        "--limit",
        str(limit),
        "--out",
        tmp_path / "s.nc",
    )
    assert done.exit_code == 0, done.output
    assert f"Scored by {count} of {limit} images; the others were seen in training." in done.stdout
    assert "Not held out" not in done.stdout


def test_a_set_that_was_saved_as_a_file_is_recognised(trained: Path, tmp_path: Path) -> None:
    values = images_of(open_dataset("digits")).numpy()[:, 0]
    np.save(tmp_path / "same.npy", values[::-1])
    np.save(tmp_path / "other.npy", np.random.default_rng(0).uniform(size=(100, 8, 8)))
    for name, said in (
        ("same", "Scored by 300 of 1797 images; the others"),
        ("other", "Scored by 100 images, none of which a network is known to have been trained on."),
    ):
        done = call(
            "denoise",
            "score",
            tmp_path / f"{name}.npy",
            trained,
            "--levels",
            "0.5",
            "--out",
            tmp_path / f"{name}.nc",
        )
        assert said in done.stdout, done.output


def test_where_all_were_seen_it_says_so(trained: Path, tmp_path: Path) -> None:
    rest, _ = set_aside(images_of(open_dataset("digits")), 0)
    np.save(tmp_path / "rest.npy", rest.numpy()[:, 0])
    fails(
        "0 of 1497 images are left, since a network was trained on the others, and this takes at least 10",
        "denoise",
        "score",
        tmp_path / "rest.npy",
        trained,
        "--out",
        tmp_path / "s.nc",
    )
    fails(
        r"\d\d of 200 images are left, since a network was trained on the others, and this takes at least 100",
        *("denoise", "sample", trained, "--steps", "2", "--count", "50"),
        *("--compare", "digits", "--limit", "200"),
    )

"""Training of denoisers: it reaches what is known, goes on, is kept, and says what is wrong."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from cmi import open_dataset
from cmi.data.sample_set import SampleSet
from cmi.denoise import (
    Denoiser,
    GaussianDenoiser,
    GlobalDenoiser,
    LocalDenoiser,
    from_clean,
    images_of,
    load_denoiser,
    receptive_field,
    save_denoiser,
    score_denoisers,
    train_denoiser,
)
from cmi.denoise.training import _DenoiserTrainer
from cmi.exact import GaussianField
from estimators.trainer import Look, Trainer

FIELD = GaussianField(L=5, kappa=0.3)


def local(radius: int = 1, seed: int = 0) -> LocalDenoiser:
    torch.manual_seed(seed)
    return LocalDenoiser((1, 5, 5), radius, width=16, depth=2)


@pytest.mark.slow
def test_what_is_trained_is_near_the_exact_loss() -> None:
    """Local and global, at every level, on held-out images with the same noise as the exact ones."""
    images = FIELD.sample(40_000, 0)
    nets: dict[str, Denoiser] = {}
    torch.manual_seed(0)
    made: dict[str, LocalDenoiser | GlobalDenoiser] = {
        "local": local(),
        "global": GlobalDenoiser((1, 5, 5), width=16),
    }
    for name, net in made.items():
        train_denoiser(net, images, steps=400, batch=64, device="cpu")
        nets[name] = net
        nets[f"exact {name}"] = GaussianDenoiser(FIELD.covariance, shape=(1, 5, 5), radius=net.radius)
    scores = score_denoisers(nets, FIELD.sample(4000, 1), [0.1, 0.3, 0.5, 0.7, 0.9], reference="exact global")
    loss = scores.loss.mean("sample")
    for name in made:
        excess = loss.sel(denoiser=name) / loss.sel(denoiser=f"exact {name}") - 1.0
        assert (excess.values < 0.02).all(), excess.values
        assert (excess.values > -0.005).all()
    assert receptive_field(nets["local"]).radius == 1


@pytest.fixture
def ctrl_c() -> Iterator[None]:
    """Interrupts are answered, though a process that a shell has put into the background ignores them."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("within", ["losses", "held_out"])
@pytest.mark.usefixtures("ctrl_c")
def test_ctrl_c_in_the_middle_of_a_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, within: str) -> None:
    """It waits for the end of the step, and training goes on to the same numbers."""
    images = FIELD.sample(300, 0)
    options: dict[str, Any] = {"steps": 40, "device": "cpu", "batch": 8}
    whole = local()
    train_denoiser(whole, images, **options)
    begin, calls = getattr(_DenoiserTrainer, within), [0]

    def cut(self: Any) -> Any:
        found = begin(self)  # random numbers are drawn
        calls[0] += 1
        if calls[0] == 5:
            signal.raise_signal(signal.SIGINT)
        return found

    with monkeypatch.context() as patch:
        patch.setattr(_DenoiserTrainer, within, cut)
        with pytest.raises(KeyboardInterrupt):
            train_denoiser(local(), images, **options, file=tmp_path / "net.pt")
    assert calls[0] == 5
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    resumed = local(seed=9)
    train_denoiser(resumed, images, **options, file=tmp_path / "net.pt")
    xt = torch.randn(3, 1, 5, 5)
    assert torch.equal(resumed(xt, 0.5), whole(xt, 0.5))


def test_it_goes_on_where_it_was_interrupted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = FIELD.sample(300, 0)
    options: dict[str, Any] = {"steps": 40, "device": "cpu", "batch": 8}
    whole = local()
    train_denoiser(whole, images, **options)
    file, begin, steps = tmp_path / "net.pt", Trainer.step, []

    def cut(self: Trainer) -> None:
        steps.append(self.training.step)
        if len(steps) == 15:
            raise KeyboardInterrupt
        begin(self)

    monkeypatch.setattr(Trainer, "step", cut)
    with pytest.raises(KeyboardInterrupt):
        train_denoiser(local(), images, **options, file=file)
    with pytest.raises(ValueError, match="was interrupted: run it again"):
        load_denoiser(file)
    resumed = local(seed=9)  # what it begins with does not matter any more
    train_denoiser(resumed, images, **options, file=file)
    assert steps[14:17] == [14, 14, 15]
    loaded = load_denoiser(file)
    xt = torch.randn(3, 1, 5, 5)
    assert torch.equal(resumed(xt, 0.5), whole.eval()(xt, 0.5))
    assert torch.equal(loaded(xt, 0.5), whole(xt, 0.5))
    assert (loaded.radius, loaded.noise, loaded.options) == (1, whole.noise, whole.options)
    steps.clear()
    train_denoiser(local(), images, **options, file=file)  # it is done
    assert not steps
    assert [each.name for each in tmp_path.iterdir()] == ["net.pt"]


def test_files_of_others_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "net.pt"
    images = FIELD.sample(200, 0)
    train_denoiser(local(), images, steps=2, file=file)
    others: list[tuple[LocalDenoiser, np.ndarray, dict[str, Any]]] = [
        (local(2), images, {}),
        (local(), images + 1.0, {}),
        (local(), images, {"rate": 1e-3}),
    ]
    for net, data, options in others:
        with pytest.raises(ValueError, match=r"holds a denoiser of other (radius|images|rate): name another file"):
            train_denoiser(net, data, steps=2, file=file, **options)
    (tmp_path / "not.pt").write_text("no")
    torch.save({"a": torch.zeros(2)}, tmp_path / "other.pt")
    torch.save(_Evil(tmp_path / "touched"), tmp_path / "evil.pt")
    for name in ("not.pt", "other.pt", "evil.pt"):
        with pytest.raises(ValueError, match="holds no denoiser: name another file, or remove it"):
            load_denoiser(tmp_path / name)
        with pytest.raises(ValueError, match="holds no denoiser"):
            train_denoiser(local(), images, steps=2, file=tmp_path / name)
    assert not (tmp_path / "touched").exists()
    content = torch.load(file, weights_only=True)
    torch.save({**content, "network": {**content["network"], "place": torch.zeros(2)}}, tmp_path / "sizes.pt")
    before = (tmp_path / "sizes.pt").read_bytes()
    with pytest.raises(ValueError, match="holds other weights than this version's networks have: train anew, to"):
        load_denoiser(tmp_path / "sizes.pt")
    with pytest.raises(ValueError, match="holds other weights than this version's networks have"):
        train_denoiser(local(), images, steps=2, file=tmp_path / "sizes.pt")
    assert (tmp_path / "sizes.pt").read_bytes() == before
    with pytest.raises(FileNotFoundError, match="there is no file"):
        load_denoiser(tmp_path / "none.pt")
    with pytest.raises(FileNotFoundError, match="make it first"):
        train_denoiser(local(), images, steps=2, file=tmp_path / "no" / "net.pt")
    with pytest.raises(IsADirectoryError, match="is a folder"):
        train_denoiser(local(), images, steps=2, file=tmp_path)


class _Evil:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.path,))


def test_saved_and_loaded(tmp_path: Path) -> None:
    torch.manual_seed(1)
    net = GlobalDenoiser((2, 6, 5), "vp-cosine", width=8, depth=1, heads=2)
    net.fit_moments(torch.rand(20, 2, 6, 5))
    save_denoiser(net, tmp_path / "net.pt")
    with pytest.raises(FileExistsError, match="exists: choose another name"):
        save_denoiser(net, tmp_path / "net.pt")
    other = load_denoiser(tmp_path / "net.pt")
    xt = torch.randn(3, 2, 6, 5)
    assert torch.equal(other(xt, 0.4), net.eval()(xt, 0.4))

    class Mine(LocalDenoiser):
        pass

    with pytest.raises(FileNotFoundError, match="does not exist: make it first"):
        save_denoiser(net, tmp_path / "no" / "net.pt")
    with pytest.raises(IsADirectoryError, match="is a folder: name a file"):
        save_denoiser(net, tmp_path, overwrite=True)
    with pytest.raises(TypeError, match="files are for LocalDenoiser and GlobalDenoiser, not for Mine"):
        save_denoiser(Mine((1, 4, 4), 1), tmp_path / "mine.pt")


def test_a_loss_that_is_not_finite(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: LocalDenoiser, u: Tensor, told: Tensor) -> Tensor:
        return u * torch.nan + self.last.bias

    monkeypatch.setattr(LocalDenoiser, "correction", broken)
    with pytest.raises(RuntimeError, match="training diverged 4 times, the last at step 80: give a lower rate"):
        train_denoiser(local(), FIELD.sample(100, 0), steps=200)


def test_a_training_without_one_finite_loss_is_no_success(tmp_path: Path) -> None:
    """Squares of such values are beyond single precision."""
    images = 1e25 * np.random.default_rng(0).uniform(size=(200, 5, 5))
    with pytest.raises(RuntimeError, match="the held-out loss was never finite: are the values of the samples"):
        train_denoiser(local(), images, steps=5, file=tmp_path / "net.pt")
    assert not (tmp_path / "net.pt").exists()


def test_networks_of_their_own_precision_are_trained() -> None:
    net = local().double()
    found = train_denoiser(net, FIELD.sample(200, 0), steps=20, device="cpu")
    assert np.isfinite(found.best)
    assert net.mean.dtype == torch.float64


def test_a_network_of_double_precision_stays_one(tmp_path: Path) -> None:
    net = local().double()
    save_denoiser(net, tmp_path / "net.pt")
    read = load_denoiser(tmp_path / "net.pt")
    assert {value.dtype for value in read.state_dict().values()} == {torch.float64}
    x = torch.randn(2, 1, 5, 5, dtype=torch.float64)
    assert torch.equal(read(x, 0.3), net(x, 0.3))
    assert all(p.requires_grad for p in read.parameters())


def test_files_of_strange_content_are_refused(tmp_path: Path) -> None:
    """Whatever is in them: one sentence, and nothing is written."""
    images, file = FIELD.sample(100, 0), tmp_path / "net.pt"
    train_denoiser(local(), images, steps=2, file=file)
    content = torch.load(file, weights_only=True)
    wrong: list[Any] = [
        [],
        torch.zeros(3),
        {**content, "phase-scan denoiser": torch.zeros(2)},
        {**content, "network": [torch.zeros(2)]},
        {**content, "network": {**content["network"], "mean": 3}},
        {**content, "state": {"training": {"done": "yes"}}},
        {**content, "state": [1]},
        {**content, "about": "mine"},
        {**content, "seen": [1, 2]},
        {**content, "seen": torch.zeros((100, 2), dtype=torch.int32)},
        {**content, "made": {**content["made"], "shape": 3}},
        {**content, "made": {**content["made"], "noise": {"name": "interpolation", "more": 1}}},
        {**content, "made": {**content["made"], "options": {"radius": 1, "width": -3}}},
    ]
    for number, each in enumerate(wrong):
        other = tmp_path / f"{number}.pt"
        torch.save(each, other)
        with pytest.raises(ValueError, match="holds no denoiser"):
            load_denoiser(other)
    mean = content["network"]["mean"]
    for value, message in (
        (torch.full_like(mean, torch.nan), "weights that are not finite"),
        (mean.to(torch.complex64), "no plain real numbers"),
        (mean.double(), "no plain real numbers of one precision"),
        (mean.to_sparse(), "no plain real numbers"),
        (torch.zeros(1).expand(mean.shape), "no plain real numbers"),  # of no size, whatever it says
    ):
        torch.save({**content, "network": {**content["network"], "mean": value}}, tmp_path / "weights.pt")
        with pytest.raises(ValueError, match=message):
            load_denoiser(tmp_path / "weights.pt")
    for made in (
        {"options": {**content["made"]["options"], "width": 10**6}},
        {"options": {**content["made"]["options"], "depth": 1, "radius": 10**9}, "shape": [1, 1, 2 * 10**9]},
        {"shape": [1, 10**7, 10**7]},
        {"shape": [1, 10**30, 1]},
    ):  # no memory is taken for what a file only says
        torch.save({**content, "made": {**content["made"], **made}}, tmp_path / "large.pt")
        with pytest.raises(ValueError, match=r"holds (no denoiser|other weights)"):
            load_denoiser(tmp_path / "large.pt")
    hashed = {**content, "phase-scan denoiser": 2, "seen": torch.zeros((100, 2), dtype=torch.int64)}
    for earlier in ({**content, "phase-scan denoiser": 1, "seen": None}, hashed):
        torch.save(earlier, file)
        assert load_denoiser(file).seen_images() == []
    torch.save({**content, "phase-scan denoiser": 4}, file)
    with pytest.raises(ValueError, match="was written by a newer version of phase-scan: update to read it"):
        load_denoiser(file)
    unfinished = {**content, "state": {"training": {"done": False, "step": 1}, "kept": []}}
    torch.save(unfinished, file)
    before = file.read_bytes()
    with pytest.raises(ValueError, match="what was saved of the training is damaged"):
        train_denoiser(local(), images, steps=2, file=file)
    assert file.read_bytes() == before


def test_what_cannot_be_trained() -> None:
    images = FIELD.sample(100, 0)
    with pytest.raises(TypeError, match="not for _Clean: train a model of your own with your own code"):
        train_denoiser(from_clean(lambda x, t: x, (1, 5, 5)), images)  # type: ignore[arg-type]
    wrong: list[tuple[np.ndarray, dict[str, Any], str]] = [
        (images[:, :4], {}, r"takes images of \(1, 5, 5\), these are \(1, 4, 5\)"),
        (images[:49], {}, "takes at least 50 images, got 49"),
        (images, {"rate": 0.0}, "rate must be above 0"),
        (images, {"minutes": float("inf")}, "minutes must be above 0 and finite"),
        (images, {"held_out": 100}, "of 100 images 100 cannot be held out"),
        (images, {"device": "gpu7"}, "there is no device 'gpu7'"),
        (images, {"device": "meta"}, "there is no device 'meta'"),
        (images, {"seed": 2**64}, "seed must be at most"),
        (1e300 * images, {}, "beyond single precision"),
        (np.full_like(images, np.nan), {}, "finite|NaN|nan"),
    ]
    for data, options, message in wrong:
        with pytest.raises(ValueError, match=message):
            train_denoiser(local(), data, steps=1, **options)


def test_held_out_images_are_not_trained_on() -> None:
    """Those that are trained on are recognised by their mean."""
    images = FIELD.sample(100, 0)
    net, looks = local(), list[Look]()
    train_denoiser(net, images, steps=32, held_out=60, progress=looks.append)
    assert [look.step for look in looks] == list(range(2, 2 * len(looks) + 1, 2))
    mean = torch.as_tensor(images, dtype=torch.float32).mean(dim=0)
    assert (net.mean[0] - mean).abs().max() > 0.05


def test_all_that_are_held_out_choose_and_they_are_drawn_at_random(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of images in order the first ones would be of one kind."""
    seen = []

    class Spy(_DenoiserTrainer):
        def __init__(self, denoiser: Any, clean: torch.Tensor, held: torch.Tensor, settings: Any) -> None:
            super().__init__(denoiser, clean, held, settings)
            seen.append(held[:, 0, 0, 0].numpy())

    monkeypatch.setattr("cmi.denoise.training._DenoiserTrainer", Spy)
    images = np.arange(4000.0)[:, None, None] + np.zeros((5, 5))
    for held_out, count in ((None, 256), (400, 400)):
        train_denoiser(local(), images, steps=1, held_out=held_out, device="cpu")
        assert len(seen[-1]) == count
        assert np.histogram(seen[-1], 10, (0, 4000))[0].min() > 0.04 * count


def test_images_of_all_kinds() -> None:
    digits = open_dataset("digits")
    assert images_of(digits).shape == (1797, 1, 8, 8)
    assert float(images_of(digits).max()) == 1.0
    bytes_ = np.arange(2 * 3 * 4 * 3, dtype=np.uint8).reshape(2, 3, 4, 3)
    colour = images_of(SampleSet(bytes_ / 255.0, "c", "memory", 2, channel_axis=-1))
    assert colour.shape == (2, 3, 3, 4)
    assert float(colour[1, 2, 0, 1]) == pytest.approx(bytes_[1, 0, 1, 2] / 255.0)
    given = torch.rand(3, 1, 2, 2)
    assert torch.equal(images_of(given), given)
    for wrong in (torch.rand(3, 2, 2), torch.zeros(3, 1, 2, 2, dtype=torch.long)):
        with pytest.raises(ValueError, match="a tensor of images is floating point"):
            images_of(wrong)
    with pytest.raises(ValueError, match="not finite"):
        images_of(torch.full((1, 1, 2, 2), torch.nan))
    with pytest.raises(ValueError, match="for images and lines"):
        images_of(np.zeros((4, 3, 3, 3)))

"""The baseline of MINE: its layers, its bound, its gradient, what it sees, and what it never trains on."""

from __future__ import annotations

import csv
import math
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import ROOT

from cmi.exact import GaussianChain, GaussianField

torch = pytest.importorskip("torch", reason="the baseline of MINE needs torch")
sys.path.insert(0, str(ROOT / "benchmarks"))

import mine  # noqa: E402
import mine_network  # noqa: E402
import mine_protocol  # noqa: E402

SMALL = mine_network.MineSettings(steps=40, batch=20, channels=4, hidden=16, rate=1e-3)


def pictures(n: int, seed: int = 0, side: int = 9) -> np.ndarray:
    """Smooth noise: the centre depends on what is around it."""
    x = np.random.default_rng(seed).standard_normal((n, side, side))
    return np.asarray(x + np.roll(x, 1, 1) + np.roll(x, 1, 2), dtype=np.float32)


def small_network(side: int = 9, at: int = 4) -> mine_network.StatisticsNetwork:
    torch.manual_seed(0)
    return mine_network.StatisticsNetwork((side, side), (at, at), SMALL)


def published_layers() -> list[tuple[str, tuple[int, ...]]]:
    return [("conv.weight", (32, 1, 3, 3)), ("conv.bias", (32,)), ("first.bias", (256,)), ("last.weight", (1, 256))]


@pytest.mark.parametrize(("side", "features"), [(27, 12 * 12 * 32), (28, 13 * 13 * 32)])
def test_layers_and_numbers_of_parameters(side: int, features: int) -> None:
    network = mine_network.StatisticsNetwork((side, side), (side // 2, side // 2), mine_network.MineSettings())
    shapes = {name: tuple(value.shape) for name, value in network.named_parameters()}
    assert shapes == dict([*published_layers(), ("first.weight", (256, features)), ("last.bias", (1,))])
    assert sum(math.prod(shape) for shape in shapes.values()) == 320 + 256 * features + 256 + 257
    assert network.pooled(torch.zeros(3, side, side)).flatten(1).shape == (3, features)
    assert network(torch.zeros(3, side, side)).shape == (3,)


def test_defaults_are_the_published_ones() -> None:
    s = mine_network.MineSettings()
    assert (s.steps, s.batch, s.rate, s.decay) == (300_000, 100, 1e-4, 1e-4)
    assert (s.channels, s.hidden, s.drop_features, s.drop_hidden) == (32, 256, 0.10, 0.30)
    assert (s.average, s.window) == (0.001, 0.1)


@pytest.mark.parametrize(("side", "at"), [(9, 4), (8, 4), (10, 5), (7, 0), (6, 1)])
def test_network_is_that_of_plain_layers(side: int, at: int) -> None:
    """Values and gradients of the products of matrices, and of the short way to other centres."""
    torch.manual_seed(1)
    network = mine_network.StatisticsNetwork((side, side), (at, at), SMALL)
    images, centres = torch.randn(12, side, side), torch.randn(12)
    moved = images.clone()
    moved[:, at, at] = centres

    def plain(x: Any) -> Any:
        cells = torch.nn.functional.avg_pool2d(torch.relu(network.conv(x[:, None])), 2)
        hidden = torch.relu(network.first(cells.permute(0, 2, 3, 1).flatten(1)))
        return network.last(hidden)[:, 0]

    def gradients(values: Any) -> list[Any]:
        network.zero_grad()
        torch.autograd.backward((values * torch.arange(len(values))).sum())
        return [p.grad for p in network.parameters()]

    expected = plain(torch.cat([images, moved]))
    found = network.statistic(network.pair(images, centres))
    torch.testing.assert_close(found, expected)
    for one, two in zip(gradients(found), gradients(expected), strict=True):
        torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-4)


def test_dropout_drops_its_share_and_keeps_the_mean() -> None:
    mask = mine_network.dropout_mask((1000, 301), 0.3, np.random.default_rng(0)).numpy()
    assert set(np.unique(mask)) == {0.0, np.float32(65536 / (65536 - round(0.3 * 65536)))}
    assert abs((mask == 0).mean() - 0.3) < 5 * math.sqrt(0.21 / mask.size)
    assert abs(np.corrcoef(mask[:, :-1].ravel(), mask[:, 1:].ravel())[0, 1]) < 0.01
    assert (mine_network.dropout_mask((7,), 0.0, np.random.default_rng(0)) == 1).all()


def test_bound_of_the_true_ratio_of_a_gaussian_pair() -> None:
    """T = ln p(a, b) / p(a) p(b) reaches I = -1/2 ln(1 - rho^2), c + T the same, and half of it less."""
    rho, n = 0.6, 400_000
    rng = np.random.default_rng(0)
    a, z, b_other = rng.standard_normal((3, n))

    def ratio(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        quadratic = (rho**2 * (a**2 + b**2) - 2 * rho * a * b) / (2 * (1 - rho**2))
        return np.asarray(-0.5 * np.log(1 - rho**2) - quadratic)

    joint, marginal = ratio(a, rho * a + math.sqrt(1 - rho**2) * z), ratio(a, b_other)
    truth = -0.5 * math.log(1 - rho**2)
    assert mine_protocol.donsker_varadhan(joint, marginal) == pytest.approx(truth, abs=0.006)
    assert mine_protocol.donsker_varadhan(joint + 800, marginal + 800) == pytest.approx(truth, abs=0.006)
    assert mine_protocol.donsker_varadhan(0.5 * joint, 0.5 * marginal) < truth - 0.02


def test_small_batches_raise_the_bound() -> None:
    """-E ln of a mean of n terms is above -ln of their mean by about var / (2 n), in units of that mean."""
    rng = np.random.default_rng(0)
    marginal = 0.8 * rng.standard_normal((20_000, 100))
    batches = np.mean([mine_protocol.donsker_varadhan(np.zeros(1), row) for row in marginal])
    excess = batches - mine_protocol.donsker_varadhan(np.zeros(1), marginal)
    assert excess == pytest.approx((math.exp(0.64) - 1) / 200, rel=0.15)


def test_gradient_is_that_of_the_moving_average() -> None:
    """Against a twin that goes sample by sample: mean dT_joint - mean exp(T) dT_marginal / M, for three batches."""
    network = small_network()
    average, twin = 1.0, 1.0
    for seed in range(3):
        x = torch.from_numpy(pictures(10, seed))
        values = network.statistic(network.pair(x, x[:, 4, 4].flip(0)))
        network.zero_grad()
        loss, average, bound = mine_protocol.mine_loss(values[:10], values[10:], average, 0.25)
        torch.autograd.backward(loss, retain_graph=True)
        found: list[Any] = [p.grad for p in network.parameters()]
        number = values.detach().numpy().astype(float)
        mean_exp = sum(math.exp(t) for t in number[10:]) / 10
        twin = 0.75 * twin + 0.25 * mean_exp
        expected = [torch.zeros_like(p) for p in network.parameters()]
        for i in range(20):
            weight = 0.1 if i < 10 else -0.1 * math.exp(number[i]) / twin
            slopes = torch.autograd.grad(values[i], list(network.parameters()), retain_graph=True)
            for total, slope in zip(expected, slopes, strict=True):
                total -= weight * slope  # the loss falls where the bound rises
        assert average == pytest.approx(twin, rel=1e-6)
        assert bound == pytest.approx(sum(number[:10]) / 10 - math.log(mean_exp), abs=1e-5)
        for one, two in zip(found, expected, strict=True):
            torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-5)
        with torch.no_grad():  # the batches differ in T too
            for p in network.parameters():
                p.mul_(1.3)


def test_reading_is_that_of_whole_images() -> None:
    """Many permutations the short way against images built pixel by pixel; its error against bootstrap."""
    network = small_network()
    with torch.no_grad():
        for p in network.parameters():
            p.mul_(2.0)
    images = torch.from_numpy(pictures(300))
    value, error, by_batch = mine_protocol.read(
        network, images, np.random.default_rng(3), permutations=4, batches=2
    )
    rng = np.random.default_rng(3)
    marginal = []
    for _ in range(4):
        order = rng.permutation(300)
        moved = images.clone()
        for place, row in enumerate(order):
            moved[row, 4, 4] = images[order[place - 1], 4, 4]
        assert (moved[:, 4, 4] != images[:, 4, 4]).all()
        marginal.append(network(moved).detach().numpy().astype(float))
    joint = network(images).detach().numpy().astype(float)
    assert value == pytest.approx(mine_protocol.donsker_varadhan(joint, np.array(marginal)), abs=1e-5)
    draws = [
        mine_protocol.read(network, torch.from_numpy(pictures(300, s)), rng, permutations=4)[0]
        for s in range(100, 160)
    ]
    assert 0.6 < error / np.std(draws) < 1.6
    assert math.isfinite(by_batch)
    assert by_batch != value


def test_masks_keep_exactly_the_square() -> None:
    images = np.arange(1.0, 1 + 2 * 9 * 8).reshape(2, 9, 8).astype(np.float32)
    for r in (0, 1, 3):
        found = mine_protocol.square(images, (4, 4), r)
        assert found.dtype == np.float32
        inside = np.zeros((9, 8), dtype=bool)
        inside[4 - r : 5 + r, 4 - r : 5 + r] = True
        assert (found[:, inside] == images[:, inside]).all()
        assert (found[:, ~inside] == 0).all()
    assert (mine_protocol.square(images, (4, 4), 4) == images).all()


def test_held_out_images_are_never_trained_on_and_seeds_repeat() -> None:
    x, other, brief = pictures(100), pictures(60, 1), replace(SMALL, steps=10)
    each: list[tuple[np.ndarray | None, int, tuple[int, ...]]] = [
        (other, 5, ()),
        (other, 5, ()),
        (100 * other, 5, ()),
    ]
    each += [(None, 5, ()), (other, 6, ()), (other, 5, (1,))]
    runs = [
        mine_protocol.mine_information(x, (4, 4), brief, held_out=held_out, seed=seed, key=key, looks=[5, 10])
        for held_out, seed, key in each
    ]

    def numbers(look: mine_protocol.Look) -> tuple[float, ...]:
        return look.published, look.published_error, look.by_batch, look.training, look.training_error

    assert [look.step for look in runs[0]] == [5, 10]
    for run in runs[1:4]:
        assert [numbers(look) for look in run] == [numbers(look) for look in runs[0]]
    assert [look.held_out for look in runs[1]] == [look.held_out for look in runs[0]]
    assert runs[2][-1].held_out != runs[0][-1].held_out
    assert math.isnan(runs[3][-1].held_out)
    assert len({run[-1].published for run in (runs[0], runs[4], runs[5])}) == 3


def test_looking_changes_nothing() -> None:
    x = pictures(100)
    whole, often = (mine_protocol.mine_information(x, (4, 4), SMALL, looks=looks) for looks in ([40], [7, 13, 40]))
    assert replace(whole[-1], steps_per_second=1.0) == replace(often[-1], steps_per_second=1.0)


def test_few_images_are_memorised_and_held_out_ones_say_so() -> None:
    """White noise, truth 0: the reading on training images is far above after some steps, the other is not."""
    rng = np.random.default_rng(0)
    x, other = (rng.standard_normal((n, 7, 7)).astype(np.float32) for n in (40, 2000))
    settings = replace(SMALL, steps=500, hidden=64, rate=3e-3)
    look = mine_protocol.mine_information(x, (4, 4), settings, held_out=other)[-1]
    assert look.published > 0.05
    assert look.training > 0.1
    assert look.held_out < 3 * look.held_out_error


@pytest.mark.parametrize("level", [0.0, 0.3, 0.7, 1.0])
def test_differences_of_the_exact_information_are_the_cmi(level: float) -> None:
    for model in (GaussianField(L=9), GaussianChain(L=9)):
        whole = mine.gaussian_information(model, level)
        for r in (1, 2, 3):
            inner = mine.gaussian_information(model, level, r)
            assert whole - inner == pytest.approx(model.cmi(level, r).value, abs=1e-12)
            assert (inner > 0) == (level < 1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"steps": 0}, "steps must be at least 1"),
        ({"batch": 1}, "batch must be at least 2"),
        ({"drop_hidden": 1.0}, "drop_hidden is a share"),
        ({"window": 0.0}, "window lies above 0"),
        ({"rate": 0.0}, "AdamW needs rate > 0"),
    ],
)
def test_settings_that_make_no_sense(change: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        mine_network.MineSettings(**change)  # type: ignore[arg-type]


def test_images_that_do_not_fit() -> None:
    x = pictures(50)
    for images, centre, options, message in [
        (x[0], (4, 4), {}, "shape \\(n, H, W\\)"),
        (x[:10], (4, 4), {}, "images are 10: at least 20"),
        (x, (4, 9), {}, "lies outside"),
        (x, (8, 8), {}, "does not see the centre"),
        (np.where(x > 2, np.nan, x), (4, 4), {}, "not finite"),
        (x, (4, 4), {"held_out": pictures(50, side=8)}, "held_out images have shape"),
        (x, (4, 4), {"looks": [10, 41]}, "looks must rise and end at step 40"),
        (x, (4, 4), {"looks": [10, 10]}, "looks must rise"),
    ]:
        with pytest.raises(ValueError, match=message) as caught:
            mine_protocol.mine_information(images, centre, SMALL, **options)  # type: ignore[arg-type]
        assert "\n" not in str(caught.value)


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Run the benchmark in this process, with few images, and leave its threads alone."""
    monkeypatch.setattr(torch, "set_num_threads", lambda _: None)

    def run(*arguments: str | Path) -> None:
        few = ["--samples", "200", "--held-out", "100", "--steps", "4"]
        monkeypatch.setattr(sys, "argv", ["mine.py", *map(str, arguments), *few])
        mine.main()

    return run


def test_command_on_the_field(
    tmp_path: Path, command: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "curve.csv"
    command("--model", "field", "--widths", "1,12", "--repeats", "2", "--out", file)
    with file.open(newline="") as lines:
        rows = list(csv.DictReader(lines))
    kinds = {("I(A:BC)", "0"), ("I(A:BC)", "1"), ("I(A:B_1)", "0"), ("I(A:B_12)", "0")}
    assert {(row["quantity"], row["run"]) for row in rows} == kinds
    assert {row["step"] for row in rows} == {"1", "2", "3", "4"}
    truth = {row["quantity"]: float(row["truth"]) for row in rows}
    cmi = GaussianField(L=27, kappa=0.3).cmi(0.3, 1).value
    assert truth["I(A:BC)"] - truth["I(A:B_1)"] == pytest.approx(cmi, abs=2e-6)
    out = capsys.readouterr().out
    assert f"truth {cmi:.4f}" in " ".join(out.split())
    assert "r = 12" in out


def test_command_on_noise_alone(command: Callable[..., None], capsys: pytest.CaptureFixture[str]) -> None:
    command("--model", "pure-noise", "--widths", "", "--repeats", "1")
    assert "t = 1.0" in (out := capsys.readouterr().out)
    assert out.splitlines()[-1].split()[-1] == "0.0000"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--level", "1.5"], "lie in [0, 1]"),
        (["--widths", "1,a"], "whole numbers"),
        (["--widths", "", "--repeats", "0"], "nothing is asked for"),
        (["--model", "pure-noise", "--level", "0.3"], "pure noise is level 1"),
        (["--data", "{folder}"], "holds no train-images-idx3-ubyte"),
        (["--data", "digits", "--widths", "4"], "leaves nothing for C"),
        (["--out", "{folder}"], "is a folder"),
    ],
)
def test_refused_in_one_sentence(
    tmp_path: Path,
    command: Callable[..., None],
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    with pytest.raises(SystemExit) as caught:
        command(*(word.format(folder=tmp_path) for word in arguments))
    assert caught.value.code == 2
    assert message in capsys.readouterr().err.splitlines()[-1]


def test_a_folder_is_read_apart(data_folder: Path) -> None:
    apart = mine._saved(data_folder / "mnist", "1:,1:", 300, 100, 0)
    assert (apart.training.shape, apart.held_out.shape) == ((300, 27, 27), (100, 27, 27))


def test_a_file_is_parted() -> None:
    one = mine._saved(Path("digits"), None, 10_000, 10_000, 0)
    assert (len(one.training), len(one.held_out)) == (1797 - 179, 179)
    assert not {x.tobytes() for x in one.training} & {x.tobytes() for x in one.held_out}

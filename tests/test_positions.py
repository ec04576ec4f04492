"""Maps of positions: the CMI around every pixel, by a scan each or by one network."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import call, fails

from cmi import PhaseScan, PositionMap, PositionsInterrupted, map_positions, open_dataset, phase_scan
from cmi.exact import GaussianChain
from cmi.position_plot import plot_positions
from cmi.position_scan import _columns, _window
from estimators.posterior_places import fit_posterior_places

DIGITS = open_dataset("digits")
OPTIONS: dict[str, Any] = {"levels": [0.3, 0.6], "widths": [1, 2], "stride": 3}


def test_every_place_is_a_scan_of_its_own() -> None:
    found = map_positions(DIGITS, **OPTIONS, reach=4)
    assert found.complete
    assert found.places == [(y, x) for y in (0, 3, 6) for x in (0, 3, 6)]
    for place in ((0, 3), (3, 6)):
        scan = phase_scan(DIGITS, levels=[0.3, 0.6], widths=[1, 2], reach=4, center=place)
        here = found.dataset.sel(y=place[0], x=place[1])
        np.testing.assert_array_equal(here.cmi.values, scan.dataset.cmi.values)
        np.testing.assert_array_equal(here.stderr.values, scan.dataset.stderr.values)


@pytest.mark.parametrize("stride", [2, 3, 4, 5])
def test_places_leave_as_much_over_on_both_sides(stride: int) -> None:
    x = map_positions(DIGITS, levels=[0.5], widths=[1], stride=stride).dataset.x.values
    assert abs(x[0] - (7 - x[-1])) <= 1
    assert (np.diff(x) == stride).all()


def test_a_window_holds_each_pixel_of_the_image_within_reach_once() -> None:
    shape = (5, 6)
    offsets, sizes = _window(2, [1, 2], 4)
    assert sizes == (1, 8, 16, 56)
    for place in ((0, 0), (2, 3), (4, 5)):
        columns = _columns(shape, place, offsets)
        y, x = np.unravel_index(np.arange(30), shape)
        distance = np.maximum(abs(y - place[0]), abs(x - place[1]))
        ends = np.cumsum([0, *sizes])
        for (low, high), begin, end in zip(((-1, 0), (0, 1), (1, 2), (2, 4)), ends, ends[1:], strict=False):
            seen = columns[begin:end]
            np.testing.assert_array_equal(
                np.sort(seen[seen >= 0]), np.flatnonzero((distance > low) & (distance <= high))
            )


def test_one_network_for_all_places_reads_what_gaussian_data_have() -> None:
    pytest.importorskip("torch")
    options: dict[str, Any] = {"levels": [0.5, 0.7], "widths": [1, 2], "stride": 4}
    chain = GaussianChain(L=9, a=0.9)
    truth = map_positions(chain.sample(200_000, 2), **options).dataset.cmi  # 0.006 to 0.052 nats
    found = map_positions(chain.sample(12_000, 1), **options, method="posterior", steps=60).dataset
    assert float(found.stderr.max()) < 0.005
    assert int((abs(found.cmi - truth) > 3.0 * found.stderr).sum()) <= 1  # of 12
    assert abs(float((found.cmi - truth).mean())) < 0.004  # of 0.02


def test_one_network_finds_what_no_covariance_shows() -> None:
    pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    x = rng.choice([-1.0, 1.0], (6000, 9))
    x[:, 8] = x[:, 6] * x[:, 7]  # of the last three, any two tell the third
    found = map_positions(
        x, levels=[0.2], widths=[1], stride=4, method="posterior", steps=200, noise="interpolation"
    )
    cmi = found.dataset.cmi.sel(t=0.2, r=1)
    assert found.space == ("x",)
    assert [int(p) for p in cmi.x] == [0, 4, 8]
    assert abs(float(cmi.sel(x=0))) < 0.01
    assert abs(float(cmi.sel(x=4))) < 0.01
    assert float(cmi.sel(x=8)) > 0.3  # of ln 2, less what the noise takes


def test_what_is_outside_the_image_is_not_seen() -> None:
    torch = pytest.importorskip("torch")
    from estimators.posterior_answers import Levels

    rng = np.random.default_rng(0)
    x = rng.standard_normal((400, 4))
    fit = fit_posterior_places(x, np.array([[0, -1, 1], [2, 1, 3]]), (1, 1, 1), snrs=[1.0], steps=20)
    part = fit.parts[0]
    assert part.answers is not None
    from estimators.known_noise import KnownNoise

    levels = Levels.of([part.start(KnownNoise.of(1.0, None), (1, 1, 1))], torch.device("cpu"))
    noisy = torch.randn(1, 50, 3, generator=torch.Generator().manual_seed(1))
    other = noisy.clone()
    other[..., 1] += 100.0
    first, second = (part.answers.posteriors(each, 0, levels) for each in (noisy, other))
    for one, two in zip(first, second, strict=True):
        np.testing.assert_array_equal(one, two)


def test_a_place_that_is_constant_has_no_cmi() -> None:
    pytest.importorskip("torch")
    x = np.random.default_rng(0).standard_normal((400, 3))
    x[:, 0] = 2.0
    fit = fit_posterior_places(x, np.array([[0, 1, 2], [1, 0, 2]]), (1, 1, 1), snrs=[1.0], steps=5)
    assert fit.profile(x, 0, snr=1.0).value.tolist() == [0.0]
    assert fit.profile(x, 1, snr=1.0).local.shape == (1, 67)


def test_an_interrupted_map_goes_on() -> None:
    whole = map_positions(DIGITS, **OPTIONS)

    def stop(done: int, total: int) -> None:
        assert total == 9
        if done == 4:
            raise KeyboardInterrupt

    with pytest.raises(PositionsInterrupted) as caught:
        map_positions(DIGITS, **OPTIONS, progress=stop)
    partial = caught.value.partial
    assert len(partial.missing()) == 5
    counted: list[int] = []
    rest = map_positions(DIGITS, **OPTIONS, resume=partial, progress=lambda done, _: counted.append(done))
    assert counted == [5, 6, 7, 8, 9]
    assert rest.dataset.identical(whole.dataset)
    with pytest.raises(ValueError, match="the map to resume differs in seed: 0 there, 1 here"):
        map_positions(DIGITS, **OPTIONS, seed=1, resume=partial)


def test_a_map_is_kept_in_a_file(tmp_path: Path) -> None:
    found = map_positions(DIGITS, **OPTIONS)
    found.save(tmp_path / "map.nc")
    again = PositionMap.load(tmp_path / "map.nc")
    assert again.dataset.identical(found.dataset)
    assert "3 x 3 places" in repr(again)
    with pytest.raises(FileExistsError):
        found.save(tmp_path / "map.nc")
    with pytest.raises(ValueError, match="it is a map of positions"):
        PhaseScan.load(tmp_path / "map.nc")
    phase_scan(DIGITS, levels=[0.5]).save(tmp_path / "scan.nc")
    with pytest.raises(ValueError, match=r"scan\.nc is no map of positions"):
        PositionMap.load(tmp_path / "scan.nc")
    (tmp_path / "broken.nc").write_bytes((tmp_path / "map.nc").read_bytes()[:500])
    with pytest.raises(ValueError, match="damaged"):
        PositionMap.load(tmp_path / "broken.nc")


def test_pictures_of_planes_and_lines() -> None:
    found = map_positions(DIGITS, **OPTIONS)
    figure = plot_positions(found)
    panels = [ax for ax in figure.axes if ax.get_title().startswith("t = ")]
    assert [ax.get_title() for ax in panels] == ["t = 0.3", "t = 0.6"]
    low, high = panels[0].get_ylim()
    assert low > high  # rows as in an image, from the top
    line = map_positions(np.random.default_rng(0).standard_normal((100, 9)), levels=[0.2], widths=[1])
    assert plot_positions(line).axes[0].get_ylabel().endswith("[nats]")
    cube = map_positions(
        np.random.default_rng(0).standard_normal((100, 4, 4, 4)), levels=[0.2], widths=[1], stride=3
    )
    with pytest.raises(ValueError, match="three dimensions"):
        plot_positions(cube)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"stride": 0}, "stride must be at least 1"),
        (
            {"widths": [4]},
            "width 4 leaves nothing for C around every pixel of 8x8 with reach 10: widths go up to 3",
        ),
        ({"widths": []}, "widths are empty"),
        ({"method": "discrete"}, "counts values"),
        ({"method": "nothing"}, "unknown method"),
        ({"levels": [2.0]}, "between 0 and 1|in \\[0, 1\\]"),
    ],
)
def test_bad_input(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        map_positions(DIGITS, **{"levels": [0.5], **options})


def test_options_of_the_method() -> None:
    with pytest.raises(TypeError, match="the method 'posterior' has no option 'folds' for positions"):
        map_positions(DIGITS, levels=[0.5], method="posterior", folds=2)


def test_bad_windows() -> None:
    x = np.zeros((300, 3))
    for windows, message in (
        ([[0, 1]], "windows are 3 columns"),
        ([[0, 1, 3]], "windows hold columns from 0 to 2"),
        ([[-1, 0, 1]], "windows hold columns from 0 to 2"),
    ):
        with pytest.raises(ValueError, match=message):
            fit_posterior_places(x, np.array(windows), (1, 1, 1), snrs=[1.0])
    with pytest.raises(ValueError, match="at least 200 samples"):
        fit_posterior_places(x[:100], np.array([[0, 1, 2]]), (1, 1, 1), snrs=[1.0])


def test_on_the_command_line(tmp_path: Path) -> None:
    out, picture = tmp_path / "map.nc", tmp_path / "map.png"
    options = ("--position", "all", "--stride", "3", "--levels", "0.3,0.6", "--widths", "1:2")
    done = call("run", "digits", *options, "--out", out, "--plot", picture)
    assert done.exit_code == 0, done.stderr
    assert "A one pixel at 9 places" in done.stdout
    assert picture.stat().st_size > 5_000
    assert PositionMap.load(out).complete
    assert "9 places" in call("show", out).stdout
    assert call("plot", out, "--out", tmp_path / "again.png").exit_code == 0
    wrong: list[tuple[tuple[str | Path, ...], str]] = [
        (("plot", out, "--kind", "decay", "--out", tmp_path / "d.png"), "is a map of positions: leave --kind out"),
        (("check", out), "it is a map of positions"),
        (("run", "digits", *options, "--out", out), "exists"),
        (("run", "digits", "--position", "middle"), "one pixel is --center"),
        (("run", "digits", "--stride", "2"), "--stride is for --position all"),
        (("run", "digits", *options, "--center", "1,1"), "--center is not for --position all"),
        (("run", "digits", *options, "--k", "5"), "--k of --position all is for --method ksg, not gaussian"),
    ]
    for arguments, message in wrong:
        fails(re.escape(message), *arguments)

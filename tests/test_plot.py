"""Pictures: what is drawn is what the scan holds."""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
from commands import call, fails
from test_transition import scan_with_lengths

from cmi import PhaseScan, exact_scan, open_dataset, phase_scan
from cmi.exact import ClosedLoops, GaussianChain
from cmi.plot import plot_bias, plot_decay, plot_map, plot_markov_length, plot_scan, save_plot
from cmi.size_plot import plot_sizes, save_sizes


@pytest.fixture(scope="module")
def scan() -> PhaseScan:
    return phase_scan(open_dataset("digits"), levels=[0.0, 0.3, 0.6, 1.0], widths=[1, 2, 3], center=(3, 3))


def test_axes_in_axes_out(scan: PhaseScan) -> None:
    _, ax = plt.subplots()
    assert scan.plot(ax) is ax
    assert ax.get_xlabel() == "noise level t"
    assert ax.get_ylabel() == "buffer width r  [pixels]"
    plt.close("all")
    before = plt.get_fignums()
    own = scan.plot()
    assert plt.get_fignums() == before  # no pyplot figure is left behind
    assert len(own.figure.axes) == 3


def test_the_map_holds_the_values(scan: PhaseScan) -> None:
    _, ax = plt.subplots()
    plot_map(scan, ax)
    drawn = ax.collections[0].get_array()
    assert drawn is not None
    values = scan.dataset.cmi.values.T
    clear = (scan.dataset.cmi > 2 * scan.dataset.stderr).values.T
    np.testing.assert_array_equal(np.ma.getmaskarray(drawn), ~clear)
    np.testing.assert_allclose(np.ma.filled(drawn, np.nan)[clear], values[clear])
    assert len(ax.patches) == int((~clear).sum()) >= 3  # hatched: at t = 1 nothing stands above 0
    plt.close("all")


def test_what_is_no_higher_than_the_floor_is_hatched() -> None:
    """And the title says how the estimate was made."""
    scan = phase_scan(
        open_dataset("digits", limit=200), levels=[0.2], widths=[1, 2], center=(1, 3), reach=3, method="ksg"
    )
    scan.dataset.cmi.values[:] = [[0.5, 0.4]]
    for name, value in (("stderr", 0.01), ("surrogate_stderr", 0.02), ("surrogate_bias", [[0.49, 0.1]])):
        scan.dataset[name].values[:] = value
    assert scan.stands_out(2.0).tolist() == [[False, True]]
    assert scan.floor[0].tolist() == [[0.49, 0.1]]
    ax = plot_scan(scan)
    assert len(ax.patches) == 1
    assert ax.get_title(loc="right") == "hatched: not two errors above 0 and the floor"
    upper = ax.figure.axes[0]
    assert upper.get_title(loc="left") == "digits: 200 samples, ksg estimate"
    assert "not resolved at any level" in [text.get_text() for text in upper.texts]
    scan.dataset["null_mean"] = scan.dataset.cmi + 0.1
    scan.dataset["null_stderr"] = 0.0 * scan.dataset.cmi
    assert not scan.stands_out(2.0).any()
    calibrated = phase_scan(
        open_dataset("digits", limit=200),
        levels=[0.2],
        widths=[1],
        center=(1, 3),
        reach=2,
        method="ksg",
        calibrate=True,
    )
    assert not calibrated.floor[0].any()  # what was subtracted is no floor
    assert "ksg (calibrate) estimate" in plot_scan(calibrated).figure.axes[0].get_title(loc="left")


def test_the_bias_is_drawn_where_it_was_measured(scan: PhaseScan, tmp_path: Path) -> None:
    measured = phase_scan(
        open_dataset("digits", limit=300), levels=[0.2, 0.5], widths=[1, 2], center=(1, 3), reach=3, method="ksg"
    )
    bias = measured.dataset.surrogate_bias
    bias.values[:] = [[-0.2, 0.1], [0.01, -0.01]]
    measured.dataset.surrogate_stderr.values[:] = 0.02
    ax = plot_bias(measured)
    drawn = ax.collections[0].get_array()
    assert drawn is not None
    np.testing.assert_array_equal(np.ma.filled(drawn, 9.0), [[-0.2, 9.0], [0.1, 9.0]])
    assert ax.collections[0].get_clim() == (-0.2, 0.2)
    assert len(ax.patches) == 2
    assert ax.get_title(loc="right") == "hatched: within two errors"
    whole = plot_scan(measured).figure
    assert len(whole.axes) == 5  # three panels and two colour bars
    assert [panel.get_xlabel() for panel in whole.axes[:3]] == ["", "", "noise level t"]
    with pytest.raises(ValueError, match="no surrogates, whose bias could be drawn"):
        plot_bias(scan)
    measured.save(tmp_path / "s.nc")
    assert call("plot", tmp_path / "s.nc", "--kind", "bias").exit_code == 0
    assert (tmp_path / "s.png").read_bytes().startswith(b"\x89PNG")
    fails("--kind takes map, decay, bias or sizes", "plot", tmp_path / "s.nc", "--kind", "biased")
    with pytest.raises(ValueError, match="kind is one of map, decay, bias, got 'sizes'"):
        save_plot(measured, tmp_path / "t.png", kind="sizes")


def test_levels_without_a_length_are_crossed() -> None:
    _, ax = plt.subplots()
    plot_markov_length(scan_with_lengths([1.0, 0, 2.0]), ax)
    crosses = next(line for line in ax.lines if line.get_marker() == "x")
    assert len(np.asarray(crosses.get_xdata())) == 1
    plt.close("all")


def test_the_curve_holds_the_lengths(scan: PhaseScan) -> None:
    _, ax = plt.subplots()
    plot_markov_length(scan, ax)
    known = [m for m in scan.markov_length if m.success]
    curve = ax.lines[0]
    np.testing.assert_allclose(np.asarray(curve.get_ydata(), dtype=float), np.array([m.value for m in known]))
    assert known or "not resolved at any level" in [text.get_text() for text in ax.texts]
    assert [text.get_text() for text in ax.texts if "verdict" in text.get_text()] == ["verdict: unresolved"]
    plt.close("all")


def test_unusual_scans_can_be_drawn() -> None:
    empty = scan_with_lengths([0, 0, 0])
    partial = scan_with_lengths([1.0, 2.0, 1.0])
    partial.dataset.finished.values[1] = 0
    partial.dataset.cmi.values[1] = np.nan
    single = phase_scan(open_dataset("digits", limit=200), levels=[0.5], widths=[2])
    infinite = scan_with_lengths([1.0, 2.0, 1.0])
    infinite.dataset.cmi.values[0, 0] = np.inf
    for scan in (empty, partial, single, infinite):
        plot_scan(scan).figure.draw_without_rendering()  # type: ignore[union-attr]


@pytest.mark.parametrize("suffix", [".png", ".pdf", ".svg"])
def test_save_plot(scan: PhaseScan, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"picture{suffix}"
    save_plot(scan, path)
    assert path.stat().st_size > 5000
    before = path.read_bytes()
    with pytest.raises(FileExistsError, match="exists"):
        save_plot(scan, path)
    assert path.read_bytes() == before
    save_plot(scan, path, overwrite=True)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_unknown_pictures(scan: PhaseScan, tmp_path: Path) -> None:
    for name in ("picture.xyz", "picture"):
        with pytest.raises(ValueError, match=r"no suffix of a picture: use \.png"):
            save_plot(scan, tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_the_decay_holds_points_and_fits(tmp_path: Path) -> None:
    exact = exact_scan(GaussianChain(L=25), np.linspace(0.2, 0.9, 8).tolist())
    ax = plot_decay(exact)
    assert ax.get_yscale() == "log"
    legend = ax.get_legend()
    assert legend is not None
    labels = [text.get_text() for text in legend.get_texts()]
    assert len(labels) == 6  # of eight levels five, and the floor
    assert labels[-1] == "needed to count"
    assert labels[0].startswith("t = 0.2, \u03be = 0.3")
    curve = [line for line in ax.lines if len(line.get_xdata()) == 100][2]  # type: ignore[arg-type]
    length = exact.markov_length[4]
    x, y = np.asarray(curve.get_xdata()), np.asarray(curve.get_ydata())
    np.testing.assert_allclose(np.interp(5.0, x, np.log(y)), np.log(exact.dataset.cmi.values[4, 4]), atol=0.03)
    assert x[0] == length.widths_used[0]
    _, own = plt.subplots()
    assert plot_decay(exact, own) is own
    plt.close("all")
    save_plot(exact, tmp_path / "decay.png", kind="decay")
    assert (tmp_path / "decay.png").stat().st_size > 10_000


def test_a_decay_with_nothing_to_show() -> None:
    ax = plot_decay(scan_with_lengths([0, 0]))
    assert [text.get_text() for text in ax.texts] == ["no CMI above its error"]
    sampled = plot_decay(phase_scan(open_dataset("digits", limit=400), levels=[0.2, 0.5], center=(3, 3)))
    assert sampled.get_yscale() == "log"


def test_sizes_are_drawn_with_their_verdict(tmp_path: Path) -> None:
    models = {5.0 * s: ClosedLoops(L=5 * s + 1, side=s, samples=300) for s in (1, 2)}
    scans = {L: exact_scan(m, [0.18, 0.22, 0.26], widths=[m.side]) for L, m in models.items()}
    ax = plot_sizes(scans)
    assert "regions scaled with L" in ax.get_ylabel()
    legend = ax.get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == ["L = 5", "L = 10"]
    np.testing.assert_allclose(np.asarray(ax.lines[0].get_ydata()), scans[5.0].dataset.cmi.values[:, 0])
    save_sizes(scans, tmp_path / "s.png")
    with pytest.raises(FileExistsError):
        save_sizes(scans, tmp_path / "s.png")


def test_infinite_lengths_can_be_drawn() -> None:
    """A power law has no length: the level is crossed, and its curve drawn."""
    scan = scan_with_lengths([1.0, 1.0, 1.0])
    r = np.arange(1, 9)
    y = 0.1 * ((r + 0.5) ** -1.0 - 20.5**-1.0)
    scan.dataset.cmi.values[1] = y
    scan.dataset.covariance.values[1] = np.diag((1e-4 * y) ** 2)
    assert scan.markov_length[1].form == "power"
    _, ax = plt.subplots()
    plot_markov_length(scan, ax)
    plt.close("all")
    legend = plot_decay(scan).get_legend()
    assert legend is not None
    assert any("(power)" in text.get_text() for text in legend.get_texts())

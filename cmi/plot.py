"""Pictures of scans: axes in, axes out."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from cmi.methods import named
from cmi.output import check_output, replacing
from cmi.transition import locate_transition, scale_free

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from cmi.result import PhaseScan

__all__ = ["plot_decay", "plot_map", "plot_markov_length", "plot_scan", "plot_sizes", "save_plot", "save_sizes"]

_INK = "#222222"
_BLUE = "#0072B2"  # Okabe and Ito's palette
_SIGNIFICANT = 2.0  # standard errors; cells below are drawn as noise
_DECADES = 4.0  # of the colour scale
_LEVELS_SHOWN = 5  # of curves over r: more cannot be told apart


def plot_scan(scan: PhaseScan, ax: Axes | None = None) -> Axes:
    """Draw the CMI map; without axes, a figure with xi(t) above it.

    Parameters
    ----------
    scan : PhaseScan
    ax : matplotlib Axes, optional
        Takes the map only.

    Returns
    -------
    Axes
        The axes of the map; ``ax.figure`` is the figure.

    Examples
    --------
    >>> from cmi import open_dataset, phase_scan
    >>> scan = phase_scan(open_dataset("digits"), levels=[0.2, 0.5, 0.8], widths=[1, 2, 3])
    >>> plot_scan(scan).get_xlabel()
    'noise level t'
    """
    if ax is not None:
        return plot_map(scan, ax)
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    # A figure of its own, not pyplot's: the library opens no windows and leaves no global state behind.
    figure = Figure(figsize=(5.2, 5.0), layout="constrained")
    FigureCanvasAgg(figure)
    upper: Axes
    lower: Axes
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[1.0, 1.25])
    plot_markov_length(scan, upper)
    upper.set_xlabel("")
    plot_map(scan, lower)
    upper.set_title(_title(scan), fontsize=9, loc="left", color=_INK)
    return lower


def _title(scan: PhaseScan) -> str:
    """What was scanned and how, on two lines where 75 letters, which fill the picture, are not enough."""
    about = scan.config
    title = f"{about['data']['name']}: {about['data']['n_samples']:,} samples, "
    how = f"{named(about['method'], about.get('options', {}))} estimate"
    return f"{title}{how}" if len(title + how) < 75 else f"{title}\n{how}"


def plot_map(scan: PhaseScan, ax: Axes) -> Axes:
    """Draw I(A:C|B_r) over t and r on a logarithmic colour scale; cells not two errors above 0 are hatched."""
    from matplotlib.colors import LogNorm
    from matplotlib.patches import Rectangle

    data = scan.dataset
    t, r = data.t.values, data.r.values
    cmi = data.cmi.values
    clear = np.isfinite(cmi) & scan.stands_out(_SIGNIFICANT)
    top = float(cmi[clear].max()) if clear.any() else 1.0
    bottom = max(float(cmi[clear].min()) if clear.any() else 0.1, top * 10.0**-_DECADES)
    if bottom >= top:
        bottom = top / 10.0
    x, y = np.clip(_edges(t, 0.05), -0.05, 1.05), _edges(r.astype(np.float64), 0.5)
    mesh = ax.pcolormesh(
        x, y, np.where(clear, cmi, np.nan).T, norm=LogNorm(bottom, top), cmap="viridis", rasterized=True
    )
    known = data.finished.values.astype(bool)
    for i, j in zip(*np.nonzero(~clear), strict=True):
        ax.add_patch(
            Rectangle(
                (x[i], y[j]),
                x[i + 1] - x[i],
                y[j + 1] - y[j],
                facecolor="#e8e8e8" if known[i] else "white",
                edgecolor="#b0b0b0" if known[i] else "white",
                hatch="////" if known[i] else None,
                linewidth=0.0,
            )
        )
    extend = "min" if clear.any() and cmi[clear].min() < bottom else "neither"
    bar = ax.figure.colorbar(mesh, ax=ax, extend=extend, pad=0.02)
    bar.set_label("I(A:C|B$_r$)  [nats]", fontsize=9)
    bar.ax.tick_params(labelsize=8, which="both")
    ax.set_xlabel("noise level t", fontsize=9)
    ax.set_ylabel(f"buffer width r  [{scan.unit}]", fontsize=9)
    ax.set_yticks(r if len(r) <= 14 else r[:: -(-len(r) // 14)])
    ax.set_xlim(x[0], x[-1])
    ax.set_ylim(y[0], y[-1])
    ax.tick_params(labelsize=8)
    if (known[:, None] & ~clear).any():
        what = "0 and the floor" if scan.floor[0].any() else "0"
        ax.set_title(f"hatched: not two errors above {what}", fontsize=7, loc="right", pad=3, color=_INK)
    return ax


def plot_markov_length(scan: PhaseScan, ax: Axes) -> Axes:
    """Draw xi(t) with an error band; a cross at the bottom marks levels where it is not resolved."""
    t = scan.dataset.t.values
    lengths = scan.markov_length
    xi = np.array([m.value for m in lengths])
    known = np.isfinite(xi)
    low, high = np.array([m.interval for m in lengths]).T
    high = np.where(known & ~np.isfinite(high), 10.0 * scan.reach, high)  # out of the picture
    ax.fill_between(t, low, high, where=known, color=_BLUE, alpha=0.2, linewidth=0.0)
    ax.errorbar(
        t[known],
        xi[known],
        [xi[known] - low[known], high[known] - xi[known]],
        color=_BLUE,
        marker="o",
        markersize=4,
        linewidth=1.2,
        elinewidth=1.0,
    )
    computed = scan.dataset.finished.values == 1
    reach = float(scan.reach)
    # an interval without an upper end leaves the picture
    top = float(min(high[known].max(), 3.0 * xi[known].max())) if known.any() else 1.0
    if top > 0.6 * reach:
        ax.axhline(reach, color=_INK, linewidth=0.8, linestyle=":")
        ax.annotate(
            "reach of the sample",
            (t[-1], reach),
            xytext=(2, -9),
            textcoords="offset points",
            fontsize=7,
            ha="right",
        )
    ax.set_ylim(0.0, 1.15 * max(top, reach if top > 0.6 * reach else 0.0))
    if computed.any() and not known.any():
        ax.set_yticks([])
        ax.annotate("not resolved at any level", (0.5, 0.5), xycoords="axes fraction", fontsize=8, ha="center")
    elif (computed & ~known).any():
        ax.plot(
            t[computed & ~known],
            np.zeros((computed & ~known).sum()),
            "x",
            color=_INK,
            markersize=5,
            clip_on=False,
            label="not resolved",
        )
        ax.legend(fontsize=7, loc="best", framealpha=0.9)
    ax.set_xlabel("noise level t", fontsize=9)
    gap = "  " if scan.unit == "pixels" else "\n"  # a longer unit needs a line of its own
    ax.set_ylabel(f"Markov length \u03be{gap}[{scan.unit}]", fontsize=9)
    ax.tick_params(labelsize=8)
    verdict = locate_transition(scan).verdict
    ax.annotate(
        f"verdict: {verdict}",
        (1.0, 1.0),
        xycoords="axes fraction",
        xytext=(-4, -4),
        textcoords="offset points",
        ha="right",
        va="top",
        fontsize=8,
        color=_INK,
        bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.85, "pad": 1.5},
    )
    return ax


def plot_decay(scan: PhaseScan, ax: Axes | None = None) -> Axes:
    """Draw I(A:C|B_r) against r on a logarithmic axis, with the fitted form at each level and its floor.

    Points that the fit uses are filled; bars are two standard errors; lines are dashed below the widths from which
    most of the fit is taken; dotted lines, in the colour of their level, are what the CMI had to exceed. Of many
    levels five are drawn, of which as many as can be are resolved.

    Parameters
    ----------
    scan : PhaseScan
    ax : matplotlib Axes, optional

    Returns
    -------
    Axes

    Examples
    --------
    >>> from cmi import exact_scan
    >>> from cmi.exact import GaussianChain
    >>> plot_decay(exact_scan(GaussianChain(L=25), [0.3, 0.5, 0.7])).get_yscale()
    'log'
    """
    from matplotlib import colormaps
    from matplotlib.ticker import MaxNLocator

    if ax is None:
        ax = _figure(1, (5.2, 3.6))[0]
        ax.set_title(_title(scan), fontsize=9, loc="left", color=_INK)
    data, lengths = scan.dataset, scan.markov_length
    r = data.r.values.astype(np.float64)
    computed = np.flatnonzero(data.finished.values == 1)
    resolved = [i for i in computed if lengths[i].success]
    shown = resolved if len(resolved) >= 2 else [i for i in computed if scan.stands_out(_SIGNIFICANT)[i].any()]
    if len(shown) > _LEVELS_SHOWN:
        shown = [shown[k] for k in np.unique(np.linspace(0, len(shown) - 1, _LEVELS_SHOWN).round().astype(int))]
    colours = colormaps["viridis"](np.linspace(0.0, 0.85, max(len(shown), 1)))
    lowest, floors = [], False
    for i, colour in zip(shown, colours, strict=False):
        y, error, length = data.cmi.values[i], data.stderr.values[i], lengths[i]
        above = np.isfinite(y) & (y > 0.0)
        used = above & np.isin(r, length.widths_used)
        lower = np.minimum(2 * error, 0.9 * np.abs(y))  # the axis has no 0
        for part, face in ((used, colour), (above & ~used, "white")):
            ax.errorbar(
                r[part],
                y[part],
                [lower[part], 2 * error[part]],
                fmt="o",
                color=colour,
                markerfacecolor=face,
                markersize=4,
                elinewidth=0.8,
            )
        if used.any():
            lowest.append(float(y[used].min()))
        floor = np.array(length.floor)
        if floor.size and (floor > 0.0).any() and error.any():
            ax.plot(r, np.where(floor > 0.0, floor, np.nan), ":", color=colour, linewidth=0.9)
            floors = True
        label = f"t = {data.t.values[i]:.3g}"
        if length.success:
            fine = np.linspace(min(length.widths_used), min(max(length.widths_used), scan.reach - 0.2), 100)
            ax.plot(fine, length.at(fine), "--", color=colour, linewidth=0.7)
            held = fine[fine >= length.first_width]
            ax.plot(held, length.at(held), color=colour, linewidth=1.2)
            label += f", \u03be = {length.value:.2g} {scan.unit if scan.unit == 'pixels' else 'blocks'}" + (
                "" if length.form == "exponential" else f" ({length.form})"
            )
        ax.plot([], [], "o-", color=colour, markersize=4, linewidth=1.2, label=label)
    if floors:
        ax.plot([], [], ":", color=_INK, linewidth=0.9, label="needed to count")
    ax.set_yscale("log")
    if lowest:
        ax.set_ylim(bottom=max(min(lowest) / 30.0, 1e-300))
    if shown:
        ax.legend(fontsize=7, framealpha=0.9)
    else:
        ax.set_yticks([])
        ax.annotate("no CMI above its error", (0.5, 0.5), xycoords="axes fraction", fontsize=8, ha="center")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.set_xlabel(f"buffer width r  [{scan.unit}]", fontsize=9)
    ax.set_ylabel("I(A:C|B$_r$)  [nats]", fontsize=9)
    ax.tick_params(labelsize=8)
    return ax


def plot_sizes(scans: Mapping[float, PhaseScan]) -> Axes:
    """Draw the scale-free curves of several sizes over t, and over (t - t_c) L^(1/nu) where they fall on one.

    Bands are one standard error; the grey bar is the interval of the transition, or of the crossings.

    Parameters
    ----------
    scans : dict of size to PhaseScan

    Returns
    -------
    Axes
        Those of the first panel; ``ax.figure`` is the figure.

    Examples
    --------
    >>> from cmi import exact_scan
    >>> from cmi.exact import ClosedLoops
    >>> loops = {5 * s: ClosedLoops(L=5 * s + 1, side=s, samples=200) for s in (1, 2)}
    >>> scans = {L: exact_scan(model, [0.2, 0.22, 0.24], widths=[model.side]) for L, model in loops.items()}
    >>> plot_sizes(scans).get_xlabel()
    'noise level t'
    """
    from matplotlib import colormaps

    levels, curves, quantity = scale_free(scans)
    found = locate_transition(scans)
    over, onto = _figure(2, (7.2, 3.3), columns=True)
    colours = colormaps["viridis"](np.linspace(0.0, 0.85, len(curves)))
    largest = max(curves)
    for (size, curve), colour, marker in zip(curves.items(), colours, "osD^vP*Xph" * 10, strict=False):
        mean, error = curve[0], curve[1:].std(axis=0, ddof=1)
        places = [(over, levels)]
        if found.verdict == "transition":
            places.append((onto, (levels - found.level) * size ** (1.0 / found.nu)))
        for ax, x in places:
            ax.fill_between(x, mean - error, mean + error, color=colour, alpha=0.25, linewidth=0.0)
            ax.plot(x, mean, marker=marker, color=colour, markersize=3.5, linewidth=1.0, label=f"L = {size:g}")
    if np.isfinite(found.interval).all():
        over.axvspan(*found.interval, color="#999999", alpha=0.25, linewidth=0.0)
    what = "I(A:C|B), regions scaled with L  [nats]" if quantity == "cmi" else "-L / \u03be"
    over.set_ylabel(what, fontsize=9)
    over.set_xlabel("noise level t", fontsize=9)
    over.legend(fontsize=7, framealpha=0.9)
    if found.verdict == "transition":
        onto.set_xlabel(f"(t - {found.level:.4g}) L$^{{1/{found.nu:.2f}}}$", fontsize=9)
        over.set_title(
            f"transition at t = {found.level:.4g} ({found.interval[0]:.4g} to {found.interval[1]:.4g})",
            fontsize=9,
            loc="left",
        )
        onto.set_title(
            f"\u03bd = {found.nu:.2f} ({found.nu_interval[0]:.2f} to {found.nu_interval[1]:.2f})",
            fontsize=9,
            loc="left",
        )
    else:
        onto.set_axis_off()
        onto.annotate(
            "\n".join(textwrap.wrap(f"{found.verdict}: {found.message}", 46)),
            (0.0, 0.95),
            xycoords="axes fraction",
            fontsize=8,
            va="top",
        )
        over.set_title(f"sizes up to {largest:g}: {found.verdict}", fontsize=9, loc="left")
    for ax in (over, onto):
        ax.tick_params(labelsize=8)
    return over


def _figure(panels: int, size: tuple[float, float], *, columns: bool = False) -> list[Axes]:
    """Axes of a figure of its own, not pyplot's: the library opens no windows and leaves no global state behind."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1 if columns else panels, panels if columns else 1, squeeze=False)
    return list(axes.reshape(-1))


def save_sizes(scans: Mapping[float, PhaseScan], path: str | PathLike[str], *, overwrite: bool = False) -> None:
    """Draw several sizes into a file, as `save_plot` does with one."""
    _save(plot_sizes(scans), path, overwrite=overwrite)


def save_plot(
    scan: PhaseScan, path: str | PathLike[str], *, kind: Literal["map", "decay"] = "map", overwrite: bool = False
) -> None:
    """Draw the scan into a file whose suffix tells the format (.png, .pdf, .svg): `plot_scan` or `plot_decay`.

    Raises
    ------
    FileExistsError, OSError, ValueError
        If the file exists, cannot be written, or has no suffix that matplotlib knows.
    """
    check_picture(check_output(path, overwrite=overwrite))
    _save(plot_decay(scan) if kind == "decay" else plot_scan(scan), path, overwrite=overwrite)


def _save(ax: Axes, path: str | PathLike[str], *, overwrite: bool) -> None:
    target = check_output(path, overwrite=overwrite)
    check_picture(target)
    figure = ax.figure
    with replacing(target, overwrite=overwrite) as temporary:
        figure.savefig(temporary, dpi=200)  # type: ignore[union-attr]


def check_picture(path: str | PathLike[str]) -> None:
    """Raise a ValueError if the suffix is none of a picture that is drawn here."""
    if Path(path).suffix.lower() not in (".png", ".pdf", ".svg"):
        raise ValueError(f"{str(path)!r} has no suffix of a picture: use .png, .pdf or .svg")


def _edges(centers: NDArray[np.float64], half: float) -> NDArray[np.float64]:
    """Cell edges half-way between centres; the outer cells are as wide as their inner half, a single one 2 half."""
    if len(centers) == 1:
        return np.array([centers[0] - half, centers[0] + half])
    middle = (centers[1:] + centers[:-1]) / 2.0
    return np.concatenate([[2 * centers[0] - middle[0]], middle, [2 * centers[-1] - middle[-1]]])

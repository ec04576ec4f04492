"""Pictures of scans: axes in, axes out."""

from __future__ import annotations

from os import PathLike
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cmi.figures import BLUE, INK, cell_edges, check_picture, hatched, new_figure, save_figure
from cmi.methods import named
from cmi.output import check_output
from cmi.transition import locate_transition

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from cmi.result import PhaseScan

__all__ = ["plot_bias", "plot_decay", "plot_map", "plot_markov_length", "plot_scan", "save_plot"]

_SIGNIFICANT = 2.0  # standard errors; cells below are drawn as noise
_DECADES = 4.0  # of the colour scale
_LEVELS_SHOWN = 5  # of curves over r: more cannot be told apart


def plot_scan(scan: PhaseScan, ax: Axes | None = None) -> Axes:
    """Draw the CMI map; without axes, a figure with xi(t) above it and the bias on surrogates, if known, below.

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
    heights = [1.0, 1.25] + [1.25] * ("surrogate_bias" in scan.dataset)
    panels = new_figure(5.2, 0.5 + 2.0 * sum(heights)).subplots(len(heights), 1, sharex=True, height_ratios=heights)
    plot_markov_length(scan, panels[0])
    found = plot_map(scan, panels[1])
    if len(panels) > 2:
        plot_bias(scan, panels[2])
    for above in panels[:-1]:
        above.set_xlabel("")
    panels[0].set_title(_title(scan), fontsize=9, loc="left", color=INK)
    return found


def _title(scan: PhaseScan) -> str:
    """What was scanned and how, on two lines where 75 letters, which fill the picture, are not enough."""
    about = scan.config
    title = f"{about['data']['name']}: {about['data']['n_samples']:,} samples, "
    how = f"{named(about['method'], about.get('options', {}))} estimate"
    return f"{title}{how}" if len(title + how) < 75 else f"{title}\n{how}"


def plot_map(scan: PhaseScan, ax: Axes) -> Axes:
    """Draw I(A:C|B_r) over t and r on a logarithmic colour scale; cells not two errors above 0 are hatched."""
    from matplotlib.colors import LogNorm

    data = scan.dataset
    cmi = data.cmi.values
    clear = np.isfinite(cmi) & scan.stands_out(_SIGNIFICANT)
    top = float(cmi[clear].max()) if clear.any() else 1.0
    bottom = max(float(cmi[clear].min()) if clear.any() else 0.1, top * 10.0**-_DECADES)
    if bottom >= top:
        bottom = top / 10.0
    x, y = _cells(scan)
    mesh = ax.pcolormesh(
        x, y, np.where(clear, cmi, np.nan).T, norm=LogNorm(bottom, top), cmap="viridis", rasterized=True
    )
    known = data.finished.values.astype(bool)
    hatched(ax, x, y, (known[:, None] & ~clear).T)
    extend = "min" if clear.any() and cmi[clear].min() < bottom else "neither"
    bar = ax.figure.colorbar(mesh, ax=ax, extend=extend, pad=0.02)
    bar.set_label("I(A:C|B$_r$)  [nats]", fontsize=9)
    bar.ax.tick_params(labelsize=8, which="both")
    _map_axes(scan, ax)
    if (known[:, None] & ~clear).any():
        what = "0 and the floor" if scan.floor[0].any() else "0"
        ax.set_title(f"hatched: not two errors above {what}", fontsize=7, loc="right", pad=3, color=INK)
    return ax


def plot_bias(scan: PhaseScan, ax: Axes | None = None) -> Axes:
    """Draw what the method reads too much on Gaussian data of the same covariance, over t and r, in nats.

    The colour scale is linear and the same on both sides of 0; cells that are not two errors from 0 are hatched.

    Parameters
    ----------
    scan : PhaseScan
        With surrogates.
    ax : matplotlib Axes, optional

    Raises
    ------
    ValueError
        If the scan has none.

    Examples
    --------
    >>> from cmi import open_dataset, phase_scan
    >>> scan = phase_scan(open_dataset("digits", limit=300), levels=[0.5], widths=[1, 2], method="ksg")
    >>> plot_bias(scan).get_title(loc="left")
    'bias on Gaussian data of the same covariance'
    """
    if "surrogate_bias" not in scan.dataset:
        raise ValueError("the scan has no surrogates, whose bias could be drawn: scan with surrogates=1")
    if ax is None:
        ax = new_figure(5.2, 3.0).subplots()
    data = scan.dataset
    bias, error = data.surrogate_bias.values, data.surrogate_stderr.values
    known = np.isfinite(bias)
    clear = known & (np.abs(bias) > _SIGNIFICANT * error)
    top = float(np.abs(bias[known]).max(initial=0.0)) or 1.0
    x, y = _cells(scan)
    shown = np.where(clear, bias, np.nan).T
    mesh = ax.pcolormesh(x, y, shown, vmin=-top, vmax=top, cmap="RdBu_r", rasterized=True)
    hatched(ax, x, y, (known & ~clear).T)
    bar = ax.figure.colorbar(mesh, ax=ax, pad=0.02)
    bar.set_label("bias  [nats]", fontsize=9)
    bar.ax.tick_params(labelsize=8)
    _map_axes(scan, ax)
    done = ", subtracted" if scan.config["options"].get("calibrate") else ""
    ax.set_title(f"bias on Gaussian data of the same covariance{done}", fontsize=7, loc="left", pad=3, color=INK)
    if (known & ~clear).any():
        ax.set_title("hatched: within two errors", fontsize=7, loc="right", pad=3, color=INK)
    return ax


def _cells(scan: PhaseScan) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Edges of the cells along t and r."""
    t, r = scan.dataset.t.values, scan.dataset.r.values
    return np.clip(cell_edges(t, 0.05), -0.05, 1.05), cell_edges(r.astype(np.float64), 0.5)


def _map_axes(scan: PhaseScan, ax: Axes) -> None:
    """Axes t and r, with their units, as far as there are cells."""
    r, (x, y) = scan.dataset.r.values, _cells(scan)
    ax.set_xlabel("noise level t", fontsize=9)
    ax.set_ylabel(f"buffer width r  [{scan.unit}]", fontsize=9)
    ax.set_yticks(r if len(r) <= 14 else r[:: -(-len(r) // 14)])
    ax.set_xlim(x[0], x[-1])
    ax.set_ylim(y[0], y[-1])
    ax.tick_params(labelsize=8)


def plot_markov_length(scan: PhaseScan, ax: Axes) -> Axes:
    """Draw xi(t) with an error band; a cross at the bottom marks levels where it is not resolved."""
    t = scan.dataset.t.values
    lengths = scan.markov_length
    xi = np.array([m.value for m in lengths])
    known = np.isfinite(xi)
    low, high = np.array([m.interval for m in lengths]).T
    high = np.where(known & ~np.isfinite(high), 10.0 * scan.reach, high)  # out of the picture
    ax.fill_between(t, low, high, where=known, color=BLUE, alpha=0.2, linewidth=0.0)
    ax.errorbar(
        t[known],
        xi[known],
        [xi[known] - low[known], high[known] - xi[known]],
        color=BLUE,
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
        ax.axhline(reach, color=INK, linewidth=0.8, linestyle=":")
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
            color=INK,
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
        color=INK,
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
        ax = new_figure(5.2, 3.6).subplots()
        ax.set_title(_title(scan), fontsize=9, loc="left", color=INK)
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
        ax.plot([], [], ":", color=INK, linewidth=0.9, label="needed to count")
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


_KINDS = {"map": plot_scan, "decay": plot_decay, "bias": plot_bias}


def save_plot(
    scan: PhaseScan,
    path: str | PathLike[str],
    *,
    kind: str = "map",
    overwrite: bool = False,
) -> None:
    """Draw the scan into a file whose suffix tells the format.

    Parameters
    ----------
    scan : PhaseScan
    path : path
    kind : str
        map (`plot_scan`), decay (`plot_decay`) or bias (`plot_bias`).
    overwrite : bool

    Raises
    ------
    FileExistsError, OSError, ValueError
        If kind is none of these; if the file exists, cannot be written, or ends in none of .png, .pdf and .svg.
    """
    check_picture(check_output(path, overwrite=overwrite))
    if kind not in _KINDS:
        raise ValueError(f"kind is one of {', '.join(_KINDS)}, got {kind!r}")
    save_figure(_KINDS[kind](scan), path, overwrite=overwrite)

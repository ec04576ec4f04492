"""Pictures of scans: axes in, axes out."""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cmi.methods import named
from cmi.output import check_output, replacing
from cmi.transition import locate_transition

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from cmi.result import PhaseScan

__all__ = ["plot_map", "plot_markov_length", "plot_scan", "save_plot"]

_INK = "#222222"
_BLUE = "#0072B2"  # Okabe and Ito's palette
_SIGNIFICANT = 2.0  # standard errors; cells below are drawn as noise
_DECADES = 4.0  # of the colour scale


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
    about = scan.config
    title = f"{about['data']['name']}: {about['data']['n_samples']:,} samples, "
    how = f"{named(about['method'], about.get('options', {}))} estimate"
    # 75 letters of that size fill the picture
    upper.set_title(
        f"{title}{how}" if len(title + how) < 75 else f"{title}\n{how}", fontsize=9, loc="left", color=_INK
    )
    return lower


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
    ax.set_ylabel("buffer width r  [pixels]", fontsize=9)
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
    error = np.array([m.stderr for m in lengths])
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
    top = float(np.nanmax(np.where(known, xi + 2 * error, np.nan))) if known.any() else 1.0
    if top > 0.4 * reach:
        ax.axhline(reach, color=_INK, linewidth=0.8, linestyle=":")
        ax.annotate(
            "reach of the sample",
            (t[-1], reach),
            xytext=(2, -9),
            textcoords="offset points",
            fontsize=7,
            ha="right",
        )
    ax.set_ylim(0.0, 1.15 * max(top, reach if top > 0.4 * reach else 0.0))
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
    ax.set_ylabel("Markov length \u03be  [pixels]", fontsize=9)
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
    )
    return ax


def save_plot(scan: PhaseScan, path: str | PathLike[str], *, overwrite: bool = False) -> None:
    """Draw the scan into a file whose suffix tells the format (.png, .pdf, .svg).

    Raises
    ------
    FileExistsError, OSError, ValueError
        If the file exists, cannot be written, or has no suffix that matplotlib knows.
    """
    target = check_output(path, overwrite=overwrite)
    check_picture(target)
    figure = plot_scan(scan).figure
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

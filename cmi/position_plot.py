"""Pictures of maps of positions: an image of the CMI for every noise level and width."""

from __future__ import annotations

import textwrap
from os import PathLike
from typing import TYPE_CHECKING

import numpy as np

from cmi.figures import BLUE, INK, check_picture, hatched, new_figure, save_figure
from cmi.methods import named
from cmi.output import check_output

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from cmi.position_map import PositionMap

__all__ = ["plot_positions", "save_positions"]

_SHOWN = 4  # levels and widths, at most: more cannot be read at column width
_SIGNIFICANT = 2.0  # standard errors; places below are drawn as noise


def plot_positions(found: PositionMap) -> Figure:
    """Draw the CMI over the image, a row per width and a column per noise level (up to four of each).

    All panels of a level share one linear colour scale from 0; places that are not two errors above 0 are hatched.
    Samples on a line are drawn as curves with bands of two errors.

    Raises
    ------
    ValueError
        For samples of three dimensions, and where nothing is finished.

    Examples
    --------
    >>> from cmi import map_positions, open_dataset
    >>> found = map_positions(open_dataset("digits"), levels=[0.3], widths=[1], stride=2)
    >>> len(plot_positions(found).axes)
    2
    """
    if len(found.space) == 3:
        raise ValueError("maps of three dimensions cannot be drawn: take slices of found.dataset.cmi")
    if not found.dataset.finished.any():
        raise ValueError("no place is finished: there is nothing to draw")
    levels, widths = (_some(found.dataset[name].values) for name in ("t", "r"))
    size = (1.0 + 1.9 * len(levels), 0.8 + 1.7 * len(widths))
    figure = new_figure(*size)
    axes = figure.subplots(len(widths), len(levels), sharex=True, sharey="row", squeeze=False)
    for column, t in enumerate(levels):
        draw = _images if len(found.space) == 2 else _curves
        draw(found, t, widths, axes[:, column])
        axes[0, column].set_title(f"t = {found.dataset.t.values[t]:g}", fontsize=9, color=INK)
    for row, r in enumerate(widths):
        width = f"r = {found.dataset.r.values[r]}"
        what = "row y  [pixels]" if len(found.space) == 2 else "I(A:C|B$_r$)  [nats]"
        axes[row, 0].set_ylabel(f"{width}\n{what}", fontsize=8)
    for ax in axes[-1]:
        ax.set_xlabel("column x  [pixels]" if len(found.space) == 2 else "x  [pixels]", fontsize=8)
    for ax in axes.flat:
        ax.tick_params(labelsize=7)
    config = found.config
    hatched = "hatched: not two errors above 0" if len(found.space) == 2 else ""
    title = f"{config['data']['name']}, {named(config['method'], config['options'])}, reach {config['reach']}"
    lines = [line for part in (title, hatched) for line in textwrap.wrap(part, round(17.0 * size[0]))]
    figure.suptitle("\n".join(lines), fontsize=7, x=0.01, ha="left", color=INK)
    return figure


def save_positions(found: PositionMap, path: str | PathLike[str], *, overwrite: bool = False) -> None:
    """Draw into a file; the suffix says the format.

    Raises
    ------
    FileExistsError
        If the file exists and `overwrite` is False.
    ValueError
        As `plot_positions`.
    """
    check_picture(check_output(path, overwrite=overwrite))
    save_figure(plot_positions(found), path, overwrite=overwrite)


def _images(found: PositionMap, t: int, widths: list[int], axes: NDArray[np.object_]) -> None:
    data = found.dataset
    y, x = (_edges(data[name].values.astype(np.float64), found.config["stride"]) for name in ("y", "x"))
    cmi, stderr = data.cmi.values[t], data.stderr.values[t]
    top = float(np.nanmax(cmi[widths], initial=1e-12))
    for row, r in enumerate(widths):
        ax: Axes = axes[row]
        clear = cmi[r] > _SIGNIFICANT * stderr[r]
        mesh = ax.pcolormesh(
            x, y, np.where(clear, cmi[r], np.nan), vmin=0.0, vmax=top, cmap="viridis", rasterized=True
        )
        hatched(ax, x, y, np.isfinite(cmi[r]) & ~clear)
        ax.set_xlim(x[0], x[-1])
        ax.set_ylim(y[-1], y[0])
        ax.set_aspect("equal")
    bar = axes[0].figure.colorbar(mesh, ax=list(axes), location="bottom", pad=0.02, aspect=15)
    bar.set_label("I(A:C|B$_r$)  [nats]", fontsize=8)
    bar.ax.tick_params(labelsize=7)


def _curves(found: PositionMap, t: int, widths: list[int], axes: NDArray[np.object_]) -> None:
    data = found.dataset
    x = data.x.values
    for row, r in enumerate(widths):
        value, error = data.cmi.values[t, r], 2.0 * data.stderr.values[t, r]
        axes[row].fill_between(x, value - error, value + error, color=BLUE, alpha=0.25, linewidth=0.0)
        axes[row].plot(x, value, color=BLUE, marker="o", markersize=2.5, linewidth=1.0)
        axes[row].axhline(0.0, color=INK, linewidth=0.6)


def _some(values: NDArray[np.generic]) -> list[int]:
    """Which of many are shown, evenly."""
    return sorted({round(i) for i in np.linspace(0, len(values) - 1, min(_SHOWN, len(values)))})


def _edges(centres: NDArray[np.float64], stride: int) -> NDArray[np.float64]:
    return np.append(centres - 0.5 * stride, centres[-1] + 0.5 * stride)

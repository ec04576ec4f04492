"""Figures that open no window, cells of maps, and how a figure becomes a file."""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cmi.output import check_output, replacing

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["BLUE", "INK", "ORANGE", "cell_edges", "check_picture", "hatched", "new_figure", "save_figure"]

INK = "#222222"
BLUE, ORANGE = "#0072B2", "#D55E00"  # Okabe and Ito's palette
_DPI = 200


def new_figure(width: float, height: float) -> Figure:
    """Return a figure of its own, in inches: not pyplot's, so that no window is opened and no state left behind."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def cell_edges(centres: NDArray[np.float64], half: float) -> NDArray[np.float64]:
    """Cell edges half-way between centres; the outer cells are as wide as their inner half, a single one 2 half.

    Examples
    --------
    >>> import numpy as np
    >>> cell_edges(np.array([1.0, 2.0]), 0.5).tolist(), cell_edges(np.array([1.0]), 0.5).tolist()
    ([0.5, 1.5, 2.5], [0.5, 1.5])
    """
    if len(centres) == 1:
        return np.array([centres[0] - half, centres[0] + half])
    middle = (centres[1:] + centres[:-1]) / 2.0
    return np.concatenate([[2 * centres[0] - middle[0]], middle, [2 * centres[-1] - middle[-1]]])


def hatched(ax: Axes, x: NDArray[np.float64], y: NDArray[np.float64], which: NDArray[np.bool_]) -> None:
    """Hatch cells: `which` has a row per interval of the edges y and a column per interval of the edges x."""
    from matplotlib.patches import Rectangle

    for i, j in zip(*np.nonzero(which), strict=True):
        corner, sides = (x[j], y[i]), (x[j + 1] - x[j], y[i + 1] - y[i])
        ax.add_patch(
            Rectangle(corner, *sides, facecolor="#e8e8e8", edgecolor="#b0b0b0", hatch="////", linewidth=0.0)
        )


def check_picture(path: str | PathLike[str]) -> None:
    """Raise a ValueError if the suffix is none of a picture that is drawn here."""
    if Path(path).suffix.lower() not in (".png", ".pdf", ".svg"):
        raise ValueError(f"{str(path)!r} has no suffix of a picture: use .png, .pdf or .svg")


def save_figure(what: Axes | Figure, path: str | PathLike[str], *, overwrite: bool) -> None:
    """Write a figure, or the one of some axes, to a file, whole or not at all; the suffix tells the format.

    Raises
    ------
    FileExistsError, OSError, ValueError
        If the file exists, cannot be written, or has no suffix of a picture.
    """
    from matplotlib.figure import Figure

    figure = what if isinstance(what, Figure) else what.figure
    target = check_output(path, overwrite=overwrite)
    check_picture(target)
    with replacing(target, overwrite=overwrite) as temporary:
        figure.savefig(temporary, dpi=_DPI)  # type: ignore[union-attr]

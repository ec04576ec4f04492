"""Pictures of several sizes: their curves over the noise level, and collapsed where there is a transition."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from os import PathLike
from typing import TYPE_CHECKING

import numpy as np

from cmi.figures import new_figure, save_figure
from cmi.transition import locate_transition, scale_free

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from cmi.result import PhaseScan

__all__ = ["plot_sizes", "save_sizes"]


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
    over: Axes
    onto: Axes
    over, onto = new_figure(7.2, 3.3).subplots(1, 2)
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


def save_sizes(scans: Mapping[float, PhaseScan], path: str | PathLike[str], *, overwrite: bool = False) -> None:
    """Draw several sizes into a file, as `save_plot` does with one."""
    save_figure(plot_sizes(scans), path, overwrite=overwrite)

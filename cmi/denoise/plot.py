"""Pictures of denoisers: drawn images, what locality costs at every noise level and pixel, and plans."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from cmi.checks import whole_number
from cmi.denoise.images import images_of
from cmi.denoise.scores import noise_of
from cmi.figures import BLUE, INK, ORANGE, new_figure
from cmi.noise import Noise, noise_schedule

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from cmi.denoise.plan import Plan
    from cmi.result import PhaseScan

__all__ = ["levels_on", "plot_gap_maps", "plot_gaps", "plot_images", "plot_plan"]

_LEVELS = 5  # of gap maps


def plot_images(images: Any, ax: Axes | None = None, *, columns: int = 10) -> Axes:
    """Draw a grid of images, grey from black at 0 to white at 1, or in three colours; values beyond are cut off.

    Examples
    --------
    >>> import numpy as np
    >>> plot_images(np.zeros((12, 4, 4)), columns=6).images[0].get_array().shape
    (9, 29)
    """
    x = images_of(images).numpy()
    columns = min(whole_number(columns, "columns", least=1), len(x))
    n, channels, height, width = x.shape
    if channels not in (1, 3):
        raise ValueError(f"images of one or three channels can be drawn, not of {channels}")
    rows = -(-n // columns)
    if ax is None:
        ax = new_figure(0.6 * columns, 0.6 * rows * height / width).subplots()
    grid = np.ones((rows * (height + 1) - 1, columns * (width + 1) - 1, channels))
    for number, each in enumerate(x):
        top, left = (number // columns) * (height + 1), (number % columns) * (width + 1)
        grid[top : top + height, left : left + width] = np.clip(each.transpose(1, 2, 0), 0.0, 1.0)
    shown = grid[..., 0] if channels == 1 else grid
    ax.imshow(shown, cmap="gray", vmin=0.0, vmax=1.0, interpolation="nearest")
    ax.set_axis_off()
    return ax


def plot_gaps(scores: xr.Dataset, ax: Axes | None = None) -> Axes:
    """Draw 1/2 SNR gap over t for every denoiser, with bands of two errors: nats per factor e of the SNR.

    Examples
    --------
    >>> from cmi.denoise import GaussianDenoiser, score_denoisers
    >>> from cmi.exact import GaussianField
    >>> field = GaussianField(L=5)
    >>> whole, local = (GaussianDenoiser(field.covariance, shape=(1, 5, 5), radius=r) for r in (None, 1))
    >>> scores = score_denoisers({"global": whole, "r = 1": local}, field.sample(200, 0), [0.3, 0.5, 0.7])
    >>> plot_gaps(scores).get_xlabel()
    'noise level t'
    """
    from matplotlib import colormaps

    if ax is None:
        ax = new_figure(5.2, 3.4).subplots()
    reference = str(scores.attrs["reference"])
    gap = scores.loss - scores.loss.sel(denoiser=reference)
    names = [name for name in scores.denoiser.values.tolist() if name != reference]
    colours = colormaps["viridis"](np.linspace(0.0, 0.85, max(len(names), 1)))
    t, half = scores.t.values, 0.5 * scores.snr.values
    for name, colour in zip(names, colours, strict=True):
        own = gap.sel(denoiser=name)
        mean = half * own.mean("sample").values
        error = half * own.std("sample", ddof=1).values / np.sqrt(own.sizes["sample"])
        ax.fill_between(t, mean - 2.0 * error, mean + 2.0 * error, color=colour, alpha=0.25, linewidth=0.0)
        ax.plot(t, mean, color=colour, marker="o", markersize=2.5, linewidth=1.0, label=name)
    ax.axhline(0.0, color=INK, linewidth=0.6)
    ax.set_xlabel("noise level t", fontsize=9)
    ax.set_ylabel(f"SNR (loss - loss of {reference}) / 2\n[nats per factor e of the SNR]", fontsize=9)
    ax.tick_params(labelsize=8)
    if names:
        ax.legend(fontsize=7, framealpha=0.9, title="bands: two standard errors", title_fontsize=7)
    return ax


def plot_gap_maps(scores: xr.Dataset, name: str) -> Figure:
    """Draw where in the image a denoiser loses more than the reference, at up to five noise levels.

    Blue is a loss, red a gain; one scale for each level, in units of the squared pixel.

    Raises
    ------
    ValueError
        For a denoiser that was not scored.

    Examples
    --------
    >>> from cmi.denoise import GaussianDenoiser, score_denoisers
    >>> from cmi.exact import GaussianField
    >>> field = GaussianField(L=5)
    >>> whole, local = (GaussianDenoiser(field.covariance, shape=(1, 5, 5), radius=r) for r in (None, 1))
    >>> scores = score_denoisers({"global": whole, "local": local}, field.sample(200, 0), [0.3, 0.5, 0.7])
    >>> len(plot_gap_maps(scores, "local").axes)  # three maps and their scales
    6
    """
    if name not in scores.denoiser.values:
        raise ValueError(f"the denoiser {name!r} was not scored: scores are of {', '.join(scores.denoiser.values)}")
    shown = np.unique(np.linspace(0, scores.sizes["t"] - 1, min(_LEVELS, scores.sizes["t"])).round().astype(int))
    figure = new_figure(0.4 + 1.7 * len(shown), 2.3)
    row = figure.subplots(1, len(shown), squeeze=False, sharey=True)[0]
    for ax, level in zip(row, shown, strict=True):
        gap = scores.gap.sel(denoiser=name).values[level]
        top = float(np.abs(gap).max()) or 1.0
        picture = ax.imshow(gap, cmap="RdBu", vmin=-top, vmax=top, interpolation="nearest")
        ax.set_title(f"t = {scores.t.values[level]:.3g}", fontsize=9, color=INK)
        ax.set_xlabel("column  [pixels]", fontsize=8)
        ax.tick_params(labelsize=7)
        bar = figure.colorbar(picture, ax=ax, location="bottom", pad=0.02)
        bar.ax.tick_params(labelsize=6)
        bar.ax.locator_params(nbins=3)
        bar.ax.xaxis.get_offset_text().set_fontsize(6)
    row[0].set_ylabel("row  [pixels]", fontsize=8)
    title = f"loss of {name} less that of {scores.attrs['reference']}, squared pixel values"
    figure.suptitle(title, fontsize=8, x=0.01, ha="left")
    return figure


def levels_on(noise: Noise, scan: PhaseScan) -> NDArray[np.float64]:
    """Where the levels of a scan lie on another schedule, by their SNR; NaN where it does not reach that."""
    about = dict(scan.config["noise"])
    own = noise_schedule(about.pop("name"), **about)
    if not own.gaussian:
        raise ValueError(f"the scan is of noise that is not Gaussian, {own.name}: it has no place on this axis")
    t = np.asarray(scan.dataset.t.values, dtype=np.float64)
    if own == noise:
        return t
    snr = np.asarray(own.snr(t))
    reached = (snr >= noise.snr(1.0)) & (snr <= noise.snr(0.0))
    return np.where(reached, noise.time(np.where(reached, snr, noise.snr(0.5))), np.nan)


def plot_plan(plan: Plan, scores: xr.Dataset, scan: PhaseScan | None = None, ax: Axes | None = None) -> Axes:
    """Draw which radius a plan uses at every noise level, the levels of the global one shaded, and xi(t) of a scan.

    Parameters
    ----------
    plan : Plan
    scores : xarray.Dataset
        By which it was made.
    scan : PhaseScan, optional
        Of the same data: its Markov length is drawn on the same axis, in pixels, of another schedule where the SNR
        is the same.
    ax : matplotlib Axes, optional

    Raises
    ------
    ValueError
        For a scan of noise that is not Gaussian.

    Examples
    --------
    >>> from cmi.denoise import GaussianDenoiser, plan_schedule, score_denoisers, time_grid
    >>> from cmi.exact import GaussianField
    >>> field, times = GaussianField(L=5), time_grid(10)
    >>> whole, local = (GaussianDenoiser(field.covariance, shape=(1, 5, 5), radius=r) for r in (None, 1))
    >>> scores = score_denoisers({"global": whole, "local": local}, field.sample(200, 0), times[:-1])
    >>> plot_plan(plan_schedule(scores, times, budget_nats=1.0), scores).get_ylabel()
    'radius of the denoiser  [pixels]'
    """
    from matplotlib.ticker import MaxNLocator

    if ax is None:
        ax = new_figure(5.2, 3.2).subplots()
    radius = dict(zip(scores.denoiser.values.tolist(), scores.radius.values.tolist(), strict=True))
    times, names = plan.schedule.times, plan.schedule.denoisers
    if plan.certificate.until > plan.whole.until:
        ax.axvspan(
            0.0,
            plan.certificate.until,
            facecolor="#eeeeee",
            edgecolor="#bbbbbb",
            hatch="////",
            linewidth=0.0,
            label="not in the budget",
            zorder=0.0,
        )
    for k, name in enumerate(names):
        if radius[name] < 0:
            ax.axvspan(times[k + 1], times[k], color=ORANGE, alpha=0.25, linewidth=0.0)
        else:
            ends = [times[k + 1], times[k]]
            ax.plot(ends, [radius[name]] * 2, color=BLUE, linewidth=3.0, solid_capstyle="butt")
    if any(radius[name] < 0 for name in names):
        ax.fill_between([], [], color=ORANGE, alpha=0.25, linewidth=0.0, label="global")
    ax.plot([], [], color=BLUE, linewidth=3.0, label="local")
    if scan is not None:
        t = levels_on(noise_of(scores), scan)
        lengths = scan.markov_length
        xi = np.array([length.value for length in lengths])
        low, high = np.array([length.interval for length in lengths]).T
        known = np.isfinite(xi) & np.isfinite(high) & np.isfinite(t)
        ax.errorbar(
            t[known],
            xi[known],
            [xi[known] - low[known], high[known] - xi[known]],
            fmt="o",
            color=INK,
            markersize=3.5,
            elinewidth=0.8,
            label="Markov length \u03be of the scan, 95 %" if known.any() else "\u03be of the scan: not resolved",
        )
    ax.set_xlim(0.0, 1.0)
    ax.set_ylim(bottom=0.0 if all(r != 0 for r in radius.values()) else -0.3)
    ax.set_xlabel("noise level t", fontsize=9)
    ax.yaxis.set_major_locator(MaxNLocator(integer=True))
    unit = "radius of the denoiser  [pixels]"
    ax.set_ylabel(unit if scan is None else "radius, \u03be  [pixels]", fontsize=9)
    certificate = plan.certificate
    ax.set_title(
        f"{plan.share:.0%} of the operations of {certificate.reference}, at most {certificate.kl:.3g} \u00b1 "
        f"{certificate.stderr:.2g} nats down to t = {certificate.until:.2g}",
        fontsize=8,
        loc="left",
        color=INK,
        pad=20.0,
    )
    ax.tick_params(labelsize=8)
    ax.legend(
        fontsize=7,
        frameon=False,
        loc="lower left",
        bbox_to_anchor=(0.0, 1.0),
        ncols=4,
        borderaxespad=0.2,
        columnspacing=1.2,
    )
    return ax

"""Pictures of denoisers hold the numbers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from cmi import phase_scan
from cmi.denoise import (
    GaussianDenoiser,
    plan_schedule,
    plot_gap_maps,
    plot_gaps,
    plot_images,
    plot_plan,
    score_denoisers,
    time_grid,
)
from cmi.denoise.plot import levels_on
from cmi.exact import GaussianField
from cmi.noise import VarianceExploding, noise_schedule

FIELD = GaussianField(L=6, kappa=0.15)
TIMES = time_grid(10)


@pytest.fixture(scope="module")
def scores() -> xr.Dataset:
    nets = {
        name: GaussianDenoiser(FIELD.covariance, shape=(1, 6, 6), radius=r)
        for name, r in (("global", None), ("r = 0", 0), ("r = 1", 1))
    }
    found = score_denoisers(nets, FIELD.sample(400, 0), TIMES[:-1])
    return found.assign_coords(flops=("denoiser", [100, 10, 20]))


def test_gaps_are_drawn(scores: xr.Dataset) -> None:
    ax = plot_gaps(scores)
    gap = (scores.loss - scores.loss.sel(denoiser="global")).mean("sample")
    drawn = {line.get_label(): np.asarray(line.get_ydata()) for line in ax.lines}
    for name in ("r = 0", "r = 1"):
        np.testing.assert_allclose(drawn[name], 0.5 * scores.snr * gap.sel(denoiser=name))
    assert len(ax.collections) == 2  # bands
    figure = plot_gap_maps(scores, "r = 0")
    assert [ax.get_title() for ax in figure.axes[:5]] == ["t = 0.1", "t = 0.3", "t = 0.5", "t = 0.8", "t = 1"]
    shown = figure.axes[1].images[0].get_array()
    assert shown is not None
    np.testing.assert_allclose(np.asarray(shown), scores.gap.sel(denoiser="r = 0", t=0.3))
    with pytest.raises(ValueError, match="'r = 9' was not scored: scores are of global, r = 0, r = 1"):
        plot_gap_maps(scores, "r = 9")


def test_the_plan_is_drawn_with_the_length_of_a_scan(scores: xr.Dataset) -> None:
    plan = plan_schedule(scores, TIMES, budget_nats=0.3)
    scan = phase_scan(FIELD.sample(2000, 1), levels=[0.4, 0.6, 0.8], widths=[0, 1, 2])
    ax = plot_plan(plan, scores, scan)
    shaded = spans(ax)
    steps = sorted(
        (plan.schedule.times[k + 1], plan.schedule.times[k])
        for k, name in enumerate(plan.schedule.denoisers)
        if name == "global"
    )
    np.testing.assert_allclose(shaded, steps, atol=1e-12)
    assert ax.get_ylabel() == "radius, \u03be  [pixels]"
    title = ax.get_title(loc="left")
    assert title == (
        f"{plan.share:.0%} of the operations of global, at most {plan.certificate.kl:.3g} \u00b1 "
        f"{plan.certificate.stderr:.2g} nats down to t = 0.1"
    )
    ax.figure.draw_without_rendering()  # type: ignore[union-attr]


def spans(ax: Axes) -> list[tuple[float, float]]:
    """From where to where the shaded parts reach."""
    boxes = [patch for patch in ax.patches if isinstance(patch, Rectangle)]
    return sorted((box.get_x(), box.get_x() + box.get_width()) for box in boxes)


def test_what_no_budget_is_for_is_marked(scores: xr.Dataset) -> None:
    plan = plan_schedule(scores, TIMES, budget_nats=50.0, until=0.3, below="r = 1")
    assert "global" not in plan.schedule.denoisers
    ax = plot_plan(plan, scores)
    np.testing.assert_allclose(spans(ax), [(0.0, 0.3)])
    legend = ax.get_legend()
    assert legend is not None
    assert [each.get_text() for each in legend.get_texts()] == ["not in the budget", "local"]


def test_levels_of_other_noise_are_drawn_where_their_snr_is() -> None:
    data = FIELD.sample(200, 2)
    scan = phase_scan(data, levels=[0.05, 0.3, 0.6, 1.0], widths=[0, 1], noise="ve")
    own, other = noise_schedule("ve"), noise_schedule("interpolation")
    np.testing.assert_array_equal(levels_on(own, scan), scan.dataset.t.values)
    at = levels_on(other, scan)
    np.testing.assert_allclose(other.snr(at), own.snr(scan.dataset.t.values), rtol=1e-9)
    narrow = VarianceExploding(sigma_min=0.1, sigma_max=2.0)  # reaches neither of the ends
    at = levels_on(narrow, scan)
    assert np.isnan(at).tolist() == [True, False, False, True]
    np.testing.assert_allclose(narrow.snr(at[1:3]), own.snr(scan.dataset.t.values[1:3]), rtol=1e-9)


def test_images_are_drawn() -> None:
    x = np.linspace(-0.5, 1.5, 3 * 4 * 5).reshape(3, 4, 5)
    shown = plot_images(x, columns=2).images[0].get_array()
    assert shown is not None
    assert shown.shape == (9, 11)
    np.testing.assert_allclose(shown[:4, :5], np.clip(x[0], 0.0, 1.0), rtol=1e-6)
    assert (shown[5:, 6:] == 1.0).all()  # no fourth image
    with pytest.raises(ValueError, match="of one or three channels can be drawn, not of 2"):
        plot_images(torch.zeros(3, 2, 4, 5))

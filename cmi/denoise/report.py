"""Tables of denoisers for the terminal: scores, certificates, plans and quality."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import xarray as xr
from rich.console import Group
from rich.table import Table
from rich.text import Text

from cmi.denoise.schedule import Schedule

if TYPE_CHECKING:
    from cmi.denoise.certificate import Certificate
    from cmi.denoise.plan import Plan

__all__ = ["certificate_report", "plan_report", "quality_report", "scores_report"]

_LEVELS = 9  # columns
_FAR = 0.1  # of the certificate, by which interpolated levels may move it


def scores_report(scores: xr.Dataset) -> Group:
    """Losses per image by level, gaps to the reference with errors, and what each denoiser sees and costs."""
    shown = np.unique(np.linspace(0, scores.sizes["t"] - 1, min(_LEVELS, scores.sizes["t"])).round().astype(int))
    reference = str(scores.attrs["reference"])
    loss = scores.loss.values[:, shown]
    gap = loss - loss[scores.denoiser.values.tolist().index(reference)]
    error = gap.std(axis=2, ddof=1) / np.sqrt(gap.shape[2])
    table = Table(
        title="Held-out loss |x0 - x0_hat|^2 per image; of the others, how much more than the reference",
        title_justify="left",
    )
    table.add_column("denoiser")
    table.add_column("sees")
    table.add_column("MFLOP", justify="right")
    for t in scores.t.values[shown]:
        table.add_column(f"t = {t:.3g}", justify="right")
    for row, name in enumerate(scores.denoiser.values.tolist()):
        field, radius = int(scores.field.values[row]), int(scores.radius.values[row])
        seen = "everything" if radius < 0 else f"r = {radius}" + (f", in fact {field}" if field > radius else "")
        if name == reference:
            cells = [f"{v:.4g}" for v in loss[row].mean(axis=1)]
        else:
            cells = [f"{v:+.2g}({e:.1g})" for v, e in zip(gap[row].mean(axis=1), error[row], strict=True)]
        table.add_row(name, seen, f"{scores.flops.values[row] / 1e6:.3g}", *cells)
    residual = scores.loss - scores.loss.sel(denoiser=reference) - scores.distance
    off = residual.mean("sample") / (residual.std("sample", ddof=1) / np.sqrt(scores.sizes["sample"]) + 1e-300)
    others = [name for name in scores.denoiser.values if name != reference]
    worst = float(np.abs(off.sel(denoiser=others).values).max(initial=0.0))
    sign = "no sign that the reference is not optimal" if worst < 4.0 else "the reference is not the posterior mean"
    text = (
        f"{scores.sizes['sample']} images; reference {reference}. Gap and distance differ by {worst:.1f} errors at "
        f"most: {sign}."
    )
    known = int(scores.attrs.get("trained_on", 0))
    return Group(table, Text(text), *([Text(_not_held_out(known))] if known else []))


def _not_held_out(known: int) -> str:
    return f"Not held out: a denoiser was trained on {known} of the scored images, whose losses are too low."


def certificate_report(found: Certificate) -> Group:
    """The certificate, and what each window of a schedule adds to it."""
    table = Table(title="Nats above the bound of the reference", title_justify="left")
    for name in ("from t", "to t", "denoiser", "steps", "nats"):
        table.add_column(name, justify="left" if name == "denoiser" else "right")
    for name, first, last in _windows(found.schedule):
        part = found.by_step[first:last]
        nats = "not covered" if np.isnan(part).all() else f"{np.nansum(part):.3g}"
        times = found.schedule.times
        table.add_row(f"{times[first]:.3g}", f"{times[last]:.3g}", name, str(last - first), nats)
    total = (
        f"KL(data || SDE sampler) is at most {found.kl:.4g} +- {found.stderr:.2g} nats above the bound with "
        f"{found.reference} in every step, down to t = {found.until:.3g}."
    )
    other = (
        f"By the distance to {found.reference}, as if that were the posterior mean: {found.distance:.4g} +- "
        f"{found.distance_stderr:.2g}."
    )
    rest = []
    if found.other_half:
        rest.append(Text(f"By the {found.images} images that the plan was not made by."))
    if found.trained_on:
        rest.append(Text(_not_held_out(found.trained_on)))
    if found.interpolation > 0.0:
        advice = " Too far for these steps: score the levels at which they begin." * (
            found.interpolation > max(_FAR * abs(found.kl), 3.0 * found.stderr)
        )
        rest.append(
            Text(
                "Steps begin between the scored levels; by every other level the sum differs by "
                f"{found.interpolation:.2g}.{advice}"
            )
        )
    return Group(table, Text(total), Text(other), *rest)


def plan_report(plan: Plan) -> Group:
    """The schedule, its cost and its certificate."""
    where = ", ".join(f"{low:.3g} to {high:.3g}" for low, high in plan.window) or "nowhere"
    more = plan.whole.kl - plan.certificate.kl
    rest = [Text(f"What is used below adds {more:.3g} nats down to t = {plan.whole.until:.3g}.")] * (
        plan.whole.until < plan.certificate.until
    )
    return Group(
        certificate_report(plan.certificate),
        *rest,
        Text(
            f"{plan.share:.0%} of the operations of {plan.certificate.reference} in every step, which is used at "
            f"t = {where}. Planned by one half of the images ({plan.planned:.3g} nats), certified by the other."
        ),
    )


def quality_report(found: pd.DataFrame) -> Table:
    """How far drawn images are from real ones."""
    table = Table(title="Distance from real images (error), and that of as many real images", title_justify="left")
    for name in ("measure", "drawn", "real"):
        table.add_column(name, justify="left" if name == "measure" else "right")
    for measure, row in found.iterrows():
        table.add_row(
            str(measure),
            f"{row['value']:.4g}({row['stderr']:.1g})",
            f"{row['floor']:.4g}({row['floor_stderr']:.1g})",
        )
    return table


def _windows(schedule: Schedule) -> list[tuple[str, int, int]]:
    """Name, first step and last step + 1 of every run of one denoiser."""
    found: list[tuple[str, int, int]] = []
    for step, name in enumerate(schedule.denoisers):
        if found and found[-1][0] == name:
            found[-1] = (name, found[-1][1], step + 1)
        else:
            found.append((name, step, step + 1))
    return found

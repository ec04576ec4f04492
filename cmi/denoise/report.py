"""Tables of denoisers for the terminal: scores, certificates, plans and quality."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import xarray as xr
from rich.console import Group
from rich.table import Table
from rich.text import Text
from scipy.stats import t as student

from cmi.denoise.certificate import mean_and_error

if TYPE_CHECKING:
    from cmi.denoise.certificate import Certificate
    from cmi.denoise.plan import Plan

__all__ = ["certificate_report", "plan_report", "quality_report", "scores_report"]

_LEVELS = 9  # columns
_FAR = 0.1  # of the certificate, by which interpolated levels may move it
_SURE = 3.0  # errors
_CHANCE = 1e-3


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
    each = np.abs(off.sel(denoiser=others).values)
    worst = float(each.max(initial=0.0))
    # of so many Student's t, by chance in one of a thousand sets of scores
    most = student.isf(_CHANCE / (2.0 * max(each.size, 1)), scores.sizes["sample"] - 1)
    sign = (
        "no sign that the reference is not optimal" if worst < most else "the reference is not the posterior mean"
    )
    text = (
        f"{scores.sizes['sample']} images; reference {reference}. Gap and distance differ by {worst:.1f} errors at "
        f"most: {sign}."
    )
    rest = _not_held_out(int(scores.attrs.get("trained_on", 0)), json.loads(scores.attrs.get("not_known", "[]")))
    return Group(table, Text(text), *(Text(line) for line in rest))


def certificate_report(found: Certificate) -> Group:
    """The certificate, and what each window of a schedule adds to it."""
    table = Table(title="Nats above the bound of the reference (error)", title_justify="left")
    for name in ("from t", "to t", "denoiser", "steps", "nats"):
        table.add_column(name, justify="left" if name == "denoiser" else "right")
    times = found.schedule.times
    for name, first, last in _windows(found):
        covered = not np.isnan(found.nats[first]).any()
        nats = _with_error(*found.of_steps(first, last)) if covered else "not covered"
        table.add_row(f"{times[first]:.3g}", f"{times[last]:.3g}", name, str(last - first), nats)
    between = f", and {found.interpolation:.2g} for steps between levels," * (found.interpolation > 0.0)
    lines = [
        f"KL(data || SDE sampler, order 1) is at most {found.kl:.4g} +- {found.stderr:.2g}{between} nats above the "
        f"bound with {found.reference} in every step, down to t = {found.until:.3g}.",
        f"By the distance to {found.reference}, as if that were the posterior mean: {found.distance:.4g} +- "
        f"{found.distance_stderr:.2g}.",
    ]
    if found.kl < -_SURE * found.stderr:
        lines.append(f"Below 0: in these steps {found.reference} is not the best of the denoisers.")
    if found.left_out:
        lines.append(f"By {found.images} images; the plan was made by {found.left_out} others.")
    lines += _not_held_out(found.trained_on, found.not_known)
    if found.interpolation > 0.0:
        lines.append(
            "Steps begin between the scored levels: so far those steps move with every second level left out."
            + " Too far: score the levels at which they begin."
            * (found.interpolation > max(_FAR * abs(found.kl), _SURE * found.stderr))
        )
    return Group(table, *(Text(line) for line in lines))


def plan_report(plan: Plan) -> Group:
    """The schedule, its cost and its certificate."""
    reference = plan.certificate.reference
    where = ", ".join(f"from t = {high:.3g} to {low:.3g}" for low, high in plan.window) or "nowhere"
    lines = []
    if plan.whole.until < plan.certificate.until:
        below = np.nansum(plan.whole.nats, axis=0) - np.nansum(plan.certificate.nats, axis=0)
        more = _with_error(*mean_and_error(below))
        lines.append(f"What is used below adds {more} nats down to t = {plan.whole.until:.3g}.")
    lines.append(
        f"{plan.share:.0%} of the operations of {reference} in every step, which is used {where}. Planned by one "
        f"half of the images, {_with_error(plan.planned, plan.planned_stderr)} nats, certified by the other."
    )
    return Group(certificate_report(plan.certificate), *(Text(line) for line in lines))


def _not_held_out(known: int, not_known: Sequence[str]) -> list[str]:
    lines = []
    if known:
        lines.append(f"Not held out: a denoiser was trained on {known} of the scored images; losses are too low.")
    if not_known:
        lines.append(f"Which images {', '.join(not_known)} learnt from is not known.")
    return lines


def _with_error(value: float, error: float) -> str:
    """The error, of one digit, in brackets."""
    return f"{value:.3g}({error:.1g})"


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


def _windows(found: Certificate) -> list[tuple[str, int, int]]:
    """Name, first step and last step + 1 of every run of one denoiser, covered or not."""
    runs: list[tuple[str, int, int]] = []
    covered = np.isfinite(found.by_step)
    for step, name in enumerate(found.schedule.denoisers):
        if runs and runs[-1][0] == name and covered[step] == covered[step - 1]:
            runs[-1] = (name, runs[-1][1], step + 1)
        else:
            runs.append((name, step, step + 1))
    return runs

"""Printed tables of data sets and scans, for the terminal."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from cmi.methods import named
from cmi.noise import SCHEDULES
from cmi.samples import Samples
from cmi.scan_check import CHECKS, CheckRow, ScanCheck
from cmi.transition import locate_transition, scale_free

FloatArray = NDArray[np.float64]

if TYPE_CHECKING:
    from cmi.data import SampleSet
    from cmi.result import PhaseScan

__all__ = ["check_report", "data_report", "scan_report", "sizes_report", "with_error"]


def with_error(value: float, error: float) -> str:
    """Write a value with its error in the last digits: 0.0123(4) is 0.0123 +- 0.0004.

    Examples
    --------
    >>> with_error(0.01234, 0.00041), with_error(-0.2, 1.3), with_error(123.4, 12.0)
    ('0.0123(4)', '-0.2(1.3)', '123(12)')
    """
    if not math.isfinite(value):
        return {math.inf: "inf", -math.inf: "-inf"}.get(value, "-")
    if not math.isfinite(error) or error <= 0.0:
        return f"{value:.4g}"
    digits = 1 - math.floor(math.log10(error))  # two digits of the error where it begins with a 1, else one
    if f"{error:.1e}"[0] != "1":
        digits -= 1
    value = round(value, max(digits, 0)) + 0.0  # no -0
    if digits <= 0:
        return f"{value:.0f}({error:.0f})"
    scaled = f"{error:.{digits}f}"
    shown = scaled if error >= 1.0 else scaled.replace("0.", "").lstrip("0")
    return f"{value:.{digits}f}({shown})"


def scan_report(scan: PhaseScan, width: int) -> RenderableType:
    """Render the CMI map, xi per level, the verdict and the warnings for a console of that width."""
    config, data = scan.config, scan.dataset
    about = config["data"]
    crop = f", cropped {about['crop']}" if about.get("crop") else ""
    head = Text.assemble(
        (about["name"], "bold"),
        f": {about['n_samples']:,} samples of shape {'x'.join(map(str, about['shape']))}{crop}, method "
        f"{named(config['method'], config['options'])}, noise {config['noise']['name']}",
    )
    parts: list[RenderableType] = [head, *_map_tables(scan, width), *_diagnostic_tables(scan, width)]
    parts.append(_length_table(scan))
    unfinished = int((data.finished.values == 0).sum())
    if unfinished:
        parts.append(Text(f"{unfinished} of {data.sizes['t']} levels are not computed.", style="yellow"))
    verdict = locate_transition(scan)
    parts.append(Text.assemble(("Verdict: ", "bold"), (verdict.verdict, "bold"), f" - {verdict.message}."))
    parts.append(_null_check(scan))
    parts += [Text(f"Note: {text}{'' if text.endswith('...') else '.'}", style="yellow") for text in scan.warnings]
    return Group(*parts)


def sizes_report(scans: Mapping[float, PhaseScan]) -> RenderableType:
    """Render what several sizes say together: the curves that are compared, where they cross, the verdict."""
    levels, curves, quantity = scale_free(scans)
    found = locate_transition(scans)
    first = next(iter(scans.values())).config
    what = "I(A:C|B) in 10^-3 nats, regions scaled with L" if quantity == "cmi" else "-L/xi"
    scale = 1e3 if quantity == "cmi" else 1.0
    table = Table(
        title=f"{what} (error in the last digits)",
        title_justify="left",
        box=None,
        padding=(0, 1),
        header_style="bold",
    )
    table.add_column("t", justify="right")
    for size in curves:
        table.add_column(f"L={size:g}", justify="right", no_wrap=True)
    for i, t in enumerate(levels):
        cells = [_scaled(scale * c[0, i], scale * float(c[1:, i].std(ddof=1))) for c in curves.values()]
        table.add_row(f"{t:.4g}", *cells)
    head = Text.assemble(
        (first["data"]["name"], "bold"),
        f": {first['data']['n_samples']:,} samples, sizes {', '.join(f'{size:g}' for size in curves)}, method "
        f"{named(first['method'], first['options'])}, noise {first['noise']['name']}",
    )
    parts: list[RenderableType] = [head, table]
    if found.crossings:
        crossings = Table(
            title="Where two sizes cross", title_justify="left", box=None, padding=(0, 1), header_style="bold"
        )
        for column in ("sizes", "t", "above it the larger has"):
            crossings.add_column(column, justify="right")
        for each in found.crossings:
            crossings.add_row(
                f"{each.small:g}, {each.large:g}",
                with_error(each.level, each.stderr),
                "less" if each.falling else "more",
            )
        parts.append(crossings)
    parts.append(Text.assemble(("Verdict: ", "bold"), (found.verdict, "bold"), f" - {found.message}."))
    notes = dict.fromkeys(text for scan in scans.values() for text in scan.warnings)
    parts += [Text(f"Note: {text}{'' if text.endswith('...') else '.'}", style="yellow") for text in notes]
    return Group(*parts)


def check_report(scan: PhaseScan, found: ScanCheck) -> RenderableType:
    """Render a self-check: of every check its worst cell and what that means, what was skipped, and why."""
    table = Table(
        title="Where the CMI is known", title_justify="left", box=None, padding=(0, 1), header_style="bold"
    )
    for column in ("check", "cells", "largest z", "fails beyond", "reads there, in nats", "at", "as scanned", ""):
        table.add_column(column, justify="left" if column in ("check", "at", "") else "right", no_wrap=column != "")
    for check in CHECKS:
        rows, worst = found.of(check), found.worst(check)
        if worst is None:
            table.add_row(
                check, "-", "-", "-", "-", "-", "-", Text(f"skipped: {found.skipped[check]}", style="yellow")
            )
            continue
        missing = found.unknown.get(check, 0)
        table.add_row(
            check,
            f"{len(rows)}" + (f" of {len(rows) + missing}" if missing else ""),
            _z(worst.size),
            _z(worst.threshold),
            _scaled(worst.value, worst.stderr),
            worst.place,
            _z(found.seen[check]) if check in found.seen else "-",
            _judgement(found, worst),
        )
    about = scan.config["data"]
    head = Text.assemble(
        (about["name"], "bold"),
        f": {about['n_samples']:,} samples, method {named(scan.config['method'], scan.config['options'])}, noise "
        f"{scan.config['noise']['name']}",
    )
    parts: list[RenderableType] = [head, table]
    if found.seen:
        parts.append(
            Text(
                f"C beyond r = {found.width}, {found.chosen}, was taken from other samples (permuted) or made "
                f"constant (blank): the CMI of r >= {found.width} is 0. As scanned: the largest z of these cells "
                "before.",
                style="dim",
            )
        )
    parts.append(
        Text(
            f"All checks together fail by chance at most once in {1.0 / found.false_positives:.0f} times, if the "
            "errors are what the method claims; they contain no bias.",
            style="dim",
        )
    )
    outcome = "passed" if found.passed else "failed"
    parts.append(Text.assemble(("Verdict: ", "bold"), (outcome, "bold"), f" - {found.message}."))
    parts += [Text(f"Note: {text}.", style="yellow") for text in found.notes]
    return Group(*parts)


def _z(z: float) -> str:
    return f"{z:.1f}" if abs(z) < 1e4 else "no error"


def _judgement(found: ScanCheck, worst: CheckRow) -> Text:
    """One check in words, by its worst cell."""
    if not worst.passed:
        wrong = "reads CMI where there is none" if worst.value > 0.0 else "reads less than 0"
        wider = "a wider buffer reads more CMI than a narrower one"
        return Text(f"failed: {wider if worst.narrower is not None else wrong}", style="bold red")
    if not any(row.value for row in found.of(worst.check)):
        return Text("passed, 0 exactly")
    if found.seen.get(worst.check, math.inf) <= worst.threshold:
        return Text("passed, as it would with C as it is: the scan sees no CMI there", style="yellow")
    return Text("passed")


def _map_tables(scan: PhaseScan, width: int) -> list[Table]:
    """The map with errors; what is not two of them above 0 and the floor is dim."""
    data = scan.dataset
    clear = scan.stands_out(2.0)
    title = "I(A:C|B_r) in 10^-3 nats (error in the last digits)"
    return _tables(scan, width, title, _with_errors(data.cmi.values, data.stderr.values), clear)


def _diagnostic_tables(scan: PhaseScan, width: int) -> list[Table]:
    """What the method knows of itself: its bias on Gaussian data, its floor, and p-values."""
    data, tables = scan.dataset, []
    if "surrogate_bias" in data:
        bias, error = data.surrogate_bias.values, data.surrogate_stderr.values
        done = ", subtracted above" if scan.config["options"].get("calibrate") else ""
        title = f"Bias on Gaussian data of the same covariance, in 10^-3 nats{done}"
        tables += _tables(scan, width, title, _with_errors(bias, error), np.abs(bias) > 2.0 * error)
    if "null_mean" in data:
        floor, error = data.null_mean.values, data.null_stderr.values
        title = "What is read where there is no CMI (mean over local permutations of C), in 10^-3 nats"
        tables += _tables(scan, width, title, _with_errors(floor, error), np.abs(floor) > 2.0 * error)
        p = data.p_value.values
        tables += _tables(
            scan,
            width,
            "p-values: how often as much is read there",
            [[f"{each:.2g}" for each in row] for row in p],
            p <= 0.05,
        )
    if "neighbours" in data:
        few = data.neighbours.values
        tables += _tables(
            scan,
            width,
            "Effective number of samples that the mixture averages over in B_r",
            [[_count(each) for each in row] for row in few],
            few >= 10.0,
        )
    return tables


def _with_errors(values: FloatArray, errors: FloatArray) -> list[list[str]]:
    return [
        [_scaled(1e3 * v, 1e3 * e) for v, e in zip(row, error, strict=True)]
        for row, error in zip(values, errors, strict=True)
    ]


def _tables(
    scan: PhaseScan, width: int, title: str, cells: list[list[str]], clear: NDArray[np.bool_]
) -> list[Table]:
    """One row per level, split over several tables where the console is narrow."""
    data = scan.dataset
    wide = [
        max(len(row[j]) for row in [*cells, [f"r={r}" for r in data.r.values]]) + 2 for j in range(data.sizes["r"])
    ]
    tables: list[Table] = []
    start = 0
    while start < len(wide):
        stop, room = start, width - 18
        while stop < len(wide) and (room >= wide[stop] or stop == start):
            room -= wide[stop]
            stop += 1
        table = Table(
            title=title if start == 0 else None,
            title_justify="left",
            box=None,
            padding=(0, 1),
            header_style="bold",
        )
        table.add_column("t", justify="right")
        table.add_column("SNR", justify="right")
        for j in range(start, stop):
            table.add_column(f"r={data.r.values[j]}", justify="right", no_wrap=True)
        for i, t in enumerate(data.t.values):
            row = [Text(cells[i][j], style="" if clear[i, j] else "dim") for j in range(start, stop)]
            table.add_row(f"{t:.4g}", f"{data.snr.values[i]:.3g}", *row)
        tables.append(table)
        start = stop
    return tables


def _count(value: float) -> str:
    """Three digits of a number of samples, whole from 100 on."""
    if not math.isfinite(value):
        return "-"
    return f"{value:,.0f}" if value >= 100.0 else f"{value:.3g}"


def _scaled(value: float, error: float) -> str:
    """Like `with_error`, but short where the error lies below the last digit that a table has room for."""
    if math.isfinite(value) and math.isfinite(error) and error < 1e-3:
        if value == error == 0.0:
            return "0"
        power = math.floor(math.log10(max(abs(value), error)))
        return f"{with_error(value / 10.0**power, error / 10.0**power)}e{power}"
    return with_error(value, error)


def _length_table(scan: PhaseScan) -> Table:
    table = Table(
        title=f"Markov length xi in {scan.unit}",
        title_justify="left",
        box=None,
        padding=(0, 1),
        header_style="bold",
    )
    table.add_column("t", justify="right")
    table.add_column("xi", justify="right")
    table.add_column("")
    for t, length in zip(scan.dataset.t.values, scan.markov_length, strict=True):
        if length.success:
            table.add_row(f"{t:.4g}", with_error(length.value, length.stderr), Text(length.message, style="dim"))
        else:
            table.add_row(f"{t:.4g}", "-", Text(f"unresolved: {length.message}", style="dim"))
    return table


def _null_check(scan: PhaseScan) -> Text:
    """What the scan shows where nothing is: without signal the CMI is 0."""
    data = scan.dataset
    noise = np.flatnonzero((data.alpha.values == 0.0) & (data.finished.values == 1))
    if len(noise) == 0:
        known = SCHEDULES.get(scan.config["noise"]["name"])
        ends = known is not None and float(known().alpha(1.0)) == 0.0
        how = "add t = 1" if ends else "this schedule has none, --noise interpolation does at t = 1"
        return Text(
            f"Check: no level without signal was scanned ({how}): what the method reads there is not known."
        )
    values, errors = data.cmi.values[noise[0]], data.stderr.values[noise[0]]
    if not errors.any():
        return Text("Check: at pure noise the CMI is 0 exactly, since this method adds the noise in closed form.")
    worst = int(np.argmax(np.abs(values) / errors))
    return Text(
        f"Check: at pure noise, where the CMI is 0, the scan reads {with_error(values[worst], errors[worst])} nats "
        f"(r = {data.r.values[worst]}, its farthest from 0 in errors)."
    )


def data_report(data: SampleSet) -> RenderableType:
    """Render what is known of a data set: shape, range, ties, constant pixels, and which methods fit."""
    from cmi.methods import METHODS, tied_share

    flat = Samples.of(data.samples).values
    low, high = flat.min(axis=0), flat.max(axis=0)
    constant = low == high
    tied = tied_share(flat[:10_000, ~constant])
    zero = float(np.mean(flat == 0.0))
    table = Table(box=None, show_header=False, padding=(0, 1))
    table.add_column(style="bold")
    table.add_column()
    total = f" (of {data.total:,} in the file)" if data.total > len(data) else ""
    table.add_row("data", Text(f"{data.name} ({data.format})"))
    table.add_row("samples", f"{len(data):,}{total}")
    table.add_row("shape", f"{'x'.join(map(str, data.shape))} = {flat.shape[1]:,} values")
    if data.channel_axis is not None:
        table.add_row("channels", f"{data.shape[data.channel_axis]}, on axis {data.channel_axis}")
    if data.columns is not None:
        table.add_row("columns", Text(", ".join(data.columns[:8]) + (", ..." if len(data.columns) > 8 else "")))
    table.add_row("range", f"{float(low.min()):.4g} to {float(high.max()):.4g}, mean {float(flat.mean()):.4g}")
    table.add_row("zeros", f"{zero:.1%} of all values")
    table.add_row("constant", f"{int(constant.sum()):,} of {flat.shape[1]:,} pixels hold one value only")
    share = float(np.median(tied)) if len(tied) else 1.0
    table.add_row("ties", f"{share:.1%} of the samples share a pixel's value with another (median over pixels)")
    for note in data.notes:
        table.add_row("note", Text(note))
    table.add_section()
    for method in METHODS.values():
        table.add_row(method.name, method.tells)
    return Group(table, Text.assemble(("Suggested: ", "bold"), _suggestion(data, flat.shape[1], share)))


def _suggestion(data: SampleSet, n_columns: int, tied: float) -> str:
    if n_columns > 20:
        ties = " (clean data with so many ties are far from its Gaussian copula)" if tied > 0.5 else ""
        return (
            f"--method gaussian. {n_columns:,} columns are too many for ksg as they are: it suits regions of a few "
            "pixels (small --reach), or --features regression --k 20 for dependence beyond the linear; copula is a "
            f"second opinion{ties}."
        )
    if len(data) > 200_000:
        return "--method ksg with --queries 20000 for any form of dependence, or --method gaussian."
    return "--method ksg for any form of dependence; --method gaussian to compare."

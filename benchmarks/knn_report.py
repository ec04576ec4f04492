"""Tables and the picture of `benchmarks/knn.py`."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter
from peers import OURS, PEERS
from rich.table import Table

Sizes = tuple[int, int, int]

INK, GREY, BLUE, ORANGE = "#222222", "#666666", "#0072B2", "#D55E00"  # Okabe and Ito's palette


@dataclass
class Row:
    """One peer in one cell: a line of the CSV file."""

    a: int
    b: int
    c: int
    n: int
    k: int
    cores: int
    limit: float
    true_cmi: float
    peer: str = ""
    version: str = ""
    uses: int = 1
    status: str = "ok"
    seconds: float = math.nan
    calls: int = 0
    ratio: float = math.nan
    cores_busy: float = math.nan
    peak_mib: float = math.nan
    added_mib: float = math.nan
    value: float = math.nan
    off: float = math.nan
    off_definition: float = math.nan
    agrees: str = "not compared"

    @property
    def sizes(self) -> Sizes:
        """|A|, |B| and |C|."""
        return self.a, self.b, self.c

    @property
    def too_slow(self) -> bool:
        """Whether the time limit ended it."""
        return self.status.startswith("over")


def digits(value: float, form: str) -> str:
    """The number, or a dash."""
    return format(value, form) if math.isfinite(value) else "-"


def cell_table(rows: list[Row]) -> Table:
    """Table of one cell, the fastest first."""
    first = rows[0]
    table = Table(
        title=f"A, B, C of {first.a}, {first.b}, {first.c} columns, n = {first.n:,}, k = {first.k}: "
        f"true CMI {first.true_cmi:.4f}, {OURS} {digits(first.value, '.4f')} nats",
        title_justify="left",
        title_style="bold",
    )
    for name in ("package", "seconds", "times ours", "cores busy", "peak MiB", "added", "off", "agrees"):
        table.add_column(name, justify="left" if name in ("package", "agrees") else "right", no_wrap=True)
    for row in sorted(rows, key=lambda r: r.seconds if math.isfinite(r.seconds) else math.inf):
        done = math.isfinite(row.seconds)
        least = row.limit / first.seconds if row.too_slow else math.nan
        table.add_row(
            row.peer,
            f"> {row.limit:g}" if row.too_slow else digits(row.seconds, ".3g"),
            f"> {least:.0f}" if math.isfinite(least) else digits(row.ratio, ".2f"),
            digits(row.cores_busy, ".1f"),
            digits(row.peak_mib, ".0f"),
            digits(row.added_mib, ".0f"),
            digits(row.off, ".0e") if row is not first else "",
            row.agrees if row.agrees != "not compared" else "",
            style="bold" if row is first else "" if done else "dim",
        )
    rivals = [row for row in rows[1:] if math.isfinite(row.seconds) and PEERS[row.peer].tolerance]
    caption = [f"{row.peer}: {row.status}" for row in rows if row.status != "ok"]
    if rivals and math.isfinite(first.seconds):
        best = min(rivals, key=lambda r: r.seconds)
        caption.insert(0, f"fastest other ({best.peer}) / {OURS}: {best.ratio:.2f}")
    if caption:
        table.caption, table.caption_justify = "\n".join(caption), "left"
    return table


def growth_table(rows: list[Row]) -> Table:
    """How seconds and memory of this package grow with n."""
    table = Table(title=f"{OURS}: growth with n", title_justify="left", title_style="bold")
    for name in ("A, B, C", "n", "seconds", "d log(seconds) / d log(n)", "peak MiB", "added"):
        table.add_column(name, justify="left" if name == "A, B, C" else "right")
    mine = [row for row in rows if row.peer == OURS and math.isfinite(row.seconds)]
    for sizes in dict.fromkeys(row.sizes for row in mine):
        these = [row for row in mine if row.sizes == sizes]
        exponent = ""
        if len({row.n for row in these}) > 1:
            slope = np.polyfit(np.log([row.n for row in these]), np.log([row.seconds for row in these]), 1)[0]
            exponent = f"{slope:.2f}"
        table.add_row(
            ", ".join(map(str, sizes)),
            "\n".join(f"{row.n:,}" for row in these),
            "\n".join(f"{row.seconds:.3g}" for row in these),
            exponent,
            "\n".join(f"{row.peak_mib:.0f}" for row in these),
            "\n".join(f"{row.added_mib:.0f}" for row in these),
        )
    return table


def peer_table(rows: list[Row]) -> Table:
    """Versions, threads and how a package differs."""
    table = Table(title="What ran", title_justify="left", title_style="bold")
    for name in ("package", "version", "uses threads", "what it computes"):
        table.add_column(name)
    for row in {row.peer: row for row in rows}.values():
        table.add_row(row.peer, row.version, str(row.uses), PEERS[row.peer].remark if row.version else row.status)
    return table


def draw_picture(rows: list[Row], file: Path) -> None:
    """Seconds by package, a panel for every layout, n from hollow to full; an arrow is more than the limit."""
    layouts = list(dict.fromkeys(row.sizes for row in rows))
    ns = sorted({row.n for row in rows})
    names = list(dict.fromkeys(row.peer for row in rows))[::-1]
    spent = [s for row in rows for s in (row.seconds, row.limit * row.too_slow) if s > 0.0] or [1.0]
    decades = 10.0 ** np.floor(np.log10(0.8 * min(spent))), 10.0 ** np.ceil(np.log10(1.25 * max(spent)))
    across = min(2, len(layouts))
    down = math.ceil(len(layouts) / across)
    figure = Figure(figsize=(5.2, 0.75 + down * (0.55 + 0.17 * len(names))), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(down, across, sharex=True, sharey=True, squeeze=False).ravel()
    for axes, sizes in zip(panels, layouts, strict=False):
        for place, name in enumerate(names):
            colour = BLUE if name == OURS else INK
            these = sorted((row for row in rows if row.sizes == sizes and row.peer == name), key=lambda r: r.n)
            known = [row for row in these if math.isfinite(row.seconds)]
            axes.plot([row.seconds for row in known], [place] * len(known), "-", color=colour, linewidth=1.0)
            for row in known:
                full = colour if row.n == ns[-1] else "white"
                axes.plot(row.seconds, place, "o", color=colour, markerfacecolor=full, markersize=4.5)
            slow = [row for row in these if row.too_slow]
            for i, row in enumerate(slow):
                full = ORANGE if row.n == ns[-1] else "white"
                height = place + 0.2 * (i - (len(slow) - 1) / 2.0)
                axes.plot(row.limit, height, ">", color=ORANGE, markerfacecolor=full, markersize=5, clip_on=False)
            if not known and not any(row.too_slow for row in these):
                axes.annotate(
                    these[0].status.partition(":")[0],
                    (0.03, place),
                    xycoords=("axes fraction", "data"),
                    va="center",
                    fontsize=7,
                    color=GREY,
                )
        axes.set_title(f"A, B, C of {sizes[0]}, {sizes[1]}, {sizes[2]} columns", fontsize=8, loc="left", color=INK)
        axes.set_xscale("log")
        axes.set_xlim(*decades)
        axes.xaxis.set_major_formatter(lambda x, _: f"{x:g}")
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set_yticks(range(len(names)), [name if PEERS[name].tolerance else f"{name}*" for name in names])
        axes.set_ylim(-0.7, len(names) - 0.3)
        axes.grid(axis="x", color="#dddddd", linewidth=0.6)
        axes.set_axisbelow(True)
        axes.tick_params(labelsize=7.5)
        axes.tick_params(axis="y", length=0)
    for axes in panels[len(layouts) :]:
        axes.set_visible(False)
    shown = [f"n = {ns[0]:,} hollow, {ns[-1]:,} full" if len(ns) > 1 else f"n = {ns[0]:,}"]
    if any(row.too_slow for row in rows):
        shown.append(f"arrow: over {rows[0].limit:g} s")
    if not all(PEERS[name].tolerance for name in names):
        shown.append("*: another estimate")
    figure.supxlabel(f"seconds of one call, k = {rows[0].k}\n{';  '.join(shown)}", fontsize=8.5, color=INK)
    figure.savefig(file, dpi=200)

"""Printed tables of maps of positions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from cmi.methods import named
from cmi.report import with_error

if TYPE_CHECKING:
    from cmi.position_map import PositionMap

__all__ = ["positions_report"]

_CLEAR = 3.0  # standard errors


def positions_report(found: PositionMap) -> RenderableType:
    """Render, per level and width, the mean over places, the largest and the smallest, and how many stand out."""
    config, data = found.config, found.dataset
    about = config["data"]
    crop = f", cropped {about['crop']}" if about.get("crop") else ""
    places = found.places
    head = Text.assemble(
        (about["name"], "bold"),
        f": {about['n_samples']:,} samples of shape {'x'.join(map(str, about['shape']))}{crop}, method "
        f"{named(config['method'], config['options'])}, noise {config['noise']['name']}; A one pixel at "
        f"{len(places)} places, C up to {config['reach']} pixels away",
    )
    table = Table(
        title="I(A:C|B_r) in 10^-3 nats (error in the last digits)", title_justify="left", box=None, pad_edge=False
    )
    for name in ("t", "r", "mean", "largest", "at " + ",".join(found.space), "smallest", "above 3 errors"):
        table.add_column(name, justify="right")
    value = data.cmi.values.reshape(*data.cmi.shape[:2], -1)
    error = data.stderr.values.reshape(value.shape)
    known = np.flatnonzero(data.finished.values.ravel())
    for i, t in enumerate(data.t.values):
        for j, r in enumerate(data.r.values):
            here, its = 1e3 * value[i, j, known], 1e3 * error[i, j, known]
            if len(here) == 0:
                table.add_row(f"{t:g}", str(r), *["-"] * 5)
                continue
            most, least = int(here.argmax()), int(here.argmin())
            table.add_row(
                f"{t:g}",
                str(r),
                f"{here.mean():.3g}",
                with_error(here[most], its[most]),
                ",".join(map(str, places[known[most]])),
                with_error(here[least], its[least]),
                f"{int((here > _CLEAR * its).sum())} of {len(here)}",
            )
    parts: list[RenderableType] = [head, table]
    if not found.complete:
        parts.append(Text(f"{len(places) - len(known)} of {len(places)} places are not computed.", style="yellow"))
    parts += [Text(f"Note: {text}{'' if text.endswith('...') else '.'}", style="yellow") for text in found.warnings]
    return Group(*parts)

"""Maps of positions on the command line: made with a bar, kept when cut short, saved, drawn."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from cmi.screen import bar, console
from cmi.workers import uninterrupted, workers

if TYPE_CHECKING:
    from cmi.data import SampleSet
    from cmi.position_map import PositionMap
    from cmi.result import PhaseScan

__all__ = ["load", "run_positions"]


def load(file: Path) -> PhaseScan | PositionMap:
    """Read a scan file, or a map of positions.

    Raises
    ------
    FileNotFoundError, ValueError
        As `PhaseScan.load`.
    """
    from cmi.position_map import PositionMap
    from cmi.result import PhaseScan

    try:
        return PhaseScan.load(file)
    except ValueError as error:
        try:
            return PositionMap.load(file)
        except ValueError:
            raise error from None


def run_positions(
    samples: SampleSet,
    processes: int,
    out: Path | None,
    plot: Path | None,
    resume: Path | None,
    *,
    overwrite: bool,
    **arguments: Any,
) -> list[Path]:
    """Make a map of positions, print it, and return the files that were written.

    Raises
    ------
    typer.Exit
        If interrupted: what was finished is kept beside `out`, and said.
    """
    from cmi.position_map import PositionMap
    from cmi.position_plot import save_positions
    from cmi.position_report import positions_report
    from cmi.position_scan import PositionsFailed, PositionsInterrupted, map_positions

    earlier = None if resume is None else PositionMap.load(resume)
    try:
        with bar("positions", 1) as advance, workers(processes) as executor:
            found = map_positions(
                samples,
                executor=executor,
                progress=advance,
                training=advance.training,
                resume=earlier,
                **arguments,
            )
    except PositionsInterrupted as interrupt:
        _keep(interrupt.partial, out, "Interrupted")
        if Path(kept := arguments.get("network", "")).is_file():
            console().print(f"The training is kept in {kept}, where the same command goes on.")
        raise typer.Exit(130) from None
    except PositionsFailed as failure:
        _keep(failure.partial, out, "Failed")
        raise
    written = []
    if out is not None:
        with uninterrupted():
            found.save(out, overwrite=overwrite)
        written.append(out)
    if plot is not None:
        save_positions(found, plot, overwrite=overwrite)
        written.append(plot)
    console().print(positions_report(found))
    return written


def _keep(partial: PositionMap, out: Path | None, what: str) -> None:
    """Save a map that was cut short beside its target, under a name that overwrites nothing, and say so."""
    import shlex

    screen = console(stderr=True)
    done = int(partial.dataset.finished.sum())
    state = f"{what} with {done} of {len(partial.places)} places finished"
    if out is None or done == 0:
        screen.print(f"{state}; {'nothing was finished' if done == 0 else 'there is no --out to keep it in'}.")
        return
    for attempt in range(1000):
        target = out.with_name(f"{out.stem[:180]}.partial{attempt or ''}{out.suffix}")
        try:
            partial.save(target)
        except FileExistsError:
            continue
        except OSError as error:
            screen.print(f"{state}, which could not be kept: {error}.")
            return
        again = f"run the same command with --resume {shlex.quote(str(target))} to go on"
        screen.print(f"{state}, kept in {target}; {again}.")
        return

"""Scans on the command line: made with a bar, kept when cut short, saved, drawn, printed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import typer

from cmi.scan_files import keep, replaces, save
from cmi.screen import bar, console
from cmi.workers import uninterrupted
from cmi.workers import workers as processes

if TYPE_CHECKING:
    from cmi.data import SampleSet
    from cmi.result import PhaseScan

__all__ = ["draw_scans", "print_scans", "run_scans", "several"]

# By size; the scan of the whole sample is that of size None.
Scans = Mapping["float | None", "PhaseScan"]


def run_scans(
    samples: SampleSet,
    workers: int,
    out: Path | None,
    plot: Path | None,
    resume: Path | None,
    sides: list[int] | None,
    how: Literal["crop", "block"],
    *,
    earlier: Scans,
    overwrite: bool,
    **arguments: Any,
) -> list[Path]:
    """Scan the samples, or crops or blocks of them of several sides, and return the files that were written.

    `earlier` are scans to go on from; `arguments` those of `phase_scan`.

    Raises
    ------
    typer.Exit
        If interrupted: what was finished is kept beside `out`, and said.
    """
    with uninterrupted():
        from cmi.scan import ScanFailed, ScanInterrupted
        from cmi.sizes import SizesFailed, SizesInterrupted
    total = (len(arguments["levels"]) + arguments["refine"]) * len(sides or [None])
    try:
        if sides is None:
            scans = _scanned(samples, workers, total, resume=earlier.get(None), **arguments)
        else:
            scans = _sizes(samples, workers, total, sides, how, resume=several(earlier), **arguments)
    except (ScanInterrupted, SizesInterrupted) as interrupt:
        keep(_by_size(interrupt.partial), out, "Interrupted", total)
        if Path(kept := arguments.get("network", "")).is_file():
            console().print(f"The training is kept in {kept}, where the same command goes on.")
        raise typer.Exit(130) from None
    except (ScanFailed, SizesFailed) as failure:
        keep(_by_size(failure.partial), out, "Failed", total)
        raise
    for size, scan in scans.items():  # levels that were added last time, and not this time, stay
        if size in earlier and replaces(out, resume, size):
            scans[size] = scan.with_levels_of(earlier[size])
    # What was computed is safe before anything is printed: a terminal may be gone by then.
    with uninterrupted():
        written = [] if out is None else save(scans, out, overwrite=overwrite)
    if plot is not None:
        draw_scans(scans, plot, overwrite=overwrite)
        written.append(plot)
    print_scans(scans)
    return written


def print_scans(scans: Scans) -> None:
    """Print one scan, or those of several sizes."""
    from cmi.report import scan_report, sizes_report

    screen, sizes = console(), several(scans)
    screen.print(sizes_report(sizes) if sizes else scan_report(scans[None], screen.width))


def draw_scans(scans: Scans, target: Path, *, overwrite: bool, kind: str = "map") -> None:
    """Draw one scan, or those of several sizes, into a file."""
    from cmi.plot import save_plot
    from cmi.size_plot import save_sizes

    if sizes := several(scans):
        save_sizes(sizes, target, overwrite=overwrite)
    else:
        save_plot(scans[None], target, kind=kind, overwrite=overwrite)


def several(scans: Scans) -> dict[float, PhaseScan]:
    """The scans of several sizes; none for one scan of whole samples."""
    return {size: scan for size, scan in scans.items() if size is not None}


def _scanned(samples: SampleSet, workers: int, total: int, **arguments: Any) -> dict[float | None, PhaseScan]:
    from cmi.scan import phase_scan

    with bar("noise levels", total) as advance, processes(workers) as executor:
        scan = phase_scan(samples, executor=executor, progress=advance, training=advance.training, **arguments)
    return {None: scan}


def _sizes(
    samples: SampleSet,
    workers: int,
    total: int,
    sides: list[int],
    how: Literal["crop", "block"],
    **arguments: Any,
) -> dict[float | None, PhaseScan]:
    from cmi.sizes import scan_sizes

    with bar("levels of all sizes", total) as advance, processes(workers) as executor:
        scans = scan_sizes(
            samples,
            sides,
            how=how,
            executor=executor,
            progress=advance,
            training=advance.training,
            **arguments,
        )
    return dict(scans.items())


def _by_size(partial: PhaseScan | Mapping[float, PhaseScan]) -> dict[float | None, PhaseScan]:
    return dict(partial.items()) if isinstance(partial, Mapping) else {None: partial}

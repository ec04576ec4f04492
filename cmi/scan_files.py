"""Scan files of the command line: their names, one for every size, and what is kept of work that was cut short."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cmi.screen import console

if TYPE_CHECKING:
    from cmi.result import PhaseScan

__all__ = [
    "check_targets",
    "default_picture",
    "file_of",
    "keep",
    "of_several_sizes",
    "replaces",
    "save",
    "scan_data",
    "to_resume",
]

# Scans by size; the one of the whole sample is that of size None.
Scans = Mapping["float | None", "PhaseScan"]


def file_of(out: Path, size: float | None) -> Path:
    """Return the file of one of several sizes, FILE.L5.nc for FILE.nc; the file itself for the whole sample."""
    return out if size is None else out.with_name(f"{out.stem}.L{size:g}{out.suffix}")


def check_targets(
    out: Path | None,
    plot: Path | None,
    resume: Path | None,
    sizes: Iterable[float | None],
    *,
    inputs: Iterable[str | Path | None] = (),
    overwrite: bool,
) -> None:
    """Check the outputs before any work is done for them."""
    from cmi.output import check_outputs

    files = [] if out is None else [file_of(out, size) for size in sizes]
    check_outputs((*files, plot), inputs, overwrite=overwrite)
    if out is not None and out.suffix.lower() != ".nc":
        raise ValueError(f"--out takes the name of a netCDF file, ending in .nc, got {str(out)!r}")
    if plot is not None:
        if plot.suffix.lower() not in (".png", ".pdf", ".svg"):
            raise ValueError(f"{str(plot)!r} has no suffix of a picture: use .png, .pdf or .svg")
        if resume is not None and plot.resolve() == resume.resolve():
            raise ValueError("--plot would replace the scan to resume: name another file")


def to_resume(
    resume: Path | None, out: Path | None, sizes: Iterable[float | None], levels: list[float] | None
) -> dict[float | None, PhaseScan]:
    """Load the scans to go on from, by size; what replaces one must hold all its levels, if they are known yet."""
    if resume is None:
        return {}
    from cmi.result import PhaseScan

    wanted = list(sizes)
    if wanted != [None]:
        resume = _of_all_sizes(resume)
    names = {size: file_of(resume, size) for size in wanted}
    if wanted != [None]:
        names = {size: name for size, name in names.items() if name.exists()}
        if not names:
            raise ValueError(f"there is no scan {file_of(resume, wanted[0])} to resume, nor one of another size")
    earlier = {size: PhaseScan.load(name) for size, name in names.items()}
    for size, scan in earlier.items():
        if levels is not None and replaces(out, resume, size):
            lost = set(scan.dataset.t.values.tolist()) - {float(f"{t:.12g}") for t in levels}
            if lost:
                raise ValueError(
                    f"--out would replace {names[size].name} and lose its level t = {min(lost):g}: name another"
                )
    return earlier


def _of_all_sizes(file: Path) -> Path:
    """FILE.nc for FILE.L5.nc, the inverse of `file_of`."""
    return file.with_name(re.sub(r"\.L\d+$", "", file.stem) + file.suffix)


def scan_data(about: Mapping[str, Any], file: Path) -> str:
    """Find the data that a scan file names: an embedded set, an exact model, or a file here or beside the scan.

    Raises
    ------
    ValueError
        If they were an array in memory, or are not there.
    """
    name = str(about["name"])
    if about["format"] in ("embedded", "exact"):
        return name
    if about["format"] == "memory":
        raise ValueError(
            f"{file.name} is the scan of an array in memory: give DATA, a file of it, or use check_scan in Python"
        )
    for folder in (Path(), file.parent):
        if (folder / name).exists():
            return str(folder.absolute() / name)
    raise ValueError(f"{file.name} is the scan of {name!r}, which is neither here nor beside it: give DATA")


def default_picture(files: list[Path]) -> Path:
    """Name a picture after the scan file, or after what the files of several sizes have in common."""
    return files[0].with_suffix(".png") if len(files) == 1 else _of_all_sizes(files[0]).with_suffix(".sizes.png")


def replaces(out: Path | None, resume: Path | None, size: float | None) -> bool:
    """Whether the scan of that size is written over the one that was resumed."""
    if out is None or resume is None:
        return False
    resume = resume if size is None else _of_all_sizes(resume)
    return file_of(out, size).resolve() == file_of(resume, size).resolve()


def save(scans: Scans, out: Path, *, overwrite: bool) -> list[Path]:
    """Write every scan into its file; what cannot be written there is kept elsewhere."""
    written: list[Path] = []
    for size, scan in scans.items():
        target = file_of(out, size)
        try:
            scan.save(target, overwrite=overwrite)
        except OSError as error:
            if not overwrite:  # all sizes under one name: those that this call wrote go there too
                for each in written:
                    each.unlink(missing_ok=True)
            keep(scans, out, "Not saved as asked")
            raise OSError(f"the scan was not written: {error}") from error
        written.append(target)
    return written


def keep(partial: Scans, out: Path | None, what: str, total: int | None = None) -> None:
    """Save scans that were cut short beside their target, under names that overwrite nothing, and say so.

    Of `total` levels, if more were to come than those of the scans that were begun.
    """
    import shlex
    import signal
    import tempfile

    begun = {size: scan for size, scan in partial.items() if scan.dataset.finished.any()}
    finished = sum(int(scan.dataset.finished.sum()) for scan in begun.values())
    known = sum(scan.dataset.sizes["t"] for scan in partial.values())
    total = known if total is None else max(total, known)
    screen = console(stderr=True)
    state = f"{what} with {finished} of {total} levels finished"
    if out is None or finished == 0:
        why = "nothing was finished" if finished == 0 else "there is no --out to keep it in"
        screen.print(f"{state}; {why}.")
        return
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # a second Ctrl-C must not undo the first
    left, stem = dict(begun), out.stem.encode()[:180].decode(errors="ignore")  # names have at most 255 bytes
    for folder in (out.parent, Path.cwd(), Path(tempfile.gettempdir())):
        for attempt in range(1000):
            target = folder / f"{stem}.partial{attempt or ''}{out.suffix}"
            if any(file_of(target, size).exists() for size in begun):
                continue
            try:
                for size in list(left):
                    left[size].save(file_of(target, size))
                    del left[size]
            except FileExistsError:  # it appeared meanwhile: all of them under another name
                left = dict(begun)
                continue
            except OSError:
                left = dict(begun)
                break
            files = ", ".join(str(file_of(target, size)) for size in begun)
            again = f"; run the same command with --resume {shlex.quote(str(target))} to go on"
            screen.print(f"{state}, kept in {files}{again if finished < total else ''}.")
            return
    screen.print(f"{state}, and no folder could be written to: they are lost.")


def of_several_sizes(files: list[Path]) -> dict[float | None, PhaseScan]:
    """Load scans that run --sizes wrote."""
    from cmi.configuration import check_sizes
    from cmi.result import PhaseScan

    scans: dict[float | None, PhaseScan] = {}
    for file in files:
        scan = PhaseScan.load(file)
        size = scan.config["data"].get("size")
        if size is None:
            raise ValueError(f"{file.name} is no scan of one of several sizes: make them with run --sizes")
        if float(size) in scans:
            raise ValueError(f"{file.name} has the same size as another file, {size}")
        for earlier in list(scans.values())[:1]:
            check_sizes(earlier.config, scan.config)
        scans[float(size)] = scan
    return scans

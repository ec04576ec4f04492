"""The command line: phase-scan run, show, plot and info.

Heavy imports happen inside the commands, so that help texts and mistyped options answer at once.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from cmi.workers import signals, uninterrupted
from cmi.workers import workers as processes

if TYPE_CHECKING:
    from rich.console import Console

    from cmi.data import SampleSet
    from cmi.result import PhaseScan

__all__ = ["app", "main"]

app = typer.Typer(
    name="phase-scan",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    add_completion=False,
)

_DATA_HELP = (
    "A data file (.npy .npz .h5 .zarr .pt .csv .parquet, IDX as MNIST names them), a folder of images, or the name "
    "of the embedded data set: digits."
)
Data = Annotated[str, typer.Argument(help=_DATA_HELP, show_default=False)]
ScanFile = Annotated[Path, typer.Argument(help="A scan file that run wrote.", show_default=False)]
Key = Annotated[
    str | None,
    typer.Option(
        help="Which array of a .npz, .h5, .zarr or .pt file; for tables the columns, as a,b,c.",
        show_default=False,
    ),
]
Limit = Annotated[int | None, typer.Option(help="Use the first so many samples only.", show_default=False)]
Crop = Annotated[
    str | None,
    typer.Option(
        help="Keep start:stop of every axis, as in 1:,1: to cut the first row and column.", show_default=False
    ),
]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace output files that exist.")]


@app.command()
def run(
    data: Annotated[str, typer.Argument(help=_DATA_HELP)] = "digits",
    method: Annotated[
        str, typer.Option(help="Estimator: gaussian, copula or ksg; for t = 0 or flip noise also discrete.")
    ] = "gaussian",
    levels: Annotated[
        str, typer.Option(help="Noise levels t: start:stop:count with both ends included, or a list as 0.1,0.5.")
    ] = "0:1:11",
    widths: Annotated[
        str | None,
        typer.Option(
            help="Buffer widths r, first:last with both included.  [default: all that fit]",
            show_default=False,
        ),
    ] = None,
    noise: Annotated[
        str,
        typer.Option(
            help="Noise schedule: interpolation, vp-linear, vp-cosine, ve, or flip for data of two values."
        ),
    ] = "interpolation",
    center: Annotated[
        str | None,
        typer.Option(
            help="Pixel at the centre of A, as row,column from 0.  [default: the middle]", show_default=False
        ),
    ] = None,
    radius: Annotated[int, typer.Option(help="A is a square of side 2 radius + 1.")] = 0,
    reach: Annotated[
        int | None,
        typer.Option(
            help="Largest distance from A that C takes in.  [default: the whole sample]", show_default=False
        ),
    ] = None,
    crop: Crop = None,
    channel_axis: Annotated[
        str | None,
        typer.Option(
            help="Axis of a sample that holds channels, or none.  [default: guessed, and said]", show_default=False
        ),
    ] = None,
    key: Key = None,
    limit: Limit = None,
    seed: Annotated[int, typer.Option(help="Seed of the sampled noise.")] = 0,
    k: Annotated[
        int | None,
        typer.Option(
            "--k", help="Neighbours, for ksg; 20 suits --features regression.  [default: 5]", show_default=False
        ),
    ] = None,
    queries: Annotated[
        int | None,
        typer.Option(
            help="Average over so many samples, drawn at random, for ksg.  [default: all]", show_default=False
        ),
    ] = None,
    surrogates: Annotated[
        int | None,
        typer.Option(
            help="Gaussian data sets on which ksg measures its bias; 0 for speed.  [default: 1]",
            show_default=False,
        ),
    ] = None,
    calibrate: Annotated[
        bool, typer.Option("--calibrate", help="Subtract the bias on Gaussian data, for ksg.")
    ] = False,
    permutations: Annotated[
        int | None,
        typer.Option(
            help="Local permutations for p-values, none below 1/(1 + so many), for ksg.  [default: 0]",
            show_default=False,
        ),
    ] = None,
    features: Annotated[
        str | None,
        typer.Option(
            help="Few numbers in place of the pixels, for ksg on whole images: regression or pca.",
            show_default=False,
        ),
    ] = None,
    shrinkage: Annotated[
        str | None,
        typer.Option(
            help="Shrink the covariance, for gaussian and copula: ledoit-wolf, oas or a number in [0, 1].",
            show_default=False,
        ),
    ] = None,
    workers: Annotated[
        int,
        typer.Option(help="Processes. The result does not depend on it; with 1, methods thread by themselves."),
    ] = 1,
    out: Annotated[
        Path | None, typer.Option(help="Write the scan to this netCDF file.", show_default=False)
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option(help="Draw the scan into this picture (.png, .pdf, .svg).", show_default=False),
    ] = None,
    overwrite: Overwrite = False,
    resume: Annotated[
        Path | None, typer.Option(help="Take over the finished levels of this scan file.", show_default=False)
    ] = None,
    refine: Annotated[
        int, typer.Option(help="Levels to add where the Markov length is largest, or where sizes cross.")
    ] = 0,
    sizes: Annotated[
        str | None,
        typer.Option(
            help="Scan several sizes, as 5,15,25 pixels around the centre (crops), or block:5,10,20 (block means).",
            show_default=False,
        ),
    ] = None,
    debug: Debug = False,
) -> None:
    """Scan a data set: CMI map, Markov length, verdict."""
    with _errors(debug), signals():
        out, plot = (None if path is None else path.expanduser() for path in (out, plot))
        _check_targets(out, plot, resume, overwrite=overwrite)
        if workers < 1:
            raise ValueError(f"--workers must be at least 1, got {workers}")
        with uninterrupted():
            from cmi.plot import save_plot
            from cmi.result import PhaseScan
            from cmi.scan import ScanFailed, ScanInterrupted
        times, buffers = _levels(levels), _widths(widths)
        how, sides = _sizes(sizes)
        if sides is not None:
            _only_for_one_size(
                {"--widths": widths, "--radius": radius or None, "--reach": reach, "--resume": resume}
            )
            for side in sides:
                _check_targets(_of_size(out, side), None, None, overwrite=overwrite)
        earlier = None if resume is None else PhaseScan.load(resume)
        if earlier is not None and out is not None and resume is not None and out.resolve() == resume.resolve():
            lost = set(earlier.dataset.t.values.tolist()) - {float(f"{t:.12g}") for t in times}
            if lost:
                raise ValueError(
                    f"--out would replace {resume.name} and lose its level t = {min(lost):g}: name another"
                )
        samples = _with_channels(_open(data, key, limit, crop), channel_axis)
        if sides is not None:
            common = {"levels": times, "noise": noise, "method": method, "center": _center(center), "seed": seed}
            given = _options(
                method, _method_options(k, queries, surrogates, calibrate, permutations, features, shrinkage)
            )
            scans = _sizes_with_bar(samples, workers, sides, how, refine=refine, **common, **given)
            _keep_sizes(scans, out, plot, overwrite=overwrite)
            return
        try:
            scan = _scan_with_bar(
                samples,
                workers,
                levels=times,
                widths=buffers,
                noise=noise,
                method=method,
                center=_center(center),
                radius=radius,
                reach=reach,
                seed=seed,
                resume=earlier,
                refine=refine,
                **_options(
                    method, _method_options(k, queries, surrogates, calibrate, permutations, features, shrinkage)
                ),
            )
        except ScanInterrupted as interrupt:
            _keep(interrupt.partial, out, "Interrupted")
            raise typer.Exit(130) from None
        except ScanFailed as failure:
            _keep(failure.partial, out, "Failed")
            raise
        # What was computed is safe before anything is printed: a terminal may be gone by then.
        if out is not None:
            try:
                scan.save(out, overwrite=overwrite)
            except OSError as error:
                _keep(scan, out, "Not saved as asked")
                raise OSError(f"the scan could not be written to {out}: {error}") from error
        if plot is not None:
            save_plot(scan, plot, overwrite=overwrite)
        _print_scan(scan)
        console = _console()
        for target in (out, plot):
            if target is not None:
                console.print(f"Wrote {target}")
        if out is None:
            console.print("Nothing was saved: give --out FILE.nc to keep the scan.")


@app.command()
def show(file: ScanFile, debug: Debug = False) -> None:
    """Print a saved scan as tables."""
    with _errors(debug):
        from cmi.result import PhaseScan

        _print_scan(PhaseScan.load(file))


@app.command()
def plot(
    files: Annotated[
        list[Path],
        typer.Argument(help="A scan file that run wrote, or those of several sizes.", show_default=False),
    ],
    kind: Annotated[
        str, typer.Option(help="map: the CMI map and xi; decay: the CMI against r, with the fitted forms.")
    ] = "map",
    out: Annotated[
        Path | None,
        typer.Option(
            help="The picture (.png, .pdf, .svg).  [default: the scan's name with .png]", show_default=False
        ),
    ] = None,
    overwrite: Overwrite = False,
    debug: Debug = False,
) -> None:
    """Draw a saved scan into a picture, or where the curves of several sizes cross and fall on one."""
    with _errors(debug):
        from cmi.plot import save_plot, save_sizes
        from cmi.result import PhaseScan

        if kind not in ("map", "decay"):
            raise ValueError(f"--kind takes map or decay, got {kind!r}")
        file = files[0]
        target = file.with_suffix(".png") if out is None else out
        for each in files:
            if target.resolve() == each.resolve():
                raise ValueError(f"the picture would replace the scan {each.name}: name another file with --out")
        if len(files) > 1:
            save_sizes(_of_several_sizes(files), target, overwrite=overwrite)
        else:
            save_plot(PhaseScan.load(file), target, kind="decay" if kind == "decay" else "map", overwrite=overwrite)
        _console().print(f"Wrote {target}")


@app.command()
def transition(
    files: Annotated[
        list[Path],
        typer.Argument(help="Scan files of several sizes, as run --sizes wrote them.", show_default=False),
    ],
    debug: Debug = False,
) -> None:
    """Say whether saved scans of several sizes show a transition."""
    with _errors(debug):
        from cmi.report import sizes_report

        _console().print(sizes_report(_of_several_sizes(files)))


@app.command()
def info(data: Data, key: Key = None, limit: Limit = None, crop: Crop = None, debug: Debug = False) -> None:
    """Describe a data set and say which method fits."""
    with _errors(debug):
        from cmi.report import data_report

        _console().print(data_report(_open(data, key, limit, crop)))


def main() -> None:
    """Run the command line."""
    app()


def _version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        typer.echo(f"phase-scan {version('phase-scan')}")
        raise typer.Exit


@app.callback()
def _general(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version and exit.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    """Tell at which noise levels denoising is a local problem, how local, and where it is not."""


def _open(data: str, key: str | None, limit: int | None, crop: str | None) -> SampleSet:
    from cmi.data import open_dataset

    samples = open_dataset(data, key=key, limit=limit)
    return samples if crop is None else samples.cropped(crop)


def _console(*, stderr: bool = False) -> Console:
    from rich.console import Console

    # File names are not markup. Pipes and files have no width: take the room that a wide table needs.
    plain: dict[str, Any] = {"markup": False, "emoji": False, "highlight": False, "soft_wrap": True}
    console = Console(stderr=stderr, **plain)
    return console if console.is_terminal else Console(stderr=stderr, width=220, **plain)


def _print_scan(scan: PhaseScan) -> None:
    from cmi.report import scan_report

    console = _console()
    console.print(scan_report(scan, console.width))


def _scan_with_bar(samples: SampleSet, workers: int, **arguments: Any) -> PhaseScan:
    from cmi.scan import phase_scan

    total = len(arguments["levels"]) + arguments["refine"]
    with _bar("noise levels", total) as advance, processes(workers) as executor:
        return phase_scan(samples, executor=executor, progress=advance, **arguments)


@contextmanager
def _bar(what: str, total: int) -> Iterator[Callable[[int, int], None]]:
    """A progress bar on stderr, where that is a terminal."""
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn(what),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    console = _console(stderr=True)
    shown = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
    with shown as bar:
        task = bar.add_task("scan", total=total)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _sizes_with_bar(
    samples: SampleSet, workers: int, sides: list[int], how: Literal["crop", "block"], **arguments: Any
) -> dict[float, PhaseScan]:
    from cmi.sizes import scan_sizes

    total = (len(arguments["levels"]) + arguments["refine"]) * len(sides)
    with _bar("levels of all sizes", total) as advance, processes(workers) as executor:
        return scan_sizes(samples, sides, how=how, executor=executor, progress=advance, **arguments)


def _keep_sizes(scans: dict[float, PhaseScan], out: Path | None, plot: Path | None, *, overwrite: bool) -> None:
    """Save, draw and print the scans of several sizes."""
    from cmi.plot import save_sizes
    from cmi.report import sizes_report

    written = []
    for size, scan in scans.items():
        target = _of_size(out, int(size))
        if target is not None:
            scan.save(target, overwrite=overwrite)
            written.append(target)
    if plot is not None:
        save_sizes(scans, plot, overwrite=overwrite)
        written.append(plot)
    console = _console()
    console.print(sizes_report(scans))
    for target in written:
        console.print(f"Wrote {target}")
    if out is None:
        console.print("Nothing was saved: give --out FILE.nc to keep the scans, each as FILE.L5.nc, ...")


def _of_size(out: Path | None, side: int) -> Path | None:
    """The file of one of several sizes."""
    return None if out is None else out.with_name(f"{out.stem}.L{side}{out.suffix}")


def _of_several_sizes(files: list[Path]) -> dict[float, PhaseScan]:
    from cmi.result import PhaseScan

    scans: dict[float, PhaseScan] = {}
    for file in files:
        scan = PhaseScan.load(file)
        size = scan.config["data"].get("size")
        if size is None:
            raise ValueError(f"{file.name} is no scan of one of several sizes: make them with run --sizes")
        if float(size) in scans:
            raise ValueError(f"{file.name} has the same size as another file, {size}")
        scans[float(size)] = scan
    return scans


def _only_for_one_size(given: dict[str, Any]) -> None:
    for flag, value in given.items():
        if value is not None:
            raise ValueError(f"{flag} follows from --sizes: leave it out")


def _sizes(text: str | None) -> tuple[Literal["crop", "block"], list[int] | None]:
    """Read 5,15,25 or block:5,10,20."""
    if text is None:
        return "crop", None
    how, _, numbers = text.rpartition(":")
    try:
        if how not in ("", "crop", "block"):
            raise ValueError
        return "block" if how == "block" else "crop", [int(part) for part in numbers.split(",")]
    except ValueError:
        raise ValueError(f"--sizes takes sides in pixels, as 5,15,25 or block:5,10,20; got {text!r}") from None


def _method_options(
    k: int | None,
    queries: int | None,
    surrogates: int | None,
    calibrate: bool,
    permutations: int | None,
    features: str | None,
    shrinkage: str | None,
) -> dict[str, tuple[str, Any]]:
    """What was given for the method: by its flag the option's name and value."""
    return {
        "--k": ("k", k),
        "--queries": ("queries", queries),
        "--surrogates": ("surrogates", surrogates),
        "--calibrate": ("calibrate", calibrate or None),
        "--permutations": ("n_permutations", permutations),
        "--features": ("features", _features(features)),
        "--shrinkage": ("shrinkage", _shrinkage(shrinkage)),
    }


def _keep(partial: PhaseScan, out: Path | None, what: str) -> None:
    """Save a scan that was cut short beside its target, under a name that overwrites nothing, and say so."""
    import signal
    import tempfile

    finished, total = int(partial.dataset.finished.sum()), partial.dataset.sizes["t"]
    console = _console(stderr=True)
    state = f"{what} with {finished} of {total} levels finished"
    if out is None or finished == 0:
        why = "nothing was finished" if finished == 0 else "there is no --out to keep it in"
        console.print(f"{state}; {why}.")
        return
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # a second Ctrl-C must not undo the first
    for folder in (out.parent, Path.cwd(), Path(tempfile.gettempdir())):
        for attempt in range(1000):
            target = folder / f"{out.stem[:200]}.partial{attempt or ''}{out.suffix}"
            try:
                partial.save(target)
            except FileExistsError:
                continue
            except OSError:
                break
            console.print(f"{state}, kept in {target}; run the same command with --resume {target} to go on.")
            return
    console.print(f"{state}, and no folder could be written to: they are lost.")


def _check_targets(out: Path | None, plot: Path | None, resume: Path | None, *, overwrite: bool) -> None:
    """Check the outputs before any work is done for them."""
    from cmi.output import check_output

    for target in (out, plot):
        if target is not None:
            check_output(target, overwrite=overwrite)
    if out is not None and out.suffix.lower() != ".nc":
        raise ValueError(f"--out takes the name of a netCDF file, ending in .nc, got {str(out)!r}")
    if plot is not None:
        if plot.suffix.lower() not in (".png", ".pdf", ".svg"):
            raise ValueError(f"{str(plot)!r} has no suffix of a picture: use .png, .pdf or .svg")
        if resume is not None and plot.resolve() == resume.resolve():
            raise ValueError("--plot would replace the scan to resume: name another file")


def _options(method: str, given: dict[str, tuple[str, Any]]) -> dict[str, Any]:
    """Options of the method that were given, by name; those of another method are an error."""
    from cmi.methods import METHODS

    options = {}
    for flag, (name, value) in given.items():
        if value is None:
            continue
        takers = [known.name for known in METHODS.values() if name in known.options]
        if method in METHODS and method not in takers:
            raise ValueError(f"{flag} is for --method {' and '.join(takers)}, not {method}")
        options[name] = value
    return options


def _features(text: str | None) -> str | None:
    if text is not None and text not in ("regression", "pca"):
        raise ValueError(f"--features takes regression or pca, got {text!r}")
    return text


def _shrinkage(text: str | None) -> float | str | None:
    try:
        return None if text is None else float(text)
    except ValueError:
        return text


def _with_channels(samples: SampleSet, text: str | None) -> SampleSet:
    """Replace the guess of the channel axis by what was asked for."""
    from dataclasses import replace

    if text is None:
        return samples
    if text == "none":
        return replace(samples, channel_axis=None)
    try:
        return replace(samples, channel_axis=int(text))
    except ValueError:
        raise ValueError(f"--channel-axis takes a whole number or none, got {text!r}") from None


def _levels(text: str) -> list[float]:
    import numpy as np

    parts = text.split(":")
    try:
        if len(parts) == 1:
            return [float(part) for part in text.split(",")]
        start, stop, count = float(parts[0]), float(parts[1]), int(parts[2])
        if len(parts) > 3 or not 1 <= count <= 10_000 or not np.isfinite([start, stop]).all():
            raise ValueError
    except (ValueError, IndexError):
        raise ValueError(
            f"--levels takes start:stop:count, as in 0:1:11 (count up to 10000), or a list as in 0.1,0.5; got "
            f"{text!r}"
        ) from None
    return [float(t) for t in np.linspace(start, stop, count)]


def _widths(text: str | None) -> range | None:
    if text is None:
        return None
    try:
        numbers = [int(part) for part in text.split(":")]
        first, last = numbers if len(numbers) == 2 else (numbers[0], *numbers)[:2] if len(numbers) == 1 else ()
    except ValueError:
        raise ValueError(f"--widths takes first:last, as in 1:12, both included; got {text!r}") from None
    if last < first:
        raise ValueError(f"--widths takes first:last with first <= last; got {text!r}")
    return range(first, last + 1)


def _center(text: str | None) -> list[int] | None:
    if text is None:
        return None
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise ValueError(f"--center takes whole numbers from 0, as in 13,13; got {text!r}") from None


@contextmanager
def _errors(debug: bool) -> Iterator[None]:
    """Turn exceptions into one line on stderr and an exit code: 1 for an error, 130 for an interrupt."""
    try:
        yield
    except (typer.Exit, typer.Abort):
        raise
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)  # noqa: T201
        raise typer.Exit(130) from None
    except Exception as error:
        if debug:
            raise
        expected = isinstance(error, (ValueError, TypeError, OSError, ImportError, MemoryError))
        text = " ".join(str(error).split()) or type(error).__name__
        text = text.replace("n_permutations", "--permutations")
        prefix = "Error" if expected else f"Unexpected {type(error).__name__}"
        print(f"{prefix}: {text}", file=sys.stderr)  # noqa: T201
        if not expected:
            print("This is a bug in phase-scan; --debug shows where.", file=sys.stderr)  # noqa: T201
        raise typer.Exit(1) from None


if __name__ == "__main__":
    main()

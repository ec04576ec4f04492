"""The command line: phase-scan run, show, check, plot, transition, info, and the commands of denoise.

Heavy imports happen inside the commands, so that help texts and mistyped options answer at once.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import cmi.flags as flags
from cmi.denoise_commands import denoise
from cmi.position_run import load, run_positions
from cmi.scan_files import check_targets, default_picture, of_several_sizes, scan_data, to_resume
from cmi.scan_run import draw_scans, print_scans, run_scans, several
from cmi.screen import bar, console, errors
from cmi.workers import signals, uninterrupted
from cmi.workers import workers as processes

if TYPE_CHECKING:
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

app.add_typer(denoise)

_DATA_HELP = (
    "A data file (.npy .npz .h5 .zarr .pt .csv .parquet, IDX as MNIST names them), a folder of images, the "
    "embedded set digits, or a solvable model with its parameters, as exact:chain?L=25&n=5000 (chain, field, "
    "hidden-markov, cat, repetition, loops)."
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
        str,
        typer.Option(
            help="Estimator: gaussian, copula, ksg, mixture or posterior; for t = 0 or flip noise also discrete."
        ),
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
    position: Annotated[
        str | None,
        typer.Option(
            help="all: a map of the CMI with A every pixel in turn (see --stride); a file of its own kind.",
            show_default=False,
        ),
    ] = None,
    stride: Annotated[
        int | None,
        typer.Option(help="For --position all: every so many pixels.  [default: 1]", show_default=False),
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
            help="Average over so many samples, drawn at random: ksg, mixture, posterior (held out).  "
            "[default: all; mixture 5000; posterior one in six, at most 10000]",
            show_default=False,
        ),
    ] = None,
    surrogates: Annotated[
        int | None,
        typer.Option(
            help="Gaussian data sets on which ksg and posterior measure their bias; each takes as long again.  "
            "[default: 1; posterior 0]",
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
    train_minutes: Annotated[
        float | None,
        typer.Option(help="About how long to train the network, for posterior.  [default: 6]", show_default=False),
    ] = None,
    folds: Annotated[
        int | None,
        typer.Option(
            help="Train so many networks, so that every sample is held out once, for posterior.  [default: one "
            "network, and at most one sample in six]",
            show_default=False,
        ),
    ] = None,
    network: Annotated[
        Path | None,
        typer.Option(
            help="File of the network, for posterior: training is kept there and goes on from there.  [default: "
            "OUT.network.pt beside --out OUT.nc]",
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
            help="Scan several sizes, as 5,15,25 pixels around the centre (crops), or block:5,10,20 (block means); "
            "--out FILE.nc then writes FILE.L5.nc, FILE.L15.nc, ...",
            show_default=False,
        ),
    ] = None,
    debug: Debug = False,
) -> None:
    """Scan a data set: CMI map, Markov length, verdict."""
    with errors(debug), signals():
        out, plot, resume = (None if path is None else path.expanduser() for path in (out, plot, resume))
        how, sides = flags.sizes(sizes)
        everywhere = flags.everywhere(position, stride)
        every: list[float | None] = [None] if sides is None else [*sides]
        check_targets(out, plot, resume, every, inputs=[data], overwrite=overwrite)
        if workers < 1:
            raise ValueError(f"--workers must be at least 1, got {workers}")
        arguments: dict[str, Any] = {
            "levels": flags.levels(levels),
            "widths": flags.widths(widths),
            "noise": noise,
            "method": method,
            "center": flags.center(center),
            "radius": radius,
            "reach": reach,
            "seed": seed,
            "refine": refine,
        }
        if sides is not None:
            flags.only_for_one_size({"--widths": widths, "--radius": radius or None, "--reach": reach})
        if everywhere:
            flags.only_for_one_position(
                {"--center": center, "--radius": radius or None, "--refine": refine or None, "--sizes": sizes}
            )
            earlier = {}
        else:
            earlier = to_resume(resume, out, every, arguments["levels"] if refine == 0 else None)
        samples = flags.with_channels(_open(data, key, limit, crop), channel_axis)
        given = flags.method_options(k, queries, surrogates, calibrate, permutations, features, shrinkage)
        given |= flags.training_options(train_minutes, folds, network)
        arguments |= flags.options(method, given, places=everywhere > 0)
        if network is None and out is not None and flags.keeps_network(method):
            arguments["network"] = str(out.with_suffix(".network.pt"))
        if everywhere:
            for name in ("center", "radius", "refine"):
                del arguments[name]
            if widths is None:
                del arguments["widths"]
            written = run_positions(
                samples, workers, out, plot, resume, overwrite=overwrite, stride=everywhere, **arguments
            )
            _say(written, out, "map")
            return
        written = run_scans(
            samples, workers, out, plot, resume, sides, how, earlier=earlier, overwrite=overwrite, **arguments
        )
        _say(written, out, "scan" if sides is None else "scans, each as FILE.L5.nc, ...")


@app.command()
def show(file: ScanFile, debug: Debug = False) -> None:
    """Print a saved scan as tables."""
    with errors(debug):
        from cmi.result import PhaseScan

        found = load(file)
        if isinstance(found, PhaseScan):
            print_scans({None: found})
            return
        from cmi.position_report import positions_report

        console().print(positions_report(found))


@app.command()
def check(
    file: ScanFile,
    data: Annotated[
        str | None,
        typer.Argument(
            help="The data of the scan, as run took them; crop, limit and size are those of the scan.  [default: "
            "what the scan names, here or beside it]",
            show_default=False,
        ),
    ] = None,
    levels: Annotated[
        str | None,
        typer.Option(
            help="Finished levels at which altered data are scanned, as for run.  [default: all but pure noise]",
            show_default=False,
        ),
    ] = None,
    width: Annotated[
        int | None,
        typer.Option(
            help="Buffer width r beyond which C is altered.  [default: where the CMI is most errors above 0]",
            show_default=False,
        ),
    ] = None,
    key: Key = None,
    seed: Annotated[int, typer.Option(help="Seed of the permutation.")] = 0,
    workers: Annotated[int, typer.Option(help="Processes. The result does not depend on it.")] = 1,
    debug: Debug = False,
) -> None:
    """Check a saved scan where its CMI is known: with C permuted or blank, in pure noise, and in wider buffers.

    Scans the altered data by the same method with the same options, which takes about twice as long as the scan (a
    method that trains a network trains two more), and changes no file. Exit codes: 0 all passed, 1 a check failed
    or an error in one line, 2 a mistyped option, 130 interrupted.
    """
    with errors(debug), signals():
        if workers < 1:
            raise ValueError(f"--workers must be at least 1, got {workers}")
        with uninterrupted():
            from cmi.report import check_report
            from cmi.result import PhaseScan
            from cmi.self_check import check_scan
        file = file.expanduser()
        scan = PhaseScan.load(file)
        times = None if levels is None else flags.levels(levels)
        samples = _of_scan(scan, file, data, key)
        total = 2 * int(scan.dataset.finished.sum())
        with bar("altered levels", total) as advance, processes(workers) as executor:
            found = check_scan(
                scan,
                samples,
                levels=times,
                width=width,
                seed=seed,
                executor=executor,
                progress=advance,
                training=advance.training,
            )
        console().print(check_report(scan, found))
        if not found.passed:
            raise typer.Exit(1)


@app.command()
def plot(
    files: Annotated[
        list[Path],
        typer.Argument(help="A scan file that run wrote, or those of several sizes.", show_default=False),
    ],
    kind: Annotated[
        str | None,
        typer.Option(
            help="Of one scan: map, the CMI map and xi; decay, the CMI against r with the fitted forms; or bias, "
            "what the method reads too much on Gaussian data. Of several: sizes, where they cross and fall on one "
            "curve.  [default: map or sizes]",
            show_default=False,
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="The picture (.png, .pdf, .svg).  [default: FILE.png, of several sizes FILE.sizes.png]",
            show_default=False,
        ),
    ] = None,
    overwrite: Overwrite = False,
    debug: Debug = False,
) -> None:
    """Draw a saved scan into a picture, or where the curves of several sizes cross and fall on one."""
    with errors(debug):
        from cmi.result import PhaseScan

        if kind not in (None, "map", "decay", "bias", "sizes"):
            raise ValueError(f"--kind takes map, decay, bias or sizes, got {kind!r}")
        if kind is not None and (kind == "sizes") != (len(files) > 1):
            wanted = "the scans of several sizes" if kind == "sizes" else "one scan"
            raise ValueError(f"--kind {kind} draws {wanted}, got {len(files)} file{'s'[: len(files) > 1]}")
        target = default_picture(files) if out is None else out
        for each in files:
            if target.resolve() == each.resolve():
                raise ValueError(f"the picture would replace the scan {each.name}: name another file with --out")
        found = load(files[0]) if len(files) == 1 else None
        if found is None or isinstance(found, PhaseScan):
            scans: dict[float | None, PhaseScan]
            scans = of_several_sizes(files) if found is None else {None: found}
            draw_scans(scans, target, overwrite=overwrite, kind=kind or "map")
        else:
            from cmi.position_plot import save_positions

            if kind is not None:
                raise ValueError(f"{files[0].name} is a map of positions: leave --kind out")
            save_positions(found, target, overwrite=overwrite)
        console().print(f"Wrote {target}")


@app.command()
def transition(
    files: Annotated[
        list[Path],
        typer.Argument(help="Scan files of several sizes, as run --sizes wrote them.", show_default=False),
    ],
    debug: Debug = False,
) -> None:
    """Say whether saved scans of several sizes show a transition."""
    with errors(debug):
        from cmi.report import sizes_report

        console().print(sizes_report(several(of_several_sizes(files))))


@app.command()
def info(data: Data, key: Key = None, limit: Limit = None, crop: Crop = None, debug: Debug = False) -> None:
    """Describe a data set and say which method fits."""
    with errors(debug):
        from cmi.report import data_report

        console().print(data_report(_open(data, key, limit, crop)))


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


def _of_scan(scan: PhaseScan, file: Path, data: str | None, key: str | None) -> SampleSet:
    """Open the data of a scan again, cut as they were."""
    from cmi.sizes import resized

    about = scan.config["data"]
    if data is None:
        data = scan_data(about, file)
    limit = about["n_samples"] if (about.get("total") or 0) > about["n_samples"] else None
    samples = _open(data, key, limit, None)
    return resized(samples, about)


def _say(written: list[Path], out: Path | None, what: str) -> None:
    """Name the files that were written."""
    for target in written:
        console().print(f"Wrote {target}")
    if out is None:
        console().print(f"Nothing was saved: give --out FILE.nc to keep the {what}.".replace("....", "..."))


if __name__ == "__main__":
    main()

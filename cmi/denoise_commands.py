"""The commands phase-scan denoise train, score, certify, plan and sample.

Heavy imports happen inside the commands, so that help texts and mistyped options answer at once.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import cmi.flags as flags
from cmi.checks import LARGEST_SEED
from cmi.screen import bar, console, errors
from cmi.workers import signals

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from torch import Tensor

    from cmi.denoise import Denoiser, Schedule

__all__ = ["denoise"]

denoise = typer.Typer(
    name="denoise",
    help="Train local and global denoisers, score them, bound what locality costs, plan and sample with them.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

_STEPS = 50

Data = Annotated[str, typer.Argument(help="A data set, as run takes it.", show_default=False)]
Networks = Annotated[list[Path], typer.Argument(help="Files that denoise train wrote.", show_default=False)]
Scores = Annotated[Path, typer.Argument(help="A file that denoise score wrote.", show_default=False)]
Key = Annotated[str | None, typer.Option(help="Which array of a file with several.", show_default=False)]
Limit = Annotated[int | None, typer.Option(help="Use the first so many samples only.", show_default=False)]
Crop = Annotated[str | None, typer.Option(help="Keep start:stop of every axis, as in 1:,1:.", show_default=False)]
Channels = Annotated[
    str | None,
    typer.Option(
        "--channel-axis",
        help="Axis of a sample that holds channels, or none.  [default: guessed, and said]",
        show_default=False,
    ),
]
Seed = Annotated[int, typer.Option(help="Seed of the random numbers.", min=0, max=LARGEST_SEED)]
Device = Annotated[str, typer.Option(help="auto (CUDA, MPS or the CPU), or a device of torch.")]
Steps = Annotated[
    int | None,
    typer.Option(help="Steps of the sampler, even in t from 1 to 0.  [default: 50]", show_default=False, min=1),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace output files that exist.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
Until = Annotated[
    float | None,
    typer.Option(
        help="Bound what images with this much noise left cost.  [default: what the plan is for, or else 0, the "
        "last level above 0]",
        show_default=False,
    ),
]
Planned = Annotated[
    Path | None,
    typer.Option("--plan", help="A plan that denoise plan wrote; it has steps of its own.", show_default=False),
]
Use = Annotated[
    str | None,
    typer.Option(
        "--schedule",
        help="Denoisers one after the other, from noise to data: local,global,local.",
        show_default=False,
    ),
]
Switch = Annotated[
    str | None,
    typer.Option(help="The t at which each but the first takes over: 0.5,0.2.", show_default=False),
]


@denoise.command()
def train(
    data: Data,
    out: Annotated[
        Path,
        typer.Option(
            help="File of the network; a training that was interrupted goes on from there.", show_default=False
        ),
    ],
    radius: Annotated[
        int | None,
        typer.Option(help="A local network that sees so far.  [default: a global one]", show_default=False),
    ] = None,
    minutes: Annotated[float, typer.Option(help="About how long to train.")] = 5.0,
    steps: Annotated[
        int | None,
        typer.Option(help="Steps of training in place of minutes: as many on every machine.", show_default=False),
    ] = None,
    width: Annotated[int, typer.Option(help="Channels of the network, at the finest scale.")] = 32,
    noise: Annotated[
        str, typer.Option(help="Noise schedule: interpolation, vp-linear, vp-cosine or ve.")
    ] = "interpolation",
    key: Key = None,
    limit: Limit = None,
    crop: Crop = None,
    channel_axis: Channels = None,
    seed: Seed = 0,
    device: Device = "auto",
    debug: Debug = False,
) -> None:
    """Train a denoiser. One image in six (at most 10,000) is set aside, to score and compare by."""
    with errors(debug), signals():
        from cmi.denoise import GlobalDenoiser, LocalDenoiser, set_aside, train_denoiser
        from cmi.denoise.checkpoint import is_trained
        from cmi.denoise.trainer import TrainingError

        images, notes = _images(data, key, limit, crop, channel_axis)
        rest, aside = set_aside(images, seed)
        import torch  # after cmi.denoise, which says how to install it

        torch.manual_seed(seed)
        shape = tuple(images.shape[1:])
        net = (
            GlobalDenoiser(shape, noise, width=width)
            if radius is None
            else LocalDenoiser(shape, radius, noise, width=width)
        )
        about = {"data": data, "seed": seed}
        there = is_trained(out)
        try:
            with bar("training", 1) as advance:
                found = train_denoiser(
                    net,
                    rest,
                    minutes=minutes,
                    steps=steps,
                    seed=seed,
                    device=device,
                    file=out,
                    about=about,
                    progress=advance.training,
                )
        except KeyboardInterrupt:
            if out.exists():
                console().print(f"The training is kept in {out}, where the same command goes on.")
            raise
        except TrainingError as error:
            raise ValueError(str(error)) from error
        _say(notes)
        console().print(
            f"{net.label}: {found.step} steps on {len(rest)} images to a held-out loss of {found.best:.4f}; "
            f"{len(aside)} images are set aside."
        )
        console().print(f"{out} was trained already, as asked for: it is as it was." if there else f"Wrote {out}")


@denoise.command()
def score(
    data: Data,
    networks: Networks,
    out: Annotated[Path, typer.Option(help="Write the scores to this netCDF file.", show_default=False)],
    levels: Annotated[
        str, typer.Option(help="Noise levels t above 0: start:stop:count or a list; those of 50 steps by default.")
    ] = "0.02:1:50",
    reference: Annotated[
        str | None,
        typer.Option(help="What the others are compared with.  [default: the global one]", show_default=False),
    ] = None,
    plot: Annotated[
        Path | None, typer.Option(help="Draw the gaps into this picture (.png, .pdf, .svg).", show_default=False)
    ] = None,
    many: Annotated[
        int,
        typer.Option(
            "--images",
            help="Score so many of the images that no network was trained on, drawn at random: errors fall with "
            "their square root.",
            min=1,
        ),
    ] = 2000,
    key: Key = None,
    limit: Limit = None,
    crop: Crop = None,
    channel_axis: Channels = None,
    seed: Seed = 0,
    device: Device = "auto",
    overwrite: Overwrite = False,
    debug: Debug = False,
) -> None:
    """Score denoisers on images that none was trained on: losses by level, and how far from the global one."""
    with errors(debug), signals():
        from cmi.denoise import save_scores, score_denoisers
        from cmi.denoise.images import some_of
        from cmi.denoise.report import scores_report
        from cmi.denoise.scores import LEAST_SCORED

        _check_outputs(out, plot, overwrite, data, *networks, ending=".nc")
        times = flags.levels(levels)
        nets = _networks(networks)
        every, notes = _images(data, key, limit, crop, channel_axis)
        unseen, held_out = _unseen(every, nets, least=LEAST_SCORED)
        images = some_of(unseen, many, seed)
        with bar("noise levels", len(times)) as advance:
            found = score_denoisers(
                nets, images, times, reference=reference, seed=seed, device=device, progress=advance
            )
        save_scores(found, out, overwrite=overwrite)
        _say(notes)
        console().print(scores_report(found))
        drawn = f"{len(images)} at random of those there are: " * (len(images) < len(unseen))
        console().print(f"Scored by {drawn}{held_out}")
        if plot is not None:
            from cmi.denoise import plot_gaps

            _draw(plot_gaps(found), plot, overwrite)
        console().print(f"Wrote {out}")


@denoise.command()
def certify(
    scores: Scores,
    plan: Planned = None,
    use: Use = None,
    switch: Switch = None,
    steps: Steps = None,
    until: Until = None,
    debug: Debug = False,
) -> None:
    """Bound what a schedule of denoisers costs the SDE sampler, in nats more than the global one in every step."""
    with errors(debug):
        from cmi.denoise import certify as certified
        from cmi.denoise import load_scores
        from cmi.denoise.report import certificate_report

        found, schedule = load_scores(scores), _schedule(plan, use, switch, steps)
        if schedule is None:
            raise ValueError("give --plan, or --schedule, as in local,global,local, and --switch, as in 0.5,0.2")
        console().print(certificate_report(certified(schedule, found, until=until)))


@denoise.command()
def plan(
    scores: Scores,
    nats: Annotated[
        float | None, typer.Option(help="The most that the certificate may be.", show_default=False)
    ] = None,
    share: Annotated[
        float | None,
        typer.Option(
            help="In its place: the most operations, as a share of the global one's in every step.",
            show_default=False,
        ),
    ] = None,
    steps: Steps = None,
    until: Until = None,
    below: Annotated[
        str | None,
        typer.Option(
            help="The network of the steps that no budget is for.  [default: the global one]", show_default=False
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Write the plan to this file (.json).", show_default=False)
    ] = None,
    plot: Annotated[
        Path | None, typer.Option(help="Draw it into this picture (.png, .pdf, .svg).", show_default=False)
    ] = None,
    scan: Annotated[
        Path | None,
        typer.Option(help="Draw the Markov length of this scan file too.", show_default=False),
    ] = None,
    overwrite: Overwrite = False,
    debug: Debug = False,
) -> None:
    """Find the cheapest denoiser for every step, so that the certificate stays within a budget."""
    with errors(debug):
        from cmi.denoise import load_scores, plan_schedule, plot_plan, save_schedule, time_grid
        from cmi.denoise.plot import levels_on
        from cmi.denoise.report import plan_report
        from cmi.denoise.scores import noise_of
        from cmi.result import PhaseScan

        if (nats is None) == (share is None):
            raise ValueError("give one budget: --nats, or --share of the operations")
        if share is not None and not 0.0 < share < float("inf"):
            raise ValueError(f"--share is a share of the operations, above 0, got {share:g}")
        if scan is not None and plot is None:
            raise ValueError("--scan is drawn into the picture of --plot: give that too")
        _check_outputs(out, plot, overwrite, scores, scan, ending=".json")
        found, times = load_scores(scores), time_grid(steps or _STEPS)
        length = None if scan is None else PhaseScan.load(scan)
        if length is not None:
            levels_on(noise_of(found), length)  # before the work: it has a place on the axis
        whole = int(found.flops.sel(denoiser=found.attrs["reference"])) * (steps or _STEPS)
        made = plan_schedule(
            found,
            times,
            budget_nats=nats,
            budget_flops=None if share is None else share * whole,
            until=until or 0.0,
            below=below,
        )
        console().print(plan_report(made))
        if out is not None:
            save_schedule(made.schedule, out, overwrite=overwrite)
            console().print(f"Wrote {out}")
        if plot is not None:
            _draw(plot_plan(made, found, length), plot, overwrite)


@denoise.command()
def sample(
    networks: Networks,
    plan: Planned = None,
    use: Use = None,
    switch: Switch = None,
    steps: Steps = None,
    count: Annotated[int, typer.Option(help="Images to draw.", min=1)] = 64,
    ode: Annotated[bool, typer.Option("--ode", help="Along the ODE, not the SDE.")] = False,
    order: Annotated[
        int,
        typer.Option(help="Of the sampler. 1: the SDE that certify bounds, DDIM with --ode.", min=1, max=2),
    ] = 2,
    out: Annotated[
        Path | None, typer.Option(help="Write the images to this file (.npy).", show_default=False)
    ] = None,
    plot: Annotated[
        Path | None, typer.Option(help="Draw up to 100 into this picture (.png, .pdf, .svg).", show_default=False)
    ] = None,
    compare: Annotated[
        str | None,
        typer.Option(
            help="Measure how far they are from the images of this data set that nothing was trained on.",
            show_default=False,
        ),
    ] = None,
    key: Key = None,
    limit: Limit = None,
    crop: Crop = None,
    channel_axis: Channels = None,
    seed: Seed = 0,
    device: Device = "auto",
    overwrite: Overwrite = False,
    debug: Debug = False,
) -> None:
    """Draw images with one denoiser, with several one after the other, or as planned."""
    with errors(debug), signals():
        import numpy as np

        from cmi.denoise import HybridDenoiser, Schedule, compare_images, plot_images, time_grid
        from cmi.denoise import sample as drawn_by
        from cmi.denoise.quality import check_comparison
        from cmi.denoise.report import quality_report
        from cmi.output import replacing

        _check_outputs(out, plot, overwrite, compare, plan, *networks, ending=".npy")
        nets, schedule = _networks(networks), _schedule(plan, use, switch, steps)
        if schedule is None and len(nets) > 1:
            raise ValueError("of several networks say which is used when: --plan, or --schedule and --switch")
        if schedule is None:
            schedule = Schedule.of_one(next(iter(nets)), time_grid(steps or _STEPS))
        if compare is None and (key, limit, crop, channel_axis) != (None, None, None, None):
            raise ValueError(
                "--key, --limit, --crop and --channel-axis are for the data set of --compare: give that too"
            )
        real, notes = None, list[str]()
        if compare is not None:
            every, notes = _images(compare, key, limit, crop, channel_axis)
            real, held_out = _unseen(every, nets, least=2 * count)
            check_comparison(count, next(iter(nets.values())).shape, real)
        with bar("calls of the denoiser", 1) as advance:
            images = drawn_by(
                HybridDenoiser(schedule, nets),
                count,
                kind="ode" if ode else "sde",
                order=2 if order == 2 else 1,
                seed=seed,
                device=device,
                progress=advance,
            )
        if out is not None:
            with replacing(out, overwrite=overwrite) as temporary, temporary.open("wb") as to:
                np.save(to, images.numpy())
            console().print(f"Wrote {out}")
        if plot is not None:
            _draw(plot_images(images[:100]), plot, overwrite)
        if real is not None:
            console().print(quality_report(compare_images(images, real, seed=seed)))
            console().print(f"Compared with {held_out}")
            _say(notes)
        if out is None and plot is None:
            console().print("Nothing was saved: give --out FILE.npy to keep the images, or --plot FILE.png.")


def _check_outputs(
    out: Path | None, plot: Path | None, overwrite: bool, *inputs: str | Path | None, ending: str
) -> None:
    """Before the work: nothing is replaced unasked, folders exist, and names have the endings of their kinds."""
    from cmi.figures import check_picture
    from cmi.output import check_outputs

    check_outputs((out, plot), inputs, overwrite=overwrite)
    if out is not None and out.suffix.lower() != ending:
        raise ValueError(f"--out takes the name of a {ending} file, got {str(out)!r}")
    if plot is not None:
        check_picture(plot)


def _draw(picture: Axes, plot: Path, overwrite: bool) -> None:
    from cmi.figures import save_figure

    save_figure(picture, plot, overwrite=overwrite)
    console().print(f"Wrote {plot}")


def _images(
    data: str, key: str | None, limit: int | None, crop: str | None, channel_axis: str | None
) -> tuple[Tensor, list[str]]:
    """The images of a data set, and what was made of it."""
    from cmi.data import open_dataset
    from cmi.denoise import images_of

    samples = open_dataset(data, key=key, limit=limit)
    samples = flags.with_channels(samples if crop is None else samples.cropped(crop), channel_axis)
    return images_of(samples), [f"{samples.name}: {note}." for note in samples.notes]


def _say(lines: list[str]) -> None:
    for line in lines:
        console().print(line)


def _networks(files: list[Path]) -> dict[str, Denoiser]:
    """By the names of the files without their suffix."""
    from cmi.denoise import load_denoiser

    found: dict[str, Denoiser] = {}
    for file in files:
        if file.stem in found:
            raise ValueError(f"two networks are named {file.stem}: rename a file")
        found[file.stem] = load_denoiser(file)
    return found


def _unseen(images: Tensor, nets: dict[str, Denoiser], least: int) -> tuple[Tensor, str]:
    """Those of the images that no network was trained on, as a rule what was set aside, and how many."""
    from cmi.denoise import unseen_images

    found = unseen_images(images, nets)
    if len(found) < least and len(found) < len(images):
        raise ValueError(
            f"{len(found)} of {len(images)} images are left, since a network was trained on the others, and this "
            f"takes at least {least}: take more of the set, or others"
        )
    if len(found) == len(images):
        return found, f"{len(images)} images, none of which a network is known to have been trained on."
    return found, f"{len(found)} of {len(images)} images; the others were seen in training."


def _schedule(plan: Path | None, use: str | None, switch: str | None, steps: int | None) -> Schedule | None:
    """The one that is asked for; None if there is none."""
    from cmi.denoise import Schedule, load_schedule, time_grid

    if plan is not None and (use is not None or switch is not None):
        raise ValueError("give --plan or --schedule, not both")
    if plan is not None and steps is not None:
        raise ValueError("a plan has steps of its own: leave --steps out")
    if plan is not None:
        return load_schedule(plan)
    if use is None:
        if switch is not None:
            raise ValueError("--switch says when the denoisers of --schedule take over: give that too")
        return None
    names = [name.strip() for name in use.split(",")]
    try:
        switches = [] if switch is None else [float(part) for part in switch.split(",")]
    except ValueError:
        raise ValueError(f"--switch takes numbers with commas between, as in 0.5,0.2; got {switch!r}") from None
    return Schedule.switched(names, switches, time_grid(steps or _STEPS))

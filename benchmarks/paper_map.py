"""The published CMI map of MNIST or Fashion-MNIST, and what this package reads of the same images.

    python benchmarks/paper_map.py --data FOLDER [--published FILE.csv] [--out FOLDER] [--minutes 6]
                                   [--methods posterior,mmse,mixture,gaussian,ksg,mine] [--mine-steps 5000]

FOLDER holds train-images-idx3-ubyte(.gz).  The protocol of the published map (Hu, Liu, Zhang, Gao,
arXiv:2508.06614): the 60,000 images for training, of MNIST without the first row and column, which are all but
empty; A the centre pixel; y = (1 - t) x + t z with t = 0, 0.1, ..., 1; B_r the square of side 2 r + 1 around A.
The published numbers are mutual informations of one network each, read on its own training images, three of
I(A:BC) and one of I(A:B_r); their CMI is the largest of the three less I(A:B_r), cut off at 0 (`mine.py` repeats
that protocol and takes its bias apart).

Here every method reads both terms of the same samples, and the error of their difference is paired.  The
networks of `posterior` and `mmse` are averaged over 10,000 images that they were not trained on. `mine` repeats
the published protocol at t = 0.3 with fewer steps (300,000 were published), and reads it six times on the way, on
its own images, as was published, and on 10,000 that it was not trained on.  Every scan is kept in --out, and one
that is there is not made again.  Prints tables, and draws `curves.png` and `maps.png`.
"""

from __future__ import annotations

import argparse
import csv
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cmi import PhaseScan, SampleSet, noise_schedule, open_dataset, phase_scan
from cmi.scan import data_of

if TYPE_CHECKING:
    from mine_protocol import Look

FloatArray = NDArray[np.float64]

LEVELS = tuple(round(0.1 * k, 1) for k in range(11))
WIDTHS = tuple(range(13))  # r = 0 is I(A:BC)
SHOWN = (0.1, 0.3, 0.5, 0.6)
METHODS: dict[str, dict[str, Any]] = {
    "posterior": {},
    "mmse": {},
    "mixture": {"queries": 4000},
    "gaussian": {},
    "ksg": {"features": "regression", "k": 20, "surrogates": 1},
}
TRAINED = ("posterior", "mmse")
LIMIT = {"ksg": 10_000}  # its time grows with n^1.5 or more
NEIGHBOURS = 5.0
MINE = "mine"
MINE_LEVEL, MINE_WIDTHS = 0.3, (1, 3)
MINE_HELD_OUT = 10_000
COLOURS = {
    "posterior": "#0072B2",
    "mixture": "#D55E00",
    "gaussian": "#009E73",
    "ksg": "#CC79A7",
    "mmse": "#E69F00",
}  # Okabe and Ito
_INK = "#222222"


@dataclass(frozen=True, eq=False)
class Published:
    """The published mutual informations, in nats: three runs of I(A:BC) (levels, 3), and I(A:B_r) (levels, 12)."""

    whole: FloatArray
    inner: FloatArray

    @classmethod
    def read(cls, file: Path) -> Published:
        """Read t, quantity, run or r, nats."""
        whole, inner = np.full((len(LEVELS), 3), np.nan), np.full((len(LEVELS), 12), np.nan)
        with file.open(newline="") as rows:
            for row in csv.DictReader(rows):
                at, which = LEVELS.index(round(float(row["t"]), 1)), int(row["run_or_r"])
                if row["quantity"] == "I(A:BC)":
                    whole[at, which] = float(row["nats"])
                else:
                    inner[at, which - 1] = float(row["nats"])
        return cls(whole, inner)

    @property
    def cmi(self) -> FloatArray:
        """Of r = 1..12 as it was published, but for the cut at 0."""
        return np.asarray(self.whole.max(axis=1, keepdims=True) - self.inner)

    @property
    def spread(self) -> FloatArray:
        """Standard deviation of the three runs, (levels,): what one network more would change."""
        return np.asarray(self.whole.std(axis=1, ddof=1))


def images(folder: Path) -> SampleSet:
    """The images to train on, without the first row and column if fewer than one in a hundred has ink there."""
    names = [folder / f"train-images-idx3-ubyte{end}" for end in (".gz", "")]
    file = next((name for name in names if name.is_file()), None)
    if file is None:
        raise SystemExit(f"the folder {str(folder)!r} holds no {names[1].name}, gzipped or not")
    data = open_dataset(file)
    x = data.samples
    ink = x[:, 0].any(axis=1) | x[:, :, 0].any(axis=1)
    return data.cropped("1:,1:") if ink.mean() < 0.01 else data


def kept_scan(
    name: str,
    data: SampleSet,
    out: Path,
    *,
    levels: Sequence[float] = LEVELS,
    widths: Sequence[int] = WIDTHS,
    seed: int = 0,
    **options: Any,
) -> PhaseScan:
    """Scan by a method, or take the scan that is there."""
    file = out / f"{name}.nc"
    if file.exists():
        return PhaseScan.load(file)
    options = {**METHODS[name], **options}
    if name in TRAINED:
        options["network"] = out / f"{name}.pt"
    if name in LIMIT and len(data.samples) > LIMIT[name]:
        keep = np.random.default_rng(seed).permutation(len(data.samples))[: LIMIT[name]]
        data = SampleSet(data.samples[np.sort(keep)], data.name, data.format, len(data.samples), crop=data.crop)
    times = [t for t in levels if t > 0.0 or name in ("posterior", "gaussian")]
    begun = time.perf_counter()
    found = phase_scan(data, levels=times, widths=widths, method=name, seed=seed, **options)
    print(f"{name}: {time.perf_counter() - begun:.0f} s", flush=True)
    found.save(file)
    return found


def mine(data: SampleSet, out: Path, steps: int, seed: int) -> list[dict[str, str]]:
    """Train the published networks for I(A:BC) and some I(A:B_r), or take the readings that are there."""
    file = out / "mine.csv"
    if not file.exists():
        from mine_network import MineSettings
        from mine_protocol import mine_information, square

        x, schedule = data_of(data)[0].values.reshape(data.samples.shape), noise_schedule("interpolation")
        order = np.random.default_rng(seed).permutation(len(x))
        held_out = min(MINE_HELD_OUT, len(x) // 6)
        rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(1,)))
        noisy = schedule.forward(x[order], MINE_LEVEL, rng).astype(np.float32)
        height, width = data.samples.shape[1:]
        centre = (height // 2, width // 2)
        rows = []
        for r in (None, *MINE_WIDTHS):
            seen = noisy if r is None else square(noisy, centre, r)
            looks = mine_information(
                seen[held_out:],
                centre,
                MineSettings(steps=steps),
                held_out=seen[:held_out],
                seed=seed,
                key=(r or 0, 0),
                progress=partial(_tell, r),
            )
            rows += [
                [r or 0, look.step, look.published, look.training, look.held_out, look.held_out_error]
                for look in looks
            ]
        with file.open("w", newline="") as to:
            writer = csv.writer(to)
            writer.writerow(["r", "steps", "published", "training", "held_out", "held_out_error"])
            writer.writerows(rows)
    with file.open(newline="") as rows_of:
        return list(csv.DictReader(rows_of))


def mine_table(readings: Sequence[Mapping[str, str]], scans: Mapping[str, PhaseScan]) -> None:
    """Print the readings of the published networks, after rising numbers of steps, beside the posterior's."""
    print(f"\nthe published networks at t = {MINE_LEVEL}, 10^-3 nats; 300,000 steps were published")
    print("            steps   as published   all its images   held out        posterior, held out")
    ours = curve(scans["posterior"], MINE_LEVEL)[0] if "posterior" in scans else np.full(len(WIDTHS), np.nan)
    for row in readings:
        r = int(row["r"])
        known = ours[0] - ours[r] if r else ours[0]
        published, training, held_out, error = (
            1e3 * float(row[key]) for key in ("published", "training", "held_out", "held_out_error")
        )
        print(
            f"{_information(r):9}{int(row['steps']):8,} {published:14.1f} {training:16.1f} "
            f"{held_out:10.1f}({error:.1f}) {1e3 * known:16.1f}"
        )


def _tell(r: int | None, look: Look) -> None:
    print(
        f"mine, {_information(r)}: {look.published:.4f} after {look.step:,} steps, {look.training:.4f} of all its "
        f"images, {look.held_out:.4f} held out",
        flush=True,
    )


def _information(r: int | None) -> str:
    """What a network of the published protocol reads."""
    return f"I(A:B_{r})" if r else "I(A:BC)"


def curve(found: PhaseScan, level: float) -> tuple[FloatArray, FloatArray]:
    """CMI and error of r = 0..12 at a level; NaN where it was not scanned."""
    data = found.dataset
    at = np.flatnonzero(np.isclose(data.t.values, level))
    if len(at) == 0:
        return np.full(len(WIDTHS), np.nan), np.full(len(WIDTHS), np.nan)
    return data.cmi.values[at[0]], data.stderr.values[at[0]]


def table(scans: Mapping[str, PhaseScan], published: Published | None) -> None:
    """Print I(A:BC), and the CMI at some widths, in 10^-3 nats with errors."""
    shown = (1, 2, 3, 6, 9, 12)
    print("\n10^-3 nats      " + "   I(A:BC)    " + "".join(f"   CMI r={r:<7}" for r in shown))
    for i, t in enumerate(LEVELS[:9]):
        if published is not None:
            whole, spread = published.whole[i].mean(), published.spread[i]
            cells = "".join(f"{1e3 * published.cmi[i, r - 1]:8.1f}      " for r in shown)
            print(f"t = {t:.1f} published {1e3 * whole:7.1f}({1e3 * spread:.0f})  {cells}")
        for name, found in scans.items():
            value, error = curve(found, t)
            if np.isfinite(value).any():
                cells = "".join(f"{1e3 * value[r]:8.2f}({1e3 * error[r]:.2f})" for r in shown)
                print(f"        {name:9} {1e3 * value[0]:7.1f}({1e3 * error[0]:.1f})  {cells}")
    if published is None or "posterior" not in scans:
        return
    data = scans["posterior"].dataset.sel(r=slice(1, None))
    gap = published.cmi - data.cmi.values
    error = np.hypot(data.stderr.values, np.sqrt(2.0) * published.spread[:, None])
    print(
        f"\npublished less posterior: {1e3 * np.nanmean(gap[1:7]):.0f} x 10^-3 nats on average of t = 0.1 to 0.6, "
        f"{1e3 * np.nanmax(gap):.0f} at most; beyond 3 errors (those of its runs, and ours) in "
        f"{int((np.abs(gap) > 3.0 * error).sum())} of {gap.size} cells"
    )


def draw_curves(scans: Mapping[str, PhaseScan], published: Published | None, title: str, file: Path) -> None:
    """CMI against r at four levels; bands are two standard errors, bars those of the spread of published runs."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, 5.2), layout="constrained")
    FigureCanvasAgg(figure)
    r = np.array(WIDTHS[1:])
    for ax, t in zip(figure.subplots(2, 2, sharex=True).flat, SHOWN, strict=True):
        if published is not None:
            i = LEVELS.index(t)
            error = np.full(len(r), 2.0 * np.sqrt(2.0) * published.spread[i])
            ax.errorbar(
                r,
                published.cmi[i],
                error,
                fmt="s",
                color="#777777",
                markersize=3.5,
                elinewidth=0.7,
                label="published",
            )
        for name, found in scans.items():
            value, error = (each[1:] for each in curve(found, t))
            if name == "mixture":  # with fewer neighbours in the widest buffer it knows nothing
                at = int(np.flatnonzero(np.isclose(found.dataset.t.values, t))[0])
                if found.dataset.neighbours.values[at, -1] < NEIGHBOURS:
                    continue
            ax.fill_between(r, value - 2 * error, value + 2 * error, color=COLOURS[name], alpha=0.25, linewidth=0.0)
            ax.plot(r, value, color=COLOURS[name], marker="o", markersize=2.5, linewidth=1.0, label=name)
        ax.axhline(0.0, color=_INK, linewidth=0.6)
        ax.set_title(f"t = {t:g}", fontsize=9, loc="left")
        ax.tick_params(labelsize=8)
    axes = figure.axes
    for ax in axes[2:]:
        ax.set_xlabel("buffer width r  [pixels]", fontsize=9)
    for ax in axes[::2]:
        ax.set_ylabel("I(A:C|B$_r$)  [nats]", fontsize=9)
    handles, labels = axes[-1].get_legend_handles_labels()  # every method answers at the highest level
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), fontsize=7, frameon=False)
    figure.suptitle(title, fontsize=9, x=0.01, ha="left")
    figure.savefig(file, dpi=200)


def draw_maps(scans: Mapping[str, PhaseScan], published: Published | None, title: str, file: Path) -> None:
    """Maps over t and r of published and posterior on one linear scale, cut off nowhere."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    panels: dict[str, FloatArray] = {} if published is None else {"published, not cut off at 0": published.cmi}
    panels |= {
        f"{name}, held out" if name == "posterior" else name: np.stack([curve(each, t)[0][1:] for t in LEVELS])
        for name, each in scans.items()
        if name in ("posterior", "gaussian")
    }
    figure = Figure(figsize=(7.2, 2.9), layout="constrained")
    FigureCanvasAgg(figure)
    if not panels:
        return
    top = max(float(np.nanmax(np.abs(values[1:]))) for values in panels.values())
    row = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for ax, (name, values) in zip(row, panels.items(), strict=True):
        mesh = ax.pcolormesh(LEVELS, WIDTHS[1:], values.T, cmap="RdBu_r", vmin=-top, vmax=top, rasterized=True)
        ax.set_title(name, fontsize=9, loc="left")
        ax.set_xlabel("noise level t", fontsize=9)
        ax.tick_params(labelsize=8)
    figure.axes[0].set_ylabel("buffer width r  [pixels]", fontsize=9)
    bar = figure.colorbar(mesh, ax=figure.axes, pad=0.01)
    bar.set_label("I(A:C|B$_r$)  [nats]", fontsize=9)
    bar.ax.tick_params(labelsize=8)
    figure.suptitle(title, fontsize=9, x=0.01, ha="left")
    figure.savefig(file, dpi=200)


def main() -> None:
    """Run."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with the IDX files")
    parser.add_argument("--published", type=Path, help="CSV of the published mutual informations")
    parser.add_argument("--out", type=Path, default=Path("paper_map"))
    parser.add_argument("--minutes", type=float, default=6.0, help="of training each network")
    parser.add_argument("--methods", default=",".join([*METHODS, MINE]))
    parser.add_argument(
        "--mine-steps", type=int, default=5000, help="of every published network; 300,000 published"
    )
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    methods = [name for name in arguments.methods.split(",") if name]
    if unknown := set(methods) - {*METHODS, MINE}:
        parser.error(f"--methods are of {', '.join([*METHODS, MINE])}, got {', '.join(sorted(unknown))}")
    published = None if arguments.published is None else Published.read(arguments.published)
    data = images(arguments.data)
    arguments.out.mkdir(parents=True, exist_ok=True)
    minutes = {name: {"train_minutes": arguments.minutes} for name in TRAINED}
    scans = {
        name: kept_scan(name, data, arguments.out, seed=arguments.seed, **minutes.get(name, {}))
        for name in methods
        if name != MINE
    }
    if scans or published is not None:
        table(scans, published)
    if MINE in methods:
        mine_table(mine(data, arguments.out, arguments.mine_steps, arguments.seed), scans)
    if not scans:
        return
    title = f"{arguments.data.name}: {data.samples.shape[1]} x {data.samples.shape[2]}, A = the centre pixel"
    draw_curves(scans, published, title, arguments.out / "curves.png")
    draw_maps(scans, published, title, arguments.out / "maps.png")


if __name__ == "__main__":
    main()

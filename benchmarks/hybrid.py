"""Where is the global network needed?  Local and global denoisers of MNIST or Fashion-MNIST, and samplers of both.

    python benchmarks/hybrid.py --data FOLDER [--quick] [--out FOLDER] [--minutes 2] [--global-minutes 6]
                                [--drawn 500]

FOLDER holds the usual four IDX files.  Local networks of several radii, all of one depth, width and training time,
and a global one are trained on the training images and scored on the test images (losses by level, paired gaps).
From the scores a schedule is planned: for every step of the SDE sampler the cheapest network, so that the bound on
KL(data || sampler), for images with noise of --until left on them, is at most --budget nats above that of the
global one in every step; below that level a narrow one finishes.  Then images are drawn, by the SDE of order two,
with

    global         the global network in every step
    local          the widest local one in every step
    planned        the plan
    planned to 0   a plan whose budget of nats reaches down to the last level above t = 0
    earlier, later the plan's window of the global network, as long, a quarter of the levels nearer to noise or data
    swapped        global outside the window, local within it
    equal cost     the global one in every step, in as few steps as cost what the plan costs
    equal steps    the global one in as many steps as the plan takes it for

and with plans of other budgets, plans of fewer steps, and the global network in as few steps as each of those
costs: what quality costs; one of the plans and its rival by the sampler of order one as well, which the certificate
is about.  All are compared with test images that were not scored: operations, seconds per 1,000 images,
certificate, sliced Wasserstein distance, MMD, classifier two-sample test and Frechet distance on features of a
classifier trained on the labels, each with its error and beside what as many real images read.  Networks, scores
and figures are kept in --out: networks and scores that are there, of these settings and images, are not made again,
so that more images can be drawn with the same ones, and what was interrupted goes on.

--quick is for two cores: 500 images, 40 steps.  Without it settings are for a GPU.
"""

from __future__ import annotations

import argparse
import gzip
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
import torch
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.patheffects import withStroke
from matplotlib.ticker import LogLocator

from cmi import open_dataset, phase_scan
from cmi.denoise import (
    Denoiser,
    GlobalDenoiser,
    HybridDenoiser,
    LocalDenoiser,
    Plan,
    Schedule,
    certify,
    compare_images,
    images_of,
    load_denoiser,
    load_scores,
    plan_schedule,
    plot_gap_maps,
    plot_gaps,
    plot_images,
    plot_plan,
    sample,
    sampling_flops,
    save_scores,
    score_denoisers,
    time_grid,
    train_denoiser,
    train_features,
)
from cmi.denoise.networks import Preconditioned
from cmi.denoise.signature import image_signatures
from cmi.figures import new_figure, save_figure

GLOBAL = "global"
BUDGET, UNTIL = 0.05, 0.2  # nats, for images with noise of that level left on them
BUDGETS = (0.05, 0.25, 1.0, 4.0)  # nats, of the plans whose quality and cost are drawn
SHORT = (0.5, 0.36, 0.25, 0.2, 0.15)  # shares of the steps: plans of fewer are drawn as well
MEASURE = "frechet"


@dataclass(frozen=True)
class Settings:
    """What is trained, how long, and how much is drawn."""

    minutes: float
    global_minutes: float
    width: int
    global_width: int
    scored: int
    drawn: int
    steps: int
    radii: tuple[int, ...] = (1, 2, 4, 8)


QUICK = Settings(2.0, 6.0, width=32, global_width=32, scored=1000, drawn=500, steps=40)
FULL = Settings(10.0, 60.0, width=64, global_width=96, scored=5000, drawn=2500, steps=100)


@dataclass(frozen=True, eq=False)
class Images:
    """Images to train on, to score and plan by, and to compare drawn ones with; features for that, if there are."""

    train: torch.Tensor
    scored: torch.Tensor
    real: torch.Tensor
    features: Callable[[torch.Tensor], torch.Tensor] | None = None


def idx(folder: Path, name: str) -> Path:
    """The file of that name, gzipped or not."""
    for end in (".gz", ""):
        if (file := folder / f"{name}{end}").is_file():
            return file
    raise SystemExit(f"the folder {str(folder)!r} holds no {name}, gzipped or not")


def labels_of(file: Path) -> np.ndarray:
    """Labels of an IDX file: eight bytes, then one each."""
    content = file.read_bytes()
    if file.suffix == ".gz":
        content = gzip.decompress(content)
    return np.frombuffer(content, dtype=np.uint8, offset=8).astype(np.int64)


def open_images(folder: Path, settings: Settings, seed: int) -> Images:
    """Those of four IDX files, and a classifier of their labels."""
    train = images_of(open_dataset(str(idx(folder, "train-images-idx3-ubyte"))))
    test = images_of(open_dataset(str(idx(folder, "t10k-images-idx3-ubyte"))))
    # in random order: the first half of MNIST's is of other writers than the second, the training set of both
    test = test[torch.from_numpy(np.random.default_rng(seed).permutation(len(test)))]
    features, accuracy = train_features(train, labels_of(idx(folder, "train-labels-idx1-ubyte")), seed=seed)
    print(f"classifier of the labels: {accuracy:.1%} right on held-out images", flush=True)
    real = test[settings.scored :][: 3 * settings.drawn]
    return Images(train, test[: settings.scored], real, features.features)


def trained(name: str, net: Preconditioned, images: torch.Tensor, minutes: float, out: Path, seed: int) -> Denoiser:
    """Train a network, or go on, or take the one that is there: of another training it is refused."""
    file = out / f"{name.replace(' ', '').replace('=', '')}.pt"
    begun = time.perf_counter()
    found = train_denoiser(net, images, minutes=minutes, seed=seed, file=file)
    took = time.perf_counter() - begun
    print(f"{name}: {found.step} steps in {took:.0f} s, held-out loss {found.best:.5f}", flush=True)
    return load_denoiser(file)


def networks(images: Images, settings: Settings, out: Path, seed: int) -> dict[str, Denoiser]:
    """Local ones by radius, and the global one."""
    shape = tuple(images.train.shape[1:])
    torch.manual_seed(seed)
    nets: dict[str, Denoiser] = {}
    for radius in settings.radii:
        local = LocalDenoiser(shape, radius, width=settings.width)
        nets[f"r = {radius}"] = trained(f"r = {radius}", local, images.train, settings.minutes, out, seed)
    whole = GlobalDenoiser(shape, width=settings.global_width)
    nets[GLOBAL] = trained(GLOBAL, whole, images.train, settings.global_minutes, out, seed)
    return nets


def scored(nets: Mapping[str, Denoiser], images: Images, settings: Settings, out: Path, seed: int) -> xr.Dataset:
    """Score the networks, or take the scores that are there, if they are of these."""
    file, levels = out / "scores.nc", time_grid(settings.steps)[:-1]  # of shorter schedules some lie between
    if file.exists() and file.stat().st_mtime >= max(net.stat().st_mtime for net in out.glob("*.pt")):
        kept = load_scores(file).sortby("t", ascending=False)
        made = (kept.denoiser.values.tolist(), kept.attrs["seed"], kept.image.values.tolist())
        wanted = (list(nets), str(seed), image_signatures(images.scored).tolist())
        if made == wanted and np.array_equal(kept.t.values, levels):
            return load_scores(file)
    begun = time.perf_counter()
    save_scores(score_denoisers(nets, images.scored, levels, seed=seed), file, overwrite=True)
    print(f"scores: {time.perf_counter() - begun:.0f} s", flush=True)
    return load_scores(file)


def loss_table(scores: xr.Dataset) -> None:
    """Print the loss of every network at about ten levels, and its gap to the global one."""
    shown = scores.t.values[:: max(1, scores.sizes["t"] // 10)]
    print("\nheld-out |x0 - x0_hat|^2 per image; below it the gap to global (error)")
    print(f"{'':8}" + "".join(f"    t = {t:<9.2g}" for t in shown))
    loss = scores.loss.sel(t=shown)
    gap = loss - loss.sel(denoiser=GLOBAL)
    for name in scores.denoiser.values:
        one = loss.sel(denoiser=name)
        print(f"{name:8}" + "".join(f"{v:9.3f}       " for v in one.mean("sample").values))
        if name != GLOBAL:
            own = gap.sel(denoiser=name)
            error = own.std("sample", ddof=1) / np.sqrt(own.sizes["sample"])
            cells = zip(own.mean("sample").values, error.values, strict=True)
            print(f"{'':8}" + "".join(f"{v:+9.3f}({e:.3f})" for v, e in cells))


def schedules(plan: Plan, to_zero: Plan, scores: xr.Dataset, share: float) -> dict[str, Schedule]:
    """The plan, and what it is compared with, of which one costs that share of the global one in every step."""
    times, names = plan.schedule.times, list(plan.schedule.denoisers)
    steps = len(names)
    radii = dict(zip(scores.denoiser.values.tolist(), scores.radius.values.tolist(), strict=True))
    widest = max(radii, key=lambda name: radii[name])
    window = [k for k, name in enumerate(names) if name == GLOBAL]
    found = {
        "global": Schedule.of_one(GLOBAL, times),
        "local": Schedule.of_one(widest, times),
        "planned": plan.schedule,
        "planned to 0": to_zero.schedule,
    }
    if 0 < len(window) < steps:
        local = [name if name != GLOBAL else widest for name in names]
        for label, shift in (("earlier", -(steps // 4)), ("later", steps // 4)):
            shift = max(shift, -window[0]) if shift < 0 else min(shift, steps - 1 - window[-1])
            moved = {k + shift for k in window}
            found[label] = Schedule(times, [GLOBAL if k in moved else local[k] for k in range(steps)])
        found["swapped"] = Schedule(times, [widest if k in window else GLOBAL for k in range(steps)])
        found["equal cost"] = few(share, steps)
        found["equal steps"] = few(len(window) / steps, steps)
    return found


def few(share: float, steps: int) -> Schedule:
    """The global network in every step, in as few steps as cost that share of so many, or a little more."""
    return Schedule.of_one(GLOBAL, time_grid(max(2, math.ceil(share * steps - 1e-9))))


@dataclass
class Draws:
    """Draws images and measures them, each schedule once."""

    nets: Mapping[str, Denoiser]
    scores: xr.Dataset
    images: Images
    count: int
    seed: int
    until: float
    out: Path
    found: dict[tuple[Schedule, int], dict[str, object]] = field(default_factory=dict)
    floor: dict[str, object] = field(default_factory=dict)
    quality: pd.DataFrame | None = None  # the last one, of which the floor is that of all

    def operations(self, schedule: Schedule, order: Literal[1, 2] = 2) -> float:
        """In 10^9, for one image, calls that order two adds where it goes over included."""
        return sampling_flops(HybridDenoiser(schedule, self.nets), order=order) / 1e9

    def share(self, schedule: Schedule, steps: int) -> float:
        """Operations, as a share of those of the global network in so many steps."""
        return self.operations(schedule) / self.operations(Schedule.of_one(GLOBAL, time_grid(steps)))

    def row(self, label: str, schedule: Schedule, order: Literal[1, 2] = 2) -> dict[str, object]:
        """Operations, seconds, certificate and distances of a schedule."""
        if (schedule, order) not in self.found:
            before = time.perf_counter()
            drawn = sample(HybridDenoiser(schedule, self.nets), self.count, order=order, seed=self.seed)
            took = (time.perf_counter() - before) * 1000.0 / self.count
            picture = self.out / f"drawn_{label.replace(' ', '_')}.png"
            save_figure(plot_images(drawn[:40]), picture, overwrite=True)
            real, features = self.images.real, self.images.features
            quality = compare_images(drawn, real, features=features, floor=self.quality, seed=self.seed)
            self.quality = quality
            row: dict[str, object] = {
                "GFLOP": self.operations(schedule, order),
                "s per 1000": took,
                "steps": len(schedule.denoisers),
                "global steps": schedule.denoisers.count(GLOBAL),
            }
            for name, until in (("nats", self.until), ("to 0", 0.0)):
                certificate = certify(schedule, self.scores, until=until)
                row[name], row[f"{name} error"] = certificate.kl, certificate.stderr
                row[f"{name} between levels"] = certificate.interpolation
            for measure in quality.index:
                row[measure], row[f"{measure} error"] = quality.value[measure], quality.stderr[measure]
                self.floor |= {measure: quality.floor[measure], f"{measure} error": quality.floor_stderr[measure]}
            self.found[schedule, order] = row
        return {"schedule": label, **self.found[schedule, order]}


def printed(rows: Sequence[Mapping[str, object]]) -> str:
    """A table, errors in brackets."""
    table = pd.DataFrame(rows)
    for name in [c.removesuffix(" error") for c in table.columns if c.endswith(" error")]:
        both = zip(table[name], table.pop(f"{name} error"), strict=True)
        table[name] = ["" if pd.isna(v) else f"{v:.3g}({e:.2g})" for v, e in both]
    return table.to_string(index=False, float_format=lambda v: f"{v:.3g}", na_rep="")


def plot_trade_off(rows: pd.DataFrame, floor: Mapping[str, object], measure: str, ax: Axes | None = None) -> Axes:
    """Quality over the share of operations: plans of several budgets, and fewer steps of the global network."""
    ax = new_figure(4.8, 3.2).subplots() if ax is None else ax
    whole = float(rows[rows.kind == "global"]["GFLOP"].iloc[0])
    looks = {
        "plan": ("#0072B2", "o", "planned, so many nats"),
        "short": ("#CC79A7", "v", "planned, so many steps"),
        "few": ("#D55E00", "s", "global, fewer steps"),
        "global": ("#222222", "D", "global"),
        "local": ("#009E73", "^", "local"),
    }
    for kind, (colour, marker, label) in looks.items():
        own = rows[rows.kind == kind].sort_values("GFLOP")
        ax.errorbar(
            own.GFLOP / whole,
            own[measure],
            own[f"{measure} error"],
            color=colour,
            marker=marker,
            markersize=4,
            linewidth=1.0 if len(own) > 1 else 0.0,
            elinewidth=0.8,
            label=label,
        )
        for _, row in own.iterrows():
            if kind in ("plan", "short"):
                ax.annotate(
                    f"{row.budget if kind == 'plan' else row.steps:g}",
                    (row.GFLOP / whole, row[measure]),
                    (4, 4) if kind == "plan" else (-4, -7),
                    textcoords="offset points",
                    fontsize=7,
                    color=colour,
                    ha="left" if kind == "plan" else "right",
                    path_effects=[withStroke(linewidth=2.0, foreground="white")],
                    zorder=5.0,
                )
    real, error = float(floor[measure]), float(floor[f"{measure} error"])  # type: ignore[arg-type]
    ax.axhspan(real - error, real + error, color="#999999", alpha=0.3, linewidth=0.0, label="real images")
    ax.set_xlim(0.0, 1.05)
    if real > error and (rows[measure] > rows[f"{measure} error"]).all():
        ax.set_yscale("log")
        ax.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        ax.yaxis.set_major_formatter("{x:g}")
        ax.yaxis.set_minor_formatter("")
    else:
        ax.set_ylim(bottom=0.0)
    ax.set_xlabel("operations, as a share of global in every step", fontsize=9)
    ax.set_ylabel(f"{'Frechet' if measure == 'frechet' else measure} distance from real images", fontsize=9)
    ax.tick_params(labelsize=8)
    ax.legend(fontsize=7, framealpha=0.9)
    return ax


def trade_off(
    draws: Draws, plans: Mapping[float, Plan], short: Sequence[Plan], steps: int, widest: str
) -> tuple[pd.DataFrame, Mapping[str, object]]:
    """Rows of plans of several budgets and of fewer steps, and of the global network in as few as some cost.

    The second of the short plans, or the only one, is drawn by the sampler of order one as well, and its rival too.
    """
    times = time_grid(steps)
    rows = [
        {"kind": "global", "budget": np.nan, **draws.row("global", Schedule.of_one(GLOBAL, times))},
        {"kind": "local", "budget": np.nan, **draws.row("local", Schedule.of_one(widest, times))},
    ]
    for budget, plan in plans.items():
        rows.append({"kind": "plan", "budget": budget, **draws.row(f"plan {budget:g}", plan.schedule)})
    first = next(iter(plans.values()))
    rows.append(
        {"kind": "few", "budget": np.nan, **draws.row("equal cost", few(draws.share(first.schedule, steps), steps))}
    )
    for k, plan in enumerate(short):
        many = len(plan.schedule.denoisers)
        rival = few(draws.share(plan.schedule, steps), steps)
        pair = (("short", f"{many} planned", plan.schedule), ("few", f"few for {many}", rival))
        rows += [{"kind": kind, "budget": np.nan, **draws.row(label, made)} for kind, label, made in pair]
        if k == min(1, len(short) - 1):
            once = [draws.row(f"{label} order 1", made, order=1) for _, label, made in pair]
            rows += [{"kind": "order 1", "budget": np.nan, **row} for row in once]
    return pd.DataFrame(rows), draws.floor


def main() -> None:
    """Train, score, plan, draw and compare."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with the IDX files")
    parser.add_argument("--quick", action="store_true", help="for two cores")
    parser.add_argument("--out", type=Path, default=Path("hybrid"))
    parser.add_argument("--minutes", type=float, help="of training every local network")
    parser.add_argument("--global-minutes", type=float)
    parser.add_argument("--drawn", type=int, help="images of every schedule")
    parser.add_argument("--budget", type=float, default=BUDGET, help="nats that the certificate may be")
    parser.add_argument("--until", type=float, default=UNTIL, help="level of noise that the budget is for")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    settings = QUICK if arguments.quick else FULL
    changed = {
        "minutes": arguments.minutes,
        "global_minutes": arguments.global_minutes,
        "drawn": arguments.drawn,
    }
    settings = Settings(**{**vars(settings), **{name: v for name, v in changed.items() if v is not None}})
    begun = time.perf_counter()
    out: Path = arguments.out
    out.mkdir(parents=True, exist_ok=True)
    images = open_images(arguments.data, settings, arguments.seed)
    nets = networks(images, settings, out, arguments.seed)
    scores = scored(nets, images, settings, out, arguments.seed)
    loss_table(scores)
    below = f"r = {settings.radii[1]}"

    def planned(budget: float, until: float, steps: int = settings.steps) -> Plan:
        rest = below if until else None
        return plan_schedule(scores, time_grid(steps), budget_nats=budget, until=until, below=rest)

    plan, to_zero = planned(arguments.budget, arguments.until), planned(arguments.budget, 0.0)
    print(
        f"\nplan: {plan.share:.0%} of the operations, certificate {plan.certificate.kl:.3f} +- "
        f"{plan.certificate.stderr:.3f} nats down to t = {plan.certificate.until:.2g} (planned "
        f"{plan.planned:.3f}), {plan.whole.kl:.1f} down to {plan.whole.until:.2g}; global at t = "
        f"{', '.join(f'{a:.2f} to {b:.2f}' for a, b in plan.window)}",
        flush=True,
    )
    save_figure(plot_gaps(scores), out / "gaps.png", overwrite=True)
    save_figure(plot_gap_maps(scores, below), out / "gap_maps.png", overwrite=True)
    scan = phase_scan(
        open_dataset(str(idx(arguments.data, "train-images-idx3-ubyte"))), levels=[0.1 * k for k in range(1, 10)]
    )
    save_figure(plot_plan(plan, scores, scan), out / "plan.png", overwrite=True)
    draws = Draws(nets, scores, images, settings.drawn, arguments.seed, arguments.until, out)
    made = schedules(plan, to_zero, scores, draws.share(plan.schedule, settings.steps))
    rows = [draws.row(label, schedule) for label, schedule in made.items()]
    print("\n" + printed([*rows, {"schedule": "real images", **draws.floor}]), flush=True)
    budgets = {b: planned(b, arguments.until) for b in BUDGETS}
    short = [planned(arguments.budget, arguments.until, max(3, round(share * settings.steps))) for share in SHORT]
    curve, floor = trade_off(draws, budgets, short, settings.steps, f"r = {settings.radii[-1]}")
    real = pd.DataFrame([{"kind": "real", "schedule": "real images", **floor}])
    pd.concat([curve, real]).to_csv(out / "trade_off.csv", index=False)
    print("\nplans of several budgets and in fewer steps, and the global network in as few as each costs")
    print(printed(curve.drop(columns=["kind", "budget"]).to_dict("records")))  # type: ignore[arg-type]
    save_figure(plot_trade_off(curve, floor, MEASURE), out / "trade_off.png", overwrite=True)
    print(f"\n{time.perf_counter() - begun:.0f} s in all, {torch.get_num_threads()} threads")


if __name__ == "__main__":
    main()

"""Where is the global network needed?  Local and global denoisers of MNIST or Fashion-MNIST, and samplers of both.

    python benchmarks/hybrid.py --data FOLDER [--quick] [--out FOLDER] [--minutes 2] [--global-minutes 6]

FOLDER holds the usual four IDX files.  Local networks of several radii, all of one depth, width and training time,
and a global one are trained on the training images and scored on the test images (losses by level, paired gaps).
From the scores a schedule is planned: for every step of the SDE sampler the cheapest network, so that the bound on
KL(data || sampler) is at most --budget nats above that of the global one in every step.  Then images are drawn with

    global         the global network in every step
    local          the local one of the largest radius that the plan uses, in every step
    planned        the plan
    earlier, later the plan's window of the global network, as long, moved towards noise or data
    swapped        global outside the window, local within it
    equal cost     the global one in every step, in as few steps as cost what the plan costs

and are compared with test images that were not scored: operations, seconds per 1,000 images, certificate, sliced
Wasserstein distance, MMD, classifier two-sample test and Frechet distance on features of a classifier trained on
the labels, each with its error and beside what as many real images read.  Networks and scores are kept in --out.

--quick is for two cores: 500 images, 50 steps.  Without it settings are for a GPU.
"""

from __future__ import annotations

import argparse
import gzip
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import xarray as xr

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
    save_scores,
    score_denoisers,
    time_grid,
    train_denoiser,
    train_features,
)
from cmi.denoise.networks import Preconditioned
from cmi.figures import save_figure

RADII = (0, 1, 2, 3, 5, 8)


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


QUICK = Settings(minutes=1.0, global_minutes=5.0, width=32, global_width=32, scored=1000, drawn=500, steps=50)
FULL = Settings(minutes=10.0, global_minutes=60.0, width=64, global_width=96, scored=5000, drawn=2500, steps=100)


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


def trained(name: str, net: Preconditioned, images: torch.Tensor, minutes: float, out: Path, seed: int) -> Denoiser:
    """Train a network, or take the one that is there."""
    file = out / f"{name}.pt"
    if not file.exists():
        begun = time.perf_counter()
        found = train_denoiser(net, images, minutes=minutes, seed=seed, file=file)
        took = time.perf_counter() - begun
        print(f"{name}: {found.step} steps in {took:.0f} s, held-out loss {found.best:.5f}", flush=True)
    return load_denoiser(file)


def scored(nets: dict[str, Denoiser], images: torch.Tensor, levels: np.ndarray, out: Path, seed: int) -> xr.Dataset:
    """Score the networks, or take the scores that are there."""
    file = out / "scores.nc"
    if not file.exists():
        begun = time.perf_counter()
        save_scores(score_denoisers(nets, images, levels, seed=seed), file)
        print(f"scores: {time.perf_counter() - begun:.0f} s", flush=True)
    return load_scores(file)


def loss_table(scores: xr.Dataset) -> None:
    """Print the loss of every network and level, and its gap to the global one."""
    shown = [t for t in scores.t.values if abs(10.0 * t - round(10.0 * t)) < 1e-9]
    print("\nheld-out |x0 - x0_hat|^2 per image; below it gap to global (error), and 1/2 dSNR/dt gap in nats")
    print(f"{'':10}" + "".join(f"   t = {t:<10.2g}" for t in shown))
    loss = scores.loss.sel(t=shown)
    gap = loss - loss.sel(denoiser=scores.attrs["reference"])
    for name in scores.denoiser.values:
        one = loss.sel(denoiser=name)
        print(f"{name:10}" + "".join(f"{v:10.3f}       " for v in one.mean("sample").values))
        if name != scores.attrs["reference"]:
            own = gap.sel(denoiser=name)
            error = own.std("sample", ddof=1) / np.sqrt(own.sizes["sample"])
            cells = zip(own.mean("sample").values, error.values, strict=True)
            print(f"{'':10}" + "".join(f"{v:+10.3f}({e:.3f})" for v, e in cells))


def schedules(plan: Plan, scores: xr.Dataset, times: np.ndarray) -> dict[str, Schedule]:
    """The plan, and what it is compared with."""
    reference = str(scores.attrs["reference"])
    names = list(plan.schedule.denoisers)
    local = [name for name in names if name != reference]
    radii = dict(zip(scores.denoiser.values.tolist(), scores.radius.values.tolist(), strict=True))
    widest = max(local, key=lambda name: radii[name]) if local else str(scores.denoiser.values[-1])
    steps = len(names)
    window = [k for k in range(steps - 1) if names[k] == reference]
    found = {
        "global": Schedule.of_one(reference, times),
        "local": Schedule(times, [widest] * (steps - 1) + [reference]),
        "planned": plan.schedule,
    }
    if window and local:
        for label, shift in (("earlier", -len(window)), ("later", len(window))):
            moved = {min(max(k + shift, 0), steps - 2) for k in window}
            rest = [name if name != reference else widest for name in names]
            found[label] = Schedule(
                times, [reference if k in moved or k == steps - 1 else rest[k] for k in range(steps)]
            )
        found["swapped"] = Schedule(times, [widest if k in window else reference for k in range(steps)])
    few = max(2, round(plan.share * steps))
    found["equal cost"] = Schedule.of_one(reference, time_grid(few))
    return found


def main() -> None:
    """Train, score, plan, draw and compare."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with the IDX files")
    parser.add_argument("--quick", action="store_true", help="for two cores")
    parser.add_argument("--out", type=Path, default=Path("hybrid"))
    parser.add_argument("--minutes", type=float, help="of training every local network")
    parser.add_argument("--global-minutes", type=float)
    parser.add_argument("--budget", type=float, default=1.0, help="nats that the certificate may be")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    settings = QUICK if arguments.quick else FULL
    minutes = arguments.minutes or settings.minutes
    longer = arguments.global_minutes or settings.global_minutes
    begun = time.perf_counter()
    arguments.out.mkdir(parents=True, exist_ok=True)
    images = images_of(open_dataset(str(idx(arguments.data, "train-images-idx3-ubyte"))))
    test = images_of(open_dataset(str(idx(arguments.data, "t10k-images-idx3-ubyte"))))
    shape = tuple(images.shape[1:])
    nets: dict[str, Denoiser] = {}
    torch.manual_seed(arguments.seed)
    for radius in RADII:
        local = LocalDenoiser(shape, radius, width=settings.width)
        nets[f"r = {radius}"] = trained(f"r{radius}", local, images, minutes, arguments.out, arguments.seed)
    whole = GlobalDenoiser(shape, width=settings.global_width)
    nets["global"] = trained("global", whole, images, longer, arguments.out, arguments.seed)
    times = time_grid(settings.steps)
    scores = scored(nets, test[: settings.scored], times[:-1], arguments.out, arguments.seed)
    loss_table(scores)
    plan = plan_schedule(scores, times, budget_nats=arguments.budget)
    print(
        f"\nplan: {plan.share:.0%} of the operations, certificate {plan.certificate.kl:.3f} +- "
        f"{plan.certificate.stderr:.3f} nats down to t = {plan.certificate.until:.2g} (planned "
        f"{plan.planned:.3f}), global at t = {', '.join(f'{a:.2f} to {b:.2f}' for a, b in plan.window)}"
    )
    save_figure(plot_gaps(scores), arguments.out / "gaps.png", overwrite=True)
    save_figure(plot_gap_maps(scores, "r = 2"), arguments.out / "gap_maps.png", overwrite=True)
    scan = phase_scan(
        open_dataset(str(idx(arguments.data, "train-images-idx3-ubyte"))), levels=[0.1 * k for k in range(1, 10)]
    )
    save_figure(plot_plan(plan, scores, scan), arguments.out / "plan.png", overwrite=True)
    features, accuracy = train_features(
        images, labels_of(idx(arguments.data, "train-labels-idx1-ubyte")), seed=arguments.seed
    )
    print(f"classifier of the labels: {accuracy:.1%} right on held-out images", flush=True)
    operations = dict(zip(scores.denoiser.values.tolist(), scores.flops.values.tolist(), strict=True))
    real = test[settings.scored :][: max(3 * settings.drawn, 2 * settings.drawn)]
    rows = []
    for label, schedule in schedules(plan, scores, times).items():
        hybrid = HybridDenoiser(schedule, nets)
        before = time.perf_counter()
        drawn = sample(hybrid, settings.drawn, seed=arguments.seed)
        took = (time.perf_counter() - before) * 1000.0 / settings.drawn
        picture = arguments.out / f"drawn_{label.replace(' ', '_')}.png"
        save_figure(plot_images(drawn[:40]), picture, overwrite=True)
        quality = compare_images(drawn, real, features=features.features, seed=arguments.seed)
        same_grid = len(schedule.times) == len(times)
        certificate = certify(schedule, scores) if same_grid else None
        cost = sum(operations[name] for name in schedule.denoisers)
        row = {"schedule": label, "GFLOP": cost / 1e9, "s per 1000": took}
        row["nats"] = np.nan if certificate is None else certificate.kl
        for measure in quality.index:
            row[measure] = f"{quality.value[measure]:.4f}({quality.stderr[measure]:.4f})"
        rows.append(row)
        print(" ".join(f"{key} {value}" for key, value in row.items()), flush=True)
    floor = {m: f"{quality.floor[m]:.4f}({quality.floor_stderr[m]:.4f})" for m in quality.index}
    print()
    print(pd.DataFrame([*rows, {"schedule": "real images", **floor}]).to_string(index=False))
    print(f"\n{time.perf_counter() - begun:.0f} s in all, {torch.get_num_threads()} threads")


if __name__ == "__main__":
    main()

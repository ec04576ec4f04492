"""Mutual information as the published map was made: MINE on one fixed noise draw, read on its own training images.

    python benchmarks/mine.py --model field --level 0.3 --widths 1,3,12 --steps 20000 --out field.csv
    python benchmarks/mine.py --model pure-noise --widths "" --steps 20000
    python benchmarks/mine.py --data FOLDER_OR_FILE --crop 1:,1: --level 0.3 --widths 1 --steps 20000

What is trained and the four readings: `mine_protocol`.

The field (`cmi.exact.GaussianField`) is not in [0, 1]: it has mean 0 and the variance that the command prints, and
is noised by the same y = (1 - t) x + t z, which is the model's own schedule ("interpolation").

Measured, seed 0, one run each, 60,000 images, one thread of a shared machine (17 to 26 steps/s), t = 0.3 but for
the noise.

    field, --widths "" --repeats 1 --steps 20000, and --widths 1,12 --repeats 0 --steps 5000; 20,000 held out
              steps  published  by batch  training          held out          truth
    I(A:BC)    2500     0.0408    0.0562    0.0567 +-0.0006   0.0586 +-0.0011   0.1725
    I(A:BC)    5000     0.0833    0.0970    0.0976 +-0.0012   0.1014 +-0.0021   0.1725
    I(A:BC)   10000     0.1033    0.1188    0.1194 +-0.0015   0.1219 +-0.0026   0.1725
    I(A:BC)   20000     0.1222    0.1346    0.1369 +-0.0017   0.1348 +-0.0030   0.1725
    I(A:B_1)   5000     0.1231    0.1375    0.1385 +-0.0017   0.1422 +-0.0029   0.1707
    I(A:B_12)  5000     0.0853    0.0978    0.0988 +-0.0013   0.1020 +-0.0022   0.1725
    MNIST, --data FOLDER --crop 1:,1: --widths 1 --repeats 1 --steps 5000; 10,000 held out, the test file
    I(A:BC)    5000     0.1472    0.1677    0.1689 +-0.0014   0.1750 +-0.0035   not known
    I(A:B_1)   5000     0.1858    0.2032    0.2035 +-0.0019   0.2132 +-0.0045   not known
    white noise (t = 1), --model pure-noise --widths "" --repeats 1 --steps 5000; 20,000 held out
    I(A:BC)    5000     0.0000    0.0000    0.0000            0.0000            0

So far the bias is training that has not ended: every reading is below the truth where that is known, and the
more pixels T sees the lower it is, so that after 5,000 steps the CMI at r = 1 reads -0.040 on the field (truth
0.0018) and -0.039 on MNIST, both 0 once cut off. On white noise T becomes a constant, and does so with 6,000 images
(--samples 6000) too.

As long as was published, 500 times through the images, but fewer of them: the same field, 10,000 held out.

    images  steps           published  by batch  training          held out          truth
     2,000   10,000 I(A:BC)    0.2307    0.2792    0.2817 +-0.0114    0.0765 +-0.0061   0.1725
     6,000   30,000 I(A:BC)    0.3033    0.3890    0.3993 +-0.0073    0.0331 +-0.0088   0.1725
     6,000   30,000 I(A:B_1)   0.1590    0.1663    0.1704 +-0.0067    0.1628 +-0.0054   0.1707
     6,000   30,000 I(A:B_12)  0.3126    0.3960    0.4005 +-0.0071    0.0265 +-0.0089   0.1725
    20,000  100,000 I(A:BC)    0.3413    0.4366    0.4410 +-0.0041    0.0171 +-0.0094   0.1725

Now what the network sees of an image it has learnt by heart, unless that is nine pixels: the CMI at r = 1 reads
0.144, where the truth is 0.0018, and -0.009 at r = 12. More images trained as often do not help up to 20,000.
"""

from __future__ import annotations

import argparse
import csv
import math
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np

try:
    import torch
except ImportError as error:
    raise ImportError('the benchmark of MINE needs torch: pip install "phase-scan[torch]"') from error
from mine_network import MineSettings
from mine_protocol import Images, Look, Part, Stream, mine_information, square, stream

from cmi import Partition, open_dataset
from cmi.checks import whole_number
from cmi.exact import GaussianField
from cmi.exact.gaussian import GaussianModel
from cmi.noise import noise_schedule
from cmi.output import check_output

__all__ = ["gaussian_information"]


def gaussian_information(model: GaussianModel, level: float, r: int | None = None) -> float:
    """I(A:B_r) of a Gaussian model in nats at a noise level, exact; I(A:BC) where r is None.

    1/2 [ln Var(A) - ln Var(A given B)] of the noised covariance; I(A:BC) - I(A:B_r) is `GaussianModel.cmi`.
    """
    if level >= 1.0:
        return 0.0
    noisy = model.covariance + np.eye(len(model.covariance)) / float(model.schedule().snr(level))
    regions = model.partition(None if r is None else [r])
    a, b = regions.A, np.concatenate(regions.shells) if r is None else regions.B(r)
    cross = noisy[np.ix_(b, a)]
    own = noisy[np.ix_(a, a)]
    given = own - cross.T @ np.linalg.solve(noisy[np.ix_(b, b)], cross)
    return 0.5 * float(np.linalg.slogdet(own)[1] - np.linalg.slogdet(given)[1])


@dataclass(frozen=True)
class _Source:
    """Clean images to train on and others to read on, and what is known of them."""

    name: str
    training: Images
    held_out: Images
    model: GaussianModel | None = None

    def truth(self, level: float, r: int | None) -> float:
        if level >= 1.0:
            return 0.0
        return math.nan if self.model is None else gaussian_information(self.model, level, r)


def _field(samples: int, held_out: int, seed: int) -> _Source:
    model = GaussianField(L=27, kappa=0.3)
    seeds = [int(stream(seed, Stream.IMAGES, part).generate_state(1)[0]) for part in Part]
    training, other = (
        model.sample(n, one).astype(np.float32) for n, one in zip((samples, held_out), seeds, strict=True)
    )
    return _Source(f"{model!r}, variance {model.covariance[0, 0]:.4f}", training, other, model)


def _noise_alone(samples: int, held_out: int) -> _Source:
    blank = np.zeros((max(samples, held_out), 27, 27), dtype=np.float32)
    return _Source("white noise, 27 x 27", blank[:samples], blank[:held_out])


def _saved(path: Path, crop: str | None, samples: int, held_out: int, seed: int) -> _Source:
    """Images of a folder with the usual IDX files, one to train on and one to hold out, or of one file, parted."""
    if path.is_dir():
        parts = []
        for kind in ("train", "t10k"):
            names = [path / f"{kind}-images-idx3-ubyte{end}" for end in (".gz", "")]
            file = next((name for name in names if name.is_file()), None)
            if file is None:
                raise FileNotFoundError(f"the folder {str(path)!r} holds no {names[1].name}, gzipped or not")
            parts.append(open_dataset(file))
        parts = [part.cropped(crop) if crop else part for part in parts]
        return _Source(path.name, parts[0].samples[:samples], parts[1].samples[:held_out])
    data = open_dataset(path)
    x = (data.cropped(crop) if crop else data).samples
    order = np.random.default_rng(stream(seed, Stream.SPLIT)).permutation(len(x))
    kept = min(held_out, len(x) // 10)
    return _Source(data.name, x[order[kept:][:samples]], x[order[:kept]])


def _table(found: dict[tuple[int | None, int], list[Look]], truth: dict[int | None, float]) -> None:
    """Print the last look of every network, and what follows for the CMI."""
    print("\nnats      run   steps  published          by batch   training           held out            truth")
    for (r, run), looks in found.items():
        last = looks[-1]
        print(
            f"{_name(r):9} {run:3} {last.step:7}  {last.published:8.4f} +-{last.published_error:6.4f}  "
            f"{last.by_batch:8.4f}   {last.training:8.4f} +-{last.training_error:6.4f}  "
            f"{last.held_out:8.4f} +-{last.held_out_error:6.4f}  {truth[r]:8.4f}"
        )
    whole = [looks[-1] for (r, _), looks in found.items() if r is None]
    if not whole or len(whole) == len(found):
        return
    print(
        "\nCMI: as published, the largest run less I(A:B_r) and cut off at 0; not cut; every run; held out; truth"
    )
    for (r, _), looks in found.items():
        if r is None:
            continue
        inner = looks[-1]
        each = [one.published - inner.published for one in whole]
        apart = np.mean([one.held_out for one in whole]) - inner.held_out
        print(
            f"r = {r:2}  published {max(0.0, *each):.4f}, not cut {max(each):.4f}, every run "
            + " ".join(f"{value:.4f}" for value in each)
            + f", held out (mean of runs) {apart:.4f}, truth {truth[None] - truth[r]:.4f}"
        )


def _name(r: int | None) -> str:
    return "I(A:BC)" if r is None else f"I(A:B_{r})"


def main() -> None:
    """Train, read and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument("--model", choices=["field", "pure-noise"], help="images of known truth, 27 x 27 (field)")
    kind.add_argument("--data", type=Path, help="a saved set, or a folder with the usual IDX files")
    parser.add_argument("--crop", help="of saved images, as slices: 1:,1:")
    parser.add_argument("--level", type=float, help="t in [0, 1] (0.3; pure noise is 1)")
    parser.add_argument("--widths", default="1,3,12", help='r of the buffers; "" for none')
    parser.add_argument("--repeats", type=int, default=3, help="runs of I(A:BC); 0 for none")
    parser.add_argument("--steps", type=int, default=MineSettings().steps)
    parser.add_argument("--samples", type=int, default=60_000, help="images to train on, at most")
    parser.add_argument("--held-out", type=int, default=20_000, help="images to read on, at most")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, help="CSV of the readings over steps")
    arguments = parser.parse_args()
    try:
        _run(arguments)
    except (ValueError, TypeError, OSError) as error:
        parser.error(" ".join(str(error).split()))


def _run(arguments: argparse.Namespace) -> None:
    settings = MineSettings(steps=arguments.steps)
    samples = whole_number(arguments.samples, "--samples", least=settings.batch)
    held_out = whole_number(arguments.held_out, "--held-out", least=2)
    repeats = whole_number(arguments.repeats, "--repeats", least=0)
    seed = whole_number(arguments.seed, "--seed", least=0)
    alone = arguments.model == "pure-noise"
    level = arguments.level if arguments.level is not None else 1.0 if alone else 0.3
    if alone and level != 1.0:
        raise ValueError(f"pure noise is level 1, got --level {level}")
    noise = noise_schedule("interpolation")
    noise.snr(level)  # refuses levels outside [0, 1] before any work
    try:
        widths = sorted({int(word) for word in arguments.widths.split(",") if word.strip()})
    except ValueError:
        raise ValueError(f"--widths are whole numbers with commas between, got {arguments.widths!r}") from None
    if not widths and not repeats:
        raise ValueError("nothing is asked for: give --widths or --repeats")
    if arguments.out is not None:
        check_output(arguments.out, overwrite=False)
    torch.set_num_threads(whole_number(arguments.threads, "--threads", least=1))
    if arguments.data is not None:
        source = _saved(arguments.data, arguments.crop, samples, held_out, seed)
    else:
        source = _noise_alone(samples, held_out) if alone else _field(samples, held_out, seed)
    shape = source.training.shape[1:]
    if len(shape) != 2:
        raise ValueError(f"images have two axes, those of {source.name} have shape {shape}")
    if widths:
        Partition.centered(shape, widths=widths)  # refuses widths that leave nothing for C
    centre = (shape[0] // 2, shape[1] // 2)
    noised = [
        noise.forward(x, level, np.random.default_rng(stream(seed, Stream.NOISE, part))).astype(np.float32)
        for part, x in zip(Part, (source.training, source.held_out), strict=True)
    ]
    print(
        f"{source.name}: t = {level}, A = {centre} of {shape}, {len(noised[0])} images trained on, "
        f"{len(noised[1])} held out, {settings.steps} steps, {torch.get_num_threads()} thread"
    )
    runs: list[tuple[int | None, int]] = [(None, run) for run in range(repeats)] + [(r, 0) for r in widths]
    truth = {r: source.truth(level, r) for r, _ in runs}
    truth.setdefault(None, math.nan)
    found: dict[tuple[int | None, int], list[Look]] = {}
    with ExitStack() as stack:
        rows = None
        if arguments.out is not None:
            file = stack.enter_context(arguments.out.open("x", newline=""))
            rows = csv.writer(file)
            rows.writerow(["quantity", "run", "t", *Look.__slots__, "truth"])
        for r, run in runs:

            def tell(look: Look, r: int | None = r, run: int = run) -> None:
                print(
                    f"  {_name(r)} run {run}, {look.step} steps: {look.published:.4f} published, "
                    f"{look.by_batch:.4f} by batch, {look.training:.4f} training, {look.held_out:.4f} held out; "
                    f"{look.steps_per_second:.1f} steps/s",
                    flush=True,
                )
                if rows is not None:
                    numbers = [getattr(look, name) for name in Look.__slots__]
                    texts = [f"{v:.6g}" if isinstance(v, float) else v for v in numbers]
                    rows.writerow([_name(r), run, level, *texts, f"{truth[r]:.6g}"])
                    file.flush()

            parts = noised if r is None else [square(x, centre, r) for x in noised]
            found[r, run] = mine_information(
                parts[0],
                centre,
                settings,
                held_out=parts[1],
                seed=seed,
                key=(0 if r is None else r, run),
                progress=tell,
            )
    _table(found, truth)


if __name__ == "__main__":
    main()

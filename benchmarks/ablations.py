"""What each idea of the posterior network is worth, and what larger networks and more training would find.

    python benchmarks/ablations.py --data FOLDER [--steps 2500] [--out FOLDER] [--networks ...]
    python benchmarks/ablations.py --model [--steps 800]

FOLDER holds train-images-idx3-ubyte(.gz); of MNIST the first row and column are left out, and A is the centre
pixel.  --model takes a Gaussian field of 27 x 27 instead, whose CMI is known.  Every network is trained on ten
levels for so many steps, so that the result does not depend on the machine, and all are read on the same held-out
images with the same noise:

    as it is     what `method="posterior"` does
    no start     answers begin as the marginal distribution of A, not as those of a Gaussian
    no others    trained on the centre pixel alone, not on the pixels next to it as well
    half         trained on half of the images
    wide         blocks of twice the units: about four times the products
    narrow       blocks of half the units
    batch        four times the samples per step, each with noise of its own
    one draw     the noise of every image and level drawn once for all steps, not afresh at each
    four draws   the same, from four

and any of them followed by "x 4" for four times the steps, or "x 0.5" for half of them.

A row gives the held-out cross-entropy, mean over the levels shown and all widths, in 10^-3 nats, less that of the
first row (paired: its error is that of the mean of differences), I(A:BC), and the CMI at r = 1 and 3; of the
field, how far the CMI is off at most instead. The network that is as it is, is also stacked without one of the
predictions: Gaussian, mixture, next narrower buffer, or all three. Networks are kept in --out, and one that is
there is not trained again.
"""

from __future__ import annotations

import argparse
import inspect
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from unittest import mock

import numpy as np
import torch
from numpy.typing import NDArray
from paper_map import images
from torch import Tensor

from cmi import noise_schedule
from cmi.exact import GaussianField
from cmi.regions import Partition, neighbour_windows
from cmi.scan import data_of
from estimators import posterior_options, posterior_part, posterior_stack
from estimators.known_noise import KnownNoise
from estimators.posterior import PosteriorFit, fit_posterior
from estimators.posterior_answers import Levels
from estimators.posterior_data import Start
from estimators.posterior_stack import held_out_entropies
from estimators.posterior_training import PosteriorTrainer
from estimators.stacking import stacking_weights

FloatArray = NDArray[np.float64]

LEVELS = tuple(round(0.1 * k, 1) for k in range(10))
SHOWN = (0.1, 0.3, 0.6)
WIDTHS = tuple(range(13))
SIDE = 27  # pixels, of the field
PREDICTIONS = ("network", "Gaussian", "narrower", "mixture")
UNITS = {"wide": 2.0, "narrow": 0.5}  # times those of the default
DRAWS = {"one draw": 1, "four draws": 4}
IDEAS = ("as it is", "no start", "no others", "half", *UNITS, "batch", *DRAWS)
NETWORKS = (
    "as it is",
    *(f"as it is x {times}" for times in (0.25, 0.5, 2, 4, 8)),
    "no start",
    "no others x 4",
    "half x 4",
    "wide x 4",
    "narrow",
    "batch",
    "one draw x 4",
    "four draws x 4",
)
STACKS = {
    "no Gaussian": ("network", "narrower", "mixture"),
    "no mixture": ("network", "Gaussian", "narrower"),
    "no narrower": ("network", "Gaussian", "mixture"),
    "network alone": ("network",),
}


@dataclass(frozen=True, eq=False)
class Task:
    """Clean samples in the order A, shells; where other pixels stand to others as these do; the truth if known.

    Parameters
    ----------
    x : (n, d) array
    regions : Partition
    shape : (int, int)
    truth : callable, optional
        CMI of all widths at a level, (widths,).
    """

    x: NDArray[np.floating]
    regions: Partition
    shape: tuple[int, ...]
    truth: Callable[[float], FloatArray] | None = None

    @classmethod
    def of_images(cls, x: NDArray[np.generic], truth: Callable[[float], FloatArray] | None = None) -> Task:
        """A is the pixel in the middle."""
        regions = Partition.centered(x.shape[1:], widths=WIDTHS)
        flat = x.reshape(len(x), -1)[:, regions.columns].astype(np.float64)
        return cls(flat, regions, x.shape[1:], truth)


def of_field(samples: int, seed: int) -> Task:
    """A Gaussian field."""
    model = GaussianField(L=SIDE, kappa=0.3)
    regions = Partition.centered((SIDE, SIDE), widths=WIDTHS)
    order = regions.columns
    covariance = model.covariance[np.ix_(order, order)]
    ends = np.cumsum(regions.sizes)[1:-1]

    def truth(t: float) -> FloatArray:
        noisy = covariance + np.eye(len(order)) / float(model.schedule().snr(t))
        left = [noisy[0, 0] - noisy[0, 1:k] @ np.linalg.solve(noisy[1:k, 1:k], noisy[1:k, 0]) for k in ends]
        whole = noisy[0, 0] - noisy[0, 1:] @ np.linalg.solve(noisy[1:, 1:], noisy[1:, 0])
        return np.asarray(0.5 * np.log(np.array(left) / whole))

    return Task.of_images(model.sample(samples, seed), truth)


def parsed(name: str) -> tuple[str, float]:
    """Split the name of a network into what is left out and how many times the steps it has.

    Examples
    --------
    >>> parsed("no others x 4"), parsed("half")
    (('no others', 4.0), ('half', 1.0))
    """
    idea, _, times = name.partition(" x ")
    if idea not in IDEAS:
        raise ValueError(f"networks are of {', '.join(IDEAS)}, got {idea!r}")
    return idea, float(times or 1.0)


def trained(task: Task, name: str, steps: int, out: Path, seed: int) -> PosteriorFit:
    """Train a network, or take the one that is there."""
    idea, times = parsed(name)
    noise = noise_schedule("interpolation")
    neighbours = None if idea == "no others" else neighbour_windows(task.shape, task.regions)
    begun = time.perf_counter()
    with ExitStack() as patches:
        if idea == "no start":
            patches.enter_context(_marginal_start())
        if idea == "half":
            patches.enter_context(_fewer(0.5))
        if idea == "batch":
            patches.enter_context(mock.patch.object(posterior_options, "_BATCH", 4 * posterior_options._BATCH))
        if idea in DRAWS:
            patches.enter_context(_fixed_noise(DRAWS[idea]))
        fit = fit_posterior(
            task.x,
            task.regions.sizes,
            snrs=[float(noise.snr(t)) for t in LEVELS],
            steps=round(times * steps),
            hidden=round(UNITS.get(idea, 1.0) * inspect.signature(fit_posterior).parameters["hidden"].default),
            neighbours=neighbours,
            network=out / f"{name.replace(' ', '-')}.pt",
            seed=seed,
        )
    print(f"{name}: {time.perf_counter() - begun:.0f} s; {fit.notes[0]}", flush=True)
    return fit


def read(task: Task, fit: PosteriorFit, name: str, use: Sequence[str] = PREDICTIONS) -> FloatArray:
    """Return held-out cross-entropies (levels shown, 1 + widths, samples), stacked of some predictions.

    Those of densities per grey level: a part has a unit of its own, by its own samples.
    """
    noise = noise_schedule("interpolation")
    with ExitStack() as patches:
        patches.enter_context(_stacked_of(use))
        if parsed(name)[0] == "no start":
            patches.enter_context(_marginal_start())
        return float(np.log(fit.parts[0].unit)) + np.stack(
            [
                held_out_entropies(
                    fit.parts[0],
                    task.x,
                    KnownNoise.of(float(noise.snr(t)), None),
                    task.regions.sizes,
                    fit.seed,
                    mixture="mixture" in use,
                ).losses
                for t in SHOWN
            ]
        )


@contextmanager
def _stacked_of(use: Sequence[str]) -> Iterator[None]:
    """Stack of some of the predictions; the others have no weight."""
    keep = [number for number, each in enumerate(PREDICTIONS) if each in use]

    def some(density: FloatArray) -> FloatArray:
        columns = [number for number in keep if number < density.shape[1]]
        weights = np.zeros(density.shape[1])
        weights[columns] = stacking_weights(density[:, columns])
        return weights

    with mock.patch.object(posterior_stack, "stacking_weights", some):
        yield


@contextmanager
def _marginal_start() -> Iterator[None]:
    """Answers begin as though nothing were seen."""
    own = posterior_part.Part.start

    def marginal(part: posterior_part.Part, noise: KnownNoise, sizes: Sequence[int]) -> Start:
        start = own(part, noise, sizes)
        variance = np.repeat(start.variance[:, :1], start.variance.shape[1], axis=1)
        variance[:] = np.diagonal(part.covariance)[: len(variance), None]
        return replace(start, weights=np.zeros_like(start.weights), variance=variance)

    with mock.patch.object(posterior_part.Part, "start", marginal):
        yield


@contextmanager
def _fewer(share: float) -> Iterator[None]:
    """Train on some of the samples; what is held out is the same."""
    own = posterior_part.Part.of

    def few(x: object, sizes: object, train: NDArray[np.int64], *more: object) -> posterior_part.Part:
        return own(x, sizes, train[: round(share * len(train))], *more)  # type: ignore[arg-type]

    with mock.patch.object(posterior_part.Part, "of", few):
        yield


@contextmanager
def _fixed_noise(draws: int) -> Iterator[None]:
    """Train on so many noisy versions of every image and level; what is held out has fresh noise as ever."""

    def losses(run: PosteriorTrainer) -> Tensor:
        levels, slots, answers = run._trained(), run.levels(), run.answers
        per = max(run.settings.batch // len(slots), 1)
        chosen = torch.randint(len(run.clean), (len(slots), per), generator=run.generator)
        which = torch.randint(draws, chosen.shape, generator=run.generator)
        targets = answers.drawn(len(slots), run.generator)
        noise = torch.stack(
            [
                torch.stack([_noise_of(level, *one, run.clean.shape[1]) for one in zip(images, those, strict=True)])
                for level, images, those in zip(slots, chosen.tolist(), which.tolist(), strict=True)
            ]
        )
        own = answers.samples(noise, targets)

        def noisy(levels: Levels, clean: Tensor, generator: torch.Generator) -> Tensor:  # noqa: ARG001
            return torch.addcmul(clean, levels.sigma[:, None, None], own)

        with mock.patch.object(Levels, "noisy", noisy):
            return run._loss(answers.samples(run.clean[chosen], targets), targets, levels).mean(dim=(1, 2))

    with mock.patch.object(PosteriorTrainer, "losses", losses):
        yield


def _noise_of(level: int, image: int, draw: int, columns: int) -> Tensor:
    """Return the noise of an image, the same whenever it is asked for."""
    generator = torch.Generator().manual_seed((draw * len(LEVELS) + level) * 1_000_000 + image)
    return torch.randn(columns, generator=generator)


def row(task: Task, name: str, found: FloatArray, first: FloatArray) -> str:
    """One line of the table."""
    apart = 1e3 * (found - first).mean(axis=(0, 1))
    text = f"{name:16} {apart.mean():7.2f}({apart.std() / np.sqrt(len(apart)):.2f})  "
    local = found[:, 1:-1] - found[:, -1:]
    mean, error = 1e3 * local.mean(axis=2), 1e3 * local.std(axis=2) / np.sqrt(local.shape[2])
    for level, t in enumerate(SHOWN):
        if task.truth is None:
            text += "".join(f"{mean[level, r]:8.1f}({error[level, r]:.1f})" for r in (0, 1, 3))
        else:
            off = mean[level] - 1e3 * task.truth(t)
            text += f"{off[np.abs(off).argmax()]:10.2f} at r = {np.abs(off).argmax():<2}"
    return text


def main() -> None:
    """Train, read and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    kind = parser.add_mutually_exclusive_group(required=True)
    kind.add_argument("--data", type=Path, help="folder with the IDX files")
    kind.add_argument("--model", action="store_true", help="a Gaussian field of 27 x 27")
    parser.add_argument("--steps", type=int, default=2500)
    parser.add_argument("--samples", type=int, default=60_000, help="of the field; of images at most")
    parser.add_argument("--networks", default=",".join(NETWORKS))
    parser.add_argument("--out", type=Path, default=Path("ablations"))
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    names = arguments.networks.split(",")
    try:
        for name in names:
            parsed(name)
    except ValueError as error:
        parser.error(str(error))
    if arguments.model:
        task = of_field(arguments.samples, arguments.seed)
    else:
        data = images(arguments.data)
        x = data_of(data)[0].values.reshape(data.samples.shape)  # grey levels from 0 to 1
        task = Task.of_images(x[: arguments.samples])
    arguments.out.mkdir(parents=True, exist_ok=True)
    rows, first = [], None
    for name in names:
        fit = trained(task, name, arguments.steps, arguments.out, arguments.seed)
        found = read(task, fit, name)
        first = found if first is None else first
        rows.append(row(task, name, found, first))
        print(rows[-1], flush=True)
        if name == "as it is":
            for stack, use in STACKS.items():
                rows.append(row(task, stack, read(task, fit, name, use), first))
                print(rows[-1], flush=True)
    what = "I(A:BC), CMI at r = 1 and 3" if task.truth is None else "CMI less truth where it is farthest"
    print(f"\n10^-3 nats        cross-entropy  of t = {', '.join(map(str, SHOWN))}: {what}", *rows, sep="\n")


if __name__ == "__main__":
    main()

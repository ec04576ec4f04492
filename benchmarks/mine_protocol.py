"""The protocol of the published map: MINE on one fixed noise draw, trained, and read in four ways.

After Hu, Liu, Zhang and Gao, arXiv:2508.06614.  Every image is noised once, y = (1 - t) x + t z.  A is the
centre pixel; for I(A:B_r) all outside the square of side 2 r + 1 is set to 0, for I(A:BC) nothing is.  A network T
maximises the bound of Donsker and Varadhan (in nats)

    I >= E_joint[T] - ln E_marginal[exp T]

over batches of 100 images: joint as they are, marginal with the centre pixels permuted among them.  The gradient
divides by a moving average of E_marginal[exp T] (Belghazi et al., arXiv:1801.04062, section 3.2).  What is reported
is the mean of the bound of a batch over the last tenth of the steps, with dropout on, and of three such runs for
I(A:BC) the largest; the CMI is I(A:BC) - I(A:B_r), cut off at 0.

Four readings of the same network tell the parts of its bias apart:

    published   training batches, dropout on, bound by batch, the last tenth of the steps so far
    by batch    training images, dropout off, bound by batch: against "published" it is the dropout (and the lag of
                the tenth)
    training    training images with their fixed noise, dropout off, one bound over all of them, none keeping its
                own pixel: against "by batch" it is the logarithm of a mean over 100, which reads too much by about
                v / 200, and the pixels that a permutation leaves in place, which take off about v / 100
                (v the variance of exp T over marginal samples in units of its squared mean, at the best T)
    held out    other images with noise of their own, dropout off, one bound over all of them: a lower bound of the
                truth but for its error; against "training" it is what was memorised

As in the authors' published code, weights start as torch's layers do, repeats share the images and their noise and
differ in weights, batches and dropout, and a permutation may leave a pixel in its place, on average one of a batch.
Of 27 x 27 images the pooling drops the last row and column of the convolution, and with it the last row and column
of pixels: T sees no more of "the whole image".
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from mine_network import MineSettings, StatisticsNetwork
from numpy.typing import NDArray
from torch import Tensor

from cmi.checks import whole_number
from cmi.regions import chebyshev_distance

FloatArray = NDArray[np.float64]
Images = NDArray[np.floating[Any]]

__all__ = [
    "Images",
    "Look",
    "Part",
    "Stream",
    "donsker_varadhan",
    "mine_information",
    "mine_loss",
    "read",
    "square",
    "stream",
]


class Stream(IntEnum):
    """What is drawn; the first word of the spawn key."""

    IMAGES = 1
    NOISE = 2
    WEIGHTS = 3
    BATCHES = 4
    DROPOUT = 5
    READING = 6
    SPLIT = 7


class Part(IntEnum):
    """Of which images; the second word of the spawn key where it matters."""

    TRAINING = 1
    HELD_OUT = 2


def stream(seed: int, *key: int) -> np.random.SeedSequence:
    """Seed of one stream, independent of which others are drawn."""
    return np.random.SeedSequence(seed, spawn_key=tuple(int(word) for word in key))


@dataclass(frozen=True, slots=True)
class Look:
    """The four readings of one network after some steps, in nats; held out is nan where there was nothing."""

    step: int
    published: float
    published_error: float  # of its mean over batches: not of what another training would give
    by_batch: float
    training: float
    training_error: float
    held_out: float
    held_out_error: float
    steps_per_second: float  # of training alone


def mine_loss(joint: Tensor, marginal: Tensor, average: float, rate: float) -> tuple[Tensor, float, float]:
    """Loss whose gradient is the corrected one, the new moving average, and the bound of this batch.

    With M the moving average of mean exp T, this batch counted in, the gradient that is followed is
    E[dT]_joint - E[exp(T) dT]_marginal / M; the loss itself is no bound.

    Parameters
    ----------
    joint, marginal : (n,) tensors
        T of both halves.
    average : float
        M so far.
    rate : float
        Weight of this batch in it.
    """
    mean, mean_exp = joint.mean(), marginal.exp().mean()
    average = (1.0 - rate) * average + rate * mean_exp.item()
    return mean_exp / average - mean, average, (mean - mean_exp.log()).item()


def donsker_varadhan(joint: FloatArray, marginal: FloatArray) -> float:
    """Mean of T over joint samples - ln mean exp T over marginal ones, in nats; arrays of any shape.

    Examples
    --------
    >>> donsker_varadhan(np.array([1.0, 1.0]), np.array([1.0]))
    0.0
    """
    top = float(marginal.max())
    return float(joint.mean()) - top - math.log(float(np.exp(marginal - top).mean()))


@torch.no_grad()
def read(
    network: StatisticsNetwork,
    images: Tensor,
    rng: np.random.Generator,
    *,
    permutations: int = 10,
    batches: int = 0,
) -> tuple[float, float, float]:
    """Bound of a network over all images without dropout, its standard error, and the mean bound of batches.

    Parameters
    ----------
    images : (n, H, W) tensor
        Joint samples.
    permutations : int
        How many other centres every image is given; none is its own.
    batches : int
        How many times the images are parted into batches, each permuted in itself; 0: nan.

    Returns
    -------
    value, error, by_batch : float
        In nats. The error is that of images drawn anew for the same T, by the linear part of the bound: every image
        counts once as joint, and as the centre and the surroundings of marginal samples.
    """
    n, chunk = len(images), 2000
    weight = network.first.weight.view(-1, *network.cells, network.settings.channels)[:, *network.near].flatten(1)
    far = torch.empty(n, len(weight))  # of the hidden layer, what the cells that do not see the centre give
    patches = images[:, *network.patch].contiguous()
    for start in range(0, n, 500):
        pooled = network.pooled(images[start : start + 500])
        pooled[:, *network.near] = 0.0
        far[start : start + 500] = network.first(pooled.flatten(1))

    def statistic(rows: Tensor, centres: Tensor) -> FloatArray:
        parts = []
        for start in range(0, len(rows), chunk):
            some, other = rows[start : start + chunk], centres[start : start + chunk]
            near = network.near_centre(patches[some], other).flatten(1)
            hidden = torch.addmm(far[some], near, weight.T).relu_()
            parts.append(network.last(hidden)[:, 0])
        return np.asarray(torch.cat(parts).numpy(), dtype=np.float64)

    centre = images[:, *network.centre]
    joint = statistic(torch.arange(n), centre)
    marginal = np.empty((permutations, n))
    orders = [rng.permutation(n) for _ in range(permutations)]
    for each, order in zip(marginal, orders, strict=True):
        rows = torch.from_numpy(order)
        each[:] = statistic(rows, centre[rows.roll(1)])
    value = donsker_varadhan(joint, marginal)
    top = marginal.max()
    weights = np.exp(marginal - top)
    share = np.zeros(n)
    for each, order in zip(weights, orders, strict=True):
        share[order] += each
        share[np.roll(order, 1)] += each
    influence = joint - share / (permutations * weights.mean())
    error = float(influence.std(ddof=1)) / math.sqrt(n)
    size, bounds = network.settings.batch, []
    for _ in range(batches):
        order = rng.permutation(n)[: n - n % size].reshape(-1, size)
        other = rng.permuted(order, axis=1)
        found = statistic(torch.from_numpy(order.ravel()), centre[torch.from_numpy(other.ravel())])
        bounds += [
            donsker_varadhan(joint[one], two) for one, two in zip(order, found.reshape(-1, size), strict=True)
        ]
    return value, error, float(np.mean(bounds)) if bounds else math.nan


def mine_information(
    images: Images,
    centre: tuple[int, int],
    settings: MineSettings,
    *,
    held_out: Images | None = None,
    looks: Sequence[int] | None = None,
    seed: int = 0,
    key: Sequence[int] = (),
    permutations: int = 10,
    progress: Callable[[Look], None] | None = None,
) -> list[Look]:
    """Train a statistics network on joint images, and read it after some of the steps.

    Parameters
    ----------
    images : (n, H, W) array
        Noised once; what T is not to see is 0 (`square`).
    centre : (int, int)
        The pixel A, counted from 0.
    settings : MineSettings
    held_out : (m, H, W) array, optional
        Images and noise that are never trained on.
    looks : sequence of int, optional
        Steps after which it is read; default a 16th, 8th, quarter, half, three quarters and all of them.
    seed : int
    key : sequence of int
        Which run this is, among those of a seed: others have other weights, batches and dropout.
    permutations : int
        Of the readings without dropout.
    progress : callable, optional
        Is told every look.

    Returns
    -------
    list of Look
        I(centre : the rest of what is not 0) in nats, after rising numbers of steps.

    Raises
    ------
    TypeError, ValueError
        If shapes, centre or looks do not fit.
    FloatingPointError
        If the bound of a batch is not finite.
    """
    shape, centre = _checked_images(images, centre, settings, held_out)
    steps = settings.steps
    looks = _looks(steps) if looks is None else [whole_number(step, "a look", least=1) for step in looks]
    if not looks or looks[-1] > steps or any(a >= b for a, b in pairwise(looks)):
        raise ValueError(f"looks must rise and end at step {steps} at the latest, got {looks}")
    permutations = whole_number(permutations, "permutations", least=1)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(stream(seed, Stream.WEIGHTS, *key).generate_state(1)[0]))
        network = StatisticsNetwork(shape, centre, settings)
    batches = np.random.default_rng(stream(seed, Stream.BATCHES, *key))
    drop = np.random.default_rng(stream(seed, Stream.DROPOUT, *key))
    training = torch.as_tensor(np.asarray(images), dtype=torch.float32)
    other = None if held_out is None else torch.as_tensor(np.asarray(held_out), dtype=torch.float32)
    optimizer = torch.optim.AdamW(network.parameters(), settings.rate, weight_decay=settings.decay, fused=True)
    bounds, average, found, seconds = np.empty(steps), 1.0, [], 0.0
    begun = time.perf_counter()
    for step in range(1, looks[-1] + 1):
        some = training[torch.from_numpy(batches.integers(len(training), size=settings.batch))]
        moved = some[:, *centre][torch.from_numpy(batches.permutation(settings.batch))]
        values = network.statistic(network.pair(some, moved), drop)
        joint, marginal = values[: settings.batch], values[settings.batch :]
        loss, average, bounds[step - 1] = mine_loss(joint, marginal, average, settings.average)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
        if not math.isfinite(bounds[step - 1]):
            raise FloatingPointError(f"the bound of step {step} is not finite: lower the learning rate")
        if step in looks:
            seconds += time.perf_counter() - begun
            found.append(_look(network, step, bounds, (training, other), (seed, key), permutations, seconds))
            if progress is not None:
                progress(found[-1])
            begun = time.perf_counter()
    return found


def _look(
    network: StatisticsNetwork,
    step: int,
    bounds: FloatArray,
    images: tuple[Tensor, Tensor | None],
    which: tuple[int, Sequence[int]],
    permutations: int,
    seconds: float,
) -> Look:
    last = bounds[step - math.ceil(network.settings.window * step) : step]
    seed, key = which
    rngs = [
        np.random.default_rng(stream(seed, Stream.READING, part, step, *key))
        for part in (Part.TRAINING, Part.HELD_OUT)
    ]
    value, error, by_batch = read(
        network, images[0], rngs[0], permutations=permutations, batches=-(-permutations // 2)
    )
    held_out = (math.nan, math.nan, math.nan)
    if images[1] is not None:
        held_out = read(network, images[1], rngs[1], permutations=permutations)
    return Look(
        step,
        float(last.mean()),
        float(last.std()) / math.sqrt(len(last)),
        by_batch,
        value,
        error,
        held_out[0],
        held_out[1],
        step / seconds,
    )


def _looks(steps: int) -> list[int]:
    return sorted({max(1, steps * part // 16) for part in (1, 2, 4, 8, 12, 16)})


def _checked_images(
    images: Images, centre: tuple[int, int], settings: MineSettings, held_out: Images | None
) -> tuple[tuple[int, int], tuple[int, int]]:
    """Shape of an image and the centre as whole numbers, or one sentence on what does not fit."""
    for name, array, least in (("images", images, settings.batch), ("held_out", held_out, 2)):
        if array is None:
            continue
        if np.ndim(array) != 3 or min(np.shape(array)[1:]) < 4:
            raise ValueError(f"{name} must have shape (n, H, W) with sides of at least 4, got {np.shape(array)}")
        if len(array) < least:
            raise ValueError(f"{name} are {len(array)}: at least {least} are needed")
        if not np.isfinite(array).all():
            raise ValueError(f"{name} hold values that are not finite")
    height, width = np.shape(images)[1:]
    if held_out is not None and np.shape(held_out)[1:] != (height, width):
        raise ValueError(f"held_out images have shape {np.shape(held_out)[1:]}, the others {(height, width)}")
    if len(centre) != 2:
        raise ValueError(f"the centre has a row and a column, got {tuple(centre)}")
    row, column = (whole_number(at, "a coordinate of the centre", least=0) for at in centre)
    if row >= height or column >= width:
        raise ValueError(f"the centre {(row, column)} lies outside images of shape {(height, width)}")
    return (height, width), (row, column)


def square(images: Images, centre: tuple[int, int], r: int) -> Images:
    """Images with all outside the square of side 2 r + 1 around the centre set to 0.

    Examples
    --------
    >>> square(np.ones((1, 5, 5)), (2, 2), 1).sum()
    np.float64(9.0)
    """
    r = whole_number(r, "r", least=0)
    near = chebyshev_distance(images.shape[1:], center=centre).reshape(images.shape[1:]) <= r
    return np.where(near, images, images.dtype.type(0))

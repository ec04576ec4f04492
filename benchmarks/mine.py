"""Mutual information as the published map was made: MINE on one fixed noise draw, read on its own training images.

    python benchmarks/mine.py --model field --level 0.3 --widths 1,3,12 --steps 20000 --out field.csv
    python benchmarks/mine.py --model pure-noise --widths "" --steps 20000
    python benchmarks/mine.py --data FOLDER_OR_FILE --crop 1:,1: --level 0.3 --widths 1 --steps 20000

The protocol (Hu, Liu, Zhang, Gao, arXiv:2508.06614).  Every image is noised once, y = (1 - t) x + t z.  A is the
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

The field (`cmi.exact.GaussianField`) is not in [0, 1]: it has mean 0 and the variance that the command prints, and
is noised by the same y = (1 - t) x + t z, which is the model's own schedule ("interpolation").

Measured, seed 0, one run each, 60,000 images, one thread of a shared machine (17 to 26 steps/s), t = 0.3 but for
the noise.  These are at most 7 % of the published steps, and say nothing of what 300,000 read.

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
0.0018) and -0.039 on MNIST, both 0 once cut off. Dropout (with the lag) takes off 0.012 to 0.021, batches 0.000
to 0.002. Memorising is not seen within the errors: training less held out goes from -0.004 at 5,000 steps to
+0.002 at 20,000. On white noise T becomes a constant, and does so with 6,000 images (--samples 6000) too.
"""

from __future__ import annotations

import argparse
import csv
import math
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from enum import IntEnum
from itertools import pairwise, product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cmi import Partition, open_dataset
from cmi.checks import whole_number
from cmi.exact import GaussianField
from cmi.exact.gaussian import GaussianModel
from cmi.noise import noise_schedule
from cmi.output import check_output
from cmi.regions import chebyshev_distance

try:
    import torch
    from torch import Tensor, nn
    from torch.nn import functional
except ImportError as error:
    raise ImportError('the benchmark of MINE needs torch: pip install "phase-scan[torch]"') from error

FloatArray = NDArray[np.float64]
Images = NDArray[np.floating[Any]]

__all__ = [
    "Look",
    "MineSettings",
    "StatisticsNetwork",
    "Stream",
    "donsker_varadhan",
    "gaussian_information",
    "mine_information",
    "mine_loss",
    "read",
    "square",
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
class MineSettings:
    """How the network is built and trained; the defaults are the published ones.

    Parameters
    ----------
    steps : int
        Of AdamW: 300,000 are 500 epochs of 60,000 images.
    batch : int
        Images per step, drawn with replacement.
    rate, decay : float
        Learning rate and weight decay of AdamW.
    channels, hidden : int
        Of the 3 x 3 convolution, and of the layer after it.
    drop_features, drop_hidden : float
        Share that is dropped after the pooling, and after the hidden layer.
    average : float
        Rate of the moving average of mean exp T, which starts at 1.
    window : float
        Share of the steps so far, the last of them, over which the published reading is a mean.
    """

    steps: int = 300_000
    batch: int = 100
    rate: float = 1e-4
    decay: float = 1e-4
    channels: int = 32
    hidden: int = 256
    drop_features: float = 0.10
    drop_hidden: float = 0.30
    average: float = 1e-3
    window: float = 0.1

    def __post_init__(self) -> None:
        for name, least in (("steps", 1), ("batch", 2), ("channels", 1), ("hidden", 1)):
            whole_number(getattr(self, name), name, least=least)
        for name in ("drop_features", "drop_hidden"):
            if not 0.0 <= getattr(self, name) < 1.0:
                raise ValueError(f"{name} is a share from 0 to below 1, got {getattr(self, name)}")
        for name in ("average", "window"):
            if not 0.0 < getattr(self, name) <= 1.0:
                raise ValueError(f"{name} lies above 0 and at most at 1, got {getattr(self, name)}")
        if not (self.rate > 0.0 and self.decay >= 0.0):
            raise ValueError(f"AdamW needs rate > 0 and decay >= 0, got {self.rate} and {self.decay}")


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


class StatisticsNetwork(nn.Module):
    """T: conv 3 x 3, ReLU, mean over 2 x 2, dropout, linear, ReLU, dropout, linear to one number.

    Only 2 x 2 of the pooled cells see the centre pixel, so that what other centres do to T costs little: `pair` and
    `read` use it, and give what the whole network gives.

    Parameters
    ----------
    shape : (int, int)
        Of an image.
    centre : (int, int)
        The pixel A.
    settings : MineSettings
    """

    def __init__(self, shape: tuple[int, int], centre: tuple[int, int], settings: MineSettings) -> None:
        super().__init__()
        self.settings = settings
        self.centre = centre
        self.cells = tuple((side - 2) // 2 for side in shape)
        seen = [_cells_that_see(at, side) for at, side in zip(centre, shape, strict=True)]
        if min(stop - start for start, stop in seen) < 1:
            raise ValueError(f"the network does not see the centre {centre} of images of shape {shape}")
        self.near = tuple(slice(start, stop) for start, stop in seen)
        self.patch = tuple(slice(2 * start, 2 * stop + 2) for start, stop in seen)  # the pixels of those cells
        self.conv = nn.Conv2d(1, settings.channels, 3)
        self.first = nn.Linear(math.prod(self.cells) * settings.channels, settings.hidden)
        self.last = nn.Linear(settings.hidden, 1)

    def pooled(self, images: Tensor) -> Tensor:
        """Convolution, ReLU and mean: (n, H, W) -> (n, (H - 2) // 2, (W - 2) // 2, channels)."""
        found: Tensor = _Pooled.apply(images, self.conv.weight, self.conv.bias)  # type: ignore[no-untyped-call]
        return found

    def near_centre(self, patches: Tensor, centres: Tensor) -> Tensor:
        """Pooled cells that see the centre, (n, 2, 2, channels), of patches with other centres."""
        patches = patches.clone()
        patches[:, self.centre[0] - self.patch[0].start, self.centre[1] - self.patch[1].start] = centres
        return self.pooled(patches)

    def pair(self, images: Tensor, centres: Tensor) -> Tensor:
        """Pooled cells of the images as they are, then with other centres: (2 n, h, w, channels)."""
        pooled = self.pooled(images)
        both = torch.cat([pooled, pooled])
        both[len(images) :, *self.near] = self.near_centre(images[:, *self.patch], centres)
        return both

    def statistic(self, pooled: Tensor, drop: np.random.Generator | None = None) -> Tensor:
        """T of pooled cells, (n, h, w, channels) -> (n,); with dropout if there is a generator for it."""
        features = pooled.flatten(1)
        if drop is not None:
            features = features * dropout_mask(features.shape, self.settings.drop_features, drop)
        hidden = functional.relu(self.first(features))
        if drop is not None:
            hidden = hidden * dropout_mask(hidden.shape, self.settings.drop_hidden, drop)
        found: Tensor = self.last(hidden)
        return found[:, 0]

    def forward(self, images: Tensor) -> Tensor:
        """T of images without dropout, (n, H, W) -> (n,)."""
        return self.statistic(self.pooled(images))


class _Pooled(torch.autograd.Function):
    """Convolution 3 x 3, ReLU and mean over 2 x 2 as four products of matrices, one per place in the 2 x 2.

    For one channel this takes half the time of torch's layers on a CPU; rows and columns that the pooling drops are
    not computed.  No gradient is taken of the images.
    """

    @staticmethod
    def forward(ctx: Any, images: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        n, height, width = images.shape
        h, w = (height - 2) // 2, (width - 2) // 2
        seen, found = [], []
        for a, b in product((0, 1), repeat=2):
            shifts = [
                images[:, a + i : a + i + 2 * h : 2, b + j : b + j + 2 * w : 2]
                for i, j in product(range(3), repeat=2)
            ]
            seen.append(torch.stack(shifts).view(9, -1))
            found.append(torch.addmm(bias, seen[-1].T, weight.view(-1, 9).T).relu_())
        ctx.save_for_backward(*seen, *found)
        total = (found[0] + found[1]).add_(found[2]).add_(found[3]).mul_(0.25)
        return total.view(n, h, w, -1)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[None, Tensor, Tensor]:
        saved = ctx.saved_tensors
        grad = grads[0].flatten(0, 2) * 0.25
        weight, bias = grad.new_zeros(9, grad.shape[1]), grad.new_zeros(grad.shape[1])
        for seen, found in zip(saved[:4], saved[4:], strict=True):
            live = grad * (found > 0.0)
            weight.addmm_(seen, live)
            bias += live.sum(0)
        return None, weight.T.reshape(-1, 1, 3, 3), bias


def _cells_that_see(at: int, side: int) -> tuple[int, int]:
    """First and last + 1 of the pooled cells along an axis whose 4 pixels hold that coordinate."""
    return max(0, at - 2) // 2, min(at // 2, (side - 2) // 2 - 1) + 1


def dropout_mask(shape: Sequence[int], share: float, rng: np.random.Generator) -> Tensor:
    """0 with that probability (to 1/65536), else what keeps the mean at 1, exactly.

    Sixteen random bits per number: several times faster than torch's own.
    """
    count = math.prod(shape)
    bits = rng.bit_generator.random_raw(-(-count // 4)).view(np.uint16)[:count]
    least = round(share * 65536)
    kept = np.multiply(bits >= least, np.float32(65536 / (65536 - least)), dtype=np.float32)
    return torch.from_numpy(kept.reshape(tuple(shape)))


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

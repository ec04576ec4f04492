"""The statistics network of the published map: its layers, and the settings that it is built and trained with."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from cmi.checks import whole_number

__all__ = ["MineSettings", "StatisticsNetwork", "dropout_mask"]


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

"""Images as denoisers take them: data sets and arrays as (n, channels, rows, columns) tensors, parted at random."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cmi.data.sample_set import SampleSet
from cmi.scan import data_of

__all__ = ["fingerprint", "images_of", "parted", "set_aside", "some_of"]

_SPLIT, _ASIDE, _SOME = 11, 16, 18  # first words of the spawn keys
_SHARE, _MOST = 1 / 6, 10_000  # of the images are set aside, and at most so many


def images_of(data: Any, channel_axis: int | None = None) -> Tensor:
    """Return clean images (n, channels, rows, columns) in single precision, integers scaled as in a scan.

    Parameters
    ----------
    data : SampleSet, (n, channels, rows, columns) tensor, or array
        Arrays are (n, rows, columns), lines (n, length), or with channels where `channel_axis` says.
    channel_axis : int, optional
        Axis of one sample of an array that holds channels.

    Raises
    ------
    TypeError, ValueError
        For what is no data set of finite numbers, or has more axes than images.

    Examples
    --------
    >>> import numpy as np
    >>> images_of(np.zeros((5, 8, 6))).shape, images_of(np.zeros((5, 8, 6, 3)), channel_axis=-1).shape
    (torch.Size([5, 1, 8, 6]), torch.Size([5, 3, 8, 6]))
    >>> images_of(np.zeros((5, 12))).shape
    torch.Size([5, 1, 1, 12])
    """
    if isinstance(data, Tensor):
        if data.dim() != 4 or not data.is_floating_point():
            raise ValueError(
                "a tensor of images is floating point, of shape (n, channels, rows, columns), got "
                f"{data.dtype} of shape {tuple(data.shape)}"
            )
        return _finite(data.detach().cpu())
    samples, _ = data_of(data)
    values = samples.values.reshape(len(samples.values), *samples.shape)
    if isinstance(data, SampleSet):
        channel_axis = data.channel_axis
    if channel_axis is not None:
        if not -len(samples.shape) <= channel_axis < len(samples.shape):
            raise ValueError(f"samples of shape {samples.shape} have no axis {channel_axis} of channels")
        values = np.moveaxis(values, 1 + channel_axis % len(samples.shape), 1)
    else:
        values = values[:, None]
    if values.ndim == 3:
        values = values[:, :, None]
    if values.ndim != 4:
        hint = ": say which axis holds channels (images_of(data, channel_axis=0), --channel-axis 0)"
        raise ValueError(
            f"denoisers are for images and lines, samples of shape {samples.shape} are neither"
            + hint * (channel_axis is None and len(samples.shape) == 3)
        )
    return _finite(torch.from_numpy(np.ascontiguousarray(values)))


def _finite(values: Tensor) -> Tensor:
    """In single precision, if that holds them."""
    found = values.float()
    if not bool(torch.isfinite(found).all()):
        raise ValueError("images hold values that are not finite, or beyond single precision")
    return found


def parted(n: int, held_out: int, seed: int) -> tuple[Tensor, Tensor]:
    """Numbers of images to train on, and of so many that are held out, drawn at random.

    Raises
    ------
    ValueError
        If that leaves none to train on.
    """
    if not 0 < held_out < n:
        raise ValueError(
            f"of {n} images {held_out} cannot be held out: some are to train on, and some to choose by"
        )
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(_SPLIT,)))
    order = rng.permutation(n)
    return torch.from_numpy(np.sort(order[held_out:])), torch.from_numpy(np.sort(order[:held_out]))


def set_aside(images: Tensor, seed: int) -> tuple[Tensor, Tensor]:
    """Part images into those to train on and those to score by: one in six, at most 10,000.

    The same images and seed give the same parts.

    Examples
    --------
    >>> [len(part) for part in set_aside(torch.zeros(600, 1, 2, 2), 0)]
    [500, 100]
    """
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(_ASIDE,)))
    order = torch.from_numpy(rng.permutation(len(images)))
    kept = min(round(_SHARE * len(images)), _MOST)
    return images[order[kept:].sort().values], images[order[:kept].sort().values]


def some_of(images: Tensor, count: int, seed: int) -> Tensor:
    """So many of the images, drawn at random without replacement, in their order; all if there are no more.

    Examples
    --------
    >>> some_of(torch.arange(8.0), 3, seed=0)
    tensor([0., 1., 7.])
    """
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(_SOME,)))
    return images[torch.from_numpy(rng.permutation(len(images))[:count]).sort().values]


def fingerprint(images: Tensor) -> str:
    """SHA-256 of the values: whether two sets are the same."""
    return hashlib.sha256(images.numpy(force=True).tobytes()).hexdigest()

"""Images as denoisers take them: data sets and arrays as (n, channels, rows, columns) tensors, parted at random."""

from __future__ import annotations

import hashlib
from collections import Counter
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cmi.data.sample_set import SampleSet
from cmi.scan import data_of

__all__ = ["fingerprint", "image_hashes", "images_of", "not_among", "parted", "set_aside", "some_of"]

_SPLIT, _ASIDE, _HASHED, _SOME = 11, 16, 17, 18  # first words of the spawn keys
_CELL = 2.0**-12  # of projections of images, in units of their size
_CHUNK = 4096  # images at once
_DISTINCT = 0.9  # share of distinct images from which on an image is known by its values
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
        values = np.moveaxis(values, 1 + channel_axis % len(samples.shape), 1)
    else:
        values = values[:, None]
    if values.ndim == 3:
        values = values[:, :, None]
    if values.ndim != 4:
        raise ValueError(f"denoisers are for images and lines, samples of shape {samples.shape} are neither")
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


def image_hashes(images: Tensor) -> Tensor:
    """Two numbers of 64 bits for every image, (n, 2): images that differ by rounding alone have one in common.

    Four projections in random directions, in units of the size of the image (a power of two), are cut to multiples
    of 2^-12, and once more with powers moved by a half and multiples by a quarter (so that none are the same where
    the powers differ by one): what rounding parts in one, it leaves in the other.
    """
    rng = np.random.default_rng(np.random.SeedSequence(0, spawn_key=(_HASHED,)))
    directions = rng.standard_normal((int(np.prod(images.shape[1:])), 4))
    directions /= np.sqrt(len(directions))
    shape = np.array(images.shape[1:], dtype=np.int64).tobytes()
    found = np.empty((len(images), 2), dtype=np.int64)
    for begin in range(0, len(images), _CHUNK):
        x = images[begin : begin + _CHUNK].detach().cpu().double().flatten(1).numpy()
        size = np.sqrt((x**2).mean(axis=1, keepdims=True))
        power, place = np.log2(np.where(size > 0.0, size, 1.0)), x @ directions / _CELL
        for grid in (0, 1):
            whole = np.floor(power + 0.5 * grid)
            multiple = np.floor(place / np.exp2(whole) + 0.25 * grid)
            cells = np.concatenate([multiple, whole], axis=1).astype(np.int64)
            for row, cell in enumerate(cells, begin):
                digest = hashlib.blake2b(cell.tobytes() + shape, digest_size=8, salt=b"%d" % grid).digest()
                found[row, grid] = int.from_bytes(digest, "little", signed=True)
    return torch.from_numpy(found)


def not_among(own: NDArray[np.int64], others: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which hashes (n, 2) of images are not among others (m, 2).

    Where the others repeat, since they are draws of few states, that says nothing of single images: then as many of
    a state are left out as there are.
    """
    left = Counter(others.ravel().tolist())
    repeat = len(np.unique(others[:, 0])) < _DISTINCT * len(others)
    found = np.ones(len(own), dtype=bool)
    for row, (one, two) in enumerate(own.tolist()):
        if left[one] > 0 or left[two] > 0:
            found[row] = False
            if repeat:
                left[one] -= 1
                left[two] -= 1
    return found

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

__all__ = ["fingerprint", "image_hashes", "images_of", "not_among", "parted", "set_aside"]

_SPLIT, _ASIDE = 11, 16  # first words of the spawn keys
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


def fingerprint(images: Tensor) -> str:
    """SHA-256 of the values: whether two sets are the same."""
    return hashlib.sha256(images.numpy(force=True).tobytes()).hexdigest()


def image_hashes(images: Tensor) -> Tensor:
    """A number for every image, (n,) of 64 bits: the same for values that agree to three digits and a half.

    So images that were scaled in single and in double precision have the same.
    """
    # + 0.0: there are two zeros; 12 bits of the mantissa are kept, rounded
    bits = (images.detach().cpu().float() + 0.0).contiguous().numpy().view(np.int32).astype(np.int64)
    rounded = ((bits + 0x400) & ~0x7FF).reshape(len(images), -1)
    digests = [hashlib.blake2b(row.tobytes(), digest_size=8).digest() for row in rounded]
    return torch.from_numpy(np.frombuffer(b"".join(digests), dtype=np.int64).copy())


def not_among(own: Tensor, others: Tensor) -> NDArray[np.bool_]:
    """Which hashes, (n,), are not among others: of one that is there k times k are left out."""
    left = Counter(others.tolist())
    found = np.ones(len(own), dtype=bool)
    for row, each in enumerate(own.tolist()):
        if left[each] > 0:
            left[each] -= 1
            found[row] = False
    return found

"""Signatures: a few numbers by which an image is known again, among those that a network was trained on, say."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial import KDTree
from torch import Tensor

__all__ = ["SIGNATURE", "image_signatures", "not_among"]

_DIRECTIONS = 17  # first word of the spawn key
SIGNATURE = 10  # numbers by which an image is known again
_UNIT, _FINER = 2.0**-12, 2.0**-6  # of them; so much finer for images of few values, which are near each other
_SAME = 128  # units by which numbers of the same image differ at most: 3 % of its spread
_LARGEST = 2**31 - 1
_ROUNDING = 1e-6  # of the size of an image, below which its values are all the same
_TELLING = 10  # single images from which on their share tells whether a set is among another
_CHUNK = 4096  # images at once


def image_signatures(images: Tensor) -> Tensor:
    """Ten whole numbers for every image, (n, 10), by which it is known again after rounding.

    With m the mean and s the standard deviation of its values: eight projections of (x - m) / s in fixed random
    directions, m / s and ln s, each in units of 2^-12 (of images of fewer values than projections, 2^-18). Rounding
    to 8 bits, or to half precision, moves none of them by more than `not_among` allows.

    Examples
    --------
    >>> x = torch.rand(3, 1, 8, 8)
    >>> not_among(image_signatures(x.half().float()).numpy(), image_signatures(x).numpy()).tolist()
    [False, False, False]
    """
    d = int(np.prod(images.shape[1:]))
    rng = np.random.default_rng(np.random.SeedSequence(0, spawn_key=(_DIRECTIONS,)))
    directions = rng.standard_normal((d, SIGNATURE - 2)) / np.sqrt(d)
    unit = _UNIT if d >= SIGNATURE - 2 else _UNIT * _FINER
    found = np.empty((len(images), SIGNATURE), dtype=np.int32)
    for begin in range(0, len(images), _CHUNK):
        x = images[begin : begin + _CHUNK].detach().cpu().double().flatten(1).numpy()
        mean, size = x.mean(axis=1, keepdims=True), np.sqrt((x**2).mean(axis=1, keepdims=True))
        spread = x.std(axis=1, keepdims=True)
        constant = spread <= _ROUNDING * size  # of such an image nothing is left but its value
        s = np.where(constant, np.where(size > 0.0, size, 1.0), spread)
        told = np.concatenate([np.where(constant, 0.0, x - mean) / s @ directions, mean / s, np.log(s)], axis=1)
        found[begin : begin + len(x)] = np.clip(np.rint(told / unit), -_LARGEST, _LARGEST)
    return torch.from_numpy(found)


def not_among(own: NDArray[np.int32], others: NDArray[np.int32]) -> NDArray[np.bool_]:
    """Which images are not among others, by their signatures (n, 10) and (m, 10).

    An image that is there once is left out as often as it comes. Of one that is there several times, as blank ones
    or draws of few states are, others may have been drawn: as many are left out as there are, times the share of
    the single others that are among the own. (If the others are not in the own set at all, that is none of them.)
    """
    found = np.ones(len(own), dtype=np.bool_)
    if len(own) == 0 or len(others) == 0:
        return found
    mine, which = np.unique(own, axis=0, return_inverse=True)
    which = which.reshape(-1)
    theirs, times = np.unique(others, axis=0, return_counts=True)
    near, nearest = _nearest(mine, theirs)
    single = theirs[times == 1]
    share = _nearest(single, mine)[0].mean() if len(single) >= _TELLING else 1.0
    many = np.where(near, times[nearest], 0)
    left_out = np.where(many == 1, len(own), np.ceil(share * many))
    order = np.argsort(which, kind="stable")  # how many of the same came before
    begins = np.searchsorted(which[order], np.arange(len(mine)))
    found[order] = np.arange(len(own)) - begins[which[order]] >= left_out[which[order]]
    return found


def _nearest(some: NDArray[np.int32], others: NDArray[np.int32]) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """Whether another signature is the same but for rounding, and which is nearest (0 where none is)."""
    distance, nearest = KDTree(others).query(some, p=np.inf, distance_upper_bound=_SAME + 0.5)
    same = np.isfinite(distance)
    return same, np.where(same, nearest, 0).astype(np.int64)

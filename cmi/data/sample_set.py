"""A data set in memory: samples in floating point and what is known of them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cmi.samples import numeric

__all__ = ["GUESSED", "SampleSet", "crop_slices", "guess_channel_axis", "to_unit_range"]

GUESSED = "was taken for the channels"  # ends the note of an axis


@dataclass(frozen=True, eq=False)
class SampleSet:
    """Samples and what is known of them, as `open_dataset` returns them.

    Parameters
    ----------
    samples : (n, *shape) array of float32 or float64
    name : str
        File or data-set name, without folders.
    format : str
        What kind of file it was read from.
    total : int
        Samples in the file; more than n where a limit was given.
    channel_axis : int or None
        Axis of `shape` that holds channels.
    columns : tuple of str or None
        Column names of a table.
    notes : tuple of str
        What was done on the way: scaling, guesses, conversions.
    crop : str or None
        The crop that was applied, as given.
    size : int or None
        Side in pixels of the data set's own, where these are one of several sizes of it.
    block : int or None
        Side in pixels of the blocks whose means the samples hold.
    """

    samples: NDArray[np.floating]
    name: str
    format: str
    total: int
    channel_axis: int | None = None
    columns: tuple[str, ...] | None = None
    notes: tuple[str, ...] = ()
    crop: str | None = None
    size: int | None = None
    block: int | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one sample."""
        return tuple(int(s) for s in self.samples.shape[1:])

    def __len__(self) -> int:
        return len(self.samples)

    def cropped(self, text: str) -> SampleSet:
        """Keep a part of every sample, written as slices per axis.

        Examples
        --------
        >>> s = SampleSet(np.zeros((3, 28, 28)), "x", "array", 3)
        >>> s.cropped("1:,1:").shape
        (27, 27)
        """
        part = self.samples[(slice(None), *crop_slices(text, self.shape))]
        if self.columns is not None:
            columns = tuple(np.array(self.columns)[crop_slices(text, self.shape)[0]].tolist())
            return replace(self, samples=part, crop=text, columns=columns)
        return replace(self, samples=part, crop=text)

    def __repr__(self) -> str:
        return f"SampleSet({self.name!r}, {len(self)} samples of shape {self.shape}, {self.format})"


def crop_slices(text: str, shape: tuple[int, ...]) -> tuple[slice, ...]:
    """Read ``"1:,1:"`` as slices of a sample shape.

    Raises
    ------
    ValueError
        If it is no list of start:stop, names too many axes, or leaves nothing.
    """
    parts = text.split(",")
    if len(parts) > len(shape):
        raise ValueError(
            f"the crop {text!r} has {len(parts)} parts, but a sample of shape {shape} has {len(shape)} axes"
        )
    slices = []
    for part, size in zip(parts, shape, strict=False):
        try:
            start, stop = (int(number) if number.strip() else None for number in part.split(":"))
        except ValueError:
            raise ValueError(f"the crop {text!r} is not start:stop per axis, as in 1:,1: or 2:-2,2:-2") from None
        kept = slice(start, stop)
        if len(range(*kept.indices(size))) == 0:
            raise ValueError(f"the crop {text!r} leaves nothing of an axis of {size}")
        slices.append(kept)
    return tuple(slices)


def to_unit_range(array: NDArray[Any]) -> tuple[NDArray[np.floating], str | None]:
    """Turn integers into floating point, grey levels into [0, 1]; say what was done.

    Floating-point data stay as they are.  Integers become float32 (exact to 6e-8).  Those of 0 and 1, and those
    with negative values (spins, say), keep their values.  The others are divided by the top of their range: 255 for
    8-bit and 65535 for unsigned 16-bit data; for wider types 255, 65535 or their largest value, whichever is the
    smallest that holds it.

    Examples
    --------
    >>> scaled, note = to_unit_range(np.array([[0, 255]], dtype=np.uint8))
    >>> scaled.tolist(), note
    ([[0.0, 1.0]], 'integer values were divided by 255, to lie in [0, 1]')
    """
    if array.dtype.kind == "b":
        return array.astype(np.float32), "booleans were read as 0 and 1"
    if array.dtype.kind not in "iu":
        return numeric(array), None
    if array.size and array.min() < 0:
        return numeric(array), "integer values below 0: not grey levels, kept as they are"
    top = int(array.max(initial=0))
    if top <= 1:
        return array.astype(np.float32), "integer values 0 and 1 were kept as they are"
    full = 65535 if array.dtype == np.uint16 else next((bound for bound in (255, 65535) if top <= bound), top)
    scaled = array.astype(np.float32)
    scaled /= np.float32(full)
    return scaled, f"integer values were divided by {full}, to lie in [0, 1]"


def guess_channel_axis(shape: tuple[int, ...]) -> int | None:
    """Axis of 1, 3 or 4 channels of a three-dimensional sample: the last if it has so many, else the first."""
    if len(shape) != 3:
        return None
    return next((axis for axis in (2, 0) if shape[axis] in (1, 3, 4) and max(shape) > 4), None)

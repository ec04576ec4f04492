"""Regions: A, the shells around it, and the nested buffers they make.

A partition is A and an ordered list of shells S_1, ..., S_m.  The buffer of cut i is B_i = S_1..S_i and what it
screens off is C_i = S_{i+1}..S_m.  In images the shells are Chebyshev rings: B_r is all pixels within
max-distance r of the square A, C_r the rest (up to `reach`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise, product

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cmi.checks import whole_number

IntArray = NDArray[np.int64]

__all__ = ["Partition", "chebyshev_distance", "neighbour_windows"]


@dataclass(frozen=True, eq=False)
class Partition:
    """A and the ordered shells around it, as flat indices into a sample of any shape.

    Parameters
    ----------
    A : array of int
        Flat (C order) indices of the region A; not empty.
    shells : sequence of arrays of int
        S_1, ..., S_m, at least two. All but the last may be empty (an empty S_1 asks for no buffer at all).
    widths : sequence of int, optional
        Labels of the m - 1 cuts; default 1, ..., m - 1.

    Raises
    ------
    TypeError, ValueError
        If an index is not an integer, negative, or in two regions; if A or the last shell is empty; if the
        labels do not rise or are not m - 1.

    Examples
    --------
    >>> p = Partition([2], [[1, 3], [0, 4]])
    >>> p.B(1).tolist(), p.C(1).tolist()
    ([1, 3], [0, 4])
    """

    A: IntArray
    shells: tuple[IntArray, ...]
    widths: tuple[int, ...]

    def __init__(self, A: ArrayLike, shells: Iterable[ArrayLike], widths: Sequence[int] | None = None) -> None:
        region = _indices(A, "A")
        parts = tuple(_indices(shell, f"shell {i + 1}") for i, shell in enumerate(shells))
        if len(region) == 0:
            raise ValueError("A is empty: give it at least one index")
        if len(parts) < 2:
            raise ValueError(f"a partition needs at least two shells (a buffer and the rest), got {len(parts)}")
        if len(parts[-1]) == 0:
            raise ValueError("the last shell is empty: nothing would be left for C")
        together = np.concatenate([region, *parts])
        values, counts = np.unique(together, return_counts=True)
        if (counts > 1).any():
            raise ValueError(f"the regions overlap or repeat an index: {_some(values[counts > 1])}")
        labels = range(1, len(parts)) if widths is None else widths
        labels = tuple(whole_number(w, "width", least=0) for w in labels)
        if len(labels) != len(parts) - 1 or any(a >= b for a, b in pairwise(labels)):
            raise ValueError(f"widths must be {len(parts) - 1} rising labels, one per cut, got {labels}")
        object.__setattr__(self, "A", region)
        object.__setattr__(self, "shells", parts)
        object.__setattr__(self, "widths", labels)

    @classmethod
    def centered(
        cls,
        shape: Sequence[int],
        *,
        center: Sequence[int] | int | None = None,
        radius: int = 0,
        widths: Iterable[int] | None = None,
        reach: int | None = None,
        channel_axis: int | None = None,
    ) -> Partition:
        """A square (line, cube) A with Chebyshev rings as shells, all channels of a pixel together.

        Parameters
        ----------
        shape : sequence of int
            Shape of one sample: (W,), (H, W) or (D, H, W), with a channel axis among them if `channel_axis`.
        center : sequence of int, optional
            Pixel at the centre of A, counted from 0, without the channel axis. Default: s // 2 on every axis.
        radius : int
            A is all pixels within Chebyshev distance `radius` of the centre: (2 radius + 1)^dims of them.
        widths : iterable of int, optional
            Buffer widths r, counted from the edge of A; 0 is no buffer. Default: 1, 2, ... as far as C is not
            empty, or 0 alone if one ring is all there is.
        reach : int, optional
            Largest distance from the edge of A that still belongs to C. Default: the whole sample.
        channel_axis : int, optional
            Axis of `shape` that holds channels; None (default) means that every axis is space.

        Raises
        ------
        TypeError, ValueError
            If the centre or A lies outside, or a width leaves nothing for C.

        Examples
        --------
        >>> p = Partition.centered((5, 5))
        >>> len(p.A), [len(s) for s in p.shells], p.widths
        (1, [8, 16], (1,))
        """
        shape = tuple(whole_number(s, "every size in shape", least=1) for s in shape)
        distance = chebyshev_distance(shape, center=center, radius=radius, channel_axis=channel_axis)
        limit = int(distance.max())
        if reach is not None:
            limit = min(limit, whole_number(reach, "reach", least=1))
        if limit < 1:
            raise ValueError(f"A with radius {radius} fills the whole sample of shape {shape}")
        if widths is None:
            widths = range(1, limit) or (0,)
        elif isinstance(widths, (int, np.integer)):
            widths = (int(widths),)
        labels = sorted({whole_number(w, "width", least=0) for w in widths})
        if not labels:
            raise ValueError("widths are empty: give at least one buffer width")
        if labels[-1] >= limit:
            raise ValueError(
                f"width {labels[-1]} leaves nothing for C: the farthest pixel {'within reach ' if reach else ''}"
                f"is at distance {limit} from A, so widths go up to {limit - 1}"
            )
        edges = [0, *labels, limit]
        shells = [np.flatnonzero((distance > low) & (distance <= high)) for low, high in pairwise(edges)]
        return cls(np.flatnonzero(distance == 0), shells, labels)

    def B(self, width: int) -> IntArray:  # noqa: N802
        """Indices of the buffer of that width."""
        return np.concatenate(self.shells[: self._cut(width)])

    def C(self, width: int) -> IntArray:  # noqa: N802
        """Indices of the rest beyond the buffer of that width."""
        return np.concatenate(self.shells[self._cut(width) :])

    @property
    def columns(self) -> IntArray:
        """All indices in the order that estimators take: A, S_1, ..., S_m."""
        return np.concatenate([self.A, *self.shells])

    @property
    def sizes(self) -> tuple[int, ...]:
        """Numbers of indices (|A|, |S_1|, ..., |S_m|)."""
        return (len(self.A), *(len(shell) for shell in self.shells))

    def _cut(self, width: int) -> int:
        if width not in self.widths:
            raise ValueError(f"width {width} is not in this partition: it has {self.widths}")
        return self.widths.index(width) + 1


def neighbour_windows(shape: Sequence[int], partition: Partition, channel_axis: int | None = None) -> IntArray:
    """Windows of the pixels next to A: what stands to them as the columns of a partition do to A.

    Parameters
    ----------
    shape : sequence of int
        Of one sample.
    partition : Partition
        Of a sample of that shape.
    channel_axis : int, optional

    Returns
    -------
    (places, d) array of int
        Indices into `partition.columns`; -1 for what lies outside of them. A neighbour that lies outside itself is
        left out.

    Examples
    --------
    >>> neighbour_windows((4,), Partition([1], [[0, 2], [3]])).tolist()
    [[1, -1, 0, 2], [2, 0, 3, -1]]
    """
    shape = tuple(shape)
    columns = partition.columns
    number = np.full(int(np.prod(shape)), -1, dtype=np.int64)
    number[columns] = np.arange(len(columns))
    at = np.stack(np.unravel_index(columns, shape), axis=1)
    axes = [axis for axis in range(len(shape)) if channel_axis is None or axis != channel_axis % len(shape)]
    windows = []
    for step in product((-1, 0, 1), repeat=len(axes)):
        if not any(step):
            continue
        moved = at.copy()
        moved[:, axes] += np.asarray(step)
        inside: NDArray[np.bool_] = np.all((moved >= 0) & (moved < np.asarray(shape)), axis=1)
        flat = np.ravel_multi_index(tuple(np.where(inside[:, None], moved, 0).T), shape)
        window = np.where(inside, number[flat], -1)
        if (window[: len(partition.A)] >= 0).all():
            windows.append(window)
    return np.array(windows, dtype=np.int64).reshape(-1, len(columns))


def chebyshev_distance(
    shape: Sequence[int],
    *,
    center: Sequence[int] | int | None = None,
    radius: int = 0,
    channel_axis: int | None = None,
) -> IntArray:
    """Distance of every pixel from the square A, flat in C order: max over axes |x - center| - radius, 0 inside A.

    Parameters and errors as in `Partition.centered`.

    Examples
    --------
    >>> chebyshev_distance((5,), radius=1).tolist()
    [1, 0, 0, 0, 1]
    """
    radius = whole_number(radius, "radius", least=0)
    axes = list(range(len(shape)))
    if channel_axis is not None:
        channel_axis = whole_number(channel_axis, "channel_axis")
        if not -len(shape) <= channel_axis < len(shape):
            raise ValueError(f"channel_axis {channel_axis} is not an axis of a sample of shape {tuple(shape)}")
        axes.remove(channel_axis % len(shape))
    if not 1 <= len(axes) <= 3:
        raise ValueError(
            f"a sample needs 1, 2 or 3 axes of space, got shape {tuple(shape)}: build a Partition by hand"
        )
    space = [shape[axis] for axis in axes]
    if center is None:
        middle = [size // 2 for size in space]
    else:
        given = [center] if np.ndim(center) == 0 else list(center)  # type: ignore[arg-type]
        middle = [whole_number(c, "every coordinate of the centre") for c in given]
        if len(middle) != len(space):
            raise ValueError(
                f"the centre needs {len(space)} coordinates for pixels of shape {tuple(space)}, got {center}"
            )
    for c, size in zip(middle, space, strict=True):
        if not 0 <= c < size:
            raise ValueError(f"the centre {tuple(middle)} lies outside pixels of shape {tuple(space)}")
        if c - radius < 0 or c + radius >= size:
            raise ValueError(
                f"A with radius {radius} around {tuple(middle)} sticks out of pixels of shape {tuple(space)}"
            )
    distance = np.zeros(tuple(shape), dtype=np.int64)
    for axis, c in zip(axes, middle, strict=True):
        along = np.abs(np.arange(shape[axis]) - c)
        distance = np.maximum(distance, along.reshape([-1 if i == axis else 1 for i in range(len(shape))]))
    return np.maximum(distance - radius, 0).ravel()


def _indices(region: ArrayLike, name: str) -> IntArray:
    indices = np.asarray(region)
    if indices.size == 0:
        return np.zeros(0, dtype=np.int64)
    if not np.issubdtype(indices.dtype, np.integer):
        raise TypeError(f"{name} must hold integer indices, got {indices.dtype}")
    indices = indices.astype(np.int64).ravel()
    if indices.min() < 0:
        raise ValueError(f"{name} holds the negative index {indices.min()}: count from 0")
    return indices


def _some(values: IntArray) -> str:
    shown = ", ".join(str(v) for v in values[:5])
    return shown if len(values) <= 5 else f"{shown}, ... ({len(values)} in all)"

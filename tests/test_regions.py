"""Partitions: Chebyshev rings in every dimension, channels, limits, bad input."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cmi.regions import Partition, chebyshev_distance


def test_mnist_partition() -> None:
    p = Partition.centered((27, 27), widths=range(1, 13))
    assert p.A.tolist() == [13 * 27 + 13]
    assert p.sizes == (1, *(8 * r for r in range(1, 13)), 8 * 13)
    assert p.widths == tuple(range(1, 13))
    rows, columns = np.unravel_index(p.B(2), (27, 27))
    assert set(rows.tolist()) == set(columns.tolist()) == {11, 12, 13, 14, 15}
    assert len(p.C(12)) == 27 * 27 - 25 * 25


@given(
    shape=st.lists(st.integers(3, 7), min_size=1, max_size=3).map(tuple),
    radius=st.integers(0, 1),
    data=st.data(),
)
def test_rings_against_brute_force(shape: tuple[int, ...], radius: int, data: st.DataObject) -> None:
    center = tuple(data.draw(st.integers(radius, s - 1 - radius)) for s in shape)
    expected = [
        max(max(abs(i - c) for i, c in zip(place, center, strict=True)) - radius, 0) for place in np.ndindex(*shape)
    ]
    assert chebyshev_distance(shape, center=center, radius=radius).tolist() == expected
    farthest = max(expected)
    if farthest < 1:
        return
    p = Partition.centered(shape, center=center, radius=radius)
    assert p.widths == (tuple(range(1, farthest)) or (0,))
    assert len(p.A) == (2 * radius + 1) ** len(shape)
    assert sorted(p.columns.tolist()) == list(range(int(np.prod(shape))))
    for width in p.widths:
        assert sorted(p.B(width).tolist()) == [i for i, d in enumerate(expected) if 0 < d <= width]
        assert sorted(p.C(width).tolist()) == [i for i, d in enumerate(expected) if d > width]


@pytest.mark.parametrize(("shape", "axis"), [((5, 5, 3), 2), ((3, 5, 5), 0), ((5, 5, 3), -1), ((5, 2), 1)])
def test_channels_stay_together(shape: tuple[int, ...], axis: int) -> None:
    p = Partition.centered(shape, channel_axis=axis)
    channels = shape[axis]
    places = np.array(np.unravel_index(p.A, shape))
    space = [i for i in range(len(shape)) if i != axis % len(shape)]
    assert len(p.A) == channels
    assert (places[space] == 2).all()
    assert p.sizes[1] == channels * (8 if len(space) == 2 else 2)


def test_reach_cuts_off_the_far_pixels() -> None:
    p = Partition.centered((27, 27), reach=3)
    assert p.widths == (1, 2)
    assert len(p.columns) == 7 * 7


def test_width_zero_is_no_buffer() -> None:
    p = Partition.centered((5, 5), widths=[0, 1])
    assert p.sizes == (1, 0, 8, 16)
    assert len(p.B(0)) == 0
    assert len(p.C(0)) == 24


def test_widths_may_skip_and_come_in_any_order() -> None:
    p = Partition.centered((15,), widths=[4, 1])
    assert p.widths == (1, 4)
    assert p.sizes == (1, 2, 6, 6)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"widths": [13]}, ValueError, "width 13 leaves nothing for C: the farthest pixel is at distance 13"),
        ({"widths": range(1, 15)}, ValueError, "widths go up to 12"),
        ({"widths": [3], "reach": 3}, ValueError, "within reach"),
        ({"widths": []}, ValueError, "widths are empty"),
        ({"widths": [-1]}, ValueError, "width must be at least 0"),
        ({"widths": [1.5]}, TypeError, "width must be a whole number"),
        ({"center": (27, 0)}, ValueError, r"the centre \(27, 0\) lies outside"),
        ({"center": (-1, 0)}, ValueError, "lies outside"),
        ({"center": (13,)}, ValueError, "the centre needs 2 coordinates"),
        ({"center": (1.5, 2)}, TypeError, "whole number"),
        ({"center": (0, 5), "radius": 1}, ValueError, "sticks out"),
        ({"radius": -1}, ValueError, "radius must be at least 0"),
        ({"radius": 13}, ValueError, "fills the whole sample"),
        ({"reach": 0}, ValueError, "reach must be at least 1"),
        ({"channel_axis": 2}, ValueError, "channel_axis 2 is not an axis"),
    ],
)
def test_bad_geometry(arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        Partition.centered((27, 27), **arguments)


@pytest.mark.parametrize(
    ("a", "shells", "error", "message"),
    [
        ([], [[1], [2]], ValueError, "A is empty"),
        ([0], [[1]], ValueError, "at least two shells"),
        ([0], [[1], []], ValueError, "the last shell is empty"),
        ([0], [[1], [0, 2]], ValueError, "overlap or repeat an index: 0"),
        ([0, 0], [[1], [2]], ValueError, "repeat an index: 0"),
        ([-1], [[1], [2]], ValueError, "negative index -1"),
        ([0.5], [[1], [2]], TypeError, "integer indices"),
        (["a"], [[1], [2]], TypeError, "integer indices"),
    ],
)
def test_bad_partitions(a: Any, shells: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        Partition(a, shells)


def test_labels() -> None:
    assert Partition([0], [[1], [2], [3]], widths=[2, 5]).widths == (2, 5)
    for bad in ([1], [2, 2], [3, 1]):
        with pytest.raises(ValueError, match="rising labels"):
            Partition([0], [[1], [2], [3]], widths=bad)
    with pytest.raises(ValueError, match="width 7 is not in this partition"):
        Partition([0], [[1], [2]]).B(7)


def test_four_axes_of_space_need_a_partition_by_hand() -> None:
    with pytest.raises(ValueError, match="1, 2 or 3 axes of space"):
        Partition.centered((3, 3, 3, 3))

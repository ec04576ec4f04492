"""Clean values of a column as a method tells them apart: all of them, or bins of one width."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from estimators.profile import FloatArray

__all__ = ["clean_values", "crowded_notes", "crowded_width"]

_WIDE = 0.3  # of the noise: wider bins hide what it does not


def clean_values(column: FloatArray, most: int) -> tuple[FloatArray, bool]:
    """Values that a column can have, rising, and whether these are all; of more, middles of so many bins stand.

    Examples
    --------
    >>> clean_values(np.array([0.0, 1.0, 1.0]), 256)
    (array([0., 1.]), True)
    """
    known = np.unique(column)
    if len(known) <= most:
        return known, True
    edges = np.linspace(known[0], known[-1], most + 1)
    return (edges[1:] + edges[:-1]) / 2.0, False


def crowded_width(column: FloatArray, most: int) -> float:
    """Width of so many bins if one of them holds more than half of the different values of a column, else 0.

    Examples
    --------
    >>> column = np.append(np.linspace(0.0, 1.0, 1000), 1000.0)
    >>> crowded_width(column[:-1], 100), crowded_width(column, 100)
    (0.0, 10.0)
    """
    different = np.unique(column)
    if len(different) <= most or np.histogram(different, most)[0].max() <= len(different) / 2:
        return 0.0
    return float(different[-1] - different[0]) / most


def crowded_notes(widths: Iterable[float], sigma: float, most: int) -> list[str]:
    """Tell where crowded bins are wide next to the noise.

    Examples
    --------
    >>> crowded_notes([0.0], 1.0, 256), len(crowded_notes([0.0, 0.5], 1.0, 256))
    ([], 1)
    """
    if not any(width > _WIDE * sigma for width in widths if width > 0.0):
        return []
    return [
        f"values of A far from all others make its {most} bins so wide that most values lie in one, where they are "
        "not told apart: the CMI is too low; leave these samples out, or transform the data"
    ]

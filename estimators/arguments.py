"""Arguments: checks of plain numbers and switches, with messages that say what is wrong."""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["number_above", "true_or_false", "whole_at_least"]


def whole_at_least(value: Any, name: str, least: int) -> int:
    """Return a whole number after checking it.

    Raises
    ------
    TypeError, ValueError
        If it is no integer, or smaller than `least`.

    Examples
    --------
    >>> whole_at_least(5, "k", 1)
    5
    """
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"{name} must be an integer, got {value!r}")
    if value < least:
        raise ValueError(f"{name} must be at least {least}, got {value}")
    return int(value)


def number_above(value: Any, name: str, least: float) -> float:
    """Return a finite number after checking it.

    Raises
    ------
    TypeError, ValueError
        If it is none, or not above `least`.

    Examples
    --------
    >>> number_above(2, "minutes", 0.0)
    2.0
    """
    if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
        raise TypeError(f"{name} must be a number, got {value!r}")
    if not least < value < np.inf:
        raise ValueError(f"{name} must be above {least:g} and finite, got {value}")
    return float(value)


def true_or_false(value: Any, name: str) -> bool:
    """Return a switch after checking it: the string "no" would count as true.

    Raises
    ------
    TypeError
        If it is neither True nor False.

    Examples
    --------
    >>> true_or_false(False, "calibrate")
    False
    """
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name} must be True or False, got {value!r}")
    return bool(value)

"""Checks of arguments that several modules share."""

from __future__ import annotations

import operator

import numpy as np

__all__ = ["whole_number"]


def whole_number(value: object, name: str, *, least: int | None = None) -> int:
    """Return value as an int, or raise a TypeError or ValueError that names it."""
    try:
        number = operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        raise TypeError(f"{name} must be a whole number, got {value!r}") from None
    if isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name} must be a whole number, got {value!r}")
    if least is not None and number < least:
        raise ValueError(f"{name} must be at least {least}, got {number}")
    return number

"""Checks of arguments that several modules share."""

from __future__ import annotations

import operator

__all__ = ["LARGEST_SEED", "whole_number"]

LARGEST_SEED = 2**63 - 1  # torch takes 64 bits, and some seeds are added to


def whole_number(value: object, name: str, *, least: int | None = None, most: int | None = None) -> int:
    """Return value as an int, or raise a TypeError or ValueError that names it."""
    try:
        number = operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        raise TypeError(f"{name} must be a whole number, got {value!r}") from None
    if isinstance(value, bool) or str(getattr(value, "dtype", "")).endswith("bool"):
        raise TypeError(f"{name} must be a whole number, got {value!r}")
    if least is not None and number < least:
        raise ValueError(f"{name} must be at least {least}, got {number}")
    if most is not None and number > most:
        raise ValueError(f"{name} must be at most {most}, got {number}")
    return number

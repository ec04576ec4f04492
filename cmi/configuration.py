"""The configuration of a scan: in what two of them differ, and what may differ."""

from __future__ import annotations

import json
from typing import Any

__all__ = ["check_same", "check_sizes", "dimensions", "unit"]

Configuration = dict[str, Any]

# In which order differences are told: the first often has the others as consequences.
_FIRST = ("data.name", "data.n_samples", "data.crop", "data.shape", "data.size", "method", "noise.name")
_LAST = ("version", "data.total", "data.format", "data.sha256")
_SAID = {
    "data.name": "its data",
    "data.n_samples": "the number of samples",
    "data.crop": "the crop",
    "data.shape": "the shape of a sample",
    "data.size": "the size",
    "noise.name": "the noise",
    "center": "the centre of A",
    "channel_axis": "the channel axis",
    "version": "the version of phase-scan that made it",
}


def check_same(earlier: Configuration, now: Configuration, what: str = "the scan to resume") -> None:
    """Raise a ValueError that names the first difference, unless a scan can go on from an earlier one.

    `what` is the earlier one in the message.

    Examples
    --------
    >>> check_same({"seed": 1, "noise": {"name": "ve"}}, {"seed": 0, "noise": {"name": "interpolation"}})
    Traceback (most recent call last):
    ValueError: the scan to resume differs in the noise: "ve" there, "interpolation" here
    """
    theirs, mine = _flat(earlier), _flat(now)

    def place(name: str) -> tuple[int, str]:
        if name in _FIRST:
            return _FIRST.index(name), name
        return len(_FIRST) + (1 + _LAST.index(name) if name in _LAST else 0), name

    for name in sorted(mine.keys() | theirs.keys(), key=place):
        there, here = theirs.get(name), mine.get(name)
        if there == here:
            continue
        if name == "data.sha256":
            same = "name" if "data.name" in mine else "number"
            raise ValueError(f"{what} is of other data, though of the same {same} and shape")
        raise ValueError(
            f"{what} differs in {_SAID.get(name, name)}: {json.dumps(there)} there, {json.dumps(here)} here"
        )


def check_sizes(first: Configuration, other: Configuration) -> None:
    """Raise a ValueError unless two scans differ in the size of their samples only."""

    def made(config: Configuration) -> str:
        return "crops" if config["data"].get("block") is None else "means of blocks"

    for what, there, here in (
        ("data", first["data"]["name"], other["data"]["name"]),
        ("number of samples", first["data"]["n_samples"], other["data"]["n_samples"]),
        ("making", made(first), made(other)),
        *((part, first[part], other[part]) for part in ("method", "options", "noise")),
    ):
        if there != here:
            raise ValueError(f"not sizes of one data set: they differ in their {what}, {there} and {here}")


def dimensions(config: Configuration) -> int:
    """Return the dimensions of space: axes of a sample longer than 1 that hold no channels; at least 1."""
    shape, channels = config["data"]["shape"], config["channel_axis"]
    return int(max(sum(side > 1 for axis, side in enumerate(shape) if axis != channels), 1))


def unit(config: Configuration) -> str:
    """Return the unit of widths and lengths: "pixels", or "blocks of 3 pixels" where samples hold such means."""
    block = config["data"].get("block")
    return "pixels" if block in (None, 1) else f"blocks of {block} pixels"


def _flat(config: Configuration, prefix: str = "") -> Configuration:
    """Nested dictionaries as one, keys joined by dots."""
    flat: Configuration = {}
    for name, value in config.items():
        flat.update(_flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value})
    return flat

"""Flags: the text of command line options as values, with an error that says how to write them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from pathlib import Path

    from cmi.data import SampleSet

__all__ = [
    "center",
    "everywhere",
    "levels",
    "method_options",
    "only_for_one_position",
    "only_for_one_size",
    "options",
    "sizes",
    "training_options",
    "widths",
    "with_channels",
]


def levels(text: str) -> list[float]:
    """Read 0:1:11, with both ends, or 0.1,0.5."""
    import numpy as np

    parts = text.split(":")
    try:
        if len(parts) == 1:
            return [float(part) for part in text.split(",")]
        start, stop, count = float(parts[0]), float(parts[1]), int(parts[2])
        if len(parts) > 3 or not 1 <= count <= 10_000 or not np.isfinite([start, stop]).all():
            raise ValueError
    except (ValueError, IndexError):
        raise ValueError(
            f"--levels takes start:stop:count, as in 0:1:11 (count up to 10000), or a list as in 0.1,0.5; got "
            f"{text!r}"
        ) from None
    return [float(t) for t in np.linspace(start, stop, count)]


def widths(text: str | None) -> range | None:
    """Read 1:12, with both ends, or one width."""
    if text is None:
        return None
    try:
        numbers = [int(part) for part in text.split(":")]
        first, last = numbers if len(numbers) == 2 else (numbers[0], *numbers)[:2] if len(numbers) == 1 else ()
    except ValueError:
        raise ValueError(f"--widths takes first:last, as in 1:12, both included; got {text!r}") from None
    if last < first:
        raise ValueError(f"--widths takes first:last with first <= last; got {text!r}")
    return range(first, last + 1)


def center(text: str | None) -> list[int] | None:
    """Read 13,13."""
    if text is None:
        return None
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise ValueError(f"--center takes whole numbers from 0, as in 13,13; got {text!r}") from None


def everywhere(position: str | None, stride: int | None) -> int:
    """Return the stride of a map of positions; 0 for a scan of one position."""
    if position is None:
        if stride is not None:
            raise ValueError("--stride is for --position all: give both, or neither")
        return 0
    if position != "all":
        raise ValueError(f"--position takes all, got {position!r}: one pixel is --center row,column")
    if stride is not None and stride < 1:
        raise ValueError(f"--stride must be at least 1, got {stride}")
    return 1 if stride is None else stride


def sizes(text: str | None) -> tuple[Literal["crop", "block"], list[int] | None]:
    """Read 5,15,25 or block:5,10,20."""
    if text is None:
        return "crop", None
    how, _, numbers = text.rpartition(":")
    try:
        if how not in ("", "crop", "block"):
            raise ValueError
        return "block" if how == "block" else "crop", [int(part) for part in numbers.split(",")]
    except ValueError:
        raise ValueError(f"--sizes takes sides in pixels, as 5,15,25 or block:5,10,20; got {text!r}") from None


def _features(text: str | None) -> str | None:
    """Take regression or pca."""
    if text is not None and text not in ("regression", "pca"):
        raise ValueError(f"--features takes regression or pca, got {text!r}")
    return text


def _shrinkage(text: str | None) -> float | str | None:
    """Read a number, or leave a name to the method."""
    try:
        return None if text is None else float(text)
    except ValueError:
        return text


def method_options(
    k: int | None,
    queries: int | None,
    surrogates: int | None,
    calibrate: bool,
    permutations: int | None,
    features: str | None,
    shrinkage: str | None,
) -> dict[str, tuple[str, Any]]:
    """What was given for the method: by its flag the option's name and value."""
    return {
        "--k": ("k", k),
        "--queries": ("queries", queries),
        "--surrogates": ("surrogates", surrogates),
        "--calibrate": ("calibrate", calibrate or None),
        "--permutations": ("n_permutations", permutations),
        "--features": ("features", _features(features)),
        "--shrinkage": ("shrinkage", _shrinkage(shrinkage)),
    }


def training_options(minutes: float | None, folds: int | None, network: Path | None) -> dict[str, tuple[str, Any]]:
    """What was given for a method that trains a network."""
    return {
        "--train-minutes": ("train_minutes", minutes),
        "--folds": ("folds", folds),
        "--network": ("network", None if network is None else str(network.expanduser())),
    }


def keeps_network(method: str) -> bool:
    """Whether a method trains a network that is worth keeping beside the scan."""
    from cmi.methods import METHODS

    return method in METHODS and METHODS[method].trains


def options(method: str, given: dict[str, tuple[str, Any]], *, places: bool = False) -> dict[str, Any]:
    """Options of the method that were given, by name, for a map of positions or one; others are an error."""
    from cmi.methods import METHODS

    options = {}
    for flag, (name, value) in given.items():
        if value is None:
            continue
        takers = [
            known.name for known in METHODS.values() if name in (known.place_options if places else known.options)
        ]
        if method in METHODS and method not in takers:
            where = " of --position all" if places else ""
            if not takers:
                raise ValueError(f"{flag} is not for --position all: leave one of them out")
            raise ValueError(f"{flag}{where} is for --method {' and '.join(takers)}, not {method}")
        options[name] = value
    return options


def with_channels(samples: SampleSet, text: str | None) -> SampleSet:
    """Replace the guess of the channel axis, and what is said of it, by what was asked for."""
    from dataclasses import replace

    from cmi.data.sample_set import GUESSED

    if text is None:
        return samples
    try:
        axis = None if text == "none" else int(text)
    except ValueError:
        raise ValueError(f"--channel-axis takes a whole number or none, got {text!r}") from None
    notes = tuple(note for note in samples.notes if not note.endswith(GUESSED))
    return replace(samples, channel_axis=axis, notes=notes)


def only_for_one_size(given: dict[str, Any]) -> None:
    """Refuse what sizes set by themselves."""
    for flag, value in given.items():
        if value is not None:
            raise ValueError(f"{flag} follows from --sizes: leave it out")


def only_for_one_position(given: dict[str, Any]) -> None:
    """Refuse what a map of positions has no use for."""
    for flag, value in given.items():
        if value is not None:
            raise ValueError(f"{flag} is not for --position all: leave one of them out")

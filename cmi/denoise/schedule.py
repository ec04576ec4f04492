"""Schedules of sampling: the noise levels from noise to data, and which denoiser makes each step."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from os import PathLike
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cmi.checks import whole_number
from cmi.denoise.signature import SIGNATURE
from cmi.output import check_output, replacing

__all__ = ["Schedule", "load_schedule", "save_schedule", "time_grid"]

_FORMAT = 1
_LEAST = 1e-9  # noise levels; below that of rounding nothing is seen of them


def time_grid(steps: int, start: float = 1.0, end: float = 0.0) -> NDArray[np.float64]:
    """Times of so many even steps, (steps + 1,), from noise to data.

    Examples
    --------
    >>> time_grid(4).tolist()
    [1.0, 0.75, 0.5, 0.25, 0.0]
    """
    steps = whole_number(steps, "steps", least=1)
    if not 0.0 <= end < start <= 1.0:
        raise ValueError(f"times fall from {start} to {end}: need 0 <= end < start <= 1")
    return np.linspace(start, end, steps + 1)


@dataclass(frozen=True, repr=False)
class Schedule:
    """Steps of a sampler: step k goes from times[k] to times[k + 1] with what denoisers[k] says at times[k].

    Parameters
    ----------
    times : sequence of float
        Falling, in [0, 1].
    denoisers : sequence of str
        A name per step, one fewer than times.
    planned_by : sequence of signatures
        Of a plan: those of the images that it was made by, which `certify` leaves out.
    until : float
        Of a plan: the noise level down to which its budget reaches.

    Examples
    --------
    >>> plan = Schedule.switched(["local", "global", "local"], [0.5, 0.25], time_grid(4))
    >>> plan.denoisers, plan.windows("global")
    (('local', 'local', 'global', 'local'), [(0.25, 0.5)])
    """

    times: tuple[float, ...]
    denoisers: tuple[str, ...]
    planned_by: tuple[tuple[int, ...], ...]
    until: float

    def __init__(
        self,
        times: Iterable[float],
        denoisers: Sequence[str],
        planned_by: Iterable[Sequence[int]] = (),
        until: float = 0.0,
    ) -> None:
        at, names = tuple(float(t) for t in times), tuple(denoisers)
        if len(at) < 2 or any(not b < a for a, b in pairwise(at)):
            raise ValueError(f"times of a schedule fall from step to step, got {len(at)} of them")
        if not (at[0] <= 1.0 and at[-1] >= 0.0):
            raise ValueError(f"times lie in [0, 1], got {at[0]:g} to {at[-1]:g}")
        if any(0.0 < t < _LEAST for t in at):
            raise ValueError(f"times are 0 or at least {_LEAST:g}, got {min(t for t in at if t > 0.0):g}")
        if len(names) != len(at) - 1:
            raise ValueError(f"{len(at)} times make {len(at) - 1} steps, got {len(names)} names of denoisers")
        object.__setattr__(self, "times", at)
        object.__setattr__(self, "denoisers", names)
        object.__setattr__(self, "planned_by", tuple(tuple(int(number) for number in each) for each in planned_by))
        object.__setattr__(self, "until", float(until))

    def __repr__(self) -> str:
        """Without every signature."""
        plan = f", planned by {len(self.planned_by)} images down to t = {self.until:g}" * bool(self.planned_by)
        return f"Schedule(times={self.times}, denoisers={self.denoisers}{plan})"

    @classmethod
    def of_one(cls, name: str, times: Iterable[float]) -> Schedule:
        """One denoiser for all steps."""
        at = tuple(times)
        return cls(at, (name,) * (len(at) - 1))

    @classmethod
    def switched(cls, names: Sequence[str], switches: Sequence[float], times: Iterable[float]) -> Schedule:
        """One denoiser after the other: from names[0] at the noise end to the next where t falls to a switch.

        Raises
        ------
        ValueError
            If switches do not fall, or are not one fewer than the names.
        """
        if len(switches) != len(names) - 1:
            raise ValueError(
                f"{len(names)} denoisers one after the other need {len(names) - 1} switches, got {len(switches)}"
            )
        if any(not b < a for a, b in pairwise(switches)) or not all(0.0 < s < 1.0 for s in switches):
            raise ValueError(
                f"switches fall from t below 1 to t above 0, got {', '.join(f'{s:g}' for s in switches)}"
            )
        at = tuple(float(t) for t in times)
        rounding = 1e-12
        return cls(at, [names[sum(t <= switch + rounding for switch in switches)] for t in at[:-1]])

    def windows(self, name: str) -> list[tuple[float, float]]:
        """Noise levels (lowest, highest) between which that denoiser is used, from noise to data."""
        found, step = [], 0
        for each, run in groupby(self.denoisers):
            count = len(list(run))
            if each == name:
                found.append((self.times[step + count], self.times[step]))
            step += count
        return found


def save_schedule(schedule: Schedule, path: str | PathLike[str], *, overwrite: bool = False) -> None:
    """Write a schedule to a JSON file, whole or not at all.

    Raises
    ------
    FileExistsError, OSError
        If the file exists, or cannot be written.
    """
    target = check_output(path, overwrite=overwrite)
    content = {
        "phase-scan schedule": _FORMAT,
        "times": schedule.times,
        "denoisers": schedule.denoisers,
        "until": schedule.until,
        "planned by": [" ".join(map(str, each)) for each in schedule.planned_by],
    }
    with replacing(target, overwrite=overwrite) as temporary:
        temporary.write_text(json.dumps(content, indent=1) + "\n")


def load_schedule(path: str | PathLike[str]) -> Schedule:
    """Read a schedule.

    Raises
    ------
    FileNotFoundError, ValueError
        If there is no such file, or it holds something else.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {str(path)!r}")
    try:
        content = json.loads(path.read_text())
        if not isinstance(content, dict) or content.get("phase-scan schedule") != _FORMAT:
            raise ValueError("it is something else, or of another format")
        times, names = content.get("times"), content.get("denoisers")
        if not isinstance(times, list) or not all(type(t) in (int, float) for t in times):
            raise ValueError("its times are no list of numbers")
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise ValueError("its denoisers are no list of names")
        planned, until = content.get("planned by", []), content.get("until", 0.0)
        if not isinstance(planned, list):
            raise ValueError("what it was planned by is no list")
        if type(until) not in (int, float) or not 0.0 <= until < 1.0:
            raise ValueError("what it was planned down to is no noise level")
        return Schedule(times, names, [_signature(each) for each in planned], until)
    except (ValueError, OverflowError, RecursionError) as error:
        raise ValueError(f"{path.name} holds no schedule: {error}") from error


def _signature(written: object) -> list[int]:
    """The numbers of one image."""
    numbers = written.split() if isinstance(written, str) else []
    if len(numbers) != SIGNATURE or not all(re.fullmatch(r"-?\d{1,10}", number) for number in numbers):
        raise ValueError("the images that it was planned by are not known by this version: plan again")
    return [int(number) for number in numbers]

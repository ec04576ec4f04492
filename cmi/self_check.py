"""Self-check of a scan: cells whose CMI is known to be 0, and the order of widths that no CMI breaks.

Four checks, of any method.  *Permuted C* and *blank C* scan the data again with the columns beyond a width r taken
jointly from other samples, or made constant:

    C_r independent of (A, B_r), or constant   =>   I(A:C_r'|B_r') = 0   for every r' >= r,

since the shells between r and r' are part of what was altered.  *Pure noise* is the level alpha = 0, where nothing
is left of the data.  *Wider buffers* needs the scan alone: by the chain rule I(A:C_r|B_r) >= I(A:C_r'|B_r') for
r' > r.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Executor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cmi.checks import whole_number
from cmi.configuration import check_same
from cmi.known_cells import KnownCells
from cmi.largest_z import z_scores
from cmi.methods import METHODS
from cmi.noise import SCHEDULES, Noise, noise_schedule
from cmi.regions import Partition
from cmi.result import PhaseScan
from cmi.samples import Samples
from cmi.scan import Progress, ScanFailed, data_of, phase_scan
from cmi.scan_check import Check, ScanCheck

__all__ = ["check_scan"]

_PERMUTED = 11  # spawn key
_SAME = ("n_samples", "shape", "sha256")  # of the data: a copy of a file under another name is as good
_BESIDE = {"n_permutations": 0, "surrogates": 0}  # what these compute stands beside an estimate, and is not needed


def check_scan(
    scan: PhaseScan,
    samples: Any = None,
    *,
    levels: Iterable[float] | None = None,
    width: int | None = None,
    seed: int = 0,
    executor: Executor | None = None,
    progress: Progress | None = None,
    training: Callable[[Any], None] | None = None,
    **options: Any,
) -> ScanCheck:
    """Check a scan where the truth is known: no CMI in altered data and pure noise, no more of it in wider buffers.

    Every check is made with the scan's own method, options, noise, regions and seed:

    "permuted C"
        C_r taken jointly from other samples, so that it is independent of A and B_r: I(A:C_r'|B_r') = 0, r' >= r.
    "blank C"
        C_r constant, each column at its least value, under the same noise: 0 likewise.
    "pure noise"
        The level alpha = 0, at every width; that of the scan if it has one, else t = 1 is scanned.
    "wider buffers"
        cmi(r') - cmi(r) <= 0 for all r' > r at every finished level with signal, of the scan alone. The variance of
        a difference is that of the stored covariance, and at least max(b / n, 2 b^2 / k), with b the difference of
        what was subtracted as bias, k = n_A (n_B(r') - n_B(r)): a sum of chi-squares of mean b varies so. Where
        there is no true difference the estimate is such a sum, and the covariance is smallest where it is too high.

    The errors are those that the method claims. They do not contain its bias, for which nothing is allowed: a
    method that reads too much where there is no CMI fails.

    Parameters
    ----------
    scan : PhaseScan
        Its finished levels are checked. It is not changed.
    samples : array or SampleSet, optional
        The data of the scan, as `phase_scan` took them. None: only what needs no data is checked.
    levels : iterable of float, optional
        Finished levels at which altered data are scanned; default all of them but pure noise. A method that trains
        a network trains one per altered data set, for all levels together, and keeps none.
    width : int, optional
        The r beyond which C is altered. Default: where the scan's CMI is most errors above 0 at some level, so that
        altering C takes most away.
    seed : int
        Of the permutation, and of the draws that thresholds are taken from.
    executor, training
        As in `phase_scan`.
    progress : callable, optional
        Called as ``progress(done, total)`` after every cell of altered data.
    **options
        Options of the method that a file does not hold: functions, threads, device.

    Returns
    -------
    ScanCheck

    Raises
    ------
    TypeError, ValueError
        For samples that are not those of the scan, a level that it has not finished, a width that it does not have;
        if no level is finished; as in `phase_scan`.
    ScanInterrupted
        On Ctrl-C.

    Examples
    --------
    >>> from cmi import open_dataset, phase_scan
    >>> data = open_dataset("exact:chain?L=9&n=2000")
    >>> found = check_scan(phase_scan(data, levels=[0.3, 0.6, 1.0]), data)
    >>> found
    ScanCheck(passed: 4 of 4 checks passed)
    >>> row = found.worst("permuted C")
    >>> row.width >= found.width, abs(row.value) <= row.threshold * row.stderr
    (True, True)
    """
    if not isinstance(scan, PhaseScan):
        raise TypeError(f"scan must be a PhaseScan, got {type(scan).__name__}: load the file first")
    seed = whole_number(seed, "seed", least=0)
    times = _levels(scan, levels)
    width, chosen = _telling(scan, times) if width is None else (_width(scan, width), "as asked for")
    found = KnownCells(scan, seed)
    again = None
    if samples is None:
        found.skipped |= dict.fromkeys(("permuted C", "blank C"), "it needs the data, which were not given")
    else:
        x, about = data_of(samples)
        theirs, mine = ({"data": {key: data[key] for key in _SAME}} for data in (scan.config["data"], about))
        check_same(theirs, mine, "the scan")
        again = _Again(scan, x, 2 * len(times), options, executor=executor, progress=progress, training=training)
        _alter(found, again, x, times, width)
    _pure_noise(found, again)
    found.order()
    return found.result(width, chosen)


def _levels(scan: PhaseScan, levels: Iterable[float] | None) -> list[float]:
    """Levels at which altered data are scanned."""
    data = scan.dataset
    finished = data.t.values[data.finished.values == 1].tolist()
    if not finished:
        raise ValueError("no level of the scan is finished: resume it first")
    if levels is None:
        noise = data.t.values[data.alpha.values == 0.0]
        return [t for t in finished if t not in noise] or finished
    times = sorted({float(f"{t:.12g}") + 0.0 for t in levels})
    if not times:
        raise ValueError("levels are empty: give at least one finished level of the scan")
    for t in times:
        if t not in finished:
            shown = ", ".join(f"{each:g}" for each in finished[:12]) + (", ..." if len(finished) > 12 else "")
            raise ValueError(f"t = {t:g} is no finished level of the scan: choose from {shown}")
    return times


def _width(scan: PhaseScan, width: int) -> int:
    widths = scan.dataset.r.values.tolist()
    if whole_number(width, "width") not in widths:
        raise ValueError(f"the scan has no width {width}: choose from {', '.join(map(str, widths))}")
    return int(width)


def _telling(scan: PhaseScan, levels: Sequence[float]) -> tuple[int, str]:
    """The width at which the CMI is most errors above 0 at some level, and that this is why."""
    data = scan.dataset.sel(t=list(levels))
    z = np.nan_to_num(z_scores(data.cmi.values, data.stderr.values), nan=-np.inf)
    i, j = np.unravel_index(int(np.argmax(z)), z.shape)
    return int(data.r.values[j]), f"where the scan's CMI is most errors above 0, at t = {data.t.values[i]:.4g}"


def _alter(found: KnownCells, again: _Again, x: Samples, levels: list[float], width: int) -> None:
    """Scan permuted and blank data."""
    beyond, source = again.partition.C(width), _other_samples(len(x.values), found.seed)
    here = found.of.dataset.sel(t=levels, r=slice(width, None))
    most = np.abs(z_scores(here.cmi.values, here.stderr.values))
    checks: tuple[Check, Check] = ("permuted C", "blank C")
    for check in checks:
        if again.impossible:
            found.skipped[check] = again.impossible
            continue
        other = x.values.copy()
        # a value that the column has: data of two values keep to them
        other[:, beyond] = x.values[source][:, beyond] if check == "permuted C" else other[:, beyond].min(axis=0)
        try:
            altered = again.scan(other, levels)
        except (ValueError, ScanFailed) as error:
            if check == "permuted C":
                raise
            found.skipped[check] = f"the method does not take these constant columns: {error}"
            continue
        found.zeros(check, altered, levels, width)
        found.seen[check] = float(np.nanmax(most, initial=0.0))


def _other_samples(n: int, seed: int) -> NDArray[np.int64]:
    """From which sample each one takes its C."""
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(_PERMUTED,)))
    # where chance leaves a sample its own C it stays: else C would depend on A, if by 1/n only
    return rng.permutation(n)


def _pure_noise(found: KnownCells, again: _Again | None) -> None:
    """Take the level without signal from the scan, or scan it."""
    data, config = found.of.dataset, found.of.config
    there = data.t.values[(data.alpha.values == 0.0) & (data.finished.values == 1)].tolist()
    if there:
        found.zeros("pure noise", found.of, there, None)
        return
    schedule = _schedule(config["noise"])
    if schedule is not None and float(schedule.alpha(1.0)) > 0.0:
        snr = float(schedule.snr(1.0))
        why = f"the schedule {schedule.name} ends at an SNR of {snr:.2g}, not at pure noise"
    elif schedule is not None and schedule.gaussian and not METHODS[config["method"]].takes_noise:
        why = f"the method {config['method']} takes no noise"
    elif again is None:
        why = "t = 1 is not in the scan, and the data were not given"
    elif again.impossible:
        why = again.impossible
    else:
        found.zeros("pure noise", again.scan(again.x.values, [1.0]), [1.0], None)
        return
    found.skipped["pure noise"] = why


def _schedule(noise: dict[str, Any]) -> Noise | None:
    """The schedule of a configuration; None for one of the user's own."""
    parameters = {name: value for name, value in noise.items() if name != "name"}
    return noise_schedule(noise["name"], **parameters) if noise["name"] in SCHEDULES else None


class _Again:
    """Scans of other samples, configured as the scan that is checked."""

    def __init__(
        self,
        scan: PhaseScan,
        x: Samples,
        total: int,
        options: dict[str, Any],
        *,
        progress: Progress | None,
        **how: Any,
    ) -> None:
        config = scan.config
        if "network" in options:
            raise ValueError("a self-check trains networks of its own and keeps none: leave network out")
        stored = dict(config["options"])
        if not stored.get("calibrate"):
            stored |= {name: none for name, none in _BESIDE.items() if name in stored}
        self.x, self.progress, self.done, self.total = x, progress, 0, total
        self.channel_axis = config["channel_axis"]
        regions = {name: config[name] for name in ("center", "radius", "widths", "reach", "channel_axis")}
        self.partition = Partition.centered(x.shape, **regions)
        schedule = _schedule(config["noise"])
        functions = [name for name, value in stored.items() if _is_function(value) and name not in options]
        self.impossible = ""
        if functions:
            self.impossible = f"{functions[0]} was a function, which a file does not hold: give it again"
        elif schedule is None:
            self.impossible = f"its noise {config['noise']['name']!r} is none of {', '.join(SCHEDULES)}"
        self.arguments = {"method": config["method"], "seed": config["seed"], "noise": schedule, **regions, **how}
        self.arguments |= {**stored, **options}

    def scan(self, values: NDArray[np.floating], levels: list[float]) -> PhaseScan:
        """Scan samples (n, d)."""
        before = self.done

        def advance(done: int, _: int) -> None:
            self.done = before + done
            if self.progress is not None:
                self.progress(self.done, max(self.total, self.done))

        shaped = values.reshape(len(values), *self.x.shape)
        return phase_scan(shaped, levels=levels, progress=advance, **self.arguments)


def _is_function(value: Any) -> bool:
    """Whether an option was a function, of which a file has the dotted name."""
    return isinstance(value, str) and "." in value

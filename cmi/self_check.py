"""Self-check of a scan: cells whose CMI is known to be 0, and the order of widths that no CMI breaks.

Four checks, of any method.  *Permuted C* and *blank C* scan the data again with the columns beyond a width r taken
jointly from other samples, or made constant:

    C_r independent of (A, B_r), or constant   =>   I(A:C_r'|B_r') = 0   for every r' >= r,

since the shells between r and r' are part of what was altered.  *Pure noise* is the level alpha = 0, where nothing
is left of the data.  *Wider buffers* needs the scan alone: by the chain rule I(A:C_r|B_r) >= I(A:C_r'|B_r') for
r' > r.

Every check is a family of cells z = value / error, two-sided for zeros, one-sided for the order.  It fails where
its largest z is beyond the threshold that the largest of all its cells, which share samples, passes by chance at
a stated rate (`largest_z`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from itertools import combinations
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from cmi.checks import whole_number
from cmi.configuration import check_same
from cmi.largest_z import largest_by_chance, z_scores
from cmi.methods import METHODS
from cmi.noise import SCHEDULES, Noise, noise_schedule
from cmi.regions import Partition
from cmi.result import PhaseScan
from cmi.samples import Samples
from cmi.scan import Progress, ScanFailed, data_of, phase_scan

if TYPE_CHECKING:
    import pandas as pd

FloatArray = NDArray[np.float64]
Check = Literal["permuted C", "blank C", "pure noise", "wider buffers"]

__all__ = ["CHECKS", "Check", "CheckRow", "ScanCheck", "check_scan"]

CHECKS: tuple[Check, ...] = get_args(Check)
_FALSE_POSITIVES = 0.01  # of all checks together
_PERMUTED = 11  # spawn key
_SAME = ("n_samples", "shape", "sha256")  # of the data: a copy of a file under another name is as good
_BESIDE = {"n_permutations": 0, "surrogates": 0}  # what these compute stands beside an estimate, and is not needed


@dataclass(frozen=True, slots=True)
class CheckRow:
    """One cell of a check.

    Parameters
    ----------
    check : {"permuted C", "blank C", "pure noise", "wider buffers"}
    level : float
        Time t of the noise schedule.
    width : int
        Buffer width r; of "wider buffers" the wider one.
    value : float
        In nats: the CMI, which should be 0; of "wider buffers" cmi(width) - cmi(narrower), which should not be
        above 0. Never clipped.
    stderr : float
        Its error; that of a difference is paired.
    z : float
        value / stderr, as `largest_z.z_scores`.
    threshold : float
        Of the whole check: |z| (z of "wider buffers") beyond it fails.
    passed : bool
    narrower : int or None
        Of "wider buffers": the width that is compared with.
    """

    check: Check
    level: float
    width: int
    value: float
    stderr: float
    z: float
    threshold: float
    passed: bool
    narrower: int | None = None

    @property
    def size(self) -> float:
        """How far out it is: |z|, or z where only values above 0 are wrong."""
        return self.z if self.check == "wider buffers" else abs(self.z)

    @property
    def place(self) -> str:
        """Where it is, as "t = 0.3, r = 2"."""
        return f"t = {self.level:.4g}, r = {self.width}" + ("" if self.narrower is None else f" > {self.narrower}")


@dataclass(frozen=True, eq=False)
class ScanCheck:
    """What a self-check found; made by `check_scan`.

    Parameters
    ----------
    rows : tuple of CheckRow
        Every cell of every check.
    skipped : dict of str to str
        By check, why it was not made.
    seen : dict of str to float
        Of "permuted C" and "blank C": the largest |z| of the same cells in the scan itself, which is what the check
        would have found, had C not been altered. Where it is not beyond the threshold, that would have passed.
    unknown : dict of str to int
        By check, for how many cells the method gave no number; they are not among the rows.
    width : int
        The width beyond which C was altered.
    chosen : str
        Why that one.
    false_positives : float
        How often, at most, something fails by chance, if the errors of the method are right.
    notes : tuple of str
        What has to be known to read the result.
    """

    rows: tuple[CheckRow, ...]
    skipped: dict[Check, str]
    seen: dict[Check, float]
    unknown: dict[Check, int]
    width: int
    chosen: str
    false_positives: float = _FALSE_POSITIVES
    notes: tuple[str, ...] = ()

    def of(self, check: Check) -> tuple[CheckRow, ...]:
        """Return the cells of one check."""
        return tuple(row for row in self.rows if row.check == check)

    def worst(self, check: Check) -> CheckRow | None:
        """Return the cell of one check that is farthest out; None if it was skipped."""
        return max(self.of(check), key=lambda row: row.size, default=None)

    @property
    def failed(self) -> tuple[Check, ...]:
        """The checks that some cell failed."""
        return tuple(check for check in CHECKS if not all(row.passed for row in self.of(check)))

    @property
    def passed(self) -> bool:
        """Whether something was checked and nothing failed."""
        return bool(self.rows) and not self.failed

    @property
    def message(self) -> str:
        """One sentence on the outcome."""
        made = sum(bool(self.of(check)) for check in CHECKS)
        left = f", {len(self.skipped)} skipped" if self.skipped else ""
        if made == 0:
            return "nothing could be checked"
        if not self.failed:
            return f"{made} of {made} checks passed{left}"
        worst = [row for check in self.failed if (row := self.worst(check)) is not None]
        where = "; ".join(f"{row.check}, {row.value:.2g} nats at {row.place}" for row in worst)
        return f"{len(self.failed)} of {made} checks failed{left}: {where}"

    def to_dataframe(self) -> pd.DataFrame:
        """Return a table with one row per cell."""
        import pandas as pd

        names = ("check", "level", "width", "narrower", "value", "stderr", "z", "threshold", "passed")
        return pd.DataFrame({name: [getattr(row, name) for row in self.rows] for name in names})

    def __repr__(self) -> str:
        return f"ScanCheck({'passed' if self.passed else 'failed'}: {self.message})"


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
    found = _Found(scan, seed)
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


@dataclass(frozen=True, eq=False)
class _Family:
    """The cells of one check, and what chance might have made of them: ``draw(count, seed)`` -> (count, cells)."""

    places: Sequence[tuple[float, int, int | None]]  # level, width, the narrower one
    value: FloatArray
    stderr: FloatArray
    draw: Callable[[int, int], FloatArray]

    @property
    def uncertain(self) -> int:
        """How many cells have an error: the others are 0, or wrong."""
        return int(np.count_nonzero(self.stderr > 0.0))


@dataclass(eq=False)
class _Found:
    """Families as they come in, and what is missing."""

    of: PhaseScan
    seed: int
    families: dict[Check, _Family] = field(default_factory=dict)
    skipped: dict[Check, str] = field(default_factory=dict)
    seen: dict[Check, float] = field(default_factory=dict)
    unknown: dict[Check, int] = field(default_factory=dict)

    def zeros(self, check: Check, scan: PhaseScan, levels: Sequence[float], width: int | None) -> None:
        """Take in the finished cells of some levels of a scan, from a width on, that should be 0."""
        data = scan.dataset
        wanted = np.isin(data.t.values, levels)[:, None] & (data.r.values >= (0 if width is None else width))
        known = wanted & ~np.isnan(data.cmi.values)
        i, j = np.nonzero(known)
        cmi = data.cmi.values

        def draw(count: int, seed: int) -> FloatArray:
            return np.asarray(np.nan_to_num((scan.draws(count, seed) - np.nan_to_num(cmi))[:, i, j]))

        places = [(float(t), int(r), None) for t, r in zip(data.t.values[i], data.r.values[j], strict=True)]
        self._take(check, _Family(places, cmi[i, j], data.stderr.values[i, j], draw), int(wanted.sum()))

    def order(self) -> None:
        """Take in all pairs of widths of the scan."""
        data, cmi = self.of.dataset, self.of.dataset.cmi.values
        pairs = np.array(list(combinations(range(data.sizes["r"]), 2)), dtype=np.int64).reshape(-1, 2)
        if len(pairs) == 0:
            self.skipped["wider buffers"] = "the scan has one width only, and none to compare it with"
            return
        narrow, wide = pairs.T
        signal = (data.finished.values == 1) & (data.alpha.values > 0.0)  # without, more is known
        if not signal.any():
            self.skipped["wider buffers"] = "no level but pure noise is finished"
            return
        with np.errstate(invalid="ignore"):  # of CMIs that are infinite
            rise = cmi[:, wide] - cmi[:, narrow]
        i, p = np.nonzero(~np.isnan(rise) & signal[:, None])
        j, k = narrow[p], wide[p]
        covariance, bias = data.covariance.values, data.bias.values
        paired = covariance[i, j, j] + covariance[i, k, k] - 2.0 * covariance[i, j, k]
        removed = np.abs(np.nan_to_num(bias[i, k] - bias[i, j]))
        columns = int(data.n_A) * (data.n_B.values[k] - data.n_B.values[j])
        least = np.maximum(removed / self.of.config["data"]["n_samples"], 2.0 * removed**2 / np.maximum(columns, 1))
        stderr = np.sqrt(np.maximum(np.nan_to_num(paired), least))

        def draw(count: int, seed: int) -> FloatArray:
            drawn = np.nan_to_num(self.of.draws(count, seed) - np.nan_to_num(cmi))
            return np.asarray(drawn[:, i, k] - drawn[:, i, j])

        t, r = data.t.values[i], data.r.values
        places = [(float(a), int(b), int(c)) for a, b, c in zip(t, r[k], r[j], strict=True)]
        self._take("wider buffers", _Family(places, rise[i, p], stderr, draw), int(signal.sum()) * len(pairs))

    def _take(self, check: Check, family: _Family, wanted: int) -> None:
        if len(family.places) < wanted:
            self.unknown[check] = wanted - len(family.places)
        if family.places:
            self.families[check] = family
        else:
            self.skipped[check] = f"the method gives no number for any of its {wanted} cells"

    def result(self, width: int, chosen: str) -> ScanCheck:
        """Share the rate of false positives among the checks that can fail by chance, and judge."""
        share = _FALSE_POSITIVES / max(sum(family.uncertain > 0 for family in self.families.values()), 1)
        rows: list[CheckRow] = []
        for number, check in enumerate(CHECKS):
            if check not in self.families:
                continue
            family, two_sided = self.families[check], check != "wider buffers"
            limit = largest_by_chance(
                family.draw, family.uncertain or 1, share, two_sided=two_sided, seed=(self.seed, number)
            )
            scores = z_scores(family.value, family.stderr)
            numbers = zip(family.places, family.value, family.stderr, scores, strict=True)
            for (t, r, narrower), value, stderr, z in numbers:
                size = abs(z) if two_sided else z
                judged = (float(value), float(stderr), float(z), limit, bool(size <= limit))
                rows.append(CheckRow(check, t, r, *judged, narrower))
        return ScanCheck(tuple(rows), self.skipped, self.seen, self.unknown, width, chosen, notes=self._notes(rows))

    def _notes(self, rows: Sequence[CheckRow]) -> tuple[str, ...]:
        notes = []
        data, config = self.of.dataset, self.of.config
        if not self.of.complete:
            left = int((data.finished.values == 0).sum())
            notes.append(f"{left} of {data.sizes['t']} levels of the scan are not computed, and not checked")
        failed = any(not row.passed for row in rows)
        if failed and "surrogate_bias" in data and not config["options"].get("calibrate"):
            worst = float(np.nanmax(np.abs(data.surrogate_bias.values)))
            notes.append(
                f"the method misses up to {worst:.2g} nats on Gaussian data of the same covariance "
                "(surrogate_bias), which its errors do not contain"
            )
        return tuple(notes)


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


def _alter(found: _Found, again: _Again, x: Samples, levels: list[float], width: int) -> None:
    """Scan permuted and blank data."""
    beyond = again.partition.C(width)
    rng = np.random.default_rng(np.random.SeedSequence(found.seed, spawn_key=(_PERMUTED,)))
    # where chance leaves a sample its own C it stays: else C would depend on A, if by 1/n only
    source = rng.permutation(len(x.values))
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


def _pure_noise(found: _Found, again: _Again | None) -> None:
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

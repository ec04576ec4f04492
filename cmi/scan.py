"""Scans: the CMI over noise levels and buffer widths.

A *cell* is one noise level with all widths.  Methods that know the noise are fitted to the clean samples once
and answer for every level; for the others each cell draws its noise from its own generator, keyed by the seed
and the level itself, so that a value does not depend on the other levels, on their order or on the workers.
"""

from __future__ import annotations

import hashlib
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cmi.checks import whole_number
from cmi.configuration import dimensions
from cmi.data.sample_set import SampleSet, to_unit_range
from cmi.estimate import CMIProfile, assemble
from cmi.forms import order_across
from cmi.methods import FittedNoise, find_method, one_blas_thread, serial
from cmi.noise import Noise, noise_schedule
from cmi.regions import Partition, neighbour_windows
from cmi.result import PhaseScan, block_means
from cmi.samples import Samples, as_array, column_warnings
from cmi.transition import refine_levels

__all__ = [
    "AROUND",
    "MERELY",
    "Progress",
    "ScanFailed",
    "ScanInterrupted",
    "data_of",
    "levels_of",
    "phase_scan",
    "plain",
]

Progress = Callable[[int, int], None]
AROUND = "the image around A"  # in warnings
MERELY = ("threads", "device", "network")  # options that say where and how, not what


class ScanFailed(RuntimeError):
    """A scan failed after some levels were finished; ``partial`` is the `PhaseScan` of those."""

    def __init__(self, partial: PhaseScan, why: BaseException) -> None:
        super().__init__(f"the scan failed: {str(why) or type(why).__name__}")
        self.partial = partial


class ScanInterrupted(KeyboardInterrupt):
    """A scan was interrupted; ``partial`` is the `PhaseScan` of the levels that were finished."""

    def __init__(self, partial: PhaseScan) -> None:
        super().__init__("the scan was interrupted")
        self.partial = partial


def phase_scan(
    x0: Any,
    *,
    levels: Iterable[float],
    widths: Iterable[int] | None = None,
    noise: str | Noise = "interpolation",
    method: str = "gaussian",
    center: Sequence[int] | int | None = None,
    radius: int = 0,
    reach: int | None = None,
    channel_axis: int | None = None,
    seed: int = 0,
    executor: Executor | None = None,
    progress: Progress | None = None,
    resume: PhaseScan | Sequence[PhaseScan] | None = None,
    refine: int = 0,
    training: Callable[[Any], None] | None = None,
    **options: Any,
) -> PhaseScan:
    """Estimate I(A:C|B_r) of the noised data for every noise level and buffer width.

    Parameters
    ----------
    x0 : (n, *shape) array, DataFrame, torch tensor, or a `SampleSet` from `open_dataset`
        Clean samples. Integer grey levels are scaled to [0, 1], since the noise has the unit of the data.
    levels : iterable of float
        Times t of the noise schedule, in [0, 1]; rounded to twelve digits, so that ``dataset.sel(t=0.3)`` finds
        0.3.
    widths : iterable of int, optional
        Buffer widths r; default 1, 2, ... as far as something is left for C. 0 is no buffer: plain mutual
        information.
    noise : str or Noise
        "interpolation" (alpha = 1 - t, sigma = t, as in the paper), "vp-linear", "vp-cosine", "ve", "flip"
        (bits flipped with probability t / 2), or a schedule.
    method : str
        "gaussian" (default), "copula", "ksg", "mixture", "posterior" or "mmse"; "discrete" without noise; see
        `cmi.methods.METHODS`.
    center, radius, reach, channel_axis
        Of A and its shells, as in `Partition.centered`; the channel axis of a `SampleSet` is known.
    seed : int
        Of the sampled noise, and of what the method draws.
    executor : concurrent.futures.Executor, optional
        Runs the cells (processes, threads, dask, loky, ...); None (default): one after the other, each on all
        cores. The result is the same to the last bit.
    progress : callable, optional
        Called as ``progress(done, total)`` after every cell.
    resume : PhaseScan or sequence of them, optional
        Earlier scans with the same configuration: their finished levels are taken over.
    refine : int
        Levels to add, two at a time, where the Markov length is largest so far (`refine_levels`).
    training : callable, optional
        Of a method that trains a network: called with its `estimators.posterior_training.Look` at the held-out
        loss (step, total, held_out) from time to time.
    **options
        Of the method. Of several k the scan holds the mean.

    Returns
    -------
    PhaseScan

    Raises
    ------
    TypeError, ValueError
        As in `open_dataset`, `Partition.centered` and `estimate_cmi`; for levels outside the schedule, or with
        noise if the method takes clean data only; for a scan to resume that differs in data or configuration,
        or was made with a function that its module does not know by name.
    ScanInterrupted
        On Ctrl-C, with the finished levels.
    ScanFailed
        If a cell fails after others have been finished, with those.

    Examples
    --------
    >>> from cmi import open_dataset, phase_scan
    >>> scan = phase_scan(open_dataset("digits"), levels=[0.2, 0.5, 1.0], widths=[1, 2, 3])
    >>> scan.dataset.cmi.shape
    (3, 3)

    References
    ----------
    Hu, Liu, Zhang, Gao, "Local Diffusion Models and Phases of Data Distributions", arXiv:2508.06614.
    """
    samples, notes, about = _unpack(x0)
    if channel_axis is None and isinstance(x0, SampleSet):
        channel_axis = x0.channel_axis
    seed = whole_number(seed, "seed", least=0)
    refine = whole_number(refine, "refine", least=0)
    if executor is not None and not hasattr(executor, "submit"):
        raise TypeError(f"executor must be a concurrent.futures.Executor, got {type(executor).__name__}")
    schedule = noise_schedule(noise)
    times = levels_of(levels, schedule)
    chosen = find_method(method, options)
    if not chosen.takes_noise and schedule.gaussian and schedule.sigma(times).any():
        raise ValueError(
            f"the method {method!r} counts values, which noise makes all different: scan t = 0 only, on a schedule "
            "without noise there, or data of two values with flip noise, or choose another method"
        )
    partition = Partition.centered(
        samples.shape, center=center, radius=radius, widths=widths, reach=reach, channel_axis=channel_axis
    )
    x = np.ascontiguousarray(samples.values[:, partition.columns])
    neighbours = neighbour_windows(samples.shape, partition, channel_axis)
    config: dict[str, Any] = {
        "data": {**about, **_fingerprint(samples)},
        "noise": schedule.to_dict(),
        "method": method,
        # where and by how many threads it is computed must not keep a scan from being resumed
        "options": {k: plain(v) for k, v in {**chosen.options, **options}.items() if k not in MERELY},
        "center": _center(samples.shape, center, channel_axis),
        "radius": int(radius),
        "reach": None if reach is None else int(reach),
        "channel_axis": None if channel_axis is None else int(channel_axis) % len(samples.shape),
        "widths": list(partition.widths),
        "seed": seed,
        "version": version("phase-scan"),
    }
    if dimensions(config) == 1:
        config["order"] = _order(x, partition.sizes)
    outer = {"A": partition.A, AROUND: np.concatenate(partition.shells)}
    notes = (*notes, *column_warnings(samples, outer))
    del samples
    earlier = [] if resume is None else [resume] if isinstance(resume, PhaseScan) else list(resume)
    if earlier or refine:
        for option, value in options.items():
            if callable(value) and not _has_a_name(value):
                raise ValueError(
                    f"a scan whose {option} is a function without a name of its own cannot be resumed, as it may "
                    "have been another function: define it at the top level of a module"
                )
    fitted: FittedNoise | None = None
    asked = times
    while True:
        scan = PhaseScan.empty(times, schedule, partition, config, notes)
        todo = [float(t) for t in times]
        for each in earlier:
            todo = scan.take_over(each)
        total = len(times) + refine
        try:
            with one_blas_thread():
                if todo and (fitted is None or not chosen.trains):
                    # a network is for all levels that were asked for: those that are finished are of the same one
                    noises = [schedule.level(t) for t in (asked if chosen.trains else todo)]
                    fitted = chosen.fitted(x, partition.sizes, seed, noises, options, training, neighbours)
                cell = _Cell(method, options, schedule, partition, seed, fitted)
                for done, (t, result) in enumerate(_run(cell, x, todo, executor), start=len(times) - len(todo) + 1):
                    scan.put(t, result)
                    if progress is not None:
                        progress(done, total)
            added = refine_levels(scan, min(2, refine)) if refine else []
        except KeyboardInterrupt:
            raise ScanInterrupted(scan) from None
        except Exception as error:
            if scan.dataset.finished.any():
                raise ScanFailed(scan, error) from error
            raise
        if not added:
            return scan
        times, refine, earlier = levels_of([*times, *added], schedule), refine - len(added), [scan, *earlier]


@dataclass(frozen=True, eq=False)
class _Cell:
    """One noise level, all widths: what a worker computes, without the local values."""

    method: str
    options: dict[str, Any]
    schedule: Noise
    partition: Partition
    seed: int
    fitted: FittedNoise | None

    def __call__(self, x: NDArray[np.floating], t: float) -> CMIProfile:
        if self.fitted is not None:
            result = self.fitted.profile(x, **self.schedule.level(t))
        else:
            # The level's own bits are the key: adding or removing other levels changes nothing here.
            key = np.float64(t + 0.0).view(np.uint64)
            words = (int(key) >> 32, int(key) & 0xFFFFFFFF)
            rng = np.random.default_rng(np.random.SeedSequence(self.seed, spawn_key=words))
            noisy = self.schedule.forward(x, t, rng)
            # a key of its own: what the method draws is independent of the noise and of the other levels
            own = np.random.SeedSequence(self.seed, spawn_key=(*words, 1)).generate_state(2)
            own_seed = int(own[0]) << 32 | int(own[1])
            result = find_method(self.method, self.options).estimate(
                noisy, self.partition.sizes, own_seed, self.options
            )
        profile = assemble(result, self.partition, method=self.method, n_samples=len(x))
        return replace(profile, local=block_means(profile.local), by_k={})


def _run(
    cell: _Cell, x: NDArray[np.floating], levels: list[float], executor: Executor | None
) -> Iterator[tuple[float, CMIProfile]]:
    """Yield (level, profile) as the cells are finished."""
    if executor is None:
        for t in levels:
            yield t, cell(x, t)
        return
    in_threads = isinstance(executor, ThreadPoolExecutor)
    if not in_threads:
        for option, value in cell.options.items():
            if callable(value) and not _has_a_name(value):
                raise TypeError(
                    f"{option} is a function without a name of its own, which other processes cannot find: define "
                    "it at the top level of a module, or scan without executor"
                )
    with _shared(x, executor) as source:
        futures: dict[Future[CMIProfile], float] = {
            executor.submit(_in_thread if in_threads else _in_process, cell, source, t): t for t in levels
        }
        try:
            for future in as_completed(futures):
                yield futures[future], future.result()
        finally:
            for future in futures:
                future.cancel()


def _in_thread(cell: _Cell, source: _Source, t: float) -> CMIProfile:
    with serial():
        return cell(source.load(), t)


def _in_process(cell: _Cell, source: _Source, t: float) -> CMIProfile:
    with serial(), one_blas_thread():
        return cell(source.load(), t)


@dataclass(frozen=True, eq=False)
class _Source:
    """The samples on their way to workers: the array itself, or the file that processes of this machine map."""

    array: NDArray[np.floating] | None = field(default=None)
    path: Path | None = None

    def load(self) -> NDArray[np.floating]:
        if self.path is None:
            assert self.array is not None  # noqa: S101
            return self.array
        mapped: NDArray[np.floating] = np.load(self.path, mmap_mode="r", allow_pickle=False)
        return mapped


@contextmanager
def _shared(x: NDArray[np.floating], executor: Executor) -> Iterator[_Source]:
    # loky and joblib keep their workers on this machine, as the standard library does
    local = isinstance(executor, ProcessPoolExecutor) or type(executor).__module__.startswith(("loky", "joblib"))
    if not local:
        yield _Source(array=x)  # threads share memory; unknown executors may run on other machines
        return
    with tempfile.TemporaryDirectory(prefix="phase-scan-") as folder:
        path = Path(folder) / "samples.npy"
        np.save(path, x, allow_pickle=False)
        yield _Source(path=path)


def data_of(x0: Any) -> tuple[Samples, dict[str, Any]]:
    """Return samples as a scan takes them, integers scaled, and what it keeps of them in ``config["data"]``.

    Examples
    --------
    >>> samples, about = data_of(np.array([[0, 255], [255, 0]], dtype=np.uint8))
    >>> samples.values.tolist(), about["n_samples"], about["shape"]
    ([[0.0, 1.0], [1.0, 0.0]], 2, [2])
    """
    samples, _, about = _unpack(x0)
    return samples, {**about, **_fingerprint(samples)}


def _unpack(x0: Any) -> tuple[Samples, tuple[str, ...], dict[str, Any]]:
    if isinstance(x0, SampleSet):
        about = {"name": x0.name, "format": x0.format, "total": x0.total, "crop": x0.crop}
        about |= {"size": x0.size, "block": x0.block}
        return Samples.of(x0.samples), x0.notes, about
    is_frame = hasattr(x0, "columns") and hasattr(x0, "dtypes")
    if not is_frame:
        x0, scaling = to_unit_range(as_array(x0))
    samples = Samples.of(x0)
    return samples, (scaling,) if not is_frame and scaling else (), {"name": "array", "format": "memory"}


def levels_of(levels: Iterable[float], schedule: Noise) -> NDArray[np.float64]:
    """Return the times of a scan, rising, rounded to twelve digits; raise a ValueError for bad ones.

    Examples
    --------
    >>> levels_of([0.1 * 3, 0.1], noise_schedule("ve")).tolist()
    [0.1, 0.3]
    """
    times = np.atleast_1d(np.asarray([levels] if np.ndim(levels) == 0 else list(levels), dtype=np.float64))  # type: ignore[arg-type]
    if times.ndim != 1:
        raise ValueError(f"levels must be one list of times t, got an array of shape {times.shape}")
    if len(times) == 0:
        raise ValueError("levels are empty: give at least one time t in [0, 1]")
    schedule.snr(times)  # raises for levels outside the schedule
    # 0.1 * 3 is not 0.3 to the last bit, but it is what was meant: a level can then be looked up by its value.
    times = np.sort([float(f"{t:.12g}") + 0.0 for t in times])
    if (np.diff(times) == 0.0).any():
        raise ValueError(f"levels repeat {times[:-1][np.diff(times) == 0.0][0]:g}")
    return times


def _order(x: NDArray[np.floating], sizes: Sequence[int]) -> float:
    """How order lasts from A to the farthest shell."""
    ends = np.cumsum(sizes)
    shells = [x[:, begin:end] for begin, end in pairwise(ends) if end > begin]
    return order_across(x[:, : ends[0]], shells[0], shells[-1]) if shells else 0.0


def _center(shape: tuple[int, ...], center: Sequence[int] | int | None, channel_axis: int | None) -> list[int]:
    """The centre as it is used, so that a default and the same one spelt out are one configuration."""
    if center is not None:
        return [int(c) for c in np.atleast_1d(center)]
    space = [s for i, s in enumerate(shape) if channel_axis is None or i != channel_axis % len(shape)]
    return [s // 2 for s in space]


def plain(value: Any) -> Any:
    """Return an option as JSON can hold it; functions by name.

    Examples
    --------
    >>> plain(np.float64(0.5)), plain((1, 2))
    (0.5, [1, 2])
    """
    if callable(value):
        kind = value if hasattr(value, "__qualname__") else type(value)
        return f"{kind.__module__}.{kind.__qualname__}"
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray | Sequence) and not isinstance(value, str):
        return [plain(one) for one in value]
    return value


def _has_a_name(function: Callable[..., Any]) -> bool:
    """Whether its module knows the function by its name; it does not know a lambda, or a partial function."""
    found: Any = sys.modules.get(getattr(function, "__module__", None) or "")
    for part in getattr(function, "__qualname__", "").split("."):
        found = getattr(found, part, None)
    return found is function


def _fingerprint(samples: Samples) -> dict[str, Any]:
    digest = hashlib.sha256(samples.values.data.cast("B")).hexdigest()
    return {"n_samples": len(samples.values), "shape": list(samples.shape), "sha256": digest}

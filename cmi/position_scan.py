"""Scans of positions: the same A, B_r and C around one pixel of an image after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor
from importlib.metadata import version
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cmi.checks import whole_number
from cmi.data.sample_set import SampleSet
from cmi.methods import find_method, one_blas_thread
from cmi.noise import Noise, noise_schedule
from cmi.position_map import PositionMap
from cmi.samples import Samples
from cmi.scan import AROUND, MERELY, Progress, data_of, levels_of, phase_scan, plain

__all__ = ["PositionsFailed", "PositionsInterrupted", "map_positions"]

_BEYOND = 6  # pixels that C has beyond the widest buffer

_Found = tuple[tuple[int, ...], NDArray[np.float64], NDArray[np.float64], Iterable[str]]


class PositionsFailed(RuntimeError):
    """A map failed after some places were finished; ``partial`` is the `PositionMap` of those."""

    def __init__(self, partial: PositionMap, why: BaseException) -> None:
        super().__init__(f"the map failed: {str(why) or type(why).__name__}")
        self.partial = partial


class PositionsInterrupted(KeyboardInterrupt):
    """A map was interrupted; ``partial`` is the `PositionMap` of the places that were finished."""

    def __init__(self, partial: PositionMap) -> None:
        super().__init__("the map was interrupted")
        self.partial = partial


def map_positions(
    x0: Any,
    *,
    levels: Iterable[float],
    widths: Iterable[int] = (1, 2, 3),
    stride: int = 1,
    reach: int | None = None,
    noise: str | Noise = "interpolation",
    method: str = "gaussian",
    seed: int = 0,
    executor: Executor | None = None,
    progress: Progress | None = None,
    resume: PositionMap | None = None,
    training: Callable[[Any], None] | None = None,
    **options: Any,
) -> PositionMap:
    """Estimate I(A:C|B_r) with A one pixel, for pixels all over the image.

    A is the pixel, B_r the rest of the square of side 2 r + 1 around it, C what is farther out up to `reach`, all
    as far as they lie within the image. With the method "posterior" one network answers for all places.

    Parameters
    ----------
    x0 : (n, *shape) array, or a `SampleSet` from `open_dataset`
        Clean samples without channels, as in `phase_scan`.
    levels, noise, method, seed, executor, training
        As in `phase_scan`.
    widths : iterable of int
        Buffer widths r; default 1, 2, 3. Of every pixel some of the image must be left for C.
    stride : int
        Every so many pixels of each axis, the same number left over on both sides.
    reach : int, optional
        Largest distance from A that C takes in, the same everywhere, so that places compare. Default: 6 more than
        the largest width (what is farther tells at most the CMI of r = reach).
    progress : callable, optional
        Called as ``progress(done, total)`` after every place.
    resume : PositionMap, optional
        An earlier map of the same configuration, whose finished places are taken over.
    **options
        Of the method; of "posterior" those of `estimators.posterior_places.fit_posterior_places`.

    Raises
    ------
    TypeError, ValueError
        As in `phase_scan`; for samples with channels or a stride that is no number of pixels.
    PositionsInterrupted
        On Ctrl-C, with the finished places.
    PositionsFailed
        If a place fails after others have been finished, with those.

    Examples
    --------
    >>> from cmi import map_positions, open_dataset
    >>> found = map_positions(open_dataset("digits"), levels=[0.3], widths=[1], stride=2)
    >>> found.dataset.cmi.sel(t=0.3, r=1).shape
    (4, 4)
    """
    samples, about = data_of(x0)
    notes = x0.notes if isinstance(x0, SampleSet) else ()
    if isinstance(x0, SampleSet) and x0.channel_axis is not None:
        raise ValueError("maps of positions are for images of one channel: scan one position, or one channel")
    shape = samples.shape
    stride, seed = whole_number(stride, "stride", least=1), whole_number(seed, "seed", least=0)
    schedule = noise_schedule(noise)
    times = levels_of(levels, schedule)
    labels = sorted({whole_number(w, "width", least=0) for w in widths})
    if not labels:
        raise ValueError("widths are empty: give at least one buffer width")
    reach = labels[-1] + _BEYOND if reach is None else whole_number(reach, "reach", least=1)
    # from the pixel in the middle the farthest is half a side away
    least = min(max(shape) // 2, reach)
    if labels[-1] >= least:
        raise ValueError(
            f"width {labels[-1]} leaves nothing for C around every pixel of {'x'.join(map(str, shape))}"
            f" with reach {reach}: widths go up to {least - 1}"
        )
    pixels = [np.arange((side - 1) % stride // 2, side, stride) for side in shape]
    chosen = find_method(method, {})
    chosen.check_places(options)
    if chosen.trains and chosen.fit_places is None:
        raise ValueError(
            f"the method {method!r} trains a network per position, and has none for all: map with posterior, and "
            f"scan single positions with {method}"
        )
    if not chosen.takes_noise and schedule.gaussian and schedule.sigma(times).any():
        raise ValueError(
            f"the method {method!r} counts values, which noise makes all different: choose another method"
        )
    config: dict[str, Any] = {
        "data": about,
        "noise": schedule.to_dict(),
        "method": method,
        "options": {k: plain(v) for k, v in {**chosen.place_options, **options}.items() if k not in MERELY},
        "stride": stride,
        "reach": reach,
        "widths": labels,
        "levels": times.tolist(),
        "seed": seed,
        "channel_axis": None,
        "version": version("phase-scan"),
    }
    found = PositionMap.empty(times, labels, pixels, schedule, config)
    if resume is not None:
        found.take_over(resume)
    total, todo = len(found.places), found.missing()
    try:
        with one_blas_thread():
            if chosen.fit_places is None:
                each = _by_scans(x0, todo, found, schedule, executor, options)
            else:
                each = _by_network(samples, todo, found, schedule, training, options)
            for done, (place, cmi, stderr, texts) in enumerate(each, start=total - len(todo) + 1):
                found.put(place, cmi, stderr, (*notes, *texts))
                if progress is not None:
                    progress(done, total)
    except KeyboardInterrupt:
        raise PositionsInterrupted(found) from None
    except Exception as error:
        if found.dataset.finished.any():
            raise PositionsFailed(found, error) from error
        raise
    return found


def _by_scans(
    x0: Any,
    todo: list[tuple[int, ...]],
    found: PositionMap,
    schedule: Noise,
    executor: Executor | None,
    options: dict[str, Any],
) -> Iterator[_Found]:
    """One scan per place."""
    config = found.config
    for place in todo:
        scan = phase_scan(
            x0,
            levels=config["levels"],
            widths=config["widths"],
            center=place,
            reach=config["reach"],
            noise=schedule,
            method=config["method"],
            seed=config["seed"],
            executor=executor,
            **options,
        )
        texts = [text for text in scan.warnings if AROUND not in text]  # other columns at every place
        yield place, scan.dataset.cmi.values, scan.dataset.stderr.values, texts


def _by_network(
    samples: Samples,
    todo: list[tuple[int, ...]],
    found: PositionMap,
    schedule: Noise,
    training: Callable[[Any], None] | None,
    options: dict[str, Any],
) -> Iterator[_Found]:
    """One network for all places."""
    config = found.config
    offsets, sizes = _window(len(samples.shape), config["widths"], config["reach"])
    windows = np.stack([_columns(samples.shape, place, offsets) for place in found.places])
    noises = [schedule.level(t) for t in config["levels"]]
    method = find_method(config["method"], {})
    fit = method.fitted_places(samples.values, windows, sizes, config["seed"], noises, options, training)
    for place in todo:
        at = found.places.index(place)
        profiles = [fit.profile(samples.values, at, **noise) for noise in noises]
        cmi = np.stack([each.value for each in profiles])
        stderr = np.stack([np.sqrt(np.diagonal(each.covariance())) for each in profiles])
        yield place, cmi, stderr, [note for each in profiles for note in each.notes]


def _window(dims: int, widths: Sequence[int], reach: int) -> tuple[NDArray[np.int64], tuple[int, ...]]:
    """Offsets from A, shell after shell, each in C order; numbers of them, A's first."""
    grid = np.stack(np.meshgrid(*[np.arange(-reach, reach + 1)] * dims, indexing="ij"), axis=-1).reshape(-1, dims)
    distance = np.abs(grid).max(axis=1)
    edges = [-1, 0, *widths, reach]
    shells = [grid[(distance > low) & (distance <= high)] for low, high in pairwise(edges)]
    return np.concatenate(shells), tuple(len(shell) for shell in shells)


def _columns(shape: tuple[int, ...], place: tuple[int, ...], offsets: NDArray[np.int64]) -> NDArray[np.int64]:
    """Columns of a window around a place; -1 outside."""
    at = offsets + np.asarray(place)
    inside = ((at >= 0) & (at < np.asarray(shape))).all(axis=1)
    clipped = np.clip(at, 0, np.asarray(shape) - 1)
    return np.where(inside, np.ravel_multi_index(tuple(clipped.T), shape), -1)

"""Sizes of one data set: crops, or block means, of samples, with regions that all grow with the size.

A fifth of a sample of L pixels is the side of A, the width of B, and what is left of C on either side.  Crops are
samples of L x L pixels as they are.  Block means keep as many blocks at every size: of b x b pixels the mean, times
b, has noise of the same variance as a pixel, so that one schedule serves all sizes; it is the noised sample that is
averaged, seen at a coarser scale.  Means of blocks of a Markov field are no Markov field: with little noise their
CMI may grow with the size where that of the pixels does not.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from cmi.checks import whole_number
from cmi.data.sample_set import SampleSet
from cmi.noise import noise_schedule
from cmi.result import PhaseScan
from cmi.scan import Progress, ScanFailed, ScanInterrupted, phase_scan
from cmi.transition import refine_levels

__all__ = ["How", "SizesFailed", "SizesInterrupted", "resized", "scan_sizes", "sized"]

How = Literal["crop", "block"]
_PARTS = 5  # A, and B and C on either side of it


class SizesFailed(RuntimeError):
    """A scan of several sizes failed; ``partial`` is the dict of size to `PhaseScan` of what was finished."""

    def __init__(self, partial: dict[float, PhaseScan], why: BaseException) -> None:
        super().__init__(f"the scan failed: {str(why) or type(why).__name__}")
        self.partial = partial


class SizesInterrupted(KeyboardInterrupt):
    """A scan of several sizes was interrupted; ``partial`` as of `SizesFailed`."""

    def __init__(self, partial: dict[float, PhaseScan]) -> None:
        super().__init__("the scan was interrupted")
        self.partial = partial


def scan_sizes(
    samples: SampleSet,
    sizes: Iterable[int],
    *,
    levels: Iterable[float],
    how: How = "crop",
    center: Sequence[int] | int | None = None,
    refine: int = 0,
    progress: Progress | None = None,
    resume: Mapping[float, PhaseScan] | None = None,
    **arguments: Any,
) -> dict[float, PhaseScan]:
    """Scan several sizes of a data set, so that `locate_transition` can tell a transition from a crossover.

    Parameters
    ----------
    samples : SampleSet
        As `open_dataset` returns it.
    sizes : iterable of int
        Sides in pixels, at least 5; for block means multiples of the smallest. Multiples of 5 (odd ones for crops)
        divide into A, B and C without rounding.
    levels : iterable of float
        Noise levels of all sizes.
    how : {"crop", "block"}
    center : sequence of int, optional
        Pixel in the middle of all sizes; default: that of the sample.
    refine : int
        Levels to add around the place where the curves of the sizes cross.
    progress : callable, optional
        Called as ``progress(done, total)`` after every cell of every size.
    resume : dict of size to PhaseScan, optional
        Earlier scans of some of the sizes, with the same configuration.
    **arguments
        Of `phase_scan`.

    Returns
    -------
    dict of size to PhaseScan

    Raises
    ------
    TypeError, ValueError
        If a size does not fit into the samples, or as in `phase_scan`.
    SizesInterrupted
        On Ctrl-C, with what is finished.
    SizesFailed
        If a cell fails after others have been finished, with those.

    Examples
    --------
    >>> from cmi import locate_transition, open_dataset
    >>> scans = scan_sizes(open_dataset("exact:chain?L=25&a=0.5&n=5000"), [5, 15, 25], levels=[0.3, 0.5, 0.7])
    >>> {size: scan.dataset.r.values.tolist() for size, scan in scans.items()}
    {5: [1], 15: [1, 2, 3, 4, 5], 25: [1, 2, 3, 4, 5, 6, 7, 8, 9]}
    >>> locate_transition(scans).verdict
    'none'
    """
    for name in ("radius", "widths", "reach", "channel_axis"):
        if arguments.get(name) is not None and (name != "radius" or arguments[name]):
            raise ValueError(f"{name} follows from the sizes: leave it out")
        arguments.pop(name, None)
    wanted = sorted({whole_number(size, "every size", least=_PARTS) for size in sizes})
    if not wanted:
        raise ValueError("sizes are empty: give at least one side in pixels")
    if how not in get_args(How):
        raise ValueError(f'sizes are made by "crop" or "block", got {how!r}')
    if how == "block" and not noise_schedule(arguments.get("noise", "interpolation")).gaussian:
        raise ValueError("means of blocks are for Gaussian noise: use crops with flips")
    parts = {size: sized(samples, size, how=how, blocks=wanted[0], center=center) for size in wanted}
    times = [float(t) for t in levels]
    refine = whole_number(refine, "refine", least=0)
    total = (len(times) + refine) * len(wanted)
    earlier = dict(resume or {})
    if stray := [size for size in earlier if size not in wanted]:
        raise ValueError(f"there is a scan of size {stray[0]:g} to resume, which is none of the sizes {wanted}")

    def scan_of(size: int, levels: list[float], resume: list[PhaseScan], progress: Progress | None) -> PhaseScan:
        unit = (wanted[0] if how == "block" else size) / _PARTS
        own = dict(arguments)
        if own.get("network") is not None:  # one for each
            file = Path(own["network"])
            own["network"] = file.with_name(f"{file.stem}.L{size:g}{file.suffix}")
        return phase_scan(
            parts[size],
            levels=levels,
            radius=max(round((unit - 1.0) / 2.0), 0),
            channel_axis=parts[size].channel_axis,
            progress=progress,
            resume=resume,
            **own,
        )

    for size in wanted:  # what does not match shows before any work is done for it
        if size in earlier:
            done = earlier[size].dataset
            finished = [t for t in times if float(f"{t:.12g}") in done.t.values[done.finished.values == 1]]
            if finished:
                scan_of(size, finished, [earlier[size]], None)
    scans: dict[float, PhaseScan] = {}
    done_of = dict.fromkeys(wanted, 0)
    while True:
        for size in wanted:

            def advance(done: int, _: int, size: int = size) -> None:
                done_of[size] = done
                if progress is not None:
                    progress(sum(done_of.values()), total)

            try:
                known = [scan for scan in (scans.get(size), earlier.get(size)) if scan is not None]
                scans[size] = scan_of(size, times, known, advance)
            except ScanInterrupted as interrupt:
                raise SizesInterrupted(earlier | scans | {size: interrupt.partial}) from None
            except KeyboardInterrupt:
                raise SizesInterrupted(earlier | scans) from None
            except ScanFailed as failure:
                raise SizesFailed(
                    earlier | scans | {size: failure.partial}, failure.__cause__ or failure
                ) from failure
            except Exception as error:
                if not scans:
                    raise
                raise SizesFailed(earlier | scans, error) from error
            done_of[size] = len(times)
        if refine == 0:
            return scans
        added = refine_levels(scans, min(2, refine))
        refine -= len(added)
        if not added:
            return scans
        times += added


def sized(
    samples: SampleSet, size: int, *, how: How = "crop", blocks: int = 5, center: Sequence[int] | int | None = None
) -> SampleSet:
    """Return a window of that side, as it is or as block means (`blocks` on each side), times b^(dims/2).

    Examples
    --------
    >>> data = SampleSet(np.ones((3, 28, 28)), "x", "array", 3)
    >>> sized(data, 15).shape, sized(data, 20, how="block").shape, float(sized(data, 20, how="block").samples.max())
    ((15, 15), (5, 5), 4.0)
    """
    axis, dims = samples.channel_axis, len(samples.shape)
    if axis is not None and (dims < 2 or not -dims <= axis < dims):
        raise ValueError(f"a sample of shape {samples.shape} has no channel axis {axis} beside space")
    axis = None if axis is None else axis % dims
    space = [i for i in range(len(samples.shape)) if i != axis]
    middle = (
        [samples.shape[i] // 2 for i in space]
        if center is None
        else [whole_number(c, "every coordinate of the centre", least=0) for c in np.atleast_1d(np.asarray(center))]
    )
    if len(middle) != len(space):
        raise ValueError(f"the centre {middle} needs one number for each of {len(space)} axes of space")
    values = samples.samples
    for i, c in zip(space, middle, strict=True):
        low = c - size // 2
        if low < 0 or low + size > samples.shape[i]:
            raise ValueError(
                f"a window of {size} pixels around pixel {c} does not fit into the {samples.shape[i]} of an axis"
            )
        values = values.take(range(low, low + size), axis=i + 1)
    b, about = None, f"{size} around {','.join(map(str, middle))}"
    if how == "block":
        b, rest = divmod(size, blocks)
        if rest:
            raise ValueError(f"sizes of block means must be multiples of the smallest, {blocks}, got {size}")
        for i in space:
            values = values.reshape(*values.shape[: i + 1], blocks, b, *values.shape[i + 2 :]).mean(axis=i + 2)
        values = values * float(b) ** (len(space) / 2.0)
        about = f"{about}, means of {b}^{len(space)} blocks"
    return replace(
        samples,
        samples=np.ascontiguousarray(values),
        crop=about if samples.crop is None else f"{samples.crop}; {about}",
        columns=None,
        size=size,
        block=b,
    )


def resized(samples: SampleSet, about: Mapping[str, Any]) -> SampleSet:
    """Cut whole samples as ``config["data"]`` of a scan says: the crop, and the size if it is one of several.

    Examples
    --------
    >>> data = SampleSet(np.ones((3, 28, 28)), "x", "array", 3)
    >>> part = sized(data.cropped("1:,1:"), 10, how="block")
    >>> resized(data, {"crop": part.crop, "size": 10, "block": 2}).crop == part.crop
    True
    """
    crop, size, block = (about.get(name) for name in ("crop", "size", "block"))
    if size is None:
        return samples if crop is None else samples.cropped(crop)
    before, _, window = str(crop).rpartition("; ")
    if before:
        samples = samples.cropped(before)
    center = [int(c) for c in window.partition(" around ")[2].split(", ")[0].split(",")]
    if block is None:
        return sized(samples, size, center=center)
    return sized(samples, size, how="block", blocks=size // block, center=center)

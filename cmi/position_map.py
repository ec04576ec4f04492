"""PositionMap: the CMI around every pixel of an image, over noise levels and widths."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from os import PathLike
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from cmi.configuration import check_same
from cmi.netcdf import read_netcdf, write_netcdf
from cmi.noise import Noise

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["PositionMap"]

_FORMAT = 1
_AXES = ("z", "y", "x")


class PositionMap:
    """I(A:C|B_r) with A one place after the other; made by `map_positions`.

    Parameters
    ----------
    dataset : xarray.Dataset
        ``cmi`` and ``stderr`` over (t, r) and the axes of space ((z,) y, x), NaN where a place is not finished;
        ``finished`` over space; coordinates ``alpha``, ``sigma``, ``snr`` (t), and the pixels of the places;
        attributes ``config`` and ``warnings``, both JSON. All values in nats, never clipped.
    """

    def __init__(self, dataset: xr.Dataset) -> None:
        space = tuple(name for name in _AXES if name in dataset.dims)
        for name, dims in (("cmi", ("t", "r", *space)), ("stderr", ("t", "r", *space)), ("finished", space)):
            if name not in dataset or dataset[name].dims != dims or dataset[name].dtype.kind not in "fiu":
                raise ValueError(f"this is no map of positions: {name} does not hold numbers over {dims}")
        for name in ("config", "warnings"):
            if name not in dataset.attrs:
                raise ValueError(f"this is no map of positions: it lacks the attribute {name}")
        self.dataset = dataset

    @classmethod
    def empty(
        cls,
        times: NDArray[np.float64],
        widths: Sequence[int],
        pixels: Sequence[NDArray[np.int64]],
        schedule: Noise,
        config: Mapping[str, Any],
    ) -> PositionMap:
        """Make a map of which no place is finished yet."""
        space = _AXES[-len(pixels) :]
        blank = np.full((len(times), len(widths), *(len(p) for p in pixels)), np.nan)
        nats = {"units": "nats"}
        dataset = xr.Dataset(
            {
                "cmi": (
                    ("t", "r", *space),
                    blank,
                    {"long_name": "I(A:C|B_r), A the pixel, never clipped", **nats},
                ),
                "stderr": (("t", "r", *space), blank.copy(), {"long_name": "standard error of cmi", **nats}),
                "finished": (space, np.zeros(blank.shape[2:], dtype=np.int8), {"long_name": "1 where computed"}),
            },
            coords={
                "t": ("t", times, {"long_name": "noise level"}),
                "r": ("r", np.array(widths, dtype=np.int64), {"long_name": "buffer width", "units": "pixels"}),
                **{
                    name: (name, p, {"long_name": "pixel at A", "units": "pixels"})
                    for name, p in zip(space, pixels, strict=True)
                },
                "alpha": ("t", schedule.alpha(times), {"long_name": "weight of the data"}),
                "sigma": ("t", schedule.sigma(times), {"long_name": "standard deviation of the noise"}),
                "snr": ("t", schedule.snr(times), {"long_name": "signal-to-noise ratio alpha^2/sigma^2"}),
            },
            attrs={
                "format": _FORMAT,
                "kind": "positions",
                "config": json.dumps(config, sort_keys=True, default=lambda value: value.item()),
                "warnings": "{}",
            },
        )
        return cls(dataset)

    @property
    def config(self) -> dict[str, Any]:
        """Return the whole configuration, as of a `PhaseScan`."""
        return dict(json.loads(self.dataset.attrs["config"]))

    @property
    def space(self) -> tuple[str, ...]:
        """Names of the axes of space."""
        return tuple(str(name) for name in self.dataset.finished.dims)

    @property
    def complete(self) -> bool:
        """Whether every place is finished."""
        return bool(self.dataset.finished.all())

    @property
    def places(self) -> list[tuple[int, ...]]:
        """Pixels of all places, the last axis fastest."""
        grid = np.meshgrid(*(self.dataset[name].values for name in self.space), indexing="ij")
        return [tuple(int(c) for c in place) for place in np.stack([g.ravel() for g in grid], axis=1)]

    @property
    def warnings(self) -> tuple[str, ...]:
        """What has to be known to read the numbers, each with how many places it concerns."""
        total = int(self.dataset.finished.sum())
        known = dict(json.loads(self.dataset.attrs["warnings"]))
        return tuple(
            text if count == total else f"{text} ({count} of {total} places)" for text, count in known.items()
        )

    def put(
        self, place: Sequence[int], cmi: NDArray[np.float64], stderr: NDArray[np.float64], notes: Iterable[str]
    ) -> None:
        """Enter (levels, widths) of a place."""
        at = self._at(place)
        self.dataset.cmi.values[(..., *at)] = cmi
        self.dataset.stderr.values[(..., *at)] = stderr
        self.dataset.finished.values[at] = 1
        known = dict(json.loads(self.dataset.attrs["warnings"]))
        for text in dict.fromkeys(notes):
            known[text] = known.get(text, 0) + 1
        self.dataset.attrs["warnings"] = json.dumps(known)

    def missing(self) -> list[tuple[int, ...]]:
        """Return the places that are not finished."""
        return [place for place in self.places if not self.dataset.finished.values[self._at(place)]]

    def take_over(self, earlier: PositionMap) -> None:
        """Enter what an earlier map, configured alike, has finished.

        Raises
        ------
        ValueError
            If it is of other data, levels or configuration; says in what.
        """
        check_same(earlier.config, self.config, "the map to resume")
        for place in earlier.places:
            at = self._at(place)
            if earlier.dataset.finished.values[at]:
                self.put(
                    place, earlier.dataset.cmi.values[(..., *at)], earlier.dataset.stderr.values[(..., *at)], ()
                )
        self.dataset.attrs["warnings"] = earlier.dataset.attrs["warnings"]

    def plot(self) -> Figure:
        """Draw the maps of all levels and widths; see `cmi.position_plot.plot_positions`."""
        from cmi.position_plot import plot_positions

        return plot_positions(self)

    def save(self, path: str | PathLike[str], *, overwrite: bool = False) -> None:
        """Write the map as netCDF-4; the file appears whole or not at all.

        Raises
        ------
        FileExistsError
            If the file exists and `overwrite` is False.
        OSError
            If it cannot be written.
        """
        write_netcdf(self.dataset, path, overwrite=overwrite)

    @classmethod
    def load(cls, path: str | PathLike[str]) -> PositionMap:
        """Read a map that `save` wrote.

        Raises
        ------
        FileNotFoundError
            If there is no such file.
        ValueError
            If it is not a map of positions, is damaged, or was written by a newer version.
        """

        def made(dataset: xr.Dataset) -> PositionMap:
            found = cls(dataset)
            _ = found.warnings, found.places, repr(found)
            return found

        return read_netcdf(path, made, newest=_FORMAT, what="map of positions")

    def _at(self, place: Sequence[int]) -> tuple[int, ...]:
        axes = (self.dataset[name].values for name in self.space)
        return tuple(int(np.flatnonzero(axis == c)[0]) for axis, c in zip(axes, place, strict=True))

    def __repr__(self) -> str:
        sizes = self.dataset.sizes
        grid = " x ".join(str(sizes[name]) for name in self.space)
        done = int(self.dataset.finished.sum())
        state = "" if self.complete else f", {done} finished"
        cells = f"{sizes['t']} levels x {sizes['r']} widths"
        return (
            f"PositionMap({self.config['data']['name']!r}, {grid} places, {cells}, "
            f"method={self.config['method']!r}{state})"
        )

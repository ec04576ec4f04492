"""PhaseScan: the result of a scan, an xarray Dataset with what follows from it."""

from __future__ import annotations

import json
from collections.abc import Iterable
from os import PathLike
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from cmi.configuration import check_same, dimensions, unit
from cmi.estimate import CMIProfile
from cmi.forms import power_in_front
from cmi.markov_length import MarkovLength, fit_markov_length
from cmi.netcdf import read_netcdf, write_netcdf
from cmi.noise import Noise
from cmi.regions import Partition, chebyshev_distance

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

__all__ = ["BLOCKS", "DIAGNOSTICS", "FILE_FORMAT", "PhaseScan", "block_means"]

_VARIABLES: dict[str, tuple[str, ...]] = {
    "cmi": ("t", "r"),
    "stderr": ("t", "r"),
    "bias": ("t", "r"),
    "covariance": ("t", "r", "r2"),
    "finished": ("t",),
    **dict.fromkeys(("t", "alpha", "sigma", "snr"), ("t",)),
    **dict.fromkeys(("r", "n_B", "n_C"), ("r",)),
    "n_A": (),
}

# What a method may know beside its estimate, over (t, r): in a scan only if it does.
DIAGNOSTICS = {
    "surrogate_bias": "what the method misses on Gaussian data of the same size and covariance",
    "surrogate_stderr": "standard error of surrogate_bias",
    "null_mean": "what the method reads where A and C depend on each other through B only",
    "null_stderr": "standard error of null_mean",
    "neighbours": "effective number of samples that a mixture averages over in B_r (median over queries)",
    "p_value": "(1 + local permutations that reach cmi, with an allowance for wide B) / (1 + permutations)",
}

BLOCKS = 100  # of samples, whose means are kept: a bootstrap over them goes through all levels together

FILE_FORMAT = 1  # raised when a reader of older files would misread newer ones


class PhaseScan:
    """CMI over noise levels t and buffer widths r; made by `phase_scan`.

    Parameters
    ----------
    dataset : xarray.Dataset
        Variables ``cmi``, ``stderr``, ``bias`` (t, r), ``covariance`` (t, r, r2) of the widths at one level, and
        ``finished`` (t); where the method knows them `DIAGNOSTICS` (t, r) and ``blocks`` (t, block, r), the means
        of up to `BLOCKS` blocks of samples, the same at all levels; coordinates
        ``alpha``, ``sigma``, ``snr`` (t), ``n_A``, ``n_B`` and ``n_C`` (r);
        attributes ``config`` and ``warnings``, both JSON.  All values in nats; `cmi` is never clipped.
    """

    def __init__(self, dataset: xr.Dataset) -> None:
        if dataset.attrs.get("kind") == "positions":
            raise ValueError("it is a map of positions, which show and plot take, and PositionMap.load in Python")
        for name, dims in _VARIABLES.items():
            if name not in dataset.variables:
                raise ValueError(f"this is no phase scan: it lacks {name}")
            if dataset[name].dims != dims or dataset[name].dtype.kind not in "fiu":
                raise ValueError(f"this is no phase scan: {name} does not hold numbers over {dims}")
        for name in DIAGNOSTICS:
            if name in dataset and (dataset[name].dims != ("t", "r") or dataset[name].dtype.kind not in "fiu"):
                raise ValueError(f"this is no phase scan: {name} does not hold numbers over ('t', 'r')")
        if "blocks" in dataset and (
            dataset.blocks.dims != ("t", "block", "r") or dataset.blocks.dtype.kind not in "fiu"
        ):
            raise ValueError("this is no phase scan: blocks does not hold numbers over ('t', 'block', 'r')")
        if not (np.diff(dataset.t.values) > 0.0).all() or not (np.diff(dataset.r.values) > 0).all():
            raise ValueError(
                "levels and widths of a scan rise: put them in order with dataset.sortby(['t', 'r', 'r2'])"
            )
        for name in ("config", "warnings"):
            if name not in dataset.attrs:
                raise ValueError(f"this is no phase scan: it lacks the attribute {name}")
        self.dataset = dataset

    @classmethod
    def empty(
        cls,
        times: NDArray[np.float64],
        schedule: Noise,
        partition: Partition,
        config: dict[str, Any],
        warnings: Iterable[str] = (),
    ) -> PhaseScan:
        """Make a scan of which no level is finished yet."""
        r = np.array(partition.widths, dtype=np.int64)
        sizes = np.array(partition.sizes)
        n_b = np.cumsum(sizes[1:-1])
        blank = np.full((len(times), len(r)), np.nan)
        nats = {"units": "nats"}
        dataset = xr.Dataset(
            {
                "cmi": (
                    ("t", "r"),
                    blank,
                    {"long_name": "I(A:C|B_r), bias corrected, never clipped", **nats},
                ),
                "stderr": (("t", "r"), blank.copy(), {"long_name": "standard error of cmi", **nats}),
                "bias": (
                    ("t", "r"),
                    blank.copy(),
                    {"long_name": "estimated bias, subtracted from cmi", **nats},
                ),
                "covariance": (
                    ("t", "r", "r2"),
                    np.full((*blank.shape, len(r)), np.nan),
                    {"long_name": "covariance of the errors of cmi over widths", "units": "nats^2"},
                ),
                "finished": (("t",), np.zeros(len(times), dtype=np.int8), {"long_name": "1 where computed"}),
            },
            coords={
                "t": ("t", times, {"long_name": "noise level"}),
                "r": ("r", r, {"long_name": "buffer width", "units": unit(config)}),
                "r2": ("r2", r, {"long_name": "buffer width", "units": unit(config)}),
                "alpha": ("t", schedule.alpha(times), {"long_name": "weight of the data"}),
                "sigma": ("t", schedule.sigma(times), {"long_name": "standard deviation of the noise"}),
                "snr": ("t", schedule.snr(times), {"long_name": "signal-to-noise ratio alpha^2/sigma^2"}),
                "n_A": int(sizes[0]),
                "n_B": ("r", n_b, {"long_name": "columns of B_r"}),
                "n_C": ("r", sizes[1:].sum() - n_b, {"long_name": "columns of C_r"}),
            },
            attrs={
                "format": FILE_FORMAT,
                "config": json.dumps(config, sort_keys=True, default=lambda value: value.item()),
                "warnings": json.dumps([[text, []] for text in warnings]),
            },
        )
        return cls(dataset)

    @property
    def config(self) -> dict[str, Any]:
        """Return the whole configuration: data (name, shape, checksum), noise, method, regions, seed, version."""
        return dict(json.loads(self.dataset.attrs["config"]))

    @property
    def warnings(self) -> tuple[str, ...]:
        """What has to be known to read the numbers, each with the levels it concerns."""
        total = self.dataset.sizes["t"]
        texts = []
        for text, levels in json.loads(self.dataset.attrs["warnings"]):
            levels = sorted(levels)
            shown = ", ".join(f"{t:g}" for t in levels[:4]) + (", ..." if len(levels) > 4 else "")
            texts.append(text if len(levels) in (0, total) else f"{text} (t = {shown})")
        return tuple(texts)

    @property
    def complete(self) -> bool:
        """Whether every level is finished."""
        return bool(self.dataset.finished.all())

    @property
    def unit(self) -> str:
        """Unit of widths and lengths: "pixels", or "blocks of 3 pixels" where samples hold such means."""
        return unit(self.config)

    @property
    def reach(self) -> int:
        """Largest distance from A that the scan takes in: no length above it can be seen."""
        config = self.config
        shape = config["data"]["shape"]
        farthest = int(
            chebyshev_distance(
                shape, center=config["center"], radius=config["radius"], channel_axis=config["channel_axis"]
            ).max()
        )
        return farthest if config["reach"] is None else min(farthest, int(config["reach"]))

    @property
    def markov_length(self) -> tuple[MarkovLength, ...]:
        """Markov length at every level, in the order of ``dataset.t``; see `fit_markov_length`.

        Only widths above `floor` count. The power in front is that of the dimensions of space and, on a line, of
        the order across the samples (`cmi.forms.power_in_front`).
        """
        return self.lengths_given(self.order)

    @property
    def order(self) -> float:
        """How order lasts across clean samples of a line, as `cmi.forms.order_across`; 0 where it is not known."""
        return float(self.config.get("order", 0.0))

    def lengths_given(self, order: float) -> tuple[MarkovLength, ...]:
        """Return the Markov lengths for another order than that of these samples, as one that sizes share."""
        data, reach, radius = self.dataset, self.reach, int(self.config["radius"])
        floor, error = self.floor
        dims = dimensions(self.config)
        power = power_in_front(dims, order=order)
        return tuple(
            fit_markov_length(
                data.r.values,
                data.cmi.values[i],
                data.covariance.values[i],
                reach=reach,
                radius=radius,
                floor=floor[i],
                floor_stderr=error[i],
                dims=dims,
                prefactor=power,
            )
            if data.finished.values[i]
            else MarkovLength.unresolved("not computed")
            for i in range(data.sizes["t"])
        )

    @property
    def floor(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """What the method reads where there is no CMI, and its error, both (t, r); 0 where it does not know.

        The mean over local permutations, what it reads too much on surrogates if that is not subtracted, or what
        it reads of pure noise (a finished level of alpha = 0) if that is 3 standard errors above 0: whichever is
        most; never below 0.
        """
        data = self.dataset
        floor, error = np.zeros((2, *data.cmi.shape))
        known = [("null_mean", "null_stderr")]
        if not self.config.get("options", {}).get("calibrate"):
            known.append(("surrogate_bias", "surrogate_stderr"))
        for name, its_error in known:
            if name in data and its_error in data:
                higher = np.nan_to_num(data[name].values) > floor
                floor = np.where(higher, data[name].values, floor)
                error = np.where(higher, np.nan_to_num(data[its_error].values), error)
        for i in np.flatnonzero((data.alpha.values == 0.0) & (data.finished.values == 1)):
            cmi, stderr = data.cmi.values[i], data.stderr.values[i]
            with np.errstate(invalid="ignore"):
                higher = (cmi > 3.0 * stderr) & (cmi > floor)
            floor, error = np.where(higher, cmi, floor), np.where(higher, stderr, error)
        return floor, error

    def stands_out(self, errors: float) -> NDArray[np.bool_]:
        """Return which CMIs (t, r) are so many standard errors above 0 and above `floor`."""
        cmi, stderr = self.dataset.cmi.values, self.dataset.stderr.values
        floor, error = self.floor
        with np.errstate(invalid="ignore"):
            clear = (cmi > 0.0) & (cmi > errors * stderr)
            return np.asarray(clear & ((floor == 0.0) | (cmi > floor + errors * np.hypot(stderr, error))))

    def put(self, t: float, profile: CMIProfile) -> None:
        """Enter the profile of one level."""
        i = int(np.flatnonzero(self.dataset.t.values == t)[0])
        self.dataset.cmi.values[i] = profile.value
        self.dataset.stderr.values[i] = profile.stderr
        self.dataset.bias.values[i] = profile.bias
        self.dataset.covariance.values[i] = profile.covariance
        if profile.local.shape[1] > 1:
            self._blocks(profile.local.shape[1]).values[i] = profile.local.T
        for name, values in profile.diagnostics.items():
            self._diagnostic(name).values[i] = values
        self._warn(profile.warnings, t)
        self.dataset.finished.values[i] = 1  # the last thing: an interrupt may fall between any two of these

    def _blocks(self, count: int) -> xr.DataArray:
        if "blocks" not in self.dataset:
            blank = np.full((self.dataset.sizes["t"], count, self.dataset.sizes["r"]), np.nan)
            self.dataset["blocks"] = (
                ("t", "block", "r"),
                blank,
                {"long_name": "means of the local values over blocks of samples", "units": "nats"},
            )
        return self.dataset["blocks"]

    def draws(self, count: int, seed: int) -> NDArray[np.float64]:
        """Return curves (count, t, r) as other samples might have given them: a bootstrap over blocks of samples.

        Each block counts as often as it is drawn, at all levels and widths at once, so that what these share is
        kept; the spread at each is its standard error. Levels without blocks, or with blocks that are all alike,
        are drawn from their covariances, each level by itself.
        """
        rng = np.random.default_rng(seed)
        cmi, stderr = self.dataset.cmi.values, self.dataset.stderr.values
        moved = np.zeros((count, *cmi.shape))
        for i, covariance in enumerate(self.dataset.covariance.values):
            if np.isfinite(covariance).all():
                values, vectors = np.linalg.eigh(covariance)
                root = vectors * np.sqrt(np.maximum(values, 0.0))
                moved[:, i] = rng.standard_normal((count, len(values))) @ root.T
        if "blocks" in self.dataset:
            blocks = self.dataset.blocks.values
            n = blocks.shape[1]
            weights = rng.multinomial(n, np.full(n, 1.0 / n), size=count) / n - 1.0 / n
            centred = blocks - blocks.mean(axis=1, keepdims=True)
            spread = centred.std(axis=1) / np.sqrt(n)
            with np.errstate(divide="ignore", invalid="ignore"):
                scale = stderr / spread
                known = np.isfinite(scale) & (spread > 1e-6 * stderr)
                together = np.einsum("db,tbr->dtr", weights, np.nan_to_num(centred)) * np.where(known, scale, 0.0)
            moved = np.where(known.all(axis=1)[None, :, None], together, moved)
        return np.asarray(cmi + moved)

    def _diagnostic(self, name: str) -> xr.DataArray:
        if name not in self.dataset:
            units = {} if name in ("p_value", "neighbours") else {"units": "nats"}
            blank = np.full(self.dataset.cmi.shape, np.nan)
            self.dataset[name] = (("t", "r"), blank, {"long_name": DIAGNOSTICS[name], **units})
        return self.dataset[name]

    def take_over(self, earlier: PhaseScan) -> list[float]:
        """Copy what an earlier scan with the same configuration has finished; return the levels left to do.

        Raises
        ------
        ValueError
            If the configurations differ; the message names the first difference.
        """
        if not isinstance(earlier, PhaseScan):
            raise TypeError(f"resume must be a PhaseScan, got {type(earlier).__name__}: load the file first")
        check_same(earlier.config, self.config)
        todo, taken = [], []
        places = {float(t): i for i, t in enumerate(earlier.dataset.t.values)}
        for i, t in enumerate(self.dataset.t.values.tolist()):
            j = places.get(t)
            if self.dataset.finished.values[i]:
                continue
            if j is None or not earlier.dataset.finished.values[j]:
                todo.append(t)
                continue
            taken.append(t)
            for variable in ("cmi", "stderr", "bias", "covariance", "finished"):
                self.dataset[variable].values[i] = earlier.dataset[variable].values[j]
            if "blocks" in earlier.dataset:
                self._blocks(earlier.dataset.sizes["block"]).values[i] = earlier.dataset.blocks.values[j]
            for variable in DIAGNOSTICS:
                if variable in earlier.dataset:
                    self._diagnostic(variable).values[i] = earlier.dataset[variable].values[j]
        for text, levels in json.loads(earlier.dataset.attrs["warnings"]):
            for t in levels:
                if t in taken:
                    self._warn((text,), t)
        return todo

    def with_levels_of(self, earlier: PhaseScan) -> PhaseScan:
        """Return this scan with those finished levels of an earlier one, configured alike, that it lacks."""
        mine, data = self.dataset.t.values, earlier.dataset
        more = np.setdiff1d(data.t.values[data.finished.values == 1], mine)
        if not len(more):
            return self
        parts = [self.dataset, data.sel(t=more)]
        together = xr.concat(parts, "t", data_vars="minimal", coords="minimal", compat="override", join="override")
        both = PhaseScan(together.assign_attrs(self.dataset.attrs).sortby("t"))
        for text, levels in json.loads(data.attrs["warnings"]):
            for t in set(levels) & set(more.tolist()):
                both._warn((text,), t)
        return both

    def _warn(self, texts: Iterable[str], t: float) -> None:
        known: dict[str, list[float]] = dict(json.loads(self.dataset.attrs["warnings"]))
        for text in texts:
            known.setdefault(text, []).append(t)
        # in the order of the levels, whichever cell came first
        ordered = [[text, sorted(levels)] for text, levels in known.items()]
        ordered.sort(key=lambda entry: (len(entry[1]) > 0, entry[1][:1], str(entry[0]) if entry[1] else ""))
        self.dataset.attrs["warnings"] = json.dumps(ordered)

    def to_dataframe(self) -> pd.DataFrame:
        """Return a table with one row per (t, r): the estimates, their errors, and xi of the level."""
        known = [name for name in DIAGNOSTICS if name in self.dataset]
        table = self.dataset[["cmi", "stderr", "bias", *known]].to_dataframe().reset_index()
        lengths = {float(t): m for t, m in zip(self.dataset.t.values, self.markov_length, strict=True)}
        table["xi"] = [lengths[t].value for t in table["t"]]
        table["xi_stderr"] = [lengths[t].stderr for t in table["t"]]
        columns = [
            "t",
            "alpha",
            "sigma",
            "snr",
            "r",
            "n_A",
            "n_B",
            "n_C",
            "cmi",
            "stderr",
            "bias",
            *known,
            "xi",
            "xi_stderr",
        ]
        return table[columns]

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the CMI map, with xi(t) above it if no axes are given; see `cmi.plot.plot_scan`."""
        from cmi.plot import plot_scan

        return plot_scan(self, ax)

    def save(self, path: str | PathLike[str], *, overwrite: bool = False) -> None:
        """Write the scan as netCDF-4; the file appears whole or not at all.

        Raises
        ------
        FileExistsError
            If the file exists and `overwrite` is False.
        OSError
            If it cannot be written.
        """
        write_netcdf(self.dataset, path, overwrite=overwrite)

    @classmethod
    def load(cls, path: str | PathLike[str]) -> PhaseScan:
        """Read a scan that `save` wrote.

        Raises
        ------
        FileNotFoundError
            If there is no such file.
        ValueError
            If it is not a scan, is damaged, or was written by a newer version.
        """

        def made(dataset: xr.Dataset) -> PhaseScan:
            scan = cls(dataset)
            _ = scan.warnings, scan.reach, repr(scan), scan.config["noise"]["name"], scan.config["options"]
            return scan

        return read_netcdf(path, made, newest=FILE_FORMAT, what="scan")

    def __repr__(self) -> str:
        sizes = self.dataset.sizes
        state = "" if self.complete else f", {int(self.dataset.finished.sum())} levels finished"
        return (
            f"PhaseScan({self.config['data']['name']!r}, {sizes['t']} levels x {sizes['r']} widths, "
            f"method={self.config['method']!r}{state})"
        )


def block_means(local: NDArray[np.float64]) -> NDArray[np.float64]:
    """Means (w, blocks) over up to `BLOCKS` runs of neighbouring samples of local values (w, n).

    Examples
    --------
    >>> block_means(np.arange(6.0)[None]).shape, block_means(np.ones((2, 1000))).shape
    ((1, 6), (2, 100))
    """
    count = min(BLOCKS, local.shape[1])
    if count == 0:
        return local
    return np.stack([part.mean(axis=1) for part in np.array_split(local, count, axis=1)], axis=1)

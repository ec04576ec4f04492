"""Samples: whatever array a user hands in, checked and flattened, and regions of it by mask, index or name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

if TYPE_CHECKING:
    import pandas as pd

IntArray = NDArray[np.int64]
_WHOLE = 2**53  # up to here floating point holds every integer
_ROWS = 4096  # of the samples at a time
_DISTINCT = 0.05  # of the samples: with fewer kinds of them, data have few states and are no copies
Region = ArrayLike | str | Sequence[str] | None

__all__ = ["Region", "Samples", "as_array", "column_warnings", "numeric"]


@dataclass(frozen=True, eq=False)
class Samples:
    """Checked samples: ``values`` (n, d) floating point, finite, C-contiguous; ``shape`` of one sample.

    ``columns`` are the names that a DataFrame gave, else None.
    """

    values: NDArray[np.floating]
    shape: tuple[int, ...]
    columns: tuple[str, ...] | None = None

    @classmethod
    def of(cls, samples: Any) -> Samples:
        """Check samples of shape (n, *shape): a numpy array, a DataFrame, a torch tensor or nested lists.

        Integers and booleans become floating point; nothing is rescaled.

        Raises
        ------
        TypeError
            For object, string, complex or date values.
        ValueError
            For empty samples, one value per sample only, NaN or infinity.
        """
        columns = None
        if not _is_frame(samples):
            samples = getattr(samples, "samples", samples)  # what open_dataset returns
        if isinstance(samples, np.ma.MaskedArray) and np.ma.is_masked(samples):
            raise TypeError("samples are a masked array: fill the masked values or remove those samples")
        if _is_frame(samples):
            columns = tuple(str(c) for c in samples.columns)
            _check_frame(samples)
            samples = samples.to_numpy(dtype=np.float64, na_value=np.nan)
        array = numeric(as_array(samples))
        if array.ndim == 0 or array.size == 0:
            raise ValueError(f"samples are empty: they have shape {array.shape}, need (n, *shape)")
        if array.ndim == 1 or array[0].size < 2:
            raise ValueError(f"each sample needs at least two values (A and C), got samples of shape {array.shape}")
        _check_finite(array)
        values = np.ascontiguousarray(array.reshape(len(array), -1))
        return cls(values, tuple(int(s) for s in array.shape[1:]), columns)

    def region(self, region: Region, name: str) -> IntArray:
        """Flat indices of a region given as a boolean mask of the sample shape, indices, or column names.

        Raises
        ------
        TypeError, ValueError
            If it is none of these, or points outside the samples.
        """
        if region is None:
            return np.zeros(0, dtype=np.int64)
        if isinstance(region, str):
            region = [region]
        array = np.asarray(region)
        if (
            isinstance(region, Sequence)
            and array.dtype.kind in "iu"
            and any(isinstance(one, bool) for one in region)
        ):
            raise TypeError(f"{name} mixes True and False with indices: give a boolean mask or integer indices")
        if array.size == 0 and array.dtype != np.bool_:
            return np.zeros(0, dtype=np.int64)
        if array.dtype.kind in "UTO" and all(isinstance(name, str) for name in array.ravel()):
            return self._named([str(c) for c in array.ravel()], name)
        if array.dtype == np.bool_:
            if array.shape != self.shape:
                raise ValueError(f"the mask {name} has shape {array.shape}, but one sample has shape {self.shape}")
            return np.flatnonzero(array)
        if not np.issubdtype(array.dtype, np.integer):
            raise TypeError(
                f"{name} must be a boolean mask, integer indices or column names, got an array of {array.dtype}"
            )
        indices = np.atleast_1d(array).astype(np.int64).ravel()
        bad = indices[(indices < 0) | (indices >= self.values.shape[1])]
        if len(bad):
            raise ValueError(
                f"{name} holds the index {bad[0]}, but one sample has {self.values.shape[1]} values: "
                f"indices run from 0 to {self.values.shape[1] - 1}"
            )
        return indices

    def _named(self, names: list[str], region: str) -> IntArray:
        if self.columns is None:
            raise TypeError(f"{region} names columns ({names[0]!r}), but the samples are not a DataFrame")
        places = {column: i for i, column in enumerate(self.columns)}
        if len(places) < len(self.columns):
            raise ValueError("the DataFrame has columns of the same name: rename them to select by name")
        missing = [column for column in names if column not in places]
        if missing:
            raise ValueError(f"{region} names the column {missing[0]!r}; there are {', '.join(self.columns[:10])}")
        return np.array([places[column] for column in names], dtype=np.int64)

    def label(self, index: int) -> str:
        """Name one value of a sample for a message: its column, or its place in the sample shape."""
        if self.columns is not None:
            return self.columns[index]
        if len(self.shape) == 1:
            return str(index)
        return "(" + ", ".join(str(int(i)) for i in np.unravel_index(index, self.shape)) + ")"


def as_array(samples: Any) -> NDArray[Any]:
    """Turn a DataFrame, torch tensor, nested lists or array-like into a numpy array, not copied if possible."""
    if type(samples).__module__.partition(".")[0] == "torch" and hasattr(samples, "detach"):
        tensor = samples.detach().cpu()
        if "bfloat16" in str(tensor.dtype):
            tensor = tensor.float()  # numpy has no bfloat16
        return np.asarray(tensor.resolve_conj().resolve_neg().numpy())
    try:
        return np.asarray(samples)
    except ValueError as error:
        raise TypeError(f"samples must be a rectangular array of numbers: {error}") from None


def numeric(array: NDArray[Any]) -> NDArray[np.floating]:
    """Return real numbers as floating point (integers and booleans as float64), or say what is wrong with them."""
    kind = array.dtype.kind
    if kind == "f":
        return array if array.dtype in (np.float32, np.float64) else array.astype(np.float64)
    if kind in "iub":
        if array.dtype.itemsize == 8 and array.size and max(int(array.max()), -int(array.min())) > _WHOLE:
            raise ValueError(
                "samples hold integers beyond 2^53, which lose digits in floating point: subtract a constant first"
            )
        return array.astype(np.float64)
    hint = " (open files and data sets by name with open_dataset)" if kind in "UT" and array.ndim == 0 else ""
    what = {
        "c": "complex",
        "O": "object",
        "U": "string",
        "S": "string",
        "T": "string",
        "M": "date",
        "m": "duration",
    }
    raise TypeError(
        f"samples must be real numbers, got {what.get(kind, 'unknown')} values (dtype {array.dtype}){hint}"
    )


def column_warnings(samples: Samples, regions: dict[str, IntArray]) -> list[str]:
    """Name the constant and the duplicated columns among some regions, which are handled but worth knowing of."""
    warnings = []
    everything = np.concatenate(list(regions.values()))
    values = samples.values
    low, high = values.min(axis=0), values.max(axis=0)
    constant = low == high
    for name, indices in regions.items():
        blank = np.sort(indices[constant[indices]])
        if len(blank) and name == "A" and len(blank) == len(indices):
            warnings.append("A is constant: the CMI is 0, whatever the estimator reads")
        elif len(blank):
            where = _listed([samples.label(i) for i in blank])
            warnings.append(
                f"{len(blank)} of {len(indices)} columns of {name} are constant and tell nothing: {where}"
            )
    copies = _copied_rows(values, everything)
    if copies:
        warnings.append(
            f"{copies} of {len(values)} samples are exact copies of others; errors, neighbours and folds take them "
            "for samples of their own, so that estimates come out too large: remove them"
        )
    varying = everything[~constant[everything]]
    pairs = _duplicates(values, varying)
    if pairs:
        where = _listed([f"{samples.label(j)} = {samples.label(i)}" for i, j in pairs])
        repeat = "column repeats" if len(pairs) == 1 else "columns repeat"
        warnings.append(f"{len(pairs)} {repeat} another one exactly: {where}")
    return warnings


def _copied_rows(values: NDArray[np.floating], columns: IntArray) -> int:
    """How many rows repeat another one, if that is no coincidence: in some column only such rows share a value."""
    weights = np.linspace(1.0, 2.0, len(columns))
    with np.errstate(over="ignore", invalid="ignore"):
        # A few rows at a time: a copy of all would take as much memory as the samples. And row by row: BLAS adds up
        # equal rows in different orders.
        parts = [
            (values[i : i + _ROWS, columns].astype(np.float64) * weights).sum(axis=1)
            for i in range(0, len(values), _ROWS)
        ]
        sums = np.nan_to_num(np.concatenate(parts))
    order = np.argsort(sums, kind="stable")
    equal = np.diff(sums[order]) == 0.0
    alike = order[np.concatenate([equal, [False]]) | np.concatenate([[False], equal])]
    if len(alike) == 0:
        return 0
    rows = np.ascontiguousarray(values[np.ix_(alike, columns)] + 0.0)  # -0 is 0
    copies = len(rows) - len(np.unique(rows.view(f"V{rows.itemsize * rows.shape[1]}")))
    if copies == 0 or len(values) - copies < _DISTINCT * len(values):
        return 0
    for column in columns:
        few = values[: copies + 100, column]  # mostly enough to see that others share a value, too
        if len(np.unique(few)) >= len(few) - copies and len(np.unique(values[:, column])) == len(values) - copies:
            return copies
    return 0


def _duplicates(values: NDArray[np.floating], columns: IntArray) -> list[tuple[int, int]]:
    """Pairs (first, copy) of equal columns; sorted sums find the candidates, comparison decides."""
    with np.errstate(over="ignore", invalid="ignore"):
        sums = np.nan_to_num(values.sum(axis=0, dtype=np.float64))
    groups: dict[tuple[float, float, float], list[int]] = {}
    pairs = []
    for column in columns:
        key = (float(sums[column]), float(values[0, column]), float(values[-1, column]))
        for first in groups.setdefault(key, []):
            if np.array_equal(values[:, first], values[:, column]):
                pairs.append((first, int(column)))
                break
        else:
            groups[key].append(int(column))
    return pairs


def _listed(labels: list[str]) -> str:
    return ", ".join(labels[:4]) + (", ..." if len(labels) > 4 else "")


def _is_frame(samples: Any) -> bool:
    return type(samples).__module__.partition(".")[0] == "pandas" and hasattr(samples, "columns")


def _check_frame(frame: pd.DataFrame) -> None:
    for column, dtype in zip(frame.columns, frame.dtypes, strict=True):
        if getattr(dtype, "kind", "O") not in "fiub":
            raise TypeError(f"column {column!r} holds {dtype} values: samples must be real numbers")


def _check_finite(array: NDArray[np.floating]) -> None:
    with np.errstate(over="ignore", invalid="ignore"):
        if np.isfinite(array.sum(dtype=np.float64)):
            return  # a sum over NaN or infinity is never finite
    finite = np.isfinite(array)
    bad = int(array.size - np.count_nonzero(finite))
    if bad == 0:
        return  # the sum itself overflowed
    nans = int(np.count_nonzero(np.isnan(array)))
    what = " and ".join(f"{count} {word}" for count, word in ((nans, "NaN"), (bad - nans, "infinite")) if count)
    first = np.unravel_index(int(np.argmin(finite)), array.shape)
    place = ", ".join(str(int(i)) for i in first[1:])
    raise ValueError(
        f"samples contain {what} values, the first in sample {int(first[0])} at index ({place}): remove those "
        "samples or fill the values"
    )

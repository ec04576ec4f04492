"""Columns: which are constant, which have ties, which vary, and what they are in units of their own spread."""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

from estimators.profile import BoolArray, FloatArray, IntArray
from estimators.threads import for_ranges

__all__ = ["constant_columns", "standardized", "tied_share", "varying"]

_SMALL = 1e-140
_SHIFT = 530  # 2^530 is 3.5e159


def constant_columns(x: NDArray[np.floating]) -> BoolArray:
    """Return which columns of x hold one value only, as a (d,) boolean array.

    Examples
    --------
    >>> import numpy as np
    >>> constant_columns(np.array([[0.0, 1.0], [0.0, 2.0]])).tolist()
    [True, False]
    """
    return np.asarray(x.max(axis=0) == x.min(axis=0))


def tied_share(x: NDArray[np.floating]) -> FloatArray:
    """Return for every column the share of samples whose value another sample has too; shape (d,).

    Examples
    --------
    >>> import numpy as np
    >>> tied_share(np.array([[0.0, 1.0], [0.0, 2.0], [0.5, 3.0], [0.7, 4.0]])).tolist()
    [0.5, 0.0]
    """
    shares = np.zeros(x.shape[1])

    def count(start: int, stop: int) -> None:
        ordered = np.sort(x[:, start:stop], axis=0)
        equal = ordered[1:] == ordered[:-1]
        tied = np.zeros(ordered.shape, dtype=np.bool_)
        tied[1:] |= equal
        tied[:-1] |= equal
        shares[start:stop] = tied.mean(axis=0)

    for_ranges(count, x.shape[1], chunk=4)
    return shares


def varying(x: NDArray[np.floating], offsets: IntArray) -> tuple[FloatArray, IntArray]:
    """Return the columns that vary (of A at least one), in double precision and C order, and their offsets.

    Values of which squares would over- or underflow are multiplied by a power of two, all by the same: distances
    then compare as before.

    Raises
    ------
    ValueError
        If the difference of two values of a column is no finite number.

    Examples
    --------
    >>> import numpy as np
    >>> values, offsets = varying(np.array([[0.0, 1.0, 5.0], [1.0, 1.0, 4.0]]), np.array([0, 1, 2, 3]))
    >>> values.tolist(), offsets.tolist()
    ([[0.0, 5.0], [1.0, 4.0]], [0, 1, 1, 2])
    """
    low, high = _extent(np.ascontiguousarray(x))
    kept = low < high
    if not kept[: offsets[1]].any():
        kept[0] = True
    with np.errstate(over="ignore"):
        if not np.isfinite(high - low).all():
            raise ValueError("samples lie too far apart for their distance to be a number: rescale them")
    data = np.array(x[:, kept] if not kept.all() else x, dtype=np.float64, order="C")
    largest = max(np.abs(low).max(), np.abs(high).max())
    if not _SMALL < largest < 1.0 / _SMALL:
        data *= 2.0 ** (_SHIFT if largest < 1.0 else -_SHIFT)
    before = np.concatenate([[0], np.cumsum(kept)])
    return data, before[offsets].astype(np.int64)


@numba.njit(nogil=True, cache=True)
def _extent(x: NDArray[np.floating]) -> tuple[FloatArray, FloatArray]:  # pragma: no cover
    """Least and largest value of every column, in the order in which they lie in memory."""
    low, high = x[0].astype(np.float64), x[0].astype(np.float64)
    for i in range(1, len(x)):
        for c in range(x.shape[1]):
            low[c], high[c] = min(low[c], x[i, c]), max(high[c], x[i, c])
    return low, high


def standardized(x: NDArray[np.floating]) -> FloatArray:
    """Return centred columns of unit variance; constant ones are 0. No square over- or underflows on the way.

    Examples
    --------
    >>> import numpy as np
    >>> standardized(np.array([[1e300, 7.0], [3e300, 7.0]])).tolist()
    [[-1.0, 0.0], [1.0, 0.0]]
    """
    values = np.array(x, dtype=np.float64, order="C")  # sums in one order, whatever the layout
    low, high = values.min(axis=0), values.max(axis=0)
    values -= low / 2.0 + high / 2.0
    largest = np.abs(values).max(axis=0)
    values /= np.where(largest > 0.0, largest, 1.0)
    values -= values.mean(axis=0)
    spread = values.std(axis=0)
    values /= np.where(spread > 0.0, spread, 1.0)
    values[:, low == high] = 0.0  # of a constant, rounding may have left something
    return values

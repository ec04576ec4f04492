"""A profile: the conditional mutual information of nested buffers, all widths at once.

Every estimator takes the samples as one array ``x`` of shape ``(n, d)`` whose columns stand in the order
A, S_1, ..., S_m, and ``sizes = (|A|, |S_1|, ..., |S_m|)``.  *Cut* ``i`` (1 <= i < m) splits the shells into
the buffer B = S_1..S_i and the rest C = S_{i+1}..S_m, so one call answers for m - 1 buffers.  A shell may be
empty: ``sizes = (|A|, 0, |C|)`` is plain mutual information.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]

__all__ = [
    "BoolArray",
    "FloatArray",
    "IntArray",
    "Null",
    "Profile",
    "SurrogateBias",
    "check_layout",
    "constant_columns",
    "whole_at_least",
]


@dataclass(frozen=True, slots=True, eq=False)
class SurrogateBias:
    """What an estimator misses on Gaussian data of the same size and covariance (`surrogates`).

    Parameters
    ----------
    value : (cuts,) array
        Mean of estimate less truth, in nats.
    covariance : (cuts, cuts) array
        Of the errors of `value`.
    cmi : (cuts,) array
        The truth there.
    """

    value: FloatArray
    covariance: FloatArray
    cmi: FloatArray

    @property
    def stderr(self) -> FloatArray:
        """Standard error of `value`."""
        return np.sqrt(np.diagonal(self.covariance))

    @property
    def serious(self) -> BoolArray:
        """Whether the bias is seen and exceeds 0.02 nats and 20 % of the truth."""
        size = np.abs(self.value)
        return np.asarray((size > np.maximum(0.02, 0.2 * self.cmi)) & (size > 2.0 * self.stderr))


@dataclass(frozen=True, slots=True, eq=False)
class Null:
    """What an estimator reads where A and C depend on each other through B only (`local_permutation`).

    Parameters
    ----------
    values : (cuts, permutations) array
        In nats.
    p_value : (cuts,) array
        (1 + permutations that reach the estimate) / (1 + permutations).
    """

    values: FloatArray
    p_value: FloatArray

    @property
    def mean(self) -> FloatArray:
        """The floor: what the estimator reads on average where the CMI is 0."""
        return np.asarray(self.values.mean(axis=1))

    @property
    def stderr(self) -> FloatArray:
        """Standard error of `mean`; not finite for one permutation."""
        count = self.values.shape[1]
        return (
            np.asarray(self.values.std(axis=1, ddof=1) / np.sqrt(count))
            if count > 1
            else np.full(len(self.values), np.nan)
        )


@dataclass(frozen=True, slots=True, eq=False)
class Profile:
    """What an estimator returns for the m - 1 cuts of m shells, in nats.

    Parameters
    ----------
    value : (cuts,) array
        Estimates of I(A:C|B), never clipped.
    local : (cuts, n) array
        One value per sample whose mean over samples is `value`; for an average over samples its spread gives
        the standard error, for an estimator fitted to the data it is the first-order influence of a sample.
    bias : (cuts,) array
        The finite-sample bias that was estimated and already subtracted from `value` (0: none was).
    notes : tuple of str
        What a reader of the numbers has to know: dropped columns, ties, deterministic dependence.
    variance_factor : float
        Variance of `value` over that of a mean of n independent local values: above 1 where these share data.
    least_variance : (cuts,) array or None
        Floor of the variance of `value`: what is left where the local values no longer vary (a CMI of 0).
    by_k : dict of int to Profile
        Of an estimator with several numbers of neighbours: the profile of each.
    surrogate : SurrogateBias or None
        Of an estimator that measures its own bias.
    null : Null or None
        If permutations were asked for.
    calibrated : bool
        Whether the bias on surrogates has been subtracted; its error is then part of the covariance.
    """

    value: FloatArray
    local: FloatArray
    bias: FloatArray
    notes: tuple[str, ...] = ()
    variance_factor: float = 1.0
    least_variance: FloatArray | None = None
    by_k: Mapping[int, Profile] = field(default_factory=dict)
    surrogate: SurrogateBias | None = None
    null: Null | None = None
    calibrated: bool = False

    def covariance(self) -> FloatArray:
        """Return the (cuts, cuts) covariance of the errors of `value`; not finite where a value is not.

        Examples
        --------
        >>> import numpy as np
        >>> Profile(np.ones(1), np.array([[0.0, 1.0, 2.0]]), np.zeros(1)).covariance().round(3).tolist()
        [[0.333]]
        """
        cuts, n = self.local.shape
        result = np.full((cuts, cuts), np.nan)
        known = np.isfinite(self.value)
        centred = self.local[known] - self.local[known].mean(axis=1, keepdims=True)
        result[np.ix_(known, known)] = self.variance_factor * (centred @ centred.T) / (n - 1) / n
        if self.least_variance is not None:
            variance = np.diagonal(result)
            np.fill_diagonal(result, np.where(known, np.fmax(variance, self.least_variance), np.nan))
        if self.calibrated and self.surrogate is not None:
            result += self.surrogate.covariance
        return result


def check_layout(x: NDArray[np.floating], sizes: Sequence[int]) -> IntArray:
    """Check samples against their layout and return the column offsets.

    Parameters
    ----------
    x : (n, d) float array
    sizes : sequence of int
        Number of columns of A and of every shell; at least A and two shells.

    Returns
    -------
    (len(sizes) + 1,) int array
        ``offsets[j]:offsets[j + 1]`` are the columns of part j; part 0 is A.

    Raises
    ------
    TypeError
        If x is not a real floating-point array.
    ValueError
        If x is not two-dimensional, not finite, or does not have ``sum(sizes)`` columns; if A or the last
        shell is empty.

    Examples
    --------
    >>> import numpy as np
    >>> check_layout(np.zeros((5, 4)), (1, 2, 1)).tolist()
    [0, 1, 3, 4]
    """
    if not np.issubdtype(getattr(x, "dtype", np.object_), np.floating):
        raise TypeError(f"samples must be a floating-point array, got {getattr(x, 'dtype', type(x).__name__)}")
    if x.ndim != 2:
        raise ValueError(f"samples must have shape (n, d), got {x.shape}")
    parts = np.asarray(sizes, dtype=np.int64)
    if parts.ndim != 1 or len(parts) < 3 or parts.min() < 0:
        raise ValueError(f"sizes must list A and at least two shells, got {tuple(sizes)}")
    if parts[0] == 0 or parts[-1] == 0:
        raise ValueError(f"A and the last shell must not be empty, got sizes {tuple(sizes)}")
    if parts.sum() != x.shape[1]:
        raise ValueError(f"sizes {tuple(sizes)} add up to {parts.sum()}, but samples have {x.shape[1]} columns")
    if not np.isfinite(x.sum(dtype=np.float64)) and not np.isfinite(x).all():
        raise ValueError("samples contain NaN or infinity")
    offsets = np.zeros(len(parts) + 1, dtype=np.int64)
    np.cumsum(parts, out=offsets[1:])
    return offsets


def whole_at_least(value: Any, name: str, least: int) -> int:
    """Return a whole number after checking it.

    Raises
    ------
    TypeError, ValueError
        If it is no integer, or smaller than `least`.

    Examples
    --------
    >>> whole_at_least(5, "k", 1)
    5
    """
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"{name} must be an integer, got {value!r}")
    if value < least:
        raise ValueError(f"{name} must be at least {least}, got {value}")
    return int(value)


def constant_columns(x: NDArray[np.floating]) -> BoolArray:
    """Return which columns of x hold one value only, as a (d,) boolean array.

    Examples
    --------
    >>> import numpy as np
    >>> constant_columns(np.array([[0.0, 1.0], [0.0, 2.0]])).tolist()
    [True, False]
    """
    return np.asarray(x.max(axis=0) == x.min(axis=0))

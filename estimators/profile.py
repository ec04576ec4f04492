"""A profile: the conditional mutual information of nested buffers, all widths at once.

Every estimator takes the samples as one array ``x`` of shape ``(n, d)`` whose columns stand in the order
A, S_1, ..., S_m, and ``sizes = (|A|, |S_1|, ..., |S_m|)``.  *Cut* ``i`` (1 <= i < m) splits the shells into
the buffer B = S_1..S_i and the rest C = S_{i+1}..S_m, so one call answers for m - 1 buffers.  A shell may be
empty: ``sizes = (|A|, 0, |C|)`` is plain mutual information.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from estimators.arguments import whole_at_least
from estimators.threads import one_blas_thread

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
]


@dataclass(frozen=True, slots=True, eq=False)
class SurrogateBias:
    """What an estimator misses on Gaussian data of the same size and covariance (`surrogates`).

    Parameters
    ----------
    local : (cuts, replicates * queries) array
        The estimator's summands less those of the truth. NaN: not measured, since A is a function of B and C.
    cmi : (cuts,) array
        The truth there, in nats.
    variance_factor : float
        As in `Profile`.
    """

    local: FloatArray
    cmi: FloatArray
    variance_factor: float = 1.0

    @property
    def value(self) -> FloatArray:
        """Mean of estimate less truth, in nats; (cuts,)."""
        return np.asarray(self.local.mean(axis=1))

    @property
    def covariance(self) -> FloatArray:
        """Of the errors of `value`; (cuts, cuts)."""
        return self.variance_factor * _covariance_of_means(self.local)

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
        In nats; of a calibrated profile less `at_zero`, the bias where the CMI is 0.
    p_value : (cuts,) array
        (1 + permutations that reach the estimate less `gap`, if that is above 0) / (1 + permutations).
    gap : (cuts,) array or None
        How far, in nats, the estimate lies above local permutations on Gaussian data of the same size without any
        CMI; it should be 0. None: not measured.
    gap_stderr : (cuts,) array or None
        Its standard error.
    at_zero, at_zero_stderr : (cuts,) arrays or None
        What the estimator reads on those Gaussian data, and its standard error.
    calibrated : bool
        Whether that has been subtracted.
    """

    values: FloatArray
    p_value: FloatArray
    gap: FloatArray | None = None
    gap_stderr: FloatArray | None = None
    at_zero: FloatArray | None = None
    at_zero_stderr: FloatArray | None = None
    calibrated: bool = False

    @property
    def too_low(self) -> BoolArray:
        """Where permutations clearly read less than data without CMI: by half their spread, beyond two errors."""
        if self.gap is None or self.gap_stderr is None:
            return np.zeros(len(self.values), dtype=np.bool_)
        return np.asarray(self.gap - 2.0 * self.gap_stderr > 0.5 * self.values.std(axis=1))

    @property
    def mean(self) -> FloatArray:
        """The floor: what the estimator reads on average where the CMI is 0."""
        return np.asarray(self.values.mean(axis=1))

    @property
    def stderr(self) -> FloatArray:
        """Standard error of `mean`; not finite for one permutation."""
        count = self.values.shape[1]
        if count == 1:
            return np.full(len(self.values), np.nan)
        own = self.values.std(axis=1, ddof=1) / np.sqrt(count)
        if self.calibrated and self.at_zero_stderr is not None:
            own = np.hypot(own, self.at_zero_stderr)
        return np.asarray(own)


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
        One per query where the average is over some of the samples only.
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
        Whether the bias on surrogates has been subtracted where it is known; its error is then part of the
        covariance.
    neighbours : (cuts,) array or None
        Of a mixture over samples: the effective number of them that it averages over in B.
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
    neighbours: FloatArray | None = None

    def covariance(self) -> FloatArray:
        """Return the (cuts, cuts) covariance of the errors of `value`; not finite where a value is not.

        Examples
        --------
        >>> import numpy as np
        >>> Profile(np.ones(1), np.array([[0.0, 1.0, 2.0]]), np.zeros(1)).covariance().round(3).tolist()
        [[0.333]]
        """
        cuts = len(self.value)
        result = np.full((cuts, cuts), np.nan)
        known = np.isfinite(self.value)
        result[np.ix_(known, known)] = self.variance_factor * _covariance_of_means(self.local[known])
        if self.least_variance is not None:
            variance = np.diagonal(result)
            np.fill_diagonal(result, np.where(known, np.fmax(variance, self.least_variance), np.nan))
        if self.calibrated and self.surrogate is not None:
            result += np.nan_to_num(self.surrogate.covariance)
        return result


def _covariance_of_means(local: FloatArray) -> FloatArray:
    n = local.shape[1]
    centred = local - local.mean(axis=1, keepdims=True)
    with one_blas_thread():  # the same bits for any number of threads
        return np.asarray(centred @ centred.T / (n - 1) / n)


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
        If x is not a real floating-point array, or a size no whole number.
    ValueError
        If x is not two-dimensional, not finite, or does not have ``sum(sizes)`` columns; if A or the last
        shell is empty.

    Examples
    --------
    >>> import numpy as np
    >>> check_layout(np.zeros((5, 4)), (1, 2, 1)).tolist()
    [0, 1, 3, 4]
    """
    if isinstance(x, np.ma.MaskedArray):
        raise TypeError("samples are a masked array: fill the masked values or remove those samples")
    if not np.issubdtype(getattr(x, "dtype", np.object_), np.floating):
        raise TypeError(f"samples must be a floating-point array, got {getattr(x, 'dtype', type(x).__name__)}")
    if x.ndim != 2:
        raise ValueError(f"samples must have shape (n, d), got {x.shape}")
    if np.ndim(sizes) != 1:
        raise TypeError(f"sizes must list the columns of A and of every shell, got {sizes!r}")
    parts = np.array([whole_at_least(size, "each of sizes", 0) for size in sizes], dtype=np.object_)
    if len(parts) < 3:
        raise ValueError(f"sizes must list A and at least two shells, got {tuple(sizes)}")
    if parts[0] == 0 or parts[-1] == 0:
        raise ValueError(f"A and the last shell must not be empty, got sizes {tuple(sizes)}")
    if parts.sum() != x.shape[1]:
        raise ValueError(f"sizes {tuple(sizes)} add up to {parts.sum()}, but samples have {x.shape[1]} columns")
    with np.errstate(over="ignore", invalid="ignore"):  # of a sum that overflows every value is looked at
        finite = np.isfinite(x.sum(dtype=np.float64)) or np.isfinite(x).all()
    if not finite:
        raise ValueError("samples contain NaN or infinity")
    offsets = np.zeros(len(parts) + 1, dtype=np.int64)
    offsets[1:] = np.cumsum(parts)
    return offsets

"""Estimates: I(A:C|B) of samples, for one buffer or for nested buffers at once, with errors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from cmi.checks import whole_number
from cmi.methods import Profile, find_method
from cmi.regions import Partition
from cmi.samples import Region, Samples, column_warnings

if TYPE_CHECKING:
    import pandas as pd

FloatArray = NDArray[np.float64]
Units = Literal["nats", "bits"]

__all__ = ["CMIEstimate", "CMIProfile", "cmi_profile", "estimate_cmi"]


@dataclass(frozen=True, eq=False)
class CMIEstimate:
    """An estimate of I(A:C|B) and what is known of its quality.

    Parameters
    ----------
    value : float
        The estimate, never clipped: a true CMI near 0 may well be read as negative.
    stderr : float
        Standard error from the spread of `local`. It does not contain the method's bias.
    local : (n,) array
        One value per sample, with mean `value`; of the samples averaged over, if `queries` chose some.
    method : str
    n_samples : int
    dims : (int, int, int)
        Numbers of columns of A, B and C.
    bias : float
        Finite-sample bias that was estimated and has been subtracted (0: the method estimates none).
    units : {"nats", "bits"}
    warnings : tuple of str
        What has to be known to read the number.
    surrogate_bias, surrogate_stderr : float or None
        What the method misses on Gaussian data of the same size and covariance, where the CMI is known; from
        methods that measure it ("ksg"). Subtracted only if calibrate=True.
    null_mean, null_stderr, p_value : float or None
        If permutations were asked for: what the method reads where A and C depend on each other through B only
        (its floor), and how often that reaches the value, (1 + reached) / (1 + permutations), with an allowance
        where neighbours are too far apart for it to be right (`estimators.profile.Null.gap`).
    neighbours : float or None
        Of "mixture": the effective number of samples that it averages over in B; few mean that it repeats them.
    by_k : dict of int to CMIEstimate
        If several numbers of neighbours were asked for: the estimate of each; the value is their mean, and
        permutations are compared with the mean only.
    """

    value: float
    stderr: float
    local: FloatArray
    method: str
    n_samples: int
    dims: tuple[int, int, int]
    bias: float = 0.0
    units: Units = "nats"
    warnings: tuple[str, ...] = ()
    surrogate_bias: float | None = None
    surrogate_stderr: float | None = None
    null_mean: float | None = None
    null_stderr: float | None = None
    p_value: float | None = None
    neighbours: float | None = None
    by_k: Mapping[int, CMIEstimate] = field(default_factory=dict)

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """Normal confidence interval, value -+ z stderr; it may reach below 0.

        Examples
        --------
        >>> import numpy as np
        >>> e = CMIEstimate(0.5, 0.1, np.zeros(3), "ksg", 3, (1, 0, 1))
        >>> [round(x, 3) for x in e.interval(0.95)]
        [0.304, 0.696]
        """
        if not 0.0 < level < 1.0:
            raise ValueError(f"level must lie between 0 and 1, got {level}")
        half = float(norm.ppf(0.5 + level / 2.0)) * self.stderr
        return self.value - half, self.value + half

    def __float__(self) -> float:
        return self.value

    def __repr__(self) -> str:
        warned = f", {len(self.warnings)} warning{'s' * (len(self.warnings) > 1)}" if self.warnings else ""
        known = "".join(
            f", {name}={value:.2g}"
            for name, value in (("surrogate_bias", self.surrogate_bias), ("p_value", self.p_value))
            if value is not None
        )
        return (
            f"CMIEstimate({self.value:.4g} +- {self.stderr:.2g} {self.units}, method={self.method!r}, "
            f"n_samples={self.n_samples}, dims={self.dims}{known}{warned})"
        )


@dataclass(frozen=True, eq=False)
class CMIProfile:
    """I(A:C|B_r) for nested buffers B_r, estimated together.

    Parameters
    ----------
    widths : (w,) array of int
    value, stderr, bias : (w,) arrays
        As in `CMIEstimate`, one per width.
    covariance : (w, w) array
        Of the errors: the widths share samples, so their differences are known far better than the values.
    local : (w, n) array
    dims : tuple of (int, int, int)
        Numbers of columns of A, B_r, C_r per width.
    method, n_samples, units, warnings
        As in `CMIEstimate`.
    diagnostics : dict of str to (w,) array
        Of what follows, those that the method knows, one per width; as in `CMIEstimate`: surrogate_bias,
        surrogate_stderr, null_mean, null_stderr, p_value, neighbours.
    by_k : dict of int to CMIProfile
        As in `CMIEstimate`.
    """

    widths: NDArray[np.int64]
    value: FloatArray
    stderr: FloatArray
    covariance: FloatArray
    local: FloatArray
    dims: tuple[tuple[int, int, int], ...]
    method: str
    n_samples: int
    bias: FloatArray
    units: Units = "nats"
    warnings: tuple[str, ...] = ()
    diagnostics: Mapping[str, FloatArray] = field(default_factory=dict)
    by_k: Mapping[int, CMIProfile] = field(default_factory=dict)

    def at(self, width: int) -> CMIEstimate:
        """Return the estimate for one width."""
        i = self._index(width)
        return CMIEstimate(
            float(self.value[i]),
            float(self.stderr[i]),
            self.local[i],
            self.method,
            self.n_samples,
            self.dims[i],
            float(self.bias[i]),
            self.units,
            self.warnings,
            **{name: float(values[i]) for name, values in self.diagnostics.items()},
            by_k={k: profile.at(width) for k, profile in self.by_k.items()},
        )

    def difference(self, narrow: int, wide: int) -> tuple[float, float]:
        """Return I(A:C|B_narrow) - I(A:C|B_wide) and its paired standard error; the true one is never negative."""
        i, j = self._index(narrow), self._index(wide)
        variance = self.covariance[i, i] + self.covariance[j, j] - 2.0 * self.covariance[i, j]
        return float(self.value[i] - self.value[j]), float(np.sqrt(max(variance, 0.0)))

    def to_dataframe(self) -> pd.DataFrame:
        """Return a table with one row per width."""
        import pandas as pd

        known = {"r": self.widths, "cmi": self.value, "stderr": self.stderr, "bias": self.bias}
        return pd.DataFrame({**known, **self.diagnostics})

    def _index(self, width: int) -> int:
        places = np.flatnonzero(self.widths == width)
        if len(places) == 0:
            raise ValueError(f"width {width} is not in this profile: it has {self.widths.tolist()}")
        return int(places[0])

    def __repr__(self) -> str:
        return (
            f"CMIProfile(widths={self.widths.tolist()}, value={np.array2string(self.value, precision=4)} "
            f"{self.units}, method={self.method!r}, n_samples={self.n_samples})"
        )


def estimate_cmi(
    samples: Any,
    A: Region,
    B: Region,
    C: Region = None,
    *,
    method: str = "ksg",
    units: Units = "nats",
    seed: int = 0,
    **options: Any,
) -> CMIEstimate:
    """Estimate the conditional mutual information I(A:C|B) between regions of the samples.

    I(A:C|B) = H(AB) + H(BC) - H(B) - H(ABC), the average information that C has on A beyond what B has.

    Parameters
    ----------
    samples : (n, *shape) array, DataFrame or torch tensor
        Independent samples of real numbers.
    A, B, C : boolean masks of `shape`, flat integer indices, or column names
        Disjoint regions; B is the condition. B empty (``[]`` or None): plain mutual information I(A:C).
        C None (default): all the rest.
    method : {"ksg", "gaussian", "copula", "discrete", "mixture", "posterior", "mmse"}
        The estimator; see `cmi.methods.METHODS` for what each can tell. "ksg" (default) assumes nothing about
        the form of the dependence and suits up to a handful of columns in all; "discrete" assumes nothing either
        and is for columns of few different values; "mixture", "posterior" and "mmse" are for clean samples with
        known noise.
    units : {"nats", "bits"}
        Of the output.
    seed : int
        Of the random numbers of "ksg": surrogates, queries, permutations, and the folds of features.
    **options
        Of the method. "ksg": k (one or several), ties, standardize, queries, surrogates, calibrate,
        n_permutations, permutation_neighbours, features, folds, threads; "gaussian" and "copula": shrinkage,
        correct_bias; "discrete": correction; "mixture": queries; "posterior": train_minutes, steps, hidden, layers,
        queries, folds, surrogates, device, network; "mmse": the same but for surrogates. See `estimators`. Methods
        that know the noise take its level, and then estimate the CMI of these samples with that noise on all
        columns: snr, "gaussian", "mixture", "posterior" and "mmse"; flip, "mixture" and "posterior".

    Returns
    -------
    CMIEstimate

    Raises
    ------
    TypeError, ValueError
        For samples that are empty, not finite or not real, regions that overlap, are empty (A, C) or lie
        outside, too few samples, unknown methods and options.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> b = rng.standard_normal(2000)
    >>> x = np.stack([b + rng.standard_normal(2000), b, b + rng.standard_normal(2000)], axis=1)
    >>> e = estimate_cmi(x, A=0, B=1, C=2)                    # A and C depend on each other through B only
    >>> bool(abs(e.value) < 3 * e.stderr)
    True

    References
    ----------
    Hu, Liu, Zhang, Gao, "Local Diffusion Models and Phases of Data Distributions", arXiv:2508.06614.
    """
    data = Samples.of(samples)
    a, b = data.region(A, "A"), data.region(B, "B")
    if C is None:
        rest = np.ones(data.values.shape[1], dtype=np.bool_)
        rest[a] = rest[b] = False
        c = np.flatnonzero(rest)
    else:
        c = data.region(C, "C")
    _check_regions(data, a=a, b=b, c=c)
    partition = Partition(a, (b, c))
    profile = _profile(data, partition, method=method, units=units, seed=seed, options=options)
    return profile.at(1)


def cmi_profile(
    samples: Any,
    partition: Partition,
    *,
    method: str = "ksg",
    units: Units = "nats",
    seed: int = 0,
    **options: Any,
) -> CMIProfile:
    """Estimate I(A:C|B_r) for all nested buffers of a partition in about the time of one.

    Parameters
    ----------
    samples : (n, *shape) array, DataFrame or torch tensor
    partition : Partition
        Its indices are flat indices into one sample.
    method, units, seed, **options
        As in `estimate_cmi`.

    Returns
    -------
    CMIProfile
        With the covariance of the errors, so that differences between widths are paired.

    Raises
    ------
    TypeError, ValueError
        As in `estimate_cmi`.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.random.default_rng(0).standard_normal((1000, 7))
    >>> p = cmi_profile(x, Partition.centered((7,), widths=[1, 2]), method="gaussian")
    >>> p.widths.tolist(), bool(abs(p.value).max() < 0.02)
    ([1, 2], True)
    """
    if not isinstance(partition, Partition):
        raise TypeError(f"partition must be a Partition, got {type(partition).__name__}")
    data = Samples.of(samples)
    return _profile(data, partition, method=method, units=units, seed=seed, options=options)


def _check_regions(data: Samples, **regions: NDArray[np.int64]) -> None:
    for name in ("a", "c"):
        if len(regions[name]) == 0:
            raise ValueError(f"{name.upper()} is empty: give it at least one column")
    seen: dict[int, str] = {}
    for name, indices in regions.items():
        for index in indices.tolist():
            if index in seen:
                other = seen[index]
                how = "repeats" if other == name else f"overlaps {other.upper()} in"
                raise ValueError(f"{name.upper()} {how} {data.label(index)}: the regions must be disjoint")
            seen[index] = name


def _profile(
    data: Samples, partition: Partition, *, method: str, units: str, seed: int, options: dict[str, Any]
) -> CMIProfile:
    if units not in ("nats", "bits"):
        raise ValueError(f'units must be "nats" or "bits", got {units!r}')
    whole_number(seed, "seed", least=0)  # a bad seed is an error, used or not
    columns = partition.columns
    if columns.max() >= data.values.shape[1]:
        raise ValueError(
            f"the partition reaches index {columns.max()}, but one sample has {data.values.shape[1]} values"
        )
    chosen = find_method(method, options, noise=True)
    whole = len(columns) == data.values.shape[1] and np.array_equal(columns, np.arange(len(columns)))
    x = data.values if whole else np.ascontiguousarray(data.values[:, columns])
    parts = {"A": partition.A, "the regions around A": np.concatenate(partition.shells)}
    warnings = column_warnings(data, parts)
    result = chosen.estimate(x, partition.sizes, seed, options)
    return assemble(result, partition, method=method, n_samples=len(x), units=units, warnings=tuple(warnings))


def assemble(
    result: Profile,
    partition: Partition,
    *,
    method: str,
    n_samples: int,
    units: Units | str = "nats",
    warnings: tuple[str, ...] = (),
) -> CMIProfile:
    """Turn an estimator's profile into a `CMIProfile`: errors from the local values, units, labels, its notes."""
    scale = 1.0 / np.log(2.0) if units == "bits" else 1.0
    diagnostics: dict[str, FloatArray] = {}
    if result.surrogate is not None:
        diagnostics["surrogate_bias"] = result.surrogate.value * scale
        diagnostics["surrogate_stderr"] = result.surrogate.stderr * scale
    if result.null is not None:
        diagnostics["null_mean"] = result.null.mean * scale
        diagnostics["null_stderr"] = result.null.stderr * scale
        diagnostics["p_value"] = result.null.p_value
    if result.neighbours is not None:
        diagnostics["neighbours"] = result.neighbours
    covariance = result.covariance() * scale**2
    sizes = np.array(partition.sizes)
    dims = tuple(
        (int(sizes[0]), int(sizes[1 : cut + 1].sum()), int(sizes[cut + 1 :].sum()))
        for cut in range(1, len(sizes) - 1)
    )
    return CMIProfile(
        widths=np.array(partition.widths, dtype=np.int64),
        value=result.value * scale,
        stderr=np.sqrt(np.diagonal(covariance)),
        covariance=covariance,
        local=result.local * scale,
        dims=dims,
        method=method,
        n_samples=n_samples,
        bias=result.bias * scale,
        units="bits" if units == "bits" else "nats",
        warnings=(*warnings, *result.notes),
        diagnostics=diagnostics,
        by_k={
            k: assemble(one, partition, method=method, n_samples=n_samples, units=units, warnings=warnings)
            for k, one in result.by_k.items()
        },
    )

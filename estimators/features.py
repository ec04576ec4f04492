"""Few numbers in place of many columns: what the shells tell about A, for estimators that need low dimension.

"regression".  Let m_S and s_S be predictions of A and of its absolute error from the columns S.  Then

    I(A:C|B)  ~  I(A : m_BC, s_BC | m_B, s_B)
              =  I((A - m_B) / s_B : (m_BC - m_B) / s_B, log s_BC / s_B | m_B, s_B).

The first is exact where m_B and s_B are all that B tells about A, and m_BC and s_BC all that B and C do (Gaussian
data; two states seen through noise).  The second always is: given m_B and s_B either side follows from the other.
It takes out what A and C share through B, which a neighbourhood of finite size would see otherwise: without it the
estimate was up to 0.03 nats too low on 10,000 images of MNIST.  For the same reason the columns for C are taken as
deviations from their linear regression on m_B and s_B.  A column of A with repeated values stays as it is: its
residuals would hide them, and clean MNIST, where most are 0, then read 0.05 nats at r = 12 in place of 0.003.

Predictions are *cross-fitted* (Chernozhukov et al. 2018, The Econometrics Journal 21, C1): the samples are split
into K folds at random, and what is predicted for a sample comes from models that have seen no A of its fold, not
even in choosing a penalty or in weighting other models.  Ridge regressions do all of it, in two levels:

1. For every buffer, and for everything but A, regressions of A and of its square: on the columns themselves, and on
   a Gaussian kernel of them (Nystroem, scikit-learn) as wide as the mean distance.
2. For every buffer, regressions of A and of the absolute error on the predictions of level 1 from *it and all
   narrower buffers*, so that a wider region starts from what the narrower ones knew; then both again on a Gaussian
   kernel of the two results and the narrowest kernel predictions, which can bend them.

A ridge regression needs sums over samples only.  They are kept by fold, so that leaving out one fold, or two
(to have errors inside that no model saw, for level 2 and for the penalties), is a sum over the others: all
K (K + 1) / 2 models of a region cost little more than one.  The largest matrix beside the data is (n, 1000), one
per thread.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve, eigh

from estimators.arguments import whole_at_least
from estimators.columns import constant_columns, standardized
from estimators.profile import FloatArray, IntArray, check_layout
from estimators.seeds import Stream, generator
from estimators.threads import for_ranges, one_blas_thread

__all__ = ["Compressed", "FeatureFunction", "Features", "compress"]

FeatureFunction = Callable[[FloatArray, str], FloatArray]
Features = Literal["regression", "pca"] | FeatureFunction | None

_KERNEL = 1000  # most landmarks of level 1, for time and memory: from 40,000 samples
_GROWTH = 5.0  # landmarks per root of n below: more samples can tell finer shapes, at a cost of n landmarks^2
_BEND = 150  # landmarks of level 2, whose inputs are two or three
_PENALTIES = np.array([1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0])  # in units of the mean variance of the columns
_COMPONENTS = 2  # of the principal components of B and of C: with A five columns, as for regression with one target
_LEAST = 10  # samples per fold
_REPEATED = 0.01  # share of the values of a column of A that repeat others, from which it stays as it is
_FLOOR = 0.05  # of the mean absolute error: no spread is smaller
_ROUNDING = 1e-24  # of the square of a column's largest value: no more than rounding leaves of its variance
_ROWS = 8192  # rows of a kernel computed at a time


@dataclass(frozen=True, slots=True, eq=False)
class Compressed:
    """The columns that stand for A, B and C at one cut, each of unit variance.

    Parameters
    ----------
    x : (n, f) array
    sizes : (int, int, int)
        Numbers of columns of A, B and C.
    """

    x: FloatArray
    sizes: tuple[int, int, int]


def compress(
    x: NDArray[np.floating],
    sizes: Sequence[int],
    features: Literal["regression", "pca"] | FeatureFunction,
    *,
    folds: int = 5,
    seed: int = 0,
    threads: int | None = None,
) -> tuple[list[Compressed], tuple[str, ...]]:
    """Replace A, B and C of every cut by few columns.

    Parameters
    ----------
    x : (n, d) float array
        Columns in the order A, S_1, ..., S_m.
    sizes : sequence of int
        (|A|, |S_1|, ..., |S_m|).
    features : {"regression", "pca"} or callable
        "regression": see above; |A| + 2 |A| + 2 |A| columns. "pca": A, and the two leading principal components of
        B and of C. A callable is called as ``features(values, name)`` with the (n, columns) values of a region and
        its name, "A" (once), "B" or "C" (for every cut; not for a region without columns), and returns (n, f).
    folds : int
        Of "regression", at least 3. More leave more samples to fit and cost more; 5 leave 80 %.
    seed : int
        Of the folds and the landmarks of the kernels.
    threads : int, optional
        Default: all cores. The result does not depend on it.

    Returns
    -------
    list of Compressed, one per cut
    tuple of str
        Notes: what was done, and the out-of-sample R^2 from B and from B and C.

    Raises
    ------
    TypeError, ValueError
        If features, folds or the layout are bad, there are fewer than ten samples per fold, or the callable returns
        something else than finite floats with one row per sample.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.random.default_rng(0).standard_normal((300, 40))
    >>> cuts, notes = compress(x, (1, 9, 10, 20), "regression")
    >>> [(cut.x.shape, cut.sizes) for cut in cuts]
    [((300, 5), (1, 2, 2)), ((300, 5), (1, 2, 2))]
    """
    offsets = check_layout(x, sizes)
    whole_at_least(folds, "folds", 3)
    whole_at_least(seed, "seed", 0)
    if not callable(features) and features not in ("regression", "pca"):
        raise ValueError(f'features must be "regression", "pca" or a function, got {features!r}')
    if callable(features):
        cuts = _called(x, offsets, features)
        return cuts, (f"features: {_name(features)}, {_widths(cuts)} in place of {_raw(offsets)}",)
    with one_blas_thread():
        if features == "pca":
            return _components(x, offsets), (
                f"features: the {_COMPONENTS} leading principal components of B and of C (of all samples) "
                f"in place of {_raw(offsets)}",
            )
        if len(x) < _LEAST * folds:
            raise ValueError(
                f"regression features in {folds} folds need at least {_LEAST * folds} samples, got {len(x)}"
            )
        return _regression(x, offsets, folds, seed, threads)


def _name(function: FeatureFunction) -> str:
    return str(getattr(function, "__qualname__", type(function).__qualname__))


def _raw(offsets: IntArray) -> str:
    return f"{int(offsets[-1] - offsets[1])} columns around A"


def _widths(cuts: list[Compressed]) -> str:
    numbers = sorted({cut.x.shape[1] for cut in cuts})
    return f"{numbers[0]} columns" if len(numbers) == 1 else f"{numbers[0]} to {numbers[-1]} columns"


def _pack(*parts: FloatArray) -> Compressed:
    """Columns side by side, each of unit variance: predictions, spreads and components have no common unit."""
    sizes = (parts[0].shape[1], parts[1].shape[1], parts[2].shape[1])
    return Compressed(standardized(np.concatenate(parts, axis=1)), sizes)


def _called(x: NDArray[np.floating], offsets: IntArray, features: FeatureFunction) -> list[Compressed]:
    def region(start: int, stop: int, name: str) -> FloatArray:
        values = np.array(x[:, start:stop], dtype=np.float64, order="C")  # a copy: the function may write to it
        if start == stop:
            return values
        try:
            result = np.asarray(features(values, name))
        except ValueError as error:
            raise ValueError(f"features of {name} failed: {error}") from error
        if not np.issubdtype(result.dtype, np.floating):
            raise TypeError(f"features of {name} must be floating-point numbers, got {result.dtype}")
        if result.ndim != 2 or len(result) != len(x) or (name != "B" and result.shape[1] == 0):
            raise ValueError(f"features of {name} must have shape ({len(x)}, columns), got {result.shape}")
        if not np.isfinite(result).all():
            raise ValueError(f"features of {name} contain NaN or infinity")
        return result.astype(np.float64)

    a = region(0, offsets[1], "A")
    return [_pack(a, region(offsets[1], end, "B"), region(end, offsets[-1], "C")) for end in offsets[2:-1].tolist()]


def _components(x: NDArray[np.floating], offsets: IntArray) -> list[Compressed]:
    shells = _scaled(np.array(x[:, offsets[1] :], dtype=np.float64))
    covariance = shells.T @ shells / len(x)

    def leading(start: int, stop: int) -> FloatArray:
        size = stop - start
        some = min(_COMPONENTS, size)
        if some == 0:
            return np.zeros((len(x), 0))
        block = covariance[start:stop, start:stop]
        _, axes = eigh(block, subset_by_index=(size - some, size - 1))
        return np.asarray(shells[:, start:stop] @ axes[:, ::-1])

    a = np.array(x[:, : offsets[1]], dtype=np.float64)
    ends = (offsets[2:] - offsets[1]).tolist()
    return [_pack(a, leading(0, end), leading(end, ends[-1])) for end in ends[:-1]]


# Regression. A *view* is what the models that have not seen fold k say: arrays (K, n, ...), sample i of view k
# predicted by models that have seen neither fold k nor the fold of i. Samples stand in the order of their folds,
# and predictions have mean 0 in every fold: a model's constant is the mean of the A that it saw, which is low where
# that of the fold is high.


@dataclass(frozen=True, slots=True, eq=False)
class _Design:
    """Predictors (n, c), and of every fold the count (K,), the mean (K, c) and the scatter about it (K, c, c).

    Sums about the mean of each fold, not about one for all: a value far from the others would leave nothing but
    rounding errors of the folds that do not hold it.
    """

    values: FloatArray
    folds: list[slice]
    count: FloatArray
    mean: FloatArray
    scatter: FloatArray
    largest: FloatArray

    @classmethod
    def of(cls, values: FloatArray, folds: list[slice]) -> _Design:
        mean = np.array([values[rows].mean(axis=0) for rows in folds])
        scatter = np.empty((len(folds), values.shape[1], values.shape[1]))
        for k, rows in enumerate(folds):
            part = values[rows] - mean[k]
            scatter[k] = part.T @ part
        count = np.array([rows.stop - rows.start for rows in folds], dtype=np.float64)
        return cls(values, folds, count, mean, scatter, np.maximum(values.max(axis=0), -values.min(axis=0)))

    def along(self, target: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Means (K, targets) of the targets, and sums (K, c, targets) of predictors times their deviations."""
        mean = np.array([target[rows].mean(axis=0) for rows in self.folds])
        parts = [self.values[rows].T @ (target[rows] - m) for rows, m in zip(self.folds, mean, strict=True)]
        return mean, np.array(parts)

    def solve(
        self,
        level: FloatArray,
        mixed: FloatArray,
        left_out: Sequence[int],
        columns: int,
        penalties: FloatArray,
    ) -> FloatArray:
        """Weights (columns, targets, penalties) of the first columns, from the other folds; what `along` found."""
        kept = np.setdiff1d(np.arange(len(self.count)), left_out)
        share = self.count[kept, None] / self.count[kept].sum()
        away = self.mean[kept, :columns] - (share * self.mean[kept, :columns]).sum(axis=0)
        apart = level[kept] - (share * level[kept]).sum(axis=0)
        total = self.count[kept].sum()
        matrix = self.scatter[kept, :columns, :columns].sum(axis=0) / total + (share * away).T @ away
        right = mixed[kept, :columns].sum(axis=0) / total + (share * away).T @ apart
        weights = np.zeros((*right.shape, len(penalties)))
        diagonal = np.diag_indices(columns)
        # a column may vary in the folds left out only: what is left of it is rounding
        still = matrix[diagonal] <= _ROUNDING * self.largest[:columns] ** 2
        matrix[still], matrix[:, still], right[still] = 0.0, 0.0, 0.0
        bare = matrix[diagonal]
        scale = float(bare.sum()) / max(columns, 1)
        if scale > 0.0:
            bare[still] = scale
            for i, penalty in enumerate(penalties):
                matrix[diagonal] = bare + penalty * scale
                factor = cho_factor(matrix, lower=True, check_finite=False)
                weights[:, :, i] = cho_solve(factor, right, check_finite=False)
        return weights


def _cross_fit(designs: Sequence[_Design], targets: FloatArray, columns: int | None = None) -> FloatArray:
    """Ridge predictions (K, n, targets) in every view from the first columns; errors inside choose penalties.

    `designs` holds one item per view, or one that serves all; `targets` is (K, n, targets).
    """
    folds = designs[0].folds
    views = range(len(folds))
    by_view = [designs[view % len(designs)] for view in views]
    columns = by_view[0].values.shape[1] if columns is None else columns
    sums = [design.along(target) for design, target in zip(by_view, targets, strict=True)]
    result = np.empty(targets.shape)
    inner: dict[tuple[int, int], FloatArray] = {}
    errors = np.zeros((len(folds), targets.shape[2], len(_PENALTIES)))

    def predict(view: int, fold: int, weights: FloatArray) -> FloatArray:
        found = np.tensordot(by_view[view].values[folds[fold], :columns], weights, axes=1)
        return np.asarray(found - found.mean(axis=0))

    for pair in combinations(views, 2):
        if len(designs) == 1:  # one factor for the targets of both views
            target, mixed = (np.concatenate([sums[view][part] for view in pair], axis=-1) for part in (0, 1))
            weights = designs[0].solve(target, mixed, pair, columns, _PENALTIES)
            both = list(np.split(weights, 2, axis=1))
        else:
            both = [by_view[view].solve(*sums[view], pair, columns, _PENALTIES) for view in pair]
        for view, fold, weights in zip(pair, pair[::-1], both, strict=True):
            found = inner[view, fold] = predict(view, fold, weights)
            target = targets[view, folds[fold]]
            errors[view] += (((target - target.mean(axis=0))[:, :, None] - found) ** 2).sum(axis=0)
    best = errors.argmin(axis=2)[:, :, None]
    for view in views:
        chosen = np.unique(best[view])
        weights = by_view[view].solve(*sums[view], (view,), columns, _PENALTIES[chosen])
        places = np.searchsorted(chosen, best[view])[None]
        for fold, rows in enumerate(folds):
            found, place = (
                (predict(view, view, weights), places) if fold == view else (inner[view, fold], best[view][None])
            )
            result[view, rows] = np.take_along_axis(found, place, axis=2)[:, :, 0]
    return result


def _kernel(values: FloatArray, landmarks: IntArray) -> FloatArray:
    """Nystroem features (n, landmarks) of a Gaussian kernel; 0 of constants."""
    result = np.zeros((len(values), len(landmarks)))
    total = float(values.var(axis=0).sum())
    if total > 0.0:
        from sklearn.kernel_approximation import Nystroem  # takes a second to import

        # all landmarks are used; the state only puts them in an order
        nystroem = Nystroem(gamma=0.5 / total, n_components=len(landmarks), random_state=0).fit(values[landmarks])
        for start in range(0, len(values), _ROWS):
            result[start : start + _ROWS] = nystroem.transform(values[start : start + _ROWS])
        result -= result.mean(axis=0)
    return result


def _regression(
    x: NDArray[np.floating], offsets: IntArray, n_folds: int, seed: int, threads: int | None
) -> tuple[list[Compressed], tuple[str, ...]]:
    n = len(x)
    columns = _raw(offsets)
    kept = ~constant_columns(x)
    kept[: offsets[1]] = True
    order = generator(seed, Stream.FOLDS).permutation(n)
    x, offsets = x[:, kept], np.concatenate([[0], np.cumsum(kept)])[offsets]
    ends = [n * k // n_folds for k in range(n_folds + 1)]
    folds = [slice(i, j) for i, j in pairwise(ends)]
    # Centred, so that sums of squares lose no digits: one mean for all folds tells none of them anything.
    a = _scaled(np.array(x[order, : offsets[1]], dtype=np.float64))
    shells = _scaled(np.array(x[order, offsets[1] :], dtype=np.float64))
    regions = (offsets[2:] - offsets[1]).tolist()  # the last: everything but A
    linear, kernels = _first_level(a, shells, regions, folds, seed, threads)
    mean, spread = np.empty((2, len(regions), *a.shape))

    def second_level(start: int, stop: int) -> None:
        for job in range(start, stop):
            r, column = divmod(job, a.shape[1])
            both = [column, column + a.shape[1]]  # its mean and its square
            narrower = np.concatenate([p[:, :, both] for p in (*linear[: r + 1], *kernels[: r + 1])], axis=2)
            nearest = [p[:, :, [column]] for p in kernels[: min(r, 2)]]
            mean[r, :, column], spread[r, :, column] = _stacked(a[:, [column]], narrower, nearest, folds, seed)

    for_ranges(second_level, len(regions) * a.shape[1], chunk=1, threads=threads)
    total = a.var(axis=0).sum()
    r2 = 1.0 - ((a - mean) ** 2).mean(axis=1).sum(axis=1) / total if total > 0.0 else np.zeros(len(regions))
    back = np.argsort(order)
    repeated = np.array([len(np.unique(column)) < (1.0 - _REPEATED) * n for column in a.T])
    cuts = []
    for r in range(len(regions) - 1):
        known = np.concatenate([mean[r], spread[r]], axis=1) if regions[r] else np.zeros((n, 0))
        more = np.concatenate([(mean[-1] - mean[r]) / spread[r], np.log(spread[-1] / spread[r])], axis=1)
        for rows in folds:  # models that shrink by different amounts speak in different units
            known[rows] = standardized(known[rows])
            more[rows] = standardized(more[rows] - _explained(more[rows], known[rows]))
        rest = np.where(repeated, a, (a - mean[r]) / spread[r])
        cuts.append(_pack(rest[back], known[back], more[back]))
    return cuts, _notes(r2, columns, n_folds)


def _explained(columns: FloatArray, by: FloatArray) -> FloatArray:
    """Least-squares prediction of columns from standardized ones."""
    return np.asarray(by @ np.linalg.lstsq(by, columns, rcond=None)[0])


def _scaled(values: FloatArray) -> FloatArray:
    """Centred columns in a common unit in which squares neither over- nor underflow."""
    values -= values.mean(axis=0)
    largest = np.abs(values).max(initial=0.0)
    return values / largest if largest > 0.0 else values


def _notes(r2: FloatArray, shells: str, n_folds: int) -> tuple[str, ...]:
    low, high = f"{r2[:-1].min():.3f}", f"{r2[:-1].max():.3f}"
    return (
        f"features: regressions of A in place of {shells}, cross-fitted in {n_folds} folds; what they miss of C "
        "lowers the CMI, what they miss of B can raise it",
        f"out-of-sample R^2 of A {low if low == high else f'{low} to {high}'} from B, {r2[-1]:.3f} from B and C",
    )


def _first_level(
    a: FloatArray, shells: FloatArray, regions: list[int], folds: list[slice], seed: int, threads: int | None
) -> tuple[list[FloatArray], list[FloatArray]]:
    """Predictions (K, n, 2 |A|) of A and its square from the columns of every region, and from a kernel of them."""
    centred = _centred_views(np.broadcast_to(a, (len(folds), *a.shape)), folds)
    # as a number of the A that the view has seen: the weight of a square beside its root depends on the unit
    unit = np.sqrt([np.delete(view, rows, axis=0).var(axis=0) for view, rows in zip(centred, folds, strict=True)])
    centred /= np.where(unit > 0.0, unit, 1.0)[:, None, :]
    targets = np.concatenate([centred, centred**2], axis=2)
    count = min(_KERNEL, int(_GROWTH * math.sqrt(len(a))), len(a) // 2)
    landmarks = generator(seed, Stream.LANDMARKS).choice(len(a), size=count, replace=False)
    columns = _Design.of(shells, folds)
    linear: list[FloatArray] = [np.empty(0)] * len(regions)
    kernels: list[FloatArray] = [np.empty(0)] * len(regions)

    def fit(start: int, stop: int) -> None:
        for r in range(start, stop):
            linear[r] = _cross_fit([columns], targets, regions[r])
            kernels[r] = _cross_fit([_Design.of(_kernel(shells[:, : regions[r]], landmarks), folds)], targets)

    for_ranges(fit, len(regions), chunk=1, threads=threads)
    return linear, kernels


def _centred_views(views: FloatArray, folds: list[slice]) -> FloatArray:
    """Every view (n, ...) of (K, n, ...) less its mean over the folds that it has seen."""
    result = views.copy()
    for view, rows in zip(result, folds, strict=True):
        view -= (view.sum(axis=0) - view[rows].sum(axis=0)) / (len(view) - (rows.stop - rows.start))
    return result


def _stacked(
    a: FloatArray, narrower: FloatArray, nearest: list[FloatArray], folds: list[slice], seed: int
) -> tuple[FloatArray, FloatArray]:
    """Mean and spread (n,) of one column of A from the predictions of level 1, each (K, n, predictors)."""
    targets = np.broadcast_to(a, (len(folds), *a.shape))
    designs = [_Design.of(view, folds) for view in narrower]
    stack = _cross_fit(designs, targets)
    rough = _cross_fit(designs, np.abs(_centred_views(targets - stack, folds)))
    landmarks = generator(seed, Stream.BENDS).choice(len(a), size=min(_BEND, len(a) // 4), replace=False)
    designs = []
    for view in np.concatenate([stack, rough, *nearest], axis=2):
        deviation = view.std(axis=0)
        scaled = view / np.where(deviation > 0.0, deviation, 1.0)
        designs.append(_Design.of(np.concatenate([scaled, _kernel(scaled, landmarks)], axis=1), folds))
    means = _cross_fit(designs, targets)
    errors = np.abs(_centred_views(targets - means, folds))
    spreads = _cross_fit(designs, errors)
    mean, spread = np.empty((2, len(a)))
    for view, rows in enumerate(folds):
        seen = np.delete(errors[view, :, 0], np.arange(rows.start, rows.stop)).mean()
        mean[rows] = means[view, rows, 0]
        spread[rows] = np.maximum(seen + spreads[view, rows, 0], _FLOOR * seen) if seen > 0.0 else 1.0
    return mean, spread

"""Quality: how far images that were drawn are from real ones, and how far real ones are from one another.

    wasserstein  sliced Wasserstein distance: root mean square over directions of the W_2 of projections
    mmd          squared maximum mean discrepancy, unbiased, of Gaussian kernels with half, once and twice the
                 median distance: may be below 0
    classifier   share of images that a small network, trained on the others, tells right from real ones: 1/2 if
                 it cannot; the mean over random halves to train on and to tell
    frechet      squared Frechet distance of the Gaussians with the moments of features

The floor of each is what it reads for as many real images.  Wasserstein and Frechet distances of few images are too
large, and fall with their number: they are only to be compared with the floor, and with one another at one number.
Each has the error of drawing other images.  Of those two it is for the real images as they are, which all that is
compared with them shares: by a jackknife, without what that counts twice where sets are nearly equal (Efron and
Stein 1981).  Of the classifier it holds that another network would tell others: the variance over halves, and that
of as many images told; 0.9 to 1.7 times the spread over sets, as measured.  References: Rabin et al. (2012);
Gretton et al. (2012); Lopez-Paz and Oquab (arXiv:1610.06545); Heusel et al. (2017).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from cmi.checks import LARGEST_SEED, whole_number
from cmi.denoise.images import images_of

__all__ = ["FeatureNetwork", "compare_images", "train_features"]

FloatArray = NDArray[np.float64]
_LEAST = 50  # images of each kind
_KEY = 15  # first word of the spawn keys
_SCALES = (0.5, 1.0, 2.0)
_DIRECTIONS = 256
_GROUPS = 20  # of the jackknife: errors of errors of a sixth
_EPOCHS, _BATCH, _RATE = 6, 64, 2e-3  # of the network that tells images apart
_HALVES = 5  # to train it on
_MEDIAN = 2000  # images whose distances the median is of, at most
_BLOCK = 2**26  # bytes that a block of kernels may take


class FeatureNetwork(nn.Module):
    """A small convolutional classifier; `features` are what its last layer sees.

    Parameters
    ----------
    channels : int
        Of the images.
    classes : int
    width : int
        Number of features.
    """

    def __init__(self, channels: int, classes: int, width: int = 64) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, 16, 3, padding=1)
        self.second = nn.Conv2d(16, 32, 3, padding=1)
        self.third = nn.Linear(32 * 16, width)
        self.last = nn.Linear(width, classes)

    def features(self, x: Tensor) -> Tensor:
        """(n, width) of images."""
        h = functional.max_pool2d(functional.relu(self.first(x)), 2, ceil_mode=True)
        h = functional.relu(self.second(h))
        h = functional.adaptive_avg_pool2d(h, (4, 4)).flatten(1)
        return functional.relu(self.third(h))

    def forward(self, x: Tensor) -> Tensor:
        """(n, classes): logits."""
        found: Tensor = self.last(self.features(x))
        return found


def train_features(
    data: Any, labels: NDArray[np.integer[Any]], *, epochs: int = 2, seed: int = 0
) -> tuple[FeatureNetwork, float]:
    """Train a classifier on the labels of a data set, for its features.

    Parameters
    ----------
    data : SampleSet, array or tensor
        As in `images_of`.
    labels : (n,) array of int
        Classes from 0.
    epochs : int
        Times that every image is seen; one in ten is held out.
    seed : int

    Returns
    -------
    network, accuracy : FeatureNetwork, float
        On the images held out.

    Raises
    ------
    ValueError
        For labels that are not one per image, or of fewer than two classes.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.random.default_rng(0).uniform(size=(400, 6, 6))
    >>> labels = np.arange(400) % 2
    >>> x[labels == 1, :3] += 1.0
    >>> train_features(x, labels, epochs=6)[1] > 0.9
    True
    """
    images = images_of(data)
    target = torch.as_tensor(np.asarray(labels, dtype=np.int64))
    if target.shape != (len(images),):
        raise ValueError(f"labels are one number per image, {len(images)}, got shape {tuple(target.shape)}")
    classes = int(target.max()) + 1
    if int(target.min()) < 0 or len(target.unique()) < 2:  # type: ignore[no-untyped-call]
        raise ValueError("labels are classes from 0, of two kinds at least")
    order = torch.from_numpy(_rng(seed, 0).permutation(len(images)))
    held = order[: max(1, len(images) // 10)]
    train = order[len(held) :]
    network = _classifier(images[train], target[train], classes, epochs, seed)
    with torch.no_grad():
        right = _in_chunks(network, images[held]).argmax(dim=1) == target[held]
    return network, float(right.double().mean())


def compare_images(
    drawn: Any,
    real: Any,
    *,
    features: Callable[[Tensor], Tensor] | None = None,
    floor: pd.DataFrame | None = None,
    seed: int = 0,
) -> pd.DataFrame:
    """Measure how far drawn images are from real ones.

    Parameters
    ----------
    drawn : (n, ...) images
        As in `images_of`; values are taken as they are.
    real : (m, ...) images
        None of those that anything was trained on; m at least twice n. So many of them, taken at random, stand for
        drawn ones, for the floor; the others are what both are compared with.
    features : callable, optional
        Of images (n, channels, rows, columns): (n, features), for the Frechet distance, as of `train_features`.
        Default: no Frechet distance.
    floor : pandas.DataFrame, optional
        Of a comparison of as many images with the same real ones, by the same features and seed: its floor is taken
        in place of measuring it again.
    seed : int
        Of directions, groups of images and the classifier.

    Returns
    -------
    pandas.DataFrame
        A row per measure: ``value``, ``stderr``, ``floor``, ``floor_stderr``.

    Raises
    ------
    ValueError
        For images of different shapes, fewer than 50, too few real ones, or values that are not finite; for
        features that are not rows of numbers, and a floor of other measures.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> real, drawn = rng.standard_normal((400, 5, 5)), 1.5 * rng.standard_normal((100, 5, 5))
    >>> found = compare_images(drawn, real)
    >>> found.index.tolist(), bool(found.value["wasserstein"] > found.floor["wasserstein"])
    (['wasserstein', 'mmd', 'classifier'], True)
    """
    x, every = images_of(drawn), images_of(real)
    seed = whole_number(seed, "seed", least=0, most=LARGEST_SEED)
    check_comparison(len(x), tuple(x.shape[1:]), every)
    every = every[torch.from_numpy(_rng(seed, 4).permutation(len(every)))]
    other, reference = every[: len(x)], every[len(x) :]
    measures: dict[str, Callable[[Tensor], tuple[float, float]]] = {
        "wasserstein": lambda a: _wasserstein(_flat(a), _flat(reference), seed),
        "mmd": lambda a: _mmd(_flat(a), _flat(reference[: len(x)])),
        "classifier": lambda a: _told_apart(a, reference[: len(x)], seed),
    }
    if features is not None:
        seen = _seen(features, reference)
        measures["frechet"] = lambda a: _frechet(_seen(features, a), seen, seed)
    if floor is not None and floor.index.tolist() != list(measures):
        raise ValueError(f"the floor is of {', '.join(map(str, floor.index))}, wanted are {', '.join(measures)}")
    rows = {
        name: (
            *measure(x),
            *(measure(other) if floor is None else floor.loc[name, ["floor", "floor_stderr"]].astype(float)),
        )
        for name, measure in measures.items()
    }
    return pd.DataFrame.from_dict(rows, orient="index", columns=["value", "stderr", "floor", "floor_stderr"])


def check_comparison(n: int, shape: tuple[int, ...], real: Tensor) -> None:
    """Raise a ValueError if so many drawn images of that shape cannot be compared with the real ones."""
    if shape != tuple(real.shape[1:]):
        raise ValueError(f"drawn images have shape {shape}, real ones {tuple(real.shape[1:])}")
    if n < _LEAST:
        raise ValueError(f"to compare takes at least {_LEAST} images, got {n}")
    if len(real) < 2 * n:
        raise ValueError(f"{n} drawn images are compared with at least {2 * n} real ones, got {len(real)}")


def _flat(x: Tensor) -> FloatArray:
    return np.asarray(x.flatten(1).double().numpy())


def _wasserstein(x: FloatArray, y: FloatArray, seed: int) -> tuple[float, float]:
    rng = _rng(seed, 1)
    directions = rng.standard_normal((x.shape[1], _DIRECTIONS))
    directions /= np.linalg.norm(directions, axis=0)
    own, others = (x @ directions).T, np.sort((y @ directions).T, axis=1)
    order = np.argsort(own, axis=1)
    own = np.take_along_axis(own, order, axis=1)
    blocks = [slice(begin, begin + 32) for begin in range(0, _DIRECTIONS, 32)]  # what the cache holds

    @cache
    def wanted(n: int) -> FloatArray:
        # quantiles, those of as many others these themselves; np.quantile sorts once more, slowly
        place = np.clip((np.arange(n) + 0.5) / n * len(y) - 0.5, 0.0, len(y) - 1.0)
        low = np.minimum(place.astype(np.intp), len(y) - 2)
        return np.asarray(others[:, low] + (place - low) * (others[:, low + 1] - others[:, low]))

    def distance(rows: NDArray[np.bool_]) -> float:
        n, off = int(rows.sum()), 0.0
        for some in blocks:
            kept = own[some][rows[order[some]]].reshape(-1, n) - wanted(n)[some]
            off += float(np.vdot(kept, kept))
        return float(np.sqrt(off / (n * _DIRECTIONS)))

    return _jackknife(distance, len(x), seed)


def _mmd(x: FloatArray, y: FloatArray) -> tuple[float, float]:
    """Unbiased, with the error of both sets: of the linear part of the statistic, and of what is left of it."""
    n = len(x)
    both = np.concatenate([x, y])
    some = both[:: -(-len(both) // _MEDIAN)]
    middle = float(np.median(_squares(some, some)[np.triu_indices(len(some), 1)])) or 1.0
    # h_ij = k(x_i, x_j) + k(y_i, y_j) - k(x_i, y_j) - k(x_j, y_i), a U-statistic of pairs (x_i, y_i)
    sums, squares = np.empty(n), 0.0
    several = max(1, _BLOCK // (8 * n))
    for begin in range(0, n, several):
        rows = slice(begin, min(begin + several, n))
        h = np.zeros((rows.stop - begin, n))
        for one, other, sign in ((x, x, 1.0), (y, y, 1.0), (x, y, -1.0), (y, x, -1.0)):
            square = _squares(one[rows], other)
            for scale in _SCALES:
                h += sign / len(_SCALES) * np.exp(-0.5 / (scale**2 * middle) * square)
        h[np.arange(len(h)), np.arange(begin, rows.stop)] = 0.0
        sums[rows] = h.sum(axis=1)
        squares += float((h**2).sum())
    pairs = n * (n - 1)
    value = float(sums.sum() / pairs)
    linear = sums / (n - 1) - value
    # the sum over pairs of (h_ij - value - linear_i - linear_j)^2, whose linear add to 0
    rest = squares - pairs * value**2 - 2.0 * n * float((linear**2).sum())
    size = max(rest, 0.0) / pairs
    # means over n - 1 pairs vary by what is left of them too
    slope = max(float(linear.var(ddof=1)) - size / (n - 1), 0.0)
    variance = 4.0 * slope / n + 2.0 * size / pairs
    return value, float(np.sqrt(variance))


def _squares(x: FloatArray, y: FloatArray) -> FloatArray:
    """Squared distances (n, m)."""
    found = (x**2).sum(axis=1)[:, None] + (y**2).sum(axis=1) - 2.0 * x @ y.T
    return np.asarray(np.maximum(found, 0.0))


def _told_apart(x: Tensor, y: Tensor, seed: int) -> tuple[float, float]:
    """Accuracy on the half that a network was not trained on, the mean over halves."""
    n, shares = len(x), []
    half = n // 2
    rng = _rng(seed, 5)
    for k in range(_HALVES):
        parts = [each[torch.from_numpy(rng.permutation(n))] for each in (x, y)]  # in whatever order they came
        seen, told = (torch.cat([each[rows] for each in parts]) for rows in (slice(half), slice(half, None)))
        mean, spread = seen.mean(), float(seen.std(correction=0)) or 1.0  # in whatever units
        target = torch.arange(2).repeat_interleave(half)
        network = _classifier((seen - mean) / spread, target, 2, _EPOCHS, seed + k)
        with torch.no_grad():
            said = _in_chunks(network, (told - mean) / spread).argmax(dim=1)
        shares.append(float((said == torch.arange(2).repeat_interleave(n - half)).double().mean()))
    share, halves = float(np.mean(shares)), float(np.var(shares, ddof=1))
    told_of = max(share * (1.0 - share), 0.25 / n)  # of one image; all are told now and then
    return share, float(np.sqrt(halves / _HALVES + told_of / (2 * n)))


def _frechet(x: FloatArray, y: FloatArray, seed: int) -> tuple[float, float]:
    mean, covariance = y.mean(axis=0), np.cov(y.T)

    def distance(rows: NDArray[np.bool_]) -> float:
        own, other = x[rows], np.cov(x[rows].T)
        # the root of a product of two covariances has the roots of its eigenvalues, none of them below 0
        roots = np.sqrt(np.maximum(np.linalg.eigvals(other @ covariance).real, 0.0)).sum()
        off = ((own.mean(axis=0) - mean) ** 2).sum()
        return float(off + np.trace(other) + np.trace(covariance) - 2.0 * roots)

    return _jackknife(distance, len(x), seed)


def _jackknife(distance: Callable[[NDArray[np.bool_]], float], n: int, seed: int) -> tuple[float, float]:
    """A distance of all n rows, and its standard error.

    With T_g without group g of G, T_gh without two, the variance of T is max(J - 2 Q, 0) + Q, of the jackknife's
    J = (G - 1) / G sum_g (T_g - mean)^2, which counts twice what is of second order in the rows, and of that, Q:
    the sum over pairs of the squares of T - a (T_g + T_h) + b T_gh less what is of one group alone, with
    a = (1 - 1 / G)^2 and b = (1 - 2 / G)^2, which of squares of means leave the product of both groups.
    """
    group = _rng(seed, 2).permutation(n) % _GROUPS

    def without(*left: int) -> float:
        return distance(~np.isin(group, left))

    value = without()
    one = np.array([without(g) for g in range(_GROUPS)])
    less, least = (1.0 - 1.0 / _GROUPS) ** 2, (1.0 - 2.0 / _GROUPS) ** 2
    both = np.zeros((_GROUPS, _GROUPS))
    for g, h in combinations(range(_GROUPS), 2):
        both[g, h] = both[h, g] = value - less * (one[g] + one[h]) + least * without(g, h)
    own = both.sum(axis=1) / (_GROUPS - 2)
    rest = both - own[:, None] - own + own.sum() / (_GROUPS - 1)
    second = float((np.triu(rest, 1) ** 2).sum()) * (_GROUPS - 1) / (_GROUPS - 3)  # degrees of freedom
    simple = (_GROUPS - 1) * float(one.var())
    return value, float(np.sqrt(max(simple - 2.0 * second, 0.0) + second))


def _classifier(images: Tensor, target: Tensor, classes: int, epochs: int, seed: int) -> FeatureNetwork:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = FeatureNetwork(images.shape[1], classes)
    rng = _rng(seed, 3)
    steps = epochs * -(-len(images) // _BATCH)
    optimiser = torch.optim.AdamW(network.parameters(), lr=_RATE, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, _RATE, total_steps=steps + 1)
    for _ in range(epochs):
        for rows in np.array_split(rng.permutation(len(images)), -(-len(images) // _BATCH)):
            some = torch.from_numpy(rows)
            loss = functional.cross_entropy(network(images[some]), target[some])
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            schedule.step()
    return network.eval()


def _seen(features: Callable[[Tensor], Tensor], images: Tensor) -> FloatArray:
    """Features (n, several) of images."""
    found = _in_chunks(features, images)
    if found.dim() != 2 or found.shape[1] < 2:
        raise ValueError(
            f"features are two numbers or more of every image, (n, features), got {tuple(found.shape)}"
        )
    return np.asarray(found.double().numpy())


def _in_chunks(call: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    with torch.no_grad():
        return torch.cat([call(images[begin : begin + 500]) for begin in range(0, len(images), 500)])


def _rng(seed: int, what: int) -> np.random.Generator:
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(_KEY, what)))

"""A part of the samples: what a network is trained on, what it is chosen by, and what it is read on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from estimators.known_noise import KnownNoise, bits
from estimators.posterior_data import BINS, Start, Values, column_sizes, gaussian_posteriors
from estimators.profile import FloatArray, IntArray
from estimators.threads import one_blas_thread
from estimators.value_bins import crowded_notes

if TYPE_CHECKING:
    from estimators.posterior_answers import Answers
    from estimators.trainer import Training
    from estimators.uniform_code import UniformCode

__all__ = ["Part", "splits", "spread"]

_TEST, _VALIDATION = (1 / 6, 10_000), (1 / 12, 4_000)  # share of the samples, and at most so many
_SPLIT = 3  # first word of the spawn key


@dataclass(eq=False)
class Part:
    """A network, what it was trained on, and the samples that it has not seen; a number among those of a fit.

    Mean, covariance and sizes (`column_sizes`) are of all columns, of which those of `window` are its own, if there
    is one.
    """

    train: IntArray
    validation: IntArray
    test: IntArray
    binary: bool
    mean: FloatArray
    unit: float
    covariance: FloatArray
    column_size: FloatArray
    values: tuple[Values, ...]
    answers: Answers | None = None
    training: Training | None = None
    code: UniformCode | None = None
    number: int = 0
    window: IntArray | None = None

    @classmethod
    def of(
        cls,
        x: NDArray[np.floating],
        sizes: Sequence[int],
        train: IntArray,
        validation: IntArray,
        test: IntArray,
        binary: bool,
    ) -> Part:
        """Take mean, covariance and values of A from the samples to train on."""
        clean = bits(x.astype(np.float64))[train] if binary else x[train].astype(np.float64)
        mean = clean.mean(axis=0)
        with one_blas_thread():
            centred = clean - mean
            covariance = centred.T @ centred / len(clean)
        unit = 1.0 if binary else float(np.sqrt(np.diagonal(covariance).mean())) or 1.0
        column = np.ones(clean.shape[1]) if binary else column_sizes(clean / unit)
        part = cls(train, validation, test, binary, mean, unit, covariance / unit**2, column, ())
        part.values = tuple(Values.of(part.units(clean[:, [column]], [column])[:, 0]) for column in range(sizes[0]))
        return part

    @property
    def constant(self) -> bool:
        """Whether nothing is to be known of A."""
        return all(len(values.known) == 1 for values in self.values)

    @property
    def own_mean(self) -> FloatArray:
        """Of its own columns."""
        return self.mean if self.window is None else self.mean[self.window]

    def units(self, clean: NDArray[np.floating], columns: Sequence[int] | slice = np.s_[:]) -> FloatArray:
        """Bring clean samples to a mean of 0 and a variance near 1; bits stay bits.

        Columns are numbered as those of `window`, if there is one.
        """
        if self.binary:
            return clean.astype(np.float64)
        return (clean.astype(np.float64) - self.own_mean[columns]) / self.unit

    def scaled_covariance(self, window: IntArray | None = None) -> FloatArray:
        """Covariance of columns in units of their sizes: what a network's inputs have."""
        own = np.arange(len(self.column_size)) if window is None else window
        size = self.column_size[own]
        return np.asarray(self.covariance[np.ix_(own, own)] / np.outer(size, size))

    def crowded_notes(self, noise: KnownNoise) -> list[str]:
        """Tell where values of A that are far from the others leave these in one bin."""
        widths = [each.crowded for each in self.values]
        return crowded_notes(widths, noise.scaled(self.unit).sigma, BINS)

    def start(self, noise: KnownNoise, sizes: Sequence[int]) -> Start:
        """Where answers begin at one level."""
        with one_blas_thread():
            covariance, size = self.covariance, self.column_size
            if self.window is not None:
                covariance, size = covariance[np.ix_(self.window, self.window)], size[self.window]
            mean = self.own_mean if self.binary else np.zeros(len(size))
            n = len(self.train)
            return gaussian_posteriors(covariance, mean, sizes, noise.scaled(self.unit), n, size=size)


def splits(
    n: int, folds: int | None, seed: int, queries: int | None = None
) -> Iterator[tuple[IntArray, IntArray, IntArray]]:
    """Samples to train on, to choose by, and to be averaged over (`queries` of them), drawn at random."""
    order = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(_SPLIT,))).permutation(n)
    validation = min(round(n * _VALIDATION[0]), _VALIDATION[1])
    first = order[: min(round(n * _TEST[0]), _TEST[1]) if queries is None else queries]
    tests = [first] if folds is None else np.array_split(order, folds)
    for test in tests:
        rest = order[~np.isin(order, test)]
        yield np.sort(rest[validation:]), np.sort(rest[:validation]), np.sort(test)


def spread(rows: IntArray, most: int) -> IntArray:
    """At most so many of the rows, evenly: the first of rows in order would be of one end of the data.

    Examples
    --------
    >>> spread(np.arange(9), 3).tolist(), spread(np.arange(2), 3).tolist()
    ([0, 4, 8], [0, 1])
    """
    return rows if len(rows) <= most else rows[np.linspace(0, len(rows) - 1, most).astype(np.int64)]

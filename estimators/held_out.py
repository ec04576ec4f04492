"""Losses of samples that were held out, and how far they move with the weights that predictions were given."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from estimators.profile import FloatArray, IntArray

__all__ = ["HeldOut", "Sides", "in_turn"]

_CHUNK, _TURNS = 500, 8  # samples that are read together, at most; turns that they take, at least
_SPLITS = 2  # of the samples that weights are chosen by, each into two halves


def in_turn(count: int, chunk: int = _CHUNK) -> list[IntArray]:
    """Rows that are read together, each time some of everywhere.

    Examples
    --------
    >>> [rows.tolist() for rows in in_turn(9)][:2], len(in_turn(10_000))
    ([[0, 8], [1]], 20)
    """
    turns = min(count, max(_TURNS, -(-count // chunk)))
    return [np.arange(first, count, turns) for first in range(turns)]


@dataclass(frozen=True, slots=True, eq=False)
class HeldOut:
    """Losses given every B_g, the last of them the widest.

    Parameters
    ----------
    losses : (groups, samples) array
        In nats.
    moved : (halves, groups) array
        By how much their means change where weights are chosen by one half of the samples in place of all.
    """

    losses: FloatArray
    moved: FloatArray

    @classmethod
    def nothing(cls, groups: int, count: int) -> Self:
        """Of noise alone, or of an A that is constant."""
        return cls(np.zeros((groups, count)), np.zeros((1, groups)))

    @classmethod
    def joined(cls, parts: Sequence[HeldOut]) -> Self:
        """Of samples that several networks have not seen."""
        return cls(np.concatenate([p.losses for p in parts], axis=1), np.concatenate([p.moved for p in parts]))

    @property
    def local(self) -> FloatArray:
        """CMI of every sample at every cut, (groups - 2, samples); the first group has no buffer."""
        return np.asarray(self.losses[1:-1] - self.losses[-1])

    def variance(self, rounding: float) -> FloatArray:
        """Of the mean CMI at every cut: of averaging, of the weights, and of rounding.

        Weights chosen by half of the samples differ from those by all as much as these from the best: the variance
        of an average over half of them, given all, is that of an average over all.

        Examples
        --------
        >>> rng = np.random.default_rng(0)
        >>> local, moved = rng.normal(size=(1, 100)), np.array([[0.0, 0.3, 0.0]])
        >>> found = HeldOut(np.concatenate([local, local, 0.0 * local]), moved)
        >>> bool(0.09 < found.variance(0.0)[0] < 0.11)
        True
        """
        local, moved = self.local, self.moved[:, 1:-1] - self.moved[:, [-1]]
        averaging: FloatArray = local.var(axis=1, ddof=1) / local.shape[1]
        weighing: FloatArray = np.mean(moved**2, axis=0)
        return averaging + weighing + rounding**2


class Sides:
    """In which half of several splits every sample is that weights are chosen by.

    Parameters
    ----------
    rng : numpy.random.Generator
    """

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng, self.sides = rng, np.zeros((2 * _SPLITS, 0), dtype=np.bool_)

    @property
    def count(self) -> int:
        """Of samples."""
        return self.sides.shape[1]

    def add(self, count: int) -> None:
        """So many more samples."""
        first = self.rng.permuted(np.tile(np.arange(count) % 2 == 0, (_SPLITS, 1)), axis=1)
        self.sides = np.concatenate([self.sides, np.concatenate([first, ~first])], axis=1)

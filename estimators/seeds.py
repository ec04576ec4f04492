"""Seeds: one independent stream of random numbers for every use, so that none depends on which others are drawn."""

from __future__ import annotations

from enum import IntEnum

import numpy as np

__all__ = ["Stream", "generator"]


class Stream(IntEnum):
    """What is drawn; the first word of the spawn key."""

    QUERIES = 1
    SURROGATES = 2
    PERMUTATIONS = 3
    FOLDS = 4
    LANDMARKS = 5
    BENDS = 6
    NULLS = 7


def generator(seed: int, stream: Stream, *which: int) -> np.random.Generator:
    """Return the generator of a stream, and of one of its parts (a replicate, a cut).

    Examples
    --------
    >>> a, b = (generator(0, stream).random() for stream in (Stream.QUERIES, Stream.FOLDS))
    >>> a != b, a == generator(0, Stream.QUERIES).random()
    (True, True)
    """
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(int(stream), *which)))

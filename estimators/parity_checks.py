"""Parity checks of clean bits: which sums of them are always even, or always odd, and light ones of every buffer.

Bits that obey linear relations over GF(2), as those of a code do, tell of one another by parities only: few of them
together are independent.  No network finds a parity of many bits by descent, but elimination does: the words v with
v.x the same for every clean x are the null space of the differences of samples.  Under noise the parity of the bits
of a word tells of the noise on them (its syndrome), and, but for one bit, of that bit.

A word is an integer whose bit i says whether column i is in it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

from estimators.profile import FloatArray

__all__ = ["BitCode", "Words", "light_bases", "parity_checks", "words_of_buffers"]

_VOTES = 64  # words with A per buffer: the lightest tell most, many together more
_ROUNDS = 300  # of looking for light words, in random orders of the columns
_HEAVIEST = 40  # columns: of more the noise leaves nothing at any level that is worth a network
_MOST = 1024  # words of all buffers


@dataclass(frozen=True, slots=True, eq=False)
class Words:
    """Words of one column of A: what it and its buffers are checked by, from the narrowest on.

    Parameters
    ----------
    member : (words, d) array
        1 where a column is in a word; never of the column itself, nor of columns of A after it.
    group : (words,) array of int
        The narrowest buffer that has all columns of the word: 0 for none but columns of A.
    """

    member: FloatArray
    group: NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class BitCode:
    """Clean bits that obey parities.

    Parameters
    ----------
    words : tuple of Words
        Of every column of A.
    bases : tuple of tuples of (Words, array of bool)
        Of every column of A and every buffer: a light basis of the words within these and the columns of A before,
        and which of them have an odd number of bits 1.
    low, high : (d,) arrays
        What stands for 0 and for 1 in every column, the same where it never changes.
    """

    words: tuple[Words, ...]
    bases: tuple[tuple[tuple[Words, NDArray[np.bool_]], ...], ...]
    low: FloatArray
    high: FloatArray

    @classmethod
    def of(cls, clean: NDArray[np.floating], sizes: Sequence[int]) -> BitCode | None:
        """Find the parities that clean samples obey; None if they are no bits, or A is in none of them."""
        low, high = clean.min(axis=0), clean.max(axis=0)
        if len(clean) < 2 or not ((clean == low) | (clean == high)).all():
            return None
        ones = (clean > low).astype(np.uint8)
        checks = parity_checks(ones)
        if not any(word & (1 << sizes[0]) - 1 for word in checks):  # parities of chance, of bits that rarely change
            return None
        words = words_of_buffers(checks, sizes)
        if not any(len(each.group) for each in words):
            return None
        bases = tuple(
            tuple((each, each.member @ ones[0] % 2.0 > 0.5) for each in light_bases(checks, sizes, target))
            for target in range(sizes[0])
        )
        return cls(tuple(words), bases, low.astype(np.float64), high.astype(np.float64))


def parity_checks(bits: NDArray[np.uint8]) -> list[int]:
    """Return a basis of the words whose parity is the same for every sample; columns that never change left out.

    Parameters
    ----------
    bits : (n, d) uint8 array
        0 or 1.

    Examples
    --------
    Of three coins the last tells whether the first two are alike.

    >>> coins = np.array([[0, 0, 1], [0, 1, 0], [1, 0, 0], [1, 1, 1]], dtype=np.uint8)
    >>> [bin(word) for word in parity_checks(coins)]
    ['0b111']
    """
    d = bits.shape[1]
    changes = (bits != bits[0]).astype(np.uint8)
    varying = np.flatnonzero(changes.any(axis=0))
    reduced: dict[int, int] = {}
    todo = np.arange(min(len(changes), 2 * d + 64))
    while True:
        for row in changes[todo]:
            _add(reduced, _word(row))
        words = _null_space(reduced, varying.tolist())
        if not words:
            return []
        member = _members(words, d).astype(np.float32)
        odd = ((changes.astype(np.float32) @ member.T) % 2.0 > 0.5).any(axis=1)
        if not odd.any():
            return words
        todo = np.flatnonzero(odd)[: d + 64]  # each takes off at least one word


def words_of_buffers(checks: Sequence[int], sizes: Sequence[int], seed: int = 0) -> list[Words]:
    """Return light words of every column of A and its buffers.

    Of a column of A known are the columns of A before it, and the buffer. A word within them is a syndrome; one
    with the column itself in it, a vote for its value. Of every buffer there is a basis of syndromes, as light as
    chance finds them, and some of the lightest votes.

    Parameters
    ----------
    checks : sequence of int
        A basis; columns in the order A, S_1, ..., S_m.
    sizes : sequence of int
        (|A|, |S_1|, ..., |S_m|).
    seed : int
        Of the orders that are tried.
    """
    a, d = sizes[0], sum(sizes)
    ends = [*accumulate(sizes)]
    rng = np.random.default_rng(np.random.SeedSequence(seed))
    found = []
    for target in range(a):
        own = 1 << target
        chosen: list[tuple[int, int]] = []  # word, group
        basis: dict[int, int] = {}
        known: set[int] = set()
        for group, end in enumerate(ends):
            allowed = _mask([*range(target + 1), *range(a, end)])
            inside = _within(checks, d, allowed)
            if not inside:
                continue
            light = _light(inside, [i for i in range(d) if allowed >> i & 1], rng)
            syndromes = [word for word in light if not word & own]
            chosen += [(word, group) for word in syndromes if word.bit_count() > 1 and _add(basis, word)]
            votes = [word for word in light if word & own and word.bit_count() > 1 and word not in known]
            known |= set(votes[:_VOTES])
            chosen += [(word ^ own, group) for word in votes[:_VOTES]]
        chosen = [(word, group) for word, group in chosen if word.bit_count() <= _HEAVIEST]
        chosen = sorted(chosen, key=lambda each: each[0].bit_count())[:_MOST]
        words = [word for word, _ in chosen]
        found.append(Words(_members(words, d), np.array([group for _, group in chosen], dtype=np.int64)))
    return found


def light_bases(checks: Sequence[int], sizes: Sequence[int], target: int, seed: int = 0) -> list[Words]:
    """Return, of every buffer, a light basis of the words within it, a column of A, and those of A before that.

    Parameters
    ----------
    checks, sizes, seed
        As in `words_of_buffers`.
    target : int
        The column of A.
    """
    d = sum(sizes)
    rng = np.random.default_rng(np.random.SeedSequence(seed))
    found = []
    for group, end in enumerate(accumulate(sizes)):
        columns = [*range(target + 1), *range(sizes[0], end)]
        inside = _within(checks, d, _mask(columns))
        basis: dict[int, int] = {}
        chosen = [word for word in _light(inside, columns, rng) if _add(basis, word)] if inside else []
        found.append(Words(_members(chosen, d), np.full(len(chosen), group)))
    return found


def _add(basis: dict[int, int], word: int) -> bool:
    """Add a word to a basis in which each has a highest column of its own; whether it was independent."""
    while word:
        top = word.bit_length() - 1
        if top not in basis:
            basis[top] = word
            return True
        word ^= basis[top]
    return False


def _null_space(rows: dict[int, int], columns: Sequence[int]) -> list[int]:
    """Words that meet every row an even number of times."""
    reduced: dict[int, int] = {}
    for top in sorted(rows):
        row = rows[top]
        for other, own in reduced.items():
            if row >> other & 1:
                row ^= own
        reduced[top] = row
    # the lower tops are reduced already, and stand in no higher row any more
    return [
        1 << free | sum(1 << top for top, row in reduced.items() if row >> free & 1)
        for free in columns
        if free not in reduced
    ]


def _within(words: Sequence[int], d: int, allowed: int) -> list[int]:
    """A basis of the sums of words that lie within the allowed columns."""
    outside = [i for i in range(d) if not allowed >> i & 1]
    rest = list(words)
    for column in outside:
        with_it = [word for word in rest if word >> column & 1]
        if with_it:
            pivot = with_it[0]
            rest = [word ^ pivot if word >> column & 1 else word for word in rest if word is not pivot]
    return [word for word in rest if word]


def _light(words: Sequence[int], columns: Sequence[int], rng: np.random.Generator) -> list[int]:
    """Words of the span, the lightest first, among them a basis: rows reduced in random orders of the columns."""
    seen = set(words)
    rounds = max(1, min(_ROUNDS, 400_000 // len(words) ** 2))
    for _ in range(rounds):
        rows = list(words)
        done: list[int] = []
        for column in rng.permutation(columns).tolist():
            pivot = next((row for row in rows if row >> column & 1), None)
            if pivot is None:
                continue
            rows = [row ^ pivot if row >> column & 1 else row for row in rows if row is not pivot]
            done = [row ^ pivot if row >> column & 1 else row for row in done]
            done.append(pivot)
            if not rows:
                break
        seen |= set(done)
    return sorted(seen, key=lambda word: (word.bit_count(), word))


def _mask(columns: Iterable[int]) -> int:
    return sum(1 << column for column in columns)


def _word(row: NDArray[np.uint8]) -> int:
    return int.from_bytes(np.packbits(row, bitorder="little").tobytes(), "little")


def _members(words: Sequence[int], d: int) -> FloatArray:
    """Words as rows of 0 and 1."""
    return np.array([[float(word >> i & 1) for i in range(d)] for word in words]).reshape(-1, d)

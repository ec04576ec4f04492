"""UniformCode: posterior of a bit of A, were clean bits uniform over all that obey their parities; by a trellis.

Of x uniform over a linear code, each bit seen on its own as y_i,

    p(x_A | y_B) ~ sum over the x of A and B that obey the words within A and B, of prod_i p(y_i | x_i).

The sum runs over columns one after the other; what has to be remembered of those before are the parities so far of
the words that have begun and not ended (Bahl, Cocke, Jelinek and Raviv 1974; Wolf 1978).  With A last it is one
sweep.  Columns are put in an order in which few words are open; where too many are, the buffer is left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numba
import numpy as np
from numpy.typing import NDArray

from estimators.known_noise import KnownNoise
from estimators.parity_checks import BitCode
from estimators.profile import FloatArray, IntArray
from estimators.threads import for_ranges

__all__ = ["UniformCode"]

_OPEN = 14  # words at a time, at most: 2^14 numbers
_TRIES = 30  # orders of the columns
_CHUNK = 16


@dataclass(frozen=True, slots=True, eq=False)
class _Sweep:
    """Columns in the order in which they are summed over, A's own last.

    Parameters
    ----------
    columns : (steps,) array of int
    opened : (steps,) array of int
        Words that begin with each.
    mask : (steps,) array of int
        Which of the open words each is in.
    closed : (steps, at most) array of int
        Bits of the words that end with each, one after the other; -1: no more.
    parity : (steps, at most) array of int
        That these must have.
    last, right : int
        Of the open words at the end, those with A, and their parities.
    most : int
        Open words, at most.
    """

    columns: IntArray
    opened: IntArray
    mask: IntArray
    closed: IntArray
    parity: IntArray
    last: int
    right: int
    most: int


class UniformCode:
    """Uniform distribution over the bits that obey some parities, ready to be asked for A.

    Parameters
    ----------
    bits : BitCode
    sizes : sequence of int
        (|A|, |S_1|, ..., |S_m|).
    seed : int
        Of the orders of columns that are tried.
    """

    def __init__(self, bits: BitCode, sizes: Sequence[int], seed: int = 0) -> None:
        rng = np.random.default_rng(np.random.SeedSequence(seed))
        self.low, self.high = bits.low, bits.high
        self.sweeps: list[list[_Sweep | None]] = []
        for target, buffers in enumerate(bits.bases):
            own = [_sweep(words.member, odd, target, rng) for words, odd in buffers]
            self.sweeps.append(own)
        self.groups = len(sizes)

    def posterior(self, noisy: FloatArray, target: int, noise: KnownNoise) -> FloatArray:
        """Probabilities (n, groups, 2) of the two values of a column of A given those before it and B_g.

        The low one first; NaN for buffers that take too many open words.

        Parameters
        ----------
        noisy : (n, d) array
        target : int
        noise : KnownNoise
        """
        if noise.flip:
            one = np.where(noisy > 0.5 * (self.low + self.high), 1.0 - noise.flip, noise.flip)
        elif noise.sigma == 0.0:
            one = (noisy > 0.5 * (self.low + self.high)).astype(np.float64)
        else:
            odds = (self.high - self.low) * (noisy - 0.5 * (self.low + self.high)) / noise.sigma**2
            one = 0.5 * (1.0 + np.tanh(0.5 * odds))
        one = np.ascontiguousarray(one)
        found = np.full((len(noisy), self.groups, 2), 0.5)
        for group, sweep in enumerate(self.sweeps[target]):
            if sweep is None:
                found[:, group] = np.nan
            elif sweep.last:
                found[:, group] = _swept(one, sweep)
        return found


def _sweep(member: FloatArray, odd: NDArray[np.bool_], target: int, rng: np.random.Generator) -> _Sweep | None:
    """Plan a sweep over the columns of some words, the target last."""
    words = [set(np.flatnonzero(row).tolist()) for row in member]
    relevant = _connected(words, target)
    words, odd = [words[i] for i in relevant], odd[relevant]
    if not words:
        none, nothing = np.zeros(0, dtype=np.int64), np.zeros((0, 1), dtype=np.int64)
        return _Sweep(none, none, none, nothing, nothing, 0, 0, 0)
    orders = [_order(words, target, rng) for _ in range(_TRIES)]
    cost, order = min(orders, key=lambda each: each[0])
    if cost == np.inf:
        return None
    open_words: list[int] = []
    opened, masks, closed = [], [], []
    left = [set(word) for word in words]
    for column in order:
        mine = [i for i, word in enumerate(words) if column in word]
        new = [i for i in mine if i not in open_words]
        open_words += new
        opened.append(len(new))
        masks.append(sum(1 << open_words.index(i) for i in mine))
        ended = []
        for i in mine:
            left[i].discard(column)
            if not left[i]:
                ended.append((open_words.index(i), int(odd[i])))
                open_words.remove(i)
        closed.append(ended)
    most_closed = max(1, *(len(each) for each in closed))
    where = np.full((len(order), most_closed), -1, dtype=np.int64)
    parity = np.zeros_like(where)
    for row, each in enumerate(closed):
        for column, (bit, value) in enumerate(each):
            where[row, column], parity[row, column] = bit, value
    # what is open at the end are the words with the target, which all end with it
    last = (1 << len(open_words)) - 1
    right = sum(int(odd[i]) << bit for bit, i in enumerate(open_words))
    plan = [np.array(each, dtype=np.int64) for each in (order, opened, masks)]
    return _Sweep(plan[0], plan[1], plan[2], where, parity, last, right, int(np.log2(cost)))


def _connected(words: Sequence[set[int]], target: int) -> list[int]:
    """Words that hang together with the target: the others tell nothing of it."""
    seen, found = {target}, list[int]()
    rest = list(range(len(words)))
    while True:
        more = [i for i in rest if words[i] & seen]
        if not more:
            return sorted(found)
        found += more
        rest = [i for i in rest if i not in more]
        seen = seen.union(*(words[i] for i in more))


def _order(words: Sequence[set[int]], target: int, rng: np.random.Generator) -> tuple[float, list[int]]:
    """Order columns so that few words are open; 2 to the power of the most, inf if too many, and the order."""
    of = {column: [i for i, word in enumerate(words) if column in word] for word in words for column in word}
    todo = [column for column in of if column != target]
    left = [len(word) for word in words]
    is_open = [False] * len(words)
    count, most = 0, 0
    order: list[int] = []
    while todo:
        noise = rng.random(len(todo))
        costs = []
        for tie, column in zip(noise, todo, strict=True):
            begins = sum(not is_open[i] for i in of[column])
            ends = sum(left[i] == 1 for i in of[column])
            costs.append((count + begins > most, begins - ends, -sum(is_open[i] for i in of[column]) + tie))
        best = min(range(len(todo)), key=costs.__getitem__)
        column = todo.pop(best)
        order.append(column)
        for i in of[column]:
            count += not is_open[i]
            is_open[i] = True
        most = max(most, count)
        if most > _OPEN:
            return np.inf, []
        for i in of[column]:
            left[i] -= 1
            if left[i] == 0:
                count -= 1
                is_open[i] = False
    # a word that has no column but the target would say it is constant: there is none
    return float(2**most), order


def _swept(one: FloatArray, sweep: _Sweep) -> FloatArray:
    found = np.empty((len(one), 2))

    def job(start: int, stop: int) -> None:
        _sweeps(
            one,
            sweep.columns,
            sweep.opened,
            sweep.mask,
            sweep.closed,
            sweep.parity,
            sweep.last,
            sweep.right,
            sweep.most,
            start,
            stop,
            found,
        )

    for_ranges(job, len(one), chunk=_CHUNK)
    return found


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _sweeps(
    one: FloatArray,
    columns: IntArray,
    opened: IntArray,
    mask: IntArray,
    closed: IntArray,
    parity: IntArray,
    last: int,
    right: int,
    most: int,
    start: int,
    stop: int,
    found: FloatArray,
) -> None:  # pragma: no cover
    p = np.empty(1 << most)
    for row in range(start, stop):
        size = 1
        p[0] = 1.0
        for step in range(len(columns)):
            for _ in range(opened[step]):
                p[size : 2 * size] = 0.0
                size *= 2
            high = one[row, columns[step]]
            low, h = 1.0 - high, mask[step]
            top = 1
            while 2 * top <= h:
                top *= 2
            for block in range(0, size, 2 * top):
                for s in range(block, block + top):
                    a, b = p[s], p[s ^ h]
                    p[s] = low * a + high * b
                    p[s ^ h] = low * b + high * a
            for k in range(closed.shape[1]):
                bit = closed[step, k]
                if bit < 0:
                    break
                # the states of the right parity stay, that bit taken out of them
                half, width = size // 2, 1 << bit
                total = 0.0
                for t in range(half):
                    s = (t // width) * 2 * width + t % width + parity[step, k] * width
                    p[t] = p[s]
                    total += p[s]
                if total > 0.0:
                    for t in range(half):
                        p[t] /= total
                size = half
        zero, ones = p[right], p[right ^ last]
        both = zero + ones
        found[row, 0] = zero / both if both > 0.0 else 0.5
        found[row, 1] = ones / both if both > 0.0 else 0.5

"""Plug-in estimate for data over small alphabets: entropies of counted states, the bias removed.

With n_S the number of samples that share the state of a sample in the columns S,

    I(A:C|B) = H(AB) + H(BC) - H(B) - H(ABC) = < log n_ABC - log n_BC + log n_B - log n_AB >

over the samples.  The plug-in reads too much, by (K_ABC - K_BC + K_B - K_AB) / 2n to first order in 1/n, K_S the
number of states that can occur (Miller 1955).  What can be subtracted:

"miller-madow"
    That term, with the states that do occur.
"jackknife"
    What n I - (n - 1) <I without one sample> leaves out (Zahl 1977).  A sample taken out changes its own four
    counts only, so that this is the average above with h(c) = c log c - (c - 1) log(c - 1) in place of log c:
    no estimate is repeated.  The summands are the pseudo-values, whose spread is Efron and Stein's (1981) error.
"shuffle"
    The mean of the plug-in over all permutations of C among samples of equal B, which leave every count but n_ABC
    as it is (Panzeri et al. 2007).  None is drawn: n_ABC is then hypergeometric, and the mean a sum over cells
    (Vinh, Epps and Bailey 2010, for I(A:C)).  Data with I(A:C|B) = 0 are such a permutation: there nothing is left
    of the bias at any n, undersampled or not.  Where dependence rules states out, too much is subtracted: in first
    order too where they never occur, as with A a function of B and C.
"shuffle-jackknife"
    The shuffle, and then the jackknife of what it leaves: still exact at a CMI of 0, and right to first order
    everywhere.  A sample taken out changes one row and one column of its own table, and equal counts are done once.

Bias / root mean square error in 1e-4 nats over 400 seeds, from `benchmarks/discrete_bias.py`, K the number of joint
states that occur:

    ====================== ========= ==== ===== ==== =========== =========== =========== =========== ===========
    model                  sizes        n truth  K/n        none mill.-madow   jackknife     shuffle        both
    ====================== ========= ==== ===== ==== =========== =========== =========== =========== ===========
    2 letters, noisy chain (1,1,1)    200   187 0.04     +51/156      +1/147      -2/147      -1/147      +1/147
    2 letters, noisy chain (1,2,3)    200    56 0.23    +743/765    +426/473    +147/286      -6/168     +10/236
    2 letters, noisy chain (1,2,3)   1000    56 0.06    +152/162      +21/61      -13/60       -0/55       +0/58
    2 letters, noisy chain (1,4,5)   1000     2 0.34  +1399/1404  +1051/1058    +676/689       +0/86      +0/123
    4 letters, chain 0.7   (1,1,1)    200     0 0.21    +920/935    +576/604    +224/317      -5/160     -17/222
    4 letters, noisy chain (1,1,2)   1000   349 0.20  +1018/1026    +413/435     +46/155     +19/127     -15/149
    8 letters, independent (1,1,1)   1000     0 0.44  +2319/2323    +721/739    -223/293      +4/137      +2/188
    8 letters, chain 0.9   (1,0,1)    200 15598 0.12  +1091/1329   +847/1188   +487/1013    -274/808   +664/1110
    Ising 3x3, all around  (1,4,4)   1000     0 0.27    +974/978    +664/671    +347/369       +2/80      +6/120
    Ising 3x3, no buffer   (1,0,8)    200  2972 0.55  +2407/2428  +2059/2093  +1575/1639    -767/834    -172/487
    Ising 3x3, no buffer   (1,0,8)   1000  2972 0.27  +1051/1067    +666/697    +345/414    -151/240     +40/226
    XOR                    (1,1,1)    200  6931 0.02      -53/74       -3/51       -3/51    -104/116       -2/51
    8 letters, equal       (1,0,1)    200 20794 0.04    -180/203       -5/95       -2/95  -1545/1548    +175/204
    ====================== ========= ==== ===== ==== =========== =========== =========== =========== ===========

"both", which is "shuffle-jackknife", is the default.  At K/n up to 0.1 the bias it left stayed below a third of the
spread over seeds (n up to 63,488), its root mean square error was the least or within a quarter of that, and its
95 % intervals held the truth in 91 to 100 % of the cases.  Two things it does worse: where A is a function of C it
is off by up to two spreads at n = 200 (0.8 % of the CMI; the intervals know), and "shuffle" has half of its error
near a CMI of 0 once K/n exceeds 0.1, but reads too little where A is nearly a function of B and C, at any n.

A note warns where K/n exceeds 0.1 ("shuffle-jackknife", "shuffle"), 0.05 ("jackknife"), 0.02 ("miller-madow") or
0.002 ("none"): up to there the bias left was below one spread, and beyond it the default's intervals held the
truth in 80 to 100 %, beyond 0.4 in 57 to 97 %, those of the others down to never.  With most states there once
nothing helps: "jackknife" and "miller-madow" read about H(A|B), the default next to 0 whatever the truth.  Where no
shuffle changes anything, since no samples are of equal B or those that are differ in A, or in C, one and all, the
CMI is NaN.

Errors come from the first order, which vanishes at a CMI of 0: there they are too large, by 1.3 to 1.7, and have
the spread over the shuffles as a floor.  Elsewhere those of the default were right within 16 % at K/n up to 0.1,
and down to a quarter too small beyond; where A is a function of C they are too large by up to 2.6.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, get_args

import numba
import numpy as np
from numpy.typing import NDArray

from estimators.columns import constant_columns
from estimators.profile import FloatArray, IntArray, Profile, check_layout

__all__ = ["Correction", "discrete_profile"]

Correction = Literal["none", "miller-madow", "jackknife", "shuffle", "shuffle-jackknife"]

_ALPHABET = 256  # values of a column: those of 8-bit images, whose pairs fill no usual n any more
_FEW = 16  # values that a column may have however few samples there are
_TABLE = 8  # states are numbered by a table of up to so many entries per sample, by sorting beyond
# Joint states per sample up to which the bias left was below the spread over seeds (see above).
_FILLED: dict[str, float] = {
    "none": 0.002,
    "miller-madow": 0.02,
    "jackknife": 0.05,
    "shuffle": 0.1,
    "shuffle-jackknife": 0.1,
}


def discrete_profile(
    x: NDArray[np.floating],
    sizes: Sequence[int],
    *,
    correction: Correction = "shuffle-jackknife",
) -> Profile:
    """Plug-in CMI of discrete data at every cut, in about the time of sorting every column once.

    60,000 samples of 30 bits with ten cuts take 0.15 s.

    Parameters
    ----------
    x : (n, d) float array
        Columns in the order A, S_1, ..., S_m, each with few different values; which values plays no part.
    sizes : sequence of int
        (|A|, |S_1|, ..., |S_m|).
    correction : {"shuffle-jackknife", "shuffle", "jackknife", "miller-madow", "none"}
        What is subtracted as bias, see above.  The default is right at every CMI; "shuffle" has the smaller error
        where the CMI is near 0 and states are many, and is wrong where A is nearly a function of B and C.

    Returns
    -------
    Profile
        In nats. `local` are the pseudo-values if jackknifed, else the log-ratios of the counts less what was
        subtracted.  Everything is the same to the last bit for any order of the samples.  Where the samples tell
        nothing at all, as above, the CMI is NaN, and a note says so.

    Raises
    ------
    TypeError, ValueError
        If a column has more than 256 different values, or more than 16 that fewer than two samples share on average
        (continuous data); for fewer than 2 samples, an unknown correction, or a bad layout.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> b, c, e = rng.integers(0, 2, (3, 10_000))
    >>> x = np.stack([b ^ c, b, c], axis=1).astype(float)       # XOR: I(A:C) = 0, I(A:C|B) = log 2
    >>> bool(abs(discrete_profile(x, (1, 1, 1)).value[0] - np.log(2)) < 0.001)
    True
    >>> x[:, 0] = b & e                                         # A and C are independent
    >>> profile = discrete_profile(x, (1, 1, 1))
    >>> bool(abs(profile.value[0]) < 3 * np.sqrt(profile.covariance()[0, 0]))
    True

    References
    ----------
    Miller, "Note on the bias of information estimates", in Information Theory in Psychology (1955).
    Zahl, Ecology 58, 907 (1977). Efron and Stein, Annals of Statistics 9, 586 (1981).
    Panzeri, Senatore, Montemurro and Petersen, Journal of Neurophysiology 98, 1064 (2007).
    Vinh, Epps and Bailey, Journal of Machine Learning Research 11, 2837 (2010).
    Dawson, Biometrika 41, 280 (1954), for the floor of the variance.
    """
    offsets = check_layout(x, sizes)
    if str(correction) not in get_args(Correction):
        names = ", ".join(f'"{name}"' for name in get_args(Correction))
        raise ValueError(f"correction must be one of {names}, got {correction!r}")
    n = len(x)
    if n < 2:
        raise ValueError(f"counting states needs at least 2 samples, got {n}")
    everyone = _Cells(np.zeros(n, dtype=np.int64), np.array([n]))
    a = _extended(everyone, x[:, : offsets[1]])
    shells = [everyone]
    for start, stop in pairwise(offsets[1:]):
        shells.append(_extended(shells[-1], x[:, start:stop]))
    bc = shells[-1]
    abc = _paired(bc, a)

    counts = np.arange(n + 1)
    log = np.log(np.maximum(counts, 1))
    jackknifed = correction in ("jackknife", "shuffle-jackknife")
    weight = np.diff(counts * log, prepend=0.0) if jackknifed else log
    cuts = len(shells) - 2
    value, bias, least, local = np.empty(cuts), np.empty(cuts), np.empty(cuts), np.empty((cuts, n))
    varies = ~constant_columns(x)
    functional = False
    for i, b in enumerate(shells[1:-1]):
        ab = _paired(b, a)
        rows, columns = _Margin.of(b, ab), _Margin.of(b, bc)
        least[i] = _null_variance(b, rows, columns) / n**2
        value[i] = _information(weight, b, ab, bc, abc)
        # in pairs that cancel exactly where A or C is constant
        local[i] = (weight[abc.each] - weight[bc.each]) + (weight[b.each] - weight[ab.each])
        if correction == "miller-madow":
            excess = (len(abc.count) - len(bc.count) + len(b.count) - len(ab.count)) / (2 * n)
            value[i] -= excess
            local[i] -= excess
        elif correction == "shuffle":
            excess = _shuffled(b.count, *rows.table, *columns.table, log).sum() / n
            value[i] -= excess
            local[i] -= excess
            functional |= excess > 0.0 and len(abc.count) in (len(ab.count), len(bc.count))
        elif correction == "shuffle-jackknife":
            widths = np.diff(columns.table[0])
            starts = np.append(0, np.cumsum(np.diff(rows.table[0]) * widths))
            lost = _shuffled_but_one(b.count, *rows.table, *columns.table, log, starts)
            row, column = (m.place[cells.state] for m, cells in ((rows, ab), (columns, bc)))
            pair = starts[b.state] + row * widths[b.state] + column
            value[i] -= (np.bincount(pair, minlength=len(lost)) * lost).sum() / n
            local[i] -= lost[pair]
        bias[i] = _information(log, b, ab, bc, abc) - value[i]
        if varies[: offsets[1]].any() and varies[offsets[i + 2] :].any() and _silent(b, rows, columns):
            value[i] = bias[i] = local[i] = np.nan
    notes = _notes(correction, len(abc.count), n, functional=functional, silent=bool(np.isnan(value).any()))
    return Profile(value, local, bias, notes, least_variance=least)


def _notes(correction: str, states: int, n: int, *, functional: bool, silent: bool) -> tuple[str, ...]:
    if silent:
        return (
            f"{states} different joint states among {n} samples: where none are of equal B, or those that are "
            "differ in A, or in C, one and all, they tell nothing: NaN; give more samples or fewer columns",
        )
    if states > _FILLED[correction] * n:
        what = (
            "a CMI that is not 0 may be off by more than its error"
            if correction.startswith("shuffle")
            else "the CMI may be too large by more than its error"
        )
        return (f"{states} different joint states among {n} samples are too many to be counted well: {what}",)
    if functional:
        return (
            "A is a function of B and C in these samples, or C one of A and B: the shuffle subtracts too much, "
            'and the CMI is too small by once or twice its bias; correction="shuffle-jackknife" is not',
        )
    return ()


@dataclass(frozen=True, slots=True, eq=False)
class _Cells:
    """The states that occur, numbered from 0 in the order of their values: who comes first plays no part.

    ``state`` (n,) is the number of every sample's state, ``count`` (K,) how many samples are in a state.
    """

    state: IntArray
    count: IntArray

    @classmethod
    def numbered(cls, keys: IntArray, top: int) -> _Cells:
        """Number the keys, which lie in 0..top - 1, without gaps."""
        if top <= _TABLE * len(keys):
            occurs = np.zeros(top, dtype=np.bool_)
            occurs[keys] = True
            state = (np.cumsum(occurs) - 1)[keys]
        else:
            state = np.unique(keys, return_inverse=True)[1]
        return cls(state, np.bincount(state))

    @property
    def each(self) -> IntArray:
        """How many samples are in the state of each sample, (n,)."""
        return self.count[self.state]


def _extended(cells: _Cells, x: NDArray[np.floating]) -> _Cells:
    """The states of some columns and those before them, from the states of those before."""
    for column in x.T:
        values = np.unique(column)
        if len(values) > _ALPHABET or (len(values) > _FEW and 2 * len(values) > len(x)):
            raise ValueError(
                f"a column has {len(values)} different values in {len(x)} samples, too many for states to be "
                'counted: use the method "ksg" for continuous data, or bin them'
            )
        code = np.searchsorted(values, column)
        cells = _Cells.numbered(cells.state * len(values) + code, len(cells.count) * len(values))
    return cells


def _paired(first: _Cells, second: _Cells) -> _Cells:
    base = len(second.count)
    return _Cells.numbered(first.state * base + second.state, len(first.count) * base)


def _information(weight: FloatArray, b: _Cells, ab: _Cells, bc: _Cells, abc: _Cells) -> float:
    """Average of weight[n_ABC] - weight[n_BC] + weight[n_B] - weight[n_AB] over the samples.

    From the number of states of each count: summed so, the order of the samples and of the states plays no part.
    """

    def mean(cells: _Cells) -> float:
        often = np.bincount(cells.count)
        count = np.flatnonzero(often)
        return float((often[count] * count * weight[count]).sum()) / len(cells.state)

    return (mean(abc) - mean(bc)) + (mean(b) - mean(ab))


@dataclass(frozen=True, slots=True, eq=False)
class _Margin:
    """The counts of A, or of C, within every state of B: the sums of rows, or columns, of one table per state.

    ``states`` (K_B,) is how many states there are, ``inverse`` (K_B,) the sum of their inverse counts, ``table``
    the different counts: where those of a state of B start, (K_B + 1,), the counts, and how often each is there.
    ``place`` tells for every state of AB, or BC, which of the different counts is its own.
    """

    states: IntArray
    inverse: FloatArray
    table: tuple[IntArray, IntArray, IntArray]
    place: IntArray

    @classmethod
    def of(cls, b: _Cells, joint: _Cells) -> _Margin:
        within = np.empty(len(joint.count), dtype=np.int64)
        within[joint.state] = b.state
        k, base = len(b.count), len(b.state) + 1
        keys, which, often = np.unique(within * base + joint.count, return_inverse=True, return_counts=True)
        starts = np.searchsorted(keys, np.arange(k + 1) * base)
        states = np.bincount(within, minlength=k)
        inverse = np.bincount(within, weights=1.0 / joint.count, minlength=k).astype(np.float64)
        return cls(states, inverse, (starts, keys % base, often), which - starts[within])


def _silent(b: _Cells, rows: _Margin, columns: _Margin) -> bool:
    """Whether the samples could not show a dependence: those of equal B, if there are any, do not share A, or C.

    Where they share A all alike, or C, that counts as evidence of a CMI of 0, unless others are of no use.
    """
    most, least = np.maximum(rows.states, columns.states), np.minimum(rows.states, columns.states)
    alone, alike = b.count == 1, least == 1
    useless = ~alone & ~alike & (most == b.count)
    return bool((alone | alike | useless).all() and (useless.any() or alone.all()))


def _null_variance(b: _Cells, rows: _Margin, columns: _Margin) -> float:
    """Variance of n times the plug-in CMI over the shuffles: what is left of it where the CMI is 0.

    Twice a plug-in of n samples is a chi-square there, whose variance at given margins Dawson (1954) has in closed
    form: 2 dof where counts are large, down to 0 where all are 1 and no shuffle changes anything.  In tables with
    rare states Pearson's chi-square varies more than the plug-in: 2 dof bounds it.
    """
    n = b.count.astype(np.float64)
    r, c = rows.states, columns.states
    # the numerators are 0 where a denominator is
    w_r = (n * rows.inverse - r**2) / np.maximum(n - 2.0, 1.0)
    w_c = (n * columns.inverse - c**2) / np.maximum(n - 2.0, 1.0)
    v_r = (r - 1) * (n - r) / np.maximum(n - 1.0, 1.0)
    v_c = (c - 1) * (n - c) / np.maximum(n - 1.0, 1.0)
    chi_square = (
        2.0 * n / np.maximum(n - 3.0, 1.0) * (v_r - w_r) * (v_c - w_c) + n**2 / np.maximum(n - 1.0, 1.0) * w_r * w_c
    )
    return float(np.clip(chi_square, 0.0, 2.0 * (r - 1) * (c - 1)).sum()) / 4.0


@numba.njit(nogil=True, cache=True)
def _cell(n: int, r: int, c: int, log: FloatArray) -> float:  # pragma: no cover
    """Mean of k log(k n / r c), k hypergeometric: r marked among n, c of them drawn; 0 where there is no such k.

    The probabilities come from their ratios, outward from the mode, until they no longer count.
    """
    if r <= 0 or c <= 0 or r > n or c > n:
        return 0.0
    low, high = max(0, r + c - n), min(r, c)
    mode = min(max((r + 1) * (c + 1) // (n + 2), low), high)
    total = mode * ((log[mode] - log[r]) + (log[n] - log[c]))
    norm = p = 1.0
    for k in range(mode + 1, high + 1):
        p *= (r - k + 1.0) * (c - k + 1.0) / (k * (n - r - c + k + 0.0))
        if p < 1e-20:
            break
        norm += p
        total += p * k * ((log[k] - log[r]) + (log[n] - log[c]))
    p = 1.0
    for k in range(mode - 1, low - 1, -1):
        p *= (k + 1.0) * (n - r - c + k + 1.0) / ((r - k + 0.0) * (c - k + 0.0))
        if p < 1e-20:
            break
        norm += p
        total += p * k * ((log[k] - log[r]) + (log[n] - log[c]))
    return float(total / norm)


@numba.njit(nogil=True, cache=True)
def _shuffled(
    totals: IntArray,
    row_starts: IntArray,
    rows: IntArray,
    row_often: IntArray,
    column_starts: IntArray,
    columns: IntArray,
    column_often: IntArray,
    log: FloatArray,
) -> FloatArray:  # pragma: no cover
    """For every state of B, n_B times the mean plug-in I(A:C) of the shuffles."""
    means = np.zeros(len(totals))
    for b in range(len(totals)):
        for i in range(row_starts[b], row_starts[b + 1]):
            for j in range(column_starts[b], column_starts[b + 1]):
                means[b] += row_often[i] * column_often[j] * _cell(totals[b], rows[i], columns[j], log)
    return means


@numba.njit(nogil=True, cache=True)
def _shuffled_but_one(
    totals: IntArray,
    row_starts: IntArray,
    rows: IntArray,
    row_often: IntArray,
    column_starts: IntArray,
    columns: IntArray,
    column_often: IntArray,
    log: FloatArray,
    starts: IntArray,
) -> FloatArray:  # pragma: no cover
    """What `_shuffled` loses with one sample, for every pair of different counts of its row and its column.

    The pairs of state b stand from starts[b] on, row by row.
    """
    lost = np.empty(starts[-1])
    for b in range(len(totals)):
        n, i0, j0 = totals[b], row_starts[b], column_starts[b]
        height, width = row_starts[b + 1] - i0, column_starts[b + 1] - j0
        # with n - 1 samples: a cell as it is, with its row less one, with its column less one, with both
        cells = np.empty((4, height, width))
        all_rows, all_columns = np.zeros((2, height)), np.zeros((2, width))
        whole = rest = 0.0
        for i in range(height):
            for j in range(width):
                r, c = rows[i0 + i], columns[j0 + j]
                for form in range(4):
                    cells[form, i, j] = _cell(n - 1, r - form % 2, c - form // 2, log)
                whole += row_often[i0 + i] * column_often[j0 + j] * _cell(n, r, c, log)
                rest += row_often[i0 + i] * column_often[j0 + j] * cells[0, i, j]
                for form in range(2):
                    all_rows[form, i] += column_often[j0 + j] * cells[form, i, j]
                    all_columns[form, j] += row_often[i0 + i] * cells[2 * form, i, j]
        for i in range(height):
            for j in range(width):
                other = rest - all_rows[0, i] - all_columns[0, j] + cells[0, i, j]
                row, column = all_rows[1, i] - cells[1, i, j], all_columns[1, j] - cells[2, i, j]
                lost[starts[b] + i * width + j] = whole - (other + row + column + cells[3, i, j])
    return lost

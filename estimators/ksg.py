"""k-nearest-neighbour estimate (Kraskov-Stoegbauer-Grassberger; Frenzel-Pompe), in the maximum norm.

With eps_i the distance of sample i to its k-th neighbour in the joint space of A, B and C,

    I(A:C|B) = psi(k) + < psi(n_B + 1) - psi(n_AB + 1) - psi(n_BC + 1) >,

n_S the number of other samples *strictly* nearer than eps_i in the columns S (Frenzel and Pompe 2007, eq. 8;
without B, n_B + 1 = n and this is Kraskov et al. 2004, eq. 8).  The joint space, hence eps_i, is the same for
every buffer; whether a neighbour counts for B_r depends only on the first shell in which it is eps_i or more
away, so one pass over the pairs serves all widths.

Ties break this: where k neighbours sit at distance 0 every strict count is 0 and the formula returns
psi(k) - psi(1) whatever the data.  For data with atoms Mesner and Shalizi (2020, algorithm 1) count the neighbours
at distance <= eps_i, m_S, and use psi(m) of all four counts, the joint one in place of k.  That is right where
neighbours sit at eps_i, and too large by about 1/(n_S + 1) in columns where none does.  By default ("auto") each
count is therefore max(m_S, n_S + 1): theirs where there are ties, and to the last bit Frenzel-Pompe's where there
are none.  On independent data with atoms (n = 1000, k = 5, `benchmarks/ties.py`) it read -0.004 to 0.002 nats where
theirs read 0.003 to 0.022; on data rounded to 0.1 both read too much, 0.006 to 0.012 against 0.012 to 0.014.

The estimate is consistent, but its bias at a given n grows fast with dimension (far towards 0 where the CMI is
large, somewhat upwards where it is 0 or the data lie on a coarse grid), and the standard error, which comes from
the local spread, does not know of it.

Samples that are each other's neighbours share distances, so the summands are correlated and their mean varies
more than a mean of independent ones.  The standard error allows for it by a factor of k alone, measured on
Gaussian data (`benchmarks/standard_errors.py`): right within 17 % up to three columns and for a CMI of 0, but 10
to 25 % too small in 26 columns with a CMI of 0.8, where the bias is 20 times as large anyway.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import numba
import numpy as np
from numpy.typing import NDArray
from scipy.special import digamma

from estimators.profile import FloatArray, IntArray, Profile, check_layout, constant_columns
from estimators.threads import for_ranges

__all__ = ["Ties", "ksg_profile", "tied_share"]

Ties = Literal["auto", "continuous", "mixed"]

_CHUNK = 128  # queries per task: one task is milliseconds at n = 10,000
_MANY = 4  # columns beyond which the bias at usual n is no longer small
_TIED = 0.01  # share of samples that share a value with another, in some column, from which data count as tied


def tied_share(x: NDArray[np.floating]) -> FloatArray:
    """Return for every column the share of samples whose value another sample has too; shape (d,).

    Examples
    --------
    >>> import numpy as np
    >>> tied_share(np.array([[0.0, 1.0], [0.0, 2.0], [0.5, 3.0], [0.7, 4.0]])).tolist()
    [0.5, 0.0]
    """
    shares = np.zeros(x.shape[1])

    def count(start: int, stop: int) -> None:
        ordered = np.sort(x[:, start:stop], axis=0)
        equal = ordered[1:] == ordered[:-1]
        tied = np.zeros(ordered.shape, dtype=np.bool_)
        tied[1:] |= equal
        tied[:-1] |= equal
        shares[start:stop] = tied.mean(axis=0)

    for_ranges(count, x.shape[1], chunk=16)
    return shares


def ksg_profile(
    x: NDArray[np.floating],
    sizes: Sequence[int],
    *,
    k: int = 5,
    ties: Ties = "auto",
    standardize: bool = False,
    threads: int | None = None,
) -> Profile:
    """k-nearest-neighbour CMI at every cut, exact in the distances, O(n^2) in time and O(n) in memory.

    Parameters
    ----------
    x : (n, d) float array
        Columns in the order A, S_1, ..., S_m.
    sizes : sequence of int
        (|A|, |S_1|, ..., |S_m|).
    k : int
        Neighbours; fewer means less bias and more variance. 5 is a common compromise.
    ties : {"auto", "continuous", "mixed"}
        "continuous" is Frenzel-Pompe, "mixed" Mesner-Shalizi; "auto" (default) is the first on data without ties
        and the second, less biased, on data with them (see above).
    standardize : bool
        Divide every column by its standard deviation first.  Off by default: pixels have one unit, and scaling
        an almost blank one up would fill the norm with its noise.  Turn it on for columns of different units.
    threads : int, optional
        Default: all cores.  The result does not depend on it.

    Returns
    -------
    Profile
        `local` are the summands, `value` their mean; no bias is estimated.

    Raises
    ------
    TypeError, ValueError
        If k is not an integer of at least 1, there are fewer than k + 2 samples, or the layout is bad.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> a, e = rng.standard_normal((2, 2000))
    >>> x = np.stack([a, a + e], axis=1)                        # I(A:C) = 1/2 log 2
    >>> bool(abs(ksg_profile(x, (1, 0, 1)).value[0] - 0.5 * np.log(2)) < 0.1)
    True
    """
    offsets = check_layout(x, sizes)
    if isinstance(k, bool) or not isinstance(k, (int, np.integer)):
        raise TypeError(f"k must be an integer, got {k!r}")
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}")
    if len(x) < k + 2:
        raise ValueError(f"{k} neighbours need at least {k + 2} samples, got {len(x)}")
    if ties not in ("auto", "continuous", "mixed"):
        raise ValueError(f'ties must be "auto", "continuous" or "mixed", got {ties!r}')
    if threads is not None and threads < 1:
        raise ValueError(f"threads must be at least 1, got {threads}")
    data = np.array(x, dtype=np.float64, order="C")
    varying = ~constant_columns(data)
    if standardize:
        data[:, varying] /= data[:, varying].std(axis=0)
    notes: list[str] = []
    tied = tied_share(data[:, varying]).max(initial=0.0) if ties == "auto" else 0.0
    if tied >= _TIED:
        notes.append(
            f"up to {tied:.0%} of the samples share their value with another in some column: counted in the form "
            "for mixed data (after Mesner and Shalizi)"
        )
    n, cuts = len(data), len(offsets) - 3
    radius = np.empty(n)
    for_ranges(lambda i, j: _kth_distance(data, int(k), i, j, radius), n, chunk=_CHUNK, threads=threads)
    counts = np.zeros((n, 4, cuts + 2), dtype=np.int64)
    for_ranges(lambda i, j: _count(data, offsets, radius, i, j, counts), n, chunk=_CHUNK, threads=threads)
    if varying.sum() > _MANY:
        notes.append(
            f"k-nearest-neighbour estimates in {varying.sum()} columns are biased by an amount that the standard "
            "error does not contain: far towards 0 where the CMI is large, upwards by some 0.02 nats where it is 0"
        )
    return _assemble(counts, int(k), ties, tuple(notes))


def _assemble(counts: IntArray, k: int, ties: Ties, notes: tuple[str, ...]) -> Profile:
    """Digamma sums from the counts: strictly near in S_1..S_i, with A too; not farther, with A too."""
    psi = _digamma_table(len(counts) + 1)
    strict, strict_a, within, within_a = (counts[:, form] for form in range(4))
    if ties == "continuous":
        given, with_a, joint = strict + 1, strict_a + 1, np.full((len(counts), 1), k)
    elif ties == "mixed":
        given, with_a, joint = within, within_a, within_a[:, -1:]
    else:
        given, with_a = np.maximum(within, strict + 1), np.maximum(within_a, strict_a + 1)
        joint = within_a[:, -1:]
    # in pairs that cancel exactly where A or C is constant
    local = (psi[joint] - psi[given[:, -1:]]) + (psi[given[:, 1:-1]] - psi[with_a[:, 1:-1]])
    local = np.ascontiguousarray(local.T)
    return Profile(local.mean(axis=1), local, np.zeros(len(local)), notes, _variance_factor(k))


def _variance_factor(k: int) -> float:
    """Measured at n = 1000 in one to three columns: 1.3 at k = 1, 1.4 at 3, 1.5 at 5, 1.7 at 10, 2.1 at 30."""
    return 1.0 + 0.3 * math.pow(k, 0.37)


def _digamma_table(top: int) -> FloatArray:
    table = np.full(top + 1, np.nan)
    table[1:] = digamma(np.arange(1, top + 1))
    return table


@numba.njit(nogil=True, cache=True)
def _kth_distance(x: FloatArray, k: int, start: int, stop: int, out: FloatArray) -> None:  # pragma: no cover
    """Distance of samples start..stop to their k-th neighbour; pairs are left as soon as they are too far."""
    n, d = x.shape
    best = np.empty(k)
    for i in range(start, stop):
        best[:] = np.inf
        for j in range(n):
            if j == i:
                continue
            far = best[k - 1]
            distance = 0.0
            for c in range(d):
                gap = abs(x[i, c] - x[j, c])
                if gap > distance:
                    distance = gap
                    if distance >= far:
                        break
            if distance < far:
                slot = k - 1
                while slot > 0 and best[slot - 1] > distance:
                    best[slot] = best[slot - 1]
                    slot -= 1
                best[slot] = distance
        out[i] = best[k - 1]


@numba.njit(nogil=True, cache=True)
def _count(
    x: FloatArray, offsets: IntArray, radius: FloatArray, start: int, stop: int, out: IntArray
) -> None:  # pragma: no cover
    """Count the others near samples start..stop in S_1..S_i.

    out[:, 0, i] are strictly nearer than radius, out[:, 1, i] in A as well; out[:, 2, i] and out[:, 3, i] are the
    same with those exactly at radius.
    """
    n = len(x)
    shells = len(offsets) - 2
    for i in range(start, stop):
        limit = radius[i]
        for j in range(n):
            if j == i:
                continue
            strict = within = shells  # shells passed before the first that is too far
            for shell in range(shells):
                for c in range(offsets[shell + 1], offsets[shell + 2]):
                    gap = abs(x[i, c] - x[j, c])
                    if gap >= limit:
                        strict = min(strict, shell)
                        if gap > limit:
                            within = shell
                            break
                if within == shell:
                    break
            strict_a = within_a = True
            for c in range(offsets[0], offsets[1]):
                gap = abs(x[i, c] - x[j, c])
                if gap >= limit:
                    strict_a = False
                    if gap > limit:
                        within_a = False
                        break
            out[i, 0, strict] += 1
            out[i, 2, within] += 1
            if strict_a:
                out[i, 1, strict] += 1
            if within_a:
                out[i, 3, within] += 1
        for shell in range(shells - 1, -1, -1):  # near in S_1..S_i means: passed at least i shells
            for form in range(4):
                out[i, form, shell] += out[i, form, shell + 1]

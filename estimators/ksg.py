"""k-nearest-neighbour estimate (Kraskov-Stoegbauer-Grassberger; Frenzel-Pompe), in the maximum norm.

With eps_i the distance of sample i to its k-th neighbour in the joint space of A, B and C,

    I(A:C|B) = psi(k) + < psi(n_B + 1) - psi(n_AB + 1) - psi(n_BC + 1) >,

n_S the number of other samples *strictly* nearer than eps_i in the columns S (Frenzel and Pompe 2007, eq. 8;
without B, n_B + 1 = n and this is Kraskov et al. 2004, eq. 8).  The joint space, hence eps_i, is the same for
every buffer; whether a neighbour counts for B_r depends only on the first shell in which it is eps_i or more
away, so one pass over the pairs serves all widths.

Ties break this: where k neighbours sit at distance 0 every strict count is 0 and the formula returns
psi(k) - psi(1) whatever the data.  For data with atoms the form of Mesner and Shalizi (2020, algorithm 1) counts
neighbours at distance <= rho_i, with the number kt_i of them in the joint space in place of k:

    I(A:C|B) = < psi(kt) + psi(m_B) - psi(m_AB) - psi(m_BC) >.

The estimate is consistent, but its bias at a given n grows fast with dimension (towards 0 where the regions are
large), and the local spread, from which the standard error comes, does not know of it.

Samples that are each other's neighbours share distances, so the summands are correlated and their mean varies
more than a mean of independent ones.  By how much depends on k and hardly on n, dimension or the strength of the
dependence; `benchmarks/standard_errors.py` measures it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import numba
import numpy as np
from numpy.typing import NDArray
from scipy.special import digamma

from estimators.profile import FloatArray, IntArray, Profile, check_layout
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
        "continuous" is Frenzel-Pompe, "mixed" Mesner-Shalizi; "auto" (default) takes "mixed" where in some
        column that is not constant at least 1 % of the samples share their value with another.
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
    data = np.array(x, dtype=np.float64, order="C")
    spread = data.std(axis=0)
    if standardize:
        data /= np.where(spread > 0.0, spread, 1.0)
    notes: list[str] = []
    varying = spread > 0.0
    tied = tied_share(data[:, varying]).max(initial=0.0) if ties == "auto" else 0.0
    mixed = ties == "mixed" or tied >= _TIED
    if ties == "auto" and mixed:
        notes.append(
            f"up to {tied:.0%} of the samples share their value with another in some column: the form for mixed "
            "data (Mesner-Shalizi) was used"
        )
    n, cuts = len(data), len(offsets) - 3
    radius = np.empty(n)
    for_ranges(lambda i, j: _kth_distance(data, int(k), i, j, radius), n, chunk=_CHUNK, threads=threads)
    # Counting d <= rho is counting d < the next number after rho, so that one strict kernel serves both forms.
    limit = np.nextafter(radius, np.inf) if mixed else radius
    counts = np.zeros((n, 2, cuts + 2), dtype=np.int64)
    for_ranges(lambda i, j: _count(data, offsets, limit, i, j, counts), n, chunk=_CHUNK, threads=threads)
    if varying.sum() > _MANY:
        notes.append(
            f"k-nearest-neighbour estimates in {varying.sum()} columns are biased, mostly towards 0, by an amount "
            "that the standard error does not contain"
        )
    return _assemble(counts, int(k), mixed=mixed, notes=tuple(notes))


def _assemble(counts: IntArray, k: int, *, mixed: bool, notes: tuple[str, ...]) -> Profile:
    """Digamma sums from the counts: [:, 0, i] near in S_1..S_i, [:, 1, i] near in A too."""
    psi = _digamma_table(len(counts) + 1)
    shift = 0 if mixed else 1
    near_b = psi[counts[:, 0, 1:-1] + shift]
    near_ab = psi[counts[:, 1, 1:-1] + shift]
    near_bc = psi[counts[:, 0, -1:] + shift]
    joint = psi[counts[:, 1, -1:]] if mixed else psi[k]
    local = np.ascontiguousarray((joint + near_b - near_ab - near_bc).T)
    return Profile(local.mean(axis=1), local, np.zeros(len(local)), notes, _variance_factor(k))


def _variance_factor(k: int) -> float:
    """Measured: 1.3 at k = 1, 1.4 at 3, 1.5 at 5, 1.7 at 10, 2.1 at 30, each within 10 % over eight models."""
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
    x: FloatArray, offsets: IntArray, limit: FloatArray, start: int, stop: int, out: IntArray
) -> None:  # pragma: no cover
    """Count the others strictly nearer than limit in S_1..S_i (out[:, 0, i]) and in A, S_1..S_i (out[:, 1, i])."""
    n = len(x)
    shells = len(offsets) - 2
    for i in range(start, stop):
        radius = limit[i]
        for j in range(n):
            if j == i:
                continue
            passed = shells
            for shell in range(shells):
                inside = True
                for c in range(offsets[shell + 1], offsets[shell + 2]):
                    if abs(x[i, c] - x[j, c]) >= radius:
                        inside = False
                        break
                if not inside:
                    passed = shell
                    break
            near_a = True
            for c in range(offsets[0], offsets[1]):
                if abs(x[i, c] - x[j, c]) >= radius:
                    near_a = False
                    break
            out[i, 0, passed] += 1
            if near_a:
                out[i, 1, passed] += 1
        for shell in range(shells - 1, -1, -1):  # near in S_1..S_i means: passed at least i shells
            out[i, 0, shell] += out[i, 0, shell + 1]
            out[i, 1, shell] += out[i, 1, shell + 1]

"""CMI by the mixture over the data itself: every sample but the query's own, blurred by the known noise.

With clean samples x_j and Y = x + z / sqrt(snr) the posterior of the clean A given a noisy buffer is

    p(x_A = v | y_B) = sum_{j: x_jA = v} w_j / sum_j w_j,    w_j = exp(-snr |y_B - x_jB|^2 / 2),

the sums over all samples but the one that y was made of (for bits that are flipped with probability f, of which
y_B and x_jB differ in m, w_j = (f / (1 - f))^m).  What it predicts of A's own noisy value is a cross-entropy, with
the noise of A integrated (`noised_posterior`), and

    I(A:C|B) = < -ln p(y_A | y_B) > - < -ln p(y_A | y_B, y_C) >.

Both are upper bounds of entropies, for any mixture.  How close they are depends on how many samples share the
weight.  Where many do, the excess is known to first order in one over their effective number, (sum w)^2 / sum w^2
(`cross_entropy`); what is left of it is more or less inverse to n, and a jackknife of the two halves of the
samples, 2 H(n) - H(n / 2), removes most of that.  Where one sample holds nearly all of the weight, the mixture says
no more than what that sample looks like; the bound of the wider regions suffers most, and the CMI comes out too
low, often far below 0.  So that number is part of the result.

Several columns of A go one after the other, each given the noisy ones before it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numba
import numpy as np
from numpy.typing import NDArray

from estimators.arguments import whole_at_least
from estimators.known_noise import KnownNoise, bits
from estimators.noised_posterior import cross_entropy, flipped_cross_entropy
from estimators.profile import FloatArray, IntArray, Profile, check_layout
from estimators.threads import for_ranges, one_blas_thread
from estimators.value_bins import clean_values, crowded_notes, crowded_width

__all__ = ["MixtureData", "fit_mixture", "mixture_profile"]

_VALUES = 1024  # clean values of A that are told apart, where the data have more
_ROWS = 64  # queries whose distances are held together by one thread: 64 n numbers
_ROUNDING = 1e-5  # nats, of differences of cross-entropies
_FEW = 50.0  # effective neighbours below which the mixture repeats single samples
_CHOSEN, _SEEN, _ORDER = 0, 1, 2  # first words of the spawn keys


def mixture_profile(
    x: NDArray[np.floating],
    sizes: Sequence[int],
    *,
    snr: float | None = None,
    flip: float | None = None,
    queries: int | None = 5000,
    seed: int = 0,
) -> Profile:
    """CMI at every cut of clean samples with known noise on all columns.

    Parameters
    ----------
    x : (n, d) float array
        Clean samples, columns in the order A, S_1, ..., S_m.
    sizes : sequence of int
        (|A|, |S_1|, ..., |S_m|).
    snr, flip
        As in `MixtureData.profile`; one of them.
    queries, seed
        As in `fit_mixture`.

    Returns
    -------
    Profile
        As of `MixtureData.profile`.

    Examples
    --------
    Two numbers with a correlation of 0.8, noise as strong as they are: I(A:C) = -ln(1 - 0.4^2) / 2 = 0.0872.

    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> a, e = rng.standard_normal((2, 4000))
    >>> x = np.stack([a, 0.8 * a + 0.6 * e], axis=1)
    >>> bool(abs(mixture_profile(x, (1, 0, 1), snr=1.0).value[0] - 0.0872) < 0.02)
    True
    """
    return fit_mixture(x, sizes, queries=queries, seed=seed).profile(x, snr=snr, flip=flip)


def fit_mixture(
    x: NDArray[np.floating],
    sizes: Sequence[int],
    *,
    snrs: Iterable[float] = (),
    queries: int | None = 5000,
    seed: int = 0,
) -> MixtureData:
    """Choose the queries, and tell the clean values of A apart.

    Parameters
    ----------
    x, sizes
        As in `mixture_profile`.
    snrs : iterable of float
        Not used: nothing is shared between levels.
    queries : int or None
        Average over that many samples drawn at random, each compared with all n: time and error follow from it.
        Of 5000 (default) the error is a few thousandths of a nat. None, or n and more: all.
    seed : int
        Of the queries, and of their noise.

    Raises
    ------
    TypeError, ValueError
        For fewer than 4 samples, or 3 queries, or a bad layout.

    Examples
    --------
    >>> import numpy as np
    >>> bits = np.random.default_rng(0).integers(0, 2, (2000, 3)).astype(float)
    >>> data = fit_mixture(bits, (1, 1, 1), queries=500)
    >>> [bool(abs(data.profile(bits, flip=flip).value[0]) < 0.02) for flip in (0.05, 0.2)]
    [True, True]
    """
    del snrs
    offsets = check_layout(x, sizes)
    n = len(x)
    if n < 4:
        raise ValueError(f"a mixture needs at least 4 samples, got {n}")
    chosen = np.arange(n)
    if queries is not None and whole_at_least(queries, "queries", 3) < n:
        key = np.random.SeedSequence(seed, spawn_key=(_CHOSEN,))
        chosen = np.sort(np.random.default_rng(key).choice(n, queries, replace=False))
    order = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(_ORDER,))).permutation(n)
    crowded, values, place = 0.0, [], np.empty((int(offsets[1]), n), dtype=np.int32)
    for column in range(int(offsets[1])):
        own = x[:, column].astype(np.float64)
        known, _ = clean_values(own, _VALUES)
        place[column] = np.searchsorted((known[1:] + known[:-1]) / 2.0, own)
        values.append(known)
        crowded = max(crowded, crowded_width(own, _VALUES))
    return MixtureData(offsets, order, np.argsort(order)[chosen], tuple(values), place[:, order], seed, crowded)


@dataclass(frozen=True, slots=True, eq=False)
class MixtureData:
    """What the mixture needs beside the samples; made by `fit_mixture`.

    Parameters
    ----------
    offsets : (m + 2,) int array
        Columns of A and the shells.
    order : (n,) int array
        Of the samples below: a random one, so that one half is like the other.
    queries : (q,) int array
        Samples that are averaged over.
    values : tuple of arrays
        Clean values of every column of A, rising; the middles of `_VALUES` bins where there are more.
    place : (|A|, n) int array
        Which of them each sample has.
    seed : int
    crowded : float
        The widest crowded bins of a column of A, as in `crowded_width`.
    """

    offsets: IntArray
    order: IntArray
    queries: IntArray
    values: tuple[FloatArray, ...]
    place: NDArray[np.int32]
    seed: int
    crowded: float = 0.0

    def profile(self, x: NDArray[np.floating], *, snr: float | None = None, flip: float | None = None) -> Profile:
        """CMI at every cut with independent noise on all columns.

        Parameters
        ----------
        x : (n, d) float array
            The samples that were fitted.
        snr : float, optional
            Of Gaussian noise, alpha^2/sigma^2.
        flip : float, optional
            Probability of a flip, in [0, 1/2], for data of two values; instead of the SNR.

        Returns
        -------
        Profile
            `local` has one value per query, `neighbours` the median effective number of them in B; of a region too
            wide for the mixture a note tells. Without noise (an infinite SNR, or no flips) only equal samples
            weigh anything, and the value is NaN.

        Raises
        ------
        ValueError
            If not one of snr and flip is given, or it is out of range; if x is not what was fitted, or flips are
            for data of more than two values.
        """
        noise = _Noise.of(snr, flip)
        if x.shape != (self.place.shape[1], self.offsets[-1]):
            raise ValueError(
                f"the mixture belongs to {self.place.shape[1]} samples of {self.offsets[-1]} columns, got {x.shape}"
            )
        cuts, many = len(self.offsets) - 3, len(self.queries)
        clean = x[self.order].astype(np.float64)
        if flip is not None:
            clean = bits(clean)
        if noise.rate == 0.0:
            every = np.full(cuts, len(clean) - 1.0)
            return Profile(np.zeros(cuts), np.zeros((cuts, many)), np.zeros(cuts), neighbours=every)
        if not np.isfinite(noise.rate):
            return Profile(
                np.full(cuts, np.nan),
                np.full((cuts, many), np.nan),
                np.zeros(cuts),
                ("without noise the mixture knows equal samples only: NaN; leave out t = 0",),
            )
        middle = (
            clean.mean(axis=0) if flip is None else np.zeros(clean.shape[1])
        )  # far from 0 squares of distances would lose digits
        clean = (clean - middle) * noise.scale
        noisy = noise.known.applied(clean[self.queries], self.seed, (_SEEN,))
        entropies, corrected, neighbours = np.zeros((3, cuts + 1, many))
        squares = [(clean[:, a:b] ** 2).sum(axis=1) for a, b in self._shells()]

        def job(start: int, stop: int) -> None:
            distance = np.zeros((stop - start, len(clean)))
            distance[np.arange(stop - start), self.queries[start:stop]] = np.inf  # all but its own
            for shell, (a, b) in enumerate(self._shells()):
                if b > a:
                    distance += squares[shell]
                    distance -= 2.0 * (noisy[start:stop, a:b] @ clean[:, a:b].T)
                part = np.s_[shell, start:stop]
                entropies[part], corrected[part], neighbours[part] = self._look(
                    clean, middle, noisy[start:stop], start, distance, noise
                )

        with one_blas_thread():
            for_ranges(job, many, chunk=_ROWS)
        local = corrected[:-1] - corrected[-1]
        bias = (entropies[:-1] - entropies[-1] - local).mean(axis=1)
        effective = np.median(neighbours, axis=1)
        notes = (*self._notes(effective), *crowded_notes([self.crowded * noise.scale], noise.known.sigma, _VALUES))
        return Profile(
            local.mean(axis=1),
            local,
            bias,
            notes,
            least_variance=np.full(cuts, _ROUNDING**2),
            neighbours=effective[:-1],
        )

    def _shells(self) -> list[tuple[int, int]]:
        return [(int(a), int(b)) for a, b in zip(self.offsets[1:-1], self.offsets[2:], strict=True)]

    def _look(
        self,
        clean: FloatArray,
        middle: FloatArray,
        noisy: FloatArray,
        start: int,
        distance: FloatArray,
        noise: _Noise,
    ) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Cross-entropy of A given what the distances hold, plain and corrected, and the effective neighbours."""
        plain, corrected = np.zeros((2, len(noisy)))
        fewest = np.full(len(noisy), np.inf)  # over the columns of A, of which the last sees most
        half = distance.shape[1] // 2
        queries = self.queries[start : start + len(noisy)]
        for column, values in enumerate(self.values):
            posterior, squares = np.zeros((2, 3, len(noisy), len(values)))  # of either half, and of both
            place = self.place[column]
            for i, row in enumerate(distance):
                least, total = np.empty((2, 2))
                for part, samples in enumerate((slice(half), slice(half, None))):
                    least[part] = row[samples].min()
                    weights = np.exp(noise.rate * (least[part] - row[samples]))
                    total[part] = _by_value(weights, place[samples], posterior[part, i], squares[part, i])
                shares = total * np.exp(noise.rate * (least.min() - least))
                shares /= shares.sum()
                posterior[2, i] = shares @ posterior[:2, i]
                squares[2, i] = shares**2 @ squares[:2, i]
            fewest = np.minimum(fewest, 1.0 / squares[2].sum(axis=1))
            for sign, p, s in zip((-0.5, -0.5, 2.0), posterior, squares, strict=True):
                entropy, excess = noise.cross_entropy(
                    p, s, values - middle[column], clean[queries, column], place[queries]
                )
                corrected += sign * (entropy - excess)
            plain += entropy
            if column + 1 < len(self.values):  # on a copy: the shells go on without A
                distance = distance + (noisy[:, column, None] - clean[None, :, column]) ** 2
        return plain, corrected, fewest

    def _notes(self, effective: FloatArray) -> tuple[str, ...]:
        notes = [f"averaged over {len(self.queries)} of the {self.place.shape[1]} samples"]
        if len(self.queries) == self.place.shape[1]:
            notes.clear()
        if effective.min() < _FEW:
            notes.append(
                f"the mixture repeats single samples, which lowers the CMI: in the widest region it has "
                f"{effective.min():.1f} effective neighbours (median over queries; {_FEW:g} are few)"
            )
        return tuple(notes)


@dataclass(frozen=True, slots=True)
class _Noise:
    """Weights of known noise are exp(-rate |y - scale x|^2); a rate of 0 is pure noise, an infinite one none."""

    rate: float
    scale: float
    known: KnownNoise
    gaussian: bool

    @classmethod
    def of(cls, snr: float | None, flip: float | None) -> _Noise:
        known = KnownNoise.of(snr, flip)
        if flip is not None:
            rate = np.inf if known.flip == 0.0 else float(np.log((1.0 - known.flip) / known.flip))
            return cls(rate, 1.0, known, gaussian=False)
        if known.nothing_left or known.sigma == 0.0:
            return cls(0.0 if known.nothing_left else np.inf, 1.0, known, gaussian=True)
        # in units of the noise, in which nothing over- or underflows
        return cls(0.5, 1.0 / known.sigma, known.scaled(known.sigma), gaussian=True)

    def cross_entropy(
        self,
        posterior: FloatArray,
        squares: FloatArray,
        values: FloatArray,
        clean: FloatArray,
        place: NDArray[np.int32],
    ) -> tuple[FloatArray, FloatArray]:
        if self.gaussian:
            return cross_entropy(posterior, values * self.scale, clean, 1.0, squares)
        if len(values) == 1:  # its noise alone, whatever is known of the rest
            return np.zeros(len(clean)), np.zeros(len(clean))
        return flipped_cross_entropy(posterior, place, self.known.flip, squares)


@numba.njit(nogil=True, cache=True, fastmath={"reassoc", "contract", "nsz", "arcp"}, error_model="numpy")
def _by_value(
    weights: FloatArray, place: IntArray, posterior: FloatArray, squares: FloatArray
) -> float:  # pragma: no cover
    """Add up weights, made to sum to 1, and their squares by the value of A; return what they summed to."""
    total = 0.0
    for j in range(len(weights)):
        w = weights[j]
        total += w
        posterior[place[j]] += w
        squares[place[j]] += w * w
    for v in range(len(posterior)):
        posterior[v] /= total
        squares[v] /= total * total
    return total

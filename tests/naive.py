"""Slow, readable twins of the estimators: the oracles of the tests."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from math import comb, log

import numpy as np
from numpy.typing import NDArray
from scipy.special import digamma

FloatArray = NDArray[np.float64]


def distances(x: FloatArray) -> FloatArray:
    """All pairwise maximum-norm distances; where there are no columns everything is nearer than any distance."""
    if x.shape[1] == 0:
        return np.full((len(x), len(x)), -1.0)
    return np.asarray(np.abs(x[:, None, :] - x[None, :, :]).max(axis=2))


def parts(x: FloatArray, sizes: Sequence[int], cut: int) -> tuple[FloatArray, FloatArray, FloatArray]:
    """A, B and C of one cut."""
    a, b = sizes[0], sum(sizes[: cut + 1])
    return x[:, :a], x[:, a:b], x[:, b:]


def ksg(x: FloatArray, sizes: Sequence[int], k: int, *, ties: str) -> FloatArray:
    """Local values (cuts, n): Frenzel-Pompe, Mesner-Shalizi, or the larger count of both, by the definitions."""
    n = len(x)
    local = np.zeros((len(sizes) - 2, n))
    for cut in range(1, len(sizes) - 1):
        a, b, c = parts(x, sizes, cut)
        d_a, d_b, d_c = distances(a), distances(b), distances(c)
        ab, bc = np.maximum(d_a, d_b), np.maximum(d_b, d_c)
        joint = np.maximum(ab, d_c)
        for i in range(n):
            others = np.arange(n) != i
            radius = np.sort(joint[i, others])[k - 1]
            strict = [int(np.sum(d[i, others] < radius)) for d in (joint, d_b, ab, bc)]
            within = [int(np.sum(d[i, others] <= radius)) for d in (joint, d_b, ab, bc)]
            if ties == "continuous":
                counts = [k, *(m + 1 for m in strict[1:])]
            elif ties == "mixed":
                counts = within
            else:
                counts = [within[0], *(max(m, s + 1) for m, s in zip(within[1:], strict[1:], strict=True))]
            terms = digamma(counts)
            local[cut - 1, i] = terms[0] + terms[1] - terms[2] - terms[3]
    return local


def log_det(matrix: FloatArray) -> float:
    return float(np.linalg.slogdet(matrix)[1]) if len(matrix) else 0.0


def gaussian_cmi(covariance: FloatArray, sizes: Sequence[int], cut: int) -> float:
    """1/2 log [det(AB) det(BC) / (det(B) det(ABC))]: the determinant formula, term by term."""
    a, b = sizes[0], sum(sizes[: cut + 1])
    ab, bc, only_b = slice(0, b), slice(a, None), slice(a, b)
    return 0.5 * (
        log_det(covariance[ab, ab])
        + log_det(covariance[bc, bc])
        - log_det(covariance[only_b, only_b])
        - log_det(covariance)
    )


def entropy(x: FloatArray, *, miller_madow: bool = False) -> float:
    """Entropy of the rows from their frequencies, with (K - 1)/2n for K different rows where asked for."""
    frequency = np.array(list(Counter(map(tuple, x.tolist())).values())) / len(x)
    extra = (len(frequency) - 1) / (2 * len(x)) if miller_madow else 0.0
    return float(-(frequency * np.log(frequency)).sum()) + extra


def shuffled_information(x: FloatArray, sizes: Sequence[int], cut: int) -> float:
    """Mean plug-in CMI over the permutations of C among rows of equal B, by the hypergeometric law of cells."""
    n = len(x)
    a, b, c = parts(x, sizes, cut)
    total = 0.0
    for state in {tuple(row) for row in b.tolist()}:
        here = (b == state).all(axis=1)
        n_b = int(here.sum())
        for n_ab in Counter(map(tuple, a[here].tolist())).values():
            for n_bc in Counter(map(tuple, c[here].tolist())).values():
                for k in range(max(1, n_ab + n_bc - n_b), min(n_ab, n_bc) + 1):
                    p = comb(n_ab, k) * comb(n_b - n_ab, n_bc - k) / comb(n_b, n_bc)
                    total += p * k / n * log(k * n_b / (n_ab * n_bc))
    return total


def tells_nothing(x: FloatArray, sizes: Sequence[int], cut: int) -> bool:
    """Whether rows of equal B could not show a dependence: they are missing, or none share A, or none share C."""
    a, b, c = parts(x, sizes, cut)
    alike = useless = False
    for state in {tuple(row) for row in b.tolist()}:
        here = (b == state).all(axis=1)
        n_a, n_c = (len({tuple(row) for row in part[here].tolist()}) for part in (a, c))
        if here.sum() > 1 and min(n_a, n_c) > 1:
            if max(n_a, n_c) < here.sum():
                return False
            useless = True
        alike |= here.sum() > 1 and min(n_a, n_c) == 1
    return bool((a != a[0]).any() and (c != c[0]).any() and (useless or not alike))


def discrete(x: FloatArray, sizes: Sequence[int], correction: str) -> FloatArray:
    """Counted entropies (cuts,), the bias removed by the definitions: the jackknife re-estimates n times."""
    values = []
    for cut in range(1, len(sizes) - 1):

        def estimate(x: FloatArray, cut: int = cut) -> float:
            a, b, c = parts(x, sizes, cut)
            terms = (np.hstack([a, b]), np.hstack([b, c]), b, x)
            ab, bc, only_b, abc = (entropy(t, miller_madow=correction == "miller-madow") for t in terms)
            shuffled = shuffled_information(x, sizes, cut) if correction.startswith("shuffle") else 0.0
            return ab + bc - only_b - abc - shuffled

        value = estimate(x)
        if correction.endswith("jackknife"):
            n = len(x)
            value = n * value - (n - 1) * float(np.mean([estimate(np.delete(x, i, axis=0)) for i in range(n)]))
        values.append(np.nan if tells_nothing(x, sizes, cut) else value)
    return np.array(values)


def near_counts(
    x: FloatArray, offsets: Sequence[int], radius: FloatArray, samples: Sequence[int]
) -> NDArray[np.int64]:
    """Others nearer than each radius, and not farther, in S_1..S_i and in A as well; shape (q, K, 4, m + 1)."""
    shells = len(offsets) - 2
    counts = np.zeros((len(samples), radius.shape[1], 4, shells + 1), dtype=np.int64)
    for row, sample in enumerate(samples):
        gaps = np.delete(np.abs(x - x[sample]), sample, axis=0)
        in_a = gaps[:, : offsets[1]].max(axis=1)
        for i in range(1, shells + 1):
            part = gaps[:, offsets[1] : offsets[i + 1]]
            in_b = part.max(axis=1) if part.shape[1] else np.full(len(part), -1.0)
            both = np.maximum(in_a, in_b)
            for k, r in enumerate(radius[row]):
                counts[row, k, :, i] = [(in_b < r).sum(), (both < r).sum(), (in_b <= r).sum(), (both <= r).sum()]
    return counts


def table_entropy(probability: FloatArray) -> float:
    """-sum p ln p of a table of probabilities."""
    positive = probability[probability > 0.0]
    return float(-(positive * np.log(positive)).sum())


def marginal(codes: NDArray[np.int64], kept: list[int], probability: FloatArray) -> FloatArray:
    """Distribution of some bits of integers that hold them."""
    word = np.zeros_like(codes)
    for place, bit in enumerate(kept):
        word |= ((codes >> bit) & 1) << place
    return np.asarray(np.bincount(word, weights=probability, minlength=1 << len(kept)), dtype=np.float64)

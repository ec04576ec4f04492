"""Slow, readable twins of the estimators: the oracles of the tests."""

from __future__ import annotations

from collections.abc import Sequence

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

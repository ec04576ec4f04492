"""Losses of means of one level of noise, integrated over the SNR of A: network, Gaussian and narrower, blended."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls
from scipy.special import ndtri

from estimators.known_noise import KnownNoise
from estimators.posterior_part import Part, spread
from estimators.profile import FloatArray

if TYPE_CHECKING:
    from estimators.mean_answers import Means

__all__ = ["blend_weights", "held_out_informations", "snr_nodes"]

_CHUNK = 250  # samples whose means are held together
_NODES, _DENSE = 16, 2.5  # SNRs of A, at least, and per factor e of the SNR: of a two-valued A right to 1e-6
_DRAWS = 4  # noisy values of A at each, stratified
_SEEN, _WEIGHED, _OWN = 8, 9, 10  # first words of the spawn keys
_WEIGHED_BY = 2000  # samples at most, for a handful of weights


def snr_nodes(snr: float, variance: float) -> tuple[FloatArray, FloatArray]:
    """SNRs g and weights w with sum_k w_k f(g_k) = int_0^snr f(g) dg, by Gauss and Legendre in ln(1 + g variance).

    Examples
    --------
    >>> g, w = snr_nodes(9.0, 1.0)
    >>> round(float(w @ (1.0 / (1.0 + g))), 10)  # ln 10
    2.302585093
    """
    most = np.log1p(snr * variance)
    places, weights = np.polynomial.legendre.leggauss(max(_NODES, math.ceil(_DENSE * most)))
    g = np.expm1(0.5 * most * (places + 1.0)) / variance
    return g, 0.5 * most * weights * (1.0 + g * variance) / variance


def blend_weights(predictions: FloatArray, truth: FloatArray, weight: FloatArray) -> FloatArray:
    """Return the weights b of the blend sum_k b_k p_k of least weighted squared error, at least 0 and of sum 1.

    Parameters
    ----------
    predictions : (n, k) array
    truth, weight : (n,) arrays

    Examples
    --------
    >>> x = np.linspace(-1.0, 1.0, 50)
    >>> blend_weights(np.stack([x + 0.1, x - 0.3], axis=1), x, np.ones(50)).round(6).tolist()
    [0.75, 0.25]
    """
    off = (predictions - truth[:, None]) * np.sqrt(weight)[:, None]
    # min b' Q b on the simplex lies where min |L' b|^2 - 2 sum b over b >= 0 does: a least-squares problem
    squares = off.T @ off
    count = len(squares)
    squares += (1e-9 * np.trace(squares) / count + 1e-300) * np.eye(count)
    factor = np.linalg.cholesky(squares)
    found, _ = nnls(factor.T, np.linalg.solve(factor, np.ones(count)))
    return np.asarray(found / found.sum())


def held_out_informations(
    part: Part, x: NDArray[np.floating], noise: KnownNoise, sizes: Sequence[int], seed: int
) -> FloatArray:
    """Return 1/2 int mse dg of A given every B_g, of the samples that a part has not seen, (groups, samples).

    Columns of A after the first are given the noisy ones before them, and losses add (chain rule).
    """
    total = np.zeros((len(sizes), len(part.test)))
    if noise.nothing_left or part.answers is None:
        return total
    from estimators.posterior_network import few_threads

    with few_threads():
        for target, values in enumerate(part.values):
            if len(values.known) == 1:
                continue
            blend = _Blend(part, noise, sizes, target, seed)
            blend.weigh(part.units(x[spread(part.validation, _WEIGHED_BY)]))
            for begin in range(0, len(part.test), _CHUNK):
                rows = part.test[begin : begin + _CHUNK]
                total[:, begin : begin + len(rows)] += blend.informations(part.units(x[rows]), begin)
    return total


class _Blend:
    """Means of one column of A at one level, weighed at every width."""

    def __init__(self, part: Part, noise: KnownNoise, sizes: Sequence[int], target: int, seed: int) -> None:
        from estimators.posterior_answers import Levels

        start = part.start(noise, sizes)
        self.answers, self.target, self.seed, self.noise = cast("Means", part.answers), target, seed, start.noise
        self.levels = Levels.of([start], self.answers.device)
        self.g, self.dg = snr_nodes(start.noise.sigma**-2.0, part.values[target].variance)
        self.number = part.number
        self.weights: FloatArray = np.zeros((0, 4))  # (groups, 4): network, its start, Gaussian, narrower

    def weigh(self, clean: FloatArray) -> None:
        """Choose the weights by samples that were held out for that."""
        chunks = [self._means(clean[i : i + _CHUNK], _WEIGHED, i) for i in range(0, len(clean), _CHUNK)]
        means = np.concatenate(chunks, axis=1)
        _, _, groups, many = means.shape
        truth = np.repeat(clean[:, self.target], many)
        weight = np.tile(np.repeat(self.dg, _DRAWS), len(clean))
        self.weights = np.zeros((groups, 4))
        narrower = means[1, :, 0].ravel()
        for group in range(groups):
            each = np.stack([*means[:, :, group].reshape(3, -1), narrower], axis=1)
            self.weights[group] = blend_weights(each, truth, weight)
            narrower = each @ self.weights[group]

    def informations(self, clean: FloatArray, begin: int) -> FloatArray:
        """1/2 int (x - mean)^2 dg, (groups, samples)."""
        means = self._means(clean, _SEEN, begin)
        weight = np.repeat(self.dg, _DRAWS) / _DRAWS
        blend, found = means[1, :, 0], []
        for group, weights in enumerate(self.weights):
            blend = np.tensordot(weights[:3], means[:, :, group], axes=1) + weights[3] * blend
            found.append(0.5 * (blend - clean[:, [self.target]]) ** 2 @ weight)
        return np.stack(found)

    def _means(self, clean: FloatArray, stream: int, begin: int) -> FloatArray:
        """Means (3, samples, groups, SNRs x draws): of the network, its start, and the Gaussian."""
        import torch

        device = self.answers.device
        seen = self.noise.applied(clean, self.seed, (stream, self.number, begin))
        key = (_OWN, stream, self.number, begin, self.target, *self.noise.key)
        rng = np.random.default_rng(np.random.SeedSequence(self.seed, spawn_key=key))
        quantile = (np.arange(_DRAWS) + rng.random((len(clean), len(self.g), _DRAWS))) / _DRAWS
        y = clean[:, self.target, None, None] + ndtri(quantile) / np.sqrt(self.g)[:, None]
        noisy, g, own = (
            torch.as_tensor(each[None], dtype=torch.float32, device=device)
            for each in (seen, np.tile(np.repeat(self.g, _DRAWS), (len(clean), 1)), y.reshape(len(clean), -1))
        )
        with torch.no_grad():
            every = self.answers.means(noisy, [self.target], self.levels, g, own)
        means = np.stack([each[0].cpu().double().numpy() for each in every])
        # of a level that could not be trained the network may say nothing
        known = np.isfinite(means[0]).all(axis=2, keepdims=True)
        means[0] = np.where(known, means[0], means[1])
        return means

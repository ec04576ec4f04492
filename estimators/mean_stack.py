"""Losses of means of one level of noise, integrated over the SNR of A: network, Gaussian and narrower, blended."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls
from scipy.special import ndtri

from estimators.held_out import HeldOut, Sides, in_turn
from estimators.known_noise import KnownNoise
from estimators.posterior_part import Part, spread
from estimators.profile import FloatArray

if TYPE_CHECKING:
    from estimators.mean_answers import Means

__all__ = ["blend_weights", "held_out_informations", "snr_nodes"]

_CHUNK = 250  # samples whose means are held together
_NODES, _DENSE = (
    16,
    2.5,
)  # SNRs of A, at least, and per factor e of the SNR: of a two-valued A right to 1e-6, rare values too
_DRAWS = 4  # noisy values of A at each, stratified
_SEEN, _WEIGHED, _OWN, _SIDES = 8, 9, 10, 13  # first words of the spawn keys
_WEIGHED_BY = 2000  # samples that weights begin with, at most


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


def blend_weights(squares: FloatArray) -> FloatArray:
    """Return the weights b of the blend sum_k b_k p_k of least squared error b' Q b, at least 0 and of sum 1.

    Parameters
    ----------
    squares : (k, k) array
        Q: sums of products of the errors of the predictions p_k.

    Examples
    --------
    >>> x = np.linspace(-1.0, 1.0, 50)
    >>> off = np.stack([x + 0.1, x - 0.3]) - x
    >>> blend_weights(off @ off.T).round(6).tolist()
    [0.75, 0.25]
    """
    # min b' Q b on the simplex lies where min |L' b|^2 - 2 sum b over b >= 0 does: a least-squares problem
    count = len(squares)
    factor = np.linalg.cholesky(squares + (1e-9 * np.trace(squares) / count + 1e-300) * np.eye(count))
    found, _ = nnls(factor.T, np.linalg.solve(factor, np.ones(count)))
    return np.asarray(found / found.sum())


def held_out_informations(
    part: Part, x: NDArray[np.floating], noise: KnownNoise, sizes: Sequence[int], seed: int
) -> HeldOut:
    """Return 1/2 int mse dg of A given every B_g, of the samples that a part has not seen.

    Columns of A after the first are given the noisy ones before them, and losses add (chain rule).
    """
    found = HeldOut.nothing(len(sizes), len(part.test))
    if noise.nothing_left or part.answers is None:
        return found
    from estimators.posterior_network import few_threads

    with few_threads():
        for target, values in enumerate(part.values):
            if len(values.known) == 1:
                continue
            blend = _Blend(part, noise, sizes, target, seed)
            blend.weigh(part.units(x[spread(part.validation, _WEIGHED_BY)]))
            total, moved = np.zeros_like(found.losses), []
            for turn, rows in enumerate(in_turn(len(part.test), _CHUNK)):
                total[:, rows], by_halves = blend.informations(part.units(x[part.test[rows]]), turn)
                moved.append(by_halves)
            found = HeldOut(found.losses + total, found.moved + np.mean(moved, axis=0))
    return found


class _Blend:
    """Means of one column of A at one level, weighed at every width: network, its start, Gaussian, narrower blend.

    All that is kept of the samples which weights are chosen by are sums of products of errors.
    """

    def __init__(self, part: Part, noise: KnownNoise, sizes: Sequence[int], target: int, seed: int) -> None:
        from estimators.posterior_answers import Levels

        start = part.start(noise, sizes)
        self.answers, self.target, self.seed, self.noise = cast("Means", part.answers), target, seed, start.noise
        self.levels = Levels.of([start], self.answers.device)
        values = part.values[target]
        # of rare values what there is to be known is told at an SNR of one over their distance
        self.g, self.dg = snr_nodes(start.noise.sigma**-2.0, max(values.variance, 0.25 * values.range**2))
        self.number, self.groups = part.number, len(sizes)
        key = (_SIDES, part.number, target, *self.noise.key)
        self.sides = Sides(np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key)))
        self.squares: FloatArray = np.zeros((len(self.sides.sides) + 1, 3 * self.groups, 3 * self.groups))
        self.blends: FloatArray = np.zeros((0, 0, 0))  # (all and halves, groups, predictions)

    def weigh(self, clean: FloatArray) -> None:
        """Choose the weights by samples that were held out for that."""
        for turn, begin in enumerate(range(0, len(clean), _CHUNK)):
            self._learn(self._errors(clean[begin : begin + _CHUNK], _WEIGHED, turn))
        self._choose()

    def informations(self, clean: FloatArray, turn: int) -> tuple[FloatArray, FloatArray]:
        """1/2 int (x - mean)^2 dg, (groups, samples), by weights that were chosen without these samples.

        Also by how much their means change by weights of the halves, (halves, groups).  The next ones are chosen by
        these samples as well.
        """
        errors = self._errors(clean, _SEEN, turn)
        found = 0.5 * (np.tensordot(self.blends[0], errors, axes=1) ** 2).sum(axis=2)
        many = errors.reshape(len(errors), -1)
        means = (
            0.5 / len(clean) * np.einsum("hgp,pq,hgq->hg", self.blends, many @ many.T, self.blends, optimize=True)
        )
        self._learn(errors)
        self._choose()
        return found, means[1:] - means[0]

    def _learn(self, errors: FloatArray) -> None:
        """Add the products of errors of all of them, and of those in every half."""
        self.sides.add(errors.shape[1])
        new = self.sides.sides[:, -errors.shape[1] :]
        every = np.ones((1, errors.shape[1]), dtype=np.bool_)
        for squares, half in zip(self.squares, np.concatenate([every, new]), strict=True):
            some = errors[:, half].reshape(len(errors), -1)
            squares += some @ some.T

    def _choose(self) -> None:
        """Weights of the least error of all that was seen so far, and of the halves of it."""
        self.blends = np.stack([_chosen(each, self.groups) for each in self.squares])

    def _errors(self, clean: FloatArray, stream: int, turn: int) -> FloatArray:
        """(predictions, samples, SNRs x draws): those of three at every width, times the root of dg / draws."""
        means = self._means(clean, stream, turn)
        off = means.transpose(2, 0, 1, 3) - clean[:, self.target, None]
        return np.asarray((off * np.sqrt(np.repeat(self.dg, _DRAWS) / _DRAWS)).reshape(-1, *off.shape[2:]))

    def _means(self, clean: FloatArray, stream: int, turn: int) -> FloatArray:
        """Means (3, samples, groups, SNRs x draws): of the network, its start, and the Gaussian."""
        import torch

        device = self.answers.device
        seen = self.noise.applied(clean, self.seed, (stream, self.number, turn))
        key = (_OWN, stream, self.number, turn, self.target, *self.noise.key)
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


def _chosen(squares: FloatArray, groups: int) -> FloatArray:
    """Blends (groups, predictions) of three predictions at every width and the narrower blend."""
    blends = np.zeros((groups, len(squares)))
    narrower = np.zeros(len(squares))
    narrower[1] = 1.0
    for group in range(groups):
        each = np.concatenate([np.eye(len(squares))[3 * group : 3 * group + 3], narrower[None]])
        narrower = blends[group] = blend_weights(each @ squares @ each.T) @ each
    return blends

"""Posteriors of one level of noise, stacked: network, Gaussian, mixture, and the next narrower stack.

Bits that obey parities have the uniform distribution over all that do in place of the Gaussian.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from estimators.held_out import HeldOut, Sides, in_turn
from estimators.known_noise import KnownNoise
from estimators.noised_posterior import Blur, flipped_cross_entropy
from estimators.posterior_data import Start, Values
from estimators.posterior_mixture import NearSamples
from estimators.posterior_part import Part, spread
from estimators.profile import FloatArray
from estimators.stacking import stacking_weights

__all__ = ["SEEN", "Stack", "held_out_entropies"]

SEEN = 4  # first word of the spawn key of the noise on samples that are averaged over
_WEIGHED, _OWN, _SIDES = 5, 11, 12  # on those that a stack is weighed by, there and on A, and of their halves
_CHUNK = 500  # samples whose posteriors are held together
_DRAWS = 4  # noisy values of A by which a stack is weighed
_WEIGHED_BY, _MORE = 2000, 1.5  # samples that weights begin with, at most; times so many, they are chosen again
_SOME = 4  # one in so many is read by weights of the halves as well
_STACKED = 1.0  # of the range of A: their noise, at most; more would hide which is better
_FEW = 1.5  # effective neighbours, below which the mixture is not looked at: it repeats single samples
_LITTLE, _WORTH = 0.01, 5e-5  # weight of the mixture, and nats that it gains, that are not worth its time

Predictions = tuple[FloatArray, FloatArray, FloatArray]  # (samples, groups, values): network, Gaussian, mixture


def held_out_entropies(
    part: Part, x: NDArray[np.floating], noise: KnownNoise, sizes: Sequence[int], seed: int, mixture: bool = True
) -> HeldOut:
    """Return cross-entropies of A given every B_g of the samples that a part has not seen."""
    if noise.nothing_left or part.answers is None:
        return HeldOut.nothing(len(sizes), len(part.test))
    from estimators.posterior_network import few_threads

    with few_threads():
        start = part.start(noise, sizes)
        near = None
        if mixture and (noise.sigma > 0.0 or noise.flip > 0.0):
            near = NearSamples(x[part.train], part.values, sizes, start.noise, part.units)
        stack = Stack(part, start, seed, near)
        stack.weigh(part.units(x[spread(part.validation, _WEIGHED_BY)]))
        total, moved = np.zeros((len(sizes), len(part.test))), []
        for turn, rows in enumerate(in_turn(len(part.test))):
            total[:, rows], by_halves = stack.entropies(part.units(x[part.test[rows]]), turn)
            moved.append(by_halves)
    return HeldOut(total, np.mean(moved, axis=0))


class Stack:
    """Posteriors of one level, weighed at every width.

    Parameters
    ----------
    part : Part
    start : Start
        Of the level.
    seed : int
    near : NearSamples or None
        None: without the mixture.
    """

    def __init__(self, part: Part, start: Start, seed: int, near: NearSamples | None = None) -> None:
        from estimators.posterior_answers import Levels

        assert part.answers is not None  # noqa: S101
        self.answers, self.values, self.noise, self.seed = part.answers, part.values, start.noise, seed
        self.levels = Levels.of([start], part.answers.device)
        self.near, self.code, self.number = near, part.code, part.number
        self.until = 0 if near is None else near.groups  # the widest group, less one, that the mixture is asked for
        self.weights: list[list[FloatArray]] = []  # by all, and by halves; of every column of A, as of `_chosen`
        self.densities: list[tuple[FloatArray, FloatArray]] = []  # of what was seen of every column of A
        self.chosen_by = 0  # samples
        self.blurs = [_blur(self.noise, each) for each in self.values]
        key = (_SIDES, part.number, *self.noise.key)
        self.sides = Sides(np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key)))

    def weigh(self, clean: FloatArray) -> None:
        """Choose the weights by samples that were held out for that."""
        if self.near is not None:
            few = clean[spread(np.arange(len(clean)), _CHUNK)]
            self.until = self.near.blurred(self.noise.applied(few, self.seed, (_WEIGHED, self.number, 0)), _FEW)
        for turn, begin in enumerate(range(0, len(clean), _CHUNK)):
            some = clean[begin : begin + _CHUNK]
            for target, each in enumerate(self._predictions(some, _WEIGHED, turn)):
                self._learn(target, each, some[:, target], (_WEIGHED, turn))
        self._choose()

    def entropies(self, clean: FloatArray, turn: int) -> tuple[FloatArray, FloatArray]:
        """Cross-entropies (groups, samples), by weights that were chosen without these samples.

        Also by how much their means change by weights of the halves, (halves, groups).  The next ones are chosen by
        these samples as well.
        """
        total, moved = np.zeros((len(self.weights[0][0]), len(clean))), 0.0
        some = slice(None, None, _SOME)
        for target, predictions in enumerate(self._predictions(clean, SEEN, turn)):
            own, blur = clean[:, target], self.blurs[target]
            coarse = predictions if blur is None else _each(blur.coarse, predictions)
            found = self._pooled(self.weights[0][target], coarse, own, target)
            few = _each(lambda each: each[some], coarse)
            halves = [self._pooled(each[target], few, own[some], target) for each in self.weights[1:]]
            total, moved = total + found, moved + (np.stack(halves) - found[:, some]).mean(axis=2)
            self._learn(target, predictions, own, (SEEN, turn))
        if self.sides.count >= _MORE * self.chosen_by:
            self._choose()
        return total, np.asarray(moved)

    def _pooled(self, weights: FloatArray, coarse: Predictions, clean: FloatArray, target: int) -> FloatArray:
        """Cross-entropies of pools (groups, samples)."""
        network, gaussian, mixture = coarse
        values, blur = self.values[target], self.blurs[target]
        share = values.share if blur is None else blur.coarse(values.share)
        stacked = np.empty((len(weights), *gaussian[:, 0].shape))
        # of every pool: a value that no sample had that it was weighed by is possible
        least = 1.0 / (self.chosen_by + 1.0)
        narrower = gaussian[:, 0]
        for group, w in enumerate(weights):
            narrower = w[0] * network[:, group] + w[1] * gaussian[:, group] + w[2] * narrower
            if w[3]:
                narrower += w[3] * mixture[:, group]
            stacked[group] = narrower + least * (share - narrower)
        every = stacked.reshape(-1, stacked.shape[2])
        return self._entropy(every, np.tile(clean, len(weights)), target).reshape(len(weights), -1)

    def _choose(self) -> None:
        """Weights of the highest likelihood of all that was seen so far, and of the halves of it."""
        self.chosen_by = self.sides.count
        self.weights = [[_chosen(p, m) for p, m in self.densities]]
        used = np.any([w[:, 3] > 0.0 for w in self.weights[0]], axis=0)
        self.until = int(np.flatnonzero(used)[-1]) + 1 if used.any() else 0
        for half in self.sides.sides:
            self.weights.append([_chosen(p[:, half], m[:, half, : self.until]) for p, m in self.densities])

    def _entropy(self, coarse: FloatArray, clean: FloatArray, target: int) -> FloatArray:
        values, blur = self.values[target], self.blurs[target]
        if blur is not None:
            return blur.coarse_entropies(coarse, clean)[0]
        if self.noise.flip:
            if len(values.known) == 1:  # its noise alone, whatever is known of the rest
                return np.zeros(len(clean))
            return flipped_cross_entropy(coarse, values.place(clean), self.noise.flip)[0]
        return -np.log(coarse[np.arange(len(clean)), values.place(clean)])

    def _learn(self, target: int, predictions: Predictions, own: FloatArray, key: tuple[int, int]) -> None:
        """Keep the densities of what is seen of a column of A: (draws, n, groups, 2), and of the mixture."""
        spawn_key = (_OWN, key[0], self.number, key[1], target, *self.noise.key)
        rng = np.random.default_rng(np.random.SeedSequence(self.seed, spawn_key=spawn_key))
        values = self.values[target]
        sigma = min(self.noise.sigma, _STACKED * values.range)
        if sigma == 0.0:
            place = values.place(own)
            seen = [each[np.arange(len(own)), :, place][None] for each in predictions]
        else:
            width = np.sqrt(sigma**2 + values.bin_variance)
            quantile = (np.arange(_DRAWS)[:, None] + rng.random((_DRAWS, len(own)))) / _DRAWS
            y = own + sigma * ndtri(quantile)
            kernel = np.exp(-0.5 * ((y[..., None] - values.known) / width) ** 2)
            seen = [np.einsum("ngk,dnk->dng", each, kernel) for each in predictions]
        plain, mixed = np.stack(seen[:2], axis=3), seen[2]
        if target == 0:
            self.sides.add(len(own))
        if target == len(self.densities):
            self.densities.append((plain, mixed))
            return
        before, also = self.densities[target]
        some = min(mixed.shape[2], also.shape[2])
        self.densities[target] = (
            np.concatenate([before, plain], axis=1),
            np.concatenate([also[..., :some], mixed[..., :some]], axis=1),
        )

    def _predictions(self, clean: FloatArray, stream: int, turn: int) -> Iterator[Predictions]:
        """Posteriors of every column of A, (samples, groups, values): network, Gaussian or code, mixture."""
        import torch

        seen = self.noise.applied(clean, self.seed, (stream, self.number, turn))
        noisy = torch.as_tensor(seen, dtype=torch.float32, device=self.answers.device)
        for target, values in enumerate(self.values):
            network, gaussian = self.answers.posteriors(noisy[None], target, self.levels)
            mixture = np.zeros((len(clean), 0, len(values.known)))
            if self.near is not None and self.until:
                mixture = self.near.posterior(seen, target, self.until)[0]
            if self.code is not None and len(values.known) == 2:  # in place of a Gaussian, which bits are not
                exact = self.code.posterior(seen, target, self.noise)
                gaussian = np.where(np.isfinite(exact), exact, gaussian)
            # of a level that could not be trained the network may say nothing
            known = np.isfinite(network[0]).all(axis=2, keepdims=True)
            yield np.where(known, network[0], gaussian[0]), gaussian[0], mixture


def _blur(noise: KnownNoise, values: Values) -> Blur | None:
    """What Gaussian noise makes of the values."""
    if noise.flip or noise.sigma == 0.0:
        return None
    return Blur.of(values.known, 1.0 / (noise.sigma**2 + values.bin_variance))


def _mean_log(density: FloatArray) -> float:
    return float(np.log(np.maximum(density, np.finfo(np.float64).tiny)).mean())


def _each(change: Callable[[FloatArray], FloatArray], predictions: Predictions) -> Predictions:
    network, gaussian, mixture = predictions
    return change(network), change(gaussian), change(mixture)


def _chosen(plain: FloatArray, mixed: FloatArray) -> FloatArray:
    """Weights (groups, 4) of the network, the Gaussian, the next narrower pool, and the mixture.

    By densities (draws, n, groups, 2) of the first two, and those of the mixture (draws, n, some groups).
    """
    plain, mixed = np.concatenate(plain), np.concatenate(mixed)
    weights = np.zeros((plain.shape[1], 4))
    narrower = plain[:, 0, 1]
    for group in range(plain.shape[1]):
        each = np.concatenate([plain[:, group], narrower[:, None]], axis=1)
        weights[group, :3] = stacking_weights(each)
        if group < mixed.shape[1]:
            more = np.concatenate([each, mixed[:, [group]]], axis=1)
            found = stacking_weights(more)
            gain = _mean_log(more @ found) - _mean_log(each @ weights[group, :3])
            if found[3] >= _LITTLE and gain >= _WORTH:
                weights[group], each = found, more
        narrower = each @ weights[group, : each.shape[1]]
    return weights

"""Posteriors of one level of noise, stacked: network, Gaussian, mixture, and the next narrower stack.

Bits that obey parities have the uniform distribution over all that do in place of the Gaussian.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from estimators.known_noise import KnownNoise
from estimators.noised_posterior import cross_entropy, flipped_cross_entropy
from estimators.posterior_data import Start, Values
from estimators.posterior_mixture import NearSamples
from estimators.posterior_part import Part, spread
from estimators.profile import FloatArray
from estimators.stacking import stacking_weights

__all__ = ["CHUNK", "SEEN", "WEIGHED_BY", "Stack", "held_out_entropies"]

CHUNK = 500  # samples whose posteriors are held together
SEEN = 4  # first word of the spawn key of the noise on samples that are averaged over
_WEIGHED, _OWN = 5, 11  # and on those that a stack is weighed by, there and on A
_DRAWS = 4  # noisy values of A by which a stack is weighed
WEIGHED_BY = 2000  # samples at most, for a handful of weights
_STACKED = 0.1  # of the range of A: their noise, at most; more would hide which is better
_FEW = 3.0  # effective neighbours, below which the mixture is not looked at: it repeats single samples
_LITTLE = 0.01  # weight of the mixture that is not worth its time


def held_out_entropies(
    part: Part, x: NDArray[np.floating], noise: KnownNoise, sizes: Sequence[int], seed: int, mixture: bool = True
) -> FloatArray:
    """Return cross-entropies of A given every B_g of the samples that a part has not seen, (groups, samples)."""
    total = np.zeros((len(sizes), len(part.test)))
    if noise.nothing_left or part.answers is None:
        return total
    from estimators.posterior_network import few_threads

    with few_threads():
        start = part.start(noise, sizes)
        near = None
        if mixture and (noise.sigma > 0.0 or noise.flip > 0.0):
            near = NearSamples(part.units(x[part.train]), part.values, sizes, start.noise)
        stack = Stack(part, start, seed, near)
        stack.weigh(part.units(x[spread(part.validation, WEIGHED_BY)]))
        for begin in range(0, len(part.test), CHUNK):
            rows = part.test[begin : begin + CHUNK]
            total[:, begin : begin + len(rows)] = stack.entropies(part.units(x[rows]), begin)
    return total


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
        self.weights: list[FloatArray] = []  # (groups, 4): network, Gaussian, narrower, mixture

    def weigh(self, clean: FloatArray) -> None:
        """Choose the weights by samples that were held out for that."""
        if self.near is not None:
            few = clean[spread(np.arange(len(clean)), CHUNK)]
            self.until = self.near.blurred(self.noise.applied(few, self.seed, (_WEIGHED, self.number, 0)), _FEW)
        chunks = [self._densities(clean[i : i + CHUNK], i) for i in range(0, len(clean), CHUNK)]
        until = 0
        for target in range(len(self.values)):
            plain, mixed = (np.concatenate([c[target][k] for c in chunks], axis=-2) for k in (0, 1))
            weights = np.zeros((plain.shape[2], 4))
            narrower = plain[1, :, 0]
            for group in range(plain.shape[2]):
                each = np.stack([*plain[:, :, group], narrower], axis=1)
                weights[group, :3] = stacking_weights(each)
                if group < mixed.shape[1]:
                    more = np.concatenate([each, mixed[:, [group]]], axis=1)
                    found = stacking_weights(more)
                    if found[3] >= _LITTLE:
                        weights[group], each, until = found, more, max(until, group + 1)
                narrower = each @ weights[group, : each.shape[1]]
            self.weights.append(weights)
        self.until = until

    def entropies(self, clean: FloatArray, begin: int) -> FloatArray:
        """Cross-entropies (groups, samples)."""
        total = np.zeros((len(self.weights[0]), len(clean)))
        for target, (network, gaussian, mixture) in enumerate(self._predictions(clean, SEEN, begin)):
            stacked = gaussian[:, 0]
            found = []
            for group, weights in enumerate(self.weights[target]):
                stacked = weights[0] * network[:, group] + weights[1] * gaussian[:, group] + weights[2] * stacked
                if weights[3]:
                    stacked += weights[3] * mixture[:, group]
                found.append(self._entropy(stacked, clean[:, target], self.values[target]))
            total = total + np.stack(found)
        return total

    def _entropy(self, posterior: FloatArray, clean: FloatArray, values: Values) -> FloatArray:
        if self.noise.flip:
            if len(values.known) == 1:  # its noise alone, whatever is known of the rest
                return np.zeros(len(clean))
            return flipped_cross_entropy(posterior, values.place(clean), self.noise.flip)[0]
        if self.noise.sigma == 0.0:
            return -np.log(posterior[np.arange(len(clean)), values.place(clean)])
        variance = self.noise.sigma**2
        return cross_entropy(posterior, values.known, clean, 1.0 / (variance + values.bin_variance))[0]

    def _densities(self, clean: FloatArray, begin: int) -> list[tuple[FloatArray, FloatArray]]:
        """Of what is seen of each column of A: of network and Gaussian (2, samples, groups), and the mixture."""
        key = (_OWN, self.number, begin, *self.noise.key)
        rng = np.random.default_rng(np.random.SeedSequence(self.seed, spawn_key=key))
        found = []
        for target, (network, gaussian, mixture) in enumerate(self._predictions(clean, _WEIGHED, begin)):
            values = self.values[target]
            own = clean[:, target]
            sigma = min(self.noise.sigma, _STACKED * values.range)
            if sigma == 0.0:
                at = (np.arange(len(own)), slice(None), values.place(own))
                found.append((np.stack([network[at], gaussian[at]]), mixture[at]))
                continue
            width = np.sqrt(sigma**2 + values.bin_variance)
            y = own + sigma * rng.standard_normal((_DRAWS, len(own)))
            kernel = np.exp(-0.5 * ((y[..., None] - values.known) / width) ** 2)
            # draws of one sample stand in a row
            seen = [
                np.einsum("ngk,dnk->ndg", each, kernel).reshape(own.size * _DRAWS, each.shape[1])
                for each in (network, gaussian, mixture)
            ]
            found.append((np.stack(seen[:2]), seen[2]))
        return found

    def _predictions(
        self, clean: FloatArray, stream: int, begin: int
    ) -> Iterator[tuple[FloatArray, FloatArray, FloatArray]]:
        """Posteriors of every column of A, (samples, groups, values): network, Gaussian or code, mixture."""
        import torch

        seen = self.noise.applied(clean, self.seed, (stream, self.number, begin))
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

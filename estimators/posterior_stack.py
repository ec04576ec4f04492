"""Posteriors of one level of noise, stacked: the network, the Gaussian and the next narrower stack."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from estimators.known_noise import KnownNoise
from estimators.noised_posterior import cross_entropy, flipped_cross_entropy
from estimators.posterior_data import Start, Values
from estimators.posterior_part import Part
from estimators.profile import FloatArray
from estimators.stacking import stacking_weights

__all__ = ["CHUNK", "SEEN", "Stack", "held_out_entropies"]

CHUNK = 500  # samples whose posteriors are held together
SEEN = 4  # first word of the spawn key of the noise on samples that are averaged over
_WEIGHED = 5  # and on those that a stack is weighed by
_DRAWS = 4  # noisy values of A by which a stack is weighed
_STACKED = 0.1  # of the range of A: their noise, at most; more would hide which is better


def held_out_entropies(
    part: Part, x: NDArray[np.floating], noise: KnownNoise, sizes: Sequence[int], seed: int
) -> FloatArray:
    """Return cross-entropies of A given every B_g of the samples that a part has not seen, (groups, samples)."""
    total = np.zeros((len(sizes), len(part.test)))
    if noise.nothing_left or part.answers is None:
        return total
    from estimators.posterior_network import few_threads

    with few_threads():
        stack = Stack(part, part.start(noise, sizes), seed)
        stack.weigh(part.units(x[part.validation]))
        for begin in range(0, len(part.test), CHUNK):
            rows = part.test[begin : begin + CHUNK]
            total[:, begin : begin + len(rows)] = stack.entropies(part.units(x[rows]), begin)
    return total


class Stack:
    """Posteriors of one level: the network, the Gaussian and the next narrower stack, weighed at every width."""

    def __init__(self, part: Part, start: Start, seed: int) -> None:
        from estimators.posterior_answers import Levels

        assert part.answers is not None  # noqa: S101
        self.answers, self.values, self.noise, self.seed = part.answers, part.values, start.noise, seed
        self.levels = Levels.of([start], part.answers.device)
        self.weights: list[FloatArray] = []

    def weigh(self, clean: FloatArray) -> None:
        """Choose the weights by samples that were held out for that."""
        chunks = [self._densities(clean[i : i + CHUNK], i) for i in range(0, len(clean), CHUNK)]
        for target in range(len(self.values)):
            density = np.concatenate([chunk[target] for chunk in chunks], axis=1)  # (predictions, samples, groups)
            weights = np.zeros((density.shape[2], 3))
            narrower = density[1, :, 0]
            for group in range(density.shape[2]):
                each = np.stack([*density[:, :, group], narrower], axis=1)
                weights[group] = stacking_weights(each)
                narrower = each @ weights[group]
            self.weights.append(weights)

    def entropies(self, clean: FloatArray, begin: int) -> FloatArray:
        """Cross-entropies (groups, samples)."""
        total = np.zeros((len(self.weights[0]), len(clean)))
        for target, predictions in enumerate(self._predictions(clean, SEEN, begin)):
            weights = self.weights[target]
            stacked = predictions[1][:, 0]
            found = []
            for group in range(len(weights)):
                network, gaussian, narrower = weights[group]
                stacked = (
                    network * predictions[0][:, group] + gaussian * predictions[1][:, group] + narrower * stacked
                )
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

    def _densities(self, clean: FloatArray, begin: int) -> list[FloatArray]:
        """Of what is seen of every column of A under both predictions, (predictions, samples, groups)."""
        rng = np.random.default_rng(np.random.SeedSequence(self.seed, spawn_key=(_WEIGHED, begin, *self.noise.key)))
        found = []
        for target, predictions in enumerate(self._predictions(clean, _WEIGHED, begin)):
            values = self.values[target]
            own = clean[:, target]
            sigma = min(self.noise.sigma, _STACKED * values.range)
            if sigma == 0.0:
                at = values.place(own)
                found.append(np.stack([p[np.arange(len(own)), :, at] for p in predictions]))
                continue
            width = np.sqrt(sigma**2 + values.bin_variance)
            y = own + sigma * rng.standard_normal((_DRAWS, len(own)))
            kernel = np.exp(-0.5 * ((y[..., None] - values.known) / width) ** 2)
            # samples of one image stand in a row
            found.append(
                np.stack([np.einsum("ngk,dnk->ndg", p, kernel).reshape(-1, p.shape[1]) for p in predictions])
            )
        return found

    def _predictions(self, clean: FloatArray, stream: int, begin: int) -> Iterator[tuple[FloatArray, FloatArray]]:
        """Posteriors of every column of A, of the network and of the Gaussian, (samples, groups, values) each."""
        import torch

        noisy = torch.as_tensor(
            self.noise.applied(clean, self.seed, (stream, begin)), dtype=torch.float32, device=self.answers.device
        )
        for target in range(len(self.values)):
            network, gaussian = self.answers.posteriors(noisy[None], target, self.levels)
            yield network[0], gaussian[0]

"""What a posterior network misses on Gaussian data of the same covariance, whose posterior is known exactly.

The same network is trained on as many samples of a Gaussian with the covariance of the data, and read on held-out
ones of them.  With the exact mean m_i and variance V_r of A given B_r, the cross-entropy of the truth itself is

    h_i = 1/2 ln 2 pi (V_r + s^2) + [(x_i - m_i)^2 + s^2] / [2 (V_r + s^2)]

for a sample x_i whose surroundings were seen with the very noise that the network saw: the bias is the mean of
differences, and its error far below that of either.

It is the bias on *Gaussian* data, where the answer begins right; what a network cannot learn it does not show.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from estimators.held_out import in_turn
from estimators.known_noise import KnownNoise
from estimators.posterior_data import gaussian_posteriors
from estimators.posterior_part import Part
from estimators.posterior_stack import SEEN, held_out_entropies
from estimators.profile import FloatArray
from estimators.threads import one_blas_thread

__all__ = ["PosteriorSurrogate", "surrogate_samples"]


def surrogate_samples(x: NDArray[np.floating], rng: np.random.Generator) -> tuple[FloatArray, FloatArray]:
    """Draw as many samples of a Gaussian with the covariance of x, and mean 0; return them and the covariance.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> samples, covariance = surrogate_samples(rng.uniform(size=(2000, 3)), rng)
    >>> samples.shape, bool(np.abs(np.cov(samples.T) - covariance).max() < 0.02)
    ((2000, 3), True)
    """
    with one_blas_thread():
        centred = x - x.mean(axis=0, dtype=np.float64)
        covariance = centred.T @ centred / len(x)
        del centred
        eigenvalues, vectors = np.linalg.eigh(covariance)
        root = vectors * np.sqrt(np.maximum(eigenvalues, 0.0))
        return rng.standard_normal(x.shape) @ root.T, covariance


@dataclass(frozen=True, slots=True, eq=False)
class PosteriorSurrogate:
    """A network on surrogates.

    Parameters
    ----------
    part : Part
        Its rows are those of `x`.
    x : (held out, d) array
        Samples to choose by and to be averaged over.
    covariance : (d, d) array
        Of what they were drawn from.
    """

    part: Part
    x: FloatArray
    covariance: FloatArray

    @classmethod
    def of(cls, part: Part, x: FloatArray, covariance: FloatArray) -> PosteriorSurrogate:
        """Keep of the samples what is needed once the network is trained."""
        first = len(part.validation)
        kept = x[np.concatenate([part.validation, part.test])]
        part.validation, part.test = np.arange(first), np.arange(first, len(kept))
        return cls(part, kept, covariance)

    def differences(self, noise: KnownNoise, sizes: Sequence[int], seed: int) -> tuple[FloatArray, FloatArray]:
        """Return what is read less what is true of every sample, (cuts, samples), and the true CMI (cuts,).

        Without noise they are NaN: what is read is the CMI of bins.
        """
        cuts, many = len(sizes) - 2, len(self.part.test)
        if noise.nothing_left or self.part.answers is None:
            return np.zeros((cuts, many)), np.zeros(cuts)
        if noise.sigma == 0.0:
            return np.full((cuts, many), np.nan), np.full(cuts, np.nan)
        # without the mixture, which would need all of the samples, and adds nothing to a Gaussian that is right
        read = held_out_entropies(self.part, self.x, noise, sizes, seed, mixture=False).losses
        true = np.zeros_like(read)
        own = noise.scaled(self.part.unit)
        middle = -self.part.own_mean / self.part.unit  # of what was drawn, where the network's units begin
        with one_blas_thread():
            start = gaussian_posteriors(self.covariance / self.part.unit**2, middle, sizes, own, least=0.0)
            variance = start.variance + own.sigma**2
            for turn, rows in enumerate(in_turn(many)):
                clean = self.part.units(self.x[self.part.test[rows]])
                noisy = own.applied(clean, seed, (SEEN, self.part.number, turn)) - middle
                for target in range(sizes[0]):
                    v = variance[target][:, None]
                    off = clean[:, target] - middle[target] - start.weights[target] @ noisy.T
                    true[:, rows] += 0.5 * (np.log(2.0 * np.pi * v) + (off**2 + own.sigma**2) / v)
        differences = (read[1:-1] - read[-1]) - (true[1:-1] - true[-1])
        cmi = 0.5 * np.log(variance[:, 1:-1] / variance[:, -1:]).sum(axis=0)
        return differences, cmi

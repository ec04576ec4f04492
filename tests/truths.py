"""Gaussian and discrete models with known CMI, and samples of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from naive import gaussian_cmi, parts
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Gaussian:
    """A centred Gaussian, columns in the order A, S_1, ..., S_m."""

    covariance: FloatArray
    sizes: tuple[int, ...]

    def sample(self, n: int, seed: int) -> FloatArray:
        rng = np.random.default_rng(seed)
        return np.asarray(rng.standard_normal((n, len(self.covariance))) @ np.linalg.cholesky(self.covariance).T)

    def cmi(self, snr: float = np.inf) -> FloatArray:
        noisy = self.covariance + np.eye(len(self.covariance)) / snr
        return np.array([gaussian_cmi(noisy, self.sizes, cut) for cut in range(1, len(self.sizes) - 1)])


def chain(radius: int, rings: Sequence[int], a: float = 0.9) -> Gaussian:
    """AR(1) chain, A its centre, the shells rings on both sides: ``rings`` are their outer distances."""
    places = np.arange(-radius, radius + 1)
    order = [0]
    sizes = [1]
    low = 0
    for high in [*rings, radius]:
        ring = [int(p) for p in places if low < abs(p) <= high]
        order += ring
        sizes.append(len(ring))
        low = high
    position = np.array(order)
    return Gaussian(a ** np.abs(position[:, None] - position[None, :]), tuple(sizes))


def random_gaussian(dims: int, sizes: tuple[int, ...], seed: int) -> Gaussian:
    """Covariance W W^T/dims + 0.1 with W standard normal, in mixed units."""
    rng = np.random.default_rng(seed)
    w = rng.standard_normal((dims, dims))
    return Gaussian(w @ w.T / dims + 0.1 * np.eye(dims), sizes)


@dataclass(frozen=True, eq=False)
class Discrete:
    """All joint states (K, d), columns in the order A, S_1, ..., S_m, with their probabilities (K,)."""

    states: FloatArray
    probability: FloatArray
    sizes: tuple[int, ...]

    def sample(self, n: int, seed: int) -> FloatArray:
        rng = np.random.default_rng(seed)
        return self.states[rng.choice(len(self.states), n, p=self.probability)]

    def cmi(self) -> FloatArray:
        return np.array([self._cmi(cut) for cut in range(1, len(self.sizes) - 1)])

    def _cmi(self, cut: int) -> float:
        a, b, c = parts(self.states, self.sizes, cut)
        ab, bc = np.hstack([a, b]), np.hstack([b, c])
        return self._entropy(ab) + self._entropy(bc) - self._entropy(b) - self._entropy(self.states)

    def _entropy(self, columns: FloatArray) -> float:
        masses: dict[tuple[float, ...], float] = {}
        for row, p in zip(map(tuple, columns.tolist()), self.probability.tolist(), strict=True):
            masses[row] = masses.get(row, 0.0) + p
        return -sum(p * float(np.log(p)) for p in masses.values() if p > 0.0)


def letters(q: int, sizes: tuple[int, ...], *, stay: float, noise: float = 0.0) -> Discrete:
    """Markov chain of q letters that keeps its letter with probability stay, a share of them seen as any letter."""
    step = np.full((q, q), (1.0 - stay) / (q - 1)) + (stay - (1.0 - stay) / (q - 1)) * np.eye(q)
    seen = np.full((q, q), noise / q) + (1.0 - noise) * np.eye(q)
    states = np.array(list(product(range(q), repeat=sum(sizes))))
    forward = seen[:, states[:, 0]].T / q
    for column in states.T[1:]:
        forward = (forward @ step) * seen[:, column].T
    p = forward.sum(axis=1)
    return Discrete(states.astype(np.float64), p / p.sum(), sizes)


def xor(flip: float) -> Discrete:
    """A is B xor C, but for a share of flips."""
    states = np.array(list(product((0, 1), repeat=3)))
    wrong = states[:, 0] != (states[:, 1] ^ states[:, 2])
    return Discrete(states.astype(np.float64), np.where(wrong, flip, 1.0 - flip) / 4.0, (1, 1, 1))


def two_states(snr: float) -> float:
    """Information on a fair sign seen through noise: snr - E log cosh(snr + sqrt(snr) z), z standard normal."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(120)
    y = snr + np.sqrt(snr) * nodes
    log_cosh = np.logaddexp(y, -y) - np.log(2.0)
    return snr - float(weights @ log_cosh) / float(np.sqrt(2.0 * np.pi))


@dataclass(frozen=True, eq=False)
class Cat:
    """Every column the same fair sign plus noise of its own, of one signal-to-noise ratio: two states."""

    sizes: tuple[int, ...]
    snr: float

    def sample(self, n: int, seed: int) -> FloatArray:
        rng = np.random.default_rng(seed)
        sign = rng.choice([-1.0, 1.0], size=(n, 1))
        return np.asarray(np.sqrt(self.snr) * sign + rng.standard_normal((n, sum(self.sizes))))

    def cmi(self) -> FloatArray:
        """What k columns tell of the sign depends on their sum alone, of signal-to-noise ratio k snr."""
        total = sum(self.sizes)
        result = []
        for cut in range(1, len(self.sizes) - 1):
            a, ab = self.sizes[0], sum(self.sizes[: cut + 1])
            terms = (two_states(k * self.snr) for k in (ab, total - a, ab - a, total))
            result.append(next(terms) + next(terms) - next(terms) - next(terms))
        return np.array(result)

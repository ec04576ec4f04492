"""Hidden Markov chain: a one-dimensional Ising chain of bits seen through a binary symmetric channel.

The clean chain is Markov, and one site cuts it. Seen through noise it is not: what lies beyond the buffer still
tells about the hidden bits in it. Strings y of up to 17 sites are enumerated, and the CMI is exact; of longer ones
it is the mean of

    ln P(y_A, y_B, y_C) + ln P(y_B) - ln P(y_A, y_B) - ln P(y_B, y_C)

over sampled strings, each probability exact by the forward algorithm, in which a site that is not seen is summed
over.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from cmi.checks import whole_number
from cmi.exact.model import Exact, ExactModel

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]

__all__ = ["HiddenMarkovChain"]

_ENUMERATED = 17  # sites of which all strings are looked at: 2^17 of them take a tenth of a second
_SAMPLES = 20_000  # strings otherwise
_NODES = 128  # of the functions of what is known of a bit; 64 give ten digits


@dataclass(frozen=True, eq=False)
class HiddenMarkovChain(ExactModel):
    """L bits, neighbours different with probability `flip`, each seen flipped with probability p = t / 2.

    There is no transition: the chain has a finite correlation length, and noise lets the Markov length grow up to
    about that.

    Parameters
    ----------
    L : int
        Sites; up to 17 the CMI is exact, beyond it is sampled, with its error.
    flip : float
        In (0, 1/2); the Ising chain's (1 - tanh K) / 2.
    seed : int
        Of the sampled strings.

    Examples
    --------
    >>> chain = HiddenMarkovChain(L=9, flip=0.2)
    >>> chain.cmi(0.0, 1).value < 1e-12, chain.cmi(0.2, 1).value > chain.cmi(0.2, 2).value > 0.0
    (True, True)
    """

    name: ClassVar[str] = "hidden-markov"
    noise: ClassVar[str] = "flip"
    rounding: ClassVar[float] = 1e-14
    L: int = 17
    flip: float = 0.2
    seed: int = 0

    def __post_init__(self) -> None:
        whole_number(self.L, "L", least=3)
        if not 0.0 < self.flip < 0.5:
            raise ValueError(f"neighbours differ with a probability between 0 and 1/2, got {self.flip}")

    @property
    def shape(self) -> tuple[int, ...]:
        """(L,)."""
        return (self.L,)

    @property
    def critical_level(self) -> float | None:
        """None: the Markov length is finite at every noise level."""
        return None

    def sample(self, n: int, seed: int) -> FloatArray:
        """Draw n clean samples, (n, L), of 0 and 1."""
        rng = np.random.default_rng(seed)
        steps = rng.random((whole_number(n, "n", least=1), self.L)) < self.flip
        steps[:, 0] = rng.random(n) < 0.5
        return (np.cumsum(steps, axis=1) % 2).astype(np.float64)

    def cmi(self, level: float, r: int) -> Exact:
        """I(A:C|B_r) in nats: exact for up to 17 sites, else with its standard error."""
        self.schedule().alpha(level)  # raises outside [0, 1]
        p = 0.5 * float(level)
        regions = self.partition([r])
        seen = np.zeros((4, self.L), dtype=np.bool_)  # A and B and C, B, A and B, B and C
        for row, parts in enumerate(("ABC", "B", "AB", "BC")):
            for part, columns in (("A", regions.A), ("B", regions.B(r)), ("C", regions.C(r))):
                seen[row, columns] = part in parts
        signs = np.array([1.0, 1.0, -1.0, -1.0])
        if self.L <= _ENUMERATED:
            joint = _joint(self.L, self.flip, p)
            return Exact(float(signs @ [-_entropy(joint, sites) for sites in seen]))
        key = np.float64(level).view(np.uint64)
        rng = np.random.default_rng(
            np.random.SeedSequence(self.seed, spawn_key=(int(key) >> 32, int(key) & 0xFFFFFFFF))
        )
        hidden = self.sample(_SAMPLES, int(rng.integers(2**63)))
        strings = hidden.astype(np.int64) ^ (rng.random(hidden.shape) < p)
        local = signs @ np.array([_log_probability(strings, sites, self.flip, p) for sites in seen])
        return Exact(float(local.mean()), float(local.std(ddof=1) / np.sqrt(_SAMPLES)))

    def markov_length(self, level: float) -> float:
        """Return the xi of r to infinity in an endless chain, to about ten digits.

        What is known of the bit at a site, m = P(1) - P(0) given all on its left, goes on to the next site as
        m' = (theta m + e y) / (1 + e y theta m), theta = 1 - 2 flip and e = 1 - 2 p, if y = +-1 is seen there,
        which has the probability (1 + e y theta m) / 2. Knowing A or not is a small difference in m, which shrinks
        by dm'/dm at each site; what C can tell of it is its square. So xi = -1 / ln Lambda with Lambda the largest
        eigenvalue of

            (T f)(m) = sum_y P(y | m) (dm'/dm)^2 f(m'),

        found on Chebyshev nodes.

        Examples
        --------
        >>> chain = HiddenMarkovChain(flip=0.2)
        >>> [round(chain.markov_length(t), 4) for t in (0.3, 0.7, 1.0)]
        [0.493, 0.8396, 0.9788]
        """
        e = float(self.schedule().alpha(level))
        if e == 1.0:
            return 0.0  # the clean chain is Markov
        theta = 1.0 - 2.0 * self.flip
        k = np.arange(_NODES)
        m = np.cos(np.pi * (k + 0.5) / _NODES)
        to_polynomial = np.linalg.inv(np.cos(k * np.arccos(m)[:, None]))
        step = np.zeros((_NODES, _NODES))
        for y in (-1.0, 1.0):
            seen = 1.0 + e * y * theta * m
            shrinks = theta * (1.0 - e * e) / seen**2
            moved = np.cos(k * np.arccos((theta * m + e * y) / seen)[:, None])
            step += (0.5 * seen * shrinks**2)[:, None] * (moved @ to_polynomial)
        return float(-1.0 / np.log(np.abs(np.linalg.eigvals(step)).max()))


def _channel(flip: float) -> FloatArray:
    return np.array([[1.0 - flip, flip], [flip, 1.0 - flip]])


@lru_cache(maxsize=8)
def _joint(n: int, flip: float, p: float) -> FloatArray:
    """P(y) of all strings y, shape (2,) * n."""
    step, seen = _channel(flip), _channel(p)
    forward = 0.5 * seen.T  # rows: y_1; columns: x_1
    for _ in range(n - 1):
        moved = forward @ step
        forward = (moved[:, None, :] * seen.T[None, :, :]).reshape(-1, 2)
    return np.asarray(forward.sum(axis=1)).reshape(n * (2,))


def _entropy(joint: FloatArray, sites: BoolArray) -> float:
    marginal = joint.sum(axis=tuple(np.flatnonzero(~sites).tolist()))
    positive = marginal[marginal > 0.0]
    return float(-(positive * np.log(positive)).sum())


def _log_probability(strings: IntArray, sites: BoolArray, flip: float, p: float) -> FloatArray:
    """Log P of each string (n,) at the sites that are seen."""
    step, seen = _channel(flip), _channel(p)
    forward = np.full((len(strings), 2), 0.5)
    total = np.zeros(len(strings))
    for site, known in enumerate(sites):
        if site:
            forward = forward @ step
        if known:
            forward = forward * seen[strings[:, site]]
            norm = forward.sum(axis=1)
            total += np.log(norm)
            forward /= norm[:, None]
    return total

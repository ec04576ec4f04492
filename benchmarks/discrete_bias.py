"""Bias, root mean square error and claimed error of the corrections for discrete data, on models of known CMI.

    python benchmarks/discrete_bias.py [--runs 400] [--shares]

One line per model and n, the models enumerated state by state.  `K/n` is the number of joint states that occur over
that of the samples; `ratio` is claimed error / spread over seeds, 1 is honest, below 1 too sure; `cover` is the
share of 95 % intervals that hold the truth.  Sets of samples that tell nothing (NaN) are left out.

With --shares: models with dependence at many n, in the order of K/n, and the bias in units of the CMI and of the
spread, which is where the notes about too many states come from.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from itertools import product
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from estimators import discrete_profile
from estimators.discrete import Correction

FloatArray = NDArray[np.float64]
CORRECTIONS: tuple[Correction, ...] = get_args(Correction)


@dataclass(frozen=True, eq=False)
class Model:
    """Joint states, their probabilities and their columns: A, B, C."""

    states: FloatArray
    probability: FloatArray
    sizes: tuple[int, int, int]

    def sample(self, n: int, seed: int) -> FloatArray:
        """Draw n independent samples."""
        return self.states[np.random.default_rng(seed).choice(len(self.states), n, p=self.probability)]

    def cmi(self) -> float:
        """I(A:C|B), from the probabilities."""
        a, b, d = self.sizes[0], sum(self.sizes[:2]), sum(self.sizes)

        def entropy(part: slice) -> float:
            if part.start == part.stop:
                return 0.0
            _, state = np.unique(self.states[:, part], axis=0, return_inverse=True)
            p = np.bincount(state.ravel(), weights=self.probability)
            return -float(np.sum(p[p > 0.0] * np.log(p[p > 0.0])))

        return entropy(slice(0, b)) + entropy(slice(a, d)) - entropy(slice(a, b)) - entropy(slice(0, d))


def chain(letters: int, sizes: tuple[int, int, int], *, stay: float, noise: float = 0.0) -> Model:
    """Chain A, B, C that keeps its letter with probability stay, seen with a share of the letters drawn anew."""
    step = np.full((letters, letters), (1.0 - stay) / (letters - 1))
    np.fill_diagonal(step, stay)
    seen = np.full((letters, letters), noise / letters) + (1.0 - noise) * np.eye(letters)
    states = np.array(list(product(range(letters), repeat=sum(sizes))))
    forward = seen[:, states[:, 0]].T / letters
    for column in states.T[1:]:
        forward = (forward @ step) * seen[:, column].T
    p = forward.sum(axis=1)
    return Model(states.astype(np.float64), p / p.sum(), sizes)


def xor(flip: float) -> Model:
    """A is B xor C, but for a share of flips."""
    states = np.array(list(product((0, 1), repeat=3)))
    wrong = states[:, 0] != (states[:, 1] ^ states[:, 2])
    return Model(states.astype(np.float64), np.where(wrong, flip, 1.0 - flip) / 4.0, (1, 1, 1))


def ising(coupling: float, rows: int, columns: int, b: int) -> Model:
    """Open Ising lattice, A the spin in its middle, B the next b, C the rest."""
    spins = np.array(list(product((-1.0, 1.0), repeat=rows * columns)))
    lattice = spins.reshape(-1, rows, columns)
    bonds = (lattice[:, 1:] * lattice[:, :-1]).sum(axis=(1, 2))
    bonds += (lattice[:, :, 1:] * lattice[:, :, :-1]).sum(axis=(1, 2))
    p = np.exp(coupling * bonds)
    i, j = np.divmod(np.arange(rows * columns), columns)
    order = np.argsort((i - rows // 2) ** 2 + (j - columns // 2) ** 2, kind="stable")
    return Model(spins[:, order], p / p.sum(), (1, b, rows * columns - 1 - b))


def models() -> dict[str, Model]:
    """What is measured, by name."""
    return {
        "2 letters, independent": chain(2, (1, 1, 1), stay=0.5),
        "2 letters, chain 0.8": chain(2, (1, 1, 1), stay=0.8),
        "2 letters, chain 0.9": chain(2, (1, 2, 3), stay=0.9),
        "4 letters, chain 0.7": chain(4, (1, 1, 1), stay=0.7),
        "8 letters, independent": chain(8, (1, 1, 1), stay=0.125),
        "Ising 3x3, all around": ising(0.4, 3, 3, 4),
        "2 letters, noisy chain": chain(2, (1, 1, 1), stay=0.9, noise=0.2),
        "2 letters, noisy chain ": chain(2, (1, 2, 3), stay=0.9, noise=0.2),
        "2 letters, noisy chain  ": chain(2, (1, 4, 5), stay=0.9, noise=0.2),
        "4 letters, noisy chain": chain(4, (1, 1, 2), stay=0.8, noise=0.2),
        "4 letters, noisy chain ": chain(4, (1, 2, 2), stay=0.8, noise=0.2),
        "XOR, 10 % flipped": xor(0.1),
        "8 letters, chain 0.5": chain(8, (1, 0, 1), stay=0.5),
        "8 letters, chain 0.9": chain(8, (1, 0, 1), stay=0.9),
        "Ising 3x3, no buffer": ising(0.4, 3, 3, 0),
        "XOR": xor(0.0),
        "8 letters, equal": chain(8, (1, 0, 1), stay=1.0),
    }


def table(runs: int) -> None:
    """Print bias, rms, ratio and coverage by model, n and correction."""
    print(f"bias / rms (ratio, cover) in nats, {runs} seeds")
    print(f"{'model':26}{'sizes':>10}{'n':>6}{'truth':>8}{'K/n':>6}  " + "".join(f"{c:>32}" for c in CORRECTIONS))
    for name, model in models().items():
        truth = model.cmi()
        for n in (50, 200, 1000, 5000):
            samples = [model.sample(n, seed) for seed in range(runs)]
            share = np.mean([len(np.unique(x, axis=0)) for x in samples]) / n
            line = f"{name:26}{model.sizes!s:>10}{n:6}{truth:8.4f}{share:6.2f}  "
            for correction in CORRECTIONS:
                results = [discrete_profile(x, model.sizes, correction=correction) for x in samples]
                results = [r for r in results if np.isfinite(r.value[0])]
                value = np.array([r.value[0] for r in results])
                error = np.sqrt([r.covariance()[0, 0] for r in results])
                ratio = np.sqrt(np.mean(error**2)) / value.std(ddof=1)
                # 1e-12: where every sample set gives the same number, rounding decides
                cover = np.mean(np.abs(value - truth) < 1.96 * error + 1e-12)
                rms = np.sqrt(np.mean((value - truth) ** 2))
                line += f"{value.mean() - truth:+10.4f} /{rms:7.4f} ({ratio:4.2f}, {cover:4.2f})"
            print(line, flush=True)


def shares(runs: int) -> None:
    """Print what is left of the bias in the order of K/n."""
    dependent = {name: model for name, model in models().items() if model.cmi() > 1e-6 and "equal" not in name}
    dependent["Ising 3x4, part of the buffer"] = ising(0.4, 3, 4, 3)
    dependent["Ising 3x4, no buffer"] = ising(0.4, 3, 4, 0)
    dependent["Ising 3x5, part of the buffer"] = ising(0.3, 3, 5, 3)
    lines = []
    for name, model in dependent.items():
        truth = model.cmi()
        for n in 125 * 2 ** np.arange(10):
            samples = [model.sample(int(n), seed) for seed in range(runs)]
            share = np.mean([len(np.unique(x, axis=0)) for x in samples]) / n
            line = f"{share:6.3f} {name:30}{model.sizes!s:>10}{n:6}{truth:8.4f}  "
            for correction in CORRECTIONS:
                value = np.array(
                    [discrete_profile(x, model.sizes, correction=correction).value[0] for x in samples]
                )
                value = value[np.isfinite(value)]
                bias = value.mean() - truth
                line += f"{bias:+10.4f} {bias / truth:+8.1%} {bias / value.std(ddof=1):+6.2f}"
            lines.append((share, line))
    print(f"bias in nats, over the CMI, over the spread; {runs} seeds")
    print(f"{'K/n':>6} {'model':30}{'sizes':>10}{'n':>6}{'truth':>8}  " + "".join(f"{c:>26}" for c in CORRECTIONS))
    for _, line in sorted(lines):
        print(line)


def main() -> None:
    """Print one of the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--runs", type=int, default=400)
    parser.add_argument("--shares", action="store_true")
    arguments = parser.parse_args()
    (shares if arguments.shares else table)(arguments.runs)


if __name__ == "__main__":
    main()

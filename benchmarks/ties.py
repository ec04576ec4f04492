"""Bias of the forms for tied data on independent data, where the CMI is 0, by kind of ties.

python benchmarks/ties.py [--runs 100]
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from estimators import ksg_profile
from estimators.ksg import Ties

FloatArray = NDArray[np.float64]
N = 1000


def kinds() -> dict[str, Callable[[FloatArray], FloatArray]]:
    """Ways to put ties into independent normal columns, A first."""

    def a_only(change: Callable[[FloatArray], FloatArray]) -> Callable[[FloatArray], FloatArray]:
        return lambda x: np.hstack([change(x[:, :1]), x[:, 1:]])

    return {
        "A with 10 % zeros": a_only(lambda a: np.where(a < -1.28, 0.0, a)),
        "A of two values": a_only(np.sign),
        "half zeros": lambda x: np.maximum(x, 0.0),
        "four in five zeros": lambda x: np.maximum(x - 0.8, 0.0),
        "rounded to 0.1": lambda x: np.round(x, 1),
    }


def main() -> None:
    """Print mean and error over seeds for every kind and form."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--runs", type=int, default=100)
    runs = parser.parse_args().runs
    forms: tuple[Ties, ...] = ("auto", "continuous", "mixed")
    print(f"n = {N}, k = 5, {runs} seeds; mean estimate of a CMI of 0, nats")
    for sizes in ((1, 1, 1), (1, 2, 2)):
        for kind, change in kinds().items():
            for ties in forms:
                values = [
                    ksg_profile(
                        change(np.random.default_rng(seed).standard_normal((N, sum(sizes)))),
                        sizes,
                        ties=ties,
                        surrogates=0,
                    ).value[0]
                    for seed in range(runs)
                ]
                error = np.std(values, ddof=1) / np.sqrt(runs)
                print(f"{sizes!s:10} {kind:20} {ties:11} {np.mean(values):+.4f} +- {error:.4f}")


if __name__ == "__main__":
    main()

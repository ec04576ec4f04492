"""Claimed standard errors against the spread over seeds, and the bias, by method and model.

    python benchmarks/standard_errors.py [--runs 200]

`ratio` is claimed / true: 1 is honest, below 1 too sure.  The last column is what `ksg` multiplies the variance
of independent summands with, measured: `estimators.ksg` uses 1 + 0.3 k^0.37.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from estimators import Profile, copula_profile, gaussian_profile, ksg_profile

FloatArray = NDArray[np.float64]


def models() -> dict[str, tuple[FloatArray, tuple[int, ...]]]:
    """Covariances with the columns A, B, C and their layout."""
    three = np.array([[2.0, 1.0, 1.5], [1.0, 1.0, 1.0], [1.5, 1.0, 2.25]])
    i = np.arange(26)
    chain = 0.9 ** np.abs(i[:, None] - i[None, :])
    strong = np.eye(10)
    strong[0, 9] = strong[9, 0] = np.sqrt(1.0 - np.exp(-2.0))  # a CMI of 1 beside columns of noise
    return {
        "independent (1,0,1)": (np.eye(2), (1, 0, 1)),
        "rho 0.9 (1,0,1)": (np.array([[1.0, 0.9], [0.9, 1.0]]), (1, 0, 1)),
        "shared (1,1,1)": (three, (1, 1, 1)),
        "1 nat (1,3,1)": (strong[np.ix_([0, 1, 2, 3, 9], [0, 1, 2, 3, 9])], (1, 3, 1)),
        "1 nat (1,8,1)": (strong, (1, 8, 1)),
        "chain (1,1,24)": (chain, (1, 1, 24)),
        "chain (1,0,25)": (chain, (1, 0, 25)),
    }


def truth(covariance: FloatArray, sizes: tuple[int, ...]) -> float:
    """CMI of the Gaussian."""
    a, ab = sizes[0], sizes[0] + sizes[1]

    def log_det(part: slice) -> float:
        block = covariance[part, part]
        return float(np.linalg.slogdet(block)[1]) if len(block) else 0.0

    return 0.5 * (log_det(slice(ab)) + log_det(slice(a, None)) - log_det(slice(a, ab)) - log_det(slice(None)))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--samples", type=int, default=1000)
    asked = parser.parse_args()
    runs, n = asked.runs, asked.samples
    estimators: dict[str, Callable[..., Profile]] = {"gaussian": gaussian_profile, "copula": copula_profile}
    for k in (1, 3, 5, 10, 30):
        estimators[f"ksg k={k}"] = lambda x, sizes, k=k: ksg_profile(x, sizes, k=k, surrogates=0)
    estimators["ksg k=5 mixed"] = lambda x, sizes: ksg_profile(x, sizes, ties="mixed", surrogates=0)
    print(f"n = {n}, {runs} seeds")
    print(
        f"{'model':22} {'method':14} {'truth':>7} {'bias':>8} {'spread':>8} {'claimed':>8} {'ratio':>6} "
        f"{'factor':>7}"
    )
    for name, (covariance, sizes) in models().items():
        root = np.linalg.cholesky(covariance)
        exact = truth(covariance, sizes)
        for method, estimator in estimators.items():
            results = [
                estimator(np.random.default_rng(s).standard_normal((n, len(root))) @ root.T, sizes)
                for s in range(runs)
            ]
            value = np.array([r.value[0] for r in results])
            claimed = np.sqrt(np.mean([r.covariance()[0, 0] for r in results]))
            naive = np.mean([r.local[0].var(ddof=1) / n for r in results])
            spread = value.std(ddof=1)
            print(
                f"{name:22} {method:14} {exact:7.3f} {value.mean() - exact:+8.4f} {spread:8.4f} {claimed:8.4f} "
                f"{claimed / spread:6.2f} {spread**2 / naive:7.2f}"
            )


if __name__ == "__main__":
    main()

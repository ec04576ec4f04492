"""p-values of local permutations: how often they are small where the CMI is 0, and where it is not.

In every model A and C are noisy functions of B, and the CMI is 0 or, with a link, not.  A p-value is right if it is
at most 0.05 in 5 % of the data sets of CMI 0.  "textbook" is the share of permutations that reach the estimate,
"allowed for" what the package gives, with its allowance for neighbours that are too far apart.
"""

from __future__ import annotations

import argparse

import numpy as np
from numpy.typing import NDArray

from estimators import ksg_profile

FloatArray = NDArray[np.float64]

MODELS = {
    "one column, noise 1": (1, "linear", 1.0, 0.0),
    "one column, noise 0.3": (1, "linear", 0.3, 0.0),
    "squares, noise 0.5": (1, "square", 0.5, 0.0),
    "squares, noise 0.1": (1, "square", 0.1, 0.0),
    "two states, noise 1": (1, "state", 1.0, 0.0),
    "three columns, noise 1": (3, "linear", 1.0, 0.0),
    "three columns, noise 0.3": (3, "linear", 0.3, 0.0),
    "eight columns, noise 1": (8, "linear", 1.0, 0.0),
    "eight columns, noise 0.3": (8, "linear", 0.3, 0.0),
    "one column, link 0.3": (1, "linear", 1.0, 0.3),
    "two states, link 0.3": (1, "state", 1.0, 0.3),
    "three columns, link 0.3": (3, "linear", 1.0, 0.3),
    "eight columns, link 0.4": (8, "linear", 1.0, 0.4),
}


def draw(columns: int, form: str, noise: float, link: float, n: int, seed: int) -> FloatArray:
    """Samples with the columns A, B, C."""
    rng = np.random.default_rng(seed)
    b = rng.standard_normal((n, columns))
    if form == "state":
        b = np.sign(b)
    mean = b.sum(axis=1) / np.sqrt(columns)
    if form == "square":
        mean = mean**2
    e, f = noise * rng.standard_normal((2, n))
    return np.column_stack([mean + e, b, mean + f + link * e])


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seeds", type=int, default=100)
    parser.add_argument("--samples", type=int, default=300)
    parser.add_argument("--permutations", type=int, default=39)
    parser.add_argument("--neighbours", type=int, default=3)
    options = parser.parse_args()
    print(
        f"n = {options.samples}, {options.seeds} seeds, {options.permutations} permutations among "
        f"{options.neighbours} neighbours; rates of p <= 0.05 in %, their errors up to "
        f"{50 / np.sqrt(options.seeds):.0f}"
    )
    print(f"{'model':26} {'textbook':>9} {'allowed for':>12} {'estimate':>9} {'floor':>8} {'gap':>8} {'said':>6}")
    for name, model in MODELS.items():
        rows = []
        for seed in range(options.seeds):
            profile = ksg_profile(
                draw(*model, options.samples, seed),
                (1, model[0], 1),
                n_permutations=options.permutations,
                permutation_neighbours=options.neighbours,
                seed=seed,
            )
            null = profile.null
            assert null is not None
            assert null.gap is not None
            textbook = (1 + (null.values >= profile.value[:, None]).sum()) / (1 + options.permutations)
            rows.append(
                (
                    textbook <= 0.05,
                    null.p_value[0] <= 0.05,
                    profile.value[0],
                    null.mean[0],
                    null.gap[0],
                    null.too_low[0],
                )
            )
        share = np.mean(rows, axis=0)
        print(
            f"{name:26} {100 * share[0]:9.0f} {100 * share[1]:12.0f} {share[2]:9.3f} {share[3]:8.3f} "
            f"{share[4]:8.3f} {100 * share[5]:5.0f}%",
            flush=True,
        )


if __name__ == "__main__":
    main()

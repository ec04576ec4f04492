"""Finite-sample bias of the Gaussian estimate, plug-in and corrected, against closed forms and on real images.

    python benchmarks/gaussian_bias.py [path/to/train-images-idx3-ubyte.gz]

Without a file: a chain of d pixels, true CMI known, mean over seeds.  With one: sets of n images of MNIST
against all 60,000, whose own bias is small.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from cmi import Partition, open_dataset, phase_scan
from estimators import gaussian_profile


def chain_table(runs: int, *, blank: float) -> None:
    """Print bias by d, n and SNR, for A the centre of an AR(1) chain and B of width 2.

    A share of the samples may be blank, the others brighter, at the same covariance: then the data are far from
    Gaussian, and the truth is still the CMI of that covariance.
    """
    kind = f", {blank:.0%} of the samples blank" if blank else ""
    print(f"chain of d pixels{kind}; B of width 2, mean over seeds of (estimate - truth), nats")
    print(f"{'d':>4} {'n':>6} {'SNR':>7} {'truth':>8} {'plug-in':>9} {'corrected':>10} {'+-':>8} {'spread':>8}")
    for d, n in ((21, 60), (21, 1000), (65, 100), (65, 1000), (201, 120), (201, 1000)):
        i = np.arange(d)
        covariance = 0.9 ** np.abs(i[:, None] - i[None, :])
        partition = Partition.centered((d,), widths=[2])
        order = partition.columns
        a, ab = 1, 1 + partition.sizes[1]
        root = np.linalg.cholesky(covariance)
        for snr in (np.inf, 100.0, 10.0, 1.0):
            noisy = (covariance + np.eye(d) / snr)[np.ix_(order, order)]

            def log_det(part: slice, noisy: np.ndarray = noisy) -> float:
                return float(np.linalg.slogdet(noisy[part, part])[1])

            truth = 0.5 * (
                log_det(slice(ab)) + log_det(slice(a, None)) - log_det(slice(a, ab)) - log_det(slice(None))
            )

            def draw(
                seed: int, shape: tuple[int, int] = (n, d), root: np.ndarray = root, order: np.ndarray = order
            ) -> np.ndarray:
                rng = np.random.default_rng(seed)
                bright = (rng.random((shape[0], 1)) >= blank) / np.sqrt(1.0 - blank)
                return np.asarray((bright * (rng.standard_normal(shape) @ root.T))[:, order])

            results = [gaussian_profile(draw(seed), partition.sizes, snr=snr) for seed in range(runs)]
            value = np.array([r.value[0] for r in results])
            plug_in = value + np.array([r.bias[0] for r in results])
            error = value.std(ddof=1) / np.sqrt(runs)
            print(
                f"{d:4} {n:6} {snr:7.3g} {truth:8.4f} {plug_in.mean() - truth:+9.4f} {value.mean() - truth:+10.4f} "
                f"{error:8.4f} {value.std(ddof=1):8.4f}"
            )


def image_table(file: Path, runs: int) -> None:
    """Print what subsets of real images give, against all of them."""
    data = open_dataset(file).cropped("1:,1:")
    levels, widths = [0.1, 0.3, 0.5], [1, 3, 6]
    whole = phase_scan(data, levels=levels, widths=widths).dataset
    rng = np.random.default_rng(0)
    print(f"\n{data.name}, centre of 27x27: mean over {runs} sets of n images, against all {len(data):,}")
    print(f"{'n':>6} {'t':>4} {'r':>3} {'all':>9} {'plug-in':>9} {'corrected':>10} {'+-':>8}")
    for n in (400, 1000, 4000):
        parts = [
            phase_scan(data.samples[rng.permutation(len(data))[:n]], levels=levels, widths=widths).dataset
            for _ in range(runs)
        ]
        value = np.array([p.cmi.values for p in parts])
        plug_in = np.array([(p.cmi + p.bias).values for p in parts])
        error = value.std(axis=0, ddof=1) / np.sqrt(runs)
        for i, t in enumerate(levels):
            for j, r in enumerate(widths):
                print(
                    f"{n:6} {t:4} {r:3} {float(whole.cmi[i, j]):9.5f} {plug_in.mean(axis=0)[i, j]:9.5f} "
                    f"{value.mean(axis=0)[i, j]:10.5f} {error[i, j]:8.5f}"
                )


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("file", type=Path, nargs="?", help="MNIST or Fashion-MNIST images as IDX")
    parser.add_argument("--runs", type=int, default=200)
    arguments = parser.parse_args()
    chain_table(arguments.runs, blank=0.0)
    chain_table(arguments.runs, blank=0.8)
    if arguments.file:
        image_table(arguments.file, min(arguments.runs, 20))


if __name__ == "__main__":
    main()

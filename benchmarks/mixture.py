"""How far the mixture is off, by effective neighbours: exact models of several sizes and numbers of samples.

    python benchmarks/mixture.py [--reps 8]
    python benchmarks/mixture.py --data path/to/train-images-idx3-ubyte.gz

A row: mean of estimate less truth over data sets, in 10^-3 nats, at the narrowest width, with the spread over data
sets and the error that each claims; what was subtracted as bias; how many of the data sets had fewer than 50
effective neighbours in the widest region.  With --data the map of real images, centre pixel of 27 x 27, its seconds
and its peak memory.
"""

from __future__ import annotations

import argparse
import resource
import time
from pathlib import Path

import numpy as np

from cmi import open_dataset, phase_scan
from cmi.exact import Cat, ExactModel, GaussianChain, GaussianField, HiddenMarkovChain, RepetitionCode

MODELS: list[tuple[ExactModel, float]] = [
    (GaussianChain(L=9, a=0.9), 0.3),
    (GaussianChain(L=9, a=0.9), 0.4),
    (GaussianChain(L=9, a=0.9), 0.6),
    (GaussianField(L=7, kappa=0.5), 0.6),
    (GaussianField(L=7, kappa=0.5), 0.7),
    (Cat(L=15, dims=1), 0.5),
    (HiddenMarkovChain(L=9), 0.1),
    (HiddenMarkovChain(L=15), 0.2),
    (RepetitionCode(L=13), 0.3),
]


def models(reps: int) -> None:
    """Print a row per model, level and number of samples."""
    print(f"10^-3 nats, r = 1, {reps} data sets, 2,000 queries")
    print(f"{'model':44}{'t':>5}{'n':>7}{'true':>8}{'off by':>9}{'+-':>6}", end="")
    print(f"{'spread':>8}{'claimed':>9}{'bias':>8}{'flagged':>9}")
    for model, t in MODELS:
        truth = model.cmi(t, 1).value
        for n in (500, 2000, 8000):
            scans = [
                phase_scan(
                    model.sample(n, seed),
                    levels=[t],
                    widths=[1, 2],
                    method="mixture",
                    noise=model.noise,
                    seed=seed,
                    queries=2000,
                ).dataset
                for seed in range(reps)
            ]
            value, error, bias = (
                np.array([float(s[name][0, 0]) for s in scans]) for name in ("cmi", "stderr", "bias")
            )
            few = sum("repeats single samples" in s.attrs["warnings"] for s in scans)
            spread = value.std(ddof=1)
            print(
                f"{model!r:44.43}{t:5.2f}{n:7d}{1e3 * truth:8.2f}{1e3 * (value.mean() - truth):9.2f}"
                f"{1e3 * spread / np.sqrt(reps):6.2f}{1e3 * spread:8.2f}{1e3 * error.mean():9.2f}"
                f"{1e3 * bias.mean():8.2f}{few:9d}",
                flush=True,
            )


def images(file: Path) -> None:
    """Print the map of real images."""
    begun = time.perf_counter()
    levels = np.linspace(0.1, 1.0, 10)
    scan = phase_scan(open_dataset(file).cropped("1:,1:"), levels=levels, widths=range(1, 13), method="mixture")
    print(
        f"{time.perf_counter() - begun:.0f} s, {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GiB"
    )
    data = scan.dataset
    print("CMI in 10^-3 nats (error), effective neighbours in B below")
    for i, t in enumerate(data.t.values):
        cells = [
            f"{1e3 * v:.1f}({1e3 * e:.1f})" for v, e in zip(data.cmi.values[i], data.stderr.values[i], strict=True)
        ]
        print(f"t = {t:.1f} ", *(f"{cell:>11}" for cell in cells))
        print(" " * 8, *(f"{few:11.0f}" for few in data.neighbours.values[i]))
    for text in scan.warnings:
        print("Note:", text)


def main() -> None:
    """Run."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--reps", type=int, default=8)
    parser.add_argument("--data", type=Path, help="images as IDX, plain or gzipped")
    arguments = parser.parse_args()
    if arguments.data is None:
        models(arguments.reps)
    else:
        images(arguments.data)


if __name__ == "__main__":
    main()

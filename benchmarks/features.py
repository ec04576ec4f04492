"""ksg with features against models of known CMI, where there is none, and on real images.

    python benchmarks/features.py [--runs 10] [--mnist path/to/train-images-idx3-ubyte.gz] [--n 10000]

`plain` is ksg on the columns as they are, k = 5. `mean` is over seeds, with its error; `ratio` is the claimed error
over the spread. On MNIST the columns are the centre pixel of 27x27 and the shells around it, with noise.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
from truths import Cat, Gaussian, chain, two_states

from cmi import open_dataset, phase_scan
from estimators import ksg_profile

FloatArray = NDArray[np.float64]
KS = (5, 20)


@dataclass(frozen=True, eq=False)
class Case:
    """Samples of known CMI."""

    name: str
    n: int
    sizes: tuple[int, ...]
    truth: FloatArray
    sample: Callable[[int, int], FloatArray]


def noisy(model: Gaussian, snr: float) -> Callable[[int, int], FloatArray]:
    """Samples of a Gaussian with noise."""

    def sample(n: int, seed: int) -> FloatArray:
        x = model.sample(n, seed)
        return np.asarray(x + np.random.default_rng([seed, 1]).standard_normal(x.shape) / np.sqrt(snr))

    return sample


def product(n: int, seed: int) -> FloatArray:
    """A the product of two signs, both in the first shell that is not empty, and noise; 20 columns of noise."""
    rng = np.random.default_rng(seed)
    signs = rng.choice([-1.0, 1.0], size=(n, 2))
    a = np.prod(signs, axis=1, keepdims=True) + rng.standard_normal((n, 1))
    return np.hstack([a, signs + 0.1 * rng.standard_normal((n, 2)), rng.standard_normal((n, 20))])


def cases() -> Iterator[Case]:
    """Linear, two states, not linear, and none at all."""
    for snr, rings in ((0.3, (1, 2, 4)), (1.0, (1, 2, 4)), (1.0, (0, 2)), (10.0, (0, 1))):
        model = chain(12, rings)
        yield Case(f"chain of 25, SNR {snr:g}", 4000, model.sizes, model.cmi(snr), noisy(model, snr))
    cat = Cat((1, 8, 72), 0.1)
    yield Case("two states, 81 pixels", 4000, cat.sizes, cat.cmi(), cat.sample)
    yield Case("product of two signs", 3000, (1, 0, 2, 20), np.array([two_states(1.0), 0.0]), product)
    white, through = Gaussian(np.eye(41), (1, 8, 32)), chain(8, (2, 4))
    for n in (300, 1000, 3000):
        yield Case("independent, 41", n, white.sizes, white.cmi(), white.sample)
        yield Case("only through B, 17", n, through.sizes, through.cmi(), through.sample)


def known(runs: int) -> None:
    """Print the table of models with known CMI."""
    print(f"{'model':22} {'n':>5} {'cut':>3} {'truth':>7} {'plain':>7} {'k':>3} {'mean':>14} {'ratio':>6} {'s':>5}")
    for case in cases():
        seconds = 0.0
        plain, values, claimed = [], [], []
        for seed in range(runs):
            x = case.sample(case.n, seed)
            plain.append(ksg_profile(x, case.sizes, surrogates=0).value)
            start = time.perf_counter()
            profile = ksg_profile(x, case.sizes, k=KS, features="regression", seed=seed)
            seconds += (time.perf_counter() - start) / runs
            values.append([profile.by_k[k].value for k in KS])
            claimed.append([np.diagonal(profile.by_k[k].covariance()) for k in KS])
        mean, spread = np.mean(values, axis=0), np.std(values, axis=0, ddof=1)
        ratio = np.sqrt(np.mean(claimed, axis=0)) / spread
        for cut, truth in enumerate(case.truth):
            for i, k in enumerate(KS):
                print(
                    f"{case.name:22} {case.n:5} {cut + 1:3} {truth:7.4f} {np.mean(plain, axis=0)[cut]:7.4f} {k:3} "
                    f"{mean[i, cut]:7.4f}({spread[i, cut] / np.sqrt(runs):.4f}) {ratio[i, cut]:6.2f} {seconds:5.1f}"
                )


def images(file: Path, n: int, levels: list[float]) -> None:
    """Print the CMI of MNIST by method."""
    data = open_dataset(file, limit=n).cropped("1:,1:")
    print(f"\n{data.name}, {n} images, CMI in 10^-3 nats (error)")
    print(f"{'t':>4} {'method':22} " + " ".join(f"{f'r={r}':>10}" for r in range(1, 13)) + "     s")
    options: dict[str, dict[str, Any]] = {"gaussian": {}, "ksg, regression": {"k": 20, "features": "regression"}}
    options["ksg, pca"] = {"k": 20, "features": "pca"}
    options["ksg"] = {}
    for t in levels:
        for name, chosen in options.items():
            start = time.perf_counter()
            scan = phase_scan(data, levels=[t], widths=range(1, 13), method=name.partition(",")[0], **chosen)
            cells = zip(1e3 * scan.dataset.cmi.values[0], 1e3 * scan.dataset.stderr.values[0], strict=True)
            shown = " ".join(f"{f'{value:.1f}({error:.1f})':>10}" for value, error in cells)
            print(f"{t:4} {name:22} {shown} {time.perf_counter() - start:5.0f}", flush=True)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--runs", type=int, default=10, help="seeds per model; 0: no models")
    parser.add_argument("--mnist", type=Path, help="MNIST images as IDX, plain or gzipped")
    parser.add_argument("--n", type=int, default=10_000, help="images")
    parser.add_argument("--levels", type=float, nargs="+", default=[0.1, 0.3, 0.6, 1.0])
    arguments = parser.parse_args()
    if arguments.runs == 1:
        parser.error("a spread needs at least 2 runs")
    if arguments.runs:
        known(arguments.runs)
    if arguments.mnist is not None:
        images(arguments.mnist, arguments.n, arguments.levels)


if __name__ == "__main__":
    main()

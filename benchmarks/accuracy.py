"""Bias and spread of the methods over seeds, against closed forms, by model, dimensions and n.

python benchmarks/accuracy.py [--seeds 40] [--n 500 2000 8000] [--csv FILE] [--plot FILE] [--overwrite]

Models, all with B between A and C:
  linear   A hangs on one column of C by 1 nat, and on one of B; the other columns are noise
  cubed    the same, every column cubed: the CMI is the same, the covariance is not
  nothing  A hangs on B alone: the CMI is 0
  two      every column is the same random sign plus noise of its own (SNR 1/4): mixture of two Gaussians
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cmi.figures import check_picture
from cmi.output import check_output
from estimators import Profile, copula_profile, gaussian_profile, ksg_profile

FloatArray = NDArray[np.float64]
Sizes = tuple[int, int, int]

DIMS: tuple[Sizes, ...] = ((1, 1, 1), (1, 3, 3), (1, 8, 1), (1, 8, 16), (1, 24, 40))


@dataclass(frozen=True)
class Cell:
    """What came out of one method on one model."""

    model: str
    dims: str
    n: int
    method: str
    truth: float
    bias: float
    bias_error: float
    spread: float
    claimed: float
    coverage: float


def linear(sizes: Sizes, n: int, rng: np.random.Generator) -> FloatArray:
    """A = rho C_1 + noise + B_1, with I(A:C|B) = 1."""
    a, b, _ = sizes
    x = rng.standard_normal((n, sum(sizes)))
    rho = np.sqrt(1.0 - np.exp(-2.0))
    x[:, 0] = rho * x[:, a + b] + np.sqrt(1.0 - rho**2) * x[:, 0] + x[:, a]
    return x


def cubed(sizes: Sizes, n: int, rng: np.random.Generator) -> FloatArray:
    """The cube is monotone: nothing changes for whom order is enough."""
    return np.asarray(linear(sizes, n, rng) ** 3)


def nothing(sizes: Sizes, n: int, rng: np.random.Generator) -> FloatArray:
    """A = B_1 + noise."""
    x = rng.standard_normal((n, sum(sizes)))
    x[:, 0] += x[:, sizes[0]]
    return x


def two(sizes: Sizes, n: int, rng: np.random.Generator) -> FloatArray:
    """A random sign, seen in every column."""
    return np.asarray(0.5 * rng.choice([-1.0, 1.0], (n, 1)) + rng.standard_normal((n, sum(sizes))))


def two_truth(sizes: Sizes) -> float:
    """g(s(nA+nB)) + g(s(nB+nC)) - g(s nB) - g(s(nA+nB+nC)), g(x) = x - E ln cosh(x + sqrt(x) z), s = 1/4."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(200)

    def g(columns: int) -> float:
        x = 0.25 * columns
        y = np.abs(x + np.sqrt(x) * nodes)
        return float(x - weights @ (y + np.log1p(np.exp(-2.0 * y)) - np.log(2.0)) / weights.sum())

    a, b, c = sizes
    return g(a + b) + g(b + c) - g(b) - g(a + b + c)


MODELS: dict[str, tuple[Callable[[Sizes, int, np.random.Generator], FloatArray], Callable[[Sizes], float]]] = {
    "linear": (linear, lambda _: 1.0),
    "cubed": (cubed, lambda _: 1.0),
    "nothing": (nothing, lambda _: 0.0),
    "two": (two, two_truth),
}
METHODS: dict[str, Callable[[FloatArray, Sizes, int], Profile]] = {
    "ksg": lambda x, sizes, seed: ksg_profile(x, sizes, surrogates=0, seed=seed),
    "ksg, calibrated": lambda x, sizes, seed: ksg_profile(x, sizes, calibrate=True, seed=seed),
    "gaussian": lambda x, sizes, _: gaussian_profile(x, sizes),
    "copula": lambda x, sizes, _: copula_profile(x, sizes),
}


def measure(model: str, sizes: Sizes, n: int, method: str, seeds: int) -> Cell:
    """Run one method on many samples of one model."""
    draw, truth_of = MODELS[model]
    truth = truth_of(sizes)
    values, errors = np.empty(seeds), np.empty(seeds)
    for seed in range(seeds):
        x = draw(sizes, n, np.random.default_rng(seed))
        profile = METHODS[method](x, sizes, seed)
        values[seed], errors[seed] = profile.value[0], np.sqrt(profile.covariance()[0, 0])
    spread = float(values.std(ddof=1))
    return Cell(
        model,
        "{},{},{}".format(*sizes),
        n,
        method,
        truth,
        float(values.mean() - truth),
        spread / np.sqrt(seeds),
        spread,
        float(np.sqrt(np.mean(errors**2))),
        float(np.mean(np.abs(values - truth) < 1.96 * errors)),
    )


def draw_picture(cells: list[Cell], path: Path) -> None:
    """Bias against n, a panel per model and dimensions, a line per method."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    models = [m for m in MODELS if any(c.model == m for c in cells)]
    dims = list(dict.fromkeys(c.dims for c in cells))
    looks = dict(
        zip(METHODS, (("#D55E00", "o"), ("#009E73", "s"), ("#0072B2", "^"), ("#CC79A7", "v")), strict=True)
    )
    figure = Figure(figsize=(1.35 * len(dims) + 0.9, 1.35 * len(models) + 0.7), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(models), len(dims), sharex=True, sharey="row", squeeze=False)
    for i, model in enumerate(models):
        for j, dim in enumerate(dims):
            ax = axes[i, j]
            ax.axhline(0.0, color="#222222", linewidth=0.8)
            for method, (color, marker) in looks.items():
                line = [c for c in cells if (c.model, c.dims, c.method) == (model, dim, method)]
                n, bias, spread = (np.array([getattr(c, what) for c in line]) for what in ("n", "bias", "spread"))
                aside = 1.06 ** (list(looks).index(method) - 1.5)  # so that none hides another
                ax.errorbar(
                    n * aside, bias, spread, color=color, marker=marker, markersize=4, linewidth=1.2, label=method
                )
            ax.set_xscale("log")
            every = sorted({c.n for c in cells})
            ax.set_xticks(every, [f"{n:,}" if n < 1000 else f"{n / 1000:g}k" for n in every])
            ax.minorticks_off()
            ax.tick_params(labelsize=7)
            if i == 0:
                ax.set_title(f"(A, B, C) = ({dim})", fontsize=8)
            if i == len(models) - 1:
                ax.set_xlabel("samples n", fontsize=8)
        truths = [c.truth for c in cells if c.model == model]
        told = f"{truths[0]:g}" if np.ptp(truths) == 0.0 else f"{min(truths):.2g} to {max(truths):.2g}"
        axes[i, 0].set_ylabel(f"{model} (CMI {told})\nbias [nats]", fontsize=8)
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(labels), fontsize=8, frameon=False)
    figure.savefig(path, dpi=160)


def main() -> None:
    """Measure, print, and save what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=40)
    parser.add_argument("--n", type=int, nargs="+", default=[500, 2000, 8000])
    parser.add_argument("--csv", type=Path)
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--overwrite", action="store_true")
    asked = parser.parse_args()
    if asked.seeds < 2:
        sys.exit("a spread needs at least 2 seeds")
    try:
        for path in (asked.csv, asked.plot):
            if path is not None:
                check_output(path, overwrite=asked.overwrite)
        if asked.plot is not None:
            check_picture(asked.plot)
    except (OSError, ValueError) as error:
        sys.exit(str(error))
    cells = []
    print(f"{asked.seeds} seeds, k = 5, nats; claimed is the root mean square of the standard errors,")
    print("cover how often 1.96 of them hold the truth")
    print(
        f"{'model':8} {'A,B,C':8} {'n':>6} {'method':16} {'truth':>8} {'bias':>16} {'spread':>7} "
        f"{'claimed':>7} cover"
    )
    for model in MODELS:
        for sizes in DIMS:
            for n in asked.n:
                for method in METHODS:
                    cell = measure(model, sizes, n, method, asked.seeds)
                    cells.append(cell)
                    print(
                        f"{cell.model:8} {cell.dims:8} {cell.n:6} {cell.method:16} {cell.truth:8.4f} "
                        f"{cell.bias:+8.4f}({cell.bias_error:.4f}) {cell.spread:7.4f} {cell.claimed:7.4f} "
                        f"{cell.coverage:5.2f}",
                        flush=True,
                    )
    if asked.csv is not None:
        with asked.csv.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(asdict(cells[0])))
            writer.writeheader()
            writer.writerows(asdict(cell) for cell in cells)
    if asked.plot is not None:
        draw_picture(cells, asked.plot)


if __name__ == "__main__":
    main()

"""Every exact model, sampled and measured over a grid of levels and widths, against the CMI that it knows.

python benchmarks/exact_models.py [--runs 10] [--csv FILE] [--overwrite]

In standard errors of each cell: of every case the root mean square, the largest, and how many of the cells of one
data set are beyond 3. With honest errors and no bias these are 1, about 3 and 0.3 %.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cmi import phase_scan
from cmi.exact import (
    Cat,
    ClosedLoops,
    Exact,
    ExactModel,
    GaussianChain,
    GaussianField,
    HiddenMarkovChain,
    RepetitionCode,
)
from cmi.output import check_output

FloatArray = NDArray[np.float64]


def total(values: FloatArray, _: str) -> FloatArray:
    """All that the columns of B or C tell of the sign of a cat."""
    return np.asarray(values.mean(axis=1, keepdims=True))


class EdgesOfLoops(ExactModel):
    """Eleven edges of closed loops on 6 x 6 vertices, from a corner on: few enough to be counted.

    A is the first one, B the next r, C the others: whole regions of `ClosedLoops` have far too many states for any
    count, and are held against enumeration in the tests.
    """

    name = "loops"
    noise = "flip"

    def __repr__(self) -> str:
        return "EdgesOfLoops()"

    def __init__(self) -> None:
        far = np.add.outer(np.arange(6.0), np.arange(6.0))
        exists = np.ones((2, 6, 6), dtype=np.bool_)
        exists[0, :, -1] = exists[1, -1] = False
        self._edges = np.argsort(np.where(exists, far + 0.5, np.inf).ravel(), kind="stable")[:11]
        # these edges border on the first 3 x 3 faces only
        faces = np.zeros((2**9, 7, 7), dtype=np.int64)
        faces[:, 1:4, 1:4] = np.array(list(product((0, 1), repeat=9))).reshape(-1, 3, 3)
        loops = np.stack([faces[:, 1:, 1:] ^ faces[:, :-1, 1:], faces[:, 1:, 1:] ^ faces[:, 1:, :-1]], axis=1)
        self._loops = loops.reshape(len(loops), -1)[:, self._edges]

    @property
    def shape(self) -> tuple[int, ...]:
        """Eleven edges in a row."""
        return (len(self._edges),)

    @property
    def critical_level(self) -> None:
        """None: it is far too small."""

    def sample(self, n: int, seed: int) -> FloatArray:
        """Draw sets of loops, and keep these edges."""
        return ClosedLoops(L=6).sample(n, seed).reshape(n, -1)[:, self._edges]

    def cmi(self, level: float, r: int) -> Exact:
        """I(A:C|B_r): entropies of all that eleven flipped edges can be."""
        edges = np.arange(len(self._edges))
        ab, b, bc = edges <= r, (edges > 0) & (edges <= r), edges > 0
        h_ab, h_b, h_bc, h_abc = (self._entropy(0.5 * level, part) for part in (ab, b, bc, edges >= 0))
        return Exact(h_ab + h_bc - h_b - h_abc)

    def _entropy(self, p: float, part: NDArray[np.bool_]) -> float:
        looks = np.array(list(product((0, 1), repeat=int(part.sum()))))
        probability = np.zeros(len(looks))
        for loop in self._loops[:, part]:
            flips = (looks != loop).sum(axis=1)
            probability += p**flips * (1.0 - p) ** (looks.shape[1] - flips) / len(self._loops)
        return float(-(probability * np.log(probability)).sum())

    def markov_length(self, level: float) -> float:
        """Of no use here."""
        raise NotImplementedError


@dataclass(frozen=True)
class Case:
    """A model with what measures it, and where."""

    model: ExactModel
    method: str
    n: int
    levels: Sequence[float]
    widths: Sequence[int]
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Model, size, method, and what is not its default."""
        how = ", ".join(value.__name__ if callable(value) else name for name, value in self.options.items())
        return f"{self.model!r}, {self.method}{f' ({how})' if how else ''}"


FLIPS = (0.1, 0.2, 0.3, 0.5, 0.7, 0.9)
TIMES = (0.1, 0.3, 0.5, 0.7, 0.9)
CASES = (
    Case(GaussianChain(L=25), "gaussian", 5000, TIMES, range(1, 9)),
    Case(GaussianChain(L=25, a=0.5), "gaussian", 1000, TIMES, range(1, 5)),
    Case(GaussianField(L=13), "gaussian", 10000, TIMES, range(1, 6)),
    Case(GaussianField(L=9, kappa=0.2), "gaussian", 2000, TIMES, range(1, 4)),
    Case(GaussianChain(L=25), "copula", 5000, TIMES, range(1, 9)),
    Case(GaussianChain(L=7), "ksg", 5000, TIMES, (1, 2), {"calibrate": True}),
    Case(GaussianChain(L=25), "ksg", 5000, TIMES, range(1, 9), {"calibrate": True}),
    Case(GaussianField(L=7), "ksg", 5000, TIMES, (1, 2), {"calibrate": True}),
    Case(Cat(L=9, dims=1), "ksg", 5000, (0.4, 0.5, 0.6, 0.7, 0.8, 0.9), (1, 2, 3), {"features": total}),
    Case(Cat(L=7, dims=2), "ksg", 5000, (0.5, 0.6, 0.7, 0.8, 0.9), (1, 2), {"features": total}),
    Case(RepetitionCode(L=9), "discrete", 10000, FLIPS, (1, 2, 3)),
    Case(RepetitionCode(L=7), "discrete", 1000, FLIPS, (1, 2)),
    Case(HiddenMarkovChain(L=9), "discrete", 10000, FLIPS, (1, 2, 3)),
    Case(HiddenMarkovChain(L=7, flip=0.02), "discrete", 2000, FLIPS, (1, 2)),
    Case(EdgesOfLoops(), "discrete", 20000, FLIPS, (1, 2, 3, 5, 7), {"center": 0}),
)


def measured(case: Case, seed: int) -> tuple[FloatArray, FloatArray]:
    """CMI and standard error, (levels, widths), of one set of samples."""
    scan = phase_scan(
        case.model.sample(case.n, seed),
        levels=case.levels,
        widths=case.widths,
        method=case.method,
        noise=case.model.noise,
        seed=seed,
        **case.options,
    )
    return scan.dataset.cmi.values, scan.dataset.stderr.values


def deviations(case: Case, runs: int) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Errors in standard errors, (runs, levels, widths); and the truth and its own error."""
    exact = [[case.model.cmi(t, r) for r in case.widths] for t in case.levels]
    truth = np.array([[cell.value for cell in row] for row in exact])
    own = np.array([[cell.stderr for cell in row] for row in exact])
    found = [measured(case, seed) for seed in range(runs)]
    return np.array([(value - truth) / np.hypot(error, own) for value, error in found]), truth, own


def main() -> None:
    """Print a line per case."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--csv", type=Path)
    parser.add_argument("--overwrite", action="store_true")
    arguments = parser.parse_args()
    if arguments.csv:
        check_output(arguments.csv, overwrite=arguments.overwrite)
    print(f"{arguments.runs} data sets each; cells are levels x widths")
    print(f"{'model, method':58}{'n':>6}{'cells':>7}{'rms':>6}{'mean':>7}{'largest':>9}  beyond 3 s.e.")
    lines = []
    for case in CASES:
        z, truth, _ = deviations(case, arguments.runs)
        beyond = int((np.abs(z) > 3.0).sum())
        t, r = divmod(int(np.abs(z).max(axis=0).argmax()), z.shape[2])
        print(
            f"{case.name:58}{case.n:6}{z[0].size:7}{np.sqrt((z**2).mean()):6.2f}{z.mean():7.2f}"
            f"{np.abs(z).max():9.1f}  {beyond} of {z.size} ({beyond / z.size:.1%}); "
            f"the largest at t = {case.levels[t]:g}, r = {case.widths[r]}, {truth[t, r]:.3g} nats",
            flush=True,
        )
        lines += [
            {
                "case": case.name,
                "n": case.n,
                "t": t,
                "r": r,
                "exact": truth[i, j],
                "z": " ".join(f"{x:.2f}" for x in z[:, i, j]),
            }
            for i, t in enumerate(case.levels)
            for j, r in enumerate(case.widths)
        ]
    if arguments.csv:
        with arguments.csv.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(lines[0]))
            writer.writeheader()
            writer.writerows(lines)


if __name__ == "__main__":
    main()

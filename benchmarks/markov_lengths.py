"""How often the 95 % interval of the Markov length holds the truth, over data sets of exact models.

python benchmarks/markov_lengths.py [--runs 200]

Two truths: the length that the exact curve shows over the same widths, fitted in the same way, and the length of r
to infinity in an endless system, where small widths and a power in front of the exponential matter.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass

import numpy as np

from cmi import MarkovLength, fit_markov_length, phase_scan
from cmi.exact import GaussianChain, GaussianField
from cmi.exact.gaussian import GaussianModel


@dataclass(frozen=True)
class _Case:
    model: GaussianModel
    samples: int
    levels: tuple[float, ...]

    @property
    def reach(self) -> int:
        return (self.model.shape[0] - 1) // 2


CASES = (
    _Case(GaussianChain(L=25), 2000, (0.5, 0.65, 0.8)),
    _Case(GaussianChain(L=25), 20000, (0.35, 0.5, 0.65)),
    _Case(GaussianField(L=13), 20000, (0.65, 0.8)),
)


def shown(case: _Case, level: float, widths: tuple[int, ...]) -> float:
    """The length of the exact curve over these widths."""
    curve = np.array([case.model.cmi(level, r).value for r in widths])
    return fit_markov_length(widths, curve, np.zeros((len(widths), len(widths))), reach=case.reach).value


def main() -> None:
    """Print a line per model and level."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, default=200)
    runs = parser.parse_args().runs
    print(f"{runs} data sets each; covered in %, with an error of up to {100 * np.sqrt(0.05 * 0.95 / runs):.1f}")
    print("model     n      t   resolved  exponential  mean   spread  claimed   shown  covered   endless  covered")
    for case in CASES:
        found: dict[float, list[MarkovLength]] = {t: [] for t in case.levels}
        for seed in range(runs):
            scan = phase_scan(case.model.sample(case.samples, seed), levels=case.levels)
            for t, length in zip(case.levels, scan.markov_length, strict=True):
                found[t].append(length)
        for t in case.levels:
            lengths = [each for each in found[t] if each.success and np.isfinite(each.value)]
            if len(lengths) < 2:
                print(f"{case.model.name:6}{case.samples:7}{t:6.2f}{len(lengths):10}")
                continue
            values = np.array([each.value for each in lengths])
            low, high = np.array([each.interval for each in lengths]).T
            truths = {w: shown(case, t, w) for w in {each.widths_used for each in lengths}}
            truth, endless = np.array([truths[each.widths_used] for each in lengths]), case.model.markov_length(t)
            print(
                f"{case.model.name:6}{case.samples:7}{t:6.2f}{len(lengths):10}"
                f"{sum(each.form == 'exponential' for each in lengths):13}"
                f"{values.mean():7.3f}{values.std(ddof=1):8.3f}"
                f"{np.median([each.stderr for each in lengths]):9.3f}{truth.mean():8.3f}"
                f"{100 * np.mean((low <= truth) & (truth <= high)):9.1f}{endless:10.3f}"
                f"{100 * np.mean((low <= endless) & (endless <= high)):9.1f}",
                flush=True,
            )


if __name__ == "__main__":
    main()

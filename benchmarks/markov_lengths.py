"""How often the 95 % interval of the Markov length holds the truth, over data sets of exact models.

python benchmarks/markov_lengths.py [--runs 200]

The truth is the length of r to infinity in an endless system. Beside it: what the exact curve gives over the same
widths, which is how far the fit is off without any noise.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass

import numpy as np

from cmi import MarkovLength, fit_markov_length, phase_scan
from cmi.exact import ExactModel, GaussianChain, GaussianField, RepetitionCode


@dataclass(frozen=True)
class _Case:
    model: ExactModel
    samples: int
    levels: tuple[float, ...]
    method: str = "gaussian"

    @property
    def reach(self) -> int:
        return (self.model.shape[0] - 1) // 2


CASES = (
    _Case(GaussianChain(L=25), 2000, (0.5, 0.65, 0.8)),
    _Case(GaussianChain(L=25), 20000, (0.35, 0.5, 0.65, 0.8)),
    _Case(GaussianChain(L=33, a=0.97), 5000, (0.35, 0.5, 0.65)),
    _Case(GaussianChain(L=25, a=0.75), 20000, (0.5, 0.65, 0.8)),
    _Case(GaussianField(L=13), 20000, (0.65, 0.8)),
    _Case(GaussianField(L=15, kappa=0.2), 20000, (0.6, 0.7, 0.8)),
    _Case(RepetitionCode(L=13), 20000, (0.3, 0.4), "discrete"),
)


def shown(case: _Case, level: float, widths: tuple[int, ...]) -> float:
    """The length of the exact curve over these widths."""
    curve = np.array([case.model.cmi(level, r).value for r in widths])
    none = np.zeros((len(widths), len(widths)))
    return fit_markov_length(widths, curve, none, reach=case.reach, dims=len(case.model.shape)).value


def main() -> None:
    """Print a line per model and level."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, default=200)
    runs = parser.parse_args().runs
    print(f"{runs} data sets each; covered in %, with an error of up to {100 * np.sqrt(0.05 * 0.95 / runs):.1f}")
    print("model           n      t  resolved  exponential    mean  spread  claimed   no noise   truth  covered")
    for case in CASES:
        found: dict[float, list[MarkovLength]] = {t: [] for t in case.levels}
        for seed in range(runs):
            scan = phase_scan(
                case.model.sample(case.samples, seed),
                levels=case.levels,
                method=case.method,
                noise=case.model.noise,
            )
            for t, length in zip(case.levels, scan.markov_length, strict=True):
                found[t].append(length)
        for t in case.levels:
            lengths = [each for each in found[t] if each.success and np.isfinite(each.value)]
            if len(lengths) < 2:
                print(f"{case.model.name:10}{case.samples:7}{t:7.2f}{len(lengths):10}")
                continue
            values = np.array([each.value for each in lengths])
            low, high = np.array([each.interval for each in lengths]).T
            bare = {w: shown(case, t, w) for w in {each.widths_used for each in lengths}}
            truth = case.model.markov_length(t)
            print(
                f"{case.model.name:10}{case.samples:7}{t:7.2f}{len(lengths):10}"
                f"{sum(each.form == 'exponential' for each in lengths):13}"
                f"{values.mean():8.3f}{values.std(ddof=1):8.3f}"
                f"{np.median([each.stderr for each in lengths]):9.3f}"
                f"{np.mean([bare[each.widths_used] for each in lengths]):11.3f}{truth:8.3f}"
                f"{100 * np.mean((low <= truth) & (truth <= high)):9.1f}",
                flush=True,
            )


if __name__ == "__main__":
    main()

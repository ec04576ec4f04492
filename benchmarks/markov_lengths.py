"""How often the 95 % interval of the Markov length holds the truth, over data sets of exact models.

python benchmarks/markov_lengths.py [--runs 200] [--model NAME]

The truth is the length of r to infinity in an endless system. Beside it: what the exact curve gives over the same
widths, which is how far the fit is off without any noise.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass

import numpy as np

from cmi import MarkovLength, PhaseScan, fit_markov_length, phase_scan
from cmi.exact import Cat, ExactModel, GaussianChain, GaussianField, HiddenMarkovChain, RepetitionCode


@dataclass(frozen=True)
class _Case:
    model: ExactModel
    samples: int
    levels: tuple[float, ...]
    method: str = "gaussian"
    power: tuple[float, float] | None = None  # in front of the exponential, where theory says it

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
    _Case(HiddenMarkovChain(L=13, flip=0.05), 400000, (0.4, 0.5, 0.6), "discrete"),
    _Case(HiddenMarkovChain(L=13, flip=0.1), 400000, (0.4, 0.5, 0.6), "discrete"),
    _Case(Cat(L=17, dims=1), 2000, (0.6, 0.7), "mixture"),
    _Case(Cat(L=17, dims=1), 2000, (0.6, 0.7), "mixture", (0.5, 0.0)),
    _Case(RepetitionCode(L=13), 20000, (0.3, 0.4), "discrete"),
    _Case(RepetitionCode(L=13), 20000, (0.3, 0.4), "discrete", (0.5, 0.0)),
)


def shown(case: _Case, level: float, widths: tuple[int, ...]) -> float:
    """The length of the exact curve over these widths."""
    curve = np.array([case.model.cmi(level, r).value for r in widths])
    none = np.zeros((len(widths), len(widths)))
    dims = len(case.model.shape)
    return fit_markov_length(widths, curve, none, reach=case.reach, dims=dims, prefactor=case.power).value


def lengths_of(scan: PhaseScan, case: _Case) -> tuple[MarkovLength, ...]:
    """The lengths that the scan gives, or would were the power told."""
    if case.power is None:
        return scan.markov_length
    data = scan.dataset
    return tuple(
        fit_markov_length(
            data.r.values, cmi, covariance, reach=scan.reach, dims=len(case.model.shape), prefactor=case.power
        )
        for cmi, covariance in zip(data.cmi.values, data.covariance.values, strict=True)
    )


def main() -> None:
    """Print a line per model and level."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--model", help="this one only, as chain, hidden-markov, cat", default="")
    arguments = parser.parse_args()
    runs = arguments.runs
    print(f"{runs} data sets each; covered in %, with an error of up to {100 * np.sqrt(0.05 * 0.95 / runs):.1f}")
    print(
        "model                 n      t  resolved  exponential    mean  spread  claimed  no noise   truth  covered"
    )
    for case in CASES:
        if not case.model.name.startswith(arguments.model):
            continue
        found: dict[float, list[MarkovLength]] = {t: [] for t in case.levels}
        for seed in range(runs):
            scan = phase_scan(
                case.model.sample(case.samples, seed),
                levels=case.levels,
                method=case.method,
                noise=case.model.noise,
            )
            for t, length in zip(case.levels, lengths_of(scan, case), strict=True):
                found[t].append(length)
        name = case.model.name + (f" p={case.power[0]:g}" if case.power else "")
        for t in case.levels:
            lengths = [each for each in found[t] if each.success and np.isfinite(each.value)]
            if len(lengths) < 2:
                print(f"{name:17}{case.samples:6}{t:6.2f}{len(lengths):9}")
                continue
            values = np.array([each.value for each in lengths])
            low, high = np.array([each.interval for each in lengths]).T
            bare = {w: shown(case, t, w) for w in {each.widths_used for each in lengths}}
            truth = case.model.markov_length(t)
            print(
                f"{name:17}{case.samples:6}{t:6.2f}{len(lengths):9}"
                f"{sum(each.form == 'exponential' for each in lengths):12}"
                f"{values.mean():8.3f}{values.std(ddof=1):8.3f}"
                f"{np.median([each.stderr for each in lengths]):9.3f}"
                f"{np.mean([bare[each.widths_used] for each in lengths]):10.3f}{truth:8.3f}"
                f"{100 * np.mean((low <= truth) & (truth <= high)):9.1f}",
                flush=True,
            )


if __name__ == "__main__":
    main()

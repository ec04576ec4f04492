"""How often samples without a transition are said to have one, by model: error rates with binomial intervals.

python benchmarks/verdicts.py [--runs 200]

Three sizes each, crops of the samples. Chains and fields have no transition; nor has the cat at finite noise.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter

import numpy as np
from scipy.stats import binomtest

from cmi import locate_transition, phase_scan, scan_sizes
from cmi.data.sample_set import SampleSet
from cmi.exact import Cat, ExactModel, GaussianChain, GaussianField

LEVELS = np.linspace(0.1, 0.9, 9)
CASES: tuple[tuple[str, ExactModel, int, tuple[int, ...]], ...] = (
    ("chain, a = 0.5", GaussianChain(L=25, a=0.5), 5000, (5, 15, 25)),
    ("chain, a = 0.9", GaussianChain(L=25, a=0.9), 5000, (5, 15, 25)),
    ("field, kappa = 0.3", GaussianField(L=15, kappa=0.3), 5000, (5, 9, 15)),
    ("field, kappa = 1", GaussianField(L=15, kappa=1.0), 5000, (5, 9, 15)),
    ("cat on a line", Cat(L=25, dims=1), 2000, (5, 15, 25)),
    ("cat on a square", Cat(L=15, dims=2), 2000, (5, 9, 15)),
)


def main() -> None:
    """Print the verdicts of several sizes and of the largest one alone."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, default=200)
    runs = parser.parse_args().runs
    print(f"{runs} data sets each, {len(LEVELS)} noise levels")
    print("model                sizes      none unresolved crossover transition   wrong [95 %]        s")
    for name, model, n, sizes in CASES:
        for used in (sizes, (sizes[-1],)):
            start, found = time.perf_counter(), Counter[str]()
            for seed in range(runs):
                samples = SampleSet(model.sample(n, seed), model.name, "array", n)
                if len(used) > 1:
                    verdict = locate_transition(scan_sizes(samples, used, levels=LEVELS)).verdict
                else:
                    verdict = locate_transition(phase_scan(samples, levels=LEVELS)).verdict
                found[verdict] += 1
            wrong = found["crossover"] + found["transition"]
            interval = binomtest(wrong, runs).proportion_ci()
            print(
                f"{name:20} {','.join(map(str, used)):9}"
                f"{found['none']:6}{found['unresolved']:11}{found['crossover']:10}{found['transition']:11}"
                f"{wrong / runs:9.1%} [{interval.low:.1%}, {interval.high:.1%}]{time.perf_counter() - start:7.0f}",
                flush=True,
            )


if __name__ == "__main__":
    main()

"""How often `phase-scan check` fails where nothing is wrong, and where something is: rates with binomial intervals.

python benchmarks/self_check.py [--runs 200]

Chains of 11 sites, 1,000 samples, five levels; the check adds pure noise.  A quarter of the runs where something is
altered, three in ten of ksg.

    nothing altered           all checks together fail in at most 1 %, if the errors are what the method claims
    added to every estimate   a bias, in the scan and in the check
    C not permuted            "permuted C" sees the data as they are
    added to one width        of one level of a finished scan, drawn among those places where the exact CMI falls by
                              less than that from the next narrower width, or by more; "wider buffers" alone sees it
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from itertools import pairwise
from unittest.mock import patch

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest

from cmi import PhaseScan, ScanCheck, check_scan, phase_scan
from cmi.exact import GaussianChain
from cmi.scan_check import CHECKS
from estimators.gaussian import GaussianMoments
from estimators.profile import Profile

LEVELS = np.linspace(0.0, 0.8, 5)
MODEL = GaussianChain(L=11)
SAMPLES = 1000
STEP = 0.01  # nats, added to one width


@contextmanager
def biased(amount: float) -> Iterator[None]:
    """Let the Gaussian estimator read so many nats too much."""
    right = GaussianMoments.profile

    def wrong(self: GaussianMoments, x: NDArray[np.floating], *, snr: float = np.inf) -> Profile:
        profile = right(self, x, snr=snr)
        return replace(profile, value=profile.value + amount, local=profile.local + amount)

    with patch.object(GaussianMoments, "profile", wrong):
        yield


def not_permuted() -> AbstractContextManager[object]:
    """Leave every sample its own C."""
    return patch("cmi.self_check._other_samples", lambda n, _: np.arange(n))


@dataclass(frozen=True)
class Case:
    """What is altered, by which method it is scanned, and in which share of the runs."""

    name: str
    share: float = 0.25
    method: str = "gaussian"
    altered: Callable[[], AbstractContextManager[object]] = nullcontext
    falls_less: bool | None = None  # of the places where STEP is added; None: nowhere

    def check(self, seed: int) -> ScanCheck:
        """Check one data set."""
        x = MODEL.sample(SAMPLES, seed)
        with self.altered():
            scan = phase_scan(x, levels=LEVELS, method=self.method, seed=seed)
            if self.falls_less is None:
                return check_scan(scan, x, seed=seed)
        return check_scan(_raised(scan, seed, less=self.falls_less), seed=seed)


CASES = (
    Case("gaussian, nothing altered", share=1.0),
    Case("ksg, nothing altered", share=0.3, method="ksg"),
    Case("gaussian, 0.0003 nats added to every estimate", altered=lambda: biased(0.0003)),
    Case("gaussian, C not permuted", altered=not_permuted),
    Case(f"gaussian, {STEP} nats added to one width, CMI falls by less", falls_less=True),
    Case(f"gaussian, {STEP} nats added to one width, CMI falls by more", falls_less=False),
)


def _raised(scan: PhaseScan, seed: int, *, less: bool) -> PhaseScan:
    """Add STEP at one place beyond the first width, where the exact CMI falls by less than that or not."""
    widths = scan.dataset.r.values.tolist()
    exact = [[MODEL.cmi(t, r).value for r in widths] for t in LEVELS]
    places = [
        (i, j) for i, row in enumerate(exact) for j, (a, b) in enumerate(pairwise(row), 1) if (a - b < STEP) == less
    ]
    data = scan.dataset.copy(deep=True)
    data["cmi"].values[places[np.random.default_rng(seed).integers(len(places))]] += STEP
    return PhaseScan(data)


def main() -> None:
    """Print the rates."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, default=200, help="data sets, where nothing is altered")
    runs = parser.parse_args().runs
    print(f"{MODEL!r}, {SAMPLES:,} samples, t = {', '.join(f'{t:g}' for t in LEVELS)}")
    print(f"{'case':57} data sets  failed [95 %]              s  failed checks")
    for case in CASES:
        count, start, failed, which = max(round(case.share * runs), 1), time.perf_counter(), 0, Counter[str]()
        for seed in range(count):
            found = case.check(seed)
            failed += not found.passed
            which.update(found.failed)
        interval = binomtest(failed, count).proportion_ci()
        checks = ", ".join(f"{check} {which[check]}" for check in CHECKS if which[check]) or "none"
        print(
            f"{case.name:57}{count:10}{failed:8} [{interval.low:6.1%}, {interval.high:6.1%}]"
            f"{time.perf_counter() - start:8.0f}  {checks}",
            flush=True,
        )


if __name__ == "__main__":
    main()

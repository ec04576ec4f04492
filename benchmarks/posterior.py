"""How far networks of posteriors, or of denoising losses, are off: exact models as images, 60,000 samples.

    python benchmarks/posterior.py [--method posterior] [--minutes 6] [--samples 60000]
                                   [field16 field27 cat chains loops]

A row per level: truth and estimate of the CMI at every width, in 10^-3 nats.  Then how many cells are off by more
than 0.005 nats and 10 %, the farthest of them, how many by more than 3 standard errors (which say nothing of what
the network has not learnt), the seconds of all, and the peak of the memory.  `--method mmse` knows no flips, which
loops have.
"""

from __future__ import annotations

import argparse
import resource
import time
from dataclasses import dataclass

import numpy as np

from cmi.exact import Cat, ClosedLoops, ExactModel, GaussianField, HiddenMarkovChain
from cmi.methods import METHODS
from cmi.regions import Partition, neighbour_windows


@dataclass(frozen=True)
class _Case:
    model: ExactModel
    levels: tuple[float, ...]
    widths: tuple[int, ...]
    rows: int = 1  # independent rows of which an image is made

    def sample(self, n: int, seed: int) -> np.ndarray:
        """Images; of rows that are independent the CMI is that of the one with A."""
        if self.rows == 1:
            return self.model.sample(n, seed)
        length = self.model.shape[0]
        return self.model.sample(n * self.rows, seed).reshape(n, self.rows, length)

    def partition(self, shape: tuple[int, ...]) -> Partition:
        """A, and what the buffer gains from width to width."""
        return (
            self.model.partition(self.widths) if self.rows == 1 else Partition.centered(shape, widths=self.widths)
        )


CASES = {
    "field16": _Case(
        GaussianField(L=16, kappa=0.3), (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9), tuple(range(1, 8))
    ),
    "field27": _Case(
        GaussianField(L=27, kappa=0.3), (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9), tuple(range(1, 13))
    ),
    "cat": _Case(Cat(L=16), (0.3, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95), tuple(range(1, 8))),
    "chains": _Case(
        HiddenMarkovChain(L=16, flip=0.1), (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8), tuple(range(1, 8)), rows=16
    ),
    "loops": _Case(ClosedLoops(L=8, samples=100_000), (0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4), (1, 2)),
}


def case(name: str, method: str, samples: int, minutes: float, seed: int) -> None:
    """Print the rows of a model."""
    known = CASES[name]
    x = known.sample(samples, seed)
    regions = known.partition(x.shape[1:])
    neighbours = neighbour_windows(x.shape[1:], regions)
    x = x.reshape(len(x), -1)[:, regions.columns]
    noises = [known.model.schedule().level(t) for t in known.levels]
    begun = time.perf_counter()
    fit = METHODS[method].fitted(
        x,
        regions.sizes,
        seed,
        noises,
        {"train_minutes": minutes},
        lambda look: print(f"  {look.step} of {look.total} steps: {look.held_out:.5f}", flush=True),
        neighbours,  # as a scan
    )
    assert fit is not None, f"{method} is not for the noise of {name}"
    found = [fit.profile(x, **noise) for noise in noises]
    took = time.perf_counter() - begun
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"{method}, {name}: {known.model!r}, {samples} samples, {took:.0f} s, {peak:.2f} GiB; {found[0].notes}")
    far, out, most, worst = 0, 0, 0.0, (0.0, "")
    for t, profile in zip(known.levels, found, strict=True):
        truth = np.array([known.model.cmi(t, r).value for r in known.widths])
        beyond = np.abs(profile.value - truth) / np.maximum(0.005, 0.1 * truth)
        far += int((beyond > 1.0).sum())
        worst = max(worst, (float(beyond.max()), f"t = {t}, r = {known.widths[int(beyond.argmax())]}"))
        error = np.sqrt(np.diagonal(profile.covariance()))
        out += int((np.abs(profile.value - truth) > 3.0 * error).sum())
        most = max(most, float(np.abs(profile.value - truth).max()))
        print(f"  t = {t:.2f} true ", *(f"{1e3 * v:7.2f}" for v in truth))
        print(
            "          found",
            *(f"{1e3 * v:7.2f}" for v in profile.value),
            " +-",
            *(f"{1e3 * v:.2f}" for v in error[:2]),
        )
    cells = len(known.levels) * len(known.widths)
    print(
        f"  {far} of {cells} cells off by more than that; farthest: {worst[0]:.2f} times, at {worst[1]}; "
        f"{out} by more than 3 standard errors; {1e3 * most:.2f} at most",
        flush=True,
    )


def main() -> None:
    """Run."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("cases", nargs="*", default=list(CASES), help="of " + ", ".join(CASES))
    parser.add_argument("--method", choices=("posterior", "mmse"), default="posterior")
    parser.add_argument("--minutes", type=float, default=6.0)
    parser.add_argument("--samples", type=int, default=60_000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    for name in arguments.cases:
        case(name, arguments.method, arguments.samples, arguments.minutes, arguments.seed)


if __name__ == "__main__":
    main()

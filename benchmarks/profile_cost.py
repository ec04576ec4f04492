"""What a profile of all widths costs beside its widest width alone, and several k beside one, on one thread.

The chain of `benchmarks/knn.py` (AR(1), 0.9).  "separately" calls once for every width.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from estimators import ksg_profile

LAYOUTS = (
    (1, 8, 16, 24, 32, 40),
    (1, *(8 * r for r in range(1, 13))),
    (1,) + 8 * (1,),
    (1,) + 12 * (2,),
    (1,) + 32 * (2,),
)


def chain(n: int, d: int) -> NDArray[np.float64]:
    """AR(1) samples along a chain."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((n, d))
    for c in range(1, d):
        x[:, c] = 0.9 * x[:, c - 1] + np.sqrt(1.0 - 0.81) * x[:, c]
    return x


def seconds(x: NDArray[np.float64], sizes: Sequence[int], repeats: int, **options: Any) -> float:
    """Least thread time of some calls."""
    times = []
    for _ in range(repeats):
        start = time.thread_time()
        ksg_profile(x, sizes, threads=1, surrogates=0, **options)
        times.append(time.thread_time() - start)
    return min(times)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--n", type=int, nargs="+", default=[10_000])
    parser.add_argument("--repeats", type=int, default=5)
    asked = parser.parse_args()
    ksg_profile(chain(200, 12), (1, 1, 10), k=[3, 5])  # compiles
    print(
        f"{'n':>6} {'shells':16} {'widths':>6} {'profile':>8} {'widest':>8} {'ratio':>6} {'separately':>11} "
        f"{'k=3,5,10 / 10':>14}   (seconds)"
    )
    for n in asked.n:
        for sizes in LAYOUTS:
            x = chain(n, sum(sizes))
            cuts = [(1, sum(sizes[1:i]), sum(sizes[i:])) for i in range(2, len(sizes))]
            profile, widest = (seconds(x, layout, asked.repeats) for layout in (sizes, cuts[-1]))
            apart = sum(seconds(x, layout, 1) for layout in cuts)
            several, ten = (seconds(x, sizes, asked.repeats, k=k) for k in ([3, 5, 10], 10))
            named = f"{len(sizes) - 1} of {sizes[1]}" + (f" to {sizes[-1]}" if sizes[-1] != sizes[1] else "")
            print(
                f"{n:6} {named:16} {len(cuts):6} {profile:8.3f} {widest:8.3f} {profile / widest:6.2f} "
                f"{apart:11.2f} {several / ten:14.2f}",
                flush=True,
            )


if __name__ == "__main__":
    main()

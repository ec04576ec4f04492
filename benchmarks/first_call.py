"""Seconds of the first neighbour estimate in a new process, imports and all, with numba's cache warm."""

from __future__ import annotations

import argparse
import subprocess
import sys
import time

CODE = (
    "import numpy as np; from cmi import estimate_cmi; "
    "estimate_cmi(np.random.default_rng(0).standard_normal((2000, {columns})), 0, list(range(1, {columns} - 1)), "
    "{columns} - 1)"
)


def seconds(columns: int) -> float:
    """Wall time of one process."""
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", CODE.format(columns=columns)], check=True)
    return time.perf_counter() - start


def main() -> None:
    """Print the first time, which compiles if there is no cache, and the best of the others."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    repeats = parser.parse_args().repeats
    for columns in (3, 26):
        times = [seconds(columns) for _ in range(1 + repeats)]
        print(f"{columns} columns: {times[0]:.2f} s at first, {min(times[1:], default=times[0]):.2f} s warm")


if __name__ == "__main__":
    main()

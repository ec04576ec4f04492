"""Where closed loops become noise: exact curves of five sizes, their crossings, and the transition.

python benchmarks/closed_loops.py [--sides 3 4 5 6 8] [--samples 40000 25000 16000 12000 7000] [--plot FILE]

Lattices of 5 s + 1 vertices along a side, A of side s, B of width s around it, C of s more: all regions grow alike.
The transition is known: p_c = 0.10919(7), nu = 1.53(3) (Hasenbusch, Toldin, Pelissetto and Vicari 2008).
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from cmi import exact_scan, locate_transition
from cmi.exact import ClosedLoops
from cmi.exact.closed_loops import CRITICAL_FLIP

FLIPS = (0.085, 0.09, 0.095, 0.1, 0.105, 0.11, 0.115, 0.12, 0.125, 0.13)


def main() -> None:
    """Print the curves and the verdict."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--sides", type=int, nargs="+", default=[3, 4, 5, 6, 8])
    parser.add_argument("--samples", type=int, nargs="+", default=[40_000, 25_000, 16_000, 12_000, 7_000])
    parser.add_argument("--plot", type=Path)
    arguments = parser.parse_args()
    if len(arguments.samples) != len(arguments.sides):
        parser.error("--samples takes a number for each of --sides")
    start, scans = time.perf_counter(), {}
    print("CMI in 10^-3 nats, its error in brackets")
    print("  size samples" + "".join(f"{p:>10.3f}" for p in FLIPS) + "      s")
    for side, samples in zip(arguments.sides, arguments.samples, strict=True):
        since = time.perf_counter()
        model = ClosedLoops(L=5 * side + 1, side=side, samples=samples, seed=side)
        scan = exact_scan(model, [2.0 * p for p in FLIPS], widths=[side])
        scans[float(5 * side)] = scan
        cmi, error = 1e3 * scan.dataset.cmi.values[:, 0], 1e3 * scan.dataset.stderr.values[:, 0]
        cells = "".join(f"{c:6.0f} ({e:.0f})" for c, e in zip(cmi, error, strict=True))
        print(f"{5 * side:6}{samples:8}{cells}{time.perf_counter() - since:7.1f}", flush=True)
    found = locate_transition(scans)
    for each in found.crossings:
        print(f"{each.small:4.0f} and {each.large:4.0f} cross at p = {each.level / 2:.4f} +- {each.stderr / 2:.4f}")
    print(found)
    low, high = found.interval
    print(
        f"p_c = {found.level / 2:.4f} ({low / 2:.4f} to {high / 2:.4f}), known {CRITICAL_FLIP}; "
        f"nu = {found.nu:.2f} ({found.nu_interval[0]:.2f} to {found.nu_interval[1]:.2f}), known 1.53; "
        f"{time.perf_counter() - start:.0f} s"
    )
    if arguments.plot is not None:
        from cmi.size_plot import save_sizes

        save_sizes(scans, arguments.plot, overwrite=True)


if __name__ == "__main__":
    main()

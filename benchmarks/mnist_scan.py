"""The main job on the real MNIST file: seconds, peak memory, distance from the determinant formula, the map.

    python benchmarks/mnist_scan.py path/to/train-images-idx3-ubyte.gz

Centre pixel of 27x27 (first row and column cut), levels 0..1 in 11, widths 1..12, method gaussian: what
`phase-scan run FILE --crop 1:,1: --levels 0:1:11 --widths 1:12` does, in a process of its own.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cmi import PhaseScan, open_dataset


def log_det(matrix: NDArray[np.float64]) -> float:
    """Log-determinant of a positive definite matrix."""
    return float(np.linalg.slogdet(matrix)[1])


def worst_distance(file: Path, scan: PhaseScan) -> float:
    """Largest |plug-in CMI - determinant formula| over levels with noise and all widths."""
    x = open_dataset(file).cropped("1:,1:").samples.reshape(-1, 729).astype(np.float64)
    covariance = np.cov(x.T)
    rows, columns = np.mgrid[:27, :27]
    distance = np.maximum(abs(rows - 13), abs(columns - 13)).ravel()
    worst = 0.0
    for i, t in enumerate(scan.dataset.t.values[1:], start=1):
        noisy = (1 - t) ** 2 * covariance + t**2 * np.eye(729)
        whole, rest = log_det(noisy), log_det(noisy[np.ix_(distance > 0, distance > 0)])
        for j, r in enumerate(scan.dataset.r.values):
            ab = distance <= r
            b = ab & (distance > 0)
            direct = 0.5 * (log_det(noisy[np.ix_(ab, ab)]) + rest - log_det(noisy[np.ix_(b, b)]) - whole)
            plug_in = float(scan.dataset.cmi[i, j] + scan.dataset.bias[i, j])
            worst = max(worst, abs(plug_in - direct))
    return worst


def main() -> None:
    """Run, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("file", type=Path, help="MNIST or Fashion-MNIST images as IDX, plain or gzipped")
    parser.add_argument("--runs", type=int, default=3)
    arguments = parser.parse_args()
    measure = (
        "import resource, sys\nfrom cmi.cli import main\n"
        "try:\n    main()\nfinally:\n"
        "    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, file=sys.stderr)\n"
    )
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "scan.nc"
        job = ["run", str(arguments.file), "--crop", "1:,1:", "--levels", "0:1:11", "--widths", "1:12"]
        job += ["--method", "gaussian", "--out", str(out), "--overwrite"]
        for _ in range(arguments.runs):
            start = time.perf_counter()
            done = subprocess.run([sys.executable, "-c", measure, *job], capture_output=True, text=True, check=True)
            seconds = time.perf_counter() - start
            print(f"{seconds:6.2f} s, peak memory {float(done.stderr.split()[-1]):.2f} GiB")
        print(done.stdout)
        print(
            "largest distance from the determinant formula: "
            f"{worst_distance(arguments.file, PhaseScan.load(out)):.1e}"
        )


if __name__ == "__main__":
    main()

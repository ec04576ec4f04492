"""The real MNIST file, as the command line scans it: against a direct formula, for time and memory."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from naive import log_det

from cmi import PhaseScan, locate_transition, open_dataset, phase_scan
from cmi.data import SampleSet

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def mnist(mnist_file: Path) -> SampleSet:
    return open_dataset(mnist_file).cropped("1:,1:")


@pytest.fixture(scope="module")
def scan(mnist: SampleSet) -> PhaseScan:
    return phase_scan(mnist, levels=np.linspace(0, 1, 11), widths=range(1, 13))


def test_agrees_with_determinants(mnist: SampleSet, scan: PhaseScan) -> None:
    """I = 1/2 log det(AB) det(BC) / (det(B) det(ABC)) of the noised covariance, to 1e-6 before bias correction.

    Without noise the determinants are those of the columns that vary and are not copies; at t > 0 of all 729.
    """
    x = mnist.samples.reshape(len(mnist), -1).astype(np.float64)
    covariance = np.cov(x.T)
    rows, columns = np.mgrid[:27, :27]
    distance = np.maximum(abs(rows - 13), abs(columns - 13)).ravel()
    plug_in = (scan.dataset.cmi + scan.dataset.bias).values
    for i in (0, 1, 3, 6, 9):
        t = float(scan.dataset.t[i])
        noisy = (1 - t) ** 2 * covariance + t**2 * np.eye(729)
        keep = np.ones(729, dtype=bool)
        if t == 0.0:
            order = np.argsort(distance, kind="stable")
            chosen: list[int] = []
            residual = noisy.copy()
            for j in order:  # Gram-Schmidt on the covariance: drop what the columns nearer to A determine
                if residual[j, j] > 1e-10 * noisy[j, j] > 0.0:
                    chosen.append(int(j))
                    residual -= np.outer(residual[:, j], residual[j]) / residual[j, j]
            keep[:] = False
            keep[chosen] = True
        for k, r in enumerate(range(1, 13)):
            ab, bc = keep & (distance <= r), keep & (distance > 0)
            b = keep & (distance > 0) & (distance <= r)
            direct = 0.5 * (
                log_det(noisy[np.ix_(ab, ab)])
                + log_det(noisy[np.ix_(bc, bc)])
                - log_det(noisy[np.ix_(b, b)])
                - log_det(noisy[np.ix_(keep, keep)])
            )
            assert abs(plug_in[i, k] - direct) < 1e-6, (t, r)


def test_the_map(scan: PhaseScan) -> None:
    """What the covariance of MNIST shows: lengths of two pixels, and no peak; too steep a start at t = 0.1."""
    data = scan.dataset
    assert (data.cmi[:10] > -3 * data.stderr[:10]).all()
    assert float(data.cmi.sel(t=0.3, r=1, method="nearest")) == pytest.approx(0.0087, abs=0.0005)
    assert (data.cmi.isel(t=10) == 0).all()
    lengths = [m.value for m in scan.markov_length[2:10]]
    assert 1.5 < min(lengths) < max(lengths) < 2.5
    assert "no form fits" in scan.markov_length[1].message
    found = locate_transition(scan)
    assert (found.verdict, "no form fits the decay at t = 0.1" in found.message) == ("unresolved", True)


def test_few_images_give_the_same_map(mnist: SampleSet, scan: PhaseScan) -> None:
    """Real images are not Gaussian; the bias correction still makes 8 sets of 1,000 agree with 60,000 on average.

    The plug-in is off there by 0.001 to 0.05 nats.
    """
    levels = [0.3, 0.5, 0.7]
    rng = np.random.default_rng(0)
    parts = [
        phase_scan(mnist.samples[rng.permutation(60_000)[:1000]], levels=levels, widths=range(1, 13))
        for _ in range(8)
    ]
    values = np.array([p.dataset.cmi.values for p in parts])
    whole = scan.dataset.cmi.sel(t=levels, method="nearest").values
    error = values.std(axis=0, ddof=1) / np.sqrt(len(parts))
    assert (np.abs(values.mean(axis=0) - whole) < 4 * error + 1e-6).all()
    plug_in = np.mean([(p.dataset.cmi + p.dataset.bias).values for p in parts], axis=0)
    assert (plug_in[0] - whole[0] > 4 * error[0])[:8].all()


def test_memory_of_the_whole_file(mnist_file: Path) -> None:
    """60,000 images in under 2 GiB, measured by the process that scans them."""
    code = (
        "import resource, sys\n"
        "from pathlib import Path\n"
        "from cmi import open_dataset, phase_scan\n"
        "data = open_dataset(sys.argv[1]).cropped('1:,1:')\n"
        "phase_scan(data, levels=[0.0, 0.5], widths=range(1, 13))\n"
        "status = Path('/proc/self/status')\n"
        "if status.exists():\n"  # on Linux ru_maxrss begins at what the parent, a worker of pytest, had
        "    print(status.read_text().split('VmHWM:')[1].split()[0])\n"
        "else:\n"
        "    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(mnist_file)], capture_output=True, text=True, check=True)
    kibibytes = int(done.stdout) / (1024 if sys.platform == "darwin" else 1)
    assert kibibytes < 2 * 2**20

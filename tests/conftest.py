"""What all tests share: where the real data lie, and hypothesis without deadlines."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# Tests run side by side: threads that wait for each other in every process would take most of the time.
os.environ.setdefault("OMP_NUM_THREADS", "1")

ROOT = Path(__file__).resolve().parent.parent

# Compilation and a busy machine must not fail a property; examples are the same in every run.
settings.register_profile("house", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("house")


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """Folder of the real data sets, beside the checkout or where PHASE_SCAN_DATA says."""
    folder = Path(os.environ.get("PHASE_SCAN_DATA", ROOT.parent / "shared" / "data"))
    if not (folder / "mnist").is_dir():
        pytest.skip(f"no real data in {folder}: set PHASE_SCAN_DATA to the folder that holds mnist/")
    return folder


@pytest.fixture(scope="session")
def mnist_file(data_folder: Path) -> Path:
    return data_folder / "mnist" / "train-images-idx3-ubyte.gz"

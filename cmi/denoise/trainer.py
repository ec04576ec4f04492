"""What denoisers share with the posterior network: the training loop and the choice of a device."""

from __future__ import annotations

import cmi.methods  # noqa: F401  # first: it says so if "estimators" is something else
from estimators.posterior_network import fast_matmul, find_device
from estimators.trainer import Look, Settings, Trainer, Training, TrainingError, trained

__all__ = ["Look", "Settings", "Trainer", "Training", "TrainingError", "fast_matmul", "find_device", "trained"]

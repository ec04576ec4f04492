"""Conditional mutual information of noised data: at which noise levels denoising is local, and how local.

The public names of phase-scan.  They are imported when first used, so that ``phase-scan --help`` answers at once.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cmi.data import SampleSet, open_dataset
    from cmi.estimate import CMIEstimate, CMIProfile, cmi_profile, estimate_cmi
    from cmi.fidelity import diffusion_bound, i_mmse_cmi, mmse_gap_bound, recovery_bound, sequence_bound
    from cmi.markov_length import MarkovLength, fit_markov_length
    from cmi.noise import Noise, noise_schedule
    from cmi.position_map import PositionMap
    from cmi.position_scan import PositionsFailed, PositionsInterrupted, map_positions
    from cmi.regions import Partition
    from cmi.result import PhaseScan
    from cmi.scan import ScanFailed, ScanInterrupted, phase_scan
    from cmi.scan_check import ScanCheck
    from cmi.self_check import check_scan
    from cmi.sizes import scan_sizes
    from cmi.transition import Transition, locate_transition
    from cmi.truth import exact_scan

__all__ = [
    "CMIEstimate",
    "CMIProfile",
    "MarkovLength",
    "Noise",
    "Partition",
    "PhaseScan",
    "PositionMap",
    "PositionsFailed",
    "PositionsInterrupted",
    "SampleSet",
    "ScanCheck",
    "ScanFailed",
    "ScanInterrupted",
    "Transition",
    "check_scan",
    "cmi_profile",
    "diffusion_bound",
    "estimate_cmi",
    "exact_scan",
    "fit_markov_length",
    "i_mmse_cmi",
    "locate_transition",
    "map_positions",
    "mmse_gap_bound",
    "noise_schedule",
    "open_dataset",
    "phase_scan",
    "recovery_bound",
    "scan_sizes",
    "sequence_bound",
]

_HOME = {
    "CMIEstimate": "estimate",
    "CMIProfile": "estimate",
    "MarkovLength": "markov_length",
    "Noise": "noise",
    "Partition": "regions",
    "PhaseScan": "result",
    "PositionMap": "position_map",
    "PositionsFailed": "position_scan",
    "PositionsInterrupted": "position_scan",
    "SampleSet": "data",
    "ScanCheck": "scan_check",
    "ScanFailed": "scan",
    "ScanInterrupted": "scan",
    "Transition": "transition",
    "check_scan": "self_check",
    "cmi_profile": "estimate",
    "diffusion_bound": "fidelity",
    "estimate_cmi": "estimate",
    "exact_scan": "truth",
    "fit_markov_length": "markov_length",
    "i_mmse_cmi": "fidelity",
    "locate_transition": "transition",
    "map_positions": "position_scan",
    "mmse_gap_bound": "fidelity",
    "noise_schedule": "noise",
    "open_dataset": "data",
    "phase_scan": "scan",
    "recovery_bound": "fidelity",
    "scan_sizes": "sizes",
    "sequence_bound": "fidelity",
}


def __getattr__(name: str) -> Any:
    if name in _HOME:
        value = getattr(import_module(f"cmi.{_HOME[name]}"), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'cmi' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

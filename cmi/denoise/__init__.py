"""Denoisers, local and global: exact ones, networks, and what is made of them. Needs torch."""

from __future__ import annotations

try:
    import torch as _torch  # noqa: F401
except ImportError as error:
    raise ImportError('cmi.denoise needs torch: pip install "phase-scan[torch]"') from error

from cmi.denoise.denoiser import Denoiser, OnSchedule, from_epsilon, from_score, from_velocity
from cmi.denoise.networks import GlobalDenoiser, LocalDenoiser
from cmi.denoise.oracles import EmpiricalDenoiser, GaussianDenoiser
from cmi.denoise.receptive_field import ReceptiveField, receptive_field

__all__ = [
    "Denoiser",
    "EmpiricalDenoiser",
    "GaussianDenoiser",
    "GlobalDenoiser",
    "LocalDenoiser",
    "OnSchedule",
    "ReceptiveField",
    "from_epsilon",
    "from_score",
    "from_velocity",
    "receptive_field",
]

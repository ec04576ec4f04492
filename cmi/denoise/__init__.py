"""Denoisers, local and global: exact ones, networks, and what is made of them. Needs torch."""

from __future__ import annotations

try:
    import torch as _torch  # noqa: F401
except ImportError as error:
    raise ImportError('cmi.denoise needs torch: pip install "phase-scan[torch]"') from error

from cmi.denoise.certificate import Certificate, certify
from cmi.denoise.checkpoint import describe_denoiser, load_denoiser, save_denoiser
from cmi.denoise.denoiser import Denoiser, OnSchedule, from_clean, from_epsilon, from_score, from_velocity
from cmi.denoise.images import images_of, set_aside
from cmi.denoise.networks import GlobalDenoiser, LocalDenoiser
from cmi.denoise.oracles import EmpiricalDenoiser, GaussianDenoiser
from cmi.denoise.plan import Plan, plan_schedule
from cmi.denoise.plot import plot_gap_maps, plot_gaps, plot_images, plot_plan
from cmi.denoise.quality import FeatureNetwork, compare_images, train_features
from cmi.denoise.receptive_field import ReceptiveField, receptive_field
from cmi.denoise.sampling import HybridDenoiser, sample, sampling_flops
from cmi.denoise.schedule import Schedule, load_schedule, save_schedule, time_grid
from cmi.denoise.scores import (
    flops_of,
    load_scores,
    save_scores,
    score_denoiser,
    score_denoisers,
    unseen_images,
)
from cmi.denoise.training import train_denoiser

__all__ = [
    "Certificate",
    "Denoiser",
    "EmpiricalDenoiser",
    "FeatureNetwork",
    "GaussianDenoiser",
    "GlobalDenoiser",
    "HybridDenoiser",
    "LocalDenoiser",
    "OnSchedule",
    "Plan",
    "ReceptiveField",
    "Schedule",
    "certify",
    "compare_images",
    "describe_denoiser",
    "flops_of",
    "from_clean",
    "from_epsilon",
    "from_score",
    "from_velocity",
    "images_of",
    "load_denoiser",
    "load_schedule",
    "load_scores",
    "plan_schedule",
    "plot_gap_maps",
    "plot_gaps",
    "plot_images",
    "plot_plan",
    "receptive_field",
    "sample",
    "sampling_flops",
    "save_denoiser",
    "save_schedule",
    "save_scores",
    "score_denoiser",
    "score_denoisers",
    "set_aside",
    "time_grid",
    "train_denoiser",
    "train_features",
    "unseen_images",
]

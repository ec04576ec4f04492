"""Estimators of conditional mutual information as pure functions on arrays.

They know no images, no noise schedules and no files, and never import `cmi`.  Every estimator is a *profile*
(`estimators.profile`): samples with columns in the order A, S_1, ..., S_m in, one value per buffer width out.
"""

from estimators.copula import copula_profile, normal_scores
from estimators.discrete import discrete_profile
from estimators.gaussian import GaussianMoments, fit_gaussian, gaussian_profile
from estimators.ksg import ksg_profile
from estimators.mixture import MixtureData, fit_mixture, mixture_profile
from estimators.mmse import MMSEFit, fit_mmse, mmse_profile
from estimators.posterior import PosteriorFit, fit_posterior, posterior_profile
from estimators.profile import Profile

__all__ = [
    "GaussianMoments",
    "MMSEFit",
    "MixtureData",
    "PosteriorFit",
    "Profile",
    "copula_profile",
    "discrete_profile",
    "fit_gaussian",
    "fit_mixture",
    "fit_mmse",
    "fit_posterior",
    "gaussian_profile",
    "ksg_profile",
    "mixture_profile",
    "mmse_profile",
    "normal_scores",
    "posterior_profile",
]

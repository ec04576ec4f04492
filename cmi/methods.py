"""Methods: which estimators there are, what each can tell, and the one place where `cmi` meets `estimators`."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

import estimators

if not hasattr(estimators, "gaussian_profile"):
    _found = getattr(estimators, "__file__", None) or list(estimators.__path__)
    raise ImportError(
        f"the name 'estimators' leads to {_found}, not to the package that phase-scan installs: rename that file "
        "or folder, or start Python somewhere else"
    )

from estimators.columns import tied_share
from estimators.copula import copula_profile
from estimators.discrete import discrete_profile
from estimators.gaussian import fit_gaussian, gaussian_profile
from estimators.ksg import ksg_profile
from estimators.mixture import fit_mixture, mixture_profile
from estimators.mmse import fit_mmse, mmse_profile
from estimators.posterior import fit_posterior, posterior_profile
from estimators.posterior_places import fit_posterior_places
from estimators.profile import Profile
from estimators.threads import one_blas_thread, serial

__all__ = [
    "METHODS",
    "FittedNoise",
    "FittedPlaces",
    "Level",
    "Method",
    "Profile",
    "find_method",
    "named",
    "one_blas_thread",
    "serial",
    "tied_share",
]


_GIVEN = ("snr", "flip", "seed", "progress", "neighbours")  # by the caller, and no options
_LEVELS = ("snrs", "flips")  # likewise, where levels are fitted

Level = Mapping[str, float]  # of a known noise: {"snr": 4.0} or {"flip": 0.1}


class FittedNoise(Protocol):
    """An estimator fitted to clean samples once, that knows the noise: it answers for every SNR."""

    @property
    def profile(self) -> Callable[..., Profile]:
        """``profile(x, snr=4.0)``, or ``flip=0.1``: the CMI profile of the samples with noise of that level."""


class FittedPlaces(Protocol):
    """An estimator fitted to clean samples at many places of an image."""

    @property
    def profile(self) -> Callable[..., Profile]:
        """``profile(x, place, snr=4.0)``, or ``flip=0.1``: the CMI profile at one place."""


@dataclass(frozen=True)
class Method:
    """An estimator by name.

    Parameters
    ----------
    name : str
    profile : callable
        ``profile(x, sizes, **options)`` on samples as they are.
    fit : callable or None
        ``fit(x, sizes, snrs=..., **options)`` -> `FittedNoise`, for methods that know the noise, with the SNRs that
        will be asked for (and ``flips=...``, ``seed=...``, ``progress=...`` if it takes them); None: noise is
        sampled.
    tells : str
        One line on what it can and cannot tell, for help texts.
    takes_noise : bool
        Whether it can be used on samples with Gaussian noise, which are continuous.
    trains : bool
        Whether fitting takes long, and what is fitted answers for levels between those asked for as well.
    fit_places : callable or None
        ``fit_places(x, windows, sizes, snrs=..., **options)`` -> `FittedPlaces`, for methods that fit many places
        of an image together; None: they are scanned one after the other.
    """

    name: str
    profile: Callable[..., Profile]
    tells: str
    fit: Callable[..., FittedNoise] | None = None
    takes_noise: bool = True
    trains: bool = False
    fit_places: Callable[..., FittedPlaces] | None = None

    @property
    def options(self) -> dict[str, Any]:
        """Option names and their defaults, those of the noise left out."""
        own = [
            p for p in self._parameters.values() if p.kind is p.KEYWORD_ONLY and p.name not in (*_GIVEN, *_LEVELS)
        ]
        return {p.name: p.default for p in own}

    @property
    def _parameters(self) -> dict[str, inspect.Parameter]:
        """Of the profile, and of what it fits, to which it hands on what it does not take itself."""
        own = dict(inspect.signature(self.profile).parameters)
        if any(p.kind is p.VAR_KEYWORD for p in own.values()) and self.fit is not None:
            own |= inspect.signature(self.fit).parameters
        return own

    @property
    def noises(self) -> tuple[str, ...]:
        """Kinds of noise that it knows how to put on clean samples: "snr", "flip"."""
        return tuple(name for name in ("snr", "flip") if name in self._parameters)

    @property
    def draws(self) -> bool:
        """Whether it draws random numbers, and takes a seed."""
        return "seed" in self._parameters

    def estimate(
        self, x: NDArray[np.floating], sizes: Sequence[int], seed: int, options: Mapping[str, Any]
    ) -> Profile:
        """Return the profile of samples as they are."""
        seeded = {"seed": seed} if self.draws else {}
        return self.profile(x, sizes, **seeded, **options)

    def fitted(
        self,
        x: NDArray[np.floating],
        sizes: Sequence[int],
        seed: int,
        noises: Sequence[Level],
        options: Mapping[str, Any],
        progress: Callable[[Any], None] | None = None,
        neighbours: NDArray[np.int64] | None = None,
    ) -> FittedNoise | None:
        """Fit clean samples for levels of noise, as ``{"snr": 4.0}``; None if it does not know their kind.

        `neighbours` are windows around other pixels, for methods that learn from them.
        """
        if self.fit is None or not all(noise and set(noise) <= set(self.noises) for noise in noises):
            return None
        known: dict[str, Any] = {"seed": seed, "progress": progress, "neighbours": neighbours}
        known["flips"] = [noise["flip"] for noise in noises if "flip" in noise]
        taken = inspect.signature(self.fit).parameters
        given = {name: value for name, value in known.items() if name in taken}
        return self.fit(x, sizes, snrs=[noise["snr"] for noise in noises if "snr" in noise], **given, **options)

    def fitted_places(
        self,
        x: NDArray[np.floating],
        windows: NDArray[np.int64],
        sizes: Sequence[int],
        seed: int,
        noises: Sequence[Level],
        options: Mapping[str, Any],
        progress: Callable[[Any], None] | None = None,
    ) -> FittedPlaces:
        """Fit all places of an image together, for levels of noise as ``{"snr": 4.0}``."""
        assert self.fit_places is not None  # noqa: S101
        snrs = [noise["snr"] for noise in noises if "snr" in noise]
        flips = [noise["flip"] for noise in noises if "flip" in noise]
        return self.fit_places(x, windows, sizes, snrs=snrs, flips=flips, seed=seed, progress=progress, **options)

    @property
    def place_options(self) -> dict[str, Any]:
        """Options and their defaults where many places are asked for."""
        if self.fit_places is None:
            return self.options
        parameters = inspect.signature(self.fit_places).parameters.values()
        own = [p for p in parameters if p.kind is p.KEYWORD_ONLY and p.name not in (*_GIVEN, *_LEVELS)]
        return {p.name: p.default for p in own}

    def check_places(self, options: Mapping[str, Any]) -> None:
        """Raise a TypeError for an option that this method does not have where many places are asked for."""
        for option in options:
            if option not in self.place_options:
                known = ", ".join(self.place_options)
                raise TypeError(
                    f"the method {self.name!r} has no option {option!r} for positions: it takes {known}"
                )

    def check(self, options: Mapping[str, Any], *, noise: bool = False) -> None:
        """Raise a TypeError for an option that this method does not have; `noise` is one if samples are clean."""
        taken = [*self.options, *(self.noises if noise else ())]
        for option in options:
            if option in self.noises and not noise:
                raise TypeError(f"{option} follows from the levels: leave it out")
            if option not in taken:
                raise TypeError(f"the method {self.name!r} has no option {option!r}: it takes {', '.join(taken)}")


METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        Method(
            "gaussian",
            gaussian_profile,
            "linear dependence only; noise exact, bias removed, any number of pixels, seconds",
            fit_gaussian,
        ),
        Method(
            "copula",
            copula_profile,
            "monotone dependence, any marginals; noise sampled; not for data that are mostly one value",
        ),
        Method(
            "ksg",
            ksg_profile,
            "any dependence in a few dimensions, its bias measured; in many with --features regression",
        ),
        Method(
            "discrete",
            discrete_profile,
            "any dependence between columns of few values, clean or flipped; at least ten samples per joint state",
            takes_noise=False,
        ),
        Method(
            "mixture",
            mixture_profile,
            "any dependence, where noise blurs many samples into one another; noise known, flips too",
            fit_mixture,
        ),
        Method(
            "posterior",
            posterior_profile,
            "any dependence, in whole images too, by a network read on samples held out from it; needs torch",
            fit_posterior,
            trains=True,
            fit_places=fit_posterior_places,
        ),
        Method(
            "mmse",
            mmse_profile,
            "as posterior, by denoising losses (I-MMSE) in place of cross-entropies: a second opinion; needs torch",
            fit_mmse,
            trains=True,
        ),
    )
}


def named(name: str, options: Mapping[str, Any]) -> str:
    """Return the method with the options that are not its defaults, for titles.

    Examples
    --------
    >>> named("ksg", {"k": 20, "surrogates": 1, "calibrate": True, "features": "regression"})
    'ksg (k = 20, calibrate, features = regression)'
    """
    defaults = METHODS[name].options if name in METHODS else {}
    changed = [
        option if value is True else f"{option} = {value}"
        for option, value in options.items()
        if option in defaults and value != defaults[option]
    ]
    return f"{name} ({', '.join(changed)})" if changed else name


def find_method(name: str, options: Mapping[str, Any], *, noise: bool = False) -> Method:
    """Return the method of that name after checking its options, with `noise` among them or not.

    Raises
    ------
    ValueError
        If there is no such method.
    TypeError
        If it lacks one of the options.
    """
    if str(name) not in METHODS:
        raise ValueError(f"unknown method {name!r}: choose from {', '.join(METHODS)}")
    METHODS[name].check(options, noise=noise)
    return METHODS[name]

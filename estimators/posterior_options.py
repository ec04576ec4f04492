"""What a posterior network is asked for and how it is trained, checked before anything is done."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from estimators.arguments import number_above, whole_at_least
from estimators.known_noise import KnownNoise

if TYPE_CHECKING:
    from estimators.trainer import Settings, Training

__all__ = ["LEAST_SAMPLES", "Asked", "Trained", "need_torch", "strength", "training_notes"]

LEAST_SAMPLES = 200
_RATE, _BATCH = 2e-3, 512


@dataclass(frozen=True, eq=False)
class Asked:
    """Levels and training of a posterior network.

    Parameters
    ----------
    noises : tuple of KnownNoise
        Rising; those that leave nothing of the data are left out.
    binary : bool
        Whether any is of flips.
    minutes, steps
        How long to train.
    hidden, layers, seed : int
    options : dict
        All that a network depends on beside the samples and the levels.
    means : bool
        Whether it answers with means of the clean A, not with its posterior.
    """

    noises: tuple[KnownNoise, ...]
    binary: bool
    minutes: float
    steps: int | None
    hidden: int
    layers: int
    seed: int
    options: dict[str, object]
    means: bool = False

    @classmethod
    def of(
        cls,
        snrs: Iterable[float],
        flips: Iterable[float],
        *,
        train_minutes: float,
        steps: int | None,
        hidden: int,
        layers: int,
        seed: int,
        means: bool = False,
        **more: object,
    ) -> Asked:
        """Check them; `more` is what else a network depends on, None where there is nothing.

        Raises
        ------
        TypeError, ValueError
            For an option of a wrong kind or out of range; for Gaussian noise and flips together.
        """
        levels = [KnownNoise.of(snr, None) for snr in snrs] + [KnownNoise.of(None, flip) for flip in flips]
        binary = any(noise.flip > 0.0 for noise in levels)
        if binary and any(noise.sigma > 0.0 for noise in levels):
            raise ValueError("one network is for Gaussian noise or for flips: give either snrs or flips")
        minutes = number_above(train_minutes, "train_minutes", 0.0)
        steps = None if steps is None else whole_at_least(steps, "steps", 1)
        hidden, layers = whole_at_least(hidden, "hidden", 2), whole_at_least(layers, "layers", 1)
        seed = whole_at_least(seed, "seed", 0)
        options = {
            "minutes": None if steps is not None else minutes,
            "steps": steps,
            "hidden": hidden,
            "layers": layers,
            "seed": seed,
            "rate": _RATE,
            "batch": _BATCH,
            **({"means": True} if means else {}),
            **({"flips": True} if binary else {}),  # whose levels stand on the same axis
            **{name: value for name, value in more.items() if value is not None},
        }
        asked = sorted((noise for noise in levels if not noise.nothing_left), key=strength)
        return cls(tuple(asked), binary, minutes, steps, hidden, layers, seed, options, means)

    @property
    def method(self) -> str:
        """The method that asks."""
        return "mmse" if self.means else "posterior"

    @property
    def places(self) -> list[float]:
        """The levels, as a file of networks names them."""
        return [strength(noise) for noise in self.noises]

    def settings(self, number: int = 0, share: int = 1) -> Settings:
        """Of one of several networks, which share the minutes."""
        from estimators.trainer import Settings

        return Settings(
            minutes=self.minutes / share, steps=self.steps, rate=_RATE, batch=_BATCH, seed=self.seed + number
        )

    def fingerprint(self, x: NDArray[np.floating], sizes: Sequence[int]) -> str:
        """Of what a network depends on beside the levels."""
        plain = {**self.options, "sizes": [int(size) for size in sizes]}
        digest = hashlib.sha256(json.dumps(plain, sort_keys=True).encode())
        digest.update(np.ascontiguousarray(x).data.cast("B"))
        return digest.hexdigest()


@dataclass(frozen=True, slots=True)
class Trained:
    """The levels that a network was trained for.

    Parameters
    ----------
    places : tuple of float
        Rising; see `strength`.
    binary : bool
        Whether of flips.
    """

    places: tuple[float, ...]
    binary: bool

    def notes(self, noise: KnownNoise) -> list[str]:
        """Tell whether a level lies outside.

        Raises
        ------
        ValueError
            If the network knows nothing of such noise, and there is some, and something left of the data.

        Examples
        --------
        >>> trained = Trained((0.5, 2.0), False)
        >>> trained.notes(KnownNoise.of(1.0, None)), len(trained.notes(KnownNoise.of(16.0, None)))
        ([], 1)
        """
        if noise.nothing_left:
            return []
        if not self.places:
            raise ValueError("no network was trained: fit it with the levels that it is to answer for")
        if (noise.flip > 0.0 and not self.binary) or (noise.sigma > 0.0 and self.binary):
            own, other = ("flips", "Gaussian noise") if self.binary else ("Gaussian noise", "flips")
            raise ValueError(f"the network was trained for {own}, and knows nothing of {other}")
        place, slack = strength(noise), 1.0 + 1e-9
        if self.places[0] <= place * slack and place <= self.places[-1] * slack:
            return []
        ends = f"{self.places[0]:.3g} to {self.places[-1]:.3g}"
        return [f"the network was trained for noise from {ends}, not for {place:.3g}"]


def training_notes(training: Training, places: Sequence[float]) -> list[str]:
    """How a training for noise of these strengths ended, and what it left out."""
    notes = [f"{training.step} steps to a held-out loss of {training.best:.4f}"]
    if training.left_out:
        which = ", ".join(f"{places[level]:.3g}" for level in training.left_out)
        notes.append(f"the network is not trained at noise {which}, where its loss was not finite")
    return notes


def strength(noise: KnownNoise) -> float:
    """Rises with the noise."""
    return noise.flip if noise.flip else noise.sigma


def need_torch(method: str) -> None:
    """Raise an ImportError that says how to install torch, without it."""
    try:
        import estimators.posterior_network  # noqa: F401
    except ImportError as error:
        raise ImportError(f'the method "{method}" needs torch: pip install "phase-scan[torch]"') from error

"""A model that knows its own CMI: samples, the exact noised CMI of regions, where the Markov length diverges."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from cmi.noise import Noise, noise_schedule
from cmi.regions import Partition

FloatArray = NDArray[np.float64]

__all__ = ["Exact", "ExactModel"]


@dataclass(frozen=True)
class Exact:
    """A value, and its standard error where it was sampled: 0 where it is exact to rounding."""

    value: float
    stderr: float = 0.0

    def __float__(self) -> float:
        return self.value


class ExactModel(ABC):
    """Samples of shape (n, *shape) whose CMI between a centre A, a buffer of width r and the rest is known.

    Levels are times t of the model's own `noise`, in [0, 1]; with it ``phase_scan(model.sample(n, seed), noise=
    model.noise, ...)`` measures what `cmi` tells.
    """

    name: ClassVar[str]
    noise: ClassVar[str] = "interpolation"
    rounding: ClassVar[float] = 0.0  # absolute error of `cmi` in nats, where it is a difference of larger numbers

    @property
    @abstractmethod
    def shape(self) -> tuple[int, ...]:
        """Of one sample."""

    @property
    @abstractmethod
    def critical_level(self) -> float | None:
        """The noise level at which the Markov length diverges; None: at none with noise between 0 and its end."""

    @abstractmethod
    def sample(self, n: int, seed: int) -> FloatArray:
        """Draw n clean samples, (n, *shape)."""

    @abstractmethod
    def cmi(self, level: float, r: int) -> Exact:
        """I(A:C|B_r) in nats at that level, of the regions of `partition`."""

    @abstractmethod
    def markov_length(self, level: float) -> float:
        """Decay length of the CMI in r at that level, in an infinite system; 0 where it decays faster than any."""

    def partition(self, widths: Iterable[int] | None = None) -> Partition:
        """Return the regions: a central pixel and its rings."""
        return Partition.centered(self.shape, widths=widths)

    def schedule(self) -> Noise:
        """Return the noise schedule that levels belong to."""
        return noise_schedule(self.noise)

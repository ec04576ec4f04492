"""Forward processes Y = alpha(t) X + sigma(t) eps, or flips: how data are noised, at which t an SNR is reached.

Time runs from 0 (data) to 1 (noise).  The signal-to-noise ratio snr(t) = alpha(t)^2 / sigma(t)^2 falls with t
and is all that the CMI depends on, so scans on different schedules can share an SNR axis.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.float64]

__all__ = [
    "SCHEDULES",
    "Flip",
    "Interpolation",
    "Noise",
    "VarianceExploding",
    "VariancePreservingCosine",
    "VariancePreservingLinear",
    "noise_schedule",
]


@dataclass(frozen=True)
class Noise(ABC):
    """A schedule: alpha(t), sigma(t), their SNR and its inverse, for t in [0, 1].

    All functions take and return arrays of any shape; times outside [0, 1] are a ValueError.
    """

    name: ClassVar[str]
    gaussian: ClassVar[bool] = True  # False: values are exchanged, not added to

    @abstractmethod
    def _alpha(self, t: FloatArray) -> FloatArray: ...

    @abstractmethod
    def _sigma(self, t: FloatArray) -> FloatArray: ...

    @abstractmethod
    def _time(self, snr: FloatArray) -> FloatArray: ...

    def level(self, t: float) -> dict[str, float]:
        """Return what methods that know the noise are told: ``{"snr": 4.0}``, or ``{"flip": 0.1}`` of flips."""
        return {"snr": float(self.snr(t))} if self.gaussian else {}

    def alpha(self, t: ArrayLike) -> FloatArray:
        """Weight of the data at time t."""
        return self._alpha(self._times(t))

    def sigma(self, t: ArrayLike) -> FloatArray:
        """Standard deviation of the noise at time t, in units of the data."""
        return self._sigma(self._times(t))

    def snr(self, t: ArrayLike) -> FloatArray:
        """alpha(t)^2 / sigma(t)^2; infinite where there is no noise."""
        t = self._times(t)
        with np.errstate(divide="ignore", over="ignore"):
            return np.asarray(np.square(self._alpha(t) / self._sigma(t)))

    def time(self, snr: ArrayLike) -> FloatArray:
        """The t at which the SNR has the given value: the inverse of `snr`.

        Raises
        ------
        ValueError
            If a value is negative or not reached by this schedule between t = 0 and t = 1.
        """
        snr = np.asarray(snr, dtype=np.float64)
        low, high = self.snr(1.0), self.snr(0.0)
        slack = 1e-9
        outside = ~((snr >= low * (1 - slack)) & (snr <= high * (1 + slack)))
        if outside.any():
            raise ValueError(
                f"the {self.name} schedule reaches SNRs from {low:.3g} to {high:.3g}, not "
                f"{np.atleast_1d(snr)[np.atleast_1d(outside)][0]:.3g}"
            )
        with np.errstate(divide="ignore", over="ignore"):
            return np.asarray(np.clip(self._time(snr), 0.0, 1.0))

    def forward(self, x0: NDArray[np.floating], t: float, rng: np.random.Generator) -> FloatArray:
        """Draw Y = alpha(t) x0 + sigma(t) eps, eps standard normal of the shape of x0."""
        noisy = rng.standard_normal(x0.shape)
        noisy *= self.sigma(t)
        noisy += self.alpha(t) * x0
        return noisy

    def to_dict(self) -> dict[str, object]:
        """Name and parameters, enough to make the schedule again with `noise_schedule`."""
        return {"name": self.name, **asdict(self)}

    def _times(self, t: ArrayLike) -> FloatArray:
        t = np.asarray(t, dtype=np.float64)
        if not np.all((t >= 0.0) & (t <= 1.0)):
            bad = np.atleast_1d(t)[~((np.atleast_1d(t) >= 0.0) & (np.atleast_1d(t) <= 1.0))][0]
            raise ValueError(f"noise levels of the {self.name} schedule lie in [0, 1], got {bad:g}")
        return t


@dataclass(frozen=True)
class Interpolation(Noise):
    """alpha = 1 - t, sigma = t: the path of Hu, Liu, Zhang and Gao (arXiv:2508.06614), also flow matching's.

    Examples
    --------
    >>> float(Interpolation().snr(0.5))
    1.0
    >>> float(Interpolation().time(9.0))
    0.25
    """

    name: ClassVar[str] = "interpolation"

    def _alpha(self, t: FloatArray) -> FloatArray:
        return 1.0 - t

    def _sigma(self, t: FloatArray) -> FloatArray:
        return t.copy()

    def _time(self, snr: FloatArray) -> FloatArray:
        return 1.0 / (1.0 + np.sqrt(snr))


@dataclass(frozen=True)
class VariancePreservingLinear(Noise):
    """alpha^2 = exp(-int_0^t beta), sigma^2 = 1 - alpha^2, beta rising linearly (Song et al. 2021, eq. 33).

    Parameters
    ----------
    beta_min, beta_max : float
        beta at t = 0 and t = 1; the defaults are those of Song et al., the limit of DDPM's linear schedule.
    """

    name: ClassVar[str] = "vp-linear"
    beta_min: float = 0.1
    beta_max: float = 20.0

    def __post_init__(self) -> None:
        if not 0.0 < self.beta_min < self.beta_max < 1400.0:
            # exp(-700) is the smallest SNR that double precision holds with room to spare
            raise ValueError(f"need 0 < beta_min < beta_max < 1400, got {self.beta_min} and {self.beta_max}")

    def _integral(self, t: FloatArray) -> FloatArray:
        return t * self.beta_min + 0.5 * t**2 * (self.beta_max - self.beta_min)

    def _alpha(self, t: FloatArray) -> FloatArray:
        return np.asarray(np.exp(-0.5 * self._integral(t)))

    def _sigma(self, t: FloatArray) -> FloatArray:
        return np.asarray(np.sqrt(-np.expm1(-self._integral(t))))

    def _time(self, snr: FloatArray) -> FloatArray:
        integral = np.log1p(1.0 / snr)
        slope = self.beta_max - self.beta_min
        return np.asarray(2.0 * integral / (self.beta_min + np.sqrt(self.beta_min**2 + 2.0 * slope * integral)))


@dataclass(frozen=True)
class VariancePreservingCosine(Noise):
    """alpha^2 = f(t)/f(0), f = cos^2(pi/2 (t + s)/(1 + s)), sigma^2 = 1 - alpha^2.

    The cosine schedule of Nichol and Dhariwal (2021, eq. 17) in continuous time.

    Parameters
    ----------
    s : float
        Offset that keeps the first steps from being too small; 0.008 as in the paper.
    """

    name: ClassVar[str] = "vp-cosine"
    s: float = 0.008

    def __post_init__(self) -> None:
        if not 0.0 <= self.s < np.inf:
            raise ValueError(f"s must be at least 0, got {self.s}")

    def _angle(self, t: FloatArray) -> FloatArray:
        return 0.5 * np.pi * (t + self.s) / (1.0 + self.s)

    def _alpha(self, t: FloatArray) -> FloatArray:
        # cos(pi/2) is 6e-17 in floating point; at t = 1 no signal is left, and none must be
        return np.where(t == 1.0, 0.0, np.cos(self._angle(t)) / np.cos(self._angle(np.zeros(()))))

    def _sigma(self, t: FloatArray) -> FloatArray:
        # 1 - cos^2 b / cos^2 a = sin(b - a) sin(b + a) / cos^2 a keeps its digits as t goes to 0
        start, angle = self._angle(np.zeros(())), self._angle(t)
        return np.asarray(np.sqrt(np.sin(angle - start) * np.sin(angle + start)) / np.cos(start))

    def _time(self, snr: FloatArray) -> FloatArray:
        # tan^2 of the angle from sigma and alpha alike: arccos alone would lose its digits near t = 0
        start = self._angle(np.zeros(()))
        signal = 1.0 / (1.0 + 1.0 / snr)  # alpha^2
        sine2 = 1.0 / (1.0 + snr) + signal * np.sin(start) ** 2
        cosine2 = signal * np.cos(start) ** 2
        angle = np.arctan2(np.sqrt(sine2), np.sqrt(cosine2))
        return np.asarray(angle * 2.0 / np.pi * (1.0 + self.s) - self.s)


@dataclass(frozen=True)
class VarianceExploding(Noise):
    """alpha = 1, sigma = sigma_min (sigma_max/sigma_min)^t (Song et al. 2021, eq. 31).

    Parameters
    ----------
    sigma_min, sigma_max : float
        Noise at t = 0 and t = 1; the defaults are those of Song et al. for images in [0, 1].
    """

    name: ClassVar[str] = "ve"
    sigma_min: float = 0.01
    sigma_max: float = 50.0

    def __post_init__(self) -> None:
        if not 0.0 < self.sigma_min < self.sigma_max < np.inf:
            raise ValueError(
                f"need 0 < sigma_min < sigma_max < infinity, got {self.sigma_min} and {self.sigma_max}"
            )

    def _alpha(self, t: FloatArray) -> FloatArray:
        return np.ones_like(t)

    def _sigma(self, t: FloatArray) -> FloatArray:
        return np.asarray(self.sigma_min * (self.sigma_max / self.sigma_min) ** t)

    def _time(self, snr: FloatArray) -> FloatArray:
        return np.asarray(-np.log(self.sigma_min * np.sqrt(snr)) / np.log(self.sigma_max / self.sigma_min))


@dataclass(frozen=True)
class Flip(Noise):
    """Data of two values, each exchanged for the other with probability p = t / 2: a binary symmetric channel.

    For bits 0 and 1 the mean is that of alpha X + p with alpha = 1 - t = 1 - 2 p, and the channel adds a variance
    of sigma^2 = (1 - alpha^2) / 4. The values stay two, so that methods that count can be used at every t.

    Examples
    --------
    >>> bits = np.zeros((1000, 1))
    >>> flipped = Flip().forward(bits, 0.2, np.random.default_rng(0))
    >>> sorted(set(flipped.ravel().tolist())), bool(abs(flipped.mean() - 0.1) < 0.03)
    ([0.0, 1.0], True)
    """

    name: ClassVar[str] = "flip"
    gaussian: ClassVar[bool] = False

    def _alpha(self, t: FloatArray) -> FloatArray:
        return 1.0 - t

    def _sigma(self, t: FloatArray) -> FloatArray:
        return np.asarray(0.5 * np.sqrt(t * (2.0 - t)))

    def _time(self, snr: FloatArray) -> FloatArray:
        # 1 - alpha, with alpha^2 = snr / (snr + 4), in a form that keeps the digits of small times
        share = 4.0 / (snr + 4.0)
        return np.asarray(share / (1.0 + np.sqrt(1.0 - share)))

    def level(self, t: float) -> dict[str, float]:
        """Return the probability of a flip, ``{"flip": t / 2}``."""
        return {"flip": 0.5 * float(self._times(t))}

    def forward(self, x0: NDArray[np.floating], t: float, rng: np.random.Generator) -> FloatArray:
        """Exchange each value for the other with probability t / 2.

        Data of one value stay as they are if it is neither 0 nor 1.

        Raises
        ------
        ValueError
            If the data have more than two values.
        """
        low, high = float(x0.min()), float(x0.max())
        if low == high and low in (0.0, 1.0):
            low, high = 0.0, 1.0
        if not ((x0 == low) | (x0 == high)).all():
            raise ValueError("flip noise exchanges the two values of data that have two: these have more")
        flipped = rng.random(x0.shape) < 0.5 * float(self._times(t))
        return np.where(flipped, (low + high) - np.asarray(x0, dtype=np.float64), x0)


SCHEDULES: dict[str, type[Noise]] = {
    schedule.name: schedule
    for schedule in (Interpolation, VariancePreservingLinear, VariancePreservingCosine, VarianceExploding, Flip)
}


def noise_schedule(noise: str | Noise, **parameters: float) -> Noise:
    """Return the schedule of that name, or the schedule itself.

    Examples
    --------
    >>> noise_schedule("ve", sigma_max=10.0)
    VarianceExploding(sigma_min=0.01, sigma_max=10.0)
    """
    if isinstance(noise, Noise):
        return noise
    if str(noise) not in SCHEDULES:
        raise ValueError(f"unknown noise {noise!r}: choose from {', '.join(SCHEDULES)}")
    return SCHEDULES[noise](**parameters)

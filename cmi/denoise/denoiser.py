"""Denoiser: the mean of clean images given noisy ones, x0_hat(xt, t) = E[x0 | xt], and foreign models as one.

With xt = alpha(t) x0 + sigma(t) eps every prediction that is used in the field is one of x0:

    noise     x0_hat = (xt - sigma eps_hat) / alpha
    score     x0_hat = (xt + sigma^2 s_hat) / alpha            (Tweedie)
    velocity  x0_hat = xt - t v_hat                            v = eps - x0, the flow of alpha = 1 - t, sigma = t
              x0_hat = alpha xt - sigma v_hat                  v = alpha eps - sigma x0, if alpha^2 + sigma^2 = 1

The first two say nothing where alpha = 0.  References: Ho et al. (2020); Song et al. (2021); Salimans and Ho
(2022); Lipman et al. (2023).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from cmi.noise import (
    SCHEDULES,
    Interpolation,
    Noise,
    VariancePreservingCosine,
    VariancePreservingLinear,
    noise_schedule,
)

__all__ = [
    "Denoiser",
    "OnSchedule",
    "Shape",
    "evaluating",
    "from_clean",
    "from_epsilon",
    "from_score",
    "from_velocity",
    "precise",
    "precision",
]

Shape = tuple[int, int, int]  # channels, rows, columns
Model = Callable[[Tensor, Tensor], Tensor]


class Denoiser(nn.Module):
    """What is called as ``denoiser(xt, t)`` and returns x0_hat, of the shape of xt.

    Parameters
    ----------
    shape : (int, int, int)
        Channels, rows and columns of an image; lines have one row.
    noise : str or Noise
        Schedule of xt, with Gaussian noise.
    radius : int or None
        What is farther than that from a pixel, in rows or in columns, does not enter its value; None: everything
        may. Claimed by who made the denoiser; `receptive_field` measures it.
    """

    # signatures of the images that it was trained on, or chosen by; None: none are known
    trained_on: Tensor | None = None

    def __init__(
        self, shape: Sequence[int], noise: str | Noise = "interpolation", radius: int | None = None
    ) -> None:
        super().__init__()
        if len(shape) != 3 or min(shape) < 1:
            raise ValueError(f"the shape of an image is (channels, rows, columns), got {tuple(shape)}")
        self.shape: Shape = (int(shape[0]), int(shape[1]), int(shape[2]))
        if isinstance(noise, str) and not (noise in SCHEDULES and SCHEDULES[noise].gaussian):
            known = ", ".join(name for name, each in SCHEDULES.items() if each.gaussian)
            raise ValueError(f"denoisers are for Gaussian noise, got {noise!r}: choose from {known}")
        self.noise = noise_schedule(noise)
        if not self.noise.gaussian:
            raise ValueError(f"denoisers are for Gaussian noise, which {self.noise.name} is not")
        self.radius = radius

    @abstractmethod
    def denoised(self, xt: Tensor, t: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        """Return x0_hat; t is (n,), double and on the CPU; alpha and sigma are (n, 1, 1, 1), like xt."""

    def forward(self, xt: Tensor, t: Tensor | float) -> Tensor:
        """Return x0_hat.

        Parameters
        ----------
        xt : (n, channels, rows, columns) tensor
            Floating point.
        t : float, or (n,) tensor
            In [0, 1].

        Raises
        ------
        TypeError, ValueError
            For tensors of another kind or shape, and times outside [0, 1].
        """
        if not xt.is_floating_point():
            raise TypeError(f"noisy images are floating point, got {xt.dtype}")
        if xt.dim() != 4 or tuple(xt.shape[1:]) != self.shape:
            raise ValueError(f"noisy images must have shape (n, {', '.join(map(str, self.shape))}), got {_of(xt)}")
        # a tensor is moved first: not every device has double precision
        times = t.detach().cpu().double() if isinstance(t, Tensor) else torch.as_tensor(t, dtype=torch.float64)
        if times.dim() > 1 or (times.dim() == 1 and len(times) != len(xt)):
            raise ValueError(f"t is one number, or one for each of the {len(xt)} images, got shape {_of(times)}")
        alpha, sigma = (
            torch.as_tensor(part(times.numpy())).to(xt).expand(len(xt))[:, None, None, None]
            for part in (self.noise.alpha, self.noise.sigma)
        )
        found = self.denoised(xt, times.expand(len(xt)), alpha, sigma)
        if found.shape != xt.shape:
            raise ValueError(f"the model gives shape {_of(found)} for images of shape {_of(xt)}")
        return found

    def seen_images(self) -> list[Tensor]:
        """Signatures of the images that it, or what it is made of, was trained on, as far as they are known."""
        every = (each.trained_on for each in self.modules() if isinstance(each, Denoiser))
        return [found for found in every if found is not None]

    @property
    def label(self) -> str:
        """A short name, for tables and pictures."""
        return "global" if self.radius is None else f"local, r = {self.radius}"


class OnSchedule(Denoiser):
    """A denoiser of one schedule used on another: what it is given has the same SNR, scaled as it knows it.

    Parameters
    ----------
    denoiser : Denoiser
    noise : str or Noise
        The schedule on which it is to be used.

    Raises
    ------
    ValueError
        When it is called where its own schedule does not reach the SNR.

    Examples
    --------
    >>> from cmi.denoise import GaussianDenoiser, OnSchedule
    >>> import numpy as np, torch
    >>> exact = GaussianDenoiser(np.eye(4), shape=(1, 2, 2), noise="vp-cosine")
    >>> there = OnSchedule(exact, "interpolation")
    >>> there(torch.ones(1, 1, 2, 2), 0.5).flatten().tolist()  # alpha x / (alpha^2 + sigma^2)
    [1.0, 1.0, 1.0, 1.0]
    """

    def __init__(self, denoiser: Denoiser, noise: str | Noise) -> None:
        super().__init__(denoiser.shape, noise, denoiser.radius)
        self.denoiser = denoiser

    def denoised(self, xt: Tensor, t: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        """As the other one says at the same SNR."""
        own = self.denoiser.noise
        times = own.time(self.noise.snr(t.numpy()))
        scale = torch.as_tensor(own.sigma(times)).to(xt)[:, None, None, None]
        clean = sigma == 0.0  # scaled by alpha there, by sigma, which may be all that there is, elsewhere
        ratio = torch.where(
            clean,
            torch.as_tensor(own.alpha(times)).to(xt)[:, None, None, None] / torch.where(clean, alpha, 1.0),
            scale / torch.where(clean, 1.0, sigma),
        )
        found: Tensor = self.denoiser(ratio * xt, torch.as_tensor(times))
        return found


class _Foreign(Denoiser):
    def __init__(self, model: Model, shape: Sequence[int], noise: str | Noise, radius: int | None) -> None:
        super().__init__(shape, noise, radius)
        self.model = model

    def _predicted(self, xt: Tensor, t: Tensor) -> Tensor:
        own = precision(self, xt.dtype)
        found = self.model(xt.to(own), t.to(xt.device, own))
        if found.shape != xt.shape:
            raise ValueError(f"the model gives shape {_of(found)} for images of shape {_of(xt)}")
        return found.to(xt.dtype)

    def _check_alpha(self, alpha: Tensor, what: str) -> None:
        if not bool((alpha > 0.0).all()):
            raise ValueError(f"a {what} says nothing of the image where alpha = 0: stay below t = 1")


class _Clean(_Foreign):
    def denoised(self, xt: Tensor, t: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:  # noqa: ARG002
        return self._predicted(xt, t)


class _Epsilon(_Foreign):
    def denoised(self, xt: Tensor, t: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        self._check_alpha(alpha, "prediction of the noise")
        return (xt - sigma * self._predicted(xt, t)) / alpha


class _Score(_Foreign):
    def denoised(self, xt: Tensor, t: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        self._check_alpha(alpha, "score")
        return (xt + sigma**2 * self._predicted(xt, t)) / alpha


class _Flow(_Foreign):
    def denoised(self, xt: Tensor, t: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:  # noqa: ARG002
        return xt - sigma * self._predicted(xt, t)


class _Velocity(_Foreign):
    def denoised(self, xt: Tensor, t: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        return alpha * xt - sigma * self._predicted(xt, t)


def from_clean(
    model: Model, shape: Sequence[int], noise: str | Noise = "interpolation", radius: int | None = None
) -> Denoiser:
    """Return a denoiser of a model that predicts the clean image: x0_hat = model(xt, t).

    Parameters as in `from_epsilon`.

    Examples
    --------
    >>> import torch
    >>> blank = from_clean(lambda x, t: torch.zeros_like(x), (1, 1, 2))
    >>> blank(torch.ones(1, 1, 1, 2), 1.0).flatten().tolist()
    [0.0, 0.0]
    """
    return _Clean(model, shape, noise, radius)


def from_epsilon(
    model: Model, shape: Sequence[int], noise: str | Noise = "vp-linear", radius: int | None = None
) -> Denoiser:
    """Return a denoiser of a model that predicts the noise: x0_hat = (xt - sigma model(xt, t)) / alpha.

    Parameters
    ----------
    model : callable
        ``model(xt, t) -> eps_hat``, t of shape (n,) in [0, 1]: wrap what counts steps, as
        ``lambda x, t: unet(x, 999 * t).sample``. A module stays one: its parameters are the denoiser's.
    shape : (int, int, int)
        Channels, rows, columns.
    noise : str or Noise
        The schedule that the model was trained on.
    radius : int, optional
        As in `Denoiser`; default: global.

    Examples
    --------
    >>> import torch
    >>> nothing = from_epsilon(lambda x, t: torch.zeros_like(x), (1, 2, 2), "interpolation")
    >>> nothing(torch.ones(1, 1, 2, 2), 0.5).flatten().tolist()
    [2.0, 2.0, 2.0, 2.0]
    """
    return _Epsilon(model, shape, noise, radius)


def from_score(
    model: Model, shape: Sequence[int], noise: str | Noise = "vp-linear", radius: int | None = None
) -> Denoiser:
    """Return a denoiser of a model of the score grad ln p_t: x0_hat = (xt + sigma^2 model(xt, t)) / alpha.

    Parameters as in `from_epsilon`.

    Examples
    --------
    >>> import torch
    >>> white = from_score(lambda x, t: -x, (1, 1, 2), "vp-linear")  # of white data, of which alpha xt is the mean
    >>> bool(torch.allclose(white(torch.ones(1, 1, 1, 2), 0.1), torch.tensor(0.9464)[None, None, None], atol=1e-3))
    True
    """
    return _Score(model, shape, noise, radius)


def from_velocity(
    model: Model, shape: Sequence[int], noise: str | Noise = "interpolation", radius: int | None = None
) -> Denoiser:
    """Return a denoiser of a model of the velocity: that of flows, eps - x0, or of "v-prediction".

    Parameters
    ----------
    model, shape, radius
        As in `from_epsilon`.
    noise : str or Noise
        ``interpolation``: x0_hat = xt - t v; ``vp-linear``, ``vp-cosine``: x0_hat = alpha xt - sigma v.

    Raises
    ------
    ValueError
        For other schedules, for which no velocity is in use.

    Examples
    --------
    >>> import torch
    >>> still = from_velocity(lambda x, t: torch.zeros_like(x), (1, 1, 1))
    >>> still(torch.ones(1, 1, 1, 1), 0.3).item()
    1.0
    """
    schedule = noise_schedule(noise)
    if isinstance(schedule, Interpolation):
        return _Flow(model, shape, schedule, radius)
    if isinstance(schedule, VariancePreservingLinear | VariancePreservingCosine):
        return _Velocity(model, shape, schedule, radius)
    raise ValueError(f"a velocity is known of interpolation and of vp schedules, not of {schedule.name}")


def precision(module: nn.Module, other: torch.dtype) -> torch.dtype:
    """Of the parameters of a module, in which it computes; the other one if it has none."""
    return next((p.dtype for p in module.parameters() if p.is_floating_point()), other)


def precise(device: torch.device) -> torch.dtype:
    """Double precision, where a device has such a thing."""
    return torch.float32 if device.type == "mps" else torch.float64


@contextmanager
def evaluating(denoisers: Iterable[nn.Module]) -> Iterator[None]:
    """Without dropout and its like for a while; afterwards every part is as it was."""
    every = [part for denoiser in denoisers for part in denoiser.modules()]
    before = [part.training for part in every]
    for part in every:
        part.training = False
    try:
        yield
    finally:
        for part, was in zip(every, before, strict=True):
            part.training = was


def _of(x: Tensor) -> tuple[int, ...]:
    return tuple(x.shape)

"""Answers: a network with what turns its output into posteriors of the clean columns of A."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from estimators.noisy_parities import Checks
from estimators.posterior_data import Start, Values
from estimators.posterior_loss import corrected_loss
from estimators.profile import FloatArray
from estimators.shell_network import ShellNetwork

__all__ = ["Answers", "Levels"]

_TARGET = 0.1  # of the range of A: noise on the value that is predicted, at most; more would hide what shells tell


@dataclass(frozen=True, eq=False)
class Levels:
    """Starts of several levels as tensors; see `Start`.

    Parameters
    ----------
    sigma, flip, place : (levels,) tensors
    mean, scale : (levels, targets, d) tensors
        The scale brings every noisy column to a size near 1.
    weights, precision : (levels, targets, groups, d) and (levels, targets, groups) tensors
    """

    sigma: Tensor
    flip: Tensor
    place: Tensor
    mean: Tensor
    scale: Tensor
    weights: Tensor
    precision: Tensor

    @classmethod
    def of(cls, starts: Sequence[Start], device: torch.device) -> Self:
        """Stack them."""

        def tensor(values: Any) -> Tensor:
            return torch.as_tensor(np.asarray(values), dtype=torch.float32, device=device)

        return cls(
            tensor([start.noise.sigma for start in starts]),
            tensor([start.noise.flip for start in starts]),
            tensor([start.place for start in starts]),
            tensor([start.mean for start in starts]),
            tensor([1.0 / np.hypot(start.size, start.noise.sigma) for start in starts]),
            tensor([start.weights for start in starts]),
            tensor([1.0 / start.variance for start in starts]),
        )

    def of_these(self, which: Sequence[int]) -> Self:
        """Take some of the levels, one several times if it is named so."""
        return type(self)(**{name: value[list(which)] for name, value in vars(self).items()})

    def noisy(self, clean: Tensor, generator: torch.Generator) -> Tensor:
        """Return (levels, n, d) samples with fresh noise."""
        if bool((self.flip > 0.0).any()):
            drawn = torch.rand(clean.shape, generator=generator, device=clean.device)
            return torch.where(drawn < self.flip[:, None, None], 1.0 - clean, clean)
        drawn = torch.randn(clean.shape, generator=generator, device=clean.device)
        return torch.addcmul(clean, self.sigma[:, None, None], drawn)


class Answers(torch.nn.Module):
    """Posteriors p(x_A | y_B) of the columns of A, at every width in one pass.

    Parameters
    ----------
    network : ShellNetwork
    values : sequence of Values
        Of every column of A.
    checks : Checks, optional
        Parities that the clean bits obey, if they are bits that obey any.
    """

    def __init__(self, network: ShellNetwork, values: Sequence[Values], checks: Checks | None = None) -> None:
        super().__init__()
        self.checks = checks
        self.network, self.values = network, tuple(values)
        knots = network.offset.shape[1]  # columns of A with fewer values have fewer: the rest are 0
        self._plain = [each.arrays(knots) for each in values]

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return self.network.offset.device

    @property
    def draws(self) -> int:
        """Columns of A that a step of training asks for at every level."""
        return 1

    def drawn(self, count: int, generator: torch.Generator) -> list[int]:
        """Draw columns of A to train on."""
        which: list[int] = torch.randint(
            len(self.values), (count,), generator=generator, device=generator.device
        ).tolist()
        return which

    def samples(self, clean: Tensor, targets: Sequence[int]) -> Tensor:  # noqa: ARG002
        """Clean samples (levels, n, d), in the order A, S_1, ..., S_m, of what is trained on."""
        return clean

    def own(self, target: int) -> int:
        """Return which column of a sample that column of A is."""
        return target

    def own_noise(self, target: int, sigma: float) -> float:
        """Noise on the column of A that is predicted, in training, where all others have sigma."""
        return min(sigma, _TARGET * self.values[target].range)

    def looked_at(self) -> list[tuple[int, slice]]:
        """Return the columns of A, and the held-out samples at which each is looked."""
        return [(target, slice(None)) for target in range(len(self.values))]

    def terms(self, noisy: Tensor, targets: Sequence[int], levels: Levels) -> tuple[Tensor, Tensor, Tensor]:
        """Correction (levels, n, groups, knots), and the start's quadratic and linear part (levels, n, groups).

        The start is a normal distribution of mean m and precision h over one of the variance before anything was
        seen, to the power of the gate.

        Parameters
        ----------
        noisy : (levels, n, d) tensor
        targets : sequence of int
            Which column of A, at every level.
        levels : Levels
        """
        each = torch.arange(len(targets), device=noisy.device), torch.as_tensor(targets, device=noisy.device)
        centred = noisy - levels.mean[each][:, None]
        mean, variance = self._moments(targets)
        guess = centred @ levels.weights[each].transpose(1, 2) + mean[:, None, None]
        inputs = self._inputs(centred * levels.scale[each][:, None], each[1])
        parities = None if self.checks is None else self.checks.seen(noisy, targets, levels.sigma)
        correction, gate = self.network(inputs, levels.place, parities)
        h = gate * levels.precision[each]
        before = gate / variance[:, None]
        quadratic = (-0.5 * (h - before))[:, None].expand_as(guess)
        return correction, quadratic, h[:, None] * guess - (before * mean[:, None])[:, None]

    def loss(self, noisy: Tensor, targets: Sequence[int], levels: Levels, seen: Sequence[Tensor]) -> Tensor:
        """-ln of the probability of what is seen of a column of A, (levels, n, groups).

        Parameters
        ----------
        noisy, targets, levels
            As in `terms`.
        seen : sequence of (n, V) tensors
            Of every level: the density of what is seen given each value; see `seen`.
        """
        every = zip(*(each.unbind() for each in self.terms(noisy, targets, levels)), targets, seen, strict=True)
        parts: list[Tensor] = []
        for correction, quadratic, linear, target, w in every:
            if self.device.type == "cpu":
                arrays = self._plain[target]
                parts.append(_Loss.apply(correction, quadratic, linear, arrays, w))  # type: ignore[no-untyped-call]
            else:
                logits = self._logits(correction, quadratic, linear, target)
                parts.append(-torch.logsumexp(torch.log_softmax(logits, dim=-1) + w[:, None].log(), dim=-1))
        return torch.stack(parts)

    def posteriors(self, noisy: Tensor, target: int, levels: Levels) -> tuple[FloatArray, FloatArray]:
        """Probabilities of the clean values (levels, n, groups, k): of the network, and of the Gaussian alone."""
        with torch.no_grad():
            correction, quadratic, linear = self.terms(noisy, [target] * len(noisy), levels)
            both = [self._logits(correction, quadratic, linear, target), self._gaussian(noisy, target, levels)]
            known = len(self.values[target].known)
            network, gaussian = (torch.softmax(each.cpu().double(), dim=-1)[..., :known].numpy() for each in both)
            return network, gaussian

    def _inputs(self, scaled: Tensor, targets: Tensor) -> Tensor:
        """What the network is given: of several columns of A which is asked for, and those before it."""
        count = len(self.values)
        if count == 1:
            return scaled[..., 1:]
        which = functional.one_hot(targets, count).to(scaled.dtype)[:, None].expand(-1, scaled.shape[1], -1)
        known = scaled[..., :count] * (torch.arange(count, device=scaled.device) < targets[:, None, None])
        return torch.cat([known, which, scaled[..., count:]], dim=-1)

    def _gaussian(self, noisy: Tensor, target: int, levels: Levels) -> Tensor:
        """Logits of the start as it is."""
        centred = noisy - levels.mean[:, target][:, None]
        values = self.values[target]
        guess = centred @ levels.weights[:, target].transpose(1, 2) + values.mean
        points, log_share, _ = (torch.as_tensor(each, device=self.device) for each in self._plain[target])
        before = (points - values.mean) ** 2 / values.variance
        given = (points - guess[..., None]) ** 2 * levels.precision[:, target][:, None, :, None]
        return log_share + 0.5 * (before - given)

    def _logits(self, correction: Tensor, quadratic: Tensor, linear: Tensor, target: int) -> Tensor:
        points, log_share, hats = (torch.as_tensor(each, device=self.device) for each in self._plain[target])
        start = points * (linear[..., None] + points * quadratic[..., None])
        return log_share + start + correction @ hats

    def seen(self, clean: Tensor, target: int, noise: float, generator: torch.Generator) -> Tensor:
        """Density (n, V), on any scale, of values of A (n,) seen with some noise, given each known value.

        Without noise it is 1 for the value itself.
        """
        points = torch.as_tensor(self._plain[target][0], device=clean.device)
        known = len(self.values[target].known)
        if noise == 0.0:
            nearest = (clean[:, None] - points[:known]).abs().argmin(dim=-1)
            return functional.one_hot(nearest, len(points)).to(clean.dtype)
        y = clean + noise * torch.randn(clean.shape, generator=generator, device=clean.device)
        density = torch.exp(-0.5 * ((y[:, None] - points) / noise) ** 2)
        density[:, known:] = 0.0
        return density

    def _moments(self, targets: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Mean and variance of clean columns of A."""
        both = [(self.values[target].mean, self.values[target].variance) for target in targets]
        mean, variance = torch.tensor(both, dtype=torch.float32, device=self.device).T
        return mean, variance


class _Loss(torch.autograd.Function):
    """`corrected_loss`, which has the gradient with the loss."""

    @staticmethod
    def forward(
        ctx: Any, correction: Tensor, quadratic: Tensor, linear: Tensor, arrays: tuple[Any, ...], seen: Tensor
    ) -> Tensor:
        groups, knots = correction.shape[-2:]

        def plain(x: Tensor, *last: int) -> Any:
            return np.ascontiguousarray(x.detach().reshape(-1, *last).numpy())

        loss, *gradients = corrected_loss(
            plain(correction, groups, knots),
            plain(quadratic, groups),
            plain(linear, groups),
            plain(seen, seen.shape[-1]),
            arrays,
        )
        ctx.save_for_backward(*(torch.from_numpy(each) for each in gradients))
        return torch.from_numpy(loss).reshape(correction.shape[:-1])

    @staticmethod
    def backward(ctx: Any, *above: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:
        correction, quadratic, linear = ctx.saved_tensors
        shape, flat = above[0].shape, above[0].reshape(quadratic.shape)
        return (
            (correction * flat[..., None]).reshape(*shape, -1),
            (quadratic * flat).reshape(shape),
            (linear * flat).reshape(shape),
            None,
            None,
        )

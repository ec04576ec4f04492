"""Means: a network that denoises A itself, for every SNR of A up to that of its surroundings.

What it is trained on is an information.  With A at SNR g and its surroundings at snr (`mmse`),

    L_r = 1/2 int_0^snr < (x_A - x_hat_r(y_A^g, y_{B_r}))^2 > dg  >=  I(X_A : Y_A | Y_{B_r}),

equal for the mean of the posterior (I-MMSE), and L_r less that of all surroundings is the CMI.  SNRs are drawn
evenly in u = ln(1 + g v), v the variance of A: dg = (1 + g v) / v du weighs every scale of noise alike.

Answers begin as the mean of a Gaussian guess that tilts the marginal distribution of A (`tilted_means`): right with
nothing around A, and where A is seen so well that one value is left.  The network adds a multiple of its width.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from estimators.placed_answers import PlacedAnswers
from estimators.posterior_answers import Answers, Levels
from estimators.tilted_means import tilted_means

__all__ = ["FEATURES", "Means", "PlacedMeans"]

FEATURES = 32  # of what is seen around A, that the head is given
_UNITS = 64
_TOLD = 5  # numbers that tell the head of y and g
_DRAWS = 2  # SNRs of A that are drawn per sample in a step of training


class Means(Answers):
    """Means of the clean columns of A, given the column at any SNR and B_r, at every width in one pass."""

    def __init__(self, *given: Any, **options: Any) -> None:
        super().__init__(*given, **options)
        self.head = _Head()

    def own_noise(self, target: int, sigma: float) -> float:  # noqa: ARG002
        """The least on A is that of its surroundings."""
        return sigma

    def seen(self, clean: Tensor, target: int, noise: float, generator: torch.Generator) -> Tensor:
        """Clean values of A, and (n, 1 + 2 draws) SNRs in place of a density: and A seen at each.

        The SNRs lie between 0 and noise^-2.
        """
        most = math.log1p(self.values[target].variance / noise**2)
        drawn = (len(clean), _DRAWS)
        u = most * torch.rand(drawn, generator=generator, device=clean.device)
        g = torch.expm1(u) / self.values[target].variance
        z = torch.randn(drawn, generator=generator, device=clean.device)
        return torch.cat([clean[:, None], g, clean[:, None] + z / g.clamp(min=1e-12).sqrt()], dim=1)

    def loss(self, noisy: Tensor, targets: Sequence[int], levels: Levels, seen: Sequence[Tensor]) -> Tensor:
        """1/2 (x_A - x_hat)^2 dg / du, (levels, n, groups): nats per unit of u, so that levels weigh alike."""
        clean, g, y = torch.stack([*seen]).tensor_split([1, 1 + _DRAWS], dim=2)
        found, _, _ = self.means(noisy, targets, levels, g, y)
        variance = self._moments(targets)[1][:, None, None]
        weight = 0.5 * (1.0 + g * variance) / variance
        return (weight[:, :, None] * (found - clean[:, :, None]) ** 2).mean(dim=3)

    def means(
        self, noisy: Tensor, targets: Sequence[int], levels: Levels, g: Tensor, y: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Means (levels, n, groups, k) with A seen at k SNRs g as y: of the network, its start, and the Gaussian.

        Parameters
        ----------
        noisy, targets, levels
            As in `Answers.terms`.
        g, y : (levels, n, k) tensors
            y is A plus noise of variance 1/g.
        """
        each = torch.arange(len(targets), device=noisy.device), torch.as_tensor(targets, device=noisy.device)
        centred = noisy - levels.mean[each][:, None]
        mean, before = (moment[:, None, None] for moment in self._moments(targets))
        precision = levels.precision[each]
        guess = centred @ levels.weights[each].transpose(1, 2) + mean
        features, gate = self.network(self._inputs(centred * levels.scale[each][:, None], each[1]), levels.place)
        start, width = self._starts(targets, guess, precision, g, y)
        unit = before[..., None].sqrt()
        snr = (g / (1.0 + g * before))[:, :, None]
        variance = 1.0 / precision[:, None, :, None]
        gain = g[:, :, None] * variance / (1.0 + g[:, :, None] * variance)
        gaussian = guess[..., None] + gain * (y[:, :, None] - guess[..., None])
        told = torch.broadcast_tensors(  # type: ignore[no-untyped-call]
            (y[:, :, None] - mean[..., None]) * snr.sqrt(),
            2.0 * gain - 1.0,
            torch.log1p(g * before)[:, :, None] / 4.0,
            (start - mean[..., None]) / unit,
            width / unit,
        )
        added = self.head(features, torch.stack(told, dim=-1))
        return start + width * gate[:, None, :, None] * added, start, gaussian

    def _starts(
        self, targets: Sequence[int], guess: Tensor, precision: Tensor, g: Tensor, y: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Means and widths before the network adds to them."""
        found = []
        for level, target in enumerate(targets):
            values = self.values[target]
            own, precise, snr, seen = (each[level].detach().cpu().numpy() for each in (guess, precision, g, y))
            found.append(
                tilted_means(
                    own,
                    precise,
                    snr,
                    seen,
                    values.known,
                    values.share,
                    mean=values.mean,
                    variance=values.variance,
                    bin_variance=values.bin_variance,
                )
            )
        start, width = (torch.as_tensor(np.stack(each), device=guess.device) for each in zip(*found, strict=True))
        return start, width


class PlacedMeans(Means, PlacedAnswers):
    """Means of a clean pixel at many places of an image."""

    def at(self, place: int) -> PlacedMeans:
        """Means at one place."""
        one = slice(place, place + 1)
        found = PlacedMeans(
            self.network, self.values[one], self.windows[one], self.inside[one], self.which[one], draws=1
        )
        found.head = self.head
        return found


class _Head(nn.Module):
    """What the network adds to the mean, in widths of what it begins at; 0 to begin with."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.told = nn.Linear(FEATURES, _UNITS), nn.Linear(_TOLD, _UNITS)
        self.second = nn.Linear(_UNITS, _UNITS)
        self.last = nn.Linear(_UNITS, 1)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def forward(self, features: Tensor, told: Tensor) -> Tensor:
        """(..., groups, features) and (..., groups, k, told) -> (..., groups, k)."""
        inner = functional.silu(self.first(features)[..., None, :] + self.told(told))
        found: Tensor = self.last(functional.silu(self.second(inner)))
        return found[..., 0]

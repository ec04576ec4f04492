"""PlacedAnswers: posteriors of a clean pixel at many places of an image, by one network that is told the place."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from estimators.posterior_answers import Answers
from estimators.posterior_data import Values
from estimators.profile import IntArray
from estimators.shell_network import ShellNetwork

__all__ = ["PlacedAnswers", "make_placed_answers"]

_FIRST = 0.25  # of the samples are of the first place, where that is all that matters
_DRAWN = 32  # pairs of a level and a place in a step: more samples of fewer places learn no faster


class PlacedAnswers(Answers):
    """Posteriors p(x_A | y_B) of one pixel A at every place, its surroundings seen through a window.

    Parameters
    ----------
    network : ShellNetwork
        Its group 0 is told the place.
    values : sequence of Values
        Of A at every place.
    windows : (places, 1 + D) tensor of int
        Columns of A and of its shells; the last column of the samples, which is empty, where they lie outside.
    inside : (places, D) tensor
        1 where a column of the shells lies within the image, else 0.
    which : (places,) tensor of int
        Number of every place, of so many as the network knows.
    draws : int
        Places that are asked for at every level in a step.
    alone : bool
        Whether the first place is all that matters, and the others are there to learn from: it is drawn more often,
        and alone looked at.
    """

    windows: Tensor
    inside: Tensor
    which: Tensor

    def __init__(
        self,
        network: ShellNetwork,
        values: Sequence[Values],
        windows: Tensor,
        inside: Tensor,
        which: Tensor,
        draws: int,
        alone: bool = False,
    ) -> None:
        super().__init__(network, values)
        self._draws, self._alone = draws, alone
        for name, tensor in (("windows", windows), ("inside", inside), ("which", which)):
            self.register_buffer(name, tensor, persistent=False)

    @property
    def draws(self) -> int:
        """Places that a step of training asks for at every level."""
        return self._draws

    def drawn(self, count: int, generator: torch.Generator) -> list[int]:
        """Draw places to train on."""
        which = super().drawn(count, generator)
        if not self._alone:
            return which
        first = torch.rand(count, generator=generator, device=generator.device) < _FIRST
        return [0 if own else place for own, place in zip(first.tolist(), which, strict=True)]

    def samples(self, clean: Tensor, targets: Sequence[int]) -> Tensor:
        """Windows (levels, n, 1 + D) of images (levels, n, d), at one place per level."""
        return torch.stack([image[:, self.windows[place]] for image, place in zip(clean, targets, strict=True)])

    def own(self, target: int) -> int:  # noqa: ARG002
        """Return where A is in a window: in front."""
        return 0

    def looked_at(self) -> list[tuple[int, slice]]:
        """Return the places, each with other samples: all places together with as many as one column of A."""
        if self._alone:
            return [(0, slice(None))]
        count = len(self.values)
        return [(place, slice(place, None, count)) for place in range(count)]

    def at(self, place: int) -> PlacedAnswers:
        """Answers for windows of one place."""
        one = slice(place, place + 1)
        return PlacedAnswers(
            self.network, self.values[one], self.windows[one], self.inside[one], self.which[one], draws=1
        )

    def _inputs(self, scaled: Tensor, targets: Tensor) -> Tensor:
        places = self.network.sizes[0]
        which = functional.one_hot(self.which[targets], places).to(scaled.dtype)
        seen = scaled[..., 1:] * self.inside[targets][:, None]
        return torch.cat([which[:, None].expand(-1, scaled.shape[1], -1), seen], dim=-1)


def make_placed_answers(
    sizes: Sequence[int],
    values: Sequence[Values],
    windows: IntArray,
    components: Sequence[Tensor],
    levels: int,
    *,
    hidden: int,
    layers: int,
    seed: int,
    device: torch.device,
    matmul: torch.dtype,
    alone: bool = False,
    kind: type[PlacedAnswers] = PlacedAnswers,
    outputs: int | None = None,
) -> PlacedAnswers:
    """Return a network as it begins.

    Parameters
    ----------
    sizes : sequence of int
        (1, |S_1|, ..., |S_m|).
    values : sequence of Values
        Of A at every place.
    windows : (places, 1 + D) array of int
        Columns of an image; -1 outside.
    components : sequence of (inputs, at least hidden / 2) tensors
        See `ShellNetwork.begin_at`.
    levels : int
        That are trained.
    hidden, layers, seed, device, matmul
        As in `ShellNetwork`.
    alone : bool
        As in `PlacedAnswers`.
    kind : type, optional
        Of the answers; default: posteriors.
    outputs : int, optional
        Of the network; default: as many as posteriors have knots.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = ShellNetwork(
            [len(values), *sizes[1:]],
            outputs or max(len(each.hats) for each in values),
            hidden=hidden,
            layers=layers,
            matmul=matmul,
        )
        network.begin_at(components, len(values))
        at = torch.as_tensor(windows)
        inside = (at[:, 1:] >= 0).float()
        draws = max(1, round(_DRAWN / levels))
        found = kind(network, values, at, inside, torch.arange(len(values)), draws, alone)
    return found.to(device)

"""Training of a posterior network: fresh noise at every step and level."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from estimators.posterior_answers import Answers, Levels
from estimators.posterior_data import Start
from estimators.posterior_part import spread
from estimators.profile import FloatArray
from estimators.trainer import Look, Settings, Trainer, Training, trained

__all__ = ["PosteriorTrainer", "train"]


_LOOKED = 1500  # samples, at most: the differences from look to look are paired


class PosteriorTrainer(Trainer):
    """Posteriors at several levels, learnt from clean samples; held out are others."""

    def __init__(
        self, answers: Answers, starts: Sequence[Start], clean: Tensor, held: Tensor, settings: Settings
    ) -> None:
        super().__init__(answers, settings, answers.device)
        self.answers, self.clean, self.held = answers, clean, held
        self.every_level = Levels.of(starts, answers.device)
        self._step_levels: tuple[list[int], Levels] | None = None

    def losses(self) -> Tensor:
        """Mean loss of every level of a step, as often as columns of A are drawn for it."""
        levels = self._trained()
        many = len(levels.sigma)
        per = max(self.settings.batch // many, 1)
        chosen = torch.randint(len(self.clean), (many, per), generator=self.generator, device=self.clean.device)
        drawn = self.answers.drawn(many, self.generator)
        return self._loss(self.answers.samples(self.clean[chosen], drawn), drawn, levels).mean(dim=(1, 2))

    def held_out(self) -> float:
        """Mean over levels, columns of A and widths."""
        found = []
        for level in self._places():
            one = self.every_level.of_these([level])
            for target, rows in self.answers.looked_at():
                held = self.answers.samples(self.held[None, rows], [target])
                found.append(float(self._loss(held, [target], one).mean()))
        return math.fsum(found) / len(found)

    def levels(self) -> list[int]:
        """The levels of a step, each as often as columns of A are drawn for it."""
        return [level for level in self._places() for _ in range(self.answers.draws)]

    def _loss(self, rows: Tensor, targets: Sequence[int], levels: Levels) -> Tensor:
        noisy = levels.noisy(rows, self.generator)
        seen = []
        for level, (target, sigma) in enumerate(zip(targets, levels.sigma.tolist(), strict=True)):
            noise = self.answers.own_noise(target, sigma)
            own = rows[level, :, self.answers.own(target)]
            seen.append(self.answers.seen(own, target, noise, self.generator))
        return self.answers.loss(noisy, targets, levels, seen)

    def _places(self) -> list[int]:
        """Levels that are trained."""
        return [level for level in range(len(self.every_level.sigma)) if level not in self.training.left_out]

    def _trained(self) -> Levels:
        slots = self.levels()
        if slots == list(range(len(self.every_level.sigma))):
            return self.every_level
        if self._step_levels is None or self._step_levels[0] != slots:
            self._step_levels = slots, self.every_level.of_these(slots)
        return self._step_levels[1]


def train(
    answers: Answers,
    starts: Sequence[Start],
    clean: FloatArray,
    validation: FloatArray,
    settings: Settings,
    *,
    saved: dict[str, Any] | None = None,
    save: Callable[[dict[str, Any]], None] | None = None,
    progress: Callable[[Look], None] | None = None,
) -> Training:
    """Train, and leave the averaged weights with the lowest held-out loss in the network.

    Parameters
    ----------
    answers : Answers
    starts : sequence of Start
        The levels.
    clean, validation : (n, d) arrays
        To train on, and to look at.
    settings : Settings
    saved : dict, optional
        State to go on from, as it was given to `save`.
    save : callable, optional
        Takes the state, every minute, when training is interrupted, and when it is done.
    progress : callable, optional
        Takes a `Look`, sixteen times and at the end.
    """
    device = answers.device
    looked = validation[spread(np.arange(len(validation)), _LOOKED)]
    x, held = (torch.as_tensor(part, dtype=torch.float32, device=device) for part in (clean, looked))
    run = PosteriorTrainer(answers, starts, x, held, settings)
    return trained(run, saved=saved, save=save, progress=progress)

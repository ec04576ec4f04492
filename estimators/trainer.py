"""Training of a network: AdamW with a warm-up and a cosine, averaged weights, the best of them by held-out loss.

A `Trainer` knows a network and its losses; `trained` runs it, by the clock or for a number of steps, keeps what it
takes to go on, and leaves the averaged weights with the lowest held-out loss in the network.
"""

from __future__ import annotations

import math
import signal
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from types import FrameType
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["Look", "Settings", "Trainer", "Training", "TrainingError", "trained"]

_WARM = 200  # steps until the learning rate is reached
_AVERAGE = 0.999  # of the weights, over steps
_DECAY = 0.05
_CLIP = 1.0
_LOOKS = 16  # at the held-out loss
_PATIENCE = 8  # looks without a better one until training ends
_FAILURES = (
    20  # steps in a row without a finite loss until levels are left out, or it goes back to the best weights
)
_RETREATS = 3
SAVED = 60.0  # seconds between checkpoints


class TrainingError(RuntimeError):
    """Training has led to nothing: it diverged, or no loss was finite."""


@dataclass(frozen=True, slots=True)
class Settings:
    """How to train.

    Parameters
    ----------
    minutes : float
        How long, with the looks at the held-out loss.
    steps : int or None
        In place of the minutes: then the result does not depend on the machine's speed.
    rate : float
        Learning rate of AdamW after the first steps; it falls as a cosine, of the minutes or the steps.
    batch : int
        Samples per step, shared among the levels.
    seed : int
    """

    minutes: float
    steps: int | None
    rate: float
    batch: int
    seed: int


@dataclass(frozen=True, slots=True)
class Look:
    """The held-out loss after some steps: the mean over levels and widths, in nats."""

    step: int
    total: int
    held_out: float


@dataclass(slots=True)
class Training:
    """Where a training is: all that goes into a checkpoint but the weights.

    Parameters
    ----------
    step, total : int
        Done, and in all; of minutes as many as they seem to hold so far.
    seconds : float
        That it has taken.
    looks : list of Look
    best : float
        Lowest held-out loss.
    failures, retreats : int
        Steps in a row without a finite loss, and times that training went back to the best weights.
    left_out : list of int
        Levels whose loss was not finite while that of others was: answers stay there what they were.
    factor : float
        Of the learning rate: halved at every retreat.
    done : bool
    """

    step: int = 0
    total: int = 0
    seconds: float = 0.0
    looks: list[Look] = field(default_factory=list)
    best: float = math.inf
    failures: int = 0
    retreats: int = 0
    left_out: list[int] = field(default_factory=list)
    factor: float = 1.0
    done: bool = False


class Trainer(ABC):
    """A network that is trained.

    Parameters
    ----------
    network : module
    settings : Settings
    device : torch.device
        Of the network and of the random numbers.
    """

    def __init__(self, network: nn.Module, settings: Settings, device: torch.device) -> None:
        self.settings, self.device = settings, device
        self.generator = torch.Generator(device).manual_seed(settings.seed)
        self.every = list(network.parameters())
        matrices = [p for p in self.every if p.dim() > 1]
        rest = [p for p in self.every if p.dim() < 2]
        self.optimiser = torch.optim.AdamW(
            [{"params": matrices, "weight_decay": _DECAY}, {"params": rest, "weight_decay": 0.0}],
            lr=settings.rate,
            betas=(0.9, 0.98),
            fused=True,
        )
        self.average = [p.detach().clone() for p in self.every]
        self.kept = [p.detach().clone() for p in self.every]
        self.training = Training(total=settings.steps or 0)
        self.whole = True  # what `state` returns; not in the middle of a step

    @abstractmethod
    def losses(self) -> Tensor:
        """Losses of one batch, (parts,), whose mean is followed; noise is drawn from the generator."""

    @abstractmethod
    def held_out(self) -> float:
        """The held-out loss with the weights that the network has, noise drawn from the generator."""

    def levels(self) -> list[int] | None:
        """The level of noise of every part of the losses, where levels can be left out; None: they cannot."""
        return None

    def part(self) -> float:
        """How much of the training is done; 1: all."""
        now = self.training
        if self.settings.steps is not None:
            return min(now.step / self.settings.steps, 1.0)
        return min(now.seconds / (60.0 * self.settings.minutes), 1.0)

    def rate(self) -> float:
        """Learning rate of the next step."""
        now = self.training
        warm = min(1.0, (now.step + 1) / _WARM)
        return self.settings.rate * now.factor * warm * (0.5 * (1.0 + math.cos(math.pi * self.part())) + 0.01)

    def step(self) -> None:
        """One step of AdamW; without a finite loss none."""
        now, self.whole = self.training, False
        for group in self.optimiser.param_groups:
            group["lr"] = self.rate()
        self.optimiser.zero_grad()
        each = self.losses()
        loss = each.mean()
        loss.backward()  # type: ignore[no-untyped-call]
        size = torch.nn.utils.clip_grad_norm_(self.every, _CLIP)
        now.step += 1
        if not bool(torch.isfinite(loss) & torch.isfinite(size)):
            self._failed(torch.isfinite(each.detach()).tolist())
            self.whole = True
            return
        now.failures = 0
        self.optimiser.step()
        with torch.no_grad():
            share = 1.0 - min(_AVERAGE, (1.0 + now.step) / (10.0 + now.step))
            torch._foreach_lerp_(self.average, [p.detach() for p in self.every], share)
        self.whole = True

    def look(self) -> float:
        """Held-out loss with the averaged weights, on noise that is the same every time."""
        now = self.training
        mine, self.generator = (
            self.generator,
            torch.Generator(self.device).manual_seed(self.settings.seed + 1),
        )
        try:
            with torch.no_grad(), _weights(self.every, self.average):
                held_out = self.held_out()
        finally:
            self.generator = mine
        now.looks.append(Look(now.step, now.total, held_out))
        if held_out < now.best:
            now.best = held_out
            self.kept = [p.clone() for p in self.average]
        return held_out

    def patient(self) -> bool:
        """Whether one of the last looks was the best, or none has told anything yet."""
        last = [look.held_out for look in self.training.looks[-_PATIENCE:] if math.isfinite(look.held_out)]
        return not last or min(last) <= self.training.best

    def state(self) -> dict[str, Any]:
        """Everything, as tensors and plain values."""
        if self.training.done:
            return {"training": asdict(self.training), "kept": self.kept}
        return {
            "training": asdict(self.training),
            "weights": [p.detach() for p in self.every],
            "average": self.average,
            "kept": self.kept,
            "optimiser": self.optimiser.state_dict(),
            "generator": self.generator.get_state(),
            "device": self.device.type,
        }

    def load(self, state: dict[str, Any]) -> None:
        """Go on from there."""
        saved = dict(state["training"])
        saved["looks"] = [Look(**look) for look in saved["looks"]]
        self.training = Training(**saved)
        with torch.no_grad():
            for name, own in (("weights", self.every), ("average", self.average), ("kept", self.kept)):
                for p, value in zip(own, state.get(name, state["kept"]), strict=True):
                    p.copy_(value)
        if not self.training.done:
            self.optimiser.load_state_dict(state["optimiser"])
            if state["device"] == self.device.type:
                self.generator.set_state(state["generator"])
            else:  # its random numbers are others
                self.generator.manual_seed(self.settings.seed + self.training.step)

    def _failed(self, finite: list[bool]) -> None:
        now = self.training
        now.failures += 1
        if now.failures < _FAILURES:
            return
        levels = self.levels()
        if levels is not None:
            bad = sorted({level for level, fine in zip(levels, finite, strict=True) if not fine})
            if bad and bad != sorted(set(levels)):
                now.failures, now.left_out = 0, [*now.left_out, *bad]
                return
        now.failures, now.retreats, now.factor = 0, now.retreats + 1, 0.5 * now.factor
        if now.retreats > _RETREATS:
            raise TrainingError(
                f"training diverged {now.retreats} times, the last at step {now.step}: give a lower rate than "
                f"{self.settings.rate:g}"
            )
        with torch.no_grad():
            for p, average, value in zip(self.every, self.average, self.kept, strict=True):
                p.copy_(value)
                average.copy_(value)
        self.optimiser.state.clear()


def trained(
    run: Trainer,
    *,
    saved: dict[str, Any] | None = None,
    save: Callable[[dict[str, Any]], None] | None = None,
    progress: Callable[[Look], None] | None = None,
) -> Training:
    """Train, and leave the averaged weights with the lowest held-out loss in the network.

    Parameters
    ----------
    run : Trainer
        At its beginning.
    saved : dict, optional
        State to go on from, as it was given to `save`.
    save : callable, optional
        Takes the state, every minute, when training is interrupted, and when it is done.
    progress : callable, optional
        Takes a `Look`, sixteen times and at the end.

    Raises
    ------
    ValueError
        If what was saved is no state of such a training.
    TrainingError
        If training diverges again and again, or ends without one finite held-out loss.
    """
    if saved is not None:
        try:
            run.load(saved)
        except (KeyError, TypeError, ValueError, AttributeError, IndexError, RuntimeError) as error:
            raise ValueError(
                "what was saved of the training is damaged: remove the file, and begin anew"
            ) from error
    keep = save if save is not None else _nothing
    begun = time.monotonic() - run.training.seconds
    last = time.monotonic()
    try:
        with _interrupts_between_steps() as interrupted:
            while not run.training.done:
                interrupted()
                now = run.training
                now.seconds = time.monotonic() - begun
                part = run.part()
                if now.step and part * _LOOKS >= len(now.looks) + 1:
                    now.total = run.settings.steps or round(now.step / part)
                    run.look()
                    now.done = part >= 1.0 or not run.patient()
                    if progress is not None:
                        progress(now.looks[-1])
                    if now.done:
                        break
                run.step()
                if time.monotonic() - last > SAVED:
                    last = time.monotonic()
                    keep(run.state())
    except KeyboardInterrupt:
        if run.whole:
            keep(run.state())
        raise
    if not math.isfinite(run.training.best):
        raise TrainingError(
            "the held-out loss was never finite: are the values of the samples too large, or the rate of "
            f"{run.settings.rate:g} too high?"
        )
    with torch.no_grad():
        for p, value in zip(run.every, run.kept, strict=True):
            p.copy_(value)
    if saved is None or not saved["training"]["done"]:
        keep(run.state())
    return run.training


@contextmanager
def _interrupts_between_steps() -> Iterator[Callable[[], None]]:
    """Ctrl-C and its like wait for the next call of what is yielded; a second one does not wait.

    In the middle of a step random numbers are drawn that its weights have not seen: what is saved there does not go
    on to the same numbers.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: None
        return
    numbers = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
    before = {number: handler for number in numbers if callable(handler := signal.getsignal(number))}
    waiting: list[int] = []

    def wait(number: int, frame: FrameType | None) -> None:
        waiting.append(number)
        if len(waiting) > 1:
            before[signal.Signals(number)](number, frame)

    def answer() -> None:
        if waiting:
            number = waiting.pop()
            waiting.clear()
            before[signal.Signals(number)](number, None)

    for number in before:
        signal.signal(number, wait)
    try:
        yield answer
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    answer()


def _nothing(state: dict[str, Any]) -> None:
    """Keep no checkpoint."""


@contextmanager
def _weights(every: Sequence[Tensor], weights: Sequence[Tensor]) -> Iterator[None]:
    """Other weights for a while."""
    own = [p.detach().clone() for p in every]
    for p, value in zip(every, weights, strict=True):
        p.copy_(value)
    try:
        yield
    finally:
        for p, value in zip(every, own, strict=True):
            p.copy_(value)

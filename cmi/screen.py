"""The screen: console, progress bar, and errors as one line."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import typer

from cmi.workers import heed

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["Advance", "bar", "console", "errors"]


def console(*, stderr: bool = False) -> Console:
    """Return a console that prints names as they are."""
    from rich.console import Console

    # File names are not markup. Pipes and files have no width: take the room that a wide table needs.
    plain: dict[str, Any] = {"markup": False, "emoji": False, "highlight": False, "soft_wrap": True}
    plainly = Console(stderr=stderr, **plain)
    return plainly if plainly.is_terminal else Console(stderr=stderr, width=220, **plain)


@dataclass(frozen=True, slots=True)
class Advance:
    """What moves a bar: called with what is done and the total, or with a look at a training."""

    what: str
    show: Callable[[str, int, int], None]

    def __call__(self, done: int, total: int) -> None:
        """Show how much is done."""
        heed()
        self.show(self.what, done, total)

    def training(self, look: Any) -> None:
        """Show the steps of a training, and its held-out loss."""
        heed()
        self.show(f"training, held-out loss {look.held_out:.4f}", look.step, look.total)


@contextmanager
def bar(what: str, total: int) -> Iterator[Advance]:
    """A progress bar on stderr, where that is a terminal."""
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    screen = console(stderr=True)
    shown = Progress(*columns, console=screen, transient=True, disable=not screen.is_terminal)
    with shown as drawn:
        task = drawn.add_task(what, total=total)

        def show(text: str, done: int, total: int) -> None:
            drawn.update(task, description=text, completed=done, total=total)

        yield Advance(what, show)


# of torch, which has no MemoryError
_OUT_OF_MEMORY = ("allocate memory", "out of memory", "not enough memory")


@contextmanager
def errors(debug: bool) -> Iterator[None]:
    """Turn exceptions into one line on stderr and an exit code: 1 for an error, 130 for an interrupt."""
    try:
        yield
    except (typer.Exit, typer.Abort):
        raise
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)  # noqa: T201
        raise typer.Exit(130) from None
    except Exception as error:
        if debug:
            raise
        from concurrent.futures import BrokenExecutor

        known = (ValueError, TypeError, OSError, ImportError, MemoryError, BrokenExecutor)
        # a scan that failed after some levels has its cause
        expected = isinstance(error, known) or isinstance(error.__cause__, known)
        text = " ".join(str(error).split()) or type(error).__name__
        text = text.replace("n_permutations", "--permutations")
        if isinstance(error, BrokenExecutor) or isinstance(error.__cause__, BrokenExecutor):
            text = "a worker process was killed, for lack of memory perhaps: try again with fewer --workers"
        if isinstance(error, RuntimeError) and any(words in text for words in _OUT_OF_MEMORY):
            expected, text = True, "there is not enough memory for that: ask for less, or for a smaller network"
        prefix = "Error" if expected else f"Unexpected {type(error).__name__}"
        print(f"{prefix}: {text}", file=sys.stderr)  # noqa: T201
        if not expected:
            print("This is a bug in phase-scan; --debug shows where.", file=sys.stderr)  # noqa: T201
        raise typer.Exit(1) from None

"""Workers and signals of the command line: Ctrl-C ends the work, keeps its results, and leaves nothing running.

Imports nothing heavy: the command line uses it before anything else.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from concurrent.futures import Executor

__all__ = ["heed", "signals", "uninterrupted", "workers"]


_PATIENCE = 3.0  # seconds in which workers are ended and scans are saved
_pressed = threading.Event()  # within `signals`: there was an interrupt


@contextmanager
def workers(count: int) -> Iterator[Executor | None]:
    """Yield a pool of processes, or None for one; on an interrupt the processes are ended, not waited for."""
    if count == 1:
        yield None
        return
    import multiprocessing
    from concurrent.futures import Future, ProcessPoolExecutor

    class Pool(ProcessPoolExecutor):
        def submit(self, *arguments: Any, **named: Any) -> Future[Any]:
            with uninterrupted("SIGINT"):  # a process inherits it, and need not tell of Ctrl-C while it starts
                return super().submit(*arguments, **named)

    pool = Pool(count, mp_context=multiprocessing.get_context("spawn"), initializer=_ignore_interrupts)
    try:
        yield pool
    except BaseException:
        for child in multiprocessing.active_children():
            child.terminate()
        pool.shutdown(wait=True, cancel_futures=True)
        raise
    with uninterrupted():  # all is computed: nothing may be lost now
        pool.shutdown()


@contextmanager
def signals() -> Iterator[None]:
    """Treat SIGTERM and SIGHUP like Ctrl-C: keep what is finished, end the workers.

    What follows within a few seconds is taken for the same interrupt: the first one is still being answered.  An
    error that compiled code made of an interrupt is one; what fails while it is answered, as a full disk, is not.
    """
    import math
    import signal
    import time

    if threading.current_thread() is not threading.main_thread():
        yield
        return

    last = -math.inf

    def interrupt(*_: object) -> None:
        nonlocal last
        if time.monotonic() - last < _PATIENCE:
            return
        last = time.monotonic()
        _pressed.set()
        raise KeyboardInterrupt

    names = [name for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
    # what is ignored already, as by nohup, stays so
    names = [name for name in names if signal.getsignal(getattr(signal, name)) is not signal.SIG_IGN]
    before = {name: signal.signal(getattr(signal, name), interrupt) for name in names}
    try:
        yield
    except Exception as error:
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, KeyboardInterrupt):
            cause = cause.__cause__
        if cause is not None:
            raise KeyboardInterrupt from error
        raise
    finally:
        _pressed.clear()
        for name, handler in before.items():
            signal.signal(getattr(signal, name), handler)


def heed() -> None:
    """Raise KeyboardInterrupt if one was raised and lost: Python drops what is raised in a finalizer."""
    if _pressed.is_set():
        raise KeyboardInterrupt


@contextmanager
def uninterrupted(*names: str) -> Iterator[None]:
    """Put off Ctrl-C: inside an import it can be swallowed, inside a save it would lose what is being saved.

    Signals are SIGINT, SIGTERM and SIGHUP if no others are named.
    """
    import signal

    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    held = {getattr(signal, name) for name in names or ("SIGINT", "SIGTERM", "SIGHUP")}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, held)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _ignore_interrupts() -> None:
    """Leave Ctrl-C to the parent, which keeps what is finished and ends the workers; end when it is gone."""
    import os
    import signal
    import threading
    import time

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1.0)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()

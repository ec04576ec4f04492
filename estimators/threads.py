"""Threads: kernels over ranges of samples, the same bits for any number of threads.

Kernels release the GIL and run in Python threads, each on its own range; no numba threading layer is used, so
forked and threaded callers are safe.  Inside `serial` everything, BLAS included, stays on one thread: that is
what a worker of a parallel scan needs, and what makes matrix products the same bits on every machine setting.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from threading import Lock, Thread

from threadpoolctl import threadpool_limits

__all__ = ["available_threads", "for_ranges", "one_blas_thread", "serial"]

_lock = Lock()
_inside: list[None] = []  # one item per thread that keeps BLAS on one thread
_limits: list[threadpool_limits] = []
_serial: ContextVar[bool] = ContextVar("estimators_serial", default=False)


def available_threads() -> int:
    """Return how many threads a kernel uses here: the cores this process may run on, 1 inside `serial`."""
    if _serial.get():
        return 1
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS and Windows
        return os.cpu_count() or 1


@contextmanager
def serial() -> Iterator[None]:
    """Keep the kernels that this thread calls on this thread (a worker shares the machine with others)."""
    token = _serial.set(True)
    try:
        yield
    finally:
        _serial.reset(token)


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Keep BLAS on one thread, process-wide: the sums inside a matrix product then have one order only.

    Threads that are inside together share one limit: the first sets it and the last takes it away.
    """
    with _lock:
        if not _inside:
            _limits.append(threadpool_limits(limits=1, user_api="blas"))
        _inside.append(None)
    try:
        yield
    finally:
        with _lock:
            _inside.pop()
            if not _inside:
                _limits.pop().restore_original_limits()


def for_ranges(job: Callable[[int, int], None], n: int, *, chunk: int, threads: int | None = None) -> None:
    """Call ``job(start, stop)`` over ranges that cover 0..n, in threads.

    The ranges depend on `chunk` alone, never on the number of threads, and a job writes to its own range only:
    results cannot depend on scheduling.

    Parameters
    ----------
    job : callable
        Releases the GIL for most of its time.
    n : int
        Number of items.
    chunk : int
        Items per call; small enough that the last call does not keep the other threads waiting.
    threads : int, optional
        Default: `available_threads`; one inside `serial`, whatever is asked for.

    Examples
    --------
    >>> seen = []
    >>> for_ranges(lambda start, stop: seen.append((start, stop)), 5, chunk=2, threads=1)
    >>> seen
    [(0, 2), (2, 4), (4, 5)]
    """
    ranges = [(start, min(start + chunk, n)) for start in range(0, n, chunk)]
    allowed = available_threads()
    threads = min(allowed if threads is None else threads, len(ranges), allowed if _serial.get() else len(ranges))
    if threads <= 1:
        for start, stop in ranges:
            job(start, stop)
        return
    # The caller works too, and starts at once: a pool of futures costs half a millisecond, as much as some kernels.
    left, lock, errors = iter(ranges), Lock(), list[BaseException]()

    def work() -> None:
        while not errors:
            with lock:
                following = next(left, None)
            if following is None:
                return
            try:
                job(*following)
            except BaseException as error:  # noqa: BLE001 - raised again by the caller
                errors.append(error)

    helpers = [Thread(target=work) for _ in range(threads - 1)]
    try:
        for helper in helpers:
            helper.start()
        work()
        for helper in helpers:
            helper.join()
    except BaseException as error:  # noqa: BLE001 - an interrupt, while waiting: the others stop at their next range
        errors.append(error)
        for helper in helpers:
            if helper.ident is not None:
                helper.join()
    if errors:
        raise errors[0]

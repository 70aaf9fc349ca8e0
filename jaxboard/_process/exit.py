"""How a process ends with runs open: they are closed, whichever way it ends.

A normal end, an exception and ``sys.exit`` come by ``atexit``. SIGTERM, which schedulers send before
they kill, would end the process at once; while a run is open and nobody else has set a handler, it
closes the open runs first and then ends the process as it would have.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import os
import signal
import threading
import time
from types import FrameType
from typing import Protocol

from jaxboard._log import describe, logger

_GRACE_SECS = 20.0
"""How long SIGTERM is put off. Kubernetes and Slurm send SIGKILL 30 s after it."""


class Closeable(Protocol):
    """A run, as far as this module knows it."""

    def end(self, timeout: float | None) -> None:
        """Closeable it; with a timeout, whatever the device does."""
        ...


class _State:
    """What the process has open."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.runs: list[Closeable] = []
        self.watch: _Watch | None = None
        self.mask: set[int] = set()


_state = _State()


def close_at_exit(run: Closeable) -> None:
    """From now on ``run`` is closed when the process ends."""
    with _state.lock:
        _state.runs = [*_state.runs, run]
    _catch_sigterm()


def forget(run: Closeable) -> None:
    """``run`` was closed."""
    with _state.lock:
        _state.runs = [other for other in _state.runs if other is not run]
    if not _state.runs:
        _release_sigterm()


def _close_all(grace: float | None = None) -> None:
    deadline = None if grace is None else time.monotonic() + grace
    for run in reversed(_state.runs):
        try:
            run.end(None if deadline is None else max(0.0, deadline - time.monotonic()))
        except Exception as fault:
            logger.error("jaxboard: %s", describe(fault))


atexit.register(_close_all)


# --- SIGTERM. -------------------------------------------------------------------------------------
# A Python handler runs on the main thread, which may hold any lock, and only once that thread is
# back in the interpreter, which it is not while a long computation runs. So the work is done by a
# thread that waits at a pipe, into which the interpreter itself writes the number of a signal as it
# arrives (signal.set_wakeup_fd). Where that is taken, by an event loop, the handler writes it.


class _Watch:
    """The pipe and the thread; made at the first need and kept."""

    def __init__(self) -> None:
        self.read, self.write = os.pipe()
        os.set_blocking(self.write, False)
        threading.Thread(
            target=self._loop, args=(self.read,), name="jaxboard SIGTERM", daemon=True
        ).start()

    @staticmethod
    def _loop(read: int) -> None:
        while numbers := os.read(read, 64):
            # Others may have set a handler since; then the signal is theirs.
            if signal.SIGTERM in numbers and signal.getsignal(signal.SIGTERM) is _on_sigterm:
                _close_all(_GRACE_SECS)
                # signal.signal() works on the main thread only; this is what it calls.
                ctypes.pythonapi.PyOS_setsig(int(signal.SIGTERM), None)
                os.kill(os.getpid(), signal.SIGTERM)


def _on_sigterm(number: int, _: FrameType | None) -> None:
    if _state.watch is not None:
        with contextlib.suppress(BlockingIOError):  # Full: it is about to be read.
            os.write(_state.watch.write, bytes([number]))


def _catch_sigterm() -> None:
    if os.name != "posix" or threading.current_thread() is not threading.main_thread():
        return
    if signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        return
    _state.watch = _state.watch or _Watch()
    signal.signal(signal.SIGTERM, _on_sigterm)
    before = signal.set_wakeup_fd(_state.watch.write, warn_on_full_buffer=False)
    if before != -1:
        signal.set_wakeup_fd(before)


def _release_sigterm() -> None:
    # Off the main thread it stays: with no run open, it only ends the process as it should.
    watch = _state.watch
    if watch is None or threading.current_thread() is not threading.main_thread():
        return
    before = signal.set_wakeup_fd(-1)
    if before != watch.write:
        signal.set_wakeup_fd(before)
    if signal.getsignal(signal.SIGTERM) is _on_sigterm:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _before_fork() -> None:
    # A SIGTERM to a child that hasn't come to _after_fork_in_child would go down the pipe that it
    # shares with its parent, and end that. Blocked, it waits.
    _state.mask = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])


def _after_fork() -> None:
    signal.pthread_sigmask(signal.SIG_SETMASK, _state.mask)


def _after_fork_in_child() -> None:
    # The runs, and the thread at the other end of the pipe, are the parent's.
    _release_sigterm()
    if _state.watch is not None:
        os.close(_state.watch.read)
        os.close(_state.watch.write)
    _state.watch = None
    _state.runs = []
    _state.lock = threading.Lock()
    _after_fork()


if os.name == "posix":
    os.register_at_fork(
        before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork_in_child
    )

"""The end of the process: open runs are closed, however it ends.

A normal end, an exception and ``sys.exit`` reach ``atexit``. SIGTERM, which schedulers send before they
kill a process, would end it immediately. While a run is open and the program has no SIGTERM handler of
its own, SIGTERM closes the open runs first and then ends the process as usual.

Profiles that are being recorded end the same way. The last one opened is closed first, so a profile is
saved before its run is closed.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import os
import signal
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import TypeAlias

from jaxboard._log import describe, logger
from jaxboard._process.fork import Stage, on_fork

_GRACE_SECS = 20.0
"""Most seconds by which SIGTERM is delayed. Kubernetes and Slurm send SIGKILL 30 s after it."""

Close: TypeAlias = Callable[[float | None], None]
"""Closes a run, or ends a profile, within that many seconds. With None it also waits for the device."""


class _State:
    """The open runs and profiles of this process, and the SIGTERM watcher that closes it."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.open: list[Close] = []
        self.watcher: _SigtermWatcher | None = None
        self.mask: set[int] = set()


_state = _State()


def close_at_exit(close: Close) -> None:
    """Call ``close`` when the process ends, unless :func:`forget` is called first."""
    with _state.lock:
        _state.open = [*_state.open, close]
    _catch_sigterm()


def forget(close: Close) -> None:
    """Undo :func:`close_at_exit`; a no-op if ``close`` is not registered."""
    with _state.lock:
        _state.open = [other for other in _state.open if other != close]
    if not _state.open:
        _release_sigterm()


def _close_all(grace: float | None = None) -> None:
    deadline = None if grace is None else time.monotonic() + grace
    for close in reversed(_state.open):
        try:
            close(None if deadline is None else max(0.0, deadline - time.monotonic()))
        except Exception as fault:
            logger.error("jaxboard: %s", describe(fault))


atexit.register(_close_all)


# --- SIGTERM. -------------------------------------------------------------------------------------
# A Python handler runs on the main thread, which may hold any lock, and only when that thread is back
# in the interpreter; during a long computation it is not. A separate thread therefore does the work.
# It reads from a pipe, into which the interpreter itself writes the number of each signal as it
# arrives (signal.set_wakeup_fd). If an event loop already uses that slot, the handler writes instead.


class _SigtermWatcher:
    """The pipe and the thread; created with the first run and then kept."""

    def __init__(self) -> None:
        self.read, self.write = os.pipe()
        os.set_blocking(self.write, False)
        threading.Thread(
            target=self._loop, args=(self.read,), name="jaxboard SIGTERM", daemon=True
        ).start()

    @staticmethod
    def _loop(read: int) -> None:
        while numbers := os.read(read, 64):
            # The program may have set its own handler since; then the signal is not ours.
            if signal.SIGTERM in numbers and signal.getsignal(signal.SIGTERM) is _on_sigterm:
                _close_all(_GRACE_SECS)
                # signal.signal() works only on the main thread; it calls this function.
                ctypes.pythonapi.PyOS_setsig(int(signal.SIGTERM), None)
                os.kill(os.getpid(), signal.SIGTERM)


def _on_sigterm(number: int, _: FrameType | None) -> None:
    if _state.watcher is not None:
        with contextlib.suppress(BlockingIOError):  # A full pipe is about to be read.
            os.write(_state.watcher.write, bytes([number]))


def _catch_sigterm() -> None:
    if os.name != "posix" or threading.current_thread() is not threading.main_thread():
        return
    if signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        return
    _state.watcher = _state.watcher or _SigtermWatcher()
    signal.signal(signal.SIGTERM, _on_sigterm)
    previous = signal.set_wakeup_fd(_state.watcher.write, warn_on_full_buffer=False)
    if previous != -1:
        signal.set_wakeup_fd(previous)


def _release_sigterm() -> None:
    # Off the main thread the handler stays. With no open run it only ends the process as usual.
    watcher = _state.watcher
    if watcher is None or threading.current_thread() is not threading.main_thread():
        return
    previous = signal.set_wakeup_fd(-1)
    if previous != watcher.write:
        signal.set_wakeup_fd(previous)
    if signal.getsignal(signal.SIGTERM) is _on_sigterm:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


# --- Forks. ---------------------------------------------------------------------------------------


def _block_sigterm() -> None:
    # Until the child has run its hook, a SIGTERM to the child would go into the pipe that it shares
    # with its parent and end the parent. A blocked signal waits.
    _state.mask = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])


def _unblock_sigterm() -> None:
    signal.pthread_sigmask(signal.SIG_SETMASK, _state.mask)


def _reset_in_child() -> None:
    # The runs belong to the parent, and so does the thread at the other end of the pipe.
    _release_sigterm()
    if _state.watcher is not None:
        os.close(_state.watcher.read)
        os.close(_state.watcher.write)
    _state.watcher = None
    _state.open = []
    _state.lock = threading.Lock()
    _unblock_sigterm()


on_fork(Stage.SIGNALS, before=_block_sigterm, in_parent=_unblock_sigterm, in_child=_reset_in_child)

"""The end of the process: open runs are closed, however it ends.

A normal end, an exception and ``sys.exit`` reach ``atexit``. SIGTERM, which schedulers send before they kill a
process, and SIGHUP, which a closed terminal sends, would end it immediately. While a run is open and the program has
no handler of its own for them, they close the open runs first and then end the process as usual.

Profiles that are being recorded end the same way. The last one opened is closed first, so a profile is
saved before its run is closed.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import os
import signal
import sys
import threading
import time
import weakref
from collections.abc import Callable
from types import FrameType
from typing import TypeAlias

from jaxboard._log import describe, logger
from jaxboard._process.fork import Stage, on_fork

_SIGNALS = () if os.name != "posix" else (signal.SIGTERM, signal.SIGHUP)
"""Signals that end a process unless it handles them, and that are sent to end it in an orderly way."""

_GRACE_SECS = 20.0
"""Most seconds by which a signal is delayed. Kubernetes and Slurm send SIGKILL 30 s after SIGTERM."""

_INTERRUPTED_SECS = 5.0
"""Most seconds for which interpreter exit goes on after Ctrl-C."""

Close: TypeAlias = Callable[[float | None], None]
"""Closes a run, or ends a profile, within that many seconds. With None it also waits for the device."""


class _State:
    """The open runs and profiles of this process, and the watcher that closes them on a signal."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.open: list[Close] = []
        self.watcher: _SignalWatcher | None = None
        self.mask: set[int] = set()


_state = _State()


def close_at_exit(close: Close) -> None:
    """Call ``close`` when the process ends, unless :func:`forget` is called first."""
    with _state.lock:
        _state.open = [*_state.open, close]
    _catch_signals()


def forget(close: Close) -> None:
    """Undo :func:`close_at_exit`; a no-op if ``close`` is not registered."""
    with _state.lock:
        _state.open = [other for other in _state.open if other != close]
    if not _state.open:
        _release_signals()


def _close_all(grace: float | None = None) -> None:
    deadline = None if grace is None else time.monotonic() + grace
    for close in reversed(_state.open):
        try:
            close(None if deadline is None else max(0.0, deadline - time.monotonic()))
        except Exception as fault:
            logger.error("jaxboard: %s", describe(fault))


def _close_at_exit() -> None:
    """Close everything. Ctrl-C sets a time limit: what is left is written all the same if it can be."""
    deadline: float | None = None
    while True:
        try:
            _close_all(None if deadline is None else max(0.0, deadline - time.monotonic()))
        except KeyboardInterrupt:
            deadline = deadline or time.monotonic() + _INTERRUPTED_SECS
        else:
            break
    _restore_interrupt()


def _restore_interrupt() -> None:
    """Let a program that Ctrl-C ended die of SIGINT: a shell stops its script only then.

    The interpreter notes at the top level of the program that Ctrl-C ended it, and forgets it as soon as a string is
    executed. Modules do that while they are imported, and closing a run may import some.
    """
    if has_uncaught_exception(KeyboardInterrupt):
        with contextlib.suppress(KeyboardInterrupt):
            exec("raise KeyboardInterrupt")  # noqa: S102 (the interpreter notes it again)


# weakref registers its own function with the first finalizer, and the last function registered is called first. Now
# it is called after this one: finalizers close the connections of file systems, which runs need until they are closed.
weakref.finalize(_state, int)
atexit.register(_close_at_exit)


# --- Signals. -------------------------------------------------------------------------------------
# A Python handler runs on the main thread, which may hold any lock, and only when that thread is back
# in the interpreter; during a long computation it is not. A separate thread therefore does the work.
# It reads from a pipe, into which the interpreter itself writes the number of each signal as it
# arrives (signal.set_wakeup_fd). If an event loop already uses that slot, the handler writes instead.


class _SignalWatcher:
    """The pipe and the thread; created with the first run and then kept."""

    def __init__(self) -> None:
        self.read, self.write = os.pipe()
        os.set_blocking(self.write, False)
        threading.Thread(
            target=self._loop, args=(self.read,), name="jaxboard signals", daemon=True
        ).start()

    @staticmethod
    def _loop(read: int) -> None:
        while numbers := os.read(read, 64):
            for number in _SIGNALS:
                # The program may have set its own handler since; then the signal is not ours.
                if number in numbers and signal.getsignal(number) is _on_signal:
                    _close_all(_GRACE_SECS)
                    # signal.signal() works only on the main thread; it calls this function.
                    ctypes.pythonapi.PyOS_setsig(int(number), None)
                    os.kill(os.getpid(), number)


def _on_signal(number: int, _: FrameType | None) -> None:
    if _state.watcher is not None:
        with contextlib.suppress(BlockingIOError):  # A full pipe is about to be read.
            os.write(_state.watcher.write, bytes([number]))


def _catch_signals() -> None:
    if threading.current_thread() is not threading.main_thread():
        return
    free = [number for number in _SIGNALS if signal.getsignal(number) is signal.SIG_DFL]
    if not free:
        return
    _state.watcher = _state.watcher or _SignalWatcher()
    for number in free:
        signal.signal(number, _on_signal)
    previous = signal.set_wakeup_fd(_state.watcher.write, warn_on_full_buffer=False)
    if previous != -1:
        signal.set_wakeup_fd(previous)


def _release_signals() -> None:
    # Off the main thread the handlers stay. With no open run they only end the process as usual.
    watcher = _state.watcher
    if watcher is None or threading.current_thread() is not threading.main_thread():
        return
    previous = signal.set_wakeup_fd(-1)
    if previous != watcher.write:
        signal.set_wakeup_fd(previous)
    for number in _SIGNALS:
        if signal.getsignal(number) is _on_signal:
            signal.signal(number, signal.SIG_DFL)


# --- Forks. ---------------------------------------------------------------------------------------


def _block_signals() -> None:
    # Until the child has run its hook, a signal to the child would go into the pipe that it shares
    # with its parent and end the parent. A blocked signal waits.
    _state.mask = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)


def _unblock_signals() -> None:
    signal.pthread_sigmask(signal.SIG_SETMASK, _state.mask)


def _reset_in_child() -> None:
    # The runs belong to the parent, and so does the thread at the other end of the pipe.
    _release_signals()
    if _state.watcher is not None:
        os.close(_state.watcher.read)
        os.close(_state.watcher.write)
    _state.watcher = None
    _state.open = []
    _state.lock = threading.Lock()
    _unblock_signals()


on_fork(Stage.SIGNALS, before=_block_signals, in_parent=_unblock_signals, in_child=_reset_in_child)


def has_uncaught_exception(expected: type[BaseException] = BaseException) -> bool:
    """Return whether an exception ends the program. Interactive sessions keep the last exception, and go on."""
    interactive = hasattr(sys, "ps1") or "IPython" in sys.modules
    return not interactive and isinstance(getattr(sys, "last_value", None), expected)

"""One trace of JAX's profiler, recorded into a temporary directory.

JAX writes the trace only when it stops, so an unwritable directory is discovered only then. Up to JAX
0.10 the profiler then cannot start another trace in the process. A temporary directory avoids that.
"""

from __future__ import annotations

import contextlib
import glob
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable

import jax

from jaxboard import _compat
from jaxboard._errors import ProfileError
from jaxboard._log import describe
from jaxboard._profile.barrier import barrier

_DEVICE_WAIT_SECS = 5.0
"""The time that a trace stopped by its time limit waits for the devices."""

_start_lock = threading.Lock()


class Capture:
    """A trace that records from the construction on.

    A separate thread stops the trace. Ctrl-C, which only reaches the main thread, therefore cannot leave
    a trace half stopped; the time limit works while the training thread is busy; and saving the file
    does not hold up the training thread.

    Args:
        options: see ``jax.profiler.ProfileOptions``.
        max_seconds: the time after which the trace stops by itself.
        on_stop: called with the capture on its thread, after the trace has stopped.

    Attributes:
        stopped: an event that is set when nothing is recorded any more.
        expired: whether the trace stopped because of ``max_seconds``.
        stop_seconds: the time that stopping took.
        fault: the exception that stopping raised, if any.

    Raises:
        ProfileError: another trace is being recorded, or JAX could not start one.
    """

    def __init__(
        self,
        options: dict[str, int | bool | str],
        max_seconds: float,
        on_stop: Callable[[Capture], None],
    ) -> None:
        self.stopped = threading.Event()
        self.expired = False
        self.stop_seconds = 0.0
        self.fault: Exception | None = None
        self._on_stop = on_stop
        self._max_seconds = max_seconds
        self._stop_requested = threading.Event()
        self._thread = threading.Thread(target=self._run, name="jaxboard profile", daemon=True)
        with _start_lock:
            if _compat.trace_is_on():
                raise ProfileError(
                    "another trace is being recorded (by jax.profiler, another jaxboard.profile, or "
                    "TensorBoard's Capture profile), and JAX records one at a time. That trace continues."
                )
            self._directory = tempfile.mkdtemp(prefix="jaxboard-profile-")
            try:
                barrier()
                jax.profiler.start_trace(
                    self._directory, profiler_options=_compat.profile_options(**options)
                )
            except BaseException as fault:
                self.discard()
                if isinstance(fault, Exception):
                    raise ProfileError(f"JAX started no trace: {describe(fault)}") from fault
                raise
        # Started now, because an interpreter that is exiting starts no threads.
        self._thread.start()

    @property
    def recording(self) -> bool:
        """True until the stop is requested or the time is over."""
        return not self._stop_requested.is_set()

    def stop(self) -> None:
        """Request the stop and return immediately. Call :func:`barrier` first to keep pending work."""
        self._stop_requested.set()

    def file(self) -> str | None:
        """Return the path of the recorded file; None before the stop, or if JAX wrote nothing."""
        found = glob.glob(os.path.join(self._directory, "plugins", "profile", "*", "*.xplane.pb"))
        return found[0] if found else None

    def join(self, timeout: float) -> bool:
        """Wait for the thread and return whether it ended in time."""
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def discard(self) -> None:
        """Delete the temporary directory."""
        shutil.rmtree(self._directory, ignore_errors=True)

    def _run(self) -> None:
        self.expired = not self._stop_requested.wait(self._max_seconds)
        if self.expired:
            self._stop_requested.set()
            with contextlib.suppress(Exception):
                barrier(_DEVICE_WAIT_SECS)
        began = time.monotonic()
        try:
            jax.profiler.stop_trace()
        except Exception as fault:
            self.fault = fault
        self.stop_seconds = time.monotonic() - began
        self.stopped.set()
        self._on_stop(self)

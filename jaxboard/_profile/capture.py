"""One trace of JAX's profiler, from its start to its end."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable

from jaxboard import _compat
from jaxboard._errors import ProfileError
from jaxboard._log import describe
from jaxboard._profile.barrier import barrier
from jaxboard._profile.cuda_profiler import CudaProfiler
from jaxboard._profile.recordings import Options, Recording

_DEVICE_WAIT_SECS = 5.0
"""The time that a trace stopped by its time limit waits for the devices."""

_start_lock = threading.Lock()


class Capture:
    """A trace that records from the construction on.

    A separate thread stops the trace. Ctrl-C, which only reaches the main thread, therefore cannot leave
    a trace half stopped; the time limit works while the training thread is busy; and saving the file
    does not hold up the training thread.

    Args:
        recording: creates the recording, which keeps the trace.
        options: see ``jax.profiler.ProfileOptions``.
        max_seconds: the time after which the trace stops by itself.
        on_stop: called with the capture on its thread, after the trace has stopped.
        cuda: the CUDA profiler that records the same range; None for none.

    Attributes:
        recording: the recording.
        stopped: an event that is set when nothing is recorded any more.
        expired: whether the trace stopped because of ``max_seconds``.
        stop_seconds: the time that stopping took.
        fault: the exception that stopping raised, if any.

    Raises:
        ProfileError: another trace is being recorded, or JAX or CUDA could not start one.
    """

    def __init__(
        self,
        recording: Callable[[], Recording],
        options: Options,
        max_seconds: float,
        on_stop: Callable[[Capture], None],
        cuda: CudaProfiler | None = None,
    ) -> None:
        self.stopped = threading.Event()
        self.expired = False
        self.stop_seconds = 0.0
        self.fault: Exception | None = None
        self._on_stop = on_stop
        self._max_seconds = max_seconds
        self._cuda = cuda
        self._stop_requested = threading.Event()
        self._thread = threading.Thread(target=self._run, name="jaxboard profile", daemon=True)
        with _start_lock:
            if _compat.trace_is_on():
                raise ProfileError(
                    "another trace is being recorded (by jax.profiler, another jaxboard.profile, or "
                    "TensorBoard's Capture profile), and JAX records one at a time. That trace continues."
                )
            self.recording = recording()
            try:
                barrier()
                if cuda is not None:
                    cuda.start()
                self.recording.start(options)
            except BaseException as fault:
                self.recording.discard()
                self._stop_cuda()
                if isinstance(fault, Exception) and not isinstance(fault, ProfileError):
                    raise ProfileError(f"JAX started no trace: {describe(fault)}") from fault
                raise
        # Started now, because an interpreter that is exiting starts no threads.
        self._thread.start()

    @property
    def is_recording(self) -> bool:
        """True until the stop is requested or the time is over."""
        return not self._stop_requested.is_set()

    def stop(self) -> None:
        """Request the stop and return immediately. Call :func:`barrier` first to keep pending work."""
        self._stop_requested.set()

    def join(self, timeout: float | None) -> bool:
        """Wait for the thread and return whether it ended in time."""
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def _run(self) -> None:
        self.expired = not self._stop_requested.wait(self._max_seconds)
        if self.expired:
            self._stop_requested.set()
            with contextlib.suppress(Exception):
                barrier(_DEVICE_WAIT_SECS)
        began = time.monotonic()
        self._stop_cuda()
        try:
            self.recording.stop()
        except Exception as fault:
            self.fault = fault
        self.stop_seconds = time.monotonic() - began
        self.stopped.set()
        self._on_stop(self)

    def _stop_cuda(self) -> None:
        if self._cuda is not None:
            with contextlib.suppress(ProfileError):
                self._cuda.stop()

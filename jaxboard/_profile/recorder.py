"""The recorder of one window: it starts and stops the trace, marks the steps and saves the result."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from typing import Any

import jax

from jaxboard import _paths
from jaxboard._errors import ProfileError
from jaxboard._log import describe, logger
from jaxboard._process.exit import close_at_exit, forget
from jaxboard._profile.barrier import barrier, wait_for
from jaxboard._profile.capture import Capture
from jaxboard._profile.history import RecordedWindow
from jaxboard._profile.notices import STEP_HELP, format_steps, notify, saved_notice
from jaxboard._profile.profile_settings import ProfileSettings
from jaxboard._profile.recordings import new_recording
from jaxboard._profile.summary_records import summary_records
from jaxboard._profile.trace_files import has_step_markers, save_trace
from jaxboard._run import Run, channel_of
from jaxboard._types import PyTree

_DEVICE_WAIT_SECS = 5.0
"""The time that an interrupted profile waits for the devices."""

_NOTICE_SECS = 2.0
"""A message appears if saving takes longer. With many devices it can take minutes."""

_SUMMARY_SECS = 120.0
"""The longest time to wait for the summary of a trace."""

STEP = "train"
"""The name of step markers in traces."""


class Recorder:
    """One window, from :meth:`start` to :meth:`close`.

    Args:
        settings: the settings of the profile.
        steps: the steps to record; None for every step until :meth:`close`.
        logdir: the log directory, a path or a URL.
        run: the run that gets the summary; None for none.
        on_over: called when nothing is recorded any more.
        since: when the profile was opened; see :func:`save_trace`.

    Attributes:
        path: the path of the trace; None until it is saved.
        captured: the recorded steps, in order.
        fault: the fault, if any.
    """

    def __init__(
        self,
        settings: ProfileSettings,
        steps: range | None,
        logdir: str,
        run: Run | None,
        on_over: Callable[[], None],
        *,
        since: float = 0.0,
    ) -> None:
        self.path: str | None = None
        self.captured: list[int] = []
        self.fault: ProfileError | None = None
        self._settings = settings
        self._steps = steps
        self._logdir = logdir
        self._run = run
        self._on_over = on_over
        self._since = since
        self._process = os.getpid()
        self._capture: Capture | None = None
        self._recorded: RecordedWindow | None = None
        self._over = False
        self._saved = threading.Event()
        # By time.monotonic(): the start of the first step, and the end of the last step's work.
        self._first_step_began = 0.0
        self._last_step_done = 0.0

    @property
    def is_over(self) -> bool:
        """True if it records no further steps."""
        return self._over

    @property
    def is_saved(self) -> bool:
        """True once the trace is saved, or if there is none."""
        return self._capture is None or self._saved.is_set()

    @property
    def is_finished(self) -> bool:
        """True if it is over and the summary is written."""
        return self._over and (self._capture is None or self._capture.join(0))

    def start(self) -> None:
        """Start the trace."""
        self._attempt(self._start_capture)

    def close(self, error: BaseException | None = None) -> None:
        """Save the trace and wait until it is on disk. Does not wait for its summary.

        Args:
            error: the exception that ended the block, if any.
        """
        if self._capture is not None and self._process == os.getpid():
            self._stop(None if error is None else _DEVICE_WAIT_SECS)
            self._saved.wait()

    def end(self, timeout: float | None) -> None:
        """Save the trace because the process ends."""
        if self._capture is None or self._process != os.getpid():
            return
        limit = _DEVICE_WAIT_SECS if timeout is None else min(timeout / 4, _DEVICE_WAIT_SECS)
        self._request_stop(limit)
        saved = self._saved.wait(None if timeout is None else timeout / 2)
        if timeout is None:
            self._capture.join(_SUMMARY_SECS)
        elif saved and self.path is not None:
            self._capture.recording.discard()  # there is no time for the summary

    def finish(self) -> None:
        """Finish with the summary, because the run closes and the summary belongs to it."""
        self.close()
        if self._capture is not None:
            self._capture.join(_SUMMARY_SECS)

    # The steps, on the thread that takes them.

    def begin_step(self, number: int) -> jax.profiler.StepTraceAnnotation | None:
        """Begin a step, and return its marker for :meth:`end_step`; None if the step is not recorded."""
        capture = self._capture
        if capture is None:
            return None
        if self._steps is not None and number >= self._steps.stop:
            self._stop(None)
        if not capture.is_recording:
            return None
        self._first_step_began = self._first_step_began or time.monotonic()
        marker = jax.profiler.StepTraceAnnotation(STEP, step_num=number)
        marker.__enter__()
        return marker

    def end_step(
        self, number: int, marker: jax.profiler.StepTraceAnnotation, result: PyTree
    ) -> None:
        """End a step that has a marker, and wait for its result if the profile synchronizes steps."""
        capture = self._capture
        if capture is None:
            return
        try:
            if self._synchronizes() and capture.is_recording:
                wait_for(result)
        finally:
            marker.__exit__(None, None, None)
        if capture.is_recording:
            self.captured.append(number)
        if self._steps is not None and number >= self._steps[-1]:
            self._stop(None)

    # The trace.

    def _start_capture(self) -> None:
        _paths.check_writable(self._logdir, ProfileError, "plugins", "profile")
        settings = self._settings
        options: dict[str, Any] = {
            **settings.advanced,
            "host_tracer_level": settings.host_level,
            "python_tracer_level": int(settings.python),
            "enable_hlo_proto": settings.hlo,
            "session_id": self._session(),
        }
        self._recorded = None if self._run is None else RecordedWindow(self._run)
        try:
            self._capture = Capture(
                lambda: new_recording(self._logdir),
                options,
                settings.max_seconds,
                self._on_stop,
                settings.cuda,
            )
        except ProfileError:
            if self._recorded is not None:
                self._recorded.finish()
            raise
        close_at_exit(self.end)

    def _request_stop(self, device_timeout: float | None) -> None:
        """Wait for the devices, at most ``device_timeout`` seconds, and request the end of the trace."""
        self._over = True
        if self._capture is None or not self._capture.is_recording:
            return
        try:
            barrier(device_timeout)
            self._last_step_done = time.monotonic()
        except Exception as fault:
            self._warn(f"work of the last step may be missing: {describe(fault)}")
        finally:
            self._capture.stop()

    def _stop(self, device_timeout: float | None) -> None:
        """End the trace and wait until nothing is recorded any more."""
        self._request_stop(device_timeout)
        if self._capture is not None and not self._capture.stopped.wait(_NOTICE_SECS):
            notify(f"saving the profile of {self._describe_captured()} …")
            self._capture.stopped.wait()

    def _on_stop(self, capture: Capture) -> None:
        """Save the trace, then its summary. Runs on the thread of the capture."""
        self._over = True
        self._on_over()
        self._attempt(lambda: self._save(capture))
        self._saved.set()
        run = self._run
        if self.path is not None and not capture.recording.is_saved:
            try:
                # Each process has a trace, but only process 0 writes the run.
                if run is not None and self._recorded is not None and jax.process_index() == 0:
                    self._summarize(run, self._recorded, capture)
            except Exception as fault:
                self._warn(
                    f"the trace is saved, but the run has no summary of it: {describe(fault)}"
                )
            finally:
                capture.recording.discard()
        if self._recorded is not None:
            self._recorded.finish()
        forget(self.end)

    def _save(self, capture: Capture) -> None:
        recording = capture.recording
        began = time.monotonic()
        if recording.is_saved and capture.fault is None:
            self.path = f"{self._logdir}/plugins/profile/{self._session()}"
        elif not recording.has_trace:
            recording.discard()
            cause = "" if capture.fault is None else f": {describe(capture.fault)}"
            raise ProfileError(f"JAX saved no trace{cause or '.'}") from capture.fault
        else:
            try:
                self.path = save_trace(recording, self._logdir, self._session(), self._since)
            except ProfileError as fault:
                fault.args = (f"{fault} The trace is kept in {recording.file()!r}.",)
                raise
        seconds = capture.stop_seconds + time.monotonic() - began
        notify(saved_notice(self.path, self._logdir, self.captured, seconds))
        if capture.expired:
            limit = self._settings.max_seconds
            self._warn(
                f"the trace was stopped after max_seconds={limit:g}; it contains "
                f"{self._describe_captured()}."
            )
        if not self.captured:
            self._warn(
                f"no step was taken during the recording, so TensorBoard shows no step times. "
                f"{STEP_HELP}"
            )
        elif not recording.is_saved and not has_step_markers(recording.file(self.path)):
            self._warn(
                "the trace has no step markers, so TensorBoard shows no step times. host_level=0 leaves "
                "them out."
            )

    def _summarize(self, run: Run, recorded: RecordedWindow, capture: Capture) -> None:
        summary = recorded.read(capture.recording.file(self.path), _SUMMARY_SECS)
        comparison = recorded.compare(str(self.path), _SUMMARY_SECS)
        step = self.captured[-1] if self.captured else channel_of(run).current
        for record in summary_records(
            summary,
            step,
            self._mean_ms(),
            synchronized=self._synchronizes(),
            comparison=comparison,
        ):
            channel_of(run).put(record)

    def _mean_ms(self) -> float | None:
        """Return the mean step time by the clock; None if the last step's end is unknown."""
        steps = self._steps
        if steps is None or not self.captured or self.captured[-1] != steps[-1]:
            return None
        return 1e3 * (self._last_step_done - self._first_step_began) / len(self.captured)

    # Helpers.

    def _session(self) -> str:
        """Return the name of the session in TensorBoard."""
        if self._settings.name is not None:
            return self._settings.name
        steps = self._steps or self.captured
        return f"steps_{format_steps(steps)}" if steps else "block"

    def _describe_captured(self) -> str:
        if not self.captured:
            return "no steps"
        return f"step{'s' * (len(self.captured) > 1)} {format_steps(self.captured)}"

    def _synchronizes(self) -> bool:
        """Return whether each step waits for its result."""
        if self._settings.sync == "auto":
            return jax.default_backend() == "cpu"
        return self._settings.sync

    def _attempt(self, action: Callable[[], None]) -> None:
        """Call ``action``. A fault ends the window instead of raising into the training."""
        try:
            action()
        except Exception as fault:
            self._over = True
            text = str(fault) if isinstance(fault, ProfileError) else describe(fault)
            self.fault = ProfileError(f"no profile: {text}")
            self.fault.__cause__ = fault
            if self._settings.on_error == "warn":
                self._warn(str(self.fault))

    def _warn(self, text: str) -> None:
        logger.warning("jaxboard.profile: %s", text)

"""The recorder of a profile: it starts and stops the trace, marks the steps and saves the result."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable

import jax

from jaxboard import _paths
from jaxboard._errors import ProfileError
from jaxboard._host import observers
from jaxboard._log import describe, logger
from jaxboard._process.exit import close_at_exit, forget
from jaxboard._profile.barrier import barrier, wait_for
from jaxboard._profile.capture import Capture
from jaxboard._profile.notices import format_steps, notify, saved_notice
from jaxboard._profile.profile_settings import ProfileSettings
from jaxboard._profile.summary_records import summary_records
from jaxboard._profile.trace_files import clock_of, has_step_markers, save_trace
from jaxboard._profile.trace_reader import summarize_in_subprocess
from jaxboard._run import Run, channel_of, current_root
from jaxboard._types import PyTree

_DEVICE_WAIT_SECS = 5.0
"""The time that an interrupted profile waits for the devices."""

_NOTICE_SECS = 2.0
"""A message appears if saving takes longer. With many devices it can take minutes."""

_SUMMARY_SECS = 120.0
"""The longest time to wait for the summary of a trace."""

STEP = "train"
"""The name of step markers in traces."""

_STEP_HELP = (
    "Steps are calls of functions under jaxboard.instrument, or blocks `with profiler.step(i):`."
)


class _OpenStep(threading.local):
    """The open step of a thread."""

    owner: object = None
    number: int = 0
    marker: jax.profiler.StepTraceAnnotation | None = None


class Recorder:
    """One profile, from :meth:`open` to :meth:`close`.

    Args:
        settings: the settings.
        run: the run that gets the summary; by default the active one.

    Attributes:
        path: the path of the trace; None until it is saved.
        captured: the recorded steps, in order.
    """

    def __init__(self, settings: ProfileSettings, run: Run | None = None) -> None:
        self.path: str | None = None
        self.captured: list[int] = []
        self._settings = settings
        self._process = os.getpid()
        self._lock = threading.Lock()
        self._open_step = _OpenStep()
        self._capture: Capture | None = None
        self._over = False
        self._saved = threading.Event()
        self._run = run
        self._opened_at = 0.0
        self._logdir = settings.logdir
        self._fault: ProfileError | None = None
        self._first_and_last_step: tuple[int, int] | None = None
        # By time.monotonic(): the start of the first step, and the end of the last step's work.
        self._first_step_began = 0.0
        self._last_step_done = 0.0
        self._call_steps = _CallSteps(self)

    @property
    def is_finished(self) -> bool:
        """True once the trace is saved, or there will be none. Closing the profile then does not wait."""
        return self._over and (self._capture is None or self._saved.is_set())

    @property
    def is_recording(self) -> bool:
        """True while the trace is recorded or saved."""
        return self._capture is not None and not self._saved.is_set()

    # The block.

    def open(self) -> None:
        """Start to watch the steps of the process."""
        close_at_exit(self.end)
        self._find_run()
        if self._logdir is not None:
            self._attempt(lambda: self._probe(str(self._logdir)))
            if not self._over:
                self._opened_at = clock_of(self._logdir)
        if self._settings.steps is None and not self._over:
            self._start()
        if not self._over:
            observers.add(self._call_steps)

    def close(self, error: BaseException | None = None) -> None:
        """Save the trace and wait until it is on disk. Does not wait for its summary.

        Args:
            error: the exception that ended the block, if any.

        Raises:
            ProfileError: there was a fault, ``on_error`` is ``"raise"``, and the block did not raise.
        """
        if self._process != os.getpid():
            return
        if self._capture is not None:
            self._stop(None if error is None else _DEVICE_WAIT_SECS)
            self._saved.wait()
        elif self._settings.steps is not None and not self._over and error is None:
            self._fail(self._not_reached(self._settings.steps))
        self._detach()
        fault, self._fault = self._fault, None
        if error is None and fault is not None and self._settings.on_error == "raise":
            raise fault

    def end(self, timeout: float | None) -> None:
        """Save the trace because the process ends."""
        if self._process != os.getpid():
            return
        if self._capture is not None:
            limit = _DEVICE_WAIT_SECS if timeout is None else min(timeout / 4, _DEVICE_WAIT_SECS)
            self._request_stop(limit)
            saved = self._saved.wait(None if timeout is None else timeout / 2)
            if timeout is None:
                self._capture.join(_SUMMARY_SECS)
            elif saved and self.path is not None:
                self._capture.discard()  # there is no time for the summary
        self._detach()

    # The steps, on the thread that takes them.

    def ignore_calls(self) -> None:
        """Stop counting calls of instrumented functions as steps: the user marks the steps."""
        observers.remove(self._call_steps)

    def begin_step(self, number: int, owner: object) -> bool:
        """Begin a step and return whether it counts. A step within another one does not.

        Args:
            number: the number of the step.
            owner: identifies the step for :meth:`end_step`.
        """
        step = self._open_step
        if self._over or step.owner is not None or self._process != os.getpid():
            return False
        step.owner, step.number = owner, number
        first, _ = self._first_and_last_step or (number, number)
        self._first_and_last_step = first, number
        steps = self._settings.steps
        if steps is not None:
            if self._capture is None and number in steps:
                self._start()
            elif self._capture is not None and number >= steps.stop:
                self._stop(None)
        if self._capture is not None and self._capture.recording:
            self._first_step_began = self._first_step_began or time.monotonic()
            step.marker = jax.profiler.StepTraceAnnotation(STEP, step_num=number)
            step.marker.__enter__()
        return True

    def end_step(self, owner: object, result: PyTree = None) -> None:
        """End the step of ``owner``, and wait for its result if the profile synchronizes steps."""
        step = self._open_step
        if step.owner is not owner:
            return
        marker, step.owner, step.marker = step.marker, None, None
        capture = self._capture
        if marker is None or capture is None:
            return
        try:
            if self._synchronizes() and capture.recording:
                wait_for(result)
        finally:
            marker.__exit__(None, None, None)
        if capture.recording:
            self.captured.append(step.number)
        steps = self._settings.steps
        if steps is not None and step.number >= steps[-1]:
            self._stop(None)

    # The trace.

    def _start(self) -> None:
        with self._lock:
            if self._capture is not None or self._over:
                return
            self._find_run()
            if self._is_chosen():
                self._attempt(self._start_capture)

    def _is_chosen(self) -> bool:
        """Return whether this process records. JAX has started, so it knows its number."""
        chosen = self._settings.processes
        count = jax.process_count()
        if chosen is not None and chosen[-1] >= count:
            job = "one process" if count == 1 else f"{count} processes, 0 to {count - 1}"
            self._warn(f"there is no process {chosen[-1]}: this job has {job}.")
        self._over = chosen is not None and jax.process_index() not in chosen
        return not self._over

    @staticmethod
    def _probe(logdir: str) -> None:
        _paths.check_writable(logdir, ProfileError, "plugins", "profile")

    def _start_capture(self) -> None:
        if self._logdir is None:
            raise ProfileError(
                "there is no log directory: pass logdir=..., or open a jaxboard.Run that has one."
            )
        self._probe(self._logdir)
        settings = self._settings
        options: dict[str, int | bool | str] = {
            "host_tracer_level": settings.host_level,
            "python_tracer_level": int(settings.python),
            "enable_hlo_proto": settings.hlo,
            "session_id": self._session(),
        }
        self._capture = Capture(options, settings.max_seconds, self._on_stop)
        if self._run is not None:
            channel_of(self._run).before_close.append(self._finish)

    def _finish(self) -> None:
        """Finish with the summary, because the run closes and the summary belongs to it."""
        self._stop(None)
        self._saved.wait()
        if self._capture is not None:
            self._capture.join(_SUMMARY_SECS)

    def _request_stop(self, device_timeout: float | None) -> None:
        """Wait for the devices, at most ``device_timeout`` seconds, and request the end of the trace."""
        self._over = True
        if self._capture is None or not self._capture.recording:
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
        observers.remove(self._call_steps)
        self._attempt(lambda: self._save(capture))
        self._saved.set()
        file, run = capture.file(), self._run
        if self.path is not None and file is not None:
            try:
                # Each process has a trace, but only process 0 writes the run.
                if run is not None and jax.process_index() == 0:
                    self._summarize(run, file)
            except Exception as fault:
                self._warn(
                    f"the trace is saved, but the run has no summary of it: {describe(fault)}"
                )
            finally:
                capture.discard()
        forget(self.end)

    def _save(self, capture: Capture) -> None:
        file, logdir = capture.file(), str(self._logdir)
        if file is None:
            capture.discard()
            cause = "" if capture.fault is None else f": {describe(capture.fault)}"
            raise ProfileError(f"JAX saved no trace{cause or '.'}") from capture.fault
        began = time.monotonic()
        try:
            self.path = save_trace(file, logdir, self._session(), self._opened_at)
        except ProfileError as fault:
            fault.args = (f"{fault} The trace is kept in {file!r}.",)
            raise
        seconds = capture.stop_seconds + time.monotonic() - began
        notify(saved_notice(self.path, logdir, self.captured, seconds))
        if capture.expired:
            limit = self._settings.max_seconds
            self._warn(
                f"the trace was stopped after max_seconds={limit:g}; it contains "
                f"{self._describe_captured()}."
            )
        if not self.captured:
            self._warn(
                f"no step was taken during the recording, so TensorBoard shows no step times. "
                f"{_STEP_HELP}"
            )
        elif not has_step_markers(file):
            self._warn(
                "the trace has no step markers, so TensorBoard shows no step times. host_level=0 leaves "
                "them out."
            )

    def _summarize(self, run: Run, file: str) -> None:
        summary = summarize_in_subprocess(file, _SUMMARY_SECS)
        step = self.captured[-1] if self.captured else channel_of(run).current
        if not self._synchronizes():
            # Without synchronization the markers only cover dispatch.
            summary.steps = []
        for record in summary_records(summary, step, self._mean_ms()):
            channel_of(run).put(record)

    def _mean_ms(self) -> float | None:
        """Return the mean step time by the clock; None if the last step's end is unknown."""
        steps = self._settings.steps
        if steps is None or not self.captured or self.captured[-1] != steps[-1]:
            return None
        return 1e3 * (self._last_step_done - self._first_step_began) / len(self.captured)

    # Helpers.

    def _find_run(self) -> None:
        self._run = self._run or current_root()
        if self._logdir is None and self._run is not None and self._run.logdir is not None:
            self._logdir = str(self._run.logdir)

    def _session(self) -> str:
        """Return the name of the session in TensorBoard."""
        if self._settings.name is not None:
            return self._settings.name
        steps = self._settings.steps or self.captured
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

    def _not_reached(self, steps: range) -> str:
        if self._first_and_last_step is None:
            taken = f"no step was taken. {_STEP_HELP}"
        else:
            taken = "the steps taken were {}-{}.".format(*self._first_and_last_step)
        return f"nothing was profiled: steps {format_steps(steps)} were not reached; {taken}"

    def _attempt(self, action: Callable[[], None]) -> None:
        """Call ``action``. A fault ends the profile instead of raising into the training."""
        try:
            action()
        except Exception as fault:
            self._over = True
            text = str(fault) if isinstance(fault, ProfileError) else describe(fault)
            self._fail(f"no profile: {text}", fault)

    def _fail(self, text: str, cause: BaseException | None = None) -> None:
        self._fault = ProfileError(text)
        self._fault.__cause__ = cause
        if self._settings.on_error == "warn":
            self._warn(text)

    def _warn(self, text: str) -> None:
        logger.warning("jaxboard.profile: %s", text)

    def _detach(self) -> None:
        self._over = True
        observers.remove(self._call_steps)
        if self._capture is None:
            forget(self.end)


class _CallSteps:
    """An observer that makes a step of each call that advances the step counter."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._next_number = 0

    def begin(self, call: observers.Call) -> None:
        """See :class:`jaxboard._host.observers.Observer`."""
        if call.advance:
            number = self._next_number if call.step is None else call.step
            if self._recorder.begin_step(number, call):
                self._next_number = number + 1

    def end(self, call: observers.Call, result: PyTree) -> None:
        """See :class:`jaxboard._host.observers.Observer`."""
        self._recorder.end_step(call, result)

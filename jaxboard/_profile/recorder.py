"""The course of a profile: which steps are in it, when its trace starts and stops, what comes of it."""

from __future__ import annotations

import dataclasses
import os
import threading
import time
from collections.abc import Callable
from typing import Any, Literal

import jax

from jaxboard import _paths
from jaxboard._errors import ProfileError
from jaxboard._host import observers
from jaxboard._log import describe, logger
from jaxboard._process.exit import close_at_exit, forget
from jaxboard._profile import destination, report
from jaxboard._profile.barrier import barrier, wait_for
from jaxboard._profile.capture import Capture
from jaxboard._profile.read import summarize_apart
from jaxboard._run import Run, channel_of, current_run

_PATIENCE_SECS = 5.0
"""How long a profile that is interrupted waits for the devices."""

_SAVING_SECS = 2.0
"""Saving that takes longer is told of: it can take minutes where there are many devices."""

_SUMMARY_SECS = 120.0

STEP = "train"
"""What the markers of steps are called in traces."""

_WHAT_STEPS_ARE = (
    "Steps are calls of functions under jaxboard.instrument, or blocks `with profiler.step(i):`."
)


@dataclasses.dataclass(frozen=True, slots=True)
class Settings:
    """What a profile was asked to be; see :func:`jaxboard.profile`."""

    window: range | None
    logdir: str | None
    name: str | None
    options: dict[str, Any]
    sync: bool | Literal["auto"]
    max_seconds: float
    on_error: Literal["warn", "raise"]


class _Here(threading.local):
    """The step that is open on a thread."""

    inside: object = None
    number: int = 0
    marker: Any = None


class Recorder:
    """One profile, from :meth:`open` to :meth:`close`.

    Attributes:
        path: where the trace lies, once it does.
        captured: the steps that are in it, in order.
    """

    def __init__(self, settings: Settings) -> None:
        self.path: str | None = None
        self.captured: list[int] = []
        self._settings = settings
        self._process = os.getpid()
        self._lock = threading.Lock()
        self._here = _Here()
        self._capture: Capture | None = None
        self._over = False
        self._placed = threading.Event()
        self._run: Run | None = None
        self._logdir = settings.logdir
        self._fault: ProfileError | None = None
        self._seen: tuple[int, int] | None = None
        # By time.monotonic(): when the first step began, and when the devices had done the last one.
        self._began = 0.0
        self._done = 0.0
        self._calls = _Calls(self)

    # --- The block. -------------------------------------------------------------------------------

    def open(self) -> None:
        """From now on the process's steps are watched."""
        close_at_exit(self.end)
        self._find_run()
        if self._logdir is not None:
            self._attempt(lambda: self._probe(str(self._logdir)))
        if self._settings.window is None and not self._over:
            self._start()
        if not self._over:
            observers.add(self._calls)

    def close(self, error: BaseException | None = None) -> None:
        """Saves what was recorded, and waits until it is on disk; not for its summary.

        Raises:
            ProfileError: there was a fault, ``on_error`` is ``"raise"``, and the block didn't fail.
        """
        if self._process != os.getpid():
            return
        window = self._settings.window
        if self._capture is not None:
            self._stop(None if error is None else _PATIENCE_SECS)
            self._placed.wait()
        elif window is not None and not self._over and error is None:
            self._fail(self._never_reached(window))
        self._detach()
        fault, self._fault = self._fault, None
        if error is None and fault is not None and self._settings.on_error == "raise":
            raise fault

    def end(self, timeout: float | None) -> None:
        """Saves what was recorded because the process ends."""
        if self._process != os.getpid():
            return
        if self._capture is not None:
            self._ask(_PATIENCE_SECS if timeout is None else min(timeout / 4, _PATIENCE_SECS))
            placed = self._placed.wait(None if timeout is None else timeout / 2)
            if timeout is None:
                self._capture.join(_SUMMARY_SECS)
            elif placed and self.path is not None:
                self._capture.discard()  # There is no time for the summary.
        self._detach()

    # --- Steps, on the thread that takes them. ----------------------------------------------------

    def watch_only_steps(self) -> None:
        """From now on calls of instrumented functions are no steps: the user says what is one."""
        observers.remove(self._calls)

    def enter(self, number: int, inside: object) -> bool:
        """A step begins. Whether it is one: within another it is not."""
        here = self._here
        if self._over or here.inside is not None or self._process != os.getpid():
            return False
        here.inside, here.number = inside, number
        self._seen = (self._seen or (number,))[0], number
        window = self._settings.window
        if window is not None:
            if self._capture is None and number in window:
                self._start()
            elif self._capture is not None and number >= window.stop:
                self._stop(None)
        if self._capture is not None and self._capture.recording:
            self._began = self._began or time.monotonic()
            here.marker = jax.profiler.StepTraceAnnotation(STEP, step_num=number)
            here.marker.__enter__()
        return True

    def leave(self, inside: object, result: Any = None) -> None:
        """The step that ``inside`` began is over: ``result`` is its result, which may not be there yet."""
        here = self._here
        if here.inside is not inside:
            return
        marker, here.inside, here.marker = here.marker, None, None
        capture = self._capture
        if marker is None or capture is None:
            return
        try:
            if self._waits() and capture.recording:
                wait_for(result)
        finally:
            marker.__exit__(None, None, None)
        if capture.recording:
            self.captured.append(here.number)
        window = self._settings.window
        if window is not None and here.number >= window[-1]:
            self._stop(None)

    # --- The trace. -------------------------------------------------------------------------------

    def _start(self) -> None:
        with self._lock:
            if self._capture is None and not self._over:
                self._find_run()
                self._attempt(self._capture_now)

    @staticmethod
    def _probe(logdir: str) -> None:
        _paths.check_writable(logdir, ProfileError, "plugins", "profile")

    def _capture_now(self) -> None:
        if self._logdir is None:
            raise ProfileError(
                "there is nowhere to put it: give it logdir=..., or open a jaxboard.Run with a log "
                "directory around it."
            )
        self._probe(self._logdir)
        self._capture = Capture(
            {**self._settings.options, "session_id": self._session()},
            self._settings.max_seconds,
            self._finish,
        )
        if self._run is not None:
            channel_of(self._run).before_close.append(self._complete)

    def _complete(self) -> None:
        """The run closes, and the summary belongs to it."""
        self._stop(None)
        self._placed.wait()
        if self._capture is not None:
            self._capture.join(_SUMMARY_SECS)

    def _ask(self, patience: float | None) -> None:
        """Ends the trace, after what the devices were given; with a patience, after that at the latest."""
        self._over = True
        if self._capture is None or not self._capture.recording:
            return
        try:
            barrier(patience)
            self._done = time.monotonic()
        except Exception as fault:
            self._warn(f"work of the last step may be missing: {describe(fault)}")
        finally:
            self._capture.stop()

    def _stop(self, patience: float | None) -> None:
        """The same, and waits until nothing is recorded any more."""
        self._ask(patience)
        if self._capture is not None and not self._capture.stopped.wait(_SAVING_SECS):
            report.say(f"saving the profile of {self._steps()} …")
            self._capture.stopped.wait()

    def _finish(self, capture: Capture) -> None:
        """What comes after the trace, on its own thread."""
        self._over = True
        observers.remove(self._calls)
        self._attempt(lambda: self._save(capture))
        self._placed.set()
        file, run = capture.file(), self._run
        if self.path is not None and file is not None:
            try:
                # Process 0 writes the run, and has a trace of its own.
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
            raise ProfileError(
                "JAX saved no trace"
                + (f": {describe(capture.fault)}" if capture.fault is not None else ".")
            ) from capture.fault
        began = time.monotonic()
        try:
            self.path = destination.place(file, logdir, self._session())
        except ProfileError as fault:
            fault.args = (f"{fault} It is kept in {file!r}.",)
            raise
        seconds = capture.seconds + time.monotonic() - began
        report.say(report.saved(self.path, logdir, self.captured, seconds))
        if capture.expired:
            limit = self._settings.max_seconds
            self._warn(
                f"the trace was stopped after max_seconds={limit:g}; it has {self._steps()}."
            )
        if not self.captured:
            self._warn(
                "no step was taken while it was recorded, so TensorBoard has no step times. "
                + _WHAT_STEPS_ARE
            )
        elif not destination.has_step_markers(file):
            self._warn(
                "the trace has no step markers, so TensorBoard has no step times. host_level=0 leaves "
                "them out."
            )

    def _summarize(self, run: Run, file: str) -> None:
        summary = summarize_apart(file, _SUMMARY_SECS)
        step = self.captured[-1] if self.captured else channel_of(run).current
        if not self._waits():
            # The markers are as long as dispatching took.
            summary.steps = []
        for record in report.records(summary, step, self._mean_ms()):
            channel_of(run).put(record)

    def _mean_ms(self) -> float | None:
        """How long a step took by the clock: known if the recording ended with the last step's work."""
        window = self._settings.window
        if window is None or not self.captured or self.captured[-1] != window[-1]:
            return None
        return 1e3 * (self._done - self._began) / len(self.captured)

    # --- Small things. ----------------------------------------------------------------------------

    def _find_run(self) -> None:
        self._run = self._run or current_run()
        if self._logdir is None and self._run is not None and self._run.logdir is not None:
            self._logdir = str(self._run.logdir)

    def _session(self) -> str:
        window = self._settings.window
        if self._settings.name is not None:
            return self._settings.name
        if window is not None:
            return f"steps_{report.stretch(window)}"
        return f"steps_{report.stretch(self.captured)}" if self.captured else "block"

    def _steps(self) -> str:
        return f"steps {report.stretch(self.captured)}" if self.captured else "no steps"

    def _waits(self) -> bool:
        if self._settings.sync == "auto":
            return jax.default_backend() == "cpu"
        return self._settings.sync

    def _never_reached(self, window: range) -> str:
        if self._seen is None:
            seen = f"no step was taken. {_WHAT_STEPS_ARE}"
        else:
            seen = "the steps taken were {}-{}.".format(*self._seen)
        return f"nothing was profiled: steps {report.stretch(window)} were not reached; {seen}"

    def _attempt(self, act: Callable[[], None]) -> None:
        """Does something that may fail without the training noticing."""
        try:
            act()
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
        observers.remove(self._calls)
        if self._capture is None:
            forget(self.end)


class _Calls:
    """Makes steps of the calls of instrumented functions."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._next = 0

    def begin(self, call: observers.Call) -> None:
        """A call that takes a step begins one."""
        if call.advance:
            number = self._next if call.step is None else call.step
            if self._recorder.enter(number, call):
                self._next = number + 1

    def end(self, call: observers.Call, result: Any) -> None:
        """The step it began is over."""
        self._recorder.leave(call, result)

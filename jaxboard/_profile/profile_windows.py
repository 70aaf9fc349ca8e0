"""The windows of one profile, one after the other."""

from __future__ import annotations

import os
import threading
import time

import jax

from jaxboard import _paths
from jaxboard._errors import ProfileError
from jaxboard._host import observers
from jaxboard._log import logger
from jaxboard._profile.call_steps import CallSteps
from jaxboard._profile.notices import STEP_HELP, format_steps
from jaxboard._profile.profile_settings import ProfileSettings
from jaxboard._profile.recorder import Recorder
from jaxboard._profile.trace_files import clock_of
from jaxboard._profile.window_schedule import WindowSchedule
from jaxboard._run import Run, channel_of, current_root
from jaxboard._types import PyTree


class _OpenStep(threading.local):
    """The open step of a thread."""

    owner: object = None
    number: int = 0
    window: Recorder | None = None
    marker: jax.profiler.StepTraceAnnotation | None = None


class ProfileWindows:
    """One profile, from :meth:`open` to :meth:`close`, with one window or more.

    Args:
        settings: the settings.
        run: the run that gets the summaries; by default the active one.
    """

    def __init__(self, settings: ProfileSettings, run: Run | None = None) -> None:
        self._settings = settings
        self._schedule = WindowSchedule(settings) if settings.is_repeated else None
        self._process = os.getpid()
        self._lock = threading.Lock()
        self._open_step = _OpenStep()
        # The last window, and those before it that are not finished.
        self._windows: list[Recorder] = []
        self._over = False
        self._paths: list[str] = []
        self._captured: list[int] = []
        self._fault: ProfileError | None = None
        self._first_and_last_step: tuple[int, int] | None = None
        self._logdir = settings.logdir
        self._run = run
        self._opened_at = 0.0
        self._is_awaited = False
        self._call_steps = CallSteps(self)

    @property
    def paths(self) -> list[str]:
        """The paths of the saved traces, in order."""
        return [*self._paths, *(window.path for window in self._windows if window.path is not None)]

    @property
    def captured(self) -> list[int]:
        """The recorded steps, in order."""
        return [*self._captured, *(step for window in self._windows for step in window.captured)]

    @property
    def is_recording(self) -> bool:
        """True while a trace is recorded or saved."""
        return not all(window.is_saved for window in self._windows)

    @property
    def is_finished(self) -> bool:
        """True once everything is saved and nothing more is recorded. :meth:`close` does not wait then."""
        return self._over and not self.is_recording

    # The block.

    def open(self) -> None:
        """Start to watch the steps of the process."""
        self._find_run()
        try:
            if self._logdir is not None:
                _paths.check_writable(self._logdir, ProfileError, "plugins", "profile")
                self._opened_at = clock_of(self._logdir)
        except ProfileError as fault:
            self._over = True
            self._fail(f"no profile: {fault}")
        if self._settings.steps is None and self._schedule is None:
            self._start(None)
        if not self._over:
            observers.add(self._call_steps)

    def close(self, error: BaseException | None = None) -> None:
        """Save the traces and wait until they are on disk. Does not wait for the summary of the last one.

        Args:
            error: the exception that ended the block, if any.

        Raises:
            ProfileError: there was a fault, ``on_error`` is ``"raise"``, and the block did not raise.
        """
        if self._process != os.getpid():
            return
        was_over, self._over = self._over, True
        for window in self._windows:
            window.close(error)
        if not (self._windows or self._captured or was_over or error is not None):
            self._fail(self._not_reached())
        observers.remove(self._call_steps)
        faults = [self._fault, *(window.fault for window in self._windows)]
        fault = next((fault for fault in faults if fault is not None), None)
        if error is None and fault is not None and self._settings.on_error == "raise":
            raise fault

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
        window = self._window_at(number)
        if window is not None:
            step.window, step.marker = window, window.begin_step(number)
        return True

    def end_step(self, owner: object, result: PyTree = None) -> None:
        """End the step of ``owner``, and wait for its result if the profile synchronizes steps."""
        step = self._open_step
        if step.owner is not owner:
            return
        window, marker = step.window, step.marker
        step.owner, step.window, step.marker = None, None, None
        if window is not None and marker is not None:
            window.end_step(step.number, marker, result)

    # The windows.

    def _window_at(self, number: int) -> Recorder | None:
        """Return the window that a step belongs to, and start it if necessary; None if there is none."""
        last = self._last_window
        if last is not None and not last.is_over:
            return last
        with self._lock:
            if self._last_window is last:  # Otherwise another thread started one.
                steps = self._settings.steps
                if self._schedule is not None:
                    steps = self._schedule.due(number, time.monotonic())
                elif last is not None or steps is None or number not in steps:
                    steps = None
                if steps is not None:
                    self._start(steps)
            return self._last_window

    @property
    def _last_window(self) -> Recorder | None:
        return self._windows[-1] if self._windows else None

    def _start(self, steps: range | None) -> None:
        self._forget_finished()
        self._find_run()
        if not self._is_chosen():
            self._over = True
            observers.remove(self._call_steps)
            return
        if self._logdir is None:
            self._over = self._schedule is None
            self._fail(
                "no profile: there is no log directory: pass logdir=..., or open a jaxboard.Run that has one."
            )
            return
        if self._run is not None and not self._is_awaited:
            self._is_awaited = True
            channel_of(self._run).before_close.append(self._finish)
        window = Recorder(
            self._settings, steps, self._logdir, self._run, self._on_over, since=self._opened_at
        )
        self._windows.append(window)
        window.start()
        if window.fault is not None:
            self._on_over()

    def _is_chosen(self) -> bool:
        """Return whether this process records. JAX has started, so it knows its number."""
        chosen = self._settings.processes
        if chosen is None:
            return True
        count = jax.process_count()
        if chosen[-1] >= count:
            job = "one process" if count == 1 else f"{count} processes, 0 to {count - 1}"
            logger.warning(
                "jaxboard.profile: there is no process %d: this job has %s.", chosen[-1], job
            )
        return jax.process_index() in chosen

    def _finish(self) -> None:
        """Finish all windows, because the run closes."""
        for window in self._windows:
            window.finish()

    def _forget_finished(self) -> None:
        """Keep only the results of windows that are finished."""
        while self._windows and self._windows[0].is_finished:
            window = self._windows[0]
            self._fault = self._fault or window.fault
            # Other threads may read the results at any time, and should rather miss a window than see it twice.
            self._windows = self._windows[1:]
            self._captured += window.captured
            self._paths += [] if window.path is None else [window.path]

    def _on_over(self) -> None:
        """Handle the end of a window, on the thread of its capture or on that of the step."""
        if self._schedule is not None:
            self._schedule.end_window()
        else:
            self._over = True
            observers.remove(self._call_steps)

    # Helpers.

    def _find_run(self) -> None:
        self._run = self._run or current_root()
        if self._logdir is None and self._run is not None and self._run.logdir is not None:
            self._logdir = str(self._run.logdir)

    def _not_reached(self) -> str:
        steps = self._settings.steps if self._schedule is None else self._schedule.first
        if self._first_and_last_step is None:
            taken = f"no step was taken. {STEP_HELP}"
        else:
            taken = "the steps taken were {}-{}.".format(*self._first_and_last_step)
        return f"nothing was profiled: steps {format_steps(steps or ())} were not reached; {taken}"

    def _fail(self, text: str) -> None:
        self._fault = ProfileError(text)
        if self._settings.on_error == "warn":
            logger.warning("jaxboard.profile: %s", text)

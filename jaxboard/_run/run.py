"""The run: connects the step counter, the buffer, the flusher and the sinks."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Mapping, Sequence
from types import EllipsisType, TracebackType
from typing import Never, Self, SupportsIndex

from jaxboard import _compat
from jaxboard._alerts.alert_options import Alerts, parse_alerts
from jaxboard._emit import VerbMethods
from jaxboard._emit.hparams import hparams_of_run
from jaxboard._errors import RunError
from jaxboard._host.active_channel import Directed, activate
from jaxboard._host.buffer import Overflow
from jaxboard._host.callbacks import callbacks
from jaxboard._host.channel import Channel
from jaxboard._host.nonfinite import Policy, check_policy
from jaxboard._host.outbox import checked_sinks
from jaxboard._host.selection import check_selection
from jaxboard._host.state_arrays import SavedState, encode
from jaxboard._job.membership import Membership, Processes, check_processes
from jaxboard._live.panel import parse_live
from jaxboard._log import logger
from jaxboard._process import rank
from jaxboard._process.exit import close_at_exit, forget, has_uncaught_exception
from jaxboard._process.fork import Stage, on_fork
from jaxboard._run import directories, options
from jaxboard._run.announcement import announce
from jaxboard._run.child_run import ChildRun, refuse_copy
from jaxboard._run.pipeline import connect, event_files
from jaxboard._run.reopening import reopen
from jaxboard._run.resume import Resume
from jaxboard._run.services import Services
from jaxboard._telemetry.settings import Telemetry, check_telemetry
from jaxboard._trace.adapters.linen_scan import silence_scan_checks
from jaxboard.records import Kind, Record
from jaxboard.sinks import Sink, TensorBoardSink

open_runs: dict[Channel, Run] = {}
"""The run of each channel that is open."""


class Run(VerbMethods):
    """An open training run: reports go to its log directory until it is closed.

    Opening a run, or entering it by ``with``, makes it the **active run** of the thread or the asyncio task.
    Instrumented functions and the verbs (``jb.scalar``, …) report to the active run. If a thread has several open
    runs, the active one is the run that it opened or entered last; when it closes, the one before it is active
    again. All other threads report to the last open run of the main thread, or else to the last one of any thread.

    A background thread writes the reports: each is on disk at most ``flush_secs`` after it was made. Leaving
    the ``with`` block closes the run. A run left open is closed at interpreter exit, and on SIGTERM and SIGHUP unless
    the program has a handler of its own.

    The verbs are also methods, except ``scope``, which applies to all runs. ``run.scalar(...)`` reports to this run,
    active or not, in plain Python and in traced code. A compiled function keeps the run that it was traced with.
    In an instrumented function the value has the step of the call.

    Machine faults, such as a full disk, never raise into the training loop. The ``jaxboard`` logger records
    each immediately (on standard error, unless logging is configured). jaxboard retries, and
    :meth:`flush` and :meth:`close` raise if reports are not on disk.

    In a job of several processes, process 0 writes. The other processes open the same run; their
    reports are discarded. Call ``jax.distributed.initialize`` before opening a run.

    Args:
        logdir: the directory of this run, created if it does not exist; ``~`` is expanded. Or a URL (``s3://…``).
            None if ``sinks`` need none. By default ``runs/<date>_<host>``, or None if there are ``sinks``.
        hparams: the hyperparameters, shown in the HParams dashboard: a dict, a dataclass, parsed arguments, or
            a configuration object such as a ``ConfigDict``. Nested ones are flattened, their names joined by
            ``/``. Functions and classes are shown by name. :func:`hparams` reports them later.
        resume: whether the run continues an earlier one in ``logdir`` after its last step. ``"auto"`` starts at
            step 0 if there is none, True raises then. By default the run starts at ``step``.
        step: the first step, for example that of a checkpoint; 0 by default. If ``logdir`` holds an earlier run,
            TensorBoard no longer shows what it reported at this step or later, in runs below it either. Without
            ``step``, opening a run hides nothing.
        state: the result of :meth:`state`, from a checkpoint. The run continues exactly where that run was.
        processes: which processes of a job write. With ``"one"``, process 0 does. With ``"all"``, values reported from plain
            Python go to a run of the process, ``process_0``, ``process_1``, …; values of instrumented functions, which
            are the same in all processes, stay in the run itself, with the smallest, the median and the largest step
            time, data wait and memory of all processes. ``logdir`` must be the same in all.
        hang_secs: for how many seconds no step finishes in a job of several processes before each process writes the
            stacks of its threads below ``logdir/.jaxboard``, and the run reports which process the others wait for.
            None for never.
        flush_secs: the maximum age of a report that is not on disk, in seconds. SIGKILL loses at most
            the reports of that time. By default 1 s, and 30 s if event files are written to a URL.
        sinks: where to write instead of event files in ``logdir``. To write both, pass
            ``sinks=[TensorBoardSink(logdir), MySink()]`` (:mod:`jaxboard.sinks`).
        max_file_bytes: the size at which a new event file begins; see
            :class:`~jaxboard.sinks.TensorBoardSink`, which takes it if you pass ``sinks``.
        overflow: what happens if reports arrive faster than the sinks write them. ``"wait"`` blocks the
            training loop until there is space, but never inside a host callback and never for long if a
            sink writes nothing. ``"drop"`` drops reports and counts them.
        max_frames: how many calls may be pending, waiting to be written.
        max_bytes: how many bytes may be pending in the buffer, and how many at the sinks.
        timeout: how many seconds :meth:`flush` and :meth:`close` wait for the sinks.
        telemetry: what jaxboard reports about the program itself, under ``jaxboard/``. By default it watches for
            recompiles, once for each cause, and for spikes of scalars: text entries name the arguments that changed, and
            the batch. True, or a :class:`Telemetry`, adds compile times, step times, rates, floating-point operations,
            memory, and the cost of jaxboard. False disables it.
        on_nonfinite: what happens when a reported value is NaN or infinite (a scalar, an element of a histogram, a watched
            leaf) for the first time in its tag. A text entry ``jaxboard/nonfinite`` names the tag, the step and the last
            finite value, and ``"warn"`` logs it; ``"raise"`` raises from the next :meth:`flush` or :meth:`close`, after
            everything is written; ``"autopsy"`` looks for the operation (:func:`autopsy`) if the arguments of the step
            still exist; a function is called with one sentence, on the run's own thread. ``"ignore"`` does nothing.
        alerts: rules, such as ``"train/loss > 10"``, ``"train/loss is spiking"``, ``"*/loss is not finite"`` and
            ``"no report for 10 minutes"``, and functions and URLs that receive each :class:`Alert` that they find, on a
            thread of their own. Findings are also logged, and written as text entries ``jaxboard/alerts/…``.
        select: cadences by patterns of tags, in place of those in the program: ``{"debug/*": None, "act/*": 100}`` leaves
            out the reports below ``debug`` and reports those below ``act`` every 100 steps. The last pattern that matches
            decides. ``python -m jaxboard ask LOGDIR every`` changes them while the run is open.
        live: show curves and progress while the run is open, below the notebook cell that opens it or as one line of the
            terminal. A list of patterns, such as ``["*/loss", "lr"]``, selects the tags; True shows at most six, losses first.
        steps: how many steps the run has when it is complete, for the progress that ``live`` shows.

    Attributes:
        logdir: the directory as an absolute path, a URL as a str, or None.

    Raises:
        UsageError: an argument is invalid.
        RunError: ``logdir`` cannot be written to, or an open run, or a child of one, already writes there, or
            ``resume`` is True and no earlier run did.

    Example:
        >>> import tempfile
        >>> import jaxboard as jb
        >>> with tempfile.TemporaryDirectory() as logdir, jb.Run(logdir, hparams={"lr": 1e-3}) as run:
        ...     jb.scalar("loss", 0.5)
        ...     run.step
        0
    """

    def __init__(
        self,
        logdir: str | os.PathLike[str] | EllipsisType | None = ...,
        *,
        hparams: object = None,
        resume: Resume = False,
        step: int | None = None,
        state: SavedState | None = None,
        processes: Processes = "one",
        hang_secs: float | None = 300.0,
        flush_secs: float | None = None,
        sinks: Sequence[Sink] | None = None,
        max_file_bytes: int | None = None,
        overflow: Overflow = "wait",
        max_frames: int = 200_000,
        max_bytes: int = 256 * 2**20,
        timeout: float = 30.0,
        telemetry: bool | Telemetry | None = None,
        on_nonfinite: Policy = "warn",
        alerts: Alerts | None = None,
        select: Mapping[str, int | None] | None = None,
        live: bool | Sequence[str] = False,
        steps: int | None = None,
    ):
        options.check_positive(max_frames=max_frames, max_bytes=max_bytes, timeout=timeout)
        options.check_seconds(flush_secs=flush_secs, hang_secs=hang_secs)
        options.check_file_size(max_file_bytes, sinks)
        options.check_overflow(overflow)
        check_processes(processes)
        check_telemetry(telemetry)
        check_policy(on_nonfinite)
        alert_options = parse_alerts(alerts)
        selection = check_selection(select)
        live_options = parse_live(live, steps)
        flat_hparams = hparams_of_run(hparams)
        self.logdir = options.parse_logdir(logdir, needed=sinks is None)
        is_shared = logdir not in (..., None) and sinks is None
        membership = Membership(processes, self.logdir, is_shared=is_shared, hang_secs=hang_secs)
        sinks = None if sinks is None else checked_sinks(sinks)
        start = reopen(self, open_runs, sinks, resume=resume, step=step, saved=state)
        if sinks is None:
            hides = step is not None or state is not None
            sinks = event_files(membership, start if hides else None, max_file_bytes=max_file_bytes)
        has_files = any(isinstance(sink, TensorBoardSink) for sink in sinks)
        self._writes_files = self.logdir is not None and has_files
        self._timeout, self._process = float(timeout), os.getpid()
        self._closing, self._closed = threading.Lock(), False
        pipeline = connect(
            sinks,
            start,
            membership,
            selection=selection,
            overflow=overflow,
            max_frames=max_frames,
            max_bytes=max_bytes,
            flush_secs=flush_secs,
            on_nonfinite=on_nonfinite,
            alerts=alert_options,
            telemetry=telemetry,
            live=live_options,
            logdir=self.logdir,
        )
        channel = self._channel = pipeline.channel
        self._flusher = pipeline.flusher
        with directories.claim(channel, sinks, f"Run({channel.name})"):
            if flat_hparams is not None:
                channel.put(Record(Kind.HPARAMS, "hparams", start.step, time.time(), flat_hparams))
                channel.hparams = flat_hparams
            self._services = Services(
                pipeline,
                membership,
                telemetry=telemetry,
                logdir=self.logdir,
                earlier_totals=start.totals,
            )
            open_runs[channel] = self
            activate(channel)
            close_at_exit(self._close_at_exit)
            silence_scan_checks()

    @property
    def step(self) -> int:
        """The step of the next call of an instrumented function. It can be set.

        Setting it waits for the reports of earlier calls that leave by callback: they belong to the step before.
        """
        return self._channel.step

    @step.setter
    def step(self, step: int) -> None:
        number = options.step_number("run.step = {}", step)
        callbacks.wait()
        self._channel.step = number

    @property
    def closed(self) -> bool:
        """True once the run has been closed."""
        return self._closed

    def flush(self, timeout: float | None = None) -> None:
        """Block until everything reported so far is on disk. This waits for the device.

        On a closed run, and in a forked child, it does nothing.

        Args:
            timeout: how many seconds to wait for the sinks; by default the ``timeout`` of the run.

        Raises:
            RunError: reports are not on disk yet, or were lost since the last call. The message has the
                counts, ``__cause__`` is the fault.
            NonFiniteError: a value is not finite and ``on_nonfinite`` is ``"raise"``.
        """
        if self._closed or self._process != os.getpid():
            return
        timeout = self._timeout if timeout is None else timeout
        self._flusher.flush(options.wait_seconds("run.flush", timeout))

    def state(self, timeout: float | None = None) -> SavedState:
        """Return what a run needs to continue exactly here: the step, and the values of incomplete points.

        Store it with the state of the training and pass it to ``Run(state=...)``. The curves are then the same, bit for
        bit, as if the program had not been interrupted. It is a dict of two NumPy arrays, at least 4 KiB:
        ``step``, int64[], and ``contents``, uint8[N].

        It waits until the device has computed what was reported, and until complete points are on disk. Sinks that fail
        do not raise here: their points stay pending, and :meth:`flush` and :meth:`close` raise.

        Args:
            timeout: how many seconds to wait for the sinks; by default the ``timeout`` of the run.

        Raises:
            RunError: the run is closed, the sinks did not finish in time, or this process is a fork.

        Example:
            >>> import tempfile, jaxboard as jb
            >>> with tempfile.TemporaryDirectory() as logdir:
            ...     with jb.Run(logdir) as run:
            ...         run.step = 100
            ...         state = run.state()
            ...     with jb.Run(logdir, state=state) as run:
            ...         run.step
            100
        """
        self._check_open()
        if self._process != os.getpid():
            raise RunError(f"run {self._channel.name} belongs to the parent of this process.")
        timeout = self._timeout if timeout is None else timeout
        host = self._flusher.save(self._channel.step, options.wait_seconds("run.state", timeout))
        return encode(self._channel.saved(host)._replace(totals=self._services.totals()))

    def close(self, timeout: float | None = None) -> None:
        """Write all pending reports, close the sinks, and stop being the active run.

        A second call does nothing, and neither does a call in a forked child.

        Args:
            timeout: how many seconds to wait for the sinks; by default the ``timeout`` of the run.

        Raises:
            RunError: reports were lost since the last :meth:`flush`. The message has the counts,
                ``__cause__`` is the fault.
            NonFiniteError: a value is not finite and ``on_nonfinite`` is ``"raise"``.
        """
        self._close(self._timeout if timeout is None else timeout, None)

    def _close_at_exit(self, timeout: float | None) -> None:
        if timeout is not None or has_uncaught_exception():
            self._flusher.fail()
        if timeout is None:
            self.close()
        else:
            self._close(min(timeout, self._timeout), timeout / 2)

    def _close(self, timeout: float, device_timeout: float | None) -> None:
        timeout = options.wait_seconds("run.close", timeout)
        if self._process != os.getpid() or not self._closing.acquire(timeout=timeout):
            return
        try:
            if self._closed:
                return
            try:
                self._services.finish(timeout, device_timeout)
            except RunError:
                self._mark_closed()
                raise
            # After a KeyboardInterrupt the run stays open, and atexit closes it.
            self._mark_closed()
            if self._writes_files and device_timeout is None and rank.is_writer(False):
                announce(str(self.logdir))
        finally:
            self._closing.release()

    def _mark_closed(self) -> None:
        self._closed = True
        self._services.stop()
        open_runs.pop(self._channel, None)
        directories.release(self._channel)
        forget(self._close_at_exit)

    def _active(self) -> contextlib.AbstractContextManager[None]:
        if self._closed and _compat.at_top_level():
            self._check_open()
        return Directed(self._channel)

    def child(self, name: str) -> ChildRun:
        """Return the run ``name`` below this one, for example for the curves of an evaluation.

        It has the steps, the sinks and the settings of this run. TensorBoard draws curves with the same tag in one
        chart, one for each run.

        Args:
            name: the name, or a relative path such as ``"eval/ood"``.

        Raises:
            UsageError: ``name`` is not a relative path in UTF-8, contains a traced value, or a part of it is the
                name of a seed run.
            RunError: the run is closed, or another open run writes to the directory of the child.

        Example:
            >>> import tempfile, jaxboard as jb
            >>> with tempfile.TemporaryDirectory() as logdir, jb.Run(logdir) as run:
            ...     run.child("eval").scalar("loss", 0.7)
            ...     with run.child("eval"):
            ...         jb.scalar("accuracy", 0.5)
        """
        if self._closed and _compat.at_top_level():
            self._check_open()
        return ChildRun(self, self._channel, name)

    def __enter__(self) -> Self:
        self._check_open()
        activate(self._channel)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        if error is None:
            self.close()
            return
        if not isinstance(error, SystemExit) or error.code:
            self._flusher.fail()
        try:
            self.close()
        except RunError as fault:
            # The exception that ended the block matters more.
            logger.error("jaxboard: %s", fault)
            error.add_note(f"jaxboard: {fault}")

    def _check_open(self) -> None:
        if self._closed:
            raise RunError(f"run {self._channel.name} is closed. Open a new Run on its directory.")

    def __reduce_ex__(self, protocol: SupportsIndex) -> Never:
        refuse_copy(repr(self))

    def __repr__(self) -> str:
        return f"<jaxboard.Run {self._channel.name}, step {self.step}{', closed' * self._closed}>"


# In a forked child, the parent's runs have no flusher thread.
on_fork(Stage.STATE, in_child=lambda: open_runs.clear())  # noqa: PLW0108 (a function has a module)

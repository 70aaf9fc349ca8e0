"""The run: composes the step counter, the buffer, the flusher and the sinks."""

from __future__ import annotations

import contextlib
import functools
import os
import pathlib
import threading
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, Generic, ParamSpec, Self

from jaxboard import _emit, _paths
from jaxboard._errors import RunError
from jaxboard._host.assemble import Assembler
from jaxboard._host.buffer import Buffer, Overflow
from jaxboard._host.channel import Channel, activate, active, deactivate, directed
from jaxboard._host.delivery import Delivery
from jaxboard._host.flusher import Flusher
from jaxboard._host.lost import LostReports
from jaxboard._host.nonfinite import Policy, make_monitor
from jaxboard._log import logger
from jaxboard._process import rank
from jaxboard._process.exit import close_at_exit, forget
from jaxboard._run import options
from jaxboard._telemetry import start
from jaxboard._telemetry.settings import Telemetry
from jaxboard.sinks import Sink, TensorBoardSink

P = ParamSpec("P")

_open: dict[Channel, Run] = {}


class _Verb(Generic[P]):
    """A verb as a method of a run. Of the class, it is the verb itself."""

    def __init__(self, verb: Callable[P, None]):
        self._verb = verb

    def __get__(self, run: Run | None, owner: type) -> Callable[P, None]:
        if run is None:
            return self._verb

        @functools.wraps(self._verb)
        def method(*args: P.args, **kwargs: P.kwargs) -> None:
            _must_be_open(run)
            with directed(run.channel):
                self._verb(*args, **kwargs)

        return method


class Run:
    """A training run that reports are written for, from its construction until it is closed.

    While it is open it is the run in force, for every thread of the process: what instrumented
    functions and the verbs (``jb.scalar``, …) report goes to the run that was opened, or entered by
    ``with``, last. What is reported is on disk ``flush_secs`` later. A run that nobody closes is
    closed when the interpreter ends, and on SIGTERM where no handler of yours is set.

    The verbs are methods too: ``run.scalar(...)`` in plain Python reports to this run, in force or not. In
    traced code it is the same as ``jb.scalar(...)``: which run is in force shows when the program runs.

    In a job of several processes, process 0 writes; the others may open their runs all the same.
    Call ``jax.distributed.initialize`` before opening one.

    Faults of the machine never reach the training loop. They are logged at once by the ``jaxboard``
    logger (which without a configuration of logging means standard error), tried again, and raised
    from :meth:`flush` and :meth:`close`.

    Args:
        logdir: the directory of this run, made if need be; ``~`` is expanded. A URL (``gs://…``) goes
            to TensorFlow as it is. None where ``sinks`` don't need one.
        hparams: the hyperparameters, shown in the HParams dashboard. Mappings inside are flattened,
            their names joined by ``/``.
        step: the first step.
        flush_secs: how old a report may get before it is on disk; what a SIGKILL loses at most.
        sinks: where to write, instead of to event files in ``logdir``.
        overflow: what happens when reports come faster than the sink takes them: ``"wait"`` makes
            the training loop wait (never for a sink that takes nothing at all, and never in a host
            callback), ``"drop"`` drops reports and counts them.
        max_frames: how many calls may wait to be written.
        max_bytes: how many bytes may wait to be written.
        timeout: how many seconds :meth:`flush` and :meth:`close` give the sinks.
        telemetry: what the run tells of itself, under ``jaxboard/``. By default it watches for
            recompiles: an instrumented function that JAX compiles again is logged, once for each
            cause, and told in a text entry, with the arguments that changed. True, or a
            :class:`Telemetry`, adds compile times, step times, rates, floating-point operations,
            memory, and what jaxboard itself costs. False: nothing.
        on_nonfinite: what happens when something reported is NaN or infinite (a scalar, an element of
            a histogram, a leaf that is watched), for the first time of each tag. A text entry,
            ``jaxboard/nonfinite``, names the tag, the step and the last value that was finite;
            ``"warn"``: the ``jaxboard`` logger says so too. ``"raise"``: the next :meth:`flush` or
            :meth:`close` raises, after everything is written. ``"ignore"``: nothing, and no text. A
            function: it is called with one sentence, on a thread of the run's, and could set a flag
            that your loop looks at.

    Attributes:
        logdir: the directory as an absolute path, a URL as a str, or None.
        channel: where reports arrive.

    Raises:
        RunError: ``logdir`` cannot be written to, is that of a run that is still open, or an argument
            is not what it should be.

    Example:
        >>> import tempfile
        >>> import jaxboard as jb
        >>> with jb.Run(tempfile.mkdtemp(), hparams={"lr": 1e-3}) as run:
        ...     run.step
        0
    """

    scalar = _Verb(_emit.scalar)
    scalars = _Verb(_emit.scalars)
    histogram = _Verb(_emit.histogram)
    image = _Verb(_emit.image)
    text = _Verb(_emit.text)
    figure = _Verb(_emit.figure)
    watch = _Verb(_emit.watch)

    def __init__(
        self,
        logdir: str | os.PathLike[str] | None,
        *,
        hparams: Mapping[str, Any] | None = None,
        step: int = 0,
        flush_secs: float = 1.0,
        sinks: Sequence[Sink] | None = None,
        overflow: Overflow = "wait",
        max_frames: int = 200_000,
        max_bytes: int = 256 * 2**20,
        timeout: float = 30.0,
        telemetry: bool | Telemetry | None = None,
        on_nonfinite: Policy = "warn",
    ):
        options.positive(
            flush_secs=flush_secs, max_frames=max_frames, max_bytes=max_bytes, timeout=timeout
        )
        if overflow not in ("wait", "drop"):
            raise RunError(f"Run(overflow={overflow!r}): expected 'wait' or 'drop'.")
        start.check(telemetry)
        first = options.step_number(step)
        record = options.hparams_record(hparams, first)
        self.logdir = options.logdir_of(logdir)
        if self.logdir is None and sinks is None:
            raise RunError("Run(None): give a log directory, or sinks=[...] that need none.")
        if self.logdir is not None and sinks is None:
            if any(run.logdir == self.logdir for run in _open.values()):
                raise RunError(
                    f"Run({str(self.logdir)!r}): a run that is still open writes there, and TensorBoard "
                    "reads one writer per directory. Close it first (jb.current_run().close()), or "
                    "choose another directory."
                )
            _paths.probe(str(self.logdir), RunError)
        self._timeout = timeout
        self._process = os.getpid()
        self._closing = threading.Lock()
        self._closed = False
        lost = LostReports("in memory" if self.logdir is None else repr(str(self.logdir)))
        buffer = Buffer(max_frames, max_bytes, overflow, lost=lost)
        self.channel = Channel(buffer, first, lost.name)
        self._flusher = Flusher(
            buffer,
            Assembler(),
            Delivery(_sinks(self.logdir, first, sinks), lost),
            flush_secs=flush_secs,
            lost=lost,
            monitor=make_monitor(on_nonfinite, lost),
            is_writer=rank.writes,
        )
        if record is not None:
            self.channel.put(record)
        flusher = self._flusher  # not self: the run is not to keep itself alive
        self._telemetry = start.start(
            telemetry, self.channel, self.logdir, lambda: flusher.cpu_seconds
        )
        self._flusher.start()
        _open[self.channel] = self
        activate(self.channel)
        close_at_exit(self)

    @property
    def step(self) -> int:
        """The step that the next call of an instrumented function takes; may be set."""
        return self.channel.step

    @step.setter
    def step(self, step: int) -> None:
        self.channel.step = options.step_number(step)

    @property
    def closed(self) -> bool:
        """Whether the run has been closed."""
        return self._closed

    def flush(self, timeout: float | None = None) -> None:
        """Returns when everything reported so far is on disk. Waits for the device.

        Args:
            timeout: seconds that the sinks may take; by default the ``timeout`` of the run.

        Raises:
            RunError: something is not on disk, or was lost since the last call; its cause is the
                fault, its text has the counts.
            NonFiniteError: see ``on_nonfinite``.
        """
        if self._closed or self._process != os.getpid():
            return
        self._flusher.flush(self._timeout if timeout is None else timeout)

    def close(self, timeout: float | None = None) -> None:
        """Writes what is left, closes the sinks, and is no longer the run in force.

        A second call does nothing, nor does one in a forked child.

        Args:
            timeout: seconds that the sinks may take; by default the ``timeout`` of the run.

        Raises:
            RunError: something is not on disk, or was lost since the last :meth:`flush`; its cause is
                the fault, its text has the counts.
            NonFiniteError: see ``on_nonfinite``.
        """
        self._close(self._timeout if timeout is None else timeout, None)

    def end(self, timeout: float | None) -> None:
        """Closes the run because the process ends; with a timeout, whatever the device does."""
        if timeout is None:
            self.close()
        else:
            self._close(min(timeout, self._timeout), timeout / 2)

    def _close(self, timeout: float, device_timeout: float | None) -> None:
        if self._process != os.getpid() or not self._closing.acquire(timeout=timeout):
            return
        try:
            if self._closed:
                return
            if device_timeout is None:
                # Callbacks look for the run when they arrive, so it has to be there till then.
                self._flusher.await_callbacks()
                for wait in self.channel.before_close:
                    wait()
            if self._telemetry is not None:
                self._telemetry.stop()
            # What is reported from here on is not of this run.
            deactivate(self.channel)
            self.channel.end_windows()
            try:
                self._flusher.close(timeout, device_timeout=device_timeout)
            except RunError:
                self._forget()
                raise
            # Not after a KeyboardInterrupt: then the run is still open, for atexit.
            self._forget()
        finally:
            self._closing.release()

    def _forget(self) -> None:
        self._closed = True
        _open.pop(self.channel, None)
        forget(self)

    def __enter__(self) -> Self:
        _must_be_open(self)
        activate(self.channel)
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
        try:
            self.close()
        except RunError as fault:
            # The error that ended the block is the one to raise.
            logger.error("jaxboard: %s", fault)
            error.add_note(f"jaxboard: {fault}")

    def __repr__(self) -> str:
        state = ", closed" if self._closed else ""
        return f"<jaxboard.Run {self.channel.name}, step {self.step}{state}>"


def _must_be_open(run: Run) -> None:
    if run.closed:
        raise RunError(f"run {run.channel.name} is closed. Open a new Run on its directory.")


def current_run() -> Run | None:
    """The run in force, or None while none is open.

    Example:
        >>> import jaxboard as jb
        >>> jb.current_run() is None
        True
    """
    channel = active()
    return None if channel is None else _open.get(channel)


def _sinks(
    logdir: pathlib.Path | str | None, step: int, sinks: Sequence[Sink] | None
) -> Sequence[Sink]:
    return [TensorBoardSink(str(logdir), start_step=step)] if sinks is None else sinks


def _forget_parents_runs() -> None:
    _open.clear()


with contextlib.suppress(AttributeError):  # Windows has no forks.
    os.register_at_fork(after_in_child=_forget_parents_runs)

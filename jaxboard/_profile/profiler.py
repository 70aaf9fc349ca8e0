"""``profile`` and ``JAXProfiler``: what users call."""

from __future__ import annotations

import contextlib
import operator
import os
from collections.abc import Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Protocol, Self, TypeAlias

from jaxboard._errors import ProfileError, ReportError
from jaxboard._paths import absolute
from jaxboard._profile.step_range import window

if TYPE_CHECKING:
    from jaxboard._profile.recorder import Recorder


class ProfilingConfig(Protocol):
    """A trainer's configuration of its profiler, as artifex's."""

    log_dir: Any
    start_step: int
    end_step: int


Steps: TypeAlias = range | slice | tuple[int, int] | str | None


def profile(
    steps: Steps = None,
    logdir: str | os.PathLike[str] | None = None,
    *,
    name: str | None = None,
    host_level: int = 2,
    python: bool = False,
    hlo: bool = True,
    sync: bool | Literal["auto"] = "auto",
    max_seconds: float = 60.0,
    on_error: Literal["warn", "raise"] = "warn",
) -> JAXProfiler:
    """Profiles a window of the training steps that are taken in a ``with`` block.

    Calls of instrumented functions are the steps, by the count of the run that is open; without a run
    they are counted from 0. In a loop without one, each step is a block ``with profiler.step(i):``.

    Recording begins at the first step within the window, also when training resumes in its midst, and
    ends after its last one, on leaving the block in whatever way, at the end of the process (SIGTERM
    too), or after ``max_seconds``. The trace is then in the run's directory, under
    ``plugins/profile``, where TensorBoard's Profile tab finds it, and a summary of it in the run: a
    curve of the step times and tables of the operations that took longest, under the tags
    ``profile/…``. The training waits while JAX stops the trace, not for the rest.

    Nothing of this stops a training: what goes wrong is logged by the ``jaxboard`` logger.

    Args:
        steps: ``range(10, 20)``, ``(10, 20)``, ``slice(10, 20)`` or ``"10..20"``, which mean the same;
            None, the whole block.
        logdir: where to put it instead of the directory of the run that is open.
        name: the session's name in TensorBoard, by default ``steps_10-19``; ``_1`` is added if taken.
        host_level: how much of JAX's own host code is recorded: 1, 2 or 3; 0 records only the devices.
        python: whether every call of a Python function is recorded. Slows Python-heavy loops fourfold.
        hlo: whether the programs are in the trace, which the graph and memory viewers show.
        sync: whether a step lasts until its results are computed. ``"auto"``: on CPU, where a trace
            has no other sign of when that is. Without it steps overlap as they do otherwise, and the
            summary has only the mean of their times.
        max_seconds: how long to record at most.
        on_error: ``"raise"`` raises what went wrong on leaving the block, unless that failed itself.

    Returns:
        The profiler, a context manager.

    Raises:
        ReportError: an argument is not what is said here: a window with a stride, say, or an empty one.
        ProfileError: on leaving the block, with ``on_error="raise"``: there is no trace.

    Example:
        >>> import tempfile, jax, jaxboard as jb
        >>> @jb.instrument
        ... @jax.jit
        ... def train_step(x):
        ...     return 2 * x
        >>> with jb.Run(tempfile.mkdtemp()), jb.profile(steps=range(3, 5)) as profiler:
        ...     for x in range(6):
        ...         y = train_step(x)
        >>> profiler.captured
        (3, 4)
    """
    return JAXProfiler(
        steps,
        logdir,
        name=name,
        host_level=host_level,
        python=python,
        hlo=hlo,
        sync=sync,
        max_seconds=max_seconds,
        on_error=on_error,
    )


class JAXProfiler:
    """What :func:`profile` returns, and a callback for trainers.

    As a callback it takes the hooks of artifex's trainer, and its configuration: an object with
    ``log_dir``, ``start_step`` and ``end_step``, where (10, 20) means steps 10 to 19, and perhaps
    ``trace_python``.

    Args:
        steps: see :func:`profile`; or such a configuration.
        logdir: see :func:`profile`; by default the configuration's.
        name: see :func:`profile`.
        host_level: see :func:`profile`.
        python: see :func:`profile`.
        hlo: see :func:`profile`.
        sync: see :func:`profile`.
        max_seconds: see :func:`profile`.
        on_error: see :func:`profile`; as a callback it raises in ``on_train_end``.

    Raises:
        ReportError: an argument is not what is said there.

    Example:
        >>> import tempfile, jaxboard as jb
        >>> with jb.JAXProfiler("1..3", tempfile.mkdtemp()) as profiler:
        ...     for i in range(4):
        ...         with profiler.step(i):
        ...             pass  # one step of training
        >>> profiler.captured
        (1, 2)
    """

    should_stop = False
    """What trainers ask their callbacks; a profiler never stops a training."""

    def __init__(
        self,
        steps: Steps | ProfilingConfig = None,
        logdir: str | os.PathLike[str] | None = None,
        *,
        name: str | None = None,
        host_level: int = 2,
        python: bool = False,
        hlo: bool = True,
        sync: bool | Literal["auto"] = "auto",
        max_seconds: float = 60.0,
        on_error: Literal["warn", "raise"] = "warn",
    ) -> None:
        if hasattr(steps, "start_step") and hasattr(steps, "end_step"):
            config: Any = steps
            steps = (config.start_step, config.end_step)
            logdir = getattr(config, "log_dir", None) if logdir is None else logdir
            python = python or bool(getattr(config, "trace_python", False))
        _check(
            logdir=logdir,
            name=name,
            host_level=host_level,
            sync=sync,
            max_seconds=max_seconds,
            on_error=on_error,
        )
        self._settings: dict[str, Any] = {
            "window": window(steps),
            "logdir": None if logdir is None else absolute(logdir),
            "name": name,
            "options": {
                "host_tracer_level": host_level,
                "python_tracer_level": int(python),
                "enable_hlo_proto": bool(hlo),
            },
            "sync": sync,
            "max_seconds": float(max_seconds),
            "on_error": on_error,
        }
        self._recorder: Recorder | None = None
        self._batch = object()

    @property
    def path(self) -> str | None:
        """The ``.xplane.pb`` of the last capture, once it is written."""
        return None if self._recorder is None else self._recorder.path

    @property
    def captured(self) -> tuple[int, ...]:
        """The steps that were recorded, in order."""
        return () if self._recorder is None else tuple(self._recorder.captured)

    def __enter__(self) -> Self:
        # Here, since few programs that import jaxboard make a profile.
        from jaxboard._profile.recorder import Recorder, Settings

        if self._recorder is not None:
            self._recorder.close()
        self._recorder = Recorder(Settings(**self._settings))
        self._recorder.open()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self._opened().close(error)

    @contextlib.contextmanager
    def step(self, number: int) -> Iterator[None]:
        """A block that is one step, in a loop without an instrumented function.

        From the first one on, calls of instrumented functions are no steps of this profile.

        Args:
            number: which step it is.

        Raises:
            ReportError: ``number`` is not an integer.
        """
        recorder, inside = self._opened(), object()
        recorder.watch_only_steps()
        recorder.enter(_integer(number), inside)
        try:
            yield
        finally:
            recorder.leave(inside)

    def _opened(self) -> Recorder:
        if self._recorder is None:
            raise ProfileError("this profiler isn't open: use it in a block, `with profiler:`.")
        return self._recorder

    # --- A trainer's hooks. -----------------------------------------------------------------------

    def on_train_begin(self, trainer: Any) -> None:
        """Opens the profile."""
        self.__enter__()

    def on_train_end(self, trainer: Any) -> None:
        """Closes it: what is being recorded is saved."""
        if self._recorder is not None:
            self._recorder.close()

    def on_batch_begin(self, trainer: Any, batch: int) -> None:
        """Step ``batch`` begins."""
        if self._recorder is None:
            self.__enter__()
        recorder = self._opened()
        recorder.watch_only_steps()
        recorder.leave(self._batch)  # If the last one ended by an exception.
        recorder.enter(_integer(batch), self._batch)

    def on_batch_end(self, trainer: Any, batch: int, logs: Any = None) -> None:
        """The step that began last is over; the trainer's count has moved on already."""
        if self._recorder is not None:
            self._recorder.leave(self._batch)

    def on_epoch_begin(self, trainer: Any, epoch: int) -> None:
        """Nothing is to be done."""

    def on_epoch_end(self, trainer: Any, epoch: int, logs: Any = None) -> None:
        """Nothing is to be done."""

    def on_validation_begin(self, trainer: Any) -> None:
        """Nothing is to be done."""

    def on_validation_end(self, trainer: Any, logs: Any = None) -> None:
        """Nothing is to be done."""


def _check(
    *, logdir: Any, name: Any, host_level: Any, sync: Any, max_seconds: Any, on_error: Any
) -> None:
    """Raises unless the arguments are what ``profile`` says."""

    def wrong(argument: str, value: Any, expected: str) -> ReportError:
        return ReportError(f"profile({argument}={value!r}): expected {expected}.")

    if logdir is not None and (not isinstance(logdir, str | os.PathLike) or not os.fspath(logdir)):
        raise wrong("logdir", logdir, "a path")
    if name is not None and (not isinstance(name, str) or not name.strip() or {*name} & {*"/\\"}):
        raise wrong("name", name, "the name of a directory")
    if isinstance(host_level, bool) or host_level not in (0, 1, 2, 3):
        raise wrong("host_level", host_level, "0, 1, 2 or 3")
    if sync not in (True, False, "auto"):
        raise wrong("sync", sync, "True, False or 'auto'")
    seconds = isinstance(max_seconds, int | float) and not isinstance(max_seconds, bool)
    if not seconds or not max_seconds > 0:
        raise wrong("max_seconds", max_seconds, "a number of seconds above 0")
    if on_error not in ("warn", "raise"):
        raise wrong("on_error", on_error, "'warn' or 'raise'")


def _integer(number: Any) -> int:
    try:
        return operator.index(number)
    except TypeError as error:
        raise ReportError(f"step {number!r}: expected an integer.") from error

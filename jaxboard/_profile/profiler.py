"""``profile`` and ``JAXProfiler``: the public interface."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Literal, Self, SupportsIndex

from jaxboard._check import as_int, fits_64_bits
from jaxboard._errors import ProfileError, UsageError
from jaxboard._profile.profile_settings import Processes, check_settings
from jaxboard._profile.step_range import Steps
from jaxboard._profile.trace_options import Value
from jaxboard._profile.trainer_callback import ProfilingConfig, TrainerCallback
from jaxboard._safe_repr import safe_repr

if TYPE_CHECKING:
    from jaxboard._profile.profile_windows import ProfileWindows


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
    processes: Processes = None,
    every: SupportsIndex | None = None,
    every_secs: float | None = None,
    slow: float | None = None,
    advanced: Mapping[str, Value | Mapping[str, Value]] | None = None,
    nsys: bool = False,
) -> JAXProfiler:
    """Record a trace of a range of training steps within a ``with`` block.

    Each call of an instrumented function that advances the step counter is a step, with the number that
    the active run gives it. Without a run, steps are counted from 0. A loop without an instrumented
    function marks its steps with ``with profiler.step(i):``.

    Recording starts at the first step inside the range, so it also works if training resumes in the
    middle of the range. It stops after the last step of the range, when the block ends for any reason,
    when the process ends (also by SIGTERM or SIGHUP), or after ``max_seconds``.

    The trace is stored under ``plugins/profile`` in the log directory, where TensorBoard's Profile tab
    finds it. The active run gets a summary under the tags ``profile/...``: a verdict, which names what limits the steps and
    what changed since the last window, a curve and a histogram of the step times, and tables of the operations that
    took longest. Training waits only while JAX stops the trace.

    Errors never stop the training. They are logged by the ``jaxboard`` logger.

    Args:
        steps: the steps to record: ``range(10, 20)``, ``(10, 20)``, ``slice(10, 20)`` or ``"10..20"``,
            which all mean steps 10 to 19. None records the whole block.
        logdir: the log directory. The default is that of the active run.
        name: the name of the session in TensorBoard. The default is of the form ``steps_10-19``. If the
            name exists, ``_1``, ``_2``, ... is appended.
        host_level: the detail of JAX's own host events: 1, 2 or 3; 0 records only the devices.
        python: whether to record every call of a Python function. It makes Python-heavy loops about
            four times slower.
        hlo: whether the trace contains the compiled programs, for the graph and memory viewers.
        sync: whether each step waits for its results. ``"auto"`` waits on CPUs, where a trace does not
            show otherwise when the work of a step ends. Without waiting, steps overlap as usual and the
            summary has only their mean time.
        max_seconds: the longest time to record, in seconds.
        on_error: ``"warn"`` logs an error; ``"raise"`` raises it when the block ends, unless the block
            itself raises.
        processes: the processes of a job that record: ``0``, ``[0, 3]``. None means all. All of them record the
            same steps, into one session.
        every: the number of steps from the start of one window to the start of the next. ``steps`` is then the first
            window, by default ``range(10, 15)``; all windows have its length.
        every_secs: the time from the start of one window to the start of the next, in seconds. In a job of several
            processes, use ``every``: their clocks may choose different steps.
        slow: records a window when at least three steps in a row, for a tenth of a second, take this many times as long as
            the median of the steps before, by the clock of the host; at most ten windows. The first window is recorded as a
            reference.
        advanced: options of the tracers, by name: fields of ``jax.profiler.ProfileOptions``, or keys of its
            ``advanced_configuration``, such as ``{"gpu_max_activity_api_events": 10_000_000}``.
        nsys: whether ``cudaProfilerStart`` and ``cudaProfilerStop`` enclose each window, for ``nsys profile
            --capture-range=cudaProfilerApi``.

    Returns:
        The profiler, a context manager.

    Raises:
        UsageError: an argument is invalid, for example an empty range or one with a stride; or ``nsys`` is True and
            there is no CUDA runtime.
        ProfileError: there is no trace; raised when the block ends, only with ``on_error="raise"``.

    Example:
        >>> import tempfile, jax, jaxboard as jb
        >>> @jb.instrument
        ... @jax.jit
        ... def train_step(x):
        ...     return 2 * x
        >>> with tempfile.TemporaryDirectory() as logdir, jb.Run(logdir):
        ...     with jb.profile(steps=range(3, 5)) as profiler:
        ...         for x in range(6):
        ...             y = train_step(x)
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
        processes=processes,
        every=every,
        every_secs=every_secs,
        slow=slow,
        advanced=advanced,
        nsys=nsys,
    )


class JAXProfiler(TrainerCallback):
    """The profiler that :func:`profile` returns, which is also a callback for trainers.

    As a callback it has the hooks of artifex's trainer and accepts its configuration: an object with
    ``log_dir``, ``start_step`` and ``end_step``, and optionally ``trace_python``. Start and end (10, 20)
    mean steps 10 to 19.

    Args:
        steps: see :func:`profile`; or such a configuration.
        logdir: see :func:`profile`. The default is that of the configuration, if there is one.
        name: see :func:`profile`.
        host_level: see :func:`profile`.
        python: see :func:`profile`.
        hlo: see :func:`profile`.
        sync: see :func:`profile`.
        max_seconds: see :func:`profile`.
        on_error: see :func:`profile`. A callback raises in ``on_train_end``.
        processes: see :func:`profile`.
        every: see :func:`profile`.
        every_secs: see :func:`profile`.
        slow: see :func:`profile`.
        advanced: see :func:`profile`.
        nsys: see :func:`profile`.

    Raises:
        UsageError: an argument is invalid.

    Example:
        A loop without an instrumented function:

        >>> import tempfile, jaxboard as jb
        >>> with tempfile.TemporaryDirectory() as logdir:
        ...     with jb.JAXProfiler("1..3", logdir) as profiler:
        ...         for i in range(4):
        ...             with profiler.step(i):
        ...                 pass  # one step of training
        >>> profiler.captured
        (1, 2)
    """

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
        processes: Processes = None,
        every: SupportsIndex | None = None,
        every_secs: float | None = None,
        slow: float | None = None,
        advanced: Mapping[str, Value | Mapping[str, Value]] | None = None,
        nsys: bool = False,
    ) -> None:
        if isinstance(steps, ProfilingConfig):
            logdir = getattr(steps, "log_dir", None) if logdir is None else logdir
            python = python or bool(getattr(steps, "trace_python", False))
            steps = (steps.start_step, steps.end_step)
        self._settings = check_settings(
            steps=steps,
            logdir=logdir,
            name=name,
            host_level=host_level,
            python=python,
            hlo=hlo,
            sync=sync,
            max_seconds=max_seconds,
            on_error=on_error,
            processes=processes,
            every=every,
            every_secs=every_secs,
            slow=slow,
            advanced=advanced,
            nsys=nsys,
        )
        self._windows: ProfileWindows | None = None
        self._batch = object()

    @property
    def path(self) -> str | None:
        """The path of the last ``.xplane.pb`` file; None until it is written."""
        return self.paths[-1] if self.paths else None

    @property
    def paths(self) -> tuple[str, ...]:
        """The paths of all ``.xplane.pb`` files that are written, in order."""
        return () if self._windows is None else tuple(self._windows.paths)

    @property
    def captured(self) -> tuple[int, ...]:
        """The recorded steps, in order."""
        return () if self._windows is None else tuple(self._windows.captured)

    def __enter__(self) -> Self:
        # Imported here, since most programs that import jaxboard never make a profile.
        from jaxboard._profile.profile_windows import ProfileWindows

        if self._windows is not None:
            self._windows.close()
        self._windows = ProfileWindows(self._settings)
        self._windows.open()
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
        """Mark a block as one step, in a loop without an instrumented function.

        After the first such block, calls of instrumented functions are not steps of this profile.

        Args:
            number: the number of the step.

        Raises:
            UsageError: ``number`` is not an integer.
            ProfileError: the profiler is not open.
        """
        windows, owner = self._opened(), object()
        windows.ignore_calls()
        windows.begin_step(_integer(number), owner)
        try:
            yield
        finally:
            windows.end_step(owner)

    def _opened(self) -> ProfileWindows:
        if self._windows is None:
            raise ProfileError("this profiler is not open: use it in a block, `with profiler:`.")
        return self._windows

    # The hooks of a trainer.

    def on_train_begin(self, trainer: object) -> None:
        """Open the profile."""
        self.__enter__()

    def on_train_end(self, trainer: object) -> None:
        """Close the profile and save the trace."""
        if self._windows is not None:
            self._windows.close()

    def on_batch_begin(self, trainer: object, batch: int) -> None:
        """Begin step ``batch``. Opens the profile if the trainer did not call ``on_train_begin``."""
        if self._windows is None:
            self.__enter__()
        windows = self._opened()
        windows.ignore_calls()
        windows.end_step(self._batch)  # in case the previous step raised
        windows.begin_step(_integer(batch), self._batch)

    def on_batch_end(
        self, trainer: object, batch: int, logs: Mapping[str, object] | None = None
    ) -> None:
        """End the current step. ``batch`` is ignored: the trainer has already incremented it."""
        if self._windows is not None:
            self._windows.end_step(self._batch)


def _integer(number: SupportsIndex) -> int:
    checked = as_int(number)
    if checked is None or not fits_64_bits(checked):
        raise UsageError(f"profiler.step({safe_repr(number)}): expected an integer.")
    return checked

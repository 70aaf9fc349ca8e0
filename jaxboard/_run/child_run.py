"""A run below a run, which has a curve of its own for each tag."""

from __future__ import annotations

import contextlib
import contextvars
import pathlib
import re
from types import TracebackType
from typing import Never, Protocol, Self, SupportsIndex

from jaxboard import _compat, _paths
from jaxboard._blocks import current_generator
from jaxboard._emit import VerbMethods
from jaxboard._errors import RunError, UsageError
from jaxboard._host.active_channel import Directed, Entered, enter, leave
from jaxboard._host.channel import Channel
from jaxboard._host.channel_below import channel_below
from jaxboard._host.seed_runs import SUMMARIES
from jaxboard._run import directories, options
from jaxboard._safe_repr import safe_repr
from jaxboard._trace import context
from jaxboard._trace.tag_prefix import OpenScope

_RESERVED = re.compile("|".join((*SUMMARIES, r"seed_\d+")))
"""The names of seed runs and of their summaries."""

_blocks: contextvars.ContextVar[tuple[Entered | OpenScope, ...]] = contextvars.ContextVar(
    "blocks", default=()
)
"""The ``with`` blocks of child runs that this thread or task is in, the innermost last."""


class _Parent(Protocol):
    """The part of a run that a child uses."""

    logdir: pathlib.Path | str | None

    @property
    def closed(self) -> bool:
        """True once the run has been closed."""
        ...

    def flush(self, timeout: float | None = None) -> None:
        """Block until everything reported so far is on disk."""
        ...


class ChildRun(VerbMethods):
    """A run below a run: the result of ``run.child("eval")``.

    All verbs are methods, in plain Python and in traced code. The steps, the sinks and the settings are those of the
    run, and the child closes with it. ``with run.child("eval"):`` makes the child the active run of the thread or the
    asyncio task for the block, also while JAX traces. A block in the body of a generator holds while that body runs,
    not for its caller.

    Attributes:
        name: the relative path below the run, as in :attr:`jaxboard.records.Record.run`.
    """

    def __init__(self, run: _Parent, channel: Channel, name: str):
        self.name = _check_name(name)
        self._run = run
        if name not in channel.below:
            directories.claim_below(channel, name)
        self._channel = channel_below(channel, name)
        self._blocks: list[Entered | OpenScope] = []

    @property
    def logdir(self) -> pathlib.Path | str | None:
        """The directory of the child's event files; None if the run has no directory."""
        logdir = self._run.logdir
        if isinstance(logdir, pathlib.Path):
            return logdir / self.name
        return None if logdir is None else f"{logdir}/{self.name}"

    @property
    def step(self) -> int:
        """The step of the run: that of the next call of an instrumented function. It can be set."""
        return self._channel.step

    @step.setter
    def step(self, step: int) -> None:
        self._channel.step = options.step_number("run.step = {}", step)

    @property
    def closed(self) -> bool:
        """True once the run has been closed."""
        return self._run.closed

    def flush(self, timeout: float | None = None) -> None:
        """Block until everything reported so far to the run is on disk; see :meth:`jaxboard.Run.flush`."""
        self._run.flush(timeout)

    def child(self, name: str) -> ChildRun:
        """Return the run ``name`` below this one; see :meth:`jaxboard.Run.child`."""
        return ChildRun(self._run, self._channel.root, f"{self.name}/{_check_name(name)}")

    def _active(self) -> contextlib.AbstractContextManager[None]:
        self._check_open()
        return Directed(self._channel)

    def _check_open(self) -> None:
        # A function that is traced after the run was closed must not fail; where the program executes, its reports
        # to the closed run are counted as lost.
        if self.closed and _compat.at_top_level():
            raise RunError(f"run {self._channel.name} is closed. Open a new Run on its directory.")

    def __enter__(self) -> Self:
        self._check_open()
        if _compat.at_top_level():
            block = enter(self._channel)
        else:
            block = context.enter_scope("", self._channel.target)
        self._blocks.append(block)
        _blocks.set((*_blocks.get(), block))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        block = self._leaving()
        self._blocks.remove(block)
        _blocks.set(tuple(other for other in _blocks.get() if other is not block))
        if isinstance(block, Entered):
            leave(block)
        else:
            context.leave_scope(block)

    def _leaving(self) -> Entered | OpenScope:
        """Return the block that ends: one of this generator, if possible one that this thread or task has entered."""
        generator = current_generator()
        mine = [block for block in list(self._blocks) if block.generator is generator]
        here = [block for block in mine if block in _blocks.get()]
        return (here or mine or self._blocks)[-1]

    def __reduce_ex__(self, protocol: SupportsIndex) -> Never:
        refuse_copy(repr(self))

    def __repr__(self) -> str:
        return f"<jaxboard.ChildRun {self._channel.name}{', closed' if self.closed else ''}>"


def refuse_copy(run: str) -> Never:
    """Raise because a run is being pickled or copied.

    Raises:
        UsageError: always.
    """
    raise UsageError(
        f"{run} cannot be pickled or copied: it has a thread and open files. Pass its log directory (run.logdir) "
        "to the other process and open a jaxboard.Run on a directory of its own there, or leave the run out of "
        "what you copy."
    )


def _check_name(name: str) -> str:
    """Return the name of a child.

    Raises:
        UsageError: it is not a path below the run, contains a traced value, or a part of it is the name of a seed run.
    """
    if not isinstance(name, str):  # pyright: ignore[reportUnnecessaryIsInstance] (users)
        raise UsageError(
            f"run.child({safe_repr(name)}): expected a str, got {type(name).__name__}."
        )
    problem = _paths.problem_below(name)
    if problem is not None:
        raise UsageError(
            f"run.child({safe_repr(name)}): {problem}. Pass a name, or a relative path such as 'eval/ood'."
        )
    if _compat.mentions_tracer(name):
        raise UsageError(
            f"run.child({safe_repr(name)}): the name contains a traced value, which is not known while JAX traces. Use "
            "reduce='stack' to keep iterations or lanes separate, or a Python loop for its index."
        )
    if any(map(_RESERVED.fullmatch, name.split("/"))):
        raise UsageError(
            f"run.child({safe_repr(name)}): seed runs and their summaries have that name. Choose another one."
        )
    return name

"""The directories that the open runs of this process write to. TensorBoard reads one writer per directory."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Generator, Iterator, Sequence

from jaxboard import _paths
from jaxboard._errors import RunError
from jaxboard._host.channel import Channel
from jaxboard._process.fork import Stage, on_fork
from jaxboard.sinks import Sink, TensorBoardSink

_lock = threading.Lock()
_claimed: dict[Channel, list[str]] = {}
"""The directories of each open run, without those of the runs below it."""

_last_steps: dict[str, int] = {}
"""The number of steps that the last closed run took in each directory; 0 if it did not count steps."""


@contextlib.contextmanager
def claim(channel: Channel, sinks: Sequence[Sink], call: str) -> Generator[None]:
    """Claim the directories of the event files of a run that opens in a ``with`` block, until they are released.

    If the block raises, also by Ctrl-C, there is no run, and the directories are free again.

    Args:
        channel: the channel of the run.
        sinks: its sinks.
        call: the call, for the message.

    Raises:
        RunError: another open run, or a run below one, writes to one of them.
    """
    directories = written_by(sinks)
    with _lock:
        for directory in directories:
            _refuse(directory, call, channel, "Close that run first, or choose another directory.")
        _claimed[channel] = directories
    try:
        yield
    except BaseException:
        _claimed.pop(channel, None)
        raise


def written_by(sinks: Sequence[Sink]) -> list[str]:
    """Return the directories of the event files of sinks."""
    return [resolved(sink.logdir) for sink in sinks if isinstance(sink, TensorBoardSink)]


def claimed(channel: Channel) -> Sequence[str]:
    """Return the directories that an open run has claimed."""
    return _claimed.get(channel, ())


def claim_below(channel: Channel, name: str) -> None:
    """Check that no other open run writes to the directory of the run ``name`` below a run.

    Raises:
        RunError: another one does.
    """
    with _lock:
        for directory in _claimed.get(channel, []):
            advice = "Close that run first, or choose another name."
            _refuse(
                resolved(_paths.below(directory, name)), f"run.child({name!r})", channel, advice
            )


def release(channel: Channel) -> None:
    """Note that a run does not write any more."""
    for directory in _claimed.pop(channel, []):
        _last_steps[directory] = channel.step if channel.has_steps else 0


def last_step(directory: str) -> int:
    """Return how many steps the last run of this process took in a directory; 0 if it did not count steps."""
    return _last_steps.get(directory, 0)


def _refuse(directory: str, call: str, channel: Channel, advice: str) -> None:
    """Raise if a run other than that of ``channel`` writes to a directory."""
    for other in list(_claimed):
        for writer, written in _writers(other):
            if other is not channel and written == directory:
                raise RunError(
                    f"{call}: the open run {writer.name} already writes there, and TensorBoard reads one writer per "
                    f"directory. {advice}"
                )


def _writers(channel: Channel) -> Iterator[tuple[Channel, str]]:
    """Yield a run and the runs below it, each with its directories."""
    for directory in _claimed[channel]:
        yield channel, directory
        for name, below in list(channel.below.items()):
            yield below, resolved(_paths.below(directory, name))


def resolved(directory: str) -> str:
    """Return one name for each directory, whichever path leads to it."""
    return directory.rstrip("/") if _paths.is_remote(directory) else os.path.realpath(directory)


def _forget_claims() -> None:
    # A forked child has none of the threads that may hold the lock, and does not write for the parent's runs.
    global _lock  # noqa: PLW0603 (it is replaced)
    _lock = threading.Lock()
    _claimed.clear()


on_fork(Stage.STATE, in_child=_forget_claims)

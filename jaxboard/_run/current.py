"""The active run of this thread or task, for users and for other parts of jaxboard."""

from __future__ import annotations

from jaxboard._host.active_channel import active
from jaxboard._host.channel import Channel
from jaxboard._run.child_run import ChildRun
from jaxboard._run.run import Run, open_runs


def channel_of(run: Run | ChildRun) -> Channel:
    """Return the channel that takes the reports of ``run``, for other parts of jaxboard."""
    return run._channel  # noqa: SLF001  # pyright: ignore[reportPrivateUsage] (same package)


def current_run() -> Run | ChildRun | None:
    """Return the active run of this thread or task, or None while no run is open.

    In a ``with run.child(...)`` block it is the child.

    Example:
        >>> import jaxboard as jb
        >>> jb.current_run() is None
        True
    """
    channel, run = active(), current_root()
    if run is None or channel is None or channel.root is channel:
        return run
    return ChildRun(run, channel.root, channel.target.run)


def current_root() -> Run | None:
    """Return the active run, or the run that the active one is a child of."""
    channel = active()
    return None if channel is None else open_runs.get(channel.root)


def run_of(channel: Channel) -> Run | None:
    """Return the open run of a channel, None if it is closed."""
    return open_runs.get(channel.root)

"""The part of a run that depends on the other processes of its job."""

from __future__ import annotations

import pathlib
import threading
from typing import Literal, TypeAlias

from jaxboard import _paths
from jaxboard._check import is_one_of
from jaxboard._errors import UsageError
from jaxboard._host import observers
from jaxboard._host.buffer import Buffer
from jaxboard._host.channel import Channel, Destination
from jaxboard._host.host_values import HostValues
from jaxboard._job.call_times import CallTimes
from jaxboard._job.heartbeat import Heartbeat, seconds_between_beats
from jaxboard._job.overview import Overview
from jaxboard._job.shared_files import SharedFiles
from jaxboard._process.rank import is_writer, rank
from jaxboard._safe_repr import safe_repr
from jaxboard._telemetry.device_memory import bytes_in_use

Processes: TypeAlias = Literal["one", "all"]

_STOP_SECS = 5.0
_SILENT_BEATS = 5


class Membership:
    """The rank of a run's process in its job, what the process writes, and its heartbeat.

    Args:
        processes: which processes write; see :class:`jaxboard.Run`.
        logdir: the log directory: a path if it is local.
        is_shared: whether all processes of the job have the same one.
        hang_secs: see :class:`jaxboard.Run`.

    Attributes:
        logdir: the directory of the event files of this process.
        takes_frames: whether the process writes what instrumented functions report.

    Raises:
        UsageError: the processes cannot share a directory.
    """

    def __init__(
        self,
        processes: Processes,
        logdir: pathlib.Path | str | None,
        *,
        is_shared: bool,
        hang_secs: float | None,
    ):
        self._rank = rank()
        self._hang_secs = hang_secs
        self._writes_all = processes == "all"
        if self._writes_all and not is_shared:
            raise UsageError(
                "Run(processes='all'): pass the log directory, the same in all processes, and no sinks."
            )
        name = f"process_{self._rank.index}" if self._writes_all else ""
        self.takes_frames = self._rank.index == 0 or not self._writes_all
        self.logdir = None if logdir is None else str(logdir)
        self._below = name if self.takes_frames else ""
        if not self.takes_frames:
            self.logdir = _paths.below(str(logdir), name)
        shared = logdir if isinstance(logdir, pathlib.Path) and is_shared else None
        self._files = None if shared is None else SharedFiles(shared)
        self._heartbeat: Heartbeat | None = None
        self._times: CallTimes | None = None

    def is_writer(self, jax_started: bool) -> bool:
        """Return whether this process writes at all; see :func:`jaxboard._process.rank.is_writer`."""
        return self._writes_all or is_writer(jax_started)

    def destination(self, buffer: Buffer) -> Destination:
        """Return where the channel of the run puts reports."""
        return HostValues(buffer, self._below) if self._writes_all else buffer

    def start(self, channel: Channel, buffer: Buffer) -> None:
        """Start the heartbeat, in a job of several processes with a directory that they share."""
        if self._files is None or self._rank.count == 1:
            return
        overview = None
        if self._rank.index == 0:
            pause = seconds_between_beats(self._rank, self._hang_secs)
            overview = Overview(
                channel.name,
                self._rank.count,
                self._files,
                silent_secs=_SILENT_BEATS * pause,
                put_point=buffer.put,
                put_entry=channel.lost.add_entry,
            )
        if self._writes_all:
            self._times = CallTimes(threading.get_ident())
            observers.add(self._times)
        self._heartbeat = Heartbeat(
            self._rank,
            self._files,
            channel,
            buffer,
            hang_secs=self._hang_secs,
            times=self._times,
            memory=bytes_in_use if self._writes_all else None,
            look=None if overview is None else overview.look,
        )
        observers.registry.add_trace_handler(self._heartbeat.note_trace)
        self._heartbeat.start()

    def stop(self) -> None:
        """Stop the heartbeat: the run closes."""
        if self._times is not None:
            observers.remove(self._times)
        if self._heartbeat is not None:
            observers.registry.remove_trace_handler(self._heartbeat.note_trace)
            self._heartbeat.stop(_STOP_SECS)


def check_processes(processes: object) -> None:
    """Raise :class:`UsageError` unless it names the processes that write."""
    if not is_one_of(processes, ("one", "all")):
        raise UsageError(f"Run(processes={safe_repr(processes)}): expected 'one' or 'all'.")

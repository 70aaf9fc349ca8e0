"""The path of the reports of a run: from its channel through the buffer and the flusher to its sinks."""

from __future__ import annotations

import math
import pathlib
from collections.abc import Sequence
from typing import NamedTuple

from jaxboard import _paths
from jaxboard._alerts.alert_options import AlertOptions
from jaxboard._errors import RunError
from jaxboard._host.assembler import Assembler
from jaxboard._host.buffer import Buffer, Overflow
from jaxboard._host.channel import Channel
from jaxboard._host.clipping import ClippingLog
from jaxboard._host.flusher import Flusher
from jaxboard._host.lost import LostReports
from jaxboard._host.missing_steps import MissingSteps
from jaxboard._host.nonfinite import Policy
from jaxboard._host.outbox import Outbox
from jaxboard._host.run_state import RunState
from jaxboard._host.selection import Selection
from jaxboard._job.membership import Membership
from jaxboard._live.panel import REDRAW_SECS, LiveOptions
from jaxboard._run import options
from jaxboard._run.monitors import alert_monitor, monitors
from jaxboard._run.resume import hiding_options
from jaxboard._telemetry.settings import Telemetry
from jaxboard.sinks import Sink, TensorBoardSink


class Pipeline(NamedTuple):
    """The parts that a report passes, in this order.

    Attributes:
        channel: accepts the reports of the run.
        buffer: holds them until the flusher takes them.
        flusher: writes them to the sinks. It is not started yet.
    """

    channel: Channel
    buffer: Buffer
    flusher: Flusher


def event_files(
    membership: Membership, start: RunState | None, *, max_file_bytes: int | None
) -> list[Sink]:
    """Return the sinks of a run without ``sinks=``.

    Args:
        membership: has the directory of this process.
        start: the state in which the run starts, if it hides points of an earlier one.
        max_file_bytes: the size at which a new event file begins.

    Raises:
        RunError: the directory cannot be written to.
    """
    directory = str(membership.logdir)
    _paths.check_writable(directory, RunError)
    return [TensorBoardSink(directory, max_file_bytes=max_file_bytes, **hiding_options(start))]


def connect(
    sinks: Sequence[Sink],
    start: RunState,
    membership: Membership,
    *,
    selection: Selection | None,
    overflow: Overflow,
    max_frames: float,
    max_bytes: int,
    flush_secs: float | None,
    on_nonfinite: Policy,
    alerts: AlertOptions,
    telemetry: bool | Telemetry | None,
    live: LiveOptions | None,
    logdir: pathlib.Path | str | None,
) -> Pipeline:
    """Return the connected parts of a run.

    Args:
        sinks: where the reports go.
        start: the state in which the run starts.
        membership: the part of this process in its job.
        selection: the cadences by patterns of tags.
        overflow: what happens if the buffer is full; this and what follows as in :class:`jaxboard.Run`.
        max_frames: how many calls may be pending.
        max_bytes: how many bytes may be pending.
        flush_secs: the maximum age of a report that is not on disk, in seconds.
        on_nonfinite: what happens with the first NaN of a tag.
        alerts: the parsed alerts.
        telemetry: the telemetry of the run, whose alerts have its steps.
        live: the options of its panel, if it has one.
        logdir: the log directory of the run, which messages name.
    """
    place = None if logdir is None else str(logdir)
    name = "in memory" if place is None else repr(place)
    lost = LostReports(name)
    buffer = Buffer(options.limit(max_frames), options.limit(max_bytes), overflow, lost=lost)
    channel = Channel(membership.destination(buffer), start.step, name, lost)
    channel.resume(start, selection)
    missing = MissingSteps(name, lambda: channel.has_steps)
    assembler = Assembler(
        missing,
        ClippingLog(name),
        start,
        channel.restored,
        given_times=channel.given_times,
        cadence_changes=channel.cadence_changes,
    )
    alerting = alert_monitor(alerts, channel, telemetry, membership.is_writer)
    watching = monitors(
        on_nonfinite, channel, start.found, alerts=alerting, live=live, logdir=place
    )
    flusher = Flusher(
        buffer,
        assembler,
        Outbox(sinks, lost, max_bytes=max_bytes),
        flush_secs=options.flush_seconds(flush_secs, sinks),
        lost=lost,
        monitors=watching.all,
        on_closed=None if alerting is None else alerting.close,
        is_writer=membership.is_writer,
        takes_frames=membership.takes_frames,
        observe_secs=math.inf if watching.panel is None else REDRAW_SECS,
    )
    if watching.panel is not None:
        flusher.polls.append(watching.panel.poll)
    return Pipeline(channel, buffer, flusher)

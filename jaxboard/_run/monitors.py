"""The monitors of a run, which look at everything that it writes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from jaxboard._alerts.alert_monitor import AlertMonitor
from jaxboard._alerts.alert_options import AlertOptions
from jaxboard._host.channel import Channel
from jaxboard._host.flusher import BatchMonitor
from jaxboard._host.health_monitor import HealthMonitor
from jaxboard._host.nonfinite import NonFiniteMonitor, Policy, make_monitor
from jaxboard._host.stack_monitor import StackMonitor
from jaxboard._host.tag_count import TagCountMonitor
from jaxboard._live.panel import LiveOptions, LivePanel


class Monitors(NamedTuple):
    """The monitors of a run.

    Attributes:
        all: all of them, in the order in which they see a batch.
        panel: the live panel, which is the last one, if the run has one.
    """

    all: Sequence[BatchMonitor]
    panel: LivePanel | None


def monitors(
    on_nonfinite: Policy,
    channel: Channel,
    found: Iterable[str] = (),
    *,
    alerts: AlertMonitor | None = None,
    live: LiveOptions | None = None,
    logdir: str | None = None,
) -> Monitors:
    """Return the monitors of a run.

    Args:
        on_nonfinite: the option of the run.
        channel: the channel of the run.
        found: what an earlier run that this one continues has found.
        alerts: the monitor of its alerts, if it has one.
        live: the options of its panel, if it has one.
        logdir: the log directory of the run; None if it has none.
    """
    known = tuple(found)
    nonfinite = _nonfinite_monitor(on_nonfinite, channel, known)
    panel = None if live is None else LivePanel(live, channel, logdir, nonfinite)
    others = (
        HealthMonitor(channel.name, known),
        StackMonitor(),
        TagCountMonitor(channel.name),
        alerts,
        panel,
    )
    return Monitors([monitor for monitor in (nonfinite, *others) if monitor is not None], panel)


def _nonfinite_monitor(
    on_nonfinite: Policy, channel: Channel, found: Iterable[str] = ()
) -> NonFiniteMonitor | None:
    """Return the monitor that ``Run(on_nonfinite=...)`` asks for.

    Args:
        on_nonfinite: the reaction.
        channel: the channel of the run.
        found: the tags that are no longer checked.
    """
    if callable(on_nonfinite) or on_nonfinite != "autopsy":
        return make_monitor(on_nonfinite, channel.lost, found)
    # Imported only here: most runs need none of it.
    from jaxboard._autopsy.examining_monitor import ExaminingMonitor

    return ExaminingMonitor(channel, found)


def alert_monitor(
    options: AlertOptions,
    channel: Channel,
    telemetry: object,
    is_writer: Callable[[bool], bool],
) -> AlertMonitor | None:
    """Return the monitor of spikes and alerts, or None if a run has neither.

    Args:
        options: the rules and their receivers.
        channel: the channel of the run.
        telemetry: the option of the run; unless it is False, spikes of all tags have text entries.
        is_writer: see :class:`Flusher`.
    """
    finds_spikes = telemetry is not False
    if not finds_spikes and not options.rules:
        return None
    return AlertMonitor(
        options, channel.lost, finds_spikes=finds_spikes, is_writer=lambda: is_writer(False)
    )

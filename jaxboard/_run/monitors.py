"""The monitors of a run, as its options ask for them: of values that are not finite, of spikes and of alerts."""

from __future__ import annotations

from collections.abc import Iterable

from jaxboard._alerts.alert_monitor import AlertMonitor
from jaxboard._alerts.options import AlertOptions
from jaxboard._check import is_one_of
from jaxboard._host.channel import Channel
from jaxboard._host.lost import LostReports
from jaxboard._host.nonfinite import NonFiniteMonitor, Policy, make_monitor
from jaxboard._process import rank


def nonfinite_monitor(
    on_nonfinite: Policy, channel: Channel, found: Iterable[str] = ()
) -> NonFiniteMonitor | None:
    """Return the monitor that ``Run(on_nonfinite=...)`` asks for.

    Args:
        on_nonfinite: the reaction.
        channel: the channel of the run.
        found: the tags that are no longer checked.

    Raises:
        UsageError: see :func:`make_monitor`.
    """
    if not is_one_of(on_nonfinite, ("autopsy",)):
        return make_monitor(on_nonfinite, channel.lost, found)
    # Imported only here: most runs need none of it.
    from jaxboard._autopsy.examining_monitor import ExaminingMonitor

    return ExaminingMonitor(channel, found)


def alert_monitor(
    options: AlertOptions, lost: LostReports, *, finds_spikes: bool
) -> AlertMonitor | None:
    """Return the monitor of spikes and alerts, or None if a run has neither.

    Args:
        options: the rules and their receivers.
        lost: the log of the run.
        finds_spikes: whether spikes of all tags have text entries.
    """
    if not finds_spikes and not options.rules:
        return None
    return AlertMonitor(
        options, lost, finds_spikes=finds_spikes, is_writer=lambda: rank.is_writer(False)
    )

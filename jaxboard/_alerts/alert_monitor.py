"""The monitor of a run's alerts and spikes."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator, Sequence

from jaxboard._alerts.alert import Alert
from jaxboard._alerts.alert_options import AlertOptions
from jaxboard._alerts.alert_rules import RuleFinding, SilenceRule, SpikeRule, ValueRule
from jaxboard._alerts.columns import Columns, columns_of
from jaxboard._alerts.receivers import Receivers
from jaxboard._alerts.spike_entry import sentence
from jaxboard._alerts.spike_monitor import SpikeEvent, SpikeMonitor
from jaxboard._host.complete_points import Assembled, join_runs
from jaxboard._host.lost import LostReports
from jaxboard._log import logger
from jaxboard._own_tags import is_own
from jaxboard._safe_repr import printable
from jaxboard.records import Kind, Record, Scalars

SPIKES_TAG = "jaxboard/spikes"
"""The tag of the text entries about spikes."""

ALERTS_TAG = "jaxboard/alerts"
"""The beginning of the tags of text entries about what rules have found. The rule follows."""

_MAX_ALERTS = 1000
"""Most alerts of a run."""


class AlertMonitor:
    """Finds spikes, applies the rules of a run, and passes on what they find. Used by one thread, the flusher.

    Args:
        options: the rules and receivers.
        lost: logs the faults of receivers.
        finds_spikes: whether spikes of all tags have text entries. Otherwise only tags with a rule are checked.
        is_writer: returns whether this process writes.
        clock: returns the time, in seconds.

    Attributes:
        found: nothing: a run that continues an earlier one checks all tags.
    """

    def __init__(
        self,
        options: AlertOptions,
        lost: LostReports,
        *,
        finds_spikes: bool = True,
        is_writer: Callable[[], bool] = lambda: True,
        clock: Callable[[], float] = time.monotonic,
    ):
        self.found = set[str]()
        self._value_rules = [rule for rule in options.rules if isinstance(rule, ValueRule)]
        self._silence_rules = [rule for rule in options.rules if isinstance(rule, SilenceRule)]
        self._spike_rules = [rule for rule in options.rules if isinstance(rule, SpikeRule)]
        self._receivers = Receivers(options.receivers, lost)
        self._name = lost.name
        self._is_writer = is_writer
        self._clock = clock
        self._count = 0
        self._step = 0
        self._spikes = SpikeMonitor() if finds_spikes else None
        if not finds_spikes and self._spike_rules:
            rules = self._spike_rules
            self._spikes = SpikeMonitor(lambda tag: any(rule.matches(tag) for rule in rules))

    def start(self, settle: Callable[[float], object]) -> None:
        """Prepare for the first points; see :meth:`BatchMonitor.start`."""

    def observe(self, assembled: Assembled) -> list[Record]:
        """Return the text entries about these points."""
        columns: list[Columns] = []
        if assembled.items or assembled.norms or assembled.health:
            columns = list(columns_of(assembled))
            self._step = max([self._step, *(int(block.steps.max()) for block in columns)])
        records = [each for rule in self._value_rules for each in self._apply(rule, columns)]
        if self._spikes is not None and (columns or assembled.kept):
            for event in self._spikes.observe(columns, assembled.kept):
                records += self._report(event)
        if self._silence_rules:
            records += self._check_silence(_has_points(assembled))
        return _joined(records)

    def finish(self) -> list[Record]:
        """Return the text entries that wait for further points. The run closes."""
        events = [] if self._spikes is None else self._spikes.finish()
        return _joined([record for event in events for record in self._report(event)])

    def close(self, timeout: float) -> None:
        """Wait for the receivers, at most ``timeout`` seconds."""
        self._receivers.close(timeout)

    def _apply(self, rule: ValueRule, columns: Sequence[Columns]) -> Iterator[Record]:
        for block in columns:
            for run, tag, step, value in rule.observe(block):
                where = f"{tag} of {run}" if run else tag
                subject = "it" if tag == rule.pattern and not run else where
                text = f"{rule.text}: {subject} is {value:.6g} at step {step}."
                yield from self._alert(rule.text, RuleFinding(run, tag, step, value), text)

    def _report(self, event: SpikeEvent) -> Iterator[Record]:
        where = f", run {event.run}" if event.run else ""
        logger.info("jaxboard, run %s%s: %s", self._name, where, event.sentence)
        yield Record(Kind.TEXT, SPIKES_TAG, event.step, time.time(), event.text, event.run)
        for rule in self._spike_rules:
            matching = sorted(event.spikes, key=lambda spike: not rule.matches(spike.tag))
            spike = matching[0]
            if rule.matches(spike.tag):
                text = f"{rule.text}: {sentence(matching)}"
                finding = RuleFinding(event.run, spike.tag, spike.start, spike.value)
                yield from self._alert(rule.text, finding, text)

    def _check_silence(self, has_points: bool) -> Iterator[Record]:
        for rule in self._silence_rules:
            if rule.observe(has_points, self._clock()) and self._is_writer():
                text = f"{rule.text}: the last step is {self._step}."
                finding = RuleFinding("", "", self._step, rule.seconds)
                yield from self._alert(rule.text, finding, text)

    def _alert(self, rule: str, finding: RuleFinding, text: str) -> Iterator[Record]:
        run, tag, step, value = finding
        self._count += 1
        if self._count > _MAX_ALERTS:
            return
        text = printable(text)
        logger.warning("jaxboard, run %s: %s", self._name, text)
        name = join_runs(self._name.strip("'"), run)
        self._receivers.pass_on(Alert(rule, name, tag, step, value, text))
        yield Record(Kind.TEXT, f"{ALERTS_TAG}/{rule}", step, time.time(), text, run)


def _joined(records: Sequence[Record]) -> list[Record]:
    """Return text entries, with those of one tag and step joined: TensorBoard shows only one."""
    joined: dict[tuple[str, str, int], Record] = {}
    for record in records:
        key = record.run, record.tag, record.step
        earlier = joined.get(key)
        if earlier is not None:
            record = dataclasses.replace(record, value=f"{earlier.value}\n\n{record.value}")  # noqa: PLW2901
        joined[key] = record
    return list(joined.values())


def _has_points(assembled: Assembled) -> bool:
    """Return whether there are points that the user reports."""
    if assembled.norms or assembled.health or assembled.kept:
        return True
    return any(
        not is_own(item.tags[0] if isinstance(item, Scalars) else item.tag)
        for item in assembled.items
    )

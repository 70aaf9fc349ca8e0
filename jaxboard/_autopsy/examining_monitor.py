"""``Run(on_nonfinite="autopsy")``: the call of the first value that is not finite is examined."""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Callable, Hashable, Iterable

from jaxboard._autopsy.autopsy import Examination, types_of
from jaxboard._autopsy.findings import Autopsy
from jaxboard._autopsy.recent_calls import RecentCalls
from jaxboard._host.active_channel import active
from jaxboard._host.channel import Channel
from jaxboard._host.complete_points import Assembled
from jaxboard._host.nonfinite import NonFiniteMonitor, warner
from jaxboard._host.observers import Call
from jaxboard._log import describe, logger
from jaxboard.records import Kind, Record, Scalars

TAG = "jaxboard/autopsy"
"""The tag of the text entry."""

_MAX_EXAMINED = 20
"""Most calls that are examined."""

_LONGEST_WAIT = 300.0
"""Most seconds that closing a run waits for the examination."""

_SINK_SECS = 30.0
"""Most seconds that it waits for a sink before that."""

_BY_HAND = "Call `jaxboard.autopsy(step, state, batch)` with the arguments of that step: those before the call."


class ExaminingMonitor(NonFiniteMonitor):
    """Examines the call of the first finding, on a thread of its own.

    Args:
        channel: the channel of the run.
        found: see :class:`NonFiniteMonitor`.
    """

    def __init__(self, channel: Channel, found: Iterable[str] = ()):
        super().__init__(warner(channel.name), found)
        self._channel = channel
        self._thread: threading.Thread | None = None
        self._recent = RecentCalls(lambda: (active() or channel).root is channel)

    def start(self, settle: Callable[[float], object]) -> None:
        """Observe calls until the run closes.

        Args:
            settle: see :meth:`Flusher.settle`.
        """
        self._recent.start()
        self._channel.before_close.append(functools.partial(self._finish, settle))

    def observe(self, assembled: Assembled) -> list[Record]:
        """See :class:`NonFiniteMonitor`."""
        records = super().observe(assembled)
        if records and self._thread is None:
            step = records[0].step
            calls = self._recent.until(step)[:_MAX_EXAMINED]
            self._recent.stop()
            self._thread = threading.Thread(
                target=self._examine, args=(step, calls), name="jaxboard autopsy", daemon=True
            )
            self._thread.start()
        elif not records and self._thread is None:
            self._recent.finite_until = max(self._recent.finite_until, _last_step(assembled))
        return records

    def _finish(self, settle: Callable[[float], object]) -> None:
        settle(_SINK_SECS)
        if self._thread is not None:
            self._thread.join(_LONGEST_WAIT)
        self._recent.stop()

    def _examine(self, step: int, calls: list[Call]) -> None:
        try:
            found = self._first_finding(calls)
        except Exception as fault:
            text = f"The step {step} could not be evaluated again: {describe(fault)}. {_BY_HAND}"
        else:
            if found is not None:
                call, finding = found
                text = f"`{call.name}`, step {call.step}:\n\n```\n{finding}\n```"
            elif calls:
                text = (
                    f"No value was NaN or infinite when step {step} was evaluated again. {_BY_HAND}"
                )
            else:
                text = (
                    f"The arguments of step {step} no longer exist: they were donated, or memory did not allow to keep "
                    f"them. {_BY_HAND}"
                )
        logger.warning("jaxboard, run %s, autopsy: %s", self._channel.name, text)
        self._channel.put(Record(Kind.TEXT, TAG, step, time.time(), text))

    def _first_finding(self, calls: list[Call]) -> tuple[Call, Autopsy] | None:
        """Return the finding in the last call whose arguments were finite.

        Args:
            calls: the calls, the last one first.
        """
        found = None
        examinations: dict[Hashable, Examination] = {}
        for call in calls:
            with self._recent.in_its_mesh(call):  # A mesh is set for one thread.
                finding = _examination(call, examinations).run(call.args, call.kwargs)
            if finding is not None:
                found = call, finding
                if finding.operation is not None:
                    return found
        return found


def _examination(call: Call, examinations: dict[Hashable, Examination]) -> Examination:
    """Return the examination of a call: that of an earlier one with arguments of the same types, if there is one."""
    key = call.function, types_of(call.args, call.kwargs)
    try:
        known = examinations.get(key)
    except TypeError:  # An argument has no hash.
        return Examination(call.function, call.args, call.kwargs)
    if known is None:
        known = examinations[key] = Examination(call.function, call.args, call.kwargs)
    return known


def _last_step(assembled: Assembled) -> int:
    """Return the last step of some points; -1 if there are none."""
    steps = [
        int(item.steps[-1]) if isinstance(item, Scalars) else item.step for item in assembled.batch
    ]
    return max([-1, *steps])

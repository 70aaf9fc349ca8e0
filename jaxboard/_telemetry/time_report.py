"""Where the time of a run goes: scalars, a picture and a sentence."""

from __future__ import annotations

import pathlib
import threading
import time
from collections.abc import Callable, Mapping
from typing import cast

import numpy as np

from jaxboard._host.drawings import Drawing
from jaxboard._host.observers import Call
from jaxboard._log import describe, logger
from jaxboard._telemetry import restarts
from jaxboard._telemetry.collector import Collector
from jaxboard._telemetry.ledger import TimeLedger, Watch
from jaxboard._telemetry.monitored_spans import Seconds, SpanListener
from jaxboard._telemetry.readiness import Awaited, ReadinessWatch, array_of
from jaxboard._telemetry.reporter import Reporter
from jaxboard._telemetry.restarts import Account
from jaxboard._telemetry.time_parts import DEVICE, NAMES, PARTS, sentence, shares
from jaxboard._types import PyTree
from jaxboard.records import EncodedImage

SUMMARY = "time/summary"
PICTURE = "time/picture"

_FIRST_SUMMARY = 4
"""The sentence and the picture are written after this many windows, and whenever their number has doubled."""

_MAX_COLUMNS = 256
"""The most columns of the picture. If there are more, each pair becomes one."""

_READING_SECS = 5.0
"""Most seconds to wait, when the run closes, for the event files of the run that it continues."""


class TimeReport(Collector):
    """The parts of a run's time.

    ``time/seconds/<part>``: the seconds of each part since the run was opened, or since the first of the runs that it
    continues. ``time/share/<part>``: the share of each part in the latest window. ``time/goodput``: the share of
    training on the device in all the time. ``time/compile/<phase>``: the seconds of compilations
    by phase, since the run was opened. ``time/longest_wait_seconds``: the longest wait for input in the latest window.
    ``time/summary`` is a text with a sentence, and ``time/picture`` an image.

    Args:
        reporter: the writer.
        window: seconds of training that one point covers.
        logdir: the directory of the event files, if it is local.
        step: the first step of the run.
        earlier_totals: the totals of a run that this one continues.
        clock: returns seconds, like ``time.perf_counter``.
        wall: the wall clock, in seconds since the epoch.
        watch: watches a call; by default with a thread of its own.
    """

    def __init__(
        self,
        reporter: Reporter,
        window: float,
        *,
        logdir: pathlib.Path | None = None,
        step: int = 0,
        earlier_totals: Mapping[str, float] | None = None,
        clock: Callable[[], float] = time.perf_counter,
        wall: Callable[[], float] = time.time,
        watch: Watch | None = None,
    ):
        self._reporter = reporter
        self._window_seconds = window
        self._clock = clock
        self._wall = wall
        self._spans = SpanListener(clock)
        self._spans.start()
        self._readiness = ReadinessWatch(clock)
        now, opened = (
            clock(),
            wall(),
        )  # Together: the time between them would count twice in a resumed run.
        self._ledger = TimeLedger(now, watch or self._readiness.watch)
        self._window_began = now
        self._before_window = dict(self._ledger.seconds)
        self._owner: int | None = None
        self._outermost: Call | None = None
        self._on_host: dict[str, bool] = {}
        self._first_step = self._last_step = step
        self._written_step: int | None = None
        self._windows = 0
        self._picture = TimePicture()
        self._base: Mapping[str, float] = {}
        self._reading = self._continue(logdir, step, earlier_totals or {}, opened)

    # --- The calls of the training loop -----------------------------------------------------------

    def begin_call(self, call: Call) -> None:
        """Account for the time since the last call, unless the call is within another."""
        if self._outermost is not None or call.step is None:
            return
        thread = threading.get_ident()
        if self._owner not in (thread, None) or not self._reporter.is_active():
            return
        self._owner = thread
        self._outermost = call
        now = self._clock()
        self._ledger.begin(now, self._spans.take(now), is_evaluation=not call.advance)
        is_over = now - self._window_began >= self._window_seconds
        # Calls of an evaluation share a step, which has one point.
        if is_over and self._last_step != self._written_step:
            self._end_window(now)
        self._last_step = call.step

    def end_with_result(self, call: Call, result: PyTree) -> None:
        """Account for the time in the outermost call."""
        if call is not self._outermost:
            return
        self._outermost = None
        array = array_of(result)
        name = call.name
        is_host = self._on_host.get(name)
        if is_host is None and array is not None:
            is_host = any(device.platform == "cpu" for device in array.devices())
            self._on_host[name] = is_host
        dispatch = None if call.program is None else call.dispatch_seconds
        now = self._clock()
        self._ledger.end(
            now,
            self._spans.take(now),
            name=name,
            result=cast("Awaited | None", array),  # pyright does not know is_ready
            dispatch=dispatch,
            is_host=bool(is_host),
        )

    def finish(self) -> None:
        """Account for the time after the last call, and write everything."""
        self._readiness.stop()
        self._spans.stop()
        if self._owner is None:
            return
        now = self._clock()
        self._ledger.finish(now, self._take_spans(now))
        self._wait_for_base()
        self._last_step = max(self._last_step, self._reporter.last_step)
        self._end_window(now, is_last=True)

    def poll(self) -> None:
        """Keep listening to JAX."""
        self._spans.restore()

    def totals(self) -> dict[str, float]:
        """Return the seconds of each part, and the time up to which they were accounted for."""
        self._wait_for_base()
        accounted = self._wall() - (self._clock() - self._ledger.until)
        return restarts.as_totals(Account(self._all_seconds(), accounted))

    # --- Points -----------------------------------------------------------------------------------

    def _end_window(self, now: float, *, is_last: bool = False) -> None:
        if self._reading is not None and self._reading.is_alive() and not is_last:
            return  # The points would lack the time of the run that this one continues.
        ledger, length = self._ledger, now - self._window_began
        spent = {name: ledger.seconds[name] - self._before_window[name] for name in NAMES}
        self._window_began, self._before_window = now, dict(ledger.seconds)
        self._windows += 1
        self._picture.add(spent)
        total = self._all_seconds()
        known = [name for name in NAMES if total[name] > 0]
        self._written_step = self._last_step
        if not known or length <= 0:
            return
        self._reporter.scalars(
            self._last_step,
            {
                **{f"time/seconds/{name}": total[name] for name in known},
                **{f"time/share/{name}": spent[name] / length for name in known},
                **{
                    f"time/compile/{phase}": seconds
                    for phase, seconds in ledger.compile_seconds.items()
                    if seconds
                },
                "time/longest_wait_seconds": ledger.longest_wait,
                "time/goodput": shares(total).get(DEVICE, 0.0),
            },
        )
        ledger.longest_wait = 0.0
        doubled = self._windows >= _FIRST_SUMMARY and not self._windows & (self._windows - 1)
        if is_last or doubled:
            text = sentence(total)
            self._reporter.text(self._last_step, SUMMARY, text)
            # The picture of one window would show nothing that the sentence does not.
            if self._windows > 1:
                title = f"Where the time went since step {self._first_step}"
                picture = self._picture.drawing(title)
                self._reporter.image(self._last_step, PICTURE, picture)

    def _all_seconds(self) -> dict[str, float]:
        seconds = self._ledger.seconds
        return {name: self._base.get(name, 0.0) + seconds[name] for name in NAMES}

    def _take_spans(self, now: float) -> Seconds | None:
        """Return the spans of the training loop, if this is its thread."""
        return self._spans.take(now) if threading.get_ident() == self._owner else None

    # --- A run that continues another one ---------------------------------------------------------

    def _continue(
        self,
        logdir: pathlib.Path | None,
        step: int,
        totals: Mapping[str, float],
        opened: float,
    ) -> threading.Thread | None:
        """Begin with the account of an earlier run. Return the thread that reads it, if it is in event files."""
        if step <= 0:
            return None
        files = restarts.event_files(logdir)
        last_seen = restarts.last_written(files, opened)
        account = restarts.from_totals(totals)
        if account is not None:
            self._base = restarts.continued(account, last_seen, opened)
            return None
        if not files:
            return None

        def read() -> None:
            try:
                account = restarts.read_account(files, step)
            except Exception as fault:
                logger.error("jaxboard: the earlier run was not read: %s", describe(fault))
                return
            if account is not None:
                self._base = restarts.continued(account, last_seen, opened)

        thread = threading.Thread(target=read, name="jaxboard earlier run", daemon=True)
        thread.start()
        return thread

    def _wait_for_base(self) -> None:
        if self._reading is not None:
            self._reading.join(_READING_SECS)


class TimePicture:
    """The picture: a column for each window. If there are too many columns, each pair becomes one."""

    def __init__(self) -> None:
        self._columns: list[np.ndarray] = []
        self._windows_per_column = 1
        self._windows = 0

    def add(self, seconds: Mapping[str, float]) -> None:
        """Add a window."""
        values = np.array([seconds[name] for name in NAMES])
        if self._windows % self._windows_per_column:
            self._columns[-1] += values
        else:
            self._columns.append(values)
        self._windows += 1
        if self._windows == _MAX_COLUMNS * self._windows_per_column:
            pairs = zip(self._columns[::2], self._columns[1::2], strict=True)
            self._columns = [first + second for first, second in pairs]
            self._windows_per_column *= 2

    @property
    def values(self) -> np.ndarray:
        """The seconds by column and part, float64[T, K]."""
        return np.stack(self._columns)

    def drawing(self, title: str) -> Drawing:
        """Return the picture, which the flusher draws."""
        columns = self.values

        def render() -> EncodedImage:
            # Imported here: it imports PIL, on the flusher.
            from jaxboard.sinks._drawing import stacked_shares

            return stacked_shares(
                columns,
                [part.name for part in PARTS],
                [part.color for part in PARTS],
                title=title,
            )

        return Drawing(render, columns.nbytes)

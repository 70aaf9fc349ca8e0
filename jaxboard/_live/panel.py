"""The live panel of a run, drawn by the run's own thread."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import NamedTuple, SupportsIndex

from jaxboard import _paths
from jaxboard._check import as_bool, positive_int
from jaxboard._errors import UsageError
from jaxboard._host.channel import Channel
from jaxboard._host.complete_points import Assembled
from jaxboard._host.nonfinite import Finding, NonFiniteMonitor
from jaxboard._live.charts import Charts
from jaxboard._live.displays import Display, make_display
from jaxboard._live.pace import Pace
from jaxboard._live.panel_contents import PanelContents
from jaxboard._log import describe
from jaxboard._process.rank import rank
from jaxboard._safe_repr import safe_repr
from jaxboard.records import Record

REDRAW_SECS = 0.5
"""Least seconds between two drawings."""

_IDLE_SECS = 5.0
"""Least seconds between two drawings if the run has reported nothing in between."""


class LiveOptions(NamedTuple):
    """The arguments ``live`` and ``steps`` of a run.

    Attributes:
        patterns: the patterns of the tags that have charts; None for the usual choice.
        steps: the number of steps at the end of the run; None if it is not known.
    """

    patterns: tuple[str, ...] | None
    steps: int | None


def parse_live(live: object, steps: SupportsIndex | None) -> LiveOptions | None:
    """Return the options of the panel of a run, or None if it has none.

    Args:
        live: True, False, or patterns of tags.
        steps: see :class:`LiveOptions`.

    Raises:
        UsageError: an argument is invalid.
    """
    count = None if steps is None else positive_int("Run", "steps", steps)
    if isinstance(live, list | tuple):
        patterns = tuple(live)
        if not patterns or not all(isinstance(pattern, str) for pattern in patterns):
            raise UsageError(f"Run(live={safe_repr(live)}): expected patterns of tags.")
        return LiveOptions(patterns, count)
    is_wanted = None if isinstance(live, str) else as_bool(live)
    if is_wanted is None:
        raise UsageError(
            f"Run(live={safe_repr(live)}): expected True, False, or a list of patterns of tags."
        )
    return LiveOptions(None, count) if is_wanted else None


class LivePanel:
    """Draws the curves and the progress of a run while it is open. Used by one thread, the flusher.

    It is the last monitor of the run, and changes nothing that is written.

    Args:
        options: what the user asked for.
        channel: the channel of the run.
        logdir: the log directory of the run; None if it has none.
        nonfinite: the monitor whose findings the panel shows, if the run has one.
        display: where the panel appears; by default, see :func:`make_display`.
        clock: returns the time, in seconds.

    Attributes:
        found: always empty: a run that continues an earlier one shows only its own points.
    """

    def __init__(
        self,
        options: LiveOptions,
        channel: Channel,
        logdir: str | None,
        nonfinite: NonFiniteMonitor | None,
        *,
        display: Display | None = None,
        clock: Callable[[], float] = time.monotonic,
    ):
        self.found = set[str]()
        self._name = "run" if logdir is None else _paths.shorten(logdir)
        self._logdir = logdir
        self._channel = channel
        self._nonfinite = nonfinite
        self._display = display
        self._clock = clock
        self._charts = Charts(options.patterns)
        self._pace = Pace(channel.step, options.steps, clock())
        self._is_enabled = True
        self._drawn_at = self._changed_at = clock()
        self._drawn_news: object = None

    def start(self, settle: Callable[[float], object]) -> None:
        """Draw the panel for the first time, on the thread that opens the run, so that it appears under that cell."""
        if self._display is None and rank().index:
            self._is_enabled = False  # Only process 0 of a job has a panel.
            return
        self._attempt(self._open)

    def observe(self, assembled: Assembled) -> Sequence[Record]:
        """Add these points to the curves."""
        if self._is_enabled:
            self._charts.add(assembled)
        return ()

    def poll(self) -> None:
        """Draw the panel if that is due. It never raises."""
        self._attempt(self._redraw)

    def finish(self) -> Sequence[Record]:
        """Draw the panel for the last time."""
        self._attempt(lambda: self._draw(self._clock(), is_last=True))
        self._is_enabled = False
        return ()

    def _attempt(self, draw: Callable[[], None]) -> None:
        if not self._is_enabled:
            return
        try:
            draw()
        except Exception as fault:
            self._is_enabled = False
            self._channel.lost.log_once(
                f"the live panel failed: {describe(fault)}", "No report is lost."
            )

    def _open(self) -> None:
        self._display = self._display or make_display(self._logdir, self._clock())
        self._draw(self._clock())

    def _redraw(self) -> None:
        now = self._clock()
        if now - self._drawn_at < REDRAW_SECS:
            return
        # Without news, only the displayed times change, and the panel is drawn less and less often.
        if self._news() != self._drawn_news:
            self._changed_at = now
        elif now - self._drawn_at < max(_IDLE_SECS, (now - self._changed_at) / 2):
            return
        self._draw(now)

    def _news(self) -> object:
        """Return values that differ from those of the last drawing if the run has reported something since."""
        return self._step(), self._charts.version, self._found()

    def _found(self) -> Finding | None:
        return None if self._nonfinite is None else self._nonfinite.first

    def _step(self) -> int:
        """Return how many steps were taken, or were reported if the program does not count them."""
        if self._channel.has_steps:
            # In a loop by ``for run.step in range(n)``, the counter is the step that is being taken.
            return self._channel.step + (self._charts.last_step == self._channel.step)
        return max(self._charts.last_step + 1, self._channel.step)

    def _draw(self, now: float, *, is_last: bool = False) -> None:
        assert self._display is not None  # noqa: S101 (start made it)
        self._drawn_news, self._drawn_at = self._news(), now
        self._pace.update(self._step(), now)
        charts = tuple(self._charts)
        self._display.show(
            PanelContents(
                self._name, charts, self._charts.has_more, self._found(), self._pace, now, is_last
            )
        )

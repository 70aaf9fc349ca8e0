"""The contents of a panel at one moment, before it is HTML or text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from jaxboard._host.nonfinite import Finding
from jaxboard._live.charts import Chart
from jaxboard._live.pace import Pace, clock


class PanelContents(NamedTuple):
    """The contents of a panel.

    Attributes:
        name: the name of the run.
        charts: the charts, in the order in which they are shown.
        has_more: whether the run has tags that no chart shows.
        nonfinite: the first value that is NaN or infinite; None if there is none.
        pace: the steps of the run.
        now: the current time, by the clock of ``pace``.
        is_last: whether the run is closing, so that nothing is drawn after this.
    """

    name: str
    charts: Sequence[Chart]
    has_more: bool
    nonfinite: Finding | None
    pace: Pace
    now: float
    is_last: bool

    def pace_text(self) -> str:
        """Return the rate of the run and the time that remains, as text."""
        pace, now = self.pace, self.now
        if self.is_last:
            ends = "finished" if pace.fraction in (None, 1.0) else "stopped"
            return f"{ends} after {clock(pace.elapsed(now))}"
        parts: list[str] = []
        stalled, left = pace.seconds_stalled(now), pace.seconds_left(now)
        if stalled is not None:
            parts.append(f"no step for {clock(stalled)}")
        elif pace.rate:
            parts.append(f"{number(pace.rate, 3)} steps/s")
        parts.append(
            f"{clock(pace.elapsed(now))} so far" if left is None else f"{clock(left)} left"
        )
        return ", ".join(parts)


def number(value: float, digits: int = 4) -> str:
    """Return a number as text with a few significant digits.

    Example:
        >>> number(0.123456), number(1234.5), number(2.5e-7), number(20.0), number(46.81, 3)
        ('0.1235', '1,234', '2.5e-07', '20', '46.8')
    """
    return f"{value:,.0f}" if 1000 <= abs(value) < 1e6 else f"{value:.{digits}g}"

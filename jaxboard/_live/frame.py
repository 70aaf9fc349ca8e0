"""The contents of a panel at one moment, before it is HTML or text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from jaxboard._host.nonfinite import Finding
from jaxboard._live.charts import Chart
from jaxboard._live.pace import Pace, clock


class Frame(NamedTuple):
    """The contents of a panel.

    Attributes:
        name: the name of the run.
        charts: the charts, in their order.
        has_more: whether the run has tags without a chart.
        nonfinite: the first value that is NaN or infinite; None if there is none.
        pace: the steps of the run.
        now: the time by the clock of ``pace``.
        is_last: whether the run closes.
    """

    name: str
    charts: Sequence[Chart]
    has_more: bool
    nonfinite: Finding | None
    pace: Pace
    now: float
    is_last: bool

    def pace_text(self) -> str:
        """Return how fast the run is, and how long it takes."""
        pace, now = self.pace, self.now
        if self.is_last:
            ends = "finished" if pace.fraction in (None, 1.0) else "stopped"
            return f"{ends} after {clock(pace.elapsed(now))}"
        parts: list[str] = []
        stalled, left = pace.stalled(now), pace.seconds_left(now)
        if stalled is not None:
            parts.append(f"no step for {clock(stalled)}")
        elif pace.rate:
            parts.append(f"{number(pace.rate, 3)} steps/s")
        parts.append(
            f"{clock(pace.elapsed(now))} so far" if left is None else f"{clock(left)} left"
        )
        return ", ".join(parts)


def number(value: float, digits: int = 4) -> str:
    """Return a number in few digits.

    Example:
        >>> number(0.123456), number(1234.5), number(2.5e-7), number(20.0), number(46.81, 3)
        ('0.1235', '1,234', '2.5e-07', '20', '46.8')
    """
    return f"{value:,.0f}" if 1000 <= abs(value) < 1e6 else f"{value:.{digits}g}"

"""The rules of ``Run(alerts=[...])``, given as texts."""

from __future__ import annotations

import fnmatch
import operator
import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from jaxboard._alerts.columns import Columns

_COMPARISONS: dict[str, Callable[[np.ndarray, float], np.ndarray]] = {
    ">": operator.gt,
    ">=": operator.ge,
    "<": operator.lt,
    "<=": operator.le,
}

_FORMS = re.compile(
    r"""no \s+ report \s+ for \s+ (?P<amount>[\d.]+) \s* (?P<unit>s|seconds?|min|minutes?|h|hours?)
    | (?P<spiking>\S(?:.*\S)?) \s+ is \s+ spiking
    | (?P<bad>\S(?:.*\S)?) \s+ is \s+ not \s+ finite
    | (?P<tag>\S(?:.*\S)?) \s* (?P<sign>>=|<=|>|<) \s* (?P<limit>\S+)
    """,
    re.VERBOSE,
)

_SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0}

_REST = 100
"""A rule reports a tag again once this many points in a row have not met its condition."""

_MAX_SETS = 1000
"""Most sets of tags that are remembered."""


class RuleFinding(NamedTuple):
    """A point that meets the condition of a rule.

    Attributes:
        run: see :attr:`jaxboard.records.Record.run`.
        tag: the tag.
        step: the step.
        value: the value.
    """

    run: str
    tag: str
    step: int
    value: float


class ValueRule:
    """A condition on the values of tags.

    Args:
        text: the rule.
        pattern: the tag, in which ``*`` stands for any text.
        condition: returns which values meet the condition.
    """

    def __init__(self, text: str, pattern: str, condition: Callable[[np.ndarray], np.ndarray]):
        self.text = text
        self.pattern = pattern
        self._matches = _matcher(pattern)
        self._condition = condition
        self._columns: dict[tuple[str, ...], list[int]] = {}
        # By run and tag, how many points in a row did not meet the condition since the last one that did.
        self._quiet: dict[tuple[str, str], int] = {}

    def observe(self, columns: Columns) -> Iterator[RuleFinding]:
        """Yield the first points that meet the condition."""
        chosen = self._columns.get(columns.tags)
        if chosen is None:
            chosen = [k for k, tag in enumerate(columns.tags) if self._matches(tag)]
            if len(self._columns) == _MAX_SETS:
                self._columns.clear()
            self._columns[columns.tags] = chosen
        for k in chosen:
            meets = self._condition(columns.values[:, k])
            key = columns.run, columns.tags[k]
            if key not in self._quiet and not meets.any():
                continue
            quiet = self._quiet.get(key, _REST)
            for n in np.flatnonzero(meets).tolist():
                if quiet + _unmet_before(meets, n) >= _REST:
                    value = float(columns.values[n, k])
                    yield RuleFinding(*key, int(columns.steps[n]), value)
                quiet = 0
            after = _unmet_before(meets, len(meets))
            self._quiet[key] = quiet + after if meets.any() or key in self._quiet else _REST


def _unmet_before(meets: np.ndarray, n: int) -> int:
    """Return how many points in a row, up to the one before ``n``, do not meet the condition."""
    earlier = np.flatnonzero(meets[:n])
    return n if not len(earlier) else n - 1 - int(earlier[-1])


class SpikeRule:
    """The rule that tags spike.

    Args:
        text: the rule.
        pattern: the tag, in which ``*`` stands for any text.
    """

    def __init__(self, text: str, pattern: str):
        self.text = text
        self.matches = _matcher(pattern)


class SilenceRule:
    """The rule that no scalar, norm or other point arrives for some time.

    Args:
        text: the rule.
        seconds: the time.
    """

    def __init__(self, text: str, seconds: float):
        self.text = text
        self.seconds = seconds
        self._since: float | None = None
        self._reported = False

    def observe(self, has_points: bool, now: float) -> bool:
        """Return whether nothing has arrived for that time, once until something arrives.

        Args:
            has_points: whether points have arrived.
            now: the time, in seconds.
        """
        if has_points or self._since is None:
            self._since, self._reported = now, False
        if self._reported or now - self._since < self.seconds:
            return False
        self._reported = True
        return True


Rule = ValueRule | SpikeRule | SilenceRule


def parse_rule(text: str) -> Rule | None:
    """Return the rule that a text describes, or None if it describes none.

    Example:
        >>> type(parse_rule("train/loss is spiking")).__name__
        'SpikeRule'
        >>> parse_rule("no report for 5 minutes").seconds
        300.0
    """
    match = _FORMS.fullmatch(text.strip())
    if match is None:
        return None
    if match["unit"]:
        amount = _as_number(match["amount"])
        seconds = None if amount is None else amount * _SECONDS[match["unit"][0]]
        return SilenceRule(text, seconds) if seconds else None
    if match["spiking"]:
        return SpikeRule(text, match["spiking"])
    if match["bad"]:
        return ValueRule(text, match["bad"], lambda values: ~np.isfinite(values))
    limit, compare = _as_number(match["limit"]), _COMPARISONS[match["sign"]]
    if limit is None:
        return None
    return ValueRule(text, match["tag"], lambda values: compare(values, limit))


def _as_number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return None if np.isnan(number) else number


def _matcher(pattern: str) -> Callable[[str], bool]:
    """Return a function that returns whether a tag matches a pattern, in which only ``*`` is special."""
    escaped = pattern.replace("[", "[[]").replace("?", "[?]")
    matches = re.compile(fnmatch.translate(escaped)).match
    return lambda tag: matches(tag) is not None

"""The option ``Run(alerts=[...])``, checked."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterable, Sequence
from typing import TypeAlias, cast

from jaxboard._alerts.alert import Alert
from jaxboard._alerts.alert_rules import Rule, parse_rule
from jaxboard._alerts.receivers import Receiver
from jaxboard._alerts.webhook import Webhook, host_of, problem_with
from jaxboard._errors import UsageError
from jaxboard._safe_repr import safe_repr

Alerts: TypeAlias = Sequence[str | Callable[[Alert], object]]
"""The type of ``Run(alerts=...)``."""

_DEFAULT = ("* is spiking", "* is not finite")
"""The rules of a list that has only receivers."""

_EXPECTED = (
    "expected a rule ('train/loss > 10', 'train/loss is spiking', 'train/loss is not finite', 'no report for 10 minutes'), "
    "a function, or a URL that begins with https:// or http://"
)


@dataclasses.dataclass(frozen=True, slots=True)
class AlertOptions:
    """Rules, and who receives what they find.

    Attributes:
        rules: the rules.
        receivers: functions and webhooks, and how messages name each.
    """

    rules: tuple[Rule, ...] = ()
    receivers: tuple[tuple[str, Receiver], ...] = ()


def parse_alerts(alerts: object) -> AlertOptions:
    """Return the options that ``Run(alerts=...)`` asks for.

    Raises:
        UsageError: it is not a list of rules, functions and URLs.
    """
    if alerts is None:
        return AlertOptions()
    if isinstance(alerts, str | bytes) or not isinstance(alerts, Iterable):
        raise UsageError(f"Run(alerts={safe_repr(alerts)}): expected a list. In it, {_EXPECTED}.")
    rules: list[Rule] = []
    receivers: list[tuple[str, Receiver]] = []
    try:
        items = list(cast("Iterable[object]", alerts))
    except Exception as error:
        raise UsageError(f"Run(alerts={safe_repr(alerts)}): expected a list.") from error
    for item in items:
        rule = parse_rule(item) if isinstance(item, str) and not _is_url(item) else None
        if rule is None:
            receivers.append(_receiver(item))
        else:
            rules.append(rule)
    if receivers and not rules:
        rules = [rule for rule in map(parse_rule, _DEFAULT) if rule is not None]
    return AlertOptions(tuple(rules), tuple(receivers))


def _is_url(text: str) -> bool:
    # A rule has spaces or a sign, and no URL does.
    return re.match(r"\w+:", text) is not None and " " not in text.strip()


def _receiver(item: object) -> tuple[str, Receiver]:
    """Return a function or a webhook, and how messages name it."""
    if isinstance(item, str) and _is_url(item):
        problem = problem_with(item)
        if problem is not None:
            raise UsageError(f"Run(alerts=[...]): {problem}, got {safe_repr(item)}.")
        return host_of(item), Webhook(item)
    if callable(item) and not isinstance(item, type):
        name = getattr(item, "__qualname__", type(item).__name__)
        return f"the function {name}", item
    raise UsageError(f"Run(alerts=[...]): {_EXPECTED}, got {safe_repr(item)}.")

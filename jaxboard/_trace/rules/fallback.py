"""Reports that cannot be harvested: they stay in the program and reach the host by callback."""

from __future__ import annotations

from collections.abc import Iterable

from jax.extend.core import JaxprEqn

from jaxboard import _log
from jaxboard._trace.hijax import name_of
from jaxboard._trace.inspection import tags_in


class Unharvestable(Exception):  # noqa: N818 (not an error: the reports fall back to callbacks)
    """Raised by a rule for an equation that it must leave as it is; its text is the reason."""


def warn_of_fallback(eqn: JaxprEqn, reason: Unharvestable | str) -> None:
    """Warn once for each set of tags that the reports in an equation fall back to callbacks."""
    subject = f"reports inside {name_of(eqn)} reach the host by a callback each"
    warn_of_callbacks(subject, reason, tags_in(eqn))


def warn_of_callbacks(subject: str, reason: Unharvestable | str, tags: Iterable[str]) -> None:
    """Warn, once for each subject and set of tags, that reports use callbacks.

    Args:
        subject: the main clause of the warning: which reports reach the host by callback.
        reason: why they do.
        tags: the tags of the reports.
    """
    tags = tuple(sorted(set(tags)))
    text = f"{subject}, which is slow: {reason}. Tags: {', '.join(map(repr, tags))}."
    _log.warn_once((subject, tags), text)

"""The last step of each tag, for a state: points after it are hidden when a run continues from that state."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TypeAlias

from jaxboard._host.complete_points import Assembled
from jaxboard.records import Record

StepsByTag: TypeAlias = Mapping[str, Mapping[str, int]]
"""run (:attr:`Record.run`) -> tag -> step."""


class LastSteps:
    """The last steps of tags. Used by one thread, the flusher.

    Args:
        known: those of an earlier run that this one continues.
    """

    def __init__(self, known: StepsByTag | None = None) -> None:
        # By set of tags: columns have the same few sets again and again.
        self._steps: dict[tuple[str, tuple[str, ...]], int] = {}
        self._own_steps: set[tuple[str, str]] = set()
        for run, tags in (known or {}).items():
            for tag, step in tags.items():
                self._steps[run, (tag,)] = step
                self._own_steps.add((run, tag))

    def observe(self, assembled: Assembled) -> None:
        """Note complete points."""
        for item in assembled.batch:
            if isinstance(item, Record):
                key, step = (item.run, (item.tag,)), int(item.step)
            else:
                key, step = (item.run, tuple(item.tags)), int(item.steps.max(initial=-1))
            self._steps[key] = max(self._steps.get(key, step), step)

    def have_own_steps(self, tags: Iterable[tuple[str, str]]) -> None:
        """Note that reports, by run and tag, have steps of their own, which the run does not count."""
        self._own_steps.update(tags)

    def saved(self, step: int) -> dict[str, dict[str, int]]:
        """Return the last steps that do not follow from the step of the run.

        Args:
            step: the step of the next call. Points of other tags are before it.
        """
        saved: dict[str, dict[str, int]] = {}
        for (run, tags), last in self._steps.items():
            for tag in tags:
                if last >= step or (run, tag) in self._own_steps:
                    known = saved.setdefault(run, {})
                    known[tag] = max(known.get(tag, last), last)
        return saved

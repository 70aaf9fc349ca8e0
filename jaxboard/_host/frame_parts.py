"""The parts of a frame whose reports name several runs."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

from jaxboard._frame import Entry, Plan, Target
from jaxboard._host.plan_cache import PlanCache


class FramePart(NamedTuple):
    """The reports of a frame that go to one run.

    Attributes:
        target: the run; None for the run of the call.
        plan: the reports, which name no target.
        positions: the positions of its vectors among those of the frame.
    """

    target: Target | None
    plan: Plan
    positions: tuple[int, ...]


_parts = PlanCache[list[FramePart]]()


def split(plan: Plan) -> list[FramePart]:
    """Return the parts of a plan, one for each run that its reports go to."""
    return _parts.get(plan, _split)


def _split(plan: Plan) -> list[FramePart]:
    by_key: dict[int | None, list[Entry]] = {}
    targets: dict[int | None, Target | None] = {}
    for entry in plan.entries:
        target = entry.spec.target
        key = None if target is None else target.key
        targets.setdefault(key, target)
        by_key.setdefault(key, []).append(_untargeted(entry))
    parts: list[FramePart] = []
    for key, entries in by_key.items():
        part = dataclasses.replace(plan, entries=tuple(entries))
        positions = tuple(map(plan.vector_names.index, part.vector_names))
        parts.append(FramePart(targets[key], part, positions))
    return parts


def _untargeted(entry: Entry) -> Entry:
    target = entry.spec.target
    if target is None:
        return entry
    return dataclasses.replace(
        entry, spec=dataclasses.replace(entry.spec, run=target.run, target=None)
    )

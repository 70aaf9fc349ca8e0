"""The tags of one run: valid UTF-8, and of one kind each.

TensorBoard shows a tag with two kinds in neither of their dashboards.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from typing import TypeAlias

import numpy as np

from jaxboard.records import Batch, Kind, Record, Scalars
from jaxboard.sinks._lost import Lose

Encode: TypeAlias = Callable[[Batch, Lose], object]
"""Encodes records, and reports those that it cannot encode."""

_MAX_TAG_SETS = 4096
"""Most sets of tags that are remembered as valid. A program that computes its tags may have many."""


_WITHOUT_TAG = (Kind.HPARAMS, Kind.METRICS, Kind.LAYOUT, Kind.GRAPH, Kind.EVENT)
"""The kinds whose tags TensorBoard does not show, or that may have none."""


class Tags:
    """The tags of one run, each with the kind of its first record that can be written."""

    def __init__(self) -> None:
        self._kinds: dict[str, Kind] = {}
        # Most columns have a set of tags that was checked before.
        self._scalar_sets: set[tuple[str, ...]] = set()

    def select(self, batch: Batch, encode: Encode, lose: Lose) -> Batch:
        """Return the records of a batch that have a valid tag of the right kind.

        If a tag is new and has several kinds in the batch, the earliest record that can be encoded decides, and a
        scalar if several are equally early.

        Args:
            batch: records of one run.
            encode: the encoder.
            lose: called for every tag that is left out.
        """
        unknown = [item for item in batch if not self._is_known(item)]
        if not unknown:
            return batch
        self._learn(unknown, encode)
        selected: Batch = []
        for item in batch:
            if isinstance(item, Scalars):
                selected += [item] if self._is_known(item) else self._scalar_columns(item, lose)
                continue
            problem = None if self._is_known(item) else self._problem(item.tag, item.kind)
            if problem is None:
                selected.append(item)
            else:
                lose(item.tag, 1, problem)
        return selected

    def _is_known(self, item: Record | Scalars) -> bool:
        try:
            if isinstance(item, Record):
                return item.kind in _WITHOUT_TAG or self._kinds.get(item.tag) is item.kind
            if item.tags in self._scalar_sets:
                return True
            if any(self._kinds.get(tag) is not Kind.SCALAR for tag in item.tags):
                return False
        except TypeError:  # A tag that is not a str may not be hashable.
            return False
        if len(self._scalar_sets) >= _MAX_TAG_SETS:
            self._scalar_sets.clear()
        self._scalar_sets.add(tuple(item.tags))
        return True

    def _learn(self, items: Batch, encode: Encode) -> None:
        """Fix the kinds of new tags."""
        for item in sorted(
            items, key=lambda item: (_wall_time(item), _kind(item) is not Kind.SCALAR)
        ):
            new = [
                tag for tag in _tags(item) if _text_problem(tag) is None and tag not in self._kinds
            ]
            if new:
                encoded = _encoded_tags(item, encode)
                self._kinds |= {tag: _kind(item) for tag in new if tag in encoded}

    def _scalar_columns(self, scalars: Scalars, lose: Lose) -> Batch:
        problems = [self._problem(tag, Kind.SCALAR) for tag in scalars.tags]
        for tag, problem in zip(scalars.tags, problems, strict=True):
            if problem is not None:
                lose(tag, len(scalars.steps), problem)
        kept = [place for place, problem in enumerate(problems) if problem is None]
        if not kept:
            return []
        tags = tuple(scalars.tags[place] for place in kept)
        values = scalars.values[:, kept]
        return [Scalars(tags, scalars.steps, scalars.wall_times, values, scalars.run)]

    def _problem(self, tag: str, kind: Kind) -> str | None:
        problem = _text_problem(tag)
        if problem is not None:
            return problem
        first = self._kinds.get(tag, kind)
        if first is kind:
            return None
        new = kind.value
        return (
            f"expected kind {first.value}, as in the first report of the tag, got kind {new}. TensorBoard shows one kind "
            f"for each tag: choose another tag, such as {f'{tag}_{new}'!r}"
        )


def _kind(item: Record | Scalars) -> Kind:
    return item.kind if isinstance(item, Record) else Kind.SCALAR


def _tags(item: Record | Scalars) -> Sequence[str]:
    return (item.tag,) if isinstance(item, Record) else item.tags


def _encoded_tags(item: Record | Scalars, encode: Encode) -> Collection[str]:
    """Return the tags of which some record can be encoded."""
    lost: Counter[str] = Counter()  # By repr, as a tag may be anything.
    encode([item], lambda tag, count, _: lost.update({repr(tag): count}))
    most = 1 if isinstance(item, Record) else len(item.steps)
    return [tag for tag in _tags(item) if lost[repr(tag)] < most]


def _text_problem(tag: object) -> str | None:
    if not isinstance(tag, str):
        return f"the tag is not a str but {type(tag).__name__}"
    try:
        tag.encode()
    except UnicodeEncodeError:
        return "the tag is not valid UTF-8 text"
    return None


def _wall_time(item: Record | Scalars) -> float:
    try:
        time = float(item.wall_time if isinstance(item, Record) else item.wall_times[0])
    except Exception:  # The encoder finds out.
        return np.inf
    return np.inf if np.isnan(time) else time

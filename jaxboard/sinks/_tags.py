"""The tags of one run: valid UTF-8, and of one kind each.

TensorBoard shows a tag with two kinds in neither of their dashboards.
"""

from __future__ import annotations

import numpy as np

from jaxboard.records import Batch, Kind, Record, Scalars
from jaxboard.sinks._lost import Lose

_MAX_TAG_SETS = 4096
"""Most sets of tags that are remembered as valid. A program that computes its tags may have many."""


class Tags:
    """The tags of one run, each with the kind of its first record."""

    def __init__(self) -> None:
        self._kinds: dict[str, Kind] = {}
        # Most columns have a set of tags that was checked before.
        self._scalar_sets: set[tuple[str, ...]] = set()

    def select(self, batch: Batch, lose: Lose) -> Batch:
        """Return the records of a batch that have a valid tag of the right kind.

        If a tag is new and has several kinds in the batch, the earliest record decides, and a scalar if
        several are equally early.

        Args:
            batch: records of one run.
            lose: called for every tag that is left out.
        """
        unknown = [item for item in batch if not self._is_known(item)]
        if not unknown:
            return batch
        self._learn(unknown)
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
                # TensorBoard does not show the tag of hyperparameters.
                return item.kind is Kind.HPARAMS or self._kinds.get(item.tag) is item.kind
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

    def _learn(self, items: Batch) -> None:
        """Fix the kinds of new tags."""
        earliest: dict[str, tuple[float, bool]] = {}
        kinds: dict[str, Kind] = {}
        for item in items:
            kind = item.kind if isinstance(item, Record) else Kind.SCALAR
            rank = _wall_time(item), kind is not Kind.SCALAR
            for tag in (item.tag,) if isinstance(item, Record) else item.tags:
                if _text_problem(tag) is None and rank < earliest.get(tag, (np.inf, True, True)):
                    earliest[tag], kinds[tag] = rank, kind
        self._kinds = kinds | self._kinds

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
        if problem is not None or self._kinds[tag] is kind:
            return problem
        new, first = kind.value, self._kinds[tag].value
        return (
            f"it is a {new}, but the tag was first reported as a {first}, and TensorBoard shows one kind "
            f"for each tag. Give the {new} another tag, such as {f'{tag}_{new}'!r}"
        )


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
        return float(item.wall_time if isinstance(item, Record) else item.wall_times[0])
    except Exception:  # The encoder finds out.
        return np.inf

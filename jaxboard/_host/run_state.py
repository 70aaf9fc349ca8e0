"""The state of a run: its steps, and the values of points that are not complete."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import NamedTuple, TypeVar

import jax
import numpy as np

from jaxboard._frame import Entry, ReportSpec, Slot, Target
from jaxboard._host.complete_points import join_runs
from jaxboard._reduce import State
from jaxboard._reduce.named_objects import with_names


class SavedPoint(NamedTuple):
    """A point on the host that may receive more values.

    Attributes:
        spec: the report.
        state: the merged values, NumPy arrays.
        newest_step: the step of the newest value.
        wall_time: when that value was reported.
        explicit_step: whether the user gave the step.
        tags: the runs and the tags of its point, if the report of the state has names instead of objects
            (:mod:`jaxboard._reduce.named_objects`).
    """

    spec: ReportSpec
    state: State
    newest_step: int
    wall_time: float
    explicit_step: bool = False
    tags: tuple[tuple[str, str], ...] = ()

    @property
    def end(self) -> int:
        """The step of the complete point: for a window, its last step."""
        return point_step(self.spec, self.newest_step)

    @property
    def first_step(self) -> int:
        """The first step whose value may be in the point."""
        return self.end - self.spec.every + 1 if self.spec.windowed else self.end


class SavedWindow(NamedTuple):
    """A window that an instrumented function accumulates on the device.

    Attributes:
        function: the name of the function.
        channel: the relative path of the run that the function reports to, below the run.
        point: the values. Its report is that of the program, with a portable target (:func:`portable`).
    """

    function: str
    channel: str
    point: SavedPoint

    def on_host(self) -> SavedPoint | None:
        """Return the point as the host would merge it; None if it belongs to another run."""
        spec = self.point.spec
        if spec.target is None:
            run = join_runs(self.channel, spec.run)
        elif not spec.target.name:
            run = spec.target.run
        else:
            return None
        return self.point._replace(spec=dataclasses.replace(spec, run=run, target=None))


class HostState(NamedTuple):
    """The part of a state that the flusher's thread knows.

    Attributes:
        points: see :class:`RunState`.
        last_steps: see :class:`RunState`.
        found: see :class:`RunState`.
    """

    points: tuple[SavedPoint, ...] = ()
    last_steps: Mapping[str, Mapping[str, int]] = {}
    found: tuple[str, ...] = ()


class RunState(NamedTuple):
    """Everything that a run needs to go on exactly.

    Attributes:
        step: the step of the next call.
        current: the last step taken.
        has_steps: see :attr:`Channel.has_steps`.
        points: the incomplete points on the host.
        windows: the incomplete windows on the device.
        last_steps: by run and tag, the last steps of complete points, where they do not follow from ``step``.
        found: the tags in which a value was found that is not finite.
        totals: the totals of jaxboard's own cost, by name.
        is_saved: whether it was saved by a run, and is not just a step.
    """

    step: int
    current: int
    has_steps: bool = False
    points: tuple[SavedPoint, ...] = ()
    windows: tuple[SavedWindow, ...] = ()
    last_steps: Mapping[str, Mapping[str, int]] = {}
    found: tuple[str, ...] = ()
    totals: Mapping[str, float] = {}
    is_saved: bool = False

    @property
    def all_points(self) -> list[SavedPoint]:
        """All points as the host would merge them."""
        of_windows = (window.on_host() for window in self.windows)
        return [*self.points, *(point for point in of_windows if point is not None)]


_Steps = TypeVar("_Steps", int, np.ndarray)


def point_step(spec: ReportSpec, step: _Steps) -> _Steps:
    """Return the step of the point that a value at ``step`` is a part of. There may be an array of steps."""
    return -(-step // spec.every) * spec.every if spec.windowed else step


def read_state(entry: Entry, arrays: dict[str, np.ndarray]) -> State:
    """Return the accumulator of an entry. Leading axes of ``arrays`` become leading axes of its arrays."""
    leaves = [slot.read(arrays) for slot in entry.slots]
    value = jax.tree.unflatten(entry.value, leaves)  # pyright: ignore[reportUnknownMemberType] (JAX's treedef)
    if isinstance(entry.weight, int):
        return State(value, entry.weight)

    def read(slot: Slot) -> np.ndarray:
        return slot.read(arrays)

    return State(value, jax.tree.map(read, entry.weight))


def portable(spec: ReportSpec, own: Target) -> ReportSpec:
    """Return a report that is equal in another process.

    Args:
        spec: the report of a program.
        own: the target of the run whose state it is. It has no name there; other runs keep theirs.
    """
    spec, target = with_names(spec), spec.target
    if target is None:
        return spec
    name = "" if target.key == own.key else target.name
    return dataclasses.replace(spec, target=Target(0, target.run, name))

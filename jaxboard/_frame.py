"""The frame: all that one call reported, packed into one array per dtype.

The static half, the :class:`Plan`, is made while JAX traces and says what lies where. The dynamic
half is a few arrays. A frame is made on the device side (``_trace.pack``) and read on the host side
(``_host.assemble``); this module is what the two agree on, and knows neither.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxboard.records import Kind


@dataclasses.dataclass(frozen=True, slots=True)
class ReportSpec:
    """What is known of a report before the program runs.

    Attributes:
        kind: what it reports.
        tag: its full name, scopes included.
        reduce: the name of the reducer that merges several values of one point (see ``reduce``).
        every: its cadence in steps.
        max_images: how many pictures of a batch are kept.
        rank: how many trailing axes of the reported array belong to one observation; axes before
            those were put there by ``vmap``.
        leaves: of norms, the names of the leaves and how many elements each has.
        what: of norms, what is asked for.
        lanes: how many lanes of the outermost ``vmap`` stay apart, as runs of their own; None if lanes
            merge like all else, 0 while there is no vmap around the report.
    """

    kind: Kind
    tag: str
    reduce: str
    every: int = 1
    max_images: int = 3
    rank: int = 0
    leaves: tuple[tuple[str, int], ...] = ()
    what: tuple[str, ...] = ()
    lanes: int | None = None

    @property
    def windowed(self) -> bool:
        """Whether a point holds the values of ``every`` steps, rather than those of one step in ``every``."""
        return self.every > 1 and self.kind is Kind.SCALAR and self.reduce != "last"


@dataclasses.dataclass(frozen=True, slots=True)
class Slot:
    """Where one array lies in the packed vector of its dtype.

    Attributes:
        dtype: the vector's name: its dtype, and ``@axis`` for each mesh axis along which it differs
            between devices.
        offset: the first element.
        shape: the array's.
    """

    dtype: str
    offset: int
    shape: tuple[int, ...]

    def read(self, packed: Mapping[str, Any]) -> Any:
        """The array. ``packed`` may have leading axes, which the result then has too."""
        vector = packed[self.dtype]
        size = math.prod(self.shape)
        part = vector[..., self.offset : self.offset + size]
        return part.reshape((*vector.shape[:-1], *self.shape))


@dataclasses.dataclass(frozen=True, slots=True)
class Entry:
    """One reported value of a frame: what it is and where its accumulator lies.

    Attributes:
        spec: the report.
        value: the structure of the accumulator's value.
        slots: where the leaves of that value lie.
        weight: how many observations the value holds; a number where that is known beforehand.
        step: where the report's own steps lie, if it was given ``step=``.
    """

    spec: ReportSpec
    value: Any
    slots: tuple[Slot, ...]
    weight: int | Slot
    step: Slot | None = None


class LoopChunk(NamedTuple):
    """Of a frame that holds a chunk of a loop: an axis of iterations in front of all its arrays.

    Attributes:
        size: how many; those whose step is below zero were not run.
        total: how many iterations the loop has, if that is known.
        bar: the name of the loop's progress bar, if it has one.
    """

    size: int
    total: int | None
    bar: str | None


@dataclasses.dataclass(frozen=True, slots=True)
class Plan:
    """What a frame holds. Hashable: it is part of the type of the step's hidden output.

    Attributes:
        entries: the reports.
        step: where the step lies, if the program says it.
        rows: of how many steps, if it is not one.
        steps_taken: how many steps the call took that the frame is of, if that is not one.
    """

    entries: tuple[Entry, ...]
    step: Slot | None = None
    rows: LoopChunk | None = None
    steps_taken: int | None = None

    @property
    def tags(self) -> tuple[str, ...]:
        return tuple(entry.spec.tag for entry in self.entries)


@jax.tree_util.register_pytree_node_class
class Packed:
    """A plan and its arrays as one pytree, which is how a frame leaves a jitted step.

    The plan rides in the tree's structure, so that JAX's own cache pairs it with the right
    executable when one function is compiled for several shapes.
    """

    __slots__ = ("arrays", "plan")

    def __init__(self, plan: Plan, arrays: dict[str, Any]):
        self.plan = plan
        self.arrays = arrays

    def tree_flatten(self) -> tuple[tuple[dict[str, Any]], Plan]:
        return (self.arrays,), self.plan

    @classmethod
    def tree_unflatten(cls, plan: Plan, children: tuple[dict[str, Any]]) -> Packed:
        return cls(plan, children[0])


class Frame:
    """What one call reported, on its way to the flusher.

    Attributes:
        plan: what ``arrays`` hold.
        arrays: dtype name -> vector; device arrays, perhaps not computed yet, or NumPy.
        step: the step of the call, None where the plan says that the program computed it.
        wall_time: seconds since the epoch at the call.
        open: whether its step may have more values: it is that of an evaluation, say.
    """

    __slots__ = ("arrays", "open", "plan", "step", "wall_time")

    def __init__(
        self,
        plan: Plan,
        arrays: dict[str, Any],
        step: int | None,
        wall_time: float,
        *,
        open: bool = False,  # noqa: A002 (what it is)
    ):
        self.plan = plan
        self.arrays = arrays
        self.step = step
        self.wall_time = wall_time
        self.open = open

    @property
    def nbytes(self) -> int:
        return sum(array.nbytes for array in self.arrays.values())

    @property
    def count(self) -> int:
        """How many reports it holds."""
        rows = self.plan.rows
        return len(self.plan.entries) * (1 if rows is None else rows.size)

    def wait(self) -> None:
        """Waits for the device. Raises what the computation raised."""
        jax.block_until_ready(self.arrays)


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class FrameBatch:
    """The frames of many steps, stacked: what a chunk of a loop reported, or calls one after the other.

    Attributes:
        plan: what each of them holds.
        arrays: dtype name -> [N, ...], NumPy.
        steps: int64[N].
        wall_times: float64[N], seconds since the epoch.
        open: see :class:`Frame`.
    """

    plan: Plan
    arrays: dict[str, Any]
    steps: np.ndarray
    wall_times: np.ndarray
    open: bool = False

    @property
    def nbytes(self) -> int:
        return sum(array.nbytes for array in self.arrays.values())

    @property
    def count(self) -> int:
        """How many reports it holds."""
        return len(self.plan.entries) * len(self.steps)

    @classmethod
    def of(cls, frames: list[Frame]) -> FrameBatch:
        """Frames of one plan, whose arrays are NumPy's."""
        first = frames[0]
        arrays = {name: np.stack([frame.arrays[name] for frame in frames]) for name in first.arrays}
        if first.plan.step is None:
            steps = np.array([frame.step for frame in frames], np.int64)
        else:
            steps = first.plan.step.read(arrays).astype(np.int64)
        return cls(first.plan, arrays, steps, np.array([f.wall_time for f in frames]), first.open)

    @classmethod
    def joined(cls, strips: list[FrameBatch]) -> FrameBatch:
        """Strips of one plan, one behind the other."""
        first = strips[0]
        if len(strips) == 1:
            return first
        arrays = {
            name: np.concatenate([strip.arrays[name] for strip in strips]) for name in first.arrays
        }
        steps = np.concatenate([strip.steps for strip in strips])
        walls = np.concatenate([strip.wall_times for strip in strips])
        return cls(first.plan, arrays, steps, walls, first.open)

    @classmethod
    def of_rows(cls, frame: Frame, slot: Slot, since: float) -> FrameBatch | None:
        """A frame of a chunk of a loop, whose arrays are NumPy's; None if no iteration was run.

        Args:
            frame: the frame.
            slot: where the steps lie.
            since: when the iterations began, seconds since the epoch: they are taken to be even.
        """
        steps = slot.read(frame.arrays).astype(np.int64)
        order = np.argsort(steps, kind="stable")  # of a reversed loop, the last row ran first
        order = order[steps[order] >= 0]
        if not len(order):
            return None
        walls = np.linspace(since, frame.wall_time, len(order) + 1)[1:]
        arrays = {name: array[order] for name, array in frame.arrays.items()}
        return cls(frame.plan, arrays, steps[order], walls, frame.open)


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Observation:
    """A report of plain Python: a value of a point that may have more.

    Attributes:
        spec: the report.
        state: its accumulator, of NumPy arrays.
        step: the step it belongs to.
        wall_time: seconds since the epoch, when it was reported.
        own: whether the user gave the step, rather than the run.
    """

    spec: ReportSpec
    state: Any
    step: int
    wall_time: float
    own: bool = False

    @property
    def nbytes(self) -> int:
        return sum(np.asarray(leaf).nbytes for leaf in jax.tree.leaves(self.state))

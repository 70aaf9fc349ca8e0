"""The frame: everything that one call reported, packed into one array per dtype.

A frame has a static and a dynamic half. The static half, the :class:`Plan`, is made while JAX traces: it
lists the reports and where each one is in the packed arrays. The dynamic half is those arrays. The device
side makes frames (``_trace/pack.py``) and the host side reads them (``_host/assembler.py``); both depend
on this module and not on each other.
"""

from __future__ import annotations

import dataclasses
import enum
import math
from collections.abc import Hashable, Mapping
from typing import Any, ClassVar, NamedTuple

import jax
import numpy as np

from jaxboard._types import PyTree
from jaxboard.records import Kind


class Composite(enum.Enum):
    """Reports whose reduced value becomes several points. Sinks receive those, never the value itself.

    Attributes:
        KEPT: arrays that the host remembers, which makes no point (``keep``).
        LAYER_HEALTH: the sums over the layers of a model (``health``).
        LEAF_HISTOGRAMS: the histograms of the leaves of a pytree.
        METRIC: the numbers that a metric computes from its merged state.
        NOISE_SCALE: the gradient noise scale.
        NORMS: the norms of the leaves of a pytree (``watch``).
        STACK: the values of devices, iterations or lanes, one scalar or histogram each (``reduce="stack"``).
    """

    KEPT = "kept"
    LAYER_HEALTH = "layer health"
    LEAF_HISTOGRAMS = "leaf histograms"
    METRIC = "metric"
    NOISE_SCALE = "noise scale"
    NORMS = "norms"
    STACK = "stack"


_MERGED_KINDS = {Kind.SCALAR, Kind.PR_CURVE, Kind.ROC_CURVE, Kind.CONFUSION_MATRIX}.union(
    (Composite.METRIC, Composite.NOISE_SCALE)
)
"""The kinds whose reports with ``every=N`` merge N steps: values that are small and merge exactly."""


class Target(NamedTuple):
    """The run that a report in traced code names. It refers to the run by a number and does not keep it alive.

    Attributes:
        key: the number of the open run (:attr:`Channel.target`); no two runs of a process have the same.
        run: "" for that run itself, else the relative path of the run below it.
        name: that run, for messages.
    """

    key: int
    run: str
    name: str


@dataclasses.dataclass(frozen=True, slots=True)
class ReportSpec:
    """The static part of a report, known while JAX traces.

    Attributes:
        kind: what is reported.
        tag: the full name, scopes included.
        reduce: the name of the reduction that merges the values of one point, if ``kind`` is SCALAR; "last" for the
            other kinds, and "merge" for metrics that are merged.
        every: the cadence in steps.
        rank: how many trailing axes of the reported array are one observation. Those before them are lanes of ``vmap``.
        options: the options of this kind of report, of the class that ``KINDS`` names
            (``_reduce/kinds.py``); None if the kind has none.
        lanes: how many lanes of the outermost ``vmap`` become seed runs. None merges lanes; 0 is a
            report that would keep them separate but is under no ``vmap``.
        run: "" for the run that receives the report, else the relative path of the run below it.
        target: the run that the report names. None if it goes to the run of the call.
        finish: the function that the host applies to the reduced value (``_reduce/finishing.py``); None for none.
    """

    kind: Kind | Composite
    tag: str
    reduce: str
    every: int = 1
    rank: int = 0
    options: Hashable = None
    lanes: int | None = None
    run: str = ""
    target: Target | None = None
    finish: Hashable = None

    @property
    def windowed(self) -> bool:
        """True if a point merges the values of ``every`` steps, instead of taking one step in ``every``."""
        return self.every > 1 and self.kind in _MERGED_KINDS and self.reduce != "last"


@dataclasses.dataclass(frozen=True, slots=True)
class Slot:
    """The position of one array in the packed vector of its dtype.

    Attributes:
        dtype: the name of the vector: the dtype, followed by ``@axis`` for each mesh axis along which
            the vector differs between devices.
        offset: the index of the first element.
        shape: the shape of the array.
        view: the dtype of the array, if the vector holds its bits as those of another dtype of the same size.
    """

    dtype: str
    offset: int
    shape: tuple[int, ...]
    view: str | None = None

    def read(self, packed: Mapping[str, Any]) -> Any:
        """Return the array. Leading axes of ``packed`` become leading axes of the result."""
        vector = packed[self.dtype]
        size = math.prod(self.shape)
        part = vector[..., self.offset : self.offset + size]
        if self.view is not None:
            part = part.view(self.view)
        return part.reshape((*vector.shape[:-1], *self.shape))


@dataclasses.dataclass(frozen=True, slots=True)
class WideSlot(Slot):
    """The position of an integer of 64 bits: two words of 32 bits, the upper one first."""

    def read(self, packed: Mapping[str, Any]) -> np.ndarray:
        """Return the integer from NumPy arrays, int64. Leading axes of ``packed`` become axes of the result."""
        words = Slot.read(self, packed)
        return (words[..., 0].astype(np.int64) << 32) | words[..., 1].view(np.uint32)


@dataclasses.dataclass(frozen=True, slots=True)
class Entry:
    """One report of a frame, with the positions of its accumulator.

    Attributes:
        spec: the report.
        value: the pytree structure of the accumulator's value.
        slots: the positions of the leaves of that value.
        weight: how many observations the value holds: an int if that is static, else the positions of a number
            in two words.
        step: the position of the report's own steps, if it was made with ``step=``.
    """

    spec: ReportSpec
    value: Any
    slots: tuple[Slot, ...]
    weight: PyTree
    step: Slot | None = None


class LoopChunk(NamedTuple):
    """The iterations of a loop that a frame holds, as the leading axis of all its arrays.

    Attributes:
        size: the length of the axis. Rows with a step below zero are iterations that did not run.
        total: how many iterations the loop has, if that is known.
        bar: the name of the loop's progress bar, if it has one.
        before: the plan of what was reported before the loop. Every chunk has those arrays, so that they reach the
            host first; in all chunks but the first their step is below zero. Its own chunk has one row.
        shares_steps: whether several iterations may have the same step.
    """

    size: int
    total: int | None
    bar: str | None
    before: Plan | None = None
    shares_steps: bool = False


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True, slots=True)
class Plan:
    """The static half of a frame. Hashable, as it is part of the type of the step's hidden output.

    Attributes:
        entries: the reports.
        step: the position of the step, if the program computes it.
        chunk: the chunk of a loop that the frame holds, if it holds one.
        steps_taken: how many steps the call took, if not one.
        has_targets: whether any report names its run, so that the frame must be split.
        vector_names: the names of the packed vectors that hold the step and the entries, sorted.
    """

    entries: tuple[Entry, ...]
    step: Slot | None = None
    chunk: LoopChunk | None = None
    steps_taken: int | None = None
    has_targets: bool = dataclasses.field(init=False, compare=False)
    vector_names: tuple[str, ...] = dataclasses.field(init=False, compare=False)

    def __post_init__(self) -> None:
        has_targets = any(entry.spec.target is not None for entry in self.entries)
        slots = jax.tree.leaves([self.step, *((e.slots, e.weight, e.step) for e in self.entries)])
        names = {slot.dtype for slot in slots if isinstance(slot, Slot)}
        # A frozen class allows no assignment.
        object.__setattr__(self, "has_targets", has_targets)
        object.__setattr__(self, "vector_names", tuple(sorted(names)))

    @property
    def tags(self) -> tuple[str, ...]:
        """The tags of the reports, in the order of ``entries``."""
        return tuple(entry.spec.tag for entry in self.entries)

    @property
    def array_names(self) -> tuple[str, ...]:
        """The names of all arrays that leave with this plan, sorted, those from before a loop included."""
        before = None if self.chunk is None else self.chunk.before
        names = self.vector_names
        return names if before is None else tuple(sorted({*names, *before.array_names}))

    def vectors(self, arrays: Mapping[str, Any]) -> tuple[Any, ...]:
        """Return the packed vectors, without other arrays, in the order of ``vector_names``."""
        return tuple([arrays[name] for name in self.vector_names])


class Packed(NamedTuple):
    """A plan and its arrays as one pytree: the form in which a frame leaves a jitted step.

    The plan is part of the tree's structure. JAX's own cache thus pairs it with the right executable when
    one function is compiled for several shapes.

    Attributes:
        plan: the contents of ``arrays``.
        arrays: dtype name -> vector.
    """

    plan: Plan
    arrays: dict[str, Any]


class Frame:
    """The reports of one call, on their way to the flusher.

    Attributes:
        plan: the contents of ``vectors``.
        vectors: the packed vectors, in the order of :attr:`Plan.vector_names`: device arrays, which may not be
            computed yet, or NumPy arrays. A tuple, as each call makes one.
        step: the step of the call; None if the program computed it (see :attr:`Plan.step`).
        wall_time: the time of the call, in seconds since the epoch.
        open: whether the step may receive more values, as the step of an evaluation may, or one that the user
            computes.
    """

    __slots__ = ("open", "plan", "step", "vectors", "wall_time")

    def __init__(
        self,
        plan: Plan,
        vectors: tuple[Any, ...],
        step: int | None,
        wall_time: float,
        open: bool = False,  # noqa: A002 (a step is open, like a file)
    ):
        self.plan = plan
        self.vectors = vectors
        self.step = step
        self.wall_time = wall_time
        self.open = open

    @property
    def nbytes(self) -> int:
        """The size of the vectors in bytes."""
        return sum(vector.nbytes for vector in self.vectors)

    @property
    def count(self) -> int:
        """The number of reports."""
        chunk = self.plan.chunk
        return len(self.plan.entries) * (1 if chunk is None else chunk.size)

    def wait(self) -> None:
        """Wait for the device, and raise what the computation raised."""
        jax.block_until_ready(self.vectors)


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class FrameBatch:
    """Frames of N steps with one plan, stacked: the iterations of a loop chunk, or consecutive calls.

    Attributes:
        plan: the plan of every frame.
        arrays: dtype name -> NumPy array [N, ...].
        steps: int64[N].
        wall_times: float64[N], in seconds since the epoch.
        open: see :class:`Frame`.
    """

    plan: Plan
    arrays: dict[str, np.ndarray]
    steps: np.ndarray
    wall_times: np.ndarray
    open: bool = False

    @property
    def nbytes(self) -> int:
        """The size of the arrays in bytes."""
        return sum(array.nbytes for array in self.arrays.values())

    @property
    def count(self) -> int:
        """The number of reports."""
        return len(self.plan.entries) * len(self.steps)

    @classmethod
    def stack(cls, frames: list[Frame]) -> FrameBatch:
        """Stack frames of one plan whose vectors are NumPy arrays."""
        first = frames[0]
        # This takes a quarter of the time of np.stack.
        count = len(frames)
        arrays = {
            name: np.concatenate(vectors).reshape(count, *vectors[0].shape)
            for name, vectors in zip(
                first.plan.vector_names,
                zip(*[frame.vectors for frame in frames], strict=True),
                strict=True,
            )
        }
        if first.plan.step is None:
            steps = np.array([frame.step for frame in frames], np.int64)
        else:
            steps = first.plan.step.read(arrays).astype(np.int64)
        return cls(first.plan, arrays, steps, np.array([f.wall_time for f in frames]), first.open)

    @classmethod
    def concatenate(cls, batches: list[FrameBatch]) -> FrameBatch:
        """Concatenate batches of one plan."""
        first = batches[0]
        if len(batches) == 1:
            return first
        arrays = {
            name: np.concatenate([batch.arrays[name] for batch in batches]) for name in first.arrays
        }
        steps = np.concatenate([batch.steps for batch in batches])
        walls = np.concatenate([batch.wall_times for batch in batches])
        return cls(first.plan, arrays, steps, walls, first.open)

    def rows(self, selected: np.ndarray, *, open: bool) -> FrameBatch:  # noqa: A002 (see Frame)
        """Return the frames that ``selected``, bool[N], selects."""
        arrays = {name: array[selected] for name, array in self.arrays.items()}
        steps, wall_times = self.steps[selected], self.wall_times[selected]
        return FrameBatch(self.plan, arrays, steps, wall_times, open)


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Observation:
    """A report from plain Python: one value of a point that may receive more.

    Attributes:
        spec: the report.
        state: its accumulator, of NumPy arrays.
        step: the step it belongs to.
        wall_time: when it was reported, in seconds since the epoch.
        explicit_step: whether the user passed ``step=``; False if it is the run's step.
    """

    spec: ReportSpec
    state: PyTree
    step: int
    wall_time: float
    explicit_step: bool = False

    @property
    def nbytes(self) -> int:
        """The size of the accumulator in bytes."""
        return sum(np.asarray(leaf).nbytes for leaf in jax.tree.leaves(self.state))


@dataclasses.dataclass(slots=True, eq=False)
class Number:
    """A number reported from plain Python: one value of a point that may receive more.

    It has no accumulator. The flusher starts those of many numbers in one operation.

    Attributes:
        spec: the report.
        value: a NumPy scalar, or an array of rank 0 on a device, which may not be computed yet.
        weight: its weight, of rank 0 and on the host; None for a weight of 1.
        step, wall_time, explicit_step: see :class:`Observation`.
        nbytes: the largest size of the value in bytes.
    """

    spec: ReportSpec
    value: jax.Array | np.generic
    weight: np.ndarray | None
    step: int
    wall_time: float
    explicit_step: bool
    nbytes: ClassVar[int] = 8

    def wait(self) -> None:
        """Wait for the device, and raise what the computation raised."""
        jax.block_until_ready(self.value)

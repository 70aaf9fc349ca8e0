"""Complete points, as the assembler hands them to the sinks and to the monitor."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, TypeAlias, cast

import numpy as np

from jaxboard._frame import ReportSpec
from jaxboard._reduce.finishing import Finish, finish_values
from jaxboard._reduce.gradient_noise import NoiseScale
from jaxboard._reduce.kept import Kept
from jaxboard._reduce.layer_health import LayerHealth
from jaxboard._reduce.metric import MetricValues
from jaxboard._reduce.named_values import NamedValues
from jaxboard._reduce.norms import Norms
from jaxboard._reduce.stack import Stack
from jaxboard._reduce.stacked_histograms import HistogramStack
from jaxboard.records import Batch, Kind, Record, Scalars


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class NormsPoint:
    """The norms of a watched pytree at one step. Sinks receive them as scalars.

    Attributes:
        tag: the tag of the report.
        step: the step.
        wall_time: in seconds since the epoch.
        norms: the norms of every leaf.
        run: see :attr:`jaxboard.records.Record.run`.
    """

    tag: str
    step: int
    wall_time: float
    norms: Norms
    run: str = ""

    def scalars(self) -> Scalars:
        """Return the norms as one row of scalars."""
        return self.norms.scalars(self.tag, self.step, self.wall_time, self.run)


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class HealthPoint:
    """The health of the layers of a model at one step. Sinks receive it as scalars, and as what the monitor makes of it.

    Attributes:
        tag: the tag of the report.
        step: the step.
        wall_time: in seconds since the epoch.
        health: the statistics of the layers.
        run: see :attr:`jaxboard.records.Record.run`.
    """

    tag: str
    step: int
    wall_time: float
    health: LayerHealth
    run: str = ""

    def scalars(self) -> Scalars:
        """Return the statistics as one row of scalars."""
        return self.health.scalars(self.tag, self.step, self.wall_time, self.run)

    def norms(self) -> Iterator[NormsPoint]:
        """Yield the norms of the parameters, the gradients and the updates."""
        for name, norms in self.health.norms():
            tag = f"{self.tag}/{name}"
            yield NormsPoint(tag, self.step, self.wall_time, norms, self.run)


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class FailedPoint:
    """A point that the user's function of its value did not make.

    Attributes:
        tag: the tag of the report.
        step: the step.
        wall_time: in seconds since the epoch.
        fault: what the function raised.
        run: see :attr:`jaxboard.records.Record.run`.
    """

    tag: str
    step: int
    wall_time: float
    fault: Exception
    run: str = ""


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class KeptPoint:
    """The array that :func:`jaxboard.keep` keeps of one step. Sinks do not receive it.

    Attributes:
        tag: the name.
        step: the step.
        wall_time: in seconds since the epoch.
        value: the array.
        run: see :attr:`jaxboard.records.Record.run`.
    """

    tag: str
    step: int
    wall_time: float
    value: np.ndarray
    run: str = ""


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class StackPoint:
    """The scalars of the layers of a stack at one step, for a picture of them. Sinks receive them as scalars.

    Attributes:
        tag: the tag of the report, with its ``{}``.
        step: the step.
        wall_time: in seconds since the epoch.
        stack: the scalars.
        run: see :attr:`jaxboard.records.Record.run`.
    """

    tag: str
    step: int
    wall_time: float
    stack: Stack
    run: str = ""


Composed: TypeAlias = NormsPoint | HealthPoint
"""A point that sinks receive as one row of scalars."""

SinglePoint: TypeAlias = Record | Composed | FailedPoint | KeptPoint | StackPoint
"""One complete point."""

Point: TypeAlias = SinglePoint | Scalars
"""One complete point, or several in columns."""


class Assembled(NamedTuple):
    """The points that became complete together.

    Attributes:
        items: all other points, as sinks receive them.
        norms: the norms, in which the monitor finds the leaf that is not finite.
        failed: the points that could not be made, which sinks do not receive.
        health: the health of layers, in which the monitors find the layer that dies, explodes or is not finite.
        kept: the arrays that are kept, which sinks do not receive.
        stacks: the layers of stacks, whose scalars are in ``items``, for their pictures.
    """

    items: Batch
    norms: list[NormsPoint]
    failed: Sequence[FailedPoint] = ()
    health: Sequence[HealthPoint] = ()
    kept: Sequence[KeptPoint] = ()
    stacks: Sequence[StackPoint] = ()

    @classmethod
    def of(cls, points: Iterable[Point]) -> Assembled:
        """Separate norms, failed points, kept arrays and stacks from other points, and keep the order of each."""
        items: Batch = []
        norms: list[NormsPoint] = []
        failed: list[FailedPoint] = []
        health: list[HealthPoint] = []
        kept: list[KeptPoint] = []
        stacks: list[StackPoint] = []
        for point in points:
            if isinstance(point, NormsPoint):
                norms.append(point)
            elif isinstance(point, HealthPoint):
                health.append(point)
            elif isinstance(point, FailedPoint):
                failed.append(point)
            elif isinstance(point, KeptPoint):
                kept.append(point)
            elif isinstance(point, StackPoint):
                stacks.append(point)
            else:
                items.append(point)
        return cls(items, norms, failed, health, kept, stacks)

    @property
    def batch(self) -> Batch:
        """All points as sinks receive them."""
        return [*self.items, *(point.scalars() for point in (*self.norms, *self.health))]

    @property
    def all_norms(self) -> Iterator[NormsPoint]:
        """The norms of watched trees, then those of layers."""
        yield from self.norms
        for point in self.health:
            yield from point.norms()


def make_points(  # noqa: C901 (one branch for each kind of point)
    spec: ReportSpec, step: int, wall_time: float, value: object, lane: str = ""
) -> Iterator[Point]:
    """Yield the points of a report: one, or several of a composite.

    Args:
        spec: the report.
        step: the step of the points.
        wall_time: in seconds since the epoch.
        value: the result of the report's reducer.
        lane: the name of the seed run; "" for points of the report's run.
    """
    run = join_runs(spec.run, lane)
    if isinstance(value, Stack) and spec.finish is not None:
        finished = finish_values(cast("Finish", spec.finish), value.values, np.array(True))
        for (row,), fault in finished.faults.items():
            yield FailedPoint(value.tags(spec.tag)[row], step, wall_time, fault, run)
        kept = finished.has_value
        if not kept.any():
            return
        value = Stack(value.axes, value.places[kept], finished.values[kept])
    if isinstance(value, Stack) and value.axes and "{}" in spec.tag:
        yield StackPoint(spec.tag, step, wall_time, value, run)
    if isinstance(value, NamedValues | HistogramStack):
        for tag, each in value.tagged(spec.tag):
            yield Record(value.kind, tag, step, wall_time, each, run)
    elif isinstance(value, Norms):
        yield NormsPoint(spec.tag, step, wall_time, value, run)
    elif isinstance(value, LayerHealth):
        yield HealthPoint(spec.tag, step, wall_time, value, run)
    elif isinstance(value, Exception):
        yield FailedPoint(spec.tag, step, wall_time, value, run)
    elif isinstance(value, Kept):
        yield KeptPoint(spec.tag, step, wall_time, value.values, run)
    elif isinstance(value, Stack | MetricValues | NoiseScale):
        yield value.scalars(spec.tag, step, wall_time, run)
    else:
        yield Record(cast("Kind", spec.kind), spec.tag, step, wall_time, value, run)


def join_runs(run: str, below: str) -> str:
    """Return the relative path of the run ``below`` a run; either may be ""."""
    return f"{run}/{below}" if run and below else run or below

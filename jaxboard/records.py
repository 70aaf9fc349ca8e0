"""What reaches a sink: NumPy values with a tag, a step and the wall time at which they were made.

Nothing here knows of JAX, of a device, or of TensorBoard. A new kind of report is one member of
:class:`Kind`, one verb in ``_emit`` and one row in ``sinks/_encoding.py``.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Iterable, Iterator
from typing import Any, TypeAlias

import numpy as np


class Kind(enum.Enum):
    """What a value is, and so which dashboard shows it."""

    SCALAR = "scalar"
    HISTOGRAM = "histogram"
    IMAGE = "image"
    TEXT = "text"
    HPARAMS = "hparams"
    NORMS = "norms"  # becomes scalars before a sink sees it
    STACK = "stack"  # so does this


@dataclasses.dataclass(frozen=True, slots=True)
class Histogram:
    """How the finite elements of an array are distributed.

    Attributes:
        edges: float64[k + 1], ascending; the first is the minimum, the last the maximum.
        counts: int64[k]; how many elements lie in ``[edges[i], edges[i + 1])``, the last bucket
            including its right edge. A constant array has one bucket with equal edges, and an
            array without a finite element has none (``edges`` is then empty too).
        nan: how many elements are NaN. These and the infinite ones are in no bucket.
        posinf: how many are +inf.
        neginf: how many are -inf.
        zeros: how many are zero; they are in the buckets too.
        sum: of the finite elements.
        sum_squares: of the finite elements; on a device summed in float32, so infinite from 3e38 on.
    """

    edges: np.ndarray
    counts: np.ndarray
    nan: int = 0
    posinf: int = 0
    neginf: int = 0
    zeros: int = 0
    sum: float = 0.0
    sum_squares: float = 0.0

    @property
    def nonfinite(self) -> int:
        """How many elements are NaN or infinite."""
        return self.nan + self.posinf + self.neginf


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Stack:
    """Scalars that lanes, iterations or devices reported, each at its place.

    Attributes:
        places: int64[K], ascending; places that nothing was reported at are left out.
        values: [K], the mean of what was reported there.
    """

    places: np.ndarray
    values: np.ndarray

    def scalars(self, tag: str, step: int, wall_time: float, run: str = "") -> Scalars:
        """One row: a tag for each place."""
        tags = tuple(f"{tag}/{place}" for place in self.places)
        return Scalars(tags, np.array([step]), np.array([wall_time]), self.values[None], run)


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Norms:
    """What was measured of the L leaves of a pytree, in each observation on average.

    Attributes:
        names: of the leaves; "" is a tree that is one array.
        sizes: int64[L], elements of each.
        what: what is asked for, in the order it is shown in.
        squares: float64[L], the sum of the squares of each leaf.
        relative: float64[L], the same of the tree that it is compared with.
        largest: float64[L], the largest magnitude in any observation.
        nonfinite: float64[L], elements that are NaN or infinite in all observations.
    """

    names: tuple[str, ...]
    sizes: np.ndarray
    what: tuple[str, ...]
    squares: np.ndarray
    relative: np.ndarray
    largest: np.ndarray
    nonfinite: np.ndarray

    @property
    def norms(self) -> np.ndarray:
        """float64[L]: of each leaf."""
        return np.sqrt(self.squares)

    def scalars(self, tag: str, step: int, wall_time: float, run: str = "") -> Scalars:
        """One row: each of ``what`` of the whole tree, then of each leaf. What is of nothing is left out."""
        points: dict[str, float] = {}
        for what in self.what:
            whole, each = self._values(what)
            points[f"{tag}/{what}"] = whole
            if self.names != ("",):
                tags = [f"{tag}/{what}/{name}" for name in self.names]
                kept = self.relative != 0 if what == "ratio" else np.ones(len(each), bool)
                points |= {
                    t: value for t, value, keep in zip(tags, each, kept, strict=True) if keep
                }
        if not self.relative.any():
            points.pop(f"{tag}/ratio", None)
        values = np.array([list(points.values())])
        return Scalars(tuple(points), np.array([step]), np.array([wall_time]), values, run)

    def _values(self, what: str) -> tuple[Any, np.ndarray]:
        total = self.squares.sum()
        with np.errstate(divide="ignore", invalid="ignore"):
            match what:
                case "norm":
                    return np.sqrt(total), self.norms
                case "rms":
                    sizes = np.maximum(self.sizes, 1)
                    return np.sqrt(total / sizes.sum()), np.sqrt(self.squares / sizes)
                case "max":
                    return self.largest.max(), self.largest
                case "nonfinite":
                    return self.nonfinite.sum(), self.nonfinite
                case _:
                    of_all = np.sqrt(total / self.relative.sum())
                    return of_all, np.sqrt(self.squares / self.relative)


@dataclasses.dataclass(frozen=True, slots=True)
class EncodedImage:
    """A picture that is compressed already (a rendered figure).

    Attributes:
        data: a PNG, JPEG, GIF or WebP file.
        width: in pixels.
        height: in pixels.
    """

    data: bytes
    width: int
    height: int


@dataclasses.dataclass(frozen=True, slots=True)
class Record:
    """One value of one tag at one step.

    Attributes:
        kind: what ``value`` is.
        tag: the name it is shown under, scopes included.
        step: the training step it belongs to.
        wall_time: seconds since the epoch, read when the value was reported, not when written.
        value: by kind: SCALAR a NumPy scalar, HISTOGRAM a :class:`Histogram`, IMAGE a uint8 array
            [N, H, W, C] (C is 1, 3 or 4) or an :class:`EncodedImage`, TEXT a str (Markdown) or a
            list of rows of str (a table, its header first), HPARAMS a dict, NORMS :class:`Norms`,
            STACK :class:`Stack`.
        run: which run beneath that of the sink it belongs to, as a relative path (``"seed_3"``); "" is
            the sink's own.
    """

    kind: Kind
    tag: str
    step: int
    wall_time: float
    value: Any
    run: str = ""

    @property
    def nbytes(self) -> int:
        """How large the value is. Tables and mappings count as nothing: people type them."""
        match self.value:
            case EncodedImage(data) | str(data):
                return len(data)
            case Histogram(edges, counts):
                return edges.nbytes + counts.nbytes
            case value:
                return getattr(value, "nbytes", 0)


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Scalars:
    """Many scalars in columns: the values of one set of tags over many steps.

    A fast step makes a hundred thousand scalars a second, too many to make a :class:`Record` of
    each while the user's own thread wants the interpreter. Iterating yields them as records.

    Attributes:
        tags: K tags.
        steps: int64[N].
        wall_times: float64[N], seconds since the epoch.
        values: N by K, one real dtype.
        run: see :class:`Record`.
    """

    tags: tuple[str, ...]
    steps: np.ndarray
    wall_times: np.ndarray
    values: np.ndarray
    run: str = ""

    @property
    def nbytes(self) -> int:
        """How large the values are, with their steps and times."""
        return self.values.nbytes + self.steps.nbytes + self.wall_times.nbytes

    def __iter__(self) -> Iterator[Record]:
        for step, wall_time, row in zip(self.steps, self.wall_times, self.values, strict=True):
            for tag, value in zip(self.tags, row, strict=True):
                yield Record(Kind.SCALAR, tag, int(step), float(wall_time), value, self.run)


Batch: TypeAlias = list[Record | Scalars]


def size_of(batch: Batch) -> int:
    """How many points a batch holds."""
    return sum(item.values.size if isinstance(item, Scalars) else 1 for item in batch)


"""What a sink is handed at once."""


def records(batch: Iterable[Record | Scalars]) -> Iterator[Record]:
    """Everything in a batch as single records."""
    for item in batch:
        if isinstance(item, Record):
            yield item
        else:
            yield from item

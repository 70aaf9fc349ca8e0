"""The records that a sink receives: NumPy values, each with a tag, a step and a wall time.

This module imports neither JAX nor TensorBoard. To write a sink of your own, see
:class:`jaxboard.sinks.Sink`; to check what a program reports, see :func:`jaxboard.testing.capture`.

A new kind of report needs a member of :class:`Kind`, a verb in ``_emit``, an entry in ``KINDS``
(``_reduce/kinds.py``) and an encoder in ``sinks/_encoding.py``.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeAlias

import numpy as np

from jaxboard._values import (
    ConfusionMatrix,
    Embedding,
    Margin,
    Mesh,
    MetricGoals,
    PluginTensor,
    ThresholdCounts,
)

__all__ = [
    "Audio",
    "Batch",
    "ConfusionMatrix",
    "Embedding",
    "EncodedImage",
    "Graph",
    "GraphNode",
    "Histogram",
    "Kind",
    "Margin",
    "Mesh",
    "MetricGoals",
    "PluginTensor",
    "Record",
    "Scalars",
    "ThresholdCounts",
    "Video",
    "records",
]


class Kind(enum.Enum):
    """The kind of a record: it sets the type of the value, and the dashboard that shows it.

    Attributes:
        SCALAR: the value is a NumPy scalar.
        HISTOGRAM: the value is a :class:`Histogram`.
        IMAGE: the value is uint8[N, H, W, C] with 1, 3 or 4 channels, an :class:`EncodedImage`, or a tuple of those.
        TEXT: the value is a str (Markdown), or a list of rows of str (a table, header first).
        HPARAMS: the value is a dict of hyperparameters.
        PR_CURVE: the value is a :class:`ThresholdCounts`, shown as precision over recall.
        ROC_CURVE: the value is a :class:`ThresholdCounts`, shown as true over false positive rate.
        CONFUSION_MATRIX: the value is a :class:`ConfusionMatrix`.
        METRICS: the value is a :class:`MetricGoals`.
        LAYOUT: the value is a dict of categories, each a dict of charts, each a tuple of regular expressions of
            tags, or of :class:`Margin`.
        EMBEDDING: the value is an :class:`Embedding`.
        TENSOR: the value is a :class:`PluginTensor`.
        GRAPH: the value is a :class:`Graph`. If the tag is empty, it is the graph of the whole run.
        AUDIO: the value is an :class:`Audio`.
        VIDEO: the value is a :class:`Video`.
        MESH: the value is a :class:`Mesh`.
        EVENT: the value is bytes, a serialized ``Event`` of TensorBoard. Its step and wall time are those of the record,
            and the tag is empty.

    Example:
        >>> from jaxboard.records import Kind
        >>> Kind("scalar") is Kind.SCALAR
        True
    """

    SCALAR = "scalar"
    HISTOGRAM = "histogram"
    IMAGE = "image"
    TEXT = "text"
    HPARAMS = "hparams"
    PR_CURVE = "pr_curve"
    ROC_CURVE = "roc_curve"
    CONFUSION_MATRIX = "confusion_matrix"
    METRICS = "metrics"
    LAYOUT = "layout"
    EMBEDDING = "embedding"
    TENSOR = "tensor"
    GRAPH = "graph"
    AUDIO = "audio"
    VIDEO = "video"
    MESH = "mesh"
    EVENT = "event"


@dataclasses.dataclass(frozen=True, slots=True)
class Audio:
    """Sounds of one length.

    Attributes:
        samples: int16[N, T, C]: N sounds of T samples in C channels.
        sample_rate: how many samples are one second, in Hz.

    Example:
        >>> import numpy as np
        >>> from jaxboard.records import Audio
        >>> Audio(np.zeros((1, 16000, 2), np.int16), sample_rate=16000).seconds
        1.0
    """

    samples: np.ndarray
    sample_rate: int

    @property
    def seconds(self) -> float:
        """The length of each sound in seconds."""
        return self.samples.shape[1] / self.sample_rate

    @property
    def nbytes(self) -> int:
        """The size of the samples in bytes."""
        return self.samples.nbytes


@dataclasses.dataclass(frozen=True, slots=True)
class Histogram:
    """The distribution of the elements of an array.

    Only finite elements are in the buckets. NaN and infinite elements are counted separately.

    Attributes:
        edges: float64[k + 1], ascending. The first is the minimum, the last the maximum, unless ``bins=`` or ``edges=``
            sets them. An array without a finite element has no edges; a constant array has one bucket with equal edges.
        counts: int64[k], the number of elements in ``[edges[i], edges[i + 1])``. The last bucket
            includes its right edge.
        nan: the number of NaN elements.
        posinf: the number of elements that are +inf.
        neginf: the number of elements that are -inf.
        zeros: the number of zeros, which are in the buckets too.
        sum: the sum of the finite elements.
        sum_squares: the sum of their squares. A device adds in float32, which overflows to inf from
            3e38.
        outside: the number of finite elements that are outside of the edges that ``bins=`` sets.

    Example:
        >>> import numpy as np
        >>> from jaxboard.records import Histogram
        >>> Histogram(np.array([0.0, 1.0, 2.0]), np.array([5, 3]), nan=1, posinf=1).nonfinite
        2
    """

    edges: np.ndarray
    counts: np.ndarray
    nan: int = 0
    posinf: int = 0
    neginf: int = 0
    zeros: int = 0
    sum: float = 0.0
    sum_squares: float = 0.0
    outside: int = 0

    @property
    def nonfinite(self) -> int:
        """The number of elements that are NaN or infinite."""
        return self.nan + self.posinf + self.neginf

    @property
    def nbytes(self) -> int:
        """The size of the edges and counts in bytes."""
        return self.edges.nbytes + self.counts.nbytes


@dataclasses.dataclass(frozen=True, slots=True)
class EncodedImage:
    """An image that is already compressed, for example a rendered figure.

    Attributes:
        data: the content of a PNG, JPEG, GIF or WebP file.
        width: the width in pixels.
        height: the height in pixels.

    Example:
        >>> from jaxboard.records import EncodedImage
        >>> EncodedImage(data=b"GIF89a...", width=640, height=480).nbytes
        9
    """

    data: bytes
    width: int
    height: int

    @property
    def nbytes(self) -> int:
        """The size of the file in bytes."""
        return len(self.data)


@dataclasses.dataclass(frozen=True, slots=True)
class GraphNode:
    """An operation of a :class:`Graph`.

    Attributes:
        name: the unique path of the node: its scopes and its own name, joined by ``/``.
        op: what the node computes, for example ``dot_general``.
        inputs: the outputs of other nodes that it reads: ``name`` for the first output of a node, ``name:1`` for the
            second.
        outputs: the dtype and the shape of each output. None is a dimension of unknown size.
        attributes: what else is shown of the node.

    Example:
        >>> from jaxboard.records import GraphNode
        >>> node = GraphNode("mlp/add", "add", ("mlp/dot", "b"), (("float32", (8,)),), {"flops": "8"})
        >>> node.nbytes
        24
    """

    name: str
    op: str
    inputs: tuple[str, ...] = ()
    outputs: tuple[tuple[str, tuple[int | None, ...]], ...] = ()
    attributes: Mapping[str, str] = dataclasses.field(default_factory=dict[str, str])

    @property
    def nbytes(self) -> int:
        """The length of the texts in characters."""
        texts = (self.name, self.op, *self.inputs, *self.attributes, *self.attributes.values())
        return sum(map(len, texts))


@dataclasses.dataclass(frozen=True, slots=True)
class Graph:
    """The operations of a function.

    Attributes:
        nodes: the operations. Each name occurs once.

    Example:
        >>> from jaxboard.records import Graph, GraphNode
        >>> graph = Graph((GraphNode("x", "input"), GraphNode("y", "sin", ("x",))))
        >>> [node.op for node in graph.nodes]
        ['input', 'sin']
    """

    nodes: tuple[GraphNode, ...]

    @property
    def nbytes(self) -> int:
        """The size of all nodes in bytes, approximately."""
        return sum(node.nbytes for node in self.nodes)


@dataclasses.dataclass(frozen=True, slots=True)
class Video:
    """Videos of one size and length.

    Attributes:
        frames: uint8[N, T, H, W, C]: N videos of T frames with 1 or 3 channels.
        fps: frames per second.

    Example:
        >>> import numpy as np
        >>> from jaxboard.records import Video
        >>> Video(np.zeros((1, 8, 32, 32, 3), np.uint8), fps=4.0).seconds
        2.0
    """

    frames: np.ndarray
    fps: float

    @property
    def seconds(self) -> float:
        """The length of each video in seconds."""
        return self.frames.shape[1] / self.fps

    @property
    def nbytes(self) -> int:
        """The size of the frames in bytes."""
        return self.frames.nbytes


@dataclasses.dataclass(frozen=True, slots=True)
class Record:
    """One value of one tag at one step.

    Attributes:
        kind: what ``value`` is.
        tag: the name that a dashboard shows, scopes included.
        step: the training step that the value belongs to.
        wall_time: when the value was reported, in seconds since the epoch.
        value: a value of the type that :class:`Kind` documents.
        run: the run that the record belongs to, as a path relative to the sink's run
            (``"seed_3"``). The empty string is the sink's own run.

    Example:
        >>> import numpy as np
        >>> from jaxboard.records import Kind, Record
        >>> record = Record(Kind.SCALAR, "train/loss", 7, 1700000000.0, np.float32(0.5))
        >>> record.tag, record.step, record.nbytes
        ('train/loss', 7, 4)
    """

    kind: Kind
    tag: str
    step: int
    wall_time: float
    value: Any
    run: str = ""

    @property
    def nbytes(self) -> int:
        """The size of the value in bytes. Tables and mappings count as 0: they are small."""
        if isinstance(self.value, str | bytes):
            return len(self.value)
        parts: tuple[Any, ...] = self.value if isinstance(self.value, tuple) else (self.value,)
        return sum(getattr(part, "nbytes", 0) for part in parts)


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Scalars:
    """Scalars in columns: the values of K tags at N steps.

    A fast step makes 100,000 scalars per second. One :class:`Record` for each would take too much of the
    interpreter from the training loop. Iterating over the columns yields records.

    Attributes:
        tags: the K tags.
        steps: int64[N].
        wall_times: float64[N], in seconds since the epoch.
        values: [N, K], of one real dtype.
        run: the run of all the scalars (see :class:`Record`).

    Example:
        >>> import numpy as np
        >>> from jaxboard.records import Scalars
        >>> columns = Scalars(("loss",), np.arange(2), np.zeros(2), np.array([[3.0], [2.0]]))
        >>> [(record.tag, record.step, float(record.value)) for record in columns]
        [('loss', 0, 3.0), ('loss', 1, 2.0)]
    """

    tags: tuple[str, ...]
    steps: np.ndarray
    wall_times: np.ndarray
    values: np.ndarray
    run: str = ""

    @property
    def nbytes(self) -> int:
        """The size of the values, steps and wall times in bytes."""
        return self.values.nbytes + self.steps.nbytes + self.wall_times.nbytes

    def __iter__(self) -> Iterator[Record]:
        for step, wall_time, row in zip(self.steps, self.wall_times, self.values, strict=True):
            for tag, value in zip(self.tags, row, strict=True):
                yield Record(Kind.SCALAR, tag, int(step), float(wall_time), value, self.run)


Batch: TypeAlias = list[Record | Scalars]
"""The argument of ``Sink.write``: records and columns of scalars."""


def records(batch: Iterable[Record | Scalars]) -> Iterator[Record]:
    """Yield everything in a batch as single records.

    Example:
        >>> import numpy as np
        >>> from jaxboard.records import Kind, Record, Scalars, records
        >>> columns = Scalars(("a", "b"), np.array([4]), np.zeros(1), np.array([[1.0, 2.0]]))
        >>> batch = [columns, Record(Kind.TEXT, "notes", 4, 0.0, "first try")]
        >>> [(record.kind.value, record.tag) for record in records(batch)]
        [('scalar', 'a'), ('scalar', 'b'), ('text', 'notes')]
    """
    for item in batch:
        if isinstance(item, Record):
            yield item
        else:
            yield from item


def size_of(batch: Batch) -> int:
    """Return the number of points in a batch."""
    return sum(item.values.size if isinstance(item, Scalars) else 1 for item in batch)


def flatten(tree: Mapping[Any, object], prefix: str = "") -> dict[str, object]:
    """Return nested mappings as one dict, with the names on the way to each value joined by ``/``.

    Arrays of rank 0, of NumPy or of JAX, become Python numbers.

    Example:
        >>> flatten({"optimizer": {"lr": np.float32(0.5)}, "layers": 3})
        {'optimizer/lr': 0.5, 'layers': 3}
    """
    flat: dict[str, object] = {}
    for name, value in tree.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{name}/")
        else:
            flat[f"{prefix}{name}"] = _as_python_number(value)
    return flat


def _as_python_number(value: object) -> object:
    """Return an array of rank 0 as a Python number, other values as they are."""
    item = getattr(value, "item", None)
    return item() if item is not None and getattr(value, "shape", None) == () else value

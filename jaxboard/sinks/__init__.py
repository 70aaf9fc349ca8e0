"""Sinks, which write the records of a run, and the types that a sink receives.

``Run(logdir)`` writes event files through a :class:`TensorBoardSink`. ``Run(logdir, sinks=[...])`` writes to other
sinks instead. To write both, pass both: ``sinks=[TensorBoardSink(logdir), MySink()]``. A sink of your own is a
subclass of :class:`Sink` and needs no import from elsewhere in jaxboard.
"""

from jaxboard.records import (
    Audio,
    Batch,
    EncodedImage,
    Graph,
    GraphNode,
    Histogram,
    Kind,
    Mesh,
    Record,
    Scalars,
    Video,
    records,
)
from jaxboard.sinks._protocol import Sink
from jaxboard.sinks.memory import MemorySink
from jaxboard.sinks.tensorboard import TensorBoardSink

__all__ = [
    "Audio",
    "Batch",
    "EncodedImage",
    "Graph",
    "GraphNode",
    "Histogram",
    "Kind",
    "MemorySink",
    "Mesh",
    "Record",
    "Scalars",
    "Sink",
    "TensorBoardSink",
    "Video",
    "records",
]

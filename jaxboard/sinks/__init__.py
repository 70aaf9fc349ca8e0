"""Sinks, which write the records of a run, and the types that a sink receives.

``Run(logdir)`` writes event files through a :class:`TensorBoardSink`. ``Run(logdir, sinks=[...])`` writes to other
sinks instead. To write both, pass both: ``sinks=[TensorBoardSink(logdir), MySink()]``. A sink of your own is a
subclass of :class:`Sink` and needs no import from elsewhere in jaxboard.
"""

from jaxboard.records import (
    Audio,
    Batch,
    ConfusionMatrix,
    Embedding,
    EncodedImage,
    Graph,
    GraphNode,
    Histogram,
    Kind,
    Margin,
    Mesh,
    MetricGoals,
    PluginTensor,
    Record,
    Scalars,
    ThresholdCounts,
    Video,
    records,
)
from jaxboard.sinks._protocol import Sink
from jaxboard.sinks.memory import MemorySink
from jaxboard.sinks.mlflow import MLflowSink
from jaxboard.sinks.tensorboard import TensorBoardSink
from jaxboard.sinks.trackio import TrackioSink
from jaxboard.sinks.wandb import WandbSink

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
    "MLflowSink",
    "Margin",
    "MemorySink",
    "Mesh",
    "MetricGoals",
    "PluginTensor",
    "Record",
    "Scalars",
    "Sink",
    "TensorBoardSink",
    "ThresholdCounts",
    "TrackioSink",
    "Video",
    "WandbSink",
    "records",
]

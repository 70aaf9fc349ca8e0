"""TensorBoard's protobuf messages.

They are wire-identical to TensorFlow's and need no TensorFlow. Their modules build the classes at import,
which type checkers cannot follow. The classes are therefore ``Any``, here and nowhere else.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any, Protocol


class Message(Protocol):
    """A protobuf message, as far as this package uses one without knowing its type."""

    def SerializeToString(self) -> bytes:  # noqa: N802 (protobuf's name)
        """Return the message in wire format."""
        ...


def _module(name: str) -> Any:
    return importlib.import_module(f"tensorboard.{name}")


_event = _module("compat.proto.event_pb2")
_summary = _module("compat.proto.summary_pb2")
_tensor = _module("compat.proto.tensor_pb2")

HIDING = "obsolete_old_style_histogram"
"""The type of the values that hide points of their tag; see :func:`jaxboard.sinks._encoding.restart`. No reader shows them."""

Event: Any = _event.Event
SessionLog: Any = _event.SessionLog
SourceMetadata: Any = _event.SourceMetadata
Summary: Any = _summary.Summary
SummaryMetadata: Any = _summary.SummaryMetadata
TensorProto: Any = _tensor.TensorProto
GraphDef: Any = _module("compat.proto.graph_pb2").GraphDef
RunMetadata: Any = _module("compat.proto.config_pb2").RunMetadata
types: Any = _module("compat.proto.types_pb2")
projector: Any = _module("plugins.projector.projector_config_pb2")
layout: Any = _module("plugins.custom_scalar.layout_pb2")
pr_curve: Any = _module("plugins.pr_curve.plugin_data_pb2")
audio_data: Any = _module("plugins.audio.plugin_data_pb2")
mesh_data: Any = _module("plugins.mesh.plugin_data_pb2")
hparams: Any = _module("plugins.hparams.metadata")
hparams_data: Any = _module("plugins.hparams.plugin_data_pb2")
DecodeError: Any = importlib.import_module("google.protobuf.message").DecodeError
hparams_api: Any = _module("plugins.hparams.api_pb2")
DATA_CLASSES: Mapping[str, int] = {
    "scalar": _summary.DATA_CLASS_SCALAR,
    "tensor": _summary.DATA_CLASS_TENSOR,
    "blob_sequence": _summary.DATA_CLASS_BLOB_SEQUENCE,
}


def make_tensor(array: object) -> Any:
    """Return an array of numbers as a message."""
    return _module("util.tensor_util").make_tensor_proto(array)

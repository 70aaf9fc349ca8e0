"""The parts of TensorBoard's messages that all dashboards share."""

from __future__ import annotations

from typing import Any

from jaxboard.sinks import _proto


def value(tag: str, tensor: _proto.Message, plugin: str, content: bytes = b"") -> Any:
    """Return a value of a summary.

    Args:
        tag: the tag.
        tensor: the data.
        plugin: the name of the dashboard's plugin.
        content: what the plugin needs to know of the tag: a serialized message.
    """
    # Readers use only the metadata of a tag's first value, but which value is the first depends on
    # the files that are left. Every value therefore carries the 14 bytes.
    metadata = _proto.SummaryMetadata(
        plugin_data=_proto.SummaryMetadata.PluginData(plugin_name=plugin, content=content)
    )
    return _proto.Summary.Value(tag=tag, tensor=tensor, metadata=metadata)


def tensor(dtype: int, shape: tuple[int, ...], strings: list[bytes] | None = None) -> Any:
    """Return a tensor with strings, or without data yet."""
    message = _proto.TensorProto(dtype=dtype, string_val=strings or [])
    message.tensor_shape.SetInParent()
    for size in shape:
        message.tensor_shape.dim.add(size=size)
    return message


def image_files(tag: str, width: int, height: int, files: list[bytes]) -> Any:
    """Return images: string[2 + N], width, height, then N files (tensorboard/plugins/image/summary_v2.py)."""
    strings = [str(width).encode(), str(height).encode(), *files]
    return value(tag, tensor(_proto.types.DT_STRING, (len(strings),), strings), "images")

"""Tensors, and the values of tags that hold them, as TensorBoard's messages."""

from __future__ import annotations

from typing import Any

from jaxboard.sinks import _proto


def make_value(
    tag: str, tensor: _proto.Message, plugin: str, content: bytes = b""
) -> _proto.Message:
    """Return the value of a tag.

    Args:
        tag: the tag.
        tensor: its value.
        plugin: the name of the plugin that shows it.
        content: what that plugin needs to know.
    """
    # Readers use only the metadata of a tag's first value, but which value is the first depends on
    # the files that are left. Every value therefore carries the 14 bytes and the content.
    metadata = _proto.SummaryMetadata(
        plugin_data=_proto.SummaryMetadata.PluginData(plugin_name=plugin, content=content)
    )
    return _proto.Summary.Value(tag=tag, tensor=tensor, metadata=metadata)


def make_tensor(dtype: int, shape: tuple[int, ...], strings: list[bytes] | None = None) -> Any:
    """Return a tensor of a dtype and shape, with its strings if it has any."""
    tensor = _proto.TensorProto(dtype=dtype, string_val=strings or [])
    tensor.tensor_shape.SetInParent()
    for size in shape:
        tensor.tensor_shape.dim.add(size=size)
    return tensor

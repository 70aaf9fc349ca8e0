"""``tensor``: data for any plugin of TensorBoard."""

from __future__ import annotations

from typing import Literal, cast

import numpy as np

from jaxboard._check import is_one_of
from jaxboard._emit import arguments, conversion
from jaxboard._emit.reporting import report_record
from jaxboard._safe_repr import describe_object, safe_repr
from jaxboard._types import Reportable
from jaxboard.records import Kind, PluginTensor

_DATA_CLASSES = ("tensor", "scalar", "blob_sequence")


def tensor(
    tag: str,
    value: Reportable | str | bytes | list[str] | list[bytes],
    plugin: str,
    *,
    content: bytes = b"",
    data_class: Literal["tensor", "scalar", "blob_sequence"] = "tensor",
    display_name: str = "",
    description: str = "",
    step: int | None = None,
    every: int | None = None,
    walltime: float | None = None,
) -> None:
    """Report a tensor for any plugin of TensorBoard, also one that jaxboard does not know. Only for plain Python.

    This waits for an array that is on a device.

    Args:
        tag: the name.
        value: what the plugin expects: numbers of any shape and real dtype, or strings or bytes, alone or in a list.
        plugin: the name of the plugin.
        content: what the plugin needs to know of the tag, usually a serialized protobuf message. TensorBoard uses that of the
            first value of a tag.
        data_class: how TensorBoard stores the data: ``"tensor"``, ``"scalar"`` (floats of rank 0), or ``"blob_sequence"``
            (strings, such as files).
        display_name: the title that the plugin may show instead of the tag.
        description: Markdown that the plugin may show.
        step: the step of the tensor, instead of the last step taken.
        every: report only at steps that are multiples of this.
        walltime: the time of the tensor, in seconds since the epoch, instead of now.

    Raises:
        ReportError: JAX is tracing, ``value`` is not an array, or an argument is invalid.

    Example:
        >>> import numpy as np, jaxboard as jb
        >>> from jaxboard.testing import capture
        >>> with capture() as records:
        ...     jb.tensor("table", np.eye(2), "my_plugin", content=b"settings")
        >>> records[0].value.plugin, records[0].value.array.shape
        ('my_plugin', (2, 2))
    """
    arguments.check_tag(tag)
    if not isinstance(plugin, str) or not plugin:
        raise arguments.report_error(
            tag,
            f"expected plugin= to be the name of a plugin, got {describe_object(plugin)}.",
        )
    if not isinstance(content, bytes):
        raise arguments.report_error(
            tag,
            f"expected content= to be bytes, got {describe_object(content)}. Serialize a message first.",
        )
    for name, words in (("display_name", display_name), ("description", description)):
        if not isinstance(words, str):
            raise arguments.report_error(
                tag, f"expected {name}= to be a string, got {describe_object(words)}."
            )
    if not is_one_of(data_class, _DATA_CLASSES):
        names = ", ".join(map(repr, _DATA_CLASSES))
        raise arguments.report_error(
            tag, f"expected data_class= to be one of {names}, got {safe_repr(data_class)}."
        )
    array = _as_strings(value)
    if array is None:
        array = conversion.widened(conversion.as_array(tag, cast("Reportable", value)))
        if array.dtype.kind not in "fiub":  # such as bfloat16
            array = array.astype(np.float32)

    def make_value() -> PluginTensor:
        return PluginTensor(
            np.asarray(array), plugin, content, data_class, display_name, description
        )

    report_record("tensor", Kind.TENSOR, tag, make_value, step=step, every=every, walltime=walltime)


def _as_strings(value: object) -> np.ndarray | None:
    """Return strings as an array of bytes, and None for other values."""
    try:
        array = np.asarray(value) if isinstance(value, str | bytes | list | np.ndarray) else None
    except Exception:  # A list of tracers.
        return None
    if array is None or array.dtype.kind not in "US":
        return None
    items = [str(item).encode() if array.dtype.kind == "U" else item for item in array.flat]
    if isinstance(value, bytes):  # NumPy removes zeros at the end.
        items = [value]
    elif isinstance(value, list) and all(isinstance(item, bytes) for item in value):
        items = value
    encoded = np.empty(len(items), object)
    encoded[:] = items
    return encoded.reshape(array.shape)

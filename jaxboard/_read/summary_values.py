"""The kind and the value of one entry of a summary, whichever writer made it."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from tensorboard import data_compat
from tensorboard.util import tensor_util

from jaxboard.records import EncodedImage
from jaxboard.sinks import _proto

UNKNOWN = "tensor"
"""The kind of a tensor without metadata."""

_KINDS = {"scalars": "scalar", "histograms": "histogram", "images": "image"}
"""Kinds by the name of TensorBoard's plugin. Other kinds have the name of their plugin: ``text``, ``audio``."""

_OLD_KINDS = {"simple_value": "scalar", "histo": "histogram", "image": "image", "audio": "audio"}
"""Kinds by the field of ``Summary.Value`` that older writers use, without metadata."""


class UnreadableValue(Exception):  # noqa: N818 (it never reaches users)
    """A value is not of its kind, or has fewer elements than its shape."""


def kind_of(value: Any) -> str | None:
    """Return the kind of a ``Summary.Value``; None if the first value of its tag decides.

    Example:
        >>> kind_of(_proto.Summary.Value(tag="loss", simple_value=0.5))
        'scalar'
    """
    plugin: str = value.metadata.plugin_data.plugin_name
    if plugin:
        return _KINDS.get(plugin, plugin)
    return _OLD_KINDS.get(value.WhichOneof("value"))


def as_scalar(value: Any) -> float:
    """Return the number that a ``Summary.Value`` holds. An integer of more than 53 bits is rounded.

    Raises:
        UnreadableValue: it is not a single number.
    """
    if value.WhichOneof("value") == "simple_value":
        return value.simple_value
    array = _array(value)
    if array.size != 1 or array.dtype.kind not in "biufV":  # V: bfloat16
        raise UnreadableValue
    try:
        return float(array.reshape(()).astype(np.float64))
    except (TypeError, ValueError):
        raise UnreadableValue from None


def decode(kind: str, value: Any) -> object:
    """Return the value of a ``Summary.Value``; see :func:`jaxboard.read` for the type of each kind.

    It is None for messages that are not points, such as the end of a session of hyperparameters.

    Raises:
        UnreadableValue: it is not of its kind, or is damaged.
    """
    try:
        return _DECODERS.get(kind, _array)(data_compat.migrate_value(value))
    except UnreadableValue:
        raise
    except Exception:  # NumPy and protobuf raise many.
        raise UnreadableValue from None


def _array(value: Any) -> np.ndarray:
    """Return the tensor of a value. A shape of any size fits into a few bytes: it is checked before it is used."""
    if value.WhichOneof("value") != "tensor":
        raise UnreadableValue
    tensor = value.tensor
    count, most = 1, tensor.ByteSize()
    for dim in tensor.tensor_shape.dim:
        count *= dim.size
        if not 0 <= count <= most:
            raise UnreadableValue
    try:
        with warnings.catch_warnings():
            # For float16, TensorBoard does what NumPy 2.5 deprecates.
            warnings.simplefilter("ignore")
            return tensor_util.make_ndarray(tensor)
    except Exception:  # An unknown type, or another number of elements.
        raise UnreadableValue from None


def _histogram(value: Any) -> np.ndarray:
    table = _array(value)
    if table.ndim != 2 or table.shape[1] != 3 or table.dtype.kind != "f":
        raise UnreadableValue
    return table.astype(np.float64)


def _images(value: Any) -> tuple[EncodedImage, ...]:
    width, height, *files = _array(value).ravel().tolist()
    return tuple(EncodedImage(file, int(width), int(height)) for file in files)


def _text(value: Any) -> object:
    """Return a str, or nested lists of str."""
    return np.vectorize(bytes.decode, otypes=[np.object_])(_array(value)).tolist()


def _hparams(value: Any) -> dict[str, object] | None:
    """Return the hyperparameters; None for the other messages of the dashboard, such as the end of a session."""
    content = value.metadata.plugin_data.content
    data = _proto.hparams_data.HParamsPluginData.FromString(content)
    if data.WhichOneof("data") != "session_start_info":
        return None
    fields = data.session_start_info.hparams
    return {name: getattr(fields[name], fields[name].WhichOneof("kind")) for name in sorted(fields)}


_DECODERS: dict[str, Callable[[Any], object]] = {
    "histogram": _histogram,
    "hparams": _hparams,
    "image": _images,
    "scalar": as_scalar,
    "text": _text,
}

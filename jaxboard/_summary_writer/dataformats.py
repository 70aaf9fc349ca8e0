"""Arrays as tensorboardX and PyTorch take them: with any order of axes, named by ``dataformats``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import jax
import jax.numpy as jnp
import numpy as np

from jaxboard._check import as_number
from jaxboard._emit import conversion
from jaxboard._emit.arguments import report_error
from jaxboard._safe_repr import describe_array, safe_repr
from jaxboard._types import Array, Reportable

_CHANNELS = {"HWC": (1, 3, 4), "NHWC": (1, 3, 4), "NTHWC": (1, 3)}
"""The numbers of channels that there may be, by the letters of the axes."""

_MAX_PIXELS = 2**14
"""Most pixels of a side of an image that is enlarged."""


def one_number(tag: str, value: Reportable) -> Reportable:
    """Return an array with one element as one of rank 0, and other values as they are."""
    if isinstance(value, float | int):
        return value
    array = conversion.as_array(tag, value)
    return array.reshape(()) if array.ndim and array.size == 1 else array


def arranged(
    tag: str, value: Reportable | Sequence[Reportable], dataformats: str, axes: str
) -> tuple[Array, str]:
    """Return an array with its axes in the order of ``axes``, and the letters of those that it has.

    Args:
        tag: the tag, for messages.
        value: an array, or a list of arrays of one shape, which is a batch.
        dataformats: the letter of each axis, in upper or lower case; of a list, those of its arrays.
        axes: the letters that there may be: ``NHWC`` or ``NTHWC``.

    Raises:
        ReportError: ``dataformats`` is invalid, the array has another rank, is empty, or has another number of channels.

    Example:
        >>> array, layout = arranged("tag", np.zeros((3, 4, 5)), "CHW", "NHWC")
        >>> array.shape, layout
        ((4, 5, 3), 'HWC')
    """
    letters = dataformats.upper() if isinstance(dataformats, str) else ""
    wanted = sorted(set(letters))
    if not {"H", "W"} <= set(letters) <= set(axes) or len(wanted) < len(letters):
        raise report_error(
            tag,
            f"expected dataformats= to have a letter for each axis, H, W and others of {axes}, as in "
            f"{axes.replace('HWC', 'CHW')!r}, got {safe_repr(dataformats)}.",
        )
    array = as_batch(tag, value)
    if isinstance(value, list | tuple) and array.ndim == len(letters) + 1 and "N" not in letters:
        letters = f"N{letters}"
    if array.ndim != len(letters):
        raise report_error(
            tag,
            f"dataformats={safe_repr(dataformats)} has {len(letters)} axes, got {describe_array(array)}. Pass "
            "dataformats= with a letter for each axis.",
        )
    layout = "".join(letter for letter in axes if letter in letters)
    order = [letters.index(letter) for letter in layout]
    channels = array.shape[letters.index("C")] if "C" in letters else 1
    if channels not in _CHANNELS[axes] or 0 in array.shape:
        *first, last = map(str, _CHANNELS[axes])
        raise report_error(
            tag,
            f"expected {', '.join(first)} or {last} channels, got {describe_array(array)} with "
            f"dataformats={safe_repr(dataformats)}.",
        )
    return (array if layout == letters else array.transpose(order)), layout


def as_batch(tag: str, value: object) -> Array:
    """Return an array, or the arrays of a list as one, on their device if they are on one."""
    if isinstance(value, list | tuple) and any(isinstance(each, jax.Array) for each in value):
        arrays = [conversion.as_array(tag, each) for each in cast("Sequence[Reportable]", value)]
        shapes = {array.shape for array in arrays}
        if len(shapes) > 1:
            raise report_error(tag, f"expected arrays of one shape, got {sorted(shapes)}.")
        return jnp.stack(arrays)
    return conversion.as_array(tag, cast("Reportable", value))


def pixel_range(array: Array) -> tuple[float, float] | None:
    """Return the limits of pixels. Both libraries show integers other than uint8 as they show floats."""
    is_integer = jnp.issubdtype(array.dtype, np.integer)
    return (0.0, 1.0) if is_integer and array.dtype != np.uint8 else None


def checked_factor(tag: str, factor: object, image: Array) -> float:
    """Return ``rescale=`` as a float. Raise unless it leaves an image [H, W, ...] of a size that can be shown."""
    number = as_number(factor)
    sizes = [size * number for size in image.shape[:2]]
    if not all(1 <= size <= _MAX_PIXELS for size in sizes):  # NaN if it is not a number
        raise report_error(
            tag,
            f"expected rescale= to be a factor that leaves an image of at most {_MAX_PIXELS} pixels a side, got "
            f"{safe_repr(factor)}.",
        )
    return number


def rescaled(image: Array, factor: float) -> Array:
    """Return an image [H, W, ...] with its height and width multiplied by a factor.

    Example:
        >>> rescaled(np.array([[1, 2]]), 2).tolist()
        [[1, 1, 2, 2], [1, 1, 2, 2]]
    """
    if factor == 1:
        return image
    for axis, size in enumerate(image.shape[:2]):
        places = np.minimum(np.arange(int(size * factor)) / factor, size - 1).astype(np.int32)
        if isinstance(image, jax.Array):
            image = jnp.take(image, jax.device_put(places), axis=axis)
        else:
            image = image.take(places, axis=axis)
    return image


def tiled(videos: Array) -> Array:
    """Return videos [N, T, H, W, C] as one, [T, H', W', C], in a grid that is about as wide as high.

    Example:
        >>> tiled(np.zeros((3, 8, 4, 5, 1))).shape
        (8, 8, 10, 1)
    """
    count, frames, height, width, channels = videos.shape
    columns = int(np.ceil(np.sqrt(count)))
    rows = -(-count // columns)
    pad = [(0, rows * columns - count)] + [(0, 0)] * 4
    # NumPy would read an array that is on a device.
    cells = (jnp if isinstance(videos, jax.Array) else np).pad(videos, pad)
    grid = cells.reshape(rows, columns, frames, height, width, channels)
    return grid.transpose(2, 0, 3, 1, 4, 5).reshape(
        frames, rows * height, columns * width, channels
    )

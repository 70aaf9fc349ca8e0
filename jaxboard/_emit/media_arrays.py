"""Conversion of reported values to sounds and images: their ranks, axes and dtypes."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

from jaxboard._emit.arguments import describe_array, report_error
from jaxboard._emit.conversion import as_array
from jaxboard._errors import ReportError
from jaxboard._types import Array, Reportable

_MOST_CHANNELS = 8
"""Most channels of a sound. An array with more probably has its axes in another order."""


def as_sounds(tag: str, value: Reportable) -> Array:
    """Return ``value`` as sounds: [T, C] or [N, T, C]."""
    array = as_array(tag, value)
    sounds = array[:, None] if array.ndim == 1 else array
    channels = sounds.shape[-1] if sounds.ndim else 0
    if sounds.ndim not in (2, 3) or channels > _MOST_CHANNELS or 0 in array.shape:
        advice = "jaxboard.histogram reports other arrays."
        if 0 not in array.shape and array.ndim == 2:
            advice = (
                "Put the channels last with x.T; of a batch of sounds with one channel, add the channel axis "
                "with x[..., None]."
            )
        elif 0 not in array.shape and array.ndim == 3 and array.shape[1] <= _MOST_CHANNELS:
            advice = "Put the channels last with x.transpose(0, 2, 1)."
        raise report_error(
            tag,
            f"expected a sound [T], [T, C] or [N, T, C] with 1 to {_MOST_CHANNELS} channels, "
            f"got {describe_array(array)}. {advice}",
        )
    if not (jnp.issubdtype(array.dtype, np.floating) or array.dtype == np.int16):
        raise report_error(
            tag,
            f"expected samples as floats from -1 to 1, or as int16, got {describe_array(array)}. Scale them "
            "first, as in x / 2**31 for int32.",
        )
    return sounds


IMAGE_LAYOUTS = ("HW", "HWC", "CHW", "NHW", "NHWC", "NCHW")
"""The values of ``layout=`` of an image: N images, H rows, W columns, C channels."""


def as_images(
    tag: str,
    value: Reportable,
    *,
    layout: str | None = None,
    any_dtype: bool = False,
    one_channel: bool = False,
) -> Array:
    """Return ``value`` as images: [H, W, C] or [N, H, W, C].

    Args:
        tag: the tag, for the message.
        value: what the user passed.
        layout: the meaning of its axes; None for the usual one of its rank.
        any_dtype: accept all real dtypes, not only uint8, bool, and floats.
        one_channel: accept only images with one channel, and three axes as a batch of them.
    """
    array = as_array(tag, value)
    if 0 in array.shape:
        raise _not_an_image(tag, array, "", one_channel)
    if layout is None:
        layout = _usual_layout(tag, array, one_channel)
    else:
        check_layout(tag, layout, IMAGE_LAYOUTS, array)
    images = arranged(array, layout, "NHWC")
    channels = (1,) if one_channel else (1, 3, 4)
    if images.shape[-1] not in channels:
        raise _not_an_image(tag, array, _advice(array, layout, one_channel), one_channel)
    check_pixels(tag, array, any_dtype=any_dtype)
    return images


def check_pixels(tag: str, array: Array, *, any_dtype: bool = False) -> None:
    """Raise unless the dtype is one of pixels."""
    floating = jnp.issubdtype(array.dtype, np.floating)
    if not (any_dtype or floating or array.dtype in (np.uint8, np.bool_)):
        raise report_error(
            tag,
            f"expected pixels as uint8, or as floats from 0 to 1, got {describe_array(array)}. "
            "Convert them first (x.astype(jnp.uint8)), or pass their range=(low, high).",
        )


def check_layout(tag: str, layout: object, layouts: tuple[str, ...], array: Array) -> None:
    """Raise unless ``layout`` is one of some layouts and has as many axes as the array."""
    if layout not in layouts:
        names = ", ".join(map(repr, layouts))
        raise report_error(tag, f"expected layout= to be one of {names}, got {layout!r}.")
    if len(str(layout)) != array.ndim:
        raise report_error(
            tag, f"layout={layout!r} has {len(str(layout))} axes, got {describe_array(array)}."
        )


def arranged(array: Array, layout: str, order: str) -> Array:
    """Return an array with its axes in an order, and with an axis of one channel if it has none.

    Args:
        array: the array.
        layout: the letter of each of its axes.
        order: all letters in the new order.
    """
    places = [layout.index(axis) for axis in order if axis in layout]
    if places != sorted(places):
        array = array.transpose(places)
    return array if "C" in layout else array[..., None]


def _usual_layout(tag: str, array: Array, one_channel: bool) -> str:
    """Return the layout of an image that has no ``layout=``."""
    shape = array.shape
    if len(shape) == 2:
        return "HW"
    if len(shape) == 3:
        if one_channel and shape[-1] != 1:
            return "NHW"
        if shape[0] in (3, 4) and shape[-1] in (3, 4):
            raise _ambiguous(tag, array, "HWC", "CHW")
        return "HWC"
    if len(shape) == 4:
        if shape[1] in (3, 4) and shape[-1] in (3, 4):
            raise _ambiguous(tag, array, "NHWC", "NCHW")
        return "NHWC"
    raise _not_an_image(tag, array, "", one_channel)


def _ambiguous(tag: str, array: Array, *layouts: str) -> ReportError:
    first, second = layouts
    return report_error(
        tag,
        f"{describe_array(array)} may have its channels last or first. Pass layout={first!r} or "
        f"layout={second!r}.",
    )


def _not_an_image(tag: str, array: Array, advice: str, one_channel: bool) -> ReportError:
    shapes = "[H, W], [H, W, C] or [N, H, W, C] with 1, 3 or 4 channels"
    if one_channel:
        shapes = "[H, W] or [N, H, W], whose numbers cmap= colours"
    return report_error(
        tag,
        f"expected an image {shapes}, got {describe_array(array)}. "
        f"{advice or 'jaxboard.histogram reports other arrays.'}",
    )


def _advice(array: Array, layout: str, one_channel: bool) -> str:
    """Return what to do with an array that has a wrong number of channels."""
    shape = array.shape
    if layout == "NHWC" and shape[1] in (1, 3, 4) and not one_channel:
        return "Pass layout='NCHW' if the channels are first."
    if layout == "HWC" and shape[0] in (1, 3, 4) and not one_channel:
        return "Pass layout='CHW' if the channels are first, or layout='NHW' for a batch of gray images."
    if layout == "HWC" and not one_channel:
        return "Pass layout='NHW' for a batch of gray images."
    first = "x[..., :1]" if layout.endswith("C") else f"x[{':, ' * layout.index('C')}:1]"
    return f"Choose the channels to show, such as the first with {first}."

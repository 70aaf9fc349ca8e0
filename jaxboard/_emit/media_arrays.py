"""Conversion of reported values to sounds, images and videos: their ranks, axes and dtypes."""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from jaxboard._check import is_one_of
from jaxboard._emit.arguments import report_error
from jaxboard._emit.conversion import as_array
from jaxboard._safe_repr import describe_array, safe_repr
from jaxboard._types import Array, Reportable

_MAX_CHANNELS = 8
"""Most channels of a sound. An array with more probably has its axes in another order."""


def as_sounds(tag: str, value: Reportable) -> Array:
    """Return ``value`` as sounds: [T, C] or [N, T, C]."""
    array = as_array(tag, value)
    sounds = array[:, None] if array.ndim == 1 else array
    channels = sounds.shape[-1] if sounds.ndim else 0
    if sounds.ndim not in (2, 3) or channels > _MAX_CHANNELS or 0 in array.shape:
        advice = "jaxboard.histogram reports other arrays."
        if 0 not in array.shape and array.ndim == 2:
            advice = (
                "Put the channels last with x.T; of a batch of sounds with one channel, add the channel axis "
                "with x[..., None]."
            )
        elif 0 not in array.shape and array.ndim == 3 and array.shape[1] <= _MAX_CHANNELS:
            advice = "Put the channels last with x.transpose(0, 2, 1)."
        raise report_error(
            tag,
            f"expected a sound [T], [T, C] or [N, T, C] with 1 to {_MAX_CHANNELS} channels, "
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

VIDEO_LAYOUTS = ("THW", "THWC", "TCHW", "NTHW", "NTHWC", "NTCHW")
"""The values of ``layout=`` of a video: N videos of T frames."""


class _Accepted(NamedTuple):
    """The arrays that a verb accepts.

    Attributes:
        shapes: the shapes, for messages.
        channels: how many channels there may be.
        layouts: rank -> the layout of arrays for which the user names none.
    """

    shapes: str
    channels: tuple[int, ...]
    layouts: dict[int, str]


_IMAGES = _Accepted(
    "an image [H, W], [H, W, C] or [N, H, W, C] with 1, 3 or 4 channels",
    (1, 3, 4),
    {2: "HW", 3: "HWC", 4: "NHWC"},
)
_MATRICES = _Accepted(
    "an image [H, W] or [N, H, W], whose numbers cmap= colors", (1,), _IMAGES.layouts
)
_VIDEOS = _Accepted(
    "a video [T, H, W], [T, H, W, C] or [N, T, H, W, C] with 1 or 3 channels",
    (1, 3),
    {3: "THW", 4: "THWC", 5: "NTHWC"},
)


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
    if layout is not None:
        _check_layout(tag, layout, IMAGE_LAYOUTS, array)
    elif one_channel and array.ndim == 3 and array.shape[-1] != 1:
        layout = "NHW"
    images = _arranged(tag, array, layout, _MATRICES if one_channel else _IMAGES)
    _check_pixels(tag, array, any_dtype=any_dtype)
    return images


def as_videos(
    tag: str, value: Reportable, *, layout: str | None = None, any_dtype: bool = False
) -> Array:
    """Return ``value`` as videos: [T, H, W, C] or [N, T, H, W, C]. See :func:`as_images`."""
    array = as_array(tag, value)
    if layout is not None:
        _check_layout(tag, layout, VIDEO_LAYOUTS, array)
    videos = _arranged(tag, array, layout, _VIDEOS)
    _check_pixels(tag, array, any_dtype=any_dtype)
    return videos


def _check_pixels(tag: str, array: Array, *, any_dtype: bool = False) -> None:
    """Raise unless the dtype is one of pixels."""
    floating = jnp.issubdtype(array.dtype, np.floating)
    if not (any_dtype or floating or array.dtype in (np.uint8, np.bool_)):
        raise report_error(
            tag,
            f"expected pixels as uint8, or as floats from 0 to 1, got {describe_array(array)}. "
            "Convert them first (x.astype(jnp.uint8)), or pass their range=(low, high).",
        )


def _check_layout(tag: str, layout: object, layouts: tuple[str, ...], array: Array) -> None:
    """Raise unless ``layout`` is one of some layouts and has as many axes as the array."""
    if not is_one_of(layout, layouts):
        names = ", ".join(map(repr, layouts))
        raise report_error(tag, f"expected layout= to be one of {names}, got {safe_repr(layout)}.")
    if len(str(layout)) != array.ndim:
        raise report_error(
            tag,
            f"layout={safe_repr(layout)} has {len(str(layout))} axes, got {describe_array(array)}.",
        )


def _arranged(tag: str, array: Array, layout: str | None, accepted: _Accepted) -> Array:
    """Return an array with its channels last, and with an axis of one channel if it has none.

    Args:
        tag: the tag, for messages.
        array: the array.
        layout: the letter of each of its axes; None for the usual ones.
        accepted: what the verb accepts.
    """
    axes = accepted.layouts.get(array.ndim) if layout is None else layout
    advice = "jaxboard.histogram reports other arrays."
    if axes is not None and 0 not in array.shape:
        if layout is None:
            _check_unambiguous(tag, array, axes, accepted)
        arranged = array
        if "CHW" in axes:
            place = axes.index("C")
            others = [axis for axis in range(array.ndim) if axis != place]
            arranged = array.transpose((*others, place))
        elif "C" not in axes:
            arranged = array[..., None]
        if arranged.shape[-1] in accepted.channels:
            return arranged
        advice = _advice(array, axes, accepted)
    raise report_error(tag, f"expected {accepted.shapes}, got {describe_array(array)}. {advice}")


def _check_unambiguous(tag: str, array: Array, layout: str, accepted: _Accepted) -> None:
    """Raise if the channels of an array with a usual layout may be first as well."""
    first = layout.replace("HWC", "CHW")
    if first != layout:
        sizes = {array.shape[first.index("C")], array.shape[-1]}
        if sizes <= {*accepted.channels} - {1}:
            raise report_error(
                tag,
                f"{describe_array(array)} may have its channels last or first. Pass "
                f"layout={safe_repr(layout)} or layout={first!r}.",
            )


def _advice(array: Array, layout: str, accepted: _Accepted) -> str:
    """Return what to do with an array that has a wrong number of channels."""
    choices = []
    first = layout.replace("HWC", "CHW")
    if len(accepted.channels) > 1:
        if first != layout and array.shape[first.index("C")] in accepted.channels:
            choices.append(f"layout={first!r} if the channels are first")
        if layout == "HWC":
            choices.append("layout='NHW' for a batch of gray images")
    if choices:
        return f"Pass {', or '.join(choices)}."
    one = "x[..., :1]" if layout.endswith("C") else f"x[{':, ' * layout.index('C')}:1]"
    return f"Choose the channels to show, such as the first with {one}."

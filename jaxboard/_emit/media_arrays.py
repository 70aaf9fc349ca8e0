"""Conversion of reported values to sounds and images: their ranks, axes and dtypes."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

from jaxboard._emit.arguments import describe_array, report_error
from jaxboard._emit.conversion import as_array
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


def as_images(tag: str, value: Reportable, *, any_dtype: bool = False) -> Array:
    """Return ``value`` as images: [H, W, C] or [N, H, W, C].

    Args:
        tag: the tag, for the message.
        value: what the user passed.
        any_dtype: accept all real dtypes, not only uint8, bool, and floats.
    """
    array = as_array(tag, value)
    if array.ndim not in (3, 4) or array.shape[-1] not in (1, 3, 4) or 0 in array.shape:
        raise report_error(
            tag,
            f"expected an image [H, W, C] or [N, H, W, C] with 1, 3 or 4 channels, "
            f"got {describe_array(array)}. {_advice_on_axes(array.shape)}",
        )
    floating = jnp.issubdtype(array.dtype, np.floating)
    if not (any_dtype or floating or array.dtype in (np.uint8, np.bool_)):
        raise report_error(
            tag,
            f"expected pixels as uint8, or as floats from 0 to 1, got {describe_array(array)}. "
            "Convert them first (x.astype(jnp.uint8)), or pass their range=(low, high).",
        )
    return array


def _advice_on_axes(shape: tuple[int, ...]) -> str:
    """Return what to do with an array whose axes are not those of images."""
    if len(shape) == 4 and shape[1] in (1, 3, 4) and shape[-1] not in (1, 3, 4):
        return "Put the channels last with x.transpose(0, 2, 3, 1)."
    if len(shape) == 3 and shape[0] in (1, 3, 4) and shape[0] <= min(shape[1:]):
        return (
            "Put the channels last with x.transpose(1, 2, 0); of a batch of gray images, add the channel "
            "axis with x[..., None]."
        )
    if len(shape) in (2, 3) and 0 not in shape:
        return "Add the channel axis with x[..., None]."
    if len(shape) == 4 and 0 not in shape:
        return "Choose the channels to show, such as the first with x[..., :1]."
    return "jaxboard.histogram reports other arrays."

"""Images: the first few of a batch, converted to bytes on the device."""

from __future__ import annotations

import math
from typing import Any, Literal

import jax.numpy as jnp
import numpy as np

from jaxboard._reduce.first_items import FirstItems, limits
from jaxboard._reduce.media_options import BoxOptions, ImageOptions
from jaxboard._reduce.wide import floats, namespace
from jaxboard._types import Array


class ImageReducer(FirstItems):
    """Keep the images that were reported last, as uint8: a quarter of the bytes of float32.

    With boxes, an item is the float32 vector of all pixels, then K boxes of four numbers, then K classes if the
    labels are classes.

    Args:
        options: how the pixels become bytes, and what is drawn once they have left the device.
    """

    name = "image"

    def __init__(self, options: ImageOptions):
        super().__init__(options.max_images, rank=3 if options.boxes is None else 1)
        self.options = options

    def compact(self, items: Array) -> tuple[Any, Array | None]:
        boxes = self.options.boxes
        if boxes is None:
            return as_bytes(items, self.options.range)
        size = math.prod(boxes.shape)
        pixels = items[:, :size].reshape(len(items), *boxes.shape).astype(boxes.dtype)
        corners = items[:, size : size + 4 * boxes.count].reshape(len(items), boxes.count, 4)
        classes = items[:, size + 4 * boxes.count :].astype(np.int32)
        pixels, limits = as_bytes(pixels, self.options.range)
        return (pixels, corners, classes), limits

    def as_value(self, items: Any) -> np.ndarray:
        from jaxboard._reduce import drawing

        options = self.options
        images = items if options.boxes is None else items[0]
        if options.color_map is not None:
            images = drawing.with_colors(images, options.color_map)
        if options.boxes is not None:
            images = _with_boxes(images, items[1], items[2], options.boxes)
        return images if options.grid is None else drawing.in_grid(images, *options.grid)


def _with_boxes(
    images: np.ndarray, corners: np.ndarray, classes: np.ndarray, boxes: BoxOptions
) -> np.ndarray:
    from jaxboard._reduce import drawing

    def label(n: int, k: int) -> str:
        if not classes.shape[1]:
            return boxes.labels[k] if boxes.labels else ""
        number = int(classes[n, k])
        known = boxes.labels and 0 <= number < len(boxes.labels)
        return boxes.labels[number] if known else str(number)

    colors = classes if classes.shape[1] else np.tile(np.arange(boxes.count), (len(images), 1))
    return drawing.with_boxes(images, corners, colors, label)


def as_bytes(
    pixels: Array,
    range: tuple[float, float] | Literal["auto"] | None,  # noqa: A002 (as in numpy.histogram)
) -> tuple[Array, Array | None]:
    """Return pixels as uint8, and the limits of floats without a range."""
    if range == "auto":
        return _rounded(_stretched(floats(pixels))), None
    if range is not None:
        low, high = range
        return _rounded((floats(pixels) - low) / (high - low)), None
    if jnp.issubdtype(pixels.dtype, jnp.floating):
        pixels = floats(pixels)
        return _rounded(pixels), limits(pixels, 0, 1)
    return pixels.astype(np.uint8) * 255 if pixels.dtype == np.bool_ else pixels, None


def _stretched(pixels: Array) -> Array:
    """Return each item with its smallest finite value as 0 and its largest as 1."""
    xp = namespace(pixels)
    axes = tuple(np.arange(1, pixels.ndim).tolist())
    is_finite = xp.isfinite(pixels)
    any_finite = is_finite.any(axes, keepdims=True)
    low = xp.where(any_finite, xp.where(is_finite, pixels, np.inf).min(axes, keepdims=True), 0)
    high = xp.where(any_finite, xp.where(is_finite, pixels, -np.inf).max(axes, keepdims=True), 0)
    return (pixels - low) / xp.where(high > low, high - low, 1)


def _rounded(pixels: Array) -> Array:
    xp = namespace(pixels)
    pixels = xp.where(xp.isnan(pixels), 0, pixels)  # NaN is shown as black
    return (pixels.clip(0, 1) * 255 + 0.5).astype(np.uint8)

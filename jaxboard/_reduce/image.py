"""Images: the first few of a batch, converted to bytes on the device."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

from jaxboard._reduce.first_items import FirstItems, limits
from jaxboard._reduce.wide import floats, namespace
from jaxboard._types import Array


class ImageReducer(FirstItems):
    """Keep the images that were reported last, as uint8: a quarter of the bytes of float32.

    Args:
        max_images: how many images of a batch are kept.
        range: the values that become 0 and 255. By default 0 and 1 for floats, which are then checked.
    """

    name = "image"

    def __init__(self, max_images: int, range: tuple[float, float] | None = None):  # noqa: A002
        super().__init__(max_images, rank=3)
        self.range = range

    def compact(self, items: Array) -> tuple[Array, Array | None]:
        return as_bytes(items, self.range)

    def as_value(self, items: np.ndarray) -> np.ndarray:
        return items


def as_bytes(
    pixels: Array,
    range: tuple[float, float] | None,  # noqa: A002 (as in numpy.histogram)
) -> tuple[Array, Array | None]:
    """Return pixels as uint8, and the limits of floats without a range."""
    if range is not None:
        low, high = range
        return _rounded((floats(pixels) - low) / (high - low)), None
    if jnp.issubdtype(pixels.dtype, jnp.floating):
        pixels = floats(pixels)
        return _rounded(pixels), limits(pixels, 0, 1)
    return pixels.astype(np.uint8) * 255 if pixels.dtype == np.bool_ else pixels, None


def _rounded(pixels: Array) -> Array:
    xp = namespace(pixels)
    pixels = xp.where(xp.isnan(pixels), 0, pixels)  # NaN is shown as black
    return (pixels.clip(0, 1) * 255 + 0.5).astype(np.uint8)

"""Images: the first few of a batch, converted to bytes on the device."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

from jaxboard._reduce.reducers import (
    Last,
    State,
    count_positive,
    flatten_lanes,
    flatten_weight,
    replicated,
)
from jaxboard._reduce.wide import Wide, floats, namespace
from jaxboard._types import Array


class ImageReducer(Last):
    """Keep the images that were reported last, as uint8: a quarter of the bytes of float32.

    Args:
        max_images: how many images of a batch are kept.
    """

    name = "image"

    def __init__(self, max_images: int):
        self.max_images = max_images

    def start(self, values: Array, weight: Array | None, rank: int) -> State:
        count: Wide | int = 1
        if weight is not None:
            values, _ = flatten_lanes(values, rank)
            weight = flatten_weight(weight)
            count = count_positive(weight)
            # Put the lanes that count first.
            values = values[namespace(weight).argsort(weight <= 0, stable=True)]
        pixels = replicated(self._first, values)
        if jnp.issubdtype(pixels.dtype, jnp.floating):
            xp = namespace(pixels)
            pixels = floats(pixels)
            pixels = xp.where(xp.isnan(pixels), xp.zeros_like(pixels), pixels)  # NaN is shown as black
            pixels = (pixels.clip(0, 1) * 255 + 0.5).astype(np.uint8)
        elif pixels.dtype == np.bool_:
            pixels = pixels.astype(np.uint8) * 255
        return State(pixels, count)

    def _first(self, values: Array) -> Array:
        return values.reshape(-1, *values.shape[-3:])[: self.max_images]

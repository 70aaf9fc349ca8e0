"""Images: the first few of a batch, as the bytes a picture has."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxboard._reduce.reducers import Last, State, flatten_lanes, namespace, replicated


class ImageReducer(Last):
    """The pictures reported last. Converted to uint8 on the device: a quarter of the bytes leave it."""

    name = "image"

    def __init__(self, max_images: int):
        self.max_images = max_images

    def start(self, values: Any, weight: Any, rank: int) -> State:
        if weight is None:
            number = 1
        else:
            values, weight, _ = flatten_lanes(values, weight, rank)
            number = (weight > 0).astype(np.int32).sum()
            # Lanes that count come first.
            values = values[namespace(weight).argsort(weight <= 0, stable=True)]
        pixels = replicated(self._first, values)
        if jnp.issubdtype(pixels.dtype, jnp.floating):
            xp = namespace(pixels)
            pixels = xp.where(xp.isnan(pixels), 0, pixels)  # black: it has no colour
            pixels = (pixels.clip(0, 1) * 255 + 0.5).astype(np.uint8)
        elif pixels.dtype == np.bool_:
            pixels = pixels.astype(np.uint8) * 255
        return State(pixels, number)

    def _first(self, values: Any) -> Any:
        return values.reshape(-1, *values.shape[-3:])[: self.max_images]

"""Sounds: the first few of a batch, as samples of 16 bits."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

from jaxboard._reduce.first_items import FirstItems, limits
from jaxboard._reduce.wide import floats, namespace
from jaxboard._types import Array
from jaxboard.records import Audio

_SCALE = 2.0**15


class AudioReducer(FirstItems):
    """Keep the sounds that were reported last, as int16: half the bytes of float32.

    Args:
        sample_rate: in Hz.
        max_sounds: how many sounds of a batch are kept.
    """

    name = "audio"

    def __init__(self, sample_rate: int, max_sounds: int):
        super().__init__(max_sounds, rank=2)
        self.sample_rate = sample_rate

    def compact(self, items: Array) -> tuple[Array, Array | None]:
        if not jnp.issubdtype(items.dtype, jnp.floating):
            return items, None
        xp = namespace(items)
        items = floats(items)
        audible = xp.where(xp.isnan(items), 0, items)  # NaN is silence
        samples = xp.rint(audible * _SCALE).clip(-_SCALE, _SCALE - 1).astype(np.int16)
        return samples, limits(items, -1, 1)

    def as_value(self, items: np.ndarray) -> Audio:
        return Audio(items, self.sample_rate)

"""Images: the first few of a batch, converted to bytes on the device."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

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

_ROUNDING = 1e-3
"""Floats that are this far outside of 0 to 1 are rounding errors: less than a step of a byte."""


class Pixels(NamedTuple):
    """The value of the state of images of floats.

    Attributes:
        images: uint8[N, H, W, C].
        limits: float32[2], the smallest and the largest finite value before clipping, and 0 and 1 if no value
            is outside of these.
    """

    images: Array
    limits: Array


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class ClippedImages:
    """Images with values that were clipped.

    Attributes:
        images: uint8[N, H, W, C].
        low: the smallest value before clipping.
        high: the largest value before clipping.
    """

    images: np.ndarray
    low: float
    high: float


class ImageReducer(Last):
    """Keep the images that were reported last, as uint8: a quarter of the bytes of float32.

    Args:
        max_images: how many images of a batch are kept.
        range: the values that become 0 and 255. By default 0 and 1 for floats, which are then checked.
    """

    name = "image"

    def __init__(self, max_images: int, range: tuple[float, float] | None = None):  # noqa: A002
        self.max_images = max_images
        self.range = range

    def start(self, values: Array, weight: Array | None, rank: int) -> State:
        count: Wide | int = 1
        if weight is not None:
            values, _ = flatten_lanes(values, rank)
            weight = flatten_weight(weight)
            count = count_positive(weight)
            # Put the lanes that count first.
            values = values[namespace(weight).argsort(weight <= 0, stable=True)]
        pixels = replicated(self._first, values)
        if self.range is not None:
            low, high = self.range
            scaled = (floats(pixels) - low) / (high - low)
            return State(_as_bytes(scaled), count)
        if jnp.issubdtype(pixels.dtype, jnp.floating):
            pixels = floats(pixels)
            return State(Pixels(_as_bytes(pixels), replicated(_limits, pixels)), count)
        return State(pixels.astype(np.uint8) * 255 if pixels.dtype == np.bool_ else pixels, count)

    def finish(self, state: State) -> np.ndarray | ClippedImages:
        if not isinstance(state.value, Pixels):
            return np.asarray(state.value)
        images, limits = map(np.asarray, state.value)
        low, high = limits.tolist()
        return images if (low, high) == (0, 1) else ClippedImages(images, low, high)

    def _first(self, values: Array) -> Array:
        return values.reshape(-1, *values.shape[-3:])[: self.max_images]


def _as_bytes(pixels: Array) -> Array:
    xp = namespace(pixels)
    pixels = xp.where(xp.isnan(pixels), 0, pixels)  # NaN is shown as black
    return (pixels.clip(0, 1) * 255 + 0.5).astype(np.uint8)


def _limits(pixels: Array) -> Array:
    """Return :attr:`Pixels.limits`."""
    xp = namespace(pixels)
    finite = xp.where(xp.isfinite(pixels), pixels, 0)
    low, high = finite.min().astype(np.float32), finite.max().astype(np.float32)
    inside = (low >= -_ROUNDING) & (high <= 1 + _ROUNDING)
    return xp.where(inside, xp.arange(2, dtype=np.float32), xp.stack([low, high]))

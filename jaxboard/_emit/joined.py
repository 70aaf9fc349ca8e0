"""Several arrays as one: a report has one value, which its reducer separates again on the device."""

from __future__ import annotations

from types import ModuleType
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxboard._reduce import replicated
from jaxboard._types import Array


class Part(NamedTuple):
    """One of the arrays.

    Attributes:
        array: the parts of all items of a batch, or one that they share.
        rank: the rank of the part of one item.
    """

    array: Array
    rank: int


def joined(batch: tuple[int, ...], *parts: Part) -> Array:
    """Return the parts of each item of a batch as one vector: float32[*batch, L].

    Example:
        >>> corners, colors = np.zeros((5, 2, 3)), np.ones(3)
        >>> joined((5,), Part(corners, 2), Part(colors, 1)).shape
        (5, 9)
    """
    arrays = [part.array for part in parts]
    if all(isinstance(array, np.ndarray) for array in arrays):
        return np.concatenate([_flat(np, batch, part) for part in parts], axis=-1)
    arrays = [jnp.asarray(array) for array in arrays]

    def join(_: Array, *arrays: Array) -> Array:
        same = (Part(array, part.rank) for array, part in zip(arrays, parts, strict=True))
        return jnp.concatenate([_flat(jnp, batch, part) for part in same], axis=-1)

    # The first argument decides on which mesh the result is replicated.
    on_mesh = [array for array in arrays if jax.typeof(array).sharding.mesh.axis_names]
    return replicated(join, (on_mesh or arrays)[0], *arrays)


def _flat(xp: ModuleType, batch: tuple[int, ...], part: Part) -> Array:
    array, rank = part
    whole = xp.broadcast_to(array, (*batch, *array.shape[array.ndim - rank :]))
    return whole.reshape(*batch, -1).astype(np.float32)

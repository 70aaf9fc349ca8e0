"""Arrays of several dtypes as one vector of 32-bit words, and back, bit by bit: a report has one value."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxboard._reduce.reducers import replicated
from jaxboard._reduce.wide import namespace
from jaxboard._types import Array


class Leaf(NamedTuple):
    """The type of an array.

    Attributes:
        shape: its shape.
        dtype: the name of its dtype.
    """

    shape: tuple[int, ...]
    dtype: str

    @property
    def stored(self) -> np.dtype:
        """The dtype in which its values are stored, exactly: of 32 or 64 bits."""
        dtype = jnp.dtype(self.dtype)
        if dtype.itemsize >= 4:
            return dtype
        return np.dtype(np.float32 if jnp.issubdtype(dtype, jnp.floating) else np.int32)

    @property
    def size(self) -> int:
        """The number of its words."""
        return math.prod(self.shape) * self.stored.itemsize // 4


def to_words(leaves: Sequence[Leaf], arrays: Sequence[Array]) -> Array:
    """Return arrays as one vector: int32[L]."""
    xp = namespace(*arrays)
    if xp is np:
        stored = (np.asarray(x, leaf.stored) for leaf, x in zip(leaves, arrays, strict=True))
        return np.concatenate([np.ascontiguousarray(x).reshape(-1).view(np.int32) for x in stored])

    def words(leaf: Leaf, array: Array) -> Array:
        array = jnp.asarray(array).astype(leaf.stored)
        return lax.bitcast_convert_type(array, np.int32).reshape(-1)

    def join(_: Array, *arrays: Array) -> Array:
        return jnp.concatenate([words(leaf, x) for leaf, x in zip(leaves, arrays, strict=True)])

    arrays = [jnp.asarray(array) for array in arrays]
    # The first argument decides on which mesh the result is replicated.
    on_mesh = [x for x in arrays if jax.typeof(x).sharding.mesh.axis_names]
    return replicated(join, (on_mesh or arrays)[0], *arrays)


def from_words(leaves: Sequence[Leaf], words: Array) -> list[Array]:
    """Return the arrays of vectors: each in its stored dtype, with the leading axes of the vectors."""
    arrays: list[Array] = []
    start = 0
    for leaf in leaves:
        part = words[..., start : start + leaf.size]
        start += leaf.size
        shape = (*words.shape[:-1], *leaf.shape)
        if namespace(words) is np:
            part = np.ascontiguousarray(part).view(leaf.stored)
        else:
            if leaf.stored.itemsize == 8:
                part = part.reshape(*shape, 2)
            part = lax.bitcast_convert_type(part, leaf.stored)
        arrays.append(part.reshape(shape))
    return arrays

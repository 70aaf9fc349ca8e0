"""Meshes and point clouds: the first few of a batch."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxboard._reduce.first_items import FirstItems
from jaxboard._reduce.image import as_bytes
from jaxboard._reduce.media_options import MeshOptions
from jaxboard._reduce.wide import namespace
from jaxboard._types import Array
from jaxboard.records import Mesh


class MeshReducer(FirstItems):
    """Keep the meshes that were reported last.

    An item is a float32 vector: the coordinates of all vertices, the vertices of all faces, and the colors of all
    vertices, each with three numbers.

    Args:
        options: the numbers of vertices, faces and colors, and how TensorBoard shows them.
    """

    name = "mesh"

    def __init__(self, options: MeshOptions):
        super().__init__(options.max_meshes, rank=1)
        self.options = options

    def compact(self, items: Array) -> tuple[Any, Array | None]:
        xp, options = namespace(items), self.options
        sizes = options.vertices, options.faces, options.colors
        vertices, faces, colors = (
            items[:, 3 * sum(sizes[:n]) : 3 * sum(sizes[: n + 1])].reshape(len(items), size, 3)
            for n, size in enumerate(sizes)
        )
        # One coordinate that is not finite blanks the whole card.
        vertices = xp.where(xp.isfinite(vertices), vertices, np.float32(0))
        limits = None
        if options.colors:
            floating = jnp.issubdtype(options.color_dtype, np.floating)
            colors, limits = as_bytes(colors if floating else colors.astype(np.uint8), None)
        return (vertices, faces.astype(np.int32), colors.astype(np.uint8)), limits

    def as_value(self, items: Any) -> Mesh:
        vertices, faces, colors = items
        return Mesh(
            vertices,
            faces if self.options.faces else None,
            colors if self.options.colors else None,
            self.options.config,
        )

"""The verb for meshes and point clouds: ``mesh``."""

from __future__ import annotations

import json
from collections.abc import Mapping

import jax.numpy as jnp
import numpy as np

from jaxboard._emit import arguments, conversion
from jaxboard._emit.arguments import report_error
from jaxboard._emit.joined import Part, joined
from jaxboard._emit.reporting import report_array
from jaxboard._reduce import MeshOptions
from jaxboard._safe_repr import describe_array, describe_object
from jaxboard._types import Array, Reportable, Runs, Step
from jaxboard.records import Kind

_CAMERA = {"camera": {"cls": "PerspectiveCamera", "fov": 75}}
"""TensorBoard's own camera is too close to see all of a mesh."""

_MAX_VERTICES = 2**24
"""Above this, float32 does not hold every index."""


def mesh(
    tag: str,
    vertices: Reportable,
    faces: Reportable | None = None,
    colors: Reportable | None = None,
    *,
    config: Mapping[str, object] | None = None,
    step: Step | None = None,
    every: int | None = None,
    max_meshes: int = 3,
    where: Reportable | None = None,
    runs: Runs = None,
) -> None:
    """Report a point cloud or a mesh, or the first few of a batch. TensorBoard shows them in three dimensions.

    Args:
        tag: the name.
        vertices: [V, 3] or [N, V, 3], the coordinates, of any real dtype. One that is not finite is shown as 0.
        faces: [F, 3] or [N, F, 3], integers: the indices of the vertices of each triangle. Without faces, the
            vertices are shown as points.
        colors: [V, 3] or [N, V, 3], the red, green and blue of each vertex, as uint8 or floats from 0 to 1.
        config: classes of three.js and their parameters, for the keys "camera", "lights" and "material". By
            default ``{"camera": {"cls": "PerspectiveCamera", "fov": 75}}``.
        step: see :func:`scalar`.
        every: report only at steps that are multiples of this. The program for other steps does not contain
            the mesh.
        max_meshes: how many meshes of a batch are kept.
        where: see :func:`scalar`.
        runs: see :func:`scalar`. Each lane gets its own meshes; there is no summary of all lanes.

    Raises:
        ReportError: the shape or the dtype of an array is wrong, or an argument is invalid.

    Example:
        >>> import numpy as np, jaxboard as jb
        >>> from jaxboard.testing import capture
        >>> corners = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]])
        >>> with capture() as records:
        ...     jb.mesh("tetrahedron", corners, [[0, 2, 1], [0, 1, 3], [1, 2, 3], [0, 3, 2]], step=0)
        >>> records[0].value.vertices.shape, records[0].value.faces.shape
        ((1, 4, 3), (1, 4, 3))
    """
    arguments.check_tag(tag)
    count = arguments.check_positive(tag, "max_meshes", max_meshes)
    points = _checked(tag, "vertices", vertices, ())
    batch, size = points.shape[:-2], points.shape[-2]
    if size > _MAX_VERTICES:
        raise report_error(tag, f"expected at most {_MAX_VERTICES} vertices, got {size}.")
    triangles = None if faces is None else _checked(tag, "faces", faces, batch)
    shades = None if colors is None else _checked(tag, "colors", colors, batch)
    if triangles is not None:
        _check_faces(tag, triangles, size)
    if shades is not None and shades.shape[-2] != size:
        got = describe_array(shades)
        raise report_error(tag, f"expected a color for each of {size} vertices, got {got}.")
    report_array(
        Kind.MESH,
        tag,
        joined(batch, *(Part(x, 2) for x in (points, triangles, shades) if x is not None)),
        conversion.as_array,
        step=step,
        every=every,
        where=where,
        runs=runs,
        options=MeshOptions(
            count,
            vertices=size,
            faces=0 if triangles is None else triangles.shape[-2],
            colors=0 if shades is None else size,
            color_dtype="uint8" if shades is None else str(shades.dtype),
            config=_as_json(tag, config),
        ),
    )


def _checked(tag: str, name: str, value: Reportable, batch: tuple[int, ...]) -> Array:
    """Return vertices, faces or colors as an array of the right rank and dtype."""
    array = conversion.as_array(tag, value)
    shape = "[V, 3] or [N, V, 3]" if name != "faces" else "[F, 3] or [N, F, 3]"
    if array.ndim not in (2, 3) or array.shape[-1] != 3 or 0 in array.shape:
        got = describe_array(array)
        raise report_error(tag, f"expected {name}= of shape {shape}, got {got}.")
    if name != "vertices" and array.ndim == 3 and array.shape[:1] != batch:
        meshes = f"{batch[0]} meshes" if batch else "one mesh"
        raise report_error(tag, f"expected {name}= of {meshes}, got {describe_array(array)}.")
    kinds = {
        "vertices": (np.number, "numbers"),
        "faces": (np.integer, "integers"),
        "colors": (np.floating, "uint8, or floats from 0 to 1"),
    }
    dtype, words = kinds[name]
    if not jnp.issubdtype(array.dtype, dtype) and not (
        name == "colors" and array.dtype == np.uint8
    ):
        raise report_error(tag, f"expected {name}= as {words}, got {describe_array(array)}.")
    return array


def _check_faces(tag: str, faces: Array, size: int) -> None:
    """Raise if faces on the host have vertices that do not exist."""
    if isinstance(faces, np.ndarray) and not (faces.min() >= 0 and faces.max() < size):
        wrong = faces[(faces < 0) | (faces >= size)][0]
        raise report_error(
            tag, f"expected faces= with indices from 0 to {size - 1}, the vertices, got {wrong}."
        )


def _as_json(tag: str, config: Mapping[str, object] | None) -> str:
    try:
        return json.dumps(_CAMERA if config is None else dict(config), sort_keys=True)
    except Exception as error:
        got = describe_object(config)
        raise report_error(
            tag, f"expected config= to be a dict that JSON can hold, got {got}."
        ) from error

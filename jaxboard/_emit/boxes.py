"""Bounding boxes on images: their checks, and one array of the images and their boxes."""

from __future__ import annotations

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np

from jaxboard._emit.arguments import report_error
from jaxboard._emit.conversion import as_array
from jaxboard._emit.joined import Part, joined
from jaxboard._reduce import BoxOptions
from jaxboard._safe_repr import describe_array, describe_object
from jaxboard._types import Array, Reportable


def with_boxes(
    tag: str,
    images: Array,
    boxes: Reportable,
    labels: Sequence[str] | Reportable | None,
    class_names: Sequence[str] | None,
) -> tuple[Array, BoxOptions]:
    """Return images and their boxes in one array, as a report has one value, and its layout.

    Args:
        tag: the tag, for messages.
        images: [H, W, C] or [N, H, W, C].
        boxes: [K, 4] or [N, K, 4].
        labels: K strings, or classes as integers, [K] or [N, K].
        class_names: the name of each class.

    Returns:
        float32[L] or float32[N, L]; see :class:`jaxboard._reduce.image.ImageReducer`.

    Raises:
        ReportError: the boxes or labels are not those of the images.
    """
    *batch, height, width, channels = images.shape
    corners = as_array(tag, boxes)
    if corners.shape[:-2] != tuple(batch) or corners.ndim < 2 or corners.shape[-1] != 4:
        wanted = (
            "[K, 4] for one image"
            if not batch
            else f"[{batch[0]}, K, 4], as there are {batch[0]} images"
        )
        raise report_error(
            tag,
            f"expected boxes= of shape {wanted}, with left, top, right and bottom in pixels, got "
            f"{describe_array(corners)}.",
        )
    count = corners.shape[-2]
    names, classes = _labels(tag, labels, (*batch, count))
    if class_names is not None:
        if classes is None:
            raise report_error(
                tag, "class_names= needs labels= with the class of each box, as integers."
            )
        names = _strings(tag, "class_names", class_names)
    parts = [Part(images, 3), Part(corners, 2)]
    parts += [] if classes is None else [Part(classes, 1)]
    floating = jnp.issubdtype(images.dtype, np.floating)
    dtype = "float32" if floating else str(images.dtype)
    return joined(tuple(batch), *parts), BoxOptions((height, width, channels), dtype, count, names)


def _labels(
    tag: str, labels: Sequence[str] | Reportable | None, shape: tuple[int, ...]
) -> tuple[tuple[str, ...], Array | None]:
    """Return the labels of the boxes, or their classes."""
    if labels is None:
        return (), None
    if isinstance(labels, list | tuple) and all(isinstance(label, str) for label in labels):
        names = _strings(tag, "labels", labels)
        if len(names) != shape[-1]:
            raise report_error(
                tag, f"expected a label for each of {shape[-1]} boxes, got {len(names)} labels."
            )
        return names, None
    classes = as_array(tag, labels)  # pyright: ignore[reportArgumentType] (checked here)
    if classes.shape != shape or not jnp.issubdtype(classes.dtype, np.integer):
        wanted = ",".join(map(str, shape))
        raise report_error(
            tag,
            f"expected labels= to be {shape[-1]} strings, or classes as integers of shape [{wanted}], got "
            f"{describe_array(classes)}.",
        )
    return (), classes


def _strings(tag: str, name: str, values: object) -> tuple[str, ...]:
    if not isinstance(values, list | tuple) or any(not isinstance(value, str) for value in values):
        got = describe_object(values)
        raise report_error(tag, f"expected {name}= to be a list of strings, got {got}.")
    return tuple(values)

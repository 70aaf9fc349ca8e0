"""One call of each method of a summary writer that reports, for tests of what all of them share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
import matplotlib.figure
import numpy as np

GRAY = np.linspace(0, 1, 64, dtype=np.float32).reshape(8, 8)
CORNERS = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]], np.float32)
COUNTS = [[2, 1], [3, 0], [0, 3], [0, 1], [0.4, 1.0], [1.0, 0.5]]


class Call(NamedTuple):
    """A call.

    Attributes:
        method: the method.
        args: its arguments. An array here may be on a device that has not computed it.
        tags: the tags of the values that it writes.
        waits: why the method waits for a device; "" if it does not.
        keywords: further arguments.
    """

    method: str
    args: tuple[Any, ...]
    tags: tuple[str, ...]
    waits: str = ""
    keywords: dict[str, Any] = {}  # noqa: RUF012

    def __call__(self, writer, **keywords) -> None:
        """Make the call."""
        getattr(writer, self.method)(*self.args, **self.keywords, **keywords)

    def with_arrays(self, convert: Callable[[np.ndarray], Any]) -> Call:
        """Return the call with its arrays converted."""
        args = [convert(arg) if isinstance(arg, np.ndarray) else arg for arg in self.args]
        return self._replace(args=tuple(args))


CALLS = {
    "scalar": Call("add_scalar", ("x", np.float32(0.5).reshape(1, 1)), ("x",)),
    "scalars": Call("add_scalars", ("x", {"a": 1.0, "b": 2.0}), ("x/a", "x/b")),
    "histogram": Call("add_histogram", ("x", GRAY), ("x",)),
    "histogram of ten bins": Call("add_histogram", ("x", GRAY), ("x",), "NumPy", {"bins": 10}),
    "histogram_raw": Call("add_histogram_raw", ("x", 0, 3, 3, 3, 5, [1, 3], [1, 2]), ("x",)),
    "image": Call("add_image", ("x", GRAY[None]), ("x",)),
    "images": Call("add_images", ("x", np.stack([GRAY[None]] * 3)), ("x",)),
    "integer image": Call("add_image", ("x", np.eye(4, dtype=np.int32)[None]), ("x",)),
    "boxes": Call(
        "add_image_with_boxes", ("x", GRAY[None], np.array([[1.0, 1, 5, 5]], np.float32)), ("x",)
    ),
    "enlarged boxes": Call(
        "add_image_with_boxes",
        ("x", GRAY[None], np.array([[1.0, 1, 5, 5]], np.float32)),
        ("x",),
        keywords={"rescale": 2},
    ),
    "figure": Call("add_figure", ("x", matplotlib.figure.Figure((1, 1))), ("x",), "no array"),
    "video": Call("add_video", ("x", np.stack([GRAY] * 6).reshape(3, 2, 1, 8, 8)), ("x",)),
    "audio": Call("add_audio", ("x", np.zeros((1, 16), np.float32)), ("x",)),
    "text": Call("add_text", ("x", "**hello**"), ("x/text_summary",), "no array"),
    "pr_curve": Call(
        "add_pr_curve",
        ("x", np.array([0, 1, 1], np.int32), np.array([0.1, 0.6, 0.9], np.float32)),
        ("x",),
    ),
    "weighted pr_curve": Call(
        "add_pr_curve",
        ("x", np.array([0, 1, 1], np.int32), np.array([0.1, 0.6, 0.9], np.float32)),
        ("x",),
        keywords={"weights": 2.0},
    ),
    "pr_curve_raw": Call("add_pr_curve_raw", ("x", *COUNTS), ("x",), "no array"),
    "mesh": Call(
        "add_mesh",
        ("x", CORNERS, np.full((4, 3), 255, np.int32), np.array([[0, 1, 2]], np.int32)),
        ("x_VERTEX", "x_FACE", "x_COLOR"),
    ),
    "tensor": Call("add_tensor", ("x", GRAY), ("x",), "a whole array"),
    "hparams": Call(
        "add_hparams",
        ({"lr": 0.1}, {"x": 0.5}),
        ("_hparams_/session_start_info", "x"),
        "no array",
    ),
}
"""Name -> a call. Those of other methods have no step or no wall time."""

ON_DEVICE = {name: call for name, call in CALLS.items() if not call.waits and "raw" not in name}
"""The calls that take arrays on a device without waiting."""


def on_device(array: np.ndarray) -> Any:
    """Return an array on a device."""
    return jnp.asarray(array)

"""Values that TensorFlow and TensorBoard's own plugins write, for comparison with jaxboard's encoder.

``python tests/sinks/golden.py`` writes ``golden.tfevents`` anew. It needs TensorFlow, which the tests do not.
"""

from __future__ import annotations

import glob
import pathlib
import shutil
import tempfile
from typing import Any

import numpy as np

FILE = pathlib.Path(__file__).with_name("golden.tfevents")

SOUNDS = np.stack([np.linspace(-1, 1, 32), np.sin(np.arange(32))], axis=-1).reshape(2, 16, 2)
SOUNDS = (SOUNDS * 2**14).astype(np.int16)
"""Sounds of 16 bits, int16[2, 16, 2]."""

PIXELS = np.random.default_rng(1).integers(0, 256, (2, 4, 6, 3), np.uint8)
"""Images, uint8[2, 4, 6, 3]."""

VERTICES = np.random.default_rng(2).normal(size=(2, 4, 3)).astype(np.float32)
FACES = np.tile(np.array([[0, 2, 1], [0, 1, 3]], np.int32), (2, 1, 1))
COLORS = np.random.default_rng(3).integers(0, 256, (2, 4, 3), np.uint8)
CAMERA = {"camera": {"cls": "PerspectiveCamera", "fov": 75}}
"""Two meshes with four vertices."""


def values() -> dict[str, Any]:
    """Return the stored values: tag -> ``Summary.Value``."""
    from tensorboard.backend.event_processing.event_file_loader import LegacyEventFileLoader

    events = LegacyEventFileLoader(str(FILE)).Load()
    return {value.tag: value for event in events for value in event.summary.value}


def write() -> None:
    """Write the file with TensorFlow."""
    import tensorflow as tf
    from tensorboard.plugins.mesh import summary_v2 as mesh_summary

    with tempfile.TemporaryDirectory() as directory:
        writer = tf.summary.create_file_writer(directory)
        with writer.as_default(step=3):
            tf.summary.audio("audio", SOUNDS / np.float32(2**15), 8000)
            tf.summary.image("image", PIXELS)
            mesh_summary.mesh("mesh", VERTICES, FACES, COLORS, CAMERA)
            mesh_summary.mesh("points", VERTICES)
        writer.close()
        (path,) = glob.glob(f"{directory}/*")
        shutil.copy(path, FILE)


if __name__ == "__main__":
    write()

"""jaxboard's messages are those of TensorFlow and TensorBoard's own plugins for the same values."""

from __future__ import annotations

import io
import json
from typing import Any

import numpy as np
from PIL import Image
from sinks import golden
from tensorboard.util import tensor_util

from jaxboard.records import Audio, Kind, Mesh, Record
from jaxboard.sinks import _encoding
from jaxboard.sinks._proto import Event

THEIRS = golden.values()


def ours(kind: Kind, tag: str, content: Any) -> dict[str, Any]:
    """Return the values of a record: tag -> ``Summary.Value``."""
    data, sizes, _ = _encoding.encode([Record(kind, tag, 3, 12.5, content)], lambda *_: None)
    assert sizes.tolist() == [len(data)]
    return {value.tag: value for value in Event.FromString(data).summary.value}


def test_audio():
    """The message is equal, WAV files included."""
    assert ours(Kind.AUDIO, "audio", Audio(golden.SOUNDS, 8000)) == {"audio": THEIRS["audio"]}


def assert_meshes_equal(mine: dict[str, Any], name: str, parts: str):
    """Compare the tensors of a mesh, whatever field holds their numbers, and the other fields as messages."""
    assert list(mine) == [f"{name}_{part}" for part in parts.split()]
    for tag, value in mine.items():
        ours, theirs = (tensor_util.make_ndarray(each.tensor) for each in (value, THEIRS[tag]))
        assert (ours.dtype, ours.shape) == (theirs.dtype, theirs.shape)
        np.testing.assert_array_equal(ours, theirs)
        assert value.metadata.plugin_data == THEIRS[tag].metadata.plugin_data


def test_meshes():
    """The tensors and the metadata of every part are equal, for meshes with colours and for point clouds."""
    config = json.dumps(golden.CAMERA, sort_keys=True)
    whole = Mesh(golden.VERTICES, golden.FACES, golden.COLORS, config)
    assert_meshes_equal(ours(Kind.MESH, "mesh", whole), "mesh", "VERTEX FACE COLOR")
    points = Mesh(golden.VERTICES, None, None)
    assert_meshes_equal(ours(Kind.MESH, "points", points), "points", "VERTEX")


def test_images():
    """The message is equal, except for the compression of the PNG files, whose pixels are equal."""
    mine, theirs = ours(Kind.IMAGE, "image", golden.PIXELS)["image"], THEIRS["image"]
    for files in (mine.tensor.string_val, theirs.tensor.string_val):
        pixels = [np.asarray(Image.open(io.BytesIO(file))) for file in files[2:]]
        np.testing.assert_array_equal(np.stack(pixels), golden.PIXELS)
        del files[2:]
    assert mine.tensor == theirs.tensor
    assert mine.metadata.plugin_data.plugin_name == theirs.metadata.plugin_data.plugin_name

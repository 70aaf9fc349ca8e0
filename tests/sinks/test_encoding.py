"""The events of each kind of record."""

import io
import math
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tensorboard.plugins.hparams import metadata as hparams_metadata
from tensorboard.util import tensor_util

from jaxboard import _errors
from jaxboard.records import EncodedImage, Histogram, Kind, Record, Scalars
from jaxboard.sinks import _encoding
from jaxboard.sinks._proto import Event


def events(*items: Record | Scalars) -> list[Any]:
    data, sizes = _encoding.encode(list(items))
    ends = np.cumsum(sizes)
    assert (ends[-1] if len(ends) else 0) == len(data)
    return [Event.FromString(data[end - size : end]) for end, size in zip(ends, sizes, strict=True)]


def value(kind: Kind, content, tag: str = "tag"):
    (event,) = events(Record(kind, tag, 3, 12.5, content))
    (only,) = event.summary.value
    assert (event.step, event.wall_time, only.tag) == (3, 12.5, tag)
    return only


def test_every_kind_has_an_encoding():
    """Every kind has an encoder, except scalars, which are encoded in columns."""
    assert {Kind.SCALAR, *_encoding._ENCODERS} == set(Kind)


def test_scalars_of_one_tag_keep_their_order():
    """Single scalars with other records between them keep their order and wall times."""
    scalar = lambda tag, step: Record(Kind.SCALAR, tag, step, step + 0.5, np.float32(step))  # noqa: E731
    block = Scalars(("a",), np.array([2, 3]), np.array([2.5, 3.5]), np.array([[2.0], [3.0]]))
    got = events(scalar("a", 0), scalar("b", 0), scalar("a", 1), block, scalar("a", 4))
    points = [
        (event.step, event.wall_time, event.summary.value[0].simple_value)
        for event in got
        if event.summary.value[0].tag == "a"
    ]
    assert points == [(step, step + 0.5, step) for step in range(5)]
    assert len(got) == 6


def test_values_of_one_moment_share_an_event():
    """Consecutive values with the same step and wall time share one event; others do not."""
    text = lambda tag, step, wall: Record(Kind.TEXT, tag, step, wall, "x")  # noqa: E731
    got = events(text("a", 1, 5.0), text("b", 1, 5.0), text("a", 2, 5.0), text("a", 2, 6.0))
    assert [[v.tag for v in event.summary.value] for event in got] == [["a", "b"], ["a"], ["a"]]


def test_an_empty_batch_has_no_events():
    """An empty batch, and a block without rows or tags, have no events."""
    assert events() == []
    assert events(Scalars(("a",), np.zeros(0, np.int64), np.zeros(0), np.zeros((0, 1)))) == []
    assert events(Scalars((), np.zeros(2, np.int64), np.zeros(2), np.zeros((2, 0)))) == []


@pytest.mark.parametrize(
    ("edges", "counts", "table"),
    [
        ([0.0, 0.1, 2.0], [3, 4], [[0.0, 0.1, 3.0], [0.1, 2.0, 4.0]]),
        ([0.7, 0.7], [5], [[0.7, 0.7, 5.0]]),
        ([], [], []),
        ([0.0, 1.0, math.inf], [3, 4], [[0.0, 1.0, 3.0]]),
    ],
)
def test_histograms_are_rows_of_left_right_count(edges, counts, table):
    """A histogram has exact edges and counts, no infinite edge, and shape [0, 3] if empty."""
    got = value(Kind.HISTOGRAM, Histogram(np.array(edges), np.array(counts, np.int64)))
    array = tensor_util.make_ndarray(got.tensor)
    assert array.shape == (len(table), 3)
    assert array.tolist() == table
    assert got.metadata.plugin_data.plugin_name == "histograms"


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_images_are_lossless(channels):
    """The tensor holds width, height and files that decode to the exact pixels."""
    pixels = np.random.default_rng(0).integers(0, 256, (2, 5, 7, channels), np.uint8)
    got = value(Kind.IMAGE, pixels)
    width, height, *files = got.tensor.string_val
    assert (width, height) == (b"7", b"5")
    for file, frame in zip(files, pixels, strict=True):
        np.testing.assert_array_equal(
            np.asarray(Image.open(io.BytesIO(file))).reshape(frame.shape), frame
        )
    assert got.metadata.plugin_data.plugin_name == "images"


def test_an_encoded_image_is_not_reencoded():
    """An encoded image is stored unchanged."""
    got = value(Kind.IMAGE, EncodedImage(b"a file", width=30, height=20))
    assert list(got.tensor.string_val) == [b"30", b"20", b"a file"]


@pytest.mark.parametrize(
    ("content", "shape", "cells"),
    [
        ("# Ü", (), ["# Ü"]),
        ([["k", "v"], ["lr", "0.1"]], (2, 2), ["k", "v", "lr", "0.1"]),
        ([["k", "v"], ["alone"]], (2, 2), ["k", "v", "alone", ""]),
    ],
)
def test_text_is_a_string_or_a_table(content, shape, cells):
    """Markdown has rank 0; a table has rank 2, with short rows padded."""
    got = value(Kind.TEXT, content)
    assert tuple(dim.size for dim in got.tensor.tensor_shape.dim) == shape
    assert got.tensor.HasField("tensor_shape")
    assert [cell.decode() for cell in got.tensor.string_val] == cells
    assert got.metadata.plugin_data.plugin_name == "text"


def test_hparams_are_booleans_numbers_or_text():
    """Hyperparameters keep booleans and finite numbers, store the rest as text, and join nested names."""
    content = {
        "flag": True,
        "np_flag": np.bool_(False),
        "lr": 1e-3,
        "layers": np.int64(4),
        "none": None,
        "nan": math.nan,
        "inf": math.inf,
        "sizes": [1, 2],
        "opt": {"name": "adam", "b": {"1": 0.9}},
    }
    got = value(Kind.HPARAMS, content, tag="_hparams_/session_start_info")
    info = hparams_metadata.parse_session_start_info_plugin_data(got.metadata.plugin_data.content)
    field = {name: entry.WhichOneof("kind") for name, entry in info.hparams.items()}
    assert {name: getattr(info.hparams[name], kind) for name, kind in field.items()} == {
        "flag": True,
        "np_flag": False,
        "lr": 1e-3,
        "layers": 4.0,
        "none": "None",
        "nan": "nan",
        "inf": "inf",
        "sizes": "[1, 2]",
        "opt/name": "adam",
        "opt/b/1": 0.9,
    }
    assert field["flag"] == field["np_flag"] == "bool_value"
    assert info.start_time_secs == 12.5


def test_a_value_that_cannot_be_encoded_leaves_the_others():
    """A value that cannot be encoded is named in a warning, and the rest of the batch is written."""
    good = Record(Kind.TEXT, "good", 1, 1.0, "x")
    bad = Record(Kind.IMAGE, "bad", 1, 1.0, np.zeros((1, 2, 2, 3), np.float32))
    message = (
        r"^report 'bad' of step 1 is left out because it cannot be encoded: "
        r"TypeError: expected a uint8 image, got float32\[2, 2, 3\]$"
    )
    with pytest.warns(_errors.JaxboardWarning, match=message):
        (event,) = events(good, bad, good)
    assert [v.tag for v in event.summary.value] == ["good", "good"]


def test_a_scalar_that_is_not_a_number_leaves_the_others():
    """A scalar that cannot be encoded is left out, and the other scalars are written."""
    bad = Record(Kind.SCALAR, "bad", 1, 1.0, object())
    good = Record(Kind.SCALAR, "good", 1, 1.0, np.float32(2))
    with pytest.warns(_errors.JaxboardWarning, match="^report 'bad' of step 1 is left out"):
        (event,) = events(bad, good)
    assert event.summary.value[0].tag == "good"


def test_a_session_start_has_its_step():
    """The start mark is SessionLog.START at the first step of the file."""
    data, sizes = _encoding.session_start(17)
    event = Event.FromString(data)
    assert (event.step, event.session_log.status, sizes.tolist()) == (17, 1, [len(data)])

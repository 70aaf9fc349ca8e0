"""Embeddings: their files, and what TensorBoard's projector serves of them."""

from __future__ import annotations

import io
import os
import pathlib

import numpy as np
import pytest
from google.protobuf import text_format
from object_stores import new_store
from PIL import Image
from with_tensorflow import needs_tensorflow

import jaxboard as jb
from jaxboard.records import Embedding, Kind, Record
from jaxboard.sinks import TensorBoardSink, _projector, _proto
from jaxboard.testing import capture

RNG = np.random.default_rng(0)
VECTORS = RNG.normal(size=(10, 4)).astype(np.float32)
WORDS = [f"wört\t{i}" for i in range(10)]
IMAGES = RNG.integers(0, 256, (10, 8, 6, 3), np.uint8)
TEXT = np.frombuffer(b"text" * 12, np.float32).reshape(3, 4)
"""Numbers whose bytes are valid UTF-8, which TensorBoard would parse as text."""


def report(logdir: str) -> None:
    """Report embeddings of all forms, one of them at two steps and one in another process's run."""
    with jb.Run(f"{logdir}/run", telemetry=False) as run:
        for step in (1, 2):
            jb.embedding("words", VECTORS * step, labels=WORDS, images=IMAGES, step=step)
        jb.embedding("../../table", TEXT, labels={"word": ["a", "b", ""], "n": [1, 2, 3]}, step=1)
        run.child("eval").embedding("plain", VECTORS, step=3)
    with jb.Run(f"{logdir}/run", telemetry=False):
        jb.embedding("words", VECTORS * 3, step=3)


@pytest.fixture(scope="module")
def logdir(tmp_path_factory):
    """Report embeddings into a local directory."""
    logdir = tmp_path_factory.mktemp("projector")
    report(str(logdir))
    return logdir


@pytest.fixture(scope="module")
def run(server, logdir):
    """Show the runs in TensorBoard; return the name of the first."""
    run = f"{server.show(logdir)}run"
    server.until(lambda: run in server.get("data/plugin/projector/runs"))
    return run


def vectors(server, run, name, columns):
    data = server.read("data/plugin/projector/tensor", run=run, name=name)
    return np.frombuffer(data, np.float32).reshape(-1, columns)


def test_vectors_are_exact(server, run):
    """Each tag and step is an entry with its exact vectors, also those of an earlier process and those that look like text."""
    config = server.get("data/plugin/projector/info", run=run)
    shapes = {each["tensorName"]: each["tensorShape"] for each in config["embeddings"]}
    assert shapes == {
        "words step 1": [10, 4],
        "words step 2": [10, 4],
        "../../table step 1": [3, 4],
        "words step 3": [10, 4],
    }
    for step in (1, 2, 3):
        got = vectors(server, run, f"words step {step}", 4)
        np.testing.assert_array_equal(got, VECTORS * np.float32(step))
    np.testing.assert_array_equal(vectors(server, run, "../../table step 1", 4), TEXT)
    np.testing.assert_array_equal(vectors(server, f"{run}/eval", "plain step 3", 4), VECTORS)


def test_labels_are_rows(server, run):
    """A single column has no header, several have one; tabs in labels are spaces, and empty labels are marked."""
    read = lambda name: server.read("data/plugin/projector/metadata", run=run, name=name).decode()  # noqa: E731
    assert read("words step 1").splitlines() == [f"wört {i}" for i in range(10)]
    assert read("../../table step 1").splitlines() == ["word\tn", "a\t1", "b\t2", "-\t3"]


def test_thumbnails_are_in_one_picture(server, run):
    """Thumbnails are centered in the squares of one square picture, row by row."""
    data = server.read("data/plugin/projector/sprite_image", run=run, name="words step 2")
    sprite = np.asarray(Image.open(io.BytesIO(data)))
    assert sprite.shape == (32, 32, 3)
    for index, pixels in enumerate(IMAGES):
        row, column = divmod(index, 4)
        tile = sprite[8 * row : 8 * row + 8, 8 * column : 8 * column + 8]
        np.testing.assert_array_equal(tile[:, 1:7], pixels)
        assert not tile[:, [0, 7]].any()


def test_files_stay_in_the_directory(logdir):
    """No tag leaves the directory of its run."""
    names = {path.name for path in (logdir / "run" / "projector").iterdir()}
    assert names == {"words", "..%2F..%2Ftable"}
    assert {path.name for path in logdir.iterdir()} == {"run"}
    assert _projector.folder_of("..") == "%2E%2E"
    assert len(_projector.folder_of("日本" * 200)) < 200


def projector_files(logdir: pathlib.Path) -> dict[str, bytes]:
    """Return the contents of all files but event files, by their paths in the directory."""
    files = {str(path.relative_to(logdir)): path for path in logdir.rglob("*") if path.is_file()}
    return {name: path.read_bytes() for name, path in files.items() if ".tfevents." not in name}


@pytest.mark.parametrize(
    "written_by", ["fsspec", pytest.param("tensorflow", marks=needs_tensorflow)]
)
def test_remote_directories(written_by, logdir, tmp_path):
    """A URL has the files of a local directory, and the configuration names each of them by its path from there."""
    if written_by == "fsspec":
        scheme, store = new_store()
        report(f"{scheme}://bucket")
        store.copy_to(tmp_path)
    else:
        report(f"file://{tmp_path}/bucket")
    files = projector_files(tmp_path / "bucket")
    assert files == projector_files(logdir)
    for run, count in (("run", 4), ("run/eval", 1)):
        text = files.pop(f"{run}/projector_config.pbtxt").decode()
        config = text_format.Parse(text, _proto.projector.ProjectorConfig())
        assert len(config.embeddings) == count
        for each in config.embeddings:
            paths = each.tensor_path, each.metadata_path, each.sprite.image_path
            for path in filter(None, paths):
                assert files.pop(f"{run}/{path}")
    assert files == {}


def test_writing_again_changes_nothing(tmp_path):
    """After a fault the run writes a record again: the configuration lists it once, and no partial file is left."""
    record = Record(Kind.EMBEDDING, "x", 1, 0.0, Embedding(VECTORS))
    for _ in range(2):
        sink = TensorBoardSink(tmp_path)
        sink.write([record])
        sink.flush()
        sink.close()
    assert (tmp_path / "projector_config.pbtxt").read_text().count("embeddings {") == 1
    files = [name for _, _, names in os.walk(tmp_path / "projector") for name in names]
    assert files == ["vectors.bytes"]


def test_a_record_that_cannot_be_written_costs_only_itself(tmp_path):
    """A value that is not an embedding is lost, and the others are written."""
    sink = TensorBoardSink(tmp_path)
    good = Record(Kind.EMBEDDING, "good", 1, 0.0, Embedding(VECTORS))
    sink.write([Record(Kind.EMBEDDING, "bad", 1, 0.0, "x"), good])
    sink.flush()
    (reason,) = sink.take_lost()
    assert "report 'bad': it cannot be encoded" in reason
    assert "good step 1" in (tmp_path / "projector_config.pbtxt").read_text()
    sink.close()


def test_large_pictures_are_scaled():
    """Thumbnails have at most 128 pixels, and fewer if there are very many."""
    sprite, size = _projector._sprite(np.zeros((4, 200, 300, 1), np.uint8))
    assert (size, Image.open(io.BytesIO(sprite)).size) == (128, (256, 256))
    sprite, size = _projector._sprite(np.zeros((10000, 1, 100, 4), np.uint8))
    assert (size, Image.open(io.BytesIO(sprite)).size) == (81, (8100, 8100))


def test_vectors_that_are_not_finite(recwarn):
    """NaN and infinity are 0, with one warning; floats are pixels from 0 to 1."""
    with capture() as records, pytest.warns(jb.JaxboardWarning, match="with NaN or infinity"):
        jb.embedding("nan", np.array([[1, np.nan], [np.inf, 2]]), images=np.full((2, 1, 1, 1), 0.5))
    value = records[0].value
    assert value.vectors.tolist() == [[1, 0], [0, 2]]
    assert value.images.tolist() == [[[[128]]], [[[128]]]]


def test_the_layout_of_thumbnails():
    """Thumbnails with channels first need layout=."""
    images = np.random.default_rng(0).integers(0, 256, (2, 3, 4, 4), np.uint8)
    with capture() as records:
        jb.embedding("x", np.eye(2), images=images, layout="NCHW")
    np.testing.assert_array_equal(records[0].value.images, images.transpose(0, 2, 3, 1))


@pytest.mark.parametrize(
    ("args", "options", "problem"),
    [
        ([np.ones(3)], {}, "expected vectors [N, D], got float64[3]."),
        ([np.ones((0, 3))], {}, "expected vectors [N, D], got float64[0,3]."),
        ([np.ones((2, 3))], {"labels": ["a"]}, "expected 2 labels, one for each vector, got 1."),
        ([np.ones((2, 3))], {"labels": "ab"}, "expected labels= to be a list, got 'ab' (str)."),
        ([np.ones((2, 3))], {"labels": {"a": [1, 2], "b": [1]}}, "expected 2 labels in column 'b', one for each vector, got 1."),
        ([np.ones((2, 3))], {"labels": [("a",), ("b",)], "metadata_header": ["x", "y"]}, "expected rows of 2 labels, as metadata_header= has, got ('a',)."),
        ([np.ones((2, 3))], {"labels": ["ab", "cd"], "metadata_header": ["x", "y"]}, "expected a row of labels as a list, got 'ab' (str)."),
        ([np.ones((2, 3))], {"labels": [("a",), ("b",)], "metadata_header": 5}, "expected metadata_header= as a list, got 5 (int)."),
        ([np.ones((2, 3))], {"images": np.ones((2, 3, 4, 4))}, "float64[2,3,4,4] may have its channels last or first. Pass layout='NHWC' or layout='NCHW'."),
        ([np.ones((2, 3))], {"metadata_header": ["x"]}, "metadata_header= needs labels=."),
        ([np.ones((2, 3))], {"images": np.ones((3, 4, 4, 1))}, "expected 2 images [2, H, W, C], one for each vector, got float64[3,4,4,1]."),
    ],
)  # fmt: skip
def test_what_the_verb_refuses(args, options, problem):
    """The message names the tag, the line and what to pass."""
    with capture() as records, pytest.raises(jb.ReportError) as raised:
        jb.embedding("x", *args, **options)
    assert records == []
    assert str(raised.value).startswith("report 'x' (test_projector.py:")
    assert problem in str(raised.value)

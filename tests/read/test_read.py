"""``jaxboard.read``: what jaxboard wrote, and its options."""

from __future__ import annotations

import importlib
import os
import pathlib
import subprocess
import sys
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import polars as pl
import pytest

import jaxboard as jb
from jaxboard._read.read import read_run
from jaxboard._read.run_files import EventFile, find_runs
from jaxboard._read.verification import verify
from jaxboard._read.visible_points import in_order_of_writing
from jaxboard.records import EncodedImage, Kind, Record, Scalars
from jaxboard.sinks import TensorBoardSink

COLUMNS = ["run", "tag", "step", "wall_time", "value"]


def write(logdir, *batch, **options) -> None:
    """Write records into an event file of their own."""
    sink = TensorBoardSink(logdir, **options)
    sink.write(list(batch))
    sink.close()


def column(tag: str, steps, values, run: str = "") -> Scalars:
    """Return one tag at several steps."""
    values = np.asarray(values, np.float32)[:, None]
    return Scalars((tag,), np.asarray(steps), np.asarray(steps) + 0.5, values, run)


def points(table) -> list[tuple[str, str, int, float]]:
    """Return run, tag, step and value of each row."""
    return list(zip(table["run"], table["tag"], table["step"], table["value"], strict=True))


def test_every_point_of_a_run(logdir) -> None:
    """A table has every point of a run and of the runs below it, in the order of runs, tags and steps."""

    @jb.instrument
    @jax.jit
    def train_step(w):
        jb.scalar("loss", w**2)
        jb.scalar("w", w)
        return w - 1

    with jb.Run(logdir) as run:
        w = jnp.float32(3)
        for _ in range(4):
            w = train_step(w)
        run.child("eval").scalar("loss", 0.25, step=2)
    table = jb.read(logdir)
    assert points(table) == [
        *((".", "loss", step, (3.0 - step) ** 2) for step in range(4)),
        *((".", "w", step, 3.0 - step) for step in range(4)),
        ("eval", "loss", 2, 0.25),
    ]
    assert list(table.columns) == COLUMNS
    dtypes = ["step", "wall_time", "value"]
    assert [str(table[name].dtype) for name in dtypes] == ["int64", "float64", "float64"]


def test_many_layouts(logdir, monkeypatch) -> None:
    """Every value, step and wall time is bit-identical, whatever the lengths of steps and tags, in small and large parts."""
    generator = np.random.default_rng(0)
    steps = np.unique(generator.integers(-5, 1 << 40, 300) >> generator.integers(0, 40, 300))
    tags = [("a", "bb", "ccc"), ("x" * 300,), tuple(f"tag_{i}" for i in range(50)), ("ä", "")]
    batch = []
    for names in tags:
        values = generator.standard_normal((len(steps), len(names))).astype(np.float32)
        values[3] = np.nan
        values[4] = np.inf
        batch.append(Scalars(names, steps, generator.random(len(steps)) * 1e9, values))
    # Events of several sets of tags in turn.
    singles = [
        Scalars(
            block.tags, block.steps[i : i + 1], block.wall_times[i : i + 1], block.values[i : i + 1]
        )
        for i in range(len(steps))
        for block in batch
    ]
    write(os.path.join(logdir, "blocks"), *batch)
    write(os.path.join(logdir, "in turn"), *singles)
    expected = {
        name: block.values[:, i].astype(np.float64)
        for block in batch
        for i, name in enumerate(block.tags)
    }
    walls = {name: block.wall_times for block in batch for name in block.tags}
    framing = importlib.import_module("jaxboard._read.framing")
    for window in (1 << 24, 1000):
        monkeypatch.setattr(framing.read_blocks, "__defaults__", (window,))
        table = jb.read(logdir)
        assert len(table) == 2 * len(steps) * len(expected)
        for (_, tag), rows in cast("Any", table).groupby(["run", "tag"]):
            np.testing.assert_array_equal(rows["step"], steps)
            np.testing.assert_array_equal(rows["value"], expected[tag])
            np.testing.assert_array_equal(rows["wall_time"], walls[tag])


def test_a_resumed_run(logdir) -> None:
    """After a restart at a step, earlier points from that step on are left out, whichever file holds them."""
    write(logdir, column("loss", range(6), [1] * 6), column("other", range(6), [1] * 6))
    write(logdir, column("loss", range(6, 9), [2] * 3))
    write(logdir, column("loss", [4, 5], [3, 3]), start_step=4)
    expected = [*((i, 1.0) for i in range(4)), (4, 3.0), (5, 3.0)]
    table = jb.read(logdir, tags="loss")
    assert list(zip(table["step"], table["value"], strict=True)) == expected
    assert jb.read(logdir, tags="other")["step"].tolist() == [0, 1, 2, 3]
    assert jb.read(logdir, keep="all", tags="loss")["step"].tolist() == [*range(9), 4, 5]


def test_a_run_that_continues_from_a_state(logdir) -> None:
    """Points that a state does not have are left out, of each tag from its own step on."""
    write(logdir, column("loss", range(6), [1] * 6), column("other", range(6), [1] * 6))
    hidden = {"": {"other": 2, "loss": 7}}
    write(logdir, column("loss", [6], [2]), start_step=4, hidden=hidden)
    assert jb.read(logdir, tags="loss")["step"].tolist() == [*range(7)]
    assert jb.read(logdir, tags="other")["step"].tolist() == [0, 1]
    assert jb.read(logdir, keep="all", tags="other")["step"].tolist() == [*range(6)]
    assert [problem.code for problem in verify(logdir).problems] == []


def test_the_last_of_several_points_with_one_step(logdir) -> None:
    """The last written of several points with one tag and step is kept, and steps are in order."""
    write(logdir, column("loss", [0, 2, 1, 2], [0, 1, 2, 3]), column("other", [5], [5]))
    write(logdir, column("loss", [1, 7], [4, 5]))
    table = jb.read(logdir, tags="loss")
    assert list(zip(table["step"], table["value"], strict=True)) == [(0, 0), (1, 4), (2, 3), (7, 5)]
    assert jb.read(logdir, tags="loss", keep="all")["value"].tolist() == [0, 1, 2, 3, 4, 5]
    assert jb.read(logdir).pivot(index="step", columns="tag", values="value").shape == (5, 2)


def test_names(logdir) -> None:
    """Tags and runs are selected by name or pattern; a name with brackets also selects itself."""
    write(logdir, *(column(tag, [0], [1]) for tag in ("train/loss", "train/acc", "w[0]")))
    write(os.path.join(logdir, "eval"), column("loss", [0], [1]))

    def tags(**options) -> list[str]:
        return jb.read(logdir, **options)["tag"].tolist()

    assert tags(tags="train/*") == ["train/acc", "train/loss"]
    assert tags(tags=["w[0]", "*loss"]) == ["train/loss", "w[0]", "loss"]
    assert tags(runs="eval") == ["loss"]
    assert tags(runs=["."], tags=("w?0?",)) == ["w[0]"]
    assert tags(tags=[]) == tags(tags="none") == []


def test_other_kinds(logdir) -> None:
    """Histograms, images, text and hyperparameters are objects of the documented types."""
    with jb.Run(logdir, hparams={"lr": 0.5, "name": "x", "nested": {"on": True}}):
        jb.histogram("h", np.array([1.0, 2.0, 2.0]), step=1)
        jb.image("i", np.zeros((2, 6, 8, 3)), layout="NHWC", step=1)
        jb.text("t", "# Title", step=1)
        jb.scalar("s", 1.0, step=1)

    def value(kind: str) -> Any:
        table = jb.read(logdir, kind=kind)
        assert list(table.columns) == COLUMNS
        assert len(table) == 1
        return table["value"][0]

    histogram = value("histogram")
    assert histogram.dtype == np.float64
    assert histogram[:, 2].sum() == 3
    assert histogram[[0, -1], [0, 1]].tolist() == [1, 2]
    images = value("image")
    assert [(type(image), image.width, image.height) for image in images] == 2 * [
        (EncodedImage, 8, 6)
    ]
    assert images[0].data.startswith(b"\x89PNG")
    assert value("text") == "# Title"
    assert value("hparams") == {"lr": 0.5, "name": "x", "nested/on": True}
    assert len(jb.read(logdir, kind="tensor")) == 0
    with pytest.raises(
        jb.UsageError, match="kinds in the files: 'histogram', 'hparams', 'image', 'scalar'"
    ):
        jb.read(logdir, kind="scalars")


def test_polars(logdir) -> None:
    """With frame="polars" the table is polars', with the same columns."""
    write(logdir, column("loss", range(3), range(3)), Record(Kind.TEXT, "t", 0, 1.0, "text"))
    table = jb.read(logdir, frame="polars")
    assert isinstance(table, pl.DataFrame)
    assert table.schema == dict(
        zip(COLUMNS, [pl.String, pl.String, pl.Int64, pl.Float64, pl.Float64], strict=True)
    )
    assert points(table) == points(jb.read(logdir))
    assert jb.read(logdir, frame="polars", kind="text")["value"].to_list() == ["text"]


@pytest.mark.parametrize("frame", ["pandas", "polars"])
def test_nothing_to_read(tmp_path, frame) -> None:
    """A directory without points gives an empty table with all columns."""
    table = jb.read(tmp_path, frame=frame)
    assert list(table.columns) == COLUMNS
    assert len(table) == 0
    if frame == "pandas":
        assert isinstance(table, pd.DataFrame)
        assert table["step"].dtype == np.int64
        assert table["tag"].dtype == pd.Series(["tag"]).dtype


def test_one_file_and_a_path_with_a_tilde(logdir, monkeypatch) -> None:
    """A single event file is read as the run "."; ~ is expanded."""
    write(logdir, column("loss", [0], [1]))
    (file,) = pathlib.Path(logdir).iterdir()
    assert points(jb.read(file)) == [(".", "loss", 0, 1.0)]
    monkeypatch.setenv("HOME", str(pathlib.Path(logdir).parent))
    assert points(jb.read("~")) == [("run", "loss", 0, 1.0)]


def test_links_and_pipes(logdir, tmp_path) -> None:
    """Links are followed, also one that leads back, and a pipe with the name of an event file is left out."""
    write(os.path.join(logdir, "a"), column("loss", [0], [1]))
    (tmp_path / "elsewhere").mkdir()
    write(tmp_path / "elsewhere", column("loss", [0], [2]))
    os.symlink(tmp_path / "elsewhere", os.path.join(logdir, "linked"))
    os.symlink(logdir, os.path.join(logdir, "a", "back"))
    os.mkfifo(os.path.join(logdir, "a", "events.out.tfevents.9999999999.pipe"))
    assert points(jb.read(logdir)) == [("a", "loss", 0, 1.0), ("linked", "loss", 0, 2.0)]


def test_damage_is_a_warning(logdir) -> None:
    """A damaged record is left out with a warning at the line of the call; one that is cut off without."""
    write(logdir, *(column("loss", [i], [i]) for i in range(10)))
    (file,) = pathlib.Path(logdir).iterdir()
    data = file.read_bytes()
    file.write_bytes(data[:-3])
    assert jb.read(logdir)["step"].tolist() == list(range(9))
    place = data.index(b"loss", len(data) // 2)
    file.write_bytes(data[:place] + b"\xff" + data[place + 1 :])
    with pytest.warns(jb.JaxboardWarning, match="1 damaged part of .*verify") as caught:
        table = jb.read(logdir)
    assert len(table) == 9
    assert caught[0].filename == __file__


def test_files_that_cannot_be_read(logdir) -> None:
    """A file that was removed since it was found is left out, another one that cannot be read is a warning."""
    write(logdir, column("loss", [0, 1], [0, 1]))
    removed = EventFile(os.path.join(logdir, "events.out.tfevents.1.removed"), 10)
    directory = EventFile(logdir, 10)
    with pytest.warns(jb.JaxboardWarning, match="cannot be read: IsADirectoryError") as caught:
        contents = read_run(
            [removed, directory, *find_runs(logdir, "read")["."]], "scalar", lambda _: True
        )
    assert len(caught) == 1
    assert in_order_of_writing(contents).steps.tolist() == [0, 1]


def test_a_run_that_is_being_written(logdir) -> None:
    """Reading an open run gives the points that it has flushed."""
    with jb.Run(logdir) as run:
        for run.step in range(3):
            jb.scalar("loss", run.step)
        run.flush()
        assert jb.read(logdir)["step"].tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": ""}, r"read\(kind=''\)"),
        ({"kind": 3}, r"read\(kind=3\)"),
        ({"frame": "arrow"}, r"read\(frame='arrow'\): expected 'pandas' or 'polars'"),
        ({"keep": "first"}, r"read\(keep='first'\): expected 'last' or 'all'"),
        ({"tags": 3}, r"read\(tags=3\)"),
        ({"runs": [3]}, r"read\(runs=\[3\]\)"),
    ],
)
def test_invalid_options(tmp_path, options, message) -> None:
    """An invalid option raises an error that names it."""
    with pytest.raises(jb.UsageError, match=message):
        jb.read(tmp_path, **options)


@pytest.mark.parametrize("logdir", ["", 3, None, "/nowhere/at/all"])
def test_invalid_directories(logdir) -> None:
    """A directory that does not exist, or is not a path, raises an error that names it."""
    with pytest.raises(jb.UsageError, match=r"read\("):
        jb.read(logdir)


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_without_the_library(tmp_path, monkeypatch, library) -> None:
    """Without the library of the table, the error names it and the command that installs it."""
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(jb.UsageError, match=f"{library} is not installed.*pip install {library}"):
        jb.read(tmp_path, frame=library)


def test_neither_library_is_imported_early() -> None:
    """Importing the function imports neither pandas nor TensorFlow."""
    program = "import jaxboard, sys; jaxboard.read; print('pandas' in sys.modules, 'tensorflow' in sys.modules)"
    out = subprocess.check_output([sys.executable, "-c", program], text=True)
    assert out.split() == ["False", "False"]

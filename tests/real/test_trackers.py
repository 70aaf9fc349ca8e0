"""The sinks of wandb, MLflow and Trackio: what each library has stored, read back from its own files."""

# pyright: reportMissingImports=false, reportAttributeAccessIssue=false

from __future__ import annotations

import io
import json
import os
import pathlib
import re
import socket
import struct
import subprocess
import sys
import tempfile
import time
import wave
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sinks import test_contract as contract

import jaxboard as jb
from jaxboard.sinks import (
    Audio,
    Batch,
    Histogram,
    Kind,
    MLflowSink,
    Record,
    Scalars,
    TensorBoardSink,
    TrackioSink,
    Video,
    WandbSink,
)

pytestmark = [
    pytest.mark.real,
    pytest.mark.filterwarnings("ignore"),  # The libraries issue warnings of their own.
]

# The libraries read these once.
_folder = tempfile.mkdtemp()
os.environ |= {"WANDB_MODE": "offline", "WANDB_SILENT": "true"}
os.environ |= {"WANDB_DIR": _folder, "TRACKIO_DIR": _folder}

# The tests of every sink, with the fixtures below.
test_it_is_a_sink = contract.test_it_is_a_sink
test_flushed_records_are_readable = contract.test_flushed_records_are_readable
test_an_empty_batch = contract.test_an_empty_batch
test_runs_below_are_separate = contract.test_runs_below_are_separate
test_values_that_it_cannot_show = contract.test_values_that_it_cannot_show
test_a_fault_of_another_sink = contract.test_a_fault_of_another_sink

DEADLINE = 60
"""Most seconds until a library has stored what it received."""


def split(name: str) -> tuple[str, str]:
    run, _, tag = name.rpartition("/")
    return run, tag


def until(read, is_complete):
    """Read again until the result is complete, and return it."""
    deadline = time.monotonic() + DEADLINE
    while not is_complete(result := read()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return result


def wandb_records(data: bytes):
    """Yield the records of a file of wandb: blocks of 32 KiB after a header of 7 bytes, as in LevelDB's log."""
    from wandb.proto.wandb_internal_pb2 import Record as Message

    position, parts = 7, b""
    while position + 7 <= len(data):
        left = -position % 32768
        if 0 < left < 7:
            position += left
            continue
        _, size, kind = struct.unpack_from("<IHB", data, position)
        position += 7 + size
        if position > len(data):
            return
        parts += data[position - size : position]
        if kind in (1, 4):  # a whole record, or the last part of one
            message = Message()
            message.ParseFromString(parts)
            parts = b""
            yield message


def history(data: bytes) -> list[dict[str, Any]]:
    """Return the rows of a file of wandb."""
    messages = (each.history for each in wandb_records(data) if each.HasField("history"))
    return [
        {
            item.key or "/".join(item.nested_key): json.loads(item.value_json)
            for item in message.item
        }
        for message in messages
    ]


class WandbCase:
    """A run that wandb keeps in a local file."""

    libraries = ("wandb", "soundfile")
    has_wall_times = True

    def make(self, directory: pathlib.Path) -> WandbSink:
        import wandb

        settings = wandb.Settings(console="off", silent=True, x_disable_stats=True)
        self.run = wandb.init(
            project="p", dir=directory, mode="offline", reinit="create_new", settings=settings
        )
        self.marks = 0
        return WandbSink(self.run)

    def end(self) -> None:
        self.run.finish()

    def stored(self) -> bytes:
        """Return the file once a mark is stored: wandb stores records in order, in whole blocks, in a process of its own."""
        (path,) = pathlib.Path(self.run.dir).parent.glob("*.wandb")
        self.marks += 1
        mark = f"mark {self.marks}:"
        self.run.log({"mark": mark + 65536 * "-"})
        return until(path.read_bytes, lambda data: mark.encode() in data)

    def records(self):
        return wandb_records(self.stored())

    def rows(self) -> list[dict[str, Any]]:
        return history(self.stored())

    def points(self) -> list[tuple[str, int, float, float]]:
        return [
            (name, row["jaxboard/step"], row["_timestamp"], float(value))
            for row in self.rows()
            for name, value in row.items()
            if name[0] != "_" and name != "jaxboard/step" and isinstance(value, int | float)
        ]

    def read(self, directory: pathlib.Path):
        return contract.group(
            [(*split(name), step, value) for name, step, _, value in self.points()]
        )


class TrackioCase:
    """A run in Trackio's local database."""

    libraries = ("trackio",)
    has_wall_times = False

    def make(self, directory: pathlib.Path) -> TrackioSink:
        import trackio

        self.run = trackio.init("p", embed=False, auto_log_cpu=False, auto_log_gpu=False)
        self.marks = 0
        return TrackioSink(self.run)

    def end(self) -> None:
        self.run.finish()

    def rows(self) -> list[dict[str, Any]]:
        """Return what is stored once a mark is stored: Trackio stores rows in order, in a thread of its own."""
        from trackio.sqlite_storage import SQLiteStorage

        self.marks += 1
        self.run.log({"mark": self.marks}, step=0)
        rows = until(
            lambda: SQLiteStorage.get_logs("p", self.run.name),
            lambda rows: any(row.get("mark") == self.marks for row in rows),
        )
        return [row for row in rows if "mark" not in row]

    def points(self) -> list[tuple[str, int, float, float]]:
        return [
            (name, row["step"], 0.0, value)
            for row in self.rows()
            for name, value in row.items()
            if name not in ("step", "timestamp") and isinstance(value, int | float)
        ]

    def read(self, directory: pathlib.Path):
        return contract.group(
            [(*split(name), step, value) for name, step, _, value in self.points()]
        )


class MLflowCase:
    """A run in MLflow's local database."""

    libraries = ("mlflow", "sqlalchemy", "alembic")
    has_wall_times = True
    folder = None

    def make(self, directory: pathlib.Path) -> MLflowSink:
        import mlflow

        if MLflowCase.folder is None:  # one database for all tests: to create it takes seconds
            MLflowCase.folder = tempfile.mkdtemp()
        mlflow.set_tracking_uri(f"sqlite:///{MLflowCase.folder}/mlflow.db")
        self.client = mlflow.MlflowClient()
        experiment = mlflow.create_experiment(str(directory), artifact_location=str(directory))
        self.run = mlflow.start_run(experiment_id=experiment)
        return MLflowSink(self.run)

    def end(self) -> None:
        import mlflow

        mlflow.end_run()

    @property
    def id(self) -> str:
        return self.run.info.run_id

    def points(self) -> list[tuple[str, int, float, float]]:
        return [
            (name, metric.step, metric.timestamp / 1000, metric.value)
            for name in self.client.get_run(self.id).data.metrics
            for metric in self.client.get_metric_history(self.id, name)
        ]

    def read(self, directory: pathlib.Path):
        return contract.group(
            [(*split(name), step, value) for name, step, _, value in self.points()]
        )

    def artifact(self, path: str) -> bytes:
        return pathlib.Path(self.client.download_artifacts(self.id, path)).read_bytes()


def start(kind):
    """Return a case of that class, or skip the test if a library of it is missing."""
    for library in kind.libraries:
        pytest.importorskip(library)
    return kind()


@pytest.fixture
def directory(tmp_path):
    """Create the directory that a library writes to."""
    path = tmp_path / "run"
    path.mkdir()
    return path


@pytest.fixture(params=[WandbCase, TrackioCase, MLflowCase], ids=["wandb", "trackio", "mlflow"])
def case(request):
    """Run a test with every library, and end its run."""
    case = start(request.param)
    yield case
    case.end()


def test_scalars(case, directory):
    """Scalars keep their steps, in any order, and their wall times; a run below has its name in theirs."""
    sink = case.make(directory)
    steps = np.array([7, 3, 2**40])
    sink.write(
        [Scalars(("a", "b"), steps, 1e9 + steps[::-1] % 10, np.array([[1, 2], [3, 4], [5, 6]]))]
    )
    sink.write([Record(Kind.SCALAR, "loss", 5, 1e9, np.float32(0.5), "group/seed_0")])
    sink.flush()
    points = [
        ("a", 7, 1e9 + 6, 1.0),
        ("b", 7, 1e9 + 6, 2.0),
        ("a", 3, 1e9 + 3, 3.0),
        ("b", 3, 1e9 + 3, 4.0),
        ("a", 2**40, 1e9 + 7, 5.0),
        ("b", 2**40, 1e9 + 7, 6.0),
        ("group/seed_0/loss", 5, 1e9, 0.5),
    ]
    if not case.has_wall_times:
        points = [(name, step, 0.0, value) for name, step, _, value in points]
    assert sorted(case.points()) == sorted(points)


WAV = Audio(np.arange(200, dtype=np.int16).reshape(1, 100, 2), sample_rate=8000)
PIXELS = np.arange(2 * 6 * 4 * 3, dtype=np.uint8).reshape(2, 6, 4, 3)
OTHERS = [
    Record(Kind.IMAGE, "pixels", 1, 1e9, PIXELS),
    Record(Kind.AUDIO, "sound", 2, 1e9, WAV),
    Record(Kind.VIDEO, "clip", 3, 1e9, Video(np.stack([PIXELS, 255 - PIXELS], 1), fps=5.0)),
    Record(Kind.TEXT, "note", 4, 1e9, "**a** < b"),
    Record(Kind.TEXT, "table", 5, 1e9, [["name", "value"], ["a", "1"], ["b"]]),
]
HISTOGRAM = Record(
    Kind.HISTOGRAM, "weights", 6, 1e9, Histogram(np.array([0.0, 1.0, 2.0]), np.array([3, 1]))
)
HPARAMS = Record(Kind.HPARAMS, "hparams", 0, 1e9, {"lr": 0.1, "model": {"depth": 3}})


def pixels(path: pathlib.Path) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(path.read_bytes())).convert("RGB"))


def samples(path: pathlib.Path) -> np.ndarray:
    with wave.open(str(path)) as file:
        assert (file.getframerate(), file.getnchannels()) == (8000, 2)
        return np.frombuffer(file.readframes(1000), np.int16).reshape(-1, 2)


def check_files(images, sound, clips) -> None:
    """Check the files of OTHERS."""
    for image, expected in zip(images, PIXELS, strict=True):
        np.testing.assert_array_equal(pixels(image), expected)
    np.testing.assert_array_equal(samples(sound), WAV.samples[0])
    assert [Image.open(clip).n_frames for clip in clips] == [2, 2]


def test_kinds_in_wandb(directory):
    """Every other kind that wandb shows arrives, with its own step."""
    case = start(WandbCase)
    sink = case.make(directory)
    try:
        sink.write([*OTHERS, HISTOGRAM, HPARAMS])
        sink.close()
        rows = [row for row in case.rows() if "mark" not in row]
        files = pathlib.Path(case.run.dir)
        steps = {row["jaxboard/step"]: row for row in rows}
        assert list(steps) == [1, 2, 3, 4, 5, 6]
        assert steps[6]["weights/values"] == [3, 1]
        assert steps[6]["weights/bins"] == [0.0, 1.0, 2.0]
        check_files(
            [files / name for name in steps[1]["pixels/filenames"]],
            files / steps[2]["sound/audio"][0]["path"],
            [files / video["path"] for video in steps[3]["clip/videos"]],
        )
        assert "<pre>**a** &lt; b</pre>" in (files / steps[4]["note/path"]).read_text()
        (table,) = files.rglob("table_*.table.json")
        content = json.loads(table.read_text())
        assert (content["columns"], content["data"]) == (["name", "value"], [["a", "1"], ["b", ""]])
        assert dict(case.run.config) == {"lr": 0.1, "model/depth": 3}
    finally:
        case.end()


def test_the_step_of_wandb(directory):
    """Every metric has the step of jaxboard as its x-axis; metrics of the user keep theirs."""
    case = start(WandbCase)
    sink = case.make(directory)
    try:
        case.run.log({"of the user": 1.0})
        sink.write(
            [Record(Kind.SCALAR, "loss", 9, 1e9, 1.0), Record(Kind.SCALAR, "loss", 8, 1e9, 2.0)]
        )
        sink.flush()
        metrics = [message.metric for message in case.records() if message.HasField("metric")]
        assert [(each.name, each.step_metric) for each in metrics] == [
            ("jaxboard/step", ""),
            ("loss", "jaxboard/step"),
        ]
    finally:
        case.end()


def test_kinds_in_trackio(directory):
    """Every other kind that Trackio shows arrives, with its own step."""
    case = start(TrackioCase)
    sink = case.make(directory)
    try:
        sink.write([*OTHERS, HISTOGRAM])
        sink.close()
        from trackio.utils import MEDIA_DIR

        steps = {row.pop("step"): row for row in case.rows()}
        assert list(steps) == [1, 2, 3, 4, 5, 6]
        assert steps[6]["weights"]["values"] == [3, 1]
        assert steps[6]["weights"]["bins"] == [0.0, 1.0, 2.0]
        check_files(
            [MEDIA_DIR / steps[1][f"pixels/{index}"]["file_path"] for index in range(2)],
            MEDIA_DIR / steps[2]["sound"]["file_path"],
            [MEDIA_DIR / steps[3][f"clip/{index}"]["file_path"] for index in range(2)],
        )
        assert steps[4]["note"]["_value"] == "**a** < b"
        rows = [{"name": "a", "value": "1"}, {"name": "b", "value": ""}]
        assert steps[5]["table"]["_value"] == rows
    finally:
        case.end()


def test_kinds_in_mlflow(directory):
    """Images arrive as such, other kinds as artifacts and parameters."""
    case = start(MLflowCase)
    sink = case.make(directory)
    try:
        sink.write([*OTHERS, HPARAMS])
        sink.close()
        root = directory / case.id / "artifacts"
        images = sorted(root.glob("images/pixels+step+1+timestamp+1000000000000+*.png"))
        images.sort(key=lambda path: pixels(path).tolist())
        check_files(
            images,
            root / "audio" / "sound" / "step_2_0.wav",
            [root / "video" / "clip" / f"step_3_{index}.gif" for index in range(2)],
        )
        assert (root / "text" / "note" / "step_4.md").read_text() == "**a** < b"
        table = (root / "text" / "table" / "step_5.md").read_text()
        assert table == "| name | value |\n| --- | --- |\n| a | 1 |\n| b |  |"
        assert case.client.get_run(case.id).data.params == {"lr": "0.1", "model/depth": "3"}
    finally:
        case.end()


def test_names_in_mlflow(directory, caplog):
    """Tags that MLflow does not accept are changed, and a value that it refuses is lost alone."""
    case = start(MLflowCase)
    sink = case.make(directory)
    try:
        tags = ["w[0]", "../a//b", "ü", "/", "x" * 300]
        sink.write([Record(Kind.SCALAR, tag, 1, 1e9, 1.0) for tag in tags])
        sink.write([HPARAMS, Record(Kind.HPARAMS, "hparams", 1, 1e9, {"lr": 0.2})])
        sink.write([Record(Kind.IMAGE, "ü:" + "x" * 300, 1, 1e9, PIXELS[:1])])
        sink.flush()
        assert {name for name, *_ in case.points()} == {"w_0_", "a/b", "ü", "_", "x" * 250}
        assert len(list(directory.rglob("__xxx*.png"))) == 1
        ((reason, count),) = sink.take_lost().items()
        assert (reason[:17], count) == ("report 'hparams':", 1)
    finally:
        case.end()


def test_a_fault_of_mlflow(directory):
    """Records that MLflow has accepted before a fault are not sent again."""
    case = start(MLflowCase)
    sink = case.make(directory)
    try:
        root = directory / case.id / "artifacts"
        root.mkdir(parents=True)
        (root / "text").write_text("")  # a file in the place of a directory
        batch: Batch = [OTHERS[0], OTHERS[3]]
        sink.write(batch)
        with pytest.raises(OSError):
            sink.flush()
        (root / "text").unlink()
        sink.write(batch)
        sink.flush()
        assert len(list(root.glob("images/*.png"))) == len(PIXELS)
        assert (root / "text" / "note" / "step_4.md").read_text() == "**a** < b"
    finally:
        case.end()


def test_a_server_that_hangs(directory, monkeypatch):
    """While MLflow's server does not answer, the event files of the run are written."""
    case = start(MLflowCase)
    case.make(directory)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "3")
    import mlflow

    database = mlflow.get_tracking_uri()
    with socket.create_server(("127.0.0.1", 0)) as server:
        mlflow.set_tracking_uri(f"http://127.0.0.1:{server.getsockname()[1]}")
        sinks = [MLflowSink(case.run, timeout=0.2), TensorBoardSink(directory / "tb")]
        run = jb.Run(directory / "tb", sinks=sinks, telemetry=False, flush_secs=1000)
        jb.scalar("loss", 1.0, step=0)
        with pytest.raises(
            jb.RunError, match="MLflowSink failed: TimeoutError: mlflow has not accepted"
        ):
            run.flush()
        assert jb.read(directory / "tb").value.tolist() == [1.0]
        with pytest.raises(jb.RunError, match="1 report was lost|1: MLflowSink failed"):
            run.close()
    mlflow.set_tracking_uri(database)
    case.end()


PAGE = pathlib.Path(__file__).parents[2] / "docs" / "trackers.md"


def programs(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("kind", [WandbCase, MLflowCase, TrackioCase])
def test_the_programs_of_the_page(kind, directory, monkeypatch):
    """The programs of docs/trackers.md run, and the event files beside the tracker have every step."""
    start(kind)
    library = kind.libraries[0]
    monkeypatch.chdir(directory)
    found = programs(f"python {library}")
    assert found
    namespace: dict[str, Any] = {}
    exec(programs("python")[0], namespace)
    for program in found:
        exec(program, namespace)
    frame = jb.read("runs/digits")
    assert frame[frame.tag == "loss"].step.tolist() == list(range(100))
    tracked = namespace["tracked"]
    if library == "mlflow":
        client = namespace["mlflow"].MlflowClient()
        points = client.get_metric_history(tracked.info.run_id, "loss")
        assert [point.step for point in points] == list(range(100))


FLUSHED = """
import sys, threading
import wandb
import jaxboard as jb
from jaxboard.sinks import WandbSink

settings = wandb.Settings(console="off", silent=True)
tracked = wandb.init(project="p", dir=sys.argv[1], mode="offline", settings=settings)
with jb.Run(None, sinks=[WandbSink(tracked)], flush_secs=1000) as run:
    for step in range(3):
        jb.scalar("loss", float(step), step=step)
    run.flush()
    print("flushed", flush=True)
    threading.Event().wait()
"""


@pytest.mark.skipif(os.name != "posix", reason="the program is killed")
def test_wandb_writes_while_the_program_runs(directory):
    """Reports that were flushed reach wandb's file soon, and stay there after a SIGKILL."""
    start(WandbCase)
    command = [sys.executable, "-c", FLUSHED, str(directory)]

    def losses():
        rows = (row for row in history(path.read_bytes()) if "loss" in row)
        return [(row["jaxboard/step"], row["loss"]) for row in rows]

    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "flushed\n"
            (path,) = directory.rglob("*.wandb")
            until(losses, lambda found: len(found) == 3)
        finally:
            process.kill()
    assert losses() == [(0, 0), (1, 1), (2, 2)]

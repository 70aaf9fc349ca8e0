"""``python -m jaxboard demo``, run for real and looked at in a real TensorBoard."""

from __future__ import annotations

import itertools
import os
import pathlib
import re
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.util import tensor_util
from tensorboard_server import Server, tensorboard

STEPS = 600  # what it takes unless told otherwise
LAYERS = [f"layer{n}/{name}" for n in (1, 2, 3) for name in ("bias", "kernel")]
TRAIN = ["train/accuracy", "train/gradient_norm", "train/learning_rate", "train/loss"]
EVAL = ["eval/accuracy", "eval/loss"]
OFTEN = list(range(0, STEPS, 15))  # TensorBoard shows up to 50 histograms, so all of them
EVALS = [*OFTEN, STEPS - 1]


class Demo(NamedTuple):
    """A demo that ran: where it was told to write, what it printed, how long it took."""

    logdir: pathlib.Path
    output: str
    seconds: float

    @property
    def run(self) -> str:
        (run,) = os.listdir(self.logdir)
        return run

    def events(self) -> EventAccumulator:
        return EventAccumulator(str(self.logdir / self.run), {"scalars": 0, "tensors": 0}).Reload()


def demo_process(*arguments: str, **options) -> subprocess.CompletedProcess[str]:
    # As a user's shell would start it: on one device.
    environment = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    command = [sys.executable, "-m", "jaxboard", "demo", *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, check=False, env=environment | options
    )


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    logdir = tmp_path_factory.mktemp("demo") / "runs"
    start = time.monotonic()
    process = demo_process("--logdir", str(logdir))
    assert process.returncode == 0, process.stderr
    return Demo(logdir, process.stdout, time.monotonic() - start)


@pytest.fixture(scope="module")
def server(demo: Demo) -> Iterator[Server]:
    with tensorboard(demo.logdir) as server:
        yield server


def printed(demo: Demo) -> dict[str, tuple[int, str]]:
    """Tag -> (points, last value), from the table that the demo ends with."""
    rows = re.findall(r"^    (\S+) +(\d+)  (.+)$", demo.output, re.MULTILINE)
    return {tag: (int(points), last) for tag, points, last in rows}


def png_size(file: bytes) -> tuple[int, int]:
    """Width and height from the header of a PNG (ISO/IEC 15948, 11.2.2)."""
    signature, width, height = struct.unpack(">8s8xII", file[:24])
    assert signature == b"\x89PNG\r\n\x1a\n"
    return width, height


def test_takes_less_than_a_minute(demo: Demo) -> None:
    """From typing the command to its end, imports and compilation included."""
    assert demo.seconds < 60


def test_scalars_on_disk(demo: Demo) -> None:
    """Each step has its points, and each evaluation belongs to the step before it."""
    events = demo.events()
    assert sorted(events.Tags()["scalars"]) == sorted(TRAIN + EVAL)
    for tag in TRAIN:
        assert [point.step for point in events.Scalars(tag)] == list(range(STEPS))
    for tag in EVAL:
        assert [point.step for point in events.Scalars(tag)] == EVALS


def test_it_learns(demo: Demo) -> None:
    """The curve that people see goes the right way, and the numbers are what they are called."""
    events = demo.events()
    accuracy = events.Scalars("eval/accuracy")[-1].value
    assert accuracy > 0.95
    assert abs(accuracy * 450 - round(accuracy * 450)) < 1e-3  # of 450 test images
    rates = [np.float32(point.value) for point in events.Scalars("train/learning_rate")]
    assert rates[0] == np.float32(3e-3)
    assert all(late < early for early, late in itertools.pairwise(rates))


def test_the_table_is_what_is_on_disk(demo: Demo) -> None:
    """What the demo prints at its end is read from the files: every tag, its points, its last value."""
    events, table = demo.events(), printed(demo)
    for tag in TRAIN + EVAL:
        points = events.Scalars(tag)
        count, last = table.pop(tag)
        assert (count, np.float32(last)) == (len(points), np.float32(points[-1].value))
    assert {tag: count for tag, (count, _) in table.items()} == {
        **{f"train/gradients/{layer}": len(OFTEN) for layer in LAYERS},
        "train/inputs": len(OFTEN),
        "test_sheet": 5,
        "about": 1,
    }
    assert table["train/inputs"][1] == "8 x 8 pixels, 4 of them"
    assert table["about"][1] == "### Handwritten digits"


def test_it_says_where_to_look(demo: Demo) -> None:
    """The last lines are the command that shows the run."""
    assert demo.output.rstrip().endswith(f" -m tensorboard.main --logdir {demo.logdir}")


def test_scalars_over_http(demo: Demo, server: Server) -> None:
    """TensorBoard shows every point with its exact value."""
    events = demo.events()
    for tag in TRAIN + EVAL:
        expected = events.Scalars(tag)
        shown = server.scalars(demo.run, tag, count=len(expected))
        assert [(step, value) for _, step, value in shown] == [(p.step, p.value) for p in expected]


def test_histograms_over_http(demo: Demo, server: Server) -> None:
    """Each parameter has a histogram of its gradient, which counts all of its elements."""
    sizes = {"layer1": 64 * 100, "layer2": 100 * 100, "layer3": 100 * 10}
    outputs = {"layer1": 100, "layer2": 100, "layer3": 10}
    for layer in LAYERS:
        name, _, kind = layer.partition("/")
        shown = server.histograms(demo.run, f"train/gradients/{layer}", count=len(OFTEN))
        assert [step for _, step, _ in shown] == OFTEN
        elements = {sum(count for _, _, count in buckets) for _, _, buckets in shown}
        assert elements == {(sizes if kind == "kernel" else outputs)[name]}


def test_images_over_http(demo: Demo, server: Server) -> None:
    """The inputs and the test sheet are there, as pictures that a browser can show."""
    for sample in range(4):
        (*_, last) = server.images(demo.run, "train/inputs", sample=sample)
        assert last["step"] == OFTEN[-1]
        assert png_size(last["file"]) == (8, 8)
    sheets = server.images(demo.run, "test_sheet", count=5)
    assert [sheet["step"] for sheet in sheets] == [0, 150, 300, 450, STEPS - 1]
    assert {png_size(sheet["file"]) for sheet in sheets} == {(600, 600)}
    assert sheets[0]["file"] != sheets[-1]["file"]  # it has learned something


def test_text_over_http(demo: Demo, server: Server) -> None:
    """The description is rendered, its table too."""
    (entry,) = server.text(demo.run, "about")
    assert "<h3>Handwritten digits</h3>" in entry["text"]
    assert "<table>" in entry["text"]


def test_hparams_over_http(demo: Demo, server: Server) -> None:
    """What the run was started with is in the HParams dashboard, which calls it finished."""
    (group,) = server.hparams()
    assert group["hparams"] == {
        "learning_rate": 3e-3,
        "batch_size": 128.0,
        "hidden": 100.0,
        "steps": float(STEPS),
        "optimizer": "adam",
        "seed": 0.0,
    }
    (session,) = group["sessions"]
    assert session["status"] == "STATUS_SUCCESS"


def test_few_steps(tmp_path: pathlib.Path) -> None:
    """Even one step is a demo."""
    process = demo_process("--logdir", str(tmp_path), "--steps", "1")
    assert process.returncode == 0, process.stderr
    (run,) = tmp_path.iterdir()
    events = EventAccumulator(str(run), {"scalars": 0, "tensors": 0}).Reload()
    assert [point.step for point in events.Scalars("train/loss")] == [0]
    (sheet,) = events.Tensors("test_sheet")
    assert len(tensor_util.make_ndarray(sheet.tensor_proto)) == 3  # width, height, one picture


def test_steps_have_to_be_positive() -> None:
    """A number of steps that makes no run is refused with what is wrong with it."""
    process = demo_process("--steps", "0")
    assert process.returncode == 2
    assert process.stderr.endswith("error: argument --steps: 0 is not at least 1\n")


def test_a_missing_extra_is_named(tmp_path: pathlib.Path) -> None:
    """Without what the demo needs it says so, with the command that installs it, not a traceback."""
    tmp_path.joinpath("tqdm.py").write_text("raise ModuleNotFoundError('none', name='tqdm')")
    process = demo_process("--logdir", str(tmp_path / "runs"), PYTHONPATH=str(tmp_path))
    assert process.returncode == 1
    assert process.stderr == (
        "The demo needs tqdm, which is not installed here. Everything it needs:\n\n"
        f"  {sys.executable} -m pip install 'jaxboard-tb[demo]'\n"
    )

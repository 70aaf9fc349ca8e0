"""``python -m jaxboard demo``, run in a process of its own and shown by a real TensorBoard."""

from __future__ import annotations

import itertools
import os
import pathlib
import re
import struct
import subprocess
import sys
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pytest
from alarms import alarms
from listening import LOOPBACK, run_watched
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.util import tensor_util
from tensorboard_server import Server, tensorboard

STEPS = 600  # the default
LAYERS = [f"layer{n}/{name}" for n in (1, 2, 3) for name in ("bias", "kernel")]
TRAIN = ["accuracy", "learning_rate", "loss"]
EVAL = ["accuracy", "loss"]
OFTEN = list(range(0, STEPS, 15))  # TensorBoard shows up to 50 histograms, which is more
EVALS = [*OFTEN, STEPS - 1]


class Demo(NamedTuple):
    """A finished demo: its log directory, its output, and what its process wrote to standard error."""

    logdir: pathlib.Path
    output: str
    errors: str

    @property
    def run(self) -> str:
        (run,) = os.listdir(self.logdir)
        return run

    @property
    def evaluation(self) -> str:
        return f"{self.run}/eval"

    def events(self, run: str) -> EventAccumulator:
        return EventAccumulator(str(self.logdir / run), {"scalars": 0, "tensors": 0}).Reload()


# One process runs both demos, because its imports take longer than the shorter one.
DEMOS = """
import sys
from jaxboard._cli.main import main

for arguments in [[], ["--steps", "1"]]:
    assert main(["demo", "--logdir", sys.argv.pop(), *arguments]) == 0
    print("\\f")
"""


def process(*command: str, **options: str) -> subprocess.CompletedProcess[str]:
    # On one device, as in a user's shell.
    flags = os.environ["XLA_FLAGS"].replace("--xla_force_host_platform_device_count=8", "").strip()
    environment = os.environ | {"XLA_FLAGS": flags} | options
    done, addresses = run_watched([sys.executable, *command], env=environment)
    assert addresses <= LOOPBACK
    return done


@pytest.fixture(scope="module")
def demos(tmp_path_factory: pytest.TempPathFactory) -> list[Demo]:
    """Run the demo with the default number of steps and with one step."""
    logdirs = [tmp_path_factory.mktemp("demo") / "runs" for _ in range(2)]
    done = process("-c", DEMOS, *map(str, reversed(logdirs)))
    assert done.returncode == 0, done.stderr
    return [
        Demo(logdir, output, done.stderr)
        for logdir, output in zip(logdirs, done.stdout.split("\f\n")[:2], strict=True)
    ]


@pytest.fixture(scope="module")
def demo(demos: list[Demo]) -> Demo:
    return demos[0]


@pytest.fixture(scope="module")
def server(demo: Demo) -> Iterator[Server]:
    with tensorboard(demo.logdir) as server:
        yield server


def printed(demo: Demo) -> list[dict[str, tuple[int, str]]]:
    """Return the number of points and the last value of each tag in the printed tables of both runs."""
    tables = re.split(r"^In .* kB\):$", demo.output, flags=re.MULTILINE)[1:]
    rows = [re.findall(r"^    (\S+) +(\d+)  (.+)$", table, re.MULTILINE) for table in tables]
    return [{tag: (int(points), last) for tag, points, last in table} for table in rows]


def png_size(file: bytes) -> tuple[int, int]:
    """Return width and height from the header of a PNG (ISO/IEC 15948, 11.2.2)."""
    signature, width, height = struct.unpack(">8s8xII", file[:24])
    assert signature == b"\x89PNG\r\n\x1a\n"
    return width, height


def test_standard_error(demo: Demo) -> None:
    """Standard error shows the progress, and no messages of libraries."""
    lines = [line for line in re.split(r"[\r\n]+", demo.errors) if line]
    assert [line for line in lines if not line.startswith("training:")] == []
    assert "training: 100%" in demo.errors


def test_scalars_on_disk(demo: Demo) -> None:
    """Each step has one point per tag, and each evaluation belongs to the step before it."""
    events = demo.events(demo.run)
    own = {tag for tag in events.Tags()["scalars"] if "/" not in tag}
    assert own == set(TRAIN)
    for tag in TRAIN:
        assert [point.step for point in events.Scalars(tag)] == list(range(STEPS))
    for layer in LAYERS:
        assert [point.step for point in events.Scalars(f"gradients/norm/{layer}")] == OFTEN
    events = demo.events(demo.evaluation)
    assert sorted(events.Tags()["scalars"]) == EVAL
    for tag in EVAL:
        assert [point.step for point in events.Scalars(tag)] == EVALS


def test_telemetry_and_profile(demo: Demo) -> None:
    """The run reports on itself, and has a profile of five steps with a summary."""
    tags = set(demo.events(demo.run).Tags()["scalars"])
    assert {"jaxboard/compile/train_step/seconds", "profile/step_ms_mean"} <= tags
    assert "jaxboard/step/train_step/images_per_second" in tags
    (trace,) = (demo.logdir / demo.run).glob("plugins/profile/*/*.xplane.pb")
    assert trace.parent.name == "steps_300-304"


def test_it_learns(demo: Demo) -> None:
    """The test accuracy is high and plausible, and the learning rate falls."""
    accuracy = demo.events(demo.evaluation).Scalars("accuracy")[-1].value
    assert accuracy > 0.95
    assert abs(accuracy * 450 - round(accuracy * 450)) < 1e-3  # of 450 test images
    learning_rate = demo.events(demo.run).Scalars("learning_rate")
    rates = [np.float32(point.value) for point in learning_rate]
    assert rates[0] == np.float32(3e-3)
    assert all(late < early for early, late in itertools.pairwise(rates))


def test_no_alarm(demos: list[Demo]) -> None:
    """Nothing is wrong with the demo: no text entry and no message of either run is an alarm, in telemetry neither."""
    for demo in demos:
        for run in demo.run, demo.evaluation:
            assert alarms(demo.events(run).Tags()["tensors"]) == []
        assert "jaxboard, run" not in demo.errors
    assert "jaxboard/compile/train_step" in demos[0].events(demos[0].run).Tags()["tensors"]


def test_the_printed_table(demo: Demo) -> None:
    """The printed tables agree with the files: every tag, its points and its last value."""
    training, evaluation = printed(demo)
    for run, table, tags in (demo.run, training, TRAIN), (demo.evaluation, evaluation, EVAL):
        events = demo.events(run)
        for tag in tags:
            points = events.Scalars(tag)
            count, last = table.pop(tag)
            assert (count, np.float32(last)) == (len(points), np.float32(points[-1].value))
    assert {tag: count for tag, (count, _) in evaluation.items()} == {"test_sheet": 5}
    groups = {tag for tag in training if tag.endswith("…")}
    assert groups == {"gradients/histogram/…", "gradients/norm/…", "jaxboard/…", "profile/…"}
    assert training["gradients/histogram/…"] == (len(LAYERS) * len(OFTEN), "6 tags")
    assert {tag: count for tag, (count, _) in training.items() if tag not in groups} == {
        "gradients/norm": len(OFTEN),
        "logits": len(OFTEN),
        "inputs": len(OFTEN),
        "about": 1,
    }
    assert training["inputs"][1] == "8 x 8 pixels, 4 of them"
    assert training["about"][1] == "### Handwritten digits"


def test_the_tensorboard_command(demo: Demo) -> None:
    """The output ends with the command that shows the run."""
    assert demo.output.rstrip().endswith(f" -m tensorboard.main --logdir {demo.logdir}")


def test_scalars_over_http(demo: Demo, server: Server) -> None:
    """TensorBoard shows every point with its exact value, training and evaluation under the same tags."""
    for run, tags in (demo.run, TRAIN), (demo.evaluation, EVAL):
        events = demo.events(run)
        for tag in tags:
            expected = events.Scalars(tag)
            shown = server.scalars(run, tag, count=len(expected))
            assert [(s, v) for _, s, v in shown] == [(p.step, p.value) for p in expected]


def test_histograms_over_http(demo: Demo, server: Server) -> None:
    """Each parameter has histograms of its gradient that count all of its elements."""
    sizes = {"layer1": 64 * 100, "layer2": 100 * 100, "layer3": 100 * 10}
    outputs = {"layer1": 100, "layer2": 100, "layer3": 10}
    for layer in LAYERS:
        name, _, kind = layer.partition("/")
        shown = server.histograms(demo.run, f"gradients/histogram/{layer}", count=len(OFTEN))
        assert [step for _, step, _ in shown] == OFTEN
        elements = {sum(count for _, _, count in buckets) for _, _, buckets in shown}
        assert elements == {(sizes if kind == "kernel" else outputs)[name]}


def test_images_over_http(demo: Demo, server: Server) -> None:
    """The inputs and the test sheet are PNG images."""
    for sample in range(4):
        (*_, last) = server.images(demo.run, "inputs", sample=sample)
        assert last["step"] == OFTEN[-1]
        assert png_size(last["file"]) == (8, 8)
    sheets = server.images(demo.evaluation, "test_sheet", count=5)
    assert [sheet["step"] for sheet in sheets] == [0, 150, 300, 450, STEPS - 1]
    assert {png_size(sheet["file"]) for sheet in sheets} == {(600, 600)}
    assert sheets[0]["file"] != sheets[-1]["file"]  # it has learned something


def test_text_over_http(demo: Demo, server: Server) -> None:
    """The description and its table are rendered."""
    (entry,) = server.text(demo.run, "about")
    assert "<h3>Handwritten digits</h3>" in entry["text"]
    assert "<table>" in entry["text"]


def test_hparams_over_http(demo: Demo, server: Server) -> None:
    """The HParams dashboard has the hyperparameters and marks the run as finished."""
    group = server.session_group(demo.run)
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


def test_few_steps(demos: list[Demo]) -> None:
    """The demo works with a single step."""
    demo = demos[1]
    for run in demo.run, demo.evaluation:
        events = demo.events(run)
        assert [point.step for point in events.Scalars("loss")] == [0]
    (sheet,) = events.Tensors("test_sheet")
    assert len(tensor_util.make_ndarray(sheet.tensor_proto)) == 3  # width, height, one picture


def test_steps_must_be_positive() -> None:
    """A number of steps below 1 is an error."""
    done = process("-m", "jaxboard", "demo", "--steps", "0")
    assert done.returncode == 2
    assert done.stderr.endswith("error: argument --steps: 0 is not at least 1\n")


def test_a_missing_requirement(tmp_path: pathlib.Path) -> None:
    """A missing requirement prints the command that installs it instead of a traceback."""
    error = "ModuleNotFoundError('none', name='matplotlib')"  # the first that the demo imports
    tmp_path.joinpath("matplotlib.py").write_text(f"raise {error}")
    logdir = str(tmp_path / "runs")
    done = process("-m", "jaxboard", "demo", "--logdir", logdir, PYTHONPATH=str(tmp_path))
    assert done.returncode == 1
    assert done.stderr == (
        "The demo needs matplotlib, which is not installed. Install its requirements with:\n\n"
        f"  {sys.executable} -m pip install 'jaxboard-tb[demo]'\n"
    )

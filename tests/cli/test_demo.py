"""``python -m jaxboard demo``, run once in a process of its own, with few steps, and shown by a real TensorBoard."""

from __future__ import annotations

import os
import pathlib
import re
import struct
import subprocess
import sys
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import pytest
from alarms import alarms
from listening import LOOPBACK, run_watched
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
from tensorboard.util import tensor_util
from tensorboard_server import Server, tensorboard

STEPS = 6
EVERY = list(range(STEPS))
"""The steps of all reports: with so few steps, each reports arrays and is followed by an evaluation."""

LAYERS = [f"layer{n}/{name}" for n in (1, 2, 3) for name in ("bias", "kernel")]
COMPARED = ("tiny", "slow")


class Demo(NamedTuple):
    """A finished demo: its log directory, its output, and what its process wrote to standard error."""

    logdir: pathlib.Path
    output: str
    errors: str

    @property
    def name(self) -> str:
        """The directory of the runs, below the log directory."""
        (name,) = os.listdir(self.logdir)
        return name

    def values(self, run: str) -> dict[str, dict[str, dict[int, Any]]]:
        """Return the values of a run: plugin -> tag -> step -> value."""
        plugins: dict[str, str] = {}  # by tag; only the first value of a tag has its plugin
        found: dict[str, dict[str, dict[int, Any]]] = {}
        for file in sorted(self.logdir.joinpath(self.name, run).glob("*tfevents*")):
            for event in EventFileLoader(str(file)).Load():
                for value in event.summary.value:
                    plugins.setdefault(value.tag, value.metadata.plugin_data.plugin_name)
                    points = found.setdefault(plugins[value.tag], {}).setdefault(value.tag, {})
                    points[event.step] = tensor_util.make_ndarray(value.tensor)
        return found


def process(*command: str, **options: str) -> subprocess.CompletedProcess[str]:
    # On one device, as in a user's shell.
    flags = os.environ["XLA_FLAGS"].replace("--xla_force_host_platform_device_count=8", "").strip()
    environment = os.environ | {"XLA_FLAGS": flags} | options
    done, addresses = run_watched([sys.executable, *command], env=environment)
    assert addresses <= LOOPBACK
    return done


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    logdir = tmp_path_factory.mktemp("demo") / "runs"
    done = process("-m", "jaxboard", "demo", "--logdir", str(logdir), "--steps", str(STEPS))
    assert done.returncode == 0, done.stderr
    return Demo(logdir, done.stdout, done.stderr)


@pytest.fixture(scope="module")
def server(demo: Demo) -> Iterator[Server]:
    with tensorboard(demo.logdir) as server:
        yield server


def png_size(file: bytes) -> tuple[int, int]:
    """Return width and height from the header of a PNG (ISO/IEC 15948, 11.2.2)."""
    signature, width, height = struct.unpack(">8s8xII", file[:24])
    assert signature == b"\x89PNG\r\n\x1a\n"
    return width, height


def without_own(points: dict[str, dict[int, Any]]) -> dict[str, list[int]]:
    """Return the steps of the tags that the demo reports, without those of telemetry and of the profile."""
    return {
        tag: list(steps)
        for tag, steps in points.items()
        if not tag.startswith(("jaxboard/", "profile/"))
    }


def test_the_output(demo: Demo) -> None:
    """Standard error has the progress and no messages of libraries; the output explains each tab."""
    lines = [line for line in re.split(r"[\r\n]+", demo.errors) if line]
    assert [line for line in lines if not re.match(r"(wide|tiny|slow): ", line)] == []
    assert f"slow: 100%|██████████| {3 * STEPS}/{3 * STEPS}" in lines[-1]
    for tab in ("Time Series", "Custom Scalars", "HParams", "PR Curves", "Projector", "Profile"):
        assert f"\n  {tab} " in demo.output
    assert f" -m jaxboard why {demo.logdir}/{demo.name}\n" in demo.output
    assert demo.output.rstrip().endswith(f" -m tensorboard.main --logdir {demo.logdir}")


def test_the_trial_in_detail(demo: Demo) -> None:
    """Every tag of the first trial has a point at each step, and those that it reports once have one."""
    values = demo.values("wide")
    last = [STEPS - 1]
    norms = ["gradients/norm", *(f"gradients/norm/{layer}" for layer in LAYERS)]
    health = [f"health/{name}" for name in ("ratio", "gradient_norm", "zeros", "rms", "nonfinite")]
    assert without_own(values.pop("scalars")) == {
        **dict.fromkeys(["accuracy", "learning_rate", "loss", *norms, *health], EVERY),
        **dict.fromkeys(["final/accuracy", "final/loss"], last),
    }
    histograms = values.pop("histograms")
    tags = ["logits", *(f"gradients/histogram/{layer}" for layer in LAYERS)]
    assert without_own(histograms) == dict.fromkeys(tags, EVERY)
    sizes = {"layer1/kernel": 64 * 100, "layer2/bias": 100, "layer3/kernel": 100 * 10}
    for layer, size in sizes.items():
        for table in histograms[f"gradients/histogram/{layer}"].values():
            assert table[:, 2].sum() == size
    assert without_own(values.pop("images")) == {"inputs": EVERY, "health/layers": last}
    texts = values.pop("text")
    assert without_own(texts) == {"about": last}
    assert "profile/verdict" in texts
    assert alarms(texts) == []
    assert {plugin: [len(tags), *next(iter(tags.values()))] for plugin, tags in values.items()} == {
        "custom_scalars": [1, STEPS - 1],
        "graphs": [1, STEPS - 1],
        "hparams": [3, 0],
    }


def test_telemetry_and_the_profile(demo: Demo) -> None:
    """The first trial reports on itself, and has a profile of the second half of its steps."""
    scalars = demo.values("wide")["scalars"]
    assert {"jaxboard/compile/train_step/seconds", "profile/step_ms_mean"} <= set(scalars)
    assert "jaxboard/step/train_step/images_per_second" in scalars
    run = demo.logdir / demo.name / "wide"
    (trace,) = run.glob("plugins/profile/*/*.xplane.pb")
    assert trace.parent.name == f"steps_{STEPS // 2}-{STEPS - 1}"


def test_the_evaluation(demo: Demo) -> None:
    """Each evaluation belongs to the training step before it; the network learns."""
    values = demo.values("wide/eval")
    assert {plugin: without_own(tags) for plugin, tags in values.items()} == {
        "scalars": {"accuracy": EVERY, "loss": EVERY},
        "images": {"confusion": EVERY, "hardest": EVERY},
        "pr_curves": {f"digit/{digit}": EVERY for digit in range(10)},
    }
    scalars, final = values["scalars"], demo.values("wide")["scalars"]
    assert scalars["loss"][STEPS - 1] < scalars["loss"][0]
    for tag in ("accuracy", "loss"):
        assert scalars[tag][STEPS - 1] == final[f"final/{tag}"][STEPS - 1]
    accuracy = float(scalars["accuracy"][STEPS - 1])
    assert abs(accuracy * 450 - round(accuracy * 450)) < 1e-3  # of 450 test images
    rates = list(final["learning_rate"].values())
    assert rates[0] == np.float32(3e-3)
    assert sorted(rates, reverse=True) == rates


@pytest.mark.parametrize("trial", COMPARED)
def test_the_trials_that_are_compared(demo: Demo, trial: str) -> None:
    """The other trials report only their curves and their hyperparameters."""
    values = demo.values(trial)
    curves = {"accuracy": EVERY, "loss": EVERY}
    last = [STEPS - 1]
    scalars = {tag: list(points) for tag, points in values.pop("scalars").items()}
    assert scalars == {**curves, "final/accuracy": last, "final/loss": last}
    assert list(values) == ["hparams"]
    (plugin, found), *others = demo.values(f"{trial}/eval").items()
    assert (plugin, others) == ("scalars", [])
    assert {tag: list(points) for tag, points in found.items()} == curves


def test_tensorboard(demo: Demo, server: Server) -> None:
    """Each dashboard shows the runs."""
    run = f"{demo.name}/wide"
    for name in (run, f"{run}/eval", *(f"{demo.name}/{trial}" for trial in COMPARED)):
        shown = server.scalars(name, "loss", count=STEPS)
        expected = demo.values(name.partition("/")[2])["scalars"]["loss"]
        assert [(step, value) for _, step, value in shown] == list(expected.items())
    assert len(server.histograms(run, "logits", count=STEPS)) == STEPS
    sizes = {"confusion": (712, 720), "hardest": (298, 248)}
    for tag, size in sizes.items():
        images = server.images(f"{run}/eval", tag, count=STEPS)
        assert {png_size(image["file"]) for image in images} == {size}
        assert len({image["file"] for image in images}) > 1
    (entry,) = server.text(run, "about")
    assert "<h3>Handwritten digits</h3>" in entry["text"]
    assert len(server.pr_curves(f"{run}/eval", "digit/8", count=STEPS)) == STEPS
    titles = [chart["title"] for chart in server.charts("norms of the gradients")]
    assert titles == ["kernels", "biases"]
    graph = server.read("data/plugin/graphs/graph", run=run).decode()
    assert 'name: "Classifier/layer3/' in graph
    embedding = server.until(lambda: server.get("data/plugin/projector/info", run=run))
    (vectors,) = embedding["embeddings"]
    assert vectors["tensorShape"] == [450, 100]
    assert vectors["sprite"]["singleImageDim"] == [8, 8]


def test_hyperparameters(demo: Demo, server: Server) -> None:
    """The HParams dashboard compares the three trials by their final accuracy and loss."""
    expected = {"wide": (100, 3e-3), "tiny": (10, 3e-3), "slow": (100, 3e-4)}
    for trial, (hidden, rate) in expected.items():
        group = server.session_group(f"{demo.name}/{trial}", metrics=2)
        assert group["hparams"] == {"hidden": hidden, "learning_rate": rate}
        (session,) = group["sessions"]
        assert session["status"] == "STATUS_SUCCESS"
        found = {metric["name"]["tag"]: metric["value"] for metric in session["metricValues"]}
        scalars = demo.values(trial)["scalars"]
        tags = ["final/accuracy", "final/loss"]
        assert found == {tag: scalars[tag][STEPS - 1] for tag in tags}

"""Each notebook runs from a clean kernel, and writes the points that its prose promises.

These tests are a step of their own in ``.ci/run``: ``python -m pytest notebooks``.
"""

from __future__ import annotations

import ast
import contextlib
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import nbclient
import nbformat
import pandas as pd
import pytest

import jaxboard as jb

FOLDER = pathlib.Path(__file__).parent
PATHS = sorted(FOLDER.glob("*.ipynb"))
SHOW = re.compile(r"^%jaxboard runs$", re.MULTILINE)
MAGIC = re.compile(r"^( *)%.*", re.MULTILINE)
IN_COLAB = {"IPython", "jax", "jaxboard", "numpy"}
"""Packages that a notebook need not name: those that Colab always has, and jaxboard itself."""

each_notebook = pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)


def read(path: pathlib.Path) -> nbformat.NotebookNode:
    return nbformat.read(path, as_version=4)


def code_cells(notebook: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def outputs(cell: nbformat.NotebookNode) -> str:
    return json.dumps(cell.get("outputs", []))


@pytest.fixture(autouse=True)
def environment(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Give the kernel the environment that a user's has, and folders of its own."""
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    # As where Jupyter is started by its path: the notebook finds `tensorboard` itself.
    programs = str(pathlib.Path(sys.executable).parent)
    others = [p for p in os.environ["PATH"].split(os.pathsep) if p != programs]
    monkeypatch.setenv("PATH", os.pathsep.join(others))
    for name in ("MPLBACKEND", "TENSORBOARD_BINARY", "XLA_FLAGS"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def run(tmp_path: pathlib.Path) -> Callable[[str], list[str]]:
    """Return a function that runs a notebook and returns the outputs of its code cells.

    It leaves out the line that starts TensorBoard; the test of the quickstart has it.
    """

    def execute(name: str) -> list[str]:
        notebook = read(FOLDER / f"{name}.ipynb")
        (shown,) = (cell for cell in code_cells(notebook) if SHOW.search(cell.source))
        shown.source = SHOW.sub("", shown.source)
        nbclient.NotebookClient(
            notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}
        ).execute()
        return [outputs(cell) for cell in code_cells(notebook)]

    return execute


def tags(table: pd.DataFrame, run: str) -> dict[str, tuple[int, int, int]]:
    """Return the number of points of each tag of a run, its first step and its last."""
    steps = table[table["run"] == run].groupby("tag")["step"].agg(["count", "min", "max"])
    return {str(tag): (int(n), int(a), int(z)) for tag, n, a, z in steps.itertuples()}


def values(table: pd.DataFrame, run: str, tag: str) -> list[Any]:
    return table[(table["run"] == run) & (table["tag"] == tag)]["value"].tolist()


@each_notebook
def test_source(path: pathlib.Path) -> None:
    """A notebook is valid, has no outputs and no execution counts, and has as much prose as code."""
    notebook = read(path)
    nbformat.validate(notebook)
    code = code_cells(notebook)
    assert [(cell.outputs, cell.execution_count) for cell in code] == [([], None)] * len(code)
    assert len({cell.id for cell in notebook.cells}) == len(notebook.cells)
    assert notebook.metadata.kernelspec.name == "python3"
    assert len(notebook.cells) >= 2 * len(code)


def test_format() -> None:
    """The notebooks are formatted."""
    pytest.importorskip("ruff")
    command = [sys.executable, "-m", "ruff", "format", "--check", str(FOLDER)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


@each_notebook
def test_packages(path: pathlib.Path) -> None:
    """In Colab, a notebook installs every package that it imports."""
    source = "\n".join(cell.source for cell in code_cells(read(path)))
    installed = {
        word for line in source.splitlines() if "%pip install" in line for word in line.split()
    }
    code = MAGIC.sub(r"\1pass", source)
    names = set()
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(str(node.module))
    packages = {name.partition(".")[0] for name in names} - sys.stdlib_module_names - IN_COLAB
    if "jb.read(" in code:
        packages.add("pandas")
    renamed = {"sklearn": "scikit-learn"}
    assert {renamed.get(name, name) for name in packages} - installed == set()


@pytest.fixture
def servers(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable]:
    """Yield a function that lists the TensorBoards of the test's kernel, and stop them in the end.

    A server registers itself in ``$TMPDIR/.tensorboard-info``. Only recent kernels stop their servers when
    they shut down.
    """
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))

    def running() -> list[dict[str, Any]]:
        return [json.loads(p.read_text()) for p in temporary.glob(".tensorboard-info/pid-*.info")]

    yield running
    for server in running():
        with contextlib.suppress(ProcessLookupError):
            os.kill(server["pid"], signal.SIGTERM)


def fetch(url: str, good: Callable[[Any], bool]) -> Any:
    """Return the first answer of TensorBoard that is ``good``: it loads runs in the background."""
    end = time.monotonic() + 120
    last = None
    while time.monotonic() < end:
        with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=30) as reply:
            last = json.load(reply)
            if good(last):
                return last
    raise AssertionError(f"{url} answered {last!r}")


def test_01_quickstart(tmp_path: pathlib.Path, servers: Callable) -> None:
    """The quickstart runs without an error, and its TensorBoard shows the run."""
    notebook = read(FOLDER / "01_quickstart.ipynb")
    (frame,) = (cell for cell in code_cells(notebook) if SHOW.search(cell.source))

    client = nbclient.NotebookClient(
        notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}
    )
    with client.setup_kernel():
        for index, cell in enumerate(notebook.cells):
            client.execute_cell(cell, index)

        assert "<iframe" in outputs(frame)
        (training,) = (cell for cell in code_cells(notebook) if "live=True" in cell.source)
        assert "<svg" in outputs(training)

        (server,) = servers()
        data = f"http://127.0.0.1:{server['port']}/data"
        assert fetch(f"{data}/runs", bool) == ["first"]
        shown = fetch(f"{data}/plugin/scalars/tags", bool)["first"]
        assert set(shown) == {"train/loss", "train/accuracy", "eval/loss", "eval/accuracy"}
        assert fetch(f"{data}/plugin/text/tags", bool) == {"first": ["about"]}
        loss = "scalars/scalars?run=first&tag=train%2Floss"
        points = fetch(f"{data}/plugin/{loss}", lambda rows: len(rows) == 300)
        assert [step for _, step, _ in points] == list(range(300))
        sheet = "images/images?run=first&tag=test_sheet&sample=0"
        points = fetch(f"{data}/plugin/{sheet}", lambda rows: len(rows) == 3)
        assert [point["step"] for point in points] == [99, 199, 299]

    # The last code cell shows the captured tags.
    assert "eval/loss" in outputs(code_cells(notebook)[-1])
    assert "eval/accuracy" in outputs(code_cells(notebook)[-1])


def test_02_transforms(tmp_path: pathlib.Path, run: Callable) -> None:
    """Each report counts once for each time that its line runs in the program as written."""
    out = run("02_transforms")
    table = jb.read(tmp_path / "runs")
    every_step = (20, 0, 19)

    assert tags(table, "grad") == {"loss": every_step, "gradient/prediction": every_step}

    above = [n for n, error in enumerate(values(table, "vmap", "error/max")) if error > 1]
    assert tags(table, "vmap") == {
        "error/mean": every_step,
        "error/max": every_step,
        "error/above_one": (len(above), 0, above[-1]),
    }
    assert len(above) < 20

    layers = [f"layers/{n:02}/rms" for n in range(6)]
    assert tags(table, "scan") == dict.fromkeys([*layers, "rms"], every_step)
    merged = pd.DataFrame({tag: values(table, "scan", tag) for tag in layers}).mean(axis=1)
    assert values(table, "scan", "rms") == pytest.approx(merged.tolist(), rel=1e-5)

    assert tags(table, "while") == {"iterations": (9, 0, 8), "residual": (9, 0, 8)}
    iterations = values(table, "while", "iterations")
    assert iterations == sorted(iterations)
    assert iterations[0] < iterations[-1]
    assert tags(table, "while_single")["iterations"] == (5, 0, 4)
    single = sum(values(table, "while_single", "iterations"))
    assert values(table, "while_vmap", "iterations") == [single]
    assert f"{single:.0f} iterations in the batch, {single:.0f} one by one" in "".join(out)

    norms = values(table, "cond", "norm")
    assert values(table, "cond", "clipped/norm") == [norm for norm in norms if norm > 1]
    assert norms[0] > 1 > norms[-1]
    assert values(table, "cond_vmap", "positive") == [3]
    assert values(table, "cond_vmap", "negative") == [1]

    assert tags(table, "plain") == tags(table, "checkpoint") == {"layers": (1, 0, 0)}
    assert values(table, "plain", "layers") == values(table, "checkpoint", "layers") == [6]


def test_03_digits(tmp_path: pathlib.Path, run: Callable) -> None:
    """Both runs have the curves, images, histograms and hyperparameters that the page lists."""
    run("03_digits")
    logdir = tmp_path / "runs"
    scalars, images = jb.read(logdir), jb.read(logdir, kind="image")
    histograms = jb.read(logdir, kind="histogram")
    leaves = [f"layer{n}/{leaf}" for n in (1, 2, 3) for leaf in ("bias", "kernel")]
    for name, passes in (("sgd_0.05", 70), ("sgd_0.2", 20)):
        assert tags(scalars, name) == dict.fromkeys(["loss", "accuracy"], (200, 0, 199))
        assert tags(scalars, f"{name}/eval") == dict.fromkeys(["loss", "accuracy"], (20, 0, 190))
        assert tags(images, name) == {"training_data": (1, 0, 0), "test_sheet": (2, 0, 100)}
        assert tags(images, f"{name}/eval") == {"digits": (20, 0, 190)}
        assert tags(histograms, name) == {f"gradients/{leaf}": (4, 0, 150) for leaf in leaves}
        accuracies = values(scalars, f"{name}/eval", "accuracy")
        assert next(10 * n for n, accuracy in enumerate(accuracies) if accuracy > 0.9) <= passes
    hparams = jb.read(logdir, kind="hparams").set_index("run")["value"].to_dict()
    assert hparams == {"sgd_0.05": {"learning_rate": 0.05}, "sgd_0.2": {"learning_rate": 0.2}}


def test_04_transformer(tmp_path: pathlib.Path, run: Callable) -> None:
    """Both mistakes are visible: one in the entropy of its block, the other in a sentence that names it."""
    run("04_transformer")
    logdir = tmp_path / "runs"
    scalars, images = jb.read(logdir), jb.read(logdir, kind="image")
    for name in ("healthy", "broken"):
        counts = tags(scalars, name)
        curves = ["train/loss", "train/perplexity"]
        curves += [f"block_{n}/{tag}" for n in range(3) for tag in ("entropy", "max_logit")]
        assert {tag: counts[tag] for tag in curves} == dict.fromkeys(curves, (100, 0, 99))
        norms = [tag for tag in counts if tag.startswith("gradients/norm/")]
        assert {counts[tag] for tag in norms} == {(5, 0, 80)}
        assert {tag.rpartition("/")[0] for tag in norms} >= {
            f"gradients/norm/blocks/{n}/up" for n in range(3)
        }
        assert counts["health/ratio"] == (50, 0, 98)
        maps = tags(images, name)
        assert [maps[f"block_{n}/attention"] for n in range(3)] == [(5, 0, 80)] * 3
        assert maps["health/layers"][2] == 98
        losses = values(scalars, name, "train/loss")
        assert losses[-1] < losses[0] / 2
    assert max(values(scalars, "broken", "block_1/entropy")) < 0.5
    assert min(values(scalars, "healthy", "block_1/entropy")) > 2
    assert (
        values(scalars, "broken", "block_1/max_logit")[-1]
        > 20 * values(scalars, "healthy", "block_1/max_logit")[-1]
    )
    texts = jb.read(logdir, kind="text")
    assert texts[["run", "tag"]].values.tolist() == [["broken", "jaxboard/health"]]
    assert "`blocks/2/up`" in texts["value"].item()


def test_05_vae(tmp_path: pathlib.Path, run: Callable) -> None:
    """Both runs have their losses, images and vectors; with the larger weight, the posterior collapses."""
    run("05_vae")
    logdir = tmp_path / "runs"
    scalars, images = jb.read(logdir), jb.read(logdir, kind="image")
    dimensions = [f"kl/{n}" for n in range(8)]
    for name in ("beta_1", "beta_4"):
        assert tags(scalars, name) == {
            "loss/reconstruction": (300, 0, 299),
            "loss/kl": (300, 0, 299),
            **dict.fromkeys(dimensions, (31, 0, 299)),
        }
        assert tags(images, name) == dict.fromkeys(["samples", "reconstructions"], (7, 0, 299))
        labels = (logdir / name / "projector/latents/step_299/labels.tsv").read_text()
        assert len(labels.splitlines()) == 400
    assert tags(jb.read(logdir, kind="custom_scalars"), "beta_1").keys() == {
        "custom_scalars__config__"
    }
    last = {
        name: [values(scalars, name, tag)[-1] for tag in dimensions]
        for name in ("beta_1", "beta_4")
    }
    assert max(last["beta_1"]) > 0.3
    assert max(last["beta_4"]) < 0.05


def test_06_scan_and_seeds(tmp_path: pathlib.Path, run: Callable) -> None:
    """Each seed is a run, its points are delivered during the call, and only finished episodes count."""
    run("06_scan_and_seeds")
    logdir = tmp_path / "runs"
    scalars, images = jb.read(logdir), jb.read(logdir, kind="image")
    seeds = [f"cliff/seed_{n}" for n in range(8)]
    assert set(scalars["run"]) == {*seeds, "cliff/mean", "cliff/min", "cliff/max"}
    for name in set(scalars["run"]):
        counts = tags(scalars, name)
        assert counts.keys() == {"td_error", "episode/return"}
        assert counts["td_error"] == (51, 0, 9_999)
        assert counts["episode/return"][0] >= 40
        assert values(scalars, name, "td_error")[-1] < 0.1
    for name in seeds:
        assert tags(images, name) == {"value": (4, 0, 7_500)}
    errors = pd.DataFrame({name: values(scalars, name, "td_error") for name in seeds})
    assert values(scalars, "cliff/mean", "td_error") == pytest.approx(
        errors.mean(axis=1).tolist(), rel=1e-4
    )
    times = jb.read(logdir, runs=seeds[0], tags="td_error")["wall_time"].tolist()
    assert times == sorted(times)
    assert len(set(times)) > 10
    assert max(values(scalars, "cliff/max", "episode/return")) <= -13


def test_07_profiling(tmp_path: pathlib.Path, run: Callable) -> None:
    """The first verdict names the loader, the second compares itself with it."""
    run("07_profiling")
    logdir = tmp_path / "runs"
    scalars, texts = jb.read(logdir), jb.read(logdir, kind="text")
    assert tags(scalars, "autoencoder")["loss"] == (55, 0, 54)
    first, second = values(texts, "autoencoder", "profile/verdict")
    assert "Steps 10-19: input-bound." in first
    assert "The longest parts: `load_batch`" in first
    assert "Steps 40-49: bound by computation." in second
    assert "times as fast as steps 10-19" in second
    waiting = values(scalars, "autoencoder", "profile/time_percent/between_steps")
    assert waiting[1] < waiting[0] / 2
    sessions = logdir / "autoencoder" / "plugins" / "profile"
    assert {path.name for path in sessions.iterdir()} == {"steps_10-19", "steps_40-49"}


def test_08_devices(tmp_path: pathlib.Path, run: Callable) -> None:
    """Three ways to distribute a program have the same curves, and a shard with wrong data is visible."""
    run("08_devices")
    scalars = jb.read(tmp_path / "runs")
    histograms = jb.read(tmp_path / "runs", kind="histogram")
    norms = dict.fromkeys(["gradients/norm", "gradients/norm/in", "gradients/norm/out"], (5, 0, 40))
    devices = [f"loss/by/device_{n:02}" for n in range(8)]
    every_step = (50, 0, 49)
    assert tags(scalars, "data_parallel") == {"loss": every_step, **norms}
    assert tags(scalars, "tensor_parallel") == {"loss": every_step, **norms}
    single = ["loss", "loss/mean", "loss/max", "count/local", "count/pmean"]
    assert tags(scalars, "shard_map") == {**dict.fromkeys([*single, *devices], every_step), **norms}

    layouts = jb.read(tmp_path / "runs", kind="custom_scalars")
    assert layouts["run"].tolist() == ["shard_map"]

    assert set(values(scalars, "shard_map", "count/local")) == {8}
    assert set(values(scalars, "shard_map", "count/pmean")) == {1}
    last = [values(scalars, "shard_map", tag)[-1] for tag in devices]
    assert last.index(max(last)) == 5
    assert max(last) > 4 * sorted(last)[-2]

    expected = values(scalars, "data_parallel", "loss")
    for name in ("shard_map", "tensor_parallel"):
        assert values(scalars, name, "loss") == pytest.approx(expected, rel=1e-4)
        assert tags(histograms, name) == tags(histograms, "data_parallel")
    for name in ("data_parallel", "shard_map", "tensor_parallel"):
        for leaf, size in (("in", 16 * 64), ("out", 64)):
            buckets = values(histograms, name, f"gradients/histogram/{leaf}")
            assert [counts[:, 2].sum() for counts in buckets] == [size] * 5

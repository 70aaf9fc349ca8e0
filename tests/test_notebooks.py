"""The notebooks run from a clean kernel, and what they show in a frame is a TensorBoard that works."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import signal
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import nbclient
import nbformat
import pytest

NOTEBOOKS = sorted(pathlib.Path(__file__).parents[1].joinpath("notebooks").glob("*.ipynb"))


@pytest.fixture
def instances(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable]:
    """Gives the kernel a world of its own; returns the TensorBoards that run in it.

    An instance announces itself in ``$TMPDIR/.tensorboard-info``. Newer kernels end theirs with
    themselves; those of older ones live on.
    """
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    binary = pathlib.Path(sys.executable).with_name("tensorboard")
    monkeypatch.setenv("TENSORBOARD_BINARY", str(binary))
    # A notebook's user has set neither.
    monkeypatch.delenv("MPLBACKEND", raising=False)
    monkeypatch.delenv("XLA_FLAGS", raising=False)

    def running() -> list[dict[str, Any]]:
        return [json.loads(p.read_text()) for p in temporary.glob(".tensorboard-info/pid-*.info")]

    yield running
    for instance in running():
        with contextlib.suppress(ProcessLookupError):
            os.kill(instance["pid"], signal.SIGTERM)


def read(path: pathlib.Path) -> nbformat.NotebookNode:
    return nbformat.read(path, as_version=4)


def text_of(cell: nbformat.NotebookNode) -> str:
    return json.dumps(cell.get("outputs", []))


def answer(url: str, good: Callable[[Any], bool]) -> Any:
    """Asks TensorBoard until it has loaded what is asked for."""
    end = time.monotonic() + 60
    last = None
    while time.monotonic() < end:
        with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=30) as reply:
            last = json.load(reply)
            if good(last):
                return last
    raise AssertionError(f"{url} answered {last!r}")


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_is_stripped(path: pathlib.Path) -> None:
    """A notebook is kept without outputs and counts, so that a change shows what changed."""
    cells = [cell for cell in read(path).cells if cell.cell_type == "code"]
    assert [cell.outputs for cell in cells] == [[]] * len(cells)
    assert [cell.execution_count for cell in cells] == [None] * len(cells)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_is_prose(path: pathlib.Path) -> None:
    """It explains more than it does."""
    kinds = [cell.cell_type for cell in read(path).cells]
    assert kinds.count("markdown") >= kinds.count("code")


@pytest.mark.timeout(600)
def test_quickstart(tmp_path: pathlib.Path, instances: Callable) -> None:
    """It runs through, and its frame is that of a TensorBoard that has the run."""
    notebook = read(next(path for path in NOTEBOOKS if path.stem == "01_quickstart"))
    magic = "%tensorboard --logdir runs"
    (frame,) = (cell for cell in notebook.cells if cell.source == magic)
    frame.source = f"{magic} --host 127.0.0.1 --port 0"

    client = nbclient.NotebookClient(
        notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}
    )
    with client.setup_kernel():
        for index, cell in enumerate(notebook.cells):
            client.execute_cell(cell, index)

        # A start that fails is no exception: it is a message where the frame should be.
        assert "tensorboard-frame" in text_of(frame)
        assert not [cell.source for cell in notebook.cells if "ERROR:" in text_of(cell)]

        (instance,) = instances()
        data = f"http://127.0.0.1:{instance['port']}/data"
        assert answer(f"{data}/runs", bool) == ["first"]
        tags = answer(f"{data}/plugin/scalars/tags", bool)["first"]
        assert set(tags) == {"train/loss", "train/accuracy", "eval/loss", "eval/accuracy"}
        loss = "scalars/scalars?run=first&tag=train%2Floss"
        points = answer(f"{data}/plugin/{loss}", lambda rows: len(rows) == 300)
        assert [step for _, step, _ in points] == list(range(300))
        sheet = "images/images?run=first&tag=test_sheet&sample=0"
        points = answer(f"{data}/plugin/{sheet}", lambda rows: len(rows) == 3)
        assert [point["step"] for point in points] == [99, 199, 299]

    # The last cell shows what was captured, which is what the run has.
    assert "eval/loss" in text_of(notebook.cells[-2])
    assert "eval/accuracy" in text_of(notebook.cells[-2])

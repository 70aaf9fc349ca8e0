"""The notebooks run from a clean kernel and show a working TensorBoard."""

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
from alarms import alarms

NOTEBOOKS = sorted(pathlib.Path(__file__).parents[1].joinpath("notebooks").glob("*.ipynb"))


@pytest.fixture
def instances(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable]:
    """Isolate the kernel's environment; yield a function that lists the TensorBoard servers in it.

    A server registers itself in ``$TMPDIR/.tensorboard-info``. Only recent kernels stop their servers when
    they shut down, so this fixture stops them.
    """
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    # As where Jupyter is started by its path: the notebook finds `tensorboard` itself.
    programs = str(pathlib.Path(sys.executable).parent)
    others = [p for p in os.environ["PATH"].split(os.pathsep) if p != programs]
    monkeypatch.setenv("PATH", os.pathsep.join(others))
    monkeypatch.delenv("TENSORBOARD_BINARY", raising=False)
    # The environment of a notebook sets neither.
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


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_is_stripped(path: pathlib.Path) -> None:
    """A notebook has no outputs and no execution counts, so that diffs show only edits."""
    cells = [cell for cell in read(path).cells if cell.cell_type == "code"]
    assert [cell.outputs for cell in cells] == [[]] * len(cells)
    assert [cell.execution_count for cell in cells] == [None] * len(cells)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_is_prose(path: pathlib.Path) -> None:
    """A notebook has at least as many cells of prose as of code."""
    kinds = [cell.cell_type for cell in read(path).cells]
    assert kinds.count("markdown") >= kinds.count("code")


@pytest.mark.timeout(600)
def test_quickstart(tmp_path: pathlib.Path, instances: Callable) -> None:
    """The quickstart runs without an error, and its TensorBoard shows the run."""
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

        # If TensorBoard fails to start, the cell shows a message instead of the frame, and raises nothing.
        assert "tensorboard-frame" in text_of(frame)
        assert not [cell.source for cell in notebook.cells if "ERROR:" in text_of(cell)]

        (instance,) = instances()
        data = f"http://127.0.0.1:{instance['port']}/data"
        assert fetch(f"{data}/runs", bool) == ["first"]
        tags = fetch(f"{data}/plugin/scalars/tags", bool)["first"]
        assert set(tags) == {"train/loss", "train/accuracy", "eval/loss", "eval/accuracy"}
        assert alarms(fetch(f"{data}/plugin/text/tags", bool).get("first", [])) == []
        loss = "scalars/scalars?run=first&tag=train%2Floss"
        points = fetch(f"{data}/plugin/{loss}", lambda rows: len(rows) == 300)
        assert [step for _, step, _ in points] == list(range(300))
        sheet = "images/images?run=first&tag=test_sheet&sample=0"
        points = fetch(f"{data}/plugin/{sheet}", lambda rows: len(rows) == 3)
        assert [point["step"] for point in points] == [99, 199, 299]

    # The last code cell shows the captured tags.
    assert "eval/loss" in text_of(notebook.cells[-2])
    assert "eval/accuracy" in text_of(notebook.cells[-2])

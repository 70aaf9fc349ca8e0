"""The programs of README.md run as printed, and the page shows the commands that CI runs."""

from __future__ import annotations

import json
import pathlib
import re
import subprocess
import sys

import pytest
from alarms import alarms
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

ROOT = pathlib.Path(__file__).parents[1]


def blocks(path: pathlib.Path, language: str) -> list[str]:
    """Return the code blocks of a page in one language."""
    found = re.findall(r"^```([\w ]+)\n(.*?)^```", path.read_text(), re.MULTILINE | re.DOTALL)
    return [text for name, text in found if name == language]


PROGRAMS = {
    f"README-{number}": text
    for number, text in enumerate(blocks(ROOT / "README.md", "python"), start=1)
}
QUICKSTART = "README-1"

# Importing JAX and TensorFlow takes longer than the programs, so one process runs all of them.
RUNNER = """
import json, os, pathlib, sys, traceback, warnings
import jaxboard as jb

programs, directory = json.loads(sys.argv[1]), pathlib.Path(sys.argv[2])
errors = {}
for name, text in programs.items():
    (directory / name).mkdir()
    os.chdir(directory / name)
    try:
        exec(compile(text, name, "exec"), {"__name__": "__main__"})
        assert jb.current_run() is None, "the program leaves its run open"
    except Exception:
        errors[name] = traceback.format_exc()
(directory / "errors.json").write_text(json.dumps(errors))
"""


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """Run every program in a folder of its own name; return the parent of these folders."""
    directory = tmp_path_factory.mktemp("pages")
    command = [sys.executable, "-W", "error", "-c", RUNNER, json.dumps(PROGRAMS), str(directory)]
    subprocess.run(command, check=True)
    return directory


@pytest.mark.parametrize("name", PROGRAMS)
def test_programs_run(name: str, directory: pathlib.Path) -> None:
    """A program runs as printed, without a warning, and closes its run."""
    errors = json.loads((directory / "errors.json").read_text())
    assert name not in errors, errors[name]


def test_quickstart(directory: pathlib.Path) -> None:
    """The quickstart writes a loss at every step and a histogram at every tenth."""
    sizes = {"scalars": 0, "tensors": 0}
    run = directory / QUICKSTART / "runs" / "quickstart"
    events = EventAccumulator(str(run), sizes).Reload()
    losses = events.Scalars("loss")
    assert [point.step for point in losses] == list(range(200))
    assert losses[-1].value < 1e-3 * losses[0].value
    assert [point.step for point in events.Tensors("gradient")] == list(range(0, 200, 10))


def test_no_alarm(directory: pathlib.Path) -> None:
    """No program of the README has a text entry that is an alarm."""
    files = sorted(directory.glob("README-*/**/*tfevents*"))
    folders = {file.parent for file in files}
    assert {folder.relative_to(directory).parts[0] for folder in folders} >= {QUICKSTART}
    tags = [EventAccumulator(str(folder)).Reload().Tags()["tensors"] for folder in folders]
    assert [alarms(each) for each in tags] == [[]] * len(tags)


def test_commands_are_complete() -> None:
    """The demo, the notebook and the tests are one command each, which installs what it needs into an environment."""
    pages = (ROOT / "README.md", ROOT / "CONTRIBUTING.md")
    commands = [text.strip() for page in pages for text in blocks(page, "bash")]
    start = "python3 -m venv .venv && .venv/bin/python -m pip install -q -e "
    assert [command for command in commands if command.startswith(start)] == [
        f"{start}'.[demo]' && .venv/bin/python -m jaxboard demo",
        f"{start}'.[test]' && .venv/bin/python -m pytest -q",
        f"{start}'.[notebook]' && .venv/bin/python -m jupyterlab notebooks/01_quickstart.ipynb",
    ]

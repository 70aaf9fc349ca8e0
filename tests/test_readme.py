"""The README's programs run as printed, and its commands are those of CI."""

from __future__ import annotations

import pathlib
import re
import subprocess
import sys

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

ROOT = pathlib.Path(__file__).parents[1]
PAGES = [p for p in sorted((ROOT / "docs").glob("*.md")) if "```python" in p.read_text()]


def blocks(path: pathlib.Path) -> list[tuple[str, str]]:
    return re.findall(r"^```(\w+)\n(.*?)^```", path.read_text(), re.MULTILINE | re.DOTALL)


BLOCKS = blocks(ROOT / "README.md")
PROGRAMS = [text for language, text in BLOCKS if language == "python"]
COMMANDS = [text.strip() for language, text in BLOCKS if language == "bash"]


def run(program: str, directory: pathlib.Path) -> None:
    subprocess.run([sys.executable, "-W", "error", "-c", program], cwd=directory, check=True)


def test_quickstart(tmp_path: pathlib.Path) -> None:
    """Its curve has a point for each step, and its histogram one for each tenth."""
    run(PROGRAMS[0], tmp_path)
    sizes = {"scalars": 0, "tensors": 0}
    events = EventAccumulator(str(tmp_path / "runs" / "quickstart"), sizes).Reload()
    losses = events.Scalars("loss")
    assert [point.step for point in losses] == list(range(200))
    assert losses[-1].value < 1e-3 * losses[0].value
    assert [point.step for point in events.Tensors("gradient")] == list(range(0, 200, 10))


@pytest.mark.parametrize("program", PROGRAMS[1:])
def test_other_programs(program: str, tmp_path: pathlib.Path) -> None:
    """What else is shown as Python runs as it stands."""
    run(program, tmp_path)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_examples_of_a_page(page: pathlib.Path, tmp_path: pathlib.Path) -> None:
    """The examples of a page in docs/ run one after the other, as one program."""
    run("\n".join(text for language, text in blocks(page) if language == "python"), tmp_path)


def test_commands_are_complete() -> None:
    """The demo and the tests are one line each, from nothing, in an environment of their own."""
    start = "python3 -m venv .venv && .venv/bin/python -m pip install -q -e "
    assert [command for command in COMMANDS if command.startswith("python3")] == [
        f"{start}'.[demo]' && .venv/bin/python -m jaxboard demo",
        f"{start}'.[test]' && .venv/bin/python -m pytest -q",
    ]

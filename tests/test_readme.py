"""The programs of README.md and docs/ run as printed, and the pages show the commands that CI runs."""

from __future__ import annotations

import importlib.util
import inspect
import json
import pathlib
import re
import subprocess
import sys

import pytest
from alarms import alarms
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import jaxboard as jb
from jaxboard._emit import VerbMethods

ROOT = pathlib.Path(__file__).parents[1]


def blocks(path: pathlib.Path, language: str) -> list[str]:
    """Return the code blocks of a page in one language."""
    found = re.findall(r"^```([\w ]+)\n(.*?)^```", path.read_text(), re.MULTILINE | re.DOTALL)
    return [text for name, text in found if name == language]


def programs() -> dict[str, str]:
    """Return name -> program. A block of the README is a program; the blocks of a page in docs/ are one together."""
    readme = {
        f"README-{number}": text
        for number, text in enumerate(blocks(ROOT / "README.md", "python"), start=1)
    }
    pages = {path.stem: blocks(path, "python") for path in sorted((ROOT / "docs").glob("*.md"))}
    return readme | {name: "\n".join(texts) for name, texts in pages.items() if texts}


def others() -> dict[str, str]:
    """Return library -> program, for the loggers that the page on migration replaces and that are installed."""
    page = ROOT / "docs" / "coming_from.md"
    setup = blocks(page, "python")[0]
    libraries = ("tensorboardX", "tensorflow", "clu", "flax")
    return {
        library: setup + blocks(page, f"python {library}")[0]
        for library in libraries
        if importlib.util.find_spec(library)
    }


PROGRAMS = programs()
OTHERS = others()
QUICKSTART = "README-1"

# Importing JAX and TensorFlow takes longer than the programs, so one process runs all of them.
RUNNER = """
import json, os, pathlib, sys, traceback, warnings
import jaxboard as jb

programs, others, directory = json.loads(sys.argv[1]), json.loads(sys.argv[2]), pathlib.Path(sys.argv[3])
errors = {}
for name, text in programs.items():
    (directory / name).mkdir()
    os.chdir(directory / name)
    try:
        exec(compile(text, name, "exec"), {"__name__": "__main__"})
        assert jb.current_run() is None, "the program leaves its run open"
    except Exception:
        errors[name] = traceback.format_exc()
os.chdir(directory / "coming_from")
warnings.simplefilter("ignore")
for name, text in others.items():
    try:
        exec(compile(text, name, "exec"), {"__name__": "__main__"})
    except Exception:
        errors[name] = traceback.format_exc()
(directory / "errors.json").write_text(json.dumps(errors))
"""


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """Run every program in a folder of its own name; return the parent of these folders."""
    directory = tmp_path_factory.mktemp("pages")
    command = [sys.executable, "-W", "error", "-c", RUNNER, json.dumps(PROGRAMS)]
    subprocess.run([*command, json.dumps(OTHERS), str(directory)], check=True)
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


@pytest.mark.parametrize("library", OTHERS)
def test_other_loggers(library: str, directory: pathlib.Path) -> None:
    """A program with another logger and the one that replaces it on the page write the same points."""
    errors = json.loads((directory / "errors.json").read_text())
    assert library not in errors, errors[library]
    tables = [
        jb.read(directory / "coming_from" / "runs" / when / library)[["tag", "step", "value"]]
        for when in ("before", "after")
    ]
    assert len(tables[0]) == 100
    assert tables[0].equals(tables[1])


def test_methods_of_other_loggers() -> None:
    """The page on migration has a row for each method of other loggers, and the calls in its rows exist."""
    import tensorboardX
    from flax.metrics import tensorboard as flax_tensorboard

    page = (ROOT / "docs" / "coming_from.md").read_text()
    rows = re.findall(r"^\| (`.*?) \| (.*) \|$", page, re.MULTILINE)
    left = " ".join(row[0] for row in rows)
    for writer in (tensorboardX.SummaryWriter, flax_tensorboard.SummaryWriter):
        methods = [name for name, _ in inspect.getmembers(writer, callable) if name[0] != "_"]
        assert [name for name in methods if f"`{name}(" not in left] == []
    calls = [call for _, right in rows for call in re.findall(r"`jb\.(\w+)\((.*?)\)`", right)]
    assert len(calls) > 80
    for name, arguments in calls:
        accepted = inspect.signature(getattr(jb, name)).parameters
        assert set(re.findall(r"(\w+)=", arguments)) <= set(accepted), name


def test_the_gallery_is_complete() -> None:
    """The gallery calls every verb, and each of its sections has a picture."""
    page = (ROOT / "docs" / "gallery.md").read_text()
    verbs = [name for name in vars(VerbMethods) if not name.startswith("_")]
    assert [name for name in verbs if f".{name}(" not in page] == []
    sections = page.split("\n## ")[1:]
    assert [text.partition("\n")[0] for text in sections if "<img src=" not in text] == []
    pictures = re.findall(r'<img src="(.*?)"', page)
    assert [name for name in pictures if not (ROOT / "docs" / name).exists()] == []


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

"""A run ends with one line: where it is and how to open it."""

from __future__ import annotations

import logging
import os
import pathlib
import re
import subprocess
import sys
import textwrap

import pytest

import jaxboard as jb
from jaxboard._paths import view_command
from jaxboard.testing import capture

pty = pytest.importorskip("pty")

RUNS = """
    import jaxboard as jb
    for name in "ab":
        with jb.Run(f"runs/{name}"):
            jb.scalar("loss", 0.5)
"""


def terminal_output(code: str, folder: pathlib.Path) -> str:
    """Run a program whose standard error is a terminal; return what it wrote there."""
    try:
        reader, writer = pty.openpty()
    except OSError as error:  # a container without pseudo-terminals
        pytest.skip(str(error))
    environment = {
        name: value
        for name, value in os.environ.items()
        if name not in ("PYTEST_CURRENT_TEST", "TF_CPP_MIN_LOG_LEVEL")
    }
    command = [sys.executable, "-c", textwrap.dedent(code)]
    subprocess.run(command, cwd=folder, env=environment, stderr=writer, check=True)
    os.close(writer)
    output = b""
    try:
        while part := os.read(reader, 4096):
            output += part
    except OSError:  # Linux's end of a terminal
        pass
    os.close(reader)
    return output.decode().replace("\r\n", "\n")


def test_a_terminal_shows_it_once(tmp_path):
    """On a terminal, the first run of a process that ends prints its directory and a command that works."""
    output = terminal_output(RUNS, tmp_path)
    line = re.fullmatch(r"jaxboard: the run is in runs/a\. Open it: (.+) --logdir runs\n", output)
    assert line is not None, output
    # TensorBoard needs no TensorFlow, whose import takes seconds.
    (tmp_path / "tensorflow.py").write_text("raise ImportError\n")
    done = subprocess.run(
        f"{line[1]} --version", shell=True, cwd=tmp_path, check=True, capture_output=True, text=True
    )
    assert re.match(r"\d+\.\d+", done.stdout)


@pytest.mark.parametrize(
    ("setting", "lines"),
    [
        ("logging.getLogger('jaxboard').setLevel(logging.WARNING)", 0),
        ("logging.basicConfig(level=logging.INFO)", 2),  # one for each run, by logging
        ("sys.stderr = None", 0),
    ],
)
def test_settings_of_logging(tmp_path, setting, lines):
    """The level WARNING removes the line, and a logging configuration that shows INFO has one for each run."""
    # Without TensorFlow, whose import takes seconds.
    start = "import logging, sys, warnings; warnings.simplefilter('ignore')\nsys.modules['tensorflow'] = None"
    output = terminal_output(f"{start}\n{setting}\n{textwrap.dedent(RUNS)}", tmp_path)
    assert output.count("Open it: ") == lines


def test_runs_without_files(tmp_path):
    """A run in memory has no place, and a run that is captured by a test prints nothing."""
    program = """
        import jaxboard as jb
        from jaxboard.testing import capture
        with capture():
            jb.scalar("loss", 0.5)
    """
    assert terminal_output(program, tmp_path) == ""


def test_it_is_logged(logdir, caplog):
    """Every run with event files logs the line at the level INFO; a run in memory does not."""
    caplog.set_level(logging.INFO, "jaxboard")
    with jb.Run(logdir):
        pass
    with capture():
        pass
    messages = [r.message for r in caplog.records if r.levelno == logging.INFO]
    assert messages == [f"The run is in {logdir}. Open it: {view_command(logdir)}"]


def test_the_directory_of_the_command(tmp_path, monkeypatch):
    """The command shows the parent of a run below the working directory, otherwise the run alone."""
    monkeypatch.chdir(tmp_path)
    shown = [
        view_command(path).partition(" --logdir ")[2]
        for path in (
            "runs/a",
            "runs/my tests/a",
            "a",
            f"{tmp_path}/runs/b",
            "/data/a",
            "gs://b/a/c",
        )
    ]
    assert shown == ["runs", "'runs/my tests'", "a", "runs", "/data/a", "gs://b/a/c"]

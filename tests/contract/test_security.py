"""Files are data: nothing that is read is executed, and nothing is written outside of the log directory."""

from __future__ import annotations

import ast
import os
import pathlib
import socket

import jax.numpy as jnp
import numpy as np
import pytest

import jaxboard as jb
from jaxboard.records import Kind, Record
from jaxboard.sinks import TensorBoardSink

PACKAGE = pathlib.Path(jb.__file__).parent

MODULES = {
    "pickle",
    "cPickle",
    "_pickle",
    "dill",
    "cloudpickle",
    "joblib",
    "marshal",
    "shelve",
    "yaml",
}
"""Modules whose files may contain code."""
FUNCTIONS = {"eval", "exec", "compile", "__import__"}
SERVERS = {"listen", "create_server", "start_server", "start_unix_server", "serve_forever"}
PROCESSES = {"Popen", "run", "call", "check_call", "check_output", "Process", "ProcessPoolExecutor"}

STARTS_PROCESSES = {"_cli/doctor.py", "_process/viewer.py", "_profile/trace_reader.py"}
"""The modules that start processes. For a new one, add a test to tests/process/test_listening.py."""


def names_in(source: str) -> dict[str, set[str]]:
    """Return what a module imports, the plain functions and the methods that it calls, and its keyword arguments.

    A call of a plain function with a literal is left out: its text comes from no file.
    """
    found: dict[str, set[str]] = {
        "modules": set(),
        "functions": set(),
        "methods": set(),
        "keywords": set(),
    }
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found["modules"] |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found["modules"].add((node.module or "").partition(".")[0])
        elif isinstance(node, ast.Call):
            found["keywords"] |= {keyword.arg or "" for keyword in node.keywords}
            if isinstance(node.func, ast.Name):
                if not all(isinstance(argument, ast.Constant) for argument in node.args):
                    found["functions"].add(node.func.id)
            elif isinstance(node.func, ast.Attribute):
                owner = node.func.value.id if isinstance(node.func.value, ast.Name) else ""
                found["methods"] |= {node.func.attr, f"{owner}.{node.func.attr}"}
    return found


def offences(source: str) -> set[str]:
    """Return what a module uses that may execute code from a file, or listen to the network."""
    names = names_in(source)
    return (
        names["modules"] & MODULES
        | names["functions"] & FUNCTIONS
        | names["keywords"] & {"allow_pickle", "shell"}
        | names["methods"] & SERVERS
    )


def test_no_code_from_files() -> None:
    """No module unpickles, evaluates text, starts a shell or opens a server."""
    found = {path: offences(path.read_text()) for path in PACKAGE.rglob("*.py")}
    assert {path: names for path, names in found.items() if names} == {}


def test_modules_that_start_processes() -> None:
    """Only these modules start processes."""
    starting = set()
    for path in PACKAGE.rglob("*.py"):
        names = names_in(path.read_text())
        started = {
            f"{module}.{name}" for module in ("subprocess", "multiprocessing") for name in PROCESSES
        }
        if (
            names["methods"] & (started | {"os.system", "os.popen", "os.fork"})
            or "multiprocessing" in names["modules"]
        ):
            starting.add(path.relative_to(PACKAGE).as_posix())
    assert starting == STARTS_PROCESSES


def test_the_check_finds_offences() -> None:
    """Every forbidden form is found; methods of other libraries with such names are not."""
    assert offences("from pickle import loads") == {"pickle"}
    assert offences("def f():\n import yaml.loader") == {"yaml"}
    assert offences("np.load(f, allow_pickle=True)\neval(text)") == {"allow_pickle", "eval"}
    assert offences("subprocess.run('ls', shell=True)\nserver.serve_forever()") == {
        "shell",
        "serve_forever",
    }
    assert offences("lowered.compile()\nre.compile('a')\nframe.eval()\neval('1')") == set()


# --- Names that are paths ---------------------------------------------------------------------------

OUTSIDE = [
    "..",
    "../x",
    "a/../../x",
    "/x",
    "//x",
    "a//b",
    ".",
    "./x",
    "",
    " ",
    "a/",
    "a\0b",
    "..\\x",
    "\\x",
    "C:\\x",
    "a" * 256,
    "b/" + "ä" * 128,
    "\ud800",
]


def files_below(directory: pathlib.Path) -> set[str]:
    """Return the directories that hold files, relative to ``directory``."""
    return {
        str(path.parent.relative_to(directory)) for path in directory.rglob("*") if path.is_file()
    }


@pytest.mark.parametrize("name", [*OUTSIDE, None, 3, b"x", pathlib.Path("x")], ids=repr)
def test_runs_below_a_run(tmp_path, name) -> None:
    """run.child() raises an error that names a value that is not a path below the run."""
    with jb.Run(tmp_path / "logs") as run:
        for parent in (run, run.child("eval")):
            with pytest.raises(jb.UsageError, match=r"run\.child\(") as caught:
                parent.child(name)
            assert repr(name)[:100] in str(caught.value)
    assert files_below(tmp_path) == {"logs"}


@pytest.mark.parametrize("name", [name for name in OUTSIDE if name], ids=repr)
def test_runs_of_records(tmp_path, name) -> None:
    """A sink writes a record of such a run nowhere, and counts it as lost."""
    sink = TensorBoardSink(tmp_path / "logs")
    sink.write([Record(Kind.SCALAR, "loss", 0, 1.0, np.float32(1), name)])
    sink.close()
    (reason,) = sink.take_lost()
    assert "its run is invalid" in reason
    assert files_below(tmp_path) == {"logs"}


@pytest.mark.parametrize("name", [*OUTSIDE, "a/b", "a" * 241, 3], ids=repr)
def test_sessions_of_profiles(name) -> None:
    """jaxboard.profile raises for a name that is not that of a directory."""
    with pytest.raises(jb.UsageError, match=r"profile\(name="):
        jb.profile(name=name)


@pytest.mark.parametrize(
    "call",
    [
        jb.Run,
        TensorBoardSink,
        lambda path: jb.profile(logdir=path),
        jb.memory_snapshot,
        jb.read,
    ],
    ids=["Run", "TensorBoardSink", "profile", "memory_snapshot", "read"],
)
def test_paths_with_a_null_character(call) -> None:
    """A path that no operating system accepts raises where it is passed."""
    with pytest.raises(jb.UsageError, match="'a\\\\x00b' contains a NUL character|/a\\\\x00b"):
        call("a\0b")


@pytest.mark.parametrize("length", [256, 5000])
def test_a_log_directory_that_is_too_long(tmp_path, length) -> None:
    """A log directory whose name is too long for the file system raises when the run is opened."""
    with pytest.raises(jb.RunError, match="cannot write to the log directory"):
        jb.Run(tmp_path / ("a" * length))


TAGS = ["../x", "/x", "a/../../x", "..", "a\0b", "C:\\x", "a" * 5000, "a\nb", "$(touch x)"]


def test_tags_are_not_paths(tmp_path, monkeypatch) -> None:
    """Tags are stored as they are and name no file, whatever they contain."""
    monkeypatch.chdir(tmp_path)
    with jb.Run("logs") as run:
        for tag in TAGS:
            run.scalar(tag, 1.0, step=0)
            run.text(f"{tag}/text", "a", step=0)
            run.histogram(f"{tag}/histogram", jnp.ones(3), step=0)
            run.image(f"{tag}/image", np.zeros((2, 2, 3)), step=0)
    assert files_below(tmp_path) == {"logs"}
    (file,) = (tmp_path / "logs").iterdir()
    assert set(TAGS) <= set(jb.read(file)["tag"])


@pytest.mark.parametrize("name", ["../../x", "/x", "a/b", "a\0b", "host\n", "ä" * 20])
def test_names_of_hosts(tmp_path, monkeypatch, name) -> None:
    """The name of a host is part of a file name, whatever it contains."""
    monkeypatch.setattr(socket, "gethostname", lambda: name)
    with jb.Run(tmp_path / "logs") as run:
        run.scalar("loss", 1.0, step=0)
    assert files_below(tmp_path) == {"logs"}
    assert jb.read(tmp_path)["value"].tolist() == [1.0]
    assert os.listdir(tmp_path) == ["logs"]

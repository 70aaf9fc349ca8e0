"""A program with a run prints nothing of its own to standard error, and loses nothing of others."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap

import pytest
from fork_server import run_in_fork
from with_tensorflow import needs_tensorflow

WRITE = """
import ctypes, os, sys, threading
from jaxboard.sinks._quiet_import import quiet_import

libc = ctypes.CDLL(None)
original = ctypes.c_void_p.in_dll(libc, "stderr").value

def log(text):  # as C++ code does
    stream = ctypes.c_void_p.in_dll(libc, "stderr")
    libc.fputs(text.encode() + b"\\n", stream)

def message(severity="I", thread=None):
    thread = threading.get_native_id() if thread is None else thread
    log("WARNING: All log messages before absl::InitializeLog() is called are written to STDERR")
    log(f"{severity}0000 00:00:1795937335.373773   {thread} port.cc:153] message {severity}")

def assert_restored():
    assert ctypes.c_void_p.in_dll(libc, "stderr").value == original
"""

ANNOUNCEMENT = (
    "WARNING: All log messages before absl::InitializeLog() is called are written to STDERR\n"
)

glibc = pytest.mark.skipif(
    sys.platform != "linux" or "CS_GNU_LIBC_VERSION" not in os.confstr_names,
    reason="elsewhere the messages of TensorFlow's libraries stay",
)


LEVEL = "TF_CPP_MIN_LOG_LEVEL"


@pytest.fixture(autouse=True)
def default_level(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove the level that the other tests have."""
    monkeypatch.delenv(LEVEL, raising=False)


def stderr_of(code: str) -> str:
    """Return the standard error of a program that succeeds."""
    done = run_in_fork(code)
    assert done.returncode == 0, done.stderr
    return done.stderr


@pytest.fixture(scope="module")
def finished_run(tmp_path_factory: pytest.TempPathFactory) -> subprocess.CompletedProcess[str]:
    """Run a program that writes a run with TensorFlow and prints which variables the import changed.

    It is an interpreter of its own, so that all its output is seen.
    """
    program = """
        import os, sys
        import jaxboard as jb
        before = dict(os.environ)
        with jb.Run(sys.argv[1], timeout=120):
            jb.scalar("loss", 0.5)
        # TensorFlow sets some variables itself.
        names = ["TF_CPP_MIN_LOG_LEVEL", *before]
        print([name for name in names if os.environ.get(name) != before.get(name)])
        import tensorflow
    """
    logdir = f"file://{tmp_path_factory.mktemp('logs')}/run"
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program), logdir],
        capture_output=True,
        text=True,
        env={name: value for name, value in os.environ.items() if name != LEVEL},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done


@glibc
@needs_tensorflow
def test_a_program_with_a_run_prints_nothing(
    finished_run: subprocess.CompletedProcess[str],
) -> None:
    """Standard error of a program that opens a run and reports is empty, whatever TensorFlow logs."""
    assert finished_run.stderr == ""


@needs_tensorflow
def test_the_environment_is_as_before(finished_run: subprocess.CompletedProcess[str]) -> None:
    """The import of TensorFlow leaves the variables as they were."""
    assert finished_run.stdout == "[]\n"
    assert "This TensorFlow binary is optimized" not in finished_run.stderr


def test_the_level_of_messages(monkeypatch: pytest.MonkeyPatch) -> None:
    """The level of the user is kept; without one, the variable is removed after the import."""
    program = """
        import os
        from jaxboard.sinks._quiet_import import quiet_import
        level = "TF_CPP_MIN_LOG_LEVEL"
        with quiet_import():
            assert os.environ[level] == "2"
        assert os.environ.pop(level) == "2"
        with quiet_import():
            assert os.environ[level] == "3"
        assert level not in os.environ
    """
    monkeypatch.setenv(LEVEL, "2")
    assert stderr_of(program) == ""


@glibc
def test_messages_of_the_import_are_removed():
    """Messages of the importing thread are removed below the severity F, with their announcement."""
    program = """
        with quiet_import():
            for severity in "IWEF":
                message(severity)
        assert_restored()
        message("I")
    """
    fatal, after = stderr_of(WRITE + textwrap.dedent(program)).split(ANNOUNCEMENT)[1:]
    assert fatal.endswith("] message F\n")
    assert after.endswith("] message I\n")


@glibc
def test_output_of_others_is_kept():
    """Other threads' messages, other lines, Python's output and that of child processes all appear."""
    program = """
        with quiet_import():
            message()
            print("Python", file=sys.stderr, flush=True)
            os.system("echo child >&2")
            if os.fork() == 0:
                log("forked")
                libc.fflush(None)
                os._exit(0)
            os.wait()
            message("W", thread=7)
            log("C")
        assert_restored()
    """
    assert stderr_of(WRITE + textwrap.dedent(program)) == (
        f"Python\nchild\nforked\n{ANNOUNCEMENT}"
        "W0000 00:00:1795937335.373773   7 port.cc:153] message W\nC\n"
    )


@glibc
def test_a_failed_import_shows_everything():
    """If the import raises, its messages appear: they may explain the error."""
    program = """
        try:
            with quiet_import():
                message("E")
                raise ImportError
        except ImportError:
            assert_restored()
    """
    assert "] message E\n" in stderr_of(WRITE + textwrap.dedent(program))


@glibc
def test_a_user_who_asks_for_messages_gets_them(monkeypatch):
    """TF_CPP_MIN_LOG_LEVEL=0 in the environment keeps all messages."""
    program = """
        with quiet_import():
            message("I")
    """
    monkeypatch.setenv(LEVEL, "0")
    assert "] message I\n" in stderr_of(WRITE + textwrap.dedent(program))

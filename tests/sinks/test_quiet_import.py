"""A program with a run prints nothing of its own to standard error, and loses nothing of others."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap

import pytest

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


def stderr_of(code: str, *arguments: str, **environment: str) -> str:
    """Run a program in a process of its own and return its standard error."""
    inherited = {k: v for k, v in os.environ.items() if k != "TF_CPP_MIN_LOG_LEVEL"}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), *arguments],
        capture_output=True,
        text=True,
        env=inherited | environment,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stderr


@glibc
def test_a_program_with_a_run_prints_nothing(logdir):
    """Standard error of a program that opens a run and reports is empty, whatever TensorFlow logs."""
    program = """
        import sys
        import jaxboard as jb
        with jb.Run(sys.argv[1]):
            jb.scalar("loss", 0.5)
        import tensorflow
    """
    assert stderr_of(program, f"file://{logdir}") == ""


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
def test_a_user_who_asks_for_messages_gets_them():
    """TF_CPP_MIN_LOG_LEVEL=0 in the environment keeps all messages."""
    program = """
        with quiet_import():
            message("I")
    """
    errors = stderr_of(WRITE + textwrap.dedent(program), TF_CPP_MIN_LOG_LEVEL="0")
    assert "] message I\n" in errors

"""Remote directories that TensorFlow writes to need a working one; local ones need none."""

import json
import os
import pathlib
import subprocess
import sys
import textwrap

import pytest
from event_files import scalar_points
from fork_server import run_in_fork
from with_tensorflow import needs_tensorflow

WRITE = """
import sys
import jaxboard as jb
logdir = sys.argv[1]

def write(name, steps=range(5)):
    with jb.Run(f"{logdir}/{name}", timeout=60) as run:
        for step in steps:
            jb.scalar("x", float(step), step=step)
"""


def run(code: str, logdir: pathlib.Path) -> subprocess.CompletedProcess[str]:
    """Run a program in an interpreter of its own, and return its output."""
    command = [sys.executable, "-c", textwrap.dedent(code), str(logdir)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)


def points(logdir: pathlib.Path) -> list[tuple[int, float]]:
    return scalar_points(logdir, "x")


def expected(steps: range) -> list[tuple[int, float]]:
    return [(step, float(step)) for step in steps]


def test_a_local_run_does_not_import_tensorflow(tmp_path):
    """A run in a local directory neither imports TensorFlow nor prints anything, with warnings as errors."""
    code = """
import warnings
warnings.simplefilter("error")
write("run")
assert "tensorflow" not in sys.modules
"""
    assert run(WRITE + code, tmp_path).stderr == ""
    assert points(tmp_path / "run") == expected(range(5))


def test_without_the_compiled_checksum(tmp_path):
    """Without google-crc32c, as after ``pip install --no-deps``, TensorBoard's checksums are used."""
    run("import sys; sys.modules['google_crc32c'] = None\n" + WRITE + "write('run')", tmp_path)
    assert points(tmp_path / "run") == expected(range(5))


PACKAGES = {
    "raises": (
        "raise RuntimeError('built for another processor')",
        "it cannot be imported (RuntimeError: built for another processor)",
    ),
    "exits": ("raise SystemExit('no licence')", "it cannot be imported (SystemExit: no licence)"),
    "is empty": ("", "it cannot be imported (AttributeError: "),
}


def test_broken_builds_of_tensorflow(tmp_path):
    """Without fsspec's package, a remote directory names the reason why TensorFlow cannot be imported."""
    for name, (content, _) in PACKAGES.items():
        (tmp_path / name / "tensorflow").mkdir(parents=True)
        (tmp_path / name / "tensorflow" / "__init__.py").write_text(content)
    code = """
    import json, sys
    from jaxboard import RunError
    from jaxboard.sinks import TensorBoardSink, _tensorflow
    sys.modules["gcsfs"] = None
    reasons = {}
    for name in json.loads(sys.argv[1]):
        sys.path.insert(0, name)
        try:
            TensorBoardSink("gs://bucket/run").open()
        except RunError as error:
            reasons[name] = str(error)
        sys.path.remove(name)
        sys.modules.pop("tensorflow", None)
        _tensorflow.tensorflow.cache_clear()
    print(json.dumps(reasons))
    """
    folders = json.dumps([str(tmp_path / name) for name in PACKAGES])
    command = [sys.executable, "-c", textwrap.dedent(code), folders]
    reasons = json.loads(subprocess.check_output(command, text=True))
    for name, (_, reason) in PACKAGES.items():
        assert reasons[str(tmp_path / name)].startswith(
            f"cannot write to 'gs://bucket/run': without gcsfs, remote directories need TensorFlow, and {reason}"
        )


def test_a_run_in_a_remote_directory_without_tensorflow(tmp_path):
    """The reason is logged when the run is opened, and close() raises for the reports that are lost."""
    code = """
    import sys
    sys.modules["tensorflow"] = None
    import jaxboard as jb
    run = jb.Run("file://" + sys.argv[1])
    jb.scalar("x", 1.0)
    try:
        run.close()
    except jb.RunError as error:
        print(error)
    """
    done = run_in_fork(code, str(tmp_path))
    assert "remote directories need TensorFlow, and it cannot be imported" in done.stderr
    assert "1 report was lost" in done.stdout


STATES = """
import json, os, sys
import tensorflow as tf
from jaxboard import RunError
from jaxboard.sinks import TensorBoardSink

def reason():
    try:
        TensorBoardSink("file://" + sys.argv[1] + "/remote").open()
    except RunError as error:
        return str(error).partition(" need TensorFlow, and ")[2].partition(". Install")[0]

reasons = [reason() or ""]
if not os.fork():
    with open(sys.argv[1] + "/child", "w") as file:
        file.write(reason())
    exec(WRITE)
    write("local")
    os._exit(0)
os.wait()
tf.config.run_functions_eagerly(True)
reasons.append(reason())
tf.config.run_functions_eagerly(False)
function = tf.function
def broken(*args, **kwargs):
    raise RuntimeError("no graphs")
tf.function = broken
from jaxboard.sinks import _tensorflow
_tensorflow._execution_problem.cache_clear()
reasons.append(reason())
tf.function = function
tf.compat.v1.disable_eager_execution()
reasons.append(reason())
print(json.dumps(reasons))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the platform has no fork")
@needs_tensorflow
def test_states_of_tensorflow(tmp_path):
    """A remote directory names the state in which TensorFlow does not work; a forked child can write locally."""
    output = run(f"WRITE = {WRITE!r}\n" + STATES, tmp_path).stdout
    assert json.loads(output) == [
        "",
        "tf.config.run_functions_eagerly(True) is set",
        "it raised RuntimeError: no graphs",
        "its eager execution is disabled",
    ]
    assert (tmp_path / "child").read_text() == (
        "it blocks forever in this process, a fork of one that had imported it (start processes with the "
        "method 'spawn' or 'forkserver')"
    )
    assert points(tmp_path / "local") == expected(range(5))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the platform has no fork")
def test_forks_during_a_run(tmp_path):
    """A run in a forked child is written, and so are the runs of its parent and of its own child."""
    code = """
import multiprocessing

def in_child(function):
    child = multiprocessing.get_context("fork").Process(target=function)
    child.start()
    child.join()
    assert child.exitcode == 0

def child():
    write("child")
    in_child(lambda: write("grandchild"))

with jb.Run(logdir + '/parent') as run:
    jb.scalar('x', 0.0, step=0)
    in_child(child)
    jb.scalar('x', 1.0, step=1)
"""
    assert run_in_fork(WRITE + code, str(tmp_path)).returncode == 0
    assert points(tmp_path / "child") == points(tmp_path / "grandchild") == expected(range(5))
    assert points(tmp_path / "parent") == expected(range(2))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the platform has no fork")
def test_a_fork_while_a_remote_write_hangs(tmp_path):
    """A fork does not wait for a remote file system that does not answer."""
    code = """
    import os, threading, types
    from jaxboard.sinks._tensorflow import TensorFlowWriter
    entered = threading.Event()
    class Hanging:
        def flush(self):
            entered.set()
            threading.Event().wait()
    class Error(Exception): pass
    tf = types.SimpleNamespace(
        io=types.SimpleNamespace(gfile=types.SimpleNamespace(isdir=lambda path: False)),
        summary=types.SimpleNamespace(create_file_writer=lambda *args, **options: Hanging()),
        errors=types.SimpleNamespace(UnimplementedError=Error),
    )
    writer = TensorFlowWriter(tf, "gs://bucket/run")
    child = os.fork()
    if not child:
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert entered.is_set()
    print("forked", flush=True)
    os._exit(0)
    """
    assert run_in_fork(code).stdout == "forked\n"

"""Wherever TensorFlow does not work, TensorBoard's record writer writes the points, and one log message gives the reason."""

import os
import pathlib
import subprocess
import sys
import textwrap
import time

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

MESSAGE = "jaxboard: TensorFlow does not write the event files: "

WRITE = """
import sys
import jaxboard as jb
logdir = sys.argv[1]

def write(name, steps=range(5)):
    with jb.Run(f"{logdir}/{name}", timeout=60) as run:
        for step in steps:
            jb.scalar("x", float(step), step=step)
"""

PROGRAMS = {
    "missing": (
        """
        import sys
        sys.modules["tensorflow"] = None
        """,
        "it cannot be imported (ModuleNotFoundError: ",
    ),
    "missing, and warnings are errors": (
        """
        import sys, warnings
        sys.modules["tensorflow"] = None
        warnings.simplefilter("error")
        """,
        "it cannot be imported (ModuleNotFoundError: ",
    ),
    "a build that raises": (
        """
        import pathlib, sys
        package = pathlib.Path(sys.argv[1], "packages", "tensorflow")
        package.mkdir(parents=True)
        (package / "__init__.py").write_text("raise RuntimeError('built for another processor')")
        sys.path.insert(0, str(package.parent))
        """,
        "it cannot be imported (RuntimeError: built for another processor)",
    ),
    "a build that exits": (
        """
        import pathlib, sys
        package = pathlib.Path(sys.argv[1], "packages", "tensorflow")
        package.mkdir(parents=True)
        (package / "__init__.py").write_text("raise SystemExit('no licence')")
        sys.path.insert(0, str(package.parent))
        """,
        "it cannot be imported (SystemExit: no licence)",
    ),
    "a folder of that name": (
        """
        import pathlib, sys
        package = pathlib.Path(sys.argv[1], "packages", "tensorflow")
        package.mkdir(parents=True)
        sys.path.insert(0, str(package.parent))
        sys.modules["tensorflow"] = type(sys)("tensorflow")
        """,
        "it cannot be imported (AttributeError: ",
    ),
    "without eager mode": (
        """
        import tensorflow as tf
        tf.compat.v1.disable_eager_execution()
        """,
        "its eager execution is disabled",
    ),
    "functions run eagerly": (
        """
        import tensorflow as tf
        tf.config.run_functions_eagerly(True)
        """,
        "tf.config.run_functions_eagerly(True) is set",
    ),
    "an operation that raises": (
        """
        import tensorflow as tf
        def create_file_writer(*args, **kwargs):
            raise NotImplementedError("not in this build")
        tf.summary.create_file_writer = create_file_writer
        """,
        "it raised NotImplementedError: not in this build",
    ),
    "graphs that do not compute": (
        """
        import tensorflow as tf
        def function(*args, **kwargs):
            raise RuntimeError("no graphs")
        tf.function = function
        """,
        "it raised RuntimeError: no graphs",
    ),
}


def run(code: str, logdir: pathlib.Path, timeout: float = 120) -> subprocess.CompletedProcess[str]:
    """Run a program, which must end by itself, and return its output."""
    command = [sys.executable, "-c", textwrap.dedent(code), str(logdir)]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=True)


def points(logdir: pathlib.Path) -> list[tuple[int, float]]:
    events = EventAccumulator(str(logdir), size_guidance={"scalars": 0}).Reload()
    return [(point.step, point.value) for point in events.Scalars("x")]


def writers(logdir: pathlib.Path) -> list[str]:
    """Return the name of the writer that each event file of a directory has in its first event."""
    return [
        next(iter(EventFileLoader(str(file)).Load())).source_metadata.writer
        for file in sorted(logdir.glob("*.tfevents.*"))
    ]


def expected(steps: range) -> list[tuple[int, float]]:
    return [(step, float(step)) for step in steps]


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_record_writer_writes_every_point(tmp_path, name):
    """Two runs of one process are complete, and the reason is logged once."""
    code, reason = PROGRAMS[name]
    output = run(textwrap.dedent(code) + WRITE + "write('one'); write('two')", tmp_path).stderr
    assert points(tmp_path / "one") == points(tmp_path / "two") == expected(range(5))
    assert writers(tmp_path / "one") == writers(tmp_path / "two") == ["jaxboard"]
    assert output.count(MESSAGE) == 1
    assert MESSAGE + reason in output


def test_warnings_as_errors(tmp_path):
    """With warnings as errors every point is written, whether TensorFlow's import passes or not."""
    code = "import warnings\nwarnings.simplefilter('error')\n" + WRITE + "write('run')"
    run(code, tmp_path)
    assert points(tmp_path / "run") == expected(range(5))


def test_a_file_from_the_future_with_warnings_as_errors(tmp_path):
    """A warning about the directory is logged, so it cannot become an error of the writer."""
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "events.out.tfevents.4000000000.host.1.0").touch()
    code = "import warnings\nwarnings.simplefilter('error')\n" + WRITE + "write('run')"
    assert "s in the future" in run(code, tmp_path).stderr
    assert points(tmp_path / "run") == expected(range(5))


@pytest.mark.parametrize(
    "change", ["tf.compat.v1.disable_eager_execution()", "tf.config.run_functions_eagerly(True)"]
)
def test_a_mode_that_changes_during_a_run(tmp_path, change):
    """A run that has an open file continues, and every point is written once."""
    code = f"""
    import sys
    import tensorflow as tf
    import jaxboard as jb
    with jb.Run(sys.argv[1] + "/run", timeout=60) as run:
        for step in range(10):
            jb.scalar("x", float(step), step=step)
            if step == 4:
                run.flush()
                {change}
    """
    run(code, tmp_path)
    assert points(tmp_path / "run") == expected(range(10))


FORK = """
import multiprocessing

def in_child(function):
    child = multiprocessing.get_context("fork").Process(target=function)
    child.start()
    child.join()
    assert child.exitcode == 0
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the platform has no fork")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(
    "moment", ["after a flush", "during the import", "after the user's import"]
)
def test_a_run_in_a_forked_child(tmp_path, moment):
    """A run in a forked child is written within seconds, and so are the parent's and a grandchild's."""
    before = {
        "after a flush": "run = jb.Run(logdir + '/parent'); jb.scalar('x', 0.0, step=0); run.flush()",
        "during the import": "run = jb.Run(logdir + '/parent'); jb.scalar('x', 0.0, step=0)\n"
        "while 'tensorflow' not in sys.modules: time.sleep(0.01)",
        "after the user's import": "import tensorflow as tf; tf.function(lambda: tf.constant(1))()\n"
        "run = jb.Run(logdir + '/parent'); jb.scalar('x', 0.0, step=0)",
    }[moment]
    code = f"""
def child():
    began = time.monotonic()
    write("child")
    assert time.monotonic() - began < 20
    in_child(lambda: write("grandchild"))

import time
{before}
in_child(child)
run.close()
"""
    began = time.monotonic()
    output = run(WRITE + FORK + code, tmp_path)
    assert time.monotonic() - began < 60, output.stderr
    assert points(tmp_path / "child") == points(tmp_path / "grandchild") == expected(range(5))
    assert points(tmp_path / "parent") == expected(range(1))
    assert writers(tmp_path / "child") == writers(tmp_path / "grandchild") == ["jaxboard"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the platform has no fork")
def test_a_fork_before_jaxboard_is_imported(tmp_path):
    """TensorFlow that blocks in a forked child is noticed although jaxboard was not there to see the fork."""
    code = """
import tensorflow as tf
tf.function(lambda: tf.constant(1))()
def child():
    namespace = {}
    exec(WRITE, namespace)
    namespace["write"]("run")
in_child(child)
"""
    output = run(f"WRITE = {WRITE!r}\n" + FORK + code, tmp_path).stderr
    assert points(tmp_path / "run") == expected(range(5))
    assert MESSAGE + "it computed nothing within 15 s" in output


def test_a_remote_directory_names_the_reason(no_tensorflow):
    """A URL needs TensorFlow, so the error gives the reason why it is not used."""
    from jaxboard import RunError
    from jaxboard.sinks import TensorBoardSink

    with pytest.raises(RunError, match="need TensorFlow, and it cannot be imported .* Install"):
        TensorBoardSink("gs://bucket/run").open()

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
}

# Importing TensorFlow takes longer than writing, so one process runs all of these.
CHANGES = {
    "an operation that raises": (
        """
        def create_file_writer(*args, **kwargs):
            raise NotImplementedError("not in this build")
        tf.summary.create_file_writer = create_file_writer
        """,
        "it raised NotImplementedError: not in this build",
    ),
    "graphs that do not compute": (
        """
        def function(*args, **kwargs):
            raise RuntimeError("no graphs")
        tf.function = function
        """,
        "it raised RuntimeError: no graphs",
    ),
    "functions run eagerly": (
        "tf.config.run_functions_eagerly(True)",
        "tf.config.run_functions_eagerly(True) is set",
    ),
    "without eager mode": (
        "tf.compat.v1.disable_eager_execution()",
        "its eager execution is disabled",
    ),
}
WORKING_AGAIN = """
tf.summary.create_file_writer = create_file_writer_of_tf
tf.function = function_of_tf
tf.config.run_functions_eagerly(False)
_tensorflow._execution_problem.cache_clear()
_tensorflow._importer.cache_clear()
forget_warnings()
"""


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
    assert_record_writer_wrote(tmp_path, reason, output)


@pytest.fixture(scope="module")
def changed(tmp_path_factory):
    """Write two runs after each change to TensorFlow; return their directory and the output."""
    directory = tmp_path_factory.mktemp("changed")
    code = """
import tensorflow as tf
from jaxboard._log import forget_warnings
from jaxboard.sinks import _tensorflow
create_file_writer_of_tf, function_of_tf = tf.summary.create_file_writer, tf.function
"""
    for name, (change, _) in CHANGES.items():
        code += WORKING_AGAIN + textwrap.dedent(change)
        code += f"\nwrite('{name}/one'); write('{name}/two')\n"
        code += "print('--- end of a change', file=sys.stderr, flush=True)\n"
    output = run(WRITE + code, directory).stderr
    return directory, dict(zip(CHANGES, output.split("--- end of a change"), strict=False))


@pytest.mark.parametrize("name", CHANGES)
def test_the_record_writer_replaces_a_changed_tensorflow(changed, name):
    """Two runs after a change to TensorFlow are complete, and the reason is logged once."""
    directory, outputs = changed
    assert_record_writer_wrote(directory / name, CHANGES[name][1], outputs[name])


def assert_record_writer_wrote(logdir, reason, output):
    assert points(logdir / "one") == points(logdir / "two") == expected(range(5))
    assert writers(logdir / "one") == writers(logdir / "two") == ["jaxboard"]
    assert output.count(MESSAGE) == 1
    assert MESSAGE + reason in output


def test_warnings_as_errors(tmp_path):
    """With warnings as errors every point is written, whether TensorFlow's import passes or not.

    A warning about the directory is logged, so it cannot become an error of the writer.
    """
    (tmp_path / "later").mkdir()
    (tmp_path / "later" / "events.out.tfevents.4000000000.host.1.0").touch()
    code = "import warnings\nwarnings.simplefilter('error')\n" + WRITE
    output = run(code + "write('run'); write('later')", tmp_path).stderr
    assert "s in the future" in output
    assert points(tmp_path / "run") == points(tmp_path / "later") == expected(range(5))


def test_a_mode_that_changes_during_a_run(tmp_path):
    """A run that has an open file continues, and every point is written once."""
    code = """
    import sys
    import tensorflow as tf
    import jaxboard as jb

    def write(name, change):
        with jb.Run(f"{sys.argv[1]}/{name}", timeout=60) as run:
            for step in range(10):
                jb.scalar("x", float(step), step=step)
                if step == 4:
                    run.flush()
                    change()

    write("eager functions", lambda: tf.config.run_functions_eagerly(True))
    tf.config.run_functions_eagerly(False)
    write("no eager mode", tf.compat.v1.disable_eager_execution)
    """
    run(code, tmp_path)
    assert points(tmp_path / "eager functions") == expected(range(10))
    assert points(tmp_path / "no eager mode") == expected(range(10))


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
    from jaxboard.sinks import _tensorflow
    _tensorflow._ANSWER_SECS = 2.0
    namespace = {}
    exec(WRITE, namespace)
    namespace["write"]("run")
in_child(child)
"""
    output = run(f"WRITE = {WRITE!r}\n" + FORK + code, tmp_path).stderr
    assert points(tmp_path / "run") == expected(range(5))
    assert MESSAGE + "it computed nothing within 2 s" in output


def test_a_remote_directory_names_the_reason(no_tensorflow):
    """A URL needs TensorFlow, so the error gives the reason why it is not used."""
    from jaxboard import RunError
    from jaxboard.sinks import TensorBoardSink

    with pytest.raises(RunError, match="need TensorFlow, and it cannot be imported .* Install"):
        TensorBoardSink("gs://bucket/run").open()

"""Run: its arguments, which run is in force, and how it ends in an orderly way."""

import contextlib
import gc
import inspect
import os
import pathlib
import subprocess
import sys
import textwrap
import weakref

import numpy as np
import pytest
from by_hand import record

from jaxboard import _emit
from jaxboard._errors import RunError
from jaxboard._host.channel import active
from jaxboard._run import Run, current_run
from jaxboard.records import Kind
from jaxboard.sinks import MemorySink


def in_memory(**options):
    sink = MemorySink()
    return Run(None, sinks=[sink], **options), sink.records


def test_a_run_is_in_force_from_its_construction():
    """With or without `with`, a run takes reports until it is closed."""
    run, records = in_memory()
    assert current_run() is run
    assert active() is run.channel
    run.channel.put(record(1))
    run.close()
    assert current_run() is None
    assert [r.step for r in records] == [1]


def test_nested_runs():
    """The innermost open run is in force, and the one around it again afterwards."""
    with in_memory()[0] as outer:
        with in_memory()[0] as inner:
            assert current_run() is inner
        assert current_run() is outer
    assert current_run() is None


def test_entering_a_run_makes_it_current():
    """Of two runs made beforehand, the one whose block is entered is in force."""
    one, other = in_memory()[0], in_memory()[0]
    with one:
        assert current_run() is one
    assert current_run() is other
    other.close()


def test_verbs_are_methods():
    """A verb of a run reports to that run, while another one is in force, from host and device."""
    import jax.numpy as jnp
    from matplotlib.figure import Figure

    (outer, theirs), (inner, ours) = in_memory(step=3), in_memory(step=5)
    with outer, inner:
        outer.scalar("host", 1.0)
        outer.scalar("device", jnp.float32(2))
        outer.scalars("tree", {"a": 3})
        outer.histogram("h", jnp.arange(4.0))
        outer.image("i", np.zeros((2, 2, 1), np.uint8))
        outer.text("t", "hello")
        outer.figure("f", Figure(figsize=(1, 1)))
        inner.scalar("mine", 4.0)
    kinds = {(r.tag, r.kind.value, r.step) for r in theirs}
    assert kinds == {
        ("host", "scalar", 3),
        ("device", "scalar", 3),
        ("tree/a", "scalar", 3),
        ("h", "histogram", 3),
        ("i", "image", 3),
        ("t", "text", 3),
        ("f", "image", 3),
    }
    assert [(r.tag, r.step) for r in ours] == [("mine", 5)]


def test_every_verb_is_a_method():
    """Each public verb that reports has a method of its name, with its signature and docstring."""
    import jaxboard as jb

    run, _ = in_memory()
    run.close()
    # `tap` gives back what it is given, and reports where a gradient flows, in traced code.
    others = {"scope", "tap"}
    verbs = {name for name in dir(_emit) if not name.startswith("_")} - others
    assert "scalar" in verbs
    for name in verbs:
        verb, method = getattr(jb, name), getattr(run, name)
        assert getattr(Run, name) is verb
        assert method.__doc__ == verb.__doc__
        assert inspect.signature(method) == inspect.signature(verb)


def test_a_verb_of_a_closed_run():
    """Reporting to a run that is closed is refused, not lost."""
    run, _ = in_memory()
    run.close()
    with pytest.raises(RunError, match="run in memory is closed. Open a new Run on its directory."):
        run.scalar("x", 1.0)


def test_a_verb_of_a_run_in_traced_code():
    """In traced code it is the verb itself: the report goes to the run in force."""
    import jax

    import jaxboard as jb

    run, records = in_memory()
    with run:
        jb.instrument(jax.jit(lambda x: run.scalar("x", x)))(2.0)
    assert [(r.tag, float(r.value)) for r in records] == [("x", 2.0)]


def test_step():
    """run.step is the next step, and can be set."""
    with in_memory(step=3)[0] as run:
        assert run.step == 3
        assert run.channel.begin(advance=True) == 3
        assert run.step == 4
        steps: list = [np.int64(10)]
        run.step = steps[0]
        assert (run.step, type(run.step)) == (10, int)


def test_flush_and_close_deliver():
    """flush() returns when all is with the sink; close() may be called again."""
    run, records = in_memory(flush_secs=1000)
    run.channel.put(record(0))
    run.flush()
    assert len(records) == 1
    run.channel.put(record(1))
    run.close()
    run.close()
    run.flush()
    assert [r.step for r in records] == [0, 1]
    assert run.closed


def test_logdir(tmp_path, monkeypatch):
    """A path is made absolute, ~ is the home directory, the directory is made."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    for given, expected in {
        "~/a": tmp_path / "a",
        "b/c": tmp_path / "b/c",
        tmp_path / "d": tmp_path / "d",
    }.items():
        with Run(given, sinks=[MemorySink()]) as run:
            assert run.logdir == expected
            assert isinstance(run.logdir, pathlib.Path)


def test_a_url_is_left_alone():
    """What TensorFlow would open is not a path of this machine's."""
    with Run("gs://bucket/a", sinks=[MemorySink()]) as run:
        assert run.logdir == "gs://bucket/a"


def test_hyperparameters_come_first():
    """They become one flat record; NumPy's numbers become Python's."""
    run, records = in_memory(hparams={"lr": np.float64(0.5), "model": {"depth": 2, "act": None}})
    run.channel.put(record(0))
    run.close()
    assert [r.kind for r in records] == [Kind.HPARAMS, Kind.SCALAR]
    assert records[0].value == {"lr": 0.5, "model/depth": 2, "model/act": None}
    assert type(records[0].value["lr"]) is float


def test_several_sinks():
    """sinks=[...] all get everything."""
    sinks = [MemorySink(), MemorySink()]
    with Run(None, sinks=sinks) as run:
        run.channel.put(record(0))
    assert [[r.step for r in sink.records] for sink in sinks] == [[0], [0]]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"flush_secs": 0}, "Run(flush_secs=0): expected a number above 0."),
        ({"max_frames": -1}, "Run(max_frames=-1): expected a number above 0."),
        ({"max_bytes": "1G"}, "Run(max_bytes='1G'): expected a number above 0."),
        ({"timeout": None}, "Run(timeout=None): expected a number above 0."),
        ({"overflow": "block"}, "Run(overflow='block'): expected 'wait' or 'drop'."),
        ({"step": -1}, "step -1: expected an integer, 0 or more."),
        ({"step": 1.0}, "step 1.0: expected an integer, 0 or more."),
        ({"sinks": None}, "Run(None): give a log directory, or sinks=[...] that need none."),
        (
            {"hparams": ["lr"]},
            (
                "Run(hparams=...): expected a dict, got list. Of a dataclass make one by "
                "dataclasses.asdict(config), of parsed arguments by vars(args)."
            ),
        ),
    ],
)
def test_bad_arguments(options, message):
    """Each says what was passed and what is expected, and leaves no run behind."""
    with pytest.raises(RunError) as caught:
        Run(None, **{"sinks": [MemorySink()], **options})
    assert str(caught.value) == message
    assert current_run() is None


@pytest.mark.parametrize(
    ("logdir", "message"),
    [
        ("", "Run(''): the log directory has no name."),
        (7, "Run(7): expected a path, got int."),
    ],
)
def test_bad_log_directories(logdir, message):
    """What is no path at all is told apart from what can't be written."""
    with pytest.raises(RunError) as caught:
        Run(logdir)
    assert str(caught.value) == message


def test_a_file_in_the_way(tmp_path):
    """A log directory that can't be made is an error when the run is opened."""
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(RunError) as caught:
        Run(file / "run")
    assert str(caught.value) == (
        f"cannot write to the log directory '{file}/run': Not a directory. Choose another directory, "
        "or make this one writable."
    )
    assert isinstance(caught.value.__cause__, NotADirectoryError)
    assert current_run() is None


@pytest.mark.skipif(os.name != "posix", reason="permissions are POSIX's")
def test_no_permission(tmp_path):
    """A directory that belongs to somebody else is an error when the run is opened."""
    tmp_path.chmod(0o755)
    program = """
        import os, sys
        from jaxboard._run import Run
        from jaxboard._errors import RunError
        os.mkdir(sys.argv[1], 0o555)
        if os.geteuid() == 0:
            os.seteuid(65534)
        try:
            Run(sys.argv[1])
        except RunError as error:
            print(error)
    """
    logdir = tmp_path / "run"
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program), str(logdir)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == (
        f"cannot write to the log directory '{logdir}': Permission denied. Choose another directory, "
        "or make this one writable.\n"
    )


def test_one_writer_per_directory(tmp_path):
    """A second run in a directory whose run is open is an error; after that was closed, it isn't."""
    first = Run(tmp_path)
    with pytest.raises(RunError) as caught:
        Run(tmp_path)
    assert str(caught.value) == (
        f"Run('{tmp_path}'): a run that is still open writes there, and TensorBoard reads one writer "
        "per directory. Close it first (jb.current_run().close()), or choose another directory."
    )
    first.close()
    Run(tmp_path).close()


def test_a_closed_run_cannot_be_entered():
    """What is reported in its block would go nowhere."""
    run, _ = in_memory()
    run.close()
    with pytest.raises(RunError) as caught, run:
        pass
    assert str(caught.value) == "run in memory is closed. Open a new Run on its directory."


def fail_after(call, argument):
    call(argument)
    raise ZeroDivisionError


class Broken(MemorySink):
    def write(self, batch):
        raise OSError("the disk went away")


LOST = "run in memory: 1 report was lost:\n  1: Broken failed: OSError: the disk went away"


def test_close_raises_what_was_lost():
    """A fault of the machine is raised by close(), and the run is closed all the same."""
    run = Run(None, sinks=[Broken()])
    run.channel.put(record(0))
    with pytest.raises(RunError) as caught:
        run.close()
    assert str(caught.value) == LOST
    assert str(caught.value.__cause__) == "the disk went away"
    assert run.closed
    assert current_run() is None


def test_the_users_exception_is_not_masked():
    """Leaving the block by an exception raises that one, with the loss as a note."""
    with pytest.raises(ZeroDivisionError) as caught, Run(None, sinks=[Broken()]) as run:
        fail_after(run.channel.put, record(0))
    assert caught.value.__notes__ == [f"jaxboard: {LOST}"]
    assert current_run() is None


@pytest.mark.parametrize("sink", [MemorySink, Broken])
def test_a_closed_run_leaves_no_garbage(sink):
    """A run is in no reference cycle: it goes when its last name does."""
    gc.collect()
    gc.disable()
    try:
        run = Run(None, sinks=[sink()], hparams={"lr": 1})
        with contextlib.suppress(RunError):
            run.close()
        gone = [weakref.ref(run), weakref.ref(run._flusher)]
        del run
        assert [reference() for reference in gone] == [None, None]
    finally:
        gc.enable()


def test_repr():
    """It tells where the run writes and how far it is."""
    run, _ = in_memory(step=4)
    assert repr(run) == "<jaxboard.Run in memory, step 4>"
    run.close()
    assert repr(run) == "<jaxboard.Run in memory, step 4, closed>"


def test_no_backend_is_started():
    """A run with host reports only leaves JAX's backends alone: a cluster may yet be joined."""
    program = """
        import numpy as np
        from jaxboard.records import Kind, Record
        from jaxboard._run import Run
        from jaxboard.sinks import MemorySink
        sink = MemorySink()
        with Run(None, sinks=[sink]) as run:
            run.channel.put(Record(Kind.SCALAR, "a", 0, 0.0, np.float32(1)))
            run.flush()
        assert len(sink.records) == 1
        import jax
        try:
            jax.devices()
        except RuntimeError:
            print("no backend yet")
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        env={**os.environ, "JAX_PLATFORMS": "none_such"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "no backend yet\n"

"""Run: its arguments, the active run, flush() and close()."""

import contextlib
import gc
import inspect
import io
import os
import pathlib
import re
import subprocess
import sys
import textwrap
import weakref

import numpy as np
import pytest
from by_hand import record
from fork_server import run_in_fork

from jaxboard import _emit
from jaxboard._errors import RunError, UsageError
from jaxboard._host.active_channel import active
from jaxboard._host.observers import registry
from jaxboard._run import Run, channel_of, current_run
from jaxboard.records import Kind
from jaxboard.sinks import MemorySink, TensorBoardSink


def in_memory(**options):
    sink = MemorySink()
    return Run(None, sinks=[sink], **options), sink.records


def test_a_run_is_active_until_it_is_closed():
    """A run takes reports from its construction until it is closed, with or without `with`."""
    run, records = in_memory()
    assert current_run() is run
    assert active() is channel_of(run)
    channel_of(run).put(record(1))
    run.close()
    assert current_run() is None
    assert [r.step for r in records] == [1]


def test_an_interrupt_while_a_run_opens(tmp_path, monkeypatch):
    """Ctrl-C while a run opens leaves its directory free for the next one, and no observer of calls."""
    observers = registry.of_compilations

    class Terminal(io.StringIO):
        def isatty(self):
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", Terminal())
        with pytest.raises(KeyboardInterrupt) as interrupt:
            Run(tmp_path, live=True)
    assert registry.of_compilations == observers
    with Run(tmp_path) as run:
        assert current_run() is run
    assert interrupt.tb is not None  # As in a notebook, which keeps it and the locals in it.


def test_nested_runs():
    """The innermost open run is active; when it closes, the outer one is active again."""
    with in_memory()[0] as outer:
        with in_memory()[0] as inner:
            assert current_run() is inner
        assert current_run() is outer
    assert current_run() is None


def test_entering_a_run_activates_it():
    """Entering the block of an open run makes it the active one."""
    one, other = in_memory()[0], in_memory()[0]
    with one:
        assert current_run() is one
    assert current_run() is other
    other.close()


def test_verbs_are_methods():
    """A verb of a run reports to that run while another run is active, from host and device."""
    import jax.numpy as jnp
    from matplotlib.figure import Figure

    (outer, outer_records), (inner, inner_records) = in_memory(step=3), in_memory(step=5)
    with outer, inner:
        outer.scalar("host", 1.0)
        outer.scalar("device", jnp.float32(2))
        outer.scalars("tree", {"a": 3})
        outer.histogram("h", jnp.arange(4.0))
        outer.image("i", np.zeros((2, 2, 1), np.uint8))
        outer.text("t", "hello")
        outer.figure("f", Figure(figsize=(1, 1)))
        inner.scalar("inner", 4.0)
    kinds = {(r.tag, r.kind.value, r.step) for r in outer_records}
    assert kinds == {
        ("host", "scalar", 3),
        ("device", "scalar", 3),
        ("tree/a", "scalar", 3),
        ("h", "histogram", 3),
        ("i", "image", 3),
        ("t", "text", 3),
        ("f", "image", 3),
    }
    assert [(r.tag, r.step) for r in inner_records] == [("inner", 5)]


def test_every_verb_is_a_method():
    """Each public verb that reports has a method of its name, with its signature and docstring."""
    import jaxboard as jb

    run, _ = in_memory()
    run.close()
    for name in _emit.VERBS:
        verb, method = getattr(jb, name), getattr(run, name)
        assert getattr(Run, name) is verb
        assert method.__doc__ == verb.__doc__
        assert inspect.signature(method) == inspect.signature(verb)


def test_a_verb_of_a_closed_run():
    """Reporting to a closed run raises; the report is not lost silently."""
    run, _ = in_memory()
    run.close()
    with pytest.raises(RunError, match="run in memory is closed. Open a new Run on its directory."):
        run.scalar("x", 1.0)


def test_a_verb_of_a_run_in_traced_code():
    """In traced code a verb of a run is the verb itself: the report goes to the active run."""
    import jax

    import jaxboard as jb

    run, records = in_memory()
    with run:
        jb.instrument(jax.jit(lambda x: run.scalar("x", x)))(2.0)
    assert [(r.tag, float(r.value)) for r in records] == [("x", 2.0)]


def test_step():
    """run.step is the next step and can be set."""
    with in_memory(step=3)[0] as run:
        assert run.step == 3
        assert channel_of(run).begin(advance=True) == 3
        assert run.step == 4
        steps: list = [np.int64(10)]
        run.step = steps[0]
        assert (run.step, type(run.step)) == (10, int)


def test_flush_and_close_deliver():
    """flush() returns after the sink has everything; a second close() does nothing."""
    run, records = in_memory(flush_secs=1000)
    channel_of(run).put(record(0))
    run.flush()
    assert len(records) == 1
    channel_of(run).put(record(1))
    run.close()
    run.close()
    run.flush()
    assert [r.step for r in records] == [0, 1]
    assert run.closed


def test_times_may_be_numbers_of_numpy():
    """Seconds and sizes may be numbers of NumPy, as from a configuration."""
    run, records = in_memory(flush_secs=np.float32(1000), timeout=np.int64(30))
    with run:
        run.scalar("x", 1.0)
        run.flush()
        assert len(records) == 1


def test_infinite_times():
    """With an infinite flush_secs only flush() and close() write; they wait for an infinite timeout."""
    run, records = in_memory(flush_secs=float("inf"), timeout=float("inf"))
    channel_of(run).put(record(0))
    run.flush()
    channel_of(run).put(record(1))
    run.flush(timeout=float("inf"))
    channel_of(run).put(record(2))
    run.close(timeout=float("inf"))
    assert [r.step for r in records] == [0, 1, 2]


def test_logdir(tmp_path, monkeypatch):
    """run.logdir is an absolute pathlib.Path with ~ expanded."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    for path, expected in {
        "~/a": tmp_path / "a",
        "b/c": tmp_path / "b/c",
        tmp_path / "d": tmp_path / "d",
    }.items():
        with Run(path, sinks=[MemorySink()]) as run:
            assert run.logdir == expected
            assert isinstance(run.logdir, pathlib.Path)


def test_a_url_stays_unchanged():
    """A URL is kept as a str, for TensorFlow to open."""
    with Run("gs://bucket/a", sinks=[MemorySink()]) as run:
        assert run.logdir == "gs://bucket/a"


def test_hyperparameters_come_first():
    """Hyperparameters are the first record, flat, with Python numbers."""
    run, records = in_memory(hparams={"lr": np.float64(0.5), "model": {"depth": 2, "act": None}})
    channel_of(run).put(record(0))
    run.close()
    assert [r.kind for r in records] == [Kind.HPARAMS, Kind.SCALAR]
    assert records[0].value == {"lr": 0.5, "model/depth": 2, "model/act": None}
    assert type(records[0].value["lr"]) is float


def test_several_sinks():
    """Every sink of sinks=[...] gets every record."""
    sinks = [MemorySink(), MemorySink()]
    with Run(None, sinks=sinks) as run:
        channel_of(run).put(record(0))
    assert [[r.step for r in sink.records] for sink in sinks] == [[0], [0]]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"flush_secs": 0}, "Run(flush_secs=0): expected a number above 0."),
        ({"max_frames": -1}, "Run(max_frames=-1): expected a number above 0."),
        ({"max_bytes": "1G"}, "Run(max_bytes='1G'): expected a number above 0."),
        ({"timeout": None}, "Run(timeout=None): expected a number above 0."),
        ({"overflow": "block"}, "Run(overflow='block'): expected 'wait' or 'drop'."),
        ({"step": -1}, "Run(step=-1): expected an integer, 0 or more."),
        ({"step": 1.0}, "Run(step=1.0): expected an integer, 0 or more."),
        ({"step": True}, "Run(step=True): expected an integer, 0 or more."),
        ({"sinks": None}, "Run(None): pass a log directory, or sinks=[...] that need none."),
        (
            {"hparams": ["lr"]},
            "Run(hparams=...): expected a dict, a dataclass or a configuration object, got list.",
        ),
    ],
)
def test_invalid_arguments(options, message):
    """An invalid argument raises UsageError with the value and what is expected, and opens no run."""
    with pytest.raises(UsageError) as caught:
        Run(None, **{"sinks": [MemorySink()], **options})
    assert str(caught.value) == message
    assert current_run() is None


@pytest.mark.parametrize(
    ("logdir", "message"),
    [
        ("", "Run(''): expected a path, got an empty text."),
        (7, "Run(7): expected a path, got int."),
    ],
)
def test_invalid_log_directories(logdir, message):
    """A log directory that is not a path raises UsageError."""
    with pytest.raises(UsageError) as caught:
        Run(logdir)
    assert str(caught.value) == message


def test_an_invalid_next_step():
    """Setting run.step to an invalid value raises UsageError and changes nothing."""
    with in_memory(step=3)[0] as run:
        with pytest.raises(UsageError) as caught:
            run.step = -1
        assert str(caught.value) == "run.step = -1: expected an integer, 0 or more."
        assert run.step == 3


def test_a_file_in_the_way(tmp_path):
    """A log directory that cannot be created raises RunError when the run is opened."""
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
    """A directory without write permission raises RunError when the run is opened."""
    tmp_path.chmod(0o755)
    program = """
        import os, sys
        from jaxboard._run import Run
        from jaxboard._errors import RunError, UsageError
        os.mkdir(sys.argv[1], 0o555)
        if os.geteuid() == 0:
            os.seteuid(65534)
        try:
            Run(sys.argv[1])
        except RunError as error:
            print(error)
    """
    logdir = tmp_path / "run"
    done = run_in_fork(program, str(logdir))
    assert done.stdout == (
        f"cannot write to the log directory '{logdir}': Permission denied. Choose another directory, "
        "or make this one writable.\n"
    )


def test_one_writer_per_directory(tmp_path):
    """A second run in one directory raises RunError until the first is closed."""
    first = Run(tmp_path)
    with pytest.raises(RunError) as caught:
        Run(tmp_path)
    assert str(caught.value) == (
        f"Run('{tmp_path}'): the open run '{tmp_path}' already writes there, and TensorBoard reads one writer per "
        "directory. Close that run first, or choose another directory."
    )
    first.close()
    Run(tmp_path).close()


def test_runs_children_and_sinks_of_one_directory(tmp_path):
    """Runs, children and sinks of one directory are refused beside each other, whatever the order and the name."""
    (tmp_path / "link").symlink_to(tmp_path / "a", target_is_directory=True)
    with Run(tmp_path / "a") as run:
        with pytest.raises(RunError, match="the open run .*a' already writes there"):
            Run(None, sinks=[TensorBoardSink(tmp_path / "link")])
        evaluation = run.child("eval")
        with pytest.raises(
            RunError, match=r"Run\(.*eval'\): the open run 'eval' of .*already writes"
        ):
            Run(tmp_path / "a" / "eval")
        with Run(tmp_path / "a" / "test") as other:
            with pytest.raises(
                RunError, match=r"run.child\('test'\): the open run .*test' already"
            ):
                run.child("test")
            other.child("ood")
            with pytest.raises(RunError, match=r"run.child\('test/ood'\): the open run 'ood' of"):
                run.child("test/ood")
            Run(tmp_path / "a" / "eval", sinks=[MemorySink()]).close()
        run.child("test").child("ood").scalar("loss", 1.0)
        evaluation.scalar("loss", 1.0)
    Run(tmp_path / "a" / "eval").close()


def test_a_closed_run_cannot_be_entered():
    """Entering a closed run raises RunError: reports in the block would be lost."""
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
    """close() raises the machine fault that lost reports, and the run is closed."""
    run = Run(None, sinks=[Broken()])
    channel_of(run).put(record(0))
    with pytest.raises(RunError) as caught:
        run.close()
    assert str(caught.value) == LOST
    assert str(caught.value.__cause__) == "the disk went away"
    assert run.closed
    assert current_run() is None


def test_the_users_exception_is_not_masked():
    """The exception that ends the block is raised, with the lost reports as a note."""
    with pytest.raises(ZeroDivisionError) as caught, Run(None, sinks=[Broken()]) as run:
        fail_after(channel_of(run).put, record(0))
    assert caught.value.__notes__ == [f"jaxboard: {LOST}"]
    assert current_run() is None


@pytest.mark.parametrize("sink", [MemorySink, Broken])
def test_a_closed_run_leaves_no_garbage(sink):
    """A closed run is in no reference cycle: it is freed with its last reference."""
    gc.collect()
    gc.disable()
    try:
        run = Run(None, sinks=[sink()], hparams={"lr": 1})
        with contextlib.suppress(RunError):
            run.close()
        references = [weakref.ref(run), weakref.ref(run._flusher)]
        del run
        assert [reference() for reference in references] == [None, None]
    finally:
        gc.enable()


def test_repr():
    """The repr has the directory, the step and the state."""
    run, _ = in_memory(step=4)
    assert repr(run) == "<jaxboard.Run in memory, step 4>"
    run.close()
    assert repr(run) == "<jaxboard.Run in memory, step 4, closed>"


def test_no_backend_is_started():
    """A run with host reports only starts no JAX backend: jax.distributed may be initialized later."""
    program = """
        import numpy as np
        from jaxboard.records import Kind, Record
        from jaxboard._run import Run, channel_of
        from jaxboard.sinks import MemorySink, TensorBoardSink
        sink = MemorySink()
        with Run(None, sinks=[sink]) as run:
            channel_of(run).put(Record(Kind.SCALAR, "a", 0, 0.0, np.float32(1)))
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


def test_the_default_directory(tmp_path, monkeypatch):
    """Without a directory, each run has a new one below runs; with sinks there is none."""
    monkeypatch.chdir(tmp_path)
    runs = []
    for _ in range(2):
        with Run(telemetry=False) as run:
            runs.append(run.logdir)
    assert len(set(runs)) == 2
    for path in runs:
        assert re.fullmatch(r"\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d_.+", path.name)
        assert path.parent == tmp_path / "runs"
        assert list(path.glob("*.tfevents.*"))
    with Run(sinks=[MemorySink()], telemetry=False) as run:
        assert run.logdir is None

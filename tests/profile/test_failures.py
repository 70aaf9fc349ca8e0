"""When a profile fails, training continues, one message is logged, and the next profile works."""

import functools
import logging
import os
import pathlib
import shutil
import signal
import socket
import tempfile
import threading
import time

import jax
import jax.numpy as jnp
import pytest
from by_hand import DEADLINE
from ports import free_port
from traces import forked, markers, modules, program, traces

import jaxboard as jb
from jaxboard import _compat
from jaxboard._host import observers
from jaxboard._profile.trace_files import save_trace

pytestmark = pytest.mark.filterwarnings("ignore:.*no run is open")


@jb.instrument
@functools.partial(jax.jit, donate_argnums=0)
def train_step(x):
    return jnp.tanh(x @ x)


def train(steps, x=None):
    x = jnp.ones((32, 32)) if x is None else x
    for _ in steps:
        x = train_step(x)
    return x


def problems(caplog):
    return [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]


def can_profile(logdir):
    """Return whether a profile can be made now."""
    with jb.profile((0, 2), logdir) as profiler:
        train(range(2))
    return profiler.path is not None and markers(profiler.path) == [0, 1]


@pytest.fixture(autouse=True)
def the_next_one_works(tmp_path, caplog):
    """Check that a new profile works after each test, and that none still observes steps."""
    yield
    assert not [o for o in observers.registry.of_every_call if "_profile" in type(o).__module__]
    assert can_profile(tmp_path / "next")


# Other traces.


def test_within_a_trace_of_jax(tmp_path, caplog):
    """A profile within an open trace does nothing, and that trace is complete."""
    with jax.profiler.trace(str(tmp_path / "theirs")):
        train(range(1))
        with jb.profile((0, 2), tmp_path / "ours") as profiler:
            train(range(4))
        jax.block_until_ready(train(range(1)))
    assert profiler.path is None
    (message,) = problems(caplog)
    assert "another trace is being recorded" in message
    assert traces(tmp_path / "ours") == []
    (theirs,) = traces(tmp_path / "theirs")
    counts = modules(str(tmp_path / "theirs" / theirs))
    assert counts["jit_train_step"] % 6 == 0 < counts["jit_train_step"]


def test_within_another_profile(tmp_path, caplog):
    """Within another profile, the inner one does nothing and logs a warning."""
    with jb.profile((1, 4), tmp_path / "outer") as outer:
        x = train(range(2))
        with jb.profile((0, 2), tmp_path / "inner") as inner:
            x = train(range(1), x)
        train(range(3), x)
    assert markers(outer.path) == [1, 2, 3]
    assert inner.path is None
    assert ["another trace" in message for message in problems(caplog)] == [True]


def test_two_disjoint_ranges(tmp_path, caplog):
    """Two profiles may be open together if their ranges are disjoint."""
    with jb.profile((1, 3), tmp_path) as first, jb.profile((3, 5), tmp_path) as second:
        train(range(6))
    assert [markers(first.path), markers(second.path)] == [[1, 2], [3, 4]]
    assert problems(caplog) == []


def test_a_trace_that_other_code_stopped(tmp_path, caplog):
    """A trace that other code stopped is saved."""
    with jb.profile((0, 4), tmp_path) as profiler:
        x = train(range(2))
        jax.block_until_ready(x)
        jax.profiler.stop_trace()
        train(range(2), x)
    assert markers(profiler.path) == [0, 1]


# Log directories.


def test_a_log_directory_that_is_a_file(tmp_path, caplog):
    """An unusable log directory is reported on entering the block, and JAX's profiler still works."""
    (tmp_path / "file").touch()
    with jb.profile((0, 2), tmp_path / "file" / "logs") as profiler:
        (message,) = problems(caplog)
        train(range(4))
    assert profiler.path is None
    assert f"cannot write to the log directory {str(tmp_path / 'file' / 'logs')!r}" in message
    assert problems(caplog) == [message]


def test_a_log_directory_that_disappears(tmp_path, caplog):
    """A log directory that disappears is created again; failing that, the message has the kept file."""
    logdir = tmp_path / "logs"
    with jb.profile((0, 4), logdir) as profiler:
        x = train(range(2))
        shutil.rmtree(logdir)
        x = train(range(4), x)
    assert markers(profiler.path) == [0, 1, 2, 3]
    with jb.profile((0, 4), logdir) as profiler:
        x = train(range(2), x)
        shutil.rmtree(logdir)
        logdir.touch()
        train(range(4), x)
    assert profiler.path is None
    (message,) = problems(caplog)
    kept = pathlib.Path(message.split("The trace is kept in '")[1].split("'")[0])
    assert markers(str(kept)) == [0, 1, 2, 3]
    shutil.rmtree(kept.parents[3])


@pytest.mark.skipif(_compat.ProfileSession is None, reason="JAX up to 0.11 writes into a directory")
def test_no_temporary_directory(tmp_path, monkeypatch):
    """A trace in memory is written once, into the log directory."""

    def full(*args, **kwargs):
        raise OSError("No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(tempfile, "mkdtemp", full)
        with jb.profile((0, 2), tmp_path / "logs") as profiler:
            train(range(2))
    assert markers(profiler.path) == [0, 1]
    (session,) = (tmp_path / "logs/plugins/profile").iterdir()
    assert [path.name for path in session.iterdir()] == [os.path.basename(str(profiler.path))]


def test_no_log_directory(caplog):
    """Without a run and without a log directory, there is no profile."""
    with jb.profile((0, 2)) as profiler:
        train(range(2))
    assert profiler.path is None
    (message,) = problems(caplog)
    assert "pass logdir=..., or open a jaxboard.Run" in message


class File:
    """A recording whose trace is a given file."""

    is_saved = False
    has_trace = True

    def __init__(self, path, content):
        self.path = path
        path.write_bytes(content)

    def start(self, options): ...

    def stop(self): ...

    def discard(self): ...

    def file(self, saved=None):
        return str(self.path)

    def write_into(self, directory):
        return shutil.copy(self.path, directory)


def test_an_empty_trace(tmp_path):
    """The empty file that JAX writes for a trace of more than 2 GB raises ProfileError."""
    recording = File(tmp_path / "host.xplane.pb", b"")
    with pytest.raises(jb.ProfileError, match="more than 2 GB. Profile fewer steps"):
        save_trace(recording, str(tmp_path / "logs"), "steps_0")
    assert list((tmp_path / "logs/plugins/profile").iterdir()) == []


def test_a_full_disk(tmp_path):
    """A full disk leaves no partial trace where TensorBoard looks for traces."""
    resource = pytest.importorskip("resource")
    recording = File(tmp_path / "host.xplane.pb", bytes(100_000))
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    # A limit on the file size fails like a full disk.
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    try:
        with pytest.raises(jb.ProfileError, match="File too large"):
            save_trace(recording, str(tmp_path / "logs"), "steps_0")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)
    assert list((tmp_path / "logs/plugins/profile").iterdir()) == []


# Interruptions.


@pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt, SystemExit])
def test_an_exception_in_the_block(tmp_path, error):
    """The trace is saved, and the same exception propagates."""
    raised = error("stop")
    profiler = jb.profile((0, 10), tmp_path)

    def fails():
        with profiler:
            train(range(3))
            raise raised

    with pytest.raises(error) as caught:
        fails()
    assert caught.value is raised
    assert markers(profiler.path) == [0, 1, 2]


def test_an_exception_in_a_step(tmp_path):
    """A step that raises is the last one with a marker."""

    @jb.instrument
    def step(i):
        return 1 / (2 - i)

    def explicit(i):
        with profiler.step(i):
            return 1 / (2 - i)

    profiler = jb.profile((0, 10), tmp_path)
    with pytest.raises(ZeroDivisionError), profiler:
        list(map(step, range(4)))
    assert markers(profiler.path) == [0, 1, 2]
    with pytest.raises(ZeroDivisionError), profiler:
        list(map(explicit, range(4)))
    assert markers(profiler.path) == [0, 1, 2]


def test_a_failing_computation(tmp_path):
    """The error of a computation raises where its result is used, not in the profile."""

    def fail(x):
        raise ValueError("callback")

    @jb.instrument
    @jax.jit
    def step(x):
        return jax.pure_callback(fail, jax.ShapeDtypeStruct((), "float32"), x)

    with jb.profile((0, 2), tmp_path) as profiler:
        with pytest.raises(Exception, match="callback"):
            step(jnp.float32(1)).block_until_ready()
        train(range(1))
    assert markers(profiler.path) == [0, 1]


def test_a_time_limit(tmp_path, caplog):
    """After max_seconds the trace is saved without any action of the training thread."""
    train(range(1))  # compiles
    with jb.profile((0, 10), tmp_path, max_seconds=0.5) as profiler:
        x = train(range(1))
        end = time.monotonic() + DEADLINE
        while profiler.path is None and time.monotonic() < end:
            threading.Event().wait(0.01)
        train(range(20), x)
    assert markers(profiler.path) == [0]
    (message,) = problems(caplog)
    assert "stopped after max_seconds=0.5; it contains step 0" in message


ENDINGS = {
    "the end of the program": ("", 0),
    "sys.exit": ("sys.exit(3)", 3),
    "an exception": ("1 / 0", 1),
    "SIGTERM": ("os.kill(os.getpid(), signal.SIGTERM); forever()", -signal.SIGTERM),
    "Ctrl-C": ("os.kill(os.getpid(), signal.SIGINT); forever()", -signal.SIGINT),
}


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.skipif(os.name != "posix", reason="signals are POSIX's")
def test_the_process_ends(tmp_path, monkeypatch, ending):
    """Any end of the process saves the steps so far and leaves no temporary file."""
    last, status = ENDINGS[ending]
    (tmp_path / "temporary").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    child = forked(
        tmp_path / "logs",
        f"""
        profiler = jb.profile((0, 10), LOGDIR)
        profiler.__enter__()
        train(range(3))
        {last}
        """,
    )
    _, err = child.communicate(timeout=DEADLINE)
    assert child.returncode == status, err
    (path,) = traces(tmp_path / "logs")
    assert markers(str(tmp_path / "logs" / path)) == [0, 1, 2]
    assert list((tmp_path / "temporary").iterdir()) == []


@pytest.mark.skipif(os.name != "posix", reason="signals are POSIX's")
def test_sigterm_during_a_computation(tmp_path):
    """SIGTERM saves the trace while the main thread waits for a computation."""
    child = forked(
        tmp_path,
        """
        spin = jax.jit(lambda x: jax.lax.while_loop(lambda c: c >= 0, lambda c: (c + 1) % 7, x))
        spin = spin.lower(0).compile()
        with jb.profile((0, 10), LOGDIR):
            train(range(3))
            emit("profiling")
            jax.block_until_ready(spin(0))
        """,
    )
    assert child.stdout.readline() == "profiling\n"
    child.send_signal(signal.SIGTERM)
    _, err = child.communicate(timeout=DEADLINE)
    assert child.returncode == -signal.SIGTERM, err
    (path,) = traces(tmp_path)
    assert markers(str(tmp_path / path)) == [0, 1, 2]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks are POSIX's")
def test_a_forked_child_saves_nothing(tmp_path):
    """Only the parent saves the profile, however the child leaves the block."""
    child = forked(
        tmp_path,
        """
        try:
            with jb.profile((0, 3), LOGDIR):
                x = train(range(2))
                pid = os.fork()
                if not pid:
                    raise KeyError("child")
                emit(str(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])))
                train(range(1), x)
        except KeyError:
            os._exit(7)
        """,
    )
    out, err = child.communicate(timeout=DEADLINE)
    assert (child.returncode, out) == (0, "7\n"), err
    (path,) = traces(tmp_path)
    assert markers(str(tmp_path / path)) == [0, 1, 2]


# Raised errors.


def test_faults_can_be_raised(tmp_path, caplog):
    """With on_error="raise", the error raises when the block ends, and is not logged."""
    (tmp_path / "file").touch()
    steps = []
    with (
        pytest.raises(jb.ProfileError, match="cannot write to the log directory") as caught,
        jb.profile((0, 2), tmp_path / "file", on_error="raise"),
    ):
        steps.append(train(range(3)))
    assert len(steps) == 1
    assert isinstance(caught.value, RuntimeError)
    assert problems(caplog) == []
    with (
        pytest.raises(jb.ProfileError, match="steps 10-11 were not reached"),
        jb.profile((10, 12), tmp_path, on_error="raise"),
    ):
        train(range(3))


def test_the_error_of_the_block_comes_first(tmp_path):
    """A block that raises propagates its own error."""
    (tmp_path / "file").touch()
    with pytest.raises(KeyError), jb.profile((0, 2), tmp_path / "file", on_error="raise"):
        raise KeyError("k")


def test_invalid_explicit_steps(tmp_path):
    """A step raises outside of a profile, or if its number is not an integer."""
    profiler = jb.profile((0, 2), tmp_path)
    with pytest.raises(jb.ProfileError, match="with profiler:"), profiler.step(0):
        pass
    with profiler:
        with pytest.raises(jb.UsageError, match=r"profiler.step\('x'\): expected an integer"):
            profiler.step("x").__enter__()  # pyright: ignore[reportArgumentType]
        train(range(2))


def test_options_that_this_jax_does_not_have():
    """Options that this JAX does not have are left out."""
    options = _compat.profile_options(host_tracer_level=3, device_tracer_level=1)
    assert options.host_tracer_level == 3
    assert not hasattr(options, "device_tracer_level")


# Several processes.


def test_processes_on_one_host(tmp_path):
    """The processes of a job share a session, each with its own numbered file."""
    port = free_port()
    body = f"""
        jax.distributed.initialize("127.0.0.1:{port}", 2, int(sys.argv[2]))
        with jb.profile((1, 3), LOGDIR):
            train(range(4))
        """
    children = [program(tmp_path, body, str(i)) for i in range(2)]
    for child in children:
        _, err = child.communicate(timeout=DEADLINE)
        assert child.returncode == 0, err
    host = socket.gethostname()
    assert traces(tmp_path) == [f"plugins/profile/steps_1-2/{host}-p{i}.xplane.pb" for i in (0, 1)]
    for path in traces(tmp_path):
        assert markers(str(tmp_path / path)) == [1, 2]

"""TensorBoardSink under machine faults. Every fault here is real."""

import os
import pathlib
import shutil
import socket
import subprocess
import sys
import textwrap

import numpy as np
import pytest
from event_files import scalar_points
from fork_server import run_in_fork
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

from jaxboard import _log
from jaxboard.records import Batch, Scalars
from jaxboard.sinks import TensorBoardSink

pytestmark = pytest.mark.skipif(os.name != "posix", reason="the faults need POSIX calls")

PRELUDE = """
import os, resource, shutil, sys
import numpy as np
from jaxboard.records import Kind, Record, Scalars
from jaxboard.sinks import TensorBoardSink

def batch(first, count, tag="a", run=""):
    steps = np.arange(first, first + count)
    return [Scalars((tag,), steps, 1000.0 + steps, steps[:, None] * 0.5, run)]

def limit(size):
    # A file at its size limit fails like a full disk (EFBIG instead of ENOSPC).
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

def deliver(sink, batch):
    sink.write(batch)
    sink.flush()

def raises(call, *args):
    try:
        call(*args)
    except Exception as error:
        return error
    raise AssertionError("no exception was raised")

sink = TensorBoardSink(sys.argv[1])
"""


def python(code: str, logdir: pathlib.Path | str) -> str:
    result = run_in_fork(PRELUDE + textwrap.dedent(code), str(logdir))
    assert result.returncode == 0, result.stderr
    return result.stdout


def steps(logdir: pathlib.Path, tag: str = "a") -> list[int]:
    return [step for step, _ in scalar_points(logdir, tag)]


def test_a_full_disk_loses_and_repeats_nothing(tmp_path, shared_tensorboard):
    """After repeated faults within a record, both readers show every point exactly once."""
    logdir = tmp_path / "run"
    python(
        """
        deliver(sink, batch(0, 100))
        for fault in range(2):
            (newest,) = sorted(os.scandir(sys.argv[1]), key=lambda f: f.name)[-1:]
            first = 100 + 3000 * fault
            limit(newest.stat().st_size + 1001)
            raises(deliver, sink, batch(first, 2000))
            limit(1001)
            raises(deliver, sink, batch(first, 2000))
            limit(10)
            raises(deliver, sink, batch(first, 2000))
            limit(resource.RLIM_INFINITY)
            deliver(sink, batch(first, 2000))
            deliver(sink, batch(first + 2000, 1000))
        sink.close()
        """,
        logdir,
    )
    assert len(list(logdir.iterdir())) == 3
    assert steps(logdir) == list(range(6100))
    for loader in ("rust", "python"):
        server = shared_tensorboard(loader)
        shown = server.scalars(f"{server.show(tmp_path)}run", "a", count=6100)
        assert shown == [(1000.0 + step, step, step * 0.5) for step in range(6100)]


def test_a_restart_mark_after_a_fault_keeps_confirmed_points(tmp_path):
    """Confirmed points stay, even with steps after those of the batch that is written again."""
    logdir = tmp_path / "run"
    python(
        """
        deliver(sink, batch(500, 10))
        sink.write(batch(100, 2000, tag="b"))
        limit(1000)
        raises(deliver, sink, batch(100, 2000, tag="b"))
        limit(resource.RLIM_INFINITY)
        deliver(sink, batch(100, 2000, tag="b"))
        sink.close()
        """,
        logdir,
    )
    assert steps(logdir) == list(range(500, 510))


def test_a_fault_in_the_directory_of_an_earlier_run(tmp_path):
    """The later points of the earlier run stay, and no point of this one appears twice."""
    logdir = tmp_path / "run"
    python("deliver(sink, batch(1000, 10)); sink.close()", logdir)
    python(
        """
        deliver(sink, batch(0, 100, tag="b"))
        (*_, newest) = sorted(os.scandir(sys.argv[1]), key=lambda f: f.name)
        limit(newest.stat().st_size + 1001)
        raises(deliver, sink, batch(100, 2000, tag="b"))
        limit(resource.RLIM_INFINITY)
        deliver(sink, batch(100, 2000, tag="b"))
        sink.close()
        """,
        logdir,
    )
    assert steps(logdir) == list(range(1000, 1010))
    assert steps(logdir, "b") == list(range(2100))


@pytest.mark.parametrize("failing", ["write", "flush"])
def test_a_fault_in_one_run_below_loses_and_repeats_nothing(tmp_path, failing):
    """After a fault in one directory the batch is written again, and every directory has each point once."""
    logdir = tmp_path / "run"
    python(
        f"""
        def all_runs(first, count):
            return [
                *batch(first, 10),
                *batch(first, 10, run="seed_0"),
                *batch(first, count, run="seed_1"),
                *batch(first, 10, run="seed_2"),
            ]
        deliver(sink, all_runs(0, 10))
        sink.write(batch(0, 10, run="idle"))
        sink.flush()
        if {failing!r} == "write":
            limit(20000)
            raises(deliver, sink, all_runs(10, 2000))
            limit(resource.RLIM_INFINITY)
        else:
            sink.write(all_runs(10, 2000))
            shutil.move(sys.argv[1] + "/seed_1", sys.argv[1] + "/away")
            raises(sink.flush)
            shutil.move(sys.argv[1] + "/away", sys.argv[1] + "/seed_1")
        deliver(sink, all_runs(10, 2000))
        sink.close()
        """,
        logdir,
    )
    assert steps(logdir) == steps(logdir / "seed_0") == steps(logdir / "seed_2") == list(range(20))
    assert steps(logdir / "seed_1") == list(range(2010))
    assert steps(logdir / "idle") == list(range(10))
    assert len(list((logdir / "idle").iterdir())) == 1


def test_a_removed_directory_is_created_again(tmp_path):
    """flush() raises if the file was removed, and the next write creates the directory again."""
    logdir = tmp_path / "run"
    output = python(
        """
        deliver(sink, batch(0, 10))
        shutil.rmtree(sys.argv[1])
        print(raises(deliver, sink, batch(10, 10)))
        deliver(sink, batch(10, 10))
        sink.close()
        """,
        logdir,
    )
    assert steps(logdir) == list(range(10, 20))
    assert "was removed while it was written to" in output


def test_a_failing_close_raises(tmp_path):
    """close() raises if it cannot write."""
    python(
        """
        sink.write([Record(Kind.HPARAMS, "", 0, 1.0, {"lr": 0.1})])
        sink.flush()
        limit(1)
        raises(sink.close)
        raises(sink.flush)
        """,
        tmp_path / "run",
    )


def test_a_fork_writes_nothing_twice(tmp_path):
    """A forked child writes nothing of its parent's at exit, and its own use of the sink raises."""
    output = python(
        """
        sink.write(batch(0, 10))
        child = os.fork()
        if not child:
            print(raises(sink.write, batch(10, 1)), flush=True)
            sink.close()
            del sink
            sys.exit()
        assert os.waitpid(child, 0)[1] == 0
        deliver(sink, batch(10, 10))
        sink.close()
        """,
        tmp_path / "run",
    )
    assert steps(tmp_path / "run") == list(range(20))
    assert (
        "and this process is a fork of it: two processes cannot write to one run directory"
        in output
    )


FLAPPING = """
import os, random, resource, signal, sys, threading
import jaxboard as jb
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
logdir = sys.argv[1]
run = jb.Run(logdir, flush_secs=0.02, max_frames=500, timeout=60)
done = threading.Event()
changes = threading.Semaphore(0)

def flap():
    chance = random.Random(0)
    while not done.is_set():
        size = max((file.stat().st_size for file in os.scandir(logdir)), default=0)
        for limit in chance.randrange(10, size + 3000), resource.RLIM_INFINITY:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
            changes.release()
            done.wait(chance.random() / 20)

flapping = threading.Thread(target=flap)
flapping.start()
for step in range(6000):
    jb.scalar("a", float(step), step=step)
    if step % 3 == 0:
        run.child("eval").scalar("a", float(step), step=step)
    if step % 50 == 0:
        changes.acquire()
done.set()
flapping.join()
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
run.close()
"""


def test_a_disk_that_is_full_now_and_then(tmp_path):
    """While the disk is full now and then and the buffer at its bound, every point is written exactly once."""
    command = [sys.executable, "-c", FLAPPING, str(tmp_path / "run")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert "File too large" in done.stderr
    assert stored_steps(tmp_path / "run") == list(range(6000))
    assert stored_steps(tmp_path / "run" / "eval") == list(range(0, 6000, 3))


def stored_steps(logdir: pathlib.Path) -> list[int]:
    """Return the steps of all points that the files of a directory hold, whatever readers make of them."""
    return [
        event.step
        for file in sorted(logdir.glob("*.tfevents.*"))
        for event in EventFileLoader(str(file)).Load()
        if event.summary.value
    ]


# --- Faults that need no process of their own. ----------------------------------------------------


def batch(first: int, count: int) -> Batch:
    steps = np.arange(first, first + count)
    return [Scalars(("a",), steps, 1000.0 + steps, steps[:, None] * 0.5)]


def deliver(sink: TensorBoardSink, records: Batch) -> None:
    sink.write(records)
    sink.flush()


def only_file(logdir: pathlib.Path) -> pathlib.Path:
    (file,) = logdir.iterdir()
    return file


@pytest.mark.parametrize("call", ["flush", "close"])
def test_a_truncated_file_is_noticed(tmp_path, call):
    """After another program has truncated the file, flush() and close() raise, and writing goes on in a new file."""
    sink = TensorBoardSink(tmp_path)
    deliver(sink, batch(0, 10))
    file = only_file(tmp_path)
    size = file.stat().st_size
    os.truncate(file, size - 100)
    message = rf"was truncated while it was written to: it has {size - 100} of {size} bytes"
    with pytest.raises(OSError, match=message):
        getattr(sink, call)()
    assert file.stat().st_size == size - 100
    if call == "flush":
        deliver(sink, batch(10, 10))
        sink.close()
        assert steps(tmp_path)[-10:] == list(range(10, 20))


def test_a_renamed_directory_is_noticed(tmp_path):
    """After a rename, the points of the failed flush are in the new directory only, and earlier ones in the old."""
    sink = TensorBoardSink(tmp_path / "run")
    deliver(sink, batch(0, 10))
    (tmp_path / "run").rename(tmp_path / "moved")
    with pytest.raises(FileNotFoundError, match="was removed while it was written to"):
        deliver(sink, batch(10, 10))
    deliver(sink, batch(10, 10))
    sink.close()
    assert steps(tmp_path / "moved") == list(range(10))
    assert steps(tmp_path / "run") == list(range(10, 20))


def test_a_replaced_file_is_noticed(tmp_path):
    """A file of the same name in its place, as `mv` and editors leave it, is not taken for the open file."""
    sink = TensorBoardSink(tmp_path / "run")
    deliver(sink, batch(0, 10))
    file = only_file(tmp_path / "run")
    shutil.copy(file, tmp_path / "copy")
    (tmp_path / "copy").replace(file)
    with pytest.raises(FileNotFoundError):
        deliver(sink, batch(10, 10))
    deliver(sink, batch(10, 10))
    sink.close()
    assert steps(tmp_path / "run") == list(range(20))


WRITER = """
import sys
from jaxboard.sinks import TensorBoardSink
sink = TensorBoardSink(sys.argv[1])
sink.open()
print("open", flush=True)
sys.stdin.read()
"""


def open_and_close(logdir: pathlib.Path) -> None:
    sink = TensorBoardSink(logdir)
    sink.open()
    sink.close()


def test_two_processes_in_one_directory(tmp_path, caplog):
    """A second process that opens a directory logs which process writes there, and nothing once that one is gone."""
    command = [sys.executable, "-c", WRITER, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdin is not None
        assert other.stdout.readline() == b"open\n"
        open_and_close(tmp_path)
        (logged,) = caplog.messages
        assert logged.startswith(
            f"jaxboard: process {other.pid} on {socket.gethostname()} is writing to {str(tmp_path)!r}, too."
        )
        other.kill()
    caplog.clear()
    _log.forget_warnings()
    open_and_close(tmp_path)
    assert caplog.messages == []

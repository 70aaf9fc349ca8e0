"""Faults of the machine during a run. Each test breaks the real thing in a process of its own."""

import os
import shutil
import subprocess

import pytest
from child_process import Child

pytestmark = pytest.mark.skipif(os.name != "posix", reason="the faults need POSIX calls")

POINTS = [(step, float(step)) for step in range(1000)]

FAULTY_RUN = """
def fault(begin, end, report=put):
    '''Report 100 steps before a fault, 800 during it and 100 after it; announce what flush() raised meanwhile.'''
    run = Run(LOGDIR, flush_secs=0.05, telemetry=False)
    put(0, 100)
    run.flush()
    begin()
    report(100, 800)
    for _ in range(3):
        try:
            run.flush()
        except RunError as error:
            message = str(error)
    announce(message)
    end()
    put(900, 100)
    run.close()
"""


def check(child, pending="800 reports are", reason="", causes=1):
    """Check that training went on, that each cause and the end were logged once, and that nothing is lost."""
    assert child.exit_status() == 0, child.err
    assert f"run {str(child.logdir)!r}: {pending} pending: TensorBoardSink failed: " in child.out
    assert reason in child.out
    logged = [line for line in child.err.splitlines() if line.startswith("jaxboard")]
    assert len(logged) == causes + 1, child.err
    assert ["TensorBoardSink failed: " in line for line in logged] == [True] * causes + [False]
    assert "earlier write failures have been resolved" in logged[-1]
    assert child.points() == POINTS


def test_no_permission_in_mid_run(tmp_path):
    """A directory that becomes unreadable loses nothing once it is readable again."""
    child = Child(
        tmp_path,
        FAULTY_RUN
        + """
user = os.geteuid()
def begin():
    os.chmod(LOGDIR, 0o000)
    if user == 0:
        os.seteuid(65534)
def end():
    os.seteuid(user)
    os.chmod(LOGDIR, 0o755)
fault(begin, end)
""",
    )
    check(child, reason="Permission denied")


def test_no_descriptors(tmp_path):
    """A process without a free file descriptor loses nothing once there are some again."""
    child = Child(
        tmp_path,
        FAULTY_RUN
        + """
limits = resource.getrlimit(resource.RLIMIT_NOFILE)
def begin():
    os.rename(LOGDIR, LOGDIR + "_moved")  # The open file is stale.
    os.rename(LOGDIR + "_moved", LOGDIR)
    free = os.open(os.devnull, os.O_RDONLY)
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free, limits[1]))
def end():
    resource.setrlimit(resource.RLIMIT_NOFILE, limits)
def report(first, count):
    put(first, count)
    current_run().child("eval").scalar("loss", 1.0)  # It needs a file of its own.
fault(begin, end, report)
""",
    )
    check(child, pending="801 reports are", reason="Too many open files")
    assert child.points("eval") == [(0, 1.0)]


def test_no_descriptors_when_the_run_is_opened(tmp_path):
    """Opening a run without a free file descriptor raises RunError, and works once there are some."""
    child = Child(
        tmp_path,
        """
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        free = os.open(os.devnull, os.O_RDONLY)
        os.close(free)
        resource.setrlimit(resource.RLIMIT_NOFILE, (free, limits[1]))
        try:
            Run(LOGDIR)
        except RunError as error:
            announce(str(error))
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        with Run(LOGDIR):
            put(0, 1000)
        """,
    )
    assert child.exit_status() == 0, child.err
    assert "Too many open files" in child.out
    assert child.points() == POINTS


def can_mount():
    command = ["unshare", "--user", "--map-root-user", "--mount", "true"]
    return (
        shutil.which("unshare") is not None and not subprocess.run(command, check=False).returncode
    )


@pytest.mark.skipif(not can_mount(), reason="user namespaces are not permitted")
def test_a_read_only_file_system(tmp_path):
    """A log directory that becomes read-only loses nothing once it is writable again."""
    child = Child(
        tmp_path,
        FAULTY_RUN
        + """
def mount(*arguments):
    import subprocess
    subprocess.run(arguments, check=True)
fault(
    lambda: mount("mount", "-t", "tmpfs", "-o", "ro", "tmpfs", LOGDIR),
    lambda: mount("umount", LOGDIR),
)
""",
        command=["unshare", "--user", "--map-root-user", "--mount"],
    )
    check(
        child, reason="Read-only file system", causes=2
    )  # The file is hidden, and there is no other.


def test_a_clock_that_jumps(tmp_path):
    """A clock that jumps back and forth during a run changes the wall times of points, and loses none."""
    child = Child(
        tmp_path,
        """
        jumps = iter([0, -3600, 3600 * 24 * 365, -3600 * 24 * 365] * 10**6)
        now = time.time
        time.time = lambda: now() + next(jumps)
        with Run(LOGDIR, flush_secs=0.01) as run:
            for step in range(0, 1000, 10):
                put(step, 10)
                run.flush()
        """,
    )
    assert child.exit_status() == 0, child.err
    assert child.err == ""
    assert child.points() == POINTS


def test_a_sink_that_raises(tmp_path):
    """A sink that raises is logged once and counted by close(); the event files beside it have every point."""
    child = Child(
        tmp_path,
        """
from jaxboard.sinks import TensorBoardSink

class Broken(Lines):
    def __init__(self, method):
        setattr(self, method, self.fail)
        if method == "open":
            self.write = self.fail
    def fail(self, *_):
        raise OSError("disk on fire")
    def write(self, batch):
        pass
    def flush(self):
        pass
    def close(self):
        pass

for method in ("open", "write", "flush"):
    logdir = os.path.join(LOGDIR, method)
    sinks = [Broken(method), TensorBoardSink(logdir)]
    run = Run(logdir, sinks=sinks, flush_secs=0.01, telemetry=False)
    for step in range(0, 1000, 100):
        put(step, 100)
        try:
            run.flush()
        except RunError as error:
            pass
    try:
        run.close()
    except RunError as error:
        announce(f"{method}: {error.__cause__}, {str(error).splitlines()[0].split(': ')[1].rstrip(':')}")
""",
    )
    assert child.exit_status() == 0, child.err
    methods = ("open", "write", "flush")
    assert child.out.splitlines() == [
        f"{method}: disk on fire, 1000 reports were lost" for method in methods
    ]
    assert child.err.count("Broken failed: OSError: disk on fire") == len(methods)
    assert [child.points(method) for method in methods] == [POINTS] * len(methods)


def test_a_sink_that_is_slow(tmp_path):
    """A slow sink delays the others and loses nothing: training does not wait for it."""
    child = Child(
        tmp_path,
        """
from jaxboard.sinks import TensorBoardSink
run = Run(LOGDIR, sinks=[TensorBoardSink(LOGDIR), Waiting()], flush_secs=0.01, telemetry=False)
put(0)
print(sys.stdin.readline(), end="", flush=True)
put(1, 999)
announce("trained")
sys.stdin.readline()
run.close()
""",
    )
    child.expect("writing")
    assert child.process.stdin is not None
    child.process.stdin.write("go on\n" * 4)
    child.process.stdin.flush()
    assert child.exit_status() == 0, child.err
    assert child.points() == POINTS
    assert child.steps() == [*range(1000), "closed"]

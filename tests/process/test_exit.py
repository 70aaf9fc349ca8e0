"""The ends of processes with an open run. Each test starts a real process."""

import os
import signal
import time

import pytest
from child_process import Child

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals and forks are POSIX's")

COMPLETE = [*range(1000), "closed"]

ENDS = {
    "normal": ("with Run(None, sinks=[Lines()]): put(0, 1000)", 0, ""),
    "close": ("run = Run(None, sinks=[Lines()]); put(0, 1000); run.close()", 0, ""),
    "without close": ("run = Run(None, sinks=[Lines()]); put(0, 1000)", 0, ""),
    "without a name": ("Run(None, sinks=[Lines()]); put(0, 1000)", 0, ""),
    "exception": (
        "with Run(None, sinks=[Lines()]): put(0, 1000); 1 / 0",
        1,
        "ZeroDivisionError: division by zero",
    ),
    "exception without with": (
        "Run(None, sinks=[Lines()]); put(0, 1000); 1 / 0",
        1,
        "ZeroDivisionError: division by zero",
    ),
    "sys.exit": ("with Run(None, sinks=[Lines()]): put(0, 1000); sys.exit(3)", 3, ""),
    "sys.exit without with": ("Run(None, sinks=[Lines()]); put(0, 1000); sys.exit(3)", 3, ""),
}


@pytest.mark.parametrize("end", ENDS)
def test_nothing_is_lost(tmp_path, end):
    """However a program ends by itself, every report is written once and its exit status is unchanged."""
    body, status, message = ENDS[end]
    child = Child(tmp_path, body)
    assert child.exit_status() == status
    assert child.err.splitlines()[-1:] == ([message] if message else [])
    assert child.steps() == COMPLETE


SIGNALLED = {
    "with": "with Run(None, sinks=[Lines()], flush_secs=1000): put(0, 1000); announce('put'); forever()",
    "no with": "Run(None, sinks=[Lines()], flush_secs=1000); put(0, 1000); announce('put'); forever()",
}


@pytest.mark.parametrize("block", SIGNALLED)
def test_ctrl_c(tmp_path, block):
    """Ctrl-C loses nothing, and the program ends with KeyboardInterrupt."""
    child = Child(tmp_path, SIGNALLED[block])
    child.expect("put")
    child.process.send_signal(signal.SIGINT)
    assert child.exit_status() == -signal.SIGINT
    assert child.err.splitlines()[-1] == "KeyboardInterrupt"
    assert child.steps() == COMPLETE


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("block", SIGNALLED)
def test_a_signal_that_ends_the_process(tmp_path, block, number):
    """SIGTERM and SIGHUP lose nothing, and the process dies of the signal without output."""
    child = Child(tmp_path, SIGNALLED[block])
    child.expect("put")
    child.process.send_signal(number)
    assert child.exit_status() == -number
    assert child.err == ""
    assert child.steps() == COMPLETE


def test_the_status_after_ctrl_c(tmp_path):
    """Ctrl-C ends the process by SIGINT, also if closing the run executes strings, as an import of dataclasses does."""
    child = Child(
        tmp_path,
        """
        class Importing(Lines):
            def close(self):
                exec("")
                super().close()
        Run(None, sinks=[Importing()], flush_secs=1000)
        put(0, 1000)
        signal.raise_signal(signal.SIGINT)
        """,
    )
    assert child.exit_status() == -signal.SIGINT
    assert child.err.splitlines()[-1] == "KeyboardInterrupt"
    assert child.steps() == COMPLETE


def test_ctrl_c_again_and_again(tmp_path):
    """Ctrl-C while the interpreter exits loses nothing: what is being written is still written."""
    child = Child(
        tmp_path,
        """
        Run(None, sinks=[Waiting()], flush_secs=1000)
        put(0, 1000)
        announce("put")
        forever()
        """,
    )
    child.expect("put")
    child.process.send_signal(signal.SIGINT)
    child.expect("writing")
    for _ in range(4):
        child.process.send_signal(signal.SIGINT)
    assert child.exit_status() == -signal.SIGINT
    assert "KeyboardInterrupt" in child.err
    assert child.steps() == COMPLETE


def test_a_hanging_sink_does_not_keep_the_process_after_ctrl_c(tmp_path):
    """Ctrl-C while the interpreter waits for a sink that never returns ends the process long before the timeout."""
    child = Child(
        tmp_path,
        """
        from jaxboard._process import exit
        exit._INTERRUPTED_SECS = 0.2  # instead of five seconds
        class Announcing(Hung):
            def write(self, batch):
                announce("writing")
                forever()
        Run(None, sinks=[Announcing()], flush_secs=1000, timeout=1e9)
        put(0, 10)
        """,
    )
    child.expect("writing")
    child.process.send_signal(signal.SIGINT)
    assert child.exit_status() == 0
    assert "Announcing did not finish within" in child.err


@pytest.mark.parametrize(
    ("last", "status"), [("", 0), ("signal.raise_signal(signal.SIGINT)", -signal.SIGINT)]
)
def test_a_daemon_thread_that_still_reports(tmp_path, last, status):
    """Everything that a daemon thread reported before the interpreter exits is written once, and in order."""
    child = Child(
        tmp_path,
        f"""
        Run(None, sinks=[Lines()], flush_secs=1000, max_frames=10**8, max_bytes=2**40)
        started = threading.Event()
        def report():
            for step in range(10**9):
                run = current_run()
                if run is None:
                    return
                channel_of(run).put(Record(Kind.SCALAR, "loss", step, time.time(), np.float32(step)))
                if step == 20_000:
                    started.set()
        threading.Thread(target=report, daemon=True).start()
        sys.setswitchinterval(1e-4)
        started.wait()
        {last}
        """,
    )
    assert child.exit_status() == status
    assert child.err.splitlines()[-1:] == (["KeyboardInterrupt"] if last else [])
    *steps, end = child.steps()
    assert end == "closed"
    assert len(steps) > 20_000
    assert steps == list(range(len(steps)))


def test_sigterm_during_a_computation(tmp_path):
    """SIGTERM is handled while the main thread waits for a computation."""
    child = Child(
        tmp_path,
        """
        import jax
        Run(None, sinks=[Lines()], flush_secs=1000)
        put(0, 1000)
        spin = jax.jit(lambda x: jax.lax.while_loop(lambda c: c >= 0, lambda c: (c + 1) % 7, x))
        compiled = spin.lower(0).compile()
        announce("put")
        jax.block_until_ready(compiled(0))
        """,
    )
    child.expect("put")
    child.process.send_signal(signal.SIGTERM)
    assert child.exit_status() == -signal.SIGTERM
    assert child.steps() == COMPLETE


def test_sigterm_twice(tmp_path):
    """A second SIGTERM, as `timeout` and process groups send it, does not interrupt the writing."""
    child = Child(
        tmp_path,
        """
        class Slow(Lines):
            def write(self, batch):
                announce("writing")
                sys.stdin = None
                forever(0.5)
                super().write(batch)
        Run(None, sinks=[Slow()], flush_secs=1000)
        put(0, 1000)
        announce("put")
        forever()
        """,
    )
    child.expect("put")
    child.process.send_signal(signal.SIGTERM)
    child.expect("writing")
    child.process.send_signal(signal.SIGTERM)
    assert child.exit_status() == -signal.SIGTERM
    assert child.steps() == COMPLETE


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_sigterm_handler_of_the_user(tmp_path, when):
    """A handler that the user sets, before or after opening the run, is the one that runs."""
    handler = "signal.signal(signal.SIGTERM, lambda *_: sys.exit(5))"
    opened = "Run(None, sinks=[Lines()], flush_secs=1000)"
    first, second = (handler, opened) if when == "before" else (opened, handler)
    child = Child(tmp_path, f"{first}\n{second}\nput(0, 1000)\nannounce('put')\nforever()")
    child.expect("put")
    child.process.send_signal(signal.SIGTERM)
    assert child.exit_status() == 5
    assert child.steps() == COMPLETE


def test_signals_are_released_with_the_last_run(tmp_path):
    """SIGTERM and SIGHUP are caught while a run is open; closing the last run restores the default action."""
    child = Child(
        tmp_path,
        """
        def default():
            numbers = signal.SIGTERM, signal.SIGHUP
            return [signal.getsignal(number) == signal.SIG_DFL for number in numbers]
        before = default()
        first, second = Run(None, sinks=[]), Run(None, sinks=[])
        first.close()
        caught = default()
        second.close()
        announce(str([before, caught, default(), signal.set_wakeup_fd(-1)]))
        """,
    )
    assert child.exit_status() == 0
    assert child.out == "[[True, True], [False, False], [True, True], -1]\n"


def test_sigkill_loses_at_most_flush_secs(tmp_path):
    """Every report made at least flush_secs before SIGKILL is on disk, without a gap."""
    flush_secs = 1.0
    child = Child(
        tmp_path,
        f"""
        class Announcing(Lines):
            def flush(self):
                super().flush()
                announce("flushed")
        Run(None, sinks=[Announcing()], flush_secs={flush_secs})
        step = 0
        while not forever(0.001):
            put(step)
            step += 1
        """,
    )
    for _ in range(3):
        child.expect("flushed")
    child.process.kill()
    killed = time.time()
    assert child.exit_status() == -signal.SIGKILL
    lines = child.lines()
    assert [step for step, _ in lines] == list(range(len(lines)))
    assert lines[-1][1] >= killed - flush_secs


def test_a_hanging_sink_does_not_keep_the_process(tmp_path):
    """A sink that never returns delays the exit by the timeout and is logged."""
    child = Child(tmp_path, "Run(None, sinks=[Hung()], timeout=0.2); put(0, 10)")
    assert child.exit_status() == 0
    assert "Hung did not finish within 0.2 s" in child.err


def test_a_hanging_sink_does_not_stop_sigterm(tmp_path):
    """SIGTERM ends a process whose sink never returns, and the sink is logged."""
    child = Child(
        tmp_path, "Run(None, sinks=[Hung()], timeout=0.2); put(0, 10); announce('put'); forever()"
    )
    child.expect("put")
    child.process.send_signal(signal.SIGTERM)
    assert child.exit_status() == -signal.SIGTERM
    assert "Hung did not finish within 0.2 s" in child.err


def test_a_forked_child_does_not_write(tmp_path):
    """A forked child has no active run, and it writes nothing of its parent's."""
    child = Child(
        tmp_path,
        """
        with Run(None, sinks=[Lines()], flush_secs=1000) as run:
            put(0, 1000)
            pid = os.fork()
            if not pid:
                announce(repr(current_run()))
                channel_of(run).put(Record(Kind.SCALAR, 'loss', 0, 0.0, np.float32(0)))
                run.close()
                assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
                with Run(None, sinks=[]) as childs:
                    assert current_run() is childs
                sys.exit(7)
            announce(str(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])))
        """,
    )
    assert child.exit_status() == 0, child.err
    assert child.out == "None\n7\n"
    assert child.steps() == COMPLETE


def test_sigterm_to_a_forked_child(tmp_path):
    """SIGTERM to a child, such as a data loader's worker, ends the child and not the parent."""
    child = Child(
        tmp_path,
        """
        Run(None, sinks=[Lines()], flush_secs=1000)
        pid = os.fork()
        if not pid:
            forever()
        os.kill(pid, signal.SIGTERM)
        announce(str(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])))
        put(0, 1000)
        """,
    )
    assert child.exit_status() == 0
    assert child.out == f"{-signal.SIGTERM}\n"
    assert child.steps() == COMPLETE


# --- Event files. ---------------------------------------------------------------------------------

POINTS = [(step, float(step)) for step in range(1000)]


@pytest.mark.parametrize(
    ("last", "status"),
    [
        ("", 0),
        ("os.kill(os.getpid(), signal.SIGTERM); forever()", -signal.SIGTERM),
    ],
    ids=["without close", "SIGTERM"],
)
def test_event_files_are_complete(tmp_path, last, status):
    """A program that ends immediately writes all its points, and does not import TensorFlow for them."""
    child = Child(tmp_path, f"sys.modules['tensorflow'] = None; Run(LOGDIR); put(0, 1000)\n{last}")
    assert child.exit_status() == status, child.err
    assert child.err == ""
    assert child.points() == POINTS


def test_a_kill_at_the_start(tmp_path):
    """The first points survive SIGKILL as soon as they are flushed, which waits for no import of TensorFlow."""
    child = Child(
        tmp_path,
        """
        from jaxboard.sinks import TensorBoardSink
        class Announcing(Lines):
            count = 0
            def write(self, batch):
                self.count += sum(1 for _ in records(batch))
            def flush(self):
                if self.count == 1000:
                    announce("flushed, " + ("tensorflow" if "tensorflow" in sys.modules else "no tensorflow"))
        Run(None, sinks=[TensorBoardSink(LOGDIR), Announcing()])
        put(0, 1000)
        forever()
        """,
    )
    child.expect("flushed, no tensorflow")
    child.process.kill()
    assert child.exit_status() == -signal.SIGKILL
    assert child.points() == POINTS


def test_event_files_after_a_fork(tmp_path):
    """No point appears twice after a forked child of a process with an open run has exited."""
    child = Child(
        tmp_path,
        """
        sys.modules['tensorflow'] = None
        with Run(LOGDIR) as run:
            put(0, 500)
            run.flush()
            put(500, 500)
            pid = os.fork()
            if not pid:
                sys.exit()
            os.waitpid(pid, 0)
        """,
    )
    assert child.exit_status() == 0, child.err
    assert child.points() == POINTS


def test_a_full_disk(tmp_path):
    """With a full disk training continues and flush() raises; with space again, everything is written."""
    child = Child(
        tmp_path,
        """
        # A file at its size limit fails like a full disk (EFBIG instead of ENOSPC).
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        run = Run(LOGDIR, flush_secs=1000)
        put(0, 10)
        run.flush()
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))
        put(10, 990)
        try:
            run.flush()
        except RunError as error:
            announce(str(error).split(" pending: ")[0])
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
        run.close()
        """,
    )
    assert child.exit_status() == 0, child.err
    assert child.out == f"run {str(child.logdir)!r}: 990 reports are\n"
    assert f"jaxboard, run {str(child.logdir)!r}: TensorBoardSink failed: " in child.err
    assert child.points() == POINTS

"""Runs with several processes, threads, tasks and runs: every report is written once, in its own run."""

import os
import signal

import pytest
from child_process import Child

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals and forks are POSIX's")

MULTIPROCESSING = """
import multiprocessing
import warnings
import jaxboard as jb

def own_run(logdir, number):
    with jb.Run(os.path.join(logdir, f"child_{number}"), telemetry=False):
        for step in range(100):
            jb.scalar("loss", step, step=step)

def inherits(logdir):
    # The parent's run is not active here, and a report without a run is a warning.
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        jb.scalar("loss", 7.0, step=7)
    assert jb.current_run() is None
    assert "no run" in str(caught[0].message).lower(), caught[0].message

def square(x):
    return x * x

def main(method):
    warnings.simplefilter("ignore", RuntimeWarning)  # JAX, of os.fork()
    warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12, of os.fork() with threads
    os.makedirs(LOGDIR, exist_ok=True)
    context = multiprocessing.get_context(method)
    with jb.Run(LOGDIR, telemetry=False):
        for step in range(500):
            jb.scalar("loss", step, step=step)
        children = [context.Process(target=own_run, args=(LOGDIR, n)) for n in range(2)]
        children.append(context.Process(target=inherits, args=(LOGDIR,)))
        for child in children:
            child.start()
        for child in children:
            child.join(60)
        with context.Pool(2) as pool:
            squares = pool.map(square, range(10))
        for step in range(500, 1000):
            jb.scalar("loss", step, step=step)
    print([child.exitcode for child in children], squares[-1])

"""


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_multiprocessing(tmp_path, method):
    """Children with runs of their own, one that inherits the run, and a pool: nothing is lost or written twice."""
    program = MULTIPROCESSING + f"if __name__ == '__main__': main({method!r})"
    child = Child(tmp_path, program, indented=False)
    assert child.exit_status() == 0, child.err
    assert child.out == "[0, 0, 0] 81\n", child.err
    assert child.points() == [(step, float(step)) for step in range(1000)]
    for number in range(2):
        assert child.points(f"child_{number}") == [(step, float(step)) for step in range(100)]


def test_threads_tasks_and_runs(tmp_path):
    """Thread pools, asyncio tasks, nested and simultaneous runs: the totals are exact."""
    child = Child(
        tmp_path,
        """
        import asyncio
        import concurrent.futures
        import jax
        import jaxboard as jb
        sys.setswitchinterval(1e-4)
        pool = concurrent.futures.ThreadPoolExecutor(8)

        def report(thread):
            for step in range(200):
                jb.scalar(f"thread_{thread}", step, step=step)
                jb.scalar("sum", 1.0, step=0, reduce="sum")

        @jb.instrument
        @jax.jit
        def train_step(x):
            jb.scalar("loss", x)
            return x

        async def task(name):
            with jb.Run(os.path.join(LOGDIR, name), telemetry=False):
                for step in range(100):
                    jb.scalar("loss", step, step=step)
                    await asyncio.sleep(0)

        async def tasks():
            await asyncio.gather(*(asyncio.create_task(task(f"task_{n}")) for n in range(4)))

        def own_run(number):
            with jb.Run(os.path.join(LOGDIR, f"run_{number}"), telemetry=False):
                for step in range(100):
                    jb.scalar("loss", step, step=step)

        with jb.Run(os.path.join(LOGDIR, "threads"), telemetry=False):
            list(pool.map(report, range(8)))
        with jb.Run(os.path.join(LOGDIR, "steps"), telemetry=False):
            list(pool.map(lambda x: train_step(float(x)), range(400)))
        asyncio.run(tasks())
        list(pool.map(own_run, range(8)))
        with jb.Run(os.path.join(LOGDIR, "outer"), telemetry=False) as outer:
            jb.scalar("loss", 0, step=0)
            with jb.Run(os.path.join(LOGDIR, "inner"), telemetry=False):
                jb.scalar("loss", 1, step=1)
            jb.scalar("loss", 2, step=2)
        """,
    )
    assert child.exit_status() == 0, child.err
    assert child.err == ""
    hundred = [(step, float(step)) for step in range(100)]
    for thread in range(8):
        points = child.points("threads", f"thread_{thread}")
        assert points == [(step, float(step)) for step in range(200)]
        assert child.points(f"run_{thread}") == hundred
    assert sum(value for _, value in child.points("threads", "sum")) == 1600.0
    steps = child.points("steps")
    assert sorted(step for step, _ in steps) == list(range(400))
    assert sorted(value for _, value in steps) == [float(x) for x in range(400)]
    assert [child.points(f"task_{n}") for n in range(4)] == [hundred] * 4
    assert child.points("outer") == [(0, 0.0), (2, 2.0)]
    assert child.points("inner") == [(1, 1.0)]


def test_sys_exit_on_a_thread(tmp_path):
    """A thread that calls sys.exit ends, the program goes on, and nothing is lost."""
    child = Child(
        tmp_path,
        """
        Run(LOGDIR, telemetry=False)
        def body():
            put(0, 500)
            sys.exit(3)
        thread = threading.Thread(target=body)
        thread.start()
        thread.join()
        put(500, 500)
        """,
    )
    assert child.exit_status() == 0, child.err
    assert child.err == ""
    assert child.points() == [(step, float(step)) for step in range(1000)]


def test_ctrl_c_during_close(tmp_path):
    """Ctrl-C while close() writes raises KeyboardInterrupt, and the exit of the interpreter writes the rest."""
    child = Child(
        tmp_path,
        """
        run = Run(None, sinks=[Waiting()], flush_secs=1000)
        put(0, 1000)
        try:
            run.close()
        except KeyboardInterrupt:
            announce("interrupted")
            sys.exit(4)
        """,
    )
    child.expect("writing")
    child.process.send_signal(signal.SIGINT)
    child.expect("interrupted")
    assert child.exit_status() == 4, child.err
    assert child.steps() == [*range(1000), "closed"]


def test_ctrl_c_during_a_compile(tmp_path):
    """Ctrl-C while XLA compiles takes effect afterwards and ends the program; nothing is lost."""
    child = Child(
        tmp_path,
        """
        import jax
        import jaxboard as jb

        @jb.instrument
        @jax.jit
        def step(x):
            jb.scalar("x", x)
            return x

        def interrupt(event, seconds, **_):
            # The first Python code after a compilation: Ctrl-C during it takes effect here.
            if event == "/jax/core/compile/backend_compile_duration":
                signal.raise_signal(signal.SIGINT)

        Run(LOGDIR, flush_secs=1000, telemetry=False)
        put(0, 1000)
        jax.monitoring.register_event_duration_secs_listener(interrupt)
        step(1.0)
        """,
    )
    assert child.exit_status() == -signal.SIGINT, child.err
    assert child.err.splitlines()[-1] == "KeyboardInterrupt"
    assert child.points() == [(step, float(step)) for step in range(1000)]

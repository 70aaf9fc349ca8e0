"""Reports reach the run they are meant for, across threads, tasks and traced code."""

import concurrent.futures
import pickle
import threading

import jax
import jax.numpy as jnp
import pytest

import jaxboard as jb
from jaxboard.sinks import MemorySink


def in_memory():
    sink = MemorySink()
    return jb.Run(None, sinks=[sink], telemetry=False), sink


def values(sink, tag="loss"):
    return [float(record.value) for record in sink.records if record.tag == tag]


def test_each_thread_reports_to_the_run_it_opened():
    """Trials that run in threads, each with a run of its own, keep their values apart."""
    barrier = threading.Barrier(3)

    def trial(k):
        step = jb.instrument(jax.jit(lambda x: (jb.scalar("loss", x), x)[1]))
        run, sink = in_memory()
        with run:
            barrier.wait()
            for i in range(20):
                step(jnp.float32(100 * k + i))
            barrier.wait()
        return values(sink)

    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        trials = list(pool.map(trial, range(3)))
    assert trials == [[100 * k + i for i in range(20)] for k in range(3)]


def test_a_thread_without_a_run_reports_to_the_process_run():
    """A data loader's thread reports to the run that the main thread opened."""
    run, sink = in_memory()
    with run:
        thread = threading.Thread(target=lambda: jb.scalar("loss", 1.0))
        thread.start()
        thread.join()
    assert values(sink) == [1]


def test_methods_of_two_runs_in_one_jitted_step():
    """``run.scalar`` in traced code reports to that run, whichever one is active."""
    generator, generated = in_memory()
    critic, criticised = in_memory()

    @jb.instrument
    @jax.jit
    def step(x):
        generator.scalar("loss", x)
        critic.scalar("loss", x + 10)
        jb.scalar("active", x + 20)
        return x

    with generator, critic:
        for i in range(3):
            step(jnp.float32(i))
    assert values(generated) == [0, 1, 2]
    assert values(criticised) == [10, 11, 12]
    assert values(criticised, "active") == [20, 21, 22]


@pytest.mark.parametrize("traced", [True, False])
def test_a_child_run(traced):
    """``run.child("eval")`` reports to a run below this one, in traced code and on the host."""
    run, sink = in_memory()
    with run:
        evaluation = run.child("eval")

        def step(x):
            jb.scalar("loss", x)
            evaluation.scalar("loss", x + 10)
            return x

        step = jb.instrument(jax.jit(step) if traced else step)
        for i in range(3):
            step(float(i))
    by_run = {}
    for record in sink.records:
        by_run.setdefault(record.run, []).append((record.step, float(record.value)))
    assert by_run == {
        "": [(i, i) for i in range(3)],
        "eval": [(i, i + 10) for i in range(3)],
    }


def test_a_run_cannot_be_pickled():
    """Pickling a run raises an error of jaxboard's that says what to do."""
    run, _ = in_memory()
    with run, pytest.raises(jb.JaxboardError, match="cannot be pickled"):
        pickle.dumps(run)

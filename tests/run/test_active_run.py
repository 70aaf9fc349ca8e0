"""Reports reach the run they are meant for, across threads, tasks and traced code."""

import asyncio
import concurrent.futures
import contextlib
import contextvars
import copy
import functools
import gc
import pickle
import threading
import weakref

import jax
import jax.numpy as jnp
import pytest
from compilations import compilations

import jaxboard as jb
from jaxboard.sinks import MemorySink


def in_memory():
    sink = MemorySink()
    return jb.Run(None, sinks=[sink], telemetry=False, flush_secs=3600), sink


def values(sink, tag="loss"):
    return [float(record.value) for record in sink.records if record.tag == tag]


def test_each_thread_reports_to_the_run_it_opened():
    """Trials that run in threads, each with a run of its own, keep their values separate."""
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
    critic, criticized = in_memory()

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
    assert values(criticized) == [10, 11, 12]
    assert values(criticized, "active") == [20, 21, 22]


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


def points(sink):
    """Return the scalars of a sink: (run, tag) -> [(step, value), ...]."""
    found = {}
    for record in sink.records:
        if record.kind.value == "scalar":
            point = record.step, float(record.value)
            found.setdefault((record.run, record.tag), []).append(point)
    return found


# --- Threads and tasks. ---------------------------------------------------------------------------


def test_each_task_reports_to_the_run_it_opened():
    """Trials that run as asyncio tasks keep their values separate; a task that a trial starts belongs to it."""

    async def trial(k):
        step = jb.instrument(jax.jit(lambda x: (jb.scalar("loss", x), x)[1]))
        run, sink = in_memory()

        async def evaluate(i):
            jb.scalar("eval", i)

        with run:
            for i in range(5):
                step(jnp.float32(10 * k + i))
                await asyncio.sleep(0)
                await asyncio.create_task(evaluate(10 * k + i))
        return values(sink), values(sink, "eval")

    async def trials():
        return await asyncio.gather(*map(trial, range(3)))

    expected = [[10 * k + i for i in range(5)] for k in range(3)]
    assert asyncio.run(trials()) == [(each, each) for each in expected]
    assert jb.current_run() is None


@pytest.mark.parametrize("options", [{"delivery": "callback"}, {"stream": 4}])
@pytest.mark.parametrize("shared", [False, True])
def test_callbacks_reach_the_run_of_the_thread_that_called(options, shared):
    """Callbacks arrive on XLA's threads, and report to the run of the thread whose call caused them."""

    def loop(x):
        def body(x, _):
            jb.scalar("loss", x)
            return x + 1, None

        return jax.lax.scan(body, x, None, length=8)[0]

    def train(x):
        jb.scalar("loss", x)
        return x

    def instrumented():
        return jb.instrument(jax.jit(loop if "stream" in options else train), **options)

    common = instrumented()
    ready = threading.Barrier(3)

    def trial(k):
        step = common if shared else instrumented()
        run, sink = in_memory()
        with run:
            ready.wait()
            for i in range(4):
                step(jnp.float32(100 * k + 8 * i))
            run.flush()
            ready.wait()
        return values(sink)

    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        trials = list(pool.map(trial, range(3)))
    rows = range(32) if "stream" in options else range(0, 32, 8)
    assert trials == [[100 * k + i for i in rows] for k in range(3)]


def test_runs_in_turn_share_one_program():
    """Threads that report to one run, and runs one after the other, share a program; two runs at the same time have two."""

    @functools.partial(jb.instrument, delivery="callback")
    @jax.jit
    def shared(x):
        jb.scalar("loss", x)
        return x

    def call(value):
        shared(jnp.float32(value))
        jax.effects_barrier()

    def trial(value):
        run, sink = in_memory()
        with run:
            call(value)
        return values(sink)

    with compilations("shared") as compiled, concurrent.futures.ThreadPoolExecutor(2) as pool:
        for value in (1, 2):
            run, sink = in_memory()
            with run:
                call(value)
                list(pool.map(call, (value + 10, value + 20)))
            assert sorted(values(sink)) == [value, value + 10, value + 20]
        assert len(compiled) == 1
        run, sink = in_memory()
        with run:
            call(1)
            assert pool.submit(trial, 3).result() == [3]
            call(2)
            assert pool.submit(trial, 4).result() == [4]
        assert values(sink) == [1, 2]
        assert len(compiled) == 2


@pytest.mark.parametrize("main", [True, False])
def test_functions_without_instrument_report_to_the_run_of_their_thread(main):
    """A jitted function that a thread traces reports to the run of that thread, beside a run of the main thread."""
    ready = threading.Barrier(2)
    # XLA runs a program for several devices, and its callbacks, on threads of its own.
    mesh = jax.make_mesh((2,), ("d",), axis_types=(jax.sharding.AxisType.Auto,))
    two_devices = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())

    def trial(k):
        @jax.jit
        def step(x):
            jb.scalar("loss", x)
            return x

        run, sink = in_memory()
        with run:
            ready.wait()
            for i in range(4):
                step(jax.device_put(jnp.float32(10 * k + i), two_devices))
                run.step += 1
            ready.wait()
        return values(sink)

    run, sink = in_memory() if main else (contextlib.nullcontext(), MemorySink())
    with run, concurrent.futures.ThreadPoolExecutor(2) as pool:
        trials = list(pool.map(trial, range(2)))
        if main:
            jax.jit(lambda x: jb.scalar("loss", x))(jnp.float32(7))
    assert trials == [[10 * k + i for i in range(4)] for k in range(2)]
    assert values(sink) == [7] * main


def test_the_run_of_another_thread_leaves_the_main_threads_run_active():
    """A run that a worker opens is active on that worker only, and closing it elsewhere frees the worker."""
    run, sink = in_memory()
    opened, closed, done = threading.Event(), threading.Event(), threading.Event()
    others = []

    def work():
        others.append(in_memory())
        jb.scalar("loss", 1.0)
        opened.set()
        closed.wait(30)
        jb.scalar("loss", 2.0)
        done.set()

    with run:
        thread = threading.Thread(target=work)
        thread.start()
        assert opened.wait(30)
        other, other_sink = others[0]
        assert jb.current_run() is run
        jb.scalar("main", 1.0)
        other.close()
        closed.set()
        assert done.wait(30)
        thread.join()
    assert points(other_sink) == {("", "loss"): [(0, 1)]}
    assert points(sink) == {("", "main"): [(0, 1)], ("", "loss"): [(0, 2)]}


def test_without_a_run_of_the_main_thread_the_last_one_opened_is_active():
    """The run that a worker opened receives the reports of threads without a run of their own."""
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        run, sink = pool.submit(in_memory).result()
        jb.scalar("loss", 1.0)
        assert jb.current_run() is run
        pool.submit(run.close).result()
    assert values(sink) == [1]
    assert jb.current_run() is None


def test_a_thread_that_enters_a_run_reports_to_it():
    """``with run:`` makes a run that another thread opened the active one of this thread."""
    first, first_sink = in_memory()
    second, second_sink = in_memory()

    def work():
        with first:
            jb.scalar("loss", 1.0)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    jb.scalar("loss", 2.0)
    second.close()
    assert (values(first_sink), values(second_sink)) == ([1], [2])
    assert first.closed


# --- Methods of a run in traced code. -------------------------------------------------------------


def two_runs(options=None, jit=jax.jit):
    """Return the points of a step that reports to two runs in many places, called six times."""
    generator, generated = in_memory()
    critic, criticized = in_memory()

    def step(x):
        def body(carry, y):
            generator.scalar("scanned", y, reduce="sum")
            critic.scalar("scanned", 2 * y, reduce="sum")
            return carry, None

        def loss(w):
            generator.scalar("loss", w)
            critic.scalar("loss", w + 10)
            return critic.tap("gradient", w) ** 2

        jax.lax.scan(body, 0.0, x * jnp.arange(3.0))
        jax.vmap(lambda y: generator.scalar("mapped", y))(x + jnp.arange(3.0))
        jax.lax.cond(
            x > 2, lambda: generator.scalar("branch", x), lambda: critic.scalar("branch", x)
        )
        generator.scalar("window", x, every=3)
        critic.histogram("values", x * jnp.ones(4))
        generator.watch("watched", {"w": x}, what="norm")
        jb.scalar("plain", x)
        return jax.grad(loss)(x)

    wrapped = jit(step)
    if options is not None:
        wrapped = jb.instrument(wrapped, **options)
    with generator, critic:
        for i in range(6):
            wrapped(jnp.float32(i))
    assert [r.step for r in criticized.records if r.kind.value == "histogram"]
    assert not [r for r in generated.records if r.kind.value == "histogram"]
    return points(generated), points(criticized)


@pytest.mark.parametrize(
    "options", [{}, {"delivery": "callback"}, {"step": lambda x: x.astype(jnp.int32)}]
)
def test_methods_of_two_runs_under_transformations(options):
    """Methods of runs carry their run through grad, vmap, scan and cond, whatever the delivery."""
    generated, criticized = two_runs(options)
    assert generated == {
        ("", "scanned"): [(i, 3 * i) for i in range(6)],
        ("", "loss"): [(i, i) for i in range(6)],
        ("", "mapped"): [(i, i + 1) for i in range(6)],
        ("", "branch"): [(i, i) for i in range(3, 6)],
        ("", "window"): [(0, 0), (3, 2), (5, 4.5)],
        ("", "watched/norm"): [(i, i) for i in range(6)],
    }
    assert criticized == {
        ("", "scanned"): [(i, 6 * i) for i in range(6)],
        ("", "loss"): [(i, i + 10) for i in range(6)],
        ("", "gradient"): [(i, 2 * i) for i in range(6)],
        ("", "branch"): [(i, i) for i in range(3)],
        ("", "plain"): [(i, i) for i in range(6)],
    }


@pytest.mark.parametrize("jit", [jax.jit, lambda f: f])
def test_methods_of_two_runs_without_instrument(jit):
    """Without ``instrument``, each report reaches the run that it names, at the last step of that run."""
    generated, criticized = two_runs(None, jit)
    assert set(generated) == {
        ("", tag)
        for tag in (
            "scanned",
            "loss",
            "mapped",
            "branch",
            "window",
            "watched/norm",
        )
    }
    assert {tag for _, tag in criticized} == {"scanned", "loss", "gradient", "branch", "plain"}
    assert generated["", "loss"] == [(0, 2.5)]
    assert criticized["", "loss"] == [(0, 12.5)]


def test_a_report_to_a_closed_run_is_counted_as_lost():
    """A compiled function whose run is closed continues; the run of its calls raises what is lost, and why."""
    generator, generated = in_memory()
    critic, criticized = in_memory()

    @jb.instrument
    @jax.jit
    def step(x):
        generator.scalar("loss", x)
        jb.scalar("loss", x)
        return x

    step(1.0)
    generator.close()
    assert step(2.0) == 2
    with pytest.raises(jb.RunError, match="1 report was lost.*\n.*they name run.*which is closed"):
        critic.close()
    assert values(generated) == [1]
    assert values(criticized) == [1, 2]


def test_compiled_programs_do_not_keep_a_run_alive():
    """A program that names a run refers to it by a number."""
    opened = [in_memory()[0]]

    @jb.instrument
    @jax.jit
    def step(x):
        run = opened[0]
        run.scalar("loss", x)
        run.child("eval").scalar("loss", x)
        return x

    other, _ = in_memory()
    step(1.0)
    opened[0].close()
    run = weakref.ref(opened.pop())
    assert step(2.0) == 2
    gc.collect()
    assert run() is None
    with pytest.raises(jb.RunError, match="which is closed"):
        other.close()


@pytest.mark.parametrize("instrument", [jb.instrument, lambda step: step])
@pytest.mark.filterwarnings("ignore:.*no run is open")
def test_a_step_that_names_a_run_works_after_the_run(instrument):
    """Tracing a step after its run was closed does not raise; in plain Python the closed run does."""
    run, _ = in_memory()

    @instrument
    @jax.jit
    def step(x):
        run.scalar("loss", x)
        run.child("eval").scalar("loss", x)
        with run.child("eval"):
            jb.scalar("loss", x)
        return x

    step(jnp.float32(1))
    run.close()
    assert step(jnp.float32(2)) == 2
    assert step(1) == 1  # an integer: JAX traces it anew
    with pytest.raises(jb.RunError, match="is closed"):
        run.scalar("loss", 1.0)


def test_closing_a_run_writes_its_incomplete_window():
    """The values of a window that a step of another run has accumulated are written when the run closes."""
    generator, generated = in_memory()
    critic, _ = in_memory()

    @jb.instrument
    @jax.jit
    def step(x):
        generator.scalar("loss", x, every=10)
        return x

    for i in range(4):
        step(float(i))
    generator.close()
    critic.close()
    assert points(generated) == {("", "loss"): [(0, 0), (3, 2)]}


# --- Runs below a run. ----------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"delivery": "callback"}, None])
def test_a_block_of_a_child(options):
    """In the block of a child, every report of any function goes to it, and the steps are the run's."""
    run, sink = in_memory()

    def evaluate(x):
        jb.scalar("loss", x + 10)
        return x

    def train(x):
        jb.scalar("loss", x)
        return x

    train = jb.instrument(jax.jit(train))
    evaluate = jax.jit(evaluate)
    if options is not None:
        evaluate = jb.instrument(evaluate, advance=False, **options)
    with run:
        for i in range(4):
            train(float(i))
            with run.child("eval") as evaluation:
                active = jb.current_run()
                assert isinstance(active, jb.ChildRun)
                assert (active.name, active.step, evaluation.step) == ("eval", i + 1, i + 1)
                evaluate(float(i))
                evaluate(float(i + 2))
                jb.scalar("host", i)
                jb.text("note", f"{i}")
            assert jb.current_run() is run
    assert points(sink) == {
        ("", "loss"): [(i, i) for i in range(4)],
        ("eval", "loss"): [(i, i + 11) for i in range(4)],
        ("eval", "host"): [(i, i) for i in range(4)],
    }
    assert {r.run for r in sink.records if r.tag == "note"} == {"eval"}


def test_blocks_and_methods_of_children_in_traced_code():
    """Blocks of children nest, hold while JAX traces, and reach functions that are jitted inside of them."""
    run, sink = in_memory()

    @jax.jit
    def loss(x):
        jb.scalar("loss", x)
        return x

    @jb.instrument
    @jax.jit
    def step(x):
        loss(x)
        with run.child("eval") as evaluation:
            loss(x + 1)
            with evaluation.child("ood"):
                loss(x + 2)
            loss(x + 3)
            run.child("test").scalar("loss", x + 4)
        jb.scalar("after", x)
        return x

    with run:
        for i in range(3):
            step(float(i))
    assert points(sink) == {
        ("", "loss"): [(i, i) for i in range(3)],
        ("eval", "loss"): [(i, i + 2) for i in range(3)],
        ("eval/ood", "loss"): [(i, i + 2) for i in range(3)],
        ("test", "loss"): [(i, i + 4) for i in range(3)],
        ("", "after"): [(i, i) for i in range(3)],
    }


@pytest.mark.parametrize("kind", ["scalar", "watch"])
def test_seed_runs_below_a_child(kind):
    """The lanes of a report to a child are seed runs below the child, with their summaries."""
    run, sink = in_memory()

    @jb.instrument(runs="vmap")
    @jax.jit
    @jax.vmap
    def step(x):
        jb.scalar("loss", x)
        child = run.child("eval")
        child.scalar("loss", x + 10) if kind == "scalar" else child.watch("w", x + 10, what="norm")
        return x

    with run:
        step(jnp.array([1.0, 3.0]))
        with run.child("test"):
            step(jnp.array([1.0, 3.0]))
    lanes = {"seed_0": 1, "seed_1": 3, "mean": 2, "min": 1, "max": 3}
    tag = "loss" if kind == "scalar" else "w/norm"
    found = points(sink)
    assert {r: v[0][1] for (r, t), v in found.items() if t == tag and r.startswith("eval/")} == {
        f"eval/{name}": value + 10 for name, value in lanes.items()
    }
    assert {r: v for (r, _), v in found.items() if r.startswith("test/")} == {
        f"test/{name}": [(1, value)] for name, value in lanes.items()
    }


def test_windows_and_streams_of_a_child():
    """Windows and streamed loops report to the child of the call, and to the one they name."""
    run, sink = in_memory()

    @jb.instrument
    @jax.jit
    def step(x):
        jb.scalar("window", x, every=2)
        return x

    @jb.instrument(stream=2)
    @jax.jit
    def train(x):
        def body(x, _):
            jb.scalar("loss", x)
            run.child("named").scalar("loss", x + 10)
            return x + 1, None

        return jax.lax.scan(body, x, None, length=3)[0]

    with run:
        for i in range(2):
            step(float(i))
        with run.child("eval"):
            for i in range(2):
                step(float(i + 5))
            train(0.0)
    assert points(sink) == {
        ("", "window"): [(0, 0), (2, 1)],
        ("eval", "window"): [(2, 5), (4, 6)],
        ("eval", "loss"): [(4, 0), (5, 1), (6, 2)],
        ("named", "loss"): [(4, 10), (5, 11), (6, 12)],
    }


def test_nonfinite_values_of_children_are_found_by_run(caplog):
    """The message about the first value that is not finite names the child."""
    run, _ = in_memory()
    with run:
        run.child("eval").scalar("loss", float("nan"))
    assert "loss of eval is nan" in caplog.text


def test_blocks_of_children_in_threads_and_tasks():
    """The block of a child holds in its own thread or task only."""
    run, sink = in_memory()

    async def evaluate(name):
        with run.child(name):
            await asyncio.sleep(0)
            jb.scalar("loss", 1.0)
            await asyncio.sleep(0)

    async def main():
        tasks = [asyncio.create_task(evaluate(name)) for name in ("a", "b")]
        await asyncio.sleep(0)
        jb.scalar("loss", 2.0)
        await asyncio.gather(*tasks)

    with run:
        asyncio.run(main())
        with run.child("c"):
            thread = threading.Thread(target=lambda: jb.scalar("thread", 3.0))
            thread.start()
            thread.join()
    assert points(sink) == {
        ("a", "loss"): [(0, 1)],
        ("b", "loss"): [(0, 1)],
        ("", "loss"): [(0, 2)],
        ("", "thread"): [(0, 3)],
    }


@pytest.mark.parametrize("traced", [True, False])
def test_blocks_of_children_in_generators(traced):
    """The block of a child in a generator holds while its body runs, and blocks of several generators stay separate."""
    run, sink = in_memory()
    child = run.child("shared")

    def batches(name):
        with run.child(name) if name else child:
            jb.scalar("read", 1.0)
            yield
            jb.scalar("read", 2.0)
            yield

    def loop(x):
        for _ in zip(*map(batches, ("a", "b", "", "")), strict=True):
            jb.scalar("outside", x)
        jb.scalar("after", x)
        return x

    with run:
        (jb.instrument(jax.jit(loop)) if traced else loop)(5.0)
        jb.scalar("end", 1.0)
    assert points(sink) == {
        ("a", "read"): [(0, 1.5)],
        ("b", "read"): [(0, 1.5)],
        ("shared", "read"): [(0, 1.5)],
        ("", "outside"): [(0, 5)],
        ("", "after"): [(0, 5)],
        ("", "end"): [(0, 1)],
    }


@pytest.mark.parametrize("end", ["close", "drop", "exhaust"])
def test_the_block_of_a_generator_that_ends_in_another_context(end):
    """The caller's run is active after a generator was closed elsewhere, dropped, or never ended."""
    run, sink = in_memory()

    def batches():
        with run.child("eval"):
            yield

    with run:
        reader = batches()
        next(reader)
        assert jb.current_run() is run
        jb.instrument(jax.jit(lambda x: jb.scalar("loss", x)))(1.0)
        if end == "drop":
            del reader
        else:
            finish = reader.close if end == "close" else lambda: list(reader)
            contextvars.copy_context().run(finish)
        assert jb.current_run() is run
        with run.child("test"):
            jb.scalar("loss", 2.0)
        jb.scalar("after", 3.0)
    assert points(sink) == {
        ("", "loss"): [(0, 1)],
        ("test", "loss"): [(0, 2)],
        ("", "after"): [(0, 3)],
    }


def test_children_of_a_closed_run(tmp_path):
    """A child closes with its run, and using it then raises."""
    with jb.Run(tmp_path) as run:
        child = run.child("eval")
        assert child.logdir == tmp_path / "eval"
        child.step = 7
        assert run.step == 7
        child.flush()
    assert child.closed
    assert "eval" in repr(child)
    for use in (lambda: child.scalar("loss", 1.0), child.__enter__, lambda: run.child("eval")):
        with pytest.raises(jb.RunError, match="is closed"):
            use()


@pytest.mark.parametrize("name", ["", "/eval", "a//b", "..", "a/../b", "a\\b", 3])
def test_the_name_of_a_child_is_a_relative_path(name):
    """Other names raise."""
    run, _ = in_memory()
    with run, pytest.raises(jb.UsageError, match="not a relative path|expected a str"):
        run.child(name)


def test_the_name_of_a_child_is_utf8():
    """A name that no event file can hold raises at the call."""
    run, _ = in_memory()
    with run, pytest.raises(jb.UsageError, match="UTF-8"):
        run.child(b"caf\xe9".decode(errors="surrogateescape"))


def test_a_tracer_in_the_name_of_a_child():
    """A name that was formatted from a traced value is refused."""
    run, sink = in_memory()

    @jb.instrument
    @jax.jit
    def step(x):
        jax.lax.fori_loop(0, 3, lambda i, x: (run.child(f"layer_{i}").scalar("x", x), x)[1], x)

    with run, pytest.raises(jb.UsageError, match="contains a traced value"):
        step(1.0)
    assert sink.records == []


@pytest.mark.parametrize("name", ["mean", "seed_3", "eval/max"])
def test_the_names_of_seed_runs_are_reserved(name):
    """A child has none of the names of seed runs, which its values would mix with."""
    run, _ = in_memory()
    with run, pytest.raises(jb.UsageError, match="seed runs"):
        run.child(name)


@pytest.mark.parametrize("duplicate", [pickle.dumps, copy.copy, copy.deepcopy])
@pytest.mark.parametrize("child", [False, True])
def test_a_run_cannot_be_pickled_or_copied(duplicate, child):
    """Pickling or copying a run raises an error of jaxboard's with the advice."""
    run, _ = in_memory()
    with run, pytest.raises(jb.JaxboardError, match=r"cannot be pickled.*Pass its log directory"):
        duplicate(
            {"run": run.child("eval") if child else run} if duplicate is not copy.copy else run
        )


def test_a_method_of_a_run_cannot_be_pickled():
    """A method of a run, passed to another process, raises the same error."""
    run, _ = in_memory()
    with run, pytest.raises(jb.UsageError, match="cannot be pickled"):
        pickle.dumps(run.scalar)

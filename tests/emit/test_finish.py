"""``finish=``: a function of the reduced value, which the run's own thread calls."""

import functools
import math
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxboard as jb
from jaxboard.sinks import MemorySink
from jaxboard.testing import capture


def points(records):
    return [(record.tag, record.step, record.run, float(record.value)) for record in records]


@pytest.mark.parametrize("count", [3, 20])  # 20 make a series
@pytest.mark.parametrize("convert", [float, jnp.float32])
def test_a_plain_loop(convert, count):
    """Each number is one point, the function's result, in float64."""
    with capture() as records:
        for step in range(count):
            jb.scalar("exp", convert(step), step=step, finish="exp")
            jb.scalar("own", convert(step), step=step, finish=lambda value: 1 + value / 3)
    by_tag = {tag: [r.value for r in records if r.tag == tag] for tag in ("exp", "own")}
    steps = np.arange(float(count))
    assert by_tag["exp"] == np.exp(steps).tolist()
    assert by_tag["own"] == (1 + steps / 3).tolist()


def test_the_function_gets_what_was_merged():
    """Steps of a window, batches of an evaluation and lanes are merged first; the lanes of a stack are not."""

    @jb.instrument
    @jax.jit
    def step(x):
        # Each of the two programs of a window defines this function anew.
        jb.scalar("window", x, every=4, finish=lambda total: total * 10, reduce="sum")
        jax.vmap(lambda lane: jb.scalar("rms", lane**2, finish="sqrt"))(jnp.stack([x, -x]))
        jax.vmap(lambda lane: jb.scalar("stack", lane, finish="exp", reduce="stack"))(
            jnp.stack([x, -x])
        )

    @jb.instrument(advance=False)
    @jax.jit
    def evaluate(x):
        jb.scalar("perplexity", x, weight=x, finish="exp")

    with capture() as records:
        for x in range(6):
            step(float(x))
        evaluate(1.0)
        evaluate(3.0)
    found = points(records)
    assert [p for p in found if p[0] == "window"] == [
        ("window", 0, "", 0.0),
        ("window", 4, "", 100.0),
        ("window", 5, "", 50.0),
    ]
    assert [p[3] for p in found if p[0] == "rms"] == [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]
    assert ("stack/lane_01", 5, "", math.exp(-5.0)) in found
    assert [p for p in found if p[0] == "perplexity"] == [("perplexity", 5, "", math.exp(2.5))]


@pytest.mark.parametrize("own_step", [None, 7])
def test_seed_runs(own_step):
    """Each lane has its own result, and the summaries are those of results."""

    @jb.instrument
    @jax.jit
    def step(x):
        def lane(x):
            jb.scalar("x", x, runs="vmap", step=own_step, finish=np.square)

        jax.vmap(lane)(x)

    with capture() as records:
        step(jnp.array([1.0, 3.0]))
    assert {(run, value) for _, _, run, value in points(records)} == {
        ("seed_0", 1.0),
        ("seed_1", 9.0),
        ("mean", 5.0),
        ("min", 1.0),
        ("max", 9.0),
    }


def fails_at_three(value):
    if value == 3:
        raise ValueError("no logarithm")
    return value


def _series():
    for i in range(20):
        jb.scalar("x", i, step=i, finish=fails_at_three)
        jb.scalar("y", i, step=i)


def _calls():
    @jb.instrument
    @jax.jit
    def step(x):
        jb.scalar("x", x, finish=fails_at_three)
        jb.scalar("y", x)

    for i in range(20):
        step(float(i))


def _windows():
    for i in range(20):
        jb.scalar("x", i, step=4 * i, every=4, finish=fails_at_three)
        jb.scalar("y", i, step=i)


def _stack():
    @jb.instrument
    @jax.jit
    def step(x):
        jax.vmap(lambda x: jb.scalar("x", x, reduce="stack", finish=fails_at_three))(x)
        jb.scalar("y", x[0])

    for i in range(19):
        step(jnp.array([0.0, 3.0 + i]))


@pytest.mark.parametrize("program", [_series, _calls, _windows, _stack])
def test_a_function_that_raises(program, caplog):
    """One point is lost, with an error that names its tag; all others are written."""
    sink = MemorySink()
    with jb.Run(None, sinks=[sink]) as run:
        program()
        with pytest.raises(jb.RunError, match="1 report was lost") as error:
            run.flush()
    assert "report 'x" in str(error.value)
    assert "raised ValueError" in str(error.value)
    assert str(error.value.__cause__) == "no logarithm"
    assert "no logarithm" in caplog.text
    counts = [sum(r.tag.startswith(tag) for r in sink.records) for tag in "xy"]
    assert counts == ([37, 19] if program is _stack else [19, 20])


@pytest.mark.parametrize("result", [None, "text", np.ones(2), 1j])
def test_a_result_that_is_not_a_number(result):
    """It loses the point like an exception."""
    with pytest.raises(jb.RunError, match="raised TypeError"), capture():
        jb.scalar("x", 1.0, finish=lambda _: result)


def test_values_that_do_not_count():
    """The function is not called where ``where=`` left out all values."""

    @jb.instrument
    @jax.jit
    def step(x):
        jb.scalar("x", x, where=x > 0, finish=math.log)

    with capture() as records:
        for x in (1.0, 0.0, math.e):
            step(x)
    assert [(r.step, round(float(r.value), 6)) for r in records] == [(0, 0.0), (2, 1.0)]


def test_it_runs_on_the_thread_of_the_run():
    """The training loop does not wait for the function."""
    threads = set()
    with capture():
        jb.scalar("x", 1.0, finish=lambda x: threads.add(threading.current_thread()) or x)
    assert len(threads) == 1
    assert threading.current_thread() not in threads


def test_functions_that_are_the_same_report():
    """Values merge if their functions have the same code and refer to the same objects."""

    def scaled(factor):
        return lambda value: value * factor

    with capture(step=0) as records:
        for factor in (2, 2, 3):
            jb.scalar("closure", 1.0, reduce="sum", finish=scaled(factor))
            jb.scalar("partial", 1.0, reduce="sum", finish=functools.partial(np.multiply, factor))
    assert sorted(points(records)) == [
        ("closure", 0, "", 3.0),
        ("closure", 0, "", 4.0),
        ("partial", 0, "", 3.0),
        ("partial", 0, "", 4.0),
    ]


@pytest.mark.parametrize("finish", ["exp", math.exp], ids=["name", "function"])
def test_a_state_of_a_run(finish):
    """An incomplete window continues in the run that follows, also with a function of the user."""
    sink = MemorySink()
    run = jb.Run(None, sinks=[])
    with run:
        jb.scalar("x", 1.0, step=1, every=4, finish=finish)
        state = run.state()
    with jb.Run(None, sinks=[sink], state=state):
        jb.scalar("x", 3.0, step=4, every=4, finish=finish)
    assert [float(r.value) for r in sink.records] == [math.exp(2.0)]


def test_errors():
    """Anything else is an error at the call."""
    with pytest.raises(jb.ReportError, match="expected finish= to be one of 'exp', 'sqrt', or a"):
        jb.scalar("x", 1.0, finish="log")  # pyright: ignore[reportArgumentType]

"""instrument(stream=N): a loop that is the whole training run reports while it runs."""

# pyright: reportAttributeAccessIssue=false, reportFunctionMemberAccess=false

from __future__ import annotations

import functools
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.sharding import NamedSharding, PartitionSpec

import jaxboard as jb
from jaxboard.records import Kind
from jaxboard.sinks import MemorySink
from jaxboard.testing import capture


def update(w, x):
    """One step of descent, with reports from inside the loss."""

    def loss(w):
        value = jnp.mean((w - x) ** 2)
        jb.scalar("loss", value)
        jb.scalar("window", value, every=4, reduce="sum")
        jb.histogram("w", w, every=5)
        return value

    value, gradient = jax.value_and_grad(loss)(w)
    return w - 0.1 * gradient, value


XS = np.sin(np.arange(11 * 4, dtype=np.float32)).reshape(11, 4)
W = np.linspace(-1, 1, 4, dtype=np.float32)


def scanned(w, xs):
    w, losses = lax.scan(update, w, xs)
    jb.scalar("final", losses[-1])
    return w, losses


def reversed_(w, xs):
    return lax.scan(update, w, xs, reverse=True)


def counted(w, xs):
    def body(i, state):
        w, losses = state
        w, loss = update(w, xs[i])
        return w, losses.at[i].set(loss)

    return lax.fori_loop(0, xs.shape[0], body, (w, jnp.zeros(xs.shape[0])))


def until(w, xs):
    def body(state):
        i, w, losses = state
        w, loss = update(w, xs[i])
        return i + 1, w, losses.at[i].set(loss)

    def test(state):
        return state[0] < xs.shape[0]

    _, w, losses = lax.while_loop(test, body, (0, w, jnp.zeros(xs.shape[0])))
    return w, losses


def nested(w, xs):
    """The loop stands in a jitted function, and has a loop inside."""

    def step(w, x):
        def inner(w, _):
            return update(w, x)

        w, losses = lax.scan(inner, w, length=3)
        return w, losses[-1]

    return jax.jit(lambda w, xs: lax.scan(step, w, xs))(w, xs)


def reference(loop, first):
    """What the iterations report, by a loop in Python that returns it by hand."""
    points = {}
    w, value = jnp.array(W), jnp.float32(0)
    rows = XS[::-1] if loop is reversed_ else XS
    window = 0.0
    for step, x in enumerate(rows, first):
        values = []
        for _ in range(3 if loop is nested else 1):
            if step % 5 == 0:
                points["w", step] = points.get(("w", step), 0) + 4
            value, gradient = jax.value_and_grad(lambda w, x=x: jnp.mean((w - x) ** 2))(w)
            w = w - 0.1 * gradient
            values.append(float(value))
        points["loss", step] = float(np.mean(values))
        window += sum(values)
        if step % 4 == 0 or step == first + len(rows) - 1:
            points["window", step] = window
            window = 0.0
    if loop is scanned:
        points["final", first + len(rows) - 1] = float(value)
    return points


def points_of(records):
    found = {}
    for record in records:
        assert (record.tag, record.step) not in found
        value = record.value
        if record.kind is Kind.HISTOGRAM:
            value = value.counts.sum()
        found[record.tag, record.step] = float(value)
    return found


@pytest.mark.parametrize("loop", [scanned, reversed_, counted, until, nested])
@pytest.mark.parametrize("size", [1, 4, 11, 100])
@pytest.mark.parametrize("first", [0, 7])
def test_each_iteration_is_a_step(loop, size, first):
    """Results are the bare loop's to the bit, and the points those of a loop in Python."""
    expected = jax.jit(loop)
    streamed = jb.instrument(jax.jit(loop), stream=size)
    with capture(step=first) as records:
        out = streamed(W, XS)
        run = jb.current_run()
        assert run is not None
        jax.block_until_ready(out)
        jax.effects_barrier()
        assert run.step == first + len(XS)
    with jb.testing.capture():
        for one, other in zip(out, expected(W, XS), strict=True):
            np.testing.assert_array_equal(one, other)
    found, wanted = points_of(records), reference(loop, first)
    assert set(found) == set(wanted)
    for key, value in wanted.items():
        assert found[key] == pytest.approx(value, rel=1e-5), key


def test_a_second_call_goes_on():
    """Calls one after the other are steps one after the other, without a trace more."""
    traces = []

    def loop(w, xs):
        traces.append(1)
        return lax.scan(update, w, xs)

    streamed = jb.instrument(jax.jit(loop), stream=4)
    with capture() as records:
        w, _ = streamed(W, XS)
        streamed(w, XS)
    assert sorted(r.step for r in records if r.tag == "loss") == list(range(22))
    assert len(traces) == 1


def test_points_arrive_while_the_loop_runs():
    """The first chunk is there before the last iteration is run."""
    arrived = threading.Event()
    seen = []

    class Announcing(MemorySink):
        def write(self, batch):
            arrived.set()

    def body(i, x):
        jb.scalar("x", x)

        # The loop can't end before the sink has had something.
        def wait(x):
            seen.append(arrived.wait(60))
            return x

        held = jax.pure_callback(wait, jax.ShapeDtypeStruct((), jnp.float32), x)
        return jnp.where(i == 8, held, x + 1)

    @functools.partial(jb.instrument, stream=4)
    @jax.jit
    def loop(x):
        return lax.fori_loop(0, 9, lambda i, x: lax.cond(i == 8, body, plain, i, x), x)

    def plain(i, x):
        jb.scalar("x", x)
        return x + 1

    with jb.Run(None, sinks=[Announcing()], flush_secs=0.02):
        jax.block_until_ready(loop(jnp.float32(0)))
    assert seen == [True]


@pytest.fixture
def rows():
    """The sharding of an array whose rows lie on eight devices."""
    mesh = jax.make_mesh((8,), ("d",), axis_types=(jax.sharding.AxisType.Auto,))
    return NamedSharding(mesh, PartitionSpec("d"))


def test_on_a_mesh(rows):
    """Over eight devices the points are whole, and results keep their shardings."""

    @functools.partial(jb.instrument, stream=3)
    @jax.jit
    def loop(x):
        def body(x, _):
            jb.scalar("sum", x.sum())
            return x + 1, None

        return lax.scan(body, x, length=8)[0]

    with capture() as records:
        y = loop(jax.device_put(jnp.zeros(16), rows))
        run = jb.current_run()
        assert run is not None
        assert run.step == 8
    assert y.sharding.is_equivalent_to(rows, 1)
    assert [(r.step, float(r.value)) for r in records] == [(i, 16.0 * i) for i in range(8)]


def test_a_while_loop_on_a_mesh(rows):
    """The next call goes on where the loop ended, though only the device knew where that would be."""

    @functools.partial(jb.instrument, stream=4)
    @jax.jit
    def loop(x):
        def body(state):
            jb.scalar("mean", state[1].mean())
            return state[0] + 1, state[1] + 1

        return lax.while_loop(lambda state: state[0] < 6, body, (0, x))[1]

    with capture() as records:
        x = loop(jax.device_put(jnp.zeros(16), rows))
        loop(x)
    assert [(r.step, float(r.value)) for r in records] == [(i, float(i)) for i in range(12)]


def test_the_count_never_goes_back():
    """Chunks that arrive late do not undo steps that were taken since."""
    heavy = jax.jit(lambda x: lax.fori_loop(0, 200, lambda _, x: jnp.sin(x @ x), x))

    @functools.partial(jb.instrument, stream=5)
    @jax.jit
    def loop(x):
        def body(x, i):
            jb.scalar("i", i)
            return jnp.sin(x @ x), None

        return lax.scan(body, x, jnp.arange(20))[0]

    after = jb.instrument(jax.jit(lambda x: jb.scalar("after", x)))
    with capture() as records:
        loop(heavy(jnp.ones((100, 100))))
        for x in range(5):
            after(float(x))
    assert [(r.step, float(r.value)) for r in records if r.tag == "after"] == [
        (20 + x, float(x)) for x in range(5)
    ]
    assert [r.step for r in records if r.tag == "i"] == list(range(20))


def test_progress(capsys):
    """The bar counts the iterations of the loop, to its end."""

    @functools.partial(jb.instrument, stream=4, progress=True, name="digits")
    @jax.jit
    def loop(w, xs):
        return lax.scan(update, w, xs)

    with capture():
        jax.block_until_ready(loop(W, XS))
        jax.effects_barrier()
    shown = capsys.readouterr().err
    assert "digits: 100%" in shown
    assert "11/11" in shown


def test_no_loop_is_said():
    """Where there is nothing to stream, the reports arrive all the same, and a warning says so."""
    f = jb.instrument(jax.jit(lambda x: jb.scalar("x", x)), stream=4, name="no loop here")
    with (
        pytest.warns(
            jb.JaxboardWarning, match="no loop here: instrument.stream=.... found no loop"
        ),
        capture() as records,
    ):
        f(1.0)
    assert [(r.tag, r.step, float(r.value)) for r in records] == [("x", 0, 1.0)]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"stream": 0}, "instrument(stream=0): expected a positive integer, in iterations."),
        (
            {"progress": True},
            "instrument(progress=True): the bar is that of a loop; give stream= too.",
        ),
        (
            {"stream": 4, "advance": False},
            (
                "instrument(stream=...): each iteration is a step of the run and leaves by callback, so "
                "step=, delivery= and advance= have nothing to say."
            ),
        ),
    ],
)
def test_options(options, message):
    """Options that don't go together are refused where the function is decorated."""
    with pytest.raises(jb.ReportError) as refused:
        jb.instrument(**options)
    assert str(refused.value) == message


def test_plain_functions_are_refused():
    """Without jit there is no loop of JAX's to stream."""
    message = r"instrument\(stream=...\) takes a jitted function, and 'plain' is none: put"

    def plain(x):
        return x

    with pytest.raises(jb.ReportError, match=message):
        jb.instrument(plain, stream=2)


def test_inside_of_a_trace():
    """Under somebody's jit the loop is not streamed, which is said."""

    @functools.partial(jb.instrument, stream=2, name="inside")
    @jax.jit
    def loop(x):
        return lax.scan(lambda x, _: (jb.scalar("x", x), (x + 1, None))[1], x, length=4)[0]

    with capture() as records, pytest.warns(jb.JaxboardWarning, match="inside: .* not streamed"):
        assert jax.jit(loop)(jnp.float32(0)) == 4
    assert [(r.step, float(r.value)) for r in records] == [(0, 1.5)]

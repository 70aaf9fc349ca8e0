"""``instrument(stream=N)``: a loop that is a whole training run reports while it runs."""

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
    """Take one step of gradient descent, with reports from inside the loss."""

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
    """Run the loop inside a jitted function; its body has another loop."""

    def step(w, x):
        def inner(w, _):
            return update(w, x)

        w, losses = lax.scan(inner, w, length=3)
        return w, losses[-1]

    return jax.jit(lambda w, xs: lax.scan(step, w, xs))(w, xs)


@functools.cache
def reference(loop, first):
    """Return the points of the iterations, computed by a loop in Python without jaxboard."""
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
@pytest.mark.parametrize(("size", "first"), [(1, 0), (4, 7), (11, 0), (11, 7), (100, 0)])
def test_each_iteration_is_a_step(loop, size, first):
    """Results are bit-identical to the bare loop's, and the points are those of a loop in Python."""
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


def test_a_second_call_continues_the_count():
    """A second call continues the steps of the first, and traces nothing."""
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


def test_a_while_loop_that_runs_again():
    """The points of a while loop that runs again come after those of what ran in between."""

    def report_and_add(i, x):
        jb.scalar("x", x)
        return x + 1

    until_n = jb.instrument(stream=2)(jax.jit(lambda x, n: lax.fori_loop(0, n, report_and_add, x)))
    three = jb.instrument(stream=2)(jax.jit(lambda x: lax.fori_loop(0, 3, report_and_add, x)))
    sink = MemorySink()
    with jb.Run(None, sinks=[sink], flush_secs=3600):
        x = until_n(0.0, 4)
        x = three(x)
        until_n(x, 3)
    found = [(record.step, float(record.value)) for record in sink.records if record.tag == "x"]
    assert found == [(step, step) for step in range(10)]
    times = [record.wall_time for record in sink.records if record.tag == "x"]
    assert times == sorted(times)


def test_points_arrive_while_the_loop_runs():
    """The first chunk reaches the sink before the last iteration runs."""
    arrived = threading.Event()
    seen = []

    class Announcing(MemorySink):
        def write(self, batch):
            arrived.set()

    def body(i, x):
        jb.scalar("x", x)

        # The loop cannot end before the sink has received a batch.
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
    """Return a sharding of rows over eight devices."""
    mesh = jax.make_mesh((8,), ("d",), axis_types=(jax.sharding.AxisType.Auto,))
    return NamedSharding(mesh, PartitionSpec("d"))


def test_on_a_mesh(rows):
    """Over eight devices the points hold the whole arrays, and results keep their shardings."""

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
    """The next call continues at the step at which a while_loop ended."""

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


def test_the_count_never_decreases():
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
    """The progress bar counts the iterations of the loop up to its end."""

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


def test_no_loop_to_stream():
    """A function without a loop to stream still reports, with a warning."""
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
            "instrument(progress=True): the progress bar is that of a streamed loop; pass stream= too.",
        ),
        (
            {"stream": 4, "advance": False},
            (
                "instrument(stream=...): delivery= and advance= cannot be combined with stream=, "
                "where each iteration is a step of the run and leaves by callback."
            ),
        ),
    ],
)
def test_options(options, message):
    """Options that cannot be combined raise when the function is decorated."""
    with pytest.raises(jb.UsageError) as raised:
        jb.instrument(**options)
    assert str(raised.value) == message


def test_plain_functions_raise():
    """A function that is not jitted has no loop to stream, which raises."""
    message = r"instrument\(stream=...\) needs a jitted function, and 'plain' is not jitted. Put"

    def plain(x):
        return x

    with pytest.raises(jb.UsageError, match=message):
        jb.instrument(plain, stream=2)


def test_inside_a_trace():
    """Inside another jitted function the loop is not streamed, which is warned of."""

    @functools.partial(jb.instrument, stream=2, name="inside")
    @jax.jit
    def loop(x):
        return lax.scan(lambda x, _: (jb.scalar("x", x), (x + 1, None))[1], x, length=4)[0]

    with capture() as records, pytest.warns(jb.JaxboardWarning, match="inside: .* not streamed"):
        assert jax.jit(loop)(jnp.float32(0)) == 4
    assert [(r.step, float(r.value)) for r in records] == [(0, 1.5)]

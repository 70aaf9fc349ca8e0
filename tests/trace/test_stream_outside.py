"""Reports around a streamed loop: each belongs to a step, and reaches the sinks in the order of the steps."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from event_files import scalar_points
from jax import lax
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import jaxboard as jb
from jaxboard.sinks import MemorySink, records
from jaxboard.testing import capture


def halve(w, _=None):
    w = w * 0.5
    jb.scalar("loss", w)
    return w, None


def scanned(w, length=8):
    return lax.scan(halve, w, None, length)[0]


def until(w, least=2.0):
    return lax.while_loop(lambda w: w > least, lambda w: halve(w)[0], w)


def nested(w):
    """Run the loop, and the report before it, in jitted functions."""
    jax.jit(lambda w: jb.scalar("loss", w))(w)
    return jax.jit(scanned)(w)


def around(loop, *, before=True):
    def train(w):
        if before:
            jb.scalar("loss", w)
            jb.scalar("start", w)
        w = loop(w)
        jb.scalar("loss", w / 2)
        jb.scalar("final", w)
        return w

    return train


class OrderSink(MemorySink):
    """Keeps the points of scalars in the order in which they arrive."""

    def __init__(self):
        super().__init__()
        self.points = []

    def write(self, batch):
        super().write(batch)
        self.points += [(r.tag, r.step, float(r.value)) for r in records(batch)]


def of_tag(points, tag):
    return [point[1:] for point in points if point[0] == tag]


@pytest.mark.parametrize("flush_secs", [0.001, 60])
@pytest.mark.parametrize("size", [1, 3, 8, 100])
@pytest.mark.parametrize("loop", [scanned, until])
@pytest.mark.parametrize("first", [0, 5])
def test_before_and_after(loop, size, first, flush_secs):
    """The value before the loop comes first, at the first step; the one after it comes last, at the last step."""
    train = jb.instrument(jax.jit(around(loop)), stream=size)
    sink = OrderSink()
    with jb.Run(None, sinks=[sink], flush_secs=flush_secs, step=first, telemetry=False):
        w = jax.block_until_ready(train(jnp.float32(512)))
    expected = [512 * 0.5**n for n in range(9)]
    steps = [first, *range(first, first + 8)]
    assert float(w) == 2
    assert of_tag(sink.points, "loss") == [*zip(steps, expected, strict=True), (first + 7, 1)]
    assert of_tag(sink.points, "start") == [(first, 512)]
    assert of_tag(sink.points, "final") == [(first + 7, 2)]


def test_every_call():
    """A second call continues the steps, and its value before the loop is at its own first step."""
    train = jb.instrument(jax.jit(around(scanned)), stream=4)
    with capture() as found:
        for _ in range(3):
            train(jnp.float32(1))
    assert [r.step for r in found if r.tag == "start"] == [0, 8, 16]
    steps = [r.step for r in found if r.tag == "loss"]
    assert steps == sorted(steps)
    assert len(steps) == 3 * 10


def test_two_loops():
    """A value between two loops is at the last step of the first one, and arrives between them."""

    def train(w):
        w = scanned(w, 3)
        jb.scalar("loss", w + 100)
        return scanned(w, 2)

    sink = OrderSink()
    with jb.Run(None, sinks=[sink], telemetry=False):
        jb.instrument(jax.jit(train), stream=2)(jnp.float32(8))
    assert sink.points == [
        ("loss", 0, 4),
        ("loss", 1, 2),
        ("loss", 2, 1),
        ("loss", 2, 101),
        ("loss", 3, 0.5),
        ("loss", 4, 0.25),
    ]


def test_in_jitted_functions():
    """A report in a jitted function before the loop comes before it."""
    sink = OrderSink()
    with jb.Run(None, sinks=[sink], telemetry=False):
        jb.instrument(jax.jit(nested), stream=4)(jnp.float32(256))
    assert sink.points[:2] == [("loss", 0, 256), ("loss", 0, 128)]
    assert [step for _, step, _ in sink.points] == [0, *range(8)]


@pytest.mark.filterwarnings("ignore:.*found no loop")
@pytest.mark.parametrize("loop", [lambda w: scanned(w, 0), lambda w: until(w, 1000.0)])
def test_a_loop_without_iterations(loop):
    """Nothing is lost if the loop does not run."""
    train = jb.instrument(jax.jit(around(loop)), stream=4)
    with capture() as found:
        train(jnp.float32(256))
    assert [(r.step, float(r.value)) for r in found if r.tag == "start"] == [(0, 256)]


def test_other_kinds_and_cadences():
    """A histogram before the loop has its own point; one that is not due at the first step has none."""

    def train(w):
        jb.histogram("h", jnp.stack([w, w, w]))
        jb.histogram("not due", w[None], every=4)
        return scanned(w)

    with capture(step=5) as found:
        jb.instrument(jax.jit(train), stream=4)(jnp.float32(256))
    assert [(r.step, r.value.counts.sum()) for r in found if r.tag == "h"] == [(5, 3)]
    assert "not due" not in {r.tag for r in found}


def test_seeds():
    """With a run for each lane, every run has its value before the loop first."""
    train = jb.instrument(jax.jit(jax.vmap(around(scanned))), stream=3, runs="vmap")
    with capture() as found:
        train(jnp.array([256.0, 512.0]))
    for run, start in {"seed_0": 256, "seed_1": 512}.items():
        points = [(r.step, float(r.value)) for r in found if r.run == run and r.tag == "loss"]
        assert points[:2] == [(0, start), (0, start / 2)]
        assert [step for step, _ in points] == [0, *range(8), 7]


def test_several_devices():
    """The order is the same where callbacks pass arrays of a mesh, which are not read on arrival."""
    mesh = jax.make_mesh((8,), ("i",), axis_types=(AxisType.Auto,))
    sharding = NamedSharding(mesh, PartitionSpec("i"))
    w = jax.device_put(jnp.full(8, 256.0), sharding)

    def train(w):
        jb.scalar("loss", w.mean())

        def body(w, _):
            w = w * 0.5
            jb.scalar("loss", w.mean())
            return w, None

        w, _ = lax.scan(body, w, None, 8)
        jb.scalar("loss", w.mean() - 1)
        return w

    sink = OrderSink()
    with jb.Run(None, sinks=[sink], telemetry=False):
        jax.block_until_ready(jb.instrument(jax.jit(train), stream=3)(w))
    expected = [256 * 0.5**n for n in range(9)]
    steps = [0, *range(8)]
    found = [(step, value) for _, step, value in sink.points]
    assert found == [*zip(steps, expected, strict=True), (7, 0)]


def test_tensorboard_shows_every_point(logdir):
    """TensorBoard drops what comes before a step that goes back: nothing does."""
    with jb.Run(logdir, telemetry=False):
        np.asarray(jb.instrument(jax.jit(around(scanned)), stream=4)(jnp.float32(256)))
    assert [step for step, _ in scalar_points(logdir, "loss")] == [0, *range(8), 7]

"""``metric``: objects that merge on the device and compute on the host."""

import dataclasses
import threading
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax import lax
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

import jaxboard as jb
from jaxboard.sinks import MemorySink
from jaxboard.testing import capture


class Average(NamedTuple):
    """A sum and a count, in two dtypes that a report has to keep separate."""

    total: Any
    count: Any

    @classmethod
    def of(cls, value):
        return cls(jnp.asarray(value, jnp.float32), jnp.int32(1))

    def merge(self, other):
        return Average(self.total + other.total, self.count + other.count)

    def compute(self):
        return self.total / self.count


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class Trail:
    """The digits it has seen, which shows in which order states are merged; a static field, and a narrow dtype."""

    digits: jax.Array
    length: jax.Array
    base: int = dataclasses.field(default=10, metadata={"static": True})

    @classmethod
    def of(cls, digit):
        return cls(jnp.asarray(digit, jnp.int32), jnp.asarray(1, jnp.uint8))

    def merge(self, other):
        power = jnp.int32(self.base) ** other.length.astype(jnp.int32)
        return Trail(self.digits * power + other.digits, self.length + other.length, self.base)

    def compute(self):
        return {"digits": self.digits, "length": self.length}


def points(records):
    return {(record.tag, record.step, record.run): float(record.value) for record in records}


def _transformed(x):
    """Report under every transformation that merges, with ``x`` to depend on the argument."""
    average, trail = (lambda tag, v: jb.metric(tag, Average.of(v))), Trail.of
    average("plain", x)
    average("twice", x)
    average("twice", 3 * x)
    jax.vmap(lambda v: jb.metric("lanes", trail(v)))(x + jnp.arange(5.0))
    jax.vmap(lambda v: jb.metric("masked", trail(v), where=v % 2 == 1))(x + jnp.arange(5.0))
    jax.vmap(jax.vmap(lambda v: average("maps", v)))(x * jnp.arange(6.0).reshape(2, 3))
    lax.scan(lambda c, v: (c, jb.metric("scan", trail(v))), 0, x + jnp.arange(7.0))
    lax.fori_loop(0, 3, lambda i, c: (average("trips", c), c + 1)[1], x)
    lax.cond(x > 0, lambda: average("taken", x), lambda: average("not taken", x))
    jax.vmap(lambda v: lax.cond(v > 2, lambda: average("mapped cond", v), lambda: None))(
        x + jnp.arange(3.0)
    )
    return jax.grad(jax.remat(lambda v: (average("grad", v), v * v)[1]))(x)


EXPECTED = {
    "plain": 1.0,
    "twice": 2.0,
    "lanes/digits": 12345.0,
    "lanes/length": 5.0,
    "masked/digits": 135.0,
    "masked/length": 3.0,
    "maps": 2.5,
    "scan/digits": 1234567.0,
    "scan/length": 7.0,
    "trips": 2.0,
    "taken": 1.0,
    "mapped cond": 3.0,
    "grad": 1.0,
}


@pytest.mark.parametrize("wrap", ["output", "callback", None])
def test_transformations(wrap):
    """Iterations, lanes and repeated reports merge in order; a mask and a branch leave states out."""
    step = jax.jit(_transformed)
    if wrap:
        step = jb.instrument(step, delivery=wrap)
    with capture(step=4) as records:
        assert float(step(1.0)) == 2.0
    if wrap is None:  # Lanes of a branch that is not taken count like others.
        records = [record for record in records if record.tag != "mapped cond"]
    expected = {key: value for key, value in EXPECTED.items() if wrap or key != "mapped cond"}
    assert points(records) == {(tag, 4, ""): value for tag, value in expected.items()}


@pytest.mark.parametrize("instrument", [jb.instrument, lambda function: function])
def test_devices(instrument):
    """The states of all devices are merged, also those of which the last one counts, in an instrumented function."""
    mesh = Mesh(np.array(jax.devices()[:4]), ("d",))

    @instrument
    @jax.jit
    @jax.shard_map(mesh=mesh, in_specs=P("d"), out_specs=P("d"))
    def step(x):
        jb.metric("merge", Average(x.sum(), jnp.int32(1)))
        jb.metric("last", Average(x.sum(), jnp.int32(1)), reduce="last")
        return x

    with capture(step=0) as records:
        step(jnp.arange(4.0))
        step(jnp.arange(4.0) + 10)
    found = points(records)
    if instrument is jb.instrument:
        assert found == {
            ("merge", 0, ""): 1.5,
            ("merge", 1, ""): 11.5,
            ("last", 0, ""): 1.5,
            ("last", 1, ""): 11.5,
        }
    else:
        # Each device has a callback of its own, and the last of them is the last state.
        assert found["merge", 0, ""] == 6.5
        assert found["last", 0, ""] in (10.0, 11.0, 12.0, 13.0)


def test_explicit_axes():
    """Lanes that are sharded by type are merged."""
    mesh = jax.make_mesh((4,), ("d",), axis_types=(AxisType.Explicit,))

    @jb.instrument
    @jax.jit
    def step(x):
        jax.vmap(lambda v: jb.metric("lanes", Trail.of(v)))(x)

    with capture(step=0) as records, jax.set_mesh(mesh):
        step(jax.device_put(jnp.arange(1.0, 9.0), NamedSharding(mesh, P("d"))))
    assert points(records)["lanes/digits", 0, ""] == 12345678.0


def test_windows_and_steps():
    """States merge over the steps of a window; states with the same step of their own make one point."""

    @jb.instrument
    @jax.jit
    def step(x):
        jb.metric("window", Trail.of(x), every=3)
        jb.metric("own step", Average.of(x), step=x // 2)
        lax.scan(
            lambda c, v: (c, jb.metric("shared step", Trail.of(x + v), step=(x + v) // 2)),
            0,
            jnp.arange(3),
        )
        jax.vmap(lambda v: jb.metric("seeds", Average.of(v), every=3, runs="vmap"))(
            jnp.stack([x, 2 * x])
        )

    with capture() as records:
        for x in range(1, 6):
            step(jnp.int32(x))
    found = points(records)
    assert {key: v for key, v in found.items() if key[0] == "window/digits"} == {
        ("window/digits", 0, ""): 1.0,
        ("window/digits", 3, ""): 234.0,
        ("window/digits", 4, ""): 5.0,
    }
    # Each call makes a point of its own, the last of which counts.
    assert {key[1]: v for key, v in found.items() if key[0] == "own step"} == {0: 1, 1: 3, 2: 5}
    # Iterations of one call with the same step are merged.
    shared = {(r.step, int(r.value)) for r in records if r.tag == "shared step/digits"}
    assert shared == {(0, 1), (1, 23), (2, 4), (1, 3), (2, 45), (3, 6), (2, 5), (3, 67)}
    assert {key[2]: v for key, v in found.items() if key[:2] == ("seeds", 3)} == {
        "seed_0": 3.0,
        "seed_1": 6.0,
        "mean": 4.5,
        "min": 3.0,
        "max": 6.0,
    }


def test_evaluation():
    """The batches of an evaluation merge, whether JAX's arrays, NumPy's or numbers are reported."""

    @jb.instrument(advance=False)
    @jax.jit
    def batch(losses):
        jb.metric("traced", Average(losses.sum(), losses.size), finish="exp")

    with capture(step=3) as records:
        for losses in (np.arange(4.0), np.arange(8.0), np.ones(1)):
            batch(losses)
            jb.metric("numbers", Average(float(losses.sum()), losses.size))
            jb.metric("numpy", Average(losses.sum(), np.int16(losses.size)))
            jb.metric("arrays", Average(jnp.float32(losses.sum()), losses.size))
    mean = np.float32(35 / 13)
    assert points(records) == {
        ("traced", 3, ""): float(np.exp(np.float64(mean))),
        ("numbers", 3, ""): float(mean),
        ("numpy", 3, ""): float(mean),
        ("arrays", 3, ""): float(mean),
    }


def test_nnx_metrics():
    """A metric of Flax that accumulates has the point that its compute() returns, in a step that needs no change."""
    metrics = nnx.MultiMetric(
        accuracy=nnx.metrics.Accuracy(),
        loss=nnx.metrics.Average("loss"),
        spread=nnx.metrics.Welford(),
    )

    @jb.instrument
    @nnx.jit
    def step(metrics, logits):
        metrics.update(logits=logits, labels=jnp.zeros(4, int), loss=logits.mean(), values=logits)
        jb.metric("train", metrics)
        jb.metric("sampled", metrics, every=2)

    expected = {}
    with capture() as records:
        for number in range(3):
            step(metrics, jnp.sin(jnp.arange(12.0) * (number + 1)).reshape(4, 3))
            for tag in ["train", "sampled"][: 2 - number % 2]:
                results = metrics.compute()
                expected |= {
                    (f"{tag}/accuracy", number, ""): float(results["accuracy"]),
                    (f"{tag}/loss", number, ""): float(results["loss"]),
                } | {
                    (f"{tag}/spread/{field.name}", number, ""): float(
                        getattr(results["spread"], field.name)
                    )
                    for field in dataclasses.fields(results["spread"])
                }
    assert points(records) == pytest.approx(expected, rel=1e-6)


def test_nnx_metrics_that_hold_new_data():
    """Metrics of lanes merge by the rule of their class; with reduce="merge", so do those of steps and batches."""

    def report(values):
        average, spread = nnx.metrics.Average(), nnx.metrics.Welford()
        average.update(values=values)
        spread.update(values=values)
        metrics = {"average": average, "spread": spread}
        jb.metric("last", metrics)
        jb.metric("merged", metrics, reduce="merge", every=2)

    values = (np.arange(24.0, dtype=np.float32) ** 2).reshape(2, 3, 4)
    values[1, 2] = 7.0
    with capture() as records:
        step = jb.instrument(jax.jit(jax.vmap(report)))
        step(np.zeros((3, 4), np.float32))
        for batch in values:
            step(batch)
    found = points(records)
    for tag, at, data in (("last", 1, values[0]), ("merged", 2, values)):
        assert found[f"{tag}/average", at, ""] == pytest.approx(data.mean(), rel=1e-6)
        assert found[f"{tag}/spread/mean", at, ""] == pytest.approx(data.mean(), rel=1e-6)
        assert found[f"{tag}/spread/standard_deviation", at, ""] == pytest.approx(
            data.std(), rel=1e-6
        )


def test_compute_and_finish_run_on_the_thread_of_the_run():
    """The training loop does not wait; the function gets NumPy arrays, and may make a dict."""
    seen = []

    class Confusion(NamedTuple):
        counts: Any

        def merge(self, other):
            return Confusion(self.counts + other.counts)

        def compute(self):
            seen.append((threading.current_thread(), self.counts.devices()))
            return {"rows": self.counts.at[0].add(0)}  # a method of JAX's arrays

    def recall(result):
        seen.append((threading.current_thread(), type(result["rows"])))
        return {f"class_{n}": row[n] / row.sum() for n, row in enumerate(result["rows"])}

    with capture(step=0) as records:
        for counts in ([[3, 0], [1, 1]], [[0, 1], [0, 2]]):
            jb.metric("recall", Confusion(jnp.array(counts)), finish=recall)
    assert points(records) == {("recall/class_0", 0, ""): 0.75, ("recall/class_1", 0, ""): 0.75}
    assert [what for _, what in seen] == [{jax.devices("cpu")[0]}, np.ndarray]
    assert threading.current_thread() not in [thread for thread, _ in seen]


class Fails(NamedTuple):
    """A metric whose result is of no use once it holds more than 2."""

    total: Any

    def merge(self, other):
        return Fails(self.total + other.total)

    def compute(self):
        if self.total > 2:
            raise ZeroDivisionError("no data")
        return self.total


@pytest.mark.parametrize(
    ("finish", "message"),
    [
        (None, "ZeroDivisionError"),
        (lambda x: 1 / 0 if x == 2 else x, "ZeroDivisionError"),
        (lambda x: {"a": np.ones(2)} if x == 2 else x, "TypeError"),
        (lambda x: "text" if x == 2 else x, "TypeError"),
    ],
)
def test_a_fault(finish, message, caplog):
    """One point is lost, with an error that names its tag; all others are written."""
    sink = MemorySink()
    with jb.Run(None, sinks=[sink]) as run:
        for step, total in enumerate([1.0, 2.0 if finish else 3.0, 1.5]):
            jb.metric("fails", Fails(total), step=step, finish=finish)
            jb.scalar("other", total, step=step)
        with pytest.raises(jb.RunError, match=f"1: .*'fails' raised {message}"):
            run.flush()
    assert [(r.step, float(r.value)) for r in sink.records if r.tag == "fails"] == [
        (0, 1.0),
        (2, 1.5),
    ]
    assert len(sink.records) == 5


class Own(nnx.metrics.Metric):
    """A metric of Flax for which there is no rule."""

    def __init__(self):
        self.total = nnx.metrics.MetricState(jnp.zeros(()))

    def update(self, **data):
        self.total[...] += data["value"]

    def compute(self):
        return self.total[...]


def test_a_metric_of_flax_without_a_rule():
    """It can be reported as it is, and merged only if it defines merge()."""
    metric = Own()
    metric.update(value=3.0)
    with capture(step=0) as records:
        jb.metric("own", metric)
    assert points(records) == {("own", 0, ""): 3.0}
    with pytest.raises(jb.ReportError, match=r"merging failed.*Own has no merge\(\)"):
        jb.metric("own", metric, reduce="merge")

    def lane(x):
        metric = Own()
        metric.update(value=x)
        jb.metric("own", metric)

    with capture(), pytest.raises(jb.ReportError, match=r"Own has no merge\(\)"):
        jb.instrument(jax.jit(jax.vmap(lane)))(jnp.arange(2.0))


class Grows(NamedTuple):
    items: Any

    def merge(self, other):
        return Grows(jnp.concatenate([self.items, other.items]))

    def compute(self):
        return self.items.mean()


class NoPytree:
    def merge(self, other):
        return self

    def compute(self):
        return 1.0


@pytest.mark.parametrize(
    ("state", "options", "message"),
    [
        (3.0, {}, "expected a metric, or a dict of metrics, got 3.0"),
        ({"a": Average(1, 1), "b": 2}, {}, "expected a metric"),
        (Average, {}, "expected a metric"),
        ({}, {}, "expected a metric"),
        (NoPytree(), {}, "the metric NoPytree is no pytree"),
        (Grows(jnp.ones(2)), {}, r"makes float32\[4\] of float32\[2\]; it must keep shapes"),
        (Average("text", 1), {}, "expected numbers, got"),
        (Average(1, 1 << 40), {}, "and int32 cannot. Use a float"),
        (Average(1, 1), {"reduce": "mean"}, "expected reduce= to be 'merge', 'last' or None"),
        (Average(1, 1), {"finish": 3}, "expected finish= to be one of 'exp', 'sqrt', or a"),
    ],
)
def test_errors(state, options, message):
    """An error at the call names the tag, what was passed, and what to do."""
    with pytest.raises(jb.ReportError, match=rf"report 'm' \(test_metric.py:\d+\): .*{message}"):
        jb.metric("m", state, **options)

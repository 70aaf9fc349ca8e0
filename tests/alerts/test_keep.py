"""``keep``: the arrays that the host remembers, under transformations and in plain Python."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

import jaxboard as jb
from jaxboard._alerts.alert_monitor import AlertMonitor
from jaxboard._alerts.kept_arrays import KeptArrays
from jaxboard._host.complete_points import Assembled, KeptPoint
from jaxboard._run.run import Run
from jaxboard.sinks import MemorySink

INDICES = jnp.arange(6).reshape(2, 3)


def kept(program: Callable[[jax.Array], Any], wrap: Callable[[Any], Any]) -> dict[str, Any]:
    """Return what a call keeps, by name. The call writes only its scalar."""
    seen: list[KeptPoint] = []
    sink = MemorySink()

    class Monitor(AlertMonitor):
        def observe(self, assembled: Assembled) -> list[Any]:
            seen.extend(assembled.kept)
            return super().observe(assembled)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("jaxboard._run.monitors.AlertMonitor", Monitor)
        with Run(None, sinks=[sink], step=5) as run:
            wrap(program)(INDICES)
            run.flush()
    assert {record.tag for record in sink.records} <= {"loss"}
    assert {point.step for point in seen} == {5}
    return {point.tag: point.value.tolist() for point in seen}


def plain(x):
    jb.keep("batch", x[0])
    jb.scalar("loss", x.sum())
    jb.keep("number", 3)


def in_grad(x):
    def loss(w):
        with jb.scope("model"):
            jb.keep("batch", x[0])
        jb.keep("value", w * 2)
        return w**2

    return jax.grad(jax.checkpoint(loss))(1.0)


def in_scan(x):
    def body(carry, row):
        jb.keep("batch", row)
        return carry, jax.vmap(lambda i: jb.keep("each", i))(row)

    jax.lax.scan(body, 0, x)


def in_cond(x):
    def branch(row):
        jb.keep("batch", row)

    jax.lax.scan(lambda c, r: (c, jax.lax.cond(r[0] > 0, branch, lambda r: None, r)), 0, x)
    jax.lax.cond(x.sum() < 0, lambda: jb.keep("never", 1), lambda: jb.keep("always", 1))


def in_vmapped_cond(x):
    jax.vmap(lambda i: jax.lax.cond(i > 3, lambda: jb.keep("large", i), lambda: None))(x[1])


def in_while(x):
    def body(n):
        jb.keep("batch", x[n])
        return n + 1

    jax.lax.while_loop(lambda n: n < 2, body, 0)


def in_shard_map(x):
    mesh = jax.make_mesh((2,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))

    def shard(row):
        jb.keep("batch", row[0])
        return row

    return jax.shard_map(shard, mesh=mesh, in_specs=P("data"), out_specs=P("data"))(x)


def twice(x):
    jb.keep("batch", x[0])
    jb.keep("batch", x[1])


PROGRAMS = {
    plain: {"batch": [0, 1, 2], "number": 3},
    in_grad: {"model/batch": [0, 1, 2], "value": 2.0},
    in_scan: {"batch": [[0, 1, 2], [3, 4, 5]], "each": [0, 1, 2, 3, 4, 5]},
    in_cond: {"batch": [3, 4, 5], "always": 1},
    in_vmapped_cond: {"large": [4, 5]},
    in_while: {"batch": [3, 4, 5]},
    in_shard_map: {"batch": [[0, 1, 2], [3, 4, 5]]},
    twice: {"batch": [3, 4, 5]},
}


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.__name__)
def test_transformations(program: Callable[[jax.Array], Any]) -> None:
    """An instrumented function keeps the arrays of lanes, iterations and devices in order."""
    assert kept(program, lambda f: jb.instrument(jax.jit(f))) == PROGRAMS[program]


def test_deliveries() -> None:
    """The arrays arrive from plain Python, from a call by callback, and under another trace."""
    expected = PROGRAMS[plain]
    assert kept(plain, lambda f: f) == expected
    assert kept(plain, lambda f: lambda x: f(np.asarray(x))) == expected
    assert kept(plain, lambda f: jb.instrument(jax.jit(f), delivery="callback")) == expected
    assert kept(plain, lambda f: jax.jit(jb.instrument(jax.jit(f)))) == expected


def test_silence() -> None:
    """Nothing is kept in a silent block."""

    def program(x):
        with jb.silent():
            jb.keep("batch", x)
        jb.keep("number", 1)

    assert kept(program, lambda f: jb.instrument(jax.jit(f))) == {"number": 1}


def test_state() -> None:
    """A run that goes on from a state has nothing of what the run before it kept, and no fault."""
    with Run(None, sinks=[MemorySink()]) as run:
        jb.keep("batch", np.arange(3))
        jb.scalar("loss", 1.0)
        state = run.state()
    sink = MemorySink()
    with Run(None, sinks=[sink], state=state):
        jb.keep("batch", np.arange(3))
    assert [record.tag for record in sink.records] == ["loss"]


def test_results_do_not_change() -> None:
    """A step that keeps an array returns the same values, and reports nothing for it."""

    def step(x, keep):
        keep("batch", x)
        return jnp.sin(x) * 3

    bare = jax.jit(lambda x: step(x, lambda name, value: None))(INDICES)
    with jb.testing.capture() as records:
        reported = jb.instrument(jax.jit(lambda x: step(x, jb.keep)))(INDICES)
    assert records == []
    np.testing.assert_array_equal(bare, reported)


def test_recent_steps() -> None:
    """The arrays of the last 512 steps are kept, or fewer if they are large. A step has one."""
    arrays = KeptArrays()
    large = np.zeros(2**20)
    for step in range(600):
        arrays.add(KeptPoint("batch", step, 0.0, np.array(step)))
        arrays.add(KeptPoint("batch", step, 0.0, np.array(-step)))
        arrays.add(KeptPoint("large", step, 0.0, large))
        arrays.trim()
    assert [(each.step, int(each.value)) for each in arrays.between("", 0, 90)] == [
        (88, -88),
        (89, -89),
        (90, -90),
    ]
    assert [each.step for each in arrays.between("", 596, 700) if each.name == "large"] == [
        596,
        597,
        598,
        599,
    ]
    assert arrays.between("eval", 0, 1000) == []


def test_errors() -> None:
    """A wrong argument is an error that has the name."""
    with pytest.raises(
        jb.ReportError,
        match=r"report 'batch' .*expected at most 65536 elements, got float32\[70000\]",
    ):
        jb.keep("batch", np.zeros(70_000, np.float32))
    with pytest.raises(jb.ReportError, match="expected numbers, got "):
        jb.keep("batch", ["a"])  # pyright: ignore[reportArgumentType]


def test_too_many_names(caplog: pytest.LogCaptureFixture) -> None:
    """The arrays of 64 names are kept. One warning names the first that is not."""
    with jb.Run(None, sinks=[MemorySink()]) as run:
        for run.step in range(2):
            for n in range(70):
                jb.keep(f"batch_{n}", np.arange(3))
    (warning,) = caplog.messages
    assert warning == (
        "jaxboard: jb.keep('batch_64'): a run keeps the arrays of 64 names, and leaves out those of others. A name must "
        "not change from step to step."
    )

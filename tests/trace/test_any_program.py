"""An instrumented program runs wherever the bare one does."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.experimental.layout import Format, Layout

import jaxboard as jb
from jaxboard._trace.wrapper import Instrumented
from jaxboard.testing import capture


def instrumented(function):
    return jb.instrument(jax.jit(function))


@pytest.mark.parametrize(
    "choose",
    [
        lambda x: lax.select(False, x, x + 1),
        lambda x: lax.select_n(np.bool_(True), x, x + 1),
        lambda x: lax.select_n(np.int32(1), x, x + 1, x + 2),
        lambda x: lax.cond(True, lambda x: x + 1, lambda x: x, x),
    ],
    ids=["select", "select_n", "select_n of three", "cond"],
)
def test_a_literal_predicate(choose):
    """A predicate that is a Python or NumPy constant does not break the harvest."""

    def step(x):
        jb.scalar("x", x)
        return choose(x)

    with capture() as records:
        assert float(instrumented(step)(jnp.float32(1))) == 2
    assert [float(record.value) for record in records] == [1]


def test_a_literal_predicate_under_vmap():
    """A constant predicate does not break the harvest of a mapped function, in which a cond becomes a select."""

    def step(xs):
        def one(x):
            jb.scalar("x", x)
            return lax.select(True, x, -x)

        return jax.vmap(one)(xs)

    with capture() as records:
        np.testing.assert_array_equal(instrumented(step)(jnp.array([1.0, 3.0])), [1, 3])
    assert [float(record.value) for record in records] == [2]


@pytest.mark.parametrize("options", [{"xla_cpu_enable_fast_math": False}, {}])
def test_compiler_options(options):
    """The compiler options of a jitted function are kept, with a run and without."""

    def step(x):
        jb.scalar("x", x)
        return x + 1

    step = jb.instrument(jax.jit(step, compiler_options=options))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "step: no run is open")  # once in a process
        assert float(step(1.0)) == 2
    with capture() as records:
        assert float(step(1.0)) == 2
    assert [float(record.value) for record in records] == [1]


REPORTS = {
    "histogram": lambda x, step: jb.histogram("own", x, step=step),
    "watch": lambda x, step: jb.watch("own", x, what="norm", step=step),
    "image": lambda x, step: jb.image("own", jax.nn.sigmoid(x).reshape(2, 2, 1), step=step),
    "scalar": lambda x, step: jb.scalar("own", x[0], step=step),
    "std": lambda x, step: jb.scalar("own", x[0], step=step, reduce="std"),
    "stack": lambda x, step: jb.scalar("own", x[0], step=step, reduce="stack"),
}


def _cond(report, x, i):
    return lax.cond(x[-1] > 0, report, lambda x, i: x, x, i)


def _switch(report, x, i):
    return lax.switch(i % 3, [report, lambda x, i: x, lambda x, i: x], x, i)


def _scan_in_cond(report, x, i):
    def scan(x, i):
        return lax.scan(lambda x, _: (report(x, i), None), x, jnp.arange(2))[0]

    return lax.cond(x[-1] > 0, scan, lambda x, i: x, x, i)


def _scan_with_its_steps_in_cond(report, x, i):
    def scan(x, i):
        return lax.scan(lambda x, k: (report(x, 10 * i + k), None), x, jnp.arange(2))[0]

    return lax.cond(x[-1] > 0, scan, lambda x, i: x, x, i)


def _cond_in_scan(report, x, i):
    def body(x, k):
        return lax.cond(k > 0, report, lambda x, i: x, x, i), None

    return lax.scan(body, x, jnp.arange(2))[0]


def _cond_in_vmap(report, x, i):
    def lane(x):
        return lax.cond(x[-1] > 0, report, lambda x, i: x, x, i)

    return jax.vmap(lane)(jnp.stack([x, -x]))[0]


PLACES = {
    "cond": (_cond, [0, 1, 2, 3, 4, 5]),
    "switch": (_switch, [0, 3]),
    "scan in cond": (_scan_in_cond, [0, 1, 2, 3, 4, 5]),
    "scan with its steps in cond": (
        _scan_with_its_steps_in_cond,
        [0, 1, 10, 11, 20, 21, 30, 31, 40, 41, 50, 51],
    ),
    "cond in scan": (_cond_in_scan, [0, 1, 2, 3, 4, 5]),
    "cond in vmap": (_cond_in_vmap, [0, 1, 2, 3, 4, 5]),
}


@pytest.mark.parametrize("kind", REPORTS)
@pytest.mark.parametrize("place", PLACES)
def test_a_report_with_its_own_step_in_a_branch(place, kind):
    """A report of any kind with a traced step in a branch has its points, and so has every other report."""
    around, steps = PLACES[place]

    def report(x, step):
        REPORTS[kind](x, step)
        return x * 1.01

    @instrumented
    def step(x, i):
        jb.scalar("loss", x[0])
        return around(report, x, i), i + 1

    with capture() as records:
        x, i = jnp.linspace(-1, 1, 4), jnp.int32(0)
        for _ in range(6):
            x, i = step(x, i)
    assert [record.step for record in records if record.tag == "loss"] == list(range(6))
    own = {record.step for record in records if record.tag != "loss"}
    assert sorted(own) == steps


@pytest.mark.parametrize("gate", ["compile", "cond"])
def test_a_sampled_report_from_the_first_step_on(gate):
    """With both gates, a sampled report has its first point at the first step."""

    @jb.instrument(gate=gate)
    @jax.jit
    def step(x):
        jb.histogram("h", x, every=2)
        return x

    with capture() as records:
        for _ in range(5):
            step(jnp.ones(3))
    assert [record.step for record in records] == [0, 2, 4]


def test_every_option_of_jit():
    """The program is jitted with the options that the user's function has."""
    sharding = jax.sharding.SingleDeviceSharding(jax.devices()[1])
    options = {
        "in_shardings": Format(Layout((1, 0)), sharding),
        "out_shardings": Format(Layout((1, 0)), sharding),
        "static_argnums": (2,),
        "donate_argnums": (0,),
        "keep_unused": True,
        "compiler_options": {"xla_cpu_enable_fast_math": False},
    }
    jitted = jax.jit(lambda x, unused, n: (jb.scalar("x", x.sum()), n * x)[1], **options)
    step = jb.instrument(jitted)
    assert isinstance(step, Instrumented)
    assert step.jit_options is not None
    assert options.items() <= step.jit_options.items()
    x, unused = (
        jax.device_put(jnp.ones((2, 3)), Format(Layout((1, 0)), sharding)) for _ in range(2)
    )
    with capture() as records:
        out = step(x, unused, 3)
    np.testing.assert_array_equal(out, np.full((2, 3), 3.0))
    assert out.format.layout.major_to_minor == (1, 0)
    assert x.is_deleted()
    assert [float(record.value) for record in records] == [6]

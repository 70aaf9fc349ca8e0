"""``instrument`` leaves the user's function as it is: results, donation, shardings, signature, steps."""

# pyright: reportAttributeAccessIssue=false, reportCallIssue=false

from __future__ import annotations

import functools
import gc
import os
import subprocess
import sys
import warnings
import weakref
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from jax.sharding import NamedSharding, PartitionSpec

import jaxboard as jb
from jaxboard import _log
from jaxboard.testing import capture


def loss(w, x):
    value = jnp.mean(jnp.tanh(x @ w) ** 2)
    jb.scalar("loss", value)
    return value


def step(w, x):
    gradient = jax.grad(loss)(w, x)
    jb.scalar("norm", jnp.sqrt(jnp.sum(gradient**2)))
    jb.histogram("gradient", gradient, every=3)
    return w - 0.1 * gradient


W = np.linspace(-1, 1, 16, dtype=np.float32).reshape(4, 4)
X = np.linspace(0, 1, 20, dtype=np.float32).reshape(5, 4)


def test_training_equals_plain_jax():
    """Results and points are bit-identical to those of a step that returns its metrics by hand."""

    @jax.jit
    def by_hand(w, x):
        def value(w):
            return jnp.mean(jnp.tanh(x @ w) ** 2)

        loss, gradient = jax.value_and_grad(value)(w)
        return w - 0.1 * gradient, (loss, jnp.sqrt(jnp.sum(gradient**2)))

    instrumented = jb.instrument(jax.jit(step))
    w, expected = jnp.array(W), []
    for _ in range(7):
        w, metrics = by_hand(w, X)
        expected.append(metrics)
    ours = jnp.array(W)
    with capture() as records:
        for _ in range(7):
            ours = instrumented(ours, X)
    np.testing.assert_array_equal(ours, w)
    scalars = {(r.tag, r.step): r.value for r in records if r.kind.value == "scalar"}
    assert scalars == {
        key: np.asarray(value)
        for i, metrics in enumerate(expected)
        for key, value in zip([("loss", i), ("norm", i)], metrics, strict=True)
    }
    assert [r.step for r in records if r.tag == "gradient"] == [0, 3, 6]


def test_donation():
    """A donated argument is deleted after the call, as without jaxboard."""
    instrumented = jb.instrument(jax.jit(step, donate_argnums=0))
    w, x = jnp.array(W), jnp.array(X)
    with capture():
        instrumented(w, x)
    assert w.is_deleted()
    assert not x.is_deleted()


def test_no_retrace():
    """The function is traced once, whichever reports are due."""
    traces = []

    def counted(w, x):
        traces.append(1)
        return step(w, x)

    instrumented = jb.instrument(jax.jit(counted))
    with capture():
        for _ in range(10):
            instrumented(W, X)
    assert len(traces) == 1


def test_a_report_that_is_not_due_costs_nothing():
    """A report that is not due is not in the program, which costs what the step without it costs."""

    def without(w, x):
        return jnp.tanh(x @ w)

    def reporting(w, x):
        jb.histogram("h", w, every=2)
        return jnp.tanh(x @ w)

    instrumented = jb.instrument(jax.jit(reporting))
    with capture():
        instrumented(W, X)
        instrumented(W, X)
    not_due = instrumented._programs.plain(frozenset({2})).lower(W, X).compile()
    bare = jax.jit(without).lower(W, X).compile()
    assert not_due.cost_analysis() == bare.cost_analysis()


@pytest.mark.parametrize("kind", ["argnums", "argnames", "negative"])
def test_static_arguments(kind):
    """Static arguments stay static, whether given by position or by name."""
    options = {
        "argnums": {"static_argnums": 1},
        "argnames": {"static_argnames": "power"},
        "negative": {"static_argnums": -1},
    }[kind]

    @jb.instrument
    @functools.partial(jax.jit, **options)
    def f(x, power):
        assert isinstance(power, int)
        jb.scalar("power", power)
        return x**power

    with capture() as records:
        assert [float(f(2.0, 2)), float(f(2.0, 3))] == [4.0, 8.0]
    assert [(r.step, float(r.value)) for r in records] == [(0, 2.0), (1, 3.0)]


def test_shardings():
    """Inputs and outputs keep the shardings that jax.jit was given."""
    mesh = jax.make_mesh((8,), ("d",), axis_types=(jax.sharding.AxisType.Auto,))
    rows, everywhere = (NamedSharding(mesh, PartitionSpec(*axes)) for axes in (("d",), ()))

    @jb.instrument
    @functools.partial(jax.jit, in_shardings=rows, out_shardings=(rows, everywhere))
    def f(x):
        jb.scalar("sum", x.sum())
        return x * 2, x.sum()

    with capture() as records:
        y, total = f(np.arange(16.0, dtype=np.float32))
    assert y.sharding.is_equivalent_to(rows, 1)
    assert total.sharding.is_equivalent_to(everywhere, 0)
    assert [float(r.value) for r in records] == [120.0]


def test_keyword_arguments_and_methods():
    """Keywords, defaults and bound methods work, and the function keeps its name and docstring."""

    class Trainer:
        @jb.instrument
        @functools.partial(jax.jit, static_argnums=0)
        def train(self, x, *, scale=2.0):
            """Trains."""
            jb.scalar("x", x * scale)
            return x * scale

    with capture() as records:
        assert Trainer().train(3.0) == 6.0
        assert Trainer().train(3.0, scale=3.0) == 9.0
    assert [float(r.value) for r in records] == [6.0, 9.0]
    assert (Trainer.train.__name__, Trainer.train.__doc__) == ("train", "Trains.")


def test_nnx_jit():
    """Over nnx.jit, modules are updated in place and each call is a step."""

    class Model(nnx.Module):
        def __init__(self):
            self.w = nnx.Param(jnp.ones(3))
            self.calls = nnx.Variable(jnp.array(0))

    @jb.instrument
    @nnx.jit
    def train(model, x):
        def loss(model):
            value = jnp.sum((model.w[...] * x) ** 2)
            jb.scalar("loss", value)
            return value

        gradient = nnx.grad(loss)(model)
        jb.histogram("gradient", gradient)
        model.w[...] = model.w[...] - 0.1 * gradient["w"][...]
        model.calls[...] = model.calls[...] + 1

    model = Model()
    with capture() as records:
        train(model, jnp.ones(3))
        train(model, jnp.ones(3))
    assert int(model.calls[...]) == 2
    losses = [(r.step, round(float(r.value), 4)) for r in records if r.tag == "loss"]
    assert losses == [(0, 3.0), (1, 1.92)]
    assert {r.tag for r in records} == {"loss", "gradient/w"}


def test_a_plain_function_is_not_jitted():
    """A plain function runs eagerly: its side effects happen at each call."""
    seen = []

    @jb.instrument
    def f(x):
        seen.append(x)
        jb.scalar("x", x)
        return x

    with capture() as records:
        f(1.0)
        f(jnp.float32(2.0))
    assert len(seen) == 2
    assert [(r.step, float(r.value)) for r in records] == [(0, 1.0), (1, 2.0)]


def test_no_run():
    """Without an active run the function runs without its reports, and one warning is issued."""
    _log.forget_warnings()
    instrumented = jb.instrument(jax.jit(step))
    with pytest.warns(jb.JaxboardWarning, match="step: no run is open, so nothing is reported"):
        out = instrumented(W, X)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_array_equal(instrumented(W, X), out)
    with capture() as records:
        instrumented(W, X)
    assert [r.tag for r in records if r.kind.value == "scalar"] == ["loss", "norm"]


def test_steps():
    """Evaluation belongs to the last step taken; a function computes steps from the arguments."""
    train = jb.instrument(jax.jit(lambda x: jb.scalar("train", x)))
    evaluate = jb.instrument(jax.jit(lambda x: jb.scalar("eval", x)), advance=False)
    own = jb.instrument(jax.jit(lambda x, n: jb.scalar("own", x)), step=lambda x, n: n * 100)
    with capture(step=5) as records:
        train(1.0)
        train(1.0)
        evaluate(1.0)
        own(1.0, 3)
    assert [(r.tag, r.step) for r in records] == [
        ("train", 5),
        ("train", 6),
        ("eval", 6),
        ("own", 300),
    ]


def test_steps_known_on_the_host():
    """An integer from step= decides on the host what is due, and the run's count follows it."""
    traces = []

    def f(x, n):
        traces.append(1)
        jb.scalar("x", x)
        jb.histogram("h", x, every=10)

    own = jb.instrument(jax.jit(f), step=lambda x, n: n)
    plain = jb.instrument(lambda n: jb.scalar("plain", n), step=lambda n: n)
    with capture() as records:
        for n in (10, 13, 20):
            own(1.0, n)
            jb.scalar("host", 1.0)
        run = jb.current_run()
        assert run is not None
        assert run.step == 21
        plain(jnp.int32(40))
    assert [(r.tag, r.step) for r in records if r.tag != "h"] == [
        *[(tag, n) for n in (10, 13, 20) for tag in ("x", "host")],
        ("plain", 40),
    ]
    assert [r.step for r in records if r.tag == "h"] == [10, 20]
    assert len(traces) == 1


def test_steps_computed_on_the_device():
    """The call does not wait for an array from step=: the host selects what is due at that step."""

    @functools.partial(jb.instrument, step=lambda state, *_: state["step"])
    @functools.partial(jax.jit, donate_argnums=0)
    def train(state, x):
        jb.scalar("x", x)
        jb.scalar("window", x, every=4, reduce="sum")
        jb.histogram("h", x, every=4)
        return {"step": state["step"] + 2}

    state = {"step": jnp.int32(6)}
    with capture() as records:
        for x in (1.0, 2.0, 4.0, 8.0):
            state = train(state, x)
    points = [(r.tag, r.step, float(r.value)) for r in records if r.kind.value == "scalar"]
    assert sorted(points) == [
        ("window", 8, 3.0),
        ("window", 12, 12.0),
        ("x", 6, 1.0),
        ("x", 8, 2.0),
        ("x", 10, 4.0),
        ("x", 12, 8.0),
    ]
    assert [r.step for r in records if r.tag == "h"] == [8, 12]


def test_a_step_that_is_not_an_integer():
    """A result of step= that is not an integer raises."""
    f = jb.instrument(jax.jit(lambda x: x), step=lambda x: 1.5, name="f")  # pyright: ignore[reportArgumentType]
    with capture(), pytest.raises(jb.UsageError) as raised:
        f(1.0)
    assert str(raised.value) == "f: instrument(step=...) returned 1.5, expected an integer."


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"every": 0}, "instrument(every=0): expected a positive integer, in steps."),
        ({"every": True}, "instrument(every=True): expected a positive integer, in steps."),
        ({"every": 2.0}, "instrument(every=2.0): expected a positive integer, in steps."),
        ({"name": 3}, "instrument(name=3): expected a str, or None."),
        ({"step": 3}, "instrument(step=3): expected 'auto' or a function of the arguments."),
        (
            {"delivery": "fast"},
            "instrument(delivery='fast'): expected 'auto', 'output' or 'callback'.",
        ),
    ],
)
def test_options(options, message):
    """An invalid option raises when the function is decorated."""
    with pytest.raises(jb.UsageError) as raised:
        jb.instrument(**options)
    assert str(raised.value) == message


@pytest.mark.parametrize("delivery", ["auto", "callback"])
@pytest.mark.parametrize(
    ("step_of", "steps"),
    [
        (lambda optimizer, x: optimizer.step, [0, 1, 2]),  # a Variable
        (lambda optimizer, x: optimizer.step[...] * 10, [0, 10, 20]),
        (lambda optimizer, x: 7, [7, 7, 7]),
    ],
)
def test_step_over_nnx_jit(step_of, steps, delivery):
    """Over nnx.jit step= gets the modules that the user passed, and one that is on the device stays there."""
    model = nnx.Linear(2, 2, rngs=nnx.Rngs(0))
    optimizer = nnx.Optimizer(model, optax.sgd(0.1), wrt=nnx.Param)

    @jb.instrument(step=step_of, delivery=delivery)
    @nnx.jit
    def step(optimizer, x):
        optimizer.step[...] += 1
        jb.scalar("x", x, reduce="last")

    with capture() as records, jax.transfer_guard_device_to_host("disallow"):
        for x in range(3):
            step(optimizer, jnp.float32(x))
    expected = dict(zip(steps, [0.0, 1.0, 2.0], strict=True))
    assert {record.step: float(record.value) for record in records} == expected
    assert int(optimizer.step[...]) == 3


def test_delivery_by_callback():
    """delivery="callback" gives the same points and results as a hidden output."""
    f = jb.instrument(jax.jit(step), delivery="callback")
    expected = jb.instrument(jax.jit(step))
    with capture() as wanted:
        outs = [expected(W, X) for _ in range(4)]
    with capture() as records:
        for out in outs:
            np.testing.assert_array_equal(f(W, X), out)
    scalars = {(r.tag, r.step): r.value for r in records if r.kind.value == "scalar"}
    assert scalars == {(r.tag, r.step): r.value for r in wanted if r.kind.value == "scalar"}
    assert [r.step for r in records if r.tag == "gradient"] == [0, 3]
    assert len(records) == len(wanted)


def test_delivery_as_an_output_inside_a_trace():
    """delivery="output" raises if JAX traces the caller."""
    f = jb.instrument(jax.jit(step), delivery="output")
    with capture(), pytest.raises(jb.UsageError, match="step: instrument.delivery='output'. was"):
        jax.jit(f)(W, X)
    with capture() as records:
        f(W, X)
    assert {r.tag for r in records} == {"loss", "norm", "gradient"}


@pytest.mark.parametrize("delivery", ["auto", "callback"])
def test_the_wrong_order_of_decorators(delivery):
    """A plain function instrumented inside jax.jit still reports, with one warning about the order."""

    @jax.jit
    @functools.partial(jb.instrument, name=f"wrong order, {delivery}", delivery=delivery)
    def f(x):
        jb.scalar("x", x)
        return x * 2

    message = (
        f"wrong order, {delivery} is instrumented but not jitted, .* its calls do not count as steps, so all of "
        "them make one point. Put @jaxboard.instrument above @jax.jit"
    )
    with pytest.warns(jb.JaxboardWarning, match=message) as warned, capture() as records:
        results = [float(f(x)) for x in (jnp.float32(3), jnp.ones(()), np.float64(1))]
    assert results == [6.0, 2.0, 2.0]
    assert len(warned) == 1
    assert [(r.tag, r.step, float(r.value)) for r in records] == [("x", 0, pytest.approx(5 / 3))]


@pytest.mark.parametrize("every", [2, np.int64(2)], ids=["int", "int64"])
def test_default_cadence(every):
    """``instrument(every=)``, an integer of Python or NumPy, applies to reports without their own cadence."""

    @jb.instrument(every=every)
    @jax.jit
    def f(x):
        jb.scalar("two", x)
        jb.scalar("one", x, every=1)

    with capture() as records:
        for x in range(5):
            f(float(x))
    assert [(r.step, float(r.value)) for r in records if r.tag == "two"] == [
        (0, 0.0),
        (2, 1.5),
        (4, 3.5),
    ]
    assert [r.step for r in records if r.tag == "one"] == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("options", [{}, {"stream": 2}, {"delivery": "callback"}, {"exact": True}])
def test_a_function_that_is_replaced_is_freed(options):
    """A run keeps no earlier function alive, nor what it closes over, such as a data set."""
    alive = []
    with capture():
        for _ in range(3):
            data = np.ones(8)

            def report(x, data=data):
                jb.scalar("x", x + data[0], every=2)

            step = jb.instrument(jax.jit(report), **options)
            for x in range(3):
                step(float(x))
            alive.append(weakref.ref(report))
            del report, step
        gc.collect()
        assert [function() for function in alive[:-1]] == [None] * 2


def test_scope_is_part_of_the_cache_key():
    """The same function reports under the tags of each scope that it is called in."""
    f = jb.instrument(jax.jit(lambda x: jb.scalar("x", x)))
    with capture() as records:
        for name in ("a", "b", "a"):
            with jb.scope(name):
                f(1.0)
    assert [r.tag for r in records] == ["a/x", "b/x", "a/x"]


def test_a_jitted_loop_around_the_step():
    """Each iteration of a jitted loop that calls the function is a step."""
    instrumented = jb.instrument(jax.jit(step))

    @jax.jit
    def train(w):
        return jax.lax.fori_loop(0, 4, lambda _, w: instrumented(w, X), w)

    with capture() as records:
        train(W)
    assert [r.step for r in records if r.tag == "loss"] == [0, 1, 2, 3]
    assert [r.step for r in records if r.tag == "gradient"] == [0, 3]


CACHED = """
import jax, jax.numpy as jnp, jaxboard as jb
hits = []
jax.monitoring.register_event_listener(lambda event, **_: hits.append(event))

@jb.instrument
@jax.jit
def step(x):
    jb.scalar("x", x)
    jb.scalar("mean", x, every=2)
    return x + 1

x = jnp.float32(0)
hits.clear()
with jb.testing.capture() as records:
    for _ in range(4):
        x = step(x)
print(hits.count("/jax/compilation_cache/cache_hits"))
print(sorted((r.tag, r.step, float(r.value)) for r in records))
"""


def test_persistent_compilation_cache(tmp_path):
    """A second process takes all programs of a step from JAX's cache on disk, and reports the same points."""
    settings = {
        "JAX_COMPILATION_CACHE_DIR": str(tmp_path),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    }
    printed, files = [], []
    for _ in range(2):
        command = [sys.executable, "-c", CACHED]
        printed.append(
            subprocess.run(
                command, env={**os.environ, **settings}, capture_output=True, text=True, check=True
            ).stdout.splitlines()
        )
        files.append({path.name for path in tmp_path.iterdir() if path.name.endswith("-cache")})
    means = [("mean", 0, 0.0), ("mean", 2, 1.5), ("mean", 3, 3.0)]
    points = str([*means, *(("x", step, float(step)) for step in range(4))])
    steps = [name for name in files[0] if name.startswith("jit_step-")]
    assert files[1] == files[0]
    assert len(steps) == 2  # A point of the mean is due or not.
    assert [lines[1] for lines in printed] == [points] * 2
    assert printed[0][0] == "0"
    assert int(printed[1][0]) >= len(steps)


@pytest.mark.parametrize("options", [{}, {"gate": "cond"}, {"stream": 2}], ids=str)
def test_any_argument_may_have_any_name(options):
    """The user's argument names never collide with jaxboard's."""

    @functools.partial(jb.instrument, **options)
    @jax.jit
    def f(self, accumulators, leading, first_step):
        def body(total, x):
            jb.scalar("x", x, every=2)
            return total + x, None

        return jax.lax.scan(body, self + accumulators, leading + first_step)[0]

    with capture():
        for _ in range(3):
            assert f(self=1.0, accumulators=2.0, leading=jnp.arange(3.0), first_step=4.0) == 18.0


@pytest.mark.parametrize("options", [{}, {"gate": "cond"}, {"stream": 2}], ids=str)
def test_transfers_may_be_forbidden(options):
    """jax.transfer_guard("disallow") does not forbid jaxboard's own transfers."""

    @functools.partial(jb.instrument, **options)
    @jax.jit
    def f(x):
        def body(total, x):
            jb.scalar("sum", x, every=2, reduce="sum")
            jb.histogram("h", x, every=2)
            return total + x, None

        return jax.lax.scan(body, x[0], x)[0]

    x = jnp.arange(4.0)
    one = jnp.float32(1)
    with capture() as records, jax.transfer_guard("disallow"):
        f(x)
        f(x)
        jb.scalar("host", one, step=7, where=True, weight=2.0)
    assert ("host", 7) in {(r.tag, r.step) for r in records}


def test_a_single_result_that_is_also_reduced():
    """The program compiles for a CPU, where XLA refuses a callback that reduces the only result."""

    def f(x):
        y = x * 2
        jb.scalar("max", y.max())
        return y

    step = jb.instrument(jax.jit(f), delivery="callback")
    with capture() as records:
        assert step(jnp.ones((64, 64))).shape == (64, 64)
        jax.effects_barrier()
    assert [(r.tag, r.step, float(r.value)) for r in records] == [("max", 0, 2.0)]


def test_strict_dtype_promotion():
    """16-bit values are reported under jax.numpy_dtype_promotion("strict")."""

    @jb.instrument
    @jax.jit
    def f(x):
        for reduction in ("mean", "sum", "std", "max"):
            jb.scalar(reduction, x.astype(jnp.bfloat16), reduce=reduction)
        jb.watch("x", {"a": x.astype(jnp.bfloat16)[None]})
        return x

    with capture() as records, jax.numpy_dtype_promotion("strict"):
        f(jnp.float32(3))
    values = {r.tag: float(r.value) for r in records if r.kind.value == "scalar"}
    assert (values["mean"], values["sum"], values["max"], values["std"]) == (3.0, 3.0, 3.0, 0.0)


@pytest.mark.parametrize("options", [{}, {"delivery": "callback"}, {"stream": 4}], ids=str)
def test_without_jit(options):
    """Under jax.disable_jit each call is a step, whatever the delivery."""
    f = jb.instrument(jax.jit(lambda x: jb.scalar("x", x)), **options)
    own = jb.instrument(jax.jit(lambda s: jb.scalar("own", s)), step=lambda s: s)
    with capture() as records, jax.disable_jit():
        for x in (1.0, 2.0):
            f(jnp.float32(x))
        own(jnp.int32(100))
    assert [(r.tag, r.step) for r in records] == [("x", 0), ("x", 1), ("own", 100)]


def test_instrumenting_twice_raises():
    """Instrumenting a function twice, which would count every call as two steps, raises."""
    with pytest.raises(
        jb.UsageError,
        match="is already instrumented; instrumenting it twice would count every call",
    ):
        jb.instrument(jb.instrument(jax.jit(lambda x: x)))


def test_bound_methods_are_methods():
    """Accessed on an instance, an instrumented function is a bound method."""

    class Trainer:
        @jb.instrument
        @functools.partial(jax.jit, static_argnums=0)
        def step(self, x):
            return x

    trainer = Trainer()
    assert trainer.step == trainer.step
    assert trainer.step.__self__ is trainer
    assert trainer.step.__name__ == "step"


def test_methods_of_a_jitted_function():
    """``_cache_size``, ``clear_cache``, ``eval_shape``, ``trace`` and ``lower`` answer as those of ``jax.jit``."""

    def function(x, n):
        jb.histogram("x", x, every=3)
        jb.scalar("sum", x.sum())
        return n * x

    bare: Any = jax.jit(function, static_argnames="n")
    step: Any = jb.instrument(jax.jit(function, static_argnames="n"))
    with capture():
        for _ in range(4):
            for n in (1, 2, 3):
                bare(jnp.ones(3), n=n)
                step(jnp.ones(3), n=n)
        assert step._cache_size() == bare._cache_size() == 3
        step.clear_cache()
        bare.clear_cache()
        assert step._cache_size() == bare._cache_size() == 0
    arguments = jax.ShapeDtypeStruct((3,), "float32")
    assert step.eval_shape(arguments, n=2) == bare.eval_shape(arguments, n=2)
    for method in ("trace", "lower"):
        stages = [getattr(f, method)(arguments, n=2) for f in (step, bare)]
        assert stages[0].out_info == stages[1].out_info
        assert stages[0].args_info == stages[1].args_info
    assert not hasattr(jb.instrument(function), "_cache_size")

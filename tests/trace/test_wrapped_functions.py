"""Every call of an instrumented function has its own step, however the jitted function is wrapped."""

import functools
import time
import warnings

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from compilations import compilations
from flax import nnx
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import jaxboard as jb
from jaxboard._log import forget_warnings
from jaxboard.testing import capture

STEPS = 30


def body(w, i):
    for _ in range(4):
        w = jnp.tanh(w @ w)
    jb.scalar("i", i.astype(jnp.float32))
    return w


class Trainer:
    def __init__(self, step):
        self._step = step

    def step(self, w, i):
        return self._step(w, i)


def timed(function):
    @functools.wraps(function)
    def wrapper(*args):
        began = time.perf_counter()
        result = function(*args)
        vars(wrapper)["seconds"] = time.perf_counter() - began
        return result

    return wrapper


WRAPPERS = {
    "method": lambda jitted: Trainer(jitted).step,
    "lambda": lambda jitted: lambda w, i: jitted(w, i),  # noqa: PLW0108 (a plain function)
    "partial": functools.partial,
    "functools.wraps": timed,
    "partial of a wrapper": lambda jitted: functools.partial(timed(jitted)),
}


def sharded_weights():
    mesh = jax.make_mesh((2,), ("d",), axis_types=(AxisType.Auto,), devices=jax.devices()[:2])
    weights = jnp.ones((2, 200, 200)) / 200
    return jax.device_put(weights, NamedSharding(mesh, PartitionSpec("d")))


@pytest.mark.parametrize("wrap", WRAPPERS.values(), ids=WRAPPERS)
def test_each_value_is_at_its_step(wrap):
    """Values that leave by callback from several devices are at the step of the call that made them."""
    step = jb.instrument(wrap(jax.jit(body)))
    w = sharded_weights()
    with warnings.catch_warnings(), capture() as records:
        warnings.simplefilter("ignore", jb.JaxboardWarning)
        for i in range(STEPS):
            w = step(w, jnp.asarray(i))
    assert [(record.step, float(record.value)) for record in records] == [
        (i, i) for i in range(STEPS)
    ]


def test_steps_set_by_hand_around_a_jitted_function():
    """Without instrument, ``run.step = i`` gives each call's values that step."""
    step = jax.jit(body)
    w = sharded_weights()
    with capture() as records:
        for i in range(STEPS):
            run = jb.current_run()
            assert run is not None
            run.step = i
            w = step(w, jnp.asarray(i))
    assert [(record.step, float(record.value)) for record in records] == [
        (i, i) for i in range(STEPS)
    ]


@pytest.mark.parametrize("wrap", [functools.partial, timed], ids=["partial", "functools.wraps"])
def test_a_wrapped_jitted_function_reports_as_hidden_outputs(wrap):
    """A partial of a jitted function, or a wrapper that names it, needs no callback and no warning."""
    step = jb.instrument(wrap(jax.jit(body)))
    with capture() as records:
        for i in range(3):
            step(jnp.ones((2, 4, 4)), jnp.asarray(i))
    assert [float(record.value) for record in records] == [0, 1, 2]


def test_cached_partial():
    """``nnx.cached_partial`` takes a step at each call and reports each loss."""
    model = nnx.Linear(4, 1, rngs=nnx.Rngs(0))
    optimizer = nnx.Optimizer(model, optax.sgd(0.1), wrt=nnx.Param)

    @nnx.jit
    def train_step(model, optimizer, x):
        def loss_fn(model):
            loss = (model(x) ** 2).mean()
            jb.scalar("loss", loss)
            return loss

        optimizer.update(model, nnx.grad(loss_fn)(model))

    step = jb.instrument(nnx.cached_partial(train_step, model, optimizer))
    with capture() as records:
        for _ in range(20):
            step(jnp.ones((8, 4)))
    assert [record.step for record in records] == list(range(20))
    values = [float(record.value) for record in records]
    assert values == sorted(values, reverse=True)
    assert values[-1] < values[0]


def test_a_timed_nnx_jit():
    """A wrapper made with ``functools.wraps`` around ``nnx.jit`` is called, and each call is a step."""
    model = nnx.Linear(2, 1, rngs=nnx.Rngs(0))

    @timed
    @nnx.jit
    def evaluate(model, x):
        jb.scalar("x", x.sum())
        return model(x)

    evaluate = jb.instrument(evaluate)
    with capture() as records:
        for i in range(4):
            evaluate(model, jnp.full((1, 2), float(i)))
    assert [(record.step, float(record.value)) for record in records] == [
        (i, 2 * i) for i in range(4)
    ]


def test_filter_jit_of_a_module():
    """``eqx.filter_jit`` of a callable module reports each call at its step."""

    class Model(eqx.Module):
        weight: jax.Array

        def __call__(self, x):
            jb.scalar("x", x)
            return self.weight * x

    step = jb.instrument(eqx.filter_jit(Model(jnp.float32(2))))
    with capture() as records:
        for i in range(4):
            assert float(step(jnp.float32(i))) == 2 * i
    assert [(record.step, float(record.value)) for record in records] == [(i, i) for i in range(4)]


def test_a_compiled_program():
    """The result of ``lower().compile()`` of the bare function takes steps when it is instrumented."""

    def step(w, i):
        jb.scalar("i", i.astype(jnp.float32))
        return w + 1

    compiled = jax.jit(step).lower(jnp.ones(2), jnp.int32(0)).compile()
    step = jb.instrument(compiled)
    with warnings.catch_warnings(), capture() as records:
        warnings.simplefilter("ignore", jb.JaxboardWarning)
        for i in range(10):
            step(jnp.ones(2), jnp.int32(i))
    assert [(record.step, float(record.value)) for record in records] == [(i, i) for i in range(10)]


def test_instrumented_twice_through_a_wrapper():
    """A wrapper around an instrumented function that is instrumented again counts each call once."""
    with capture() as records:
        inner = jb.instrument(jax.jit(lambda x: (jb.scalar("x", x), x)[1]))
        try:
            outer = jb.instrument(timed(inner))
        except jb.UsageError:
            return
        for i in range(4):
            outer(jnp.float32(i))
        run = jb.current_run()
        assert run is not None
        assert run.step == 4
    assert [(record.step, float(record.value)) for record in records] == [(i, i) for i in range(4)]


def report_and_return(x):
    jb.scalar("x", x)
    jb.scalar("window", x, every=2, reduce="sum")
    return x


INNER = {
    "output": {},
    "callback": {"delivery": "callback"},
    "gate": {"gate": "cond"},
    "exact": {"exact": True},
}


@pytest.mark.parametrize("options", INNER.values(), ids=INNER)
@pytest.mark.parametrize("wrap", [WRAPPERS["method"], WRAPPERS["lambda"]], ids=["method", "lambda"])
def test_an_instrumented_function_inside_another(wrap, options):
    """A call of an instrumented lambda or method is one step, though the function inside is instrumented too."""
    inner = jb.instrument(jax.jit(lambda x, _: report_and_return(x)), **options)
    outer = jb.instrument(wrap(inner))
    with warnings.catch_warnings(), capture() as records:
        warnings.simplefilter("ignore", jb.JaxboardWarning)  # a callback makes the next call wait
        for i in range(4):
            assert float(outer(jnp.float32(i), None)) == i
            jb.scalar("host", i)
        run = jb.current_run()
        assert run is not None
        assert run.step == 4
    points = {tag: [(r.step, float(r.value)) for r in records if r.tag == tag] for tag in TAGS}
    assert points == {
        "x": [(i, i) for i in range(4)],
        "host": [(i, i) for i in range(4)],
        "window": [(0, 0), (2, 3), (3, 3)],
    }


TAGS = ("x", "host", "window")


def test_an_instrumented_function_that_is_called_alone_too():
    """A function takes a step where it is called alone, and none inside another one, with the same program."""
    inner = jb.instrument(jax.jit(report_and_return))
    outer = jb.instrument(lambda x: (inner(x), inner(x + 1)))
    with compilations("report_and_return") as compiled, capture() as records:
        inner(jnp.float32(10))
        outer(jnp.float32(0))
        inner(jnp.float32(20))
    assert [(r.step, float(r.value)) for r in records if r.tag == "x"] == [
        (0, 10),
        (1, 0.5),
        (2, 20),
    ]
    assert len(compiled) == 2  # the window is due, or not


def test_an_instrumented_function_inside_another_without_jit():
    """A function takes no step inside another one under ``jax.disable_jit``, or if JAX traces the inner call."""
    inner = jb.instrument(jax.jit(lambda x: (jb.scalar("x", x), x)[1]))
    jitted = jax.jit(lambda x: inner(x))  # noqa: PLW0108 (a function of its own)
    outer = jb.instrument(jax.jit(jitted))
    traced = jb.instrument(lambda x: jitted(x))  # noqa: PLW0108
    with warnings.catch_warnings(), capture() as records:
        warnings.simplefilter("ignore", jb.JaxboardWarning)
        for i in range(3):
            with jax.disable_jit():
                outer(jnp.float32(i))
        for i in range(3, 6):
            traced(jnp.float32(i))
    assert [(r.step, float(r.value)) for r in records] == [(i, i) for i in range(6)]


def test_results_are_those_of_the_bare_function():
    """Waiting for callbacks changes no result."""
    jitted = jax.jit(body)
    step = jb.instrument(Trainer(jitted).step)
    w = bare = jnp.ones((2, 8, 8)) / 8
    with warnings.catch_warnings(), capture():
        warnings.simplefilter("ignore", jb.JaxboardWarning)
        for i in range(3):
            w = step(w, jnp.asarray(i))
    for i in range(3):
        bare = jitted(bare, jnp.asarray(i))
    assert np.asarray(w).tobytes() == np.asarray(bare).tobytes()


def test_a_wrapper_that_calls_twice():
    """A call of a wrapper is one step, however often it calls the jitted function inside."""

    def twice(function):
        @functools.wraps(function)
        def wrapper(x):
            function(x)
            return function(x + 1)

        return wrapper

    step = jb.instrument(twice(jax.jit(lambda x: (jb.scalar("x", x), x)[1])))
    with capture() as records:
        for i in range(3):
            assert float(step(jnp.float32(i))) == i + 1
    assert [(record.step, float(record.value)) for record in records] == [
        (i, i + 0.5) for i in range(3)
    ]


def test_a_wrapper_that_changes_its_function():
    """A wrapper that assigns another function to its closure calls that one."""

    def switching(function):
        @functools.wraps(function)
        def wrapper(x):
            nonlocal function
            result = function(x)
            function = jax.jit(lambda x: -x)
            return result

        return wrapper

    step = jb.instrument(switching(jax.jit(lambda x: 2 * x)))
    with capture():
        assert [float(step(3.0)) for _ in range(3)] == [6, -3, -3]


def test_step_of_a_partial():
    """``step=`` gets the arguments of the call of a partial, without those that the partial holds."""

    def function(a, x):
        jb.scalar("x", x)
        return a + x

    for step in (lambda x: int(x) + 5, lambda x: x + 5):
        fn = jb.instrument(functools.partial(jax.jit(function), jnp.int32(1)), step=step)
        with capture() as records:
            assert [int(fn(jnp.int32(i))) for i in range(3)] == [1, 2, 3]
        assert [(r.step, int(r.value)) for r in records] == [(i + 5, i) for i in range(3)]


def test_a_bound_method():
    """A bound method that is jitted reports as hidden outputs."""

    class Model:
        @functools.partial(jax.jit, static_argnums=0)
        def step(self, x):
            jb.scalar("x", x)
            return x

    step = jb.instrument(Model().step)
    with capture() as records:
        for i in range(3):
            step(jnp.float32(i))
    assert [(record.step, float(record.value)) for record in records] == [(i, i) for i in range(3)]


def test_a_plain_function_warns_once():
    """A plain function that waits for callbacks warns once, at the user's line."""
    step = jb.instrument(Trainer(jax.jit(lambda w, i: (jb.scalar("loss/x", i), w)[1])).step)
    forget_warnings()
    with capture():
        step(1.0, 0.0)
        with pytest.warns(jb.JaxboardWarning, match="loss/x.*@jaxboard.instrument") as found:
            step(1.0, 1.0)
        step(1.0, 2.0)
    assert [warning.filename for warning in found] == [__file__]


def test_reports_between_the_steps_stay_at_their_step():
    """Values of a jitted function without instrument belong to the step before it, on several devices."""
    step = jb.instrument(jax.jit(lambda w, i: (jb.scalar("train", i), w)[1]))
    evaluate = jax.jit(body)
    w = sharded_weights()
    with capture() as records:
        for i in range(10):
            w = step(w, jnp.float32(i))
            evaluate(w, jnp.asarray(i))
    assert sorted((r.tag, r.step, float(r.value)) for r in records) == sorted(
        (tag, i, i) for tag in ("i", "train") for i in range(10)
    )


def test_a_stream_through_a_wrapper():
    """``stream=`` reaches the jitted function inside a partial and inside a wrapper."""

    def run(scale, xs):
        def body(carry, x):
            jb.scalar("x", x)
            return carry + scale * x, None

        return jax.lax.scan(body, jnp.float32(0), xs)[0]

    for wrap in (functools.partial, timed):
        fn = jb.instrument(wrap(jax.jit(run)), stream=2)
        with capture() as records:
            assert float(fn(jnp.float32(2), jnp.arange(4.0))) == 12
        assert [(r.step, float(r.value)) for r in records] == [(i, i) for i in range(4)]


def test_the_warning_without_a_run_names_the_users_line():
    """The warning that no run is open points at the call, through wrappers too."""
    for wrap in (jax.jit, lambda f: functools.partial(jax.jit(f)), lambda f: timed(jax.jit(f))):
        forget_warnings()
        step = jb.instrument(wrap(lambda x: x))
        with pytest.warns(jb.JaxboardWarning, match="no run is open") as found:
            step(1.0)
        assert [warning.filename for warning in found] == [__file__]

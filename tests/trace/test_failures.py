"""A program that jaxboard cannot make does not stop the user's."""

# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

import itertools
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.core import eval_jaxpr
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

import jaxboard as jb
from jaxboard._log import forget_warnings
from jaxboard._trace.deliveries.bare import Bare
from jaxboard._trace.rules.base import Rule
from jaxboard._trace.rules.table import RULES
from jaxboard.testing import capture

MESSAGE = "could not make its program"


@pytest.fixture(autouse=True)
def _each_warning_again():
    forget_warnings()


@pytest.fixture
def failing_cond(monkeypatch):
    """Return a function whose harvest fails: the rule of ``cond`` evaluates its branches and then raises."""
    rule = RULES["cond"]

    def fail(eqn, operands, context):
        rule.evaluate(eqn, operands, context)
        raise IndexError("the rule of cond is wrong")

    monkeypatch.setitem(RULES, "cond", Rule(fail))
    calls = []

    def function(x):
        calls.append(1)
        jb.scalar("before", x, every=2)
        jb.histogram("h", jnp.stack([x, x]), every=3)
        jax.debug.callback(lambda: None)
        return jax.lax.cond(x > 0, report_and_double, lambda x: x, x)

    def report_and_double(x):
        jb.scalar("in cond", x)
        return 2 * x

    return jax.jit(function)


def repeat(step, x, calls):
    for _ in range(calls):
        x = step(x)
    return float(x)


def points(records):
    return sorted(
        (r.tag, r.step, float(r.value.counts.sum() if r.tag == "h" else r.value)) for r in records
    )


def expected(first=0):
    values = [2.0**n for n in range(5)]
    windows = [(first, values[0]), (first + 2, 3.0), (first + 4, 12.0)]
    return sorted(
        [
            *[("before", step, value) for step, value in windows],
            *[("h", step, 2.0) for step in (first, first + 3)],
            *[("in cond", first + n, value) for n, value in enumerate(values)],
        ]
    )


@pytest.mark.parametrize(
    "options",
    [{}, {"gate": "cond"}, {"delivery": "callback"}, {"step": lambda x: jnp.log2(x).astype(int)}],
)
def test_a_rule_that_fails(failing_cond, options):
    """The results are those of the bare function, every point is right and arrives once, and one warning names the cause."""
    step = jb.instrument(failing_cond, **options)
    with capture() as records, pytest.warns(jb.JaxboardWarning, match=MESSAGE) as warned:
        assert repeat(step, jnp.float32(1), 5) == 32
    assert points(records) == expected()
    (warning,) = [w for w in warned if MESSAGE in str(w.message)]
    assert "IndexError: the rule of cond is wrong" in str(warning.message)
    assert warning.filename == __file__


def test_a_rule_that_fails_under_an_outer_jit(failing_cond):
    """The bare function runs inside the outer program too, and each of its calls counts as a step."""
    step = jb.instrument(failing_cond)
    outer = jax.jit(lambda x: step(x) + 1)
    with capture() as records:
        with pytest.warns(jb.JaxboardWarning, match=MESSAGE):
            assert float(outer(jnp.float32(1))) == 3
        jax.effects_barrier()
        run = jb.current_run()
        assert run is not None
        assert run.step == 1
    assert {r.tag for r in records} == {"before", "h", "in cond"}
    assert all(r.step == 0 for r in records)


def test_a_rule_that_fails_in_a_streamed_loop(failing_cond):
    """A loop that cannot be streamed runs as one step."""
    step = jb.instrument(
        jax.jit(lambda x: jax.lax.fori_loop(0, 5, lambda _, x: failing_cond(x), x)), stream=2
    )
    with capture() as records, pytest.warns(jb.JaxboardWarning, match=MESSAGE):
        assert float(step(jnp.float32(1))) == 32
    assert [(r.step, float(r.value)) for r in records if r.tag == "in cond"] == [
        (0, pytest.approx(31 / 5))
    ]


@pytest.mark.parametrize("method", ["precompile", "lower"])
def test_a_rule_that_fails_ahead_of_time(failing_cond, method):
    """``precompile`` and ``lower`` make the bare program."""
    step = jb.instrument(failing_cond)
    x = jnp.float32(1)
    with pytest.warns(jb.JaxboardWarning, match=MESSAGE):
        lowered = getattr(step, method)(x)
    with capture():
        compiled = step if lowered is None else lowered.compile()
        assert float(compiled(x)) == 2


def test_a_warning_that_is_an_error():
    """A warning during the harvest that a filter makes an error is raised, and later calls run the program."""

    def body(i):
        jb.scalar("iteration", i, step=i)
        return i + 1

    @jb.instrument
    @jax.jit
    def step(x):
        jb.scalar("x", x)
        return jax.lax.while_loop(lambda i: i < x, body, 0)

    with capture() as records:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with pytest.raises(jb.JaxboardWarning, match="step= in a while loop"):
                step(2)
            assert int(step(2)) == 2
        assert not isinstance(step._usual, Bare)
        jax.effects_barrier()
    assert [(r.step, float(r.value)) for r in records if r.tag == "x"] == [(1, 2.0)]


@pytest.mark.parametrize("options", [{}, {"stream": 2}])
def test_a_warning_after_the_call_is_not_an_error(failing_cond, caplog, options):
    """A call that has run returns its results, also if warnings are errors: the warning is logged."""
    function = failing_cond if not options else jax.jit(lambda x: (jb.scalar("x", x), 2 * x)[1])
    step = jb.instrument(jax.jit(function, donate_argnums=0), **options)
    with capture(), warnings.catch_warnings():
        warnings.simplefilter("error")
        assert float(step(jnp.float32(1))) == 2
    assert (MESSAGE if not options else "found no loop") in caplog.text


def fragile(fails):
    """Return an identity whose lowering raises while ``fails`` yields True."""
    primitive = Primitive("fragile")
    primitive.def_impl(lambda x: x)
    primitive.def_abstract_eval(lambda x: x)

    def lowering(ctx, x):
        if next(fails):
            raise NotImplementedError("no lowering here")
        return [x]

    mlir.register_lowering(primitive, lowering)
    return primitive.bind


def test_a_program_that_does_not_compile():
    """A program that only the instrumented function cannot lower is replaced too, and nothing is reported twice."""
    identity = fragile(itertools.chain([True, True], itertools.repeat(False)))

    @jb.instrument
    @jax.jit
    def step(x):
        jb.scalar("x", x)
        return identity(x) + 1

    with capture() as records, pytest.warns(jb.JaxboardWarning, match="no lowering here"):
        repeat(step, jnp.float32(0), 3)
    assert [(r.step, float(r.value)) for r in records] == [(0, 0.0), (1, 1.0), (2, 2.0)]


def test_a_program_that_never_compiles():
    """An error of the bare function reaches the user, without a warning of jaxboard's."""
    identity = fragile(itertools.repeat(True))
    step = jb.instrument(jax.jit(lambda x: (jb.scalar("x", x), identity(x))[1]))
    with capture() as records, warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(2):
            with pytest.raises(NotImplementedError, match="no lowering here") as caught:
                step(1.0)
            assert caught.value.__context__ is None
    assert not records


def test_the_users_own_error():
    """An error of the user's function passes unchanged, and its function is traced once."""
    error, calls = IndexError("mine"), []

    @jb.instrument
    @jax.jit
    def step(x):
        calls.append(1)
        jb.scalar("x", x)

        def body(x, _):
            raise error

        return jax.lax.scan(body, x, jnp.arange(2))

    with capture() as records, warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(IndexError) as caught:
            step(1.0)
    assert caught.value is error
    assert len(calls) == 1
    assert not records


def test_an_error_while_the_program_runs():
    """An error of the user's callback is raised, and the program does not run again."""
    calls = []

    def fail(x):
        calls.append(1)
        raise ValueError("in the callback")

    @jb.instrument
    @jax.jit
    def step(x):
        jb.scalar("x", x)
        return jax.pure_callback(fail, jax.ShapeDtypeStruct((), np.float32), x)

    with capture(), pytest.raises(jax.errors.JaxRuntimeError, match="in the callback"):
        step(jnp.float32(1)).block_until_ready()
    assert len(calls) == 1


def escaped_tracer():
    kept = []
    jax.make_jaxpr(lambda x: kept.append(x) or x)(1.0)
    return kept[0]


@pytest.mark.parametrize("make", [object, escaped_tracer])
def test_arguments_that_jax_refuses(make):
    """An invalid argument raises as it does without jaxboard, and the next call is instrumented."""
    argument = make()
    step = jb.instrument(jax.jit(lambda x: (jb.scalar("x", x), x)[1]))
    with capture() as records:
        with pytest.raises(TypeError) as caught:
            step(argument)
        with pytest.raises(TypeError) as bare:
            jax.jit(lambda x: x)(argument)
        assert type(caught.value) is type(bare.value)
        assert float(step(2.0)) == 2
    assert [float(r.value) for r in records] == [2]


def test_a_failure_under_grad_and_vmap(monkeypatch):
    """A primitive of the user whose rule fails leaves gradients and lanes right."""
    primitive = Primitive("with_body")
    primitive.multiple_results = True
    primitive.def_impl(lambda *x, jaxpr: eval_jaxpr(jaxpr.jaxpr, jaxpr.consts, *x))
    primitive.def_effectful_abstract_eval(
        lambda *x, jaxpr: (list(jaxpr.out_avals), set(jaxpr.effects))
    )
    evaluate = lambda *x, jaxpr: eval_jaxpr(jaxpr.jaxpr, jaxpr.consts, *x)  # noqa: E731
    mlir.register_lowering(primitive, mlir.lower_fun(evaluate, multiple_results=True))
    ad.primitive_jvps[primitive] = lambda primals, tangents, jaxpr: jax.jvp(
        lambda *x: evaluate(*x, jaxpr=jaxpr), primals, tangents
    )
    batching.primitive_batchers[primitive] = lambda args, dims, jaxpr: (
        jax.vmap(lambda *x: evaluate(*x, jaxpr=jaxpr), in_axes=tuple(dims))(*args),
        [0],
    )

    def fail(*args):
        raise TypeError("a rule that fails")

    monkeypatch.setitem(RULES, "with_body", Rule(fail))

    def reporting(x):
        jb.scalar("x", x)
        return x**2

    jaxpr = jax.make_jaxpr(reporting)(jnp.float32(1))

    @jb.instrument
    @jax.jit
    def step(x):
        (y,) = primitive.bind(x, jaxpr=jaxpr)
        return y, jax.grad(reporting)(x)

    with capture() as records, pytest.warns(jb.JaxboardWarning, match="a rule that fails"):
        y, gradient = step(jnp.float32(3))
    assert (float(y), float(gradient)) == (9, 6)
    assert [(r.step, float(r.value)) for r in records] == [(0, 3.0)]

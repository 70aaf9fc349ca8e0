"""Programs with a planted fault: the autopsy names the operation, its line, its iteration and its operands."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.sharding import NamedSharding, PartitionSpec

import jaxboard as jb
from jaxboard.sinks import MemorySink


def examine(function: Callable[..., Any], *args: Any) -> jb.Autopsy:
    """Return the cause, which must exist."""
    found = jb.autopsy(function, *args)
    assert found is not None
    return found


def line_of(function: Callable[..., Any], code: str) -> str:
    """Return the file and the number of the line of a function that contains some code."""
    lines, first = inspect.getsourcelines(inspect.unwrap(function))
    (offset,) = [n for n, line in enumerate(lines) if code in line]
    return f"{__file__}:{first + offset} "


def check(
    found: jb.Autopsy, function: Callable[..., Any], code: str, primitive: str, value: str = "NaN"
) -> None:
    """Check what began where."""
    assert found.operation is not None
    assert (found.value, found.operation.primitive) == (value, primitive)
    assert found.operation.source.startswith(line_of(function, code))


# --- Planted faults -------------------------------------------------------------------------------


def test_scan() -> None:
    """A log of a negative number in iteration 2 of a scan."""

    @jax.jit
    def step(weights, x):
        def layer(x, w):
            with jax.named_scope("layer"):
                return jnp.log(x) * w, x.sum()

        return lax.scan(layer, x, weights)

    found = examine(step, jnp.ones(4), jnp.array([2.0, 5.0]))
    check(found, step, "jnp.log", "log")
    assert found.operation is not None
    assert list(map(str, found.operation.loops)) == ["scan 2 of 4"]
    assert found.operation.scope == "layer"
    (operand,) = found.operands
    assert (operand.dtype, operand.shape, operand.nan, operand.inf) == ("float32", (2,), 0, 0)
    least, most = np.log(np.log([2.0, 5.0]))
    assert operand.minimum == pytest.approx(least, rel=1e-6)
    assert operand.maximum == pytest.approx(most, rel=1e-6)
    assert found.results == ("result 0", "result 1")
    assert str(found).splitlines()[1:] == [
        "  in iteration: scan 2 of 4",
        "  scope: layer",
        "  operand 1: float32[2]: -0.366513 to 0.475885",
        "  not finite afterwards: result 0, result 1",
    ]


def test_branch() -> None:
    """A division by zero in a branch of cond; the other branch is fine."""

    def step(which, x):
        return lax.cond(
            which > 0,
            lambda x: 1 / x,
            lambda x: x * 2,
            x,
        )

    x = jnp.array([0.0, 1.0])
    check(examine(step, 1, x), step, "1 / x", "div", "infinity")
    assert jb.autopsy(step, -1, x) is None
    # Under vmap, both branches are computed and one is selected.
    found = examine(jax.vmap(step), jnp.array([-1, 1]), jnp.stack([x, x]))
    check(found, step, "1 / x", "div", "infinity")
    assert jb.autopsy(jax.vmap(step), jnp.array([-1, -1]), jnp.stack([x, x])) is None


def test_remat() -> None:
    """An overflow of float16 in a rematerialized layer, which becomes NaN in the next one."""

    def loss(w, x):
        @jax.checkpoint
        def layer(x):
            x = (x @ w).astype(jnp.float16)
            return jnp.sin(x * x).astype(jnp.float32)

        return layer(layer(x)).sum()

    found = examine(jax.jit(jax.value_and_grad(loss)), jnp.full((2, 2), 1000.0), jnp.ones((1, 2)))
    check(found, loss, "x * x", "mul", "infinity")
    assert [str(operand) for operand in found.operands] == ["float16[1,2]: 2000"] * 2
    assert found.became_nan is not None
    assert found.became_nan.primitive == "sin"


def test_gradient() -> None:
    """The value is finite, its gradient is not: a square root at zero, in a scan that runs in reverse."""

    def loss(weights):
        def layer(x, w):
            x = jnp.sqrt(x * w)
            return x, None

        return lax.scan(jax.checkpoint(layer), 1.0, weights)[0]

    found = examine(jax.value_and_grad(loss), jnp.array([1.0, 1.0, 0.0]))
    check(found, loss, "jnp.sqrt", "div", "infinity")
    assert found.operation is not None
    assert list(map(str, found.operation.loops)) == ["scan 2 of 3"]
    assert found.operation.scope.startswith("transpose(jvp(")
    assert found.results == ("result 1",)


def test_custom_derivative() -> None:
    """A NaN in the backward function of a custom_vjp."""

    @jax.custom_vjp
    def function(x):
        return jnp.sin(x)

    def backward(x, g):
        return (g * jnp.log(x),)

    function.defvjp(lambda x: (jnp.sin(x), x), backward)

    def loss(x):
        return function(x).sum()

    # JAX gives the operations of a backward function the line of the call.
    found = examine(jax.grad(loss), jnp.array([-1.0, 1.0]))
    check(found, loss, "function(x)", "log")


def test_while_loop() -> None:
    """An overflow in a loop of unknown length, also under vmap, where other lanes have finished."""

    def step(n, x):
        def body(state):
            n, x = state
            return n - 1, jnp.where(n == 2, x * 1e30, x)

        return lax.while_loop(lambda state: state[0] > 0, body, (n, x))[1]

    found = examine(step, 50, jnp.float32(1e20))
    check(found, step, "x * 1e30", "mul", "infinity")
    assert found.operation is not None
    assert list(map(str, found.operation.loops)) == ["while 48"]
    n, x = jnp.array([1, 5]), jnp.array([1.0, 1e20])
    found = examine(jax.vmap(step), n, x)
    assert found.operation is not None
    assert list(map(str, found.operation.loops)) == ["while 3"]
    assert jb.autopsy(jax.vmap(step), n, x[::-1]) is None


@pytest.mark.parametrize("check_vma", [True, False])
def test_shard_map(*, check_vma: bool) -> None:
    """A NaN on one of eight devices, in a branch in a scan; operands are those of its shard."""
    mesh = jax.make_mesh((8,), ("device",), axis_types=(jax.sharding.AxisType.Auto,))

    def local(x):
        def body(total, x):
            total = lax.cond(
                x.sum() > 8,
                lambda total: jnp.sqrt(total - 2),
                lambda total: total,
                total,
            )
            return total, None

        return lax.psum(lax.scan(body, x[0], x)[0], "device")

    spec = PartitionSpec(None, "device")
    function = jax.shard_map(
        local, mesh=mesh, in_specs=spec, out_specs=PartitionSpec(), check_vma=check_vma
    )
    x = jax.device_put(jnp.ones((5, 16)).at[3, 7].set(9.0), NamedSharding(mesh, spec))
    found = examine(jax.jit(function), x)
    check(found, local, "jnp.sqrt", "sqrt")
    assert found.operation is not None
    assert list(map(str, found.operation.loops)) == ["shard_map 3 of 8", "scan 3 of 5"]
    assert list(map(str, found.operands)) == ["float32[2]: -1"]


def test_sharded_arguments() -> None:
    """Arguments and intermediate values may be sharded, and donation does not take the user's buffers."""
    mesh = jax.make_mesh((8,), ("device",), axis_types=(jax.sharding.AxisType.Auto,))
    sharding = NamedSharding(mesh, PartitionSpec("device"))

    def inner(state, x):
        state = lax.with_sharding_constraint(state - x, sharding)
        return jnp.log(state)

    step = jb.instrument(jax.jit(inner, donate_argnums=0, out_shardings=sharding))
    state = jax.device_put(jnp.arange(16.0), sharding)
    check(examine(step, state, 1.0), inner, "jnp.log", "log")
    assert not state.is_deleted()
    np.testing.assert_array_equal(state, np.arange(16))
    state.delete()
    with pytest.raises(jb.UsageError, match="was donated to an earlier call"):
        jb.autopsy(step, state, 1.0)


def test_argument() -> None:
    """A NaN in an argument is named by its path."""
    state = {"params": [jnp.ones(2), jnp.array([jnp.nan, 1.0])]}
    found = examine(lambda state, x: state["params"][1] * x, state, 2.0)
    assert (found.value, found.operation, found.argument) == ("NaN", None, "state/params/1")
    assert str(found) == (
        "NaN was in state/params/1 before the call\n  not finite afterwards: result"
    )


def test_infinite_argument() -> None:
    """An infinity in an argument is named if it becomes NaN."""
    found = examine(lambda x, y: jnp.sum(x) - y, jnp.array([jnp.inf, 1.0]), jnp.inf)
    assert found.operation is not None
    assert (found.value, found.operation.primitive, found.infinity) == ("NaN", "sub", "x")


def test_report() -> None:
    """A value that only a report has counts, also in a loop. The report is not written again."""

    @jb.instrument
    @jax.jit
    def step(x):
        def body(total, x):
            jb.scalar("log", jnp.log(x))
            return total + x, None

        return lax.scan(body, 0.0, x)[0]

    sink = MemorySink()
    with jb.Run(None, sinks=[sink], telemetry=False):
        found = examine(step, jnp.array([1.0, 2.0, -3.0, -4.0]))
        assert jb.autopsy(step, jnp.array([1.0, 2.0])) is None
    check(found, step, "jnp.log", "log")
    assert found.operation is not None
    assert list(map(str, found.operation.loops)) == ["scan 2 of 4"]
    assert found.results == ("report 'log'",)
    assert sink.records == []


def test_module() -> None:
    """The parameters that a training step changes in place are results."""
    nnx = pytest.importorskip("flax.nnx")

    @nnx.jit
    def step(model, x):
        model.kernel[...] = jnp.log(model.kernel[...])
        return x

    model = nnx.Linear(1, 1, use_bias=False, rngs=nnx.Rngs(0))
    model.kernel[...] = -jnp.ones((1, 1))
    found = examine(step, model, 1.0)
    assert found.operation is not None
    assert (found.operation.primitive, found.results) == ("log", ("argument model/kernel/value",))
    assert model.kernel[...] == -1


# --- No false alarm -------------------------------------------------------------------------------


def attention(mask, x):
    """Return the gradient of a masked attention with a log-softmax."""

    def loss(x):
        scores = jnp.where(mask, x @ x.T, -jnp.inf)
        values = jax.nn.softmax(scores) @ x
        return values.sum() + jnp.where(mask, jax.nn.log_softmax(scores), 0).sum()

    return jax.value_and_grad(loss)(x)


def test_masks() -> None:
    """Masked infinities and NaN are not findings; a row without an unmasked element is one."""
    mask, x = jnp.tril(jnp.ones((3, 3), bool)), jnp.ones((3, 2))
    step = jax.jit(attention)
    assert jb.autopsy(step, mask, x) is None
    found = examine(step, mask.at[1].set(False), x)
    assert found.operation is not None
    assert (found.value, found.operation.primitive) == ("NaN", "sub")
    assert found.infinity == "a constant of the program"


def entropy(p, x):
    """Return an entropy whose zero probabilities are masked, and another value."""
    masked = jnp.where(p > 0, p * jnp.log(p), 0)
    return masked.sum(), jnp.log(x)


def test_masked_before() -> None:
    """A masked NaN does not hide a later one."""
    p = jnp.array([0.0, 1.0])
    assert jb.autopsy(entropy, p, 1.0) is None
    check(examine(entropy, p, jnp.float32(-1)), entropy, "jnp.log(x)", "log")


def test_intended_infinities() -> None:
    """Infinities in results that were in arguments or constants are intended; an overflow beside a mask is not."""

    def step(best, mask, x):
        scores = jnp.where(mask, x, -jnp.inf)
        return jnp.minimum(best, jnp.inf), scores, jnp.exp(scores).sum()

    best, mask = jnp.float32(jnp.inf), jnp.array([True, False])
    assert jb.autopsy(step, best, mask, jnp.ones(2)) is None
    found = examine(step, best, mask, jnp.full(2, 1000.0))
    check(found, step, "jnp.exp", "exp", "infinity")
    assert list(map(str, found.operands)) == ["float32[2]: 1000, 1 infinite"]


def test_callbacks_do_not_run() -> None:
    """Callbacks without results are not called again."""
    calls = []

    def step(x):
        jax.debug.callback(calls.append, x)
        return jnp.log(x)

    check(examine(step, jnp.float32(-1)), step, "jnp.log", "log")
    assert calls == []


def test_checks_of_jax() -> None:
    """JAX's own check of results does not disturb."""

    def step(x):
        return jnp.log(x)

    with jax.debug_nans(True):
        check(examine(step, jnp.float32(-1)), step, "jnp.log", "log")


def test_wrong_arguments() -> None:
    """Something that is not a function raises."""
    with pytest.raises(jb.UsageError, match=r"autopsy: expected a function, got 3 \(int\)"):
        jb.autopsy(3)  # pyright: ignore[reportArgumentType]

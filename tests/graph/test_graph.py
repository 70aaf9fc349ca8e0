"""``graph``: the operations of a function, their scopes, and what is left out of a large one."""

from __future__ import annotations

import functools
from collections import Counter
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen, nnx

import jaxboard as jb
from jaxboard._errors import ReportError
from jaxboard._graph import budget
from jaxboard._graph.nested import Scope
from jaxboard.records import GraphNode, Kind
from jaxboard.testing import capture


def graph(function: Any, *args: Any, **kwargs: Any) -> dict[str, GraphNode]:
    """Return the nodes of a function's graph by name."""
    with capture() as records:
        jb.graph(function, *args, **kwargs)
    (record,) = records
    assert (record.kind, record.tag) == (Kind.GRAPH, "")
    nodes = {node.name: node for node in record.value.nodes}
    assert len(nodes) == len(record.value.nodes)
    references = {name.partition(":")[0] for node in nodes.values() for name in node.inputs}
    assert references <= set(nodes)
    return nodes


def ops(nodes: dict[str, GraphNode], scope: str = "") -> dict[str, str]:
    """Return name -> op of the nodes in a scope, without inputs and outputs."""
    return {
        name: node.op
        for name, node in nodes.items()
        if name.startswith(scope) and node.op not in ("input", "output")
    }


def test_operations_and_their_inputs() -> None:
    """Operations have inputs, types, literals, parameters and floating-point operations."""

    def f(state: Any, x: Any, *, scale: Any) -> Any:
        return {"y": jnp.tanh(x @ state["w"]) * 2.0, "n": state["n"] + 1, "scale": scale}

    nodes = graph(
        f,
        {"w": jnp.ones((3, 2)), "n": 4},
        jax.ShapeDtypeStruct((5, 3), jnp.float32),
        scale=np.ones(2),
    )
    assert nodes["inputs/state/w"] == GraphNode(
        "inputs/state/w", "input", (), (("float32", (3, 2)),), {}
    )
    dot = nodes["dot_general"]
    assert (dot.inputs, dot.outputs) == (("inputs/x", "inputs/state/w"), (("float32", (5, 2)),))
    assert dot.attributes["flops"] == str(2 * 5 * 3 * 2)
    assert nodes["mul"].inputs == ("tanh",)
    assert nodes["mul"].attributes["input 1"] == "2.0"
    assert nodes["outputs/y"].inputs == ("mul",)
    # A Python number is not an input of the traced function, and a constant result comes from nowhere.
    assert "inputs/state/n" not in nodes
    assert nodes["outputs/n"].inputs == ()
    assert nodes["outputs/scale"].inputs == ("inputs/scale",)


def test_later_outputs_are_numbered() -> None:
    """An output of an operation after the first is a reference with its position."""
    nodes = graph(lambda x: jax.lax.top_k(x, 2)[1], jnp.arange(4.0))
    assert nodes["outputs/value"].inputs == ("top_k:1",)


def test_scopes_and_derivatives() -> None:
    """Named scopes, the two passes of a gradient and custom derivative rules are scopes."""

    def loss(w: jax.Array, x: jax.Array) -> jax.Array:
        with jax.named_scope("layer"):
            return jax.nn.relu(x @ w).sum()

    nodes = ops(graph(jax.jit(jax.grad(loss)), jnp.ones((3, 2)), jnp.ones((4, 3))))
    assert nodes["jvp/layer/dot_general"] == "dot_general"
    assert nodes["jvp/layer/custom_jvp_relu/max"] == "max"
    assert nodes["transpose_jvp/layer/dot_general"] == "dot_general"
    assert {name.split("/")[0] for name in nodes} == {"jvp", "transpose_jvp"}


def test_custom_vjp_and_remat() -> None:
    """A function with a rule of its own, and a checkpoint, are scopes."""

    @jax.custom_vjp
    def f(x: jax.Array) -> jax.Array:
        return jnp.sin(x) + 1

    f.defvjp(lambda x: (f(x), x), lambda x, ct: (ct * x,))
    nodes = ops(graph(jax.checkpoint(lambda x: jnp.cos(f(x))), jnp.ones(3)))
    assert sorted(Counter(name.split("/")[0] for name in nodes)) in (["checkpoint"], ["remat"])
    assert "sin" in {op for name, op in nodes.items() if "custom_vjp" in name}


def test_control_flow() -> None:
    """A loop and a branch are scopes with their bodies, and an operation with their results."""

    def f(x: jax.Array) -> Any:
        total, each = jax.lax.scan(lambda c, t: (c + jnp.sin(t), c * 2), x.sum(), x)
        n = jax.lax.while_loop(lambda c: c[0] < 5, lambda c: (c[0] + 1, c[1] * 3.0), (0, total))
        return jax.lax.cond(total > 0, jnp.cos, jnp.exp, n[1]), each

    nodes = graph(f, jnp.ones(4))
    assert nodes["scan/sin"].inputs == ("inputs/x",)
    assert nodes["scan/result"].op == "scan"
    assert nodes["scan/result"].inputs == ("scan/add", "scan/mul")
    assert nodes["scan/result"].attributes["length"] == "4"
    assert nodes["outputs/1"].inputs == ("scan/result:1",)
    assert nodes["while/cond/lt"].op == "lt"
    assert nodes["while/body/mul"].inputs == ("scan/result",)
    assert {nodes["cond/branch_0/exp"].inputs, nodes["cond/branch_1/cos"].inputs} == {
        ("while/result:1",)
    }


def test_reports_are_operations() -> None:
    """A report is an operation, in jitted, instrumented and nested functions; none is delivered."""

    @jb.instrument
    @jax.jit
    def inner(x: jax.Array) -> jax.Array:
        jb.scalar("loss", x.sum(), every=10)
        return x

    @jb.instrument
    @jax.jit
    def outer(x: jax.Array) -> jax.Array:
        with jb.scope("inside"):
            return inner(x) * 2

    with capture() as records:
        jb.graph(outer, jnp.ones(3), tag="outer")
    (record,) = records
    assert (record.kind, record.tag, record.step) == (Kind.GRAPH, "outer", 0)
    (report,) = (node for node in record.value.nodes if node.op == "report")
    assert report.name.endswith("report_inside_loss")
    assert report.attributes == {"tag": "inside/loss", "kind": "scalar", "every": "10"}


def test_static_arguments_and_methods() -> None:
    """Static arguments, partials and bound methods are traced as they are called."""

    class Model:
        def apply(self, x: jax.Array, name: str) -> jax.Array:
            assert name == "sin"
            return jnp.sin(x)

    nodes = graph(jax.jit(Model().apply, static_argnames="name"), jnp.ones(2), name="sin")
    assert set(nodes) == {"inputs/x", "sin", "outputs/value"}
    nodes = graph(functools.partial(jnp.add, jnp.ones(2)), jnp.ones(2))
    assert nodes["add"].op == "add"


def test_a_literal_name_is_not_a_path() -> None:
    """Characters with a meaning in TensorBoard's paths are replaced."""
    with capture() as records:
        jb.graph(lambda tree: tree["a/b: c"] * 2, {"a/b: c": jnp.ones(1)})
    assert "inputs/tree/a/b__c" in {node.name for node in records[0].value.nodes}


class Block(nnx.Module):
    """A layer, which calls another module twice."""

    def __init__(self, rngs: nnx.Rngs):
        self.linear = nnx.Linear(4, 4, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return jnp.tanh(self.linear(self.linear(x)))


class Model(nnx.Module):
    """Two layers in a list."""

    def __init__(self, rngs: nnx.Rngs):
        self.blocks = nnx.List([Block(rngs), Block(rngs)])

    def __call__(self, x: jax.Array) -> jax.Array:
        for block in self.blocks:
            x = block(x)
        return x


def test_nnx_modules_are_scopes() -> None:
    """Modules of NNX are scopes named by their paths, in a training step that was already compiled."""
    model = Model(nnx.Rngs(0))
    optimizer = nnx.Optimizer(model, optax.sgd(0.1), wrt=nnx.Param)

    @nnx.jit
    def step(model: Model, optimizer: nnx.Optimizer[Model], x: jax.Array) -> jax.Array:
        loss, grads = nnx.value_and_grad(lambda m: m(x).sum())(model)
        optimizer.update(model, grads)
        return loss

    original = vars(Block)["__call__"]
    x = jnp.ones((2, 4))
    step(model, optimizer, x)
    nodes = ops(graph(step, model, optimizer, x))
    scopes = {"/".join(name.split("/")[:4]) for name, op in nodes.items() if op == "dot_general"}
    assert scopes == {f"{way}/Model/blocks/{i}" for way in ("jvp", "transpose_jvp") for i in (0, 1)}
    assert sum(name.startswith("jvp/Model/blocks/0/linear/dot_general") for name in nodes) == 2
    assert nodes["jvp/Model/blocks/1/tanh"] == "tanh"
    assert any(name.startswith("optimizer/") for name in nodes)
    assert vars(Block)["__call__"] is original
    # A module that is the function, or in its closure.
    assert ops(graph(model, x), "Model/blocks/1/tanh") == {"Model/blocks/1/tanh": "tanh"}
    assert "Model/blocks/1/tanh" in ops(graph(lambda x: model(x) + 1, x))


def test_linen_modules_are_scopes() -> None:
    """Modules of Linen are scopes by themselves."""
    model = linen.Sequential([linen.Dense(4), linen.Dense(2)])
    x = jnp.ones((1, 3))
    params = model.init(jax.random.key(0), x)
    nodes = ops(graph(model.apply, params, x))
    dense = [name for name, op in nodes.items() if op == "dot_general"]
    assert [name.split("/")[-2] for name in dense] == ["layers_0", "layers_1"]


def test_shardings_are_shown() -> None:
    """An explicit sharding is an attribute of an input and of an operation."""
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Explicit,))
    with jax.set_mesh(mesh):
        x = jax.device_put(jnp.ones((8, 2)), jax.NamedSharding(mesh, jax.P("data")))
        nodes = graph(jnp.sin, x)
    assert "data" in nodes["inputs/x"].attributes["sharding"]
    assert "data" in nodes["sin"].attributes["sharding of outputs"]


def test_errors(tmp_path: Any) -> None:
    """The message has the tag, the user's line and what was passed."""
    with (
        capture(),
        pytest.raises(ReportError, match=r"test_graph.py:\d+\): expected a function, got"),
    ):
        jb.graph(jnp.ones(3))  # pyright: ignore[reportArgumentType]
    with capture(), pytest.raises(ReportError, match=r"JAX cannot trace dot: TypeError") as error:
        jb.graph(jnp.dot, jnp.ones((2, 3)), jnp.ones((4, 5)))
    assert isinstance(error.value.__cause__, TypeError)
    with capture(), pytest.raises(ReportError, match="graph is for plain Python"):
        jax.jit(lambda x: jb.graph(jnp.sin, x))(1.0)


# --- Large graphs ---------------------------------------------------------------------------------


def layers(count: int, size: int) -> Scope:
    """Return a tree with equal layers of operations."""
    root = Scope()
    for _ in range(count):
        layer = root.new_scope("layer")
        for _ in range(size):
            layer.add("add", "add")
    return root


def test_a_graph_that_fits_is_whole() -> None:
    """Nothing is left out of a graph within the budget."""
    root = layers(3, 4)
    assert budget.fit(root, max_nodes=12, max_in_scope=4) == ""
    assert all(
        isinstance(child, Scope) and child.summary is None for child in root.children.values()
    )


def test_equal_layers_become_one_node() -> None:
    """The first of equal layers is shown whole."""
    root = layers(3, 4)
    assert budget.fit(root, max_nodes=11, max_in_scope=4) == (
        "12 operations, more than TensorBoard draws quickly. 2 scopes equal another one and are shown as one node each."
    )
    summaries = [
        child.summary and child.summary.op
        for child in root.children.values()
        if isinstance(child, Scope)
    ]
    assert summaries == [None, "same as layer", "same as layer"]


def test_different_layers_are_cut_at_the_bottom() -> None:
    """Scopes are opened from the outermost, until the budget is used."""
    root = Scope()
    for size in (1, 2, 3):
        layer = root.new_scope("layer")
        for _ in range(size):
            layer.add("add", "add")
    assert budget.fit(root, max_nodes=5, max_in_scope=4).startswith("6 operations")
    summaries = [
        child.summary and child.summary.op
        for child in root.children.values()
        if isinstance(child, Scope)
    ]
    assert summaries == [None, None, "layer_2"]


def test_long_scopes_are_split() -> None:
    """No scope has more operations than TensorBoard lays out quickly."""
    nodes = graph(lambda x: functools.reduce(lambda y, _: y + x, range(1000), x), jnp.ones(2))
    sizes = Counter(name.rpartition("/")[0] for name in nodes)
    assert sizes == {
        "inputs": 1,
        "part": 300,
        "part_1": 300,
        "part_2": 300,
        "part_3": 100,
        "outputs": 1,
    }


def test_a_large_function_is_cut(caplog: pytest.LogCaptureFixture) -> None:
    """A function of more operations than the budget has a summary that reads what its layers read."""

    def f(x: jax.Array) -> jax.Array:
        for i in range(30):
            with jax.named_scope(f"layer_{i}"):
                for _ in range(200):
                    x = x * 2.0
        return x

    nodes = graph(f, jnp.ones(2))
    assert len(nodes) == 1 + 200 + 29 + 1
    assert nodes["layer_7"].op == "same as layer_0"
    assert nodes["layer_7"].inputs == ("layer_6",)
    assert nodes["layer_7"].attributes == {"operations": "200", "flops": "400"}
    (message,) = caplog.messages
    assert message == (
        "jaxboard: graph of f: 6002 operations, more than TensorBoard draws quickly. "
        "29 scopes equal another one and are shown as one node each."
    )

"""The time to report the graph of a training step, and its size, by the number of layers.

The step is that of a transformer without parameters that its layers share: the loss, its gradient and an update with
momentum. Nothing is run or compiled. Times are those of the processor, which other load affects little. With --logdir,
TensorBoard shows a graph:

    python benchmarks/graph.py --logdir runs/graphs
    tensorboard --logdir runs/graphs/24_layers
"""

from __future__ import annotations

import argparse
import pathlib
import tempfile
import time
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
from environment import environment

import jaxboard as jb
from jaxboard.sinks import Kind, MemorySink, TensorBoardSink

WIDTH, HEADS, LENGTH, VOCABULARY = 256, 4, 64, 512


def layer_params() -> dict[str, jax.ShapeDtypeStruct]:
    """Return the shapes of the parameters of a layer."""
    shapes = {
        "norm_1": (WIDTH,),
        "qkv": (WIDTH, 3 * WIDTH),
        "out": (WIDTH, WIDTH),
        "norm_2": (WIDTH,),
        "up": (WIDTH, 4 * WIDTH),
        "down": (4 * WIDTH, WIDTH),
    }
    return {name: jax.ShapeDtypeStruct(shape, jnp.float32) for name, shape in shapes.items()}


def normalized(x: jax.Array, scale: jax.Array) -> jax.Array:
    return x * jax.lax.rsqrt((x * x).mean(-1, keepdims=True) + 1e-6) * scale


def attention(params: dict[str, jax.Array], x: jax.Array) -> jax.Array:
    heads = (normalized(x, params["norm_1"]) @ params["qkv"]).reshape(*x.shape[:2], HEADS, -1)
    q, k, v = jnp.split(heads, 3, axis=-1)
    scores = jnp.einsum("bqhd,bkhd->bhqk", q, k) / q.shape[-1] ** 0.5
    causal = jnp.tril(jnp.ones((LENGTH, LENGTH), bool))
    weights = jax.nn.softmax(jnp.where(causal, scores, -jnp.inf))
    return jnp.einsum("bhqk,bkhd->bqhd", weights, v).reshape(x.shape) @ params["out"]


def loss_of(params: dict[str, Any], tokens: jax.Array) -> jax.Array:
    x = params["embedding"][tokens]
    for name, layer in params["layers"].items():
        with jax.named_scope(name):
            with jax.named_scope("attention"):
                x = x + attention(layer, x)
            with jax.named_scope("mlp"):
                hidden = jax.nn.gelu(normalized(x, layer["norm_2"]) @ layer["up"])
                x = x + hidden @ layer["down"]
    losses = jax.nn.log_softmax(x[:, :-1] @ params["embedding"].T)
    loss = -jnp.take_along_axis(losses, tokens[:, 1:, None], -1).mean()
    jb.scalar("loss", loss)
    return loss


@jax.jit
def train_step(params: Any, momentum: Any, tokens: jax.Array) -> tuple[Any, Any]:
    grads = jax.grad(loss_of)(params, tokens)
    with jax.named_scope("optimizer"):
        momentum = jax.tree.map(lambda m, g: 0.9 * m + g, momentum, grads)
        params = jax.tree.map(lambda p, m: p - 1e-3 * m, params, momentum)
    return params, momentum


def equations(jaxpr: Any) -> Iterator[Any]:
    """Yield the equations of a jaxpr and of those inside of it."""
    for equation in jaxpr.eqns:
        yield equation
        for inner in jax.tree.leaves(list(equation.params.values()), is_leaf=is_jaxpr):
            if is_jaxpr(inner):
                yield from equations(inner)


def is_jaxpr(value: object) -> bool:
    return hasattr(value, "eqns")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--layers", type=int, nargs="+", default=[12, 22, 24, 48])
    parser.add_argument(
        "--logdir", help="where to write the graphs; by default a temporary directory"
    )
    options = parser.parse_args()
    print(environment())
    print("| layers | equations | nodes | file | tracing | `jb.graph` |")
    print("| ---: | ---: | ---: | ---: | ---: | ---: |")
    with tempfile.TemporaryDirectory() as directory:
        logdir = options.logdir or directory
        for count in options.layers:
            row(count, f"{logdir}/{count}_layers")


def row(count: int, logdir: str) -> None:
    """Print the row of a number of layers."""
    params = {
        "embedding": jax.ShapeDtypeStruct((VOCABULARY, WIDTH), jnp.float32),
        "layers": {f"layer_{n}": layer_params() for n in range(count)},
    }
    tokens = jax.ShapeDtypeStruct((4, LENGTH), jnp.int32)
    arguments = (params, params, tokens)
    start = time.process_time()
    traced = jax.make_jaxpr(train_step)(*arguments)
    tracing = time.process_time() - start
    jax.clear_caches()
    memory = MemorySink()
    with jb.Run(None, sinks=[memory, TensorBoardSink(logdir)]):
        start = time.process_time()
        jb.graph(train_step, *arguments)
        seconds = time.process_time() - start
    (graph,) = (record.value for record in memory.records if record.kind is Kind.GRAPH)
    size = max(path.stat().st_size for path in pathlib.Path(logdir).iterdir())
    numbers = f"{sum(1 for _ in equations(traced.jaxpr)):,} | {len(graph.nodes):,}"
    print(
        f"| {count} | {numbers} | {size / 2**10:.0f} KiB | {tracing:.1f} s | {seconds:.1f} s |",
        flush=True,
    )


if __name__ == "__main__":
    main()

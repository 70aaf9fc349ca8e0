"""The time that the first calls of an instrumented step take, compared with the step without reports.

Each measurement is a process of its own, and the variants take turns, so that no cache is warm and other load on the
machine affects all of them. The clock starts before the first call and stops when its results are ready; imports, the
making of parameters and the opening of the run are not counted. The table shows the median over the rounds, and the
median of the ratios to the bare step of the same round.

    python benchmarks/compile_time.py --rounds 5
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

import jaxboard as jb

LAYERS, WIDTH, HEADS, LENGTH, VOCABULARY = 12, 256, 4, 64, 512


def new_params() -> dict[str, dict[str, jax.Array]]:
    """Return the parameters of a transformer: 72 leaves of four shapes in its layers, and three more."""
    shapes = {
        "qkv": (WIDTH, 3 * WIDTH),
        "out": (WIDTH, WIDTH),
        "up": (WIDTH, 4 * WIDTH),
        "down": (4 * WIDTH, WIDTH),
        "norm_1": (WIDTH,),
        "norm_2": (WIDTH,),
    }
    layer = {
        name: jnp.full(shape, 1e-2 if len(shape) > 1 else 1.0, jnp.float32)
        for name, shape in shapes.items()
    }
    params = {f"layer_{n}": jax.tree.map(jnp.copy, layer) for n in range(LAYERS)}
    return params | {"tokens": {"embedding": jnp.full((VOCABULARY, WIDTH), 1e-2, jnp.float32)}}


def transformer(params: dict[str, dict[str, jax.Array]], tokens: jax.Array, reports: str):
    x = params["tokens"]["embedding"][tokens]
    causal = jnp.tril(jnp.ones((LENGTH, LENGTH), bool))
    for n in range(LAYERS):
        layer = params[f"layer_{n}"]
        heads = _norm(x, layer["norm_1"]) @ layer["qkv"]
        q, k, v = jnp.split(heads.reshape(*x.shape[:2], HEADS, -1), 3, axis=-1)
        scores = jnp.einsum("bqhd,bkhd->bhqk", q, k) / q.shape[-1] ** 0.5
        weights = jax.nn.softmax(jnp.where(causal, scores, -jnp.inf))
        attended = jnp.einsum("bhqk,bkhd->bqhd", weights, v).reshape(x.shape)
        x = x + attended @ layer["out"]
        x = x + jax.nn.gelu(_norm(x, layer["norm_2"]) @ layer["up"]) @ layer["down"]
        if reports != "bare":
            jb.scalar(f"layer_{n}/attention", jnp.abs(attended).mean())
            jb.scalar(f"layer_{n}/output", jnp.abs(x).mean())
    logits = x[:, :-1] @ params["tokens"]["embedding"].T
    losses = -jnp.take_along_axis(jax.nn.log_softmax(logits), tokens[:, 1:, None], -1)
    if reports != "bare":
        jb.scalar("loss", losses.mean())
    return losses.mean()


def _norm(x: jax.Array, scale: jax.Array) -> jax.Array:
    return x * jax.lax.rsqrt((x * x).mean(-1, keepdims=True) + 1e-6) * scale


def transformer_step(reports: str) -> tuple[Callable[..., Any], tuple[Any, ...]]:
    def step(params, momentum, tokens):
        grads = jax.grad(transformer)(params, tokens, reports)
        if reports == "watch":
            jb.watch("gradients", {k: v for k, v in grads.items() if k != "tokens"}, every=100)
        momentum = jax.tree.map(lambda m, g: 0.9 * m + g, momentum, grads)
        return jax.tree.map(lambda p, m: p - 1e-3 * m, params, momentum), momentum

    params = new_params()
    tokens = jnp.arange(4 * LENGTH, dtype=jnp.int32).reshape(4, LENGTH) % VOCABULARY
    jitted = jax.jit(step, donate_argnums=(0, 1))
    function = jitted if reports == "bare" else jb.instrument(jitted)
    return function, (params, jax.tree.map(jnp.zeros_like, params), tokens)


if __name__ == "__main__":
    kind = sys.argv[1]
    times = {}

    def listen(event, secs, **kw):
        e = event.rsplit("/", 1)[-1]
        times[e] = times.get(e, 0) + secs
        times[e + "#"] = times.get(e + "#", 0) + 1

    step, args = transformer_step(kind)
    jax.block_until_ready(args)
    with tempfile.TemporaryDirectory() as d, jb.Run(d) as run:
        jb.scalar("x", 1.0)
        run.flush()
        run.step = 0
        jax.monitoring.register_event_duration_secs_listener(listen)
        t = time.perf_counter()
        c = time.process_time()
        (*args2,) = jax.block_until_ready(step(*args))
        first = (time.perf_counter() - t, time.process_time() - c)
        res = []
        p, m = args2
        for i in range(3):
            t = time.perf_counter()
            c = time.process_time()
            p, m = jax.block_until_ready(step(p, m, args[2]))
            res.append(time.perf_counter() - t)
        print(kind, first, [round(x, 3) for x in res], {k: round(v, 2) for k, v in times.items()})

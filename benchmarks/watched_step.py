"""What watching all gradients and parameters of a model adds to its training step.

The model has ten million parameters. Watched are, every hundredth step, the norm, the root mean square, the
largest magnitude, the number of non-finite elements and the histogram of each leaf, of gradients and of
parameters; and a loss each step. Bare and watched steps take turns ten at a time, and each ten is compared with
the ten beside it, so that what else the machine does falls on both. Of ten tens, one has the step that is due;
the two kinds are told apart, so that the noise of the others does not hide it. Printed are medians, and
the ratio of a hundred steps: nine tenths of the one ratio, one tenth of the other.

    python benchmarks/watched_step.py --batches 32 128 256 --rounds 15
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import tempfile
import time
from typing import Any

import jax
import jax.numpy as jnp

import jaxboard as jb

WIDTHS = (512, 1792, 1792, 1792, 1792, 10)


def new_params() -> dict[str, dict[str, jax.Array]]:
    keys = jax.random.split(jax.random.key(0), len(WIDTHS) - 1)
    return {
        f"layer_{i}": {
            "kernel": jax.random.normal(key, (rows, columns)) / rows**0.5,
            "bias": jnp.zeros(columns),
        }
        for i, (key, rows, columns) in enumerate(zip(keys, WIDTHS, WIDTHS[1:], strict=False))
    }


def update(params, batch, *, watched: bool):
    def loss_fn(params):
        x, y = batch
        *hidden, last = params.values()
        for layer in hidden:
            x = jnp.tanh(x @ layer["kernel"] + layer["bias"])
        loss = jnp.mean((x @ last["kernel"] + last["bias"] - y) ** 2)
        if watched:
            jb.scalar("loss", loss)
        return loss

    grads = jax.grad(loss_fn)(params)
    if watched:
        jb.watch("grads", grads, every=100)
        jb.watch("params", params, every=100)
    return jax.tree.map(lambda p, g: p - 1e-3 * g, params, grads)


def seconds_of(step, params, batch, steps: int) -> tuple[float, dict]:
    start = time.perf_counter()
    for _ in range(steps):
        params = step(params, batch)
    jax.block_until_ready(params)
    return time.perf_counter() - start, params


def measure(size: int, rounds: int, run: jb.Run) -> None:
    x, y = jax.random.split(jax.random.key(1))
    batch = jax.random.normal(x, (size, WIDTHS[0])), jax.random.normal(y, (size, WIDTHS[-1]))
    bare = jax.jit(lambda p, b: update(p, b, watched=False), donate_argnums=0)
    watched: Any = jb.instrument(jax.jit(lambda p, b: update(p, b, watched=True), donate_argnums=0))
    ways = {"bare": bare, "watched": watched}
    watched.precompile(new_params(), batch)
    params = {name: new_params() for name in ways}
    for name, way in ways.items():
        _, params[name] = seconds_of(way, params[name], batch, 10)
    run.flush()
    run.step = 0
    tens: dict[tuple[str, bool], list[float]] = {}
    for n in range(rounds):
        for part in range(10):
            for name in sorted(ways, reverse=bool((n + part) % 2)):
                seconds, params[name] = seconds_of(ways[name], params[name], batch, 10)
                tens.setdefault((name, part == 0), []).append(seconds)
        run.flush()
    quiet, due = (
        statistics.median(w / b for w, b in zip(tens["watched", d], tens["bare", d], strict=True))
        for d in (False, True)
    )
    bare = statistics.median(tens["bare", False]) * 1e2
    print(
        f"| {size:5} | {bare:7.2f} | {bare * quiet:7.2f} | {bare * (10 * due - 9 * quiet):7.2f} | "
        f"{0.9 * quiet + 0.1 * due:5.3f} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="What jb.watch adds to a step.")
    parser.add_argument("--batches", type=int, nargs="+", default=[32, 128, 256], metavar="SIZE")
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    count = sum(x.size for x in jax.tree.leaves(new_params()))
    print(
        f"jax {jax.__version__}, jaxboard {jb.__version__}, Python {platform.python_version()}, "
        f"{jax.default_backend()} backend, {os.cpu_count()} CPUs; {count / 1e6:.1f} million "
        f"parameters; {options.rounds} rounds\n\n"
        "| batch | bare, ms | watched, not due | due | ratio of a hundred |\n"
        "| ---: | ---: | ---: | ---: | ---: |"
    )
    with tempfile.TemporaryDirectory() as folder, jb.Run(folder) as run:
        jb.scalar("ready", 0.0)
        run.flush()  # TensorFlow is imported
        for size in options.batches:
            measure(size, options.rounds, run)


if __name__ == "__main__":
    main()

"""The cost of watching all gradients and parameters of a model in its training step.

The model has ten million parameters. Every hundredth step reports the norm, the root mean square, the largest
magnitude, the number of non-finite elements and the histogram of each leaf of the gradients and the parameters. Every
step reports the loss.

Bare and watched steps alternate in blocks of ten, and each block is compared with its neighbour, so that other load on
the machine affects both. One of ten blocks contains the step whose reports are due. The two kinds of blocks are
evaluated separately, so that noise in the other nine does not hide the cost of the due step. The table shows medians,
and the ratio over a hundred steps: nine tenths of one ratio plus one tenth of the other.

    python benchmarks/watched_step.py --batches 32 128 256 --rounds 15
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from typing import Any

import jax
import jax.numpy as jnp
from environment import environment

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
    steps = {"bare": bare, "watched": watched}
    watched.precompile(new_params(), batch)
    params = {name: new_params() for name in steps}
    for name, step in steps.items():
        _, params[name] = seconds_of(step, params[name], batch, 10)
    run.flush()
    run.step = 0
    blocks: dict[tuple[str, bool], list[float]] = {}
    """Seconds of ten steps, by function and by whether reports are due in them."""
    for n in range(rounds):
        for part in range(10):
            for name in sorted(steps, reverse=bool((n + part) % 2)):
                seconds, params[name] = seconds_of(steps[name], params[name], batch, 10)
                blocks.setdefault((name, part == 0), []).append(seconds)
        run.flush()
    not_due_ratio, due_ratio = (
        statistics.median(
            w / b for w, b in zip(blocks["watched", d], blocks["bare", d], strict=True)
        )
        for d in (False, True)
    )
    bare_ms = statistics.median(blocks["bare", False]) * 1e2
    print(
        f"| {size:5} | {bare_ms:7.2f} | {bare_ms * not_due_ratio:7.2f} | {bare_ms * (10 * due_ratio - 9 * not_due_ratio):7.2f} | "
        f"{0.9 * not_due_ratio + 0.1 * due_ratio:5.3f} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure the cost of jb.watch.")
    parser.add_argument("--batches", type=int, nargs="+", default=[32, 128, 256], metavar="SIZE")
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    count = sum(x.size for x in jax.tree.leaves(new_params()))
    print(
        f"{environment()}; {count / 1e6:.1f} million "
        f"parameters; {options.rounds} rounds\n\n"
        "| batch | bare, ms | watched, not due | watched, due | ratio over 100 steps |\n"
        "| ---: | ---: | ---: | ---: | ---: |"
    )
    with tempfile.TemporaryDirectory() as folder, jb.Run(folder) as run:
        jb.scalar("ready", 0.0)
        run.flush()  # after the event file is opened
        for size in options.batches:
            measure(size, options.rounds, run)


if __name__ == "__main__":
    main()

"""What watching all gradients and parameters of a model adds to its training step.

The model has ten million parameters. Watched are, every hundredth step, the norm, the root mean square, the
largest magnitude, the number of non-finite elements and the histogram of each leaf, of gradients and of
parameters; and a loss each step. Bare and watched rounds take turns, each of whole hundreds of steps, and a
ratio is taken between neighbours; printed are medians.

    python benchmarks/watched_step.py --batch 32 --hundreds 1 --rounds 9
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


def seconds_a_step(step, params, batch, steps: int) -> tuple[float, dict]:
    start = time.perf_counter()
    for _ in range(steps):
        params = step(params, batch)
    jax.block_until_ready(params)
    return (time.perf_counter() - start) / steps, params


def main() -> None:
    parser = argparse.ArgumentParser(description="What jb.watch adds to a step.")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--hundreds", type=int, default=1, help="of steps in a round")
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    count = sum(x.size for x in jax.tree.leaves(new_params()))
    print(
        f"jax {jax.__version__}, jaxboard {jb.__version__}, Python {platform.python_version()}, "
        f"{jax.default_backend()} backend, {os.cpu_count()} CPUs; {count / 1e6:.1f} million "
        f"parameters, batch {options.batch}; {options.rounds} rounds of {options.hundreds * 100} steps"
    )
    x, y = jax.random.split(jax.random.key(1))
    batch = (
        jax.random.normal(x, (options.batch, WIDTHS[0])),
        jax.random.normal(y, (options.batch, 10)),
    )
    bare = jax.jit(lambda p, b: update(p, b, watched=False), donate_argnums=0)
    watched: Any = jb.instrument(jax.jit(lambda p, b: update(p, b, watched=True), donate_argnums=0))
    ways = {"bare": bare, "watched": watched}
    with tempfile.TemporaryDirectory() as folder, jb.Run(folder) as run:
        watched.precompile(new_params(), batch)
        params = {name: new_params() for name in ways}
        for name, way in ways.items():
            _, params[name] = seconds_a_step(way, params[name], batch, 10)
        run.step = 0
        run.flush()
        times: dict[str, list[float]] = {name: [] for name in ways}
        for n in range(options.rounds):
            for name in sorted(ways, reverse=bool(n % 2)):
                seconds, params[name] = seconds_a_step(
                    ways[name], params[name], batch, options.hundreds * 100
                )
                times[name].append(seconds)
            run.flush()
    ratios = [w / b for w, b in zip(times["watched"], times["bare"], strict=True)]
    print(f"\n| {'':7} | ms a step |\n| --- | ---: |")
    for name, seconds in times.items():
        print(f"| {name:7} | {statistics.median(seconds) * 1e3:9.2f} |")
    print(
        f"\nWatched to bare: {statistics.median(ratios):.3f} "
        f"(lowest {min(ratios):.3f}, highest {max(ratios):.3f})"
    )


if __name__ == "__main__":
    main()

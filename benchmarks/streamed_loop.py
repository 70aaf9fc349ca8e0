"""What ten scalars an iteration cost a training loop that is jitted whole, by the way in which they are logged.

The loop is a ``lax.scan``; an iteration is a small product and a ``tanh``. Ways take turns; printed are
medians over the rounds, in microseconds an iteration. jaxboard fetches, encodes and writes event files, the
others drop what they get.

    python benchmarks/streamed_loop.py --iterations 10000 --rounds 5
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import io_callback

import jaxboard as jb

WIDTH = 32
SCALARS = 10


def loop(iterations: int, report: Callable[[list[jax.Array]], None]) -> Any:
    weights = jax.random.normal(jax.random.key(0), (WIDTH, WIDTH)) / WIDTH

    def body(x, _):
        x = jnp.tanh(x @ weights) + 0.01
        mean = x.mean()
        report([mean * (i + 1) for i in range(SCALARS)])
        return x, None

    return jax.jit(lambda x: lax.scan(body, x, length=iterations)[0])


def nothing(values: list[jax.Array]) -> None:
    """Reports nothing."""


def dropped(*values: Any) -> None:
    """What the callbacks call."""


def report(values: list[jax.Array]) -> None:
    for i, value in enumerate(values):
        jb.scalar(f"metric/{i}", value)


def each(values: list[jax.Array]) -> None:
    for value in values:
        jax.debug.callback(dropped, value)


def main() -> None:
    parser = argparse.ArgumentParser(description="What logging adds to a jitted loop.")
    parser.add_argument("--iterations", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    n = options.iterations
    print(
        f"jax {jax.__version__}, jaxboard {jb.__version__}, Python {platform.python_version()}, "
        f"{jax.default_backend()} backend, {os.cpu_count()} CPUs; {options.rounds} rounds of {n} iterations"
    )
    ways: dict[str, Any] = {
        "no logging": loop(n, nothing),
        **{
            f"jaxboard, stream={size}": jb.instrument(stream=size)(loop(n, report))
            for size in (64, 256, 1000)
        },
        "one io_callback an iteration": loop(
            n, lambda values: io_callback(dropped, None, jnp.stack(values)) and None
        ),
        "ten debug.callback an iteration": loop(n, each),
    }
    x = jnp.ones((8, WIDTH))
    times: dict[str, list[float]] = {name: [] for name in ways}
    with tempfile.TemporaryDirectory() as folder, jb.Run(folder) as run:
        for way in ways.values():
            jax.block_until_ready(way(x))
        for _ in range(options.rounds):
            for name, way in ways.items():
                jax.effects_barrier()
                run.flush()
                start = time.perf_counter()
                jax.block_until_ready(way(x))
                jax.effects_barrier()
                times[name].append((time.perf_counter() - start) / n * 1e6)
    print(f"\n| {'':31} | µs an iteration |\n| --- | ---: |")
    for name, own in times.items():
        print(f"| {name:31} | {statistics.median(own):15.2f} |")


if __name__ == "__main__":
    main()

"""The cost of ten scalars per iteration of a jitted training loop, compared with callbacks.

The loop is a ``lax.scan`` whose iteration is a small matrix product and a ``tanh``. The methods alternate; the table
shows medians over the rounds. jaxboard fetches, encodes and writes event files. The callbacks discard their
arguments.

A second table has the processor time of two scalars of eight seeds, from the loop to the event files, with and without
windows.

    python benchmarks/streamed_loop.py --iterations 10000 --rounds 5
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from environment import environment
from jax import lax
from jax.experimental import io_callback

import jaxboard as jb

WIDTH = 32
SCALARS = 10
SEEDS = 8


def loop(iterations: int, report: Callable[[list[jax.Array]], None]) -> Any:
    weights = jax.random.normal(jax.random.key(0), (WIDTH, WIDTH)) / WIDTH

    def body(x, _):
        x = jnp.tanh(x @ weights) + 0.01
        mean = x.mean()
        report([mean * (i + 1) for i in range(SCALARS)])
        return x, None

    return jax.jit(lambda x: lax.scan(body, x, length=iterations)[0])


def report_nothing(values: list[jax.Array]) -> None:
    """Do nothing."""


def discard(*values: Any) -> None:
    """Do nothing: the callbacks call this."""


def report_scalars(values: list[jax.Array]) -> None:
    for i, value in enumerate(values):
        jb.scalar(f"metric/{i}", value)


def report_by_debug_callback(values: list[jax.Array]) -> None:
    for value in values:
        jax.debug.callback(discard, value)


def seeds(iterations: int, every: int | None) -> Any:
    """Return a loop of several seeds that reports two scalars."""

    def body(x, _):
        x = jnp.tanh(x) + 0.01
        jb.scalar("loss", x, every=every)
        jb.scalar("accuracy", 2 * x, every=every)
        return x, None

    train = jax.jit(jax.vmap(lambda x: lax.scan(body, x, length=iterations)[0]))
    return jb.instrument(train, stream=1000, runs="vmap")


def measure_windows(iterations: int, rounds: int) -> None:
    """Print the processor time of reports with and without windows."""
    print(f"\n| two scalars, {SEEDS} seeds | processor time, µs per iteration |\n| --- | ---: |")
    x = jnp.ones(SEEDS)
    for every in (None, 10, 100, 1000):
        train = seeds(iterations, every)
        times: list[float] = []
        with tempfile.TemporaryDirectory() as folder, jb.Run(folder) as run:
            for _ in range(rounds + 1):
                start = time.process_time()
                jax.block_until_ready(train(x))
                run.flush()
                times.append((time.process_time() - start) / iterations * 1e6)
        name = "every iteration" if every is None else f"every={every}"
        print(f"| {name} | {statistics.median(times[1:]):.2f} |")  # The first round compiles.


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure the cost of logging in a jitted loop.")
    parser.add_argument("--iterations", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    n = options.iterations
    print(f"{environment()}; {options.rounds} rounds of {n} iterations")
    methods: dict[str, Any] = {
        "no logging": loop(n, report_nothing),
        **{
            f"jaxboard, stream={size}": jb.instrument(stream=size)(loop(n, report_scalars))
            for size in (64, 256, 1000)
        },
        "one io_callback per iteration": loop(
            n, lambda values: io_callback(discard, None, jnp.stack(values)) and None
        ),
        "ten debug.callback per iteration": loop(n, report_by_debug_callback),
    }
    x = jnp.ones((8, WIDTH))
    times: dict[str, list[float]] = {name: [] for name in methods}
    with tempfile.TemporaryDirectory() as folder, jb.Run(folder) as run:
        for method in methods.values():
            jax.block_until_ready(method(x))
        for _ in range(options.rounds):
            for name, method in methods.items():
                jax.effects_barrier()
                run.flush()
                start = time.perf_counter()
                jax.block_until_ready(method(x))
                jax.effects_barrier()
                times[name].append((time.perf_counter() - start) / n * 1e6)
    print(f"\n| {'':32} | µs per iteration |\n| --- | ---: |")
    for name, microseconds in times.items():
        print(f"| {name:32} | {statistics.median(microseconds):16.2f} |")
    measure_windows(n, options.rounds)


if __name__ == "__main__":
    main()

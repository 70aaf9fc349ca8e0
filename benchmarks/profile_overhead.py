"""What does a profile cost the training loop: before its window, within it, after it, and at its ends?

A small instrumented step, so that what a profile adds can be seen beside it. Rounds of the phases take turns;
the table has medians of the rounds. The ends are the two steps that wait for the recording to start and to
stop; the first capture of a process, which also compiles what they wait with, is left out.

    python benchmarks/profile_overhead.py --steps 2000 --rounds 9
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import platform
import statistics
import tempfile
import time

import jax
import jax.numpy as jnp

import jaxboard as jb
from jaxboard.sinks import MemorySink


@jb.instrument
@jax.jit
def step(x):
    return jnp.tanh(x @ x)


def seconds(x, steps):
    start = time.perf_counter()
    for _ in range(steps):
        x = step(x)
    x.block_until_ready()
    return time.perf_counter() - start


def span(name, steps):
    start = time.perf_counter()
    for _ in range(steps):
        with jb.trace(name):
            pass
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description="What a profile costs the training loop.")
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    logging.getLogger("jaxboard").setLevel(logging.ERROR)
    n = options.steps
    x = jnp.ones((64, 64))
    table: dict[str, list[float]] = {}
    ends: dict[str, list[float]] = {"starting": [], "stopping": []}

    def add(phase, took):
        table.setdefault(phase, []).append(took / n * 1e6)

    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        run = stack.enter_context(jb.Run(None, sinks=[MemorySink()]))
        for round_ in range(options.rounds + 1):
            add("no profile", seconds(x, n))
            first = run.step + n
            profiler = jb.profile((first, first + n + 2), folder, sync=False)
            with profiler:
                add("before the window", seconds(x, n))
                start, own = seconds(x, 1), seconds(x, n)
                add("within it", own)
                stop = seconds(x, 1)
                if round_:
                    ends["starting"].append(start * 1e3)
                    ends["stopping"].append(stop * 1e3)
                add("after it", seconds(x, n))
            add("a jb.trace, alone", span("span", n))

    print(
        f"jax {jax.__version__}, jaxboard {jb.__version__}, Python {platform.python_version()}, "
        f"{jax.default_backend()} backend, {os.cpu_count()} CPUs; {n} steps, {options.rounds} rounds\n"
    )
    print(f"| {'':20} | µs each |\n| --- | ---: |")
    for phase, times in table.items():
        print(f"| {phase:20} | {statistics.median(times[1:]):7.2f} |")
    print(f"\n| {'':20} |      ms |\n| --- | ---: |")
    for phase, times in ends.items():
        print(f"| {phase:20} | {statistics.median(times):7.1f} |")


if __name__ == "__main__":
    main()

"""The cost of a profile for the training loop: before, within and after its step range, and at both ends.

The instrumented step is small, so that the cost of a profile is visible next to it. The phases alternate, and the
tables show medians over the rounds. The ends are the two steps that wait until the recording starts or stops. The
first capture of a process is not counted: it compiles the barrier that these steps wait with.

    python benchmarks/profile_overhead.py --steps 2000 --rounds 9
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import statistics
import tempfile
import time

import jax
import jax.numpy as jnp
from environment import environment

import jaxboard as jb
from jaxboard.sinks import MemorySink


@jb.instrument
@jax.jit
def step(x):
    return jnp.tanh(x @ x)


def seconds_of_steps(x, steps):
    start = time.perf_counter()
    for _ in range(steps):
        x = step(x)
    x.block_until_ready()
    return time.perf_counter() - start


def seconds_of_spans(name, steps):
    start = time.perf_counter()
    for _ in range(steps):
        with jb.trace(name):
            pass
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure the cost of a profile.")
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    logging.getLogger("jaxboard").setLevel(logging.ERROR)
    n = options.steps
    x = jnp.ones((64, 64))
    table: dict[str, list[float]] = {}
    ends: dict[str, list[float]] = {"starting": [], "stopping": []}

    def add(phase, seconds):
        table.setdefault(phase, []).append(seconds / n * 1e6)

    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        run = stack.enter_context(jb.Run(None, sinks=[MemorySink()]))
        for round_ in range(options.rounds + 1):
            add("no profile", seconds_of_steps(x, n))
            first = run.step + n
            profiler = jb.profile((first, first + n + 2), folder, sync=False)
            with profiler:
                add("before the range", seconds_of_steps(x, n))
                start = seconds_of_steps(x, 1)
                add("within the range", seconds_of_steps(x, n))
                stop = seconds_of_steps(x, 1)
                if round_:
                    ends["starting"].append(start * 1e3)
                    ends["stopping"].append(stop * 1e3)
                add("after the range", seconds_of_steps(x, n))
            add("jb.trace alone", seconds_of_spans("span", n))

    print(f"{environment()}; {n} steps, {options.rounds} rounds\n")
    print(f"| {'':20} | µs each |\n| --- | ---: |")
    for phase, times in table.items():
        print(f"| {phase:20} | {statistics.median(times[1:]):7.2f} |")
    print(f"\n| {'':20} |      ms |\n| --- | ---: |")
    for phase, times in ends.items():
        print(f"| {phase:20} | {statistics.median(times):7.1f} |")


if __name__ == "__main__":
    main()

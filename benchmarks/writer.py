"""The cost of the host pipeline: a hundred scalars per step, from the training loop to the event file.

jaxboard's scalars come from an instrumented step: the processor time is that of the whole process, with the calls, the
computation of the scalars, their transfer, the assembly of points, the encoding and the writing. Its second row is a
plain loop of ``jb.scalars``. The other writers get Python floats, without a step or an array. All times end when the
scalars are in the file. Rounds alternate; the table shows medians.

    python benchmarks/writer.py --steps 2000 --rounds 7
"""

from __future__ import annotations

import argparse
import pathlib
import statistics
import tempfile
import time
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from environment import environment
from peers import BASE, Peer, open_peers

import jaxboard as jb

SCALARS = 100
TAGS = [f"metrics/value_{i}" for i in range(SCALARS)]

Method = Callable[[range], object]
"""Log a hundred scalars at each of these steps, and return when they are in the file."""


def instrumented(run: jb.Run) -> Method:
    @jb.instrument
    @jax.jit
    def step(x: jax.Array) -> jax.Array:
        x = x + 1
        for i, tag in enumerate(TAGS):
            jb.scalar(tag, x * i)
        return x

    def log(steps: range) -> None:
        x = jnp.float32(steps.start)
        run.step = steps.start
        for _ in steps:
            x = step(x)
        run.flush()

    return log


def plain_loop(run: jb.Run) -> Method:
    def log(steps: range) -> None:
        for run.step in steps:
            jb.scalars("plain", {tag: run.step * i / 7 for i, tag in enumerate(TAGS)})
        run.flush()

    return log


def written_by(peer: Peer) -> Method:
    def log(steps: range) -> None:
        for step in steps:
            peer.log(step, {tag: step * i / 7 for i, tag in enumerate(TAGS)})
        peer.flush()

    return log


class Usage(NamedTuple):
    """The cost of one scalar: seconds, seconds of the processor, and bytes of the file."""

    seconds: float
    cpu: float
    size: float


def bytes_in(folder: pathlib.Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def measure(method: Method, steps: range, folder: pathlib.Path) -> Usage:
    size, cpu, start = bytes_in(folder), time.process_time(), time.perf_counter()
    method(steps)
    elapsed, cpu = time.perf_counter() - start, time.process_time() - cpu
    count = len(steps) * SCALARS
    return Usage(elapsed / count, cpu / count, (bytes_in(folder) - size) / count)


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure the way of scalars to the event file.")
    parser.add_argument("--steps", type=int, default=2000, help="steps per round of jaxboard")
    parser.add_argument("--peer-steps", type=int, default=50, help="steps per round of the others")
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    print(f"{environment()}; {options.rounds} rounds")
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        with jb.Run(folder / "jaxboard") as run:
            methods = {
                "jaxboard, instrumented step": instrumented(run),
                "jaxboard, plain loop": plain_loop(run),
                **{each: written_by(peer) for each, peer in open_peers(name).items()},
            }
            usage: dict[str, list[Usage]] = {each: [] for each in methods}
            names, first = list(methods), 0
            for n in range(-1, options.rounds):  # The first round compiles and warms up.
                for each in names[n % len(names) :] + names[: n % len(names)]:
                    count = options.steps if each == names[0] else options.peer_steps
                    used = measure(methods[each], range(first, first + count), folder)
                    if n >= 0:
                        usage[each].append(used)
                first += options.steps
    base = statistics.median(used.cpu for used in usage[BASE]) if BASE in usage else float("nan")
    print(f"\n| {'':27} | scalars/s | CPU, µs per scalar | to {BASE} | bytes per scalar |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for each, rounds in usage.items():
        seconds, cpu, size = (statistics.median(column) for column in zip(*rounds, strict=True))
        print(
            f"| {each:27} | {1 / seconds:9.0f} | {cpu * 1e6:18.2f} | {cpu / base:15.3f} | {size:16.1f} |"
        )


if __name__ == "__main__":
    main()

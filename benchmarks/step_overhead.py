"""What a training step costs with ten scalars a step, by the way in which they are logged.

Each way trains the same small network and takes rounds in turn, so that what else the machine does falls
on all of them alike; a round ends when the state is ready. Printed are medians over the rounds; a ratio is
taken within each round first. The bare step computes no values to log: every ratio includes computing them.

TensorFlow's import, which jaxboard makes in the background once per process, is over before the first
round. A round is long enough for jaxboard to fetch, encode and write within it; what is left at its end is
waited for outside the round, and that wait is printed.

    python benchmarks/step_overhead.py --sizes 96 720 1750 --rounds 5 --seconds 2
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
import tensorboardX
from jax.experimental import io_callback

import jaxboard as jb

BATCH = 32
FEATURES = 16
OUTPUTS = 9  # one error each, and the loss: ten scalars
WINDOW = 1000  # steps after which the hand-rolled way fetches what it kept
TAGS = ["loss", *(f"error/{i}" for i in range(OUTPUTS))]

State = list[jax.Array]
Batch = tuple[jax.Array, jax.Array]
# Takes so many steps, and has the state ready when it returns.
Way = Callable[[int], None]


def new_state(width: int) -> State:
    shapes = [(FEATURES, width), (width, width), (width, width), (width, OUTPUTS)]
    keys = jax.random.split(jax.random.key(0), len(shapes))
    return [jax.random.normal(k, s) / s[0] ** 0.5 for k, s in zip(keys, shapes, strict=True)]


def new_batch() -> Batch:
    x, y = jax.random.split(jax.random.key(1))
    return jax.random.normal(x, (BATCH, FEATURES)), jax.random.normal(y, (BATCH, OUTPUTS))


def update(state: State, batch: Batch, report: Callable[[list[jax.Array]], None]) -> tuple:
    """One step of gradient descent; the new state and the ten values, which are also reported."""

    def loss_fn(state: State):
        x, y = batch
        for w in state[:-1]:
            x = jnp.tanh(x @ w)
        errors = jnp.mean((x @ state[-1] - y) ** 2, axis=0)
        loss = jnp.mean(errors)
        values = [loss, *(errors[i] for i in range(OUTPUTS))]
        report(values)
        return loss, values

    gradient, values = jax.grad(loss_fn, has_aux=True)(state)
    return [w - 1e-3 * g for w, g in zip(state, gradient, strict=True)], values


def nothing(values: list[jax.Array]) -> None:
    """Reports nothing."""


def dropped(values: Any) -> None:
    """What the callbacks call: the least that a callback can do."""


def steps_of(step: Callable[[State, Batch], State], width: int) -> Way:
    """A way to log in which the step returns only its state."""
    state, batch = new_state(width), new_batch()

    def run(steps: int) -> None:
        nonlocal state
        for _ in range(steps):
            state = step(state, batch)
        jax.block_until_ready(state)
        jax.effects_barrier()

    return run


def bare(width: int) -> Way:
    return steps_of(
        jax.jit(lambda state, batch: update(state, batch, nothing)[0], donate_argnums=0), width
    )


def jaxboard(width: int) -> Way:
    def report(values: list[jax.Array]) -> None:
        for tag, value in zip(TAGS, values, strict=True):
            jb.scalar(tag, value)

    step = jax.jit(lambda state, batch: update(state, batch, report)[0], donate_argnums=0)
    return steps_of(jb.instrument(step), width)


def returned_by_hand(width: int) -> Way:
    """The step returns the values as one vector; they are read on the host, and go nowhere."""
    state, batch = new_state(width), new_batch()

    def stacked(state: State, batch: Batch):
        state, values = update(state, batch, nothing)
        return state, jnp.stack(values)

    step = jax.jit(stacked, donate_argnums=0)

    def run(steps: int) -> None:
        nonlocal state
        kept = []
        for _ in range(steps):
            state, values = step(state, batch)
            kept.append(values)
            if len(kept) == WINDOW:
                jax.device_get(kept)
                kept.clear()
        jax.device_get(kept)
        jax.block_until_ready(state)

    return run


def fused_io_callback(width: int) -> Way:
    """One callback a step that takes all values and drops them."""

    def report(values: list[jax.Array]) -> None:
        io_callback(dropped, None, jnp.stack(values))

    def step(state: State, batch: Batch) -> State:
        # Outside of the loss: io_callback has no derivative.
        state, values = update(state, batch, nothing)
        report(values)
        return state

    return steps_of(jax.jit(step, donate_argnums=0), width)


def debug_callbacks(width: int) -> Way:
    """One callback per value, which drops it."""

    def report(values: list[jax.Array]) -> None:
        for value in values:
            jax.debug.callback(dropped, value)

    return steps_of(
        jax.jit(lambda state, batch: update(state, batch, report)[0], donate_argnums=0), width
    )


def float_and_tensorboardx(width: int, writer: tensorboardX.SummaryWriter) -> Way:
    """``writer.add_scalar(tag, float(value), step)`` for each value after each step."""
    state, batch, count = new_state(width), new_batch(), 0
    step = jax.jit(lambda state, batch: update(state, batch, nothing), donate_argnums=0)

    def run(steps: int) -> None:
        nonlocal state, count
        for _ in range(steps):
            state, values = step(state, batch)
            for tag, value in zip(TAGS, values, strict=True):
                writer.add_scalar(tag, float(value), count)
            count += 1
        jax.block_until_ready(state)

    return run


def seconds_of(way: Way, steps: int) -> float:
    start = time.perf_counter()
    way(steps)
    return time.perf_counter() - start


def steps_for(way: Way, seconds: float) -> int:
    """How many steps take about so long; compiles and warms up on the way."""
    way(20)
    steps = 20
    while (took := seconds_of(way, steps)) < min(0.3, seconds):
        steps *= 2
    return max(1, round(steps * seconds / took))


def measure(width: int, rounds: int, seconds: float, run: jb.Run, writer: Any) -> None:
    ways: dict[str, Way] = {
        "bare step": bare(width),
        "jaxboard": jaxboard(width),
        "returned by hand": returned_by_hand(width),
        "one io_callback": fused_io_callback(width),
        "ten debug.callback": debug_callbacks(width),
        "float(), tensorboardX": float_and_tensorboardx(width, writer),
    }
    steps = {name: steps_for(way, seconds) for name, way in ways.items()}
    run.flush()
    times: dict[str, list[float]] = {name: [] for name in ways}
    waits: list[float] = []
    names = list(ways)
    for n in range(rounds):
        turn = n % len(names)
        for name in names[turn:] + names[:turn]:
            times[name].append(seconds_of(ways[name], steps[name]) / steps[name])
            start = time.perf_counter()
            # No way pays for the work that another left behind.
            run.flush()
            if name == "jaxboard":
                waits.append(time.perf_counter() - start)

    print(f"\nwidth {width}\n")
    print(f"| {'':21} | µs a step | to bare | lowest to highest |")
    print("| --- | ---: | ---: | ---: |")
    for name, own in times.items():
        ratios = [t / b for t, b in zip(own, times["bare step"], strict=True)]
        spread = f"{min(ratios):.2f} to {max(ratios):.2f}"
        print(
            f"| {name:21} | {statistics.median(own) * 1e6:9.1f} "
            f"| {statistics.median(ratios):7.2f} | {spread:>17} |"
        )
    print(
        f"\nAfter a round of {steps['jaxboard']} steps jaxboard had "
        f"{statistics.median(waits) * 1e3:.0f} ms of work left (not in the table)."
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="What logging ten scalars adds to a step.")
    parser.add_argument("--sizes", type=int, nargs="+", default=[96, 720, 1750], metavar="WIDTH")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0, help="of a round, about")
    options = parser.parse_args()
    print(
        f"jax {jax.__version__}, jaxboard {jb.__version__}, Python {platform.python_version()}, "
        f"{jax.default_backend()} backend, {os.cpu_count()} CPUs; {options.rounds} rounds of about "
        f"{options.seconds:g} s"
    )
    with tempfile.TemporaryDirectory() as folder:
        writer = tensorboardX.SummaryWriter(os.path.join(folder, "tensorboardX"))
        with jb.Run(os.path.join(folder, "jaxboard")) as run:
            jb.scalar("ready", 0.0)
            run.flush()
            for width in options.sizes:
                measure(width, options.rounds, options.seconds, run, writer)
        writer.close()


if __name__ == "__main__":
    main()

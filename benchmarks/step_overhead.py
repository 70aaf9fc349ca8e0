"""The cost of logging ten scalars per step, by method.

All methods train the same small network. Their rounds alternate, so that other load on the machine affects all of
them alike; a round ends when the state is ready. The table shows medians over the rounds, of the times and of the ratios
within a round. The bare step does not compute the logged values: every ratio includes their computation.

A round is long enough for jaxboard to fetch, encode and write during it. Work that is left at its end is waited for
outside the round, and the wait is printed.

    python benchmarks/step_overhead.py --sizes 96 720 1750 --rounds 5 --seconds 2
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import tensorboardX
from environment import environment
from jax.experimental import io_callback

import jaxboard as jb

BATCH = 32
FEATURES = 16
OUTPUTS = 9  # one error per output and the loss: ten scalars
FETCH_EVERY = 1000  # steps between two fetches of values returned by hand
TAGS = ["loss", *(f"error/{i}" for i in range(OUTPUTS))]

State = list[jax.Array]
Batch = tuple[jax.Array, jax.Array]
Method = Callable[[int], None]
"""Take this many steps and return when the state is ready."""


def new_state(width: int) -> State:
    shapes = [(FEATURES, width), (width, width), (width, width), (width, OUTPUTS)]
    keys = jax.random.split(jax.random.key(0), len(shapes))
    return [jax.random.normal(k, s) / s[0] ** 0.5 for k, s in zip(keys, shapes, strict=True)]


def new_batch() -> Batch:
    x, y = jax.random.split(jax.random.key(1))
    return jax.random.normal(x, (BATCH, FEATURES)), jax.random.normal(y, (BATCH, OUTPUTS))


def update(state: State, batch: Batch, report: Callable[[list[jax.Array]], None]) -> tuple:
    """Take one step of gradient descent; report the ten values and return the new state and the values."""

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


def report_nothing(values: list[jax.Array]) -> None:
    """Do nothing."""


def discard(values: Any) -> None:
    """Do nothing: the callbacks call this, the cheapest host function there is."""


def training(step: Callable[[State, Batch], State], width: int) -> Method:
    """Return the method that trains with a step that returns only the state."""
    state, batch = new_state(width), new_batch()

    def run(steps: int) -> None:
        nonlocal state
        for _ in range(steps):
            state = step(state, batch)
        jax.block_until_ready(state)
        jax.effects_barrier()

    return run


def bare(width: int) -> Method:
    return training(
        jax.jit(lambda state, batch: update(state, batch, report_nothing)[0], donate_argnums=0),
        width,
    )


def jaxboard(width: int) -> Method:
    def report(values: list[jax.Array]) -> None:
        for tag, value in zip(TAGS, values, strict=True):
            jb.scalar(tag, value)

    step = jax.jit(lambda state, batch: update(state, batch, report)[0], donate_argnums=0)
    return training(jb.instrument(step), width)


def returned_by_hand(width: int) -> Method:
    """Return the values from the step as one vector and read them on the host, without writing them."""
    state, batch = new_state(width), new_batch()

    def stacked(state: State, batch: Batch):
        state, values = update(state, batch, report_nothing)
        return state, jnp.stack(values)

    step = jax.jit(stacked, donate_argnums=0)

    def run(steps: int) -> None:
        nonlocal state
        pending = []
        for _ in range(steps):
            state, values = step(state, batch)
            pending.append(values)
            if len(pending) == FETCH_EVERY:
                jax.device_get(pending)
                pending.clear()
        jax.device_get(pending)
        jax.block_until_ready(state)

    return run


def fused_io_callback(width: int) -> Method:
    """Pass all values of a step to one callback that discards them."""

    def report(values: list[jax.Array]) -> None:
        io_callback(discard, None, jnp.stack(values))

    def step(state: State, batch: Batch) -> State:
        # Outside the loss: io_callback has no derivative.
        state, values = update(state, batch, report_nothing)
        report(values)
        return state

    return training(jax.jit(step, donate_argnums=0), width)


def debug_callbacks(width: int) -> Method:
    """Pass each value to a callback that discards it."""

    def report(values: list[jax.Array]) -> None:
        for value in values:
            jax.debug.callback(discard, value)

    return training(
        jax.jit(lambda state, batch: update(state, batch, report)[0], donate_argnums=0), width
    )


def float_and_tensorboardx(width: int, writer: tensorboardX.SummaryWriter) -> Method:
    """Call ``writer.add_scalar(tag, float(value), step)`` for each value after each step."""
    state, batch, count = new_state(width), new_batch(), 0
    step = jax.jit(lambda state, batch: update(state, batch, report_nothing), donate_argnums=0)

    def run(steps: int) -> None:
        nonlocal state, count
        for _ in range(steps):
            state, values = step(state, batch)
            for tag, value in zip(TAGS, values, strict=True):
                writer.add_scalar(tag, float(value), count)
            count += 1
        jax.block_until_ready(state)

    return run


def seconds_of(method: Method, steps: int) -> float:
    start = time.perf_counter()
    method(steps)
    return time.perf_counter() - start


def steps_for(method: Method, seconds: float) -> int:
    """Return how many steps take about ``seconds``; also compile and warm up."""
    method(20)
    steps = 20
    while (elapsed := seconds_of(method, steps)) < min(0.3, seconds):
        steps *= 2
    return max(1, round(steps * seconds / elapsed))


def measure(width: int, rounds: int, seconds: float, run: jb.Run, writer: Any) -> None:
    methods: dict[str, Method] = {
        "bare step": bare(width),
        "jaxboard": jaxboard(width),
        "returned by hand": returned_by_hand(width),
        "one io_callback": fused_io_callback(width),
        "ten debug.callback": debug_callbacks(width),
        "float(), tensorboardX": float_and_tensorboardx(width, writer),
    }
    steps = {name: steps_for(method, seconds) for name, method in methods.items()}
    run.flush()
    times: dict[str, list[float]] = {name: [] for name in methods}
    waits: list[float] = []
    names = list(methods)
    for n in range(rounds):
        first = n % len(names)
        for name in names[first:] + names[:first]:
            times[name].append(seconds_of(methods[name], steps[name]) / steps[name])
            start = time.perf_counter()
            run.flush()  # so that no method pays for the remaining work of another
            if name == "jaxboard":
                waits.append(time.perf_counter() - start)

    print(f"\nwidth {width}\n")
    print(f"| {'':21} | µs per step | to bare | lowest to highest |")
    print("| --- | ---: | ---: | ---: |")
    for name, seconds_per_step in times.items():
        ratios = [t / b for t, b in zip(seconds_per_step, times["bare step"], strict=True)]
        spread = f"{min(ratios):.2f} to {max(ratios):.2f}"
        print(
            f"| {name:21} | {statistics.median(seconds_per_step) * 1e6:11.1f} "
            f"| {statistics.median(ratios):7.2f} | {spread:>17} |"
        )
    print(
        f"\nAfter a round of {steps['jaxboard']} steps jaxboard had "
        f"{statistics.median(waits) * 1e3:.0f} ms of work left (not in the table)."
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Measure the cost of logging ten scalars per step."
    )
    parser.add_argument("--sizes", type=int, nargs="+", default=[96, 720, 1750], metavar="WIDTH")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--seconds", type=float, default=2.0, help="approximate duration of a round"
    )
    options = parser.parse_args()
    print(f"{environment()}; {options.rounds} rounds of about {options.seconds:g} s")
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

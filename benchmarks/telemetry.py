"""The cost of a run's telemetry to a step of a few milliseconds.

The same instrumented step runs in runs with different telemetry, in rounds that alternate, so that other load on the machine
affects all of them alike. Each round opens a run of its own, and its beginning and its end are not measured. The tables
show medians over the rounds, of the times and of the ratios to the round without telemetry.

One loop lets the device compute steps behind the host. The other one reads the loss after each step: then the thread
that watches results (``jaxboard/time/…``) has the most to do.

    python benchmarks/telemetry.py --milliseconds 5 --rounds 15 --seconds 4
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
from environment import environment

import jaxboard as jb

WIDTH = 256

TELEMETRY: dict[str, bool | None] = {
    "telemetry=False": False,
    "recompiles only": None,
    "telemetry=True": True,
}

Step = Callable[[jax.Array, jax.Array], tuple[jax.Array, jax.Array]]


def new_step(layers: int) -> Step:
    @jb.instrument
    @jax.jit
    def train_step(state: jax.Array, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        def layer(state: jax.Array, _: None) -> tuple[jax.Array, None]:
            return jnp.tanh(state @ x) / 2 + state / 2, None

        state, _ = jax.lax.scan(layer, state, None, length=layers)
        loss = state.mean()
        jb.scalar("loss", loss)
        return state, loss

    return train_step


def seconds_per_step(step: Step, steps: int, *, reads_loss: bool) -> tuple[float, float]:
    """Return the wall time and the processor time of a step."""
    state, x = jnp.ones((WIDTH, WIDTH)), jnp.ones((WIDTH, WIDTH)) / WIDTH
    for _ in range(20):
        state, loss = step(state, x)
    jax.block_until_ready(state)
    began, processor = time.perf_counter(), time.process_time()
    for _ in range(steps):
        state, loss = step(state, x)
        if reads_loss:
            float(loss)
    jax.block_until_ready(state)
    return (time.perf_counter() - began) / steps, (time.process_time() - processor) / steps


def layers_for(milliseconds: float) -> int:
    """Return how many layers make a step of about that length."""
    with jb.Run(None, sinks=[], telemetry=False):
        seconds, _ = seconds_per_step(new_step(32), 50, reads_loss=True)
    return max(1, round(32 * milliseconds / (seconds * 1e3)))


def measure(step: Step, steps: int, rounds: int, folder: str, *, reads_loss: bool) -> None:
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in TELEMETRY}
    names = list(TELEMETRY)
    for n in range(rounds):
        first = n % len(names)
        for name in names[first:] + names[:first]:
            logdir = os.path.join(folder, f"{reads_loss}-{n}-{name}")
            with jb.Run(logdir, telemetry=TELEMETRY[name]) as run:
                jb.scalar("ready", 0.0)
                run.flush()
                times[name].append(seconds_per_step(step, steps, reads_loss=reads_loss))
    print(f"| {'':15} | ms per step | to none | quartiles | processor time to none |")
    print("| --- | ---: | ---: | ---: | ---: |")
    none = times[names[0]]
    for name, measured in times.items():
        ratios = [a[0] / b[0] for a, b in zip(measured, none, strict=True)]
        processor = [a[1] / b[1] for a, b in zip(measured, none, strict=True)]
        low, _, high = statistics.quantiles(ratios, n=4)
        print(
            f"| {name:15} | {statistics.median(a[0] for a in measured) * 1e3:11.2f} "
            f"| {statistics.median(ratios):7.3f} | {low:.3f} to {high:.3f} "
            f"| {statistics.median(processor):.3f} |"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure the cost of telemetry.")
    parser.add_argument("--milliseconds", type=float, default=5.0, help="the length of a step")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--seconds", type=float, default=4.0, help="the length of a round")
    options = parser.parse_args()
    step = new_step(layers_for(options.milliseconds))
    steps = max(20, round(options.seconds / options.milliseconds * 1e3))
    print(f"{environment()}; {options.rounds} rounds of {steps} steps")
    with tempfile.TemporaryDirectory() as folder:
        for reads_loss in (False, True):
            print(f"\n{'the loss is read after each step' if reads_loss else 'nothing is read'}\n")
            measure(step, steps, options.rounds, folder, reads_loss=reads_loss)


if __name__ == "__main__":
    main()

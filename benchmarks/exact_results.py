"""The cost of ``instrument(exact=True)``, by what is reported and how often.

All methods train the network of ``step_overhead.py``. Their rounds alternate; the table shows the medians over the rounds
of the ratios to the bare step within a round.

    python benchmarks/exact_results.py --width 720 --rounds 7 --steps 200
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Callable

import jax
import jax.numpy as jnp
from environment import environment
from step_overhead import Batch, Method, State, seconds_of, training

import jaxboard as jb

Report = Callable[[jax.Array, State], None]
"""Report some of the errors and the gradient of a step."""


def scalars(every: int, reduce: str = "mean") -> Report:
    """Return a function that reports the loss of each output."""

    def report(errors: jax.Array, _: State) -> None:
        for i, error in enumerate(errors):
            jb.scalar(f"error/{i}", error, every=every, reduce=reduce)

    return report


def histogram(every: int) -> Report:
    """Return a function that reports the distribution of the gradient of each matrix."""

    def report(_: jax.Array, gradient: State) -> None:
        jb.histogram("gradient", dict(enumerate(gradient)), every=every)

    return report


REPORTS = {
    "nine scalars": scalars(1),
    "nine scalars, every=100": scalars(100),
    'nine scalars, every=100, reduce="last"': scalars(100, "last"),
    "histograms of gradients": histogram(1),
    "histograms of gradients, every=100": histogram(100),
}


def new_step(report: Report) -> Callable[[State, Batch], State]:
    """Return a jitted step of gradient descent that reports."""

    def loss_fn(state: State, batch: Batch) -> tuple[jax.Array, jax.Array]:
        x, y = batch
        for w in state[:-1]:
            x = jnp.tanh(x @ w)
        errors = jnp.mean((x @ state[-1] - y) ** 2, axis=0)
        return errors.mean(), errors

    def step(state: State, batch: Batch) -> State:
        gradient, errors = jax.grad(loss_fn, has_aux=True)(state, batch)
        report(errors, gradient)
        return [w - 1e-3 * g for w, g in zip(state, gradient, strict=True)]

    return jax.jit(step, donate_argnums=0)


def measure(width: int, rounds: int, steps: int, run: jb.Run) -> None:
    """Print the table."""
    methods: dict[str, Method] = {"bare": training(new_step(lambda *_: None), width)}
    for name, report in REPORTS.items():
        methods[name] = training(jb.instrument(new_step(report)), width)
        methods[f"{name}, exact"] = training(jb.instrument(new_step(report), exact=True), width)
    times: dict[str, list[float]] = {name: [] for name in methods}
    for method in methods.values():
        method(101)  # compiles the programs of all steps
    names = list(methods)
    for n in range(rounds):
        first = n % len(names)
        for name in names[first:] + names[:first]:
            run.flush()  # so that no method pays for the remaining work of another
            run.step = 1  # a round has as many steps that are due as another
            times[name].append(seconds_of(methods[name], steps))

    def ratio(name: str) -> float:
        return statistics.median(t / b for t, b in zip(times[name], times["bare"], strict=True))

    print(f"\nwidth {width}, bare step {statistics.median(times['bare']) / steps * 1e6:.0f} µs\n")
    print(f"| {'reports':38} | to bare | exact, to bare |")
    print("| --- | ---: | ---: |")
    for name in REPORTS:
        print(f"| {name:38} | {ratio(name):7.2f} | {ratio(f'{name}, exact'):14.2f} |")


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure the cost of instrument(exact=True).")
    parser.add_argument("--width", type=int, default=720)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=200, help="steps of a round")
    options = parser.parse_args()
    print(f"{environment()}; {options.rounds} rounds of {options.steps} steps")
    with tempfile.TemporaryDirectory() as folder, jb.Run(folder) as run:
        jb.scalar("ready", 0.0)
        run.flush()
        measure(options.width, options.rounds, options.steps, run)


if __name__ == "__main__":
    main()

"""The host's cost of one call of a step that does almost nothing, by method.

The step adds one to some numbers and logs scalars that it computes from them. A training loop on a fast accelerator is
bound by such calls: the host dispatches a step while the device computes an earlier one. XLA's CPU client computes a
program of less than a thousand operations within the call. It hands larger ones to another thread, as it would to an
accelerator; the second table has such a step.

A round is a burst of calls, short enough that most rounds are not interrupted by other programs. The rounds of all
methods alternate, and the ratios are taken within a round. The tables show medians. The times do not include the work that is left
after a burst; benchmarks/step_overhead.py measures longer loops, in which it is done concurrently.

    python benchmarks/call_cost.py --rounds 300 --calls 100
"""

from __future__ import annotations

import argparse
import collections
import os
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from environment import environment
from jax.experimental import io_callback
from peers import Peer, open_ways, read_first, tensorboardx

import jaxboard as jb

Method = Callable[[int], None]
"""Call the step this many times."""


def compute(x: jax.Array, count: int) -> dict[str, jax.Array]:
    """Return the values to log."""
    return {f"value/{i}": x[i % 8] * (i + 1) for i in range(count)}


def calls_of(step: Callable[[jax.Array], jax.Array], x: jax.Array) -> Method:
    """Return the method that calls a step which returns only its result."""

    def run(calls: int) -> None:
        y = x
        for _ in range(calls):
            y = step(y)

    run(3)
    return run


def bare(x: jax.Array) -> Method:
    return calls_of(jax.jit(lambda x: x + 1), x)


def jaxboard(x: jax.Array, count: int, every: int) -> Method:
    @jb.instrument
    @jax.jit
    def step(x: jax.Array) -> jax.Array:
        for tag, value in compute(x, count).items():
            jb.scalar(f"{count}/{every}/{tag}", value, every=every)
        return x + 1

    return calls_of(step, x)


def returned_by_hand(x: jax.Array, count: int) -> Method:
    """Return the values as one vector and keep it, without reading it."""

    @jax.jit
    def step(x: jax.Array) -> tuple[jax.Array, jax.Array]:
        return x + 1, jnp.stack(list(compute(x, count).values()))

    kept = collections.deque[jax.Array](maxlen=1000)

    def run(calls: int) -> None:
        y = x
        for _ in range(calls):
            y, values = step(y)
            kept.append(values)

    run(3)
    return run


def wrapped_by_hand(x: jax.Array, count: int) -> Method:
    """Do the same in a wrapper that accepts any arguments: the least that a library can do."""

    @jax.jit
    def step(x: jax.Array) -> tuple[jax.Array, jax.Array]:
        return x + 1, jnp.stack(list(compute(x, count).values()))

    kept = collections.deque[jax.Array](maxlen=1000)

    def wrapper(*args: Any, **kwargs: Any) -> jax.Array:
        out, values = step(*args, **kwargs)
        kept.append(values)
        return out

    return calls_of(wrapper, x)


def returned_and_logged(x: jax.Array, count: int, peer: Peer) -> Method:
    """Return the values in a dict, and log it after each step."""

    @jax.jit
    def step(x: jax.Array) -> tuple[jax.Array, dict[str, jax.Array]]:
        return x + 1, compute(x, count)

    def run(calls: int) -> None:
        y = x
        for number in range(calls):
            y, values = step(y)
            peer.log(number, values)

    run(3)
    return run


def merged_on_device(x: jax.Array, count: int, every: int, peer: Peer) -> Method:
    """Merge metrics in the step, as programs do with CLU's and metrax's, and write their means every few steps.

    A metric is a total and a count; the step takes all of them and returns them.
    """
    empty = {tag: (jnp.float32(0), jnp.int32(0)) for tag in compute(x, count)}

    @jax.jit
    def step(x: jax.Array, metrics: dict[str, Any]) -> tuple[jax.Array, dict[str, Any]]:
        values = compute(x, count)
        return x + 1, {tag: (metrics[tag][0] + values[tag], metrics[tag][1] + 1) for tag in metrics}

    def run(calls: int) -> None:
        y, metrics = x, empty
        for number in range(calls):
            y, metrics = step(y, metrics)
            if number % every == every - 1:
                means = {tag: float(total) / float(n) for tag, (total, n) in metrics.items()}
                peer.log(number, means)
                metrics = empty

    run(3)
    return run


def one_io_callback(x: jax.Array, count: int) -> Method:
    """Pass all values to one callback that discards them."""

    def discard(values: Any) -> None:
        """Do nothing."""

    @jax.jit
    def step(x: jax.Array) -> jax.Array:
        io_callback(discard, None, jnp.stack(list(compute(x, count).values())))
        return x + 1

    return calls_of(step, x)


def seconds_per_call(method: Method, calls: int) -> float:
    method(calls // 5)  # warms the caches of the processor
    start = time.perf_counter()
    method(calls)
    return (time.perf_counter() - start) / calls


def table(
    methods: dict[str, Method], rounds: int, calls: int, settle: Callable[[], object]
) -> None:
    times: dict[str, list[float]] = {name: [] for name in methods}
    names = list(methods)
    for n in range(rounds):
        first = n % len(names)
        for name in names[first:] + names[:first]:
            times[name].append(seconds_per_call(methods[name], calls))
            settle()
    print(f"\n| {'':30} | µs per call | to bare | quartiles |")
    print("| --- | ---: | ---: | ---: |")
    for name, seconds in times.items():
        ratios = [t / b for t, b in zip(seconds, times[names[0]], strict=True)]
        low, middle, high = statistics.quantiles(ratios, n=4)
        print(
            f"| {name:30} | {statistics.median(seconds) * 1e6:11.1f} | {middle:7.2f} "
            f"| {low:.2f} to {high:.2f} |"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure the host's cost of one call.")
    parser.add_argument("--rounds", type=int, default=300)
    parser.add_argument("--calls", type=int, default=100, help="calls in a round")
    options = parser.parse_args()
    print(f"{environment()}; {options.rounds} rounds of {options.calls} calls")
    rounds, calls = options.rounds, options.calls
    small, large = jnp.zeros(8), jnp.zeros(2000)
    with tempfile.TemporaryDirectory() as folder:
        peer, ways = tensorboardx(os.path.join(folder, "tensorboardX")), open_ways(folder)
        with jb.Run(os.path.join(folder, "jaxboard")) as run:
            print("\nComputed within the call")
            methods = {
                "bare": bare(small),
                "returned by hand, 10": returned_by_hand(small, 10),
                "by hand in a wrapper, 10": wrapped_by_hand(small, 10),
                "jaxboard, 10": jaxboard(small, 10, 1),
                "jaxboard, 10, every=100": jaxboard(small, 10, 100),
            }
            run.flush()
            table(methods, rounds, calls, run.flush)
            print("\nComputed on another thread")
            methods = {
                "bare": bare(large),
                "returned by hand, 10": returned_by_hand(large, 10),
                "jaxboard, 10": jaxboard(large, 10, 1),
                "jaxboard, 10, every=100": jaxboard(large, 10, 100),
                "returned by hand, 100": returned_by_hand(large, 100),
                "jaxboard, 100": jaxboard(large, 100, 1),
                "jaxboard, 100, every=100": jaxboard(large, 100, 100),
            }
            run.flush()
            table(methods, rounds, calls, run.flush)
            print("\nOther methods, computed within the call")
            methods = {
                "bare": bare(small),
                "merged (CLU, metrax), 10": merged_on_device(small, 10, 100, peer),
                **{
                    f"{name}, 10": returned_and_logged(small, 10, way) for name, way in ways.items()
                },
                "one io_callback, 10": one_io_callback(small, 10),
                "float(), tensorboardX, 10": returned_and_logged(small, 10, read_first(peer)),
            }

            def settle() -> None:
                jax.effects_barrier()
                for way in ways.values():
                    way.flush()

            table(methods, max(3, rounds // 20), calls, settle)
    print("\nNo run is open")
    with warnings.catch_warnings(action="ignore", category=jb.JaxboardWarning):
        methods = {"bare": bare(small), "jaxboard, 10": jaxboard(small, 10, 1)}
        table(methods, rounds, calls, list)


if __name__ == "__main__":
    main()

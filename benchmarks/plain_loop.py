"""The cost of one scalar in a plain Python loop, by method.

Each method logs one scalar per step: a Python float, a device array that is computed, and one that is not. Every array
is logged once, since JAX keeps the number that a first read has fetched. Rounds alternate between the methods, so that
other load on the machine affects all of them alike. The tables show medians over the rounds, of the times and of the
ratios within a round. ``CPU`` is the processor time of the whole process per scalar, with background threads and the
writing of the files.

Methods other than jaxboard read the array with ``float()``, which waits for the device: at the call, one step later, or
in a thread. They are not measured with an
array that is not computed; jaxboard's time is compared with theirs for a computed one. Few such arrays are logged in a
round: JAX has at most 32 computations in flight, and each of them is copied. Their computation waits for the end of the
loop and uses no processor, so that it does not slow the loop that it is to show.

    python benchmarks/plain_loop.py --rounds 15
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from environment import environment
from peers import BASE, Peer, open_peers, open_ways, read_first

import jaxboard as jb

FEW = 20
"""Arrays that are not computed in a round."""

MAX_SECONDS = 2.0
"""The most seconds for which such an array is not computed."""

Values = Sequence[Any]
"""The scalars of one round: floats or device arrays."""


class Method(NamedTuple):
    """A way to log scalars.

    Attributes:
        log: logs these values, one per step, from a step on.
        flush: waits until everything is in the file.
    """

    log: Callable[[Values, int], None]
    flush: Callable[[], object]


def step_of_run(run: jb.Run) -> Method:
    def log(values: Values, first: int) -> None:
        for run.step, value in enumerate(values, first):
            jb.scalar("loss", value)

    return Method(log, run.flush)


def step_argument(run: jb.Run) -> Method:
    def log(values: Values, first: int) -> None:
        for step, value in enumerate(values, first):
            jb.scalar("loss with step", value, step=step)

    return Method(log, run.flush)


def log_with(peer: Peer) -> Method:
    def log(values: Values, first: int) -> None:
        for step, value in enumerate(values, first):
            peer.log(step, {"loss": value})

    return Method(log, peer.flush)


@jax.jit
def add(x: jax.Array, y: float) -> jax.Array:
    return x + y


class Gate:
    """A device that computes while the gate is closed, and uses no processor meanwhile.

    On a CPU, a computation that is busy until then would take the processor from the loop that is measured.
    """

    def __init__(self) -> None:
        self._entered, self._opened = threading.Event(), threading.Event()

        def busy(x: jax.Array) -> jax.Array:
            return jax.lax.fori_loop(0, 30, lambda _, b: jnp.tanh(b @ b), jnp.full((200, 200), x))

        def gated(x: jax.Array) -> list[jax.Array]:
            kind = jax.ShapeDtypeStruct((FEW,), jnp.float32)
            numbers = jax.pure_callback(self._wait, kind, x[0, 0])
            return [numbers[i] for i in range(FEW)]

        self._busy, self._gated = jax.jit(busy), jax.jit(gated)
        self.open()
        jax.block_until_ready(self._gated(self._busy(0.01)))

    def values(self) -> Values:
        """Close the gate, and return a few numbers that are not computed before it opens."""
        while True:
            self._entered.clear()
            self._opened.clear()
            # XLA's CPU client computes within the call, unless an argument is not computed.
            values = self._gated(self._busy(0.01))
            self._entered.wait()
            if not values[0].is_ready():
                return values

    def open(self) -> None:
        self._opened.set()

    def _wait(self, _: Any) -> np.ndarray:
        self._entered.set()
        self._opened.wait(MAX_SECONDS)
        return np.ones(FEW, np.float32)


class Case(NamedTuple):
    """A kind of value.

    Attributes:
        make: returns values for one round.
        is_ready: whether they can be read without waiting.
        finish: called after the loop, before the flush.
    """

    make: Callable[[int], Values]
    is_ready: bool = True
    finish: Callable[[], object] = list


gate = Gate()
COMPUTED = "a device array, computed"
CASES = {
    "a Python float": Case(lambda count: [i / 7 for i in range(count)]),
    COMPUTED: Case(
        lambda count: jax.block_until_ready([add(jnp.float32(0), i / 7) for i in range(count)])
    ),
    "a device array, not computed": Case(lambda _: gate.values(), is_ready=False, finish=gate.open),
}


class Times(NamedTuple):
    """Seconds per scalar: of the loop, and of the processor in all."""

    loop: float
    cpu: float


def measure(method: Method, case: Case, values: Values, first: int) -> Times:
    cpu, start = time.process_time(), time.perf_counter()
    method.log(values, first)
    elapsed = time.perf_counter() - start
    case.finish()
    method.flush()
    return Times(elapsed / len(values), (time.process_time() - cpu) / len(values))


def measure_all(
    case: Case, methods: dict[str, Method], calls: int, rounds: int
) -> dict[str, list[Times]]:
    names = list(methods)
    times: dict[str, list[Times]] = {name: [] for name in names}
    for n in range(-1, rounds):  # The first round warms up.
        for name in names[n % len(names) :] + names[: n % len(names)]:
            values = case.make(calls)
            measured = measure(methods[name], case, values, (n + 1) * calls)
            if n >= 0:
                times[name].append(measured)
    return times


def print_table(title: str, times: dict[str, list[Times]], base: list[float], cpu: bool) -> None:
    last = "CPU, µs" if cpu else ""
    print(f"\n{title}\n\n| {'':25} | µs per call | to {BASE} | lowest to highest | {last} |")
    print(f"| --- | ---: | ---: | ---: | {'---:' if cpu else '---'} |")
    for name, measured in times.items():
        ratios = [each.loop / b for each, b in zip(measured, base, strict=True)]
        loop, in_all = (statistics.median(column) * 1e6 for column in zip(*measured, strict=True))
        spread = f"{min(ratios):.2f} to {max(ratios):.2f}"
        print(
            f"| {name:25} | {loop:11.1f} | {statistics.median(ratios):15.2f} | {spread:>17} "
            f"| {f'{in_all:7.1f}' if cpu else ''} |"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure the cost of a scalar in a plain loop.")
    parser.add_argument("--calls", type=int, default=500, help="scalars per round")
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    print(f"{environment()}; {options.rounds} rounds of {options.calls} calls")
    bases: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder, jb.Run(os.path.join(folder, "jaxboard")) as run:
        jb.scalar("ready", 0.0, step=0)
        run.flush()  # The event file is open.
        own = {"jaxboard": step_of_run(run), "jaxboard, step=": step_argument(run)}
        peers = {name: read_first(peer) for name, peer in open_peers(folder).items()}
        others = {name: log_with(peer) for name, peer in {**peers, **open_ways(folder)}.items()}
        for title, case in CASES.items():
            methods = {**own, **others} if case.is_ready else own
            times = measure_all(case, methods, options.calls, options.rounds)
            bases[title] = [each.loop for each in times.get(BASE, [])]
            print_table(title, times, bases[title] or bases[COMPUTED], cpu=case.is_ready)


if __name__ == "__main__":
    main()

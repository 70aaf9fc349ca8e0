"""The cost of one scalar in a plain Python loop, by method.

Each method logs one scalar per step, as its documentation shows it: a Python float, a device array that is ready,
and a device array that the device has not computed yet. Every array is logged once: JAX keeps the number that a
first read has fetched. Rounds alternate between the methods, so that other load on the machine affects all of them
alike. The tables show medians over the rounds, of the times and of the ratios within a round.

``CPU`` is the processor time of the whole process per scalar, background threads and the writing of the files
included.

All methods but jaxboard read the array with ``float()``, which waits for the device. Where the array is not ready,
they are therefore left out: their time would be that of the computation.

    python benchmarks/plain_loop.py --rounds 15
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

import jaxboard as jb

Values = Sequence[Any]
"""The scalars of one round: floats, or device arrays."""


class Method(NamedTuple):
    """A way to log scalars.

    Attributes:
        log: logs these values, one per step, from this step on.
        flush: waits until everything is written.
    """

    log: Callable[[Values, int], None]
    flush: Callable[[], object]


# --- The methods ----------------------------------------------------------------------------------


def jaxboard(run: jb.Run) -> Method:
    def log(values: Values, first: int) -> None:
        for run.step, value in enumerate(values, first):
            jb.scalar("loss", value)

    return Method(log, run.flush)


def jaxboard_with_step(run: jb.Run) -> Method:
    def log(values: Values, first: int) -> None:
        for step, value in enumerate(values, first):
            jb.scalar("loss with step", value, step=step)

    return Method(log, run.flush)


def tensorboardx(folder: str) -> Method:
    from tensorboardX import SummaryWriter

    writer = SummaryWriter(folder)

    def log(values: Values, first: int) -> None:
        for step, value in enumerate(values, first):
            writer.add_scalar("loss", float(value), step)

    return Method(log, writer.flush)


def torch_summary_writer(folder: str) -> Method:
    from torch.utils.tensorboard import SummaryWriter  # pyright: ignore

    writer = SummaryWriter(folder)

    def log(values: Values, first: int) -> None:
        for step, value in enumerate(values, first):
            writer.add_scalar("loss", float(value), step)

    return Method(log, writer.flush)


def tf_summary(folder: str) -> Method:
    import tensorflow as tf

    writer = tf.summary.create_file_writer(folder)

    def log(values: Values, first: int) -> None:
        with writer.as_default():
            for step, value in enumerate(values, first):
                tf.summary.scalar("loss", float(value), step=step)

    return Method(log, writer.flush)


def flax_summary_writer(folder: str) -> Method:
    from flax.metrics.tensorboard import SummaryWriter

    writer = SummaryWriter(folder, auto_flush=False)

    def log(values: Values, first: int) -> None:
        for step, value in enumerate(values, first):
            writer.scalar("loss", float(value), step)

    return Method(log, writer.flush)


def clu_metric_writer(folder: str) -> Method:
    from clu import metric_writers  # pyright: ignore

    writer = metric_writers.SummaryWriter(folder)

    def log(values: Values, first: int) -> None:
        for step, value in enumerate(values, first):
            writer.write_scalars(step, {"loss": float(value)})

    return Method(log, writer.flush)


PEERS: dict[str, Callable[[str], Method]] = {
    "tensorboardX": tensorboardx,
    "torch SummaryWriter": torch_summary_writer,
    "tf.summary.scalar": tf_summary,
    "Flax SummaryWriter": flax_summary_writer,
    "CLU metric_writers": clu_metric_writer,
}
BASE = "tensorboardX"


# --- The values -----------------------------------------------------------------------------------


@jax.jit
def slow(x: jax.Array) -> jax.Array:
    """Return a number after about half a second."""
    return jax.lax.fori_loop(0, 500, lambda _, x: jnp.tanh(x @ x), x)[0, 0]


@jax.jit
def add(x: jax.Array, y: float) -> jax.Array:
    return x + y


def floats(count: int) -> Values:
    return [i / 7 for i in range(count)]


def ready_arrays(count: int) -> Values:
    zero = jnp.zeros(())
    return jax.block_until_ready([add(zero, number) for number in floats(count)])


def unready_arrays(count: int) -> Values:
    late = slow(jnp.full((400, 400), 0.01))
    return [add(late, number) for number in floats(count)]


CASES: dict[str, Callable[[int], Values]] = {
    "a Python float": floats,
    "a device array, ready": ready_arrays,
    "a device array, not ready": unready_arrays,
}


# --- The measurement ------------------------------------------------------------------------------


class Times(NamedTuple):
    """Seconds per scalar: of the loop, and of the processor in all."""

    loop: float
    cpu: float


def measure(method: Method, values: Values, first: int) -> Times:
    gc.collect()
    cpu, start = time.process_time(), time.perf_counter()
    method.log(values, first)
    elapsed = time.perf_counter() - start
    if isinstance(values[-1], jax.Array) and not values[-1].is_ready():
        cpu = float("nan")  # The processor also computes the arrays.
    method.flush()
    return Times(elapsed / len(values), (time.process_time() - cpu) / len(values))


def compare(
    case: str, methods: dict[str, Method], bases: dict[str, list[float]], calls: int, rounds: int
) -> None:
    make_values = CASES[case]
    names = list(methods)
    times: dict[str, list[Times]] = {name: [] for name in names}
    for n in range(-1, rounds):  # The first round warms up.
        for name in names[n % len(names) :] + names[: n % len(names)]:
            values = make_values(calls)
            if make_values is unready_arrays and values[-1].is_ready():
                raise SystemExit("the arrays are ready too early: reduce --calls")
            measured = measure(methods[name], values, (n + 1) * calls)
            jax.block_until_ready(values)
            if n >= 0:
                times[name].append(measured)
    if BASE in times:
        bases[case] = [each.loop for each in times[BASE]]
    base = bases.get(case) or bases.get("a device array, ready")
    print(f"\n{case}\n")
    print(f"| {'':21} | µs per call | to {BASE} | lowest to highest | CPU, µs |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for name, measured in times.items():
        ratios = [each.loop / b for each, b in zip(measured, base or [float("nan")] * rounds, strict=True)]
        cpu = statistics.median(each.cpu for each in measured) * 1e6
        print(
            f"| {name:21} | {statistics.median(each.loop for each in measured) * 1e6:11.1f} "
            f"| {statistics.median(ratios):7.2f} | {min(ratios):.2f} to {max(ratios):.2f} "
            f"| {'' if cpu != cpu else f'{cpu:.1f}'} |"
        )


@contextlib.contextmanager
def all_methods(folder: str) -> Iterator[dict[str, Method]]:
    with jb.Run(os.path.join(folder, "jaxboard")) as run:
        jb.scalar("ready", 0.0)
        run.flush()  # TensorFlow is imported by now.
        methods = {"jaxboard": jaxboard(run), "jaxboard, step=": jaxboard_with_step(run)}
        for name, make in PEERS.items():
            try:
                methods[name] = make(os.path.join(folder, name.replace(" ", "_")))
            except ImportError as error:
                print(f"{name} is left out: {error}")
        yield methods


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure the cost of a scalar in a plain loop.")
    parser.add_argument("--calls", type=int, default=500, help="scalars per round")
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    print(
        f"jax {jax.__version__}, jaxboard {jb.__version__}, Python {platform.python_version()}, "
        f"{jax.default_backend()} backend, {os.cpu_count()} CPUs; {options.rounds} rounds of "
        f"{options.calls} calls"
    )
    bases: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder, all_methods(folder) as methods:
        for case in CASES:
            own = {name: each for name, each in methods.items() if name.startswith("jaxboard")}
            compared = own if CASES[case] is unready_arrays else methods
            compare(case, compared, bases, options.calls, options.rounds)


if __name__ == "__main__":
    main()

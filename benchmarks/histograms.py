"""What does a histogram cost, against one look at the data and against the other ways to make one?

For each way, the time from an array on the device to the histogram on the host: of 4 million float32 by
default. The ways take turns, so that what else the machine does falls on all alike. A turn is a few calls, of which
the first, that finds another way's data in the processor's cache, is not counted; its time is their median. The
table has the median of the rounds and of their ratios.

    python benchmarks/histograms.py --size 4000000 --rounds 15
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import tempfile
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import jax
import jax.numpy as jnp
import numpy as np
import tensorboardX
import tensorflow as tf

import jaxboard as jb
from jaxboard._reduce.histogram import HistogramReducer

LOOK, OURS = "min, max, sum", "jaxboard"


def ways(folder: str):
    """Each way: a function of the array that returns when the histogram is on the host."""
    reducer = HistogramReducer()
    look = jax.jit(lambda x: (x.min(), x.max(), x.sum()))
    ours = jax.jit(lambda x: reducer.start(x, None, x.ndim))
    theirs = jax.jit(jnp.histogram)
    writer = tf.summary.create_file_writer(os.path.join(folder, "tensorflow"))
    other = tensorboardX.SummaryWriter(os.path.join(folder, "tensorboardX"))

    def tensorflow(x):
        with writer.as_default(step=0):
            tf.summary.histogram("x", np.asarray(x))

    return {
        LOOK: lambda x: jax.device_get(look(x)),
        OURS: lambda x: reducer.finish(jax.device_get(ours(x))),
        "np.histogram": lambda x: np.histogram(np.asarray(x)),
        "jnp.histogram": lambda x: jax.device_get(theirs(x)),
        "tf.summary.histogram": tensorflow,
        "tensorboardX": lambda x: other.add_histogram("x", np.asarray(x), 0),
    }


def turn(function, array, calls: int) -> float:
    function(array)
    times = []
    for _ in range(calls):
        start = time.perf_counter()
        function(array)
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def main() -> None:
    parser = argparse.ArgumentParser(description="What a histogram costs.")
    parser.add_argument("--size", type=int, default=4_000_000)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--calls", type=int, default=5, help="how many a turn has, after the first")
    options = parser.parse_args()
    array = jax.random.normal(jax.random.key(0), (options.size,))
    times: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        functions = ways(folder)
        for _ in range(options.rounds):
            for name, function in functions.items():
                times.setdefault(name, []).append(turn(function, array, options.calls))
    print(
        f"jax {jax.__version__}, jaxboard {jb.__version__}, Python {platform.python_version()}, "
        f"{jax.default_backend()} backend, {os.cpu_count()} CPUs; {options.size} float32, "
        f"{options.rounds} rounds\n"
    )
    print(f"| {'':20} |     ms | to {LOOK} | to {OURS} |")
    print("| --- | ---: | ---: | ---: |")
    for name, own in times.items():
        to_look, to_ours = (
            statistics.median(a / b for a, b in zip(own, times[other], strict=True))
            for other in (LOOK, OURS)
        )
        median = statistics.median(own) * 1e3
        print(f"| {name:20} | {median:6.1f} | {to_look:16.1f} | {to_ours:11.1f} |")


if __name__ == "__main__":
    main()

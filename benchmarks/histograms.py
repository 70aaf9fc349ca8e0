"""The cost of a histogram, compared with one pass over the data and with other implementations.

Each method is timed from an array on the device (4 million float32 by default) to the histogram on the host. The
methods alternate, so that other load on the machine affects all of them alike. A turn is one call to warm the
processor's cache and a few timed calls, of which the median counts. The table shows medians over the rounds, of the
times and of the ratios within a round.

    python benchmarks/histograms.py --size 4000000 --rounds 15
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time

import jax
import jax.numpy as jnp
import numpy as np
import tensorboardX
from environment import environment

from jaxboard._reduce.histogram import HistogramReducer
from jaxboard.sinks._quiet_import import quiet_import

with quiet_import():
    import tensorflow as tf

BASELINE, JAXBOARD = "min, max, sum", "jaxboard"


def methods(folder: str):
    """Return the methods by name: functions of the array that return when the histogram is on the host."""
    reducer = HistogramReducer()
    baseline = jax.jit(lambda x: (x.min(), x.max(), x.sum()))
    accumulate = jax.jit(lambda x: reducer.start(x, None, x.ndim))
    jnp_histogram = jax.jit(jnp.histogram)
    tf_writer = tf.summary.create_file_writer(os.path.join(folder, "tensorflow"))
    tbx_writer = tensorboardX.SummaryWriter(os.path.join(folder, "tensorboardX"))

    def tf_histogram(x):
        with tf_writer.as_default(step=0):
            tf.summary.histogram("x", np.asarray(x))

    return {
        BASELINE: lambda x: jax.device_get(baseline(x)),
        JAXBOARD: lambda x: reducer.finish(jax.device_get(accumulate(x))),
        "np.histogram": lambda x: np.histogram(np.asarray(x)),
        "jnp.histogram": lambda x: jax.device_get(jnp_histogram(x)),
        "tf.summary.histogram": tf_histogram,
        "tensorboardX": lambda x: tbx_writer.add_histogram("x", np.asarray(x), 0),
    }


def median_seconds(function, array, calls: int) -> float:
    """Return the median duration of a call, after one call that is not counted."""
    function(array)
    times = []
    for _ in range(calls):
        start = time.perf_counter()
        function(array)
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure the cost of a histogram.")
    parser.add_argument("--size", type=int, default=4_000_000)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--calls", type=int, default=5, help="timed calls in a turn")
    options = parser.parse_args()
    array = jax.random.normal(jax.random.key(0), (options.size,))
    times: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        functions = methods(folder)
        for _ in range(options.rounds):
            for name, function in functions.items():
                times.setdefault(name, []).append(median_seconds(function, array, options.calls))
    print(f"{environment()}; {options.size} float32, {options.rounds} rounds\n")
    print(f"| {'':20} |     ms | to {BASELINE} | to {JAXBOARD} |")
    print("| --- | ---: | ---: | ---: |")
    for name, seconds in times.items():
        to_baseline, to_jaxboard = (
            statistics.median(a / b for a, b in zip(seconds, times[reference], strict=True))
            for reference in (BASELINE, JAXBOARD)
        )
        median = statistics.median(seconds) * 1e3
        print(f"| {name:20} | {median:6.1f} | {to_baseline:16.1f} | {to_jaxboard:11.1f} |")


if __name__ == "__main__":
    main()

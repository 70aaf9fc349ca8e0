"""The cost of the heartbeat of a job of several processes: processor time of its thread, and of each call.

A call of an instrumented function does nothing for the heartbeat. With ``Run(processes="all")`` an observer measures each
call; the ratios are medians over rounds that alternate.

    python benchmarks/heartbeat.py --processes 64
"""

from __future__ import annotations

import argparse
import pathlib
import statistics
import tempfile
import threading
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
from environment import environment

import jaxboard as jb
from jaxboard._host import observers
from jaxboard._host.buffer import Buffer
from jaxboard._host.channel import Channel
from jaxboard._job.call_times import CallTimes
from jaxboard._job.heartbeat import Heartbeat, seconds_between_beats
from jaxboard._job.overview import Overview
from jaxboard._job.shared_files import Beat, SharedFiles
from jaxboard._process.rank import Rank


def microseconds(function: Callable[[], object], times: int = 300) -> float:
    """Return the median processor time of a call, in microseconds."""
    seconds: list[float] = []
    for _ in range(times):
        began = time.thread_time()
        function()
        seconds.append(time.thread_time() - began)
    return 1e6 * statistics.median(seconds)


def thread_costs(directory: pathlib.Path, count: int) -> None:
    """Print what the thread of a process costs, in a job of ``count`` processes."""
    rank, files = Rank(0, count), SharedFiles(directory)
    buffer = Buffer(1000, 2**20)
    heartbeat = Heartbeat(rank, files, Channel(buffer), buffer, hang_secs=300.0)
    for index in range(1, count):
        files.write_beat(Beat(index, "host", index, step=1, phases={"device": 40}))
    ignore: Callable[[object], None] = lambda _: None  # noqa: E731
    overview = Overview("run", count, files, silent_secs=1e9, put_point=ignore, put_entry=ignore)
    sample, write = microseconds(heartbeat.sample), microseconds(heartbeat.write_beat)
    look = microseconds(lambda: overview.look(heartbeat.beat))
    pause = seconds_between_beats(rank, 300.0)
    print(f"a sample of the phase: {sample:.0f} us, four per beat")
    print(f"a beat, every {pause:g} s: {write:.0f} us")
    print(f"a look at {count} processes, in process 0: {look:.0f} us")
    print(
        f"share of one processor: {(4 * sample + write) / pause / 1e4:.3f} %, in process 0 "
        f"{(4 * sample + write + look) / pause / 1e4:.3f} %"
    )


def call_ratio(rounds: int, calls: int) -> float:
    """Return the median ratio of a burst of calls with the observer of ``processes="all"`` and without it."""
    step = jb.instrument(jax.jit(lambda x: (jb.scalar("x", x[0]), x + 1)[1]))
    times = CallTimes(threading.get_ident())

    def burst() -> float:
        x = jnp.zeros(8)
        began = time.perf_counter()
        for _ in range(calls):
            x = step(x)
        seconds = time.perf_counter() - began
        jax.block_until_ready(x)
        return seconds

    ratios: list[float] = []
    differences: list[float] = []
    with tempfile.TemporaryDirectory() as logdir, jb.Run(logdir, telemetry=False):
        burst()
        for _ in range(rounds):
            without = burst()
            observers.add(times)
            with_observer = burst()
            observers.remove(times)
            ratios.append(with_observer / without)
            differences.append((with_observer - without) / calls)
    print(f"a call with processes='all': {1e6 * statistics.median(differences):+.2f} us")
    return statistics.median(ratios)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--processes", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--calls", type=int, default=100)
    options = parser.parse_args()
    print(environment())
    with tempfile.TemporaryDirectory() as directory:
        thread_costs(pathlib.Path(directory), options.processes)
    print(f"ratio: {call_ratio(options.rounds, options.calls):.3f}")


if __name__ == "__main__":
    main()

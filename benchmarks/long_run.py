"""The memory and the file of a long run with many tags.

A jitted step reports ``--tags`` scalars, ``--steps`` times. The table has the resident memory of the process at
tenths of the run, and the last lines the size of the event file, as it is and as computed: a point takes the length of
its tag and 9 bytes, a step 32 bytes and the 1 to 5 bytes of a length.

    python benchmarks/long_run.py --tags 1000 --steps 10000
"""

from __future__ import annotations

import argparse
import pathlib
import resource
import tempfile

import jax
import jax.numpy as jnp
from environment import environment

import jaxboard as jb

MIB = 2**20


def resident() -> float:
    """Return the resident memory of this process in MiB."""
    pages = int(pathlib.Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / MIB


def length_bytes(size: int) -> int:
    """Return how many bytes hold a length in an event."""
    return max(1, -(-size.bit_length() // 7))


def event_bytes(tags: list[str]) -> int:
    """Return the size of a step in the file, for tags of at most 120 bytes."""
    summary = sum(len(tag) + 9 for tag in tags)
    return summary + 31 + 1 + length_bytes(summary)


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("--tags", type=int, default=1000)
    parser.add_argument("--steps", type=int, default=10_000)
    parser.add_argument("--flush-secs", type=float, default=1.0)
    arguments = parser.parse_args()
    tags = [f"metric/{number:04d}" for number in range(arguments.tags)]

    @jb.instrument
    @jax.jit
    def step(x):
        for number, tag in enumerate(tags):
            jb.scalar(tag, x + number)
        return x + 1

    print(environment())
    print(f"\n{arguments.tags} tags, {arguments.steps} steps\n\n| steps | MiB |\n| ---: | ---: |")
    part = arguments.steps // 10
    with (
        tempfile.TemporaryDirectory() as logdir,
        jb.Run(logdir, flush_secs=arguments.flush_secs) as run,
    ):
        x = jnp.float32(0)
        for number in range(10 * part):
            x = step(x)
            if (number + 1) % part == 0:
                run.flush()
                print(f"| {number + 1} | {resident():.0f} |", flush=True)
        (file,) = pathlib.Path(logdir).iterdir()
        size = file.stat().st_size
        expected = 10 * part * event_bytes(tags)
        points = 10 * part * len(tags)
        print(f"\nfile: {size} bytes, {size / points:.3f} for each of {points} points")
        print(f"computed: {expected} bytes and the first event")


if __name__ == "__main__":
    main()

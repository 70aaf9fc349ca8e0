"""The time to read five million scalars back, compared with TensorBoard's readers and tbparse.

Each layout is a file of its own: events of a hundred scalars, as an instrumented step writes them; events of one scalar, of
four tags in turn, as a plain loop writes them; and the events of ``tf.summary.scalar``. The other readers read ``--peer-points``
points, as they take minutes for millions. The times are those of the processor, of the whole process. Rounds
alternate; the table shows medians.

    python benchmarks/read.py --points 5000000 --peer-points 100000 --rounds 3
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import itertools
import pathlib
import statistics
import tempfile
import time
from collections.abc import Callable

import numpy as np
from environment import environment

import jaxboard as jb
from jaxboard.records import Scalars
from jaxboard.sinks import _encoding, _proto, _tfrecords

TAGS = ("loss", "accuracy", "learning_rate", "gradient/norm")
Reader = Callable[[str], int]
"""Read a directory and return the number of points."""


def wide_events(points: int) -> _encoding.Events:
    tags = tuple(f"metrics/value_{i}" for i in range(100))
    rows = points // len(tags)
    values = np.random.default_rng(0).random((rows, len(tags)))
    return _encoding.encode(
        [Scalars(tags, np.arange(rows), np.arange(rows) + 1.7e9, values)], print
    )


def in_turn(columns: list[_encoding.Events], rows: int) -> _encoding.Events:
    """Return the events of several columns, one of each in turn."""
    parts = []
    for column in columns:
        size = int(column.sizes[0])
        parts.append([column.data[i * size : (i + 1) * size] for i in range(rows)])
    data = b"".join(itertools.chain.from_iterable(zip(*parts, strict=True)))
    return _encoding.Events(data, np.tile([int(column.sizes[0]) for column in columns], rows))


def narrow_events(points: int) -> _encoding.Events:
    rows = points // len(TAGS)
    values = np.random.default_rng(0).random((rows, 1))
    steps, walls = np.arange(rows), np.arange(rows) + 1.7e9
    encoded = [_encoding.encode([Scalars((tag,), steps, walls, values)], print) for tag in TAGS]
    return in_turn(encoded, rows)


def tensor_events(points: int) -> _encoding.Events:
    """Return events as ``tf.summary.scalar`` writes them."""
    event = _proto.Event(wall_time=1.7e9, step=1)
    value = event.summary.value.add(tag="loss")
    value.metadata.plugin_data.plugin_name = "scalars"
    value.tensor.dtype = _proto.types.DT_FLOAT
    value.tensor.tensor_shape.SetInParent()
    value.tensor.float_val.append(0.5)
    events = []
    for event.step in range(1, points + 1):
        events.append(event.SerializeToString())
    return _encoding.Events(b"".join(events), np.array([len(each) for each in events]))


def jaxboard(logdir: str) -> int:
    return len(jb.read(logdir))


def event_accumulator(logdir: str) -> int:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(logdir, size_guidance={"scalars": 0, "tensors": 0})
    events.Reload()
    tags = events.Tags()
    return sum(len(events.Scalars(tag)) for tag in tags["scalars"]) + sum(
        len(events.Tensors(tag)) for tag in tags["tensors"]
    )


def event_file_loader(logdir: str) -> int:
    from tensorboard.backend.event_processing.event_file_loader import LegacyEventFileLoader

    (path,) = pathlib.Path(logdir).iterdir()
    return sum(len(event.summary.value) for event in LegacyEventFileLoader(str(path)).Load())


def tbparse(logdir: str) -> int:
    reader = importlib.import_module("tbparse").SummaryReader(logdir)
    return len(reader.scalars) + len(reader.tensors)


def peers() -> dict[str, Reader]:
    readers: dict[str, Reader] = {
        "EventFileLoader": event_file_loader,
        "EventAccumulator": event_accumulator,
    }
    if importlib.util.find_spec("tbparse") is not None:
        readers["tbparse"] = tbparse
    return readers


def write(folder: pathlib.Path, events: _encoding.Events) -> str:
    folder.mkdir(parents=True)
    (folder / "events.out.tfevents.1700000000.host.1.0").write_bytes(_tfrecords.frame(events))
    return str(folder)


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure the time to read scalars back.")
    parser.add_argument("--points", type=int, default=5_000_000)
    parser.add_argument("--peer-points", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    print(f"{environment()}; {options.rounds} rounds")
    layouts = {
        "100 scalars per event": wide_events,
        "1 scalar per event, 4 tags in turn": narrow_events,
        "tf.summary.scalar": tensor_events,
    }
    for name, layout in layouts.items():
        with tempfile.TemporaryDirectory() as folder:
            root = pathlib.Path(folder)
            large = write(root / "large", layout(options.points))
            small = write(root / "small", layout(options.peer_points))
            readers: dict[str, tuple[Reader, str]] = {"jaxboard": (jaxboard, large)}
            readers |= {peer: (reader, small) for peer, reader in peers().items()}
            for reader, _ in readers.values():
                reader(small)  # Imports what the reader needs.
            seconds: dict[str, list[float]] = {each: [] for each in readers}
            counts = dict.fromkeys(readers, 0)
            for _ in range(options.rounds):
                for each, (reader, logdir) in readers.items():
                    start = time.process_time()
                    counts[each] = reader(logdir)
                    seconds[each].append(time.process_time() - start)
        print(f"\n| {name:34} | points | CPU, s | CPU, s per 5 million points |")
        print("| --- | ---: | ---: | ---: |")
        for each, rounds in seconds.items():
            median = statistics.median(rounds)
            print(
                f"| {each:34} | {counts[each]:7} | {median:6.2f} | {median / counts[each] * 5e6:8.1f} |"
            )


if __name__ == "__main__":
    main()

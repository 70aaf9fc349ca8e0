"""Other ways to write scalars to TensorBoard's event files, with one interface.

:data:`PEERS` are libraries; those that are not installed are left out. :data:`WAYS` are the ways in which training
libraries defer the work. They are written anew here, with the writer of tensorboardX.
"""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from jaxboard.sinks._quiet_import import quiet_import

BASE = "tensorboardX"


class Peer(NamedTuple):
    """A writer.

    Attributes:
        log: writes scalars, by tag, at a step: floats, or device arrays for one of :data:`WAYS`.
        flush: waits until everything is in the file.
    """

    log: Callable[[int, Mapping[str, Any]], None]
    flush: Callable[[], object]


def tensorboardx(folder: str) -> Peer:
    from tensorboardX import SummaryWriter

    return _summary_writer(SummaryWriter(folder))


def read_first(peer: Peer) -> Peer:
    """Return the writer for device arrays: it reads each with ``float()``, which waits for the device."""
    return Peer(
        lambda step, scalars: peer.log(step, {tag: float(x) for tag, x in scalars.items()}),
        peer.flush,
    )


def torch_writer(folder: str) -> Peer:
    from torch.utils.tensorboard import SummaryWriter  # pyright: ignore[reportMissingImports]

    return _summary_writer(SummaryWriter(folder))


def _summary_writer(writer: Any) -> Peer:
    def log(step: int, scalars: Mapping[str, float]) -> None:
        for tag, value in scalars.items():
            writer.add_scalar(tag, value, step)

    return Peer(log, writer.flush)


def tf_summary(folder: str) -> Peer:
    import tensorflow as tf

    writer = tf.summary.create_file_writer(folder)

    def log(step: int, scalars: Mapping[str, float]) -> None:
        with writer.as_default(step):
            for tag, value in scalars.items():
                tf.summary.scalar(tag, value)

    return Peer(log, writer.flush)


def flax_writer(folder: str) -> Peer:
    from flax.metrics.tensorboard import SummaryWriter

    writer = SummaryWriter(folder, auto_flush=False)

    def log(step: int, scalars: Mapping[str, float]) -> None:
        for tag, value in scalars.items():
            writer.scalar(tag, value, step)

    return Peer(log, writer.flush)


def clu_writer(folder: str) -> Peer:
    from clu import metric_writers  # pyright: ignore[reportMissingImports]

    writer = metric_writers.SummaryWriter(folder)
    return Peer(writer.write_scalars, writer.flush)


PEERS: dict[str, Callable[[str], Peer]] = {
    BASE: tensorboardx,
    "torch SummaryWriter": torch_writer,
    "tf.summary.scalar": tf_summary,
    "Flax SummaryWriter": flax_writer,
    "CLU SummaryWriter": clu_writer,
}


def one_step_late(folder: str) -> Peer:
    """Return the way of MaxText's metric logger: keep the scalars of a step, and read and write them in the next one.

    The device computes the next step meanwhile.
    """
    peer = read_first(tensorboardx(folder))
    buffered: list[tuple[int, Mapping[str, Any]]] = []

    def write() -> None:
        while buffered:
            step, scalars = buffered.pop()
            peer.log(step, scalars)

    def log(step: int, scalars: Mapping[str, Any]) -> None:
        write()
        buffered.append((step, scalars))

    def flush() -> None:
        write()
        peer.flush()

    return Peer(log, flush)


def asynchronous(folder: str) -> Peer:
    """Return the way of CLU's AsyncWriter, to which metrax's logger also writes: a thread reads and writes."""
    peer = read_first(tensorboardx(folder))
    waiting: queue.Queue[tuple[int, Mapping[str, Any]]] = queue.Queue()

    def work() -> None:
        while True:
            step, scalars = waiting.get()
            peer.log(step, scalars)
            waiting.task_done()

    threading.Thread(target=work, daemon=True).start()

    def log(step: int, scalars: Mapping[str, Any]) -> None:
        waiting.put((step, scalars))

    def flush() -> None:
        waiting.join()
        peer.flush()

    return Peer(log, flush)


WAYS: dict[str, Callable[[str], Peer]] = {
    "one step late (MaxText)": one_step_late,
    "in a thread (CLU, metrax)": asynchronous,
}


def open_ways(folder: str) -> dict[str, Peer]:
    """Open a writer for each of :data:`WAYS`, each in a folder of its own."""
    return {name: make(os.path.join(folder, name)) for name, make in WAYS.items()}


def open_peers(folder: str) -> dict[str, Peer]:
    """Open every writer that is installed, each in a folder of its own, and print which are not.

    Messages that TensorFlow logs when a writer imports it do not appear, as with jaxboard.
    """
    peers: dict[str, Peer] = {}
    for name, make in PEERS.items():
        try:
            with quiet_import():
                peers[name] = make(os.path.join(folder, name))
        except ImportError as error:
            print(f"{name} is left out: {error}")
    return peers

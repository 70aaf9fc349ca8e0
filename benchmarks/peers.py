"""Other writers of TensorBoard's event files, with one interface. Those that are not installed are left out."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from jaxboard.sinks._quiet_import import quiet_import

BASE = "tensorboardX"


class Peer(NamedTuple):
    """A writer.

    Attributes:
        log: writes scalars, by tag, at a step.
        flush: waits until everything is in the file.
    """

    log: Callable[[int, Mapping[str, float]], None]
    flush: Callable[[], object]


def tensorboardx(folder: str) -> Peer:
    from tensorboardX import SummaryWriter

    return _summary_writer(SummaryWriter(folder))


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


def open_peers(folder: str) -> dict[str, Peer]:
    """Open every writer that is installed, each in a folder of its own, and print which are not.

    What TensorFlow logs when a writer imports it does not appear, as with jaxboard.
    """
    peers: dict[str, Peer] = {}
    for name, make in PEERS.items():
        try:
            with quiet_import():
                peers[name] = make(os.path.join(folder, name))
        except ImportError as error:
            print(f"{name} is left out: {error}")
    return peers

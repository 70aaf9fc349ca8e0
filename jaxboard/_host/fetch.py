"""The transfer of frames from the device to NumPy arrays. It never waits: the frames are ready."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TypeAlias, cast

import jax
import numpy as np

from jaxboard._frame import Frame, FrameBatch, Number, Observation
from jaxboard._host.buffer import Item
from jaxboard._host.drawings import Drawing
from jaxboard.records import Record

Fetched: TypeAlias = FrameBatch | Frame | Number | Observation | Record
"""An item on the host. Consecutive frames of one plan are stacked to a batch. A frame that is a chunk of a loop
stays a frame, with NumPy arrays."""


def fetch(items: list[Item], on_failure: Callable[[Item, Exception], None]) -> list[Fetched]:
    """Return items with NumPy arrays instead of device arrays.

    Args:
        items: frames and numbers, which are ready, and other items.
        on_failure: called for each item that cannot be read because its computation failed, with what it raised.

    Returns:
        The items that can be read. Frames and other items except numbers are in order, and so are numbers.
    """
    fetched: list[Fetched] = []
    frames: list[Frame] = []
    # The user may have disallowed implicit transfers in their own code; this one is intended.
    with jax.transfer_guard_device_to_host("allow"):
        _start_copies(items)
        for item in items:
            try:
                read = _read(item)
            except Exception as fault:
                on_failure(item, fault)
                continue
            if isinstance(read, Frame) and read.plan.chunk is None:
                if frames and not _can_stack(frames[0], read):
                    fetched.append(FrameBatch.stack(frames))
                    frames = []
                frames.append(read)
                continue
            # A number that a loop reports beside each step must not divide the frames.
            if frames and not isinstance(read, Number):
                fetched.append(FrameBatch.stack(frames))
                frames = []
            fetched.append(read)
    if frames:
        fetched.append(FrameBatch.stack(frames))
    return fetched


def _can_stack(a: Frame, b: Frame) -> bool:
    return a.plan is b.plan and a.open == b.open


def _read(item: Item) -> Item:
    """Return an item with its arrays on the host, and with a drawing as an image."""
    if isinstance(item, Record):
        value = cast("object", item.value)
        return replace(item, value=value.render()) if isinstance(value, Drawing) else item
    if isinstance(item, Frame):
        item.vectors = tuple([np.asarray(vector) for vector in item.vectors])
    elif isinstance(item, Number) and not isinstance(item.value, np.generic):
        item.value = cast("np.generic", np.asarray(item.value)[()])
    return item


def _start_copies(items: list[Item]) -> None:
    """Start all transfers from an accelerator, so that they overlap. A CPU's arrays need no transfer."""
    with contextlib.suppress(Exception):  # A failed computation raises when it is read.
        for array in _device_arrays(items):
            if all(device.platform == "cpu" for device in array.devices()):
                return
            array.copy_to_host_async()


def _device_arrays(items: list[Item]) -> Iterator[jax.Array]:
    for item in items:
        if isinstance(item, Number):
            if not isinstance(item.value, np.generic):
                yield item.value
        elif isinstance(item, Frame):
            for vector in item.vectors:
                if not isinstance(vector, np.ndarray):
                    yield vector

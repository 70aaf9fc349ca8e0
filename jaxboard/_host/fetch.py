"""From the device to NumPy, without waiting: for frames that are ready."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import TypeAlias

import jax
import numpy as np

from jaxboard._frame import Frame, FrameBatch, Observation
from jaxboard._host.buffer import Item
from jaxboard.records import Record

Fetched: TypeAlias = FrameBatch | Frame | Observation | Record
"""What an item is on the host: frames of one plan that follow each other are stacked, in strips; a frame that
has rows of its own stays one, its arrays NumPy's."""


def fetch(items: list[Item], failed: Callable[[Frame, Exception], None]) -> list[Fetched]:
    """Makes the arrays of frames NumPy's.

    Args:
        items: frames, which are ready, and records.
        failed: told of each frame that can't be read, since its computation failed, and why.

    Returns:
        The items that can be read, in their order.
    """
    fetched: list[Fetched] = []
    run: list[Frame] = []
    # The user may have forbidden transfers in their own code; this one is asked for.
    with jax.transfer_guard_device_to_host("allow"):
        _start_copies(items)
        for item in items:
            if isinstance(item, Frame):
                try:
                    _read(item)
                except Exception as fault:
                    failed(item, fault)
                    continue
                if item.plan.rows is None:
                    if run and not (item.plan is run[0].plan and item.open == run[0].open):
                        fetched.append(FrameBatch.of(run))
                        run = []
                    run.append(item)
                    continue
            if run:
                fetched.append(FrameBatch.of(run))
                run = []
            fetched.append(item)
    if run:
        fetched.append(FrameBatch.of(run))
    return fetched


def _read(frame: Frame) -> None:
    arrays = frame.arrays
    for name in arrays:
        arrays[name] = np.asarray(arrays[name])


def _start_copies(items: list[Item]) -> None:
    """Lets the transfers from an accelerator overlap. A CPU's arrays are read where they are."""
    arrays = (a for item in items if isinstance(item, Frame) for a in item.arrays.values())
    on_device = (array for array in arrays if not isinstance(array, np.ndarray))
    with contextlib.suppress(Exception):  # A failed computation is told when it is read.
        for array in on_device:
            if all(device.platform == "cpu" for device in array.devices()):
                return
            array.copy_to_host_async()

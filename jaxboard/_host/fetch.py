"""From the device to NumPy, without waiting: for frames that are ready."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import jax
import numpy as np

from jaxboard._frame import Frame
from jaxboard._host.buffer import Item


def fetch(items: list[Item], failed: Callable[[Frame, Exception], None]) -> list[Item]:
    """Makes the arrays of frames NumPy's, in place.

    Args:
        items: frames, which are ready, and records.
        failed: told of each frame that can't be read, since its computation failed, and why.

    Returns:
        The items that can be read.
    """
    good: list[Item] = []
    # The user may have forbidden transfers in their own code; this one is asked for.
    with jax.transfer_guard_device_to_host("allow"):
        _start_copies(items)
        for item in items:
            if isinstance(item, Frame):
                arrays = item.arrays
                try:
                    for dtype in arrays:
                        arrays[dtype] = np.asarray(arrays[dtype])
                except Exception as fault:
                    failed(item, fault)
                    continue
            good.append(item)
    return good


def _start_copies(items: list[Item]) -> None:
    """Lets the transfers from an accelerator overlap. A CPU's arrays are read where they are."""
    arrays = (a for item in items if isinstance(item, Frame) for a in item.arrays.values())
    on_device = (array for array in arrays if not isinstance(array, np.ndarray))
    with contextlib.suppress(Exception):  # A failed computation is told when it is read.
        for array in on_device:
            if all(device.platform == "cpu" for device in array.devices()):
                return
            array.copy_to_host_async()

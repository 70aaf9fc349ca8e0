"""How much memory of each local device is taken."""

from __future__ import annotations

import collections
import contextlib
import math
from collections.abc import Mapping

import jax

from jaxboard._telemetry.reporter import Reporter

# Names differ by platform, and none is promised.
_STATS = {
    "in_use_bytes": "bytes_in_use",
    "peak_bytes": "peak_bytes_in_use",
    "limit_bytes": "bytes_limit",
}


class Memory:
    """Samples the local devices.

    Scalars ``memory/<platform>_<id>/…``: ``in_use_bytes``, ``peak_bytes`` and ``limit_bytes`` as far as
    the device tells them. A CPU doesn't: there it's ``live_bytes``, of all arrays that JAX holds there.

    Args:
        reporter: where they go.
    """

    def __init__(self, reporter: Reporter):
        self._reporter = reporter
        self._peak = 0

    def sample(self, step: int) -> None:
        """Writes what is taken now."""
        live: dict[int, int] | None = None
        for device in jax.local_devices():
            tag = f"memory/{device.platform}_{device.id}"
            stats = device.memory_stats()
            if stats:
                told = as_told(stats)
                self._reporter.scalars(step, {f"{tag}/{name}": v for name, v in told.items()})
                continue
            live = live_bytes() if live is None else live
            self._reporter.scalars(step, {f"{tag}/live_bytes": live.get(device.id, 0)})

    def annotate(self) -> None:
        """Puts a sample into the profile that is being made, where the devices don't do so themselves.

        xprof makes its memory profile of such events; on a CPU nobody else writes them.
        """
        devices = jax.local_devices()
        if devices[0].memory_stats():
            return
        total = sum(live_bytes().values())
        self._peak = max(self._peak, total)
        with jax.profiler.TraceAnnotation(
            "MemoryAllocation",
            bytes_allocated=total,
            allocation_bytes=total,
            requested_bytes=total,
            peak_bytes_in_use=self._peak,
            bytes_available=0,
            bytes_reserved=0,
            fragmentation=0.0,
            addr=0,
            allocator_name=devices[0].platform,
            tf_op="jaxboard",
            region_type="live",
            data_type="u8",
            tensor_shape=f"[{total}]",
        ):
            pass


def as_told(stats: Mapping[str, int]) -> dict[str, int]:
    """What ``device.memory_stats()`` holds of what is shown.

    Example:
        >>> as_told({"bytes_in_use": 7, "num_allocs": 2})
        {'in_use_bytes': 7}
    """
    return {name: stats[key] for name, key in _STATS.items() if key in stats}


def live_bytes() -> dict[int, int]:
    """Device id -> bytes of the arrays that live on it.

    Arrays that share a buffer count each.
    """
    totals: collections.Counter[int] = collections.Counter()
    for array in jax.live_arrays():
        with contextlib.suppress(Exception):  # deleted meanwhile
            sharding = array.sharding
            alone = len(sharding.device_set) == 1
            shape = array.shape if alone else sharding.shard_shape(array.shape)
            shard = math.prod(shape) * array.dtype.itemsize
            for device in sharding.addressable_devices:
                totals[device.id] += shard
    return dict(totals)

"""The memory in use on each local device."""

from __future__ import annotations

import collections
import contextlib
import math
from collections.abc import Mapping

import jax

from jaxboard import _compat
from jaxboard._host.observers import Call
from jaxboard._telemetry.collector import Collector
from jaxboard._telemetry.reporter import Reporter

# The keys differ by platform, and none is guaranteed.
_STATS = {
    "in_use_bytes": "bytes_in_use",
    "peak_bytes": "peak_bytes_in_use",
    "limit_bytes": "bytes_limit",
}


class DeviceMemory(Collector):
    """Samples of the memory of the local devices.

    Scalars ``memory/<platform>_<id>/...``: ``in_use_bytes``, ``peak_bytes`` and ``limit_bytes``, those
    that the device reports. A CPU reports none: it has ``live_bytes``, the bytes of all arrays on it.

    Args:
        reporter: the writer.
    """

    def __init__(self, reporter: Reporter):
        self._reporter = reporter
        self._peak = 0

    def end_call(self, call: Call, *, compiled: bool) -> None:
        """Add a sample to the trace that is being recorded, if there is one."""
        if _compat.trace_is_on():
            self._annotate_trace()

    def sample(self, step: int) -> None:
        """Write the memory in use now."""
        live: dict[int, int] | None = None
        for device in jax.local_devices():
            tag = f"memory/{device.platform}_{device.id}"
            stats = device.memory_stats()
            if stats:
                values = select_stats(stats)
                self._reporter.scalars(step, {f"{tag}/{name}": v for name, v in values.items()})
                continue
            live = live_bytes() if live is None else live
            self._reporter.scalars(step, {f"{tag}/live_bytes": live.get(device.id, 0)})

    def _annotate_trace(self) -> None:
        """Add an event from which xprof draws its memory profile.

        Accelerators add such events themselves; on a CPU nothing else does.
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


def select_stats(stats: Mapping[str, int]) -> dict[str, int]:
    """Return the statistics of ``device.memory_stats()`` that are reported, by tag.

    Example:
        >>> select_stats({"bytes_in_use": 7, "num_allocs": 2})
        {'in_use_bytes': 7}
    """
    return {name: stats[key] for name, key in _STATS.items() if key in stats}


def bytes_in_use() -> int:
    """Return the bytes in use on all local devices; on a CPU, those of the arrays on them."""
    stats = [device.memory_stats() for device in jax.local_devices()]
    if all(stats):
        return sum(each.get("bytes_in_use", 0) for each in stats if each)
    return sum(live_bytes().values())


def live_bytes() -> dict[int, int]:
    """Return the bytes of the live arrays on each device, by device id.

    Arrays that share a buffer each count.
    """
    totals: collections.Counter[int] = collections.Counter()
    for array in jax.live_arrays():
        with contextlib.suppress(Exception):  # deleted in the meantime
            sharding = array.sharding
            is_whole = len(sharding.device_set) == 1
            shape = array.shape if is_whole else sharding.shard_shape(array.shape)
            shard = math.prod(shape) * array.dtype.itemsize
            for device in sharding.addressable_devices:
                totals[device.id] += shard
    return dict(totals)

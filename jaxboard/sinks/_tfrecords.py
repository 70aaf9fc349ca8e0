"""The framing of events in a file: TensorFlow's record format, with a checksum of each record.

A record is its length (uint64), the masked CRC-32C of the length, the data, and the masked CRC-32C of the data, all
little-endian (tensorflow/core/lib/io/record_writer.h). Adjacent events of equal length, such as the scalars of many
steps, are framed together: 0.5 µs for each instead of 6 µs.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterable
from typing import cast

import numpy as np

from jaxboard.sinks._encoding import Events

HEADER_BYTES = 12
"""The bytes before the data of a record: its length and the checksum of the length."""

FRAME_BYTES = 16
"""The bytes of a record beside its data."""


def frame(events: Events) -> bytes:
    """Return events as records, concatenated.

    Example:
        >>> import numpy as np
        >>> len(frame(Events(b"abc", np.array([1, 2]))))
        35
    """
    framed: list[bytes] = []
    start = 0
    for size, equal in itertools.groupby(cast("list[int]", events.sizes.tolist())):
        end = start + size * sum(1 for _ in equal)
        framed.append(_frame_equal(events.data[start:end], size))
        start = end
    return b"".join(framed)


def _frame_equal(data: bytes, size: int) -> bytes:
    """Frame events that all have ``size`` bytes, at least one."""
    head = header(size)
    events = np.frombuffer(data, np.uint8).reshape(-1, size)
    sums = checksums(data[start : start + size] for start in range(0, len(data), size))
    return np.hstack([np.tile(head, (len(events), 1)), events, sums]).tobytes()


@functools.lru_cache(maxsize=1024)
def header(size: int) -> np.ndarray:
    """Return a length with its checksum: uint8[12]."""
    length = size.to_bytes(8, "little")
    return np.append(np.frombuffer(length, np.uint8), checksums([length]))


def checksums(parts: Iterable[bytes]) -> np.ndarray:
    """Return the masked checksum of each part: uint8[N, 4]."""
    return _mask(np.fromiter(map(_crc32c(), parts), np.uint64))[:, None].view(np.uint8)


def length_checksums(lengths: np.ndarray) -> np.ndarray:
    """Return the masked checksum of each of many lengths, in 0.05 µs each.

    Args:
        lengths: uint64[N].

    Returns:
        uint32[N].

    Example:
        >>> length_checksums(np.array([3], np.uint64)).tobytes() == header(3)[8:].tobytes()
        True
    """
    zero, tables = _length_tables()
    parts = lengths.astype("<u8")[:, None].view(np.uint8)
    crc = np.full(len(lengths), zero)
    for place, table in enumerate(tables):
        crc ^= table[parts[:, place]]
    return _mask(crc)


def _mask(crc: np.ndarray) -> np.ndarray:
    return (((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF).astype("<u4")


@functools.cache
def _length_tables() -> tuple[np.uint64, np.ndarray]:
    """Return the checksum of length 0, and what each value of each byte changes in it: uint64[8, 256].

    A checksum without its mask is linear: bytes change it independently of each other.
    """
    crc = _crc32c()
    zero = np.uint64(crc(bytes(8)))
    messages = (
        bytes(place) + bytes([value]) + bytes(7 - place)
        for place in range(8)
        for value in range(256)
    )
    return zero, np.fromiter(map(crc, messages), np.uint64).reshape(8, 256) ^ zero


@functools.cache
def _crc32c() -> Callable[[bytes], int]:
    """Return the checksum function of google-crc32c, or else TensorBoard's, which takes 500 times longer."""
    try:
        from google_crc32c import value as crc32c  # pyright: ignore[reportUnknownVariableType]
    except Exception:  # Not installed, or its warning that it is not compiled is an error.
        from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import (  # pyright: ignore[reportMissingTypeStubs]
            crc32c,  # pyright: ignore[reportUnknownVariableType]
        )
    return cast("Callable[[bytes], int]", crc32c)

"""The records of an event file of any origin: where each begins, and which are damaged.

``sinks/_tfrecords.py`` describes the format. Nothing in a file is trusted. A length counts only if its checksum is
correct and the file is long enough, so that memory is bounded by the size of the file. After damage, reading continues at
the next record whose length has a correct checksum; TensorBoard stops there.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator
from typing import NamedTuple, Protocol

import numpy as np

from jaxboard.sinks import _tfrecords
from jaxboard.sinks._tfrecords import FRAME_BYTES, HEADER_BYTES

_WINDOW_BYTES = 1 << 24
"""The size of the part of a file that is in memory, unless a record is longer."""
_KNOWN_LENGTHS = 1 << 16
"""Most lengths whose headers are remembered."""
_SEARCH_BYTES = 1 << 12
"""The number of bytes after damage that are searched first."""
_RUN_RECORDS = 16
"""After so many records of one length, the next ones are compared with it together."""


class File(Protocol):
    """A file that is open for reading bytes."""

    def read(self, size: int, /) -> bytes:
        """Return the next bytes: fewer than ``size`` only at the end."""
        ...


class Fault(enum.Enum):
    """The reason why a part of a file holds no intact record."""

    TRUNCATED = "truncated"
    LENGTH = "length-checksum"
    DATA = "data-checksum"


class Damage(NamedTuple):
    """A part of a file that holds no intact record.

    Attributes:
        fault: the reason.
        offset: where the part begins in the file.
        size: its length in bytes.
    """

    fault: Fault
    offset: int
    size: int


class Block(NamedTuple):
    """Intact records of a part of a file.

    Attributes:
        data: the part.
        offset: where it begins in the file.
        starts: int64[N], where the data of each record begins in ``data``.
        sizes: int64[N], the length of that data in bytes.
    """

    data: bytes
    offset: int
    starts: np.ndarray
    sizes: np.ndarray

    @property
    def offsets(self) -> np.ndarray:
        """Where each record begins in the file: int64[N]."""
        return self.starts + (self.offset - HEADER_BYTES)


def read_blocks(file: File, size: int, window: int = _WINDOW_BYTES) -> Iterator[Block | Damage]:
    """Yield the records of a file in large blocks, each followed by the damage in that part of the file.

    Args:
        file: the file, at its beginning.
        size: how many bytes to read: the size of the file when it was opened.
        window: how many bytes to hold, unless a record is longer.

    Example:
        >>> import io
        >>> from jaxboard.sinks._encoding import Events
        >>> content = _tfrecords.frame(Events(b"abc", np.array([1, 2]))) + b"rest of 20 bytes...."
        >>> block, damage = read_blocks(io.BytesIO(content), len(content))
        >>> [block.data[start : start + size] for start, size in zip(block.starts, block.sizes)]
        [b'a', b'bc']
        >>> damage
        Damage(fault=<Fault.LENGTH: 'length-checksum'>, offset=35, size=20)
    """
    part = _Part(file, size, window)
    headers = _Headers()
    found: list[tuple[np.ndarray, np.ndarray]] = []
    damaged: list[Damage] = []
    position, needed = 0, HEADER_BYTES
    searching: tuple[Fault, int] | None = None  # Damage whose end is not found yet.
    while position < part.size:
        if not part.holds(position, needed):
            yield from _take(part, found, damaged)
            part.load(position, needed)
            continue
        if searching is not None:
            position, is_found = headers.search(part, position)
            if is_found:
                damaged.append(Damage(*searching, position - searching[1]))
                searching = None
            continue
        starts, sizes, needed = headers.follow(part.data, position - part.offset)
        intact = _are_intact(part.data, starts, sizes)
        end = part.offset + int(starts[-1] + sizes[-1]) + 4 if len(starts) else position
        fault = Fault.TRUNCATED if needed else Fault.LENGTH
        if len(intact) and not intact[-1]:
            # A record that was cut off before others were written has a correct length, too. The next header decides.
            begin = part.offset + int(starts[-1]) - HEADER_BYTES
            if not part.holds(end, HEADER_BYTES):
                starts, sizes, intact = starts[:-1], sizes[:-1], intact[:-1]
                needed, end = min(end + HEADER_BYTES, part.size) - begin, begin
            elif not needed:
                starts, sizes, intact = starts[:-1], sizes[:-1], intact[:-1]
                fault, end = Fault.DATA, begin
        found.append((starts[intact], sizes[intact]))
        damaged += [
            Damage(Fault.DATA, part.offset + start - HEADER_BYTES, size + FRAME_BYTES)
            for start, size in zip(starts[~intact].tolist(), sizes[~intact].tolist(), strict=True)
        ]
        position = end
        if position < part.size and (not needed or position + needed > part.size):
            searching = fault, position
            position, needed = position + 1, HEADER_BYTES
    if searching is not None:
        damaged.append(Damage(*searching, part.size - searching[1]))
    yield from _take(part, found, damaged)


class _Part:
    """A part of a file in memory.

    Attributes:
        size: the size of the file.
        data: the part.
        offset: where it begins in the file.
    """

    def __init__(self, file: File, size: int, window: int) -> None:
        self.size = size
        self.data = b""
        self.offset = 0
        self._file = file
        self._window = window

    def holds(self, position: int, count: int) -> bool:
        """Return whether ``count`` bytes from a position of the file on, or all up to its end, are in memory."""
        return self.offset + len(self.data) >= min(position + count, self.size)

    def load(self, position: int, count: int) -> None:
        """Read on, at least ``count`` bytes from a position on, and drop what is before it."""
        kept = self.data[position - self.offset :]
        missing = min(max(count, self._window), self.size - position) - len(kept)
        more = self._file.read(missing)
        if len(more) < missing:  # The file was cut off meanwhile.
            self.size = position + len(kept) + len(more)
        self.data = kept + more
        self.offset = position


def _take(
    part: _Part, found: list[tuple[np.ndarray, np.ndarray]], damaged: list[Damage]
) -> Iterator[Block | Damage]:
    """Yield the records found in a part of a file and its damage, and forget them."""
    if found:
        starts, sizes = (np.concatenate(column) for column in zip(*found, strict=True))
        if len(starts):
            yield Block(part.data, part.offset, starts, sizes)
    yield from damaged
    found.clear()
    damaged.clear()


class _Headers:
    """The headers of records whose checksums are correct."""

    def __init__(self) -> None:
        self._sizes: dict[bytes, int] = {}

    def size(self, header: bytes) -> int | None:
        """Return the length that a header holds; None if its checksum is wrong."""
        size = self._sizes.get(header)
        if size is None:
            size = int.from_bytes(header[:8], "little")
            if header[8:] != _tfrecords.checksums([header[:8]]).tobytes():
                return None
            if len(self._sizes) >= _KNOWN_LENGTHS:
                self._sizes.clear()
            self._sizes[header] = size
        return size

    def follow(self, data: bytes, position: int) -> tuple[np.ndarray, np.ndarray, int]:
        """Return the records that begin at a position of ``data``, one after the other.

        Returns:
            The start of each record's data and its length, int64[N] each, and the number of bytes that the next record
            needs: 0 if its header is damaged, a header if that is not complete.
        """
        # The first start, the length and the number of equal records.
        runs: list[tuple[int, int, int]] = []
        limit, last, needed = len(data), -1, HEADER_BYTES
        known = self._sizes
        first = count = 0
        while position + HEADER_BYTES <= limit:
            header = data[position : position + HEADER_BYTES]
            size = known.get(header)
            if size is None:
                size = self.size(header)
                if size is None:
                    needed = 0
                    break
            if position + size + FRAME_BYTES > limit:
                needed = size + FRAME_BYTES
                break
            if size != last:
                if count:
                    runs.append((first, last, count))
                first, last, count = position + HEADER_BYTES, size, 0
            count += 1
            position += size + FRAME_BYTES
            if count % _RUN_RECORDS == 0:
                equal = _equal_headers(data, position, header, size + FRAME_BYTES, 4 * count)
                count += equal
                position += equal * (size + FRAME_BYTES)
        if count:
            runs.append((first, last, count))
        firsts, lengths, counts = np.array(runs, np.int64).reshape(-1, 3).T
        sizes = np.repeat(lengths, counts)
        within = np.arange(len(sizes)) - np.repeat(np.cumsum(counts) - counts, counts)
        return np.repeat(firsts, counts) + within * (sizes + FRAME_BYTES), sizes, needed

    def search(self, part: _Part, position: int) -> tuple[int, bool]:
        """Return the position of the next record that is not empty and fits into the file, and whether there is one.

        Without one in memory, the position is that from which to search on.
        """
        index, span = position - part.offset, _SEARCH_BYTES
        while (count := len(part.data) - HEADER_BYTES + 1 - index) > 0:
            count = min(count, span)
            lengths = np.ndarray((count,), "<u8", part.data, index, (1,))
            rest = part.size - part.offset - index
            stored = np.ndarray((count,), "<u4", part.data, index + 8, (1,))
            places = np.flatnonzero((lengths > 0) & (lengths < rest))
            places = places[_tfrecords.length_checksums(lengths[places]) == stored[places]]
            for place in places.tolist():
                if place + int(lengths[place]) + FRAME_BYTES <= rest:
                    return part.offset + index + place, True
            index, span = index + count, 2 * span  # Most damage is short.
        end = part.offset + len(part.data)
        return (end if end == part.size else part.offset + index), False


def _equal_headers(data: bytes, position: int, header: bytes, stride: int, most: int) -> int:
    """Return how many complete records of one length begin at ``position``, at most ``most``."""
    count = min(most, (len(data) - position) // stride)
    headers = np.ndarray((count,), f"V{HEADER_BYTES}", data, position, (stride,))
    equal = headers == np.frombuffer(header, headers.dtype)
    return count if equal.all() else int(np.argmin(equal))


def _are_intact(data: bytes, starts: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Return whether each record has the checksum that follows it: bool[N]."""
    ends = starts + sizes
    found = np.ndarray(max(0, len(data) - 3), "<u4", data, strides=(1,))[ends]
    bounds = zip(starts.tolist(), ends.tolist(), strict=True)
    expected = _tfrecords.checksums(data[start:end] for start, end in bounds)
    return found == expected.view("<u4").ravel()

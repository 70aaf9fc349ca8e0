"""The records of event files that are intact, cut off, damaged or arbitrary."""

from __future__ import annotations

import io
import time
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxboard._read.framing import Block, Damage, Fault, read_blocks
from jaxboard.sinks._encoding import Events
from jaxboard.sinks._tfrecords import frame, header


class Found(NamedTuple):
    """The content of a file: the data of records, where they begin, and the damage."""

    records: list[bytes]
    offsets: list[int]
    damage: list[Damage]


def content(*records: bytes) -> bytes:
    """Return a file with these records."""
    return frame(Events(b"".join(records), np.array([len(record) for record in records])))


def find(data: bytes, window: int = 1 << 24) -> Found:
    """Read a file."""
    found = Found([], [], [])
    for part in read_blocks(io.BytesIO(data), len(data), window):
        if isinstance(part, Damage):
            found.damage.append(part)
            continue
        found.offsets.extend(part.offsets.tolist())
        for start, size in zip(part.starts.tolist(), part.sizes.tolist(), strict=True):
            found.records.append(part.data[start : start + size])
    return found


RECORDS = [b"first", b"second", *[b"equal" * 4] * 40, b"third" * 100, b"last"]
OFFSETS = np.cumsum([0, *(len(record) + 16 for record in RECORDS)]).tolist()


@pytest.mark.parametrize("window", [1, 12, 37, 100, 1 << 24])
def test_intact(window: int) -> None:
    """Every record is found at its place, however much of the file is in memory."""
    assert find(content(*RECORDS), window) == (RECORDS, OFFSETS[:-1], [])


@pytest.mark.parametrize("window", [1, 37, 1 << 24])
@pytest.mark.parametrize("cut", [1, 3, 4, 5, 15, 19])
def test_cut_off(cut: int, window: int) -> None:
    """A record that is cut off at the end is reported; all before it are found."""
    found = find(content(*RECORDS)[:-cut], window)
    damage = Damage(Fault.TRUNCATED, OFFSETS[-2], 20 - cut)
    assert found == (RECORDS[:-1], OFFSETS[:-2], [damage])


@pytest.mark.parametrize("window", [1, 37, 1 << 24])
@pytest.mark.parametrize("place", [0, 1, 20, len(RECORDS) - 1])
@pytest.mark.parametrize(
    ("byte", "fault"), [(0, Fault.LENGTH), (9, Fault.LENGTH), (13, Fault.DATA)]
)
def test_one_wrong_byte(place: int, byte: int, fault: Fault, window: int) -> None:
    """A wrong byte costs the record that holds it, and no other."""
    data = bytearray(content(*RECORDS))
    data[OFFSETS[place] + byte] ^= 1
    found = find(bytes(data), window)
    assert found.records == [*RECORDS[:place], *RECORDS[place + 1 :]]
    assert found.damage == [Damage(fault, OFFSETS[place], OFFSETS[place + 1] - OFFSETS[place])]


@pytest.mark.parametrize("window", [1, 37, 1 << 24])
def test_records_after_one_that_was_cut_off(window: int) -> None:
    """A record that was cut off, as on a full disk, costs none of those that were appended to it."""
    found = find(content(*RECORDS)[: OFFSETS[-3] + 50] + content(*RECORDS), window)
    assert found.records == [*RECORDS[:-2], *RECORDS]
    assert found.damage == [Damage(Fault.DATA, OFFSETS[-3], 50)]


def test_a_length_beyond_the_file() -> None:
    """A length of 2**60 with a correct checksum is a record that was cut off, and no memory is requested for it."""
    data = header(1 << 60).tobytes() + b"data"
    assert find(content(b"first") + data) == (
        [b"first"],
        [0],
        [Damage(Fault.TRUNCATED, 21, 16)],
    )


def test_a_file_that_becomes_shorter() -> None:
    """A file that is cut off while it is read ends there."""
    data = content(*RECORDS)
    parts = list(read_blocks(io.BytesIO(data), len(data) + 1000))
    assert [len(part.starts) for part in parts if isinstance(part, Block)] == [len(RECORDS)]
    assert [part for part in parts if isinstance(part, Damage)] == []


@given(st.binary(max_size=200))
def test_arbitrary_bytes(data: bytes) -> None:
    """Records and damage cover every byte of any file exactly once."""
    assert covered(find(data)) == len(data)


@given(st.data())
def test_any_change(data: st.DataObject) -> None:
    """After changes, records and damage cover every byte exactly once, and the same ones with any amount in memory."""
    changed = bytearray(content(*RECORDS))
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(changed)))
        end = data.draw(st.integers(start, min(len(changed), start + 60)))
        changed[start:end] = data.draw(st.binary(max_size=60))
    found = find(bytes(changed))
    assert covered(found) == len(changed)
    assert set(found.records) <= set(RECORDS)
    assert find(bytes(changed), data.draw(st.integers(1, 200))) == found


def covered(found: Found) -> int:
    """Return how many bytes records and damage cover, one after the other."""
    parts = [
        (start, len(record) + 16)
        for start, record in zip(found.offsets, found.records, strict=True)
    ]
    parts += [(damage.offset, damage.size) for damage in found.damage]
    end = 0
    for start, size in sorted(parts):
        assert start == end
        end += size
    return end


@pytest.mark.parametrize(
    "data",
    [
        (content(bytes(20)) + b"xx") * 5000,
        content(bytes(20))[:12] * 20_000,
        bytes(1 << 21),
        np.arange(1 << 18, dtype="<u8").tobytes(),
    ],
    ids=["damage everywhere", "only lengths", "zeros", "numbers"],
)
def test_the_time_is_linear(data: bytes) -> None:
    """Files that are made to be slow take microseconds per byte, not seconds."""
    start = time.process_time()
    assert covered(find(data)) == len(data)
    assert time.process_time() - start < 10

"""The largest arrays of a compiled program, from the text of its HLO."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from jaxboard._log import is_internal

_BITS = {"pred": 8, "token": 0, "opaque": 0}
"""The bits of an element, where the name of the dtype does not have their number."""

_NO_BUFFER = frozenset({
    "bitcast",
    "call",
    "conditional",
    "constant",
    "get-tuple-element",
    "parameter",
    "tuple",
    "while",
})  # fmt: skip
"""Operations whose result is the memory of another one, or of an argument."""

_COMPUTATION = re.compile(r"^(?:ENTRY )?%?([\w.\-]+) .*\{$")
_INSTRUCTION = re.compile(r"^\s+(?:ROOT )?%?[\w.\-]+ = (\(.*?\)|\S+) ([\w\-]+)\(")
_ARRAY = re.compile(r"(\w+)\[([\d,]*)\]")
_INNER = re.compile(r"(?:calls|to_apply)=%?([\w.\-]+)")


class HloBuffer(NamedTuple):
    """An array that a program computes.

    Attributes:
        nbytes: its size on one device.
        type: its type, such as ``f32[128,10]``.
        operation: the name that JAX gives the operation: its scopes and its primitive. "" if it is not known.
        source: the user's line, such as ``train.py:12``; "" if it is not known.
    """

    nbytes: int
    type: str
    operation: str
    source: str


def largest_buffers(hlo: str, count: int) -> list[HloBuffer]:
    """Return the largest arrays of a program, the largest first.

    Those inside fused operations are left out, as they are never in memory. Arrays of the same operation count once.

    Args:
        hlo: the text of the optimized HLO.
        count: the most arrays to return.
    """
    sources = _Sources(hlo)
    inner = set(_INNER.findall(hlo))
    found: dict[tuple[str, str, str], HloBuffer] = {}
    is_inner = False
    for line in hlo.splitlines():
        header = _COMPUTATION.match(line)
        if header is not None:
            is_inner = header[1] in inner
        instruction = None if is_inner else _INSTRUCTION.match(line)
        if instruction is None or instruction[2] in _NO_BUFFER:
            continue
        operation = (re.findall(r'op_name="([^"]*)"', line) or [""])[0]
        for name, sizes in _ARRAY.findall(instruction[1]):
            buffer = HloBuffer(
                _nbytes(name, sizes), f"{name}[{sizes}]", operation, sources.of(line)
            )
            found.setdefault(buffer[1:], buffer)
    return sorted(found.values(), key=lambda buffer: -buffer.nbytes)[:count]


def _nbytes(name: str, sizes: str) -> int:
    bits = _BITS.get(name)
    if bits is None:
        digits = re.search(r"\d+", name)
        bits = int(digits[0]) if digits else 0
    for size in filter(None, sizes.split(",")):
        bits *= int(size)
    return bits // 8


class _Sources:
    """The lines of the instructions of a program.

    An instruction has a line or, in newer versions of XLA, a stack of lines in tables before the instructions.

    Args:
        hlo: the text of the HLO.
    """

    def __init__(self, hlo: str):
        self._files = _rows(hlo, "FileNames", r'"(.*)"$')
        self._locations = _rows(hlo, "FileLocations", r"\{file_name_id=(\d+) .*?\bline=(\d+)")
        self._frames = _rows(
            hlo, "StackFrames", r"\{file_location_id=(\d+)(?: parent_frame_id=(\d+))?"
        )

    def of(self, line: str) -> str:
        """Return the innermost line of an instruction outside of JAX and jaxboard."""
        direct = re.search(r'source_file="([^"]*)" source_line=(\d+)', line)
        if direct is not None:
            return "" if is_internal(direct[1]) else f"{direct[1]}:{direct[2]}"
        frame = re.search(r"stack_frame_id=(\d+)", line)
        lines = self._stack(frame[1]) if frame is not None else iter(())
        return next((f"{file}:{number}" for file, number in lines if not is_internal(file)), "")

    def _stack(self, frame: str) -> Iterator[tuple[str, str]]:
        seen: set[str] = set()
        while frame in self._frames and frame not in seen:
            seen.add(frame)
            location, frame = self._frames[frame]
            file, line = self._locations.get(location, ("", ""))
            if file in self._files:
                yield self._files[file][0], line


def _rows(hlo: str, name: str, form: str) -> dict[str, tuple[str, ...]]:
    """Return a table before the instructions, up to an empty line: by the number of a row, the groups of its form."""
    table = re.search(rf"^{name}\n(.*?)\n\n", hlo, re.MULTILINE | re.DOTALL)
    rows = [] if table is None else re.findall(rf"^(\d+) {form}", table[1], re.MULTILINE)
    return {number: tuple(groups) for number, *groups in rows}

"""The report of a call that runs out of device memory."""

from __future__ import annotations

import collections
import math
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import jax

from jaxboard import _compat
from jaxboard._host.channel import Channel
from jaxboard._host.observers import Call
from jaxboard._log import describe, logger
from jaxboard._markdown import table
from jaxboard._safe_repr import describe_array
from jaxboard._telemetry.device_memory import select_stats
from jaxboard._telemetry.hlo_buffers import largest_buffers
from jaxboard._telemetry.reporter import Reporter
from jaxboard._telemetry.signature import CallSignature, named_arrays
from jaxboard.records import Record

TAG = "out_of_memory"

_MARKS = ("RESOURCE_EXHAUSTED", "Out of memory allocating")
"""The status that XLA begins the message of such an error with, and what some versions write after another status."""

_MAX_ROWS = 10
"""Most rows of a table."""

_MAX_REPORTS = 10
"""Most reports of a run, such as of a program that looks for the largest batch that fits."""


class _Fitted(NamedTuple):
    """A call that fitted into the memory.

    Attributes:
        step: its step.
        signature: its arguments.
        live: the bytes of all arrays afterwards, on one device, by their type.
    """

    step: int
    signature: CallSignature
    live: dict[str, int]


class OutOfMemory:
    """Writes a text entry ``jaxboard/out_of_memory``, and logs it, when a call runs out of memory.

    Args:
        reporter: the writer.
        channel: the channel of the run.
    """

    def __init__(self, reporter: Reporter, channel: Channel):
        self._reporter = reporter
        self._channel = channel
        self._fitted: dict[object, _Fitted] = {}
        self._count = 0

    def note(self, call: Call) -> None:
        """Note a call with new arguments that fitted."""
        if call.program is not None and call.step is not None:
            live = dict(_by_type(jax.live_arrays()))
            self._fitted[call.function] = _Fitted(call.step, CallSignature(call), live)

    def on_failure(self, call: Call, error: Exception) -> None:
        """Report a call that raised, if it ran out of memory."""
        if call.step is not None and self._reporter.is_active() and self._counts(error):
            sections = [self._changes(call), _arguments(call), *_sections(call)]
            self._reporter.text(
                call.step, TAG, self._text(f" in `{call.name}`", call.step, error, sections)
            )

    def explain(self, error: BaseException) -> list[Record]:
        """Return a report of a computation that failed after its call returned, if it ran out of memory."""
        if not self._counts(error):
            return []
        step = self._channel.current
        return [self._reporter.text_record(step, TAG, self._text("", step, error, _sections(None)))]

    def _counts(self, error: BaseException) -> bool:
        """Return whether to report an error."""
        counts = any(mark in str(error) for mark in _MARKS)
        self._count += counts
        return counts and self._count <= _MAX_REPORTS

    def _text(
        self, where: str, step: int, error: BaseException, sections: list[Iterator[str]]
    ) -> str:
        lines = [f"**Out of memory**{where}, step {step}: {_first_line(error)}"]
        for section in sections:
            try:
                lines += section
            except Exception as fault:
                logger.debug("jaxboard: report of memory: %s", describe(fault))
        text = "\n".join(lines)
        logger.error("jaxboard, run %s: %s", self._channel.name, text)
        return text

    def _changes(self, call: Call) -> Iterator[str]:
        fitted = self._fitted.get(call.function)
        if fitted is None:
            return
        yield from ("", f"**Since step {fitted.step}, which fitted:**", "")
        changes = fitted.signature.changes(CallSignature(call))[:_MAX_ROWS]
        yield from (f"- `{change}`" for change in changes)
        if not changes:
            yield "- No argument changed its type or its shape."
        live = dict(_by_type(jax.live_arrays()))
        before = collections.Counter(fitted.live)
        for name, growth in _largest({name: live[name] - before[name] for name in live}):
            sizes = f"{_size(before[name])} -> {_size(before[name] + growth)}"
            yield f"- Live arrays of type `{name}`: {sizes}"


# --- Sections -------------------------------------------------------------------------------------


def _sections(call: Call | None) -> list[Iterator[str]]:
    return [_programs(call), _devices(), _live_arrays(call)]


def _arguments(call: Call) -> Iterator[str]:
    sizes = {
        f"`{name}`: {describe_array(leaf)}": _nbytes(leaf) for name, leaf in named_arrays(call)
    }
    yield from _table(f"arguments, {_size(sum(sizes.values()))} in all", "size", _largest(sizes))


def _programs(call: Call | None) -> Iterator[str]:
    """Return the memory of the compiled programs, and the largest arrays of the one that failed, or of the largest one."""
    programs = list(map(_Program.of, _compat.live_executables()))
    name = None if call is None else f"jit_{call.function.__name__}"
    programs.sort(key=lambda program: -program.total)
    # A function may have several programs; the largest one did not fit.
    failed = next((program for program in programs if program.name == name), None)
    programs = [*([failed] if failed else []), *(p for p in programs if p is not failed)]
    rows = [["compiled program", "temporaries", "arguments", "results"]]
    for each in programs[:_MAX_ROWS]:
        sizes = map(_size, (each.temporaries, each.arguments, each.results))
        rows.append([f"`{each.name}`", *sizes])
    yield from ("", table(rows, numbers=(1, 2, 3)))
    if not programs:
        return
    first = programs[0]
    rows = [[f"largest arrays of `{first.name}`", "size", "operation", "line"]]
    for buffer in largest_buffers(first.module.to_string(), _MAX_ROWS):
        operation, source = (
            f"`{text}`" if text else "" for text in (buffer.operation, buffer.source)
        )
        rows.append([buffer.type, _size(buffer.nbytes), operation, source])
    yield from ("", table(rows, numbers=(1,)))


class _Program(NamedTuple):
    """A compiled program, with its bytes on one device.

    Attributes:
        name: its name, such as ``jit_step``.
        arguments: the bytes of its arguments.
        results: those of its results that have memory of their own.
        temporaries: those of everything between.
        module: its HLO.
    """

    name: str
    arguments: int
    results: int
    temporaries: int
    module: Any

    @classmethod
    def of(cls, executable: Any) -> _Program:
        stats, module = executable.get_compiled_memory_stats(), executable.hlo_modules()[0]
        results = stats.output_size_in_bytes - stats.alias_size_in_bytes
        return cls(
            module.name, stats.argument_size_in_bytes, results, stats.temp_size_in_bytes, module
        )

    @property
    def total(self) -> int:
        return self.arguments + self.results + self.temporaries


def _devices() -> Iterator[str]:
    for device in jax.local_devices():
        stats = select_stats(device.memory_stats() or {})
        if stats:
            names = {"in_use_bytes": "in use", "peak_bytes": "at the peak", "limit_bytes": "in all"}
            sizes = ", ".join(
                f"{_size(stats[key])} {text}" for key, text in names.items() if key in stats
            )
            yield from ("", f"`{device.platform}:{device.id}`: {sizes}")


def _live_arrays(call: Call | None) -> Iterator[str]:
    own = {id(leaf) for _, leaf in named_arrays(call)} if call else set[int]()
    others = _by_type(array for array in jax.live_arrays() if id(array) not in own)
    total = _size(sum(others.values()))
    yield from _table(f"other live arrays, {total} in all", "size", _largest(others))


def _table(title: str, column: str, rows: list[tuple[str, int]]) -> Iterator[str]:
    if rows:
        cells = [[title, column], *([name, _size(size)] for name, size in rows)]
        yield from ("", table(cells, numbers=(1,)))


# --- Sizes ----------------------------------------------------------------------------------------


def _by_type(arrays: Iterable[Any]) -> collections.Counter[str]:
    """Return the bytes of arrays on one device, by their dtype and shape."""
    sizes: collections.Counter[str] = collections.Counter()
    for array in arrays:
        try:
            sizes[describe_array(array)] += _nbytes(array)
        except Exception:  # noqa: S112 (deleted in the meantime)
            continue
    return sizes


def _nbytes(array: Any) -> int:
    """Return the bytes of an array on one device."""
    sharding = getattr(array, "sharding", None)
    shape = array.shape if sharding is None else sharding.shard_shape(array.shape)
    return math.prod(shape) * array.dtype.itemsize


def _largest(sizes: dict[str, int]) -> list[tuple[str, int]]:
    found = sorted(sizes.items(), key=lambda item: -item[1])[:_MAX_ROWS]
    return [(name, size) for name, size in found if size > 0]


def _size(nbytes: int) -> str:
    """Return a number of bytes as text.

    Example:
        >>> _size(3 * 2**30), _size(1000)
        ('3.0 GiB', '1000 B')
    """
    for unit, name in (
        (2**50, "PiB"),
        (2**40, "TiB"),
        (2**30, "GiB"),
        (2**20, "MiB"),
        (2**10, "KiB"),
    ):
        if nbytes >= unit:
            return f"{nbytes / unit:.1f} {name}"
    return f"{nbytes} B"


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [""])[0]

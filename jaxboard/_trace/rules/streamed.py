"""Streamed loops: a loop that is a whole training run reports while it runs, a chunk of iterations at a time.

The loop becomes a loop over chunks. The reports of a chunk are stacked, as those of any scan are, and one
callback takes them to the host, where each iteration is a step of its own. A callback for each iteration
would cost thirty times as much, and a ring buffer in the carry twice.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxboard._frame import LoopChunk, Packed, Plan
from jaxboard._reduce import WideInt
from jaxboard._trace.arrival import Caller
from jaxboard._trace.pack import Harvested, merge_same, pack
from jaxboard._trace.primitives import deliver
from jaxboard._trace.rules.step_clocks import ArgumentClock, StepClock
from jaxboard._types import PyTree


class Stream:
    """The progress of the streamed loops of one function while it is traced.

    Args:
        size: how many iterations make a chunk.
        clock: the steps of the iterations.
        bar: the name of the progress bar; None for no bar.
        caller: the run of the calls.

    Attributes:
        size: see above.
        clock: see above.
        steps_taken: the number of iterations; None if only the program knows.
    """

    def __init__(self, size: int, clock: StepClock, bar: str | None, caller: Caller | None = None):
        self.size = size
        self.clock = clock
        self.steps_taken: int | None = 0
        self._bar = bar
        self._outside: list[Harvested] = []
        self._caller = caller

    def add_outside(self, reports: list[Harvested]) -> None:
        """Add reports that were made outside of the loops."""
        self._outside += reports

    def take_outside(self) -> list[Harvested]:
        """Return the reports that were made since the last loop, with repeated reports merged."""
        reports, self._outside = merge_same(self._outside), []
        return reports

    def begin_loop(self) -> Packed | None:
        """Return the reports since the last loop, with the last step taken or the first one; None without reports."""
        reports = self.take_outside()
        if not reports:
            return None
        packed = pack(reports, self.clock.last)
        # Names that the vectors of the loop do not have.
        rename = lambda slot: dataclasses.replace(slot, dtype=f"before {slot.dtype}")  # noqa: E731
        entries = tuple(
            dataclasses.replace(
                entry,
                slots=tuple(map(rename, entry.slots)),
                weight=entry.weight if isinstance(entry.weight, int) else rename(entry.weight),
                step=None if entry.step is None else rename(entry.step),
            )
            for entry in packed.plan.entries
        )
        chunk = LoopChunk(1, 1, None)
        step = None if packed.plan.step is None else rename(packed.plan.step)
        arrays = {f"before {name}": array[None] for name, array in packed.arrays.items()}
        return Packed(Plan(entries, step, chunk), arrays)

    def deliver_before(self, before: Packed) -> None:
        """Send the result of :meth:`begin_loop` without a chunk."""
        deliver(before, advance=None, caller=self._caller)

    def finish_loop(self, iterations: int | None) -> None:
        """Continue after a loop of this many iterations; None if only the program knows their number."""
        if self.steps_taken is None or iterations is None:
            self.steps_taken = None
        else:
            self.steps_taken += iterations

    def deliver(
        self,
        chunk: Packed,
        size: int,
        total: int | None,
        before: Packed | None,
        is_first: Array,
    ) -> None:
        """Send a chunk to the host.

        Args:
            chunk: the reports. The plan is that of one iteration, whose step is among the arrays; those have a
                leading axis of iterations.
            size: the length of that axis.
            total: the number of iterations of the loop, if known.
            before: the result of :meth:`begin_loop`.
            is_first: whether this is the first chunk of the loop.
        """
        arrays, before_plan = chunk.arrays, None
        if before is not None:
            before = _only_if(is_first, before)
            arrays, before_plan = {**arrays, **before.arrays}, before.plan
        shares_steps = isinstance(self.clock, ArgumentClock)
        loop = LoopChunk(size, total, self._bar, before_plan, shares_steps)
        plan = dataclasses.replace(chunk.plan, chunk=loop)
        deliver(Packed(plan, arrays), advance=True, caller=self._caller)


def _only_if(holds: Array, before: Packed) -> Packed:
    """Return the result of :meth:`Stream.begin_loop` with a step below zero unless a condition holds."""
    slot = before.plan.step
    if slot is None:
        return before
    vector = before.arrays[slot.dtype]
    place = lax.iota(jnp.int32, vector.shape[-1]) - slot.offset
    is_step = (place >= 0) & (place < math.prod(slot.shape))
    step = jnp.where(is_step & ~holds, jnp.int32(-1), vector)
    return Packed(before.plan, {**before.arrays, slot.dtype: step})


def scan(
    stream: Stream,
    body: Callable[[WideInt, PyTree, PyTree], tuple[PyTree, PyTree, list[Harvested]]],
    init: Sequence[Array],
    xs: PyTree,
    *,
    length: int,
    reverse: bool,
    unroll: int,
) -> tuple[Sequence[Array], PyTree]:
    """Run ``lax.scan`` in chunks, and send the reports of each chunk.

    Args:
        stream: the stream to send to.
        body: ``body(step, carry, x)`` -> (carry, y, reports).
        init: the initial carry.
        xs: arrays with a leading axis of iterations.
        length: the number of iterations.
        reverse: whether the last one runs first.
        unroll: as for ``lax.scan``.

    Returns:
        The final carry, and the stacked ys.
    """
    plan = Plan(())
    before, clock = stream.begin_loop() if length else None, stream.clock
    begin = clock.begin_loop(init)

    def iteration(
        state: tuple[PyTree, Sequence[Array]], x: PyTree
    ) -> tuple[tuple[PyTree, Sequence[Array]], PyTree]:
        nonlocal plan
        time, carry = state
        step = clock.step(time, carry)
        carry, y, reports = body(step, carry, x)
        packed = pack(merge_same(reports), step)
        plan = packed.plan
        return (clock.tick(time, step), carry), (y, packed.arrays)

    def run_chunk(
        state: tuple[PyTree, Sequence[Array]], xs: PyTree, size: int
    ) -> tuple[tuple[PyTree, Sequence[Array]], PyTree]:
        is_first = clock.is_start(state[0])
        state, (ys, arrays) = lax.scan(
            iteration, state, xs, length=size, reverse=reverse, unroll=min(unroll, size)
        )
        stream.deliver(Packed(plan, arrays), size, length, before, is_first)
        return state, ys

    size = min(stream.size, length)
    chunks, rest = divmod(length, size) if size else (0, 0)
    chunked, rest_xs = _split(xs, chunks, size, from_end=reverse)
    state, ys = lax.scan(
        lambda state, xs: run_chunk(state, xs, size),
        (begin, init),
        chunked,
        length=chunks,
        reverse=reverse,
    )
    ys = jax.tree.map(lambda y: y.reshape(chunks * size, *y.shape[2:]), ys)
    if rest:
        state, rest_ys = run_chunk(state, rest_xs, rest)
        parts = (rest_ys, ys) if reverse else (ys, rest_ys)
        ys = jax.tree.map(lambda *y: jnp.concatenate(y), *parts)
    time, carry = state
    clock.end_loop(time, carry)
    stream.finish_loop(length)
    return carry, ys


def _split(xs: PyTree, chunks: int, size: int, *, from_end: bool) -> tuple[PyTree, PyTree]:
    """Return the rows of arrays in chunks, and the rows that do not fill one.

    Args:
        xs: arrays with a leading axis of rows.
        chunks: the number of chunks.
        size: the rows of a chunk.
        from_end: whether the chunks end at the last row, for a scan in reverse; otherwise they begin at the first.
    """
    number = chunks * size

    def chunked(x: Array) -> Array:
        rows = x[len(x) - number :] if from_end else x[:number]
        return rows.reshape(chunks, size, *x.shape[1:])

    def rest(x: Array) -> Array:
        return x[: len(x) - number] if from_end else x[number:]

    return jax.tree.map(chunked, xs), jax.tree.map(rest, xs)


def while_loop(
    stream: Stream,
    test: Callable[[PyTree], Array],
    body: Callable[[WideInt, PyTree], tuple[PyTree, list[Harvested]]],
    init: Sequence[Array],
) -> Sequence[Array]:
    """Run ``lax.while_loop`` in chunks, and send the reports of each chunk.

    Args:
        stream: the stream to send to.
        test: ``test(carry)`` -> bool scalar.
        body: ``body(step, carry)`` -> (carry, reports).
        init: the initial carry.

    Returns:
        The final carry.
    """
    plan = Plan(())
    before, clock = stream.begin_loop(), stream.clock
    begin = clock.begin_loop(init)

    def iteration(
        time: PyTree, carry: Sequence[Array]
    ) -> tuple[PyTree, Sequence[Array], dict[str, Array]]:
        nonlocal plan
        step = clock.step(time, carry)
        carry, reports = body(step, carry)
        packed = pack(merge_same(reports), step)
        plan = packed.plan
        return clock.tick(time, step), carry, packed.arrays

    *_, shapes = jax.eval_shape(iteration, begin, init)
    # Rows that no iteration fills keep a step below zero, and the host drops them.
    empty = {
        name: jnp.full((stream.size, *like.shape), -1, like.dtype) for name, like in shapes.items()
    }

    def fill_row(state: _ChunkState) -> _ChunkState:
        time, carry, arrays = iteration(state.time, state.carry)
        rows = {name: rows.at[state.row].set(arrays[name]) for name, rows in state.rows.items()}
        return _ChunkState(state.row + 1, time, carry, rows)

    def run_chunk(
        state: tuple[PyTree, Sequence[Array]],
    ) -> tuple[PyTree, Sequence[Array]]:
        time, carry = state
        chunk = lax.while_loop(
            lambda state: (state.row < stream.size) & test(state.carry),
            fill_row,
            _ChunkState(jnp.int32(0), time, carry, empty),
        )
        rows = Packed(plan, chunk.rows)
        stream.deliver(rows, stream.size, None, before, clock.is_start(time))
        return chunk.time, chunk.carry

    time, carry = lax.while_loop(lambda state: test(state[1]), run_chunk, (begin, init))
    if before is not None:
        # A loop without iterations has no chunk that carries it.
        stream.deliver_before(_only_if(clock.is_start(time), before))
    clock.end_loop(time, carry)
    stream.finish_loop(None)
    return carry


class _ChunkState(NamedTuple):
    """The state of the loop over the iterations of a chunk.

    Attributes:
        row: int32, the iterations done.
        time: the time of the clock.
        carry: that of the original loop.
        rows: the packed reports, with a leading axis of iterations.
    """

    row: Array
    time: PyTree
    carry: Sequence[Array]
    rows: dict[str, Array]

"""Streamed loops: a loop that is a whole training run reports while it runs, a chunk of iterations at a time.

The loop becomes a loop over chunks. The reports of a chunk are stacked, as those of any scan are, and one
callback takes them to the host, where each iteration is a step of its own. A callback for each iteration
would cost thirty times as much, and a ring buffer in the carry twice.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxboard._frame import LoopChunk, Packed, Plan
from jaxboard._trace.arrival import Caller
from jaxboard._trace.pack import Harvested, merge_same, pack
from jaxboard._trace.primitives import deliver
from jaxboard._types import PyTree


class Stream:
    """The progress of the streamed loops of one function while it is traced.

    Args:
        size: how many iterations make a chunk.
        first: int32, the step of the first iteration.
        bar: the name of the progress bar; None for no bar.
        caller: the run of the calls.

    Attributes:
        size: see above.
        step: int32, the step of the next iteration.
        steps_taken: the number of iterations; None if only the program knows.
    """

    def __init__(self, size: int, first: Array, bar: str | None, caller: Caller | None = None):
        self.size = size
        self.step = first
        self.steps_taken: int | None = 0
        self._first = first
        self._bar = bar
        self._caller = caller

    @property
    def last(self) -> Array:
        """int32, the step of the last iteration."""
        return jnp.maximum(self.step - 1, self._first)

    def finish_loop(self, step: Array, iterations: int | None) -> None:
        """Continue at ``step`` after a loop of so many iterations; None if only the program knows."""
        self.step = step
        if self.steps_taken is None or iterations is None:
            self.steps_taken = None
        else:
            self.steps_taken += iterations

    def deliver(self, plan: Plan, arrays: dict[str, Array], size: int, total: int | None) -> None:
        """Send a chunk to the host.

        Args:
            plan: of one iteration; its step is among the arrays.
            arrays: with a leading axis of iterations.
            size: the length of that axis.
            total: the number of iterations of the loop, if known.
        """
        plan = dataclasses.replace(plan, chunk=LoopChunk(size, total, self._bar))
        deliver(Packed(plan, arrays), advance=True, caller=self._caller)


def scan(
    stream: Stream,
    body: Callable[[Array, PyTree, PyTree], tuple[PyTree, PyTree, list[Harvested]]],
    init: PyTree,
    xs: PyTree,
    *,
    length: int,
    reverse: bool,
    unroll: int,
) -> tuple[PyTree, PyTree]:
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

    def iteration(state: tuple[Array, PyTree], x: PyTree) -> tuple[PyTree, PyTree]:
        nonlocal plan
        step, carry = state
        carry, y, reports = body(step, carry, x)
        packed = pack(merge_same(reports), step)
        plan = packed.plan
        return (step + 1, carry), (y, packed.arrays)

    def run_chunk(
        state: tuple[Array, PyTree], xs: PyTree, size: int
    ) -> tuple[tuple[Array, PyTree], PyTree]:
        state, (ys, arrays) = lax.scan(
            iteration, state, xs, length=size, reverse=reverse, unroll=min(unroll, size)
        )
        stream.deliver(plan, arrays, size, length)
        return state, ys

    size = min(stream.size, length)
    chunks, rest = divmod(length, size) if size else (0, 0)
    # The iterations that do not fill a chunk run last: at the end, or at the start if reversed.
    start, stop = (rest, length) if reverse else (0, length - rest)
    chunked = jax.tree.map(lambda x: x[start:stop].reshape(chunks, size, *x.shape[1:]), xs)
    state, ys = lax.scan(
        lambda state, xs: run_chunk(state, xs, size),
        (stream.step, init),
        chunked,
        length=chunks,
        reverse=reverse,
    )
    ys = jax.tree.map(lambda y: y.reshape(chunks * size, *y.shape[2:]), ys)
    if rest:
        rest_xs = jax.tree.map(lambda x: x[:rest] if reverse else x[stop:], xs)
        state, rest_ys = run_chunk(state, rest_xs, rest)
        parts = (rest_ys, ys) if reverse else (ys, rest_ys)
        ys = jax.tree.map(lambda *y: jnp.concatenate(y), *parts)
    step, carry = state
    stream.finish_loop(step, length)
    return carry, ys


def while_loop(
    stream: Stream,
    test: Callable[[PyTree], Array],
    body: Callable[[Array, PyTree], tuple[PyTree, list[Harvested]]],
    init: PyTree,
) -> PyTree:
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

    def iteration(step: Array, carry: PyTree) -> tuple[PyTree, dict[str, Array]]:
        nonlocal plan
        carry, reports = body(step, carry)
        packed = pack(merge_same(reports), step)
        plan = packed.plan
        return carry, packed.arrays

    _, shapes = jax.eval_shape(iteration, stream.step, init)
    # Rows that no iteration fills keep a step below zero, and the host drops them.
    empty = {
        name: jnp.full((stream.size, *like.shape), -1, like.dtype) for name, like in shapes.items()
    }

    def fill_row(state: _ChunkState) -> _ChunkState:
        carry, arrays = iteration(state.step, state.carry)
        rows = {name: rows.at[state.row].set(arrays[name]) for name, rows in state.rows.items()}
        return _ChunkState(state.row + 1, state.step + 1, carry, rows)

    def run_chunk(state: tuple[Array, PyTree]) -> tuple[Array, PyTree]:
        step, carry = state
        chunk = lax.while_loop(
            lambda state: (state.row < stream.size) & test(state.carry),
            fill_row,
            _ChunkState(jnp.int32(0), step, carry, empty),
        )
        stream.deliver(plan, chunk.rows, stream.size, None)
        return chunk.step, chunk.carry

    step, carry = lax.while_loop(lambda state: test(state[1]), run_chunk, (stream.step, init))
    stream.finish_loop(step, None)
    return carry


class _ChunkState(NamedTuple):
    """The state of the loop over the iterations of a chunk.

    Attributes:
        row: int32, the iterations done.
        step: int32, the step of the next one.
        carry: that of the original loop.
        rows: the packed reports, with a leading axis of iterations.
    """

    row: Array
    step: Array
    carry: PyTree
    rows: dict[str, Array]

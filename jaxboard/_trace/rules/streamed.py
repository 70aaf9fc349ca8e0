"""Streaming: a loop that is a whole training run reports while it runs, a chunk of iterations at a time.

The loop becomes a loop over chunks. The reports of a chunk are stacked, as those of any scan are, and reach
the host by one callback, where each iteration is a step of its own. A callback for each iteration would
cost thirty times as much, and a ring buffer in the carry twice.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jaxboard._frame import LoopChunk, Packed, Plan
from jaxboard._trace.pack import merge_same, pack
from jaxboard._trace.primitives import deliver


class Stream:
    """How far the streamed loops of a function have come, while it is traced.

    Args:
        size: how many iterations make a chunk.
        first: int32, the step of the first iteration.
        bar: what the progress bar is called; None for no bar.

    Attributes:
        step: int32, the step of the next iteration.
        steps_taken: how many iterations there are, None if only the program knows.
    """

    def __init__(self, size: int, first: Any, bar: str | None):
        self.size = size
        self.step = first
        self.steps_taken: int | None = 0
        self._first = first
        self._bar = bar

    @property
    def last(self) -> Any:
        """int32, the step of the last iteration."""
        return jnp.maximum(self.step - 1, self._first)

    def count(self, iterations: int | None) -> None:
        """A loop of so many iterations is over."""
        if self.steps_taken is None or iterations is None:
            self.steps_taken = None
        else:
            self.steps_taken += iterations

    def deliver(self, plan: Plan, arrays: dict[str, Any], size: int, total: int | None) -> None:
        """Sends a chunk: arrays with an axis of iterations in front, which hold the steps too."""
        plan = dataclasses.replace(plan, rows=LoopChunk(size, total, self._bar))
        deliver(Packed(plan, arrays), advance=True)


def scan(
    stream: Stream, body: Any, carry: Any, xs: Any, *, length: int, reverse: bool, unroll: int
) -> tuple[Any, Any]:
    """``lax.scan`` in chunks.

    Args:
        stream: see above.
        body: ``body(step, carry, xs)`` -> (carry, ys, reports).
        carry: the first one.
        xs: arrays with an axis of iterations in front.
        length: how many iterations.
        reverse: whether they are run from the back.
        unroll: how many are put in line.

    Returns:
        The last carry, and the stacked ys.
    """
    cell: dict[str, Plan] = {}

    def iteration(state: Any, xs: Any) -> Any:
        step, carry = state
        carry, ys, reports = body(step, carry, xs)
        packed = pack(merge_same(reports), step)
        cell["plan"] = packed.plan
        return (step + 1, carry), (ys, packed.arrays)

    def chunk(state: Any, xs: Any, size: int) -> Any:
        state, (ys, arrays) = lax.scan(
            iteration, state, xs, length=size, reverse=reverse, unroll=min(unroll, size)
        )
        stream.deliver(cell["plan"], arrays, size, length)
        return state, ys

    size = min(stream.size, length)
    chunks, rest = divmod(length, size) if size else (0, 0)
    # What does not fill a chunk is run last, wherever that is.
    start, end = (rest, 0) if reverse else (0, rest)
    whole = jax.tree.map(lambda x: x[start : length - end].reshape(chunks, size, *x.shape[1:]), xs)
    state, ys = lax.scan(
        lambda state, xs: chunk(state, xs, size),
        (stream.step, carry),
        whole,
        length=chunks,
        reverse=reverse,
    )
    ys = jax.tree.map(lambda y: y.reshape(chunks * size, *y.shape[2:]), ys)
    if rest:
        left = jax.tree.map(lambda x: x[:rest] if reverse else x[length - rest :], xs)
        state, more = chunk(state, left, rest)
        parts = (more, ys) if reverse else (ys, more)
        ys = jax.tree.map(lambda *y: jnp.concatenate(y), *parts)
    stream.step, carry = state
    stream.count(length)
    return carry, ys


def while_loop(stream: Stream, test: Any, body: Any, carry: Any) -> Any:
    """``lax.while_loop`` in chunks.

    Args:
        stream: see above.
        test: ``test(carry)`` -> bool scalar.
        body: ``body(step, carry)`` -> (carry, reports).
        carry: the first one.

    Returns:
        The last carry.
    """
    cell: dict[str, Plan] = {}

    def reported(step: Any, carry: Any) -> Any:
        carry, reports = body(step, carry)
        packed = pack(merge_same(reports), step)
        cell["plan"] = packed.plan
        return carry, packed.arrays

    closed, shape = jax.make_jaxpr(reported, return_shape=True)(stream.step, carry)
    del closed
    _, shapes = shape
    # LoopChunk that no iteration fills keep a step below zero.
    empty = {
        name: jnp.full((stream.size, *like.shape), -1, like.dtype) for name, like in shapes.items()
    }

    def one(state: Any) -> Any:
        place, step, carry, arrays = state
        carry, row = reported(step, carry)
        arrays = {name: array.at[place].set(row[name]) for name, array in arrays.items()}
        return place + 1, step + 1, carry, arrays

    def chunk(state: Any) -> Any:
        step, carry = state
        _, step, carry, arrays = lax.while_loop(
            lambda state: (state[0] < stream.size) & test(state[2]),
            one,
            (jnp.int32(0), step, carry, empty),
        )
        stream.deliver(cell["plan"], arrays, stream.size, None)
        return step, carry

    stream.step, carry = lax.while_loop(lambda state: test(state[1]), chunk, (stream.step, carry))
    stream.count(None)
    return carry

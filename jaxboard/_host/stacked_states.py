"""Accumulators of one report, stacked: every array has a leading axis of N values."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import jax
import numpy as np

from jaxboard._reduce import Reducer, State, WideInt


def state_at(state: State, index: int | slice | list[int] | np.ndarray) -> State:
    """Return the accumulator of one value, or those of several values, which are stacked too."""
    return _map_arrays(lambda x: x[index], state)


def flatten_leading_axes(state: State) -> State:
    """Return accumulators with two leading axes, of N frames and M points, as N * M accumulators."""
    return _map_arrays(lambda x: x.reshape(-1, *x.shape[2:]), state)


def stack_states(states: Sequence[State]) -> State:
    """Return accumulators with one leading axis of all of them."""
    value, weight = jax.tree.map(lambda *x: np.stack(x), *map(_with_wide_weight, states))
    return State(value, weight)


def concatenate_states(states: Sequence[State]) -> State:
    """Return stacked accumulators as one stack. They have one structure; a static weight is the same in all."""

    def concatenate(first: int | np.ndarray, *others: np.ndarray) -> int | np.ndarray:
        return first if isinstance(first, int) else np.concatenate([first, *others])

    return jax.tree.map(concatenate, *states)


def merge_windows(
    reducer: Reducer, state: State, starts: np.ndarray, lengths: np.ndarray
) -> Iterator[tuple[np.ndarray, State]]:
    """Merge the values of windows: those of each window in order, and all windows together.

    Args:
        reducer: an elementwise reducer.
        state: the accumulators of N values.
        starts: int[W], the index of the first value of each window. Together the windows have all values.
        lengths: int[W], how many values each window has, at least one.

    Yields:
        The indices of windows of one length, and their accumulators: static weights differ between lengths.
    """
    windows, longest = np.arange(len(starts)), int(lengths.max(initial=0))
    merged = state_at(state, starts) if longest > 1 else state
    for count in range(1, longest + 1):
        is_done = lengths[windows] == count
        if is_done.all():
            yield windows, merged
            return
        if is_done.any():
            yield windows[is_done], state_at(merged, is_done)
            windows, merged = windows[~is_done], state_at(merged, ~is_done)
        merged = reducer.merge(merged, state_at(state, starts[windows] + count))


def _with_wide_weight(state: State) -> State:
    weight = state.weight
    return State(state.value, WideInt.of(weight) if isinstance(weight, int) else weight)


def _map_arrays(function: Callable[[np.ndarray], np.ndarray], state: State) -> State:
    """Apply a function to the arrays of accumulators, and keep a static weight."""

    def apply(leaf: int | np.ndarray) -> int | np.ndarray:
        return leaf if isinstance(leaf, int) else function(leaf)

    return jax.tree.map(apply, state)

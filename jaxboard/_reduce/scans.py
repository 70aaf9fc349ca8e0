"""Loops of the reductions, which also work where JAX's own ``scan`` is incomplete.

With the flag ``jax_scan3``, JAX up to 0.12 neither maps nor differentiates a scan, and drops one whose only result is its
carry. Programs without a scan of their own must not fail because a report has one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import jax
import jax.custom_batching
import jax.numpy as jnp
from jax import Array, lax

from jaxboard import _compat

Carry = TypeVar("Carry")


def scan(
    body: Callable[[Carry, Any], tuple[Carry, Any]], carry: Carry, xs: Any
) -> tuple[Carry, Any]:
    """Return the last carry and the stacked results of ``body(carry, x)``, as ``lax.scan`` does; at least one ``x``."""
    if not _compat.scan_is_incomplete():
        return lax.scan(body, carry, xs)
    length = jax.tree.leaves(xs)[0].shape[0]

    def iteration(state: tuple[Array, Carry, Any]) -> tuple[Array, Carry, Any]:
        number, carry, ys = state
        x = jax.tree.map(lambda x: lax.dynamic_index_in_dim(x, number, keepdims=False), xs)
        carry, y = body(carry, x)
        insert = lambda ys, y: lax.dynamic_update_index_in_dim(ys, y, number, 0)  # noqa: E731
        return number + 1, carry, jax.tree.map(insert, ys, y)

    # The first iteration shows the types of the results.
    carry, y = body(carry, jax.tree.map(lambda x: x[0], xs))
    ys = jax.tree.map(lambda y: jnp.broadcast_to(y, (length, *y.shape)), y)
    first = (jnp.int32(1), carry, ys)
    return lax.while_loop(lambda state: state[0] < length, iteration, first)[1:]


def map_over(function: Callable[[Any], Any], xs: Any) -> Any:
    """Return the stacked results of a function, computed one after the other, as ``lax.map`` does."""
    if not _compat.scan_is_incomplete():
        return lax.map(function, xs)
    return scan(lambda carry, x: (carry, function(x)), None, xs)[1]


def fori_loop(count: int, body: Callable[[Array, Carry], Carry], carry: Carry) -> Carry:
    """Return the last carry of ``body(number, carry)``, as ``lax.fori_loop`` from zero does."""
    if not _compat.scan_is_incomplete():
        return lax.fori_loop(0, count, body, carry)
    return scan(lambda carry, number: (body(number, carry), None), carry, jnp.arange(count))[0]


def sequential_vmap(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that ``vmap`` calls for one lane after the other, as the one of ``jax.custom_batching``."""
    if not _compat.scan_is_incomplete():
        return jax.custom_batching.sequential_vmap(function)
    mapped = jax.custom_batching.custom_vmap(function)

    @mapped.def_vmap
    def rule(_size: int, is_mapped: Sequence[bool], *args: Array) -> tuple[Any, Any]:
        lanes = [x for x, separate in zip(args, is_mapped, strict=True) if separate]

        def one_lane(lane: list[Array]) -> Any:
            values = iter(lane)
            each = zip(args, is_mapped, strict=True)
            return mapped(*(next(values) if separate else x for x, separate in each))

        results = map_over(one_lane, lanes)
        return results, jax.tree.map(lambda _: True, results)

    return mapped

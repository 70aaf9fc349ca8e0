"""Sums over the layers of a model: its parameters, gradients, updates and activations, each array by itself.

An array of stacked layers is one array for the program. Its sums are those of all axes but the first, so that it is
neither sliced nor gathered.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxboard._reduce.layer_parts import TREES
from jaxboard._reduce.leaves import magnitudes, map_equal
from jaxboard._reduce.norms import halves
from jaxboard._reduce.reducers import on_cpu, replicated
from jaxboard._reduce.scans import sequential_vmap
from jaxboard._reduce.wide import WideInt
from jaxboard._types import Array

_WITH_ZEROS = ("grads", "activations")
"""The trees whose zeros are counted."""


def layer_sums(trees: Sequence[Sequence[Array | None]], counts: tuple[int | None, ...]) -> Array:
    """Return the sums of each part: float32[14, P]. Those of a missing array are zero.

    The first four rows are the sums of squares of the :data:`TREES`, the next two the numbers of elements that are not
    zero of gradients and activations. Then come the numbers of non-finite elements of the trees, each as :func:`halves`.

    Args:
        trees: the N arrays of each of the :data:`TREES`, in the same order; None for a missing one.
        counts: for each of the N arrays, the number of layers along its first axis, which are its parts; None for an
            array that is one part.
    """
    present = tuple(tuple(x is not None for x in tree) for tree in trees)
    arrays = [x for tree in trees for x in tree if x is not None]

    # As in `measure`: one lane after the other, and constants stay in the function.
    @sequential_vmap
    @jax.jit
    def sums(*arrays: Array) -> Array:
        return replicated(lambda *xs: _sums(xs, present, counts), *arrays)

    return sums(*map(lax.stop_gradient, arrays))


def _sums(
    arrays: Sequence[Array], present: tuple[tuple[bool, ...], ...], counts: tuple[int | None, ...]
) -> jax.Array:
    given = iter(arrays)
    trees = [[next(given) if has else None for has in tree] for tree in present]
    columns = {
        name: _columns(tree, counts, zeros=name in _WITH_ZEROS)
        for name, tree in zip(TREES, trees, strict=True)
    }
    squares = [each[:, 0] for each in columns.values()]
    nonzeros = [columns[name][:, 3] for name in _WITH_ZEROS]
    nonfinite = [each[:, n] for each in columns.values() for n in (1, 2)]
    return jnp.stack([*squares, *nonzeros, *nonfinite])


def _columns(
    leaves: Sequence[Array | None],
    counts: tuple[int | None, ...],
    *,
    zeros: bool,
) -> jax.Array:
    """Return float32[P, 4]: squares, halves of non-finite counts, and the number of elements that are not zero if requested."""
    lengths = [1 if count is None else count for count in counts]
    first = np.concatenate([[0], np.cumsum(lengths)])
    groups: dict[object, list[int]] = {}
    for number, leaf in enumerate(leaves):
        kind = None if leaf is None else (jax.typeof(leaf), counts[number] is None)
        groups.setdefault(kind, []).append(number)
    rows: list[jax.Array] = []
    positions: list[np.ndarray] = []
    for kind, group in groups.items():
        positions += [np.arange(first[n], first[n + 1]) for n in group]
        if kind is None:
            rows.append(jnp.zeros((sum(lengths[n] for n in group), 4), np.float32))
            continue
        stacked = counts[group[0]] is not None
        measured = functools.partial(_parts, stacked=stacked, zeros=zeros)
        found = [leaf for leaf in (leaves[n] for n in group) if leaf is not None]
        rows.append(map_equal(measured, found).reshape(-1, 4))
    places = np.concatenate(positions)
    joined = jnp.concatenate(rows) if len(rows) > 1 else rows[0]
    return joined if np.all(np.diff(places) > 0) else joined[np.argsort(places)]


def _parts(x: Array, *, stacked: bool, zeros: bool) -> jax.Array:
    """Return the columns of one array: float32[1, 4], or float32[N, 4] of N stacked layers."""
    axes = tuple(range(1, x.ndim)) if stacked else None
    sizes = magnitudes(x)
    squares = jnp.sum(sizes * sizes, axes).astype(np.float32)

    def count() -> jax.Array:
        # On a CPU, sums of floats take two thirds of the time of sums of integers. They are exact up to 2**24.
        return jnp.sum((~jnp.isfinite(x)).astype(np.float32), axes)

    if on_cpu(
        x
    ):  # Counting takes longer than seeing from finite sums of squares that there are none.
        finite = jnp.isfinite(squares).all()
        nonfinite = lax.cond(finite, lambda: jnp.zeros_like(squares), count)
    else:
        nonfinite = count()
    nonzeros = _count_nonzeros(x, axes) if zeros else jnp.zeros_like(squares)
    lower, upper = halves(WideInt.of(nonfinite.astype(np.uint32)))
    return jnp.stack([squares, lower, upper, nonzeros], -1).reshape(-1, 4)


def _count_nonzeros(x: Array, axes: tuple[int, ...] | None) -> jax.Array:
    """Return the number of elements that are not zero, exactly up to 2**24; NaN if one is NaN."""
    # On a CPU, this takes half the time of counting comparisons.
    signs = jnp.sign(magnitudes(x))
    return jnp.sum(signs * signs, axes).astype(np.float32)

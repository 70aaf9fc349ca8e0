"""Measurements of the leaves of a pytree, in one pass over each leaf.

Compilers take a few tens of milliseconds for the code that measures one leaf, and a model has hundreds of leaves of a
few shapes. On a single CPU, small leaves are joined and share one copy of the code for histograms, whatever their shapes.
Other leaves share it if they have the same shape: a loop selects one leaf after the other.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxboard._reduce.histogram import Buckets, count_elements, count_nonfinite
from jaxboard._reduce.joined_leaves import count_joined, joinable
from jaxboard._reduce.leaf_histograms import decode, encode
from jaxboard._reduce.norms import halves
from jaxboard._reduce.pieces import fold
from jaxboard._reduce.reducers import on_cpu, replicated
from jaxboard._reduce.scans import map_over, sequential_vmap
from jaxboard._reduce.wide import Wide, WideInt, floats
from jaxboard._types import Array

_FEW = 3
"""Up to this many leaves of one type have code of their own: the loop copies each leaf, which takes longer."""


class Measurements(NamedTuple):
    """Statistics of the L leaves of a pytree, as arrays that reports take.

    Attributes:
        norms: float32[5, L]: sums of squares, sums of squares of the tree to compare with, largest magnitudes, and the
            numbers of non-finite elements, as :func:`halves`. Rows that no requested statistic needs are zero.
        histograms: one array for each group of :func:`group_by_dtype`, with one row for each of its leaves; see
            :mod:`.leaf_histograms`. Empty if histograms are not requested.
    """

    norms: jax.Array
    histograms: list[jax.Array]


def measure(
    leaves: Sequence[Array],
    others: Sequence[Array],
    statistics: tuple[str, ...],
    stacked: tuple[int | None, ...] = (),
) -> Measurements:
    """Measure the leaves of one pytree.

    Args:
        leaves: L arrays of floats or complex numbers, which are measured by their magnitudes.
        others: L arrays to compare them with, or none.
        statistics: the requested statistics (see ``watch``), and ``"ratio"`` if there are ``others``.
        stacked: for each array, how many leaves are stacked along its first axis; None for an array that is one leaf. By
            default each array is.
    """
    count = len(leaves)  # the function must not refer to tracers: its equation keeps it

    # Under vmap, one lane after the other: a vmapped branch would execute both sides. The jit keeps constants in the
    # function: if they were arguments, a vmapped branch around it would map them too, which JAX refuses.
    @sequential_vmap
    @jax.jit
    def measured(*arrays: Array) -> Measurements:
        return replicated(
            lambda *xs: _measure(
                _unstacked(xs[:count], stacked), _unstacked(xs[count:], stacked), statistics
            ),
            *arrays,
        )

    # Without stop_gradient, jax.grad would differentiate the measurement and then drop the derivative.
    return measured(*map(lax.stop_gradient, (*leaves, *others)))


def group_by_dtype(leaves: Sequence[Array]) -> list[list[int]]:
    """Return the positions of the leaves whose magnitudes have the same dtype, for each dtype."""
    dtypes = {
        dtype: jax.eval_shape(magnitudes, jax.ShapeDtypeStruct((), dtype)).dtype
        for dtype in {leaf.dtype for leaf in leaves}
    }
    groups: dict[np.dtype, list[int]] = {}
    for position, leaf in enumerate(leaves):
        groups.setdefault(dtypes[leaf.dtype], []).append(position)
    return list(groups.values())


def _unstacked(arrays: Sequence[Array], stacked: tuple[int | None, ...]) -> list[Array]:
    """Return the leaves that arrays hold."""
    if not stacked or not arrays:
        return list(arrays)
    return [
        leaf
        for x, count in zip(arrays, stacked, strict=True)
        for leaf in ([x] if count is None else [x[n] for n in range(count)])
    ]


def _measure(
    leaves: Sequence[Array], others: Sequence[Array], statistics: tuple[str, ...]
) -> Measurements:
    histograms = []
    if "histogram" in statistics:
        groups = group_by_dtype(leaves)
        histograms = [_histograms([magnitudes(leaves[n]) for n in group]) for group in groups]
        columns = jnp.concatenate([_norms_of(decode(rows)) for rows in histograms], 1)
        squares, largest, *nonfinite = columns[:, np.argsort(np.concatenate(groups))]
    else:
        norms_of = functools.partial(_norms_of_leaf, statistics=statistics)
        squares, largest, *nonfinite = _map_leaves(norms_of, leaves).T
    compared = jnp.zeros_like(squares)
    if others:
        compared = _map_leaves(sum_of_squares, others)
    return Measurements(jnp.stack([squares, compared, largest, *nonfinite]), histograms)


def _histograms(leaves: list[Array]) -> jax.Array:
    """Return the encoded histograms of leaves of one dtype: a row for each."""
    # With several devices, leaves may be sharded: to join them would gather them.
    may_join = on_cpu(*leaves) and jax.device_count() == 1
    joined = joinable([leaf.size for leaf in leaves]) if may_join else []
    others = [n for n in range(len(leaves)) if n not in joined]
    rows = []
    if joined:
        rows.append(encode(count_joined([leaves[n] for n in joined])))
    if others:
        rows.append(_map_leaves(lambda x: encode(count_elements(x)), [leaves[n] for n in others]))
    return _concatenated(rows, joined + others)


def _map_leaves(function: Callable[[Array], jax.Array], leaves: Sequence[Array]) -> jax.Array:
    """Return the results of a function for all leaves, stacked, with one copy of its code for leaves of one type."""
    groups: dict[object, list[int]] = {}
    for position, leaf in enumerate(leaves):
        groups.setdefault(jax.typeof(leaf), []).append(position)
    stacked = [map_equal(function, [leaves[n] for n in group]) for group in groups.values()]
    return _concatenated(stacked, [n for group in groups.values() for n in group])


def _concatenated(parts: list[jax.Array], positions: list[int]) -> jax.Array:
    """Return the rows of all parts, each at its position."""
    rows = jnp.concatenate(parts) if len(parts) > 1 else parts[0]
    in_order = positions == sorted(positions)
    return rows if in_order else rows[np.argsort(positions)]


def map_equal(function: Callable[[Array], jax.Array], leaves: list[Array]) -> jax.Array:
    """Return the results of a function for leaves of one type, stacked."""
    if len(leaves) <= _FEW:
        return jnp.stack([function(leaf) for leaf in leaves])
    branches = [lambda xs, n=n: xs[n] for n in range(len(leaves))]
    return map_over(lambda n: function(lax.switch(n, branches, leaves)), jnp.arange(len(leaves)))


def magnitudes(x: Array) -> Array:
    """Return floats of at least 32 bits as they are, and the magnitudes of complex numbers."""
    return floats(jnp.abs(x) if jnp.iscomplexobj(x) else x)


def _norms_of(buckets: Buckets) -> jax.Array:
    """Return float32[4, N] from N histograms: sums of squares, largest magnitudes, halves of non-finite counts."""
    low, high, _, _, squares = buckets
    nan, infinite = count_nonfinite(buckets)
    largest = jnp.where(low <= high, jnp.maximum(jnp.abs(low), jnp.abs(high)), 0)
    # The sum and the maximum of all elements would be these.
    beyond = jnp.where(nan > 0, np.nan, np.inf)
    squares, largest = (jnp.where(nan + infinite > 0, beyond, x) for x in (squares, largest))
    zero = jnp.zeros_like(nan)  # the counts are unsigned
    counts = halves(WideInt(zero, nan) + WideInt(zero, infinite))
    return jnp.stack([squares.astype(np.float32), largest.astype(np.float32), *counts])


def _norms_of_leaf(x: Array, statistics: tuple[str, ...]) -> jax.Array:
    """Return the column of :func:`_norms_of` for one leaf, with zeros for what no statistic needs."""
    zero = jnp.zeros((), np.float32)
    has_squares = {"norm", "rms", "ratio"}.intersection(statistics)
    return jnp.stack(
        [
            sum_of_squares(x) if has_squares else zero,
            _largest(x) if "max" in statistics else zero,
            *(halves(_nonfinite(x)) if "nonfinite" in statistics else (zero, zero)),
        ]
    )


def sum_of_squares(x: Array) -> jax.Array:
    """Return the sum of the squared magnitudes of an array: float32[]."""
    x = magnitudes(x)
    return jnp.sum(x * x).astype(np.float32)


def _nonfinite(x: Array) -> Wide:
    """Return the number of elements that are NaN or infinite."""

    def count(total: Wide, piece: Array) -> Wide:
        piece = piece if jnp.iscomplexobj(piece) else floats(piece)
        # A sum of all axes might overflow.
        axes = tuple(range(1, piece.ndim)) if piece.size >= 2**32 else None
        found = jnp.sum(~jnp.isfinite(piece), axes, dtype=np.uint32)
        return total + WideInt.of(found.reshape(-1)).sum()

    squares = sum_of_squares(x)
    zero = WideInt.of(jnp.zeros_like(squares, np.uint32))
    if not on_cpu(x):
        return count(zero, x)
    # On a CPU, counting takes several times as long as seeing from a finite sum of squares that there are none.
    return lax.cond(jnp.isfinite(squares), lambda: zero, lambda: fold(count, zero, x))


def _largest(x: Array) -> jax.Array:
    x = magnitudes(x)
    if not x.size:
        return jnp.zeros((), np.float32)
    # Not max(abs(x)): on a CPU this is faster.
    return jnp.maximum(jnp.abs(x.min()), jnp.abs(x.max())).astype(np.float32)

"""Joined leaves have the histograms that each of them has alone, and one copy of the code."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxboard._reduce import joined_leaves
from jaxboard._reduce.histogram import count_elements
from jaxboard._reduce.joined_leaves import count_joined, joinable
from jaxboard._reduce.leaves import measure

SPECIAL = [np.nan, np.inf, -np.inf, 0.0, -0.0, 1e30, -1e-30, 3.0]


def arrays(dtype: type[np.floating] = np.float32) -> list[np.ndarray]:
    """Return arrays of one and of several rows, with and without a rest, and with numbers of all kinds."""
    random = np.random.default_rng(0)
    made = [
        random.normal(3, 2, shape).astype(dtype) for shape in [(1,), (64, 128), (8193,), (3, 7000)]
    ]
    return [*made, np.array(SPECIAL, dtype), np.full(5, np.nan, dtype), np.zeros((2, 2), dtype)]


@pytest.mark.parametrize("x64", [False, True])
def test_the_same_histograms(x64):
    """Counts and ends are exactly those of each array alone, sums those up to rounding."""
    with jax.enable_x64(x64):
        each = [jnp.asarray(x) for x in arrays(np.float64 if x64 else np.float32)]
        joined = jax.jit(count_joined)(each)
        for n, x in enumerate(each):
            alone = jax.jit(count_elements)(x)
            for name in ("low", "high", "counts"):
                np.testing.assert_array_equal(getattr(joined, name)[n], getattr(alone, name))
            for name in ("sum", "squares"):
                np.testing.assert_allclose(
                    getattr(joined, name)[n], getattr(alone, name), rtol=3e-6, equal_nan=True
                )


def test_one_copy_of_the_code(monkeypatch):
    """With one CPU device, the program has one scatter for all shapes, and measures the same."""
    leaves = [*map(jnp.asarray, arrays()), jnp.zeros((0, 3))]
    statistics = ("norm", "max", "nonfinite", "histogram")
    separate = measure(leaves, [], statistics)
    monkeypatch.setattr(jax, "device_count", lambda: 1)
    joined = measure(leaves, [], statistics)
    np.testing.assert_allclose(joined.norms, separate.norms, rtol=3e-6)
    np.testing.assert_array_equal(joined.norms[2:], separate.norms[2:])
    ((rows,), (expected,)) = joined.histograms, separate.histograms
    np.testing.assert_array_equal(rows[:, :134], expected[:, :134])
    program = str(jax.make_jaxpr(lambda *xs: measure(xs, [], statistics))(*leaves[:-1]))
    assert program.count("scatter-add[") == 1


def test_which_are_joined(monkeypatch):
    """The smallest leaves are joined as long as their rows fit, and a single leaf is left alone."""
    row = 8192
    monkeypatch.setattr(joined_leaves, "MAX_JOINED", 4 * row)
    assert joinable([3 * row, 1, 0, row + 1]) == [1, 3]
    assert joinable([3 * row, 1, 1]) == [1, 2]
    assert joinable([5, 0]) == []
    assert joinable([9 * row, 1]) == []

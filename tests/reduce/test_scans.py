"""The loops of reductions give the same results where JAX's own scan is incomplete."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxboard._reduce.pieces import fold
from jaxboard._reduce.scans import fori_loop, map_over, scan, sequential_vmap

XS = np.arange(12.0, dtype=np.float32).reshape(3, 4)


def results(xs):
    return (
        scan(lambda c, x: (c + x["a"], c * x["a"]), jnp.float32(1), {"a": xs}),
        map_over(lambda x: (x, 2 * x), xs),
        fori_loop(3, lambda n, c: c * 2 + n, xs),
        jax.vmap(jax.vmap(sequential_vmap(lambda x, y: (x * y, x)), (0, None)), (0, 0))(
            jnp.ones((2, 3)), jnp.arange(2.0)
        ),
        fold(lambda state, x: state + x.sum(), jnp.float32(0), jnp.tile(xs, 20_000)),
    )


@pytest.mark.parametrize("transform", [lambda f: f, jax.vmap], ids=["plain", "vmap"])
def test_with_jax_scan3(transform):
    """With ``jax_scan3``, results are those without, also under ``vmap`` and where a scan has only a carry."""
    if not hasattr(jax.config, "jax_scan3"):
        pytest.skip("this JAX has no jax_scan3")
    xs = XS if transform is jax.vmap else XS[0]
    expected = jax.jit(transform(results))(xs)
    jax.config.update("jax_scan3", True)
    try:
        found = jax.jit(transform(results))(xs)
    finally:
        jax.config.update("jax_scan3", False)
    jax.tree.map(np.testing.assert_array_equal, found, expected)

"""Arrays that a device computes only when a test allows it, for tests of code that must not wait."""

from __future__ import annotations

import contextlib
import threading

import jax
import jax.numpy as jnp
import numpy as np
from by_hand import DEADLINE


@jax.jit
def late(x):
    """Return ``x`` after about a tenth of a second. Programs that use the result run on another thread."""
    busy = jnp.full((300, 300), 0.01) + x.ravel()[0] * 0
    busy = jax.lax.fori_loop(0, 100, lambda _, b: jnp.tanh(b @ b), busy)
    return x + (0 * busy[0, 0]).astype(x.dtype)


def called_from(function, like=None):
    """Return a compiled program that returns its argument after the host has called ``function`` with it."""
    like = np.float32(0) if like is None else like
    shape = jax.ShapeDtypeStruct(like.shape, like.dtype)
    program = jax.jit(lambda x: jax.pure_callback(function, shape, x))
    return program.lower(shape).compile()


@contextlib.contextmanager
def uncomputed(value=2.5):
    """Yield an array that the device computes only after the block. A number is a float32."""
    over = threading.Event()
    array = jnp.float32(value) if isinstance(value, float) else jnp.asarray(value)

    def hold(x):
        assert over.wait(DEADLINE)
        return x

    try:
        yield called_from(hold, array)(late(array))
    finally:
        over.set()

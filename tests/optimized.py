"""Programs whose machine code XLA optimizes, which the other programs of the tests do without."""

import functools

import jax

optimized_jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 3})
"""``jax.jit`` for tests that compare the bits of results, because rounding depends on the machine code."""

"""Which process of a job writes."""

from __future__ import annotations

import jax


def writes(jax_runs: bool) -> bool:
    """Whether this process writes: process 0 does, and every process that is alone.

    Asking JAX for the index starts its backends, which must not happen before
    ``jax.distributed.initialize``. So it is asked only once that was called, or once JAX certainly
    runs; until then the process counts as alone.

    Args:
        jax_runs: whether a computation has been started.
    """
    if jax_runs or jax.distributed.is_initialized():
        return jax.process_index() == 0
    return True

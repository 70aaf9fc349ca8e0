"""The rank of this process in a job: process 0 writes."""

from __future__ import annotations

import jax


def is_writer(jax_started: bool) -> bool:
    """Return whether this process writes: process 0 of a job, or a process without a job.

    ``jax.process_index()`` starts JAX's backends, which must not happen before
    ``jax.distributed.initialize``. The index is therefore read only after that call, or once a
    computation runs; until then the process counts as one without a job.

    Args:
        jax_started: whether a computation has been started.
    """
    if jax_started or jax.distributed.is_initialized():
        return jax.process_index() == 0
    return True


def position() -> tuple[int, int]:
    """Return the index of this process in its job and the number of processes: (0, 1) without a job.

    JAX's backends are not started, see :func:`is_writer`.
    """
    if jax.distributed.is_initialized():
        return jax.process_index(), jax.process_count()
    return 0, 1

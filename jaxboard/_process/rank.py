"""The rank of this process in a job of several processes."""

from __future__ import annotations

import dataclasses

import jax


@dataclasses.dataclass(frozen=True, slots=True)
class Rank:
    """The number of this process in a job, and how many processes the job has."""

    index: int
    count: int


def rank() -> Rank:
    """Return the rank of this process; a process without a job is the only one of its job.

    As for :func:`is_writer`, only ``jax.distributed.initialize`` makes a job.
    """
    if jax.distributed.is_initialized():
        return Rank(jax.process_index(), jax.process_count())
    return Rank(0, 1)


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

"""Counts compilations."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import jax


@contextlib.contextmanager
def compilations(name: str | None = None) -> Iterator[list[str]]:
    """Yield a list that gets the name of each program that is compiled: all, or those of the function ``name``."""
    seen: list[str] = []

    def listen(event: str, duration_secs: float, **more: object) -> None:
        program = str(more.get("fun_name"))
        if event.endswith("backend_compile_duration") and name in (None, program[4:-1]):
            seen.append(program)

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        yield seen
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)

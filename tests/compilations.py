"""Counts compilations."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import jax


@contextlib.contextmanager
def compilations_of(name: str) -> Iterator[list[str]]:
    """Yield a list that gets an element whenever a program of the function ``name`` is compiled."""
    seen: list[str] = []

    def listen(event: str, duration_secs: float, **more: object) -> None:
        if event.endswith("backend_compile_duration") and more.get("fun_name") == f"jit({name})":
            seen.append(event)

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        yield seen
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)

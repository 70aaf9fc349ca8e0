"""The versions and the machine that a benchmark's numbers belong to."""

from __future__ import annotations

import os
import platform

import jax

import jaxboard as jb


def environment() -> str:
    """Return the versions, the backend and the number of CPUs, for the first line of a benchmark's output."""
    return (
        f"jax {jax.__version__}, jaxboard {jb.__version__}, Python {platform.python_version()}, "
        f"{jax.default_backend()} backend, {os.cpu_count()} CPUs"
    )

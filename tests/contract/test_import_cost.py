"""``import jaxboard`` adds almost nothing to ``import jax``."""

from __future__ import annotations

import os
import subprocess
import sys

HEAVY = (
    "PIL",
    "chex",
    "flax",
    "matplotlib",
    "optax",
    "sklearn",
    "tensorboard",
    "tensorflow",
    "xprof",
)
LIMIT = 0.05  # seconds


def heavy_after(statement: str) -> list[str]:
    """Return the heavy libraries that a new interpreter has loaded after a statement."""
    program = f"{statement}\nimport sys\nprint(*sorted(set({HEAVY}) & set(sys.modules)))"
    return subprocess.check_output([sys.executable, "-c", program], text=True).split()


def seconds_to_import(module: str, *, after: str, times: int) -> float:
    """Return the processor time of an import in a new interpreter, the least of several.

    Other processes do not count, and the least of several runs is the one with the least noise.
    """
    program = (
        f"import time, {after}\nbegan = time.process_time()\nimport {module}\n"
        "print(time.process_time() - began)"
    )
    # An installed package has bytecode files. The first of these imports writes them for this one too.
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    return min(
        float(subprocess.check_output([sys.executable, "-c", program], env=environment))
        for _ in range(times)
    )


def test_import_loads_nothing_heavy() -> None:
    """``import jaxboard`` loads no heavy library: the code that needs one imports it on first use."""
    assert heavy_after("import jaxboard") == []


def test_the_check_sees_a_heavy_import() -> None:
    """A heavy import is found."""
    assert "tensorboard" in heavy_after("import jaxboard, tensorboard")


def test_import_is_fast() -> None:
    """``import jaxboard`` takes at most 50 ms more than ``import jax``."""
    assert seconds_to_import("jaxboard", after="jax", times=5) <= LIMIT


def test_the_check_sees_a_slow_import() -> None:
    """An import that takes longer fails the check: JAX itself does."""
    assert seconds_to_import("jax", after="sys", times=2) > LIMIT

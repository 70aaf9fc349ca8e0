"""``import jaxboard`` costs next to nothing beside ``import jax``."""

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
    """Which of the heavy libraries a new interpreter has loaded after a statement."""
    program = f"{statement}\nimport sys\nprint(*sorted(set({HEAVY}) & set(sys.modules)))"
    return subprocess.check_output([sys.executable, "-c", program], text=True).split()


def seconds_to_import(module: str, *, after: str) -> float:
    """What importing a module adds in a new interpreter: the least of five, as noise only adds.

    Of a processor's time, which an import spends all of its time with: what else runs here does not count.
    """
    program = (
        f"import time, {after}\nbegan = time.process_time()\nimport {module}\n"
        "print(time.process_time() - began)"
    )
    # An installed package is compiled; so is this one after the first import.
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    return min(
        float(subprocess.check_output([sys.executable, "-c", program], env=environment))
        for _ in range(5)
    )


def test_import_loads_nothing_heavy() -> None:
    """TensorFlow, Flax and the others are imported by what needs them, when it does."""
    assert heavy_after("import jaxboard") == []


def test_the_check_sees_a_heavy_import() -> None:
    """Were one of them imported, it would be named."""
    assert "tensorboard" in heavy_after("import jaxboard, tensorboard")


def test_import_is_fast() -> None:
    """``import jaxboard`` takes at most 50 ms more than ``import jax``."""
    assert seconds_to_import("jaxboard", after="jax") <= LIMIT


def test_the_check_sees_a_slow_import() -> None:
    """What takes longer is seen to: JAX itself does."""
    assert seconds_to_import("jax", after="sys") > LIMIT

"""``import jaxboard`` loads little besides JAX."""

from __future__ import annotations

import subprocess
import sys


def packages_after(*imports: str) -> set[str]:
    """Return the packages that a new interpreter has loaded after some imports, without the standard library."""
    program = f"import {', '.join(imports)}, sys\nprint(*sys.modules)"
    modules = subprocess.check_output([sys.executable, "-c", program], text=True).split()
    return {module.partition(".")[0] for module in modules} - sys.stdlib_module_names


def test_import_loads_only_jax() -> None:
    """All libraries but JAX and NumPy are imported on first use."""
    assert packages_after("jaxboard") - packages_after("jax", "numpy") == {"jaxboard"}


def test_the_check_sees_other_libraries() -> None:
    """A library that jaxboard imports late is found."""
    assert "tensorboard" in packages_after("jaxboard", "tensorboard")

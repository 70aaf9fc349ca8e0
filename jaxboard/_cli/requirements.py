"""Libraries that single commands need."""

from __future__ import annotations

import importlib.util
import sys


def is_installed(module: str, command: str) -> bool:
    """Return whether a command has the library that it needs; if not, print how to install it."""
    if importlib.util.find_spec(module) is not None:
        return True
    print(
        f"'jaxboard {command}' needs {module}, which is not installed. Install it with:\n\n"
        f"  {sys.executable} -m pip install 'jaxboard-tb[cli]'",
        file=sys.stderr,
    )
    return False

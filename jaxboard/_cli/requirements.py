"""Libraries that single commands need."""

from __future__ import annotations

import importlib.util
import shlex
import sys

_DISTRIBUTIONS = {"sklearn": "scikit-learn"}
"""The names under which libraries are installed, where they differ from those that are imported."""


def is_installed(modules: str | tuple[str, ...], command: str) -> bool:
    """Return whether a command has the libraries that it needs; if not, print how to install those that are missing.

    Args:
        modules: the names by which they are imported.
        command: the command, for the message.
    """
    needed = (modules,) if isinstance(modules, str) else modules
    missing = [name for name in needed if importlib.util.find_spec(name) is None]
    if not missing:
        return True
    # Name the libraries, not an extra of jaxboard: pip would look for jaxboard itself, which may be a checkout.
    names = [_DISTRIBUTIONS.get(name, name) for name in missing]
    verb = "is" if len(names) == 1 else "are"
    print(
        f"'jaxboard {command}' needs {', '.join(names)}, which {verb} not installed. Install with:\n\n"
        f"  {shlex.quote(sys.executable)} -m pip install {' '.join(names)}",
        file=sys.stderr,
    )
    return False

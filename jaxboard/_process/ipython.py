"""The IPython shell of this process: a notebook or a terminal."""

from __future__ import annotations

import sys
from typing import Any


def notebook_shell() -> Any | None:
    """Return the IPython shell of the notebook, or None outside of notebooks, such as in IPython on a terminal."""
    if "ipykernel" not in sys.modules:
        return None
    shell: Any = interactive_shell()
    return shell if hasattr(shell, "kernel") else None


def interactive_shell() -> Any | None:
    """Return the IPython shell of this process, on a terminal or of a notebook; None if there is none."""
    # Another thread may be in the middle of importing IPython.
    get_ipython = getattr(sys.modules.get("IPython"), "get_ipython", None)
    return None if get_ipython is None else get_ipython()

"""The notebook that this process is the kernel of."""

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
    # A thread may just be importing IPython.
    get_ipython = getattr(sys.modules.get("IPython"), "get_ipython", None)
    return None if get_ipython is None else get_ipython()

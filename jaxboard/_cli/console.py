"""The console that tables are printed to."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

_FILE_WIDTH = 1000
"""The characters of a line in a file or a pipe. There, a name that is divided could not be found."""


def open_console() -> Console:
    """Return a console as wide as the terminal, or as ``COLUMNS``; a wide one for files and pipes."""
    from rich.console import Console

    is_limited = sys.stdout.isatty() or "COLUMNS" in os.environ
    return Console() if is_limited else Console(width=_FILE_WIDTH)

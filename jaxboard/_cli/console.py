"""The width of the terminal, and the console that tables are printed to."""

from __future__ import annotations

import os
import shutil
import sys
import textwrap
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

_FILE_WIDTH = 1000
"""The characters of a row in a file or a pipe. There, a name that is divided could not be found."""


def open_console() -> Console:
    """Return a console as wide as the terminal, or as ``COLUMNS``; a wide one for files and pipes."""
    from rich.console import Console

    return Console(width=_width() or _FILE_WIDTH)


def wrapped(text: str, indent: int = 0) -> str:
    """Return a text in lines that fit the terminal, all but the first indented; in files and pipes in one line."""
    width = _width()
    if width is None:
        return text
    spaces = indent * " "
    return textwrap.fill(
        text, width, subsequent_indent=spaces, break_long_words=False, break_on_hyphens=False
    )


def _width() -> int | None:
    """Return the width of the terminal; None in a file or a pipe, unless ``COLUMNS`` is set."""
    is_limited = sys.stdout.isatty() or "COLUMNS" in os.environ
    return shutil.get_terminal_size().columns if is_limited else None

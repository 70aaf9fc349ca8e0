"""Where a panel appears: the output of a notebook cell, a line of a terminal, or lines of a log."""

from __future__ import annotations

import contextlib
import os
import select
import sys
import uuid
from typing import Any, Protocol, TextIO

from jaxboard import _paths
from jaxboard._live.html_panel import html
from jaxboard._live.panel_contents import PanelContents
from jaxboard._live.text_panel import text_line
from jaxboard._process.fork import Stage, on_fork
from jaxboard._process.ipython import notebook_shell

_LINE_SECS = 30.0
"""Seconds between two lines in a log."""

_TO_LAST_COLUMN = "\x1b[999C "
"""Moves the cursor to the last column and writes a space there. Whatever the program prints next begins a new line,
while a carriage return still leads to the beginning of this one."""

_TEXT_COLUMNS = 200
_DEFAULT_COLUMNS = 80


class Display(Protocol):
    """The place where a panel appears."""

    def show(self, contents: PanelContents) -> None:
        """Show the panel with these contents, in place of the earlier ones."""
        ...


class NotebookDisplay:
    """The output of the cell that is running when this is created. It can be updated after the cell has ended.

    Front ends find the output by its display id, whichever cell is running.

    Args:
        shell: the IPython shell of the notebook.
        logdir: the log directory, which a hint names; None if the run has none.
    """

    def __init__(self, shell: Any, logdir: str | None):
        # Keep the current publisher: while a later cell with %%capture runs, the shell has another one.
        self._publisher = shell.display_pub
        self._id = f"jaxboard-{uuid.uuid4().hex}"
        self._is_shown = False
        # The publisher of %%capture keeps every output, so it gets the first and the last one only.
        self._keeps_all = hasattr(self._publisher, "outputs")
        self._hint = ""
        if logdir is not None:
            directory = _paths.viewed_directory(logdir)
            self._hint = f"The run has more tags. TensorBoard shows all: %load_ext jaxboard, then %jaxboard {directory}"

    def show(self, contents: PanelContents) -> None:
        """Show the panel with these contents, in place of the earlier ones."""
        if self._is_shown and self._keeps_all and not contents.is_last:
            return
        data = {
            "text/html": html(contents, self._hint),
            "text/plain": text_line(contents, _TEXT_COLUMNS),
        }
        self._publisher.publish(
            data=data, metadata={}, transient={"display_id": self._id}, update=self._is_shown
        )
        self._is_shown = True


_on_terminal: list[TerminalDisplay] = []
"""The displays of the open runs. The first one owns the line; each of the others writes a line when its run closes."""


def _forget_parent() -> None:
    """Let the runs of the parent of a forked child draw nothing there."""
    _on_terminal.clear()


on_fork(Stage.STATE, in_child=_forget_parent)


class TerminalDisplay:
    """One line of a terminal, which is overwritten each time that the panel is drawn.

    Args:
        stream: the terminal.
    """

    def __init__(self, stream: TextIO):
        self._stream = stream
        self._has_blocks = _can_encode(stream, "█▁")
        _on_terminal.append(self)

    def show(self, contents: PanelContents) -> None:
        """Show the panel with these contents, in place of the earlier ones."""
        if contents.is_last:
            _on_terminal.remove(self)
        elif self is not _on_terminal[0]:
            return
        line = text_line(contents, _columns(self._stream) - 1, has_blocks=self._has_blocks)
        end = "\n" if contents.is_last else _TO_LAST_COLUMN
        _write(self._stream, f"\r{line}\x1b[K{end}")


class LogDisplay:
    """Lines of a file or a pipe, one every 30 s and one at the end.

    Args:
        stream: the file.
        now: the current time, by the clock of :attr:`PanelContents.now`.
    """

    def __init__(self, stream: TextIO, now: float):
        self._stream = stream
        self._has_blocks = _can_encode(stream, "█▁")
        self._next = now + _LINE_SECS

    def show(self, contents: PanelContents) -> None:
        """Write a line if it is due."""
        if contents.now >= self._next or contents.is_last:
            self._next = contents.now + _LINE_SECS
            line = text_line(contents, _TEXT_COLUMNS, has_blocks=self._has_blocks)
            _write(self._stream, f"{line}\n")


def make_display(logdir: str | None, now: float) -> Display:
    """Return the display of a run that is opened now, on this thread.

    Args:
        logdir: see :class:`NotebookDisplay`.
        now: see :class:`LogDisplay`.
    """
    shell = notebook_shell()
    if shell is not None:
        return NotebookDisplay(shell, logdir)
    stream = sys.stderr
    moves_cursor = stream.isatty() and os.environ.get("TERM") != "dumb"
    return TerminalDisplay(stream) if moves_cursor else LogDisplay(stream, now)


def _write(stream: TextIO, text: str) -> None:
    """Write a text unless that would block: a terminal may be stopped, or a pipe full."""
    with contextlib.suppress(OSError, ValueError):  # The stream is closed, or has no descriptor.
        if os.name == "posix" and not select.select([], [stream.fileno()], [], 0)[1]:
            return
    with contextlib.suppress(OSError, ValueError):
        stream.write(text)
        stream.flush()


def _columns(terminal: TextIO) -> int:
    """Return the width of a terminal."""
    try:
        return os.get_terminal_size(terminal.fileno()).columns or _DEFAULT_COLUMNS
    except (OSError, ValueError):  # No terminal behind it, or no descriptor.
        return _DEFAULT_COLUMNS


def _can_encode(stream: TextIO, text: str) -> bool:
    try:
        text.encode(stream.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True

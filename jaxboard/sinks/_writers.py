"""The choice of a writer: TensorFlow's if it works in this process, otherwise TensorBoard's record writer.

A writer has one file in one directory and is discarded after its first error: after an error
TensorFlow's writer drops its queue and appends after a partial record, which readers cannot skip.
"""

from __future__ import annotations

from typing import Protocol

from jaxboard import _paths
from jaxboard._errors import RunError
from jaxboard._log import describe, log_once
from jaxboard.sinks import _tensorflow
from jaxboard.sinks._encoding import Events
from jaxboard.sinks._event_files import RecordFileWriter


class Writer(Protocol):
    """An open event file.

    Attributes:
        path: the path of the file, None for a remote one.
    """

    path: str | None

    def write(self, events: Events) -> None:
        """Append events."""
        ...

    def flush(self) -> None:
        """Make all events visible to readers."""
        ...

    def close(self) -> None:
        """Flush and close the file."""
        ...


def open_writer(logdir: str) -> Writer:
    """Open a new event file in a directory; readers will read it after those that already exist.

    The directory is created if it does not exist. If TensorFlow cannot write to a local directory, for
    any reason, TensorBoard's record writer does. A log message gives the reason, once per process.

    Raises:
        RunError: this installation cannot write to such a directory.
        Exception: an error of the file system.
    """
    try:
        return _tensorflow.open_writer(logdir)
    except _tensorflow.UnusableError as error:
        if _paths.is_remote(logdir):
            raise RunError(
                f"cannot write to {logdir!r}: remote directories need TensorFlow, and {error}. Install "
                "tensorflow or tensorflow-cpu, or log to a local directory."
            ) from error
        writer, reason = RecordFileWriter(logdir), str(error)
    except Exception as error:
        if _paths.is_remote(logdir):
            raise
        try:
            writer, reason = RecordFileWriter(logdir), f"it raised {describe(error)}"
        except Exception:  # Not TensorFlow but the file system is at fault.
            raise error from None
    log_once(
        "record writer",
        f"TensorFlow does not write the event files: {reason}. TensorBoard's own record writer does, "
        "more slowly, and to local directories only.",
    )
    return writer

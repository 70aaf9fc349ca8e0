"""Log directories: local paths, and URLs that TensorFlow may be able to write to."""

from __future__ import annotations

import os
import tempfile

from jaxboard._errors import JaxboardError


def absolute(path: str | os.PathLike[str]) -> str:
    """Return a path as an absolute one, with ``~`` expanded. URLs stay unchanged."""
    name = os.fspath(path)
    return name if is_remote(name) else os.path.abspath(os.path.expanduser(name))


def is_remote(path: str) -> bool:
    """Return whether ``path`` is a URL."""
    return "://" in path


def check_writable(logdir: str, error: type[JaxboardError], *subdirectory: str) -> None:
    """Create a log directory and check that files can be created in it.

    Remote directories are not checked here; a fault shows at the first write.

    Args:
        logdir: the directory, as the user knows it.
        error: the exception to raise if it is not writable.
        *subdirectory: the part of it to create and check, if not the directory itself.
    """
    if is_remote(logdir):
        return
    directory = os.path.join(logdir, *subdirectory)
    try:
        os.makedirs(directory, exist_ok=True)
        with tempfile.TemporaryFile(dir=directory):
            pass
    except OSError as fault:
        raise error(
            f"cannot write to the log directory {logdir!r}: {fault.strerror or fault}. Choose another "
            "directory, or make this one writable."
        ) from fault

"""Log directories: paths on this machine, and URLs, which TensorFlow may know how to write to."""

from __future__ import annotations

import os
import tempfile

from jaxboard._errors import JaxboardError


def absolute(path: str | os.PathLike[str]) -> str:
    """A path made absolute, ``~`` expanded; a URL as it is."""
    name = os.fspath(path)
    return name if is_remote(name) else os.path.abspath(os.path.expanduser(name))


def is_remote(path: str) -> bool:
    """Whether it is a URL."""
    return "://" in path


def probe(logdir: str, error: type[JaxboardError], *within: str) -> None:
    """Makes a log directory and tries whether a file can be made in it. Of a remote one that shows later.

    Args:
        logdir: the directory, as the user knows it.
        error: what is raised if it can't be written to.
        *within: where in it.
    """
    if is_remote(logdir):
        return
    directory = os.path.join(logdir, *within)
    try:
        os.makedirs(directory, exist_ok=True)
        with tempfile.TemporaryFile(dir=directory):
            pass
    except OSError as fault:
        raise error(
            f"cannot write to the log directory {logdir!r}: {fault.strerror or fault}. Choose another "
            "directory, or make this one writable."
        ) from fault

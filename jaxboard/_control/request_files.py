"""The files of requests, below the log directory: ``.jaxboard/ask/<request>/*.json``.

Each request is a directory. ``python -m jaxboard ask`` writes ``request.json`` into it. Each process answers with
``seen.<process>.json``; ``ask`` then writes ``step.json``, the step at which all act, and each process writes
``answer.<process>.json``. A file appears complete or not at all.

Others may be able to write to the log directory. A request counts only if its directory and its files belong to the user
of this process and are no links; no file is written anywhere else.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import stat
import time
from collections.abc import Iterator
from typing import Any

PLACE = ".jaxboard/ask"
"""The directory of requests, below the log directory."""

REQUEST, STEP = "request.json", "step.json"

_MAX_BYTES = 1 << 20
"""The longest file; an answer holds the stacks of all threads."""

_KEPT_SECS = 7 * 24 * 3600.0
"""Seconds after which a request and its answers are deleted, by the next request."""

HAS_OWNERS = hasattr(os, "getuid") and os.open in os.supports_dir_fd
"""True on systems that know owners of files. Elsewhere no request counts."""


class Refused(Exception):  # noqa: N818 (not an error of the program)
    """Raised for a file that does not count, with the reason."""


def place_of(logdir: str) -> str:
    """Return the directory of the requests to the run in a log directory."""
    return os.path.join(logdir, *PLACE.split("/"))


def names(place: str) -> list[str]:
    """Return the names of all requests, in order; none if nothing was ever asked."""
    try:
        return sorted(name for name in os.listdir(place) if not name.startswith("."))
    except (FileNotFoundError, NotADirectoryError):
        return []


def create(place: str, name: str, contents: object) -> None:
    """Write a request, and delete old ones. The file appears together with its contents."""
    os.makedirs(place, exist_ok=True)
    for other in os.listdir(place):
        with contextlib.suppress(Refused, OSError):  # Another user's, or in use by another command.
            _delete_if_old(place, other)
    hidden = f".{name}"
    os.mkdir(os.path.join(place, hidden), 0o700)
    with opened(place, hidden) as directory:
        write(directory, REQUEST, contents)
    os.rename(os.path.join(place, hidden), os.path.join(place, name))


def _delete_if_old(place: str, name: str) -> None:
    with opened(place, name) as directory:
        if time.time() - os.fstat(directory).st_mtime < _KEPT_SECS:
            return
        for file in os.listdir(directory):
            os.unlink(file, dir_fd=directory)
    os.rmdir(os.path.join(place, name))


@contextlib.contextmanager
def opened(place: str, name: str) -> Iterator[int]:
    """Open the directory of a request.

    Raises:
        Refused: it is not a directory of the user of this process.
        OSError: it cannot be opened.
    """
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
    try:
        directory = os.open(os.path.join(place, name), flags)
    except PermissionError:
        raise Refused("it belongs to another user") from None
    except NotADirectoryError:
        raise Refused("it is not a directory") from None
    try:
        _check_owner(os.fstat(directory))
        yield directory
    finally:
        os.close(directory)


def files(directory: int) -> list[str]:
    """Return the names of the files of a request, in order."""
    return sorted(name for name in os.listdir(directory) if name.endswith(".json"))


def read(directory: int, name: str) -> Any:
    """Return the contents of a file of a request.

    Raises:
        Refused: it does not count, or is not JSON.
        FileNotFoundError: there is none.
    """
    # A named pipe must not make this wait.
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        file = os.open(name, flags, dir_fd=directory)
    except FileNotFoundError:
        raise
    except OSError as fault:
        raise Refused(f"{name}: {fault.strerror}") from None
    try:
        status = os.fstat(file)
        if not stat.S_ISREG(status.st_mode):
            raise Refused(f"{name} is not a file")
        _check_owner(status)
        if status.st_size > _MAX_BYTES:
            raise Refused(f"{name} has {status.st_size:,} bytes")
        with open(file, "rb", closefd=False) as stream:
            return json.loads(stream.read(_MAX_BYTES))
    except (ValueError, RecursionError):
        raise Refused(f"{name} is not JSON") from None
    finally:
        os.close(file)


def write(directory: int, name: str, contents: object) -> None:
    """Write a file of a request, atomically."""
    part = f".{name}.{secrets.token_hex(4)}"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    file = os.open(part, flags, 0o600, dir_fd=directory)
    try:
        with open(file, "wb") as stream:
            stream.write(json.dumps(contents, indent=1).encode())
        os.replace(part, name, src_dir_fd=directory, dst_dir_fd=directory)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(part, dir_fd=directory)
        raise


def _check_owner(status: os.stat_result) -> None:
    if status.st_uid != os.getuid():
        raise Refused("it belongs to another user")

"""The names of event files. Readers read the files of a directory in the order of their names."""

from __future__ import annotations

import itertools
import os
import re
import socket
import time
from collections.abc import Iterable

_numbers = itertools.count()


def newest_time(names: Iterable[str]) -> int:
    """Return the latest second that the name of an event file holds; 0 if there is none."""
    matches = (re.search(r"\.tfevents\.(\d{10})\b", name) for name in names)
    return max((int(match[1]) for match in matches if match), default=0)


def next_name(names: Iterable[str]) -> str:
    """Return the name of a new file, which sorts after the others.

    A name holds the second, followed by host and process. The second is one that no other name has, also on a host
    whose clock is behind.
    """
    second = max(int(time.time()), newest_time(names) + 1)
    return f"events.out.tfevents.{second:010d}.{host()}.{os.getpid()}.{next(_numbers)}"


def host() -> str:
    """Return the name of this host as a part of a file name: some characters of it may have a meaning in paths."""
    return re.sub(r"[^\w.-]", "_", socket.gethostname())


def is_event_file(name: str) -> bool:
    """Return whether a file of that name has events."""
    return ".tfevents." in name


def file_suffix(run: str) -> str:
    """Return the end of the names of a run's event files: ``.child1`` in ``seed_0``, ``.child2`` in ``eval/ood``.

    It separates the runs below a run from other runs with directories there, such as ``runs/a`` in ``runs``.

    Args:
        run: the relative path of the run; "" for the run itself, whose files have no suffix.
    """
    return f".child{run.count('/') + 1}" if run else ""

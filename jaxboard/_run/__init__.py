"""A run: what composes the host side, and how it ends when the process does."""

from ._run import Run as Run
from ._run import current_run as current_run
from ._snapshot import memory_snapshot as memory_snapshot

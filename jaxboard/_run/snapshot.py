"""``memory_snapshot``: which lines of code hold the devices' memory."""

from __future__ import annotations

import os
import pathlib

import jax

from jaxboard import _paths
from jaxboard._errors import UsageError
from jaxboard._log import describe, logger
from jaxboard._run.current import channel_of, current_root
from jaxboard._telemetry.reporter import Reporter


def memory_snapshot(path: str | os.PathLike[str] | None = None) -> pathlib.Path | None:
    """Save what holds the devices' memory now, by the line of code that allocated it.

    The file is a profile for pprof (``go install github.com/google/pprof@latest``):
    ``pprof -http=: FILE`` shows it as a graph, and ``pprof -http=: -diff_base OLD NEW`` shows what has
    grown since an older one. A text entry of the active run records the path.

    Args:
        path: the file, replaced if it exists; ``~`` is expanded. By default
            ``memory_<step>.prof`` in the log directory of the active run.

    Returns:
        The absolute path of the file, or None if it could not be written. That fault is logged.

    Raises:
        UsageError: no ``path`` is passed, and no run with a local log directory is active.

    Example:
        >>> import tempfile, jax.numpy as jnp, jaxboard as jb
        >>> with tempfile.TemporaryDirectory() as logdir, jb.Run(logdir):
        ...     x = jnp.ones(1000)
        ...     jb.memory_snapshot().name
        'memory_0.prof'
    """
    run = current_root()
    if path is None:
        if run is None or not isinstance(run.logdir, pathlib.Path):
            raise UsageError(
                "memory_snapshot(): no run with a local log directory is active. Pass a path: "
                "memory_snapshot('memory.prof')."
            )
        path = run.logdir / f"memory_{channel_of(run).current}.prof"
    file = pathlib.Path(_paths.absolute(_paths.checked("memory_snapshot({})", path)))
    try:
        part = file.with_name(file.name + ".part")
        file.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(jax.profiler.device_memory_profile())
        part.replace(file)
    except Exception as fault:
        logger.error("jaxboard: no memory snapshot in %s: %s", file, describe(fault))
        return None
    if run is not None:
        channel = channel_of(run)
        Reporter(channel).text(
            channel.current, "memory_snapshot", f"`{file}`; to see it: `pprof -http=: {file}`"
        )
    return file

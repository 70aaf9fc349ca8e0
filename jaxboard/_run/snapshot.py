"""``memory_snapshot``: which code holds the devices' memory now."""

from __future__ import annotations

import os
import pathlib

import jax

from jaxboard import _paths
from jaxboard._errors import RunError
from jaxboard._log import describe, logger
from jaxboard._run.run import current_run
from jaxboard._telemetry.reporter import Reporter


def memory_snapshot(path: str | os.PathLike[str] | None = None) -> pathlib.Path | None:
    """Writes down what holds the devices' memory, by the line of code that made it.

    The file is a profile for pprof (``go install github.com/google/pprof@latest``):
    ``pprof -http=: FILE`` shows it as a graph, ``pprof -http=: -diff_base OLD NEW`` what has grown since
    an older one. The run in force gets a text entry that says where it is.

    Args:
        path: the file, replaced if it is there; ``~`` is expanded. By default
            ``memory_<step>.prof`` in the log directory of the run in force.

    Returns:
        The file's absolute path; None where it could not be written, which is logged.

    Raises:
        RunError: no ``path`` is given, and there is no run in a local directory.

    Example:
        >>> import tempfile, jax.numpy as jnp, jaxboard as jb
        >>> with jb.Run(tempfile.mkdtemp()):
        ...     x = jnp.ones(1000)
        ...     jb.memory_snapshot().name
        'memory_0.prof'
    """
    run = current_run()
    if path is None:
        if run is None or not isinstance(run.logdir, pathlib.Path):
            raise RunError(
                "memory_snapshot(): no run with a local log directory is open. Say where to write: "
                "memory_snapshot('memory.prof')."
            )
        path = run.logdir / f"memory_{run.channel.current}.prof"
    file = pathlib.Path(_paths.absolute(path))
    part = file.with_name(file.name + ".part")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(jax.profiler.device_memory_profile())
        part.replace(file)
    except Exception as fault:
        logger.error("jaxboard: no memory snapshot in %s: %s", file, describe(fault))
        return None
    if run is not None:
        Reporter(run.channel).text(
            run.channel.current, "memory_snapshot", f"`{file}`; to see it: `pprof -http=: {file}`"
        )
    return file

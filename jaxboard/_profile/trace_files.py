"""Trace files where TensorBoard finds them: ``<logdir>/plugins/profile/<session>/<host>.xplane.pb``."""

from __future__ import annotations

import contextlib
import glob
import importlib
import mmap
import os
import shutil
import tempfile
from typing import Any

import jax

from jaxboard import _paths
from jaxboard._errors import ProfileError
from jaxboard._log import describe
from jaxboard.sinks._file_systems import locate

_SUFFIX = ".xplane.pb"


def clock_of(logdir: str) -> float:
    """Return the time by the clock that stamps the files of a directory; 0 for a URL."""
    if _paths.is_remote(logdir):
        return 0.0
    with tempfile.TemporaryFile(dir=logdir) as file:
        file.write(b"x")
        file.flush()
        return os.fstat(file.fileno()).st_mtime


def save_trace(file: str, logdir: str, session: str, since: float = 0.0) -> str:
    """Copy a trace into a new session, atomically.

    The processes of a job share a session, each with its own file: ``<host>-p0``, ``<host>-p1``. A session with an older
    trace belongs to an earlier job, also if this process has no file in it: all processes then choose the next name.

    Args:
        file: the path of an ``.xplane.pb``.
        logdir: a path or a URL.
        session: the name of the session; ``_1``, ``_2``, ... is appended if it exists.
        since: when the profile was opened, by the clock of ``logdir``.

    Returns:
        The path of the copy.

    Raises:
        ProfileError: the trace is empty, or cannot be written.
    """
    if not os.path.getsize(file):
        raise ProfileError(
            "JAX wrote an empty file, as it does for traces of more than 2 GB. Profile fewer steps, or "
            "use host_level=1 and python=False."
        )
    name = os.path.basename(file)
    shared = jax.process_count() > 1
    if shared:
        name = f"{name.removesuffix(_SUFFIX)}-p{jax.process_index()}{_SUFFIX}"
    count = 0
    while True:
        directory = f"{logdir}/plugins/profile/{session}" + (f"_{count}" if count else "")
        try:
            if _paths.is_remote(logdir):
                return _upload(file, directory, name)
            if not (shared and _has_older_traces(directory, since)):
                return _copy(file, directory, name, shared=shared)
            count += 1
        except FileExistsError:
            count += 1
        except Exception as fault:
            raise ProfileError(
                f"cannot write the trace to {directory!r}: {describe(fault)}"
            ) from fault


def has_step_markers(file: str) -> bool:
    """Return whether a trace marks steps, by searching for the property that holds their numbers."""
    with (
        open(file, "rb") as content,
        mmap.mmap(content.fileno(), 0, access=mmap.ACCESS_READ) as view,
    ):
        return view.find(b"step_num") >= 0


def _has_older_traces(directory: str, since: float) -> bool:
    traces = glob.glob(os.path.join(glob.escape(directory), f"*{_SUFFIX}"))
    return any(os.path.getmtime(trace) < since for trace in traces)


def _copy(file: str, directory: str, name: str, *, shared: bool) -> str:
    path = os.path.join(directory, name)
    os.makedirs(os.path.dirname(directory), exist_ok=True)
    if not shared:
        os.mkdir(directory)  # raises if another program just created it
    else:
        os.makedirs(directory, exist_ok=True)
        if os.path.exists(path):
            raise FileExistsError(path)
    part = f"{path}.part"
    try:
        shutil.copyfile(file, part)
        os.replace(part, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.remove(part)
        with contextlib.suppress(OSError):
            os.rmdir(directory)
        raise
    return path


def _upload(file: str, directory: str, name: str) -> str:
    located = locate(f"{directory}/{name}")
    if located is not None:
        file_system, path = located
        if file_system.exists(path):
            raise FileExistsError(path)
        file_system.put_file(file, path)
        return f"{directory}/{name}"
    gfile: Any = importlib.import_module("tensorflow").io.gfile
    path = f"{directory}/{name}"
    if gfile.exists(path):
        raise FileExistsError(path)
    gfile.makedirs(directory)
    gfile.copy(file, path)
    return path

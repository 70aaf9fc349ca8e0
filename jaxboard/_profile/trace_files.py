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
from jaxboard._profile.recordings import Recording
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


def save_trace(recording: Recording, logdir: str, session: str, since: float = 0.0) -> str:
    """Write a trace into a new session, atomically.

    The processes of a job share a session, each with its own file: ``<host>-p0``, ``<host>-p1``. A session with an older
    trace belongs to an earlier job, also if this process has no file in it: all processes then choose the next name.

    Args:
        recording: a recording that has a trace.
        logdir: a path or a URL.
        session: the name of the session; ``_1``, ``_2``, ... is appended if it exists.
        since: when the profile was opened, by the clock of ``logdir``.

    Returns:
        The path of the file.

    Raises:
        ProfileError: the trace is empty, or cannot be written.
    """
    count = 0
    while True:
        directory = f"{logdir}/plugins/profile/{session}" + (f"_{count}" if count else "")
        try:
            if _paths.is_remote(logdir):
                return _upload(recording, directory)
            if jax.process_count() == 1 or not _has_older_traces(directory, since):
                return _write(recording, directory)
            count += 1
        except FileExistsError:
            count += 1
        except ProfileError:
            raise
        except Exception as fault:
            raise ProfileError(
                f"cannot write the trace to {directory!r}: {describe(fault)}"
            ) from fault


def trace_before(path: str) -> str | None:
    """Return the newest earlier trace of the same host in the log directory; None if there is none.

    Args:
        path: the path of a trace. A remote directory is not searched.
    """
    if _paths.is_remote(path):
        return None
    session, name = os.path.split(path)
    others = os.path.join(glob.escape(os.path.dirname(session)), "*", glob.escape(name))
    found: list[tuple[float, str]] = []
    for other in glob.glob(others):
        with contextlib.suppress(OSError):
            if (written := os.path.getmtime(other)) < os.path.getmtime(path):
                found.append((written, other))
    return max(found)[1] if found else None


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


def _file_name(file: str) -> str:
    """Return the name of a trace in its session."""
    name = os.path.basename(file)
    if jax.process_count() > 1:
        return f"{name.removesuffix(_SUFFIX)}-p{jax.process_index()}{_SUFFIX}"
    return name


def _check_size(file: str) -> None:
    if not os.path.getsize(file):
        raise ProfileError(
            "JAX wrote an empty file, as it does for traces of more than 2 GB. Profile fewer steps, or "
            "use host_level=1 and python=False."
        )


def _write(recording: Recording, directory: str) -> str:
    os.makedirs(os.path.dirname(directory), exist_ok=True)
    if jax.process_count() == 1:
        os.mkdir(directory)  # raises if another program just created it
    else:
        os.makedirs(directory, exist_ok=True)
    # On the same file system, so that the complete file can be moved into place.
    partial = os.path.join(directory, f".partial-{jax.process_index()}")
    try:
        os.mkdir(partial)
        file = recording.write_into(partial)
        _check_size(file)
        path = os.path.join(directory, _file_name(file))
        _move(file, path)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        with contextlib.suppress(OSError):
            os.rmdir(directory)
        raise
    shutil.rmtree(partial, ignore_errors=True)
    return path


def _move(file: str, path: str) -> None:
    """Move a file to a path that does not exist.

    Raises:
        FileExistsError: it does.
    """
    if os.path.exists(path):
        raise FileExistsError(path)
    os.replace(file, path)


def _upload(recording: Recording, directory: str) -> str:
    file = recording.file()
    _check_size(file)
    name = _file_name(file)
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

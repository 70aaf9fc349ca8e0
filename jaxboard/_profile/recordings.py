"""The places where JAX keeps a trace until it is saved: a temporary directory, memory, or the log directory itself."""

from __future__ import annotations

import glob
import os
import shutil
import tempfile
from collections.abc import Mapping
from typing import Any, Protocol, TypeAlias

import jax

from jaxboard import _compat, _paths

Options: TypeAlias = "Mapping[str, int | bool | str | dict[str, int | bool | str]]"
"""The fields of ``jax.profiler.ProfileOptions``."""


class Recording(Protocol):
    """One trace.

    Attributes:
        is_saved: whether JAX itself saves the trace in the log directory.
    """

    is_saved: bool

    def start(self, options: Options) -> None:
        """Begin to record."""
        ...

    def stop(self) -> None:
        """End recording."""
        ...

    @property
    def has_trace(self) -> bool:
        """True if there is a trace that jaxboard can save."""
        ...

    def file(self, saved: str | None = None) -> str:
        """Return the path of a local file with the trace. Called only if there is a trace.

        Args:
            saved: the path or URL at which it was saved; None if it was not.
        """
        ...

    def write_into(self, directory: str) -> str:
        """Write the trace into a directory and return the path of the file. Called only if there is a trace."""
        ...

    def discard(self) -> None:
        """Delete local files, and release memory."""
        ...


def new_recording(logdir: str) -> Recording:
    """Return the recording for a log directory, an absolute path or a URL.

    With Pathways, ``jax.profiler.start_trace`` is a function of ``pathwaysutils``. It accepts nothing but ``gs://``, where
    all workers write, so that it gets the log directory itself. JAX could write to ``gs://`` by itself, too. However, if
    that fails, JAX 0.10 cannot start another trace in the process, so that jaxboard uploads the trace instead.
    """
    if not jax.profiler.start_trace.__module__.startswith("jax."):
        return _RecordingInPlace(logdir)
    if _compat.ProfileSession is not None:
        return _RecordingInMemory()
    return _RecordingInDirectory()


class _RecordingInDirectory:
    """A trace that JAX writes into a temporary directory when it stops.

    JAX writes only then, so that an unwritable directory is discovered only then. Up to JAX 0.10 the profiler
    then cannot start another trace in the process. A temporary directory avoids that.
    """

    is_saved = False

    def __init__(self) -> None:
        self._directory = tempfile.mkdtemp(prefix="jaxboard-profile-")

    def start(self, options: Options) -> None:
        jax.profiler.start_trace(
            self._directory, profiler_options=_compat.profile_options(**options)
        )

    def stop(self) -> None:
        jax.profiler.stop_trace()

    @property
    def has_trace(self) -> bool:
        return _trace_in(self._directory) is not None

    def file(self, saved: str | None = None) -> str:
        return str(_trace_in(self._directory))

    def write_into(self, directory: str) -> str:
        file = self.file()
        copy = os.path.join(directory, os.path.basename(file))
        shutil.copyfile(file, copy)
        return copy

    def discard(self) -> None:
        shutil.rmtree(self._directory, ignore_errors=True)


class _RecordingInMemory:
    """A trace in memory (JAX 0.12), which JAX writes once, where it belongs."""

    is_saved = False

    def __init__(self) -> None:
        self._session: Any = None
        self._directory: str | None = None

    def start(self, options: Options) -> None:
        self._session = _compat.ProfileSession(
            profiler_options=_compat.profile_options(**options)
        ).start()

    def stop(self) -> None:
        self._session.stop()

    @property
    def has_trace(self) -> bool:
        return self._session is not None and self._session.profile_data is not None

    def file(self, saved: str | None = None) -> str:
        if saved is not None and not _paths.is_remote(saved):
            return saved
        if self._directory is None:
            self._directory = tempfile.mkdtemp(prefix="jaxboard-profile-")
            self.write_into(self._directory)
        return str(_trace_in(self._directory))

    def write_into(self, directory: str) -> str:
        self._session.export_profile_data(directory)
        return str(_trace_in(directory))

    def discard(self) -> None:
        self._session = None
        if self._directory is not None:
            shutil.rmtree(self._directory, ignore_errors=True)


class _RecordingInPlace:
    """A trace that goes to the log directory as it is."""

    is_saved = True

    def __init__(self, logdir: str) -> None:
        self._logdir = logdir

    def start(self, options: Options) -> None:
        jax.profiler.start_trace(self._logdir, profiler_options=_compat.profile_options(**options))

    def stop(self) -> None:
        jax.profiler.stop_trace()

    @property
    def has_trace(self) -> bool:
        return False

    def file(self, saved: str | None = None) -> str:
        raise NotImplementedError

    def write_into(self, directory: str) -> str:
        raise NotImplementedError

    def discard(self) -> None:
        pass


def _trace_in(directory: str) -> str | None:
    found = glob.glob(os.path.join(directory, "plugins", "profile", "*", "*.xplane.pb"))
    return found[0] if found else None

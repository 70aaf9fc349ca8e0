"""The file systems of URLs, from fsspec: ``s3://``, ``gs://``, ``az://`` and others.

They do their work on fsspec's event loop, a daemon thread. At the end of a program the run is closed after
``concurrent.futures`` has shut down, and from then on the loop could not resolve a host name. It therefore gets an
executor that goes on.
"""

from __future__ import annotations

import asyncio
import importlib
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, ParamSpec, TypeVar

_P = ParamSpec("_P")
_T = TypeVar("_T")

_LOCAL = ("file", "local")
"""Schemes of local files, which fsspec does not replace in one operation."""

_PACKAGES = {
    "s3": "s3fs",
    "s3a": "s3fs",
    "gs": "gcsfs",
    "gcs": "gcsfs",
    "az": "adlfs",
    "abfs": "adlfs",
    "abfss": "adlfs",
}

_prepared: list[asyncio.AbstractEventLoop] = []
"""fsspec's event loop, once it has the executor. A forked child has another loop."""


def locate(url: str) -> tuple[Any, str] | None:
    """Return the fsspec file system of a URL, and the path in it; None if no such package is installed.

    The file system takes credentials and endpoints from the environment and from fsspec's configuration files.

    Raises:
        Exception: the file system lacks a setting.
    """
    scheme = url.partition("://")[0].partition("::")[0]
    if scheme in _LOCAL:
        return None
    try:
        fsspec: Any = importlib.import_module("fsspec")
        asyn: Any = importlib.import_module("fsspec.asyn")
        fsspec.get_filesystem_class(scheme)
    except (ImportError, ValueError):  # No such package; no such scheme.
        return None
    loop: asyncio.AbstractEventLoop = asyn.get_loop()
    if loop not in _prepared:
        loop.call_soon_threadsafe(loop.set_default_executor, _LastingExecutor())
        _prepared[:] = [loop]
    return fsspec.core.url_to_fs(url)


def package_for(url: str) -> str | None:
    """Return the package that adds the scheme of a URL to fsspec, for messages; None if it is not known.

    Example:
        >>> package_for("s3://bucket/run")
        's3fs'
    """
    return _PACKAGES.get(url.partition("://")[0])


class _LastingExecutor(ThreadPoolExecutor):
    """An executor that works until the process ends.

    It has one thread more, started in advance: Python 3.12 starts none while the interpreter shuts down.
    """

    def __init__(self) -> None:
        super().__init__(thread_name_prefix="jaxboard fsspec")
        self._late: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        threading.Thread(target=self._work, name="jaxboard fsspec at exit", daemon=True).start()

    def submit(self, fn: Callable[_P, _T], /, *args: _P.args, **kwargs: _P.kwargs) -> Future[_T]:
        """Execute a function on a thread of the pool, or on the last thread if the pool is shut down."""
        try:
            return super().submit(fn, *args, **kwargs)
        except RuntimeError:
            future: Future[_T] = Future()

            def execute() -> None:
                if not future.set_running_or_notify_cancel():
                    return
                try:
                    future.set_result(fn(*args, **kwargs))
                except BaseException as error:
                    future.set_exception(error)

            self._late.put(execute)
            return future

    def _work(self) -> None:
        while True:
            self._late.get()()

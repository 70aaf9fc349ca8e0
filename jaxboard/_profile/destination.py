"""Where a trace lies for TensorBoard: ``<logdir>/plugins/profile/<session>/<host>.xplane.pb``."""

from __future__ import annotations

import contextlib
import importlib
import mmap
import os
import shutil
from typing import Any

import jax

from jaxboard import _paths
from jaxboard._errors import ProfileError
from jaxboard._log import describe

_SUFFIX = ".xplane.pb"


def place(file: str, logdir: str, session: str) -> str:
    """Copies a trace into a session of its own, which is there whole or not at all.

    The processes of a job share a session, each with its own file: ``<host>-p0``, ``<host>-p1``.

    Args:
        file: an ``.xplane.pb``.
        logdir: a path or a URL.
        session: the name; ``_1``, ``_2``, … is added if it is taken.

    Returns:
        The path of the copy.

    Raises:
        ProfileError: the trace is empty, or can't be written.
    """
    if not os.path.getsize(file):
        raise ProfileError(
            "JAX wrote an empty file, as it does for traces of more than 2 GB. Profile fewer steps, or "
            "with host_level=1 and without python=True."
        )
    name = os.path.basename(file)
    together = jax.process_count() > 1
    if together:
        name = f"{name.removesuffix(_SUFFIX)}-p{jax.process_index()}{_SUFFIX}"
    count = 0
    while True:
        directory = f"{logdir}/plugins/profile/{session}" + (f"_{count}" if count else "")
        try:
            if _paths.is_remote(logdir):
                return _upload(file, directory, name)
            return _move(file, directory, name, together)
        except FileExistsError:
            count += 1
        except Exception as fault:
            raise ProfileError(
                f"it cannot be written to {directory!r}: {describe(fault)}"
            ) from fault


def has_step_markers(file: str) -> bool:
    """Whether steps are marked in a trace, by the name of the property that their numbers are in."""
    with (
        open(file, "rb") as content,
        mmap.mmap(content.fileno(), 0, access=mmap.ACCESS_READ) as view,
    ):
        return view.find(b"step_num") >= 0


def _move(file: str, directory: str, name: str, together: bool) -> str:
    path = os.path.join(directory, name)
    os.makedirs(os.path.dirname(directory), exist_ok=True)
    if not together:
        os.mkdir(directory)  # Raises if another run has just taken it.
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
    gfile: Any = importlib.import_module("tensorflow").io.gfile
    path = f"{directory}/{name}"
    if gfile.exists(path):
        raise FileExistsError(path)
    gfile.makedirs(directory)
    gfile.copy(file, path)
    return path

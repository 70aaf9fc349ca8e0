"""Log directories: local paths, and URLs that TensorFlow may be able to write to."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import sys
import tempfile

from jaxboard._errors import JaxboardError, UsageError

_PART_BYTES = 255
"""The longest name of a file or a directory."""


def absolute(path: str | os.PathLike[str]) -> str:
    """Return a path as an absolute one, with ``~`` expanded. URLs stay unchanged.

    Raises:
        UsageError: it contains a NUL character.
    """
    name = os.fspath(path)
    if "\0" in name:
        raise UsageError(f"the path {name!r} contains a NUL character. Choose another one.")
    return name if is_remote(name) else os.path.abspath(os.path.expanduser(name))


def is_remote(path: str) -> bool:
    """Return whether ``path`` is a URL."""
    return "://" in path


def below(directory: str, name: str) -> str:
    """Return the directory ``name``, with ``/`` between its parts, below another one; "" is that one itself."""
    if not name:
        return directory
    if is_remote(directory):
        return f"{directory.rstrip('/')}/{name}"
    return os.path.join(directory, *name.split("/"))


def problem_below(name: str) -> str | None:
    """Return why ``name`` is not a path below a log directory, with ``/`` between its parts; None if it is one.

    A file that is created there can therefore not be elsewhere, on any platform.

    Example:
        >>> problem_below("eval/ood")
        >>> problem_below("../eval")
        'it is not a relative path below the log directory'
    """
    try:
        longest = max(len(part.encode()) for part in name.split("/"))
    except UnicodeEncodeError:
        return "it cannot be stored as UTF-8"
    if os.path.splitdrive(name)[0] or any(
        not part.strip() or part in (".", "..") or {*part} & {"\\", "\0"}
        for part in name.split("/")
    ):
        return "it is not a relative path below the log directory"
    return f"a part of it has more than {_PART_BYTES} bytes" if longest > _PART_BYTES else None


def check_writable(logdir: str, error: type[JaxboardError], *subdirectory: str) -> None:
    """Create a log directory and check that files can be created in it.

    Remote directories are not checked here; a fault shows at the first write.

    Args:
        logdir: the directory, as the user knows it.
        error: the exception to raise if it is not writable.
        *subdirectory: the part of it to create and check, if not the directory itself.
    """
    if is_remote(logdir):
        return
    directory = os.path.join(logdir, *subdirectory)
    try:
        os.makedirs(directory, exist_ok=True)
        with tempfile.TemporaryFile(dir=directory):
            pass
    except OSError as fault:
        raise error(
            f"cannot write to the log directory {logdir!r}: {fault.strerror or fault}. Choose another "
            "directory, or make this one writable."
        ) from fault


def view_command(logdir: str | os.PathLike[str]) -> str:
    """Return the shell command that shows a run, also where its environment is not activated."""
    command = f"{python()} -m tensorboard.main"
    on_path = shutil.which("tensorboard")
    if on_path is not None and os.path.dirname(on_path) == os.path.dirname(sys.executable):
        command = "tensorboard"
    return f"{command} --logdir {viewed_directory(logdir)}"


def viewed_directory(logdir: str | os.PathLike[str]) -> str:
    """Return what to pass to TensorBoard for a run, quoted for a shell.

    It is the parent, which shows the run beside others, if the parent is below the working directory. Any
    other parent may hold much else, which TensorBoard would search.
    """
    path = shorten(logdir)
    parent = os.path.dirname(path)
    is_below = bool(parent) and not os.path.isabs(path) and not is_remote(path)
    return shlex.quote(parent if is_below else path)


def python() -> str:
    """Return the interpreter of this process for a shell command."""
    path = sys.executable or "python"
    return shlex.quote(min(path, shorten(path), key=len))


def shorten(path: str | os.PathLike[str]) -> str:
    """Return a path relative to the working directory if it is below it, otherwise unchanged."""
    name = os.fspath(path)
    if is_remote(name):
        return name
    with contextlib.suppress(OSError, ValueError):  # No working directory; another drive.
        relative = os.path.relpath(name)
        if relative.partition(os.sep)[0] != os.pardir:
            return relative
    return name

"""TensorBoard in notebooks: ``%load_ext jaxboard``, then ``%jaxboard LOGDIR``."""

from __future__ import annotations

import argparse
import atexit
import importlib
import os
import shlex
import sys
import uuid
from collections.abc import Sequence
from html import escape
from typing import Any, Never

from jaxboard import _paths
from jaxboard._check import positive_int
from jaxboard._errors import JaxboardError, UsageError
from jaxboard._process.fork import Stage, on_fork
from jaxboard._process.ipython import notebook_shell
from jaxboard._process.viewer import Viewer
from jaxboard._safe_repr import safe_repr

__all__ = ["tensorboard"]

_viewers: dict[tuple[str, tuple[str, ...]], Viewer] = {}
"""The running TensorBoards of this process, by log directory and arguments."""

# If the page of the notebook is at 127.0.0.1, the iframe must be there too: browsers deny storage, which TensorBoard
# needs, to an iframe of another site.
_HTML = """\
<div>TensorBoard shows {place} at <a href="{url}" target="_blank" rel="noopener">{url}</a></div>
<iframe id="{id}" title="TensorBoard of {place}" style="width:100%;height:{height}px;border:0"></iframe>
<script>
(() => {{
  const frame = document.getElementById("{id}");
  const link = frame.previousElementSibling.firstElementChild;
  const url = new URL(link.getAttribute("href"), window.location);
  if (url.hostname === "localhost" && window.location.hostname === "127.0.0.1") {{
    url.hostname = "127.0.0.1";
  }}
  link.href = frame.src = url.href;
}})();
</script>
"""


def tensorboard(
    logdir: str | os.PathLike[str] = "runs",
    *,
    height: int = 800,
    port: int | None = None,
    arguments: Sequence[str] = (),
) -> None:
    """Show TensorBoard in the output of a notebook cell. ``%jaxboard LOGDIR`` calls it.

    TensorBoard listens on a port of the loopback interface and ends with the kernel. A second call with the same
    directory shows the one that is running. It appears in an iframe, which Colab serves itself. Elsewhere, if the browser
    does not run on this machine, set the environment variable ``TENSORBOARD_PROXY_URL`` to the address of a proxy
    (``/proxy/%PORT%/``). Outside of notebooks the address is printed.

    Args:
        logdir: the log directory, which may be created later.
        height: the height of the iframe in pixels.
        port: the port; by default a free one.
        arguments: further arguments of TensorBoard, which override those that jaxboard passes.

    Raises:
        UsageError: an argument is invalid.
        RunError: TensorBoard did not start. The message has the end of its output.
    """
    path = _paths.checked("tensorboard({})", logdir)
    height = positive_int("tensorboard", "height", height, "pixels")
    port = None if port is None else positive_int("tensorboard", "port", port)
    if isinstance(arguments, str) or not all(isinstance(each, str) for each in arguments):
        raise UsageError(f"tensorboard(arguments={safe_repr(arguments)}): expected a list of str.")
    viewer = _viewer(path, port, tuple(arguments))
    shell = notebook_shell()
    if shell is None:
        print(f"TensorBoard shows {_paths.shorten(viewer.logdir)} at {viewer.url}")  # noqa: T201
    elif "google.colab" in sys.modules:
        colab = importlib.import_module("google.colab.output")
        colab.serve_kernel_port_as_iframe(viewer.port, height=str(height))
    else:
        shell.display_pub.publish(data=_cell_output(viewer, height), metadata={})


def load_ipython_extension(shell: Any) -> None:
    """Register ``%jaxboard``. IPython calls it for ``%load_ext jaxboard``."""
    shell.register_magic_function(_magic, magic_kind="line", magic_name="jaxboard")


class _Parser(argparse.ArgumentParser):
    """A parser that raises where argparse exits."""

    def error(self, message: str) -> Never:
        raise UsageError(f"%jaxboard: {message}. {self.format_usage().strip()}")


def _magic(line: str) -> None:
    """Show TensorBoard in the output of the cell.

    %jaxboard [LOGDIR] [--height PIXELS] [--port PORT] [options of TensorBoard]

    LOGDIR is "runs" by default. See jaxboard.notebook.tensorboard.
    """
    from IPython.core.error import UsageError as MagicError

    parser = _Parser(prog="%jaxboard", add_help=False, allow_abbrev=False)
    parser.add_argument("logdir", nargs="?", default="runs", metavar="LOGDIR")
    parser.add_argument("--logdir", dest="named", metavar="LOGDIR", help=argparse.SUPPRESS)
    parser.add_argument("--height", type=int, default=800, metavar="PIXELS")
    parser.add_argument("--port", type=int, metavar="PORT")
    try:
        options, arguments = parser.parse_known_args(shlex.split(line))
        tensorboard(
            options.named or options.logdir,
            height=options.height,
            port=options.port or None,  # 0 is a free one, as for TensorBoard
            arguments=arguments,
        )
    except (JaxboardError, ValueError) as fault:  # ValueError: a quote is missing.
        raise MagicError(str(fault)) from None  # Shown without a traceback.


def _viewer(logdir: str, port: int | None, arguments: tuple[str, ...]) -> Viewer:
    """Return the running TensorBoard of a log directory; start it if there is none."""
    key = _paths.absolute(logdir), arguments
    viewer = _viewers.get(key)
    if viewer is not None:
        if viewer.process.poll() is None and port in (None, viewer.port):
            return viewer
        viewer.terminate()
    viewer = _viewers[key] = Viewer(logdir, port=port, arguments=arguments)
    return viewer


def _cell_output(viewer: Viewer, height: int) -> dict[str, str]:
    """Return the output of a notebook cell: MIME type -> text."""
    place = _paths.shorten(viewer.logdir)
    proxy = os.environ.get("TENSORBOARD_PROXY_URL")
    url = viewer.url if proxy is None else proxy.replace("%PORT%", str(viewer.port))
    html = _HTML.format(
        id=f"jaxboard-{uuid.uuid4().hex}", url=escape(url), place=escape(place), height=height
    )
    return {"text/html": html, "text/plain": f"TensorBoard shows {place} at {url}"}


def _terminate_all() -> None:
    # Do not wait: a front end kills a kernel that takes seconds to end.
    while _viewers:
        _viewers.popitem()[1].terminate()


atexit.register(_terminate_all)
# A forked child must not stop the TensorBoard of its parent.
on_fork(Stage.STATE, in_child=lambda: _viewers.clear())  # noqa: PLW0108 (a function has a module)

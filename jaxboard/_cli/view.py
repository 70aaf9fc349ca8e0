"""``python -m jaxboard tensorboard``: TensorBoard on a free port, until Ctrl-C."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Sequence

from jaxboard import _paths
from jaxboard._errors import JaxboardError
from jaxboard._process.viewer import Viewer


def main(logdir: str, *, port: int | None, arguments: Sequence[str], as_json: bool) -> int:
    """Start TensorBoard, print where it is, and wait until it ends.

    Args:
        logdir: the log directory.
        port: the port; by default a free one.
        arguments: further arguments of TensorBoard.
        as_json: print one JSON object: ``logdir``, ``url`` and ``pid``.

    Returns:
        The exit status: that of TensorBoard, 0 after Ctrl-C, or 1 if it did not start.
    """
    # A terminal that closes, or a job that is cancelled, ends TensorBoard too.
    for name in ("SIGTERM", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), _exit)
    try:
        path = _paths.absolute(_paths.checked("tensorboard({})", logdir))
        if not _paths.is_remote(path) and not os.path.isdir(path):
            print(
                f"There is no directory {logdir!r} yet. TensorBoard shows the runs that are written there later.",
                file=sys.stderr,
            )
        viewer = Viewer(path, port=port, arguments=arguments)
    except JaxboardError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 0
    try:
        if as_json:
            line = {"logdir": viewer.logdir, "url": viewer.url, "pid": viewer.process.pid}
            print(json.dumps(line), flush=True)
        else:
            place = _paths.shorten(viewer.logdir)
            print(f"TensorBoard shows {place} at {viewer.url} (Ctrl-C ends it)", flush=True)
        return viewer.process.wait()
    except KeyboardInterrupt:
        return 0
    finally:
        viewer.stop()


def _exit(signal_number: int, _: object) -> None:
    raise SystemExit(128 + signal_number)

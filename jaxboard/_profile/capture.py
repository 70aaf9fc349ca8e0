"""One trace: started, stopped, and in a temporary directory afterwards.

JAX writes a trace where it is to lie only when it is stopped, and finds only then that it can't. Up to
0.10 it then starts no other trace in the process. In a temporary directory that doesn't happen.
"""

from __future__ import annotations

import contextlib
import glob
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable
from typing import Any

import jax

from jaxboard import _compat
from jaxboard._errors import ProfileError
from jaxboard._log import describe
from jaxboard._profile.barrier import barrier

_PATIENCE_SECS = 5.0
"""How long a trace that is stopped for its length waits for the devices."""

_starting = threading.Lock()


class Capture:
    """A trace that is under way from its construction on.

    A thread of its own stops it. So Ctrl-C, which only reaches the main thread, can't leave JAX with a
    trace half stopped; the time limit holds while the training thread is elsewhere; and what is to be
    done with the file isn't done on the training thread.

    Args:
        options: see ``jax.profiler.ProfileOptions``.
        max_seconds: when it stops by itself.
        then: called on the thread of this trace once it is stopped.

    Attributes:
        stopped: set once nothing is recorded any more.
        expired: whether ``max_seconds`` was the reason.
        seconds: how long stopping took.
        fault: what was wrong with stopping.

    Raises:
        ProfileError: another trace is under way, or JAX could not start one.
    """

    def __init__(
        self, options: dict[str, Any], max_seconds: float, then: Callable[[Capture], None]
    ) -> None:
        self.stopped = threading.Event()
        self.expired = False
        self.seconds = 0.0
        self.fault: Exception | None = None
        self._then = then
        self._max_seconds = max_seconds
        self._asked = threading.Event()
        self._thread = threading.Thread(target=self._run, name="jaxboard profile", daemon=True)
        with _starting:
            if _compat.trace_is_on():
                raise ProfileError(
                    "another trace is being made (by jax.profiler, by another jaxboard.profile, or by "
                    "TensorBoard's Capture profile), and there can be one at a time. It goes on."
                )
            self._directory = tempfile.mkdtemp(prefix="jaxboard-profile-")
            try:
                barrier()
                jax.profiler.start_trace(
                    self._directory, profiler_options=_compat.profile_options(**options)
                )
            except BaseException as fault:
                self.discard()
                if isinstance(fault, Exception):
                    raise ProfileError(f"JAX started no trace: {describe(fault)}") from fault
                raise
        # Now, since an interpreter that ends starts no threads.
        self._thread.start()

    @property
    def recording(self) -> bool:
        """Whether nobody asked it to stop, nor its time is over."""
        return not self._asked.is_set()

    def stop(self) -> None:
        """Asks it to stop, and returns at once. It doesn't wait for the devices: see ``barrier``."""
        self._asked.set()

    def file(self) -> str | None:
        """What was recorded; None while it isn't stopped, or if JAX wrote nothing."""
        found = glob.glob(os.path.join(self._directory, "plugins", "profile", "*", "*.xplane.pb"))
        return found[0] if found else None

    def join(self, timeout: float) -> bool:
        """Waits for the thread. Whether it ended in time."""
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def discard(self) -> None:
        """Deletes the temporary directory."""
        shutil.rmtree(self._directory, ignore_errors=True)

    def _run(self) -> None:
        self.expired = not self._asked.wait(self._max_seconds)
        if self.expired:
            self._asked.set()
            with contextlib.suppress(Exception):
                barrier(_PATIENCE_SECS)
        began = time.monotonic()
        try:
            jax.profiler.stop_trace()
        except Exception as fault:
            self.fault = fault
        self.seconds = time.monotonic() - began
        self.stopped.set()
        self._then(self)

"""Images that the flusher renders, so that the training loop does not wait for it."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Generator

from jaxboard._process import fork
from jaxboard.records import EncodedImage

_PATIENCE_SECS = 1.0
"""Most seconds that a thread waits for another one that draws, which may itself be waiting for this thread."""

_lock = threading.Lock()
# Its owner would not exist in a forked child.
fork.wait_for(_lock)


@contextlib.contextmanager
def drawing() -> Generator[None]:
    """Keep other threads of jaxboard from drawing during a block: matplotlib is not safe for several at a time."""
    acquired = _lock.acquire(timeout=_PATIENCE_SECS)
    try:
        yield
    finally:
        if acquired:
            _lock.release()


class Drawing:
    """The value of a record that is not rendered yet. Sinks receive what :meth:`render` returns.

    Args:
        render: returns the images.
        nbytes: the approximate size of what it keeps alive, in bytes.
    """

    def __init__(
        self, render: Callable[[], EncodedImage | tuple[EncodedImage, ...]], nbytes: int
    ) -> None:
        self.nbytes = nbytes
        self._render = render

    def render(self) -> EncodedImage | tuple[EncodedImage, ...]:
        """Return the images."""
        with drawing():
            return self._render()

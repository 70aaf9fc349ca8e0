"""Progress bars of streamed loops. The chunks that arrive advance them, so they need no callback of their own."""

from __future__ import annotations

import threading
from typing import Protocol, cast


class _Bar(Protocol):
    """A progress bar of tqdm."""

    n: int

    def update(self, n: int) -> object: ...

    def close(self) -> None: ...


_bars: dict[str, _Bar] = {}
_lock = threading.Lock()


def update(name: str, count: int, total: int | None) -> None:
    """Advance a progress bar. It appears with the first call, and closes when it is full.

    Args:
        name: the name of the loop.
        count: how many iterations have run since the last call.
        total: the number of iterations of the loop, or None if that is unknown.
    """
    with _lock:
        if name not in _bars:
            from tqdm.auto import tqdm

            _bars[name] = cast("_Bar", tqdm(total=total, desc=name, unit="step"))
        bar = _bars[name]
        bar.update(count)
        if total is not None and bar.n >= total:
            _bars.pop(name).close()


def close(name: str) -> None:
    """Close a progress bar if it is still shown."""
    with _lock:
        bar = _bars.pop(name, None)
        if bar is not None:
            bar.close()

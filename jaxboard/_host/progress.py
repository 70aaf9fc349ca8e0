"""Progress bars of streamed loops, moved by the chunks that arrive: no callback of their own."""

from __future__ import annotations

import threading
from typing import Any

_bars: dict[str, Any] = {}
_lock = threading.Lock()


def update(name: str, count: int, total: int | None) -> None:
    """Moves a bar on, and shows it if it isn't there; it is closed when it is full.

    Args:
        name: of the loop.
        count: how many iterations were run since.
        total: how many there are, None if that isn't known.
    """
    with _lock:
        if name not in _bars:
            from tqdm.auto import tqdm

            _bars[name] = tqdm(total=total, desc=name, unit="step")
        bar = _bars[name]
        bar.update(count)
        if total is not None and bar.n >= total:
            _bars.pop(name).close()


def close(name: str) -> None:
    """Closes a bar that is still shown."""
    with _lock:
        bar = _bars.pop(name, None)
        if bar is not None:
            bar.close()

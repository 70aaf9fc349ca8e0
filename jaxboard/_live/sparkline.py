"""A curve in one line of text."""

from __future__ import annotations

import numpy as np

_LEVELS = "▁▂▃▄▅▆▇█"
_NOT_FINITE = "x"


def sparkline(steps: np.ndarray, values: np.ndarray, width: int) -> str:
    """Return a curve as blocks of eight heights: the mean of the values in each of several equal ranges of steps.

    There are ``width`` ranges, or as many as points if these are fewer. A range without a point is a space, one with NaN
    or an infinite value an ``x``.

    Args:
        steps: int64[N], increasing.
        values: float64[N].
        width: the most characters.

    Example:
        >>> import numpy as np
        >>> sparkline(np.arange(8), np.array([0, 1, 2, np.nan, 4, 5, 6, 7]), 8)
        '▁▂▃x▅▆▇█'
        >>> sparkline(np.array([0, 500, 1000]), np.array([0, 1, 2]), 8)
        '▁▅█'
    """
    width = min(width, len(steps))
    first, last = float(steps[0]), float(steps[-1])
    places = ((steps - first) / max(last - first, 1) * (width - 1e-6)).astype(np.int64)
    counts = np.bincount(places, minlength=width)
    is_broken = np.bincount(places, weights=~np.isfinite(values), minlength=width) > 0
    finite = np.where(np.isfinite(values), values, 0.0)
    scale = max(float(np.abs(finite).max()), 1e-300)  # Sums of large values stay finite.
    means = np.bincount(places, weights=finite / scale, minlength=width) / np.maximum(counts, 1)
    is_shown = (counts > 0) & ~is_broken
    low = means[is_shown].min() if is_shown.any() else 0.0
    extent = means[is_shown].max() - low if is_shown.any() else 0.0
    levels = np.zeros(width) if extent == 0 else (means - low) / extent * (len(_LEVELS) - 1)
    characters = [
        _NOT_FINITE if broken else _LEVELS[round(level)] if count else " "
        for broken, level, count in zip(is_broken, levels.clip(0, 7), counts, strict=True)
    ]
    return "".join(characters)

"""The robust z-score, which a few outliers do not change.

It is the modified z-score of B. Iglewicz and D. Hoaglin, "How to detect and handle outliers" (ASQC Quality Press, 1993):
``0.6745 (x - median) / MAD``, where MAD is the median of the absolute deviations from the median. For values that are
normally distributed, it is close to ``(x - mean) / standard deviation``.
"""

from __future__ import annotations

import numpy as np

_NORMAL_MAD = 0.6745
"""The MAD of the standard normal distribution."""


def robust_scores(before: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return the scores of values against the values before them; 0 if more than half of those are equal.

    Values that are all above 0 are also compared by their logarithms, because multiplicative noise makes large outliers.
    The score is then the one closer to 0; it is 0 if the two differ in sign.

    Args:
        before: float64[W, K], the values to compare with, all of them finite.
        values: float64[N, K].

    Returns:
        float64[N, K].

    Example:
        >>> before = np.array([[1.0], [2.0], [3.0], [4.0], [5.0]])
        >>> robust_scores(before - 10, np.array([[-5.0]]))
        array([[1.349]])
    """
    with np.errstate(all="ignore"):
        scores = _scores(before, values)
        positive = (before > 0).all(axis=0)
        if positive.any():
            logs = _scores(np.log(before[:, positive]), np.log(np.maximum(values[:, positive], 0)))
            plain = scores[:, positive]
            same_sign = np.sign(logs) == np.sign(plain)
            closer = np.where(np.abs(logs) < np.abs(plain), logs, plain)
            scores[:, positive] = np.where(same_sign, closer, 0)
    return scores


def _scores(before: np.ndarray, values: np.ndarray) -> np.ndarray:
    median = np.median(before, axis=0)
    spread = np.median(np.abs(before - median), axis=0)
    usable = (spread > 0) & np.isfinite(spread)
    scores = _NORMAL_MAD * (values - median) / np.where(usable, spread, 1)
    return np.where(usable & ~np.isnan(scores), scores, 0)

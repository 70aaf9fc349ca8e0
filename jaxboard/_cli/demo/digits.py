"""The data: scikit-learn's handwritten digits, which come with the package."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from sklearn.datasets import load_digits

TEST_SIZE = 450


class Digits(NamedTuple):
    """Images of digits.

    Attributes:
        images: float32[N, 8, 8], from 0 (the paper) to 1 (the ink).
        labels: int64[N], from 0 to 9.
    """

    images: np.ndarray
    labels: np.ndarray

    def select(self, indices: np.ndarray) -> Digits:
        """Return some of the images."""
        return Digits(self.images[indices], self.labels[indices])


def load(seed: int) -> tuple[Digits, Digits]:
    """Return 1347 images for training and 450 for testing."""
    pixels, labels = map(np.asarray, load_digits(return_X_y=True))
    digits = Digits(np.float32(pixels).reshape(-1, 8, 8) / 16, labels)
    order = np.random.default_rng(seed).permutation(len(labels))
    return digits.select(order[TEST_SIZE:]), digits.select(order[:TEST_SIZE])

"""The gradient noise scale: from the squared norms of gradients of two batch sizes."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxboard._reduce.leaves import sum_of_squares
from jaxboard._reduce.reducers import Mean, State, replicated
from jaxboard._types import Array
from jaxboard.records import Scalars


def squared_norms(small: Sequence[Array], large: Sequence[Array]) -> Array:
    """Return the squared norms of the gradients of two batch sizes: float32[2]."""
    count = len(small)

    def norms(*arrays: Array) -> Array:
        squares = [sum_of_squares(x) for x in arrays]
        return jnp.stack([sum(squares[:count]), sum(squares[count:])])

    return replicated(norms, *map(lax.stop_gradient, (*small, *large)))


@dataclasses.dataclass(frozen=True, slots=True)
class NoiseScale:
    """The estimates of one point.

    Attributes:
        signal: the squared norm of the true gradient.
        noise: the trace of the covariance of the gradient of one example.

    Example:
        >>> estimate = NoiseScale.of(small=5.0, large=2.0, small_batch=1, large_batch=4)
        >>> estimate.signal, estimate.noise
        (1.0, 4.0)
    """

    signal: float
    noise: float

    @classmethod
    def of(cls, small: float, large: float, small_batch: int, large_batch: int) -> NoiseScale:
        """Return the unbiased estimates from the squared norms of gradients of two batch sizes."""
        signal = (large_batch * large - small_batch * small) / (large_batch - small_batch)
        noise = (small - large) / (1 / small_batch - 1 / large_batch)
        return cls(signal, noise)

    def scalars(self, tag: str, step: int, wall_time: float, run: str = "") -> Scalars:
        """Return one row. Estimates of few steps may be negative: the scale is left out then."""
        points = {f"{tag}/signal": self.signal, f"{tag}/noise": self.noise}
        if self.signal > 0 and self.noise >= 0:
            points = {f"{tag}/scale": self.noise / self.signal} | points
        values = np.array([list(points.values())])
        return Scalars(tuple(points), np.array([step]), np.array([wall_time]), values, run)


class NoiseScaleReducer(Mean):
    """Average the squared norms: a ratio of averages, as an average of ratios would be biased.

    Args:
        small_batch: the number of examples of the first gradient.
        large_batch: that of the second.
    """

    name = "noise_scale"

    def __init__(self, small_batch: int, large_batch: int):
        self.small_batch = small_batch
        self.large_batch = large_batch

    def finish(self, state: State) -> NoiseScale:
        small, large = np.asarray(super().finish(state), np.float64).tolist()
        return NoiseScale.of(small, large, self.small_batch, self.large_batch)

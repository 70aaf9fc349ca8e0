"""The options of a report of a metric, part of JAX's cache keys."""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable

from jaxboard._reduce.finishing import Finish
from jaxboard._reduce.words import Leaf


@dataclasses.dataclass(frozen=True, slots=True)
class MetricOptions:
    """The options of a report of a metric.

    Attributes:
        structure: the pytree structure of the metric, of JAX.
        leaves: the types of its leaves.
        replaces: whether a later state replaces an earlier one, rather than being merged with it. Lanes and devices
            are always merged.
        finish: see :attr:`ReportSpec.finish`; here it is applied to what the metric computes.
    """

    structure: Hashable
    leaves: tuple[Leaf, ...]
    replaces: bool = False
    finish: Finish | None = None

"""Which reducer a report has."""

from __future__ import annotations

import functools

from jaxboard._frame import Spec
from jaxboard._record import Kind
from jaxboard.reduce._histogram import HistogramReducer
from jaxboard.reduce._image import ImageReducer
from jaxboard.reduce._norms import NormsReducer
from jaxboard.reduce._reducer import REDUCTIONS, Reducer
from jaxboard.reduce._stack import StackReducer

_HISTOGRAM = HistogramReducer()
_STACK = StackReducer()


@functools.cache
def reducer(spec: Spec) -> Reducer:
    """The reducer of a report's values."""
    match spec.kind:
        case Kind.HISTOGRAM:
            return _HISTOGRAM
        case Kind.IMAGE:
            return ImageReducer(spec.max_images)
        case Kind.NORMS:
            return NormsReducer(spec.leaves, spec.what)
        case Kind.STACK:
            return _STACK
        case _:
            return REDUCTIONS[spec.reduce]

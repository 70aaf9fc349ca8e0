"""Which reducer a report has."""

from __future__ import annotations

import dataclasses
import functools

from jaxboard._frame import Spec
from jaxboard._record import Kind
from jaxboard.reduce._reducer import REDUCTIONS, Reducer


@functools.cache
def reducer(spec: Spec) -> Reducer:
    """The reducer of a report's values. Those of kinds that a program may never report come when asked for."""
    if spec.lanes:
        from jaxboard.reduce._lanes import LanesReducer

        return LanesReducer(reducer(dataclasses.replace(spec, lanes=None)))
    match spec.kind:
        case Kind.HISTOGRAM:
            from jaxboard.reduce._histogram import HistogramReducer

            return HistogramReducer()
        case Kind.IMAGE:
            from jaxboard.reduce._image import ImageReducer

            return ImageReducer(spec.max_images)
        case Kind.NORMS:
            from jaxboard.reduce._norms import NormsReducer

            return NormsReducer(spec.leaves, spec.what)
        case Kind.STACK:
            from jaxboard.reduce._stack import StackReducer

            return StackReducer()
        case _:
            return REDUCTIONS[spec.reduce]

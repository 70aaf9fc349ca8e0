"""Which reducer a report has."""

from __future__ import annotations

import dataclasses
import functools

from jaxboard._frame import ReportSpec
from jaxboard._reduce.reducers import REDUCTIONS, Reducer
from jaxboard.records import Kind


@functools.cache
def reducer(spec: ReportSpec) -> Reducer:
    """The reducer of a report's values. Those of kinds that a program may never report come when asked for."""
    if spec.lanes:
        from jaxboard._reduce.lanes import LanesReducer

        return LanesReducer(reducer(dataclasses.replace(spec, lanes=None)))
    match spec.kind:
        case Kind.HISTOGRAM:
            from jaxboard._reduce.histogram import HistogramReducer

            return HistogramReducer()
        case Kind.IMAGE:
            from jaxboard._reduce.image import ImageReducer

            return ImageReducer(spec.max_images)
        case Kind.NORMS:
            from jaxboard._reduce.norms import NormsReducer

            return NormsReducer(spec.leaves, spec.what)
        case Kind.STACK:
            from jaxboard._reduce.stack import StackReducer

            return StackReducer()
        case _:
            return REDUCTIONS[spec.reduce]

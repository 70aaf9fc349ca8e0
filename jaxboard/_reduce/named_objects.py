"""Names of the objects of a report, functions and structures of metrics: the state of a run has these names instead."""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable
from typing import Any, cast

from jaxboard._frame import ReportSpec
from jaxboard._reduce.finishing import HostFunction
from jaxboard._reduce.metric_options import MetricOptions


@dataclasses.dataclass(frozen=True, slots=True)
class NamedObject:
    """The name of an object. It is the same in another process that runs the same program.

    Attributes:
        name: the qualified name of a function, or the text of a structure with the classes in it.
    """

    name: str


def with_names(spec: ReportSpec) -> ReportSpec:
    """Return a report with names in place of its objects, so that the reports of two processes compare as equal.

    A name is enough for the function of ``finish=``: it is applied to the result, so that a later version of it may
    finish a window that an earlier one began.
    """
    finish, options = _name_of(spec.finish), spec.options
    if isinstance(options, MetricOptions):
        structure = options.structure
        if not isinstance(structure, NamedObject):
            structure = NamedObject(str(structure))
        finished = cast("Any", _name_of(options.finish))
        options = dataclasses.replace(options, structure=structure, finish=finished)
    if finish is spec.finish and options is spec.options:
        return spec
    return dataclasses.replace(spec, finish=finish, options=options)


def has_names(spec: ReportSpec) -> bool:
    """Return whether a report has names in place of objects, so that its values cannot be finished."""
    options = spec.options
    has_named_structure = isinstance(options, MetricOptions) and isinstance(
        options.structure, NamedObject
    )
    return has_named_structure or isinstance(spec.finish, NamedObject)


def _name_of(finish: Hashable) -> Hashable:
    return NamedObject(repr(finish)) if isinstance(finish, HostFunction) else finish

"""Objects of a program that a state of a run refers to by name: functions, and the structures of metrics."""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable
from typing import Any, cast

from jaxboard._frame import ReportSpec
from jaxboard._reduce.finishing import HostFunction
from jaxboard._reduce.metric_options import MetricOptions


@dataclasses.dataclass(frozen=True, slots=True)
class NamedObject:
    """The name of an object that another process has too, if its program is the same.

    Attributes:
        name: the qualified name of a function, or the text of a structure with the classes in it.
    """

    name: str


def with_names(spec: ReportSpec) -> ReportSpec:
    """Return a report with the names of its objects, so that it is equal in another process.

    The function of ``finish=`` is applied to a result, so that another one of the same name is right too.
    """
    finish, options = _named(spec.finish), spec.options
    if isinstance(options, MetricOptions):
        structure = options.structure
        if not isinstance(structure, NamedObject):
            structure = NamedObject(str(structure))
        finished = cast("Any", _named(options.finish))
        options = dataclasses.replace(options, structure=structure, finish=finished)
    if finish is spec.finish and options is spec.options:
        return spec
    return dataclasses.replace(spec, finish=finish, options=options)


def has_names(spec: ReportSpec) -> bool:
    """Return whether a report has names instead of objects, so that nothing can finish its values."""
    options = spec.options
    of_metric = isinstance(options, MetricOptions) and isinstance(options.structure, NamedObject)
    return of_metric or isinstance(spec.finish, NamedObject)


def _named(finish: Hashable) -> Hashable:
    return NamedObject(repr(finish)) if isinstance(finish, HostFunction) else finish

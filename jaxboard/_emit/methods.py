"""The reporting verbs as methods of a run."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable
from typing import Any, Generic, Never, TypeVar, cast

from jaxboard._emit.array import histogram, image
from jaxboard._emit.host_only import figure, text
from jaxboard._emit.scalar import scalar, scalars
from jaxboard._emit.tap import tap
from jaxboard._emit.watch import watch

V = TypeVar("V", bound=Callable[..., object])


class _Method(Generic[V]):
    """A descriptor for a verb: on the class the verb itself, on a run the verb that reports to this run."""

    def __init__(self, verb: V):
        self._verb = verb

    def __get__(self, run: VerbMethods | None, owner: type) -> V:
        if run is None:
            return self._verb

        @functools.wraps(self._verb)
        def method(*args: Never, **kwargs: Never) -> object:
            with run._active():  # noqa: SLF001 (declared below)
                return self._verb(*args, **kwargs)

        return cast(V, method)


class VerbMethods:
    """Base class of :class:`jaxboard.Run`: every verb that reports, with the signature of the function.

    ``scope`` is not a method, as it applies to all runs.
    """

    scalar = _Method(scalar)
    scalars = _Method(scalars)
    histogram = _Method(histogram)
    image = _Method(image)
    text = _Method(text)
    figure = _Method(figure)
    watch = _Method(watch)
    tap = _Method(tap)

    def _active(self) -> contextlib.AbstractContextManager[Any]:
        """Return a context in which this run is the active run of the current thread.

        Raises:
            RunError: the run is closed, and JAX is not tracing.
        """
        raise NotImplementedError


VERBS = tuple(name for name, value in vars(VerbMethods).items() if isinstance(value, _Method))
"""The names of all verbs that report. Tests compare other lists of verbs with this one."""

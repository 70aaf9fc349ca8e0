"""Precompilation through the ``lower`` method of another library's jit wrapper."""

from __future__ import annotations

from jaxboard._trace.wrapper import Instrumented


class PrecompileProxy:
    """A stand-in for the jitted function inside a wrapper, whose ``lower`` compiles all of its programs.

    Only the wrapper knows how it transforms the user's arguments. Calling the wrapper's own ``lower`` with
    this in place of the function passes the transformed arguments to ``precompile``.
    """

    def __init__(self, function: Instrumented):
        self._function = function

    def lower(self, *args: object, **kwargs: object) -> None:
        """Compile all programs that calls with such arguments run."""
        self._function.precompile(*args, **kwargs)

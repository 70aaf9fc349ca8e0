"""Frames that leave as a hidden output together with a step that only the device knows."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, SupportsIndex

import jax

from jaxboard._host.channel import Channel
from jaxboard._host.observers import Call
from jaxboard._trace.deliveries.delivery import Delivery, as_int
from jaxboard._trace.deliveries.hidden_output import HiddenOutput
from jaxboard._trace.instrument_options import InstrumentOptions
from jaxboard._types import Array, PyTree

if TYPE_CHECKING:
    # Imported only when a function is instrumented: all rules come with it.
    from jaxboard._trace.programs import Args, Kwargs, Programs

_NEEDS_VALUE = (
    jax.errors.ConcretizationTypeError,
    jax.errors.TracerArrayConversionError,
    jax.errors.TracerIntegerConversionError,
)
"""The errors of Python code that needs the value of an array while JAX traces."""


class DeviceStep(Delivery):
    """The frame is a hidden output that holds the step, as ``step=`` returns a device array.

    Every report leaves the device, and the host selects what is due and merges the windows. A call whose
    ``step=`` returns an integer has the delivery of a step that the host knows.
    """

    def __init__(
        self,
        name: str,
        options: InstrumentOptions,
        programs: Programs,
        host_step: HiddenOutput,
        step: Callable[..., SupportsIndex | Array],
    ):
        super().__init__(name, options)
        self._programs = programs
        self._host_step = host_step
        self._step = step

    def begin(self, channel: Channel, args: Args, kwargs: Kwargs) -> tuple[Delivery, int]:
        """Return the delivery that the result of ``step=`` decides, and the step or the run's count."""
        step = self._step(*args, **kwargs)
        if isinstance(step, jax.Array):
            return self, channel.begin(self._advance)
        return self._host_step, channel.begin(self._advance, as_int(self._name, step))

    def call(self, channel: Channel, step: int, call: Call) -> PyTree:
        """Run the program and put the frame."""
        out, packed = self._execute(self._programs.device_step(), (), call)
        if packed.arrays:
            self._put(channel, packed, None)
        return out

    def precompile(self, args: Args, kwargs: Kwargs) -> None:
        """Compile the program for what ``step=`` returns for such arguments."""
        if self._returns_array(args, kwargs):
            self._programs.device_step().lower(*args, **kwargs).compile()
        else:
            self._host_step.precompile(args, kwargs)

    def _returns_array(self, args: Args, kwargs: Kwargs) -> bool:
        """Return whether ``step=`` returns a device array, without computing it."""
        leaves, tree = jax.tree.flatten((args, kwargs))
        arrays = {
            i: x for i, x in enumerate(leaves) if isinstance(x, jax.Array | jax.ShapeDtypeStruct)
        }
        found = []

        def step(arrays: dict[int, Array]) -> None:
            args, kwargs = tree.unflatten([arrays.get(i, x) for i, x in enumerate(leaves)])
            found.append(isinstance(self._step(*args, **kwargs), jax.Array))

        try:
            jax.eval_shape(step, arrays)
        except _NEEDS_VALUE:
            return False  # it makes an integer of an array
        return found[0]

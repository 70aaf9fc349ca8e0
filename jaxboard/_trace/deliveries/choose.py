"""The choice of a function's deliveries, made once when it is instrumented."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from jaxboard._trace.deliveries.callback import Callback
from jaxboard._trace.deliveries.delivery import Delivery
from jaxboard._trace.deliveries.device_step import DeviceStep
from jaxboard._trace.deliveries.hidden_output import GatedOutput, HiddenOutput
from jaxboard._trace.deliveries.streamed_loops import StreamedLoops
from jaxboard._trace.instrument_options import InstrumentOptions

if TYPE_CHECKING:
    # Imported only when a function is instrumented: all rules come with it.
    from jaxboard._trace.programs import Programs


class Deliveries(NamedTuple):
    """The deliveries of a function under jit.

    Attributes:
        usual: the one that its options choose.
        checked: the one while JAX checks results for NaN or infinity.
    """

    usual: Delivery
    checked: Delivery


def choose_deliveries(
    name: str, options: InstrumentOptions, programs: Programs, jit_options: dict[str, Any]
) -> Deliveries:
    """Return the deliveries of a jitted function.

    Args:
        name: the function's name in messages.
        options: the options that ``instrument`` was given.
        programs: the function's programs.
        jit_options: the options that ``jax.jit`` was given.
    """
    if options.stream is not None:
        streamed = StreamedLoops(name, options, programs)
        return Deliveries(streamed, streamed)
    callback = Callback(name, options, programs)
    if options.delivery == "callback":
        return Deliveries(callback, callback)
    kind = GatedOutput if options.gate == "cond" else HiddenOutput
    output = kind(name, options, programs, jit_options)
    if options.step is None:
        return Deliveries(output, callback)
    return Deliveries(DeviceStep(name, options, programs, output, options.step), callback)

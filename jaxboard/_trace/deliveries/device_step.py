"""Frames that leave as a hidden output together with a step that only the device knows."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import TYPE_CHECKING, SupportsIndex

import jax
import numpy as np

from jaxboard._host.channel import Channel
from jaxboard._host.selection import Selection
from jaxboard._log import describe, logger
from jaxboard._trace.deliveries.delivery import Delivery, Executed, as_int
from jaxboard._trace.deliveries.hidden_output import HiddenOutput
from jaxboard._trace.instrument_options import InstrumentOptions
from jaxboard._types import Array

if TYPE_CHECKING:
    # Imported only when a function is instrumented: all rules come with it.
    from jaxboard._trace.programs import Args, Kwargs, Programs

_ARGUMENT = 2
"""The length of the path of an argument: whether it is positional, and its position or name."""


class _StateInteger(int):
    """An integer inside a container, or the result of arithmetic with one."""


def _tracked(operation: str) -> Callable[[int, int], object]:
    def method(self: int, other: int) -> object:
        result = getattr(int, operation)(self, other)
        return _StateInteger(result) if type(result) is int else result

    return method


for _operation in ("add", "sub", "mul", "floordiv", "mod"):
    for _name in (f"__{_operation}__", f"__r{_operation}__"):
        setattr(_StateInteger, _name, _tracked(_name))


class _StateArray(np.ndarray):
    """An integer of NumPy inside a container, or the result of arithmetic with one."""


def _is_in_state(path: tuple[object, ...], leaf: object) -> bool:
    """Return whether a leaf of the arguments is an integer inside a container."""
    if len(path) <= _ARGUMENT:
        return False
    if isinstance(leaf, np.ndarray | np.generic):
        return leaf.ndim == 0 and leaf.dtype.kind in "iu"
    return type(leaf) is int


def _of_state(number: int | np.ndarray | np.generic) -> _StateInteger | _StateArray:
    """Return an integer of a type that marks it as part of a state."""
    if isinstance(number, int):
        return _StateInteger(number)
    return np.asarray(number).view(_StateArray)


class DeviceStep(Delivery):
    """The frame is a hidden output that holds the step, as ``step=`` returns a device array.

    Every report leaves the device, and the host selects what is due and merges the windows. A call whose
    ``step=`` returns an integer has the delivery of a step that the host knows, unless the integer is part of a
    state: ``TrainState.step`` starts as an integer, of Python or NumPy, and is a device array from the second call on.
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
        self._is_of_state: bool | None = None

    def begin(self, channel: Channel, args: Args, kwargs: Kwargs) -> tuple[Delivery, int]:
        """Return the delivery that the result of ``step=`` decides, and the step or the run's count."""
        if self._is_of_state is None:
            step = self._first_step(args, kwargs)
        else:
            step = self._step(*args, **kwargs)
        if isinstance(step, jax.Array):
            begun = self._begin(channel)
            return self.selecting(channel.selection), begun
        delivery = self if self._is_of_state else self._host_step
        begun = self._begin(channel, as_int(self._name, step))
        return delivery.selecting(channel.selection), begun

    def _select(self, selection: Selection) -> DeviceStep:
        # It runs with the step that this one has found.
        selected = copy.copy(self)
        selected._programs = self._programs.selecting(selection)  # noqa: SLF001
        selected._last_selected = None, None  # noqa: SLF001
        return selected

    def call(self, channel: Channel, step: int, args: Args, kwargs: Kwargs) -> Executed:
        """Run the program and put the frame."""
        out, plan, vectors = self._execute(self._programs.device_step(), (), args, kwargs)
        if vectors:
            self._put(channel, plan, vectors, None)
        return out, None, (), 0.0

    def precompile(self, args: Args, kwargs: Kwargs) -> None:
        """Compile the program for what ``step=`` returns for such arguments."""
        if self._returns_array(args, kwargs):
            self._programs.device_step().lower(*args, **kwargs).compile()
        else:
            self._host_step.precompile(args, kwargs)

    def _first_step(self, args: Args, kwargs: Kwargs) -> object:
        """Return the result of ``step=``, and note whether it is an integer of a state.

        ``step=`` is called once, as it may count. It gets integers of types that mark them as parts of a state.
        """
        try:
            paths, tree = jax.tree_util.tree_flatten_with_path((args, kwargs))
            args, kwargs = tree.unflatten(
                [_of_state(leaf) if _is_in_state(path, leaf) else leaf for path, leaf in paths]
            )
        except Exception as reason:  # an unusual container among static arguments
            logger.debug("jaxboard: %s: arguments of step=: %s", self._name, describe(reason))
        step = self._step(*args, **kwargs)
        self._is_of_state = isinstance(step, _StateInteger | _StateArray)
        return step

    def _returns_array(self, args: Args, kwargs: Kwargs) -> bool:
        """Return whether ``step=`` returns a device array, or will do so in later calls, without computing it."""
        paths, tree = jax.tree_util.tree_flatten_with_path((args, kwargs))
        leaves = [leaf for _, leaf in paths]
        # A number inside a container may be part of a state, which the function returns as arrays.
        arrays = {
            i: leaf
            for i, (path, leaf) in enumerate(paths)
            if isinstance(leaf, jax.Array | jax.ShapeDtypeStruct) or _is_in_state(path, leaf)
        }
        found = []

        def step(arrays: dict[int, Array]) -> None:
            args, kwargs = tree.unflatten([arrays.get(i, x) for i, x in enumerate(leaves)])
            found.append(isinstance(self._step(*args, **kwargs), jax.Array))

        try:
            jax.eval_shape(step, arrays)
        except Exception:
            return False  # it makes an integer of an array, or needs more than the types of the arguments
        return found[0]

"""Clocks that give each iteration of a streamed loop its step: a count, or a value that the loop carries."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple, Protocol

import jax
import jax.core
import jax.numpy as jnp
from jax import Array
from jax.extend.core import Literal

from jaxboard import _compat
from jaxboard._errors import UsageError
from jaxboard._reduce import WideInt
from jaxboard._safe_repr import safe_repr


class StepClock(Protocol):
    """The steps of the loops of one call, while it is traced.

    A loop carries a *time*, from which the clock computes the step of an iteration.
    """

    @property
    def last(self) -> WideInt:
        """The step of the last iteration, or the first step of the call if there was none."""
        ...

    def begin_loop(self, carry: Sequence[Array]) -> Any:
        """Return the time before the first iteration of a loop with this initial carry."""
        ...

    def step(self, time: Any, carry: Sequence[Array]) -> WideInt:
        """Return the step of an iteration."""
        ...

    def tick(self, time: Any, step: WideInt) -> Any:
        """Return the time after an iteration."""
        ...

    def is_start(self, time: Any) -> Array:
        """Return whether no iteration of the loop has run."""
        ...

    def end_loop(self, time: Any, carry: Sequence[Array]) -> None:
        """Continue after a loop that ended at this time and with this carry."""
        ...


class CountingClock:
    """Each iteration is one step. The time is the step of the next iteration.

    Args:
        first: the step of the first iteration.
    """

    def __init__(self, first: WideInt):
        self._first = self._start = first

    @property
    def last(self) -> WideInt:
        """See :class:`StepClock`."""
        is_unused = self._equal(self._start, self._first)
        return jax.tree.map(partial(jnp.where, is_unused), self._first, self._start + -1)

    def begin_loop(self, carry: Sequence[Array]) -> WideInt:
        """See :class:`StepClock`."""
        return self._start

    def step(self, time: WideInt, carry: Sequence[Array]) -> WideInt:
        """See :class:`StepClock`."""
        return time

    def tick(self, time: WideInt, step: WideInt) -> WideInt:
        """See :class:`StepClock`."""
        return time + 1

    def is_start(self, time: WideInt) -> Array:
        """See :class:`StepClock`."""
        return self._equal(time, self._start)

    def end_loop(self, time: WideInt, carry: Sequence[Array]) -> None:
        """See :class:`StepClock`."""
        self._start = time

    @staticmethod
    def _equal(step: WideInt, other: WideInt) -> Array:
        return (step.high == other.high) & (step.low == other.low)


class _Time(NamedTuple):
    """The time of an :class:`ArgumentClock`.

    Attributes:
        is_start: whether no iteration of the loop has run.
        following: the step after ``last``.
        last: the step of the last iteration of the call, or the first step.
    """

    is_start: Array
    following: WideInt
    last: WideInt


class ArgumentClock:
    """The step of an iteration is a function of the arguments of the call.

    An argument that a loop carries has its value at the start of the iteration. If a loop carries no argument that the step
    depends on, its iterations count up.

    Args:
        name: the name of the function, for messages.
        step_of: the arrays among the arguments -> the step, an integer of any dtype.
        arguments: these arrays.

    Attributes:
        counts_up: whether the step depends on arguments, and a loop carried none of them.

    Raises:
        UsageError: ``step_of`` does not return an integer.
    """

    def __init__(
        self,
        name: str,
        step_of: Callable[[Sequence[Array]], Array | None],
        arguments: Sequence[Array],
    ):
        def checked(arrays: Sequence[Array]) -> WideInt:
            step = step_of(arrays)
            if step is None or step.shape or not jnp.issubdtype(step.dtype, jnp.integer):
                raise UsageError(
                    f"{name}: instrument(step=...) returned {safe_repr(step)}, expected an integer."
                )
            return WideInt.of(step)

        closed = jax.make_jaxpr(checked)(list(arguments))
        self._jaxpr, self._consts = _compat.open_jaxpr(closed)
        read = {
            var
            for each in (*(eqn.invars for eqn in self._jaxpr.eqns), self._jaxpr.outvars)
            for var in each
            if not isinstance(var, Literal)
        }
        self._read = [place for place, var in enumerate(self._jaxpr.invars) if var in read]
        self._arguments = list(arguments)
        self._carried: dict[int, int] = {}
        self.counts_up = False
        first = self._evaluated(self._arguments)
        self._start = _Time(jnp.array(True), first, first)

    @property
    def last(self) -> WideInt:
        """See :class:`StepClock`."""
        return self._start.last

    def begin_loop(self, carry: Sequence[Array]) -> _Time:
        """See :class:`StepClock`."""
        # A carry may begin with the same array twice: the first place counts.
        places = {id(value): place for place, value in reversed(list(enumerate(carry)))}
        found = ((place, places.get(id(self._arguments[place]))) for place in self._read)
        self._carried = {place: inner for place, inner in found if inner is not None}
        self.counts_up |= bool(self._read) and not self._carried
        return self._start._replace(is_start=jnp.array(True))

    def step(self, time: _Time, carry: Sequence[Array]) -> WideInt:
        """See :class:`StepClock`."""
        if not self._carried:
            return time.following
        return self._evaluated(self._current(carry))

    def tick(self, time: _Time, step: WideInt) -> _Time:
        """See :class:`StepClock`."""
        return _Time(jnp.array(False), step + 1, step)

    def is_start(self, time: _Time) -> Array:
        """See :class:`StepClock`."""
        return time.is_start

    def end_loop(self, time: _Time, carry: Sequence[Array]) -> None:
        """See :class:`StepClock`."""
        self._start, self._arguments = time, self._current(carry)

    def _current(self, carry: Sequence[Array]) -> list[Array]:
        """Return the arguments with the values of those that the loop carries."""
        return [
            carry[self._carried[place]] if place in self._carried else array
            for place, array in enumerate(self._arguments)
        ]

    def _evaluated(self, arguments: list[Array]) -> WideInt:
        return WideInt(*jax.core.eval_jaxpr(self._jaxpr, self._consts, *arguments))

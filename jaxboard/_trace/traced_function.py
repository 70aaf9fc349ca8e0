"""The user's function as its programs trace it: its results, and its reports as values."""

from __future__ import annotations

import copy
import functools
import inspect
from collections.abc import Callable
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr

from jaxboard._host.observers import notify_trace
from jaxboard._host.selection import Selection
from jaxboard._reduce import WideInt
from jaxboard._trace import context
from jaxboard._trace.adapters.linen_scan import silence_scan_checks
from jaxboard._trace.failures import OtherProgram, ProgramFailed, call_user, is_users_error
from jaxboard._trace.harvest import harvest
from jaxboard._trace.instrument_options import InstrumentOptions
from jaxboard._trace.jit_options import (
    RESULT_OPTIONS,
    Merge,
    shift_options,
    split_arguments,
    traceable,
)
from jaxboard._trace.pack import Harvested
from jaxboard._trace.pruning import prune, select
from jaxboard._trace.replication import replicate
from jaxboard._trace.rules.step_clocks import ArgumentClock, CountingClock, StepClock
from jaxboard._trace.rules.streamed import Stream
from jaxboard._trace.selected_reports import SelectedReports
from jaxboard._types import PyTree

Args: TypeAlias = tuple[Any, ...]
Kwargs: TypeAlias = dict[str, Any]

ALL_DUE = frozenset[int]()
"""The cadences that are not due, if all are."""


class TracedFunction:
    """A jitted function of the user, traced with its reports.

    Args:
        fn: the result of ``jax.jit``.
        name: its name in messages.
        jit_options: the options that ``jax.jit`` was given.
        options: the options that ``instrument`` was given.
        reports_only: whether the programs return None for the results of the function, and donate nothing.

    Attributes:
        name: see above.
        fn: see above.
        options: see above.
        reports: the reports that were found, with the cadences that the run selects.
    """

    def __init__(
        self,
        fn: Callable[..., PyTree],
        name: str,
        jit_options: dict[str, Any],
        options: InstrumentOptions,
        *,
        reports_only: bool = False,
    ):
        self.name = name
        self.fn = fn
        self.options = options
        self.reports = SelectedReports()
        self._traceable = traceable(fn, jit_options)
        self._jit_options = jit_options
        self._reports_only = reports_only

    def selecting(self, selection: Selection) -> TracedFunction:
        """Return the same function, whose reports have the cadences that a run selects."""
        selecting = copy.copy(self)
        selecting.reports = SelectedReports(selection)
        return selecting

    def collect(
        self,
        args: Args,
        kwargs: Kwargs,
        *,
        final: bool,
        not_due: frozenset[int] = ALL_DUE,
        step: jax.Array | WideInt | None = None,
        stream: Stream | None = None,
    ) -> tuple[PyTree, list[Harvested]]:
        """Trace the function and return its results and its reports.

        Args:
            args: the positional arguments: tracers and static values.
            kwargs: the keyword arguments.
            final: see :func:`harvest`.
            not_due: the cadences whose sampled reports are left out.
            step: see :func:`harvest`.
            stream: see :func:`harvest`.
        """
        dynamic, merge = split_arguments(self._jit_options, args, kwargs)
        closed, shape = self._jaxpr(dynamic, merge)
        notify_trace(self.name, closed)
        pruned = prune(select(closed, self.reports.select), not_due)
        operands = jax.tree.leaves(dynamic)
        results, reports = harvest(pruned, operands, final=final, step=step, stream=stream)
        reports = self.reports.of(reports)
        if self._reports_only:
            return None, reports
        return jax.tree.unflatten(jax.tree.structure(shape), results), reports

    def _jaxpr(self, dynamic: PyTree, merge: Merge) -> tuple[ClosedJaxpr, PyTree]:
        """Return the jaxpr of the function, with all its reports, and the shapes of its results."""

        def with_static(dynamic: PyTree) -> PyTree:
            args, kwargs = merge(dynamic)
            return call_user(self._traceable, *args, **kwargs)

        runs = self.options.seed_runs or context.current().runs
        silence_scan_checks()
        # This context is the same for all programs, so that JAX traces the user's function once for all of them.
        with context.override(every=self.options.every, harvested=True, runs=runs):
            return jax.make_jaxpr(with_static, return_shape=True)(dynamic)

    def step_of(self, args: Args, kwargs: Kwargs) -> jax.Array | None:
        """Return the step of a call that ``step=`` computes; None without ``step=``."""
        step = self.options.step
        return None if step is None else jnp.asarray(call_user(step, *args, **kwargs))

    def clock(self, words: jax.Array, args: Args, kwargs: Kwargs) -> StepClock:
        """Return the clock of the streamed loops of a call.

        Args:
            words: the first step, in two words; not read if ``step=`` computes it.
            args: the positional arguments.
            kwargs: the keyword arguments.
        """
        if self.options.step is None:
            return CountingClock(WideInt(*words))
        dynamic, merge = split_arguments(self._jit_options, args, kwargs)
        arrays, tree = jax.tree.flatten(dynamic)
        step_of = lambda arrays: self.step_of(*merge(tree.unflatten(arrays)))  # noqa: E731
        return ArgumentClock(self.name, step_of, arrays)

    def jit(
        self, function: Callable[..., PyTree], *, num_hidden: int = 0, num_args: int | None = None
    ) -> jax.stages.Wrapped:
        """Return ``function`` jitted with the options of the user's function.

        Args:
            function: takes the arguments of the user's function.
            num_hidden: the number of its results besides those of the user's function.
            num_args: if it takes one more argument before those of the call, the number of the call's
                positional arguments; else None.
        """
        options = dict(self._jit_options)
        if self._reports_only:
            options = {name: x for name, x in options.items() if name not in RESULT_OPTIONS}
        if num_hidden and "out_shardings" in options:
            options["out_shardings"] = (options["out_shardings"], *[None] * num_hidden)

        # Gives the program the user's name in profiles, and the signature that jax.jit resolves the names of
        # static and donated arguments with.
        @functools.wraps(self.fn)
        def named(*args: object, **kwargs: object) -> PyTree:
            try:
                if not num_hidden:
                    return function(*args, **kwargs)
                out, *hidden = function(*args, **kwargs)
                return out, *replicate(hidden, (args, kwargs), self._jit_options)
            except Exception as error:
                if is_users_error(error) or isinstance(error, OtherProgram):
                    raise
                raise ProgramFailed from error

        if num_args is not None:
            options = shift_options(options, num_args)
            signature = inspect.signature(self.fn)
            leading = inspect.Parameter("_jaxboard_leading", inspect.Parameter.POSITIONAL_ONLY)
            named.__dict__["__signature__"] = signature.replace(
                parameters=[leading, *signature.parameters.values()]
            )
        return jax.jit(named, **options)

"""The jitted programs of an instrumented function: the user's, with the frame as a hidden output.

There is one for each set of cadences that are not due, since what is not due is not in it.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import itertools
import math
import warnings
from collections.abc import Callable
from typing import Any

import jax

from jaxboard._errors import JaxboardWarning
from jaxboard._frame import Packed
from jaxboard._trace import context, windows
from jaxboard._trace.harvest import harvest
from jaxboard._trace.pack import Harvested, pack
from jaxboard._trace.primitives import deliver
from jaxboard._trace.rules.streamed import Stream

_MANY = 4
"""Above how many programs of one function a warning says why there are so many."""


_NOTHING = frozenset[int]()


class Programs:
    """Makes the programs of a jitted function, and keeps them.

    Args:
        fn: what ``jax.jit`` returned.
        name: what it is called in messages.
        options: what ``jax.jit`` was given.
        every: the cadence of reports that have none of their own.
        step: None, or a function of the arguments that gives the step.
        advance: whether a call takes a step.
        runs: whether lanes of a ``vmap`` are runs of their own.

    Attributes:
        cadences: those above 1 that the function was found to report with.
    """

    def __init__(
        self,
        fn: Any,
        name: str,
        options: dict[str, Any],
        *,
        every: int,
        step: Callable[..., Any] | None,
        advance: bool,
        runs: bool,
    ):
        self.cadences: set[int] = set()
        self._fn = fn
        self._name = name
        self._options = options
        self._every = every
        self._step = step
        self._advance = advance
        self._runs = runs
        self._made: dict[Any, Any] = {}

    def plain(self, muted: frozenset[int]) -> Any:
        """The program without windows: like the function, its results being (results, frame).

        It raises :class:`windows.Missing` while it is traced if the function reports windows.

        Args:
            muted: the cadences that are not due.
        """
        made = self._made.get((muted, None))
        return made or self._make(muted, None)

    def carrying(self, muted: frozenset[int], count: int) -> Any:
        """The program with windows: it takes accumulators first and has new ones as a third result.

        It raises :class:`windows.Missing` while it is traced if the accumulators do not suffice.

        Args:
            muted: the cadences that are not due.
            count: how many positional arguments it will be called with.
        """
        made = self._made.get((muted, count))
        return made or self._make(muted, count)

    def _make(self, muted: frozenset[int], count: int | None) -> Any:
        def plain(*args: Any, **kwargs: Any) -> Any:
            out, reports = self._reported(muted, args, kwargs)
            leaving, _ = windows.advance(None, reports, lambda every: every not in muted)
            return out, pack(leaving)

        def carry(accumulators: Packed, /, *args: Any, **kwargs: Any) -> Any:
            out, reports = self._reported(muted, args, kwargs)
            due = lambda every: every not in muted  # noqa: E731
            leaving, staying = windows.advance(accumulators, reports, due)
            return out, pack(leaving), staying

        if count is None:
            made = self._jit(plain, hidden=1)
        else:
            made = self._jit(carry, hidden=2, counted=count)
        self._made[muted, count] = made
        self._warn_of_many()
        return made

    def gated(self, count: int) -> Any:
        """The program for all steps, which sees itself what is due: a branch for each sampled report.

        It takes the step and the accumulators, or None, as one argument before the user's, and has new
        accumulators as a third result. It raises :class:`windows.Missing` like the others.

        Args:
            count: how many positional arguments it will be called with.
        """

        def call(given: tuple[Any, Packed | None], /, *args: Any, **kwargs: Any) -> Any:
            step, accumulators = given
            out, reports = self._reported(_NOTHING, args, kwargs, step=step)
            due = lambda every: step % every == 0  # noqa: E731
            leaving, staying = windows.advance(accumulators, reports, due)
            return out, pack(leaving), staying

        key = (None, count)
        if key not in self._made:
            self._made[key] = self._jit(call, hidden=2, counted=count)
        return self._made[key]

    def streaming(self, size: int, bar: str | None, count: int, *, checked: bool) -> Any:
        """The program that streams its loops. It takes the step before the user's arguments.

        Args:
            size: how many iterations make a chunk.
            bar: what the progress bar is called; None for no bar.
            count: how many positional arguments it will be called with.
            checked: whether JAX looks into outputs: what is reported outside of loops is none, then.
        """

        def call(first: Any, /, *args: Any, **kwargs: Any) -> Any:
            stream = Stream(size, first, bar)
            out, reports = self._reported(_NOTHING, args, kwargs, stream=stream)
            if checked and reports:
                deliver(pack(reports, stream.last), advance=None)
                reports = []
            told = reports or stream.steps_taken is None
            packed = pack(reports, stream.last if told else None)
            return out, Packed(
                dataclasses.replace(packed.plan, steps_taken=stream.steps_taken), packed.arrays
            )

        key = ("stream", count, checked)
        if key not in self._made:
            self._made[key] = self._jit(call, hidden=1, counted=count)
        return self._made[key]

    def _warn_of_many(self) -> None:
        if len({muted for muted, _ in self._made}) == _MANY + 1:
            cadences = ", ".join(map(str, sorted(self.cadences)))
            warnings.warn(
                f"{self._name} is compiled for more than {_MANY} combinations of what is due: it reports "
                f"with every= {cadences}. Choose cadences that are multiples of one another, such as "
                "10 and 100, or instrument(gate='cond').",
                JaxboardWarning,
                stacklevel=2,
            )

    def _reported(
        self, muted: frozenset[int], args: Any, kwargs: Any, **more: Any
    ) -> tuple[Any, list[Harvested]]:
        with self._around(muted=muted):
            out, reports = self._harvested(args, kwargs, final=True, **more)
        # Another set, not the same one with more in it: a call on another thread may be reading that.
        self.cadences = self.cadences | {r.spec.every for r in reports if r.spec.every > 1}
        return out, reports

    @functools.cached_property
    def computing(self) -> Any:
        """The program where only the program knows the step: the frame holds all, and the step."""

        def call(*args: Any, **kwargs: Any) -> Any:
            step = self._step_of(args, kwargs)
            out, reports = self._reported(_NOTHING, args, kwargs, step=step)
            return out, pack(reports, step if reports else None)

        return self._jit(call, hidden=1)

    def combinations(self) -> list[frozenset[int]]:
        """The sets of cadences that are not due on one step or another."""
        found = set[frozenset[int]]()
        for size in range(len(self.cadences) + 1):
            for due in itertools.combinations(self.cadences, size):
                # The steps on which these are due are the multiples of this; so others may be due too.
                period = math.lcm(*due)
                found.add(frozenset(n for n in self.cadences if period % n))
        return sorted(found, key=sorted)

    @functools.cached_property
    def by_callback(self) -> Any:
        """Like the function; its frame reaches the host by one callback, which counts the step."""

        def call(*args: Any, **kwargs: Any) -> Any:
            with self._around():
                out, reports = self._harvested(args, kwargs, final=False)
            deliver(pack(reports, self._step_of(args, kwargs)), advance=self._advance)
            return out

        return self._jit(call)

    def _around(self, **more: Any) -> Any:
        runs = self._runs or context.current().runs
        return context.override(every=self._every, harvested=True, runs=runs, **more)

    def _step_of(self, args: Any, kwargs: Any) -> Any:
        return None if self._step is None else self._step(*args, **kwargs)

    def _harvested(
        self, args: Any, kwargs: Any, *, final: bool, **more: Any
    ) -> tuple[Any, list[Harvested]]:
        """Calls the function in the midst of tracing: its results, and its reports.

        Args:
            args: of the function.
            kwargs: of the function.
            final: see :func:`harvest`.
            more: for :func:`harvest`.
        """
        numbers = {
            n % len(args)
            for n in self._options.get("static_argnums", ())
            if -len(args) <= n < len(args)
        }
        names = self._options.get("static_argnames", ())
        dynamic = (
            {i: x for i, x in enumerate(args) if i not in numbers},
            {name: x for name, x in kwargs.items() if name not in names},
        )

        def call(dynamic: Any) -> Any:
            positional = [dynamic[0].get(i, x) for i, x in enumerate(args)]
            return self._fn(*positional, **{**kwargs, **dynamic[1]})

        closed, shape = jax.make_jaxpr(call, return_shape=True)(dynamic)
        results, reports = harvest(closed, jax.tree.leaves(dynamic), final=final, **more)
        return jax.tree.unflatten(jax.tree.structure(shape), results), reports

    def _jit(self, function: Any, *, hidden: int = 0, counted: int | None = None) -> Any:
        """``function`` jitted as the user's was.

        Args:
            function: called like the user's.
            hidden: how many results it has beside the user's.
            counted: None; or that it takes one argument before the user's, and how many those are.
        """
        options = dict(self._options)
        if hidden and "out_shardings" in options:
            options["out_shardings"] = (options["out_shardings"], *[None] * hidden)

        # The name in profiles, and the signature that static and donated arguments are told by.
        @functools.wraps(self._fn)
        def named(*args: Any, **kwargs: Any) -> Any:
            return function(*args, **kwargs)

        if counted is not None:
            options = _with_one_before(options, counted)
            signature = inspect.signature(self._fn)
            first = inspect.Parameter("_jaxboard_given", inspect.Parameter.POSITIONAL_ONLY)
            named.__dict__["__signature__"] = signature.replace(
                parameters=[first, *signature.parameters.values()]
            )
        return jax.jit(named, **options)


def _with_one_before(options: dict[str, Any], count: int) -> dict[str, Any]:
    """The options of ``jax.jit`` for a function that takes one argument before ``count`` others."""
    options = dict(options)
    static = options.get("static_argnums", ())
    for name in ("static_argnums", "donate_argnums"):
        if name in options:
            options[name] = tuple(n if n < 0 else n + 1 for n in options[name])
    if "in_shardings" in options:
        theirs = options["in_shardings"]
        if not isinstance(theirs, tuple):  # one for all of them
            theirs = (theirs,) * (count - len({n % count for n in static if -count <= n < count}))
        options["in_shardings"] = (None, *theirs)
    return options

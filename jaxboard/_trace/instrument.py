"""``instrument``: collects the reports of each call of a function in one frame.

Called from plain Python, a jitted function gets a hidden output, the frame, whose arrays the host reads
later. Called while JAX traces the caller, its frame leaves by one callback per call. A plain function called
from plain Python runs as it is.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, Literal, SupportsIndex, TypeVar, overload

from jaxboard import _compat
from jaxboard._errors import UsageError
from jaxboard._log import warn
from jaxboard._safe_repr import safe_repr
from jaxboard._trace.adapters.linen_scan import silence_scan_checks
from jaxboard._trace.adapters.nnx_jit import instrument_nnx_jit
from jaxboard._trace.adapters.wrappers import bind, bound_arguments, substitute, wrapped_by
from jaxboard._trace.instrument_options import InstrumentOptions, checked_options
from jaxboard._trace.misuse import check_is_step
from jaxboard._trace.wrapper import Instrumented
from jaxboard._types import Array

F = TypeVar("F")  # unbounded: to type checkers, the objects that nnx.jit returns are not callable


@overload
def instrument(
    fn: F,
    *,
    every: SupportsIndex = 1,
    step: Literal["auto"] | Callable[..., SupportsIndex | Array] = "auto",
    advance: bool = True,
    delivery: Literal["auto", "output", "callback"] = "auto",
    gate: Literal["compile", "cond"] = "compile",
    stream: SupportsIndex | None = None,
    progress: bool = False,
    runs: Literal["vmap"] | None = None,
    exact: bool = False,
    name: str | None = None,
) -> F: ...
@overload
def instrument(
    fn: None = None,
    *,
    every: SupportsIndex = 1,
    step: Literal["auto"] | Callable[..., SupportsIndex | Array] = "auto",
    advance: bool = True,
    delivery: Literal["auto", "output", "callback"] = "auto",
    gate: Literal["compile", "cond"] = "compile",
    stream: SupportsIndex | None = None,
    progress: bool = False,
    runs: Literal["vmap"] | None = None,
    exact: bool = False,
    name: str | None = None,
) -> Callable[[F], F]: ...
def instrument(
    fn: object = None,
    *,
    every: SupportsIndex = 1,
    step: Literal["auto"] | Callable[..., SupportsIndex | Array] = "auto",
    advance: bool = True,
    delivery: Literal["auto", "output", "callback"] = "auto",
    gate: Literal["compile", "cond"] = "compile",
    stream: SupportsIndex | None = None,
    progress: bool = False,
    runs: Literal["vmap"] | None = None,
    exact: bool = False,
    name: str | None = None,
) -> object:
    """Collect the reports of each call of a function in one frame, and give the call a step.

    Results, donation, shardings, static arguments and compilation caches do not change. While no run is
    active, the function runs without its reports.

    Args:
        fn: the result of ``jax.jit``, ``nnx.jit`` or ``eqx.filter_jit``, a wrapper of one (a partial, a bound
            method, ``functools.wraps``), or a plain function, which is not jitted. If a plain function calls
            jitted ones, each call waits for the reports of the one before.
        every: the cadence, in steps, of reports that have none of their own.
        step: ``"auto"``, the run's own count; or a function of the call's arguments that returns the
            call's step. If it returns a Python integer, the run's count follows it. If it returns a device
            array (``lambda state, *_: state.step``), the call does not wait for it: the step leaves the
            device with the reports, and the host selects what is due. With ``stream``, it is the step of each
            iteration: an argument that a loop carries has its value at the start of the iteration.
        advance: whether a call takes a step. An evaluation step uses ``advance=False``: its values belong to
            the last training step. A call that an instrumented function makes, jitted or not, belongs to the step
            of that function.
        delivery: how the frame reaches the host. ``"output"``: as a hidden output of the jitted function,
            which no call waits for. ``"callback"``: by one callback while the program runs, which costs it a
            fraction of a millisecond. ``"auto"``: as an output if the call is the outermost one, by callback
            if JAX traces the caller.
        gate: how a sampled report (a histogram, an image, ``reduce="last"``) that is not due is left out.
            ``"compile"``: a function has two programs, one for steps on which nothing is due and one for the
            others, which has a branch for each cadence if there are several. ``"cond"``: it has a single program
            with such branches, for models that take too long to compile twice.
        stream: for a jitted function that is a whole training run, a number of iterations: the outermost
            loops (``scan``, ``fori_loop``, ``while_loop``) report while they run, this many iterations at a
            time, and each iteration is a step. The number of iterations of a ``while_loop`` is known only at
            its end, so the call waits for that, as it does with ``step``.
        progress: show a progress bar of the streamed loops. It needs tqdm.
        runs: ``"vmap"`` makes each lane of a ``vmap``, for example over seeds, a run of its own for
            everything that the function reports; see :func:`scalar`.
        exact: take the results from the program without reports, and the reports from a second program that
            runs before it on the steps on which a report is due. Without this, XLA may round the results
            differently where a report keeps a value alive. Such a step costs up to twice its time, more memory,
            and one more compilation; side effects, such as callbacks and references, happen twice. If JAX
            traces the caller, there is one program as without ``exact``.
        name: the function's name in traces and messages; by default its own name.

    Returns:
        A function like ``fn``; without ``fn``, a decorator. The result of its ``lower().compile()`` takes a
        step at each call, and its frame leaves by one callback.

    Raises:
        UsageError: an argument is invalid. At a call: JAX traces the caller with ``delivery="output"``, or
            ``step`` did not return an integer.

    Example:
        >>> import jax, jaxboard as jb
        >>> from jaxboard.testing import capture
        >>> @jb.instrument
        ... @jax.jit
        ... def double(x):
        ...     jb.scalar("x", x)
        ...     return 2 * x
        >>> with capture() as records:
        ...     y = double(3.0)
        >>> [(record.tag, record.step, float(record.value)) for record in records]
        [('x', 0, 3.0)]
    """
    options = checked_options(
        every=every,
        step=step,
        advance=advance,
        delivery=delivery,
        gate=gate,
        stream=stream,
        progress=progress,
        runs=runs,
        exact=exact,
        name=name,
    )
    if fn is None:
        return lambda fn: _instrument(fn, options)
    return _instrument(fn, options)


def _instrument(fn: Any, options: InstrumentOptions) -> object:
    check_is_step(fn)
    if _is_instrumented(fn):
        raise UsageError(
            f"{safe_repr(fn)} is already instrumented; instrumenting it twice would count every call as two steps."
        )
    silence_scan_checks()
    jitted = _instrument_jitted(fn, options) or _instrument_bound(fn, options)
    if jitted is None and options.stream is not None:
        jitted = substitute(fn, lambda inner: _instrument_jitted(inner, options))
    if jitted is not None:
        return jitted
    if options.exact or options.stream is not None:
        option = "exact=True" if options.exact else "stream=..."
        raise UsageError(
            f"instrument({option}) needs a jitted function, and {_name_of(fn)!r} is not jitted. Put "
            f"@jaxboard.instrument({option}) above @jax.jit."
        )
    # Each call of the wrapper is a step, however often it calls the function inside.
    inside = dataclasses.replace(options, step=None, advance=False)
    return Instrumented(
        fn, options, None, body=substitute(fn, lambda inner: _instrument_jitted(inner, inside))
    )


def _instrument_jitted(fn: Any, options: InstrumentOptions) -> Callable[..., Any] | None:
    """Return ``fn`` instrumented; None if it is not the result of a function like ``jax.jit``."""
    is_nnx, is_equinox = map(_compat.is_jitted, (_nnx_inner(fn), _equinox_inner(fn)))
    try:
        if _compat.is_jitted(fn):
            return Instrumented(fn, options, _compat.jit_options(fn))
        if is_nnx:
            return instrument_nnx_jit(fn, options)
        if is_equinox:
            from jaxboard._trace.adapters.filter_jit import instrument_filter_jit

            return instrument_filter_jit(fn, options)
    except Exception as reason:
        warn(
            f"instrument({_name_of(fn)!r}): this version of JAX, Flax or Equinox does not show how the function "
            f"was jitted ({reason!r}), so each report takes a callback."
        )
    return None


def _instrument_bound(fn: Any, options: InstrumentOptions) -> object:
    """Return a partial or a bound method of a jitted function, instrumented; None for anything else."""
    bound = bound_arguments(fn)
    if bound is None:
        return None
    inner, args, kwargs = bound
    step = options.step
    if step is not None:
        if kwargs or not _compat.is_jitted(inner):
            return None  # the wrapper calls step=, with its own arguments
        count = len(args)
        options = dataclasses.replace(
            options, step=lambda *args, **kwargs: step(*args[count:], **kwargs)
        )
    instrumented = _instrument_jitted(inner, options) or _instrument_bound(inner, options)
    return None if instrumented is None else bind(instrumented, fn)


def _is_instrumented(fn: Any) -> bool:
    """Return whether ``fn`` is instrumented, or wraps a function that is."""
    while fn is not None:
        if any(isinstance(x, Instrumented) for x in (fn, _nnx_inner(fn), _equinox_inner(fn))):
            return True
        fn = wrapped_by(fn)
    return False


def _nnx_inner(fn: Any) -> Any:
    """Return the ``jax.jit`` function inside a result of ``nnx.jit``; None for anything else."""
    return getattr(fn, "jitted_fn", None) if _is_from("flax", fn) else None


def _equinox_inner(fn: Any) -> Any:
    """Return the ``jax.jit`` function inside a result of ``eqx.filter_jit``; None for anything else."""
    return getattr(fn, "_cached", None) if _is_from("equinox", fn) else None


def _is_from(library: str, fn: Any) -> bool:
    # functools.wraps copies the attributes of a function to its wrapper, but not its class.
    return type(fn).__module__.partition(".")[0] == library


def _name_of(fn: Any) -> object:
    return getattr(fn, "__name__", fn)

"""``instrument``: makes one frame of what a call of a function reports.

Called by plain Python, over a jitted function: the program gets a hidden output, the frame, whose arrays
the host keeps and reads later. Called while somebody else traces: one callback per call. A plain
function called by plain Python runs as it is.
"""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Callable
from typing import Any, Literal, TypeVar, overload

from jaxboard import _compat
from jaxboard._errors import JaxboardWarning, ReportError
from jaxboard._trace.adapters.nnx_jit import instrument_nnx_jit
from jaxboard._trace.wrapper import Instrumented, Options

F = TypeVar("F")  # nnx.jit returns objects that type checkers do not take for callables


@overload
def instrument(
    fn: F,
    *,
    every: int = 1,
    step: Literal["auto"] | Callable[..., Any] = "auto",
    advance: bool = True,
    delivery: Literal["auto", "output", "callback"] = "auto",
    gate: Literal["compile", "cond"] = "compile",
    stream: int | None = None,
    progress: bool = False,
    runs: Literal["vmap"] | None = None,
    name: str | None = None,
) -> F: ...
@overload
def instrument(
    fn: None = None,
    *,
    every: int = 1,
    step: Literal["auto"] | Callable[..., Any] = "auto",
    advance: bool = True,
    delivery: Literal["auto", "output", "callback"] = "auto",
    gate: Literal["compile", "cond"] = "compile",
    stream: int | None = None,
    progress: bool = False,
    runs: Literal["vmap"] | None = None,
    name: str | None = None,
) -> Callable[[F], F]: ...
def instrument(
    fn: Any = None,
    *,
    every: int = 1,
    step: Literal["auto"] | Callable[..., Any] = "auto",
    advance: bool = True,
    delivery: Literal["auto", "output", "callback"] = "auto",
    gate: Literal["compile", "cond"] = "compile",
    stream: int | None = None,
    progress: bool = False,
    runs: Literal["vmap"] | None = None,
    name: str | None = None,
) -> Any:
    """Collects what a function reports into one frame per call, and gives the call a step.

    Results, donation, shardings, static arguments and compilation caches stay as they are. With no run
    open the function runs without its reports.

    Args:
        fn: what ``jax.jit``, ``nnx.jit`` or ``eqx.filter_jit`` returned, or a plain function, which is
            never jitted.
        every: the cadence in steps of reports that have none of their own.
        step: ``"auto"``, the run's own count; or a function of the call's arguments that returns the
            call's step. If that is a Python integer, the run's count follows it. If it is a device
            array (``lambda state, *_: state.step``), nobody waits for it: it leaves the device with
            the reports, and what is due is chosen there.
        advance: whether a call takes a step. One that doesn't belongs to the last step taken.
        delivery: how the frame reaches the host. ``"output"``: as a hidden output of the jitted
            function, which nobody waits for. ``"callback"``: by one callback while the program runs,
            which costs it a fraction of a millisecond. ``"auto"``: as an output where the call is
            the outermost one, by callback where JAX traces what is around it.
        gate: how a sampled report (a histogram, an image, ``reduce="last"``) that isn't due is left out.
            ``"compile"``: by a program without it, one for each combination of what is due.
            ``"cond"``: by a branch in the one program there is, for models that take too long to
            compile twice.
        stream: for a jitted function that is a whole training run: its outermost loops (``scan``,
            ``fori_loop``, ``while_loop``) report while they run, this many iterations at a time, and each
            iteration is a step of its own. How many trips a ``while_loop`` makes shows at its end, so the
            call waits for that.
        progress: show a progress bar of the streamed loops. It takes tqdm.
        runs: ``"vmap"`` makes each lane of a ``vmap``, over seeds say, a run of its own for all that the
            function reports; see :func:`scalar`.
        name: what the function is called in traces and messages; by default its own name.

    Returns:
        A function like ``fn``; without ``fn``, a decorator. What its ``lower().compile()`` returns takes
        a step at each call, and the frame of that one callback.

    Raises:
        ReportError: an argument is not what is said here. At a call: with ``delivery="output"``, JAX
            traces what is around it; or ``step`` did not return an integer.

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
    if isinstance(every, bool) or not isinstance(every, int) or every < 1:
        raise ReportError(f"instrument(every={every!r}): expected a positive integer, in steps.")
    if step != "auto" and not callable(step):
        raise ReportError(
            f"instrument(step={step!r}): expected 'auto' or a function of the arguments."
        )
    if delivery not in ("auto", "output", "callback"):
        raise ReportError(
            f"instrument(delivery={delivery!r}): expected 'auto', 'output' or 'callback'."
        )
    if gate not in ("compile", "cond"):
        raise ReportError(f"instrument(gate={gate!r}): expected 'compile' or 'cond'.")
    if runs not in (None, "vmap"):
        raise ReportError(f"instrument(runs={runs!r}): expected 'vmap' or None.")
    _check_stream(stream, progress, step, delivery, advance)
    own = None if step == "auto" else step
    options = Options(every, own, advance, delivery, gate, stream, progress, runs == "vmap", name)
    if fn is None:
        return lambda fn: _instrumented(fn, options)
    return _instrumented(fn, options)


def _check_stream(stream: Any, progress: bool, step: Any, delivery: str, advance: bool) -> None:
    if stream is None:
        if progress:
            raise ReportError(
                "instrument(progress=True): the bar is that of a loop; give stream= too."
            )
        return
    if isinstance(stream, bool) or not isinstance(stream, int) or stream < 1:
        raise ReportError(
            f"instrument(stream={stream!r}): expected a positive integer, in iterations."
        )
    if step != "auto" or delivery != "auto" or not advance:
        raise ReportError(
            "instrument(stream=...): each iteration is a step of the run and leaves by callback, so step=, "
            "delivery= and advance= have nothing to say."
        )
    if progress and importlib.util.find_spec("tqdm") is None:
        raise ReportError("instrument(progress=True) needs tqdm: pip install tqdm.")


def _instrumented(fn: Any, options: Options) -> Any:
    if not callable(fn):
        raise ReportError(f"instrument({fn!r}): expected a function.")
    jitted = [getattr(fn, name, None) for name in ("jitted_fn", "_cached")]
    if any(isinstance(x, Instrumented) for x in (fn, *jitted)):
        raise ReportError(f"{fn!r} is instrumented already: twice, each call would take two steps.")
    over_nnx, over_equinox = map(_compat.is_jitted, jitted)
    if (over_nnx or over_equinox) and options.step is not None:
        raise ReportError(
            f"instrument(step=...): over {'nnx.jit' if over_nnx else 'eqx.filter_jit'} the arguments are not "
            "yet told apart when the step is asked for. Set run.step before the loop instead, and let each "
            "call count."
        )
    try:
        if _compat.is_jitted(fn):
            return Instrumented(fn, options, _compat.jit_options(fn))
        if over_nnx:
            return instrument_nnx_jit(fn, options)
        if over_equinox:
            from jaxboard._trace.adapters.filter_jit import instrument_filter_jit

            return instrument_filter_jit(fn, options)
    except Exception as reason:
        warnings.warn(
            f"instrument({getattr(fn, '__name__', fn)!r}): this version of JAX, Flax or Equinox does not tell "
            f"how it was jitted ({reason!r}); each report takes a callback.",
            JaxboardWarning,
            stacklevel=3,
        )
    if options.stream is not None:
        raise ReportError(
            f"instrument(stream=...) takes a jitted function, and {getattr(fn, '__name__', fn)!r} is none: put "
            "@jaxboard.instrument(stream=...) above @jax.jit."
        )
    return Instrumented(fn, options, None)

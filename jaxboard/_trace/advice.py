"""Warnings, issued once, about calls whose reports go nowhere or are slow."""

from __future__ import annotations

from jaxboard._log import describe, is_first, warn, warn_once, warn_once_without_raising

_NO_RUN = (
    "{}: no run is open, so nothing is reported. Open one around the loop: "
    "with jaxboard.Run('runs/name'): ..."
)

_NOT_JITTED = (
    "{} is instrumented but not jitted, and is being called while JAX traces: each of its reports takes a "
    "callback, which is slow, and its calls do not count as steps, so all of them make one point. Put "
    "@jaxboard.instrument above @jax.jit."
)

_NOT_STREAMED = (
    "{}: instrument(stream=...) was called while JAX traces its caller, so its loops are not streamed and all "
    "of their iterations are one step. Call it from plain Python."
)

_NO_LOOP = (
    "{}: instrument(stream=...) found no loop that reports and can be streamed (a while_loop under vmap, or "
    "one whose condition reports, cannot be), so its reports leave when the call is over."
)

_COUNTS_UP = (
    "{}: no streamed loop carries an argument that instrument(step=...) reads, so iterations count up from the first "
    "step. To give each iteration the step in that argument, let the loop carry it as it was passed. To begin at "
    "another step, set run.step instead."
)

_BARE = (
    "{}: jaxboard could not make its program, so the function runs as it is: each of its reports takes a "
    "callback, and each call waits for them, which is slow. Its results are right. Cause: {}. Please report it."
)


_WAITS = (
    "{}: each call waits until the reports of the call before it have arrived, because {!r} leaves a jitted "
    "function by callback. Put @jaxboard.instrument above the @jax.jit of that function, without "
    "delivery='callback': then no call waits."
)


def warn_no_run(reporter: str) -> None:
    """Warn, once, that no run is active.

    Args:
        reporter: the function or the report that has no run, for the message.
    """
    if is_first("no run"):
        warn(_NO_RUN.format(reporter))


def warn_not_jitted(name: str) -> None:
    """Warn, once per function, that a plain function is called while JAX traces its caller."""
    warn_once(("not jitted", name), _NOT_JITTED.format(name))


def warn_waits(name: str, tag: str) -> None:
    """Warn, once per function, that the calls of a plain function wait for callbacks."""
    warn_once(("waits", name), _WAITS.format(name, tag))


def warn_not_streamed(name: str) -> None:
    """Warn, once per function, that its loops are not streamed while JAX traces its caller."""
    warn_once(("not streamed", name), _NOT_STREAMED.format(name))


def warn_no_loop(name: str) -> None:
    """Warn, once per function, that it has no loop to stream."""
    warn_once_without_raising(("no loop", name), _NO_LOOP.format(name))


def warn_counts_up(name: str) -> None:
    """Warn, once per function, that its iterations count up, although ``step=`` reads an argument."""
    warn_once_without_raising(("counts up", name), _COUNTS_UP.format(name))


def warn_bare(name: str, reason: BaseException | None) -> None:
    """Warn, once per function, that it runs without a program of jaxboard."""
    cause = "unknown" if reason is None else describe(reason)
    warn_once_without_raising(("bare", name), _BARE.format(name, cause))

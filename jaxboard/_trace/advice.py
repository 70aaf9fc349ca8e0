"""What users are told once: that reports go nowhere, or take the slow way."""

from __future__ import annotations

import warnings

from jaxboard._errors import JaxboardWarning

_advised: set[str] = set()


def warn_inside(name: str) -> None:
    """Says, once for each function, that a plain one takes no steps where JAX traces what is around it."""
    _advise(
        name,
        f"{name} is instrumented inside of what JAX traces, and not jitted itself: each of its reports takes a "
        "callback, which is slow, and no step is counted, so all calls make one point. Put "
        "@jaxboard.instrument above @jax.jit.",
    )


def warn_no_stream(name: str) -> None:
    """Says, once for each function, that its loops are not streamed where JAX traces what is around it."""
    _advise(
        name,
        f"{name}: instrument(stream=...) was called while JAX traces what is around it; its loops are not streamed, "
        "and all their iterations are one step. Call it from plain Python.",
    )


def warn_no_loop(name: str) -> None:
    """Says, once for each function, that there is nothing to stream."""
    _advise(
        name,
        f"{name}: instrument(stream=...) found no loop that reports and can be streamed (a while_loop under vmap, "
        "or one whose predicate reports, can't): its reports leave when the call is over.",
    )


def _advise(name: str, text: str) -> None:
    if name not in _advised:
        _advised.add(name)
        warnings.warn(text, JaxboardWarning, stacklevel=5)


_warned_no_run = False


def warn_no_run(what: str) -> None:
    """Says, once, that reports go nowhere."""
    global _warned_no_run  # noqa: PLW0603
    if not _warned_no_run:
        _warned_no_run = True
        warnings.warn(
            f"{what}: no run is open, so nothing is reported. Open one around the loop: "
            "with jaxboard.Run('runs/name'): ...",
            JaxboardWarning,
            stacklevel=3,
        )

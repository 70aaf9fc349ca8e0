"""Combinations that JAX or Flax does not support, each with the library's own error message."""

from __future__ import annotations

import dataclasses

import jax


@dataclasses.dataclass(frozen=True)
class Limit:
    """A case that is not tested with some deliveries.

    Attributes:
        case: the name of the case.
        deliveries: the deliveries that the limit applies to.
        before: the first version of JAX without the limit; None if every version has it.
        reason: what the library does.
        error: the library's message when ``jax.debug.callback`` replaces the report.
    """

    case: str
    deliveries: tuple[str, ...]
    before: tuple[int, ...] | None
    reason: str
    error: str

    @property
    def applies(self) -> bool:
        """True if the installed version of JAX has the limit."""
        return self.before is None or jax.__version_info__ < self.before


LIMITS = (
    Limit(
        "jax.export",
        ("callback", "no_instrument"),
        None,
        "JAX cannot export callbacks.",
        "serialization of host_callbacks is not yet implemented",
    ),
    Limit(
        "jax.export of an instrumented function",
        ("output",),
        None,
        "JAX cannot export callbacks, and from 0.12 exports only what jax.jit returned.",
        "Function to be exported must be the result of",
    ),
)


def limit_of(case: str, delivery: str) -> Limit | None:
    """Return the limit that a case has with a delivery in this version of JAX, or None."""
    found = [x for x in LIMITS if x.case == case and delivery in x.deliveries and x.applies]
    return found[0] if found else None

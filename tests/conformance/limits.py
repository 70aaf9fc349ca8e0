"""What JAX does not allow, or does otherwise: each with its own words for it."""

from __future__ import annotations

import dataclasses

import jax


@dataclasses.dataclass(frozen=True)
class Limit:
    """A case that a way to the host is not tested for.

    Attributes:
        case: its name.
        ways: the ways to the host.
        before: the first version of JAX that has it no more; None if all have it.
        reason: what JAX does.
        error: what JAX says, when ``jax.debug.callback`` stands in the place of the report.
    """

    case: str
    ways: tuple[str, ...]
    before: tuple[int, ...] | None
    reason: str
    error: str

    @property
    def holds(self) -> bool:
        """Whether this version of JAX has it."""
        return self.before is None or jax.__version_info__ < self.before


LIMITS = (
    Limit(
        "jax.export",
        ("callback", "no_instrument"),
        None,
        "JAX exports no callbacks.",
        "serialization of host_callbacks is not yet implemented",
    ),
    Limit(
        "jax.export of what instrument returned",
        ("output",),
        None,
        "JAX exports no callbacks, and from 0.12 nothing but what jax.jit returned.",
        "Function to be exported must be the result of",
    ),
    Limit(
        "nn.scan of Flax 0.12.9 and later, without check_constancy_invariants=False",
        ("output", "callback", "no_instrument", "eager"),
        None,
        "Flax traces the body once more to find what is constant, and takes an effect for a dependency.",
        "broadcasted variable has a data dependency on the scan body",
    ),
)


def limit_of(case: str, way: str) -> Limit | None:
    """The limit that a case meets on a way to the host, if it does in this version of JAX."""
    found = [x for x in LIMITS if x.case == case and way in x.ways and x.holds]
    return found[0] if found else None

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
    Limit(
        "nn.scan of Flax 0.12.9 and later, without check_constancy_invariants=False",
        ("output", "callback", "no_instrument", "eager"),
        None,
        "Flax traces the body again to find constants, and takes an effect for a dependency.",
        "broadcasted variable has a data dependency on the scan body",
    ),
)


def limit_of(case: str, delivery: str) -> Limit | None:
    """Return the limit that a case has with a delivery in this version of JAX, or None."""
    found = [x for x in LIMITS if x.case == case and delivery in x.deliveries and x.applies]
    return found[0] if found else None


FLAGS = {
    "jax_scan3": "`scan` without a carry: the body writes to Refs",
    "jax_remat3": "`jax.checkpoint` as an object with rules",
    "jax_custom_vjp3": "`jax.custom_vjp` as an object with rules",
    "jax_custom_jvp3": "`jax.custom_jvp` as an object with rules",
    "jax_remat3,jax_remat_barrier_no_cotangents": "the barrier of a recomputation does not hold the cotangents",
}
"""Flags of the newest JAX that turn on parts of a later one -> what they change. ``.ci/run tomorrow`` tests each row."""


@dataclasses.dataclass(frozen=True)
class FlagLimit:
    """Something that JAX cannot do with a flag.

    Attributes:
        flag: the flag.
        tests: the tests that are not run, all of a name or one of them, as ``test(case)``; none if JAX raises the error.
        reason: what JAX does.
        error: a part of JAX's message, by which a test that fails for this reason is recognised; empty with ``tests``.
    """

    flag: str
    tests: tuple[str, ...]
    reason: str
    error: str


_RECOMPUTED = (
    "remat",
    "remat_with_nothing_saveable",
    "remat_with_dots_saveable",
    "remat_in_remat",
    "grad_of_scan_of_remat",
    "grad_of_remat_of_custom_vjp",
)

_DROPPED = ("scan_of_scan", "fori_loop", "scan_in_cond", "scan_in_shard_map")

FLAG_LIMITS = (
    FlagLimit("jax_scan3", (), "JAX cannot map a scan.", "Scan3'> must implement `batch`"),
    FlagLimit(
        "jax_scan3",
        (),
        "JAX cannot differentiate a scan in reverse mode.",
        "Scan3'> must implement `vjp_fwd`",
    ),
    FlagLimit(
        "jax_scan3",
        (),
        "JAX cannot evaluate a scan outside of jit.",
        "was called on traced array with shape int32[]",
    ),
    FlagLimit(
        "jax_scan3",
        (),
        "JAX cannot evaluate a scan in a shard_map outside of jit.",
        "Eager shard_map cannot return a `jax.Ref`",
    ),
    FlagLimit(
        "jax_scan3",
        (),
        "JAX cannot evaluate a scan of length zero.",
        "index is out of bounds for axis 0 with size 0",
    ),
    FlagLimit(
        "jax_scan3",
        (
            *(f"test_{way}({case})" for way in ("output", "callback") for case in _DROPPED),
            *(f"test_no_instrument({case})" for case in (*_DROPPED, "while_loop_of_scan")),
            *(f"test_eager({case})" for case in ("scan_in_cond", "while_loop_of_scan")),
            "test_random_compositions",
            "test_transfer_guard",
            "test_checks_of_streamed_loops",
            "test_x64",
            "test_bfloat16(no_instrument)",
            "test_compiled_ahead_of_time",
            "test_compiled_ahead_of_time_without_instrument",
            "test_export(no_instrument)",
            "test_not_differentiated(scan-custom_jvp_in_scan)",
            "test_differentiated(custom_jvp_in_scan-jvp)",
            "test_differentiated(custom_jvp_in_scan-linearize)",
        ),
        "JAX drops a scan whose stacked results are not read, with its reports, and its carry keeps the first value.",
        "",
    ),
    FlagLimit("jax_scan3", ("test_no_instrument(reverse_scan)",), "JAX ignores `reverse`.", ""),
    FlagLimit(
        "jax_remat3",
        (
            *(f"test_{way}({case})" for way in ("no_instrument", "eager") for case in _RECOMPUTED),
            *(f"test_differentiated({rule}-remat)" for rule in ("custom_vjp", "custom_jvp")),
            "test_weights(no_instrument-vmap_of_grad_of_remat)",
        ),
        "JAX repeats callbacks in the recomputation, also those of an instrumented function inside `jax.checkpoint`.",
        "",
    ),
    FlagLimit(
        "jax_remat3",
        tuple(f"test_{way}(grad_of_remat_of_custom_vjp)" for way in ("output", "callback")),
        "JAX runs the forward rule of a custom derivative only in the recomputation, and before that the function itself.",
        "",
    ),
)


def flag_limit_of(test: str, error: BaseException | None = None) -> FlagLimit | None:
    """Return the limit that a flag in use sets for a test, or that an error names; None if there is none."""
    found = [
        limit
        for limit in FLAG_LIMITS
        if getattr(jax.config, limit.flag, False)
        and (
            {test, test.partition("(")[0]} & {*limit.tests}
            or (limit.error and limit.error in str(error))
        )
    ]
    return found[0] if found else None


if __name__ == "__main__":  # for .ci/run
    print(*FLAGS)  # noqa: T201

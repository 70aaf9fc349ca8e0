"""Limits of JAX itself with the flags that turn on parts of a later JAX, each with a program that shows it.

The programs use JAX alone, and assert what JAX does without the flag. ``test_flags.py`` runs each with and without its flag,
so that a limit that JAX has lifted is found.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax import lax
from jax.extend.core import Primitive
from jax.sharding import PartitionSpec as P

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
        error: a part of JAX's message, by which a test that fails for this reason is recognized. With ``tests``, JAX raises
            nothing, and the message is that of ``program``.
        program: a program without reports that raises the error.
    """

    flag: str
    tests: tuple[str, ...]
    reason: str
    error: str
    program: Callable[[], None]


# --- Programs of JAX alone ------------------------------------------------------------------------

XS = np.arange(4, dtype=np.float32)


def _partial_sums(start: Any, xs: Any, *, reverse: bool = False) -> Any:
    return lax.scan(lambda total, x: (total + x, total), start, xs, reverse=reverse)


def map_scan() -> None:
    jax.jit(jax.vmap(lambda x: _partial_sums(x, XS)))(XS)


def differentiate_scan() -> None:
    jax.jit(jax.grad(lambda x: _partial_sums(x, XS)[1].sum()))(1.0)


def scan_outside_of_jit() -> None:
    _partial_sums(0.0, XS)


def scan_outside_of_jit_on_a_mesh() -> None:
    mesh = jax.make_mesh((2,), ("d",), axis_types=(jax.sharding.AxisType.Auto,))
    spec = P("d")
    shard = jax.shard_map(
        lambda xs: _partial_sums(xs[0], xs)[1], mesh=mesh, in_specs=spec, out_specs=spec
    )
    shard(XS)


def scan_of_length_zero() -> None:
    jax.jit(lambda: _partial_sums(0.0, XS[:0]))()


def carry_alone() -> None:
    total = jax.jit(lambda: _partial_sums(0.0, XS)[0])()
    assert total == 6, f"the sum of 0, 1, 2, 3 is {float(total)}"


def reverse_scan() -> None:
    partial = jax.jit(lambda: _partial_sums(0.0, XS, reverse=True)[1])()
    assert partial.tolist() == [6, 5, 3, 0], f"the partial sums from the end are {partial.tolist()}"


note_p = Primitive("note")
note_p.multiple_results = True


@note_p.def_effectful_abstract_eval
def _note_abstract_eval(*, name: str) -> tuple[list[object], set[object]]:
    return [], {jax.debug.DebugEffect()}


def _notes(function: Callable[[jax.Array], jax.Array]) -> list[str]:
    """Return the effects in the gradient of a remat of a function, in the order of the program."""
    gradient = jax.make_jaxpr(jax.grad(jax.checkpoint(function)))(2.0)
    return re.findall(r"note\[name=(\w+)\]", str(gradient))


def remat_with_effect() -> None:
    def function(x: jax.Array) -> jax.Array:
        note_p.bind(name="function")
        return jax.numpy.sin(jax.numpy.sin(x))

    notes = _notes(function)
    assert notes == ["function"], f"a remat has the effects of {notes}"


def remat_of_custom_vjp() -> None:
    @jax.custom_vjp
    def function(x: jax.Array) -> jax.Array:
        note_p.bind(name="function")
        return jax.numpy.sin(x)

    def forward(x: jax.Array) -> tuple[jax.Array, jax.Array]:
        note_p.bind(name="forward")
        return jax.numpy.sin(x), x

    function.defvjp(forward, lambda x, g: (g * x,))
    notes = _notes(function)
    assert notes == ["forward"], f"a remat has the effects of {notes}"


# --- Limits ---------------------------------------------------------------------------------------

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
    FlagLimit(
        "jax_scan3", (), "JAX cannot map a scan.", "Scan3'> must implement `batch`", map_scan
    ),
    FlagLimit(
        "jax_scan3",
        (),
        "JAX cannot differentiate a scan in reverse mode.",
        "Scan3'> must implement `vjp_fwd`",
        differentiate_scan,
    ),
    FlagLimit(
        "jax_scan3",
        (),
        "JAX cannot evaluate a scan outside of jit.",
        "was called on traced array with shape int32[]",
        scan_outside_of_jit,
    ),
    FlagLimit(
        "jax_scan3",
        (),
        "JAX cannot evaluate a scan in a shard_map outside of jit.",
        "Eager shard_map cannot return a `jax.Ref`",
        scan_outside_of_jit_on_a_mesh,
    ),
    FlagLimit(
        "jax_scan3",
        (),
        "JAX cannot evaluate a scan of length zero.",
        "index is out of bounds for axis 0 with size 0",
        scan_of_length_zero,
    ),
    FlagLimit(
        "jax_scan3",
        (
            *(f"test_{way}({case})" for way in ("output", "callback") for case in _DROPPED),
            *(f"test_no_instrument({case})" for case in (*_DROPPED, "while_loop_of_scan")),
            *(f"test_eager({case})" for case in ("scan_in_cond", "while_loop_of_scan")),
            "test_random_compositions",
            "test_not_differentiated(scan-custom_jvp_in_scan)",
            "test_differentiated(custom_jvp_in_scan-jvp)",
            "test_differentiated(custom_jvp_in_scan-linearize)",
        ),
        "JAX drops a scan whose stacked results are not read, with its reports, and its carry keeps the first value.",
        "the sum of 0, 1, 2, 3 is 0.0",
        carry_alone,
    ),
    FlagLimit(
        "jax_scan3",
        ("test_no_instrument(reverse_scan)",),
        "JAX ignores `reverse`.",
        "the partial sums from the end are [0.0, 0.0, 1.0, 3.0]",
        reverse_scan,
    ),
    FlagLimit(
        "jax_remat3",
        (
            *(f"test_{way}({case})" for way in ("no_instrument", "eager") for case in _RECOMPUTED),
            *(f"test_differentiated({rule}-remat)" for rule in ("custom_vjp", "custom_jvp")),
            "test_weights(no_instrument-vmap_of_grad_of_remat)",
        ),
        "JAX repeats callbacks in the recomputation, also those of an instrumented function inside `jax.checkpoint`.",
        "a remat has the effects of ['function', 'function']",
        remat_with_effect,
    ),
    FlagLimit(
        "jax_remat3",
        tuple(f"test_{way}(grad_of_remat_of_custom_vjp)" for way in ("output", "callback")),
        "JAX runs the forward rule of a custom derivative only in the recomputation, and before that the function itself.",
        "a remat has the effects of ['function', 'forward']",
        remat_of_custom_vjp,
    ),
)
"""All limits."""


def flag_limit_of(test: str, error: BaseException | None = None) -> FlagLimit | None:
    """Return the limit that a flag in use sets for a test, or that an error names; None if there is none."""
    found = [
        limit
        for limit in FLAG_LIMITS
        if getattr(jax.config, limit.flag, False)
        and (
            {test, test.partition("(")[0]} & {*limit.tests}
            or (not limit.tests and limit.error in str(error))
        )
    ]
    return found[0] if found else None


if __name__ == "__main__":  # for .ci/run
    print(*FLAGS)  # noqa: T201

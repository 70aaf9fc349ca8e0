"""What differs between JAX versions, and what JAX offers without documenting it. Nothing else does.

Each shim says for which versions it is, why, and when it can go. Supported: JAX 0.8.3 and newer. Its
series is the first that needs Python 3.11 and whose ``make_user_context`` is part of every cache key.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import re
import sys
import types
from collections.abc import Iterator
from typing import Any

import jax
import jax.extend.core as jex
from jax.interpreters import ad, mlir

JAXPR_TYPES = (jex.Jaxpr, jex.ClosedJaxpr)


@functools.cache
def report_effects() -> frozenset[Any]:
    """An effect that JAX allows inside control flow, remat and custom derivatives.

    Which effects it allows can't be told by public means, so ours is the one that ``jax.debug.callback``
    has. Remove when JAX lets a library register such an effect.
    """
    return frozenset(jax.make_jaxpr(lambda: jax.debug.callback(lambda: None))().effects)


# `jax.core.get_opaque_trace_state` up to 0.9. Remove with 0.9.
_trace_state = getattr(jex, "get_opaque_trace_state", None) or jax.core.get_opaque_trace_state  # type: ignore[attr-defined]
_TOP = _trace_state(convention="nnx")


def at_top_level() -> bool:
    """Whether no JAX transformation is tracing the code that runs now, on this thread."""
    return _trace_state(convention="nnx") == _TOP


# Whether somebody records a trace now, JAX or TensorBoard's "Capture profile". An annotation costs a
# microsecond even if nobody does; and JAX, which hears of TensorBoard's only when it stops its own, can't
# start another one after that. It is there in every supported version, though no documentation names it.
trace_is_on = getattr(jax.profiler.TraceAnnotation, "is_enabled", lambda: False)


# "JitTracer(float32[])"; up to 0.8 also "Traced<float32[]>with<DynamicJaxprTrace>".
_TRACER = re.compile(r"(?:Tracer|\bTraced)[<(]")


def mentions_tracer(text: str) -> bool:
    """Return whether a text contains a tracer, formatted by ``str`` or an f-string."""
    return _TRACER.search(text) is not None


def jit_is_disabled() -> bool:
    """Whether ``jax.disable_jit`` is in force: everything runs eagerly then."""
    return bool(getattr(jax.config, "jax_disable_jit", False))


def results_are_checked() -> bool:
    """Whether JAX raises where a jitted function returns NaN, or infinity: a hidden output would be checked too.

    The attribute is no documented one. Read from ``jax.config`` it takes three times as long.
    """
    return bool(jax.debug_nans.value or jax.debug_infs.value)


def unchecked() -> contextlib.AbstractContextManager[Any]:
    """In this block NaN and infinity are results like others."""
    if not results_are_checked():
        return contextlib.nullcontext()
    stack = contextlib.ExitStack()
    stack.enter_context(jax.debug_nans(False))
    stack.enter_context(jax.debug_infs(False))
    return stack


def open_jaxpr(jaxpr: Any) -> tuple[Any, tuple[Any, ...]]:
    """Jaxpr and constants. One class has both from 0.12, two have before. Remove with 0.11."""
    consts = getattr(jaxpr, "consts", None)
    return getattr(jaxpr, "jaxpr", jaxpr), tuple(consts or ())


def make_jaxpr(invars: list[Any], outvars: list[Any], eqns: list[Any], debug_info: Any) -> Any:
    """A jaxpr of some equations of another one."""
    effects = set().union(*[eqn.effects for eqn in eqns])
    # Its argument names are those of the other jaxpr, and `jax_enable_checks` counts them.
    debug_info = debug_info.with_unknown_names()
    return jex.Jaxpr((), invars, outvars, eqns, effects, debug_info=debug_info)


def hidden_jaxprs(eqn: Any) -> list[Any]:
    """The jaxprs in the object that is the primitive of a "hijax" equation.

    From 0.12 some of JAX's own functions (``lax.custom_root``) are such equations. Remove when their
    jaxprs are parameters of the equation.
    """
    hidden = eqn.params.get("_prim")
    candidates = [getattr(hidden, "jaxpr", None), *(getattr(hidden, "params", None) or {}).values()]
    return [jaxpr for jaxpr in candidates if isinstance(jaxpr, JAXPR_TYPES)]


def expanded(eqn: Any, operands: list[Any]) -> Any:
    """What a "hijax" equation stands for, as a closed jaxpr; None where it has to stay one."""
    hidden = eqn.params["_prim"]
    # With a jaxpr of its own it is a checkpoint (`jax_remat3`), which keeps values apart on purpose.
    if getattr(hidden, "jaxpr", None) is not None or not hasattr(hidden, "expand"):
        return None

    def expand(*flat: Any) -> list[Any]:
        return jax.tree.leaves(hidden.expand(*jax.tree.unflatten(hidden.in_tree, flat)))

    return jax.make_jaxpr(expand)(*operands)


def varying(value: Any) -> frozenset[str]:
    """The mesh axes along which a value (or an aval) differs between devices, inside ``shard_map``.

    ``vma`` up to 0.9, ``manual_axis_type`` from 0.10. Remove the former with 0.9.
    """
    aval = value if hasattr(value, "weak_type") and not isinstance(value, jax.Array) else None
    aval = jax.typeof(value) if aval is None else aval
    kind = getattr(aval, "manual_axis_type", None)
    return frozenset((getattr(aval, "vma", None) or ()) if kind is None else kind.varying)


def zero_tangent(primal: Any) -> ad.Zero:
    """The tangent of what does not move. ``jax.custom_jvp`` has it by another name, for rules of its own only."""
    return ad.Zero(jax.typeof(primal).to_tangent_aval())


def vary(value: Any, axes: frozenset[str]) -> Any:
    """The value as one that differs between devices along ``axes`` too, inside ``shard_map``."""
    missing = tuple(sorted(axes - varying(value)))
    return jax.lax.pcast(value, missing, to="varying") if missing else value


def manual_axes(eqn: Any) -> tuple[str, ...]:
    """The mesh axes that a ``shard_map`` makes manual. Renamed in 0.10: remove the other with 0.9."""
    params = eqn.params
    manual = params.get("newly_manual_axes") or params.get("manual_axes")
    return tuple(axis for axis in params["mesh"].axis_names if axis in manual)


@contextlib.contextmanager
def context_of(eqn: Any) -> Iterator[None]:
    """Enters what an equation was traced in: configuration and name stack."""
    with contextlib.ExitStack() as stack:
        manager = getattr(getattr(eqn, "ctx", None), "manager", None)
        if manager is not None:
            stack.enter_context(manager)
        name = str(eqn.source_info.name_stack)
        if name:
            stack.enter_context(jax.named_scope(name))
        yield


def is_jitted(function: Any) -> bool:
    """Whether ``function`` is what ``jax.jit`` returns."""
    return type(function).__name__ == "PjitFunction"


def jit_options(function: Any) -> dict[str, Any]:
    """The options that ``jax.jit`` was given, from the state that its result is pickled by.

    Raises:
        Exception: this JAX keeps them elsewhere. Remove when JAX tells them (jax#9298).
    """
    state = function.__getstate__()
    key = state["global_cache_key"]
    options = {
        "static_argnums": tuple(state["static_argnums"]),
        "static_argnames": tuple(state["static_argnames"]),
        "donate_argnums": tuple(key.donate_argnums),
        "donate_argnames": tuple(key.donate_argnames),
        "in_shardings": jax.tree.unflatten(key.in_shardings_treedef, key.in_shardings_leaves),
        "out_shardings": jax.tree.unflatten(key.out_shardings_treedef, key.out_shardings_leaves),
        "device": key.device,
        "backend": key.backend,
        "compiler_options": dict(key.compiler_options_kvs),
    }
    return {
        name: value
        for name, value in options.items()
        if value not in ((), None, {}) and type(value).__name__ != "UnspecifiedValue"
    }


def sharding_of(sharding: Any) -> jax.sharding.Sharding | None:
    """A sharding in an equation's parameters, None where none was asked for."""
    return sharding if isinstance(sharding, jax.sharding.Sharding) else None


def can_call_python(ctx: Any) -> bool:
    """Whether a lowering may call Python with NumPy arrays directly.

    XLA refuses a side effect without a sharding where a program is partitioned, so: one device, or a
    program whose mesh axes are all manual.
    """
    axes = ctx.module_context.axis_context
    match type(axes).__name__:
        case "ShardingContext":
            return getattr(axes, "num_devices", 2) == 1
        case "SPMDAxisContext":
            # Up to 0.8 an inner shard_map names only its own axes here; the types of its values know all. Of
            # later versions they say the same: remove with 0.8.
            kinds = [frozenset(aval.sharding.mesh.manual_axes) for aval in ctx.avals_in]
            return frozenset(axes.mesh.axis_names) in (frozenset(axes.manual_axes), *kinds)
        case _:
            return False


def call_python(ctx: Any, function: Any, operands: Any) -> Any:
    """Lowers to a call of ``function`` with NumPy arrays: no JAX between, and no device transfer."""
    results, *_ = mlir.emit_python_callback(
        ctx, function, None, list(operands), ctx.avals_in, ctx.avals_out, has_side_effect=True
    )
    return results


def profile_options(**options: Any) -> jax.profiler.ProfileOptions:
    """Options for a trace, without those that this JAX doesn't have.

    Up to 0.11 it takes any name in silence; from 0.12 it raises. Remove with 0.11.
    """
    made = jax.profiler.ProfileOptions()
    for name, value in options.items():
        if hasattr(type(made), name):
            setattr(made, name, value)
    return made


def keep_tensorflow_working() -> None:
    """Undoes, and prevents, what JAX's profiler does to TensorFlow.

    Up to 0.9 it assigns a bool to what is a function in ``tensorflow.python.profiler.trace``; TensorFlow
    calls it in half of its operations, and these fail from the first trace on. Remove with 0.9.
    """
    trace: Any = sys.modules.get("tensorflow.python.profiler.trace")
    if jax.__version_info__ >= (0, 10) or trace is None:
        return

    class Kept(types.ModuleType):
        @property
        def enabled(self) -> Any:
            return vars(self)["enabled"]

        @enabled.setter
        def enabled(self, value: Any) -> None:
            pass

    internal = importlib.import_module("tensorflow.python.profiler.internal._pywrap_traceme")
    vars(trace)["enabled"] = internal.traceme_enabled
    trace.__class__ = Kept

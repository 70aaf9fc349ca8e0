"""Shims for JAX: the only file with version differences and undocumented behavior.

Each shim states which versions it serves, why it exists and when it can be removed. Supported is JAX 0.8.3 and
newer: the first series that requires Python 3.11 and has a ``make_user_context`` that is part of every cache
key. Names of primitives and their parameters are elsewhere; docs/jax_names.md lists them.
"""

from __future__ import annotations

import contextlib
import importlib
import re
import sys
import types
from collections.abc import Callable, Iterator, Sequence
from typing import Any, cast

import jax
import jax.core
import jax.extend.core as jex
from jax import Array
from jax.interpreters import ad, mlir

# --- The state of JAX -----------------------------------------------------------------------------

# JAX up to 0.9 has it in `jax.core`, because `jax.extend.core` got it in 0.10. Remove the former with 0.9.
_find_trace = getattr(jex, "find_top_trace", None) or jax.core.find_top_trace
_TOP = _find_trace(None)


def at_top_level() -> bool:
    """Return whether no JAX transformation is tracing the code that runs now, on this thread.

    All versions: JAX has no such predicate, and comparing opaque trace states takes three times as long. Remove when it has.
    """
    return _find_trace(None) is _TOP


trace_is_on: Callable[[], bool] = getattr(jax.profiler.TraceAnnotation, "is_enabled", lambda: False)
"""Return whether a profile is being recorded, by JAX or by TensorBoard's "Capture profile".

All versions have it, undocumented. It is needed because an annotation costs a microsecond even without a profile,
and because JAX, which notices TensorBoard's profile only when it stops its own, cannot start another one after
that. Remove when JAX documents such a predicate.
"""


# "JitTracer(float32[])"; up to 0.8 also "Traced<float32[]>with<DynamicJaxprTrace>".
_TRACER = re.compile(r"(?:Tracer|\bTraced)[<(]")


def mentions_tracer(text: str) -> bool:
    """Return whether a text contains a tracer, formatted by ``str`` or an f-string."""
    return _TRACER.search(text) is not None


_config: Any = jax.config
_debug_nans, _debug_infs = jax.debug_nans, jax.debug_infs


def jit_is_disabled() -> bool:
    """Return whether ``jax.disable_jit`` is active, so that everything runs eagerly.

    All versions: the attribute of ``jax.config`` is not documented. Remove when a way to read the option is.
    """
    return bool(_config.jax_disable_jit)


def results_are_checked() -> bool:
    """Return whether JAX raises if a jitted function returns NaN or infinity, in a hidden output too.

    All versions: neither ``value`` nor the attribute of ``jax.config`` is documented. Remove when one is.
    """
    return bool(_debug_nans.value or _debug_infs.value)


def jit_is_usual() -> bool:
    """Return whether neither :func:`jit_is_disabled` nor :func:`results_are_checked` holds. Each call asks this."""
    return not (_debug_nans.value or _debug_infs.value or _config.jax_disable_jit)


def scan_is_incomplete() -> bool:
    """Return whether ``scan`` is the primitive of ``jax_scan3``, which cannot be mapped, differentiated or left unread.

    JAX from 0.10, if the flag is set. Remove when its ``Scan3`` has all rules and declares its effects.
    """
    return getattr(_config, "jax_scan3", False)


def unchecked() -> contextlib.AbstractContextManager[object]:
    """Return a context manager that lets functions return NaN and infinity.

    All versions: to enter both of JAX's context managers takes about 20 us, so this enters none unless a check
    is active. Remove together with :func:`results_are_checked`.
    """
    if not results_are_checked():
        return contextlib.nullcontext()
    stack = contextlib.ExitStack()
    stack.enter_context(jax.debug_nans(False))
    stack.enter_context(jax.debug_infs(False))
    return stack


# --- Jaxprs ---------------------------------------------------------------------------------------

JAXPR_TYPES = (jex.Jaxpr, jex.ClosedJaxpr)
"""The classes of jaxprs. JAX up to 0.11 has two, from 0.12 they are the same. Remove with 0.11."""


def open_jaxpr(jaxpr: jex.Jaxpr | jex.ClosedJaxpr) -> tuple[jex.Jaxpr, tuple[Array, ...]]:
    """Return a jaxpr without its constants, and the constants.

    JAX up to 0.11 has two classes, and an open jaxpr has no constants; from 0.12 one class has both. Remove
    with 0.11.
    """
    consts = getattr(jaxpr, "consts", None)
    return cast(jex.Jaxpr, getattr(jaxpr, "jaxpr", jaxpr)), tuple(consts or ())


def make_jaxpr(
    invars: list[jex.Var],
    outvars: list[jex.Var],
    eqns: list[jex.JaxprEqn],
    original: jex.Jaxpr,
) -> jex.Jaxpr:
    """Return a jaxpr of some equations of another jaxpr, whose source locations it keeps.

    All versions: the constructor is public, but ``jax_enable_checks`` requires as many argument names as
    arguments, and only the undocumented ``with_unknown_names`` drops the names of the other jaxpr. Remove
    when JAX can make a jaxpr of a subset of equations.
    """
    effects = set().union(*[eqn.effects for eqn in eqns])
    debug_info = original.debug_info.with_unknown_names()
    return jex.Jaxpr((), invars, outvars, eqns, effects, debug_info=debug_info)


def with_equations(
    jaxpr: jex.Jaxpr | jex.ClosedJaxpr, eqns: list[jex.JaxprEqn], effects: frozenset[Any]
) -> jex.Jaxpr | jex.ClosedJaxpr:
    """Return a jaxpr with other equations and effects.

    All versions: ``replace`` of a jaxpr and of an equation is not documented. JAX up to 0.11 keeps the equations
    of a ``ClosedJaxpr`` in the ``Jaxpr`` inside it. Remove when a documented function does this.
    """
    if isinstance(jaxpr, jex.Jaxpr):
        return jaxpr.replace(eqns=eqns, effects=effects)
    return jaxpr.replace(jaxpr=jaxpr.jaxpr.replace(eqns=eqns, effects=effects))


def with_params(eqn: jex.JaxprEqn, params: dict[str, Any], effects: frozenset[Any]) -> jex.JaxprEqn:
    """Return an equation with other parameters and effects.

    All versions: see :func:`with_equations`.
    """
    return eqn.replace(params=params, effects=effects)


def aval_of(var: jex.Var | jex.Literal) -> jax.core.ShapedArray:
    """Return the type of a variable as that of an array.

    All versions: ``Var.aval`` is annotated as any abstract value, which need not have a shape. Remove when
    the annotation is more precise.
    """
    return cast(jax.core.ShapedArray, var.aval)


@contextlib.contextmanager
def context_of(eqn: jex.JaxprEqn) -> Iterator[None]:
    """Enter the configuration and the name stack in which an equation was traced.

    All versions: ``jax.core.eval_jaxpr`` does so for the equations it evaluates, but neither the equation's
    ``ctx`` nor the name stack can be entered by documented means. Remove when one can.
    """
    with contextlib.ExitStack() as stack:
        manager = getattr(getattr(eqn, "ctx", None), "manager", None)
        if manager is not None:
            stack.enter_context(manager)
        name = str(eqn.source_info.name_stack)
        if name:
            stack.enter_context(jax.named_scope(name))
        yield


def is_recomputation(eqn: jex.JaxprEqn) -> bool:
    """Return whether an equation with effects repeats one that has taken place.

    JAX from 0.10, with ``jax_remat3``: the recomputation repeats the effects of the first computation, and only its name
    shows that it does. Without the flag it repeats none. Remove when a primitive can refuse to be repeated.
    """
    name = str(eqn.source_info.name_stack)
    return getattr(_config, "jax_remat3", False) and "rematted_computation" in name


def zero_tangent(primal: Array) -> ad.Zero:
    """Return the tangent of a value that does not depend on the differentiated arguments.

    All versions: ``Zero`` takes the type of the tangent, which only the undocumented ``to_tangent_aval``
    gives. Remove when ``Zero`` accepts a primal.
    """
    return ad.Zero(jax.typeof(primal).to_tangent_aval())


def register_jet_rule(primitive: jex.Primitive, rule: Callable[..., Any]) -> None:
    """Register the Taylor-mode rule of a primitive, if the program has imported ``jax.experimental.jet``.

    All versions: the table of rules is not documented, and without a rule ``jet`` refuses the primitive. Importing
    the module takes as long as half of jaxboard. Remove when ``jet`` accepts primitives with effects.
    """
    jet = sys.modules.get("jax.experimental.jet")
    if jet is not None:
        getattr(jet, "jet_rules", {}).setdefault(primitive, rule)


# --- Meshes and shardings -------------------------------------------------------------------------


def varying(value: Array | jax.core.ShapedArray) -> frozenset[str]:
    """Return the mesh axes along which a value differs between devices, inside ``shard_map``.

    JAX up to 0.9 keeps them in ``vma``, from 0.10 in ``manual_axis_type``. Remove the former with 0.9.

    Args:
        value: an array, or the type of one.
    """
    is_type = hasattr(value, "weak_type") and not isinstance(value, jax.Array)
    aval = value if is_type else jax.typeof(value)
    manual = getattr(aval, "manual_axis_type", None)
    return frozenset((getattr(aval, "vma", None) or ()) if manual is None else manual.varying)


def vary(value: Array, axes: frozenset[str]) -> Array:
    """Return a value as one that also differs between devices along ``axes``, inside ``shard_map``.

    All versions: ``pcast`` raises if the value already varies along the axis. Remove when it does not.
    """
    missing = tuple(sorted(axes - varying(value)))
    return jax.lax.pcast(value, missing, to="varying") if missing else value


def manual_axes(eqn: jex.JaxprEqn) -> tuple[str, ...]:
    """Return the mesh axes that a ``shard_map`` equation makes manual.

    JAX up to 0.9 names the parameter ``manual_axes``, from 0.10 ``newly_manual_axes``. Remove the former
    with 0.9.
    """
    params = eqn.params
    manual = params.get("newly_manual_axes") or params.get("manual_axes")
    return tuple(axis for axis in params["mesh"].axis_names if axis in manual)


def sharding_of(sharding: object) -> jax.sharding.Sharding | None:
    """Return a sharding among an equation's parameters, or None if none was requested.

    All versions: the placeholder for "none" is of a private class. Remove when it is None.
    """
    return sharding if isinstance(sharding, jax.sharding.Sharding) else None


# --- Jitted functions -----------------------------------------------------------------------------


def is_jitted(function: object) -> bool:
    """Return whether ``jax.jit`` made a function.

    All versions: the class has no public name. Remove when it has.
    """
    return type(function).__name__ == "PjitFunction"


def jit_options(function: Any) -> dict[str, Any]:
    """Return the options that ``jax.jit`` received, from the state that pickles its result.

    All versions: JAX does not expose them (https://github.com/jax-ml/jax/issues/9298). Remove when it does.

    Raises:
        Exception: this version of JAX keeps them elsewhere.
    """
    state = function.__getstate__()
    key, info = state["global_cache_key"], getattr(function, "_jit_info", None)
    options = {
        "static_argnums": tuple(state["static_argnums"]),
        "static_argnames": tuple(state["static_argnames"]),
        "donate_argnums": tuple(key.donate_argnums),
        "donate_argnames": tuple(key.donate_argnames),
        "in_shardings": _shardings_of(key, "in"),
        "out_shardings": _shardings_of(key, "out"),
        "device": key.device,
        "backend": key.backend,
        "compiler_options": dict(key.compiler_options_kvs),
        # Not part of the pickled state. Neither changes results; JAX 0.12 has an enum for the second.
        "keep_unused": getattr(info, "keep_unused", False) or None,
        "inline": getattr(info, "inline", False) is True or None,
    }
    return {
        name: value
        for name, value in options.items()
        if value not in ((), None, {}) and type(value).__name__ != "UnspecifiedValue"
    }


def _shardings_of(key: Any, side: str) -> Any:
    """Return the ``in_shardings`` or ``out_shardings`` in a key, with the layouts that JAX stores separately."""
    leaves = getattr(key, f"{side}_shardings_leaves")
    layouts = getattr(key, f"{side}_layouts_leaves", ())
    if any(layout is not None for layout in layouts) and len(layouts) == len(leaves):
        from jax.experimental.layout import Format

        leaves = [
            sharding if layout is None else Format(layout, sharding)
            for layout, sharding in zip(layouts, leaves, strict=True)
        ]
    return jax.tree.unflatten(getattr(key, f"{side}_shardings_treedef"), leaves)


# --- Callbacks ------------------------------------------------------------------------------------


def can_call_python(ctx: mlir.LoweringRuleContext) -> bool:
    """Return whether a lowering may call Python with NumPy arrays directly.

    All versions: XLA refuses a side effect without a sharding in a partitioned program, so the program must
    be for one device, or all its mesh axes must be manual; only undocumented attributes show which. Remove
    when a side effect needs no sharding.
    """
    axes: Any = ctx.module_context.axis_context
    match type(axes).__name__:
        case "ShardingContext":
            return getattr(axes, "num_devices", 2) == 1
        case "SPMDAxisContext":
            # Up to JAX 0.8 an inner shard_map names only its own axes here, and the types of its values name all.
            # In later versions both agree. Remove `kinds` with 0.8.
            avals = cast(Sequence[jax.core.ShapedArray], ctx.avals_in)
            kinds = [frozenset(aval.sharding.mesh.manual_axes) for aval in avals]
            return frozenset(axes.mesh.axis_names) in (frozenset(axes.manual_axes), *kinds)
        case _:
            return False


def call_python(
    ctx: mlir.LoweringRuleContext,
    function: Callable[..., tuple[Array, ...]],
    operands: Sequence[Any],
) -> Sequence[Any]:
    """Lower to a call of ``function`` with NumPy arrays, without JAX or a device transfer between.

    All versions: ``emit_python_callback`` is public but not documented, and a documented callback passes JAX
    arrays at several times the cost. Remove when a documented callback can pass NumPy arrays.
    """
    avals_in, avals_out = (
        cast(Sequence[jax.core.ShapedArray], avals) for avals in (ctx.avals_in, ctx.avals_out)
    )
    results, *_ = mlir.emit_python_callback(
        ctx, function, None, list(operands), avals_in, avals_out, has_side_effect=True
    )
    return results


# --- Compiled programs ----------------------------------------------------------------------------


def live_executables() -> list[Any]:
    """Return the compiled programs that exist in this process, the latest first.

    All versions: the client that ``jax.extend.backend`` returns is not documented. Remove when JAX lists its programs.
    """
    from jax.extend import backend

    return list(backend.get_backend().live_executables())


# --- Profiles -------------------------------------------------------------------------------------


def profile_options(
    **options: int | bool | str | dict[str, int | bool | str],
) -> jax.profiler.ProfileOptions:
    """Return the options of a trace, without those that this version of JAX does not have.

    JAX up to 0.11 accepts any name silently; from 0.12 it raises. Remove with 0.11.
    """
    known = jax.profiler.ProfileOptions()
    for name, value in options.items():
        if hasattr(type(known), name):
            setattr(known, name, value)
    return known


ProfileSession: Any = getattr(jax.profiler, "ProfileSession", None)
"""A trace in memory; None up to JAX 0.11. Remove with 0.11."""


def keep_tensorflow_working() -> None:
    """Undo, and prevent, the damage that JAX's profiler does to TensorFlow.

    JAX up to 0.9 assigns a bool to a function in ``tensorflow.python.profiler.trace``. TensorFlow calls that
    function in half of its operations, and these fail after the first trace. Remove with 0.9.
    """
    trace: Any = sys.modules.get("tensorflow.python.profiler.trace")
    if jax.__version_info__ >= (0, 10) or trace is None:
        return
    internal = importlib.import_module("tensorflow.python.profiler.internal._pywrap_traceme")
    if not hasattr(internal, "traceme_enabled"):
        return  # TensorFlow up to 2.20 has a bool there, too.

    class ProtectedModule(types.ModuleType):
        @property
        def enabled(self) -> Callable[[], bool]:
            return vars(self)["enabled"]

        @enabled.setter
        def enabled(self, value: object) -> None:
            pass

    vars(trace)["enabled"] = internal.traceme_enabled
    trace.__class__ = ProtectedModule

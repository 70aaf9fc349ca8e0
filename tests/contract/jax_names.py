"""The names that jaxboard needs of JAX, Flax and Equinox, and that these may change without notice.

Each function checks one thing, and fails if it has changed. ``PYTHONPATH=tests python -m contract.jax_names`` writes the
table in ``docs/jax_names.md``.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import pathlib
import re
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.core
import jax.extend.core as jex
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.extend import source_info_util
from jax.interpreters import ad, batching, mlir
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

from jaxboard import _compat
from jaxboard._telemetry.hlo_buffers import largest_buffers
from jaxboard._trace import hijax
from jaxboard._trace.masks import MappedCondTracker
from jaxboard._trace.rules.table import RULES, rule_of

PAGE = pathlib.Path(__file__).parents[2] / "docs" / "jax_names.md"

HEAD = """\
# Names that JAX may change

jaxboard imports no private module of JAX. Some of what it needs is public but undocumented: names and parameters of
primitives, attributes, events. This table lists all of it; `PYTHONPATH=tests python -m contract.jax_names` writes it from the
checks in [`tests/contract/jax_names.py`](../tests/contract/jax_names.py).

After a new release of JAX, run `.ci/run newest`. A test `test_name[...]` that fails reports what JAX has changed and which file
below `jaxboard/` depends on it. Adapt that file, or `_compat.py` if both forms have to work.

| check | file | depends on |
|---|---|---|
"""

TAIL = """\

Other tests check

- the names of planes, lines and events in a recorded trace (`_profile/trace_reader.py`, `trace_events.py` and `device_timeline.py` beside
  it): `tests/profile/test_spans.py`;
- the names of JAX's functions on the stack of a thread that compiles (`_job/phases.py`): `tests/job/test_phases.py`.

A CPU has no `memory_stats()`, whose keys `_telemetry/device_memory.py` reads, so no test checks them.
"""


@dataclasses.dataclass(frozen=True)
class Name:
    """Something that may change.

    Attributes:
        check: raises if it has changed.
        files: the files below ``jaxboard/`` that depend on it.
        what: a description.
    """

    check: Callable[[], None]
    files: tuple[str, ...]
    what: str

    @property
    def name(self) -> str:
        """The name of the check."""
        return self.check.__name__

    def changed(self, error: Exception) -> str:
        """Return the message of a test that fails."""
        files = ", ".join(f"jaxboard/{file}" for file in self.files)
        return (
            f"JAX {jax.__version__} has changed something that {files} depends on: {self.what}.\n"
            f"{type(error).__name__}: {error}\n"
            "Adapt that file, or jaxboard/_compat.py if both forms have to work."
        )


NAMES: list[Name] = []


def needed_by(*files: str, what: str) -> Callable[[Callable[[], None]], Callable[[], None]]:
    """Return a decorator that registers a check."""

    def register(check: Callable[[], None]) -> Callable[[], None]:
        NAMES.append(Name(check, files, what))
        return check

    return register


def text() -> str:
    """Return the page."""
    rows = [f"| `{n.name}` | {', '.join(f'`{f}`' for f in n.files)} | {n.what} |" for n in NAMES]
    return HEAD + "\n".join(rows) + "\n" + TAIL


@contextlib.contextmanager
def flag(name: str) -> Iterator[None]:
    """Set a flag of JAX, or skip the test if JAX lacks it."""
    before = getattr(jax.config, name, None)
    if before is None:
        pytest.skip(f"this JAX has no flag {name}")
    jax.config.update(name, True)
    try:
        yield
    finally:
        jax.config.update(name, before)


def equation(function: Callable[..., Any], *args: Any, name: str | None = None) -> jex.JaxprEqn:
    """Return the last equation of a function, or the one of the primitive ``name``; it must have a rule."""
    eqns = jax.make_jaxpr(function)(*args).eqns
    found = [eqn for eqn in eqns if name in (None, eqn.primitive.name)]
    assert found, f"there is no equation {name!r} among {[e.primitive.name for e in eqns]}"
    assert name or rule_of(found[-1]), f"{hijax.name_of(found[-1])!r} has no rule"
    return found[-1]


def require(params: Any, *names: str) -> None:
    """Check that parameters or an object have names."""
    found = params if isinstance(params, dict) else dir(params)
    missing = [name for name in names if name not in found]
    assert not missing, f"{', '.join(missing)} missing among {sorted(found)}"


X = jnp.float32(1)
XS = jnp.arange(3.0)


# --- Primitives -----------------------------------------------------------------------------------


@needed_by(
    "_trace/rules/calls.py",
    "_graph/equations.py",
    what="`jit`: `jaxpr`, `name`, and `in_shardings`, `out_shardings`, one for each value",
)
def jit() -> None:
    eqn = equation(jax.jit(lambda x, y: (x, y + 1)), X, X)
    require(eqn.params, "jaxpr", "name", "in_shardings", "out_shardings")
    assert len(eqn.params["in_shardings"]) == len(eqn.invars)
    assert len(eqn.params["out_shardings"]) == len(eqn.outvars)
    assert _compat.sharding_of(eqn.params["in_shardings"][0]) is None


@needed_by("_trace/rules/table.py", what="`custom_jvp_call`: `call_jaxpr`")
def custom_jvp() -> None:
    f = jax.custom_jvp(jnp.sin)
    f.defjvp(lambda primals, tangents: (f(*primals), tangents[0]))
    require(equation(f, X).params, "call_jaxpr")


@needed_by("_trace/rules/table.py", what="`custom_vjp_call`: `call_jaxpr`")
def custom_vjp() -> None:
    f = jax.custom_vjp(jnp.sin)
    f.defvjp(lambda x: (f(x), x), lambda x, g: (g,))
    require(equation(f, X).params, "call_jaxpr")


@needed_by(
    "_trace/rules/differentiable.py", "_trace/rules/table.py", what="`custom_vmap_call`: `call`"
)
def custom_vmap() -> None:
    batched = importlib.import_module("jax.custom_batching").custom_vmap(jnp.sin)
    batched.def_vmap(lambda size, mapped, x: (jnp.sin(x), True))
    eqn = equation(batched, X)
    assert eqn.primitive.name == "custom_vmap_call"
    require(eqn.params, "call")


@needed_by(
    "_trace/rules/calls.py",
    what="`custom_linear_solve`: `jaxprs.solve`, and `const_lengths` in the order of the operands",
)
def custom_linear_solve() -> None:
    def f(a, b):
        return lax.custom_linear_solve(lambda y: a * y, b, lambda matvec, b: b / a, symmetric=True)

    eqn = equation(f, X, X)
    require(eqn.params, "jaxprs", "const_lengths")
    assert eqn.params["const_lengths"]._fields[:3] == ("matvec", "vecmat", "solve")
    assert eqn.params["jaxprs"].solve is not None


@needed_by(
    "_trace/rules/calls.py",
    "_autopsy/bodies.py",
    what="remat: `jaxpr`, `differentiated`, `policy`, `prevent_cse`",
)
def remat() -> None:
    eqn = equation(jax.checkpoint(jnp.sin), X)
    require(eqn.params, "jaxpr", "differentiated", "policy", "prevent_cse")
    assert not _compat.open_jaxpr(eqn.params["jaxpr"])[1], "its body has constants"


@needed_by(
    "_trace/rules/loops.py",
    "_autopsy/bodies.py",
    "_autopsy/descriptions.py",
    what="`scan`: `jaxpr`, `length`, `reverse`, `unroll`; constants, carry and scanned arrays in this order",
)
def scan() -> None:
    def f(w, c, xs):
        return lax.scan(lambda c, x: (c + w, x), c, xs)

    eqn = equation(f, X, X, XS)
    require(eqn.params, "jaxpr", "length", "reverse", "unroll")
    assert [_compat.aval_of(var).shape for var in eqn.invars] == [(), (), (3,)]


@needed_by(
    "_trace/rules/loops.py",
    "_autopsy/causes.py",
    "_graph/equations.py",
    what="`while`: `cond_jaxpr`, `body_jaxpr`, `cond_nconsts`, `body_nconsts`",
)
def while_loop() -> None:
    eqn = equation(lambda x, y: lax.while_loop(lambda c: c < y, lambda c: c + x, x), X, X)
    require(eqn.params, "cond_jaxpr", "body_jaxpr", "cond_nconsts", "body_nconsts")


@needed_by(
    "_trace/rules/cond.py",
    "_autopsy/bodies.py",
    what="`cond`: `branches`; the index is the first operand",
)
def cond() -> None:
    eqn = equation(lambda i, x: lax.switch(i, [jnp.sin, jnp.cos], x), jnp.int32(0), X)
    require(eqn.params, "branches")
    assert _compat.aval_of(eqn.invars[0]).dtype == np.int32


@needed_by(
    "_trace/rules/cond.py", "_autopsy/bodies.py", what="`cond` by platform: `branches_platforms`"
)
def platform_dependent() -> None:
    def f(x):
        return lax.platform_dependent(x, cpu=jnp.sin, default=jnp.cos)

    require(equation(f, X, name="cond").params, "branches_platforms")


@needed_by(
    "_trace/rules/shard_map.py",
    "_autopsy/bodies.py",
    "_autopsy/descriptions.py",
    "_compat.py",
    what="`shard_map`: `jaxpr`, `mesh`, `in_specs`, `out_specs`, `check_vma` and the manual axes",
)
def shard_map() -> None:
    mesh = jax.make_mesh((2,), ("d",), axis_types=(AxisType.Auto,))
    mapped = jax.shard_map(lambda x: x, mesh=mesh, in_specs=P("d"), out_specs=P("d"))
    eqn = equation(mapped, jnp.arange(4.0))
    require(eqn.params, "jaxpr", "mesh", "in_specs", "out_specs", "check_vma")
    assert _compat.manual_axes(eqn) == ("d",)
    (inside,) = _compat.open_jaxpr(eqn.params["jaxpr"])[0].invars
    assert _compat.varying(_compat.aval_of(inside)) == frozenset({"d"}), "varying axes"


@needed_by(
    "_trace/hijax.py",
    what="`call_hi_primitive` of `lax.custom_root`, from JAX 0.12: `_prim` with `expand`, `in_tree`, `params`",
)
def custom_root() -> None:
    def f(x):
        return lax.custom_root(
            lambda y: 2 * y - x, x, lambda f, y: y - f(y) / 2, lambda g, y: y / g(1.0)
        )

    eqn = equation(f, X)
    if hijax.is_hijax(eqn):
        require(eqn.params["_prim"], "expand", "in_tree", "params")
        operands: list[Any] = [variable.aval for variable in eqn.invars]
        assert hijax.expanded(eqn, operands).eqns


@needed_by(
    "_trace/rules/loops.py",
    "_autopsy/bodies.py",
    what="`Scan3` of `jax_scan3`: `jaxpr`, `length`, `reverse`, `unroll`",
)
def scan3() -> None:
    with flag("jax_scan3"):
        eqn = equation(lambda xs: lax.scan(lambda c, x: (c + x, x), X, xs)[1], XS, name=hijax.CALL)
    assert hijax.name_of(eqn) in RULES, f"{hijax.name_of(eqn)} has no rule"
    require(hijax.params_of(eqn), "jaxpr", "length", "reverse", "unroll")


@needed_by(
    "_trace/rules/calls.py",
    "_autopsy/bodies.py",
    what="`RematTraced` of `jax_remat3`: `jaxpr`, `policy`",
)
def remat3() -> None:
    with flag("jax_remat3"):
        eqn = equation(jax.checkpoint(jnp.sin), X)
    assert hijax.name_of(eqn) in RULES, f"{hijax.name_of(eqn)} has no rule"
    require(hijax.params_of(eqn), "jaxpr", "policy")


@needed_by(
    "_compat.py", what="the name `rematted_computation` of a recomputation with `jax_remat3`"
)
def recomputation() -> None:
    with flag("jax_remat3"):
        function = jax.grad(jax.checkpoint(lambda x: jnp.sin(jnp.sin(x))))
        eqns = jax.make_jaxpr(function)(X).eqns
        assert any(map(_compat.is_recomputation, eqns)), "no equation has it"
        assert not _compat.is_recomputation(eqns[0]), "the first computation has it, too"


@needed_by(
    "_trace/masks.py",
    what="`vmap` of `cond`: `select_n(eq(index, i), stop_gradient(x), x)` for each operand of a branch",
)
def mapped_cond() -> None:
    def f(xs):
        return jax.vmap(lambda x: lax.cond(x > 0, lambda x: x * 2, lambda x: x * 3, x))(xs)

    tracker = MappedCondTracker()
    eqns = jax.make_jaxpr(f)(XS).eqns
    masked = [eqn.primitive.name for eqn in eqns if tracker.predicates_of(eqn)]
    assert masked.count("mul") == 2, f"in a branch: {masked}"


@needed_by(
    "_graph/flops.py",
    what="`dot_general`: `dimension_numbers`, the contracting axes first; `conv_general_dilated`: `rhs_spec` in them",
)
def products() -> None:
    product = equation(jnp.dot, jnp.ones((2, 3)), jnp.ones((3, 4)), name="dot_general")
    assert product.params["dimension_numbers"] == (((1,), (0,)), ((), ()))
    images, kernels = jnp.ones((1, 2, 8, 8)), jnp.ones((5, 2, 3, 3))
    convolution = equation(
        lambda x, w: lax.conv(x, w, (1, 1), "SAME"), images, kernels, name="conv_general_dilated"
    )
    assert convolution.params["dimension_numbers"].rhs_spec[0] == 0, "the axis of the outputs"


# --- Tables, tracing and lowering -----------------------------------------------------------------


@needed_by(
    "_trace/primitives.py",
    "_trace/tap_primitives.py",
    what="`ad.primitive_jvps`, `ad.primitive_transposes`, `batching.primitive_batchers`, `ad.Zero`",
)
def tables_of_rules() -> None:
    require(ad, "primitive_jvps", "primitive_transposes", "Zero", "UndefinedPrimal")
    require(batching, "primitive_batchers")
    assert type(_compat.zero_tangent(X)) is ad.Zero


@needed_by(
    "_trace/primitives.py", what="a subclass of `jax.debug.DebugEffect` is allowed in every body"
)
def effect() -> None:
    from jaxboard._trace.primitives import REPORT_EFFECT, report_p

    assert isinstance(REPORT_EFFECT, jax.debug.DebugEffect)
    assert report_p.multiple_results


@needed_by("_compat.py", what="`mlir.emit_python_callback`, and `axis_context` of a lowering")
def callbacks() -> None:
    require(mlir, "emit_python_callback", "register_lowering", "lower_fun", "LoweringRuleContext")
    found = []

    def lowering(ctx: Any, x: Any) -> list[Any]:
        found.append(_compat.can_call_python(ctx))
        return [x]

    primitive = jex.Primitive("jaxboard_check")
    primitive.def_abstract_eval(lambda aval: aval)
    mlir.register_lowering(primitive, lowering)
    jax.jit(primitive.bind).lower(X)
    assert found == [True], "a program of one device is not recognized"


@needed_by("_compat.py", what="`find_top_trace`: the trace at the top level is one object")
def top_level() -> None:
    found: list[bool] = []
    jax.jit(lambda x: [x, found.append(_compat.at_top_level())][0])(X)
    assert [_compat.at_top_level(), *found] == [True, False], "under jit it is not recognized"


@needed_by("_compat.py", what="the text of a tracer")
def text_of_a_tracer() -> None:
    texts: list[str] = []
    jax.jit(lambda x: [x, texts.append(f"{x}")][0])(X)
    assert _compat.mentions_tracer(texts[0]), texts[0]


@needed_by(
    "_compat.py",
    what="`jax.config.jax_disable_jit`, `jax.debug_nans.value`, `jax.debug_infs.value`",
)
def settings() -> None:
    assert _compat.jit_is_usual()
    with jax.disable_jit():
        assert _compat.jit_is_disabled(), "jax.disable_jit is not recognized"
    with jax.debug_nans(True):
        assert _compat.results_are_checked(), "jax.debug_nans is not recognized"


@needed_by(
    "_compat.py",
    what="`replace` of a jaxpr and an equation, `with_unknown_names` of debug information",
)
def building_jaxprs() -> None:
    closed = jax.make_jaxpr(lambda x: jnp.sin(jnp.cos(x)))(X)
    jaxpr, _ = _compat.open_jaxpr(closed)
    part = _compat.make_jaxpr(jaxpr.invars, jaxpr.eqns[0].outvars, jaxpr.eqns[:1], jaxpr)
    assert jax.core.eval_jaxpr(part, (), X)[0] == jnp.cos(X)
    shorter = _compat.with_equations(closed, jaxpr.eqns[:1], frozenset())
    assert len(_compat.open_jaxpr(shorter)[0].eqns) == 1
    assert _compat.with_params(jaxpr.eqns[0], {"new": 1}, frozenset()).params == {"new": 1}


@needed_by("_compat.py", what="`ctx.manager` of an equation, and the text of its name stack")
def context_of_an_equation() -> None:
    def f(x):
        with jax.named_scope("outer"):
            return jnp.sin(x)

    (eqn,) = jax.make_jaxpr(f)(X).eqns
    assert "outer" in str(eqn.source_info.name_stack)
    assert hasattr(eqn.ctx, "manager"), "the context of an equation has no manager"

    def g(x):
        with _compat.context_of(eqn):
            return jnp.cos(x)

    (inside,) = jax.make_jaxpr(g)(X).eqns
    assert "outer" in str(inside.source_info.name_stack), "the scope is not entered"


@needed_by(
    "_compat.py", what="the class `PjitFunction` and its pickled state: all options of `jax.jit`"
)
def jit_options() -> None:
    function = jax.jit(lambda x, n: x, static_argnums=1, donate_argnums=0, keep_unused=True)
    assert _compat.is_jitted(function)
    options = _compat.jit_options(function)
    assert options["static_argnums"] == (1,), options
    assert options["donate_argnums"] == (0,), options
    assert options["keep_unused"], options
    assert "in_shardings" not in options, options


@needed_by(
    "_trace/wrapper.py",
    "_trace/deliveries/hidden_output.py",
    "_telemetry/signature.py",
    what="`lower` and `trace` of a jitted function; `committed`, `sharding` and `weak_type` of an array",
)
def arrays_and_functions() -> None:
    require(jax.jit(jnp.sin), "lower", "trace", "eval_shape", "clear_cache", "_cache_size")
    require(X, "committed", "sharding", "weak_type")


@needed_by("_trace/context.py", what="`jax.make_user_context`, a part of every cache key")
def user_context() -> None:
    context, traced = jax.make_user_context(None), []
    function = jax.jit(lambda x: [x, traced.append(1)][0])
    function(X)
    with context(1):
        function(X)
    assert len(traced) == 2, "a function is not traced again in another context"


@needed_by(
    "_compat.py", what="`TraceAnnotation.is_enabled`, and the attributes of `ProfileOptions`"
)
def profiling() -> None:
    assert _compat.trace_is_on() is False
    require(jax.profiler.TraceAnnotation, "is_enabled")
    require(jax.profiler.ProfileOptions, "host_tracer_level", "python_tracer_level")


# --- Telemetry ------------------------------------------------------------------------------------


@needed_by(
    "_autopsy/interpreter.py",
    "_autopsy/causes.py",
    what="`select_n` with the selector first, `exp`, and the axis names of a collective: `axes` or `axis_name`",
)
def operations() -> None:
    eqn = equation(lax.select, jnp.array([True]), jnp.ones(1), jnp.zeros(1), name="select_n")
    assert [_compat.aval_of(var).dtype for var in eqn.invars] == [bool, jnp.float32, jnp.float32]
    equation(jnp.exp, 1.0, name="exp")
    mesh = jax.make_mesh((1,), ("x",), axis_types=(AxisType.Auto,))
    total = jax.shard_map(lambda x: lax.psum(x, "x"), mesh=mesh, in_specs=P("x"), out_specs=P())
    (inner,) = _compat.open_jaxpr(equation(total, jnp.ones(1), name="shard_map").params["jaxpr"])[
        0
    ].eqns
    assert "x" in (inner.params.get("axes") or inner.params["axis_name"])


@needed_by("_autopsy/descriptions.py", what="the text of `jax.extend.source_info_util.summarize`")
def source_lines() -> None:
    def function(x):
        return jnp.log(x)

    text = source_info_util.summarize(equation(function, 1.0, name="log").source_info, 100)
    assert re.search(rf"^{re.escape(__file__)}:\d+(:\d+)? \(.*function\)$", text, re.MULTILINE)


@needed_by(
    "_compat.py",
    "_telemetry/out_of_memory.py",
    "_telemetry/hlo_buffers.py",
    what="`live_executables` of a client, `get_compiled_memory_stats`, `hlo_modules`, and the text of HLO",
)
def executables() -> None:
    def named_by_this_test(x):
        return jnp.sort(x)

    compiled = jax.jit(named_by_this_test).lower(jnp.ones(1000)).compile()
    (found,) = [
        each
        for each in _compat.live_executables()
        if each.hlo_modules()[0].name == "jit_named_by_this_test"
    ]
    stats = found.get_compiled_memory_stats()
    assert (stats.argument_size_in_bytes, stats.output_size_in_bytes) == (4000, 4000)
    assert stats.temp_size_in_bytes >= stats.alias_size_in_bytes == 0
    largest, *_ = largest_buffers(found.hlo_modules()[0].to_string(), 1)
    assert (largest.nbytes, largest.type) == (4000, "f32[1000]")
    assert largest.source.startswith(__file__)
    del compiled


@needed_by(
    "_telemetry/compilations.py",
    "_telemetry/monitored_spans.py",
    what="events of `jax.monitoring`, and their `fun_name`",
)
def compilation_events() -> None:
    found: dict[str, Any] = {}

    def listen(event: str, duration_secs: float, **metadata: str | float) -> None:
        found.setdefault(event, metadata)

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        jax.jit(lambda x: x * 5 + 1)(X)
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
    stages = ("jaxpr_trace", "jaxpr_to_mlir_module", "backend_compile")
    require(found, *(f"/jax/core/compile/{stage}_duration" for stage in stages))
    require(found["/jax/core/compile/backend_compile_duration"], "fun_name")


@needed_by(
    "_telemetry/jax_listener.py",
    what="`jax.monitoring.clear_event_listeners` removes listeners of time spans with those of events",
)
def cleared_listeners() -> None:
    found: list[str] = []

    def listen(event: str, start_time: float, end_time: float, **_: str | float) -> None:
        found.append(event)

    jax.monitoring.register_event_time_span_listener(listen)
    jax.monitoring.clear_event_listeners()
    jax.monitoring.record_event_time_span("/test/span", 0.0, 1.0)
    assert found == []


@needed_by(
    "_telemetry/costs.py", what="keys of `cost_analysis()`, attributes of `memory_analysis()`"
)
def costs() -> None:
    compiled = jax.jit(lambda x: x @ x).lower(jnp.ones((4, 4))).compile()
    require(compiled.cost_analysis(), "flops", "bytes accessed")
    require(compiled.memory_analysis(), "temp_size_in_bytes", "argument_size_in_bytes")


# --- Other libraries ------------------------------------------------------------------------------


@needed_by(
    "_trace/adapters/nnx_jit.py",
    what="Flax: `jitted_fn` of what `nnx.jit` returns, whose `__wrapped__` is a dataclass, and `lower`",
)
def nnx_jit() -> None:
    nnx = pytest.importorskip("flax.nnx")
    function = nnx.jit(lambda x: x)
    require(function, "jitted_fn", "lower")
    assert dataclasses.is_dataclass(function.jitted_fn.__wrapped__)


@needed_by(
    "_trace/adapters/filter_jit.py",
    what="Equinox: `_cached` of what `eqx.filter_jit` returns, and `lower`",
)
def filter_jit() -> None:
    eqx = pytest.importorskip("equinox")
    require(eqx.filter_jit(lambda x: x), "_cached", "lower")


@needed_by(
    "_trace/adapters/linen_scan.py",
    what="Flax: `flax.core.axes_scan.scan`, which first calls its function once for `check_constancy_invariants`",
)
def linen_scan() -> None:
    axes_scan = pytest.importorskip("flax.core.axes_scan")
    xs = jnp.ones(2)

    def calls(*, check: bool) -> int:
        tracers = []

        def body(
            _: object, carry: jax.Array, x: jax.Array
        ) -> tuple[tuple[()], jax.Array, jax.Array]:
            tracers.append(carry)
            return (), carry + x, x

        loop = axes_scan.scan(body, (0,), 0, check_constancy_invariants=check)
        loop((), jnp.float32(0), xs)
        return len(tracers)

    assert calls(check=True) == calls(check=False) + 1


if __name__ == "__main__":
    PAGE.write_text(text())

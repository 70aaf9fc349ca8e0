"""Any argument of any public function: it works, or it raises an error of jaxboard.

Nothing else may happen: another exception, a crash, a hang, a changed result, a lost report, a logged fault.
``JAXBOARD_FUZZ=2000 pytest tests/fuzz`` tries that many random calls of each function.
"""

from __future__ import annotations

import contextlib
import inspect
import logging
import os
import pathlib
import warnings
from collections.abc import Callable
from typing import Any

import hypothesis
import jax
import jax.numpy as jnp
import pytest
from fuzz import calls
from fuzz.calls import Function
from fuzz.values import Value
from hypothesis import strategies as st

import jaxboard as jb
from jaxboard import _emit

EXAMPLES = int(os.environ.get("JAXBOARD_FUZZ", "0"))
settings = hypothesis.settings(
    max_examples=EXAMPLES or 8,
    derandomize=not EXAMPLES,
    deadline=None,
    database=None,
    suppress_health_check=list(hypothesis.HealthCheck),  # pyright: ignore[reportArgumentType] (an enum)
    phases=[hypothesis.Phase.generate, hypothesis.Phase.shrink],
)

FUNCTIONS = {function.name: function for function in calls.public_functions()}
VERBS = tuple(name for name in _emit.VERBS if name not in calls.EXEMPT)
CONTEXTS = ("plain", "traced", "instrumented")


@st.composite
def arguments(draw: st.DrawFn, function: Function, directory: str) -> dict[str, Value]:
    """Return a value for some parameters: mostly correct ones, and at most two that may be anything."""
    chosen: dict[str, Value] = {}
    names = [parameter.name for parameter in function.parameters]
    odd = draw(st.sets(st.sampled_from(names), max_size=2)) if names else set()
    for parameter in function.parameters:
        good = calls.good_values(function.name, parameter.name, directory)
        if parameter.name in odd:
            chosen[parameter.name] = draw(
                st.sampled_from(calls.any_values(function.name, parameter.name))
            )
        elif parameter.default is inspect.Parameter.empty or draw(st.integers(0, 4)) == 0:
            chosen[parameter.name] = draw(st.sampled_from(good))
    return chosen


class Faults(logging.Handler):
    """Collects what jaxboard logs as an error."""

    def __init__(self):
        super().__init__(logging.ERROR)
        self.messages: list[str] = []

    def emit(self, record):
        self.messages.append(record.getMessage())


@contextlib.contextmanager
def watching():
    """Fail if jaxboard logs an error, and ignore its warnings. Other warnings are errors, as in every test."""
    logger, faults = logging.getLogger("jaxboard"), Faults()
    logger.addHandler(faults)
    propagate, logger.propagate = logger.propagate, False
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", jb.JaxboardWarning)
            yield faults
    finally:
        logger.removeHandler(faults)
        logger.propagate = propagate


def bound(function: Function, owner: Any, values: dict[str, Value], x: Any):
    """Return the positional and keyword arguments of a call."""
    args, kwargs = [], {}
    for parameter in function.parameters:
        if parameter.name in values:
            made = values[parameter.name].make(x)
            if parameter.kind is inspect.Parameter.KEYWORD_ONLY:
                kwargs[parameter.name] = made
            elif len(args) == function.parameters.index(parameter):
                args.append(made)
            else:
                kwargs[parameter.name] = made
    return function.of(owner), args, kwargs


def attempt(function: Function, owner: Any, values: dict[str, Value], x: Any) -> Any:
    """Call the function. Return (result,), or None if it raised an error of jaxboard."""
    call, args, kwargs = bound(function, owner, values, x)
    try:
        return (call(*args, **kwargs),)
    except jb.JaxboardError as error:
        check_error(error)
        return None


def check_error(error: jb.JaxboardError) -> None:
    """Check that an error has a text that can be read, and that the one of a report names the line of the call."""
    text = str(error)
    assert 0 < len(text) < 5_000
    if isinstance(error, jb.ReportError):
        assert text.startswith("report ")
        assert "(test_public_calls.py:" in text, text


def in_context(context: str, call: Callable[[Any], Any]) -> None:
    """Call ``call`` with a number or a tracer, in a program whose result is checked."""

    def body(x):
        call(x)
        return x * 2

    def nested(x):
        return jax.lax.scan(lambda c, x: (c, jax.vmap(body)(x)), 0.0, jnp.full((2, 2), x))[1].sum()

    x = jnp.float32(1.5)
    with jb.testing.capture():
        if context == "plain":
            call(1.5)
        elif context == "traced":
            # An array or a tracer that JAX meets after the call, when it has traced the program.
            with contextlib.suppress(jax.errors.UnexpectedTracerError):
                jax.make_jaxpr(jax.grad(nested))(x)
        else:
            assert float(jb.instrument(jax.jit(body))(x)) == 3.0


def test_every_public_function_has_values() -> None:
    """A new public function, and a new parameter, needs correct values in ``calls.py``."""
    for function in FUNCTIONS.values():
        for parameter in function.parameters:
            assert calls.good_values(function.name, parameter.name, "")


@pytest.mark.parametrize("context", CONTEXTS)
@pytest.mark.parametrize("name", VERBS)
def test_verbs(name: str, context: str) -> None:
    """A verb reports, or raises an error that names the report and the line. The program's result is unchanged."""
    function = FUNCTIONS[name]

    @settings
    @hypothesis.given(arguments(function, ""))
    def check(values: dict[str, Value]) -> None:
        with watching() as faults:
            in_context(context, lambda x: attempt(function, None, values, x))
        assert faults.messages == []

    check()


METHODS = [
    name
    for name, function in FUNCTIONS.items()
    if name != "instrument" and name.rpartition(".")[2] not in VERBS and function.parameters
]
"""The verbs are tested above. As methods of a run they are the same functions."""


@pytest.mark.parametrize("name", METHODS)
def test_functions_and_methods(name: str, tmp_path: pathlib.Path) -> None:
    """Other functions, constructors and methods return, or raise an error of jaxboard."""
    function = FUNCTIONS[name]
    directory = str(tmp_path)

    @settings
    @hypothesis.given(arguments(function, directory))
    def check(values: dict[str, Value]) -> None:
        with watching() as faults, in_directory(directory):
            call_and_leave(function, values, directory)
        # A path that cannot be written is a fault of the machine, which is logged.
        assert faults.messages == [] or name == "memory_snapshot"

    check()


def call_and_leave(function: Function, values: dict[str, Value], directory: str) -> None:
    """Call a function or method in a run, and enter and leave what it returns."""
    with contextlib.ExitStack() as stack:
        owner = stack.enter_context(owner_of(function, directory))
        result = attempt(function, owner, values, 1.5)
        if result is None:
            return
        if isinstance(result[0], jb.Run | jb.SummaryWriter):
            with contextlib.suppress(jb.RunError), result[0]:
                jb.scalar("loss", 1.0)
        elif function.name in ("scope", "trace", "profile", "testing.capture"):
            with contextlib.suppress(jb.JaxboardError), result[0]:
                pass
        if isinstance(owner, jb.Run) and function.name != "Run.close":
            owner.flush()


@contextlib.contextmanager
def owner_of(function: Function, directory: str):
    """Yield an instance for a method."""
    sinks: list[Any] = [jb.sinks.MemorySink()]
    match function.owner:
        case "Run":
            with jb.Run(None, sinks=sinks, on_nonfinite="ignore", telemetry=False) as run:
                yield run
        case "SummaryWriter":
            with jb.SummaryWriter(write_to_disk=False) as writer:
                yield writer
        case "ChildRun":
            with jb.Run(None, sinks=sinks, on_nonfinite="ignore", telemetry=False) as run:
                yield run.child("eval")
        case "JAXProfiler":
            with jb.JAXProfiler(range(10**9, 10**9 + 1), directory) as profiler:
                yield profiler
        case _:
            yield None


@contextlib.contextmanager
def in_directory(directory: str):
    """Make a directory the working directory, for relative paths."""
    before = os.getcwd()
    os.chdir(directory)
    try:
        yield
    finally:
        os.chdir(before)


@pytest.mark.parametrize("jitted", [True, False])
def test_instrument(jitted: bool) -> None:
    """An instrumented function returns what the function returns, or the options raise a UsageError."""
    function = FUNCTIONS["instrument"]

    @settings
    @hypothesis.given(arguments(function, ""))
    def check(values: dict[str, Value]) -> None:
        values.pop("fn", None)

        def body(x):
            jb.scalar("x", x)
            return x * 2

        fn = Value("function", lambda _: jax.jit(body) if jitted else body)
        with watching() as faults, jb.testing.capture():
            instrumented = attempt(function, None, {"fn": fn, **values}, 1.5)
            if instrumented is not None:
                with contextlib.suppress(jb.UsageError):  # The result of step= is not a step.
                    assert float(instrumented[0](1.5)) == 3.0
        assert faults.messages == []

    check()


@settings
@hypothesis.given(st.sampled_from(calls.arguments_of_a_program()))
def test_arguments_of_an_instrumented_function(value: Value) -> None:
    """An instrumented function returns, or raises, what the jitted function does."""

    def body(x):
        jb.scalar("loss", 1.0)
        return x

    with watching() as faults, jb.testing.capture(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # JAX warns of some of them.
        outcomes = [outcome(fn, value) for fn in (jax.jit(body), jb.instrument(jax.jit(body)))]
    assert outcomes[0] == outcomes[1]
    assert faults.messages == []


def outcome(function: Callable[[Any], Any], value: Value) -> str:
    """Return the type of what a function raises, or the text of its result."""
    try:
        result = function(value.make(1.5))
    except Exception as error:
        return type(error).__name__
    return repr(jax.tree.map(lambda x: (x.shape, x.dtype), result))

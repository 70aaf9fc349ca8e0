"""The function ``autopsy``."""

from __future__ import annotations

import functools
from collections.abc import Callable, Hashable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
from jax import Array
from jax.extend.core import ClosedJaxpr

from jaxboard import _compat
from jaxboard._autopsy import bodies
from jaxboard._autopsy.causes import Event, first_cause
from jaxboard._autopsy.descriptions import describe_operands, describe_operation
from jaxboard._autopsy.findings import Autopsy
from jaxboard._autopsy.frames import ranges_at
from jaxboard._autopsy.interpreter import Interpreter, Node, Record, Step
from jaxboard._errors import UsageError
from jaxboard._graph.tracing import input_names, is_array, trace
from jaxboard._safe_repr import describe_array, describe_object
from jaxboard._types import PyTree


def autopsy(function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Autopsy | None:
    """Find the operation that made the first NaN or infinity in the results of a call.

    The function is evaluated anew, as one compiled program that checks every operation, also those in loops, branches,
    gradients and shards. It is slower and larger than the function, and JAX compiles it at each call. Nothing is donated, so
    the arguments remain usable; the results are dropped, and reports are not written.

    A value that is not finite counts only if it reaches a result, or a report. A mask of infinities, or a NaN that
    :func:`jax.numpy.where` replaces, is therefore no finding, nor is an infinity in a result that was in an argument or in a
    constant from the start.

    Args:
        function: any function of JAX arrays, such as a training step. It may be jitted, sharded and instrumented.
        *args: its arguments. Pass those with which the results were not finite: the state before the step, and its batch.
        **kwargs: its keyword arguments.

    Returns:
        The cause, or None if all results and reports are finite. It is the first one that is executed, if there are several.
        ``print`` shows it as a few lines.

    Raises:
        UsageError: ``function`` cannot be called, or an argument was donated.

    Example:
        >>> import jax, jax.numpy as jnp, jaxboard as jb
        >>> @jax.jit
        ... def step(w, x):
        ...     def layer(x, w):
        ...         return jnp.log(x) * w, None
        ...     return jax.lax.scan(layer, x, w)[0]
        >>> found = jb.autopsy(step, jnp.array([1.0, 1.0, 1.0]), jnp.array([2.0, 5.0]))
        >>> found.value, found.operation.primitive, found.operation.loops[0].index
        ('NaN', 'log', 2)
        >>> str(found.operands[0])
        'float32[2]: -0.366513 to 0.475885'
    """
    if not callable(function):
        raise UsageError(f"autopsy: expected a function, got {describe_object(function)}.")
    return Examination(function, args, kwargs).run(args, kwargs)


class _Traced(NamedTuple):
    """A program to examine.

    Attributes:
        jaxpr: the program. Reports are equations of it.
        inputs: the names of its arguments.
        outputs: the names of its results.
    """

    jaxpr: ClosedJaxpr
    inputs: list[str]
    outputs: list[str]


class Examination:
    """The compiled autopsy of a function, for arguments of the same types; see :func:`types_of`.

    Args:
        function: the function.
        args: its positional arguments.
        kwargs: its keyword arguments.
    """

    def __init__(
        self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ):
        with _compat.unchecked():
            _arrays(args, kwargs)
            self._traced = _traced(function, args, kwargs)
        self._nodes: list[Node] = []  # The last one is that of the compiled program.
        self._examine = jax.jit(self._examined)

    def run(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Autopsy | None:
        """Return the cause, or None if all results are finite."""
        arrays = _arrays(args, kwargs)
        consts = _compat.open_jaxpr(self._traced.jaxpr)[1]
        with _compat.unchecked():
            record = jax.device_get(self._examine(consts, arrays))
            found = first_cause(self._nodes[-1], record)
            if found is None:
                return None
            event, became_nan, infinity = found.cause
            results = (
                *(self._traced.outputs[n] for n in found.results),
                *(f"report {tag!r}" for tag in found.reports),
            )
            if not event.steps:
                return Autopsy("NaN", None, self._source(event), results=results)
            ranges = self._ranges_at(event.steps, consts, arrays)
        return Autopsy(
            "NaN" if found.is_nan else "infinity",
            describe_operation(event),
            operands=describe_operands(event.eqns[-1], ranges),
            became_nan=None if became_nan is None else describe_operation(became_nan),
            infinity="" if infinity is None else self._source(infinity),
            results=results,
        )

    def _examined(self, consts: tuple[Array, ...], arrays: list[Array]) -> Record:
        """Evaluate the program and return the codes of all values."""
        jaxpr, _ = _compat.open_jaxpr(self._traced.jaxpr)
        _, node, record = Interpreter(bodies.RULES).examine(jaxpr, arrays, consts)
        self._nodes.append(node)
        return record

    def _ranges_at(
        self, steps: tuple[Step, ...], consts: tuple[Array, ...], arrays: list[Array]
    ) -> np.ndarray | None:
        """Evaluate the program again, and return the ranges of the operands of one equation; None if it was not reached."""
        nodes: list[Node] = []

        @jax.jit
        def describe(consts: tuple[Array, ...], arrays: list[Array]) -> Record:
            jaxpr, _ = _compat.open_jaxpr(self._traced.jaxpr)
            _, node, record = Interpreter(bodies.RULES, steps).examine(jaxpr, arrays, consts)
            nodes.append(node)
            return record

        record = jax.device_get(describe(consts, arrays))
        return ranges_at(nodes[0], record, steps)

    def _source(self, event: Event) -> str:
        return (
            "a constant of the program"
            if event.argument < 0
            else self._traced.inputs[event.argument]
        )


def types_of(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Hashable:
    """Return the types of the arrays in the arguments of a call, and all else in them: what an examination is for.

    It may have parts without a hash.
    """
    leaves, structure = jax.tree.flatten((args, dict(kwargs)))
    parts = (jax.typeof(leaf) if is_array(leaf) else (type(leaf), leaf) for leaf in leaves)
    return structure, *parts


def _arrays(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> list[Array]:
    arrays = [leaf for leaf in jax.tree.leaves((args, dict(kwargs))) if is_array(leaf)]
    for array in arrays:
        if isinstance(array, jax.Array) and array.is_deleted():
            raise UsageError(
                f"autopsy: an argument, {describe_array(array)}, was donated to an earlier call and is deleted. Pass a copy "
                "that was made before that call."
            )
    return arrays


def _traced(
    function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> _Traced:
    """Trace a function."""
    names = input_names(function, args, kwargs)

    # Modules of Flax NNX are changed in place.
    @functools.wraps(function)
    def with_changes(*args: Any, **kwargs: Any) -> PyTree:
        before = jax.tree.leaves((args, kwargs))
        results = function(*args, **kwargs)
        after = jax.tree.leaves((args, kwargs))
        if len(before) != len(after):
            return results
        triples = zip(names, before, after, strict=True)
        changed = {name: new for name, old, new in triples if new is not old}
        return {"": results, "changed": changed} if changed else results

    traced = trace(with_changes, args, kwargs)
    inputs = [name for name, _ in traced.inputs]
    return _Traced(traced.jaxpr, inputs, list(map(_result_name, traced.outputs)))


def _result_name(path: str) -> str:
    """Return how a message names a result: ``result 0/params``, or ``argument model/bias``, which the call changes."""
    first, _, rest = path.partition("/")
    if first == "changed":
        return f"argument {rest}"
    path = rest if first == "" else path
    return "result" if path in ("", "value") else f"result {path}"

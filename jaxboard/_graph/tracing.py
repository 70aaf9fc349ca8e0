"""Tracing a function to the jaxpr that its graph shows."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.extend.core as jex
import numpy as np

from jaxboard._graph.module_scopes import module_scopes
from jaxboard._trace import context


class TracedFunction(NamedTuple):
    """The jaxpr of a function, with names of its inputs and outputs.

    Attributes:
        jaxpr: the operations.
        inputs: the path of each input, such as ``state/params/kernel``, and its sharding, "" if it has none.
        outputs: the path of each output.
    """

    jaxpr: jex.ClosedJaxpr
    inputs: list[tuple[str, str]]
    outputs: list[str]


def trace(
    function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> TracedFunction:
    """Trace a function. Reports stay in the jaxpr, and modules of Flax NNX name the scopes of what they compute.

    Args:
        function: the function; jitted and instrumented ones too.
        args: its positional arguments. Arrays, also :class:`jax.ShapeDtypeStruct`, become inputs; everything else is
            passed as it is.
        kwargs: its keyword arguments.
    """
    leaves, structure = jax.tree.flatten((args, dict(kwargs)))
    places = [place for place, leaf in enumerate(leaves) if is_array(leaf)]

    def of_arrays(*arrays: jax.Array) -> Any:
        values = list(leaves)
        for place, array in zip(places, arrays, strict=True):
            values[place] = array
        args, kwargs = jax.tree.unflatten(structure, values)
        with module_scopes(function, (args, kwargs)):
            return function(*args, **kwargs)

    # Reports stay as they are only in a function that an instrumented function calls.
    surroundings = context.current()._replace(harvested=True, silenced=False)
    with context.enter(surroundings):
        jaxpr, results = jax.make_jaxpr(of_arrays, return_shape=True)(*(leaves[p] for p in places))
    names = input_names(function, args, kwargs)
    inputs = [(names[place], _sharding(leaves[place])) for place in places]
    outputs = [_path("", path) for path, _ in jax.tree.leaves_with_path(results)]
    return TracedFunction(jaxpr, inputs, outputs)


def is_array(leaf: object) -> bool:
    """Return whether a leaf is an array, or the type of one."""
    return isinstance(leaf, jax.Array | np.ndarray | np.generic | jax.ShapeDtypeStruct)


def input_names(
    function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> list[str]:
    """Return the path of every leaf of the arguments, beginning with the name of the argument."""
    try:
        names = list(inspect.signature(function).bind_partial(*args).arguments)
    except (TypeError, ValueError):  # A function without a signature, such as a built-in one.
        names = []
    if len(names) != len(args):  # Or one with a parameter such as *batch.
        names = [f"argument_{position}" for position in range(len(args))]
    return [
        _path(name, path)
        for name, value in [*zip(names, args, strict=True), *kwargs.items()]
        for path, _ in jax.tree.leaves_with_path(value)
    ]


def _path(name: str, path: tuple[Any, ...]) -> str:
    inner = jax.tree_util.keystr(path, simple=True, separator="/")
    return "/".join(part for part in (name, inner) if part) or "value"


def _sharding(leaf: object) -> str:
    spec = getattr(getattr(leaf, "sharding", None), "spec", None)
    return "" if spec is None else str(spec)

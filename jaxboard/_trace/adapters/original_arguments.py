"""The arguments of a call as the user passed them, read from what ``nnx.jit`` and ``eqx.filter_jit`` made of them.

Messages about recompiles name them. The results map the name of each argument to its leaves by path; whatever
the wrapper made part of the program is in a :class:`StaticLeaf`.
"""

from __future__ import annotations

import dataclasses
import inspect
import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import jax

Leaves = dict[str, dict[str, object]]


@dataclasses.dataclass(frozen=True, slots=True)
class StaticLeaf:
    """A value that is part of the program."""

    value: object


def of_filter_jit(signature: inspect.Signature, args: tuple[Any, ...]) -> Leaves:
    """Return the arguments of a function under ``eqx.filter_jit``.

    Args:
        signature: the signature of the user's function.
        args: the arguments of Equinox's function: the donated and the other arrays, and the static rest.
    """
    return {
        name: {
            name + jax.tree_util.keystr(path): leaf if _is_array(leaf) else StaticLeaf(leaf)
            for path, leaf in jax.tree_util.tree_leaves_with_path(value)
        }
        for name, value in bound_arguments_of(signature, args).arguments.items()
    }


def bound_arguments_of(
    signature: inspect.Signature, args: tuple[Any, ...]
) -> inspect.BoundArguments:
    """Return the arguments of a function under ``eqx.filter_jit``, as the user passed them; see :func:`of_filter_jit`."""
    donated, kept, (_, static_first, static_rest) = args
    arrays = {**donated, **kept}
    first = _combine(arrays["first"], static_first)
    rest, kwargs = _combine(arrays["rest"], static_rest)
    # Equinox adds a last argument, None.
    positional = (first, *rest)[:-1]
    return signature.bind(*positional, **kwargs)


def of_nnx_jit(
    names: Sequence[str], jit_options: dict[str, Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Leaves:
    """Return the arguments of a function under ``nnx.jit``.

    Args:
        names: the names of the positional arguments.
        jit_options: the options that ``jax.jit`` was given.
        args: the positional arguments of nnx's function, with modules as pairs of a graph and its leaves.
        kwargs: the keyword arguments, likewise.
    """
    count = len(args)
    static_numbers = {
        n % count for n in jit_options.get("static_argnums", ()) if -count <= n < count
    }
    static_names = jit_options.get("static_argnames", ())
    values = {
        names[i] if i < len(names) else f"args[{i}]": (i in static_numbers, value)
        for i, value in enumerate(args)
    }
    values |= {name: (False, value) for name, value in kwargs.items()}
    return {
        name: {name: StaticLeaf(value)}
        if is_static or name in static_names
        else dict(_leaves_of_modules(name, value))
        for name, (is_static, value) in values.items()
    }


def _combine(arrays: Iterable[Any], static: tuple[Iterable[Any], Any]) -> Any:
    leaves, tree = static
    return tree.unflatten([s if a is None else a for a, s in zip(arrays, leaves, strict=True)])


def _is_array(value: object) -> bool:
    return isinstance(value, jax.Array)


def _leaves_of_modules(name: str, value: Any) -> Iterator[tuple[str, object]]:
    for path, node in jax.tree_util.tree_leaves_with_path(value, is_leaf=is_module):
        prefix = name + jax.tree_util.keystr(path)
        if is_module(node):
            graph = node.graphdef
            leaves = itertools.chain.from_iterable(node.states)
            yield from _attributes(prefix, iter(graph.nodes), iter(graph.attributes), leaves)
        else:
            yield prefix, node


def is_module(node: object) -> bool:
    """Return whether a node is a module as the function inside of ``nnx.jit`` gets it."""
    return hasattr(node, "graphdef") and hasattr(node, "states")


def _attributes(
    path: str, nodes: Iterator[Any], attributes: Iterator[Any], leaves: Iterator[Any]
) -> Iterator[tuple[str, object]]:
    """Yield the leaves of the next node of an nnx graph, whose parts are in the order of a depth-first walk."""
    node = next(nodes)
    kind = type(node).__name__
    if kind == "VariableDef":
        yield from _below(path, next(leaves))
    for _ in range(node.num_attributes if kind == "NodeDef" else 0):
        name, attribute = next(attributes)
        inner = f"{path}[{name}]" if isinstance(name, int) else f"{path}.{name}"
        match type(attribute).__name__:
            case "NodeAttr":
                yield from _attributes(inner, nodes, attributes, leaves)
            case "Static":
                if not str(name).startswith("_pytree__"):
                    yield inner, StaticLeaf(attribute.value)
            case _:
                yield from _below(inner, next(leaves))


def _below(path: str, value: object) -> Iterator[tuple[str, object]]:
    for inner, leaf in jax.tree_util.tree_leaves_with_path(value):
        yield path + jax.tree_util.keystr(inner), leaf

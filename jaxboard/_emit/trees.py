"""The leaves of a pytree, with names that read well in a dashboard."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import jax
import numpy as np

from jaxboard._emit import arguments, conversion
from jaxboard._errors import ReportError
from jaxboard._log import describe
from jaxboard._types import PyTree

Flat = TypeVar("Flat")

_DEEPEST = 200
"""Most containers around a leaf."""

_BOXES = frozenset(
    (
        "flax.Variable",
        "flax.VariableState",
        "flax.AxisMetadata",
        "penzai.LabeledVariableValue",
        "penzai.NamedArrayBase",
    )
)
"""Nodes around a single value."""

_VARIABLES = frozenset(("penzai.LabeledVariable",))
"""Objects that hold a value, and are leaves to JAX."""


def named_leaves(tag: str, tree: PyTree) -> list[tuple[str, Any]]:
    """Return each leaf of a pytree with its name, the path to it joined by ``/``.

    A tree that is one leaf has an empty name, which it may not have if the tag is empty, too.

    Raises:
        ReportError: two leaves have the same name, or the name of a leaf is invalid in a tag.
    """
    _check_nesting(tag, tree)
    named = _flattened(tag, lambda tree: list(_leaves(tree, ())), tree)
    names = {name for name, _ in named}
    if len(names) < len(named):
        _raise_collision(tag, [name for name, _ in named])
    for name in names:
        if not (name or tag):
            raise arguments.report_error(
                tag, "a single number has no name. Use jaxboard.scalar, with a tag."
            )
        arguments.check_tag(_joined_tag(tag, name))
    return named


def tagged_leaves(tag: str, tree: PyTree) -> Iterator[tuple[str, Any]]:
    """Yield each leaf of a pytree with its tag: ``tag/name``, or ``tag`` for a single array."""
    for name, leaf in named_leaves(tag, tree):
        yield _joined_tag(tag, name), leaf


def _joined_tag(tag: str, name: str) -> str:
    return "/".join(part for part in (tag, name) if part)


def tagged_arrays(tag: str, tree: PyTree) -> Iterator[tuple[str, Any]]:
    """Yield each array of a pytree with its tag. A list or tuple of numbers, nested or not, is one array."""
    arguments.check_tag(tag)
    _check_nesting(tag, tree)

    def join(tree: PyTree) -> PyTree:
        return jax.tree.map(
            lambda node: _joined(tag, node) if _is_sequence(node) else node,
            tree,
            is_leaf=lambda node: _is_sequence(node) and _holds_numbers(node),
        )

    return tagged_leaves(tag, _flattened(tag, join, tree))


def _leaves(tree: PyTree, keys: tuple[str, ...]) -> Iterator[tuple[str, Any]]:
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree, is_leaf=_is_box):
        names = (*keys, *(jax.tree_util.keystr((key,), simple=True) for key in path))
        if _is_box(leaf):
            # The name of the only child of a node is left out.
            (child,) = jax.tree_util.default_registry.flatten_one_level(leaf)[0]
            yield from _leaves(child, _labeled(names, leaf))
        elif _is_one_of(type(leaf), _VARIABLES):
            yield from _leaves(leaf.value, _labeled(names, leaf))
        else:
            yield "/".join(names), leaf


def _labeled(names: tuple[str, ...], node: Any) -> tuple[str, ...]:
    """Return the path of a node, with its label instead of an index: Penzai keeps parameters in a tuple."""
    label = getattr(node, "label", None)
    has_index = names and names[-1].isdecimal()
    return (*names[:-1], label) if isinstance(label, str) and has_index else names


def _flattened(tag: str, flatten: Callable[[PyTree], Flat], tree: PyTree) -> Flat:
    """Return ``flatten(tree)``. Raise a :class:`ReportError` for what the nodes and keys of the user raise."""
    try:
        return flatten(tree)
    except ReportError:
        raise
    except Exception as error:
        raise arguments.report_error(
            tag, f"JAX cannot flatten the tree: {describe(error)}"
        ) from error


def _check_nesting(tag: str, tree: PyTree) -> None:
    """Raise if containers are nested too deeply, or contain themselves: JAX cannot flatten these.

    Its attempt leaves an error pending in the interpreter, so that later calls of any function fail.
    """
    seen: set[int] = set()

    def check(node: object, depth: int) -> None:
        if not isinstance(node, dict | list | tuple) or id(node) in seen:
            return
        if depth > _DEEPEST:
            raise arguments.report_error(
                tag, "the tree contains itself, or is nested too deeply. Report its leaves."
            )
        for child in node.values() if isinstance(node, dict) else node:
            check(child, depth + 1)
        seen.add(id(node))

    check(tree, 0)


def _is_box(node: object) -> bool:
    return _is_one_of(type(node), _BOXES)


@functools.cache
def _is_one_of(cls: type, names: frozenset[str]) -> bool:
    """Return whether a class or a base of it has one of the names, each with that of its library."""
    return any(
        f"{base.__module__.partition('.')[0]}.{base.__name__}" in names for base in cls.__mro__
    )


def _raise_collision(tag: str, names: list[str]) -> None:
    twice = next(name for name in names if names.count(name) > 1)
    raise arguments.report_error(
        _joined_tag(tag, twice), "two leaves of the tree have this tag. Rename one of them."
    )


def _is_sequence(node: object) -> bool:
    """Return whether a node is a list or a tuple, without names of its own for its items."""
    return isinstance(node, list | tuple) and not hasattr(node, "_fields")


def _holds_numbers(node: object) -> bool:
    """Return whether a list or tuple holds numbers only, at any depth."""
    return isinstance(node, list | tuple) and bool(node) and all(map(_is_number, node))


def _is_number(node: object) -> bool:
    if _is_sequence(node):
        return _holds_numbers(node)
    return isinstance(node, int | float | np.generic) or getattr(node, "shape", None) == ()


def _joined(tag: str, node: object) -> Any:
    """Return the numbers of a list or tuple as one array of rank 1."""
    leaves = [conversion.as_array(tag, leaf) for leaf in jax.tree.leaves(node)]
    if all(isinstance(leaf, np.ndarray) for leaf in leaves):
        return np.stack(leaves)
    # Strict promotion is a rule for the user's own arithmetic.
    with jax.numpy_dtype_promotion("standard"):
        return jax.numpy.stack([jax.numpy.asarray(leaf) for leaf in leaves])

"""The size of a graph: TensorBoard draws some thousand nodes, and a few hundred in one scope."""

from __future__ import annotations

from collections import deque
from typing import Any

from jaxboard._graph.nested import Scope

MAX_NODES = 5_000
"""Most nodes of a graph. TensorBoard draws that many in about two seconds."""

MAX_IN_SCOPE = 300
"""Most operations directly in one scope. TensorBoard takes 4 s to lay out 500 and 30 s for 2000."""


def fit(root: Scope, max_nodes: int = MAX_NODES, max_in_scope: int = MAX_IN_SCOPE) -> str:
    """Make a tree small enough to be drawn; return what was left out, "" if nothing was.

    Long runs of operations in one scope are put into scopes ``part``, ``part_1``, … If the tree is still too large,
    scopes that are equal to one beside them, such as the layers of a model, become one node each, and then the
    innermost scopes.
    """
    total = _split_long_scopes(root, max_in_scope)
    if total <= max_nodes:
        return ""
    repeats = _summarize_repeats(root, {})
    _summarize_innermost(root, max_nodes)
    reason = f"{repeats} scopes equal another one and are" if repeats else "Innermost scopes are"
    return (
        f"{total} operations, more than TensorBoard draws quickly. {reason} shown as one node each."
    )


def _split_long_scopes(scope: Scope, limit: int) -> int:
    """Split scopes with more than ``limit`` operations; return the number of operations."""
    inside = [child for child in scope.children.values() if isinstance(child, Scope)]
    here = len(scope.children) - len(inside)
    if here > limit:
        scope.split(limit)
    return here + sum(_split_long_scopes(child, limit) for child in inside)


def _summarize_repeats(scope: Scope, shapes: dict[Scope, Any]) -> int:
    """Summarize scopes that are equal to one before them in the same scope; return how many."""
    count = 0
    first: dict[Any, Scope] = {}
    for child in scope.children.values():
        if not isinstance(child, Scope):
            continue
        like = first.setdefault((_stem(child.name), _shape(child, shapes)), child)
        if like is child:
            count += _summarize_repeats(child, shapes)
        else:
            scope.summarize(child, f"same as {like.name}")
            count += 1
    return count


def _summarize_innermost(root: Scope, max_nodes: int) -> None:
    """Open scopes, the outermost first, until there are ``max_nodes``, and summarize the others."""
    shown = len(root.children)
    waiting = deque([root])
    while waiting:
        scope = waiting.popleft()
        for child in scope.children.values():
            if not isinstance(child, Scope) or child.summary is not None:
                continue
            if shown + len(child.children) - 1 <= max_nodes:
                shown += len(child.children) - 1
                waiting.append(child)
            else:
                scope.summarize(child, child.name)


def _shape(scope: Scope, shapes: dict[Scope, Any]) -> Any:
    """Return a value that equal scopes share: their operations, with types, in order."""
    if scope not in shapes:
        shapes[scope] = hash(
            tuple(
                (_stem(child.name), _shape(child, shapes))
                if isinstance(child, Scope)
                else (child.op, tuple(child.outputs), tuple(child.attributes.items()))
                for child in scope.children.values()
            )
        )
    return shapes[scope]


def _stem(name: str) -> str:
    """Return a name without its number: ``layer_3`` has the stem ``layer``."""
    return name.rstrip("0123456789").rstrip("_")

"""The nodes of a graph, from its tree of operations."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from jaxboard._graph import budget
from jaxboard._graph.equations import convert
from jaxboard._graph.nested import Operation, Output, Scope, shown
from jaxboard._graph.tracing import trace
from jaxboard.records import Graph, GraphNode


def graph_of(
    function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> tuple[Graph, str]:
    """Return the graph of a function, and what was left out of it, "" if nothing was.

    Args:
        function: see :func:`jaxboard.graph`.
        args: its positional arguments.
        kwargs: its keyword arguments.
    """
    root = convert(trace(function, args, kwargs))
    left_out = budget.fit(root)
    return Graph(tuple(_nodes(root))), left_out


def _nodes(root: Scope) -> Iterator[GraphNode]:
    # Operations of a summarized scope are one node, which reads what they read from outside.
    members: dict[Operation, list[Operation]] = {}
    for operation in root.operations():
        members.setdefault(shown(operation), []).append(operation)
    for node, operations in members.items():
        inputs = dict.fromkeys(
            _reference(source)
            for operation in operations
            for source in operation.inputs
            if shown(source.operation) is not node
        )
        attributes = node.attributes | ({"flops": str(node.flops)} if node.flops else {})
        yield GraphNode(node.path, node.op, tuple(inputs), tuple(node.outputs), attributes)


def _reference(source: Output) -> str:
    node = shown(source.operation)
    is_first = source.position == 0 or node is not source.operation
    return node.path if is_first else f"{node.path}:{source.position}"

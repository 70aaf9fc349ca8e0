"""Operations in nested scopes: the form of a program between its jaxpr and the nodes of its graph."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple, TypeAlias

ArrayType: TypeAlias = tuple[str, tuple[int | None, ...]]
"""The dtype and the shape of an array. None is a dimension of unknown size."""


class Output(NamedTuple):
    """One output of an operation, by its position."""

    operation: Operation
    position: int


@dataclasses.dataclass(eq=False)
class Operation:
    """An operation with its place in the tree.

    Attributes:
        name: the name within its scope.
        scope: the scope that it is in.
        op: what it computes.
        inputs: what it reads.
        outputs: the types of its outputs.
        attributes: what else is known about it.
        flops: an estimate of its floating-point operations.
    """

    name: str
    scope: Scope
    op: str
    inputs: Sequence[Output] = ()
    outputs: Sequence[ArrayType] = ()
    attributes: dict[str, str] = dataclasses.field(default_factory=dict[str, str])
    flops: int = 0

    @property
    def path(self) -> str:
        """The names of the scopes and of the operation, joined by ``/``."""
        return "/".join((*self.scope.parts, self.name))


class Scope:
    """Operations and scopes by name, in the order in which they were added.

    Attributes:
        name: the name within the parent.
        parent: the scope around this one; None for the outermost.
        children: the operations and scopes directly inside.
        summary: the operation that stands for the whole scope, if it is shown as one.
    """

    def __init__(self, name: str = "", parent: Scope | None = None):
        self.name = name
        self.parent = parent
        self.children: dict[str, Scope | Operation] = {}
        self.summary: Operation | None = None
        self._numbers: dict[str, int] = {}  # the last number that a name got

    @property
    def parts(self) -> tuple[str, ...]:
        """The names of the scopes around this one, and its own."""
        return () if self.parent is None else (*self.parent.parts, self.name)

    def scope(self, name: str) -> Scope:
        """Return the scope with a name inside this one; it is added if it does not exist."""
        child = self.children.get(_valid(name))
        return child if isinstance(child, Scope) else self.new_scope(name)

    def new_scope(self, name: str) -> Scope:
        """Add a scope. If its name is taken, it gets a number."""
        name = self._free_name(name)
        child = self.children[name] = Scope(name, self)
        return child

    def add(
        self,
        name: str,
        op: str,
        inputs: Sequence[Output] = (),
        outputs: Sequence[ArrayType] = (),
        *,
        attributes: dict[str, str] | None = None,
        flops: int = 0,
    ) -> Operation:
        """Add an operation. If its name is taken, it gets a number."""
        name = self._free_name(name)
        operation = Operation(name, self, op, inputs, outputs, attributes or {}, flops)
        self.children[name] = operation
        return operation

    def split(self, size: int) -> None:
        """Put the operations directly inside into scopes ``part``, ``part_1``, … of ``size`` operations each."""
        operations = [child for child in self.children.values() if isinstance(child, Operation)]
        for operation in operations:
            del self.children[operation.name]
        for start in range(0, len(operations), size):
            part = self.new_scope("part")
            for operation in operations[start : start + size]:
                operation.scope = part
                part.children[operation.name] = operation

    def operations(self) -> Iterator[Operation]:
        """Return the operations in this scope and in all scopes inside."""
        for child in self.children.values():
            if isinstance(child, Scope):
                yield from child.operations()
            else:
                yield child

    def summarize(self, child: Scope, op: str) -> None:
        """Show a scope directly inside as one operation."""
        members = list(child.operations())
        flops = sum(member.flops for member in members)
        attributes = {"operations": str(len(members))}
        child.summary = Operation(child.name, self, op, (), (), attributes, flops)

    def _free_name(self, name: str) -> str:
        name = base = _valid(name)
        while name in self.children:
            self._numbers[base] = self._numbers.get(base, 0) + 1
            name = f"{base}_{self._numbers[base]}"
        return name


def shown(operation: Operation) -> Operation:
    """Return the operation that the graph shows for one: the summary of its outermost summarized scope, or itself."""
    found = operation
    scope: Scope | None = operation.scope
    while scope is not None:
        found = scope.summary or found
        scope = scope.parent
    return found


def _valid(name: str) -> str:
    """Return a name without characters that TensorBoard uses in paths and references."""
    return re.sub(r"[^A-Za-z0-9_.\-]", "_", name) or "_"

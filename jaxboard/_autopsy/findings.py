"""The result of an autopsy, and its text."""

from __future__ import annotations

import dataclasses
from typing import Literal

from jaxboard._safe_repr import describe_array, first_names

_MAX_RESULTS = 5
"""Most results that an autopsy names."""


@dataclasses.dataclass(frozen=True)
class Loop:
    """An iteration of a loop around an operation.

    Attributes:
        primitive: ``scan``, ``while``, or ``shard_map``, whose iterations are the shards of a mesh.
        index: the index of the iteration, from 0. That of a ``scan`` is the index of its elements, also if it runs in reverse.
        length: the number of iterations; None for a ``while``.
    """

    primitive: str
    index: int
    length: int | None

    def __str__(self) -> str:
        of = "" if self.length is None else f" of {self.length}"
        return f"{self.primitive} {self.index}{of}"


@dataclasses.dataclass(frozen=True)
class Operand:
    """An operand of an operation.

    Attributes:
        dtype: its dtype.
        shape: its shape.
        minimum: the least finite element; None if there is none.
        maximum: the greatest finite element; None if there is none.
        nan: the number of elements that are NaN.
        inf: the number of infinite elements.
    """

    dtype: str
    shape: tuple[int, ...]
    minimum: float | None = None
    maximum: float | None = None
    nan: int = 0
    inf: int = 0

    def __str__(self) -> str:
        parts = []
        if self.minimum is not None:
            parts.append(
                f"{self.minimum:.6g}"
                if self.minimum == self.maximum
                else f"{self.minimum:.6g} to {self.maximum:.6g}"
            )
        parts += [f"{n} {name}" for n, name in ((self.nan, "NaN"), (self.inf, "infinite")) if n]
        return f"{describe_array(self)}: {', '.join(parts) or 'no elements'}"


@dataclasses.dataclass(frozen=True)
class Operation:
    """An operation of a program.

    Attributes:
        primitive: the name of JAX's primitive, such as ``log``.
        source: the line that called it, with its function: ``train.py:12 (loss_fn)``; "" if it is not known.
        caller: the line of the user that led there, if ``source`` is in a library; else "".
        scope: the :func:`jax.named_scope` and transformations around it, such as ``jvp(loss)``.
        loops: the iterations of the loops around it, the outermost first.
    """

    primitive: str
    source: str
    caller: str = ""
    scope: str = ""
    loops: tuple[Loop, ...] = ()

    def __str__(self) -> str:
        at = f" at {self.source}" if self.source else ""
        via = f", called at {self.caller}" if self.caller else ""
        return f"{self.primitive}{at}{via}"


@dataclasses.dataclass(frozen=True)
class Autopsy:
    """The first cause of the values that are not finite in the results of a program.

    Attributes:
        value: what the cause made, ``"NaN"`` or ``"infinity"``.
        operation: the operation that made it of finite operands; None if an argument had it.
        argument: the path of the argument that had it, such as ``state/params/kernel``, or "a constant of the program"; "" if an
            operation made it.
        operands: the operands of the operation, if it could be evaluated again.
        became_nan: the operation where the infinity became NaN; None if it did not.
        infinity: the argument, or "a constant of the program", that had the infinity which the operation made NaN; "" if its operands
            were finite.
        results: the paths of the results, and the tags of the reports, that are not finite.
    """

    value: Literal["NaN", "infinity"]
    operation: Operation | None
    argument: str = ""
    operands: tuple[Operand, ...] = ()
    became_nan: Operation | None = None
    infinity: str = ""
    results: tuple[str, ...] = ()

    def __str__(self) -> str:
        if self.operation is None:
            lines = [f"{self.value} was in {self.argument} before the call"]
        else:
            lines = [f"{self.value} first came from {self.operation}"]
            if self.operation.loops:
                lines.append(f"in iteration: {', '.join(map(str, self.operation.loops))}")
            if self.operation.scope:
                lines.append(f"scope: {self.operation.scope}")
            lines += [f"operand {n}: {operand}" for n, operand in enumerate(self.operands, 1)]
        if self.infinity:
            lines.append(f"the infinity came from {self.infinity}")
        if self.became_nan is not None:
            lines.append(f"it became NaN in {self.became_nan}")
        lines.append(f"not finite afterwards: {first_names(self.results, _MAX_RESULTS)}")
        return "\n  ".join(lines)


for _cls in (Autopsy, Loop, Operand, Operation):
    _cls.__module__ = "jaxboard"
del _cls

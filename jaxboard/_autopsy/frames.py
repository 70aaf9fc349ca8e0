"""The frames of a finished evaluation: one for each time that a jaxpr was evaluated, with the codes of that time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias

import jax
import numpy as np
from jax.extend.core import Literal, Var

from jaxboard._autopsy.bodies import BranchRecord, LoopRecord
from jaxboard._autopsy.codes import code_of_number
from jaxboard._autopsy.interpreter import Node, Record, Step

Variable: TypeAlias = Var | Literal


class Frame:
    """One evaluation of a jaxpr: of a body, in one iteration.

    Args:
        node: the static part.
        record: the arrays, NumPy's.
        parent: the frame of the equation around it; None for the program.
        step: the step that leads there from the parent.
    """

    def __init__(
        self,
        node: Node,
        record: Record,
        parent: Frame | None = None,
        step: Step | None = None,
    ):
        self.node, self.record, self.parent = node, record, parent
        self.step = Step(-1) if step is None else step
        self._inside: dict[Step, Frame] = {}
        self._defined = {
            var: (position, n)
            for position, eqn in enumerate(node.jaxpr.eqns)
            for n, var in enumerate(eqn.outvars)
        }

    def definition(self, var: Var) -> tuple[int, int] | None:
        """Return the position of the equation that defines a variable, and which of its results it is; None for an argument."""
        return self._defined.get(var)

    def code(self, var: Variable) -> int:
        """Return the code of a variable."""
        if isinstance(var, Literal):
            return code_of_number(var.val)
        entry = self.node.entries.get(var)
        return 0 if entry is None else int(self.record.codes[entry])

    def inside(self, step: Step) -> Frame | None:
        """Return the frame of a body of an equation, always the same one; None if it was not recorded."""
        if step not in self._inside:
            found = _record_inside(self.node, self.record, step)
            if found is None:
                return None
            node = self.node.bodies[step.position][step.branch]
            self._inside[step] = Frame(node, found, self, step)
        return self._inside[step]

    @property
    def steps(self) -> tuple[Step, ...]:
        """The steps that lead there from the program."""
        return () if self.parent is None else (*self.parent.steps, self.step)


def frames_inside(frame: Frame, position: int) -> Iterator[Frame]:
    """Return the frames of the bodies of an equation that were recorded."""
    record = frame.record.inside.get(position)
    if record is None:
        return
    branch, iterations = 0, [0]
    if isinstance(record, LoopRecord):
        iterations = sorted(n for n in record.iterations.tolist() if n >= 0)
    elif isinstance(record, BranchRecord):
        branch = int(record.taken)
    elif frame.node.jaxpr.eqns[position].primitive.name == "shard_map":
        iterations = range(len(record.codes))
    for iteration in iterations:
        inner = frame.inside(Step(position, branch, iteration))
        if inner is not None:
            yield inner


def ranges_at(node: Node, record: Record, steps: tuple[Step, ...]) -> np.ndarray | None:
    """Return the ranges that were recorded at the end of a path; None if they were not."""
    for step in steps[:-1]:
        found = _record_inside(node, record, step)
        if found is None:
            return None
        record = found
        node = node.bodies[step.position][step.branch]
    return np.asarray(record.ranges)


def _record_inside(node: Node, record: Record, step: Step) -> Record | None:
    """Return the record of a body; None if there is none."""
    inside = record.inside.get(step.position)
    if inside is None:
        return None
    if isinstance(inside, BranchRecord):
        return inside.branches[step.branch]
    if isinstance(inside, LoopRecord):
        rows = np.flatnonzero(inside.iterations == step.iteration)
        return _row(inside.body, int(rows[0])) if len(rows) else None
    if node.jaxpr.eqns[step.position].primitive.name == "shard_map":
        return _row(inside, step.iteration)
    return inside


def _row(record: Record, row: int) -> Record:
    return jax.tree.map(lambda x: x[row], record)

"""Writes ``README.md`` in this folder from the table of cases: ``PYTHONPATH=tests python -m conformance.guarantees``."""

from __future__ import annotations

import ast
import pathlib

from conformance.cases import CASES, Case, Observed
from conformance.limits import LIMITS

README = pathlib.Path(__file__).with_name("README.md")

HEADINGS = {
    "calls": "Calls",
    "derivatives": "Derivatives",
    "vmap": "`vmap`",
    "loops": "Loops",
    "branches": "Branches",
    "meshes": "Meshes",
}

HEAD = """\
# What a report means under each transformation

Written by `PYTHONPATH=tests python -m conformance.guarantees` from the cases that the tests run; a test
fails when it is out of date.

Each row is a program of [`cases.py`](cases.py), and how many values a call of it reports under each tag.
`test_transformations.py` runs it with every verb, four ways: instrumented over `jit`; instrumented
inside of somebody's `jit`; only jitted; eagerly. The first two make one point for each call, of the
values in the second column. The other two take no step, and their callbacks report those of the third
column (where it is empty, the same). On every way the results are those of the program without reports,
to the bit.

One thing can't be told from a program: under two maps with as many lanes each, which of them a mapped
`while_loop` is over for, when its lanes are done at different times. jaxboard takes the outer one, and warns.
"""

OTHERS = {
    "test_options": "Weights, masks and steps",
    "test_configurations": "Settings, shardings, compilation ahead of time",
    "test_custom_rules": "Functions with rules of their own, inside of somebody's transformation",
    "test_flax": "Flax",
    "test_equinox": "Equinox",
    "test_stack": '`reduce="stack"`',
    "test_tap": "`tap`",
    "test_compositions": "Random compositions",
    "test_deadlock": "Callbacks and the programs that wait for them",
}
"""Further tests, whose docstrings say what they hold."""

LIMITED = """\
## What is not tested, because JAX does not do it

| case | way | JAX | why | what JAX says |
|---|---|---|---|---|
"""


def text() -> str:
    """The whole page."""
    parts = [HEAD]
    for family, heading in HEADINGS.items():
        rows = [_row(case) for case in CASES if case.family == family]
        table = "| program | values of a call | by callback, without `instrument` | |\n|---|---|---|---|\n"
        parts.append(f"## {heading}\n\n{table}" + "\n".join(rows) + "\n")
    for module, heading in OTHERS.items():
        source = README.with_name(f"{module}.py")
        rows = [f"| {name} | {promise} |" for name, promise in _promises(source)]
        table = f"| [test]({source.name}) | |\n|---|---|\n"
        parts.append(f"## {heading}\n\n{table}" + "\n".join(rows) + "\n")
    rows = [
        f"| {x.case} | {', '.join(x.ways)} | "
        f"{'all' if x.before is None else 'before ' + '.'.join(map(str, x.before))} | {x.reason} | `{x.error}` |"
        for x in LIMITS
    ]
    parts.append(LIMITED + "\n".join(rows) + "\n")
    return "\n".join(parts)


def _promises(source: pathlib.Path) -> list[tuple[str, str]]:
    """The tests of a file and their docstrings."""
    found = [
        node for node in ast.parse(source.read_text()).body if isinstance(node, ast.FunctionDef)
    ]
    return [
        (node.name.removeprefix("test_").replace("_", " "), ast.get_docstring(node) or "")
        for node in found
        if node.name.startswith("test_")
    ]


def _row(case: Case) -> str:
    unharvested = "" if case.unharvested is None else _counts(case.unharvested)
    return f"| {case.name} | {_counts(case.observed)} | {unharvested} | {case.note} |"


def _counts(observed: Observed) -> str:
    counts = {tag: sum(map(len, executions)) for tag, executions in observed.items()}
    return ", ".join(f"`{tag}`: {count}" for tag, count in counts.items()) or "none"


if __name__ == "__main__":
    README.write_text(text())

"""Generate ``README.md`` in this folder: ``PYTHONPATH=tests python -m conformance.guarantees``."""

from __future__ import annotations

import ast
import pathlib

from conformance.cases import CASES, FAMILIES, Case, Observed
from conformance.flags import FLAG_LIMITS, FLAGS
from conformance.limits import LIMITS

README = pathlib.Path(__file__).with_name("README.md")

HEAD = """\
# The meaning of a report under each transformation

This page is generated from the tests with `PYTHONPATH=tests python -m conformance.guarantees`. A test fails
when it is out of date.

Each row is a program in [`programs/`](programs) and the number of values that one call of it reports under
each tag. [`test_transformations.py`](test_transformations.py) runs every program in two ways, every second one
also eagerly, and every third one, with all on a mesh, also inside another `jit`. An instrumented program reports with
verbs for all dtypes that a frame packs; the ways share the other verbs among them. Five programs report with every verb,
instrumented and not.

| test | the program is | points | values per call |
|---|---|---|---|
| `test_output` | instrumented and jitted | one per call | second column |
| `test_callback` | instrumented and jitted, inside another `jit` | one per call | second column |
| `test_no_instrument` | jitted only | one, because no call counts as a step | third column, or the second if the third is empty |
| `test_eager` | neither | one, because no call counts as a step | third column, or the second if the third is empty |

In all these ways, the results are bit-identical to those of the program without reports.

There is one thing that jaxboard cannot know. Under two nested maps with the same number of lanes, a mapped
`while_loop` may finish at a different time in each lane, and the program does not show to which of the maps
these lanes belong. jaxboard assumes the outer map and warns.
"""

TEST_FILES = {
    "test_any_jaxpr": "Random programs",
    "test_options": "Weights, masks and steps",
    "test_configurations": "JAX settings, dtypes, shardings, ahead-of-time compilation",
    "test_custom_rules": "Functions with custom rules, instrumented inside a transformation",
    "test_flax": "Flax",
    "test_equinox": "Equinox",
    "test_stack": '`reduce="stack"`',
    "test_histogram_stack": 'Histograms with `reduce="stack"`',
    "test_tap": "`tap`",
    "test_compositions": "Random compositions",
    "test_deadlock": "Callbacks of programs that wait for each other",
    "test_flags": "Flags of a later JAX",
}
"""Test file -> its heading. The table shows the docstrings of its tests."""

LIMITED = """\
## Combinations that JAX or Flax does not support

| case | delivery | JAX versions | reason | error message |
|---|---|---|---|---|
"""

FLAGGED = """\
## With the flags of a later JAX

JAX replaces some primitives by others, which flags turn on today. `.ci/run tomorrow` runs the tests in this folder with each
flag on the newest JAX.

| flag | what it changes |
|---|---|
{flags}

JAX itself cannot do the following with them. A test that needs it is skipped.

| flag | what JAX does | tests | error message, or wrong result | program in [`flags.py`](flags.py) that shows it without reports |
|---|---|---|---|---|
{limits}
"""


def text() -> str:
    """Return the whole page."""
    parts = [HEAD]
    for family, heading in FAMILIES.items():
        rows = [_row(case) for case in CASES if case.family == family]
        columns = "| program | values per call | callbacks without `instrument` | remark |\n"
        parts.append(f"## {heading}\n\n{columns}|---|---|---|---|\n" + "\n".join(rows) + "\n")
    for module, heading in TEST_FILES.items():
        source = README.with_name(f"{module}.py")
        rows = [f"| `{name}` | {contract} |" for name, contract in _contracts(source)]
        table = f"| test in [`{source.name}`]({source.name}) | contract |\n|---|---|\n"
        parts.append(f"## {heading}\n\n{table}" + "\n".join(rows) + "\n")
    rows = [
        f"| {x.case} | {', '.join(x.deliveries)} | "
        f"{'all' if x.before is None else 'before ' + '.'.join(map(str, x.before))} | {x.reason} | `{x.error}` |"
        for x in LIMITS
    ]
    parts.append(LIMITED + "\n".join(rows) + "\n")
    flags = "\n".join(
        f"| `{flag.replace(',', '`, `')}` | {change} |" for flag, change in FLAGS.items()
    )
    limits = "\n".join(
        f"| `{x.flag}` | {x.reason} | {', '.join(f'`{test}`' for test in x.tests) or 'those that raise it'} "
        f"| `` {x.error} `` | `{x.program.__name__}` |"
        for x in FLAG_LIMITS
    )
    parts.append(FLAGGED.format(flags=flags, limits=limits))
    return "\n".join(parts)


def _contracts(source: pathlib.Path) -> list[tuple[str, str]]:
    """Return the tests of a file with their docstrings, each on one line."""
    functions = [
        node for node in ast.parse(source.read_text()).body if isinstance(node, ast.FunctionDef)
    ]
    return [
        (node.name, " ".join((ast.get_docstring(node) or "").split()))
        for node in functions
        if node.name.startswith("test_")
    ]


def _row(case: Case) -> str:
    unharvested = "" if case.unharvested is None else _counts(case.unharvested)
    return f"| `{case.name}` | {_counts(case.observed)} | {unharvested} | {case.note} |"


def _counts(observed: Observed) -> str:
    counts = {tag: sum(map(len, executions)) for tag, executions in observed.items()}
    return ", ".join(f"`{tag}`: {count}" for tag, count in counts.items()) or "none"


if __name__ == "__main__":
    README.write_text(text())

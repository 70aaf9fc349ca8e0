"""``python -m jaxboard why``: the reasons why a run is slow, or broke."""

from __future__ import annotations

import dataclasses
import json
import sys
from typing import Any

from jaxboard._cli.console import wrapped
from jaxboard._errors import JaxboardError
from jaxboard._safe_repr import printable
from jaxboard._why.evidence import Evidence, read_evidence
from jaxboard._why.finding import Finding
from jaxboard._why.sections import explain

_NOTHING = (
    "jaxboard wrote nothing about the runs in {!r} that explains a problem. Open them with jb.Run(telemetry=True) for "
    "the time that each part of the program takes."
)


def main(logdir: str, *, as_json: bool) -> int:
    """Explain the runs in a directory.

    Args:
        logdir: the directory.
        as_json: print one JSON object; docs/when_something_is_wrong.md documents it.

    Returns:
        The exit status: 0, or 1 if nothing could be read.
    """
    try:
        runs = read_evidence(logdir)
    except JaxboardError as error:
        print(error, file=sys.stderr)
        return 1
    if not runs:
        print(f"why({logdir!r}): there are no event files.", file=sys.stderr)
        return 1
    explained = [(evidence, explain(evidence)) for evidence in runs]
    if as_json:
        print(json.dumps(_as_json(logdir, explained), indent=2))
        return 0
    shown = [(evidence.run, findings) for evidence, findings in explained if findings]
    if not shown:
        print(_NOTHING.format(logdir))
    for run, findings in shown:
        if len(runs) > 1:
            print(f"== {printable(run)} ==\n")
        for finding in findings:
            print(_lines(finding), end="\n\n")
    return 0


def _lines(finding: Finding) -> str:
    place = "" if finding.step is None else f" (step {finding.step:,})"
    return "\n".join(
        [
            f"{finding.title}{place}",
            *map(_indented, [finding.sentence, *finding.details.splitlines()]),
        ]
    )


def _indented(line: str) -> str:
    """Return a line that fits the terminal, unless it is the row of a table."""
    text = f"  {printable(line)}".rstrip()
    return text if line.startswith("|") else wrapped(text, indent=2)


def _as_json(logdir: str, explained: list[tuple[Evidence, list[Finding]]]) -> dict[str, Any]:
    return {
        "logdir": logdir,
        "runs": [
            {"run": evidence.run, "findings": [dataclasses.asdict(each) for each in findings]}
            for evidence, findings in explained
        ],
    }

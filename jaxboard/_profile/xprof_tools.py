"""Queries to the tools of xprof, which draws TensorBoard's Profile tab. Importing this imports xprof.

xprof writes cache files next to the trace that it reads.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from xprof.convert import raw_to_tool_data

from jaxboard._profile.summary import Operation

_TOOLS = (
    ("hlo_stats", "hlo_op_name", "tf_op_name", "total_self_time"),
    # With CUDA graphs there are no operations, but at least kernels (openxla/xprof#3070).
    ("kernel_stats", "kernel_name", "op_name", "total_duration_us"),
)
"""Tools for accelerators, and their columns of name, scope and microseconds."""

_INSTRUCTION = re.compile(
    r'^\s*(?:ROOT )?%?([\w.-]+) = .*metadata={[^}]*op_name="([^"]*)"', re.MULTILINE
)


def operations(file: str) -> tuple[str, list[Operation]]:
    """Return the operations of accelerators, and the tool that listed them."""
    for tool, name, scope, microseconds in _TOOLS:
        rows = _rows(json.loads(_query(file, tool) or "{}"))
        if rows:
            totals: dict[tuple[str, str], tuple[int, float]] = defaultdict(lambda: (0, 0.0))
            for row in rows:
                key = row[name], _without_program(row[scope] or "")
                count, ms = totals[key]
                totals[key] = count + int(row["occurrences"]), ms + row[microseconds] / 1e3
            return tool, [
                Operation(name, "", scope, count, ms)
                for (name, scope), (count, ms) in totals.items()
            ]
    return _TOOLS[0][0], []


def scopes(file: str, programs: Iterable[str]) -> dict[tuple[str, str], str]:
    """Return the known scopes of operations, by program (``"jit_f(3)"``) and name."""
    found = {}
    for program in programs:
        options = {"type": "long_txt", "module_name": program, "show_metadata": 1}
        # A trace without the program (hlo=False) raises.
        with contextlib.suppress(Exception):
            text = _query(file, "graph_viewer", graph_viewer_options=options)
            found |= {
                (program, name): _without_program(scope)
                for name, scope in _INSTRUCTION.findall(text)
            }
    return found


def _query(file: str, tool: str, **parameters: object) -> str:
    # This call makes xprof extract the programs from the trace.
    raw_to_tool_data.xspace_to_tool_names([file])
    host = os.path.basename(file).removesuffix(".xplane.pb")
    data, _ = raw_to_tool_data.xspace_to_tool_data(
        [file], tool, {"use_saved_result": False, "hosts": [host], **parameters}
    )
    return data.decode() if isinstance(data, bytes) else data or ""


def _rows(table: Any) -> list[dict[str, Any]]:
    """Return the rows of a table in the JSON format of xprof's tools."""
    table = table[0] if isinstance(table, list) else table
    names = [column["id"] for column in table.get("cols", ())]
    return [
        dict(zip(names, (cell["v"] for cell in row["c"]), strict=True))
        for row in table.get("rows", ())
    ]


def _without_program(scope: str) -> str:
    """Return a scope without the program's name in front, which instrumented programs have twice."""
    return re.sub(r"^jit\(([^)]*)\)/(?:jit\(\1\)/)*", "", scope)

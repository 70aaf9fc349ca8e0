"""What xprof, which draws TensorBoard's Profile tab, is asked of a trace. Importing this imports it.

It puts files of its own beside the trace that it reads.
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

from jaxboard._profile.summary import Op

_TOOLS = (
    ("hlo_stats", "hlo_op_name", "tf_op_name", "total_self_time"),
    # Where CUDA graphs hide the operations there are at least kernels (openxla/xprof#3070).
    ("kernel_stats", "kernel_name", "op_name", "total_duration_us"),
)
"""Tools that know what an accelerator did, and the columns of name, scope and microseconds."""

_INSTRUCTION = re.compile(
    r'^\s*(?:ROOT )?%?([\w.-]+) = .*metadata={[^}]*op_name="([^"]*)"', re.MULTILINE
)


def operations(file: str) -> tuple[str, list[Op]]:
    """What accelerators did, and the tool that said so. The planes of each kind are read differently."""
    for tool, name, scope, microseconds in _TOOLS:
        rows = _rows(json.loads(_ask(file, tool) or "{}"))
        if rows:
            totals: dict[tuple[str, str], tuple[int, float]] = defaultdict(lambda: (0, 0.0))
            for row in rows:
                key = row[name], _short(row[scope] or "")
                times, ms = totals[key]
                totals[key] = times + int(row["occurrences"]), ms + row[microseconds] / 1e3
            return tool, [
                Op(name, "", scope, times, ms) for (name, scope), (times, ms) in totals.items()
            ]
    return _TOOLS[0][0], []


def scopes(file: str, programs: Iterable[str]) -> dict[tuple[str, str], str]:
    """The scope of each operation, by program (``"jit_f(3)"``) and name. What isn't known is left out."""
    found = {}
    for program in programs:
        options = {"type": "long_txt", "module_name": program, "show_metadata": 1}
        # Without the program in the trace (hlo=False) it raises.
        with contextlib.suppress(Exception):
            text = _ask(file, "graph_viewer", graph_viewer_options=options)
            found |= {(program, name): _short(op) for name, op in _INSTRUCTION.findall(text)}
    return found


def _ask(file: str, tool: str, **parameters: Any) -> str:
    # First the names of its tools: that makes xprof take the programs out of the trace.
    raw_to_tool_data.xspace_to_tool_names([file])
    host = os.path.basename(file).removesuffix(".xplane.pb")
    data, _ = raw_to_tool_data.xspace_to_tool_data(
        [file], tool, {"use_saved_result": False, "hosts": [host], **parameters}
    )
    return data.decode() if isinstance(data, bytes) else data or ""


def _rows(table: Any) -> list[dict[str, Any]]:
    """The rows of a table as xprof's tools give it."""
    table = table[0] if isinstance(table, list) else table
    names = [column["id"] for column in table.get("cols", ())]
    return [
        dict(zip(names, (cell["v"] for cell in row["c"]), strict=True))
        for row in table.get("rows", ())
    ]


def _short(scope: str) -> str:
    """Without the name of the program, which is in front of all, twice where it's instrumented."""
    return re.sub(r"^jit\(([^)]*)\)/(?:jit\(\1\)/)*", "", scope)

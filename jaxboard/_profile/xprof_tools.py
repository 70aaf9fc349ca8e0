"""Queries to the tools of xprof, which draws TensorBoard's Profile tab. Importing this imports xprof."""

from __future__ import annotations

import contextlib
import html
import json
import os
import re
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Any

from xprof.convert import raw_to_tool_data

from jaxboard._profile.summary import Operation

_TOOLS = (
    ("hlo_stats", "hlo_op_name", "tf_op_name", "total_self_time"),
    # With CUDA graphs there are no operations, but at least kernels (openxla/xprof#3070).
    ("kernel_stats", "kernel_name", "op_name", "total_duration_us"),
)
"""Tools for accelerators, and their columns of name, scope and microseconds."""

_METRICS = {
    "device_duty_cycle_percent",
    "flop_rate_utilization_relative_to_roofline",
    "hbm_utilization_percent",
    "memory_bw_utilization_relative_to_hw_limit",
    "mxu_utilization_percent",
}
"""Metrics of the overview page, in percent."""

_NO_ADVICE = re.compile(r"Your program is NOT input-bound|No step time measured")
"""The start of sentences that are not advice."""

_INSTRUCTION = re.compile(
    r'^\s*(?:ROOT )?%?([\w.-]+) = .*metadata={[^}]*op_name="([^"]*)"', re.MULTILINE
)


@contextlib.contextmanager
def readable(file: str) -> Iterator[str]:
    """Yield a path under which xprof can read a trace. xprof writes cache files next to what it reads."""
    with tempfile.TemporaryDirectory(prefix="jaxboard-xprof-") as directory:
        link = os.path.join(directory, os.path.basename(file))
        try:
            os.symlink(os.path.abspath(file), link)
        except OSError:  # Windows, without the privilege.
            link = file
        # This call makes xprof extract the programs from the trace.
        raw_to_tool_data.xspace_to_tool_names([link])
        yield link


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


def advice(file: str, *, is_accelerator: bool) -> list[str]:
    """Return the suggestions of xprof in plain text.

    The sentence of its overview page is left out if it only states that nothing waits for input: xprof looks for input
    operations of TensorFlow and of TPUs, and does not know the loop of a JAX program.
    """
    report = _answer(file, "smart_suggestion")
    found = [
        _plain(suggestion.get("suggestionText", ""))
        for suggestion in (report.get("suggestions", ()) if isinstance(report, dict) else ())
    ]
    if is_accelerator:
        found += [_plain(page.get("statement", "")) for page in _properties(file, "overview_page")]
    return [text for text in dict.fromkeys(found) if text and not _NO_ADVICE.match(text)]


def metrics(file: str) -> dict[str, float]:
    """Return the metrics of xprof's overview page that are above 0, in percent, by their names."""
    return {
        name: number
        for page in _properties(file, "overview_page")
        for name in _METRICS & page.keys()
        if (number := _percent(page[name])) > 0
    }


def bound_by(file: str) -> str:
    """Return what limits the whole program in xprof's roofline model; empty if it is unknown."""
    table = _answer(file, "roofline_model")
    for row in _rows(table) if table else ():
        if row.get("operation") == "Program":
            limit = str(row.get("bound_by") or "")
            return "" if limit.lower() in ("", "unknown", "0") else limit
    return ""


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


def _answer(file: str, tool: str) -> Any:
    """Return the answer of a tool; {} if it has none."""
    # A tool raises for traces that it does not understand.
    with contextlib.suppress(Exception):
        return json.loads(_query(file, tool) or "{}")
    return {}


def _properties(file: str, tool: str) -> list[dict[str, Any]]:
    """Return the properties of each table of a tool."""
    tables = _answer(file, tool)
    return [table.get("p") or {} for table in tables] if isinstance(tables, list) else []


def _percent(text: object) -> float:
    try:
        return float(str(text).removesuffix("%"))
    except ValueError:
        return 0.0


def _plain(text: str) -> str:
    """Return HTML as plain text, with its list items as lines.

    Example:
        >>> print(_plain("<p>Limited by <b>input</b>.</p><ul><li>Cache &amp; batch</li></ul>"))
        Limited by input.
        - Cache & batch
    """
    text = re.sub(r"<li[^>]*>", "\n- ", text)
    text = re.sub(r"<(?:/?p|br)\b[^>]*>", "\n", text)
    lines = html.unescape(re.sub(r"<[^>]+>", "", text)).splitlines()
    return "\n".join(" ".join(line.split()) for line in lines if line.strip())


def _query(file: str, tool: str, **parameters: object) -> str:
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

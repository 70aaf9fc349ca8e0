"""Tables as Markdown, which TensorBoard shows with a header."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable

_CODE = re.compile(r"(?<![\\`])(`+)(?!`)(.+?)(?<!`)\1(?!`)", re.DOTALL)
_LINE_END = re.compile(r"\r\n|\r|\n")


def table(rows: Iterable[Iterable[object]], numbers: Collection[int] = ()) -> str:
    r"""Return rows as a Markdown table, with the first row as its header.

    Cells may contain Markdown. Short rows are padded. In a cell, pipes and line ends are escaped, and so are
    backticks without a partner, which would turn the following cells into code.

    Args:
        rows: the cells.
        numbers: the columns that are aligned to the right.

    Example:
        >>> print(table([["name", "value"], ["a|b", "1\n2"], ["`a|b`"]]))
        | name | value |
        | --- | --- |
        | a&#124;b | 1<br>2 |
        | `a|b` |  |
    """
    cells = [[_cell(str(cell)) for cell in row] for row in rows]
    width = max(map(len, cells), default=0)
    if not width:
        return ""
    header, *others = (row + [""] * (width - len(row)) for row in cells)
    line = ["---:" if column in numbers else "---" for column in range(width)]
    return "\n".join(f"| {' | '.join(row)} |" for row in (header, line, *others))


def _cell(text: str) -> str:
    text = text.strip()
    parts: list[str] = []
    end = 0
    for code in _CODE.finditer(text):
        parts += [_prose(text[end : code.start()]), _LINE_END.sub(" ", code[0])]
        end = code.end()
    return "".join([*parts, _prose(text[end:])])


def _prose(text: str) -> str:
    # An escaped pipe (\|) after another backslash would still end the cell.
    text = re.sub(r"(?<!\\)`", "&#96;", text).replace("|", "&#124;")
    return _LINE_END.sub("<br>", text)

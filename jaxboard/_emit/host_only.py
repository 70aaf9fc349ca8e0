"""The verbs for plain Python only: ``text`` and ``figure``."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from jaxboard._emit import arguments
from jaxboard._emit.reporting import report_record
from jaxboard.records import EncodedImage, Kind

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def text(
    tag: str,
    value: str | Sequence[Sequence[object]],
    *,
    step: int | None = None,
    every: int | None = None,
) -> None:
    """Report text or a table. Only for plain Python.

    Args:
        tag: the name.
        value: Markdown, or the rows of a table, header first. Cells are converted with ``str``.
        step: the step of the text, instead of the last step taken.
        every: report only at steps that are multiples of this.

    Raises:
        ReportError: JAX is tracing, or an argument is invalid.

    Example:
        >>> import jaxboard as jb
        >>> from jaxboard.testing import capture
        >>> with capture() as records:
        ...     jb.text("notes", "**first** try")
        ...     jb.text("settings", [["name", "value"], ["layers", 3]])
        >>> [record.value for record in records]
        ['**first** try', [['name', 'value'], ['layers', '3']]]
    """
    arguments.check_tag(tag)
    content: str | list[list[str]]
    if isinstance(value, str):
        content = value
    else:
        try:
            content = [[str(cell) for cell in row] for row in value]
        except TypeError as error:
            got = arguments.describe_object(value)
            raise arguments.report_error(
                tag, f"expected a string or rows of strings, got {got}."
            ) from error
    report_record("text", Kind.TEXT, tag, lambda: content, step=step, every=every)


def figure(
    tag: str,
    value: Figure | Callable[[], Figure],
    *,
    step: int | None = None,
    every: int | None = None,
    close: bool = True,
) -> None:
    """Report a matplotlib figure as an image. Only for plain Python.

    Args:
        tag: the name.
        value: the figure, or a function that returns it. The function is called only if the report is due.
        step: the step of the figure, instead of the last step taken.
        every: report only at steps that are multiples of this.
        close: close the figure afterwards. Otherwise pyplot keeps it open.

    Raises:
        ReportError: JAX is tracing, ``value`` is not a figure, or an argument is invalid.

    Example:
        >>> from matplotlib.figure import Figure
        >>> import jaxboard as jb
        >>> from jaxboard.testing import capture
        >>> with capture() as records:
        ...     jb.figure("empty", Figure(figsize=(2, 1), dpi=100))
        >>> records[0].value.width, records[0].value.height
        (200, 100)
    """

    def render() -> EncodedImage:
        fig = value() if callable(value) else value
        if not hasattr(fig, "savefig"):
            got = arguments.describe_object(fig)
            raise arguments.report_error(tag, f"expected a matplotlib figure, got {got}.")
        file = io.BytesIO()
        fig.savefig(file, format="png", dpi=fig.dpi, pil_kwargs={"compress_level": 1})
        if close:
            from matplotlib import pyplot as plt

            plt.close(fig)
        data = file.getvalue()
        # PNG, section 11.2.2: width and height are the first two words of the header chunk.
        width, height = (int.from_bytes(data[i : i + 4], "big") for i in (16, 20))
        return EncodedImage(data, width, height)

    arguments.check_tag(tag)
    report_record("figure", Kind.IMAGE, tag, render, step=step, every=every)

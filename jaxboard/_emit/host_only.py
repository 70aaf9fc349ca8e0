"""The verbs for plain Python only: ``text`` and ``figure``."""

from __future__ import annotations

import contextlib
import functools
import io
import itertools
import math
import sys
import types
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol, TypeAlias, cast

from jaxboard._emit import arguments
from jaxboard._emit.reporting import report_record
from jaxboard._errors import ReportError
from jaxboard._host.drawings import Drawing, drawing
from jaxboard._safe_repr import describe_object, encodable
from jaxboard.records import EncodedImage, Kind

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class HasFigure(Protocol):
    """An object with a matplotlib figure, such as axes, or a grid of seaborn."""

    @property
    def figure(self) -> object: ...


FigureLike: TypeAlias = "Figure | HasFigure"
"""A matplotlib figure, or an object that has one."""

Figures: TypeAlias = "FigureLike | list[FigureLike] | tuple[FigureLike, ...]"
"""The values that :func:`figure` accepts."""


_EXPECTED = "expected a string or rows of strings"

_MAX_CELLS = 1_000_000
"""Most cells of a table. No browser shows more."""


def text(
    tag: str,
    value: str | Sequence[Sequence[object]],
    *,
    step: int | None = None,
    every: int | None = None,
    walltime: float | None = None,
) -> None:
    """Report text or a table. Only for plain Python.

    Args:
        tag: the name.
        value: Markdown, or the rows of a table, header first. Cells are converted with ``str``. A list of
            strings is neither.
        step: the step of the text, instead of the last step taken.
        every: report only at steps that are multiples of this.
        walltime: the time of the report, in seconds since the epoch, instead of now.

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
    content = encodable(value) if isinstance(value, str) else _table(tag, value)
    report_record(
        "text", Kind.TEXT, tag, lambda: content, step=step, every=every, walltime=walltime
    )


def _table(tag: str, value: object) -> list[list[str]]:
    """Return the rows of a table as strings."""
    if isinstance(value, Mapping):
        raise arguments.report_error(
            tag,
            f"{_EXPECTED}, got a {type(value).__name__}. "
            "Make rows of it: [['name', 'value'], *config.items()].",
        )
    table: list[list[str]] = []
    room = _MAX_CELLS
    try:
        for row in cast(Iterable[Iterable[object]], value):
            _check_row(tag, value, row)
            table.append([encodable(str(cell)) for cell in itertools.islice(row, room + 1)])
            room -= max(len(table[-1]), 1)
            if room < 0:
                break
    except ReportError:
        raise
    except Exception as error:
        got = describe_object(value)
        raise arguments.report_error(tag, f"{_EXPECTED}, got {got}.") from error
    if room < 0:
        raise arguments.report_error(
            tag, f"{_EXPECTED}, got more than {_MAX_CELLS} cells. Report a part of the table."
        )
    return table


def _check_row(tag: str, value: object, row: object) -> None:
    """Raise for a row that is a text or a mapping: its cells would be letters or names."""
    if isinstance(row, str | bytes):
        raise arguments.report_error(
            tag,
            f"{_EXPECTED}, got a {type(value).__name__} of strings. Join them, as in "
            "'\\n\\n'.join(lines), or make each one a row, as in [[line] for line in lines].",
        )
    if isinstance(row, Mapping):
        raise arguments.report_error(
            tag,
            f"{_EXPECTED}, got rows that are dicts. Make lists of them: "
            "[list(rows[0]), *(list(row.values()) for row in rows)].",
        )


def figure(
    tag: str,
    value: Figures | Callable[[], Figures],
    *,
    step: int | None = None,
    every: int | None = None,
    walltime: float | None = None,
    close: bool = True,
) -> None:
    """Report a matplotlib figure as an image, or several figures as the images of one card. Only for plain Python.

    Args:
        tag: the name.
        value: the figure, or an object with a ``figure`` (axes, a grid of seaborn), or a list or tuple of them, or a
            function that returns any of these. The function is called immediately, but only if the report is due.
            Another thread renders the figures that it returns, so it must make new ones in each call.
        step: the step of the figure, instead of the last step taken.
        every: report only at steps that are multiples of this.
        walltime: the time of the report, in seconds since the epoch, instead of now.
        close: close the figures afterwards, also if the report is not due. Otherwise pyplot keeps them open, and
            they are rendered before the call returns.

    Raises:
        ReportError: JAX is tracing, ``value`` is or contains no figure, or an argument is invalid.

    Example:
        >>> from matplotlib.figure import Figure
        >>> import jaxboard as jb
        >>> from jaxboard.testing import capture
        >>> with capture() as records:
        ...     jb.figure("empty", Figure(figsize=(2, 1), dpi=100))
        >>> records[0].value.width, records[0].value.height
        (200, 100)
    """
    arguments.check_tag(tag)
    closes = arguments.check_bool(tag, "close", close)
    figures = [] if callable(value) else _figures_of(tag, value)

    def images() -> EncodedImage | tuple[EncodedImage, ...] | Drawing:
        with drawing():
            if callable(value):
                figures.extend(_figures_of(tag, value()))
                if closes:
                    _close(figures)
                    size = sum(4 * math.prod(fig.canvas.get_width_height()) for fig in figures)
                    return Drawing(functools.partial(_rendered, tuple(figures)), size)
            return _rendered(figures)

    try:
        report_record("figure", Kind.IMAGE, tag, images, step=step, every=every, walltime=walltime)
    finally:
        if closes:
            _close(figures)


def _close(figures: Sequence[Figure]) -> None:
    """Remove figures from those that pyplot keeps open. They can still be rendered."""
    if figures and "matplotlib.pyplot" in sys.modules:
        from matplotlib import pyplot as plt

        for fig in figures:
            plt.close(fig)


def _figures_of(tag: str, value: object) -> list[Figure]:
    """Return a figure, or each figure of a list or tuple once: several axes may be parts of one."""
    if isinstance(value, list | tuple) and value:
        members = cast("Sequence[object]", value)
        return list(dict.fromkeys(_figure_of(tag, each) for each in members))
    return [_figure_of(tag, value)]


def _figure_of(tag: str, value: object) -> Figure:
    """Return a figure, or the figure of an object that has one: axes, or a grid of seaborn."""
    if isinstance(value, types.ModuleType):
        raise arguments.report_error(
            tag, f"expected a matplotlib figure, got the module {value.__name__}. Pass plt.gcf()."
        )
    with contextlib.suppress(Exception):  # An attribute of the object raises.
        inner = getattr(value, "figure", None)
        # The figure of axes may be a part of a figure, which has one too.
        outer = getattr(inner, "figure", None)
        for candidate in (value, inner, outer, getattr(value, "fig", None)):
            if hasattr(candidate, "savefig") and hasattr(candidate, "dpi"):
                return cast("Figure", candidate)
    got = describe_object(value)
    raise arguments.report_error(tag, f"expected a matplotlib figure, got {got}.")


def _rendered(figures: Sequence[Figure]) -> EncodedImage | tuple[EncodedImage, ...]:
    images = [_encoded(fig) for fig in figures]
    return images[0] if len(images) == 1 else tuple(images)


def _encoded(fig: Figure) -> EncodedImage:
    """Return a figure as a PNG of its size."""
    file = io.BytesIO()
    fig.savefig(file, format="png", dpi=fig.dpi, pil_kwargs={"compress_level": 1})
    data = file.getvalue()
    # PNG, section 11.2.2: width and height are the first two words of the header chunk.
    width, height = (int.from_bytes(data[i : i + 4], "big") for i in (16, 20))
    return EncodedImage(data, width, height)

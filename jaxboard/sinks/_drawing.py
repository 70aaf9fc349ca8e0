"""Pictures of numbers, drawn without matplotlib: heat maps and curves.

The flusher's thread draws them, so that the training loop never does.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence
from typing import Protocol, TypeAlias, cast

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from jaxboard._reduce.color_maps import color_map
from jaxboard.records import EncodedImage
from jaxboard.sinks import _files

Font: TypeAlias = ImageFont.FreeTypeFont | ImageFont.ImageFont
"""A font of PIL."""

Color: TypeAlias = tuple[int, int, int]
"""Red, green and blue, from 0 to 255."""

_UNITS = ((3600.0, "hours"), (60.0, "minutes"), (1.0, "seconds"), (0.001, "milliseconds"))

INK, GRID, PAPER = (32, 33, 36), (218, 220, 224), (255, 255, 255)
_CURVE = (25, 103, 210)
_MARGIN = 12
"""Pixels around a picture, and between its parts."""

_LARGEST = 720
"""Pixels of the longer side of a heat map. Its cells are at least one pixel wide."""

_LABEL_WIDTH = 160
"""Most pixels of a label beside a row."""

_TEXT_SIZE = 13
_SMALLEST_TEXT = 8


def colors(values: np.ndarray) -> np.ndarray:
    """Return numbers as colors, from dark violet for 0 to yellow for 1.

    Args:
        values: floats of any shape. Numbers outside of 0 to 1 have the color of the nearer end; NaN is white.

    Returns:
        uint8[..., 3].

    Example:
        >>> colors(np.array([0.0, 1.0, np.nan])).tolist()
        [[68, 1, 84], [253, 231, 37], [255, 255, 255]]
    """
    places = (255 * np.clip(np.nan_to_num(values), 0, 1)).round().astype(np.uint8)
    return np.where(np.isnan(values)[..., None], np.uint8(255), color_map("viridis")[places])


def heat_map(
    values: np.ndarray,
    *,
    rows: Sequence[str] = (),
    columns: Sequence[str] = (),
    row_title: str = "",
    column_title: str = "",
    texts: Sequence[Sequence[str]] = (),
) -> EncodedImage:
    """Return a picture of a matrix: a colored cell for each number.

    Args:
        values: [R, C], from 0 to 1.
        rows: the labels of the rows, or none.
        columns: the labels of the columns, or none.
        row_title: the title of the rows' axis.
        column_title: the title of the columns' axis.
        texts: what each cell shows, R rows of C texts, or none. Texts are left out if the cells are too small.
    """
    height, width = values.shape
    side = max(1, min(64, _LARGEST // max(height, width)))
    size = int(min(_TEXT_SIZE, side * 0.8))
    labeled = size >= _SMALLEST_TEXT
    label_font, title_font = text_font(max(size, _SMALLEST_TEXT)), text_font(_TEXT_SIZE)
    row_labels = [shortened(text, label_font) for text in rows] if labeled else []
    column_labels = [shortened(text, label_font) for text in columns] if labeled else []
    left = _MARGIN + _line(title_font, row_title) + _longest(row_labels, label_font)
    top = _MARGIN + _line(title_font, column_title)
    upright = _longest(column_labels, label_font) <= side
    top += _line(label_font, *column_labels[:1]) if upright else _longest(column_labels, label_font)
    canvas = Image.new("RGB", (left + width * side + _MARGIN, top + height * side + _MARGIN), PAPER)
    cells = Image.fromarray(colors(np.asarray(values, np.float64)))
    canvas.paste(cells.resize((width * side, height * side), Image.Resampling.NEAREST), (left, top))
    draw = ImageDraw.Draw(canvas)
    for index, text in enumerate(row_labels):
        where = left - _MARGIN // 2, top + (index + 0.5) * side
        draw.text(where, text, INK, label_font, anchor="rm")
    for index, text in enumerate(column_labels):
        middle = left + (index + 0.5) * side
        if upright:
            draw.text((middle, top - _MARGIN // 2), text, INK, label_font, anchor="mb")
        else:
            _text_upwards(canvas, (middle, top - _MARGIN // 2), text, label_font)
    draw.text((left + width * side / 2, _MARGIN), column_title, INK, title_font, anchor="mt")
    if row_title:
        bottom = top + height * side / 2 + title_font.getbbox(row_title)[2] / 2
        middle = _MARGIN + _line(title_font, row_title) / 2 - _MARGIN / 4
        _text_upwards(canvas, (middle, bottom), row_title, title_font)
    _cell_texts(draw, texts, values, (left, top), side)
    return encoded(canvas)


def _cell_texts(
    draw: ImageDraw.ImageDraw,
    texts: Sequence[Sequence[str]],
    values: np.ndarray,
    corner: tuple[int, int],
    side: int,
) -> None:
    """Write a text into each cell, if the longest one fits."""
    longest = max(itertools.chain.from_iterable(texts), key=len, default="")
    sizes = range(_TEXT_SIZE, _SMALLEST_TEXT - 1, -1)
    fitting = (text_font(size) for size in sizes if text_font(size).getbbox(longest)[2] <= side - 4)
    font = next(fitting, None)
    if font is None or side < 2 * _SMALLEST_TEXT:
        return
    left, top = corner
    for row, (line, numbers) in enumerate(zip(texts, values, strict=False)):
        for column, (text, number) in enumerate(zip(line, numbers, strict=False)):
            where = left + (column + 0.5) * side, top + (row + 0.5) * side
            draw.text(where, text, INK if number > 0.55 else PAPER, font, anchor="mm")


def curve(
    x: np.ndarray, y: np.ndarray, *, x_title: str, y_title: str, title: str, diagonal: bool = False
) -> EncodedImage:
    """Return a picture of a curve in the unit square.

    Args:
        x: float[N], from 0 to 1.
        y: float[N], from 0 to 1.
        x_title: the title of the horizontal axis.
        y_title: the title of the vertical axis.
        title: the title of the picture.
        diagonal: draw the line from the origin to (1, 1) too.
    """
    side, left, top, scale = 320, 64, 36, 3
    size = left + side + 2 * _MARGIN, top + side + 52
    # Drawn larger and scaled down: PIL's lines are not smooth.
    plane = Image.new("RGB", (side * scale, side * scale), PAPER)
    lines = ImageDraw.Draw(plane)
    last = side * scale - 1
    for tick in range(6):
        at = round(tick / 5 * last)
        lines.line([(0, at), (last, at)], GRID, scale)
        lines.line([(at, 0), (at, last)], GRID, scale)
    if diagonal:
        lines.line([(0, last), (last, 0)], GRID, 2 * scale)
    points = [(float(a) * last, (1 - float(b)) * last) for a, b in zip(x, y, strict=True)]
    lines.line(points, _CURVE, 2 * scale, joint="curve")
    canvas = Image.new("RGB", size, PAPER)
    canvas.paste(plane.resize((side, side), Image.Resampling.LANCZOS), (left, top))
    draw = ImageDraw.Draw(canvas)
    font = text_font(_TEXT_SIZE)
    draw.rectangle([left, top, left + side, top + side], outline=INK)
    for tick in range(6):
        offset = round(tick / 5 * side)
        text = f"{tick / 5:.1f}"
        draw.text((left + offset, top + side + 6), text, INK, font, anchor="mt")
        draw.text((left - 6, top + side - offset), text, INK, font, anchor="rm")
    draw.text((left + side / 2, top / 2), title, INK, font, anchor="mm")
    draw.text((left + side / 2, size[1] - _MARGIN), x_title, INK, font, anchor="mb")
    bottom = top + side / 2 + font.getbbox(y_title)[2] / 2
    _text_upwards(canvas, (_MARGIN + 6, bottom), y_title, font)
    return encoded(canvas)


def stacked_shares(
    columns: np.ndarray, names: Sequence[str], palette: Sequence[Color], *, title: str
) -> EncodedImage:
    """Return a picture of how a time was divided: a column for each interval, as wide as it was long.

    Args:
        columns: float[T, K], the seconds of each of K parts in T intervals.
        names: the names of the parts, for the legend. Parts without any time are left out of it.
        palette: their colors. The first part is at the bottom.
        title: the title of the picture.
    """
    width, height, left, scale = 320, 180, 52, 3
    font, line = text_font(_TEXT_SIZE), 20
    totals = columns.sum(axis=0)
    shown = [int(k) for k in np.argsort(-totals, kind="stable") if totals[k] > 0]
    top = 36
    rows = -(-len(shown) // 2)
    size = (left + width + 2 * _MARGIN, top + height + 56 + line * rows + _MARGIN // 2)
    plane = Image.new("RGB", (width * scale, height * scale), PAPER)
    bars = ImageDraw.Draw(plane)
    total = max(float(totals.sum()), 1e-9)
    x = 0.0
    for column in columns:
        length = float(column.sum())
        right, y = x + length / total * width * scale, float(height * scale)
        for k, seconds in enumerate(map(float, column)):
            upper = y - seconds / max(length, 1e-9) * height * scale
            if seconds > 0:
                bars.rectangle([round(x), round(upper), round(right), round(y)], palette[k])
            y = upper
        x = right
    canvas = Image.new("RGB", size, PAPER)
    canvas.paste(plane.resize((width, height), Image.Resampling.LANCZOS), (left, top))
    draw = ImageDraw.Draw(canvas)
    draw.text((left + width / 2, top / 2), title, INK, font, anchor="mm")
    draw.rectangle([left, top, left + width, top + height], outline=INK)
    unit, name = next((each for each in _UNITS if total >= 2 * each[0]), _UNITS[-1])
    for tick in range(5):
        across, down = left + tick / 4 * width, top + height - tick / 4 * height
        draw.text(
            (across, top + height + 6), f"{tick / 4 * total / unit:.3g}", INK, font, anchor="mt"
        )
        draw.text((left - 6, down), f"{25 * tick} %", INK, font, anchor="rm")
    draw.text((left + width / 2, top + height + 26), name, INK, font, anchor="mt")
    for place, k in enumerate(shown):
        across = left + place % 2 * width // 2
        down = top + height + 52 + place // 2 * line
        draw.rectangle([across, down, across + 12, down + 12], palette[k])
        text = f"{names[k]} {100 * totals[k] / total:.1f} %"
        draw.text((across + 18, down + 6), text, INK, font, anchor="lm")
    return encoded(canvas)


class HasBox(Protocol):
    """A font of PIL, as far as it is used here: its class depends on how PIL was built."""

    def getbbox(self, text: str) -> tuple[float, float, float, float]:
        """Return the left, top, right and bottom of a text."""
        ...


@functools.cache
def text_font(size: int) -> Font:
    """Return the font of a size in pixels."""
    return ImageFont.load_default(size)


def _longest(texts: Sequence[str], font: HasBox) -> int:
    """Return the pixels that the longest text and the gap beside it take; 0 if there is no text."""
    widths = (int(font.getbbox(text)[2]) for text in texts)
    return max(widths, default=-_MARGIN) + _MARGIN


def _line(font: HasBox, text: str = "") -> int:
    """Return the pixels that a line of text and the gap below it take; 0 for no text."""
    return int(font.getbbox("Ag")[3]) + _MARGIN if text else 0


def shortened(text: str, font: HasBox) -> str:
    """Return the beginning of a text that is at most as wide as a label may be."""
    if font.getbbox(text)[2] <= _LABEL_WIDTH:
        return text
    fits = (text[:end] + "…" for end in range(min(len(text), _LABEL_WIDTH), 0, -1))
    return next((short for short in fits if font.getbbox(short)[2] <= _LABEL_WIDTH), "…")


def _text_upwards(canvas: Image.Image, start: tuple[float, float], text: str, font: Font) -> None:
    """Write a text from a point upwards, which is the middle of its beginning."""
    box = cast("HasBox", font).getbbox(text)
    line = Image.new("L", (max(int(box[2]), 1), max(int(box[3]), 1)), 0)
    ImageDraw.Draw(line).text((0, 0), text, 255, font)
    turned = line.rotate(90, expand=True)
    corner = round(start[0] - turned.width / 2), round(start[1] - turned.height)
    canvas.paste(INK, (*corner, corner[0] + turned.width, corner[1] + turned.height), turned)


def encoded(canvas: Image.Image) -> EncodedImage:
    """Return a picture as a PNG."""
    return EncodedImage(_files.png(np.asarray(canvas)), canvas.width, canvas.height)

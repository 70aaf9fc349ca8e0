"""Pictures of layers: a heat map of layers and steps for each statistic, one below the other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from jaxboard.records import EncodedImage
from jaxboard.sinks._drawing import GRID, INK, PAPER, HasBox, colors, encoded, text_font

_ZERO, _UNDEFINED, _BROKEN = (0, 0, 0), (236, 237, 239), (217, 48, 37)
_TEXT = 14
_SMALL = 12
_LABEL_WIDTH = 170
"""Most pixels of the name of a layer."""

_MAP_WIDTH = 360
_MAP_HEIGHT = 260
"""Most pixels of one map: with more rows, they become thinner."""

_SCALE_WIDTH = 66
"""Pixels of the color scale and its numbers."""

_GAP = 10


class LayerMap(NamedTuple):
    """One of the maps.

    Attributes:
        title: what it shows.
        values: [L, C]; NaN where it is not defined.
        logarithmic: whether colors are those of logarithms. Zeros are black then.
        limits: the numbers of the first and the last color, if they are not logarithmic; None for those of the values.
    """

    title: str
    values: np.ndarray
    logarithmic: bool
    limits: tuple[float, float] | None = (0.0, 1.0)

    @classmethod
    def of_any(cls, title: str, values: np.ndarray) -> LayerMap:
        """Return a map of any numbers: logarithmic if none is negative and they differ more than 10-fold."""
        positive = values[values > 0]
        is_wide = positive.size > 0 and positive.max() > 10 * positive.min()
        return cls(title, values, is_wide and not (values < 0).any(), None)


def layer_maps(
    layers: Sequence[str], steps: Sequence[int], maps: Sequence[LayerMap], broken: np.ndarray
) -> EncodedImage:
    """Return a picture of some maps with the same axes.

    Args:
        layers: the names of the L rows.
        steps: the steps of the C columns.
        maps: the maps. Those without any number are left out.
        broken: bool[L, C], where an element is not finite.
    """
    shown = [each for each in maps if not np.isnan(each.values).all()]
    rows, columns = broken.shape
    height = max(1, min(16, _MAP_HEIGHT // rows))
    width = max(1, min(24, _MAP_WIDTH // columns))
    font, small = text_font(_TEXT), text_font(_SMALL)
    every = -(-(_SMALL + 2) // height)  # rows between two labels
    labels = {row: _end_of(layers[row], small, _LABEL_WIDTH) for row in range(0, rows, every)}
    left = _GAP + max(int(small.getbbox(text)[2]) for text in labels.values()) + 6
    plot_width = max(width * columns, 150)
    line = _TEXT + 8
    panel = line + rows * height + _GAP
    bottom = _SMALL + 10
    size = left + plot_width + _GAP + _SCALE_WIDTH, _GAP + panel * len(shown) + bottom
    canvas = Image.new("RGB", size, PAPER)
    draw = ImageDraw.Draw(canvas)
    top = _GAP
    for each in shown:
        draw.text((left, top), _end_of(_title(each), font, plot_width + _SCALE_WIDTH), INK, font)
        top += line
        limits = _limits(each)
        cells = Image.fromarray(_cells(each, limits or (0.0, 1.0), broken))
        cells = cells.resize((width * columns, height * rows), Image.Resampling.NEAREST)
        canvas.paste(cells, (left, top))
        for row, text in labels.items():
            draw.text((left - 6, top + (row + 0.5) * height), text, INK, small, anchor="rm")
        if limits is not None:
            _draw_scale(canvas, (left + plot_width + _GAP, top, rows * height), each, limits)
        top += rows * height + _GAP
    _draw_steps(draw, steps, (left, top - _GAP + 4, width))
    return encoded(canvas)


def _title(each: LayerMap) -> str:
    """Return the title of a map, with the meaning of black cells."""
    zeros, undefined = each.values == 0, np.isnan(each.values)
    if not each.logarithmic or not zeros.any():
        return each.title
    return f"{each.title}: all zero" if (zeros | undefined).all() else f"{each.title} (black: zero)"


def _cells(each: LayerMap, limits: tuple[float, float], broken: np.ndarray) -> np.ndarray:
    """Return the colors of the cells: uint8[L, C, 3]."""
    values, (low, high) = each.values, limits
    cells = colors((_scaled(each, values) - low) / (high - low))
    cells[np.isnan(values)] = _UNDEFINED
    if each.logarithmic:
        cells[values == 0] = _ZERO
    cells[broken] = _BROKEN
    return cells


def _scaled(each: LayerMap, values: np.ndarray) -> np.ndarray:
    if not each.logarithmic:
        return values
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.log10(values)


def _limits(each: LayerMap) -> tuple[float, float] | None:
    """Return the numbers of the first and the last color; None if no value has one of the colors.

    Logarithmic ones differ by at least one order of magnitude.
    """
    if each.limits is not None and not each.logarithmic:
        return each.limits
    scaled = _scaled(each, each.values)
    finite = scaled[np.isfinite(scaled)]
    if not finite.size:
        return None
    low, high = np.quantile(finite.astype(np.float64), [0.005, 0.995]).tolist()
    least = 1.0 if each.logarithmic else max(abs(low), abs(high), 1e-30) * 1e-3
    return (
        (low, high) if high - low >= least else ((low + high - least) / 2, (low + high + least) / 2)
    )


def _draw_scale(
    canvas: Image.Image,
    place: tuple[int, int, int],
    each: LayerMap,
    limits: tuple[float, float],
) -> None:
    """Draw the color scale beside a map, with the numbers of its ends."""
    left, top, height = place
    low, high = limits
    bar = Image.fromarray(colors(np.linspace(1, 0, max(height, 2))[:, None]))
    canvas.paste(bar.resize((8, height), Image.Resampling.NEAREST), (left, top))
    draw, small = ImageDraw.Draw(canvas), text_font(_SMALL)
    ends = ((high, top + _SMALL / 2), (low, top + height - _SMALL / 2))
    if height < 2 * _SMALL + 2:
        ends = ((high, top - 2), (low, top + height + 2))
    for number, middle in ends:
        text = f"{10**number:.2g}" if each.logarithmic else f"{number:.4g}"
        draw.text((left + 13, middle), text, INK, small, anchor="lm")


def _draw_steps(
    draw: ImageDraw.ImageDraw, steps: Sequence[int], place: tuple[int, int, int]
) -> None:
    """Write the first, the last and, if there is space, some steps between them below the maps."""
    left, top, width = place
    small = text_font(_SMALL)
    longest = int(small.getbbox(str(max(steps)))[2]) + 16
    last = len(steps) - 1
    distance = max(1, -(-longest // width))
    columns = [column for column in range(0, last, distance) if (last - column) * width >= longest]
    for column in [*columns, last]:
        x = left + (column + 0.5) * width
        draw.line([(x, top), (x, top + 4)], GRID)
        # The first one would reach into the names, which are above it.
        draw.text((x, top + 6), str(steps[column]), INK, small, anchor="mt" if column else "lt")


def _end_of(text: str, font: HasBox, width: int) -> str:
    """Return the longest end of a text that is at most this many pixels wide. Names of layers differ at their end."""
    if font.getbbox(text)[2] <= width:
        return text
    ends = ("…" + text[start:] for start in range(1, len(text)))
    return next((end for end in ends if font.getbbox(end)[2] <= width), "…")

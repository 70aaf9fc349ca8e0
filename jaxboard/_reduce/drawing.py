"""Drawing on images that have left the device: colors, boxes with labels, and the arrangement in a grid."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from jaxboard._reduce.color_maps import color_map

_GAP = 2
"""Pixels between the images of a grid."""

_COLORS = (
    "#1f77b4",
    "#ff7f0e",
    "#2ca02c",
    "#d62728",
    "#9467bd",
    "#8c564b",
    "#e377c2",
    "#bcbd22",
    "#17becf",
)


def with_colors(images: np.ndarray, name: str) -> np.ndarray:
    """Return images of one channel, uint8[N, H, W, 1], in the colors of a color map: uint8[N, H, W, 3]."""
    return color_map(name)[images[..., 0]]


def with_boxes(
    images: np.ndarray,
    boxes: np.ndarray,
    color_numbers: np.ndarray,
    text: Callable[[int, int], str],
) -> np.ndarray:
    """Return images with boxes. Boxes without an area, and those that are not finite, are not drawn.

    Args:
        images: uint8[N, H, W, C].
        boxes: float32[N, K, 4]: left, top, right and bottom in pixels.
        color_numbers: int[N, K]: boxes with the same number have the same color.
        text: returns the label of a box, from the indices of its image and of itself; "" for none.
    """
    from PIL import Image, ImageDraw, ImageFont

    images = np.repeat(images, 3, axis=-1) if images.shape[-1] == 1 else images
    height, width = images.shape[1:3]
    thickness = 1 + min(height, width) // 200
    font = ImageFont.load_default(10 + min(height, width) // 50)
    drawn: list[np.ndarray] = []
    for n, pixels in enumerate(images):
        image = Image.fromarray(pixels)
        draw = ImageDraw.Draw(image)
        for k, box in enumerate(boxes[n]):
            # Pixels far outside are not visible, and PIL computes every one of them.
            left, top, right, bottom = np.clip(box, -1, [width, height] * 2).tolist()
            if not (left < right and top < bottom):
                continue
            color = _COLORS[color_numbers[n, k] % len(_COLORS)]
            draw.rectangle((left, top, right, bottom), outline=color, width=thickness)
            label = text(n, k)
            if label:
                above = top - (draw.textbbox((0, 0), label, font=font)[3] + 1)
                place = max(left, 0), above if above >= 0 else max(top, 0)
                draw.rectangle(draw.textbbox(place, label, font=font), fill=color)
                draw.text(place, label, fill="white", font=font)
        drawn.append(np.asarray(image))
    return np.stack(drawn)


def in_grid(images: np.ndarray, rows: int | None, columns: int | None) -> np.ndarray:
    """Return images as one image, uint8[1, H, W, C], row by row.

    Args:
        images: uint8[N, H, W, C].
        rows: how many rows; None for as many as the images need.
        columns: how many columns; None for a grid that is as wide as high, in images.
    """
    count, height, width, channels = images.shape
    across = columns or math.isqrt(max(count - 1, 0)) + 1
    down = rows or -(-count // across)
    cells = np.zeros((down * across, height + _GAP, width + _GAP, channels), np.uint8)
    cells[:count, :height, :width] = images
    grid = cells.reshape(down, across, *cells.shape[1:]).swapaxes(1, 2)
    grid = grid.reshape(1, down * (height + _GAP), across * (width + _GAP), channels)
    return grid[:, :-_GAP, :-_GAP]

"""Color maps: the colors of the 256 values that a byte can have."""

from __future__ import annotations

import functools

import numpy as np

# The maps of matplotlib with these names, at 33 values; between them, colors differ from matplotlib's by at most 2.
_COLORS = {
    "coolwarm": (
        "3b4cc0445acc4e68d85875e16282ea6c8ff1779af782a6fb8db0fe98b9ffa3c2feaec9fcb9d0f9c3d5f4ccd9edd5dbe5ddd"
        "cdce4d9d2ebd3c6f1cdbaf4c5adf7bca1f7b194f7a688f49a7bf18d6fec7f63e57058de614dd55042cb3e38c0282fb40426"
    ),
    "magma": (
        "0000040303120a0822130d341d114729115a36106b440f7651127c5d177f6a1c81762181832681902a819c2e7faa337db73"
        "779c23b75cf4070db476ae55064ee5b5ef4695cf9785dfb8761fd9668fea571feb47bfec287fed194fde0a1fceeb0fcfdbf"
    ),
    "viridis": (
        "440154470d6048186a482374472d7b4537814240863e49893b528b375b8d33638d2f6b8e2c728e297a8e26828e23898e219"
        "18c1f978b1f9f8821a68527ad8131b57b3dbc744cc26c5cc8636ece5881d34d95d840aadc32c0df25d5e21aeae51afde725"
    ),
}
COLOR_MAPS = tuple(_COLORS)
"""The names of the color maps."""


@functools.cache
def color_map(name: str) -> np.ndarray:
    """Return a color map, uint8[256, 3].

    Example:
        >>> color_map("viridis")[0].tolist()
        [68, 1, 84]
    """
    colors = np.frombuffer(bytes.fromhex(_COLORS[name]), np.uint8).reshape(-1, 3)
    places = np.linspace(0, 255, len(colors)).round()
    channels = [np.interp(np.arange(256), places, channel) for channel in colors.T]
    return np.stack(channels, axis=1).round().astype(np.uint8)

"""Videos: the first few of a batch, converted to bytes on the device."""

from __future__ import annotations

import numpy as np

from jaxboard._reduce.first_items import FirstItems
from jaxboard._reduce.image import as_bytes
from jaxboard._reduce.media_options import VideoOptions
from jaxboard._types import Array
from jaxboard.records import Video


class VideoReducer(FirstItems):
    """Keep the videos that were reported last, as uint8.

    Args:
        options: how the frames become bytes, and how long they are shown.
    """

    name = "video"

    def __init__(self, options: VideoOptions):
        super().__init__(options.max_videos, rank=4)
        self.options = options

    def compact(self, items: Array) -> tuple[Array, Array | None]:
        return as_bytes(items, self.options.range)

    def as_value(self, items: np.ndarray) -> Video:
        return Video(items, self.options.fps)

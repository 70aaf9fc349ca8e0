"""The options of reports of sounds, images, meshes and videos. They are static: part of JAX's cache keys."""

from __future__ import annotations

import dataclasses
from typing import Literal


@dataclasses.dataclass(frozen=True, slots=True)
class AudioOptions:
    """The options of a report of sounds.

    Attributes:
        sample_rate: in Hz.
        max_sounds: how many sounds of a batch are kept.
    """

    sample_rate: int
    max_sounds: int


@dataclasses.dataclass(frozen=True, slots=True)
class BoxOptions:
    """The options of the boxes of an image report.

    Attributes:
        shape: the height, the width and the channels of an image.
        dtype: the dtype of its pixels.
        count: how many boxes an image has.
        labels: the label of each box, or the names of the classes, which are then part of the value.
    """

    shape: tuple[int, int, int]
    dtype: str
    count: int
    labels: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, slots=True)
class ImageOptions:
    """The options of an image report.

    Attributes:
        max_images: how many images of a batch are kept.
        range: the values that become black and white: "auto" for the smallest and the largest of each image, None
            for 0 and 1, with a notice if values are outside.
        color_map: the name of a color map, for images with one channel.
        grid: the number of rows and columns of a grid, either of which may be None; None for no grid.
        boxes: the options of the boxes on the images.
    """

    max_images: int
    range: tuple[float, float] | Literal["auto"] | None = None
    color_map: str | None = None
    grid: tuple[int | None, int | None] | None = None
    boxes: BoxOptions | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class MeshOptions:
    """The options of a report of meshes.

    Attributes:
        max_meshes: how many meshes of a batch are kept.
        vertices: how many vertices a mesh has.
        faces: how many faces; 0 for a point cloud.
        colors: how many colors: one for each vertex, or 0.
        color_dtype: the dtype of the colors.
        config: classes of three.js and their parameters, as JSON.
    """

    max_meshes: int
    vertices: int
    faces: int
    colors: int
    color_dtype: str
    config: str


@dataclasses.dataclass(frozen=True, slots=True)
class VideoOptions:
    """The options of a report of videos.

    Attributes:
        fps: frames per second.
        max_videos: how many videos of a batch are kept.
        range: see :class:`ImageOptions`.
    """

    fps: float
    max_videos: int
    range: tuple[float, float] | Literal["auto"] | None = None

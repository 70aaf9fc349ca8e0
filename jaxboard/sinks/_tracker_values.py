"""The values of records as experiment trackers take them: rows of numbers, files, and classes of wandb and Trackio."""

from __future__ import annotations

import dataclasses
import io
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from jaxboard.records import EncodedImage, Kind, Record, Scalars, flatten
from jaxboard.sinks import _files

Rows: TypeAlias = Iterable[tuple[int, float, list[float]]]
"""Scalars: the step, the wall time in seconds since the epoch, and the value of each name."""

_Images: TypeAlias = np.ndarray | EncodedImage | tuple[EncodedImage, ...]


def rows(scalars: Scalars) -> Rows:
    """Return a row for each step of a block."""
    columns = (scalars.steps, scalars.wall_times, np.asarray(scalars.values, np.float64))
    return zip(*(column.tolist() for column in columns), strict=True)


def separated(item: Record | Scalars) -> Sequence[Record | Scalars]:
    """Return the parts of a record that a tracker can refuse separately: single tags, or single hyperparameters."""
    if isinstance(item, Scalars):
        return [
            dataclasses.replace(item, tags=(tag,), values=item.values[:, column : column + 1])
            for column, tag in enumerate(item.tags)
        ]
    if item.kind is Kind.HPARAMS:
        values = flatten(item.value).items()
        return [dataclasses.replace(item, value={name: value}) for name, value in values]
    return [item]


def table(value: list[list[str]]) -> list[list[str]]:
    """Return the rows of a table, with empty cells appended so that all have the same length."""
    width = max(map(len, value))
    return [[*row, *[""] * (width - len(row))] for row in value]


def files(record: Record, folder: str) -> list[str]:
    """Write the images, sounds or videos of a record to files in ``folder``, and return their paths."""
    contents = _CONTENTS.get(record.kind, lambda _: [])
    paths: list[str] = []
    for index, (data, suffix) in enumerate(contents(record.value)):
        paths.append(os.path.join(folder, f"step_{record.step}_{index}.{suffix}"))
        with open(paths[-1], "wb") as file:
            file.write(data)
    return paths


def media(library: Any, kind: Kind, paths: list[str]) -> list[Any]:
    """Return images, sounds or videos as instances of the classes of wandb or Trackio."""
    make = getattr(library, kind.value.title())  # Image, Audio or Video
    return [make(path) for path in paths]


def chart(library: Any, record: Record) -> Any:
    """Return a histogram or a table as an instance of a class of wandb or Trackio."""
    if record.kind is Kind.HISTOGRAM:
        return library.Histogram(np_histogram=(record.value.counts, record.value.edges))
    header, *others = table(record.value)
    return library.Table(columns=header, data=others)


def _images(value: _Images) -> list[tuple[bytes, str]]:
    if isinstance(value, np.ndarray):
        return [(_files.png(image), "png") for image in value]
    images = (value,) if isinstance(value, EncodedImage) else value
    return [(image.data, _suffix(image.data)) for image in images]


def _suffix(data: bytes) -> str:
    from PIL import Image

    try:
        with Image.open(io.BytesIO(data)) as image:
            image.load()
            return str(image.format).lower()
    except OSError as error:  # An OSError would count as a machine fault, and be retried.
        raise ValueError(f"the image cannot be read: {error}") from None


_CONTENTS: Mapping[Kind, Callable[[Any], list[tuple[bytes, str]]]] = {
    Kind.IMAGE: _images,
    Kind.AUDIO: lambda audio: [
        (_files.wav(sound, audio.sample_rate), "wav") for sound in audio.samples
    ],
    Kind.VIDEO: lambda video: [(_files.gif(frames, video.fps), "gif") for frames in video.frames],
}
"""The content and the suffix of the files of a record."""

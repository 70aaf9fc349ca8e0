"""The files of the projector: vectors, labels, thumbnails, and the configuration that lists them.

TensorBoard reads them beside the event files of a run: it has no such records in the event files.
"""

from __future__ import annotations

import hashlib
import math
import urllib.parse
from typing import Any

import numpy as np
from google.protobuf import text_format
from PIL import Image

from jaxboard import _paths
from jaxboard.records import Embedding, Record
from jaxboard.sinks import _files, _log_files, _proto

_CONFIG = "projector_config.pbtxt"

_LARGEST_SPRITE = 8192
"""Most pixels of a side of the picture with all thumbnails: browsers refuse larger textures."""

_THUMBNAIL = 128
"""Most pixels of a side of a thumbnail."""


def write(directory: str, record: Record) -> None:
    """Write an embedding, and add it to the configuration of a directory. Writing it again changes nothing.

    Raises:
        RunError: the directory is remote, and TensorFlow does not work.
        Exception: an error of the file system.
    """
    embedding: Embedding = record.value
    folder = f"projector/{folder_of(record.tag)}/step_{record.step}"
    info = _proto.projector.EmbeddingInfo(tensor_name=f"{record.tag} step {record.step}")
    vectors = np.ascontiguousarray(embedding.vectors, "<f4")
    info.tensor_shape.extend(vectors.shape)
    data = vectors.tobytes()
    if _looks_like_text(data):
        info.tensor_path = f"{folder}/vectors.tsv"
        data = _table(vectors.tolist()).encode()
    else:
        info.tensor_path = f"{folder}/vectors.bytes"
    files = {info.tensor_path: data}
    if embedding.labels:
        info.metadata_path = f"{folder}/labels.tsv"
        # TensorBoard takes the first row for a header if it has several columns.
        header = [embedding.header] if len(embedding.header) > 1 else []
        rows = [[_cell(text) for text in row] for row in (*header, *embedding.labels)]
        files[info.metadata_path] = _table(rows).encode()
    if embedding.images is not None:
        sprite, size = _sprite(embedding.images)
        info.sprite.image_path = f"{folder}/images.png"
        info.sprite.single_image_dim.extend([size, size])
        files[info.sprite.image_path] = sprite
    for path, content in files.items():
        _log_files.replace(_paths.below(directory, path), content)
    _add(_paths.below(directory, _CONFIG), info)


def folder_of(tag: str) -> str:
    """Return the name of the folder for a tag: one part of a path, whatever the tag is.

    Example:
        >>> folder_of("layer/1"), folder_of("..")
        ('layer%2F1', '%2E%2E')
    """
    name = urllib.parse.quote(tag, safe="")
    if not name.strip("."):
        name = name.replace(".", "%2E")
    if len(name) > 200:  # Most file systems have a limit of 255 bytes.
        name = f"{name[:150]}-{hashlib.sha256(tag.encode()).hexdigest()[:32]}"
    return name


def _looks_like_text(data: bytes) -> bool:
    """Return whether TensorBoard would read binary numbers as text: their first line is valid UTF-8."""
    try:
        data.lstrip(b"\n").partition(b"\n")[0].decode()
    except UnicodeDecodeError:
        return False
    return True


def _table(rows: list[list[str]] | list[list[float]]) -> str:
    return "".join("\t".join(map(str, row)) + "\n" for row in rows)


def _cell(text: str) -> str:
    """Return a text without what separates cells and rows, and not empty: a row of one empty cell would be skipped."""
    return " ".join(text.split()) or "-"


def _sprite(images: np.ndarray) -> tuple[bytes, int]:
    """Return a square picture of all images, row by row, and the pixels of a side of each."""
    count, height, width, channels = images.shape
    columns = math.ceil(math.sqrt(count))
    size = max(1, min(max(height, width), _THUMBNAIL, _LARGEST_SPRITE // columns))
    mode = "RGBA" if channels == 4 else "RGB"
    sprite = Image.new(mode, (columns * size, columns * size))
    for index, pixels in enumerate(images):
        image = Image.fromarray(pixels[..., 0] if channels == 1 else pixels).convert(mode)
        if max(height, width) > size:
            image.thumbnail((size, size))
        row, column = divmod(index, columns)
        middle = (size - image.width) // 2, (size - image.height) // 2
        sprite.paste(image, (column * size + middle[0], row * size + middle[1]))
    return _files.png(np.asarray(sprite)), size


def _add(path: str, info: Any) -> None:
    """Add an embedding to a configuration, in place of one of the same name."""
    config = _proto.projector.ProjectorConfig()
    content = _log_files.content(path)
    if content is not None:
        text_format.Parse(content, config)
    others = [each for each in config.embeddings if each.tensor_name != info.tensor_name]
    del config.embeddings[:]
    config.embeddings.extend([*others, info])
    _log_files.replace(path, text_format.MessageToString(config).encode())

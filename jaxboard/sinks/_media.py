"""The encoding of images, sounds, videos and meshes as TensorBoard's messages."""

from __future__ import annotations

import numpy as np

from jaxboard.records import Audio, EncodedImage, Mesh, Record, Video
from jaxboard.sinks import _files, _messages, _proto


def image(record: Record) -> _proto.Message:
    """Return images."""
    images: EncodedImage | tuple[EncodedImage, ...] | np.ndarray = record.value
    if isinstance(images, np.ndarray):
        _, height, width, _ = images.shape
        files = [_files.png(sample) for sample in images]
    else:
        images = (images,) if isinstance(images, EncodedImage) else images
        width, height = (
            max(size) for size in zip(*((i.width, i.height) for i in images), strict=True)
        )
        files = [image.data for image in images]
    return _messages.image_files(record.tag, width, height, files)


def video(record: Record) -> _proto.Message:
    """Return animated images."""
    videos: Video = record.value
    *_, height, width, _ = videos.frames.shape
    files = [_files.gif(frames, videos.fps) for frames in videos.frames]
    return _messages.image_files(record.tag, width, height, files)


def audio(record: Record) -> _proto.Message:
    """Return string[N, 2]: a file and an empty label each (tensorboard/plugins/audio/summary_v2.py)."""
    sounds: Audio = record.value
    files = [_files.wav(sound, sounds.sample_rate) for sound in sounds.samples]
    strings = [string for file in files for string in (file, b"")]
    tensor = _messages.tensor(_proto.types.DT_STRING, (len(files), 2), strings)
    content = _proto.audio_data.AudioPluginData(encoding=_proto.audio_data.AudioPluginData.WAV)
    return _messages.value(record.tag, tensor, "audio", content.SerializeToString())


def mesh(record: Record) -> list[_proto.Message]:
    """Return a tensor for each part, with a tag of its own (tensorboard/plugins/mesh/summary_v2.py)."""
    meshes: Mesh = record.value
    data = _proto.mesh_data.MeshPluginData
    parts = [
        ("VERTEX", meshes.vertices, np.float32, _proto.types.DT_FLOAT),
        ("FACE", meshes.faces, np.int32, _proto.types.DT_INT32),
        ("COLOR", meshes.colors, np.uint8, _proto.types.DT_UINT8),
    ]
    components = sum(1 << data.ContentType.Value(part[0]) for part in parts if part[1] is not None)
    values: list[_proto.Message] = []
    for name, array, dtype, number in parts:
        if array is None:
            continue
        if array.dtype != dtype:
            raise TypeError(f"expected {name} as {np.dtype(dtype)}, got {array.dtype}")
        numbers = _messages.tensor(number, array.shape)
        numbers.tensor_content = array.tobytes()
        content = data(
            name=record.tag,
            content_type=data.ContentType.Value(name),
            components=components,
            shape=array.shape,
            json_config=meshes.config,
        )
        tag = f"{record.tag}_{name}"
        values.append(_messages.value(tag, numbers, "mesh", content.SerializeToString()))
    return values

"""The files that event files contain: PNG images, GIF videos and WAV sounds, made by the thread of the sinks."""

from __future__ import annotations

import io
import wave

import numpy as np


def png(pixels: np.ndarray) -> bytes:
    """Return an image, uint8[H, W, C], as a PNG file."""
    from PIL import Image

    if pixels.dtype != np.uint8:
        raise TypeError(f"expected a uint8 image, got {pixels.dtype}{list(pixels.shape)}")
    file = io.BytesIO()
    gray = pixels.shape[-1] == 1
    # Level 1 takes a third of the default's time, and the files are a few percent larger.
    Image.fromarray(pixels[..., 0] if gray else pixels).save(file, "png", compress_level=1)
    return file.getvalue()


def gif(frames: np.ndarray, fps: float) -> bytes:
    """Return a video, uint8[T, H, W, C], as an animated GIF file that repeats forever.

    Each frame has 256 colors of its own. GIF counts hundredths of a second.
    """
    from PIL import Image

    if frames.dtype != np.uint8:
        raise TypeError(f"expected uint8 frames, got {frames.dtype}{list(frames.shape)}")
    gray = frames.shape[-1] == 1
    first, *rest = (Image.fromarray(frame[..., 0] if gray else frame) for frame in frames)
    ends = np.rint(np.arange(len(frames) + 1) * 100 / fps).astype(int)
    milliseconds = (10 * np.diff(ends)).tolist()
    file = io.BytesIO()
    first.save(file, "gif", save_all=True, append_images=rest, duration=milliseconds, loop=0)
    return file.getvalue()


def wav(samples: np.ndarray, sample_rate: int) -> bytes:
    """Return a sound, int16[T, C], as a WAV file."""
    if samples.dtype != np.int16:
        raise TypeError(f"expected int16 samples, got {samples.dtype}{list(samples.shape)}")
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setnchannels(samples.shape[1])
        writer.setsampwidth(2)
        writer.setframerate(sample_rate)
        writer.writeframes(samples.astype("<i2").tobytes())
    return file.getvalue()

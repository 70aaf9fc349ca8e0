"""``video``: layouts, ranges and wrong arguments."""

# pyright: reportArgumentType=false

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxboard as jb
from jaxboard.testing import capture

CONVERT = pytest.mark.parametrize("convert", [np.asarray, jnp.asarray], ids=["numpy", "jax"])
RNG = np.random.default_rng(0)
SHAPES = (
    "expected a video [T, H, W], [T, H, W, C] or [N, T, H, W, C] with 1 or 3 channels, got {}. "
)
NOT_A_RATE = "expected fps= to be above 0 and at most 50 (frames per second), got {}."


def zeros(*shape):
    return np.zeros(shape, np.float32)


def reported(*args, **options):
    """Return the value of the one record that a call makes."""
    with capture() as records:
        jb.video("x", *args, **options)
    (record,) = records
    return record.value


@CONVERT
@pytest.mark.parametrize(
    ("shape", "layout", "axes"),
    [
        ((2, 5, 6), None, "THW"),
        ((2, 5, 6, 3), None, "THWC"),
        ((2, 3, 5, 6), "TCHW", "TCHW"),
        ((4, 2, 5, 6), "NTHW", "NTHW"),
        ((4, 2, 5, 6, 1), None, "NTHWC"),
        ((4, 2, 3, 5, 3), "NTCHW", "NTCHW"),
    ],
)
def test_layouts(convert, shape, layout, axes):
    """The axes are arranged as layout= names them, and the first max_videos of a batch are kept."""
    value = RNG.integers(0, 256, shape, np.uint8)
    array = value if "N" in axes else value[None]
    array, source = (array, axes) if "C" in axes else (array[..., None], f"{axes}C")
    source = source if "N" in axes else f"N{source}"
    video = reported(convert(value), layout=layout)
    np.testing.assert_array_equal(video.frames, np.einsum(f"{source}->NTHWC", array)[:3])
    assert (video.fps, video.frames.dtype, video.nbytes) == (4, np.uint8, video.frames.size)
    assert len(reported(convert(value), layout=layout, max_videos=1).frames) == 1


@CONVERT
def test_values(convert):
    """Floats are scaled, with a range if there is one, and clipped with a warning; bools are black and white."""
    values = np.array([[[0.0, 0.5, 1.0, np.nan]]], np.float32)
    assert reported(convert(values)).frames.ravel().tolist() == [0, 128, 255, 0]
    assert reported(convert(values), range=(0, 2)).frames.ravel().tolist() == [0, 64, 128, 0]
    assert reported(convert(values), range="auto").frames.ravel().tolist() == [0, 128, 255, 0]
    assert reported(convert(values > 0.7)).frames.ravel().tolist() == [0, 0, 255, 0]
    if convert is np.asarray:
        with pytest.warns(jb.JaxboardWarning, match="pixels outside of 0 to 1 were clipped"):
            reported(values * 2)


def test_lanes():
    """The lanes of a vmap are a batch of videos; each sampled step has its own."""
    step = jb.instrument(
        jax.jit(jax.vmap(lambda x: jb.video("x", jnp.full((2, 3, 4), x, jnp.uint8), 8.5, every=2)))
    )
    with capture() as records:
        for _ in range(3):
            step(jnp.arange(5))
    assert [(record.step, record.value.fps) for record in records] == [(0, 8.5), (2, 8.5)]
    assert records[0].value.frames.shape == (3, 2, 3, 4, 1)
    assert records[0].value.frames[:, 0, 0, 0, 0].tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("call", "problem"),
    [
        (lambda: jb.video("x", zeros(5, 5)), SHAPES.format("float32[5,5]") + "jaxboard.histogram reports other arrays."),
        (lambda: jb.video("x", zeros(0, 5, 5)), SHAPES.format("float32[0,5,5]") + "jaxboard.histogram reports other arrays."),
        (lambda: jb.video("x", zeros(2, 3, 5, 5)), SHAPES.format("float32[2,3,5,5]") + "Pass layout='TCHW' if the channels are first."),
        (lambda: jb.video("x", zeros(2, 5, 5, 4)), SHAPES.format("float32[2,5,5,4]") + "Choose the channels to show, such as the first with x[..., :1]."),
        (lambda: jb.video("x", zeros(2, 3, 5, 3)), "float32[2,3,5,3] may have its channels last or first. Pass layout='THWC' or layout='TCHW'."),
        (lambda: jb.video("x", zeros(2, 5, 5), layout="HWC"), "expected layout= to be one of 'THW', 'THWC', 'TCHW', 'NTHW', 'NTHWC', 'NTCHW', got 'HWC'."),
        (lambda: jb.video("x", np.zeros((2, 5, 5), int)), "expected pixels as uint8, or as floats from 0 to 1, got int64[2,5,5]. Convert them first (x.astype(jnp.uint8)), or pass their range=(low, high)."),
        (lambda: jb.video("x", zeros(2, 5, 5), 0), NOT_A_RATE.format("0")),
        (lambda: jb.video("x", zeros(2, 5, 5), 60), NOT_A_RATE.format("60")),
        (lambda: jb.video("x", zeros(2, 5, 5), "fast"), NOT_A_RATE.format("'fast'")),
        (lambda: jb.video("x", zeros(2, 5, 5), max_videos=0), "expected max_videos= to be a positive integer, got 0."),
    ],
)  # fmt: skip
def test_wrong_arguments(call, problem):
    """A wrong shape or option raises an error that describes it and names the fix."""
    with capture() as records, pytest.raises(jb.ReportError) as raised:
        call()
    assert records == []
    place = f"test_video.py:{call.__code__.co_firstlineno}"
    assert str(raised.value) == f"report 'x' ({place}): {problem}"

"""``audio``: samples, shapes, clipping, masks and wrong arguments."""

# pyright: reportArgumentType=false

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxboard as jb
from jaxboard.testing import capture

CONVERT = pytest.mark.parametrize("convert", [np.asarray, jnp.asarray], ids=["numpy", "jax"])
OTHER_ARRAYS = "jaxboard.histogram reports other arrays."
NOT_A_SOUND = "expected a sound [T], [T, C] or [N, T, C] with 1 to 8 channels, got {} "
NOT_SAMPLES = "expected samples as floats from -1 to 1, or as int16, got {}. Scale them first, as in x / 2**31 for int32."
NOT_A_RATE = "expected sample_rate= to be an integer from 1 to 1000000 (Hz), got {}."


def reported(*args, **options):
    """Return the value of the one record that a call makes."""
    with capture() as records:
        jb.audio("x", *args, **options)
    (record,) = records
    return record.value


@CONVERT
@pytest.mark.parametrize(
    ("samples", "heard"),
    [
        (np.array([0, -(2**15), 2**15 - 1, 7], np.int16), [0, -(2**15), 2**15 - 1, 7]),
        (np.array([0, 0.5, -0.5, 2**-15, -1, 1], np.float32), [0, 2**14, -(2**14), 1, -(2**15), 2**15 - 1]),
        (np.array([0.25, np.nan, np.inf, -np.inf], np.float16), [2**13, 0, 2**15 - 1, -(2**15)]),
    ],
    ids=["int16", "float32", "non-finite"],
)  # fmt: skip
def test_samples(convert, samples, heard):
    """Samples of 16 bits do not change; floats are scaled by 2^15, rounded and clipped, and NaN is silence."""
    sound = reported(convert(samples), 22050)
    assert (sound.samples.dtype, sound.samples.shape) == (np.int16, (1, len(samples), 1))
    assert sound.samples.ravel().tolist() == heard
    assert sound.sample_rate == 22050
    assert sound.nbytes == 2 * len(samples)


@CONVERT
@pytest.mark.parametrize("shape", [(6,), (6, 2), (5, 6, 2)])
def test_shapes(convert, shape):
    """One sound, mono or of several channels, and the first max_sounds of a batch keep their samples in order."""
    samples = np.arange(np.prod(shape), dtype=np.int16).reshape(shape)
    batch = (
        samples.reshape((1,) * (3 - samples.ndim) + shape)
        if samples.ndim > 1
        else samples[None, :, None]
    )
    for most in (2, 3, 9):
        np.testing.assert_array_equal(
            reported(convert(samples), 8000, max_sounds=most).samples, batch[:most]
        )
    np.testing.assert_array_equal(reported(convert(samples), np.int64(8000)).samples, batch[:3])


def test_clipping_warns_once():
    """Floats outside of -1 to 1 are clipped, with one warning that has their range and the line of the call."""

    def report():
        jb.audio("x", np.array([0.5, -3.0, 2.0]), 8000)

    with capture():
        with pytest.warns(jb.JaxboardWarning) as warned:
            report()
        report()  # A second warning would be an error.
    assert str(warned[0].message) == (
        f"report 'x' (test_audio.py:{report.__code__.co_firstlineno + 1}): samples outside of -1 to 1 were "
        "clipped; the values reach from -3 to 2. Scale them, as in x / abs(x).max(), or clip them if that is "
        "intended."
    )


def test_clipping_in_traced_code(caplog):
    """In traced code the flusher logs what was clipped, once for each tag."""
    step = jb.instrument(jax.jit(lambda x: jb.audio("x", x, 8000)))
    with capture() as records:
        for _ in range(2):
            step(jnp.array([0.5, -3.0, 2.0]))
    assert [record.value.samples.ravel().tolist() for record in records] == 2 * [
        [2**14, -(2**15), 2**15 - 1]
    ]
    (message,) = caplog.messages
    assert (
        "audio 'x': samples outside of -1 to 1 were clipped; the values reach from -3 to 2"
        in message
    )


def test_lanes_that_a_mask_leaves_out():
    """Under vmap with where=, only the sounds and images of the lanes that count are kept."""

    def lane(x):
        jb.audio("sound", jnp.full((2, 4), x).astype(jnp.int16)[..., None], 8000, where=x > 2)
        jb.image("image", jnp.full((1, 1, 1), x).astype(jnp.uint8), where=x > 2)

    step = jb.instrument(jax.jit(jax.vmap(lane)))
    with capture() as records:
        step(jnp.arange(4))
        step(jnp.arange(3))
    values = {record.tag: record.value for record in records}
    assert len(records) == 2
    assert values["sound"].samples[:, 0, 0].tolist() == [3, 3]
    assert values["image"].ravel().tolist() == [3]


def test_a_masked_lane_does_not_warn(caplog):
    """A lane that a mask leaves out does not count as clipped."""
    step = jb.instrument(
        jax.jit(jax.vmap(lambda x: jb.audio("x", jnp.full(3, x), 8000, where=x < 1)))
    )
    with capture() as records:
        step(jnp.array([5.0, 0.5]))
    assert records[0].value.samples.ravel().tolist() == [2**14] * 3
    assert caplog.messages == []


@pytest.mark.parametrize(
    ("call", "problem"),
    [
        (lambda: jb.audio("x", np.float32(1), 8000), NOT_A_SOUND.format("float32[].") + OTHER_ARRAYS),
        (lambda: jb.audio("x", np.zeros((1, 2, 3, 1)), 8000), NOT_A_SOUND.format("float64[1,2,3,1].") + OTHER_ARRAYS),
        (lambda: jb.audio("x", np.zeros(0), 8000), NOT_A_SOUND.format("float64[0].") + OTHER_ARRAYS),
        (
            lambda: jb.audio("x", np.zeros((2, 800), np.float32), 8000),
            NOT_A_SOUND.format("float32[2,800].")
            + "Put the channels last with x.T; of a batch of sounds with one channel, add the channel axis with "
            "x[..., None].",
        ),
        (
            lambda: jb.audio("x", np.zeros((5, 2, 800), np.float32), 8000),
            NOT_A_SOUND.format("float32[5,2,800].") + "Put the channels last with x.transpose(0, 2, 1).",
        ),
        (lambda: jb.audio("x", np.zeros(8, np.int32), 8000), NOT_SAMPLES.format("int32[8]")),
        (lambda: jb.audio("x", np.zeros(8, bool), 8000), NOT_SAMPLES.format("bool[8]")),
        (lambda: jb.audio("x", np.zeros(8), 0), NOT_A_RATE.format("0")),
        (lambda: jb.audio("x", np.zeros(8), -8000), NOT_A_RATE.format("-8000")),
        (lambda: jb.audio("x", np.zeros(8), 8000.0), NOT_A_RATE.format("8000.0")),
        (lambda: jb.audio("x", np.zeros(8), 2**31), NOT_A_RATE.format("2147483648")),
        (
            lambda: jb.audio("x", np.zeros(8), 8000, max_sounds=0),
            "expected max_sounds= to be a positive integer, got 0.",
        ),
        (lambda: jb.audio("x", "high", 8000), "expected numbers, got 'high' (str). jaxboard.text reports texts."),
    ],
)  # fmt: skip
def test_wrong_arguments(call, problem):
    """A wrong rank, dtype or rate raises an error that describes it and names the fix."""
    with capture() as records, pytest.raises(jb.ReportError) as raised:
        call()
    assert records == []
    place = f"test_audio.py:{call.__code__.co_firstlineno}"
    assert str(raised.value) == f"report 'x' ({place}): {problem}"

"""The values that users give to the verbs: each is reported as meant, or refused with a clear error."""

import datetime
import typing
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from matplotlib import pyplot as plt

import jaxboard as jb
from jaxboard.testing import capture


class Losses(typing.NamedTuple):
    policy: typing.Any
    value: typing.Any
    entropy: typing.Any


def test_a_field_called_value():
    """A field of a NamedTuple may have any name."""
    with capture() as records:
        jb.scalars("loss", Losses(1.0, 2.0, 3.0))
        jb.scalar("loss", 10.0)
    assert {record.tag: float(record.value) for record in records} == {
        "loss/policy": 1,
        "loss/value": 2,
        "loss/entropy": 3,
        "loss": 10,
    }


def test_a_watched_field_called_value():
    """The same for the leaves of a watched tree."""
    with capture() as records:
        jb.watch("w", Losses(jnp.ones(2), jnp.ones(2), jnp.ones(2)), what="norm")
    tags = {record.tag for record in records}
    assert tags == {"w/norm", "w/norm/policy", "w/norm/value", "w/norm/entropy"}


@pytest.mark.parametrize(
    "values",
    [
        [np.float32(i) for i in range(5)],
        [float(i) for i in range(5)],
        tuple(float(i) for i in range(5)),
        [jnp.float32(i) for i in range(5)],
        [[0.0, 1.0], [2.0, 3.0], [4.0]][:2] + [[4.0, 4.0]],
        range(5),
    ],
    ids=["NumPy scalars", "floats", "tuple", "JAX scalars", "nested", "range"],
)
def test_a_list_of_numbers_is_one_histogram(values):
    """A list, tuple or nested list of numbers is one array, whatever type its numbers have."""
    with capture() as records:
        jb.histogram("returns", values)
    assert [record.tag for record in records] == ["returns"]
    assert int(records[0].value.counts.sum()) == np.size(np.asarray(values, np.float32))


def test_scalars_of_a_list():
    """The numbers of a list or a tuple get tags by their index."""
    with capture() as records:
        jb.scalars("lr", [0.5, 0.25])
        jb.scalars("wd", (0.5, 0.25))
    assert {record.tag: float(record.value) for record in records} == {
        "lr/0": 0.5,
        "lr/1": 0.25,
        "wd/0": 0.5,
        "wd/1": 0.25,
    }


def test_names_that_collide():
    """Two leaves of one tree that would have the same tag are an error that names it."""
    with capture(), pytest.raises(jb.ReportError, match="'m/a/b'"):
        jb.scalars("m", {"a/b": 1.0, "a": {"b": 3.0}})


@pytest.mark.parametrize(
    "report",
    [
        lambda: jb.histogram("k", jax.random.key(0)),
        lambda: jb.scalars("k", {"loss": 1.0, "key": jax.random.key(0)}),
        lambda: jb.scalar("k", jax.random.key(0)),
        lambda: jb.image("k", jax.random.key(0)),
        lambda: jb.scalar("k", np.timedelta64(3, "s")),
        lambda: jb.scalar("k", np.datetime64("2026-01-01")),
        lambda: jb.scalar("k", datetime.timedelta(seconds=3)),
    ],
    ids=["histogram", "scalars", "scalar", "image", "timedelta64", "datetime64", "timedelta"],
)
def test_values_that_are_no_numbers(report):
    """A PRNG key or a time is refused with an error that names the tag."""
    with capture(), pytest.raises(jb.ReportError, match=r"'k(/key)?' .*expected numbers"):
        report()


def test_keys_in_a_watched_tree_are_left_out():
    """A model's PRNG keys are not watched; its other leaves are."""
    with capture() as records:
        jb.watch("m", {"w": jnp.ones(2), "b": jnp.ones(2), "k": jax.random.key(0)}, what="norm")
    assert "m/norm/w" in {record.tag for record in records}
    assert not [record.tag for record in records if "k" in record.tag.split("/")]


def test_figures_that_are_not_due_are_closed():
    """A figure that is given up for reporting is closed whether it is due or not."""
    plt.close("all")
    with capture() as records:
        for i in range(30):
            figure, _ = plt.subplots(figsize=(1, 1))
            jb.figure("f", figure, step=i, every=10)
    assert [record.step for record in records] == [0, 10, 20]
    assert plt.get_fignums() == []


def test_a_grid_object_has_a_figure():
    """An object with a ``figure`` attribute, such as seaborn's grids, is drawn."""

    class FacetGrid:
        def __init__(self):
            self.figure = plt.figure(figsize=(1, 1))

        def savefig(self, *args, **kwargs):
            self.figure.savefig(*args, **kwargs)

    with capture() as records:
        jb.figure("f", FacetGrid())
    assert [record.tag for record in records] == ["f"]


def test_the_pyplot_module_is_no_figure():
    """``plt`` itself is refused with advice."""
    with capture(), pytest.raises(jb.ReportError, match=r"plt\.gcf\(\)"):
        jb.figure("f", plt)


def test_a_list_of_strings_is_no_table():
    """A list of strings is refused, or is one text; it is never a table of letters."""
    with capture() as records:
        try:
            jb.text("samples", ["the cat", "a dog"])
        except jb.ReportError as error:
            assert "samples" in str(error)  # noqa: PT017
            return
    assert all("the cat" in str(record.value) for record in records)


@pytest.mark.parametrize("step", [1.7, "3", None.__class__])
def test_a_step_is_an_integer(step):
    """A text's step is an integer, as any other report's."""
    with capture(), pytest.raises(jb.ReportError, match="step= to be an integer"):
        jb.text("note", "x", step=step)


def test_a_tracer_in_a_tag():
    """A tag that was formatted from a traced value is refused: it would name the tracer."""

    def body(i, c):
        jb.scalar(f"layer_{i}/norm", c)
        return c + 1

    step = jb.instrument(jax.jit(lambda x: jax.lax.fori_loop(0, 3, body, x)))
    with capture(), pytest.raises(jb.ReportError, match="traced"):
        step(1.0)


def test_integers_beyond_64_bits():
    """A Python integer of any size is reported as a float."""
    flops = 6 * 7 * 10**9 * 2 * 10**12
    with capture() as records:
        jb.scalar("flops", flops)
    assert [float(record.value) for record in records] == [float(flops)]


def test_every_may_be_a_numpy_integer():
    """``every=`` takes any integer type."""
    with capture() as records:
        for i in range(4):
            jb.histogram("x", np.ones(3), every=np.int64(2), step=i)
    assert [record.step for record in records] == [0, 2]


@pytest.mark.parametrize("most", [0, -1, 2.5, True])
def test_max_images_is_a_positive_integer(most):
    """``max_images=`` is checked."""
    with capture(), pytest.raises(jb.ReportError, match="max_images"):
        jb.image("i", np.ones((5, 2, 2, 1), np.float32), max_images=most)


@pytest.mark.parametrize(
    ("shape", "advice"),
    [((3, 32, 32), r"transpose\(1, 2, 0\)"), ((5, 3, 32, 32), r"transpose\(0, 2, 3, 1\)")],
)
def test_channels_first(shape, advice):
    """The advice for images with their channels first turns them."""
    with capture(), pytest.raises(jb.ReportError, match=advice):
        jb.image("i", np.zeros(shape, np.float32), step=0)


@pytest.mark.parametrize(
    "pixels",
    [np.linspace(0, 255, 64).reshape(8, 8, 1), np.linspace(-1, 1, 64).reshape(8, 8, 1)],
    ids=["0 to 255", "-1 to 1"],
)
def test_clipping_is_reported(pixels):
    """Floats outside 0 to 1 are clipped with a warning that names the tag and the range."""
    with capture(), pytest.warns(jb.JaxboardWarning, match=r"'clipped'.*outside"):
        jb.image("clipped", pixels, step=0)


def test_pixels_from_zero_to_one_are_not_clipped():
    """Floats that are a rounding error outside of the range raise no warning."""
    with capture(), warnings.catch_warnings():
        warnings.simplefilter("error")
        jb.image("i", np.array([[[0.0], [1.0 + 1e-6]]]), step=0)


def test_watch_with_64_bit_types():
    """``watch`` works in a program that enables 64-bit types."""
    with jax.enable_x64(True), capture() as records:
        jb.watch("w", {"a": jnp.ones(3)}, what="norm")
    norms = {record.tag: float(record.value) for record in records}
    assert norms == {"w/norm": pytest.approx(3**0.5)}

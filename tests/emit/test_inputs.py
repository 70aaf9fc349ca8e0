"""The values that users give to the verbs: each is reported as meant, or refused with a clear error."""

# pyright: reportArgumentType=false, reportOptionalMemberAccess=false

import collections
import dataclasses
import datetime as dt
import decimal
import fractions
import logging
import re
import sys
import types
import typing
import warnings

import chex
import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import matplotlib.figure
import numpy as np
import pytest
from flax import nnx
from matplotlib import pyplot as plt

import jaxboard as jb
from jaxboard.records import EncodedImage
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
    """A field of a watched NamedTuple may have any name."""
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
        [[0.0, 1.0], [2.0, 3.0], [4.0, 4.0]],
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
        lambda: jb.scalar("k", dt.timedelta(seconds=3)),
    ],
    ids=["histogram", "scalars", "scalar", "image", "timedelta64", "datetime64", "timedelta"],
)
def test_values_that_are_not_numbers(report):
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


def test_the_pyplot_module_is_not_a_figure():
    """``plt`` itself is refused with advice."""
    with capture(), pytest.raises(jb.ReportError, match=r"plt\.gcf\(\)"):
        jb.figure("f", plt)


def test_a_list_of_strings_is_not_a_table():
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


def test_every_is_an_integer_of_64_bits():
    """A cadence that no counter reaches is refused."""
    with pytest.raises(jb.UsageError, match="every="):
        jb.instrument(jax.jit(abs), every=2**70)
    with capture(), pytest.raises(jb.ReportError, match="every="):
        jb.scalar("x", 1.0, every=2**70)


@pytest.mark.parametrize("most", [0, -1, 2.5, True])
def test_max_images_is_a_positive_integer(most):
    """``max_images=`` is checked."""
    with capture(), pytest.raises(jb.ReportError, match="max_images"):
        jb.image("i", np.ones((5, 2, 2, 1), np.float32), max_images=most)


@pytest.mark.parametrize(
    ("shape", "layout"),
    [((3, 32, 32), "CHW"), ((1, 28, 28), "CHW"), ((5, 3, 32, 32), "NCHW"), ((16, 28, 28), "NHW")],
)
def test_advice_on_axes(shape, layout):
    """The layout that a message names for channels in another place, or for none, makes images that are accepted."""
    x = np.zeros(shape, np.float32)
    with capture(), pytest.raises(jb.ReportError, match=re.escape(f"layout={layout!r}")):
        jb.image("i", x)
    with capture() as records:
        jb.image("i", x, layout=layout)
    assert [record.tag for record in records] == ["i"]


@pytest.mark.parametrize("shape", [(2, 2, 32, 32), (8, 32, 32, 5)])
def test_advice_on_channels(shape):
    """The advice for images with too many channels makes images that are accepted."""
    x = np.zeros(shape, np.float32)
    with capture(), pytest.raises(jb.ReportError, match=re.escape("x[..., :1]")):
        jb.image("i", x)
    with capture() as records:
        jb.image("i", x[..., :1])
    assert [record.tag for record in records] == ["i"]


@pytest.mark.parametrize("shape", [(), (3,), (0, 3, 3, 1), (1, 1, 1, 1, 1)])
def test_no_advice_on_axes(shape):
    """Arrays that no axis makes an image of are referred to histograms."""
    with capture(), pytest.raises(jb.ReportError, match="jaxboard.histogram"):
        jb.image("i", np.zeros(shape, np.float32))


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
        jb.image("i", np.array([[[-1e-6], [1.0 + 1e-3]]]), step=0)


def test_watch_with_64_bit_types():
    """``watch`` works in a program that enables 64-bit types."""
    with jax.enable_x64(True), capture() as records:
        jb.watch("w", {"a": jnp.ones(3)}, what="norm")
    norms = {record.tag: float(record.value) for record in records}
    assert norms == {"w/norm": pytest.approx(3**0.5)}


@chex.dataclass
class ChexLosses:
    value: typing.Any
    other: typing.Any


@flax.struct.dataclass
class FlaxLosses:
    value: typing.Any
    other: typing.Any


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class JaxLosses:
    value: typing.Any
    other: typing.Any


class OneValue(typing.NamedTuple):
    value: typing.Any


def tags_of(verb, *args, **options):
    """Return the tags that a call reports, sorted."""
    with capture() as records:
        verb("x", *args, **options)
    return sorted(record.tag for record in records)


@pytest.mark.parametrize("losses", [ChexLosses, FlaxLosses, JaxLosses])
def test_a_field_called_value_in_dataclasses(losses):
    """A field of any dataclass that JAX flattens may be called ``value``, alone or inside another field."""
    assert tags_of(jb.scalars, losses(value=1.0, other=2.0)) == ["x/other", "x/value"]
    nested = losses(value=1.0, other={"value": OneValue(2.0)})
    assert tags_of(jb.scalars, nested) == ["x/other/value/value", "x/value"]


def test_boxes_of_flax_have_no_name():
    """The value of a Flax Variable or of a boxed parameter has the name of the box."""
    model = {"w": nnx.Param(jnp.ones(2)), "b": nn.Partitioned(jnp.ones(2), names=("a",))}
    assert tags_of(jb.histogram, model) == ["x/b", "x/w"]
    assert tags_of(jb.histogram, nnx.state(nnx.Linear(2, 3, rngs=nnx.Rngs(0)))) == [
        "x/bias",
        "x/kernel",
    ]
    assert tags_of(jb.histogram, nnx.Param(jnp.ones(2))) == ["x"]
    held = nnx.Variable({"value": jnp.ones(2), "other": jnp.ones(2)})
    assert tags_of(jb.histogram, {"v": held}) == ["x/v/other", "x/v/value"]


@pytest.mark.parametrize(
    "values",
    [
        [[0.0, 1.0], [2.0]],
        [np.float32(0), 1, jnp.float32(2)],
        ([0.0, 1.0], (2.0,)),
        (np.array(0.0), np.array(1.0), np.array(2.0)),
        collections.deque([0.0, 1.0, 2.0]),
        [np.bool_(0), 2.0, True],
    ],
    ids=["ragged", "mixed", "tuple of lists", "arrays of rank 0", "deque", "bools"],
)
@pytest.mark.parametrize("traced", [True, False])
def test_numbers_of_any_nesting_are_one_histogram(values, traced):
    """Ragged and mixed lists of numbers are one array, in traced code too."""
    report = lambda: jb.histogram("x", values)  # noqa: E731
    with capture() as records:
        jb.instrument(jax.jit(report))() if traced else report()
    (record,) = records
    assert (record.tag, int(record.value.counts.sum())) == ("x", 3)


def test_lists_inside_trees():
    """A list of numbers in a dict is one histogram; lists of arrays, dicts and NamedTuples are trees."""
    tree = {"returns": [1.0, 2.0], "layers": [jnp.ones(3), jnp.ones(2)]}
    assert tags_of(jb.histogram, tree) == ["x/layers/0", "x/layers/1", "x/returns"]
    assert tags_of(jb.histogram, Losses(1.0, 2.0, 3.0)) == ["x/entropy", "x/policy", "x/value"]
    assert tags_of(jb.watch, [1.0, 2.0], what="max") == ["x/max", "x/max/0", "x/max/1"]


@pytest.mark.parametrize("verb", [jb.scalars, jb.histogram, jb.watch, jb.tap])
def test_every_verb_refuses_names_that_collide(verb):
    """Names collide if keys contain a slash, or differ in type only."""
    with capture(), pytest.raises(jb.ReportError, match="'m/1/b'"):
        verb("m", {"1/b": 1.0, "1": {"b": 3.0}})


def test_a_watched_tree_of_one_array():
    """A tree with one array has each chart once."""
    tags = tags_of(jb.watch, {"layer": {"w": jnp.ones(2)}, "count": 3})
    assert tags == ["x/histogram/layer/w", "x/max", "x/nonfinite", "x/norm", "x/rms"]


@pytest.mark.parametrize(
    ("value", "number"),
    [
        (2**63, 2.0**63),
        (-(2**70), -(2.0**70)),
        (np.uint64(2**64 - 1), 2.0**64),
        (fractions.Fraction(1, 4), 0.25),
        (decimal.Decimal("0.25"), 0.25),
        (np.longdouble(0.25), 0.25),
    ],
    ids=["above int64", "negative", "uint64", "fraction", "decimal", "longdouble"],
)
@pytest.mark.parametrize("reduce", ["mean", "sum", "max", "last"])
@pytest.mark.parametrize("traced", [True, False])
def test_numbers_that_no_array_holds(value, number, reduce, traced):
    """Integers beyond 64 bits, fractions and decimals are reported as floats, by every reduction."""
    report = lambda: jb.scalar("x", value, reduce=reduce)  # noqa: E731
    with capture() as records:
        jb.instrument(jax.jit(report))() if traced else report()
    assert [float(record.value) for record in records] == [number]


@pytest.mark.parametrize(
    "value", [10**400, np.array([1.0, None]), np.ma.masked, np.ma.array([1.0], mask=True).mean()]
)
@pytest.mark.parametrize("verb", [jb.scalar, jb.histogram, jb.scalars])
def test_numbers_that_are_missing_or_too_large(verb, value):
    """Masked and missing elements, and integers that no float holds, raise an error that names the tag."""
    with capture(), pytest.raises(jb.ReportError, match="'k"):
        verb("k", {"k": value} if verb is jb.scalars else value)


def test_an_element_that_is_too_large():
    """The error names the user's line, also for an element of a list inside a tree."""
    with capture(), pytest.raises(jb.ReportError, match=r"\(test_inputs\.py:\d+\)"):
        jb.histogram("x", {"a": [1, 10**400]})


def test_arrays_with_a_mask():
    """A masked array without masked elements is an array."""
    array = np.ma.array([1.0, 2.0], mask=False)
    assert tags_of(jb.histogram, array) == ["x"]
    assert tags_of(jb.watch, array, what="max") == ["x/max"]
    with capture(), pytest.raises(jb.ReportError, match="masked"):
        jb.watch("x", np.ma.array([1.0, 2.0], mask=[True, False]))


class Tensor:
    """A tensor that tracks gradients, as those of PyTorch: NumPy may only read it detached."""

    def __init__(self, array, detached=False, readable=True):
        self.array = array
        self.detached = detached
        self.readable = readable
        self.shape = array.shape
        self.dtype = types.SimpleNamespace(name="torch.float32")

    def detach(self):
        return Tensor(self.array, True, self.readable)

    def __array__(self, dtype=None):
        if not (self.detached and self.readable):
            raise RuntimeError("Can't call numpy() on Tensor that requires grad.")
        return np.asarray(self.array, dtype)

    def __dlpack__(self, **options):
        return self.array.__dlpack__(**options)

    def __dlpack_device__(self):
        return self.array.__dlpack_device__()


@pytest.mark.parametrize("readable", [True, False], ids=["by NumPy", "by DLPack"])
def test_tensors_of_other_libraries(readable):
    """Tensors of another library are reported by every verb, also those that track gradients."""
    numbers = Tensor(np.arange(4, dtype=np.float32), readable=readable)
    scalar = Tensor(np.array(2.5, np.float32), readable=readable)
    pixels = Tensor(np.zeros((2, 2, 1), np.float32), readable=readable)
    with capture() as records:
        jb.scalar("scalar", scalar)
        jb.scalars("tree", {"a": scalar})
        jb.histogram("histogram", {"a": numbers})
        jb.histogram("list", [scalar, scalar])
        jb.watch("watch", {"a": numbers, "b": numbers}, what="max")
        jb.image("image", pixels)
    assert sorted(record.tag for record in records) == [
        "histogram/a",
        "image",
        "list",
        "scalar",
        "tree/a",
        "watch/max",
        "watch/max/a",
        "watch/max/b",
    ]
    assert float(next(r for r in records if r.tag == "scalar").value) == 2.5


SMALL = [
    jnp.float8_e4m3fn,
    jnp.float8_e5m2,
    jnp.float8_e4m3b11fnuz,
    jnp.float8_e8m0fnu,
    jnp.float4_e2m1fn,
    jnp.bfloat16,
    jnp.int4,
    jnp.uint4,
]


REDUCED = {
    "mean": [7 / 3],
    "last": [4],
    "sum": [7],
    "min": [1],
    "max": [4],
    "std": [np.std([1, 2, 4])],
    "count": [3],
    "stack": [1, 2, 4],
}


@pytest.mark.parametrize("dtype", SMALL, ids=lambda dtype: jnp.dtype(dtype).name)
def test_small_numbers_under_every_reduction(dtype):
    """Floats and integers of four and eight bits are reduced as other numbers are, with masks too."""
    xs = jnp.asarray([1, 2, 4, 2], jnp.float32).astype(dtype)
    keep = jnp.asarray([True, True, True, False])

    def report(tag, x, mask):
        for reduce in REDUCED:
            jb.scalar(f"{tag}_{reduce}", x, reduce=reduce, where=mask)

    def body(carry, x):
        report("scan", *x)
        return carry, None

    @jb.instrument
    @jax.jit
    def program(xs):
        jax.vmap(lambda x, m: report("vmap", x, m))(xs, keep)
        jax.lax.scan(body, 0, (xs, keep))

    with capture() as records:
        program(xs)
        report("host", np.asarray(xs)[2], np.True_)
    found = collections.defaultdict(list)
    for record in records:
        found[record.tag.split("/")[0]].append(float(record.value))
    for reduce, expected in REDUCED.items():
        assert found[f"vmap_{reduce}"] == pytest.approx(expected), reduce
        assert found[f"scan_{reduce}"] == pytest.approx(expected), reduce
        assert found[f"host_{reduce}"] == [{"std": 0, "count": 1}.get(reduce, 4)]


@pytest.mark.parametrize("dtype", SMALL[:6], ids=lambda dtype: jnp.dtype(dtype).name)
def test_arrays_of_small_numbers(dtype):
    """Histograms, norms and images take floats of four and eight bits."""
    values = jnp.asarray([0.5, 1, 1, 0.5], jnp.float32).astype(dtype)
    with capture() as records:
        jb.histogram("h", values)
        jb.watch("w", values, what=("norm", "max"), where=True)
        jb.image("i", values.reshape(2, 2, 1))
    found = {record.tag: record.value for record in records}
    assert found["h"].counts.sum() == 4
    assert float(found["w/norm"]) == pytest.approx(np.sqrt(2.5))
    assert float(found["w/max"]) == 1
    assert found["i"].ravel().tolist() == [128, 255, 255, 128]


def test_keys_and_times_in_a_model():
    """Keys, times, strings and functions in a watched tree are left out, in traced code too."""
    tree = {
        "w": jnp.ones(2),
        "keys": jax.random.split(jax.random.key(0), 3),
        "when": np.datetime64("2026-01-01"),
        "took": np.array([3], "m8[s]"),
        "name": "model",
        "since": dt.date(2026, 1, 1),
        "f": jnp.tanh,
    }
    assert tags_of(jb.watch, tree, what="max") == ["x/max"]

    def traced(key):
        with pytest.raises(jb.ReportError, match="expected numbers, got key<fry>"):
            jb.scalar("k", key)
        jb.watch("m", {"w": jnp.ones(2), "k": key}, what="max")
        return key

    with capture() as records:
        jb.instrument(jax.jit(traced))(jax.random.key(0))
    assert [record.tag for record in records] == ["m/max"]


def test_leaves_without_a_gradient():
    """``tap`` passes on texts, functions, times and other leaves that are not arrays of floats."""
    others = ("3.5", jnp.tanh, np.datetime64("2026-01-01"), object(), jax.random.key(0), 3, None)

    def loss(w):
        tapped = jb.tap("g", {"w": w, "others": others})
        assert all(x is y for x, y in zip(tapped["others"], others, strict=True))
        return 3 * tapped["w"]

    with capture() as records:
        jb.instrument(jax.jit(jax.grad(loss)))(1.0)
    assert [(record.tag, float(record.value)) for record in records] == [("g/w", 3)]


def test_abstract_arrays_in_a_watched_tree():
    """A tree of shapes, such as the result of ``jax.eval_shape``, raises an error that names the tag."""
    with capture(), pytest.raises(jb.ReportError, match="'w' .*ShapeDtypeStruct"):
        jb.watch("w", jax.eval_shape(lambda: {"a": jnp.ones(3)}))


@pytest.mark.parametrize("due", [True, False])
def test_objects_with_a_figure(due):
    """Axes and older grids have a figure too; it is drawn if due, and closed."""
    plt.close("all")
    grid = types.SimpleNamespace(fig=plt.figure(figsize=(1, 1)), savefig=None)
    with capture() as records:
        jb.figure("axes", plt.subplots(figsize=(1, 1))[1], step=0 if due else 1, every=10)
        jb.figure("grid", grid, step=0 if due else 1, every=10)
        jb.figure("function", lambda: plt.subplots(figsize=(1, 1))[1], step=0, every=10)
    assert len(records) == (3 if due else 1)
    assert plt.get_fignums() == []


@pytest.mark.parametrize("fault", ["draw", "trace"])
def test_figures_that_fail_are_closed(fault):
    """A figure is closed if drawing it raises, or if its report is refused."""
    figure = plt.figure()
    if fault == "draw":
        figure.savefig = None  # pyright: ignore[reportAttributeAccessIssue]
    report = lambda: jb.figure("f", figure)  # noqa: E731
    with capture(), pytest.raises((TypeError, jb.ReportError)):
        jax.jit(report)() if fault == "trace" else report()
    assert plt.get_fignums() == []


@pytest.mark.parametrize("due", [True, False])
@pytest.mark.parametrize("sequence", [list, tuple])
def test_several_figures(due, sequence):
    """A list of figures is one record with an image of each figure, drawn if due, and all are closed."""
    plt.close("all")
    (first, (left, right)), second = plt.subplots(1, 2, figsize=(3, 2), dpi=50), plt.figure(dpi=10)
    step = 0 if due else 1
    with capture() as records:
        jb.figure("f", sequence([first, left, second, right]), step=step, every=10)
        jb.figure("same", sequence([left, right]), step=step, every=10)
        jb.figure("function", lambda: [plt.figure(), plt.figure()], step=step, every=10)
    assert plt.get_fignums() == []
    if due:
        images, same, function = (record.value for record in records)
        assert [(image.width, image.height) for image in images] == [(150, 100), (64, 48)]
        assert isinstance(same, EncodedImage)
        assert same.width == 150
        assert len(function) == 2
        assert records[0].nbytes == sum(len(image.data) for image in images)
    else:
        assert records == []


def test_figures_without_a_run_are_closed():
    """A figure is closed where no run takes it, unless close=False."""
    plt.close("all")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        jb.figure("f", plt.figure())
        assert plt.get_fignums() == []
        jb.figure("f", plt.figure(), close=False)
    assert len(plt.get_fignums()) == 1
    plt.close("all")


@pytest.mark.parametrize(
    ("value", "advice"),
    [
        (lambda: plt, r"plt\.gcf\(\)"),
        (lambda: None, "expected a matplotlib figure, got None"),
        (lambda: [5], r"expected a matplotlib figure, got 5 \(int\)"),
        ([matplotlib.figure.Figure(), plt], r"plt\.gcf\(\)"),
        ([], r"expected a matplotlib figure, got \[\]"),
        (sys, "got the module sys"),
    ],
)
def test_objects_without_a_figure(value, advice):
    """Other objects are refused, also if a function returns them."""
    with capture(), pytest.raises(jb.ReportError, match=advice):
        jb.figure("f", value)


@pytest.mark.parametrize(
    ("value", "advice"),
    [
        (("a", "b"), "of strings"),
        (np.array(["a", "b"]), "of strings"),
        ({"lr": 0.1}, r"config\.items"),
        ([["a", "b"], "cd"], "of strings"),
        ([b"ab"], "of strings"),
        ([1, 2], "rows of strings"),
        (b"ab", "rows of strings"),
        ([{"lr": 1, "loss": 2}, {"lr": 3, "loss": 4}], r"rows\[0\]"),
    ],
)
def test_texts_that_are_not_rows(value, advice):
    """Strings where rows are expected are refused with advice."""
    with capture(), pytest.raises(jb.ReportError, match=advice):
        jb.text("t", value)


@pytest.mark.parametrize("verb", [jb.text, jb.figure])
@pytest.mark.parametrize("step", [2**63, 1.5, True])
def test_steps_of_texts_and_figures(verb, step):
    """The steps of texts and figures are checked like those of arrays."""
    value = "x" if verb is jb.text else matplotlib.figure.Figure()
    with capture(), pytest.raises(jb.ReportError, match="step="):
        verb("x", value, step=step)


def test_text_that_is_not_utf8():
    """Bytes of a file name that are not UTF-8 are shown as escapes in texts and tables."""
    with capture() as records:
        jb.text("text", "caf\udce9")
        jb.text("table", [["name"], ["caf\udce9"]])
    assert [record.value for record in records] == ["caf\\udce9", [["name"], ["caf\\udce9"]]]


@pytest.mark.parametrize("traced", [True, False])
@pytest.mark.parametrize("dtype", [np.float32, np.int32, np.uint8, np.float16])
def test_the_range_of_pixels(traced, dtype):
    """range= maps its limits to black and white, clips the rest, and raises no warning."""
    pixels = np.array([0, 50, 100, 120], dtype).reshape(2, 2, 1)
    report = lambda x: jb.image("x", x, range=(0, 100))  # noqa: E731
    with capture() as records:
        jb.instrument(jax.jit(report))(pixels) if traced else report(pixels)
    assert records[0].value.ravel().tolist() == [0, 128, 255, 255]


@pytest.mark.parametrize(
    "limits", [(1, 0), (0, 0), (0,), 1, (0, np.inf), (0, np.nan), "ab", (0, None)]
)
def test_invalid_ranges_of_pixels(limits):
    """range= takes two finite numbers in ascending order."""
    with capture(), pytest.raises(jb.ReportError, match="range="):
        jb.image("x", np.zeros((2, 2, 1)), range=limits)


def test_clipping_warns_once_for_each_tag():
    """Clipped images on the host warn at the user's line, once for each tag, and only if due."""
    pixels = np.full((2, 2, 1), 2.0)
    with capture(), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        jb.image("never", pixels, step=1, every=2)
        for _ in range(3):
            jb.image("a", pixels)
            jb.image("b", pixels)
        jb.image("c", pixels, range=(0, 1))
        jb.image("d", pixels - 1.0005)
    assert [str(warning.message).split("'")[1] for warning in caught] == ["a", "b"]
    assert all(warning.filename == __file__ for warning in caught)


@pytest.mark.parametrize("case", ["jit", "device array", "vmap", "lanes"])
def test_clipping_on_a_device_is_logged(case, caplog):
    """Clipped images from a device are logged once for each tag, and are images for the sinks."""
    pixels = jnp.full((2, 2, 2, 1), -2.0)

    def report(x):
        runs = "vmap" if case == "lanes" else None
        if case in ("vmap", "lanes"):
            jax.vmap(lambda x: jb.image("clipped", x, runs=runs))(x)
        else:
            jb.image("clipped", x)
        jb.image("fine", 0 * x)

    function = report if case == "device array" else jb.instrument(jax.jit(report))
    with caplog.at_level(logging.WARNING, logger="jaxboard"), capture() as records:
        for _ in range(3):
            function(pixels)
    assert len([line for line in caplog.messages if "'clipped'" in line]) == 1
    assert "from -2 to -2" in caplog.text
    assert "'fine'" not in caplog.text
    assert all(record.value.dtype == np.uint8 for record in records)


@pytest.mark.parametrize("promotion", ["standard", "strict"])
def test_every_statistic_with_64_bit_types(promotion):
    """All statistics of leaves of 16, 32 and 64 bits work in 64-bit mode, also in loops and branches."""

    def report(tree):
        jb.watch("w", tree, relative_to=tree)
        jb.histogram("h", [tree["a"][0], tree["b"][0]])
        return tree

    def loop(tree):
        body = lambda tree, _: (jax.lax.cond(tree["a"][0] > 0, report, lambda x: x, tree), None)  # noqa: E731
        return jax.lax.scan(body, tree, None, length=3)[0]

    with jax.enable_x64(True), jax.numpy_dtype_promotion(promotion):
        tree = {
            "a": jnp.ones(3),
            "b": jnp.ones(3, jnp.float32),
            "c": jnp.ones(70_000, jnp.bfloat16),
        }
        with capture() as records:
            jb.instrument(jax.jit(loop))(tree)
        counts = {r.tag: int(r.value.counts.sum()) for r in records if r.tag.startswith("h")}
        assert counts == {"h": 6}
        with capture() as host:
            report(tree)
        assert {record.tag for record in host} == {record.tag for record in records}


class Series:
    """A column of a table, as those of pandas: an array with a dtype of its own."""

    def __init__(self, values):
        self.values = np.array(values)
        self.dtype = "its own"

    def __array__(self, dtype=None):
        return np.asarray(self.values, dtype)


def test_columns_of_tables_in_a_watched_tree():
    """Columns of floats are watched; columns of texts are left out."""
    tree = {"floats": Series([1.0, 2.0]), "texts": Series(["a", "b"])}
    assert tags_of(jb.watch, tree, what="max") == ["x/max"]

"""``watch``: exact statistics of each leaf, under its name, inside every transformation."""

# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax import lax
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import jaxboard as jb
from jaxboard.records import Histogram
from jaxboard.testing import capture

TREE = {
    "dense": {"kernel": np.arange(6, dtype=np.float32).reshape(2, 3) - 4, "bias": np.zeros(3)},
    "scale": np.full((), 3.0, np.float32),
}


def expected(tag, tree):
    """Return the points that watch reports for a tree of NumPy arrays, without histograms."""
    leaves = {
        "/".join(jax.tree_util.keystr((key,), simple=True) for key in path): np.float64(leaf)
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }
    whole = np.concatenate([leaf.reshape(-1) for leaf in leaves.values()])
    points = {}
    for name, leaf in [("", whole), *leaves.items()]:
        end = f"/{name}" if name else ""
        points[f"{tag}/norm{end}"] = np.sqrt(np.sum(leaf**2))
        points[f"{tag}/rms{end}"] = np.sqrt(np.mean(leaf**2))
        points[f"{tag}/max{end}"] = np.max(np.abs(leaf))
        points[f"{tag}/nonfinite{end}"] = np.sum(~np.isfinite(leaf))
    return points


def reported(function, *args):
    """Return the scalars and the histograms that an instrumented call of a jitted function reports."""
    with capture() as records:
        jb.instrument(jax.jit(function))(*args)
    points = {record.tag: record.value for record in records}
    assert len(points) == len(records)
    histograms = {tag: x for tag, x in points.items() if isinstance(x, Histogram)}
    return {tag: float(x) for tag, x in points.items() if tag not in histograms}, histograms


def approx(points):
    return {tag: pytest.approx(value, rel=1e-6, nan_ok=True) for tag, value in points.items()}


def watch_grads(tree):
    jb.watch("grads", tree)


def test_statistics_of_a_tree_and_its_leaves():
    """The tree and each leaf have a norm, an rms, a maximum and a count of non-finite elements; each leaf has a histogram."""
    points, histograms = reported(watch_grads, TREE)
    assert points == approx(expected("grads", TREE))
    sizes = {tag: int(histogram.counts.sum()) for tag, histogram in histograms.items()}
    assert sizes == {
        "grads/histogram/dense/kernel": 6,
        "grads/histogram/dense/bias": 3,
        "grads/histogram/scale": 1,
    }


def test_plain_python():
    """Plain Python reports the same points, and none on steps that are not due."""
    with capture() as records:
        for step in range(4):
            jb.watch("grads", TREE, step=step, every=3, what=("max", "norm", "nonfinite", "rms"))
    for step in (0, 3):
        points = {record.tag: record.value for record in records if record.step == step}
        assert points == approx(expected("grads", TREE))
    assert {record.step for record in records} == {0, 3}


def test_non_finite_leaves_are_counted():
    """Only the leaf that is not finite has a count above zero."""
    tree = {"bad": np.array([np.nan, 1, np.inf, -np.inf], np.float32), "good": np.ones(2)}
    points, histograms = reported(watch_grads, tree)
    names = ("grads/nonfinite", "grads/nonfinite/bad", "grads/nonfinite/good")
    assert [points[name] for name in names] == [3, 3, 0]
    assert np.isnan(points["grads/norm"])
    assert points["grads/norm/good"] == pytest.approx(np.sqrt(2))
    assert histograms["grads/histogram/bad"].nonfinite == 3


@pytest.mark.parametrize("size", [1000, 2**18 + 3, 3 * 2**18])
@pytest.mark.parametrize("bad", [[], [np.nan], [np.nan, np.inf, -np.inf, np.nan]], ids=len)
def test_the_count_is_exact(size, bad):
    """The count is exact for large leaves, and excludes finite elements whose squares overflow."""
    values = np.full(size, 1e30, np.float32)
    values[7 : 7 + len(bad)] = bad
    points, _ = reported(lambda x: jb.watch("x", x, what="nonfinite"), values)
    assert points == {"x/nonfinite": len(bad)}


def test_lanes_and_iterations():
    """Several measurements of one step make the root mean square of norms, the largest magnitude and the sum of counts."""
    xs = np.array([[3, 4], [0, 0], [np.inf, 1], [6, 8]], np.float32)

    def lanes(xs):
        jax.vmap(lambda x: jb.watch("x", x, what=("norm", "max", "nonfinite"), where=x[1] != 1))(xs)

    def iterations(xs):
        def body(carry, x):
            lax.cond(x[1] != 1, lambda: jb.watch("x", x, what=("norm", "max", "nonfinite")), int)
            return carry, None

        return lax.scan(body, 0, xs)[0]

    def body(carry, x):
        jb.watch("x", x, what=("norm", "max", "nonfinite"))
        return carry, None

    want = {"x/norm": np.sqrt(125 / 3), "x/max": 8, "x/nonfinite": 0}
    assert reported(lanes, xs)[0] == approx(want)
    with capture() as records:
        jb.instrument(jax.jit(lambda xs: lax.scan(body, 0, xs)[0]))(xs)
    points = {record.tag: float(record.value) for record in records}
    assert points == {"x/norm": np.inf, "x/max": np.inf, "x/nonfinite": 1}


@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit], ids=["auto", "explicit"])
def test_sharded_over_eight_devices(kind):
    """An array sharded over eight devices has the statistics of the whole array."""
    mesh = jax.make_mesh((4, 2), ("a", "b"), axis_types=(kind, kind))
    tree = {"w": np.arange(64, dtype=np.float32).reshape(8, 8) / 8, "b": np.ones(8, np.float32)}
    specs = {"w": PartitionSpec("a", "b"), "b": PartitionSpec("a")}
    sharded = {
        name: jax.device_put(x, NamedSharding(mesh, specs[name])) for name, x in tree.items()
    }
    points, histograms = reported(watch_grads, sharded)
    assert points == approx(expected("grads", tree))
    assert histograms["grads/histogram/w"].counts.sum() == 64


@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit], ids=["auto", "explicit"])
def test_large_and_sharded(kind):
    """Non-finite elements are counted on all devices, also in arrays that are processed in pieces."""
    mesh = jax.make_mesh((4, 2), ("a", "b"), axis_types=(kind, kind))
    values = np.ones((1024, 1024), np.float32)
    values[::512, ::512] = np.nan
    sharded = jax.device_put(values, NamedSharding(mesh, PartitionSpec("a", "b")))
    points, _ = reported(lambda x: jb.watch("x", x, what="nonfinite"), sharded)
    assert points == {"x/nonfinite": 4}


def test_shard_map():
    """The blocks of the devices merge like lanes: root mean square of norms, largest magnitude, sum of counts."""
    mesh = jax.make_mesh((8,), ("d",), axis_types=(AxisType.Auto,))
    x = np.arange(16, dtype=np.float32).reshape(8, 2)

    def block(x):
        jb.watch("x", x, relative_to=2 * x, what=("norm", "max", "nonfinite"))
        return x

    spec = PartitionSpec("d")
    mapped = jax.shard_map(block, mesh=mesh, in_specs=spec, out_specs=spec)
    points, _ = reported(mapped, x)
    norm = np.sqrt(np.sum(x**2) / 8)
    want = {"norm": norm, "max": 15, "nonfinite": 0, "ratio": 0.5}
    assert points == approx({f"x/{what}": value for what, value in want.items()})


def test_ratio():
    """A ratio is the norm divided by the norm of the other tree, and is left out if that is zero."""
    params = {"w": np.array([6.0, 8.0]), "b": np.zeros(2), "more": np.ones(3)}
    updates = {"w": np.array([3.0, 4.0]), "b": np.array([0.0, 12.0])}
    points, _ = reported(
        lambda u, p: jb.watch("updates", u, what="max", relative_to=p), updates, params
    )
    assert {tag: x for tag, x in points.items() if "ratio" in tag} == approx(
        {"updates/ratio": 1.3, "updates/ratio/w": 0.5}
    )


@dataclasses.dataclass
class Layer:
    """A module as in Equinox: a pytree of arrays, functions and numbers."""

    weight: jax.Array
    activation: object
    count: jax.Array


jax.tree_util.register_dataclass(
    Layer, data_fields=["weight", "activation", "count"], meta_fields=[]
)


def names(tree):
    with capture() as records:
        jb.watch("p", tree, what="max")
    return sorted(record.tag.removeprefix("p/max") for record in records)


def test_names_read_well():
    """Leaves are named by their path, in Flax and Equinox; leaves without floats are left out."""

    class Model(nnx.Module):
        def __init__(self, rngs):
            self.norm = nnx.LayerNorm(3, rngs=rngs)
            self.dropout = nnx.Dropout(0.5, rngs=rngs)

    class Linen(nn.Module):
        @nn.compact
        def __call__(self, x):
            return nn.Dense(2)(x)

    model = Model(nnx.Rngs(0))
    flax = ["", "/norm/bias", "/norm/scale"]
    assert names(model) == names(nnx.state(model)) == names(nnx.state(model, nnx.Param)) == flax
    linen = Linen().init(jax.random.key(0), jnp.ones((1, 3)))
    assert names(linen) == ["", "/params/Dense_0/bias", "/params/Dense_0/kernel"]
    layers = [Layer(jnp.ones(2), jax.nn.relu, jnp.int32(3)), Layer(jnp.ones(2), None, jnp.int32(3))]
    assert names({"layers": layers}) == ["", "/layers/0/weight", "/layers/1/weight"]
    assert names(jnp.ones(3)) == [""]


def test_complex_leaves():
    """Complex numbers are measured by their magnitudes."""
    points, histograms = reported(lambda x: jb.watch("x", x), np.array([3 + 4j, 0], np.complex64))
    assert points == {
        "x/norm": 5,
        "x/rms": pytest.approx(np.sqrt(12.5)),
        "x/max": 5,
        "x/nonfinite": 0,
    }
    assert histograms["x/histogram"].edges[-1] == 5


def test_a_step_that_is_not_due_measures_nothing():
    """On steps that are not due the optimized program equals the function without watch."""

    def bare(x):
        return jnp.tanh(x) * 2

    def watching(x):
        jb.watch("x", x, every=10)
        return jnp.tanh(x) * 2

    x = np.ones((64, 64), np.float32)
    instrumented = jb.instrument(jax.jit(watching))
    with capture() as records:
        for _ in range(3):
            instrumented(x)
        quiet = instrumented._programs.plain(frozenset({10})).lower(x).compile()
    want = jax.jit(bare).lower(x).compile()
    assert quiet.cost_analysis() == want.cost_analysis()
    assert {record.step for record in records} == {0}


def count_primitive(jaxpr, name):
    """Return how many equations of a jaxpr, at any depth, are of a primitive."""
    inner = jax.tree.leaves([e.params for e in jaxpr.eqns], is_leaf=lambda x: hasattr(x, "eqns"))
    bodies = [x for x in inner if hasattr(x, "eqns")]
    own = sum(eqn.primitive.name == name for eqn in jaxpr.eqns)
    return own + sum(count_primitive(body, name) for body in bodies)


@pytest.mark.parametrize("lanes", [False, True])
def test_leaves_of_one_shape_share_their_code(lanes):
    """The program contains the counting once for each shape, and each leaf has its own points."""
    shapes = {"kernel": (2, 3), "bias": (3,)}
    sizes = np.arange(1, 13, dtype=np.float32).reshape(6, 2)
    tree = {
        f"layer_{i}": {
            name: np.full(shape, size, np.float32)
            for (name, shape), size in zip(shapes.items(), row, strict=True)
        }
        for i, row in enumerate(sizes)
    }

    def f(tree):
        jb.watch("x", tree, where=tree["layer_0"]["bias"][0] > 0)

    function = jax.vmap(f) if lanes else f
    if lanes:  # the second does not count, the third is twice as large
        tree = jax.tree.map(lambda x: np.stack([x, -x, 2 * x]), tree)
    points, histograms = reported(function, tree)
    for i, row in enumerate(sizes):
        for name, size in zip(shapes, row, strict=True):
            elements = int(np.prod(shapes[name]))
            histogram = histograms[f"x/histogram/layer_{i}/{name}"]
            ends = [size, 2 * size] if lanes else [size]
            assert [histogram.edges[0], histogram.edges[-1]] == [ends[0], ends[-1]]
            assert int(histogram.counts.sum()) == elements * len(ends)
            assert histogram.sum == elements * sum(ends)
            assert points[f"x/max/layer_{i}/{name}"] == ends[-1]
            squares = elements * size**2 * (2.5 if lanes else 1)
            assert points[f"x/norm/layer_{i}/{name}"] == pytest.approx(np.sqrt(squares))
    counts = [
        count_primitive(jax.make_jaxpr(function)(part).jaxpr, "scatter-add")
        for part in (tree, {"layer_0": tree["layer_0"]})
    ]
    assert counts == [len(shapes)] * 2


def test_leaves_of_one_shape_stay_on_their_devices():
    """Devices exchange one number or count each, never elements."""
    mesh = jax.make_mesh((8,), ("d",), axis_types=(AxisType.Auto,))
    sharding = NamedSharding(mesh, PartitionSpec("d", None))
    leaf = jax.ShapeDtypeStruct((64, 1000), np.float32, sharding=sharding)
    instrumented = jb.instrument(jax.jit(lambda *xs: jb.watch("x", xs)))
    instrumented.precompile(*[leaf] * 4)
    program = instrumented._programs.plain(frozenset()).lower(*[leaf] * 4).compile().as_text()
    gathered = [line for line in program.splitlines() if " all-gather(" in line]
    assert all("[8,1]" in line.partition("all-gather(")[0] for line in gathered)
    assert "all-to-all" not in program


def test_stacked_layers():
    """split= separates the layers of stacked arrays: the points are those of a tree with an array for each layer."""
    rng = np.random.default_rng(0)
    stacked = {
        "blocks": {"w": rng.normal(size=(3, 4, 2)).astype(np.float32), "b": np.ones((3, 2))},
        "head": np.arange(3.0),
    }
    separate = {
        "blocks": {
            f"{n:02}": {name: x[n] for name, x in stacked["blocks"].items()} for n in range(3)
        },
        "head": stacked["head"],
    }
    found, histograms = reported(
        lambda tree: jb.watch("x", tree, split="blocks", relative_to=tree), stacked
    )
    points, same_histograms = reported(lambda tree: jb.watch("x", tree, relative_to=tree), separate)
    assert found == approx(points)
    assert histograms.keys() == same_histograms.keys()
    assert "x/norm/blocks/02/w" in found
    for tag, histogram in histograms.items():
        np.testing.assert_array_equal(histogram.counts, same_histograms[tag].counts)
    mesh = jax.make_mesh((8,), ("d",), axis_types=(AxisType.Explicit,))
    with jax.set_mesh(mesh):
        x = jax.device_put(np.eye(8, dtype=np.float32), NamedSharding(mesh, PartitionSpec("d")))
        found, _ = reported(lambda x: jb.watch("x", {"b": x}, what="norm", split="b"), x)
    assert found["x/norm/b/07"] == 1


def test_arrays_that_are_not_layers():
    """A path without arrays, an array without an axis of layers, and another number of layers raise."""
    with capture():
        for split, tree, message in [
            ("layers", TREE, "split='layers': the tree has no array at this path"),
            ("scale", TREE, "'scale' has shape .., and no axis of layers that split='scale' could"),
        ]:
            with pytest.raises(jb.ReportError, match=message):
                jb.watch("x", tree, split=split)
        with pytest.raises(jb.ReportError, match="has 'b' of shape .3,., not 2 layers"):
            jb.watch("x", {"b": np.ones(2)}, relative_to={"b": np.ones(3)}, split="b")


def test_dtypes_of_one_tree():
    """Leaves of 16, 32 and 64 bits have exact histograms, and norms in one tree."""
    tree = {
        "half": np.array([1, 2], np.float16),
        "single": np.array([3, 4], np.float32),
        "double": np.array([5, 1e300]),
    }
    with jax.enable_x64(True):
        points, histograms = reported(watch_grads, tree)
    ends = {tag.rpartition("/")[2]: tuple(h.edges[[0, -1]]) for tag, h in histograms.items()}
    assert ends == {"half": (1, 2), "single": (3, 4), "double": (5, 1e300)}
    assert points["grads/norm/half"] == pytest.approx(np.sqrt(5))
    assert points["grads/max/single"] == 4


INVALID_WHAT = (
    "expected what= to be some of 'norm', 'rms', 'max', 'nonfinite', 'histogram', got {}."
)


@pytest.mark.parametrize(
    ("call", "problem"),
    [
        (lambda: jb.watch("x", TREE, what="mean"), INVALID_WHAT.format("'mean'")),
        (lambda: jb.watch("x", TREE, what=()), INVALID_WHAT.format("()")),
        (lambda: jb.watch("x", {"n": 3}), "found no array of floats in a dict."),
        (
            lambda: jb.watch("x", TREE, relative_to={"scale": np.ones(2)}),
            "relative_to= has no leaf of floats 'dense/bias', which the tree has.",
        ),
        (
            lambda: jb.watch("x", TREE, every=0),
            "expected every= to be a positive integer (steps), got 0.",
        ),
    ],
)
def test_messages(call, problem):
    """Invalid arguments raise errors that name the fix."""
    with capture() as records, pytest.raises(jb.ReportError) as raised:
        call()
    assert str(raised.value).endswith(f"): {problem}")
    assert records == []

"""``health``: exact statistics of each layer, a picture of them, and a sentence about a layer that fails."""

# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

import functools
import io

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax import lax
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from PIL import Image

import jaxboard as jb
from jaxboard.records import EncodedImage, Kind
from jaxboard.testing import capture

health = functools.partial(jb.health, every=1)

WIDTH, LAYERS, STEPS = 8, 4, 80


def scalars(records):
    points = {r.tag: float(r.value) for r in records if r.kind is Kind.SCALAR}
    assert len(points) == sum(r.kind is Kind.SCALAR for r in records)
    return points


def sentences(records):
    """Return (step, sentence) of each finding, without the tag and the step that begin it."""
    texts = [r for r in records if r.kind is Kind.TEXT]
    assert all(r.tag == "jaxboard/health" for r in texts)
    return [(r.step, r.value.partition(f"step {r.step}: ")[2]) for r in texts]


def pictures(records):
    images = [r for r in records if r.kind is Kind.IMAGE]
    assert all(isinstance(r.value, EncodedImage) for r in images)
    return [(r.tag, r.step) for r in images]


def array(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


TREE = {
    "dense": {"kernel": array(0, 3, 4), "bias": array(1, 4)},
    "blocks": {"attention": {"w": array(2, 3, 5, 2)}, "scale": array(3, 3, 5)},
    "steps": 7,
}


def norm(*arrays):
    return np.sqrt(sum(np.sum(np.float64(x) ** 2) for x in arrays))


def expected(name, params, grads, updates):
    """Return the curves of one layer."""
    size = sum(x.size for x in params)
    zeros = sum(np.sum(x == 0) for x in grads)
    return {
        f"health/ratio{name}": norm(*updates) / norm(*params),
        f"health/gradient_norm{name}": norm(*grads),
        f"health/zeros{name}": zeros / size,
        f"health/rms{name}": norm(*params) / np.sqrt(size),
        f"health/nonfinite{name}": 0,
    }


def layers_of(tree):
    """Return the arrays of each layer of a tree like TREE, with stacked layers separate."""
    found = {
        "": [*tree["dense"].values(), tree["blocks"]["attention"]["w"], tree["blocks"]["scale"]]
    }
    found["/dense"] = list(tree["dense"].values())
    for n in range(3):
        found[f"/blocks/0{n}/attention"] = [tree["blocks"]["attention"]["w"][n]]
        found[f"/blocks/0{n}"] = [tree["blocks"]["scale"][n]]
    return found


def test_statistics_of_the_model_and_of_each_layer():
    """The model and each layer have exact curves; the layers of stacked arrays are separate."""
    grads = jax.tree.map(lambda x: np.where(x > 0.5, 0, 2 * x).astype(np.float32), TREE)
    updates = jax.tree.map(lambda x: np.float32(-0.1) * x, grads)
    report = jb.instrument(jax.jit(lambda *trees: health(*trees, split="blocks", curves=True)))
    with capture() as records:
        report(TREE, grads, updates)
    parts = [layers_of(tree) for tree in (TREE, grads, updates)]
    points = {}
    for name in parts[0]:
        points |= expected(name, *(part[name] for part in parts))
    assert scalars(records) == pytest.approx(points, rel=1e-6)
    assert not pictures(records)  # One step makes no picture.


def test_a_depth_merges_layers():
    """depth= limits the keys of the names of layers; without split=, stacked arrays are one layer."""
    with capture() as records:
        health(TREE, depth=1, curves=True)
        health(TREE, depth=2, split="blocks", tag="split", curves=True)
    tags = scalars(records)
    assert [tag for tag in tags if tag.startswith("health/rms/")] == [
        "health/rms/blocks",
        "health/rms/dense",
    ]
    names = ["blocks/00", "blocks/01", "blocks/02", "dense"]
    assert [tag for tag in tags if tag.startswith("split/rms/")] == [
        f"split/rms/{n}" for n in names
    ]
    whole = [TREE["blocks"]["attention"]["w"][1], TREE["blocks"]["scale"][1]]
    size = sum(x.size for x in whole)
    assert tags["split/rms/blocks/01"] == pytest.approx(norm(*whole) / np.sqrt(size))


def test_what_is_missing_has_no_curve():
    """A frozen layer has no gradient and no ratio; weights that are zero have no ratio; without a tree, no curve."""
    params = {"frozen": np.ones(2), "new": np.zeros(2), "w": np.ones(2)}
    updates = {"new": np.ones(2), "w": np.ones(2)}
    with capture() as records:
        health(params, updates, updates, curves=True)
        health(params, tag="weights")
    tags = scalars(records)
    assert [tag for tag in tags if tag.startswith("health/ratio")] == [
        "health/ratio",
        "health/ratio/w",
    ]
    assert [tag for tag in tags if tag.startswith("health/zeros/")] == [
        "health/zeros/new",
        "health/zeros/w",
    ]
    assert [tag for tag in tags if tag.startswith("weights")] == [
        "weights/rms",
        "weights/nonfinite",
    ]


def test_modules_and_activations():
    """A module of NNX is a tree of layers; activations add their own statistics to the layer with their name."""
    model = nnx.Linear(2, 3, rngs=nnx.Rngs(0))
    params = nnx.state({"dense": model}, nnx.Param)
    with capture() as records:
        health(params, activations={"dense": np.array([0.0, 3, 0, 4])}, curves=True)
    tags = scalars(records)
    assert tags["health/activation_zeros/dense"] == 0.5
    assert tags["health/activation_rms/dense"] == 2.5
    assert tags["health/rms/dense"] > 0


def test_lanes_and_iterations():
    """Lanes and iterations of one step make the root mean square of norms, and the mean of fractions."""
    xs = np.array([[3, 4], [0, 5], [9, 9]], np.float32)

    def lanes(xs):
        jax.vmap(lambda x: health({"w": jnp.ones(2)}, {"w": x}, where=x[0] != 9))(xs)

    def iterations(xs):
        def body(carry, x):
            lax.cond(x[0] != 9, lambda: health({"w": jnp.ones(2)}, {"w": x}), lambda: None)
            return carry, None

        lax.scan(body, 0, xs)

    for function in (lanes, iterations):
        with capture() as records:
            jb.instrument(jax.jit(function))(xs)
        points = {"health/gradient_norm": 5, "health/zeros": 0.25, "health/rms": 1}
        assert scalars(records) == points | {"health/nonfinite": 0}


def test_seed_runs():
    """Each lane has curves and a picture of its own, and the summaries have curves."""

    @jb.instrument
    @jax.jit
    def step(x):
        jax.vmap(lambda x: health({"w": x}, runs="vmap"))(x)

    with capture() as records:
        for _ in range(2):
            step(jnp.array([[3.0, 3.0], [5.0, 5.0]]))
    rms = {(r.run, r.step): float(r.value) for r in records if r.tag == "health/rms"}
    runs = {"seed_0": 3, "seed_1": 5, "mean": 4, "min": 3, "max": 5}
    assert rms == {(run, step): value for run, value in runs.items() for step in range(2)}
    assert sorted(r.run for r in records if r.kind is Kind.IMAGE) == ["seed_0", "seed_1"]


def test_stacked_layers_stay_on_their_devices():
    """Devices exchange a few numbers for each layer, never elements."""
    mesh = jax.make_mesh((8,), ("d",), axis_types=(AxisType.Auto,))

    def leaf(*spec):
        sharding = NamedSharding(mesh, PartitionSpec(*spec))
        return jax.ShapeDtypeStruct((16, 64, 80), np.float32, sharding=sharding)

    params = {"blocks": {"a": leaf("d"), "b": leaf(None, "d"), "c": leaf(None, None, "d")}}
    instrumented = jb.instrument(jax.jit(lambda *trees: health(*trees, split="blocks")))
    instrumented.precompile(params, params, params)
    lowered = instrumented._programs.plain(frozenset()).lower(params, params, params)
    program = lowered.compile().as_text()
    assert " all-reduce(" in program
    moved = [line for line in program.splitlines() if " all-gather(" in line]
    sizes = [line.partition("[")[2].partition("]")[0] for line in moved]
    assert all(np.prod([int(n) for n in size.split(",")]) <= 3 * 16 * 4 for size in sizes), moved
    assert "all-to-all" not in program


def test_explicit_shardings():
    """Arrays with explicit shardings have the same statistics."""
    mesh = jax.make_mesh((8,), ("d",), axis_types=(AxisType.Explicit,))
    x = array(5, 8, 16)
    with jax.set_mesh(mesh):
        placed = jax.device_put(x, NamedSharding(mesh, PartitionSpec("d", None)))
        with capture() as records:
            jb.instrument(jax.jit(lambda x: health({"b": x}, split="b", curves=True)))(placed)
    rms = [float(r.value) for r in records if r.tag.startswith("health/rms/")]
    assert rms == pytest.approx(np.sqrt(np.mean(x.astype(np.float64) ** 2, 1)))


def test_steps_that_are_not_due_compute_nothing():
    """The cadence is every=, or the setting of instrument(), or 10; other steps compute nothing."""

    @jb.instrument
    @jax.jit
    def step(x):
        jb.health({"w": x}, every=3)
        return x + 1

    with capture() as records:
        for _ in range(5):
            step(jnp.ones(4))
    assert [r.step for r in records if r.tag == "health/rms"] == [0, 3]
    assert pictures(records) == [("health/layers", 3)]
    with capture() as records:
        for n in range(12):
            jb.health({"w": np.ones(4)}, step=n)
    assert [r.step for r in records if r.tag == "health/rms"] == [0, 10]


def test_the_picture_of_a_run():
    """A picture is written at 8 reports, whenever their number has doubled, and at the end."""
    with capture() as records:
        for step in range(20):
            health({"a": {"w": np.full(4, step + 1.0)}, "b": np.ones(2)}, step=step)
    assert pictures(records) == [("health/layers", n) for n in (7, 15, 19)]
    picture = [r for r in records if r.kind is Kind.IMAGE][-1].value
    pixels = np.asarray(Image.open(io.BytesIO(picture.data)))
    assert pixels.shape == (picture.height, picture.width, 3)
    assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 20  # the colors of a growing layer
    assert not sentences(records)


# --- Planted faults. ------------------------------------------------------------------------------


def forward(params, x):
    def body(h, layer):
        h = jax.nn.relu(h @ layer["w"] + layer["b"][None])
        return h, h

    h, outputs = lax.scan(body, x, params["blocks"])
    return h @ params["head"]["kernel"] + params["head"]["bias"][None], outputs


@jb.instrument
@jax.jit
def train(params, factors, shifts, with_activations):
    """Train a network of ReLU layers; at each step, multiply the weights of each layer, and shift its biases."""

    def loss_fn(params, x):
        y, outputs = forward(params, x)
        return jnp.mean((y - jnp.sin(x[:, :1])) ** 2), outputs

    def step(params, at):
        number, factor, shift = at
        x = jax.random.normal(jax.random.fold_in(jax.random.key(1), number), (32, WIDTH))
        grads, outputs = jax.grad(loss_fn, has_aux=True)(params, x)
        updates = jax.tree.map(lambda g: -0.02 * g, grads)
        blocks = updates["blocks"]
        blocks["w"] += (factor[:, None, None] - 1) * params["blocks"]["w"]
        health(params, grads, updates, split="blocks", step=number, where=~with_activations)
        seen = {"blocks": outputs}
        health(params, grads, updates, seen, split="blocks", step=number, where=with_activations)
        params = jax.tree.map(jnp.add, params, updates)
        params["blocks"]["b"] += shift[:, None]
        return params, None

    return lax.scan(step, params, (jnp.arange(STEPS), factors, shifts))[0]


def findings(*, factor=None, shift=None, biases=0.1, activations=False):
    """Return the sentences about a training in which layer 2 is multiplied or shifted.

    Args:
        factor: the first and the last step at which its weights are multiplied, and by what.
        shift: the step at which its biases are shifted, and by what.
        biases: the biases at first.
        activations: whether activations are reported.
    """
    params = {
        "blocks": {
            "w": array(0, LAYERS, WIDTH, WIDTH) * 0.5,
            "b": np.full((LAYERS, WIDTH), biases, np.float32),
        },
        "head": {"kernel": array(1, WIDTH, 1), "bias": np.zeros(1, np.float32)},
    }
    factors = np.ones((STEPS, LAYERS), np.float32)
    shifts = np.zeros((STEPS, LAYERS), np.float32)
    if factor is not None:
        factors[factor[0] : factor[1], 2] = factor[2]
    if shift is not None and shift[0] == 0:
        params["blocks"]["b"][2] += shift[1]
    elif shift is not None:
        shifts[shift[0], 2] = shift[1]
    with capture() as records:
        train(params, factors, shifts, activations)
    found = sentences(records)
    assert len(found) < 4
    return found


def test_ordinary_training_has_no_findings():
    """A training without a fault has none."""
    assert findings() == []
    assert findings(activations=True, biases=0.0) == []


def test_a_layer_that_dies(caplog):
    """A layer whose ReLU units stop is named, and not the layers that get no gradient because of it."""
    ((step, text),) = findings(shift=(20, -8.0))
    assert step == 30
    assert text == (
        "Layer `blocks/02` is dead: its gradient has been zero everywhere since step 21. It outputs only zeros. "
        "`blocks/00`, `blocks/01` have no gradient either."
    )
    assert f"jaxboard, run in memory, health: {text}" in caplog.text


def test_a_layer_that_was_never_alive():
    """A layer that is dead from the start is named too."""
    (found,) = findings(shift=(0, -6.0))
    assert found[0] == 9
    assert found[1].startswith(
        "Layer `blocks/02` is dead: its gradient has been zero everywhere since the first report, at step 0."
    )


def test_activations_show_which_layer_is_dead():
    """Layers without biases pass zeros on, so that gradients show only which layers may be dead; activations show which."""
    (found,) = findings(shift=(0, -6.0), biases=0.0)
    assert found[1].endswith(
        "The first of `blocks/02`, `blocks/03` that outputs only zeros is dead. Pass activations= to see which."
    )
    (found,) = findings(shift=(0, -6.0), biases=0.0, activations=True)
    assert found[1].startswith("Layer `blocks/02` is dead: ")


def test_a_layer_that_explodes():
    """A layer whose weights grow by a seventh at each step is named, and no other one."""
    found = findings(factor=(35, 60, 1.15))
    assert [text.partition(":")[0] for _, text in found] == [
        "Layer `blocks/02` changes too fast",
        "Layer `blocks/02` explodes",
    ]
    assert 35 < found[0][0] < found[1][0] < 65
    assert "the RMS of its weights grew from" in found[1][1]


def test_a_layer_that_drifts():
    """A layer whose weights grow by a few percent at each step is named, and no other one."""
    ((step, text),) = findings(factor=(0, STEPS, 1.06))
    assert text.startswith("Layer `blocks/02` drifts: the RMS of its weights moved steadily from")
    assert 40 <= step < STEPS


def test_a_frozen_layer_raises_no_warning(caplog):
    """A layer that never had a gradient, while all others have, has a sentence and no warning."""
    with capture() as records:
        for step in range(12):
            health(
                {"a": np.ones(4), "b": np.ones(4)}, {"a": np.zeros(4), "b": np.ones(4)}, step=step
            )
    ((step, text),) = sentences(records)
    assert step == 9
    assert text == (
        "Layer `a` has had no gradient since the first report, at step 0. It is frozen, or the loss does not depend on it."
    )
    assert "health" not in caplog.text


def test_a_gradient_that_explodes():
    """A layer whose gradient grows 100-fold while those of others do not is named."""
    with capture() as records:
        for step in range(40):
            grads = {name: np.full(16, 1 + 0.1 * (step % 3)) for name in "abc"}
            grads["b"] = grads["b"] * 1.5 ** max(step - 20, 0)
            health(dict.fromkeys("abc", np.ones(16)), grads, step=step)
    ((step, text),) = sentences(records)
    assert 30 < step < 40
    assert text.startswith("Layer `b` explodes: the norm of its gradient grew from")


def test_no_layer_explodes_if_all_gradients_grow():
    """Gradients that grow in all layers, as when training leaves a plateau, have no finding."""
    with capture() as records:
        for step in range(60):
            grads = {name: np.full(16, 1e-6 * 1.5**step) for name in "abc"}
            health(dict.fromkeys("abc", np.ones(16)), grads, step=step)
    assert sentences(records) == []


def test_weights_that_start_at_zero_do_not_explode():
    """Biases that start at zero, and grow as fast as a rising learning rate lets them, have no finding."""
    with capture() as records:
        for step in range(60):
            weights = {"kernel": np.full(64, 0.2), "bias": np.full(16, 1e-5 * step**2.5)}
            ratio = 2.5 / max(step, 1)
            updates = {"kernel": np.full(64, 1e-3), "bias": weights["bias"] * ratio}
            health(weights, updates=updates, step=step)
    assert sentences(records) == []


@pytest.mark.filterwarnings("ignore")
def test_a_layer_that_is_not_finite(caplog):
    """The text entry of values that are not finite names the parameter, and its layer is marked in the picture."""
    sink = jb.sinks.MemorySink()
    with jb.Run(None, sinks=[sink]):
        for step in range(3):
            params = {"a": {"w": np.ones(4)}, "b": {"w": np.ones(4)}}
            grads = {
                "a": {"w": np.ones(4)},
                "b": {"w": np.array([1.0, np.inf if step else 1, 2, 3])},
            }
            health(params, grads, step=step)
    texts = [r for r in sink.records if r.kind is Kind.TEXT]
    assert [(r.tag, r.step) for r in texts] == [("jaxboard/nonfinite", 1)]
    assert "health/grads/b/w is not finite in 1 of 4 elements at step 1" in caplog.text
    (picture,) = [r.value for r in sink.records if r.kind is Kind.IMAGE]
    pixels = np.asarray(Image.open(io.BytesIO(picture.data))).reshape(-1, 3)
    assert (pixels == (217, 48, 37)).all(1).any()


# --- Errors. --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (({"n": 1},), "expected params= to contain arrays of floats, got "),
        ((TREE, {}), "expected grads= to contain arrays of floats, got {}"),
        (
            (TREE, {**TREE, "other": np.ones(2)}),
            "grads= has a leaf 'other', which params= does not have",
        ),
        (
            (TREE, None, {"other": np.ones(2)}),
            "updates= has a leaf 'other', which params= does not have",
        ),
        (
            (TREE, {"dense": {"bias": np.ones(5)}}),
            r"expected the leaf 'dense/bias' of grads= to have the shape \[4\] of that in params=, got float32\[5\]",
        ),
    ],
)
def test_trees_that_do_not_fit(arguments, message):
    """A tree without floats, or with a leaf that no parameter has in that shape, raises and names the leaf."""
    with capture(), pytest.raises(jb.ReportError, match=message):
        health(*arguments)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"split": "layers"},
            "split='layers': the tree has no array at this path. It has 'blocks/attention/w', ",
        ),
        (
            {"split": 3},
            "expected split= to be the path of stacked layers, such as 'blocks', or several, got 3",
        ),
        (
            {"split": "dense"},
            "the first axis below 'dense' is that of the layers, but 'dense/bias' has 4 and ",
        ),
        ({"depth": 0}, "expected depth= to be a positive integer, got 0"),
        ({"curves": np.ones(2)}, "expected curves= to be True or False, got "),
        ({"curves": "x"}, "expected curves= to be True or False, got 'x'"),
    ],
)
def test_options(options, message):
    """An option that does not fit raises."""
    with capture(), pytest.raises(jb.ReportError, match=message):
        health(TREE, **options)


def test_gradients_of_another_number_of_layers():
    """Stacked layers have as many gradients as parameters."""
    grads = {"blocks": {"scale": np.ones((2, 5))}}
    message = r"the leaf 'blocks/scale' of grads= to have the shape \[3, 5\]"
    with capture(), pytest.raises(jb.ReportError, match=message):
        health(TREE, grads, split="blocks")

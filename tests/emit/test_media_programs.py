"""Sounds, images, meshes and videos of sharded arrays, with 64-bit types, and as seed runs."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import jaxboard as jb
from jaxboard.testing import capture

RNG = np.random.default_rng(0)
IMAGES = RNG.uniform(0, 1, (8, 9, 9, 3)).astype(np.float32)
BOXES = np.tile(np.array([[2, 2, 7, 7]], np.float32), (8, 1, 1))
VERTICES = RNG.normal(size=(8, 4, 3)).astype(np.float32)
SOUNDS = RNG.uniform(-1, 1, (8, 16, 1)).astype(np.float32)
FACES = np.array([[0, 1, 2]])


def report(images, boxes, vertices, sounds):
    """Report with every verb whose record has several arrays or files."""
    jb.image("image", images, boxes=boxes, labels=jnp.zeros(boxes.shape[:-1], jnp.int32))
    jb.mesh("mesh", vertices, FACES, jax.nn.sigmoid(vertices))
    jb.audio("audio", sounds, 8000)
    jb.video("video", images[..., None, :, :, :])


def values(records):
    """Return the arrays of all records, by run and tag."""
    names = {"mesh": "vertices faces colors", "audio": "samples", "video": "frames"}
    arrays = {}
    for record in records:
        key = (record.run, record.tag)
        parts = names.get(record.tag, "").split()
        arrays[key] = [getattr(record.value, part) for part in parts] or [record.value]
    return arrays


def assert_equal(ours, theirs):
    assert ours.keys() == theirs.keys()
    for key, arrays in ours.items():
        for a, b in zip(arrays, theirs[key], strict=True):
            assert a.dtype == b.dtype
            np.testing.assert_array_equal(a, b)


def test_sharded_arrays():
    """Arrays that are sharded along explicit mesh axes report what plain arrays report."""
    step = jb.instrument(jax.jit(report))
    args = (IMAGES, BOXES, VERTICES, SOUNDS)
    with capture() as plain:
        step(*args)
    mesh = jax.make_mesh((8,), ("d",), axis_types=(AxisType.Explicit,))
    sharded = [jax.device_put(x, NamedSharding(mesh, P("d"))) for x in args]
    with capture() as records, jax.set_mesh(mesh):
        step(*sharded)
    assert len(records) == 4
    assert_equal(values(records), values(plain))


def test_seed_runs_with_64_bit_types():
    """With runs="vmap" each lane has its own items, and 64-bit floats report what 32-bit floats report."""
    step = jb.instrument(jax.jit(jax.vmap(report)), runs="vmap")
    args = tuple(x[:2] for x in (IMAGES, BOXES, VERTICES, SOUNDS))
    with capture() as plain:
        step(*args)
    with capture() as records, jax.enable_x64(True):
        step(*(x.astype(np.float64) for x in args))
    assert sorted(values(records)) == [
        (f"seed_{lane}", tag) for lane in range(2) for tag in ("audio", "image", "mesh", "video")
    ]
    np.testing.assert_array_equal(values(plain)["seed_1", "mesh"][0], VERTICES[1:2])
    for tag in ("audio", "mesh"):
        assert_equal(
            {k: v[:2] for k, v in values(records).items() if k[1] == tag},
            {k: v[:2] for k, v in values(plain).items() if k[1] == tag},
        )

"""``mesh``: vertices, faces, colors, batches and wrong arguments."""

# pyright: reportArgumentType=false

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxboard as jb
from jaxboard.testing import capture

CONVERT = pytest.mark.parametrize("convert", [np.asarray, jnp.asarray], ids=["numpy", "jax"])
RNG = np.random.default_rng(0)
VERTICES = RNG.normal(size=(5, 4, 3)).astype(np.float32)
FACES = np.array([[0, 2, 1], [0, 1, 3]], np.int32)
COLORS = RNG.integers(0, 256, (5, 4, 3), np.uint8)
POINTS = np.zeros((4, 3), np.float32)


def reported(*args, **options):
    """Return the value of the one record that a call makes."""
    with capture() as records:
        jb.mesh("x", *args, **options)
    (record,) = records
    return record.value


@CONVERT
def test_one_mesh(convert):
    """Vertices, faces and colors arrive unchanged, with a camera that shows all of the mesh."""
    mesh = reported(convert(VERTICES[0]), convert(FACES), convert(COLORS[0]))
    np.testing.assert_array_equal(mesh.vertices, VERTICES[:1])
    np.testing.assert_array_equal(mesh.faces, FACES[None])
    np.testing.assert_array_equal(mesh.colors, COLORS[:1])
    assert [mesh.vertices.dtype, mesh.faces.dtype, mesh.colors.dtype] == [
        np.float32,
        np.int32,
        np.uint8,
    ]
    assert json.loads(mesh.config) == {"camera": {"cls": "PerspectiveCamera", "fov": 75}}
    assert mesh.nbytes == 48 + 24 + 12


@CONVERT
def test_a_batch(convert):
    """The first max_meshes of a batch are kept, faces and colors without a batch are those of every mesh."""
    for most, kept in ((None, 3), (2, 2), (9, 5)):
        options = {} if most is None else {"max_meshes": most}
        mesh = reported(convert(VERTICES), FACES, convert(COLORS[0]), **options)
        np.testing.assert_array_equal(mesh.vertices, VERTICES[:kept])
        np.testing.assert_array_equal(mesh.faces, np.tile(FACES, (kept, 1, 1)))
        np.testing.assert_array_equal(mesh.colors, np.tile(COLORS[0], (kept, 1, 1)))


@CONVERT
def test_points(convert):
    """A point cloud has no faces and may have no colors; a coordinate that is not finite is 0."""
    mesh = reported(convert(np.array([[1, np.nan, np.inf], [-np.inf, 2, 3]], np.float32)))
    assert mesh.vertices.tolist() == [[[1, 0, 0], [0, 2, 3]]]
    assert (mesh.faces, mesh.colors) == (None, None)
    colors = convert(np.array([[0, 0.5, 1], [1, np.nan, 0]], np.float32))
    assert reported(POINTS[:2], colors=colors).colors.tolist() == [[[0, 128, 255], [255, 0, 0]]]


def test_a_config():
    """config= replaces the camera."""
    config = {"material": {"cls": "PointsMaterial", "size": 0.05}}
    assert json.loads(reported(POINTS, config=config).config) == config


def test_clipped_colors_warn():
    """Colors outside of 0 to 1 are clipped with a warning."""
    with pytest.warns(
        jb.JaxboardWarning,
        match="colors outside of 0 to 1 were clipped; the values reach from 255 to 255",
    ):
        mesh = reported(POINTS, colors=np.full((4, 3), 255.0))
    assert mesh.colors.max() == 255


def test_lanes_of_a_traced_program():
    """Under vmap and grad, the lanes are a batch of meshes; where= leaves lanes out."""

    def loss(vertices, keep):
        jb.mesh("x", vertices, FACES, jax.nn.sigmoid(vertices), where=keep)
        return jnp.sum(vertices**2)

    step = jb.instrument(jax.jit(jax.vmap(jax.grad(loss))))
    with capture() as records:
        step(VERTICES, np.array([False, True, False, True, False]))
    mesh = records[0].value
    np.testing.assert_array_equal(mesh.vertices, VERTICES[[1, 3]])
    np.testing.assert_array_equal(mesh.faces, np.tile(FACES, (2, 1, 1)))
    expected = 255 / (1 + np.exp(-VERTICES[[1, 3]]))
    assert np.abs(mesh.colors - expected).max() < 0.51


@pytest.mark.parametrize(
    ("call", "problem"),
    [
        (lambda: jb.mesh("x", np.zeros((4, 2))), "expected vertices= of shape [V, 3] or [N, V, 3], got float64[4,2]."),
        (lambda: jb.mesh("x", np.zeros((0, 3))), "expected vertices= of shape [V, 3] or [N, V, 3], got float64[0,3]."),
        (lambda: jb.mesh("x", np.zeros((4, 3), bool)), "expected vertices= as numbers, got bool[4,3]."),
        (lambda: jb.mesh("x", POINTS, np.zeros((4, 4), int)), "expected faces= of shape [F, 3] or [N, F, 3], got int64[4,4]."),
        (lambda: jb.mesh("x", POINTS, POINTS), "expected faces= as integers, got float32[4,3]."),
        (lambda: jb.mesh("x", POINTS, np.array([[0, 1, 4]])), "expected faces= with indices from 0 to 3, the vertices, got 4."),
        (lambda: jb.mesh("x", POINTS, np.array([[0, 1, -1]])), "expected faces= with indices from 0 to 3, the vertices, got -1."),
        (lambda: jb.mesh("x", POINTS, FACES[None]), "expected faces= of one mesh, got int32[1,2,3]."),
        (lambda: jb.mesh("x", VERTICES, colors=COLORS[:2]), "expected colors= of 5 meshes, got uint8[2,4,3]."),
        (lambda: jb.mesh("x", POINTS, colors=POINTS[:2]), "expected a color for each of 4 vertices, got float32[2,3]."),
        (lambda: jb.mesh("x", POINTS, colors=FACES), "expected colors= as uint8, or floats from 0 to 1, got int32[2,3]."),
        (lambda: jb.mesh("x", POINTS, max_meshes=0), "expected max_meshes= to be a positive integer, got 0."),
        (lambda: jb.mesh("x", POINTS, config={"a": len}), "expected config= to be a dict that JSON can hold, got {'a': <built-in function len>} (dict)."),
    ],
)  # fmt: skip
def test_wrong_arguments(call, problem):
    """A wrong shape, dtype or option raises an error that describes it and names the fix."""
    with capture() as records, pytest.raises(jb.ReportError) as raised:
        call()
    assert records == []
    place = f"test_mesh.py:{call.__code__.co_firstlineno}"
    assert str(raised.value) == f"report 'x' ({place}): {problem}"

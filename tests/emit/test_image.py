"""``image``: layouts, ranges, color maps, grids, boxes and wrong arguments."""

# pyright: reportArgumentType=false

import functools

import jax
import jax.numpy as jnp
import matplotlib as mpl
import numpy as np
import pytest

import jaxboard as jb
from jaxboard._reduce.color_maps import COLOR_MAPS, color_map
from jaxboard.testing import capture

CONVERT = pytest.mark.parametrize("convert", [np.asarray, jnp.asarray], ids=["numpy", "jax"])
RNG = np.random.default_rng(0)
SHAPES = "expected an image [H, W], [H, W, C] or [N, H, W, C] with 1, 3 or 4 channels, got {}. "
MATRICES = "expected an image [H, W] or [N, H, W], whose numbers cmap= colors, got {}. "
OTHER_ARRAYS = "jaxboard.histogram reports other arrays."
BOX = "expected boxes= of shape {}, with left, top, right and bottom in pixels, got {}."


def pixels(*shape):
    return RNG.integers(0, 256, shape, np.uint8)


def zeros(*shape):
    return np.zeros(shape, np.float32)


def reported(*args, **options):
    """Return the value of the one record that a call makes."""
    with capture() as records:
        jb.image("x", *args, **options)
    (record,) = records
    return record.value


@CONVERT
@pytest.mark.parametrize(
    ("shape", "layout", "axes"),
    [
        ((5, 6), None, "HW"),
        ((5, 6), "HW", "HW"),
        ((5, 6, 3), None, "HWC"),
        ((3, 5, 3), "HWC", "HWC"),
        ((3, 5, 6), "CHW", "CHW"),
        ((3, 5, 6), "NHW", "NHW"),
        ((2, 5, 6, 4), None, "NHWC"),
        ((2, 3, 5, 3), "NCHW", "NCHW"),
        ((2, 3, 5, 3), "NHWC", "NHWC"),
    ],
)
def test_layouts(convert, shape, layout, axes):
    """The axes are arranged as layout= names them; two axes are a gray image, and channels are last by default."""
    value = pixels(*shape)
    source = "".join(axes) if "C" in axes else axes
    array = value if "C" in axes else value[..., None]
    source += "" if "C" in axes else "C"
    if "N" not in axes:
        array, source = array[None], "N" + source
    expected = np.einsum(f"{source}->NHWC", array)
    np.testing.assert_array_equal(reported(convert(value), layout=layout), expected)


@CONVERT
def test_an_automatic_range(convert):
    """range="auto" stretches each image from its smallest to its largest finite value; a constant is black."""
    values = np.array(
        [[[-2, 0], [2, np.nan]], [[7, 7], [7, np.inf]], [[np.nan] * 2] * 2], np.float32
    )
    images = reported(convert(values), layout="NHW", range="auto")
    assert images.reshape(3, 4).tolist() == [[0, 128, 255, 0], [0, 0, 0, 255], [0, 0, 0, 0]]
    assert reported(convert(np.arange(3)[None]), range="auto").ravel().tolist() == [0, 128, 255]


@CONVERT
@pytest.mark.parametrize("name", COLOR_MAPS)
def test_color_maps(convert, name):
    """A matrix has the colors of matplotlib's map of that name, to within 2 of 255."""
    heat = reported(convert(np.arange(256, dtype=np.uint8).reshape(16, 16)), cmap=name)
    theirs = mpl.colormaps[name](np.arange(256))[:, :3] * 255
    assert (heat.dtype, heat.shape) == (np.uint8, (1, 16, 16, 3))
    assert np.abs(heat.reshape(256, 3) - theirs).max() < 2.6
    np.testing.assert_array_equal(heat.reshape(256, 3), color_map(name))


def test_heat_maps_of_a_batch():
    """With cmap=, three axes are a batch of matrices, and 0 to 1 or range= are the ends of the map."""
    weights = np.array([[[0, 1]], [[0.5, 0.25]]], np.float32)
    shown = color_map("viridis")[[[[0, 255]], [[128, 64]]]]
    np.testing.assert_array_equal(reported(weights, cmap="viridis"), shown)
    np.testing.assert_array_equal(reported(weights * 8 - 4, cmap="viridis", range=(-4, 4)), shown)


@CONVERT
@pytest.mark.parametrize(
    ("grid", "count", "rows", "columns"),
    [
        (True, 5, 2, 3),
        (True, 9, 3, 3),
        (4, 5, 2, 4),
        ((2, 2), 5, 2, 2),
        ((3, 2), 5, 3, 2),
        ((2, 3), 1, 2, 3),
    ],
)
def test_grids(convert, grid, count, rows, columns):
    """A grid has the images row by row, with two black pixels between them and black cells at the end."""
    images = pixels(count, 2, 5, 3)
    got = reported(convert(images), grid=grid)
    assert got.shape == (1, rows * 4 - 2, columns * 7 - 2, 3)
    expected = np.zeros((rows * 4, columns * 7, 3), np.uint8)
    for n in range(min(count, rows * columns)):
        top, left = n // columns * 4, n % columns * 7
        expected[top : top + 2, left : left + 5] = images[n]
    np.testing.assert_array_equal(got[0], expected[:-2, :-2])


def test_a_grid_of_lanes():
    """The lanes of a vmap are the images of a grid; max_images= limits them."""

    def lane(x):
        jb.image("all", jnp.full((1, 1), x, jnp.uint8), grid=2)
        jb.image("some", jnp.full((1, 1), x, jnp.uint8), grid=True, max_images=1)

    step = jb.instrument(jax.jit(jax.vmap(lane)))
    with capture() as records:
        step(jnp.arange(1, 5))
    values = {record.tag: record.value for record in records}
    assert values["all"][0, ::3, ::3, 0].tolist() == [[1, 2], [3, 4]]
    assert values["some"].tolist() == [[[[1]]]]


BOXES = np.array([[2, 3, 10, 12], [20, 4, 28, 18], [5, 5, 5, 9], [np.nan] * 4], np.float32)


def outline(box, size=(32, 40)):
    """Return which pixels the outline of a box, of one pixel, covers."""
    left, top, right, bottom = box.astype(int)
    inside = np.zeros(size, bool)
    inside[top : bottom + 1, left : right + 1] = True
    inside[top + 1 : bottom, left + 1 : right] = False
    return inside


@CONVERT
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_boxes(convert, channels):
    """Boxes are drawn in colors of their own on the exact pixels; those without an area or with NaN are not."""
    images = pixels(2, 32, 40, channels)
    boxes = np.stack([BOXES, BOXES[::-1]])
    got = reported(convert(images), boxes=convert(boxes))
    expected = np.repeat(images, 3, axis=-1) if channels == 1 else images.copy()
    for image, colors in zip(expected, [(0, 1), (3, 2)], strict=True):
        for box, color in zip(BOXES[:2], colors, strict=True):
            rgb = [(31, 119, 180), (255, 127, 14), (44, 160, 44), (214, 39, 40)][color]
            image[outline(box)] = (*rgb, 255)[: image.shape[-1]]
    np.testing.assert_array_equal(got, expected)


def test_labels():
    """Labels are drawn: as strings, as classes and as names of classes, which draw the same pixels if equal."""
    image, boxes = zeros(64, 64, 3), np.array([[4, 20, 40, 60]], np.float32)
    plain = reported(image, boxes=boxes)
    named = reported(image, boxes=boxes, labels=["cat"])
    classes = reported(image, boxes=boxes, labels=np.array([0]), class_names=("cat",))
    number = reported(image, boxes=boxes, labels=np.array([0]))
    text = reported(image, boxes=boxes, labels=["0"])
    assert (named != plain).any(-1).sum() > 50
    np.testing.assert_array_equal(named, classes)
    np.testing.assert_array_equal(number, text)
    assert (number != named).any()


def test_boxes_in_traced_code():
    """Traced images, boxes and classes under vmap draw what plain Python draws, and floats warn if clipped."""
    images = RNG.uniform(0, 1, (2, 32, 40, 3)).astype(np.float32)
    boxes, classes = np.stack([BOXES, BOXES + 3]), np.array([[0, 1, 2, 3], [1, 1, 1, 1]])
    names = ["cat", "dog"]
    expected = reported(images, boxes=boxes, labels=classes, class_names=names, grid=True)

    @jb.instrument
    @jax.jit
    def step(images, boxes, classes):
        options = {"class_names": names, "grid": True}
        report = functools.partial(jb.image, "x", **options)
        jax.vmap(lambda image, boxes, labels: report(image, boxes=boxes, labels=labels))(
            images, boxes, classes
        )

    with capture() as records:
        step(images, boxes, classes)
    np.testing.assert_array_equal(records[0].value, expected)


@pytest.mark.parametrize("dtype", [np.uint8, bool, np.uint16])
def test_boxes_keep_the_dtype(dtype):
    """Pixels of every dtype look the same with boxes as without."""
    image = RNG.integers(0, 2 if dtype is bool else 200, (16, 16, 3)).astype(dtype)
    options = {"range": (0, 255)} if dtype is np.uint16 else {}
    for nowhere in (np.full((1, 4), np.nan), np.zeros((0, 4))):
        np.testing.assert_array_equal(
            reported(image, boxes=nowhere, **options), reported(image, **options)
        )


@pytest.mark.parametrize(
    ("call", "problem"),
    [
        (lambda: jb.image("x", zeros(3, 28, 3)), "float32[3,28,3] may have its channels last or first. Pass layout='HWC' or layout='CHW'."),
        (lambda: jb.image("x", zeros(2, 4, 28, 3)), "float32[2,4,28,3] may have its channels last or first. Pass layout='NHWC' or layout='NCHW'."),
        (lambda: jb.image("x", zeros(3, 28, 28)), SHAPES.format("float32[3,28,28]") + "Pass layout='CHW' if the channels are first, or layout='NHW' for a batch of gray images."),
        (lambda: jb.image("x", zeros(9, 28, 28)), SHAPES.format("float32[9,28,28]") + "Pass layout='NHW' for a batch of gray images."),
        (lambda: jb.image("x", zeros(2, 3, 28, 28)), SHAPES.format("float32[2,3,28,28]") + "Pass layout='NCHW' if the channels are first."),
        (lambda: jb.image("x", zeros(2, 28, 28, 7)), SHAPES.format("float32[2,28,28,7]") + "Choose the channels to show, such as the first with x[..., :1]."),
        (lambda: jb.image("x", zeros(7, 28, 28), layout="CHW"), SHAPES.format("float32[7,28,28]") + "Choose the channels to show, such as the first with x[:1]."),
        (lambda: jb.image("x", zeros(5), layout="HW"), "layout='HW' has 2 axes, got float32[5]."),
        (lambda: jb.image("x", zeros(5), layout="WH"), "expected layout= to be one of 'HW', 'HWC', 'CHW', 'NHW', 'NHWC', 'NCHW', got 'WH'."),
        (lambda: jb.image("x", zeros(5), layout=["HW"]), "expected layout= to be one of 'HW', 'HWC', 'CHW', 'NHW', 'NHWC', 'NCHW', got ['HW']."),
        (lambda: jb.image("x", zeros(4, 4), range="min"), "expected range= to be two numbers (low, high) in ascending order, or 'auto', got 'min'."),
        (lambda: jb.image("x", zeros(4, 4), range=(1, 0)), "expected range= to be two numbers (low, high) in ascending order, or 'auto', got (1, 0)."),
        (lambda: jb.image("x", zeros(4, 4), cmap="jet"), "expected cmap= to be one of 'coolwarm', 'magma', 'viridis', got 'jet'."),
        (lambda: jb.image("x", zeros(4, 4, 3), layout="HWC", cmap="magma"), MATRICES.format("float32[4,4,3]") + "Choose the channels to show, such as the first with x[..., :1]."),
        (lambda: jb.image("x", zeros(4), cmap="magma"), MATRICES.format("float32[4]") + OTHER_ARRAYS),
        (lambda: jb.image("x", zeros(4, 4), grid=0), "expected grid= to be True, a number of columns, or (rows, columns), with at most 10000 images, got 0."),
        (lambda: jb.image("x", zeros(4, 4), grid=(2, 0)), "expected grid= to be True, a number of columns, or (rows, columns), with at most 10000 images, got (2, 0)."),
        (lambda: jb.image("x", zeros(4, 4), max_images=0), "expected max_images= to be a positive integer, got 0."),
        (lambda: jb.image("x", zeros(4, 4), boxes=zeros(4)), BOX.format("[K, 4] for one image", "float32[4]")),
        (lambda: jb.image("x", zeros(2, 4, 4, 1), boxes=zeros(3, 4)), BOX.format("[2, K, 4], as there are 2 images", "float32[3,4]")),
        (lambda: jb.image("x", zeros(4, 4), labels=["cat"]), "labels= and class_names= need boxes=."),
        (lambda: jb.image("x", zeros(4, 4), boxes=zeros(2, 4), labels=["cat"]), "expected a label for each of 2 boxes, got 1 labels."),
        (lambda: jb.image("x", zeros(4, 4), boxes=zeros(2, 4), labels=zeros(2)), "expected labels= to be 2 strings, or classes as integers of shape [2], got float32[2]."),
        (lambda: jb.image("x", zeros(4, 4), boxes=zeros(1, 4), class_names=["cat"]), "class_names= needs labels= with the class of each box, as integers."),
        (lambda: jb.image("x", zeros(4, 4), boxes=zeros(1, 4), labels=[1], class_names="cat"), "expected class_names= to be a list of strings, got 'cat' (str)."),
    ],
)  # fmt: skip
def test_wrong_arguments(call, problem):
    """A wrong shape or option raises an error that describes it and names the fix."""
    with capture() as records, pytest.raises(jb.ReportError) as raised:
        call()
    assert records == []
    place = f"test_image.py:{call.__code__.co_firstlineno}"
    assert str(raised.value) == f"report 'x' ({place}): {problem}"

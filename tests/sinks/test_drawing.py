"""Pictures that are drawn without matplotlib: their sizes, their colors and their labels."""

import io

import numpy as np
import pytest
from matplotlib import colormaps
from PIL import Image

from jaxboard.sinks import _drawing


def pixels(image):
    picture = np.asarray(Image.open(io.BytesIO(image.data)))
    assert picture.shape == (image.height, image.width, 3)
    return picture


def count(picture, color):
    """Return how many pixels have a color."""
    return int((picture == np.array(color, np.uint8)).all(axis=-1).sum())


def test_colors_are_those_of_viridis():
    """Colors differ from matplotlib's viridis by less than seven levels; values outside have the color of an end."""
    values = np.linspace(0, 1, 257).reshape(1, -1)
    expected = colormaps["viridis"](values)[..., :3] * 255
    assert np.abs(_drawing.colors(values) - expected).max() < 7
    ends = _drawing.colors(np.array([0.0, 1.0]))
    np.testing.assert_array_equal(_drawing.colors(np.array([-np.inf, 2.0])), ends)


def test_a_heat_map_has_a_cell_for_each_number():
    """Every number has a cell of its color, all of the same size."""
    values = np.array([[0.0, 0.25, 0.5], [1.0, np.nan, 0.75]])
    picture = pixels(_drawing.heat_map(values))
    shown = _drawing.colors(values)
    cells = [count(picture, color) for color in shown[~np.isnan(values)]]
    assert cells == [64 * 64] * 5


def test_labels_make_room_for_themselves():
    """Long labels of columns are upright, and a label that is far too long ends with an ellipsis."""
    values = np.zeros((2, 2))
    plain = _drawing.heat_map(values)
    short = _drawing.heat_map(values, rows=["a", "b"], columns=["a", "b"])
    long = _drawing.heat_map(values, rows=["a" * 500, "b"], columns=["a" * 500, "b"])
    assert plain.height < short.height < long.height < plain.height + 200
    assert plain.width < short.width < long.width < plain.width + 200


def test_texts_are_left_out_if_they_do_not_fit():
    """The cells of a small matrix show their texts; those of a large one only their colors."""
    few = _drawing.heat_map(np.zeros((2, 2)), texts=[["12", "7"], ["0", "3"]])
    assert count(pixels(few), (255, 255, 255)) > count(
        pixels(_drawing.heat_map(np.zeros((2, 2)))), (255, 255, 255)
    )
    many = np.zeros((60, 60))
    with_texts = _drawing.heat_map(many, texts=[["1"] * 60] * 60)
    assert with_texts.data == _drawing.heat_map(many).data


@pytest.mark.parametrize("size", [1, 700, 1000])
def test_the_size_is_bounded_by_that_of_the_matrix(size):
    """A large matrix has cells of one pixel."""
    image = _drawing.heat_map(np.zeros((size, size)))
    assert image.width == {1: 64, 700: 700, 1000: 1000}[size] + 24


def test_a_curve_is_drawn_from_point_to_point():
    """The curve passes through its points, and above the diagonal is only the background."""
    x = np.linspace(0, 1, 5)
    picture = pixels(_drawing.curve(x, x, x_title="x", y_title="y", title="title"))
    blue = np.argwhere((picture[..., 2] > 190) & (picture[..., 0] < 60))
    rows, columns = blue.T
    # The plot is 320 pixels wide, from (64, 36).
    np.testing.assert_allclose(columns - 64, 36 + 320 - rows, atol=3)
    assert columns.min() <= 68
    assert columns.max() >= 380

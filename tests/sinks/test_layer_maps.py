"""Maps of layers explain their black cells, and have a scale only if a value has one of its colors."""

import io

import numpy as np
import pytest
from PIL import Image

from jaxboard.sinks._layer_maps import LayerMap, layer_maps

PAPER, BLACK = [255, 255, 255], [0, 0, 0]
COLUMNS = 20
TITLE_HEIGHT, SCALE_WIDTH = 32, 76


def picture_of(title, values, *, logarithmic=True):
    """Return the pixels of a picture of one map of two layers."""
    values = np.resize(values, (2, COLUMNS)).astype(np.float32)
    broken = np.zeros(values.shape, bool)
    drawn = layer_maps(["a", "b"], range(COLUMNS), [LayerMap(title, values, logarithmic)], broken)
    return np.asarray(Image.open(io.BytesIO(drawn.data)))


def titled(title):
    """Return the pixels of a title."""
    return picture_of(title, [1.0])[:TITLE_HEIGHT]


@pytest.mark.parametrize(
    ("values", "title"),
    [
        ([1.0, 2.0], "norm"),
        ([0.0, 2.0, np.nan], "norm (black: zero)"),
        ([0.0], "norm: all zero"),
        ([0.0, np.nan], "norm: all zero"),
    ],
)
def test_the_title_explains_black_cells(values, title):
    """The title of a logarithmic map names the color of zeros, and reports that there is nothing else."""
    np.testing.assert_array_equal(picture_of("norm", values)[:TITLE_HEIGHT], titled(title))


def test_a_map_of_zeros_has_no_scale():
    """If all values are zero, there is no logarithm to number a scale with."""
    picture = picture_of("norm", [0.0])
    assert (picture[TITLE_HEIGHT:, -SCALE_WIDTH:] == PAPER).all()
    assert picture[TITLE_HEIGHT + 8, -SCALE_WIDTH - 8].tolist() == BLACK
    assert not (picture_of("norm", [0.0, 1.0])[TITLE_HEIGHT:, -SCALE_WIDTH:] == PAPER).all()


def test_zero_is_a_color_of_a_linear_scale():
    """The zeros of a fraction have the first color of the scale, and need no explanation."""
    picture = picture_of("fraction", [0.0], logarithmic=False)
    assert picture[TITLE_HEIGHT + 8, -SCALE_WIDTH - 8].tolist() == [68, 1, 84]
    np.testing.assert_array_equal(picture[:TITLE_HEIGHT], titled("fraction"))

"""The picture of the layers of a stack, beside their curves."""

from __future__ import annotations

import io

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

import jaxboard as jb
from jaxboard._host.complete_points import Assembled, StackPoint
from jaxboard._host.stack_monitor import StackMonitor
from jaxboard._reduce.stack import Stack
from jaxboard.records import Kind
from jaxboard.testing import capture

RED, GRAY, BLACK = (217, 48, 37), (236, 237, 239), (0, 0, 0)


@jb.instrument
@jax.jit
def report(values, where):
    def layer(x, mask):
        jb.scalar("blocks/{}/rms", x, reduce="stack", where=mask)
        jb.scalar("other", x, reduce="stack")

    jax.vmap(layer)(values, where)


def pixels(picture):
    return np.asarray(Image.open(io.BytesIO(picture.data)))


def point(step, values, tag="blocks/{}/rms", run=""):
    values = np.asarray(values)
    stack = Stack(("iteration",), np.arange(len(values))[:, None], values)
    return StackPoint(tag, step, 0.0, stack, run)


def observe(monitor, *points):
    return monitor.observe(Assembled([], [], stacks=points))


def last_cells(picture, layers):
    """Return the colors of the last column, from the top row down: it ends 76 pixels from the right, beside the scale."""
    image = pixels(picture)
    return [tuple(image[32 + 16 * n + 8, -80].tolist()) for n in range(layers)]


def test_picture_of_a_run():
    """One image has the layers of a tag with braces: at 8 reports, whenever their number has doubled, and at the end."""
    with capture() as records:
        for step in range(20):
            report(jnp.arange(1.0, 5) * 10.0**step, np.arange(4) < 3 + (step > 10))
    images = [r for r in records if r.kind is Kind.IMAGE]
    assert [(r.tag, r.step) for r in images] == [("blocks/rms/layers", n) for n in (7, 15, 19)]
    assert sum(r.kind is Kind.SCALAR for r in records) == 20 * 7 + 9
    heights = [r.value.height for r in images]
    assert heights[1] - heights[0] == 16  # a row for the layer that appeared at step 11
    assert heights[2] == heights[1]


def test_no_picture_of_one_report():
    """A single report has no picture, nor has a value outside of loops and lanes."""
    with capture() as records:
        report(jnp.ones(2), np.ones(2, bool))
        for step in range(20):
            jb.scalar("once/{}/x", step, step=step, reduce="stack")
    assert not [r for r in records if r.kind is Kind.IMAGE]


def test_colors():
    """Values that are not finite are red, layers without a value gray, and zeros black beside others of all magnitudes."""
    monitor = StackMonitor()
    observe(monitor, *(point(step, [1.0, 1e3, 0.0, np.nan, 5.0]) for step in range(29)))
    observe(monitor, point(29, [1.0, 1e3, 0.0, -np.inf]))
    (record,) = monitor.finish()
    assert (record.tag, record.step, record.run) == ("blocks/rms/layers", 29, "")
    low, high, *others = last_cells(record.value, 5)
    assert low[2] > low[1]  # from violet
    assert high[1] > 3 * high[2]  # to yellow
    assert others == [BLACK, RED, GRAY]


def test_memory_is_bounded():
    """A run has pictures of 16 reports of at most 512 layers; each has at most 96 columns."""
    monitor = StackMonitor()
    for run in range(20):
        observe(monitor, *(point(step, [1.0, 2.0], run=f"seed_{run}") for step in range(2)))
    assert [record.run for record in monitor.finish()] == [f"seed_{run}" for run in range(16)]
    monitor = StackMonitor()
    assert not observe(monitor, *(point(step, np.ones(513)) for step in range(100)))
    assert not monitor.finish()
    drawn = observe(monitor, *(point(step, np.ones(512), tag="b/{}") for step in range(600)))
    assert [record.step for record in drawn] == [7, 15, 31, 63, 127, 255, 511]
    widths = [record.value.width for record in drawn]
    assert widths[3:] == [widths[3], *widths[4:]]
    assert max(widths) <= 96 * 4 + 200
    assert drawn[-1].tag == "b/layers"


def test_parts_of_a_point():
    """The parts of a point that was written while it was incomplete are one report."""
    monitor = StackMonitor()
    for step in range(7):
        assert not observe(monitor, point(step, [1.0]), point(step, [1.0]))
    assert len(observe(monitor, point(7, [1.0]))) == 1

"""The numbers of plain loops: the same points whether they are assembled in columns or one by one."""

from __future__ import annotations

from typing import Any

import jax
import ml_dtypes
import numpy as np
import pytest

from jaxboard._frame import Entry, FrameBatch, Number, Plan, ReportSpec, Slot
from jaxboard._host.assembler import Assembler
from jaxboard._reduce import REDUCTIONS
from jaxboard.records import Kind, Scalars, records

LOSS = ReportSpec(Kind.SCALAR, "loss", "mean")


def numbers(values, steps, spec=LOSS, *, explicit=False, since=1000.0) -> list[Any]:
    return [
        Number(spec, value, None, step, since + i, explicit)
        for i, (value, step) in enumerate(zip(values, steps, strict=True))
    ]


def assemble(*batches):
    """Return the records of batches of items, in the order in which sinks receive them."""
    assembler = Assembler()
    parts = [assembler.assemble(list(items), 0.0) for items in batches]
    return [record for part in [*parts, assembler.finish()] for record in records(part.batch)]


def seen(found):
    return [(record.tag, record.step, float(record.value)) for record in found]


def loss_points(*points):
    return [("loss", step, value) for step, value in points]


FLOATS = [0.1, -2.5, float("nan"), float("inf"), 3e38, -0.0, 1e-40, 7.0, 8.0, 9.0]
VALUES = {
    "float64": np.array(FLOATS),
    "float32": np.array(FLOATS, np.float32),
    "float16": np.arange(10).astype(np.float16) / 3,
    "bfloat16": (np.arange(10) / 3).astype(ml_dtypes.bfloat16),
    "int64": np.array([2**62, -(2**62), *range(8)]),
    "int32": np.arange(-5, 5, dtype=np.int32),
    "uint8": np.arange(246, 256, dtype=np.uint8),
    "bool": np.arange(10) % 3 == 0,
}


@pytest.mark.filterwarnings("ignore:invalid value")
@pytest.mark.parametrize("explicit", [True, False])
@pytest.mark.parametrize("values", VALUES.values(), ids=VALUES)
@pytest.mark.parametrize("reduce", REDUCTIONS)
def test_columns_have_the_values_of_single_points(reduce, values, explicit):
    """Values, dtypes, steps and wall times are the same, for every reduction and dtype."""
    spec = ReportSpec(Kind.SCALAR, "loss", reduce)
    items = numbers(list(values), range(5, 5 + len(values)), spec, explicit=explicit)
    together, single = assemble(items), assemble(*([item] for item in items))
    for one, other in zip(together, single, strict=True):
        assert (one.step, one.wall_time, one.run) == (other.step, other.wall_time, other.run)
        assert one.value.dtype == other.value.dtype
        assert one.value.tobytes() == other.value.tobytes()


def test_a_loop_becomes_a_column():
    """Sinks receive the numbers of a loop as one column for each tag."""
    other = ReportSpec(Kind.SCALAR, "accuracy", "mean")
    items = numbers(np.arange(100.0), range(100))
    items += numbers(np.arange(100.0), range(100), other)
    batch = Assembler().assemble(items, 0.0).batch
    columns = [item for item in batch if isinstance(item, Scalars)]
    assert batch == columns
    assert sorted((column.tags, len(column.steps)) for column in columns) == [
        (("accuracy",), 99),
        (("loss",), 99),
    ]


def test_the_last_step_may_receive_more():
    """The last step of a batch is held back, and merged with values that arrive later."""
    first = numbers(np.arange(10.0), range(10))
    then = numbers(np.arange(11.0, 21.0), range(9, 19), since=2000.0)
    points = [*((step, step) for step in range(9)), (9, 10.0)]
    points += [(step, step + 2.0) for step in range(10, 19)]
    assert seen(assemble(first, then)) == loss_points(*points)


def test_steps_with_several_values():
    """Values of one step make one point, also in a long loop."""
    items = numbers(np.arange(20.0), [i // 2 for i in range(20)])
    assert seen(assemble(items)) == loss_points(*((i, 2 * i + 0.5) for i in range(10)))


def test_equal_explicit_steps_are_points_of_their_own():
    """Each number with ``step=`` makes a point, in the order of reporting."""
    items = numbers(np.arange(10.0), [3] * 10, explicit=True)
    assert seen(assemble(items)) == loss_points(*((3, float(i)) for i in range(10)))


def test_steps_that_go_back():
    """A loop that begins again makes points again."""
    steps = [*range(10), *range(10)]
    items = numbers(np.arange(20.0), steps)
    assert seen(assemble(items)) == loss_points(*((step, i) for i, step in enumerate(steps)))


def test_numbers_and_weighted_values_of_one_step_merge():
    """A weighted value merges with the numbers of its step, which then do not make a column."""
    weighted = Number(LOSS, np.float64(8), np.array(3.0), 4, 1004.5, False)
    items = [*numbers(np.arange(10.0), range(10)), weighted]
    points = [(step, float(step)) for step in range(10)]
    points[4] = (4, (4 + 3 * 8) / 4)
    assert seen(assemble(items)) == loss_points(*points)


def test_numbers_of_different_types():
    """Numbers of one tag may be integers and floats; each is exact."""
    spec = ReportSpec(Kind.SCALAR, "loss", "last")
    values = [np.int64(2**60 + 1), *[np.float64(0.5)] * 10]
    found = assemble(numbers(values, range(11), spec))
    assert [record.value for record in found] == values


def test_the_steps_of_a_tag_ascend():
    """A point that another tag completes comes after the column of its own tag."""
    other = ReportSpec(Kind.SCALAR, "epoch", "mean")
    items = [
        *numbers(np.arange(10.0), range(10)),
        Number(other, np.float64(1), None, 10, 1010.0, False),
    ]
    batch = Assembler().assemble(items, 0.0).batch
    assert seen(records(batch)) == loss_points(*((step, float(step)) for step in range(10)))


def test_numbers_between_the_rows_of_a_program():
    """A tag that an instrumented function reports too has its points in the order of reporting."""
    spec = ReportSpec(Kind.SCALAR, "loss", "last")
    entry = Entry(spec, jax.tree.structure(0), (Slot("float32", 0, ()),), 1)
    rows = np.arange(4)
    arrays = {"float32": np.full((4, 1), 0.5, np.float32)}
    batch = FrameBatch(Plan((entry,)), arrays, 20 + rows, 1020.0 + rows)
    found = assemble([batch, *numbers(np.arange(10.0), range(10), spec)])
    assert [record.step for record in found] == [*range(10), *range(20, 24)]


def test_numbers_of_several_threads():
    """Numbers that threads put in the buffer out of order are sorted by their wall times."""
    items = numbers(np.arange(20.0), range(20))
    assert seen(assemble(items[::2] + items[1::2])) == loss_points(*((i, i) for i in range(20)))

"""Values that are merged in columns: the same points, bit for bit, as if they were merged one by one."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import jax
import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxboard._frame import Entry, FrameBatch, Number, Plan, ReportSpec, Slot
from jaxboard._host.assembler import Assembler
from jaxboard._host.points import Points
from jaxboard._host.value_columns import columns_of_batch, join_columns
from jaxboard._reduce import REDUCTIONS, ConfusionMatrixOptions, HistogramOptions, State, reducer
from jaxboard._reduce.finishing import HostFunction
from jaxboard._reduce.lanes import Lanes
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
    """A weighted value merges with the numbers of its step, which then are no column."""
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


def test_a_function_that_fails_for_some_windows():
    """Windows for which the function of the report raises are lost at their steps, whatever their lengths."""

    def inverse(value):
        if value in (7, 10):
            raise ValueError("cannot invert")
        return 1 / value

    spec = ReportSpec(Kind.SCALAR, "loss", "max", every=2, finish=HostFunction(inverse))
    steps = [1, 2, 3, 3, 4, 5, 6, 6, 6, 7, 8, 9, 9]
    assembled = Assembler().assemble(numbers(np.arange(13.0), steps, spec), 0.0)
    assert seen(records(assembled.batch)) == loss_points((2, 1.0), (4, 1 / 4), (6, 1 / 8))
    assert [(point.step, point.wall_time) for point in assembled.failed] == [(8, 1010.0)]


def test_windows_of_a_plain_loop():
    """The numbers of a loop with ``every=N`` make the same windows together and one by one."""
    spec = ReportSpec(Kind.SCALAR, "loss", "std", every=7)
    items = numbers(np.sin(np.arange(40)).astype(np.float32), range(3, 43), spec)
    together, single = assemble(items[:18], items[18:]), assemble(*([item] for item in items))
    assert [(r.step, r.value.tobytes()) for r in together] == [
        (r.step, r.value.tobytes()) for r in single
    ]
    assert [record.step for record in together] == [7, 14, 21, 28, 35, 42]


# --- Frames of programs. --------------------------------------------------------------------------

ROWS = 12
CLASSES = ConfusionMatrixOptions(("cat", "dog"))


@st.composite
def specs(draw):
    """Return a report whose values may be parts of a point."""
    every = draw(st.integers(1, 4))
    kind = draw(st.sampled_from([Kind.SCALAR] * 4 + [Kind.CONFUSION_MATRIX, Kind.HISTOGRAM]))
    if kind is Kind.CONFUSION_MATRIX:
        return ReportSpec(kind, "x", "last", every, 1, CLASSES)
    if kind is Kind.HISTOGRAM:
        return ReportSpec(kind, "x", "last", every, 1, HistogramOptions(3))
    lanes = draw(st.sampled_from([None, 3]))
    return ReportSpec(kind, "x", draw(st.sampled_from(list(REDUCTIONS))), every, lanes=lanes)


NUMBERS = [0.1, -0.0, 0.0, 1e-40, 7.7, -2.5, 3e38, np.inf, np.nan]


def accumulators(spec, dtype, weights, random):
    """Return the accumulators of random values, stacked.

    Args:
        spec: the report.
        dtype: the dtype of scalars.
        weights: "static", "masks" or "floats".
        random: a NumPy generator.
    """
    inner = reducer(dataclasses.replace(spec, lanes=None))
    shape = (ROWS, spec.lanes) if spec.lanes else (ROWS,)

    def start():
        value = np.array(random.choice(NUMBERS[:6] if dtype.kind == "i" else NUMBERS)).astype(dtype)
        if spec.rank:
            value = random.integers(0, 9, 5).astype(np.uint32)
        if weights == "static":
            return inner.start(value, None, spec.rank)
        weight = random.choice([0.0, 0.5, 2.0, 1e8]).astype(np.float32)
        return inner.start(value, weight > 0.5 if weights == "masks" else weight, spec.rank)

    states = [start() for _ in range(math.prod(shape))]
    value = jax.tree.map(
        lambda *x: np.stack(x).reshape(*shape, *x[0].shape), *(s.value for s in states)
    )
    weight = states[0].weight
    if weights != "static":
        weight = jax.tree.map(lambda *x: np.stack(x).reshape(shape), *(s.weight for s in states))
    if not spec.lanes:
        return State(value, weight)
    if weights == "static":
        return State(Lanes(value, None), weight)
    total = jax.tree.map(lambda x: np.moveaxis(x, 1, 0), weight).sum()
    return State(Lanes(value, weight), total)


def batch_of(stacked, steps, wall_times, *, is_open, explicit):
    """Return the frames of a program, with an entry for each report and its stacked accumulators."""
    arrays: dict[str, list[np.ndarray]] = {}

    def place(array):
        vector = arrays.setdefault(array.dtype.name, [])
        offset = sum(part.shape[1] for part in vector)
        vector.append(array.reshape(ROWS, -1))
        return Slot(array.dtype.name, offset, array.shape[1:])

    entries = []
    for spec, state in stacked:
        own_steps = place(steps[:, None]) if explicit else None
        if explicit:  # Its accumulators have an axis of points.
            state = jax.tree.map(  # noqa: PLW2901
                lambda x: x if isinstance(x, int) else x[:, None], state
            )
        leaves, structure = jax.tree.flatten(state.value)
        weight = (
            state.weight if isinstance(state.weight, int) else jax.tree.map(place, state.weight)
        )
        entries.append(Entry(spec, structure, tuple(map(place, leaves)), weight, own_steps))
    vectors = {name: np.concatenate(parts, axis=1) for name, parts in arrays.items()}
    return FrameBatch(Plan(tuple(entries)), vectors, steps, wall_times, is_open)


@st.composite
def turns_of_frames(draw):
    """Return the batches of several turns of the flusher. All frames report the same tag."""
    spec, explicit = draw(specs()), draw(st.booleans())
    dtypes = draw(st.sampled_from([["float32"], ["float64"], ["int32"], ["float32", "int32"]]))
    weights = draw(st.sampled_from(["static", "masks", "floats"]))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    turns, step, wall_time = [], draw(st.integers(0, 5)), 1000.0
    for _ in range(draw(st.integers(1, 3))):
        batches = []
        for _ in range(draw(st.integers(1, 2))):
            # Steps advance by one, repeat, or jump; some wall times are equal.
            fewest, most = draw(st.sampled_from([(1, 1), (1, 1), (0, 1), (0, 9)]))
            steps = step + np.cumsum(random.integers(fewest, most + 1, ROWS))
            wall_times = wall_time + np.cumsum(random.integers(0, 2, ROWS)).astype(float)
            stacked = [(spec, accumulators(spec, np.dtype(d), weights, random)) for d in dtypes]
            is_open = draw(st.booleans())
            batch = batch_of(stacked, steps, wall_times, is_open=is_open, explicit=explicit)
            batches.append(batch)
            step, wall_time = int(steps[-1]), float(wall_times[-1])
        turns.append(batches)
    return turns


def add_turn(points, batches, *, in_columns):
    """Merge the values of batches into points. Return the points that they complete."""
    columns = [c for i, batch in enumerate(batches) for c in columns_of_batch(batch, i)]
    values = [value for column in columns for value in column.values()]
    if in_columns:
        columns, values = join_columns(columns, set())
    values.sort(key=lambda v: (v.observation.wall_time, v.position, v.observation.step))
    found = [p for v in values for p in points.add(v.observation, now=0.0, last=v.last)]
    if in_columns:
        found += [point for column in columns for point in points.add_column(column, now=0.0)]
    return [*found, *points.complete_before(max(int(batch.steps.max()) for batch in batches))]


def exact(found):
    """Return points by run, with the bits of their values."""
    by_run: dict[str, list[object]] = {}
    for record in records(found):
        value = [bits(leaf) for leaf in jax.tree.leaves(to_arrays(record.value))]
        by_run.setdefault(record.run, []).append((int(record.step), record.wall_time, value))
    return by_run


def to_arrays(value: Any):
    return value if isinstance(value, np.generic) else dataclasses.asdict(value)


def saved(points):
    """Return incomplete points, with the bits of their accumulators."""
    return [
        (each._replace(state=None), [bits(leaf) for leaf in jax.tree.leaves(each.state)])
        for each in points.saved()
    ]


def bits(leaf):
    array = np.asarray(leaf)
    if array.dtype.kind == "f":  # The sign of a NaN depends on the instruction that made it.
        array = np.where(np.isnan(array), array.dtype.type(np.nan), array)
    return type(leaf) is int, array.dtype, array.shape, array.tobytes()


@pytest.mark.filterwarnings("ignore:overflow", "ignore:invalid value")
@settings(max_examples=40, deadline=None)
@given(turns=turns_of_frames(), resumes=st.booleans())
def test_values_in_columns_make_the_points_of_values_one_by_one(turns, resumes):
    """Points and incomplete points are bit-identical, for any steps, masks, lanes and dtypes, and if a run resumes."""
    together, single = Points(), Points()
    for batches in turns:
        found = add_turn(together, batches, in_columns=True)
        expected = add_turn(single, batches, in_columns=False)
        assert exact(found) == exact(expected)
        assert saved(together) == saved(single)
        if resumes:
            together, single = Points(together.saved()), Points(single.saved())
    assert exact(together.finish()) == exact(single.finish())

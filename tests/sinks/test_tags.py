"""One kind for each tag of a run, and only valid tags."""

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import jaxboard as jb
from jaxboard.records import Batch, EncodedImage, Histogram, Kind, Record, Scalars
from jaxboard.sinks import TensorBoardSink
from jaxboard.sinks._encoding import encode
from jaxboard.sinks._tags import Tags

VALUES = {
    Kind.SCALAR: np.float32(1),
    Kind.HISTOGRAM: Histogram(np.array([0.0, 1.0]), np.array([3])),
    Kind.IMAGE: EncodedImage(b"GIF89a", 2, 2),
    Kind.TEXT: "text",
}


def record(
    kind: Kind, step: int = 0, *, tag: str = "loss", time: float | None = None, run: str = ""
):
    return Record(kind, tag, step, 1000.0 + step if time is None else time, VALUES[kind], run)


def columns(*tags: str, time: float = 1000.0) -> Scalars:
    values = np.arange(2.0 * len(tags)).reshape(2, -1)
    return Scalars(tags, np.arange(2), time + np.arange(2), values)


def select(tags: Tags, *items: Record | Scalars) -> tuple[Batch, list[tuple[object, int]]]:
    lost: list[tuple[object, int]] = []
    kept = tags.select(list(items), encode, lambda tag, count, _: lost.append((tag, count)))
    return kept, lost


@pytest.mark.parametrize("first", VALUES)
@pytest.mark.parametrize("second", VALUES)
def test_the_first_kind_of_a_tag_stays(first, second):
    """Records of another kind are left out, in the same batch and in later ones."""
    tags = Tags()
    batch = [record(first, 0), record(second, 1), record(first, 2)]
    kept, lost = select(tags, *batch)
    assert kept == (batch if first is second else [batch[0], batch[2]])
    assert lost == ([] if first is second else [("loss", 1)])
    kept, lost = select(tags, record(second, 3), record(first, 4))
    assert len(kept) == (2 if first is second else 1)


def test_the_earliest_record_decides_and_then_the_scalar():
    """Batches are not in the order of reporting, so wall times are compared; a scalar wins at equal times."""
    histogram = record(Kind.HISTOGRAM, time=1000.0)
    assert select(Tags(), histogram, record(Kind.SCALAR, time=999.0))[1] == [("loss", 1)]
    block = columns("loss")
    assert select(Tags(), histogram, block) == ([block], [("loss", 1)])
    assert select(Tags(), histogram, columns("loss", time=1000.5))[0] == [histogram]


def test_columns_lose_only_the_tag_of_another_kind():
    """The other columns of a block stay, with their values."""
    tags = Tags()
    select(tags, record(Kind.TEXT, tag="b"))
    (kept,), lost = select(tags, columns("a", "b", "c"))
    assert isinstance(kept, Scalars)
    assert (kept.tags, lost) == (("a", "c"), [("b", 2)])
    assert kept.values.tolist() == [[0, 2], [3, 5]]
    assert select(tags, columns("b")) == ([], [("b", 2)])


@pytest.mark.parametrize("tag", ["\udce9", None, 3, ["a"], b"a"])
def test_a_tag_that_no_event_can_hold(tag):
    """A record or a column with an invalid tag is lost, and the others stay."""
    good = record(Kind.SCALAR, tag="good")
    assert select(Tags(), good, record(Kind.SCALAR, tag=tag)) == ([good], [(tag, 1)])
    (kept,), lost = select(Tags(), columns("a", tag))
    assert isinstance(kept, Scalars)
    assert (kept.tags, lost) == (("a",), [(tag, 2)])


@pytest.mark.parametrize("together", [True, False])
def test_a_record_that_cannot_be_encoded_fixes_no_kind(together):
    """Only a record that is written decides the kind of its tag, in the same batch and in a later one."""
    tags = Tags()
    bad = Record(Kind.IMAGE, "loss", 0, 1.0, np.zeros((1, 2, 2, 1)))
    worse = Scalars(("loss", "other"), np.arange(1), np.full(1, 2.0), np.array([["x", "y"]]))
    good, late = record(Kind.HISTOGRAM, 1), record(Kind.TEXT, 2)
    if together:
        kept, lost = select(tags, bad, worse, good, late)
        assert lost == [("loss", 1), ("loss", 1), ("loss", 1)]
        assert [item.tags if isinstance(item, Scalars) else item for item in kept] == [
            ("other",),
            good,
        ]
    else:
        kept, lost = select(tags, bad, worse)
        assert (len(kept), lost) == (2, [])  # the encoder loses them, with its reasons
        assert select(tags, good, late) == ([good], [("loss", 1)])


def test_known_tags_are_not_checked_again():
    """A batch whose tags are known is returned as it is."""
    tags = Tags()
    batch: Batch = [columns("a", "b"), record(Kind.TEXT)]
    select(tags, *batch)
    assert tags.select(batch, encode, print) is batch


def test_runs_have_tags_of_their_own(tmp_path):
    """A tag may have another kind in a run below."""
    sink = TensorBoardSink(tmp_path)
    sink.write([record(Kind.SCALAR), record(Kind.TEXT, run="below")])
    sink.flush()
    sink.close()
    assert dict(sink.take_lost()) == {}
    assert EventAccumulator(str(tmp_path / "below")).Reload().Tags()["tensors"] == ["loss"]


def test_a_run_reports_the_lost_kind_and_shows_the_first(tmp_path, caplog, shared_tensorboard):
    """The error at the end counts them and names tag and kinds; both of TensorBoard's loaders show the scalars."""
    run = jb.Run(tmp_path / "run")
    for step in range(3):
        jb.scalar("loss", float(step), step=step)
        jb.histogram("loss", np.arange(4.0), step=step)
        jb.histogram("other", np.arange(4.0), step=step)
    with pytest.raises(jb.RunError) as caught:
        run.close()
    message = (
        "report 'loss': expected kind scalar, as in the first report of the tag, got kind histogram. TensorBoard "
        "shows one kind for each tag: choose another tag, such as 'loss_histogram'"
    )
    assert str(caught.value).splitlines()[1:] == [f"  3: TensorBoardSink: {message}"]
    assert caplog.text.count("report 'loss' is lost: expected kind scalar") == 1
    for loader in ("rust", "python"):
        server = shared_tensorboard(loader)
        name = f"{server.show(tmp_path)}run"
        shown = server.scalars(name, "loss", count=3)
        assert [(step, value) for _, step, value in shown] == [(0, 0), (1, 1), (2, 2)]
        assert len(server.histograms(name, "other", count=3)) == 3

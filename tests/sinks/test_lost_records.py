"""A record that TensorBoard cannot show costs no other record, and is counted."""

import logging

import numpy as np
import pytest
from event_files import scalar_points

import jaxboard as jb
from jaxboard._run import channel_of
from jaxboard.records import EncodedImage, Kind, Record, Scalars
from jaxboard.sinks import TensorBoardSink


def scalar(step, tag="loss", value=None, run=""):
    value = np.float32(step) if value is None else value
    return Record(Kind.SCALAR, tag, step, 1000.0, value, run)


BAD = {
    "tag": scalar(2, "score/\udce9"),
    "step": scalar(2**63, "bad"),
    "value": scalar(2, "bad", object()),
    "image": Record(Kind.IMAGE, "bad", 2, 1000.0, np.zeros((1, 2, 2, 3), np.float32)),
    "text": Record(Kind.TEXT, "bad", 2, 1000.0, "\udce9"),
    "hparams": Record(Kind.HPARAMS, "bad", 2, 1000.0, None),
    "run above": scalar(2, "bad", run="../other"),
    "run with a null": scalar(2, "bad", run="a\0b"),
    "run that is a number": scalar(2, "bad", run=3),  # pyright: ignore[reportArgumentType]
    "column": Scalars(("bad",), np.array([2]), np.array([1.0]), np.array([["high"]])),
}


@pytest.mark.parametrize("name", BAD)
def test_one_bad_record_in_a_batch(tmp_path, name, caplog):
    """Everything else in the batch is written, also in runs below; the lost record is counted after the flush."""
    sink = TensorBoardSink(tmp_path / "run")
    for _ in range(2):
        sink.write(
            [scalar(0), scalar(0, run="below"), BAD[name], scalar(1), scalar(1, run="below")]
        )
    assert dict(sink.take_lost()) == {}
    sink.flush()
    ((reason, count),) = sink.take_lost().items()
    assert count == 2
    assert "bad" in reason or "score/" in reason
    assert dict(sink.take_lost()) == {}
    sink.close()
    expected = [(0, 0), (1, 1)] * 2
    assert scalar_points(tmp_path / "run", "loss") == expected
    assert scalar_points(tmp_path / "run" / "below", "loss") == expected
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run"]
    assert [record.levelno for record in caplog.records if "is lost" in record.msg] == [
        logging.ERROR
    ]


def test_a_run_raises_for_them_at_the_next_flush(tmp_path):
    """The error has the count and the reason, and what is reported afterwards raises no error."""
    with jb.Run(tmp_path) as run:
        jb.scalar("loss", 0.0, step=0)
        for _ in range(3):
            channel_of(run).put(BAD["image"])
        jb.scalar("loss", 1.0, step=1)
        with pytest.raises(jb.RunError) as caught:
            run.flush()
        reason = "it cannot be encoded: TypeError: expected a uint8 image, got float32[2, 2, 3]"
        (line,) = str(caught.value).splitlines()[1:]
        assert line == f"  3: TensorBoardSink: report 'bad': {reason}"
        jb.scalar("loss", 2.0, step=2)
    assert scalar_points(tmp_path, "loss") == [(0, 0), (1, 1), (2, 2)]


def test_many_bad_tags(tmp_path, caplog):
    """The log and the error stay short although each lost record has a tag of its own."""
    sink = TensorBoardSink(tmp_path)
    sink.write([Record(Kind.TEXT, f"tag {i}", 0, 1.0, "\udce9") for i in range(100)])
    sink.flush()
    lost = sink.take_lost()
    assert (len(lost), sum(lost.values())) == (17, 100)
    assert lost["other reports that cannot be shown"] == 84
    assert caplog.text.count("is lost") == 16
    sink.close()


def test_a_tag_with_several_causes(tmp_path):
    """The records of a tag that are lost for different causes are counted separately."""
    sink = TensorBoardSink(tmp_path)
    histogram = Record(Kind.HISTOGRAM, "loss", 2, 1002.0, None)
    image = Record(Kind.IMAGE, "loss", 2, 1002.0, None)
    sink.write([scalar(0), histogram, image, image, *[scalar(2, run="../a")] * 3])
    sink.close()
    found = {reason.split()[-1]: count for reason, count in sink.take_lost().items()}
    assert found.pop("'loss_histogram'") == 1
    assert found.pop("'loss_image'") == 2
    assert list(found.values()) == [3]


def test_a_batch_that_is_written_again_counts_once(tmp_path):
    """A failed flush forgets the lost records, because the batch comes again."""
    sink = TensorBoardSink(tmp_path / "run")
    sink.write([scalar(0), BAD["text"]])
    (tmp_path / "run").rename(tmp_path / "away")
    with pytest.raises(FileNotFoundError):
        sink.flush()
    (tmp_path / "away").rename(tmp_path / "run")
    sink.write([scalar(0), BAD["text"]])
    sink.close()
    assert list(sink.take_lost().values()) == [1]


def test_an_image_that_no_encoder_reads(tmp_path):
    """An encoded image is passed through, whatever its bytes are."""
    sink = TensorBoardSink(tmp_path)
    sink.write([Record(Kind.IMAGE, "i", 0, 1.0, EncodedImage(b"?", 1, 1))])
    sink.close()
    assert dict(sink.take_lost()) == {}

"""The problems that the verification of event files finds."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
from tensorboard.util.tensor_util import make_tensor_proto

import jaxboard as jb
from jaxboard._cli.main import main
from jaxboard._read.run_files import EventFile, find_runs
from jaxboard._read.verification import RunFiles, verify
from jaxboard.sinks import _proto, _tfrecords
from jaxboard.sinks._encoding import Events, restart

START = 1.7e9


def scalar(tag: str, step: int, value: float = 0.5, *, wall_time: float | None = None):
    """Return an event with one scalar; its wall time is the step in seconds."""
    message = _proto.Summary(value=[_proto.Summary.Value(tag=tag, simple_value=value)])
    time = START + step if wall_time is None else wall_time
    return _proto.Event(wall_time=time, step=step, summary=message)


def tensor(tag: str, plugin: str, value):
    """Return an event with one tensor."""
    data = _proto.SummaryMetadata.PluginData(plugin_name=plugin)
    entry = _proto.Summary.Value(
        tag=tag, tensor=make_tensor_proto(value), metadata=_proto.SummaryMetadata(plugin_data=data)
    )
    return _proto.Event(wall_time=START, step=1, summary=_proto.Summary(value=[entry]))


def write(logdir, *events, second: int = 1_700_000_000) -> list[int]:
    """Write messages, or bytes, into an event file; return where each record begins, and the size of the file."""
    data = [event if isinstance(event, bytes) else event.SerializeToString() for event in events]
    sizes = np.array([len(each) for each in data], np.int64)
    os.makedirs(logdir, exist_ok=True)
    path = pathlib.Path(logdir, f"events.out.tfevents.{second}.host.1.0")
    path.write_bytes(_tfrecords.frame(Events(b"".join(data), sizes)))
    return np.cumsum([0, *(sizes + 16)]).tolist()


def file_in(logdir) -> pathlib.Path:
    """Return the only event file of a directory."""
    (path,) = pathlib.Path(logdir).glob("*tfevents*")
    return path


def found(logdir) -> list[tuple]:
    """Return severity, code, offset, tag, step and count of each problem."""
    return [
        (p.severity.value, p.code, p.offset, p.tag, p.step, p.count)
        for p in verify(logdir).problems
    ]


GOOD = [scalar(tag, step) for step in range(20) for tag in ("loss", "accuracy")]


def test_a_good_run(logdir) -> None:
    """A complete run, resumed with a restart, has no problems."""
    with jb.Run(logdir, hparams={"lr": 0.1}) as run:
        for run.step in range(10):
            jb.scalar("loss", 0.5)
            jb.text("text", "a")
            jb.histogram("histogram", np.arange(5.0))
            run.child("eval").scalar("loss", 0.5)
    with jb.Run(logdir, step=5) as run:
        for run.step in range(5, 12):
            jb.scalar("loss", 0.5)
    result = verify(logdir)
    assert result.problems == []
    assert {run: len(files) for run, files in result.files.items()} == {".": 2, "eval": 2}
    assert result.points == 10 + 10 + 7


def test_damage(logdir) -> None:
    """Wrong checksums are errors, with the place of the first and their number in a file; so is a cut off record."""
    offsets = write(logdir, *GOOD)
    data = bytearray(file_in(logdir).read_bytes())
    for record, byte in ((3, 20), (5, 20), (8, 2)):
        data[offsets[record] + byte] ^= 1
    file_in(logdir).write_bytes(data[:-5])
    assert found(logdir) == [
        ("error", "data-checksum", offsets[3], None, None, 2),
        ("error", "length-checksum", offsets[8], None, None, 1),
        ("error", "truncated", offsets[-2], None, None, 1),
    ]
    assert verify(logdir).points == len(GOOD) - 4


def test_the_end_of_a_file_that_is_being_written(logdir) -> None:
    """A record that is cut off is a note while another process has the file open."""
    write(logdir, *GOOD)
    file_in(logdir).write_bytes(file_in(logdir).read_bytes()[:-5])
    program = (
        "import sys; from jaxboard.sinks import _live_writers\n"
        "file = open(sys.argv[1], 'r+b', buffering=0); _live_writers.mark(file)\n"
        "print('locked', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", program, str(file_in(logdir))]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        writing = [problem[:2] for problem in found(logdir)]
        process.communicate(timeout=60)
    assert writing == [("note", "truncated")]
    assert [problem[:2] for problem in found(logdir)] == [("error", "truncated")]


def test_records_that_are_not_events(logdir) -> None:
    """An intact record that is not a message, and a scalar that is not a number, are errors."""
    vector = tensor("vector", "scalars", np.zeros(3, np.float32))
    offsets = write(
        logdir,
        *GOOD,
        b"\xff" * 30,
        *[vector] * 9,
        b"\x2a\x7f",
        scalar("bad", 3).SerializeToString()[:-1],
    )
    assert found(logdir) == [
        ("error", "not-an-event", offsets[40], None, None, 3),
        ("error", "not-a-number", offsets[41], "vector", None, 9),
    ]


def test_values(logdir) -> None:
    """NaN and infinite values are notes, with the first step and their number in a tag."""
    values = [0, np.nan, np.inf, np.nan, 1, -np.inf, np.inf]
    events = [scalar("x", step, value) for step, value in enumerate(values)]
    offsets = write(logdir, *events, scalar("y", 1, np.nan))
    assert found(logdir) == [
        ("note", "nan", offsets[1], "x", 1, 2),
        ("note", "infinite", offsets[2], "x", 2, 3),
        ("note", "nan", offsets[7], "y", 1, 1),
    ]


def test_steps(logdir) -> None:
    """Steps that go back without a restart are a warning, a step that comes twice is a note; a restart allows both."""
    offsets = write(logdir, *(scalar("x", step) for step in (0, 5, 5, 9, 3, 4, 10, 2)))
    assert found(logdir) == [
        ("note", "step-again", offsets[2], "x", 5, 1),
        ("warning", "step-back", offsets[4], "x", 3, 2),
    ]
    mark = restart(3).data
    mark = mark[: len(mark) // 2]
    write(logdir, *(scalar("x", step) for step in (0, 5, 9)), mark, scalar("x", 3), scalar("x", 4))
    assert found(logdir) == []


def test_steps_of_64_bits(logdir) -> None:
    """The difference of two steps may be larger than 64 bits."""
    events = [scalar("x", step, wall_time=START) for step in (-(2**63), 2**63 - 1, -(2**63))]
    offsets = write(logdir, *events)
    assert found(logdir) == [("warning", "step-back", offsets[2], "x", -(2**63), 1)]


@pytest.mark.parametrize("count", [1, 30])
def test_wall_times(logdir, count) -> None:
    """A wall time that is not finite is an error, for scalars and other kinds."""
    text = tensor("text", "text", "a")
    text.wall_time = np.inf
    events = [scalar("x", step, wall_time=np.nan) for step in range(count)]
    offsets = write(logdir, *GOOD, *events, text)
    assert found(logdir) == [("error", "wall-time", offsets[40], None, None, count + 1)]


def test_kinds(logdir) -> None:
    """A tag with two kinds is a warning, at the first value of the second kind."""
    offsets = write(logdir, *GOOD, tensor("x", "text", "a"), *[scalar("x", i) for i in range(9)])
    assert found(logdir) == [("warning", "kind", offsets[41], "x", None, 1)]
    assert "tag 'x' has the kind text, and later scalar" in verify(logdir).problems[0].text


def test_two_writers(logdir) -> None:
    """Files whose points overlap in time are a warning; files that follow each other are none."""
    write(logdir, *(scalar("a", step) for step in range(10)))
    write(logdir, *(scalar("b", step) for step in range(9, 20)), second=1_700_000_009)
    assert found(logdir) == []
    write(logdir, *(scalar("c", step) for step in range(5, 15)), second=1_700_000_005)
    assert found(logdir) == 2 * [("warning", "two-writers", None, None, None, 1)]
    assert "by 4 s" in verify(logdir).problems[0].text


def test_empty_files(logdir) -> None:
    """An empty file is a warning."""
    write(logdir, *GOOD)
    pathlib.Path(logdir, "events.out.tfevents.1.empty").touch()
    assert found(logdir) == [("warning", "empty-file", None, None, None, 1)]


def test_a_file_that_cannot_be_read(logdir) -> None:
    """A file that was removed since it was found is an error, and the others are read."""
    write(logdir, *GOOD)
    removed = EventFile(os.path.join(logdir, "events.out.tfevents.1.removed"), 10)
    checked = RunFiles(".", [removed, *find_runs(logdir, "verify")["."]])
    assert [(p.severity.value, p.code) for p in checked.problems()] == [
        ("error", "unreadable-file")
    ]
    assert checked.records == len(GOOD)


def test_the_lines(logdir, capsys, monkeypatch) -> None:
    """A line has the severity, the file, the place and the number; the last one sums up. The exit status is 1."""
    offsets = write(logdir, *GOOD, scalar("loss\x1b[2J", 3, np.nan), scalar("loss", 3))
    monkeypatch.chdir(logdir)
    assert main(["verify", logdir]) == 1
    name = file_in(logdir).name
    assert capsys.readouterr().out == (
        f"note     {name}, byte {offsets[40]:,}: tag 'loss\\x1b[2J': a value is NaN.\n"
        f"warning  {name}, byte {offsets[41]:,}: tag 'loss': the step goes back from 19 to 3 without a restart: "
        "TensorBoard's default loader hides the earlier points from there on.\n"
        f"1 run, 1 file, {offsets[-1]:,} bytes, 42 records, 42 scalars: 0 errors, 1 warning, 1 note.\n"
    )


def test_json(logdir, capsys) -> None:
    """With --json the output is one object, with these names."""
    offsets = write(os.path.join(logdir, "eval"), *GOOD, scalar("x", 3, np.nan))
    assert main(["verify", logdir, "--json"]) == 0
    file = str(file_in(os.path.join(logdir, "eval")))
    assert json.loads(capsys.readouterr().out) == {
        "logdir": logdir,
        "ok": True,
        "records": 41,
        "scalars": 41,
        "runs": [{"run": "eval", "files": [{"file": file, "bytes": offsets[-1]}]}],
        "problems": [
            {
                "severity": "note",
                "code": "nan",
                "run": "eval",
                "file": file,
                "offset": offsets[40],
                "tag": "x",
                "step": 3,
                "count": 1,
                "text": "tag 'x': a value is NaN",
            }
        ],
    }


def test_nothing_to_check(tmp_path, capsys) -> None:
    """Without a directory or without event files the exit status is 2, with a reason and no output."""
    assert main(["verify", str(tmp_path)]) == 2
    assert main(["verify", str(tmp_path / "nowhere"), "--json"]) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert "there are no event files" in output.err
    assert "there is no such directory" in output.err


def test_reading_leaves_the_lock_of_a_run(logdir) -> None:
    """A process that reads the files of its own open run still warns others of it."""
    program = (
        "import sys; from jaxboard.sinks import _live_writers\n"
        "print(_live_writers.is_locked(sys.argv[1]))"
    )
    with jb.Run(logdir) as run:
        run.scalar("loss", 0.5, step=0)
        run.flush()
        assert verify(logdir).problems == []
        command = [sys.executable, "-c", program, str(file_in(logdir))]
        assert subprocess.check_output(command, text=True).strip() == "True"

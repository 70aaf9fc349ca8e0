"""``Run(processes=...)`` and ``Run(hang_secs=...)`` in a single process."""

import pytest

import jaxboard as jb
from jaxboard.sinks import MemorySink


def test_all_processes_of_a_single_one(tmp_path):
    """A process without a job has the layout of a job, and no heartbeat."""
    with jb.Run(tmp_path, processes="all", hparams={"lr": 1}, telemetry=False) as run:
        step = jb.instrument(lambda: jb.scalar("traced", 1.0))
        run.scalar("host", 2.0)
        run.child("eval").scalar("host", 3.0)
        del step
    frames = jb.read(tmp_path)
    assert list(zip(frames.run, frames.tag, frames.value, strict=True)) == [
        ("process_0", "host", 2.0),
        ("process_0/eval", "host", 3.0),
    ]
    assert not (tmp_path / ".jaxboard").exists()


@pytest.mark.parametrize("processes", ["some", 1, None])
def test_unknown_processes(tmp_path, processes):
    """Anything but 'one' and 'all' is an error."""
    with pytest.raises(jb.UsageError, match="expected 'one' or 'all'"):
        jb.Run(tmp_path, processes=processes)


@pytest.mark.parametrize("hang_secs", [0, -1.0, float("nan"), "10"])
def test_invalid_hang_secs(tmp_path, hang_secs):
    """A number of seconds above 0 is required."""
    with pytest.raises(jb.UsageError, match="hang_secs"):
        jb.Run(tmp_path, hang_secs=hang_secs)


def test_all_processes_need_one_directory():
    """All processes need a directory that they share."""
    with pytest.raises(jb.UsageError, match="pass the log directory, the same in all processes"):
        jb.Run(None, sinks=[MemorySink()], processes="all")

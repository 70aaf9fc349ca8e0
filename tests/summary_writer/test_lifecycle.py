"""The directory of a summary writer, and how it is opened, flushed, shared and closed."""

# pyright: reportArgumentType=false, reportCallIssue=false

from __future__ import annotations

import gc
import os
import pathlib
import pickle
import re
import shutil
import socket

import jax
import jax.numpy as jnp
import pytest
from child_process import Child
from summary_writer.method_calls import CALLS
from summary_writer.reading import by_tag, events, values

import jaxboard as jb
from jaxboard.sinks import _proto


def scalars(directory, tag="x"):
    """Return the steps and values of the scalars that TensorBoard shows of one tag."""
    table = jb.read(directory)
    table = table[table["tag"] == tag]
    return list(zip(table["step"].tolist(), table["value"].tolist(), strict=True))


@pytest.mark.parametrize("name", ["logdir", "log_dir", "position", "pathlib"])
def test_the_directory(name, tmp_path):
    """Both names of the argument work, and so do a position and a path object."""
    logdir = str(tmp_path / "run")
    arguments = {
        "logdir": ((), {"logdir": logdir}),
        "log_dir": ((), {"log_dir": logdir}),
        "position": ((logdir,), {}),
        "pathlib": ((pathlib.Path(logdir),), {}),
    }
    args, kwargs = arguments[name]
    with jb.SummaryWriter(*args, **kwargs) as writer:
        writer.add_scalar("x", 1.0, 3)
        assert writer.get_logdir() == writer.logdir == writer.log_dir == logdir
        assert str(writer.run.logdir) == logdir
    assert scalars(logdir) == [(3, 1.0)]


def test_the_default_directory(tmp_path, monkeypatch):
    """Without a directory it is a new one, named after the time, the host and the comment."""
    monkeypatch.chdir(tmp_path)
    with jb.SummaryWriter(comment="_lr_0.1") as first, jb.SummaryWriter("", "_lr_0.1") as second:
        names = [os.path.relpath(writer.get_logdir(), "runs") for writer in (first, second)]
    assert len(set(names)) == 2
    host = re.escape(socket.gethostname())
    for name in names:
        assert re.fullmatch(rf"\d{{4}}-\d\d-\d\d_\d\d-\d\d-\d\d_{host}_lr_0\.1(_2)?", name)
    assert sorted(os.listdir("runs")) == sorted(names)


def test_another_working_directory(tmp_path, monkeypatch):
    """A writer that is closed and opened again stays in its directory."""
    monkeypatch.chdir(tmp_path)
    writer = jb.SummaryWriter("run")
    writer.close()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    writer.add_scalar("x", 1.0, 0)
    writer.close()
    assert scalars(tmp_path / "run") == [(0, 1.0)]
    assert os.listdir(tmp_path / "elsewhere") == []


def test_the_suffix_ends_the_name_of_each_file(tmp_path):
    """The file of the run ends with the suffix; that of a run below has its own mark after it."""
    with jb.SummaryWriter(tmp_path, filename_suffix=".test") as writer:
        writer.add_scalar("x", 1.0, 0)
        writer.run.child("eval").scalar("x", 2.0, step=0)
    (name,) = (name for name in os.listdir(tmp_path) if name != "eval")
    assert name.endswith(".test")
    assert os.listdir(tmp_path / "eval")[0].endswith(".test.child1")
    assert scalars(tmp_path) == [(0, 1.0), (0, 2.0)]


def test_purge_step_hides_later_points(tmp_path):
    """Points of an earlier writer at the step or later are hidden, also in runs below."""
    with jb.SummaryWriter(tmp_path, filename_suffix="_v2") as writer:
        for step in range(10):
            writer.add_scalar("x", step, step)
            writer.run.child("eval").scalar("y", float(step), step=step)
    with jb.SummaryWriter(tmp_path, purge_step=4) as writer:
        writer.add_scalar("x", 100.0, 4)
    assert scalars(tmp_path) == [(0, 0.0), (1, 1.0), (2, 2.0), (3, 3.0), (4, 100.0)]
    assert [step for step, _ in scalars(tmp_path, "y")] == [0, 1, 2, 3]
    # Only once: opening the writer again hides nothing.
    writer.add_scalar("x", 101.0, 5)
    writer.close()
    assert scalars(tmp_path)[4:] == [(4, 100.0), (5, 101.0)]


def test_nothing_is_written_without_write_to_disk(tmp_path, monkeypatch):
    """Every method works, and the working directory stays empty."""
    monkeypatch.chdir(tmp_path)
    with jb.SummaryWriter(write_to_disk=False) as writer:
        for call in CALLS.values():
            call(writer)
        writer.add_embedding(jnp.eye(3))
        writer.add_custom_scalars_multilinechart(["x"])
        writer.add_graph(jnp.tanh, jnp.ones(3))
        writer.flush()
        path = tmp_path / "scalars.json"
        writer.export_scalars_to_json(path)
    assert path.read_text() == "{}"
    path.unlink()
    assert os.listdir(tmp_path) == []


def test_closing(tmp_path):
    """Closing writes everything; a second time does nothing; a report opens the writer again."""
    writer = jb.SummaryWriter(tmp_path)
    assert writer.file_writer is writer
    writer.add_scalar("x", 1.0, 0)
    writer.close()
    assert writer.file_writer is None
    assert repr(writer) == f"<jaxboard.SummaryWriter {str(tmp_path)!r}, closed>"
    assert scalars(tmp_path) == [(0, 1.0)]
    writer.flush()
    writer.close()
    assert len(os.listdir(tmp_path)) == 1
    writer.add_scalar("x", 2.0, 1)
    assert writer.file_writer is writer
    writer.close()
    assert scalars(tmp_path) == [(0, 1.0), (1, 2.0)]
    assert jb.current_run() is None


def test_flushing(tmp_path):
    """After a flush every report is in the file."""
    with jb.SummaryWriter(tmp_path, flush_secs=3600) as writer:
        writer.add_scalar("x", jnp.float32(1), 0)
        writer.flush()
        assert scalars(tmp_path) == [(0, 1.0)]


def test_writers_of_one_directory_share_a_run(tmp_path):
    """Both write to one event file, and the run closes with the last of them."""
    first, second = jb.SummaryWriter(tmp_path), jb.SummaryWriter(tmp_path)
    first.add_scalar("x", 1.0, 0)
    second.add_scalar("x", 2.0, 1)
    run = first.run
    assert run is second.run
    first.close()
    assert not run.closed
    assert scalars(tmp_path) == [(0, 1.0), (1, 2.0)]
    second.close()
    assert run.closed
    assert len(os.listdir(tmp_path)) == 1


def test_a_writer_that_is_forgotten(tmp_path):
    """A writer that was collected without being closed does not keep the run open, as in a cell that runs twice."""
    writer = jb.SummaryWriter(tmp_path)
    writer.add_scalar("x", 1.0, 0)
    writer = jb.SummaryWriter(tmp_path)
    gc.collect()
    writer.close()
    assert jb.current_run() is None
    assert scalars(tmp_path) == [(0, 1.0)]


def test_an_emptied_directory(tmp_path):
    """A directory that was removed between two writers has no charts and no hyperparameters of the first."""
    logdir = tmp_path / "run"
    for lr in (1, 2):
        with jb.SummaryWriter(logdir) as writer:
            writer.add_hparams({"lr": lr}, {})
            writer.add_custom_scalars_multilinechart([f"chart{lr}"], title=f"{lr}")
        found = by_tag(logdir)
        assert "_hparams_/session_start_info" in found
        assert found["custom_scalars__config__"].array.item().count(b"chart") == 1
        shutil.rmtree(logdir)


def test_purge_step_of_a_second_writer(tmp_path):
    """It closes the run of the first, which then shares the new one."""
    first = jb.SummaryWriter(tmp_path)
    first.add_scalar("x", 1.0, 7)
    second = jb.SummaryWriter(tmp_path, purge_step=5)
    first.add_scalar("x", 2.0, 5)
    assert first.run is second.run
    first.close()
    second.close()
    assert scalars(tmp_path) == [(5, 2.0)]


def test_a_run_in_the_directory(tmp_path):
    """A run that already writes there raises, as TensorBoard reads one writer per directory."""
    with jb.Run(tmp_path), pytest.raises(jb.RunError, match="already writes there"):
        jb.SummaryWriter(tmp_path)


def test_the_writer_is_the_active_run(tmp_path):
    """Reports of an instrumented function are beside those of the writer, whose default step is that of its last call."""

    @jb.instrument
    @jax.jit
    def step(x):
        jb.scalar("inside", x)
        return x + 1

    with jb.SummaryWriter(tmp_path) as writer:
        x = jnp.float32(0)
        for _ in range(3):
            x = step(x)
            writer.add_scalar("x", x)
    assert scalars(tmp_path, "inside") == [(0, 0.0), (1, 1.0), (2, 2.0)]
    assert scalars(tmp_path) == [(0, 1.0), (1, 2.0), (2, 3.0)]


def test_methods_in_traced_code(tmp_path):
    """A method in a jitted function reports at each call; one with walltime= raises while JAX traces."""
    with jb.SummaryWriter(tmp_path) as writer:

        @jax.jit
        def f(x, step):
            writer.add_scalar("x", x, step)
            writer.add_scalars("y", {"a": x}, step)
            return x * 2

        assert [float(f(float(i), i)) for i in range(3)] == [0.0, 2.0, 4.0]
        with pytest.raises(
            jb.ReportError, match=r"'x' \(test_lifecycle.py:\d+\): walltime= is for"
        ):
            jax.jit(lambda x: writer.add_scalar("x", x, 0, walltime=5))(1.0)
    assert scalars(tmp_path) == scalars(tmp_path, "y/a") == [(0, 0.0), (1, 1.0), (2, 2.0)]
    assert "custom_scalars__config__" in by_tag(tmp_path)


def test_defaults_of_a_block(tmp_path):
    """use_metadata sets steps and wall times that a call does not pass, for every method."""
    with jb.SummaryWriter(tmp_path) as writer:
        with writer.use_metadata(global_step=17, walltime=13.0) as entered:
            assert entered is writer
            writer.add_scalar("both", 1.0)
            writer.add_scalar("step", 1.0, 7)
            writer.add_scalar("walltime", 1.0, walltime=18.0)
            writer.add_graph(jnp.tanh, jnp.ones(3))
            writer.add_text("text", "hello")
            with pytest.raises(jb.UsageError, match="leave that block first"):
                writer.use_metadata(global_step=1).__enter__()
        writer.add_scalar("after", 1.0)
        with pytest.raises(jb.UsageError, match="pass global_step=, walltime=, or both"):
            writer.use_metadata().__enter__()
    found = {value.tag: (value.step, value.wall_time) for value in values(tmp_path)}
    assert found["both"] == found["text/text_summary"] == (17, 13.0)
    assert found["step"] == (7, 13.0)
    assert found["walltime"] == (17, 18.0)
    assert found["after"][0] == 0
    assert found["after"][1] > 1e9
    (graph,) = (event for event in events(tmp_path) if event.HasField("graph_def"))
    assert graph.wall_time == 13.0


def test_an_exception_fails_the_session(tmp_path):
    """The session of the HParams dashboard ends as a failure if an exception leaves the block."""
    writer = jb.SummaryWriter(tmp_path)
    writer.add_hparams({"lr": 0.1}, {})
    with pytest.raises(KeyError), writer:
        raise KeyError
    content = by_tag(tmp_path)["_hparams_/session_end_info"].message.metadata.plugin_data.content
    end = _proto.hparams_data.HParamsPluginData.FromString(content).session_end_info
    assert end.status == _proto.hparams_api.STATUS_FAILURE


def test_a_removed_directory_loses_no_later_report(tmp_path):
    """An OSError of a write raises in flush, not in the loop, and the writer goes on."""
    logdir = tmp_path / "run"
    writer = jb.SummaryWriter(logdir)
    writer.add_scalar("x", 0.0, 0)
    writer.flush()
    shutil.rmtree(logdir)
    logdir.write_text("not a directory")
    writer.add_scalar("x", 1.0, 1)
    with pytest.raises(jb.RunError, match="1 report is pending"):
        writer.run.flush(timeout=0.01)
    logdir.unlink()
    for step in range(2, 100):
        writer.add_scalar("x", float(step), step)
    writer.close()
    assert [step for step, _ in scalars(logdir)] == list(range(1, 100))


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"comment": 3}, "SummaryWriter(comment=3): expected a str."),
        ({"logdir": 3}, "SummaryWriter(3): expected a path, got int."),
        ({"purge_step": -1}, "SummaryWriter(purge_step=-1): expected an integer, 0 or more."),
        ({"flush_secs": 0}, "Run(flush_secs=0): expected a number above 0."),
        ({"filename_suffix": "a/b"}, "TensorBoardSink(filename_suffix='a/b'): expected the end of a file's name, as a str."),
        ({"write_to_disk": float("nan") * jnp.ones(3)}, "expected True or False."),
    ],
)  # fmt: skip
def test_wrong_arguments(keywords, message, tmp_path):
    """An invalid argument of the constructor raises an error that names it."""
    with pytest.raises(jb.UsageError, match=re.escape(message)):
        jb.SummaryWriter(**{"logdir": tmp_path, **keywords})
    with pytest.raises(TypeError, match="unexpected keyword argument"):
        jb.SummaryWriter(tmp_path, max_queues=3)


def test_comet_is_not_reported_to(tmp_path):
    """An enabled configuration of Comet is a warning; the default of tensorboardX is none."""
    with pytest.warns(jb.JaxboardWarning, match="does not report to Comet"):
        jb.SummaryWriter(tmp_path, comet_config={"disabled": False}).close()
    jb.SummaryWriter(tmp_path, comet_config={"disabled": True}).close()


def test_copies(tmp_path):
    """A writer cannot be pickled: it has a thread and open files."""
    with (
        jb.SummaryWriter(tmp_path) as writer,
        pytest.raises(jb.UsageError, match="cannot be pickled"),
    ):
        pickle.dumps(writer)


def test_a_forked_child(tmp_path):
    """A child writes nothing with the writer of its parent, and may open one of its own."""
    program = """
        import jaxboard as jb
        warnings = __import__("warnings")
        warnings.simplefilter("ignore")
        writer = jb.SummaryWriter(LOGDIR + "/parent")
        writer.add_scalar("x", 1.0, 0)
        writer.flush()
        child = os.fork()
        if not child:
            with jb.SummaryWriter(LOGDIR + "/child") as own:
                own.add_scalar("x", 2.0, 0)
            writer.add_scalar("x", 2.0, 0)
            writer.close()
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        writer.add_scalar("x", 3.0, 1)
        writer.close()
    """
    child = Child(tmp_path, program)
    assert child.exit_status() == 0, child.err
    assert scalars(child.logdir / "parent") == [(0, 1.0), (1, 3.0)]
    assert scalars(child.logdir / "child") == [(0, 2.0)]

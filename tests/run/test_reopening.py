"""A cell of an interactive session that opens a run: which run of an earlier cell it takes the place of."""

import inspect

import pytest
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config

import jaxboard as jb
from jaxboard.sinks import MemorySink


@pytest.fixture
def cell():
    """Return a function that runs a cell with these names."""
    config = Config({"HistoryManager": {"enabled": False}})
    shell = InteractiveShell.instance(config=config)

    def run(code, **names):
        shell.user_ns.update(names)
        result = shell.run_cell(code, store_history=True)
        return result.error_in_exec

    yield run
    shell.restore_sys_module_state()
    InteractiveShell.clear_instance()


INVALID = {
    "hparams": "3",
    "resume": "'yes'",
    "step": "-1",
    "state": "{}",
    "processes": "'two'",
    "hang_secs": "0",
    "flush_secs": "-1",
    "sinks": "[3]",
    "max_file_bytes": "0",
    "overflow": "'panic'",
    "max_frames": "0",
    "max_bytes": "None",
    "timeout": "'long'",
    "telemetry": "3",
    "on_nonfinite": "3",
    "alerts": "3",
    "select": "3",
    "live": "3",
    "steps": "0",
}
"""An invalid value of each option of a run."""


def test_all_options_are_listed():
    """The test below passes an invalid value for each option."""
    assert INVALID.keys() == inspect.signature(jb.Run).parameters.keys() - {"logdir"}


def test_an_invalid_call_closes_nothing(cell, tmp_path):
    """A run of an earlier cell stays open if the call that opens its directory again is invalid."""
    calls = [f"{name}={value}" for name, value in INVALID.items()]
    assert cell("run = jb.Run(logdir)", jb=jb, logdir=tmp_path) is None
    errors = [cell(f"jb.Run(logdir, {call})") for call in calls]
    assert [type(error) for error in errors] == [jb.UsageError] * len(calls)
    assert cell("run.scalar('loss', 1.0); run.close()") is None


def test_only_another_writer_is_closed(cell, tmp_path):
    """A run of an earlier cell stays open unless the new one writes to the directory of its event files."""
    assert cell("run = jb.Run(logdir)", jb=jb, logdir=tmp_path) is None
    in_memory = "with jb.Run(logdir, sinks=[MemorySink()]): jb.scalar('loss', 2.0)"
    assert cell(in_memory, MemorySink=MemorySink) is None
    assert cell("run.scalar('loss', 1.0)") is None
    assert cell("first, run = run, jb.Run(None, sinks=[jb.sinks.TensorBoardSink(logdir)])") is None
    assert cell("assert first.closed; run.close()") is None

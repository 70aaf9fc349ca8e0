"""A notebook whose kernel is interrupted and restarted. The kernel is a real one."""

import os

import jupyter_client.manager
import pytest
from by_hand import DEADLINE
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

OPEN_AND_TRAIN = """
import signal
import jaxboard as jb
with jb.Run({logdir!r}, telemetry=False):
    for step in range({first}, {last}):
        jb.scalar("loss", step, step=step)
    {then}
"""


INTERRUPT = "signal.raise_signal(signal.SIGINT)"
"""The signal that a notebook sends to interrupt a cell, at a known place."""


class Kernel:
    """A kernel, and its front end."""

    def __init__(self, environment):
        self.manager, self.client = jupyter_client.manager.start_new_kernel(
            kernel_name="python3", startup_timeout=DEADLINE, env=environment
        )
        self.manager.shutdown_wait_time = DEADLINE  # A kernel that takes longer is killed.

    def run(self, code):
        """Run a cell. Return its error, or "" if there is none."""
        # Otherwise the kernel aborts a cell that it receives soon after the error of another.
        cell = self.client.execute(code, stop_on_error=False)
        while True:
            # Other channels lose messages until the front end and a new kernel are connected.
            reply = self.client.get_shell_msg(timeout=DEADLINE)
            if reply["parent_header"].get("msg_id") == cell:
                content = reply["content"]
                failed = content["status"] != "ok"
                return f"{content['ename']}: {content['evalue']}" if failed else ""

    def restart(self):
        self.manager.restart_kernel()
        self.client.wait_for_ready(timeout=DEADLINE)

    def stop(self):
        self.client.stop_channels()
        self.manager.shutdown_kernel()


@pytest.fixture
def kernel(tmp_path):
    kernel = Kernel({**os.environ, "IPYTHONDIR": str(tmp_path / "ipython"), "JAX_PLATFORMS": "cpu"})
    yield kernel
    kernel.stop()


def test_interrupt_and_restart(tmp_path, kernel):
    """An interrupted cell can be run again, and a restarted kernel can reopen the directory: nothing is lost."""
    logdir = str(tmp_path / "run")
    cell = OPEN_AND_TRAIN.format(logdir=logdir, first=0, last=100, then=INTERRUPT)
    assert kernel.run(cell) == "KeyboardInterrupt: "
    # The same cell again, for later steps, and then without a with block: the run stays open.
    cell = OPEN_AND_TRAIN.format(logdir=logdir, first=100, last=200, then=INTERRUPT)
    assert kernel.run(cell) == "KeyboardInterrupt: "
    opening = f"run = jb.Run({logdir!r}, telemetry=False, flush_secs=1000)"
    assert kernel.run(opening) == ""
    report = "for step in range(200, 300): jb.scalar('loss', step, step=step)"
    assert kernel.run(report) == ""
    # Opening it a second time raises, and closing the first helps: no restart is needed.
    assert "Close that run first" in kernel.run(opening)
    assert kernel.run(f"run.close(); {opening}") == ""
    assert kernel.run(report.replace("200, 300", "300, 400")) == ""
    kernel.restart()
    cell = OPEN_AND_TRAIN.format(logdir=logdir, first=400, last=500, then="pass")
    assert kernel.run(cell) == ""
    events = EventAccumulator(logdir, size_guidance={"scalars": 0}).Reload()
    points = [(point.step, point.value) for point in events.Scalars("loss")]
    assert points == [(step, float(step)) for step in range(500)]

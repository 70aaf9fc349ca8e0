"""A notebook whose kernel is interrupted and restarted. The kernel is a real one."""

import os

import jupyter_client.manager
import pytest
from by_hand import DEADLINE
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

OPEN_AND_TRAIN = """
import jaxboard as jb
with jb.Run({logdir!r}, telemetry=False):
    for step in range({first}, {last}):
        jb.scalar("loss", step, step=step)
    {then}
"""


class Kernel:
    """A kernel, and its front end.

    Cells answer on the channels for replies and for input, which lose no message. The channel for output loses what a
    restarted kernel sends before the front end is connected again.
    """

    def __init__(self, environment):
        self.manager, self.client = jupyter_client.manager.start_new_kernel(
            kernel_name="python3", startup_timeout=DEADLINE, env=environment
        )
        # A kernel that shuts down later is killed.
        self.manager.shutdown_wait_time = DEADLINE

    def run(self, code, interrupt=False):
        """Run a cell; interrupt it when it asks for input. Return its error, or "" if there is none."""
        cell = self.client.execute(code, allow_stdin=interrupt)
        if interrupt:
            self.client.get_stdin_msg(timeout=DEADLINE)
            self.manager.interrupt_kernel()
        while True:
            reply = self.client.get_shell_msg(timeout=DEADLINE)
            if reply["parent_header"].get("msg_id") == cell:
                content = reply["content"]
                return (
                    "" if content["status"] == "ok" else f"{content['ename']}: {content['evalue']}"
                )

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
    cell = OPEN_AND_TRAIN.format(logdir=logdir, first=0, last=100, then="input()")
    assert "KeyboardInterrupt" in kernel.run(cell, interrupt=True)
    # The same cell again, for later steps, and then without a with block: the run stays open.
    cell = OPEN_AND_TRAIN.format(logdir=logdir, first=100, last=200, then="input()")
    assert "KeyboardInterrupt" in kernel.run(cell, interrupt=True)
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

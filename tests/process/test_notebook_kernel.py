"""A notebook whose kernel is interrupted and restarted. The kernel is a real one."""

import os

import jupyter_client.manager
import pytest
from by_hand import DEADLINE
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

OPEN_AND_TRAIN = """
import time
import jaxboard as jb
with jb.Run({logdir!r}, telemetry=False):
    for step in range({first}, {last}):
        jb.scalar("loss", step, step=step)
    print("trained", flush=True)
    {then}
"""


class Kernel:
    def __init__(self, environment):
        self.manager, self.client = jupyter_client.manager.start_new_kernel(
            kernel_name="python3", env=environment
        )

    def run(self, code, interrupt_at=""):
        """Run a cell; interrupt it when it prints a text. Return the name of its error, or its output."""
        message = self.client.execute(code)
        printed, error = "", ""
        while True:
            received = self.client.get_iopub_msg(timeout=DEADLINE)
            if received["parent_header"].get("msg_id") != message:
                continue
            content = received["content"]
            if received["msg_type"] == "stream" and content["name"] == "stdout":
                printed += content["text"]
                if interrupt_at and interrupt_at in printed:
                    self.manager.interrupt_kernel()
                    interrupt_at = ""
            elif received["msg_type"] == "error":
                error = f"{content['ename']}: {content['evalue']}"
            elif content.get("execution_state") == "idle":
                return error or printed

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
    sleep = "time.sleep(600)"
    cell = OPEN_AND_TRAIN.format(logdir=logdir, first=0, last=100, then=sleep)
    assert kernel.run(cell, interrupt_at="trained") == "KeyboardInterrupt: "
    # The same cell again, for later steps, and then without a with block: the run stays open.
    cell = OPEN_AND_TRAIN.format(logdir=logdir, first=100, last=200, then=sleep)
    assert kernel.run(cell, interrupt_at="trained") == "KeyboardInterrupt: "
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
    assert kernel.run(cell) == "trained\n"
    events = EventAccumulator(logdir, size_guidance={"scalars": 0}).Reload()
    points = [(point.step, point.value) for point in events.Scalars("loss")]
    assert points == [(step, float(step)) for step in range(500)]

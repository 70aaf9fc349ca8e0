"""Runs and TensorBoard in a notebook, whose kernel is interrupted and restarted. The kernel is a real one."""

import json
import os
import re
import urllib.request

import jupyter_client.manager
import pytest
from by_hand import DEADLINE
from event_files import scalar_points

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
        self.cells = []
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

    def outputs(self, code, awaited=""):
        """Run a cell. Return what was published up to its end, and up to the message with the awaited text.

        Each message is the number of its parent, its type and its content. The first cell has the number 0.
        """
        cell = self.client.execute(code, stop_on_error=False)
        self.cells.append(cell)
        found = []
        has_ended, has_text = False, not awaited
        while not (has_ended and has_text):
            message = self.client.get_iopub_msg(timeout=DEADLINE)
            parent, content = message["parent_header"].get("msg_id"), message["content"]
            if parent in self.cells:
                found.append((self.cells.index(parent), message["msg_type"], content))
            has_ended |= parent == cell and content.get("execution_state") == "idle"
            has_text = has_text or awaited in json.dumps(content)
        return found

    def restart(self):
        self.manager.restart_kernel()
        self.client.wait_for_ready(timeout=DEADLINE)

    def stop(self):
        self.client.stop_channels()
        self.manager.shutdown_kernel()


@pytest.fixture
def kernel(tmp_path):
    # Without TensorFlow, TensorBoard starts in half the time.
    modules = tmp_path / "modules"
    modules.mkdir()
    (modules / "tensorflow.py").write_text("raise ImportError")
    path = os.pathsep.join([str(modules), *os.environ.get("PYTHONPATH", "").split(os.pathsep)])
    environment = {
        "IPYTHONDIR": str(tmp_path / "ipython"),
        "JAX_PLATFORMS": "cpu",
        "PYTHONPATH": path,
    }
    kernel = Kernel({**os.environ, **environment})
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
    # A later cell that opens it again closes the earlier run; a second run in one cell is an error.
    assert kernel.run(opening) == ""
    assert "Close that run first" in kernel.run(f"jb.Run({logdir!r}, telemetry=False)\n" * 2)
    assert kernel.run(opening) == ""
    assert kernel.run(report.replace("200, 300", "300, 400")) == ""
    kernel.restart()
    cell = OPEN_AND_TRAIN.format(logdir=logdir, first=400, last=500, then="pass")
    assert kernel.run(cell) == ""
    assert scalar_points(logdir, "loss") == [(step, float(step)) for step in range(500)]


LIVE = """
import jaxboard as jb
run = jb.Run({logdir!r}, telemetry=False, live=True, steps=4)
"""


COLAB = """
import sys, types
output = types.ModuleType("google.colab.output")
output.serve_kernel_port_as_iframe = lambda port, height: print(port, height)
sys.modules["google.colab.output"] = sys.modules["google.colab"] = output
"""


def displays(outputs, kind="display_data"):
    """Return the cell, the display id and the HTML of each output."""
    return [
        (cell, content["transient"].get("display_id"), content["data"].get("text/html", ""))
        for cell, message, content in outputs
        if message == kind
    ]


def streams(outputs):
    """Return the text of standard output and standard error."""
    return "".join(content["text"] for _, kind, content in outputs if kind == "stream")


def test_live_panel_and_tensorboard(tmp_path, kernel):
    """The panel is the output of the cell that opened the run, also after that has ended; ``%jaxboard`` shows TensorBoard."""
    logdir = str(tmp_path / "runs" / "a")
    outputs = kernel.outputs(LIVE.format(logdir=logdir))
    ((cell, display, html),) = displays(outputs)
    assert (cell, "step 0 of 4" in html) == (0, True)

    # A later cell reports and ends at the same moment: the next drawing comes after its end.
    outputs = kernel.outputs("jb.scalar('train/loss', 0.5, step=0)", awaited="step 1 of 4")
    assert {each[1] for each in displays(outputs, "update_display_data")} == {display}
    # The output of a cell that captures everything has none of it.
    capturing = "%%capture captured\njb.scalar('train/loss', 0.25, step=3); run.close()"
    outputs = kernel.outputs(capturing)
    assert "step 4 of 4, finished" in displays(outputs, "update_display_data")[-1][2]
    outputs = kernel.outputs("print(len(captured.outputs))")
    assert streams(outputs) == "0\n"

    # A run that starts again at step 0 in the directory of another one is reported, unless it replaces that.
    cell = f"with jb.Run({str(tmp_path / 'c')!r}, telemetry=False) as run: run.step = 5"
    texts = [
        streams(kernel.outputs(each))
        for each in (cell, cell, cell.replace("telemetry", "step=0, telemetry"))
    ]
    assert ["took 5 steps" in text for text in texts] == [False, True, False]

    # TensorBoard shows a directory that does not exist yet, and a second call the same process.
    later = tmp_path / "later"
    magic = f"%load_ext jaxboard\n%jaxboard {later}"
    ((_, _, html),) = displays(kernel.outputs(magic))
    (address,) = re.findall(r'href="(http://localhost:\d+/)"', html)
    kernel.outputs(f"with jb.Run({str(later / 'b')!r}): jb.scalar('x', 1.0)")
    ((_, _, html),) = displays(kernel.outputs(magic))
    assert f'href="{address}"' in html
    assert "<iframe" in html
    with urllib.request.urlopen(f"{address}data/environment", timeout=DEADLINE) as reply:
        assert json.load(reply)["data_location"] == str(later)
    # In Colab, whose library is not available here, its function serves the iframe.
    kernel.run(COLAB)
    (port,) = re.findall(r"\d+", address)
    assert streams(kernel.outputs(f"%jaxboard {later} --height 600")) == f"{port} 600\n"
    # TensorBoard that does not start: the working directory has a package of its name.
    (tmp_path / "tensorboard.py").write_text("raise SystemExit('no TensorBoard here')")
    text = streams(kernel.outputs(f"%cd {tmp_path}\n%jaxboard elsewhere --port 0"))
    assert "UsageError: TensorBoard ended with status 1" in text
    assert "no TensorBoard here" in text

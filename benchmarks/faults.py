"""Points that survive a fault, by writer: each reports the same points in a process that the fault hits.

    python benchmarks/faults.py [WRITER ...]

The writers are jaxboard, torch.utils.tensorboard, tensorboardX and clu. One that is not installed is left out. Each
reports 1000 points, one a step; the number is what TensorBoard's reader shows afterwards, twice-written points
counted twice.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from importlib.util import find_spec

COUNT = 1000
SECONDS = 120

WRITERS = {
    "jaxboard": (
        "jaxboard",
        """
import jaxboard as jb
run = jb.Run(LOGDIR, telemetry=False, on_nonfinite="ignore")
def report(step): jb.scalar("loss", float(step), step=step)
close = run.close
""",
    ),
    "torch": (
        "torch",
        """
from torch.utils.tensorboard import SummaryWriter
writer = SummaryWriter(LOGDIR)
def report(step): writer.add_scalar("loss", float(step), step)
close = writer.close
""",
    ),
    "tensorboardX": (
        "tensorboardX",
        """
from tensorboardX import SummaryWriter
writer = SummaryWriter(LOGDIR)
def report(step): writer.add_scalar("loss", float(step), step)
close = writer.close
""",
    ),
    "clu": (
        "clu",
        """
from clu import metric_writers
writer = metric_writers.SummaryWriter(LOGDIR)
def report(step): writer.write_scalars(step, {"loss": float(step)})
def close(): writer.flush(); writer.close()
""",
    ),
}

FAULTS = {
    "close()": "train(0, 1000); close()",
    "no close()": "train(0, 1000)",
    "exception": "train(0, 1000); 1 / 0",
    "sys.exit on the main thread": "train(0, 1000); sys.exit(1)",
    "SIGINT": "train(0, 1000); os.kill(os.getpid(), signal.SIGINT); time.sleep(9)",
    "SIGTERM": "train(0, 1000); os.kill(os.getpid(), signal.SIGTERM); time.sleep(9)",
    "SIGKILL, 3 s later": "train(0, 1000); time.sleep(3); os.kill(os.getpid(), signal.SIGKILL)",
    "os._exit, 3 s later": "train(0, 1000); time.sleep(3); os._exit(1)",
    "os.fork, child exits": (
        "train(0, 500)\nif not os.fork(): sys.exit()\nos.wait(); train(500, 1000); close()"
    ),
    "disk full for 300 steps": """
train(0, 100); time.sleep(3)
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))
train(100, 400); time.sleep(3)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
train(400, 1000); close()""",
    "directory removed after 100 steps": """
train(0, 100); time.sleep(3)
shutil.rmtree(LOGDIR)
train(100, 1000); time.sleep(3)
close()""",
    "directory renamed after 100 steps": """
train(0, 100); time.sleep(3)
os.rename(LOGDIR, LOGDIR + "/../renamed")
train(100, 1000); time.sleep(3)
close()""",
}

PROGRAM = """
import os, resource, shutil, signal, sys, time
LOGDIR = sys.argv[1]
# A file at its size limit then fails like a full disk.
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
{writer}
def train(first, last):
    for step in range(first, last):
        report(step)
{fault}
"""

READER = """
import os, sys, types
sys.modules["tensorboard.compat.notf"] = types.ModuleType("notf")  # The reader's own code, without TensorFlow.
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
seen = 0
for directory, _, names in os.walk(sys.argv[1]):
    for name in names:
        if "tfevents" in name:
            events = EventFileLoader(os.path.join(directory, name)).Load()
            seen += sum(v.tag == "loss" for e in events if e.HasField("summary") for v in e.summary.value)
print(seen)
"""


def run(program: str, logdir: str) -> subprocess.CompletedProcess[str] | None:
    command = [sys.executable, "-c", program, logdir]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return None


def measure(writer: str, fault: str) -> str:
    with tempfile.TemporaryDirectory() as parent:
        program = PROGRAM.format(writer=WRITERS[writer][1], fault=FAULTS[fault])
        done = run(program, os.path.join(parent, "run"))
        read = run(READER, parent)
        assert read is not None, "the reader hangs"
        shown = read.stdout.strip() or "unreadable"
        return f"{shown}, hangs" if done is None else shown


def main() -> None:
    asked = sys.argv[1:] or list(WRITERS)
    writers = [name for name in asked if find_spec(WRITERS[name][0])]
    print(f"| points of {COUNT} that are shown | {' | '.join(writers)} |")
    print("| --- |" + " --- |" * len(writers))
    for fault in FAULTS:
        counts = [measure(writer, fault) for writer in writers]
        print(f"| {fault} | {' | '.join(counts)} |", flush=True)


if __name__ == "__main__":
    main()

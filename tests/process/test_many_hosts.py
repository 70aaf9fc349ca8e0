"""Jobs of several real processes: exact values from one writer, and reports about processes that are slow or gone."""

import os

import pytest
from processes import Job

import jaxboard as jb
from jaxboard._read.verification import verify

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals are POSIX's")

VALUES = """
from jaxboard._job.shared_files import SharedFiles

def wait_for(condition):
    while not condition():
        threading.Event().wait(0.02)

@jb.instrument
@jax.jit
def train_step(w, x):
    y = w * x
    jb.scalar("mean", y.mean())
    jb.scalar("mean_of_3", y.mean(), every=3)
    jb.histogram("values", y)
    return w + 1

@jb.instrument
@jax.jit
def lanes(x):  # Nothing but values that are sharded over all processes.
    jax.vmap(lambda row: jb.scalar("lane", row.sum(), runs="vmap"))(x)
    return x + 1

@jb.instrument(advance=False)
@jax.jit
def images(x):
    jb.image("rows", jnp.broadcast_to(x[:, :1, None], (DEVICES, 4, 4)) / 256, layout="NHW", max_images=DEVICES)
    return x + 1

@jb.instrument(advance=False)
@jax.jit
def shards(x):
    def body(x):
        jb.scalar("shard", x.sum(), reduce="stack")
        return x
    return jax.shard_map(body, mesh=mesh, in_specs=P("d"), out_specs=P("d"))(x)

x = on_all(np.arange(DEVICES * 3, dtype=np.float32).reshape(DEVICES, 3))
w = on_all(np.float32(1), everywhere)
with jb.Run(LOGDIR, processes="all", hang_secs=None, hparams={"lr": 1}) as run:
    for step in range(6):
        w = train_step(w, x)
        jb.scalar("host", 10 * INDEX + step)
    lanes(x)
    images(x)
    shards(x)
    run.child("eval").scalar("host", INDEX)
    files = SharedFiles(run.logdir)
    beats = lambda: [files.read_beat(index) for index in range(COUNT)]
    wait_for(lambda: all(beat and beat.step_seconds for beat in beats()))
    lanes(x)
    run.flush()
    if INDEX == 0:
        def has_curves():
            run.flush()
            return "jaxboard/processes/step_seconds/max" in set(jb.read(LOGDIR).tag)
        wait_for(has_curves)
"""


def test_values(tmp_path):
    """Values of the whole job are written once, by process 0 and exactly; those of a process are in a run of its own."""
    count = 2
    with Job(tmp_path, count, VALUES) as job:
        job.finish()
        size = 2 * count
        mean = (3 * size - 1) / 2
        assert job.points("mean") == [(step, mean * (step + 1)) for step in range(6)]
        assert job.points("mean_of_3") == [(0, mean), (3, 3 * mean), (5, 5.5 * mean)]
        for lane in range(size):
            assert job.points("lane", f"seed_{lane}") == [(6, 9.0 * lane + 3), (7, 9.0 * lane + 3)]
        shards = [job.points(f"shard/device_{device:02}") for device in range(size)]
        assert shards == [[(6, 9.0 * device + 3)] for device in range(size)]
        frames = jb.read(job.logdir)
        assert list(frames.run[frames.tag == "host"].unique()) == [
            name for index in range(count) for name in (f"process_{index}", f"process_{index}/eval")
        ]
        for index in range(count):
            host = [(step, 10.0 * index + step) for step in range(6)]
            assert job.points("host", f"process_{index}") == host
            assert job.points("host", f"process_{index}/eval") == [(6, float(index))]
        by_process = [len(list(job.logdir.glob(f"process_{i}/*.tfevents.*"))) for i in range(count)]
        assert by_process == [1] * count
        assert len(list(job.logdir.glob("*.tfevents.*"))) == 1
        for measured in ("step_seconds", "data_seconds", "memory_bytes"):
            curves = [
                job.points(f"jaxboard/processes/{measured}/{statistic}")
                for statistic in ("min", "median", "max")
            ]
            for low, middle, high in zip(*curves, strict=True):
                assert low[0] == middle[0] == high[0]
                assert 0 <= low[1] <= middle[1] <= high[1]
        assert "lost" not in job.errors(0)


HANG = """
@jb.instrument
@jax.jit
def train_step(w, x):
    jb.scalar("mean", (w * x).mean())
    return w + 1

def load_batch(step):
    if INDEX == 2 and step == 3:
        announce("waiting")
        sys.stdin.readline()

x = on_all(np.arange(DEVICES, dtype=np.float32))
w = on_all(np.float32(1), everywhere)
with jb.Run(LOGDIR, hang_secs=1.0):
    for step in range(6):
        load_batch(step)
        w = train_step(w, x)
"""


def test_a_process_that_hangs(tmp_path):
    """The run names the process that the others wait for, each process writes its stacks, and the job can go on."""
    with Job(tmp_path, 4, HANG) as job:
        job.expect(2, "waiting")
        stacks = [job.logdir / ".jaxboard" / f"process_{index}.stacks.txt" for index in range(4)]
        job.wait_for(lambda: all(path.exists() for path in stacks))
        job.wait_for(lambda: "load_batch" in stacks[2].read_text())
        assert "load_batch" not in stacks[0].read_text()
        assert "process 2 on " in stacks[2].read_text().splitlines()[0]
        # The report is in TensorBoard while the job still hangs.
        job.wait_for(lambda: "wait for process 2" in job.text("jaxboard/processes/hang"))
        text = job.text("jaxboard/processes/hang")
        assert "in the phase 'data' and last dispatched step 2" in text
        job.send(2)
        job.finish()
        mean = (8 - 1) / 2
        assert job.points("mean") == [(step, mean * (step + 1)) for step in range(6)]


DIFFERENT = """
@jb.instrument
@jax.jit
def train_step(w, x):
    with jax.named_scope("loss"):
        total = (w * x).sum()
    if INDEX == 1:
        total = total + (x * 3.0).sum()  # one more sum over all devices, which process 0 does not know of
    jb.scalar("total", total)
    return w + 1

x = on_all(np.arange(DEVICES, dtype=np.float32))
w = on_all(np.float32(1), everywhere)
with jb.Run(LOGDIR, hang_secs=2.0):
    for step in range(4):
        w = train_step(w, x)
    jax.block_until_ready(w)
    announce("done")
    sys.stdin.readline()
"""


def test_different_programs(tmp_path):
    """A process that traced another program is named with the first difference, whether the job hangs or not."""
    with Job(tmp_path, 2, DIFFERENT) as job:
        job.wait_for(lambda: job.text("jaxboard/processes/programs"))
        text = job.text("jaxboard/processes/programs")
        assert "train_step is another program in process 1 than in process 0" in text
        first, second = (line for line in text.splitlines() if line.startswith("    process "))
        assert first.startswith("    process 0:")
        assert "report" in first
        assert "3.0" in second
        assert text.split("\n\n")[0] in job.errors(0)


GONE = """
@jb.instrument
@jax.jit
def train_step(w, x):
    jb.scalar("mean", (w * x).mean())
    jb.histogram("values", x, every=2)
    return w + 1

x = on_all(np.arange(DEVICES, dtype=np.float32))
w = on_all(np.float32(1), everywhere)
if INDEX != 1:
    run = jb.Run(LOGDIR, hang_secs=1.0, timeout=20)
for step in range(4):
    w = train_step(w, x)
jax.block_until_ready(w)
if INDEX == 0:
    run.flush()
announce("trained")
sys.stdin.readline()
if INDEX == 0:
    jb.scalar("after", 1.0, step=4)
    run.close()
    announce("closed")
    sys.stdin.readline()
"""


def test_processes_that_are_gone(tmp_path):
    """A process without a run and one that is killed leave the others as they are: all points are there and whole."""
    with Job(tmp_path, 3, GONE) as job:
        for index in range(3):
            job.expect(index, "trained")
        job.wait_for(lambda: "has opened no run" in job.text("jaxboard/processes/hang"))
        assert "Process 1 has opened no run" in job.text("jaxboard/processes/hang")
        job.processes[2].kill()
        job.processes[2].wait()
        job.send(0)
        job.expect(0, "closed")
        mean = (6 - 1) / 2
        assert job.points("mean") == [(step, mean * (step + 1)) for step in range(4)]
        assert job.points("after") == [(4, 1.0)]
        assert len(list(job.logdir.glob("*.tfevents.*"))) == 1
        assert verify(str(job.logdir)).problems == []

"""run.state() and Run(state=...): an interrupted run has the points of an uninterrupted one, bit for bit."""

import os
import pathlib
import signal
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fork_server import run_in_fork
from resumable import initial, load, save, train
from tensorboard.backend.event_processing.plugin_event_accumulator import EventAccumulator

import jaxboard as jb
from jaxboard.sinks import MemorySink, TensorBoardSink

STEPS, INTERRUPTED = 100, 37

KILLED = """
import os, pathlib, signal, sys
import jaxboard as jb
from resumable import initial, make_functions, save, train

run = jb.Run(sys.argv[1])
functions = make_functions(run)
w = train(run, initial(), 0, 37, functions)
save(pathlib.Path(sys.argv[2]), w, run.state())
train(run, -w, 37, 60, functions)
run.flush()
os.kill(os.getpid(), signal.SIGKILL)
"""


def points(logdir):
    """Return run and tag -> steps and bytes of the values, as TensorBoard's slow loader shows them."""
    found = {}
    for directory in {file.parent for file in pathlib.Path(logdir).rglob("*.tfevents.*")}:
        # A size of 0 keeps all points.
        kinds = dict.fromkeys(("scalars", "histograms"), 0)
        events = EventAccumulator(str(directory), tensor_size_guidance=kinds).Reload()
        run = directory.relative_to(logdir).as_posix()
        for tag in events.Tags()["tensors"]:
            shown = [(e.step, e.tensor_proto.SerializeToString()) for e in events.Tensors(tag)]
            found |= {(run, tag): shown} if shown else {}
    return found


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Return the directory of a run that was not interrupted."""
    logdir = tmp_path_factory.mktemp("whole") / "whole"
    with jb.Run(logdir) as run:
        train(run, initial(), 0, STEPS)
    return logdir


def resume(logdir, checkpoint):
    w, state = load(checkpoint)
    with jb.Run(logdir, state=state) as run:
        assert run.step == INTERRUPTED
        train(run, jnp.asarray(w), INTERRUPTED, STEPS)


def test_a_run_that_was_closed(tmp_path, whole):
    """A closed run has written its incomplete windows. The resumed run hides them, and continues them to the last bit."""
    with jb.Run(tmp_path / "run") as run:
        w = train(run, initial(), 0, INTERRUPTED)
        run.state()  # Saving a state changes nothing.
        save(tmp_path / "checkpoint.npz", w, run.state())
    resume(tmp_path / "run", tmp_path / "checkpoint.npz")
    assert points(tmp_path / "run") == points(whole)


@pytest.mark.skipif(os.name != "posix", reason="SIGKILL")
def test_a_run_that_was_killed(tmp_path, whole, shared_tensorboard):
    """After a SIGKILL, a new process that continues from the checkpoint shows the same points in both loaders.

    The killed one had gone on for 23 steps after the checkpoint, with other values.
    """
    logdir, checkpoint = tmp_path / "killed", tmp_path / "checkpoint.npz"
    done = run_in_fork(KILLED, str(logdir), str(checkpoint))
    assert done.returncode == -signal.SIGKILL, done.stderr
    resume(logdir, checkpoint)
    expected = points(whole)
    assert points(logdir) == expected
    server = shared_tensorboard("rust")
    server.show(whole)
    server.show(logdir)

    def shown(name, run, tag, plugin):
        rows = server.get(
            f"data/plugin/{plugin}/{plugin}", run=str(pathlib.PurePath(name, run)), tag=tag
        )
        return [row[1:] for row in rows]

    for run, tag in expected:
        plugin = "histograms" if "histogram" in tag or tag.startswith("grad/a") else "scalars"
        values = server.until(lambda: shown("whole", run, tag, plugin), len)  # noqa: B023
        server.until(lambda: shown("killed", run, tag, plugin), lambda rows: rows == values)  # noqa: B023


def in_windows(x, n):
    for reduce in ("mean", "sum", "std", "min"):
        jb.scalar(reduce, jnp.sin(x), every=7, reduce=reduce)
    return x * 1.01


@pytest.mark.parametrize(
    "options",
    [
        {"gate": "cond"},
        {"step": lambda x, n: n},
        {"delivery": "callback"},
        {"exact": True},
    ],
    ids=lambda options: next(iter(options)),
)
def test_every_delivery(options):
    """Windows are continued to the last bit, whether the device or the host merges them."""

    def train(x, first, last, **of_run):
        run, records = in_memory(**of_run)
        step = jb.instrument(jax.jit(in_windows), **options)
        with run:
            for n in range(first, last):
                x = step(x, jnp.int32(n))
            state = run.state()
        return x, state, {(r.tag, r.step): r.value.tobytes() for r in records}

    *_, whole = train(jnp.float32(0.3), 0, 30)
    x, state, first = train(jnp.float32(0.3), 0, 17)
    *_, second = train(x, 17, 30, state=state)
    complete = {key: value for key, value in first.items() if key[1] <= 14}
    assert complete | second == whole


# --- A state. -------------------------------------------------------------------------------------


def in_memory(**options):
    sink = MemorySink()
    return jb.Run(None, sinks=[sink], flush_secs=3600, **options), sink.records


def summary(records):
    return [(r.tag, r.step, float(r.value)) for r in records]


def test_a_state_is_a_small_pytree_of_arrays():
    """A state has two NumPy arrays of the same shape at every step, and is as good from a device."""
    step = jb.instrument(jax.jit(lambda x: jb.scalar("x", x, every=10, reduce="sum")))
    run, _ = in_memory()
    with run:
        first = run.state()
        for _ in range(5):
            step(1.0)
        state = run.state()
    assert {name: (x.shape, x.dtype) for name, x in state.items()} == {
        "step": ((), np.dtype(np.int64)),
        "contents": ((4096,), np.dtype(np.uint8)),
    }
    assert jax.tree.map(np.shape, first) == jax.tree.map(np.shape, state)
    assert (int(first["step"]), int(state["step"])) == (0, 5)
    run, records = in_memory(state=jax.tree.map(jnp.asarray, state))
    with run:
        assert run.step == 5
        for _ in range(6):
            step(1.0)
    assert summary(records) == [("x", 10, 10.0)]


def test_an_evaluation_goes_on():
    """A state in the middle of an evaluation has its values and its step, and plain Python goes on there."""

    def evaluate(losses):
        for loss in losses:
            jb.scalar("loss", loss)
            jb.histogram("histogram", np.array([loss]))

    run, _ = in_memory()
    with run:
        run.step = 7
        evaluate([1.0, 2.0])
        state = run.state()
    run, records = in_memory(state=state)
    with run:
        evaluate([6.0])
    loss, histogram = records
    assert (loss.tag, loss.step, float(loss.value)) == ("loss", 7, 3.0)
    assert (histogram.tag, histogram.step, histogram.value.counts.sum()) == ("histogram", 7, 3)


def test_a_program_that_changed():
    """A window that no function continues is a point at its end, or at its last step when the run closes."""

    def functions(every):
        def step(x):
            jb.scalar("same", x, every=10, reduce="sum")
            jb.scalar("cadence", x, every=every, reduce="sum")

        def renamed(x):
            jb.scalar("renamed", x, every=10, reduce="sum")

        def dropped(x):
            jb.scalar("dropped", x, every=10, reduce="sum")

        renamed.__name__ = f"renamed_{every}"
        others = [jb.instrument(jax.jit(each), advance=False) for each in (renamed, dropped)]
        return [jb.instrument(jax.jit(step)), *others]

    run, _ = in_memory(step=1)
    with run:
        step, renamed, dropped = functions(10)
        for _ in range(5):
            step(1.0)
            renamed(1.0)
            dropped(1.0)
        state = run.state()
    run, records = in_memory(state=state)
    with run:
        step, renamed, _ = functions(4)
        for _ in range(7):
            step(1.0)
            renamed(1.0)
    assert sorted(summary(records)) == [
        ("cadence", 8, 3.0),
        ("cadence", 10, 5.0),
        ("cadence", 12, 4.0),
        ("dropped", 10, 5.0),
        ("renamed", 10, 10.0),
        ("renamed", 12, 2.0),
        ("same", 10, 10.0),
        ("same", 12, 2.0),
    ]


class Total(NamedTuple):
    """A metric that adds."""

    value: Any

    def merge(self, other):
        return Total(self.value + other.value)

    def compute(self):
        return self.value


def test_metrics_of_a_program_that_changed(caplog):
    """The host merges the window of a metric or of ``finish=`` that its report still follows, and reports a lost one."""

    def functions(version):
        def renamed(x):
            jb.metric("metric", Total(x), every=10)
            jb.scalar("squared", x, every=10, reduce="sum", finish=lambda total: total**2)
            if version == 1:
                jb.metric("dropped", Total(x), every=10)

        renamed.__name__ = f"renamed_{version}"
        return jb.instrument(jax.jit(renamed))

    run, _ = in_memory(step=1)
    with run:
        step = functions(1)
        for _ in range(5):
            step(1.0)
        state = run.state()
    run, records = in_memory(state=state)
    with run:
        state = run.state()  # It still has what nothing has continued.
    run, records = in_memory(state=state)
    with run:
        step = functions(2)
        for _ in range(7):
            step(1.0)
    assert sorted(summary(records)) == [
        ("metric", 10, 10.0),
        ("metric", 12, 2.0),
        ("squared", 10, 100.0),
        ("squared", 12, 4.0),
    ]
    assert "the incomplete point of 'dropped' in the state of the run is lost" in caplog.text


def test_windows_of_a_function_that_is_not_called_again():
    """If the run closes before a restored window ends, it is a point at its last step, and a state in between has it."""
    run, _ = in_memory(step=1)
    with run:
        step = jb.instrument(jax.jit(lambda x: jb.scalar("x", x, every=10, reduce="sum")))
        for _ in range(5):
            step(1.0)
        state = run.state()
    run, _ = in_memory(state=state)
    with run:
        state = run.state()
    run, records = in_memory(state=state)
    run.close()
    assert summary(records) == [("x", 5, 5.0)]


def test_a_nan_is_noticed_once():
    """A tag with a NaN before the interruption causes no second notice."""
    found = []
    run, _ = in_memory(on_nonfinite=found.append)
    with run:
        jb.scalar("loss", np.nan, step=1)
        state = run.state()
    run, _ = in_memory(on_nonfinite=found.append, state=state)
    with run:
        jb.scalar("loss", np.nan, step=2)
        jb.scalar("other", np.nan, step=2)
    assert len(found) == 2
    assert "'loss'" not in found[1]


def test_totals_go_on(tmp_path):
    """The totals of jaxboard's own cost include those of the run that was interrupted."""
    step = jb.instrument(jax.jit(lambda x: jb.scalar("x", x)))
    state, written = None, []
    for _ in range(2):
        sink = MemorySink()
        with jb.Run(
            tmp_path,
            state=state,
            telemetry=jb.Telemetry(window=1e-9),
            sinks=[TensorBoardSink(tmp_path), sink],
        ) as run:
            for _ in range(3):
                step(1.0)
                run.flush()
            state = run.state()
        written += [r.value for r in sink.records if r.tag.endswith("overhead/bytes_written")]
    assert sorted(written) == written


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"state": {"step": 3}}, r"expected the result of run.state\(\), got a dict with the keys"),
        ({"state": 3}, r"expected the result of run.state\(\), got int"),
        ({"step": 4}, r"Run\(step=4, state=...\): the state continues at step 0. Leave out step="),
    ],
)
def test_a_wrong_state(options, message):
    """An argument that is not a state, or that contradicts it, raises."""
    run, _ = in_memory()
    with run:
        state = run.state()
    with pytest.raises(jb.UsageError, match=message):
        in_memory(**{"state": state, **options})


def test_a_state_of_another_version():
    """A state in another format raises, and the message has its step."""
    run, _ = in_memory(step=12)
    with run:
        state = run.state()
    contents = state["contents"].tobytes().replace(b"jaxboard 1", b"jaxboard 9")
    state["contents"] = np.frombuffer(contents, np.uint8)
    with pytest.raises(jb.UsageError, match=r"format is 'jaxboard 9', .*Pass step=12 instead"):
        in_memory(state=state)


def test_a_closed_run_has_no_state():
    """A closed run raises."""
    run, _ = in_memory()
    run.close()
    with pytest.raises(jb.RunError, match="is closed"):
        run.state()


def test_a_failing_sink(tmp_path):
    """While a sink fails, a state has the values of all reports, and pending points stay pending."""

    class Failing(MemorySink):
        def flush(self):
            raise OSError("full")

    step = jb.instrument(jax.jit(lambda x: jb.scalar("x", x, every=10, reduce="sum")))
    plain = jb.instrument(lambda x: jb.scalar("p", x, every=10, reduce="sum"), advance=False)
    run = jb.Run(None, sinks=[Failing()])
    states = []
    for _ in range(3):
        for _ in range(2):
            step(1.0)
            plain(1.0)
        states.append(run.state())
    with pytest.raises(jb.RunError, match="full"):
        run.close()
    run, records = in_memory(state=states[-1])
    run.close()
    assert sorted(summary(records)) == [("p", 5, 5.0), ("x", 5, 5.0)]


def test_orbax(tmp_path):
    """A state goes through an Orbax checkpoint beside the state of the training."""
    ocp = pytest.importorskip("orbax.checkpoint")
    step = jb.instrument(jax.jit(lambda x: jb.scalar("x", x, every=10, reduce="sum")))
    run, _ = in_memory(step=1)
    with run, ocp.CheckpointManager(tmp_path / "checkpoints") as manager:
        for _ in range(5):
            step(1.0)
        items = {"w": jnp.ones(3), "run": run.state()}
        manager.save(run.step, args=ocp.args.StandardSave(items))
        manager.wait_until_finished()
        restored = [
            manager.restore(manager.latest_step(), args=ocp.args.StandardRestore(template))
            for template in (None, jax.tree.map(ocp.utils.to_shape_dtype_struct, items))
        ]
    for items in restored:
        run, records = in_memory(state=items["run"])
        with run:
            for _ in range(6):
                step(1.0)
        assert summary(records) == [("x", 10, 10.0), ("x", 11, 1.0)]

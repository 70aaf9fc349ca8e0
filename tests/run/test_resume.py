"""A run that goes on in the directory of an earlier one: where it starts, and what it hides there."""

import jax
import jax.numpy as jnp
import pytest
from event_files import scalar_points
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from with_tensorflow import needs_tensorflow

import jaxboard as jb
from jaxboard.sinks import MemorySink, TensorBoardSink


def steps(logdir, tag):
    """Return the steps that TensorBoard's EventAccumulator shows."""
    return [step for step, _ in scalar_points(logdir, tag)]


def report(run, tag, steps):
    for step in steps:
        run.scalar(tag, float(step), step=step)


# --- The first step. ------------------------------------------------------------------------------


@pytest.mark.parametrize("resume", ["auto", True])
def test_a_resumed_run_continues_after_the_last_step(tmp_path, resume):
    """``resume="auto"`` and ``resume=True`` take the step after the last one of the run and the runs below it."""
    with jb.Run(tmp_path, hparams={"lr": 0.1}) as run:
        report(run, "loss", range(10))
        report(run.child("eval/ood"), "loss", [12])
    with jb.Run(tmp_path / "other") as other:  # A run of its own, not one below.
        report(other, "loss", [99])
    with jb.Run(tmp_path, resume=resume) as run:
        assert run.step == 13
        run.scalar("loss", 0.0)
    assert steps(tmp_path, "loss") == [*range(10), 13]


def test_a_run_does_not_resume_by_default(tmp_path):
    """Without ``resume``, a second run starts at step 0, as its program does."""
    with jb.Run(tmp_path) as run:
        report(run, "loss", range(10))
    with jb.Run(tmp_path) as run:
        assert run.step == 0


def test_a_step_is_more_than_a_resume(tmp_path):
    """``step=`` decides where the run starts, also with ``resume=``."""
    with jb.Run(tmp_path) as run:
        report(run, "loss", range(10))
    with jb.Run(tmp_path, step=4, resume=True) as run:
        assert run.step == 4
    with jb.Run(tmp_path, resume="auto") as run:
        assert run.step == 4  # Later points are hidden.


def test_a_new_directory(tmp_path):
    """Where nothing can be continued, ``"auto"`` starts at step 0 and True raises."""
    with jb.Run(tmp_path / "auto", resume="auto") as run:
        assert run.step == 0
    with jb.Run(tmp_path / "auto", resume=True) as run:  # The first one reported nothing.
        assert run.step == 0
    with pytest.raises(jb.RunError, match=r"resume=True\): the directory has no event files"):
        jb.Run(tmp_path / "new", resume=True)
    with jb.Run(None, sinks=[MemorySink()], resume="auto") as run:
        assert run.step == 0
    with pytest.raises(jb.UsageError, match=r"Run\(None, resume=True\): there is no log directory"):
        jb.Run(None, sinks=[MemorySink()], resume=True)
    with pytest.raises(jb.UsageError, match=r"resume='never'\): expected True, False or 'auto'"):
        jb.Run(tmp_path, resume="never")  # pyright: ignore[reportArgumentType]


@needs_tensorflow
def test_a_remote_directory(tmp_path):
    """A run in a remote directory resumes after the last step of its files, and hides what they hold later."""
    url = f"file://{tmp_path}/run"
    with jb.Run(url) as run:
        report(run, "loss", range(10))
        report(run.child("eval"), "loss", range(12))
    with jb.Run(url, resume="auto") as run:
        assert run.step == 12
    with jb.Run(url, step=5) as run:
        report(run, "other", [5])
    assert (
        steps(tmp_path / "run", "loss") == steps(tmp_path / "run" / "eval", "loss") == [*range(5)]
    )


# --- The points that an explicit step hides. -----------------------------------------------------------------


@jb.instrument
@jax.jit
def train(x):
    jb.scalar("loss", x)
    jb.scalar("window", x, every=7)
    jb.scalar("dropped window", x, every=7)
    jb.histogram("histogram", jnp.stack([x, x + 1]), every=5)
    jax.vmap(lambda y: jb.scalar("seed", y, runs="vmap"))(jnp.stack([x, x]))


@jb.instrument(advance=False)
@jax.jit
def evaluate(x):
    jb.scalar("eval", x)


@jb.instrument
@jax.jit
def train_less(x):
    jb.scalar("loss", -x)
    jb.scalar("window", -x, every=7)


def crashed(logdir, first, last):
    with jb.Run(logdir / "run", step=first) as run:
        for step in range(first, last):
            train(float(step))
            if step % 10 == 9:
                evaluate(float(step))
                with run.child("val"):
                    evaluate(float(step))
        run.text("late", "text", step=last)
        session = logdir / "run" / "plugins" / "profile" / f"steps_{last - 9}-{last - 1}"
        session.mkdir(parents=True)
        (session / "host.xplane.pb").write_bytes(b"trace")


@pytest.fixture(scope="module")
def resumed(tmp_path_factory):
    """Return the directory of a run that crashed at 60, then at 90, and that went on at 50 with fewer reports."""
    logdir = tmp_path_factory.mktemp("resumed")
    crashed(logdir, 0, 60)
    crashed(logdir, 40, 90)
    with jb.Run(logdir / "run" / "other") as other:
        report(other, "loss", range(100))
    with jb.Run(logdir / "run", step=50):
        for step in range(50, 55):
            train_less(float(step))
    return logdir


@pytest.mark.parametrize("loader", ["rust", "python"])
def test_both_loaders_hide_later_points(resumed, shared_tensorboard, loader):
    """With ``Run(step=N)``, both loaders show no earlier point from step N on, of any kind and in no run below."""
    server = shared_tensorboard(loader)
    prefix = server.show(resumed)

    def check(run, tag, steps, plugin="scalars"):
        def shown():
            rows = server.get(f"data/plugin/{plugin}/{plugin}", run=f"{prefix}{run}", tag=tag)
            return [row["step"] if isinstance(row, dict) else row[1] for row in rows]

        server.until(shown, lambda shown: shown == [*steps])

    # While a loader reads the first part of the run, it has these steps too, with other values.
    server.until(
        lambda: [value for *_, value in server.scalars(f"{prefix}run", "loss")],
        lambda values: values == [step if step < 50 else -step for step in range(55)],
    )
    check("run", "loss", range(55))
    check("run", "window", [*range(0, 50, 7), 54])
    check("run", "dropped window", range(0, 50, 7))
    check("run", "eval", [9, 19, 29, 39, 49])
    check("run/val", "eval", [9, 19, 29, 39, 49])
    check("run", "histogram", range(0, 50, 5), "histograms")
    check("run", "late", [], "text")
    for seed in ("seed_0", "seed_1", "mean", "min", "max"):
        check(f"run/{seed}", "seed", range(50))
    check("run/other", "loss", range(100))


def test_other_readers_hide_later_points(resumed):
    """EventAccumulator shows the same points, and no tags but those that were reported."""
    events = EventAccumulator(str(resumed / "run"), size_guidance={"scalars": 0}).Reload()
    tags = events.Tags()
    assert sorted(tags["scalars"]) == ["dropped window", "eval", "loss", "window"]
    assert sorted(tags["tensors"]) == ["histogram", "late"]
    assert [point.step for point in events.Scalars("dropped window")] == [*range(0, 50, 7)]


def test_later_profiles_are_set_aside(resumed):
    """Sessions of profiles that end at step N or later are moved out of the sight of the dashboard, and not deleted."""
    plugins = resumed / "run" / "plugins"
    assert [path.name for path in (plugins / "profile").iterdir()] == []
    replaced = {path.name for path in (plugins / "profile_replaced").iterdir()}
    assert replaced == {"steps_51-59", "steps_81-89"}


def test_a_fault_does_not_undo_the_hiding(tmp_path):
    """If the file with the marks is lost before it is flushed, the next file hides the same points."""
    with jb.Run(tmp_path) as run:
        report(run, "loss", range(10))
        report(run.child("eval"), "loss", range(10))
    sink = TensorBoardSink(tmp_path, start_step=5)
    sink.open()
    for directory in (tmp_path, tmp_path / "eval"):
        max(directory.glob("*.tfevents.*")).unlink()
    with pytest.raises(FileNotFoundError):
        sink.flush()
    sink.flush()
    sink.close()
    assert steps(tmp_path, "loss") == steps(tmp_path / "eval", "loss") == [*range(5)]

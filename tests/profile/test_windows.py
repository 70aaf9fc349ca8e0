"""Repeated windows: every so many steps or seconds, and when steps become slow."""

import itertools

import jax
import jax.numpy as jnp
import pytest
from traces import markers, traces

import jaxboard as jb
from jaxboard._profile.profile_settings import check_settings
from jaxboard._profile.slow_steps import SlowSteps
from jaxboard._profile.window_schedule import WindowSchedule

pytestmark = pytest.mark.filterwarnings("ignore:.*no run is open")


@jb.instrument
@jax.jit
def train_step(x):
    return x + 1


def train(steps):
    x = jnp.ones(2)
    for _ in steps:
        x = train_step(x)


def schedule(**options):
    """Return the schedule of a profile with these options."""
    defaults = {
        "steps": None,
        "logdir": None,
        "name": None,
        "host_level": 2,
        "python": False,
        "hlo": True,
        "sync": "auto",
        "max_seconds": 60.0,
        "on_error": "warn",
        "processes": None,
        "every": None,
        "every_secs": None,
        "slow": None,
        "advanced": None,
        "nsys": False,
    }
    return WindowSchedule(check_settings(**{**defaults, **options}))


def windows(scheduled, steps, seconds=None):
    """Return the windows that begin in a run, each from the step at which it begins.

    Args:
        scheduled: the schedule.
        steps: the steps of the run.
        seconds: the time of each step.
    """
    found, now, end = [], 0.0, -1
    for step, duration in zip(steps, seconds or itertools.repeat(1.0), strict=False):
        if step >= end:
            if end >= 0:
                scheduled.end_window()
                end = -1
            window = scheduled.due(step, now)
            if window is not None:
                found.append((step, window))
                end = window.stop
        now += duration
    return found


def test_every_n_steps(tmp_path):
    """every= records a window of the same length every so many steps, each in its own session."""
    with jb.profile((1, 3), tmp_path, every=4) as profiler:
        train(range(12))
    sessions = [path.split("/")[2] for path in traces(tmp_path)]
    assert sessions == ["steps_1-2", "steps_5-6", "steps_9-10"]
    assert profiler.captured == (1, 2, 5, 6, 9, 10)
    assert [markers(path) for path in profiler.paths] == [[1, 2], [5, 6], [9, 10]]
    assert profiler.path == profiler.paths[-1]


def test_every_so_many_seconds(tmp_path):
    """every_secs= records the next window at the first step after that time."""
    with jb.profile((2, 3), tmp_path, every_secs=1e-9) as profiler:
        train(range(6))
    assert profiler.captured == (2, 3, 4, 5)
    assert [markers(path) for path in profiler.paths] == [[2], [3], [4], [5]]


def test_the_default_window():
    """The first window is steps 10 to 14 by default; with every=, windows of a resumed run are at the same steps."""
    assert windows(schedule(every=100), range(250)) == [
        (10, range(10, 15)),
        (110, range(110, 115)),
        (210, range(210, 215)),
    ]
    assert windows(schedule(every=100), range(112, 330)) == [
        (112, range(110, 115)),
        (210, range(210, 215)),
        (310, range(310, 315)),
    ]


def test_a_resumed_run():
    """With every_secs= or slow=, a run that resumes after the first window has one as many steps later."""
    found = windows(schedule(every_secs=60), range(1000, 1100))
    assert found == [(1010, range(1010, 1015)), (1070, range(1070, 1075))]


def test_the_clock():
    """every_secs= counts from the start of a window."""
    found = windows(schedule(steps=(0, 2), every_secs=10), range(30))
    assert [step for step, _ in found] == [0, 10, 20]


def slow_at(seconds, factor=1.5):
    """Return the steps at which the steps have become slow."""
    detector, now, found = SlowSteps(factor), 0.0, []
    for step, duration in enumerate(seconds):
        if detector.begin(now):
            found.append(step)
        now += duration
    return found


def test_slow_steps():
    """Three slow steps in a row that take a tenth of a second are a slowdown."""
    assert slow_at([0.02] * 100 + [0.031] * 9) == [104, 105, 106, 107, 108]
    assert slow_at([1.0] * 100 + [1.6] * 3 + [1.0] * 10) == [103]
    assert slow_at([1.0] * 100 + [1.6] * 5) == [103, 104]


@pytest.mark.parametrize(
    "seconds",
    [
        [1.0] * 100 + [100.0, 100.0, 1.0] * 20,  # a checkpoint, an evaluation
        [1.0] * 100 + [1.4] * 100,
        [0.001] * 32 + [1.0] * 200,  # JAX dispatches the first steps without waiting for any
        [60.0] + [1.0] * 200,  # compilation
        [0.02] * 100 + ([0.031] * 3 + [0.02]) * 20,  # noise
        [1.0] * 60 + [9.0] * 3,  # too few steps to know
    ],
)
def test_steps_that_are_not_slow(seconds):
    """Single slow steps, the first steps, and steps within the factor are not a slowdown."""
    assert slow_at(seconds) == []


def test_a_window_of_slow_steps():
    """slow= records a reference, then one window for each slowdown, at most ten."""
    fast, slow = [1.0] * 100, [2.0] * 100
    found = windows(schedule(slow=1.5), range(1000), fast + slow + fast + slow + fast)
    assert [step for step, _ in found] == [10, 103, 303]
    found = windows(schedule(slow=1.5), range(10**4), (fast + slow) * 40)
    assert len(found) == 11


def test_no_window_is_reached(tmp_path, caplog):
    """A repeated profile without any window warns with the first one."""
    with jb.profile(logdir=tmp_path, every=100) as profiler:
        train(range(5))
    assert profiler.paths == ()
    assert "steps 10-14 were not reached; the steps taken were 0-4." in caplog.text


def test_a_window_that_fails(tmp_path, caplog):
    """A window during another trace is skipped, and the next one is recorded."""
    with jb.profile((1, 3), tmp_path / "ours", every=4) as profiler:
        with jax.profiler.trace(str(tmp_path / "theirs")):
            train(range(4))
        train(range(4))
    assert [markers(path) for path in profiler.paths] == [[5, 6]]
    assert "another trace is being recorded" in caplog.text


def test_the_fault_of_a_window_is_raised(tmp_path):
    """With on_error="raise", the fault of any window raises when the block ends."""
    profiler = jb.profile((1, 3), tmp_path / "ours", every=4, on_error="raise")
    profiler.__enter__()
    with jax.profiler.trace(str(tmp_path / "theirs")):
        train(range(4))
    train(range(4))
    with pytest.raises(jb.ProfileError, match="another trace"):
        profiler.__exit__(None, None, None)
    assert len(profiler.paths) == 1

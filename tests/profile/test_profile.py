"""A profile contains the requested steps, all of their work, and nothing else."""

import dataclasses
import functools
import itertools
import logging
import os
import pathlib
import threading
import types
from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from traces import events, markers, modules, traces

import jaxboard as jb
from jaxboard import _compat
from jaxboard._host import observers
from jaxboard.sinks import MemorySink

pytestmark = pytest.mark.filterwarnings("ignore:.*no run is open")


@jb.instrument
@functools.partial(jax.jit, donate_argnums=0)
def train_step(x):
    jb.scalar("mean", x.mean())
    return jnp.tanh(x @ x)


@jb.instrument(advance=False)
@jax.jit
def evaluate(x):
    return x.sum()


@jax.jit
def before(x):
    """Compute for about 50 ms."""
    return jax.lax.fori_loop(0, 200, lambda _, x: jnp.sin(x @ x), x)


def train(steps, x=None):
    x = jnp.ones((32, 32)) if x is None else x
    for _ in steps:
        x = train_step(x)
    return x


def run(logdir, **options):
    return jb.Run(logdir, sinks=[MemorySink()], **options)


def warnings(caplog):
    return [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]


@pytest.fixture(autouse=True)
def nothing_is_left():
    """Check that no test leaves a trace open or a profile that still observes steps."""
    yield
    assert not _compat.trace_is_on()
    assert not [o for o in observers.registry.of_every_call if "_profile" in type(o).__module__]


@pytest.fixture(scope="module")
def profiled(tmp_path_factory):
    """Return a run of 30 steps with a profile of steps 10 to 19, with work before it and evaluations between."""
    logdir = tmp_path_factory.mktemp("profiled") / "run"
    x, big = jnp.ones((32, 32)), jnp.ones((200, 200))
    before(big)  # compiles
    train_step.lower(x).compile()
    with run(logdir) as opened, jb.profile(steps=range(10, 20)) as profiler:
        for step in range(30):
            if step == 10:
                before(big)
            x = train_step(x)
            evaluate(x)
    return types.SimpleNamespace(logdir=logdir, run=opened, profiler=profiler, last=x)


def test_the_trace_is_in_the_directory_of_the_run(profiled):
    """The trace is the only file of its session, under the run's directory."""
    (path,) = traces(profiled.logdir)
    assert path.startswith("plugins/profile/steps_10-19/")
    assert profiled.profiler.path == str(profiled.logdir / path)
    assert os.listdir(os.path.dirname(profiled.profiler.path)) == [os.path.basename(path)]


def test_each_step_has_a_marker(profiled):
    """Each of the ten steps has one marker."""
    assert markers(profiled.profiler.path) == list(range(10, 20))
    assert profiled.profiler.captured == tuple(range(10, 20))


def test_the_trace_has_the_work_of_its_steps_only(profiled):
    """The trace has ten steps, the nine evaluations between them, and no earlier work."""
    counts = modules(profiled.profiler.path)
    assert counts["jit_before"] == 0
    assert counts["jit_train_step"] % 10 == 0 < counts["jit_train_step"]
    assert counts["jit_evaluate"] % 9 == 0 < counts["jit_evaluate"]


def test_python_functions_are_not_recorded(profiled):
    """By default no Python function is recorded."""
    assert not [name for _, name, _ in events(profiled.profiler.path) if ".py" in name]


def test_results_do_not_change(profiled):
    """The results of a profiled loop are bit-identical to those without a profile."""
    x = jnp.ones((32, 32))
    bare = jax.jit(lambda x: jnp.tanh(x @ x))
    for _ in range(30):
        x = bare(x)
    np.testing.assert_array_equal(profiled.last, x)


@pytest.mark.parametrize(
    ("first", "captured"), [(14, range(14, 20)), (19, range(19, 20)), (3, range(10, 20))]
)
def test_a_late_resume(tmp_path, first, captured):
    """Recording starts at the first step inside the range, wherever training resumes."""
    with run(tmp_path, step=first), jb.profile("10..20") as profiler:
        train(range(first, 25))
    assert profiler.captured == tuple(captured)
    assert markers(profiler.path) == list(captured)


@pytest.mark.parametrize(
    ("first", "count", "seen"),
    [(20, 5, "the steps taken were 20-24"), (0, 10, "the steps taken were 0-9"), (0, 0, "no step")],
)
def test_a_range_that_is_never_reached(tmp_path, caplog, first, count, seen):
    """A warning has the range and the steps that were taken."""
    with run(tmp_path, step=first), jb.profile(range(10, 20)) as profiler:
        train(range(count))
    assert profiler.path is None
    (message,) = warnings(caplog)
    assert "steps 10-19 were not reached" in message
    assert seen in message
    assert traces(tmp_path) == []


def test_a_jump_over_the_end(tmp_path):
    """A step beyond the range ends the recording."""
    with run(tmp_path) as opened, jb.profile(range(2, 10)) as profiler:
        x = train(range(4))
        opened.step = 50
        train(range(3), x)
    assert profiler.captured == (2, 3)
    assert markers(profiler.path) == [2, 3]


def test_the_block_ends_within_the_range(tmp_path):
    """A block that ends early saves the steps recorded so far."""
    with jb.profile((2, 10), tmp_path) as profiler:
        train(range(5))
    assert profiler.captured == (2, 3, 4)
    assert markers(profiler.path) == [2, 3, 4]


def test_the_whole_block(tmp_path):
    """Without a range, every step of the block is recorded."""
    with jb.profile(logdir=tmp_path) as profiler:
        train(range(3))
    assert traces(tmp_path)[0].startswith("plugins/profile/steps_0-2/")
    assert markers(profiler.path) == [0, 1, 2]


def test_without_a_run(tmp_path):
    """Without a run, calls count from 0, and evaluations do not count."""
    x = jnp.ones((32, 32))
    with jb.profile((1, 3), tmp_path) as profiler:
        for _ in range(5):
            x = train_step(x)
            evaluate(x)
    assert markers(profiler.path) == [1, 2]
    steps = Counter(
        name
        for _, name, stats in events(profiler.path)
        if stats.get("hlo_module") == "jit_train_step"
    )
    assert {*steps.values()} == {2}


def test_a_loop_without_an_instrumented_function(tmp_path):
    """A `profiler.step` block is a step, and its discarded results are waited for."""
    f = jax.jit(lambda x: jnp.sin(x @ x))
    f(jnp.ones((8, 8)))
    with jb.JAXProfiler(range(3, 5), tmp_path, sync=False) as profiler:
        for i in range(8):
            with profiler.step(i):
                f(jnp.ones((8, 8)))
    assert markers(profiler.path) == [3, 4]
    assert modules(profiler.path)["jit__lambda"] % 2 == 0 < modules(profiler.path)["jit__lambda"]


def test_explicit_steps_replace_calls(tmp_path):
    """After the first explicit step, instrumented calls are not steps."""
    x = jnp.ones((32, 32))
    with jb.profile(range(1, 3), tmp_path) as profiler:
        for i in range(4):
            with profiler.step(i):
                x = train_step(train_step(x))
            x = train_step(x)
    assert markers(profiler.path) == [1, 2]


def test_an_instrumented_function_within_another(tmp_path):
    """With nested instrumented calls, only the outer call is a step."""

    @jb.instrument
    def outer(x):
        return train_step(x)

    x = jnp.ones((32, 32))
    with jb.profile((0, 2), tmp_path) as profiler:
        for _ in range(3):
            x = outer(x)
    assert markers(profiler.path) == [0, 1]
    assert profiler.captured == (0, 1)


def test_steps_of_other_threads(tmp_path):
    """Steps on any thread are recorded."""
    with jb.profile((0, 4), tmp_path) as profiler:
        for _ in range(2):
            thread = threading.Thread(target=train, args=(range(2),))
            thread.start()
            thread.join()
    assert markers(profiler.path) == [0, 1, 2, 3]


def test_asynchronous_steps(tmp_path):
    """The trace has the work of the last step even if steps do not wait for results."""
    big = jnp.ones((200, 200))
    step = jb.instrument(before, name="slow")
    step(big)
    with jb.profile((0, 3), tmp_path, sync=False) as profiler:
        for _ in range(3):
            step(big)
    assert _operations(profiler.path, "jit_before", "while") == 3


def test_steps_are_as_long_as_their_work(tmp_path):
    """By default, steps on a CPU wait for their results: every operation is within a marker."""
    big = jnp.ones((200, 200))
    step = jb.instrument(before, name="slow")
    step(big)
    with jb.profile((0, 3), tmp_path) as profiler:
        for _ in range(3):
            step(big)
    spans, work = [], []
    for plane in jax.profiler.ProfileData.from_file(profiler.path).planes:
        for event in itertools.chain.from_iterable(line.events for line in plane.lines):
            span = (event.start_ns, event.start_ns + event.duration_ns)
            if event.name == "train":
                spans.append(span)
            elif dict(event.stats).get("hlo_module") == "jit_before":
                work.append(span)
    assert work
    assert all(any(a <= start and end <= b for a, b in spans) for start, end in work)


def _operations(path, module, prefix):
    return sum(
        name.startswith(prefix) and stats.get("hlo_module") == module
        for _, name, stats in events(path)
    )


def test_python_functions(tmp_path):
    """Python functions are recorded with python=True."""
    with jb.profile((0, 1), tmp_path, python=True) as profiler:
        train(range(1))
    assert [name for _, name, _ in events(profiler.path) if ".py" in name]


def test_under_a_transfer_guard(tmp_path):
    """A transfer guard does not keep a profile from waiting for all work."""
    big = jnp.ones((200, 200))
    before(big)
    with (
        jax.transfer_guard("disallow_explicit"),
        jb.profile((0, 2), tmp_path, sync=False) as profiler,
    ):
        for i in range(2):
            with profiler.step(i):
                before(big)
    assert _operations(profiler.path, "jit_before", "while") == 2


# The place of the trace.


def test_names_that_exist(tmp_path):
    """Repeated profiles of the same range do not overwrite each other."""
    paths = []
    for _ in range(3):
        with jb.profile((0, 1), tmp_path) as profiler:
            train(range(1))
        paths.append(pathlib.Path(str(profiler.path)).parent.name)
    assert paths == ["steps_0", "steps_0_1", "steps_0_2"]
    assert len(traces(tmp_path)) == 3


def test_an_explicit_name(tmp_path):
    """name= names the session."""
    with jb.profile((0, 1), tmp_path, name="warm up"):
        train(range(1))
    assert traces(tmp_path)[0].startswith("plugins/profile/warm up/")


def test_home_and_relative_paths(tmp_path, monkeypatch):
    """``~`` is expanded, and a relative path refers to the directory at construction."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert jb.profile(logdir="~/logs")._settings.logdir == str(tmp_path / "home" / "logs")
    monkeypatch.chdir(tmp_path)
    with jb.profile((0, 1), "here"):
        os.mkdir("there")
        monkeypatch.chdir("there")
        train(range(1))
    assert len(traces(tmp_path / "here")) == 1


def test_a_url(tmp_path):
    """The log directory may be a URL that TensorFlow can write to."""
    pytest.importorskip("tensorflow")
    paths = []
    for _ in range(2):
        with jb.profile((0, 1), f"file://{tmp_path}/logs") as profiler:
            train(range(1))
        paths.append(profiler.path)
    assert traces(tmp_path / "logs") == [
        path.removeprefix(f"file://{tmp_path}/logs/") for path in paths
    ]
    assert [path.split("/")[-2] for path in paths] == ["steps_0", "steps_0_1"]


def test_a_run_that_is_opened_in_the_block(tmp_path):
    """The trace goes to the run that is active when recording begins."""
    with jb.profile((0, 1)), run(tmp_path):
        train(range(1))
    assert len(traces(tmp_path)) == 1


# The callback for trainers.


class Trainer:
    """A trainer that passes its step like artifex's: before the increment to begin, after it to end."""

    def __init__(self, callback):
        self.callback, self.step = callback, 0

    def fit(self, steps):
        assert not self.callback.should_stop
        self.callback.on_train_begin(self)
        self.callback.on_epoch_begin(self, 0)
        x = jnp.ones((32, 32))
        for _ in range(steps):
            self.callback.on_batch_begin(self, self.step)
            x = train_step(x)
            self.step += 1
            self.callback.on_batch_end(self, self.step, {"loss": x.mean()})
        self.callback.on_validation_begin(self)
        self.callback.on_validation_end(self, {})
        self.callback.on_epoch_end(self, 0, {})
        self.callback.on_train_end(self)


@dataclasses.dataclass(slots=True)
class Config:
    """A copy of artifex's configuration."""

    log_dir: str
    start_step: int
    end_step: int
    trace_memory: bool = True
    trace_python: bool = False


def test_as_a_callback(tmp_path):
    """A configuration with (10, 20) records steps 10 to 19 into its directory."""
    profiler = jb.JAXProfiler(Config(str(tmp_path), 10, 20))
    Trainer(profiler).fit(25)
    assert markers(profiler.path) == list(range(10, 20))
    assert len(traces(tmp_path)) == 1


def test_a_callback_that_traces_python(tmp_path):
    """The configuration can enable tracing of Python functions."""
    profiler = jb.JAXProfiler(Config(str(tmp_path), 0, 1, trace_python=True))
    Trainer(profiler).fit(1)
    assert [name for _, name, _ in events(profiler.path) if ".py" in name]


def test_a_reused_callback(tmp_path):
    """Each training has its own capture, also if it ends within the range."""
    profiler = jb.JAXProfiler(Config(str(tmp_path), 1, 20))
    Trainer(profiler).fit(3)
    Trainer(profiler).fit(4)
    assert profiler.captured == (1, 2, 3)
    assert len(traces(tmp_path)) == 2


def test_a_profiler_opened_twice(tmp_path):
    """Opening a profiler again ends the first profile."""
    profiler = jb.profile((0, 5), tmp_path)
    with profiler:
        x = train(range(2))
        with profiler:
            x = train(range(3), x)
        train(range(2), x)
    assert sorted(len(markers(str(tmp_path / path))) for path in traces(tmp_path)) == [2, 3]


def test_a_callback_without_on_train_begin(tmp_path):
    """A trainer that never calls on_train_begin is profiled too."""
    profiler = jb.JAXProfiler(Config(str(tmp_path), 1, 2))
    for i in range(3):
        profiler.on_batch_begin(None, i)
        train(range(1))
        profiler.on_batch_end(None, i + 1, {})
    profiler.on_train_end(None)
    assert markers(profiler.path) == [1]

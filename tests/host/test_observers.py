"""Observers are notified of every call of an instrumented function, and cannot stop one."""

# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxboard as jb
from jaxboard._host import observers
from jaxboard._telemetry.compilations import CompilationListener
from jaxboard.testing import capture


class Recorder:
    def __init__(self, name="", fails_in=None):
        self.name = name
        self.fails_in = fails_in
        self.lines = []

    def begin(self, call):
        self.lines.append(("begin", call.name, call.step, call.advance, call.args, call.kwargs))
        if self.fails_in == "begin":
            raise ValueError("boom")

    def end(self, call, result):
        self.lines.append(("end", call.name, call.step, result))


@pytest.fixture
def recorder():
    recorder = Recorder()
    observers.add(recorder)
    yield recorder
    observers.remove(recorder)


@pytest.mark.parametrize("wrap", [jax.jit, lambda f: f], ids=["jit", "plain"])
def test_calls_are_observed(recorder, wrap):
    """An observer gets the name, step, arguments and result of a call."""

    @jb.instrument
    @wrap
    def double(x, *, plus=0):
        jb.scalar("x", x)
        return 2 * x + plus

    @jb.instrument(advance=False, name="evaluation")
    @wrap
    def evaluate(x):
        return x

    with capture(step=4):
        double(3.0, plus=1)
        evaluate(5.0)
    assert recorder.lines == [
        ("begin", "double", 4, True, (3.0,), {"plus": 1}),
        ("end", "double", 4, 7.0),
        ("begin", "evaluation", 4, False, (5.0,), {}),
        ("end", "evaluation", 4, 5.0),
    ]


@pytest.mark.filterwarnings("ignore:.*no run is open")
def test_calls_without_a_run_are_observed(recorder):
    """Without an active run a call has no step."""
    jb.instrument(jax.jit(lambda x: x), name="f")(1.0)
    assert recorder.lines == [("begin", "f", None, True, (1.0,), {}), ("end", "f", None, 1.0)]


def test_traced_calls_are_not_observed(recorder):
    """A call that JAX traces is not observed: it runs later, as part of another program."""
    inner = jb.instrument(jax.jit(lambda x: x + 1))
    with capture():
        assert jax.jit(inner)(jnp.float32(1)) == 2
    assert recorder.lines == []


def test_a_call_that_raises_ends(recorder):
    """A call that raises ends without a result."""

    @jb.instrument
    def broken():
        raise KeyError("k")

    with capture(), pytest.raises(KeyError):
        broken()
    assert [line[0] for line in recorder.lines] == ["begin", "end"]
    assert recorder.lines[1][-1] is None


def test_a_failing_observer_is_removed(recorder, caplog):
    """An observer that raises is logged and removed; the call and other observers continue."""
    failing = Recorder(fails_in="begin")
    observers.add(failing)
    f = jb.instrument(jax.jit(lambda x: x + 1), name="f")
    with capture():
        assert [float(f(1.0)), float(f(2.0))] == [2.0, 3.0]
    assert len(failing.lines) == 2  # it saw the end of the call in which it failed
    assert [line[0] for line in recorder.lines] == ["begin", "end"] * 2
    (message,) = [record.getMessage() for record in caplog.records]
    assert "Recorder failed and is disabled: ValueError: boom. Training continues." in message


def test_a_call_carries_its_own_program():
    """Each call names the program that it ran, also if another thread makes a call before it ends."""

    @jb.instrument
    @jax.jit
    def step(x):
        jb.scalar("x", x, every=2, reduce="last")
        return x

    first_ran, second_ended = threading.Event(), threading.Event()
    programs = {}

    class Slow:
        def begin(self, call):
            pass

        def end(self, call, result):
            if call.step == 0:
                first_ran.set()
                assert second_ended.wait(60)
            programs[call.step] = call.program

    slow = Slow()
    observers.add(slow)
    try:
        with capture():
            thread = threading.Thread(target=step, args=(1.0,))
            thread.start()
            assert first_ran.wait(60)
            step(2.0)
            second_ended.set()
            thread.join()
    finally:
        observers.remove(slow)
    due, not_due = step._programs.plain(frozenset()), step._programs.plain(frozenset({2}))
    assert programs == {0: due, 1: not_due}


@pytest.fixture
def compilations():
    """Return what an observer of compilations sees: the name, step and program of each call."""

    class Compilations:
        def __init__(self):
            self.calls = []

        def begin(self, call):
            raise AssertionError

        def end(self, call, result):
            self.calls.append((call.name, call.step, call.program is not None, result))

    observer = Compilations()
    listener = CompilationListener()  # counts compilations
    listener.start()
    observers.add(observer, every_call=False)
    yield observer.calls
    observers.remove(observer)
    listener.stop()


def test_observers_of_compilations(compilations):
    """They are notified of the first call in each run and of calls that compile, and of no other calls."""
    step = jb.instrument(jax.jit(lambda x: x + 1), name="f")
    plain = jb.instrument(lambda x: x, name="plain")
    with capture():
        for x in (1.0, 2.0, 3.0, 4.0):
            step(x)
            plain(x)
        first = [call[:3] for call in compilations]
        compilations.clear()
        step(np.ones(2))
        seen = [call[:3] for call in compilations]
        compilations.clear()
        for x in (1.0, 2.0, 3.0):
            step(x)
        settled = [call[1] for call in compilations]
    # The calls after one that compiled are seen too: another thread may have compiled since.
    assert first == [("f", 0, True), ("plain", 1, False), ("f", 2, True)]
    assert seen == [("f", 8, True)]
    assert settled == [9]
    compilations.clear()
    with capture():
        step(1.0)
        step(2.0)
    assert compilations == [("f", 0, True, 2.0)]


def test_a_compilation_on_another_thread(compilations):
    """A call that compiles is seen, also if calls on another thread end meanwhile."""
    step = jb.instrument(jax.jit(lambda x: x + 1), name="f")
    with capture():
        for x in (1.0, 2.0, 3.0):
            step(x)
        compilations.clear()
        thread = threading.Thread(target=step, args=(np.ones(3),))
        thread.start()
        thread.join()
        step(1.0)
        step(1.0)
    assert [call[1] for call in compilations] == [3, 4]


@pytest.mark.parametrize("options", [{"delivery": "callback"}, {"stream": 2}], ids=str)
def test_calls_without_a_hidden_output_carry_no_program(options):
    """The program of a call is only set if its frame is a hidden output."""
    calls = []

    class Keep:
        def begin(self, call):
            pass

        def end(self, call, result):
            calls.append(call)

    keep = Keep()
    observers.add(keep)
    try:
        with capture():
            jb.instrument(jax.jit(lambda xs: jax.lax.map(double, xs)), **options)(jnp.ones(4))
            jax.effects_barrier()
    finally:
        observers.remove(keep)
    (call,) = calls
    assert (call.program, call.leading, call.dispatch_seconds) == (None, (), 0.0)


def double(x):
    jb.scalar("x", x)
    return 2 * x

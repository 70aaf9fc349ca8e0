"""Observers are told of every call of an instrumented function, and cannot stop one."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest

import jaxboard as jb
from jaxboard._host import observers
from jaxboard.testing import capture


class Diary:
    def __init__(self, name="", fails_in=None):
        self.name = name
        self.fails_in = fails_in
        self.lines = []

    def begin(self, call):
        self.lines.append(("begin", call.name, call.step, call.advance, call.args, call.kwargs))
        if self.fails_in == "begin":
            raise ValueError("no ink")

    def end(self, call, result):
        self.lines.append(("end", call.name, call.step, result))


@pytest.fixture
def diary():
    diary = Diary()
    observers.add(diary)
    yield diary
    observers.remove(diary)


@pytest.mark.parametrize("wrap", [jax.jit, lambda f: f], ids=["jit", "plain"])
def test_calls_are_told(diary, wrap):
    """Name, step, arguments and result of a call reach an observer, around the dispatch."""

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
    assert diary.lines == [
        ("begin", "double", 4, True, (3.0,), {"plus": 1}),
        ("end", "double", 4, 7.0),
        ("begin", "evaluation", 4, False, (5.0,), {}),
        ("end", "evaluation", 4, 5.0),
    ]


@pytest.mark.filterwarnings("ignore:.*no run is open")
def test_calls_without_a_run_are_told(diary):
    """With no run open the step is not known."""
    jb.instrument(jax.jit(lambda x: x), name="f")(1.0)
    assert diary.lines == [("begin", "f", None, True, (1.0,), {}), ("end", "f", None, 1.0)]


def test_traced_calls_are_not_told(diary):
    """A call that JAX traces is no call: it happens when the program around it runs."""
    inner = jb.instrument(jax.jit(lambda x: x + 1))
    with capture():
        assert jax.jit(inner)(jnp.float32(1)) == 2
    assert diary.lines == []


def test_a_call_that_raises_ends(diary):
    """What was begun is ended, without a result."""

    @jb.instrument
    def broken():
        raise KeyError("k")

    with capture(), pytest.raises(KeyError):
        broken()
    assert [line[0] for line in diary.lines] == ["begin", "end"]
    assert diary.lines[1][-1] is None


def test_a_broken_observer_is_taken_out(diary, caplog):
    """One that raises is logged once and told no more; the call and other observers go on."""
    broken = Diary(fails_in="begin")
    observers.add(broken)
    f = jb.instrument(jax.jit(lambda x: x + 1), name="f")
    with capture():
        assert [float(f(1.0)), float(f(2.0))] == [2.0, 3.0]
    assert len(broken.lines) == 2  # it saw the end of the call in which it failed
    assert [line[0] for line in diary.lines] == ["begin", "end"] * 2
    (message,) = [record.getMessage() for record in caplog.records]
    assert "Diary failed and is disabled: ValueError: no ink. Training continues." in message

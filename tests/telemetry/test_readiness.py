"""The thread that finds out when the device has finished a call."""

from __future__ import annotations

import threading
import weakref

import jax
import pytest

from jaxboard._telemetry.readiness import ReadinessWatch, array_of

PATIENCE = 30


class Result:
    """A result that is ready when it was asked a number of times. The time is the number of questions."""

    def __init__(self, questions: int, nbytes: int = 4):
        self.nbytes = nbytes
        self.questions = questions
        self.asked = 0
        self.asked_once = threading.Event()
        self.may_go_on = threading.Event()
        self.answered = threading.Event()

    def is_ready(self) -> bool:
        self.asked_once.set()
        assert self.may_go_on.wait(PATIENCE)
        self.asked += 1
        if self.asked >= self.questions:
            self.answered.set()
        return self.asked >= self.questions


@pytest.fixture
def watch():
    watch = ReadinessWatch(lambda: 0.0)
    yield watch
    watch.stop()
    assert not [t for t in threading.enumerate() if t.name == "jaxboard readiness"]


def test_a_call_is_watched_until_it_is_ready(watch):
    """The last time at which a result was not ready and the first at which it was enclose the moment."""
    result = Result(5)
    watch._clock = lambda: 10.0 + result.asked
    call = watch.watch(result, 10.0)
    assert call is not None
    result.may_go_on.set()
    assert result.answered.wait(PATIENCE)
    watch.stop()
    assert (call.busy_until, call.ready_at) == (14.0, 15.0)
    assert call.result() is None


def test_one_call_at_a_time(watch):
    """While a call is watched, others are not. The next call of the loop ends the watch."""
    result = Result(10**9)
    call = watch.watch(result, 0.0)
    assert result.asked_once.wait(PATIENCE)
    assert watch.watch(Result(1), 0.0) is None
    call.is_over = True
    result.may_go_on.set()
    watch.stop()
    assert result.asked == 1
    assert call.ready_at is None
    assert watch.watch(Result(1), 0.0) is None


def test_large_results_are_not_kept_alive(watch):
    """A watch keeps only small results alive, and those only while it lasts."""
    from jaxboard._telemetry.readiness import WatchedCall

    small, large = Result(1), Result(1, nbytes=2**20)
    calls = WatchedCall(small, 0.0), WatchedCall(large, 0.0)
    gone = weakref.ref(small), weakref.ref(large)
    del small, large
    assert gone[0]() is calls[0].result()
    assert gone[1]() is calls[1].result() is None


def test_a_donated_result(watch):
    """An array that was donated meanwhile ends the watch."""
    array = jax.numpy.ones(2)
    array.delete()
    call = watch.watch(array, 0.0)
    watch.stop()
    assert (call.busy_until, call.ready_at) == (0.0, None)


def test_the_array_of_a_result():
    """The last array of a result stands for it: results of training steps end with the loss."""
    a, b = jax.numpy.ones(2), jax.numpy.zeros(3)
    assert array_of((a, {"x": b, "y": 1.0})) is b
    assert array_of([(b, "text"), None, 3, a]) is a
    assert array_of({"x": [], "y": object()}) is None
    assert array_of(None) is None
    node = jax.tree_util.Partial(print, a)
    assert array_of((node, 2.0)) is a

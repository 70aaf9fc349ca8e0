"""The account of a run's time is exact, by a clock that the tests set."""

from __future__ import annotations

import jax
import pytest

from jaxboard._telemetry.device_times import DeviceTimes
from jaxboard._telemetry.ledger import TimeLedger
from jaxboard._telemetry.monitored_spans import Seconds, SpanListener
from jaxboard._telemetry.readiness import WatchedCall, is_ready
from jaxboard._telemetry.time_parts import NAMES, sentence

TRACE = "/jax/core/compile/jaxpr_trace_duration"
XLA = "/jax/core/compile/backend_compile_duration"
SAVE = "/jax/orbax/write/total_duration_secs"


class Result:
    """A result of a call on a device, which is ready at a time of the test's clock."""

    nbytes = 4

    def __init__(self, loop: Loop, ready_at: float):
        self.loop = loop
        self.ready_at = ready_at

    def is_ready(self) -> bool:
        return self.loop.now >= self.ready_at


class Loop:
    """A training loop whose device and clock are those of the test."""

    def __init__(self, watches: bool = True, is_host: bool = False):
        self.now = 100.0
        self.watched: WatchedCall | None = None
        self.watches = watches
        self.is_host = is_host
        self.device_until = 0.0
        self.ledger = TimeLedger(self.now, self._watch)
        self.result: Result | None = None

    def _watch(self, result, began):
        if not self.watches:
            return None
        self.watched = WatchedCall(result, began)
        return self.watched

    def wait(self, seconds: float) -> None:
        """Let time pass between two calls. A watched call is asked every half second."""
        end = self.now + seconds
        while self.watched is not None and self.now + 0.5 <= end:
            self.now += 0.5
            ready = is_ready(self.watched.result())
            if ready:
                self.watched.ready_at, self.watched = self.now, None
            else:
                self.watched.busy_until = self.now
        self.now = end

    def call(
        self, dispatch: float, device: float, *, own=0.0, evaluation=False, before=None, within=None
    ) -> None:
        """Call a function that returns after ``dispatch + own`` seconds, and computes for ``device`` after that."""
        self.watched = None
        self.ledger.begin(self.now, before, is_evaluation=evaluation)
        self.now += dispatch + own
        self.device_until = max(self.device_until, self.now) + device
        self.result = Result(self, self.device_until)
        self.ledger.end(
            self.now,
            within,
            name="f",
            result=self.result,
            dispatch=dispatch,
            is_host=self.is_host,
        )

    def spent(self) -> dict[str, float]:
        """Return the parts with any time, after a check of their sum."""
        assert sum(self.ledger.seconds.values()) == self.ledger.until - 100.0
        assert tuple(self.ledger.seconds) == NAMES
        return {name: seconds for name, seconds in self.ledger.seconds.items() if seconds}


def test_a_device_that_is_always_busy():
    """While the device computes, the loop costs nothing: loading, dispatching, compiling, writing."""
    loop = Loop()
    loop.now += 8
    for _ in range(4):
        loop.call(1, 16, own=1)
        loop.wait(2)
    loop.call(1, 16, before=Seconds({"xla": 1.0}, 0.5))
    assert loop.spent() == {"outside": 8, "dispatch": 1, "jaxboard": 1, "device": 3 * 4 + 2 + 1}


def test_a_loader_that_is_slow():
    """The device computes for the first part of the time between two calls, and waits for the rest."""
    loop = Loop()
    for _ in range(5):
        loop.call(0.25, 2)
        loop.wait(8)
    loop.call(0.25, 2)
    assert loop.spent() == {"dispatch": 6 * 0.25, "device": 5 * 1.75, "input": 5 * 6.25}
    assert loop.ledger.longest_wait == 6.25


def test_calls_that_are_not_watched():
    """A call that is not watched has the mean device time of those that were, at most the time that it had."""
    loop = Loop()
    loop.call(1, 2)
    loop.wait(8)
    loop.watches = False
    loop.call(1, 2)
    loop.wait(8)
    loop.call(1, 1)
    loop.wait(1)
    loop.call(1, 1)
    assert loop.spent() == {"dispatch": 4, "device": 1.75 + 1.75 + 1, "input": 6.25 + 6.25}


def test_a_device_of_unknown_speed():
    """As long as no call was watched, the time in which the device finished is not blamed on the loop."""
    loop = Loop(watches=False)
    loop.call(1, 2)
    loop.wait(8)
    loop.call(1, 2)
    assert loop.spent() == {"dispatch": 2, "device": 8}


def test_a_host_that_is_the_device():
    """If a processor has computed the result when the call returns, the call is device time, and the rest is not."""
    loop = Loop(is_host=True)
    loop.call(4, 0, own=0.5)
    loop.wait(2)
    loop.call(4, 0)
    assert loop.spent() == {"device": 8, "jaxboard": 0.5, "input": 2}


def test_pauses():
    """A wait that is ten times as long as usual is a pause, except for its usual part."""
    loop = Loop()
    for step in range(40):
        loop.call(0.5, 0)
        loop.wait({7: 64, 20: 4.5, 30: 5}.get(step, 0.5))
    loop.call(0.5, 0)
    assert loop.spent() == {"dispatch": 20.5, "input": 64 + 4.5 + 38 * 0.5, "pause": 4.5}


def test_evaluation():
    """Calls without a step are evaluation, with the waiting before each and the device after it."""
    loop = Loop()
    loop.call(1, 0)
    loop.wait(2)
    loop.call(1, 0, evaluation=True)
    loop.wait(4)
    loop.call(1, 8, evaluation=True)
    loop.wait(3)
    loop.call(1, 0)
    loop.wait(16)
    loop.call(1, 0)
    # The training step waits for the evaluation on the device, which is not distinguished.
    evaluation = 2 + 1 + 4 + 1 + 3 + 1
    assert loop.spent() == {"dispatch": 2, "evaluation": evaluation, "device": 3.75, "input": 12.25}


def test_spans():
    """Compilations and checkpoints are separate from the call or the pause in which they happen."""
    loop = Loop()
    loop.now += 4
    loop.call(
        16, 0, own=3, within=Seconds({"trace": 2.0, "xla": 8.0}, 0.0), before=Seconds({}, 1.0)
    )
    loop.wait(8)
    loop.call(1, 0, before=Seconds({"lowering": 0.5}, 4.0))
    loop.now += 2
    loop.ledger.finish(loop.now, Seconds({}, 0.5))
    assert loop.spent() == {
        "outside": 3 + 1.5,
        "checkpoint": 1 + 4 + 0.5,
        "compile": 10.5,
        "dispatch": 16 + 3 - 10 + 1,
        "input": 8 - 4.5,
    }
    assert loop.ledger.compile_seconds == {"trace": 2, "lowering": 0.5, "xla": 8}


def test_the_end_of_a_run():
    """After the last call, the device may go on; the rest is not that of a step."""
    loop = Loop()
    loop.call(1, 4)
    loop.now += 3
    loop.ledger.finish(loop.now, None)
    loop.now += 5
    loop.ledger.finish(loop.now, None)
    assert loop.spent() == {"dispatch": 1, "device": 3, "outside": 5}


def test_a_result_that_is_gone():
    """A result that has been freed has the usual device time of its function."""
    loop = Loop()
    loop.call(1, 2)
    loop.wait(8)
    loop.watches = False
    loop.call(1, 2)
    loop.result = None
    loop.wait(8)
    loop.call(1, 2)
    assert loop.spent() == {"dispatch": 3, "device": 1.75 * 2, "input": 6.25 * 2}


@pytest.fixture
def spans():
    """Yield a clock, a listener, and a function that reports a span that ends now."""

    class Clock:
        now = 100.0

        def __call__(self):
            return self.now

    clock = Clock()
    listener = SpanListener(clock)
    listener.start()
    listener.take(100.0)

    def report(event: str, seconds: float, after: float = 0.0) -> None:
        clock.now += after
        jax.monitoring.record_event_duration_secs(event, seconds)

    yield clock, listener, report
    listener.stop()


def test_nested_spans(spans):
    """Each second counts once, for the innermost span. Events are those of jax.monitoring."""
    clock, listener, report = spans
    report(TRACE, 1, after=2)  # 101 to 102
    report(TRACE, 2, after=2)  # 102 to 104, next to it
    report(XLA, 0.5, after=1)  # 104.5 to 105
    report(TRACE, 7, after=3)  # 101 to 108, around all of them
    report(SAVE, 2, after=4)  # 110 to 112
    report(SAVE, 2)
    assert listener.take(clock.now) == Seconds({"trace": 6.5, "xla": 0.5}, 2.0)
    assert listener.take(clock.now) is None


def test_durations_that_are_not_spans(spans):
    """The time between two saves, and a duration that began before the last call, are not spans of this thread."""
    clock, listener, report = spans
    report("/jax/orbax/checkpoint_manager/time_between_consecutive_saves_secs", 3, after=4)
    report("/jax/checkpoint/write/duration_since_last_checkpoint_secs", 3)
    report("/jax/checkpoint/write/preempt/duration_saved_secs", 3)
    report("/jax/orbax/write/total_duration_secs", 4.5)
    report("/jax/compilation_cache/cache_retrieval_time_sec", 1)
    assert listener.take(clock.now) is None
    report("/jax/orbax/write/total_duration_secs", 2.001, after=2)  # measured by another clock
    assert listener.take(clock.now) == Seconds({}, 2.0)


def test_sentence():
    """The largest loss leads, if it is large; small parts are summed up."""
    assert sentence({"device": 96.0, "input": 3.0, "compile": 0.6, "jaxboard": 0.4}) == (
        "96 % of the time computes training steps, 3 % waits for input, 1 % is spent otherwise."
    )
    assert sentence({"device": 10.0, "stopped": 30.0, "redone": 60.0}).startswith(
        "60 % of the time is lost to steps that were trained again after a restart, 10 % computes"
    )
    assert sentence({"device": 5.0}) == "100 % of the time computes training steps."
    assert sentence({}) == "No time has passed."


def test_bounds_of_device_times():
    """A usual device time is within the bounds of all watched calls, if they overlap; else it is their median."""
    times = DeviceTimes()
    assert times.estimate("f", gap=9.0) == 9
    assert times.note("f", 2.0, 2.2, gap=20.0) == pytest.approx(2.1)
    assert times.note("f", 0.0, 8.0, gap=30.0) == pytest.approx(2.1)
    assert times.estimate("f", gap=9.0) == pytest.approx(2.1)
    assert times.note("f", 4.0, 8.0, gap=40.0) == 4
    assert times.estimate("f", gap=9.0) == 4
    assert times.estimate("f", gap=3.0) == 3
    assert not times.is_known("f")
    for _ in range(8):
        times.note("f", 5.0, 5.5, gap=20.0)
    assert times.is_known("f")
    assert times.estimate("f", gap=9.0) == 5.25
    assert times.estimate("g", gap=9.0) == 9


def test_device_times_that_vary():
    """If the waits are more alike than the device times, the device has the rest of the time between two calls."""
    times = DeviceTimes()
    for device in (1.0, 4.0, 9.0, 2.0):
        times.note("f", device, device, gap=device + 0.5)
    assert times.estimate("f", gap=6.5) == 6
    assert times.estimate("f", gap=0.25) == 0
    assert times.estimate("f", gap=1000.0) == 18
    times.note("f", 1.0, 1.0, gap=1.75)
    assert times.estimate("f", gap=6.5) == 6

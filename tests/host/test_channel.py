"""The channel: which step a call belongs to, and which run is active."""

import itertools
import threading

import pytest
from by_hand import DEADLINE, Started, record

from jaxboard._host.active_channel import activate, active, deactivate
from jaxboard._host.buffer import Buffer
from jaxboard._host.channel import Channel


def channel(step=0):
    return Channel(Buffer(100, 2**30), step)


def test_steps_of_calls():
    """A call that advances takes the next step; another call belongs to the last step taken."""
    one = channel()
    assert [one.begin(advance) for advance in (True, True, False, True, False, False)] == [
        0,
        1,
        1,
        2,
        2,
        2,
    ]
    assert (one.step, one.current) == (3, 2)


def test_before_the_first_step():
    """Before any step is taken, reports belong to the first step."""
    one = channel(5)
    assert (one.step, one.current, one.begin(advance=False)) == (5, 5, 5)
    assert one.begin(advance=True) == 5


def test_setting_the_step():
    """After the step is set, reports belong to it until the next call takes it."""
    one = channel()
    one.begin(advance=True)
    one.step = 100
    assert (one.step, one.current, one.begin(advance=False)) == (100, 100, 100)
    assert one.begin(advance=True) == 100
    assert (one.step, one.current) == (101, 100)


def test_no_step_is_taken_twice():
    """Concurrent calls on several threads each take a step of their own."""
    one, gate = channel(), threading.Barrier(4)

    def take():
        gate.wait(DEADLINE)
        return [one.begin(advance=True) for _ in range(5000)]

    taken: list = [thread.join() for thread in [Started(take) for _ in range(4)]]
    assert sorted(itertools.chain(*taken)) == list(range(20_000))
    assert one.step == 20_000


def test_put_appends_to_the_buffer():
    """put() appends to the buffer of the run."""
    buffer = Buffer(100, 2**30)
    item = record()
    Channel(buffer).put(item)
    assert buffer.take_ready() == [item]


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_runs_close_in_any_order(order):
    """The active channel is the innermost one that is still open."""
    channels = [channel() for _ in range(3)]
    for one in channels:
        activate(one)
    left = list(channels)
    for index in order:
        assert active() is left[-1]
        deactivate(channels[index])
        left.remove(channels[index])
    assert active() is None


def test_activating_again_moves_to_the_top():
    """A channel is in the stack once, at the place of its last activation."""
    one, other = channel(), channel()
    activate(one)
    activate(other)
    activate(one)
    assert active() is one
    deactivate(one)
    assert active() is other
    deactivate(other)
    deactivate(other)
    assert active() is None


def test_every_thread_sees_the_active_channel():
    """Host callbacks run on threads that inherit no context, and find the active channel."""
    one = channel()
    activate(one)
    assert Started(active).join() is one
    deactivate(one)

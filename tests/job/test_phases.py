"""The phase of a thread, from its stack."""

import threading
import time

import jax
import pytest
from by_hand import DEADLINE

from jaxboard._job.phases import phase_of

reached, release = threading.Event(), threading.Event()


def stop_here():
    reached.set()
    assert release.wait(DEADLINE)


def compile_step():
    def step(x):
        stop_here()
        return x + 1

    jax.jit(step).lower(1.0)


def load_batch():
    stop_here()


def save_checkpoint():
    stop_here()


lock = threading.Lock()


class Uncomputed:
    """A value that JAX waits for until the test releases a lock, as an array does without running Python."""

    block_until_ready = lock.acquire


def wait_for_device():
    lock.acquire()
    reached.set()
    jax.block_until_ready(Uncomputed())


@pytest.mark.parametrize(
    ("activity", "phase"),
    [
        (compile_step, "compile"),
        (load_batch, "data"),
        (save_checkpoint, "checkpoint"),
        (wait_for_device, "device"),
    ],
)
def test_phase(activity, phase):
    """The stack of a thread that traces, loads data, saves a checkpoint or waits for a device shows it."""
    reached.clear()
    release.clear()
    thread = threading.Thread(target=activity)
    thread.start()
    assert reached.wait(DEADLINE)
    ident = thread.ident
    assert ident is not None
    deadline = time.monotonic() + DEADLINE / 10
    # The event is set shortly before the thread waits for the device.
    while (found := phase_of(ident, is_behind=False)) != phase and time.monotonic() < deadline:
        thread.join(0.01)
    release.set()
    if lock.locked():
        lock.release()
    thread.join(DEADLINE)
    assert found == phase


def test_a_device_that_is_behind():
    """A thread in the loop of the program counts as waiting if its device has not finished."""
    here = threading.get_ident()
    assert phase_of(here, is_behind=True) == "device"

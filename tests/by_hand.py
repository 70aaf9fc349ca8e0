"""Records, frames and parts of the host side that tests build directly."""

import threading

import jax
import numpy as np

from jaxboard._frame import Entry, Frame, FrameBatch, Plan, ReportSpec, Slot
from jaxboard._host.complete_points import Assembled
from jaxboard._host.run_state import HostState
from jaxboard.records import Kind, Record

DEADLINE = 120.0
"""Seconds that a test waits before it fails."""


def record(step=0, tag="loss", value=None, wall_time=1000.0):
    value = np.float32(step) if value is None else value
    return Record(Kind.SCALAR, tag, step, wall_time, value)


def plan(*tags):
    leaf = jax.tree.structure(0)
    return Plan(
        tuple(
            Entry(ReportSpec(Kind.SCALAR, tag, "mean"), leaf, (Slot("float32", place, ()),), 1)
            for place, tag in enumerate(tags)
        )
    )


LOSS = plan("loss")


def frame(step=0, array=None, of=LOSS):
    array = np.full(len(of.entries), step, np.float32) if array is None else array
    return Frame(of, (array,), step, 1000.0)


class Pending:
    """An array that is not ready until ``done`` is set. ``asked`` is set when a thread waits for it."""

    nbytes = 4

    def __init__(self, value=0.0):
        self.done = threading.Event()
        self.asked = threading.Event()
        self.value = value

    def is_deleted(self):
        return False

    def is_ready(self):
        return self.done.is_set()

    def block_until_ready(self):
        self.asked.set()
        assert self.done.wait(DEADLINE)
        return self

    def __array__(self, dtype=None, copy=None):
        assert self.done.is_set(), "the flusher waited for a device"
        return np.array([self.value], np.float32)


class Plain:
    """An assembler that turns each value of a frame into a record immediately."""

    def assemble(self, items, now):
        batch = []
        for item in items:
            if isinstance(item, FrameBatch):
                batch += [
                    record(int(step), entry.spec.tag, row[entry.slots[0].offset])
                    for step, row in zip(item.steps, item.arrays["float32"], strict=True)
                    for entry in item.plan.entries
                ]
            else:
                batch.append(item)
        return Assembled(batch, [])

    def partial(self, unchanged_since):
        return Assembled([], [])

    def finish(self):
        return Assembled([], [])

    def save(self, step):
        return HostState()


class Started:
    """A call on a running thread; ``join`` returns its result or raises its exception."""

    def __init__(self, call, *args, **options):
        def body():
            try:
                self.result = call(*args, **options)
            except BaseException as error:
                self.error = error

        self.result = None
        self.error = None
        self.thread = threading.Thread(target=body, daemon=True)
        self.thread.start()

    def join(self):
        self.thread.join(DEADLINE)
        assert not self.thread.is_alive(), "the thread hangs"
        if self.error is not None:
            raise self.error
        return self.result

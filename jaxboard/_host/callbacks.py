"""The host callbacks of programs that run: whether some may be pending, and waiting for them.

A report that leaves a program by callback belongs to the step that is current when it arrives. Before a
run's step changes, the thread that changes it waits for the callbacks of the programs that it started. Nothing
waits unless JAX has lowered a program that delivers by callback.
"""

from __future__ import annotations

import jax

from jaxboard._log import describe, logger


class Callbacks:
    """The callbacks of this process.

    Attributes:
        expected: whether JAX has lowered a program that delivers by callback. JAX runs such a program without
            notice, so from then on callbacks may be pending at any time.
        count: how many frames without a step of their own have arrived.
        tag: a tag in the last of them.
    """

    __slots__ = ("count", "expected", "tag")

    def __init__(self) -> None:
        self.expected = False
        self.count = 0
        self.tag = ""

    def note_arrival(self, tag: str) -> None:
        """Note a frame without a step of its own, with a report of ``tag``. Called on XLA's threads."""
        self.tag = tag
        self.count += 1

    def wait(self) -> None:
        """Wait for the callbacks of the programs that this thread started, if there may be any.

        It must not be called in a callback.
        """
        if not self.expected:
            return
        try:
            jax.effects_barrier()
        except Exception as fault:
            # The user's program raises it where it reads a result.
            logger.debug("jaxboard: a program with callbacks failed: %s", describe(fault))


callbacks = Callbacks()

"""``with`` blocks that were entered and not left. One in the body of a generator does not hold for its caller.

Generators share context variables with their caller. A block that a generator's body entered therefore remembers the
frame of that body, and holds only while the frame runs.
"""

from __future__ import annotations

import contextlib
import inspect
import os
import sys
from types import FrameType

_GENERATOR = inspect.CO_GENERATOR | inspect.CO_ASYNC_GENERATOR
_PACKAGE = os.path.dirname(os.path.abspath(__file__)) + os.sep


class OpenBlock:
    """A block that was entered and not left.

    Args:
        generator: see below.

    Attributes:
        generator: the frame of the generator whose body entered the block, if a generator did.
        ended: whether the block was left in a context that does not know it.
    """

    __slots__ = ("ended", "generator")

    def __init__(self, generator: FrameType | None):
        self.generator = generator
        self.ended = False

    @property
    def applies(self) -> bool:
        """True unless the block has ended or its generator is suspended: a frame that runs has a caller."""
        generator = self.generator
        return not self.ended and (generator is None or generator.f_back is not None)

    def end(self, *, is_known: bool) -> None:
        """End the block, in a context that knows it or not.

        A task that was started in the block keeps it. Without a task, nothing may.
        """
        self.ended = self.generator is not None or not is_known
        self.generator = None


def current_generator() -> FrameType | None:
    """Return the frame of the generator whose body has the ``with`` statement; None if a function has it.

    The generator of a ``@contextlib.contextmanager`` stands for its caller: it is suspended during the block.
    """
    frame: FrameType | None = sys._getframe(1)  # noqa: SLF001 (the documented way)
    while frame is not None:
        if _is_machinery(frame):
            frame = frame.f_back
        elif not frame.f_code.co_flags & _GENERATOR:
            return None
        elif frame.f_back is not None and frame.f_back.f_code.co_filename == contextlib.__file__:
            frame = frame.f_back
        else:
            return frame
    return None


def _is_machinery(frame: FrameType) -> bool:
    file = frame.f_code.co_filename
    return file == contextlib.__file__ or file.startswith(_PACKAGE)
